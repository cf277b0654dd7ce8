//! What a neuron graph is: a trie of token patterns, read right to left from the token on which the neuron fires.
//!
//! Neuron2Graph (Foote et al., arXiv 2305.19911) learns such a trie from the texts that activate a neuron most. This
//! room knows no model and no SQL: a [`Graph`] is nodes, and everything here is about nodes and token ids.

pub mod draw;
mod error;
mod graph;
mod simplify;

pub use error::{Error, Result};
pub use graph::{Graph, Kind, Node, Symbol, Token};
pub use simplify::{Display, DisplayKind, DisplayNode, DisplayToken, Skip, Weight, simplify};
