//! `graph_components(graph) → int`

use datafusion::logical_expr::ScalarUDF;
use neuroql_graph::component_count;

use super::of_graph::{Answer, OfGraph};

/// How many parts a neuron graph has that share no context token.
pub fn graph_components_udf() -> ScalarUDF {
    // A graph has fewer nodes than an int counts.
    let answer = Answer::Number(|graph| component_count(graph) as i32);
    let description = "How many parts a neuron graph has that share no context token: a neuron whose graph has several \
                       may stand for several things.";
    OfGraph { name: "graph_components", description, titled: false, answer }.udf()
}
