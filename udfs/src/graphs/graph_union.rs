//! `graph_union(graph, graph) → graph`

use datafusion::logical_expr::ScalarUDF;
use neuroql_graph::Graph;

use super::of_two::{Answer, OfTwoGraphs};

/// The patterns of two neuron graphs.
pub fn graph_union_udf() -> ScalarUDF {
    let description = "The neuron graph of all patterns that one of two graphs has.";
    OfTwoGraphs { name: "graph_union", description, answer: Answer::Graph(Graph::union) }.udf()
}
