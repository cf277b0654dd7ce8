//! Tables: models, datasets, and for each model its neurons, activations, examples, graphs, vocabulary and weights.

pub(crate) mod activations;
pub(crate) mod bundled_corpus;
pub(crate) mod csv;
pub(crate) mod dataset;
pub(crate) mod datasets;
pub(crate) mod examples;
pub(crate) mod graph_error;
pub(crate) mod graphs;
pub(crate) mod model_table;
pub(crate) mod models;
pub(crate) mod neuron_rows;
pub(crate) mod neurons;
pub(crate) mod predicate;
pub(crate) mod vocabulary;
pub(crate) mod weights;
