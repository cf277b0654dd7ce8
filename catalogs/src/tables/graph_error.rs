//! Graphs that cannot be one of a model's neurons.

/// A reason why a graph is not one of a model's.
#[derive(Debug, thiserror::Error)]
pub enum InvalidGraph {
    /// An id that the model has no token for.
    #[error("it was made for another tokenizer: it has token {token}, but the model's tokens end at {}", .size - 1)]
    NoToken {
        /// The id.
        token: u32,
        /// Size of the vocabulary.
        size: usize,
    },
    /// An id that is another token of the model.
    #[error("it was made for another tokenizer: token {token} is {found:?} in it and {of_model:?} in the model")]
    OtherToken {
        /// The id.
        token: u32,
        /// Its text in the graph.
        found: String,
        /// Its text in the model.
        of_model: String,
    },
    /// Texts without ids, none of which is a token.
    #[error("it was made for another tokenizer: none of its tokens is one of the model's, {0:?} for instance")]
    NothingKnown(String),
    /// No graph at all.
    #[error(transparent)]
    Graph(#[from] neuroql_graph::Error),
}

impl InvalidGraph {
    /// SQLSTATE of this error.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::Graph(error) => error.sqlstate(),
            _ => "22000",
        }
    }
}
