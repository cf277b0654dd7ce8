//! Escapes and normal forms of Unicode.

use unicode_normalization::{UnicodeNormalization, is_nfc, is_nfd, is_nfkc, is_nfkd};

use super::formats::Wrong;

fn invalid() -> Wrong {
    ("42601", "invalid Unicode escape".into())
}

fn no_pair() -> Wrong {
    ("42601", "invalid Unicode surrogate pair".into())
}

/// Reads `\XXXX`, `\+XXXXXX`, `\uXXXX`, `\UXXXXXXXX` and `\\` in a text.
///
/// # Errors
/// 42601 if an escape is wrong, 22023 if there is no such letter.
pub(super) fn unescaped(text: &str) -> Result<String, Wrong> {
    let mut found = String::with_capacity(text.len());
    // The first half of a letter.
    let mut first: Option<u32> = None;
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        if letter != '\\' || rest[1..].starts_with('\\') {
            if first.is_some() {
                return Err(no_pair());
            }
            found.push(letter);
            rest = &rest[letter.len_utf8() + usize::from(letter == '\\')..];
            continue;
        }
        let (digits, count) = match rest[1..].chars().next() {
            Some('u') => (&rest[2..], 4),
            Some('U') => (&rest[2..], 8),
            Some('+') => (&rest[2..], 6),
            _ => (&rest[1..], 4),
        };
        let number = digits.get(..count).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let number = number.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or_else(invalid)?;
        rest = &digits[count..];
        let is_first = (0xd800..0xdc00).contains(&number);
        let is_second = (0xdc00..0xe000).contains(&number);
        if number == 0 || number > 0x10ffff {
            let message = format!("invalid Unicode code point: {number:04X}");
            return Err(("22023", message));
        }
        match first.take() {
            Some(high) if is_second => {
                let pair = 0x10000 + ((high & 0x3ff) << 10) + (number & 0x3ff);
                found.push(char::from_u32(pair).ok_or_else(no_pair)?);
            }
            Some(_) => return Err(no_pair()),
            None if is_first => first = Some(number),
            None => found.push(char::from_u32(number).ok_or_else(no_pair)?),
        }
    }
    if first.is_some() { Err(no_pair()) } else { Ok(found) }
}

/// A normal form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
}

impl Form {
    /// Returns a form by its name.
    ///
    /// # Errors
    /// 22023 if there is none of this name.
    pub(super) fn named(name: &str) -> Result<Self, Wrong> {
        match name.to_ascii_uppercase().as_str() {
            "NFC" => Ok(Self::Nfc),
            "NFD" => Ok(Self::Nfd),
            "NFKC" => Ok(Self::Nfkc),
            "NFKD" => Ok(Self::Nfkd),
            _ => Err(("22023", format!("invalid normalization form: {name}"))),
        }
    }

    /// Returns a text in this form.
    pub(super) fn of(self, text: &str) -> String {
        match self {
            Self::Nfc => text.nfc().collect(),
            Self::Nfd => text.nfd().collect(),
            Self::Nfkc => text.nfkc().collect(),
            Self::Nfkd => text.nfkd().collect(),
        }
    }

    /// Returns true if a text is in this form.
    pub(super) fn is_of(self, text: &str) -> bool {
        match self {
            Self::Nfc => is_nfc(text),
            Self::Nfd => is_nfd(text),
            Self::Nfkc => is_nfkc(text),
            Self::Nfkd => is_nfkd(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn escapes_are_read() {
        let of = |text: &str| unescaped(text).map_err(|(code, _)| code);
        assert_eq!(of("d\\0061t\\+000061").as_deref(), Ok("data"));
        assert_eq!(of("\\D83D\\DE00").as_deref(), Ok("😀"));
        assert_eq!(of("a\\\\b\\u00e9\\U0001F600é").as_deref(), Ok("a\\bé😀é"));
        for text in ["\\xyz", "\\D83D", "\\D83Dx", "\\DE00", "\\12", "abc\\", "\\+00é", "\\D83D\\0061"] {
            assert_eq!(of(text), Err("42601"), "{text}");
        }
        assert_eq!(of("\\0000"), Err("22023"));
        assert_eq!(of("\\+110000"), Err("22023"));
    }

    #[test]
    fn forms_are_normal() {
        let of = |name: &str, text: &str| Form::named(name).unwrap().of(text);
        assert_eq!(of("nfkc", "ﬁ"), "fi");
        assert_eq!(of("NFC", "e\u{301}"), "é");
        assert_eq!(of("NFD", "é"), "e\u{301}");
        assert_eq!(of("NFKD", "ﬁé"), "fie\u{301}");
        assert!(Form::Nfc.is_of("é") && !Form::Nfd.is_of("é") && !Form::Nfkc.is_of("ﬁ") && Form::Nfkd.is_of("fi"));
        assert!(Form::named("foo").is_err());
    }
}
