//! File formats of graphs.
//!
//! | module | contents | tokens | read | written |
//! |---|---|---|---|---|
//! | [`json`] | all of a graph | ids and texts | yes | yes |
//! | [`paths`] | patterns of Neuron2Graph, as its own trie lists them; trajectories | texts | yes | paths |
//! | [`store`] | Neuron2Graph's neuron store: which tokens matter for which neurons | texts | as a list | yes |
//!
//! Tokens without an id match nothing until [`Graph::bind`](crate::Graph::bind) gives them one. Formats of other
//! programs are in `neuroql-formats`.

pub mod json;
pub mod paths;
pub mod store;

use crate::{Error, Symbol, Token};

/// The symbol of a token without an id.
fn unbound(text: &str) -> Symbol {
    Symbol::Token(Token { id: None, text: text.into() })
}

fn malformed(format: &'static str, reason: impl ToString) -> Error {
    Error::Malformed { format, reason: reason.to_string() }
}
