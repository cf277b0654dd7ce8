//! `graph_intersection(graph, graph) → graph`

use datafusion::logical_expr::ScalarUDF;
use neuroql_graph::Graph;

use super::of_two::{Answer, OfTwoGraphs};

/// The patterns that two neuron graphs have in common.
pub fn graph_intersection_udf() -> ScalarUDF {
    let description = "The neuron graph of the patterns that both of two graphs have.";
    OfTwoGraphs { name: "graph_intersection", description, answer: Answer::Graph(Graph::intersection) }.udf()
}
