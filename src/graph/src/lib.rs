//! What a neuron graph is: a trie of token patterns, read right to left from the token on which the neuron fires.
//!
//! Neuron2Graph (Foote et al., arXiv 2305.19911) learns such a trie from the texts that activate a neuron most. This
//! room knows no model and no SQL: a [`Graph`] is nodes, and everything here is about nodes and token ids.

mod automaton;
mod builder;
pub mod draw;
mod error;
mod graph;
mod lines;
mod matcher;
mod pattern;
mod semantics;
mod simplify;
mod trie;
mod view;
mod walk;

pub use automaton::{Automaton, Predictions};
pub use builder::{Builder, Policy};
pub use error::{Error, Result};
pub use graph::{Graph, Kind, Node, Symbol, Token};
pub use lines::{Inherited, Lines, Prompt};
pub use matcher::Matcher;
pub use pattern::{Element, Pattern};
pub use semantics::Semantics;
pub use simplify::{Display, DisplayKind, DisplayNode, DisplayToken, Skip, Weight, simplify};
pub use view::{Validity, View, decode, encode};
