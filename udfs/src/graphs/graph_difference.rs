//! `graph_difference(graph, graph) → graph`

use datafusion::logical_expr::ScalarUDF;
use neuroql_graph::Graph;

use super::of_two::{Answer, OfTwoGraphs};

/// The patterns of one neuron graph that another lacks.
pub fn graph_difference_udf() -> ScalarUDF {
    let description = "The neuron graph of the patterns of a that b does not have.";
    OfTwoGraphs { name: "graph_difference", description, answer: Answer::Graph(Graph::difference) }.udf()
}
