//! Graphs of neurons: built from text, judged by it, and indexed.
//!
//! [`Build`] builds graphs and [`Evaluation`] judges them, both from the [text of a layer](Corpora): the windows of an
//! analysis that is still current, or the first documents of a dataset. A graph's [`Provenance`] says which text it was
//! made of. [`GraphIndex`] is what searches and comparisons read.

mod build;
mod corpora;
mod corpus;
mod evaluate;
mod graph_index;
mod preferred;
mod provenance;
mod windows;

pub use build::{Build, LayerGraphs};
pub use corpora::Corpora;
pub use corpus::{Corpus, GATHERED_BYTES, NeuronExamples, NeuronReader, RANDOM_TOKENS};
pub use evaluate::{EvaluatedGraph, Evaluation, GraphScores};
pub use graph_index::{GraphIndex, GraphIndexes, INDEX_BYTES};
pub use preferred::{preferred_rows, preferred_rows_of};
pub use provenance::{MOST_EXAMPLES, MOST_TOKENS, Provenance, SearchScope};
