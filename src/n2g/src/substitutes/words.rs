//! Words of a text and their substitution, as in Neuron2Graph's augmentation (paper §3.3).

use std::ops::Range;

use neuroql_model::{Model, Result};

/// A text as tokens and as characters.
pub(super) struct DecodedText<'a> {
    tokens: &'a [u32],
    text: String,
    /// Offsets of the tokens in bytes, `[tokens + 1]`.
    starts: Vec<usize>,
}

impl<'a> DecodedText<'a> {
    /// Makes the text of tokens, given the texts of tokens by id.
    pub fn new(tokens: &'a [u32], texts: &[String]) -> Self {
        let mut text = String::new();
        let mut starts = vec![0];
        for token in tokens {
            text.push_str(texts.get(*token as usize).map_or("", String::as_str));
            starts.push(text.len());
        }
        Self { tokens, text, starts }
    }

    /// Ranges of the words: runs of letters and apostrophes, with at least one letter.
    pub fn words(&self) -> Vec<Range<usize>> {
        let mut words = Vec::new();
        let mut start = None;
        for (at, c) in self.text.char_indices().chain([(self.text.len(), ' ')]) {
            match (c.is_alphabetic() || c == '\'', start) {
                (true, None) => start = Some(at),
                (false, Some(first)) => {
                    if self.text[first..at].contains(char::is_alphabetic) {
                        words.push(first..at);
                    }
                    start = None;
                }
                _ => {}
            }
        }
        words
    }

    /// End of the text of a token, in bytes.
    pub fn end_of(&self, token: usize) -> usize {
        self.starts[token + 1]
    }

    /// Text of a range of bytes.
    pub fn get(&self, range: Range<usize>) -> &str {
        &self.text[range]
    }

    /// Text before and after a word.
    pub fn around(&self, word: &Range<usize>) -> (&str, &str) {
        (&self.text[..word.start], &self.text[word.end..])
    }

    /// Range of the tokens that overlap with a word.
    pub fn tokens_of(&self, word: &Range<usize>) -> Range<usize> {
        let first = self.starts.partition_point(|start| *start <= word.start) - 1;
        let last = self.starts.partition_point(|start| *start < word.end);
        first..last
    }

    /// Replaces a word, and returns the tokens; those that do not overlap with the word stay as they are.
    ///
    /// A filler that begins with `##` continues the word before.
    ///
    /// # Errors
    /// Errors of [`Tokenizer::encode`](neuroql_model::Tokenizer::encode).
    pub fn replaced(&self, word: &Range<usize>, filler: &str, model: &Model) -> Result<Vec<u32>> {
        let (filler, continues) = filler.strip_prefix("##").map_or((filler, false), |rest| (rest, true));
        let mut word = word.clone();
        if continues && self.text[..word.start].ends_with(' ') {
            word.start -= 1;
        }
        let tokens = self.tokens_of(&word);
        let piece = self.starts[tokens.start]..self.starts[tokens.end];
        let new = [&self.text[piece.start..word.start], filler, &self.text[word.end..piece.end]].concat();
        let spelled = self.spelled(&new, &tokens, piece, model)?;
        Ok([&self.tokens[..tokens.start], &spelled, &self.tokens[tokens.end..]].concat())
    }

    /// Encodes a piece of text as the replaced piece was encoded: for tokenizers that put a space before every text,
    /// leading spaces are trimmed.
    fn spelled(&self, new: &str, tokens: &Range<usize>, piece: Range<usize>, model: &Model) -> Result<Vec<u32>> {
        let (old, own) = (&self.text[piece], &self.tokens[tokens.clone()]);
        let encode = |text: &str| model.tokenizer().encode(text);
        if encode(old)? != own && encode(old.trim_start())? == own {
            return encode(new.trim_start());
        }
        encode(new)
    }
}

/// Gives a filler the case of the word that it replaces.
pub(super) fn cased(filler: &str, word: &str) -> String {
    if is_title(word) { title(filler) } else { filler.to_owned() }
}

/// Returns true as Python's `str.istitle`: capitals begin runs of letters and are nowhere else.
fn is_title(word: &str) -> bool {
    let (mut inside, mut any) = (false, false);
    for c in word.chars() {
        let cased = c.is_uppercase() || c.is_lowercase();
        if cased && c.is_uppercase() == inside {
            return false;
        }
        (inside, any) = (cased, any || cased);
    }
    any
}

/// Title case of a word, as Python's `str.title`.
fn title(word: &str) -> String {
    let mut inside = false;
    let mut out = String::new();
    for c in word.chars() {
        if inside {
            out.extend(c.to_lowercase())
        } else {
            out.extend(c.to_uppercase())
        }
        inside = c.is_uppercase() || c.is_lowercase();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes tokens of texts: their indices.
    fn texts(texts: &[&str]) -> (Vec<u32>, Vec<String>) {
        ((0..texts.len() as u32).collect(), texts.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn words_are_runs_of_letters_and_apostrophes() {
        let (tokens, texts) = texts(&["The", " do", "g's", " 3 ", "'", "Über", "\u{fffd}", "-ca", "fé"]);
        let text = DecodedText::new(&tokens, &texts);
        let words = text.words();
        let found: Vec<&str> = words.iter().map(|word| text.get(word.clone())).collect();
        assert_eq!(found, ["The", "dog's", "'Über", "café"]);
        let of: Vec<Range<usize>> = words.iter().map(|word| text.tokens_of(word)).collect();
        assert_eq!(of, [0..1, 1..3, 4..6, 7..9]);
        assert_eq!(text.around(&words[1]), ("The ", " 3 'Über\u{fffd}-café"));
        assert_eq!(text.end_of(2), "The dog's".len());
        assert!(DecodedText::new(&[], &texts).words().is_empty());
    }

    #[test]
    fn case_is_pythons() {
        // Results of CPython 3.11.
        for (word, expected) in [
            ("The", true),
            ("I", true),
            ("the", false),
            ("THE", false),
            ("Don't", false),
            ("Don'T", true),
            ("'Tis", true),
            ("Über", true),
            ("'", false),
            ("", false),
        ] {
            assert_eq!(is_title(word), expected, "{word}");
        }
        assert_eq!((title("don't"), title("##ing"), title("ÜBER")), ("Don'T".into(), "##Ing".into(), "Über".into()));
        assert_eq!(
            (cased("cat", "Dog"), cased("cat", "DOG"), cased("cat", "dog")),
            ("Cat".into(), "cat".into(), "cat".into())
        );
    }
}
