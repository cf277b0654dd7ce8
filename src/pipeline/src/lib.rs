//! Runs of models over documents, from their texts to activations to results, without SQL.
//!
//! A run takes documents from a [`source`], hashes them if it must know whether a stored analysis [still
//! holds](freshness), packs their examples into [batches](batcher), and runs these through a model as one ordered,
//! bounded, cancellable [stream of passes](passes). A question about the size of activations leaves out examples by
//! their [bounds]. On top of these stand [`analyze`], [`pairs`] and [`graphs`].

pub mod analyze;
pub mod batcher;
pub mod bounds;
mod consumer;
pub mod documents;
mod error;
pub mod fingerprint;
pub mod freshness;
pub mod graphs;
pub mod pairs;
pub mod passes;
mod resources;
pub mod source;
#[cfg(test)]
mod testing;

pub use analyze::Analysis;
pub use batcher::{BatchExample, Batcher, ExampleBatch, Examples};
pub use bounds::Selection;
pub use consumer::Consumer;
pub use documents::{Document, Documents};
pub use error::Error;
pub use fingerprint::{Fingerprint, Fingerprints};
pub use freshness::Freshness;
pub use passes::Passes;
pub use resources::Resources;
pub use source::{Contents, DocumentSource, Identity, Origin, RowFilter, Shard};
