//! From documents to activations to results, without SQL.
//!
//! A run takes documents from a [`source`], hashes them if it must know whether a stored analysis
//! [still holds](freshness), packs their examples into [batches](batcher), and runs these through a model as one ordered,
//! bounded, cancellable [stream of passes](passes).

pub mod batcher;
pub mod documents;
mod error;
pub mod fingerprint;
pub mod freshness;
pub mod passes;
mod resources;
pub mod source;

pub use batcher::{BatchExample, Batcher, ExampleBatch, Examples};
pub use documents::{Document, Documents};
pub use error::Error;
pub use fingerprint::{Fingerprint, Fingerprints};
pub use freshness::Freshness;
pub use passes::Passes;
pub use resources::Resources;
pub use source::{Contents, DocumentSource, Identity, Origin, RowFilter, Shard};
