//! Storage of results: Delta tables in a folder, on any object store, or in memory.
//!
//! | table | rows | partitioned by |
//! |---|---|---|
//! | `models` | registrations | |
//! | `tables` | external tables and views: the statements that create them again | |
//! | `neurons` | a neuron of an analysed layer: statistics, examples, and the state to go on from | model, layer, dataset |
//! | `bounds` | a neuron and segment: bounds of its activations in each example | model, layer, dataset |
//! | `contexts` | an example: its place in the dataset and its tokens | model, dataset |
//! | `graphs` | a neuron and method: the graph learned or the reason why there is none, and its scores | model, layer |
//! | `explanations` | what a source says of a neuron | model, layer |
//! | `examples` | what a source has published of the activations of a neuron on a text | model, layer |
//! | `graph_tokens` | a token and role: the neurons whose graphs have it | model, layer |
//! | `graph_signatures` | a neuron: the patterns of its graph, as numbers | model, layer |
//!
//! They are ordinary Delta tables, which DuckDB, Polars, Spark or pandas read. A *segment* is a stretch of a dataset
//! that is committed at once: first its contexts and bounds, then, in one atomic commit of `neurons`, the statistics
//! after it together with its name. Segments that `neurons` does not name are leftovers of an interrupted commit and
//! are never read.

mod analysis;
mod bounds;
mod bundled;
mod cache;
mod definition;
mod error;
mod examples;
mod explanations;
mod graph_index;
mod graphs;
mod location;
mod registration;
mod row_reader;
mod store;
mod table;
mod version;

pub use analysis::{LayerAnalysis, LayerTopTokens, Progress};
pub use bounds::{LayerIndex, StoredExample, widest};
pub use bundled::BundledAnalysis;
pub use cache::{BoundedCache, CACHE_BYTES};
pub use definition::Definition;
pub use error::{Error, Result};
pub use examples::ExampleKey;
pub use explanations::ExplanationKey;
pub use graph_index::{IndexedGraph, IndexedLayer};
pub use graphs::{BundledGraphs, GraphKey};
pub use registration::Registration;
pub use store::{AnalysedLayer, AnalysisGuard, Segment, Store};
pub use version::holds_for;
