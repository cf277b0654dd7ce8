//! Methods of building graphs.

use std::fmt;
use std::str::FromStr;

use neuroql_graph::Semantics;

use crate::Error;

/// Method of building graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Method {
    /// Method of this project, see [`crate::fit::neuroql`].
    #[default]
    Neuroql,
    /// Neuron2Graph as published (arXiv 2305.19911) and as its maintained code does it.
    N2g,
    /// The variant of OpenAI's sparse autoencoder code (arXiv 2406.04093).
    Openai,
    /// Baseline: each token predicts the greatest activation seen on it.
    Token,
    /// Baseline: each token with the tokens before it predicts the greatest activation seen there.
    Ngram,
}

impl Method {
    /// All methods.
    pub const ALL: [Self; 5] = [Self::Neuroql, Self::N2g, Self::Openai, Self::Token, Self::Ngram];

    /// Name of the method in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Neuroql => "neuroql",
            Self::N2g => "n2g",
            Self::Openai => "openai",
            Self::Token => "token",
            Self::Ngram => "ngram",
        }
    }

    /// Names of the options that it reads.
    pub(crate) fn reads(self) -> &'static [&'static str] {
        match self {
            Self::Token => &["fire_threshold"],
            Self::Ngram => &["fire_threshold", "activation_threshold", "ngram"],
            Self::Openai => &["fire_threshold", "importance_threshold", "keep", "cutoff", "masking_token"],
            Self::N2g => &[
                "fire_threshold",
                "activation_threshold",
                "importance_threshold",
                "token_activation_threshold",
                "keep",
                "cutoff",
                "skip_interval",
                "post_context",
                "masking_token",
                "substitutes",
                "masked_lm",
                "max_augmentations",
            ],
            Self::Neuroql => &[
                "fire_threshold",
                "activation_threshold",
                "keep",
                "cutoff",
                "substitutes",
                "masked_lm",
                "max_augmentations",
                "most_firings",
                "draws",
                "max_nodes",
            ],
        }
    }

    /// Version of the method, increased whenever it learns other graphs from the same examples with the same options,
    /// so that graphs of earlier versions are not reused.
    pub fn version(self) -> u32 {
        match self {
            Self::Neuroql => 6,
            Self::N2g | Self::Openai | Self::Token | Self::Ngram => 1,
        }
    }

    /// Semantics with which its graphs predict.
    pub fn semantics(self) -> Semantics {
        match self {
            Self::N2g => Semantics::Greedy,
            Self::Openai => Semantics::Shortest,
            Self::Neuroql | Self::Token | Self::Ngram => Semantics::Longest,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|method| method.name() == name).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|method| method.name()).collect();
            Error::Option {
                option: "method".into(),
                reason: format!("is \"{name}\", expected one of {}", known.join(", ")),
            }
        })
    }
}
