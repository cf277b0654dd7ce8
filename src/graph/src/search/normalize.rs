//! Normalisation of the texts of tokens for search.

use unicase::UniCase;
use unicode_normalization::UnicodeNormalization;

/// Normalises the text of a token to its key: without upper case and without the spaces at its ends.
///
/// Neuron2Graph's normalisation (lower case for titles, spaces stripped off words; `normalise` of its first version)
/// taken further, so that `Import`, ` import` and `IMPORT` have one key. Case is folded by Unicode's full default case
/// folding, the same in all languages: `ß` is `ss`, all three sigmas are `σ`, and Turkish `İ` is `i` with a dot above,
/// which `i` is not. Characters are in canonical decomposition (NFD), so that an accent is the same however it is
/// written, and a piece of a key is the key of a piece. Tokens of white space only keep it: a line break is `\n`.
///
/// Every text has a key, and the key of a key is itself.
///
/// ```
/// use neuroql_graph::search::normalize;
///
/// assert_eq!(normalize(" Import"), "import");
/// assert_eq!(normalize("STRASSE"), normalize("straße"));
/// assert_eq!(normalize("\n\n"), "\n\n");
/// ```
pub fn normalize(text: &str) -> String {
    trimmed(&fold(text)).to_owned()
}

/// Folds a text: without upper case, in canonical decomposition (D145 of the Unicode Standard); spaces stay.
pub(super) fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let decomposed: String = text.nfd().collect();
    UniCase::unicode(decomposed).to_folded_case().nfd().collect()
}

/// Trims white space at the ends of a text, unless it has nothing else.
pub(super) fn trimmed(text: &str) -> &str {
    match text.trim() {
        "" => text,
        trimmed => trimmed,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_and_spaces_do_not_count() {
        for (text, key) in [
            (" The", "the"),
            ("THE", "the"),
            ("I", "i"),
            (" 1", "1"),
            ("\u{a0}été\t", "e\u{301}te\u{301}"),
            ("E\u{301}", "e\u{301}"),
            ("İ", "i\u{307}"),
            ("ı", "ı"),
            ("ΟΔΟΣ", "οδοσ"),
            ("οδος", "οδοσ"),
            ("Straße", "strasse"),
            ("ﬁn", "fin"),
            (" 日本", "日本"),
            ("👩\u{200d}🔬", "👩\u{200d}🔬"),
            ("\u{fffd}", "\u{fffd}"),
            ("", ""),
        ] {
            assert_eq!(normalize(text), key, "{text:?}");
        }
    }

    #[test]
    fn white_space_alone_stays() {
        for text in [" ", "   ", "\n", "\r\n\t", "\u{3000}"] {
            assert_eq!(normalize(text), text);
        }
    }

    proptest! {
        #[test]
        fn keys_are_their_own(text in any::<String>()) {
            let key = normalize(&text);
            prop_assert_eq!(normalize(&key), key);
        }

        #[test]
        fn ascii_is_no_exception(text in "[ -~\n]{0,12}") {
            let folded: String = UniCase::unicode(text.nfd().collect::<String>()).to_folded_case().nfd().collect();
            prop_assert_eq!(fold(&text), folded);
        }
    }
}
