//! Table functions, computed while they are read; their parameters are key columns.

pub(crate) mod analyze;
pub(crate) mod api;
pub(crate) mod build_graphs;
pub(crate) mod call;
pub(crate) mod circuits;
pub(crate) mod evaluate_graphs;
pub(crate) mod neuron_graph;
pub(crate) mod pairwise;
pub(crate) mod predictions;
pub(crate) mod search;
pub(crate) mod similar_neurons;
pub(crate) mod similar_pairs;
pub(crate) mod simulate_graphs;
pub(crate) mod top_neurons;
pub(crate) mod verify_import;
pub(crate) mod verify_model;
