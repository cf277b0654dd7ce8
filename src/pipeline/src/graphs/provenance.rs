//! The text that a graph was made of: kept with the graph, so that the text it has not seen is known.

use neuroql_n2g::Options;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Greatest number of examples that a graph is made of; more would hold too much text at once.
pub const MOST_EXAMPLES: i64 = 1000;

/// Greatest number of tokens that are searched for examples.
pub const MOST_TOKENS: i64 = u32::MAX as i64;

/// Number of digits of a dataset's hash that are kept.
const HASH_DIGITS: usize = 16;

/// The text that was searched for a neuron's examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchScope {
    /// All text that an analysis of the dataset has seen.
    Analysis,
    /// The first documents, up to this number of tokens.
    Tokens(usize),
}

/// The text of a dataset that decides which examples a graph is made of and which judge it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Provenance {
    /// Number of examples of each neuron.
    pub examples: usize,
    /// The text that they come from.
    pub searched: SearchScope,
    /// The first digits of the SHA-256 of the dataset's documents.
    dataset_sha256: String,
}

impl Provenance {
    /// Returns the provenance of examples of a dataset with this hash.
    pub fn new(examples: usize, searched: SearchScope, dataset_sha256: &str) -> Self {
        let dataset_sha256 = dataset_sha256.chars().take(HASH_DIGITS).collect();
        Self { examples, searched, dataset_sha256 }
    }

    /// Reads it from a graph's options; `None` if they lack it, or name numbers that no graph can be made of.
    pub fn of_options(options: &str) -> Option<Self> {
        let text: Self = serde_json::from_str(options).ok()?;
        let possible = match text.searched {
            SearchScope::Analysis => true,
            SearchScope::Tokens(tokens) => (2..=MOST_TOKENS).contains(&(tokens as i64)),
        };
        ((2..=MOST_EXAMPLES as usize).contains(&text.examples) && possible).then_some(text)
    }

    /// Returns true if it is text of the dataset whose documents have this SHA-256.
    pub fn is_of(&self, dataset_sha256: &str) -> bool {
        !self.dataset_sha256.is_empty() && dataset_sha256.starts_with(&self.dataset_sha256)
    }

    /// Returns all inputs of a graph as JSON: this text, the options of a method, which are a JSON object, and the
    /// method's version.
    ///
    /// # Errors
    /// [`Error::Internal`] if they have no JSON form: graphs made of different text must not look alike.
    pub fn with_options(&self, options: &Options, version: u32) -> Result<String, Error> {
        #[derive(Serialize)]
        struct BuildRecord<'a> {
            #[serde(flatten)]
            options: &'a Options,
            #[serde(flatten)]
            text: &'a Provenance,
            version: u32,
        }
        serde_json::to_string(&BuildRecord { options, text: self, version })
            .map_err(|error| Error::Internal(format!("the options of a graph have no JSON form: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use neuroql_n2g::{Method, Options};

    use super::*;

    #[test]
    fn options_say_which_text() {
        for searched in [SearchScope::Analysis, SearchScope::Tokens(900_000)] {
            let text = Provenance::new(40, searched, "0123456789abcdefedcba9876543210");
            let options = text.with_options(&Options::of(Method::N2g), 1).unwrap();
            assert_eq!(Provenance::of_options(&options), Some(text));
            let value: serde_json::Value = serde_json::from_str(&options).unwrap();
            assert_eq!(value["dataset_sha256"], "0123456789abcdef");
            assert_eq!(value["version"], 1);
            assert!(value["keep"].is_number());
        }
        let text = |examples, tokens| {
            let options =
                Provenance::new(examples, SearchScope::Tokens(tokens), "0123").with_options(&Options::default(), 1);
            Provenance::of_options(&options.unwrap())
        };
        assert!(text(40, 1000).is_some_and(|text| text.is_of("0123456789") && !text.is_of("0124") && !text.is_of("")));
        // Versions before this one kept this for a dataset without a hash.
        assert!(!Provenance::new(40, SearchScope::Analysis, "").is_of("0123"));
        assert_eq!(
            [text(usize::MAX, 1000), text(40, usize::MAX), text(1, 1000), text(40, 0)],
            [None, None, None, None]
        );
        assert_eq!(Provenance::of_options(""), None);
        assert_eq!(Provenance::of_options(r#"{"examples": 40, "tokens": 100000}"#), None);
    }
}
