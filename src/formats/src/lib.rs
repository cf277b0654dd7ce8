//! Data about neurons that others have published, read from their own files.
//!
//! | module | reads |
//! |---|---|
//! | [`deepdecipher`] | DeepDecipher's SQLite database `data.db` |
//! | [`openai`] | OpenAI's neuron records, explanations with scores, related tokens and neurons |
//! | [`n2g`] | folders of Neuron2Graph's results |
//! | [`neuroscope`] | pages of Neuroscope |
//! | [`graphs`] | single graphs, in the formats of other programs |
//!
//! Each is a [`Source`] of [`Row`]s. A row that cannot be read is passed on as a [`Reject`]; a location that is not in
//! the format is refused when it is opened. Files are only read: nothing in them runs.

pub mod deepdecipher;
mod error;
mod files;
pub mod graphs;
mod json;
pub mod n2g;
pub mod neuroscope;
pub mod openai;
mod rows;
mod sample;
mod source;
mod web;

pub use error::{Error, Result};
pub use rows::{
    Description, Example, Explanation, Extremes, Item, Neuron, NeuronGraph, Place, Reject, RelatedNeuron, RelatedToken,
    Row, Scores, Similar, Table,
};
pub use sample::Sample;
pub use source::{LayerSelection, MOST_LAYERS, MOST_NEURONS, Request, Sink, Source, Version};
pub use web::WebFolder;
