//! Semantics of matching.

use std::str::FromStr;

use crate::{Error, Result};

/// Semantics of a trie: its prediction where several of its patterns match. Where none does, all predict 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Semantics {
    /// The end of the longest pattern, counted in nodes. Of equally long ones the more exact: where they part, a token
    /// comes before the start of the text, that before any token, that before a gap; then the lesser token id and the
    /// shorter gap.
    #[default]
    Longest,
    /// The greatest end of all patterns that match.
    Max,
    /// One path through the trie, as Neuron2Graph simulates: a token is preferred to the start of the text, that to any
    /// token and that to a gap; of the patterns on the path the longest. Patterns off the path are missed. A gap takes
    /// the fewest tokens after which a token or the start below it matches, or none if there are none.
    Greedy,
    /// The same path, but its first pattern, as in the OpenAI variant.
    Shortest,
}

impl Semantics {
    /// All semantics.
    pub const ALL: [Self; 4] = [Self::Longest, Self::Max, Self::Greedy, Self::Shortest];

    /// Name of the semantics in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Longest => "longest",
            Self::Max => "max",
            Self::Greedy => "greedy",
            Self::Shortest => "shortest",
        }
    }
}

impl FromStr for Semantics {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|semantics| semantics.name() == name).ok_or_else(|| Error::Unknown {
            what: "semantics of matching",
            name: name.to_owned(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}
