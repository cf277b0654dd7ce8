//! Words of a text and others in their place, as Neuron2Graph's augmentation has it (paper §3.3).

use std::ops::Range;

use neuroql_model::{Model, Result};

/// A text as tokens and as characters.
pub(super) struct Text<'a> {
    tokens: &'a [u32],
    text: String,
    /// `[tokens + 1]`, in bytes.
    starts: Vec<usize>,
}

impl<'a> Text<'a> {
    /// Of the tokens whose texts are given by id.
    pub fn new(tokens: &'a [u32], texts: &[String]) -> Self {
        let mut text = String::new();
        let mut starts = vec![0];
        for token in tokens {
            text.push_str(texts.get(*token as usize).map_or("", String::as_str));
            starts.push(text.len());
        }
        Self { tokens, text, starts }
    }

    /// Its words: runs of letters and apostrophes, with at least one letter.
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

    /// Where the text of a token ends, in bytes.
    pub fn end_of(&self, token: usize) -> usize {
        self.starts[token + 1]
    }

    /// The text of some of its bytes.
    pub fn get(&self, range: Range<usize>) -> &str {
        &self.text[range]
    }

    /// Its bytes before and after a word.
    pub fn around(&self, word: &Range<usize>) -> (&str, &str) {
        (&self.text[..word.start], &self.text[word.end..])
    }

    /// The tokens that a word has a part in.
    pub fn tokens_of(&self, word: &Range<usize>) -> Range<usize> {
        let first = self.starts.partition_point(|start| *start <= word.start) - 1;
        let last = self.starts.partition_point(|start| *start < word.end);
        first..last
    }

    /// The tokens with another word in the place of one; those that the word has no part in stay as they are.
    ///
    /// A filler that begins with `##` continues the word before.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`](neuroql_model::Tokenizer::encode).
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

    /// Tokens of a piece of text in the way in which the piece that it replaces becomes its own tokens again: tokenizers
    /// that put a space before every text are given none.
    fn spelled(&self, new: &str, tokens: &Range<usize>, piece: Range<usize>, model: &Model) -> Result<Vec<u32>> {
        let (old, own) = (&self.text[piece], &self.tokens[tokens.clone()]);
        let encode = |text: &str| model.tokenizer().encode(text);
        if encode(old)? != own && encode(old.trim_start())? == own {
            return encode(new.trim_start());
        }
        encode(new)
    }
}

/// A filler with the case of the word that it replaces.
pub(super) fn cased(filler: &str, word: &str) -> String {
    if is_title(word) { title(filler) } else { filler.to_owned() }
}

/// Python's `str.istitle`: capitals begin runs of letters and are nowhere else.
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

/// Python's `str.title`.
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

    /// Tokens are indices of these texts.
    fn texts(texts: &[&str]) -> (Vec<u32>, Vec<String>) {
        ((0..texts.len() as u32).collect(), texts.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn words_are_runs_of_letters_and_apostrophes() {
        let (tokens, texts) = texts(&["The", " do", "g's", " 3 ", "'", "Über", "\u{fffd}", "-ca", "fé"]);
        let text = Text::new(&tokens, &texts);
        let words = text.words();
        let found: Vec<&str> = words.iter().map(|word| text.get(word.clone())).collect();
        assert_eq!(found, ["The", "dog's", "'Über", "café"]);
        let of: Vec<Range<usize>> = words.iter().map(|word| text.tokens_of(word)).collect();
        assert_eq!(of, [0..1, 1..3, 4..6, 7..9]);
        assert_eq!(text.around(&words[1]), ("The ", " 3 'Über\u{fffd}-café"));
        assert_eq!(text.end_of(2), "The dog's".len());
        assert!(Text::new(&[], &texts).words().is_empty());
    }

    #[test]
    fn case_is_pythons() {
        // As CPython 3.11 answers.
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
