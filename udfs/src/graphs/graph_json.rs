//! `graph_json(graph) → text`

use datafusion::logical_expr::ScalarUDF;
use neuroql_graph::formats::json;

use super::of_graph::{Answer, OfGraph};

/// A neuron graph as JSON, which graph_from_json() reads.
pub fn graph_json_udf() -> ScalarUDF {
    let answer = Answer::Text(|graph, _| json::print(graph));
    let description = "A neuron graph as JSON, which graph_from_json() reads.";
    OfGraph { name: "graph_json", description, titled: false, answer }.udf()
}
