//! Neuron graphs: tries of token patterns, read right to left from the token on which the neuron fires.
//!
//! Neuron2Graph (Foote et al., arXiv 2305.19911) learns such a trie from the texts that activate a neuron most. This
//! room knows no model and no SQL: a [`Graph`] is nodes, and everything here is about nodes and token ids.
//!
//! ```
//! use neuroql_graph::{Builder, Element, Matcher, Pattern, Policy, Semantics, Symbol};
//!
//! // " dog" after " hot", and after anything after " the".
//! let element = |symbol| Element { symbol, importance: 1.0, activation: 1.0 };
//! let [dog, hot, the] = [(1, " dog"), (2, " hot"), (3, " the")].map(|(id, text)| element(Symbol::token(id, text)));
//! let mut builder = Builder::new(Policy::FirstWins);
//! builder.insert(&Pattern { elements: vec![dog.clone(), hot], ends: 0.5 })?;
//! builder.insert(&Pattern { elements: vec![dog, element(Symbol::Any), the], ends: 0.75 })?;
//! let graph = builder.build()?;
//!
//! // " the hot dog": the longer pattern counts, or the one on the path of the more exact tokens.
//! let mut predicted = Vec::new();
//! Matcher::of(&graph, Semantics::Longest)?.simulate(&[3, 2, 1], &mut predicted);
//! Matcher::of(&graph, Semantics::Greedy)?.simulate(&[3, 2, 1], &mut predicted);
//! assert_eq!(predicted, [0.0, 0.0, 0.75, 0.0, 0.0, 0.5]);
//! # Ok::<(), neuroql_graph::Error>(())
//! ```
//!
//! A [`Builder`] makes graphs of patterns, which [`PatternExtractor`] reads off samples. A [`Matcher`] predicts with
//! one graph, an [`Automaton`] with all graphs of a layer; both also take the columns of a table, as a [`View`].
//! [`prune`] makes graphs small enough to be read.
//! [`search`] finds the graphs that have given tokens.
//!
//! [`similarity`] compares two graphs, a [`PatternIndex`] finds similar pairs of many, which make a [`Network`].

mod algebra;
mod automaton;
mod builder;
mod columns;
mod components;
mod description;
pub mod draw;
mod embedding;
mod error;
mod extract;
pub mod formats;
mod graph;
mod join;
mod matcher;
mod merge;
mod network;
mod pattern;
pub mod prune;
pub mod search;
mod semantics;
mod signature;
mod similarity;
mod simplify;
#[cfg(feature = "synthetic")]
pub mod synthetic;
mod token_key;
mod trie;
mod walk;

pub use automaton::{Automaton, Predictions};
pub use builder::{Builder, Policy};
pub use columns::{Validity, View, decode, encode};
pub use components::{component_count, components};
pub use embedding::{DIMENSIONS, MOST_DIMENSIONS, embedding};
pub use error::{Error, Result};
pub use extract::{Inherited, PatternExtractor, Prompt};
pub use graph::{Alternative, DEEPEST, Graph, Kind, MOST_EXPANDED, MOST_NODES, Node, Symbol, Token};
pub use join::{Pair, PatternIndex, PatternIndexBuilder};
pub use matcher::Matcher;
pub use network::{Degree, Network};
pub use pattern::{Element, Pattern};
pub use semantics::Semantics;
pub use signature::Signature;
pub use similarity::{Similarity, behaviour, behaviour_while, similarity, similarity_while};
pub use simplify::{Display, DisplayKind, DisplayNode, DisplayToken, Skip, Weight, simplify};
