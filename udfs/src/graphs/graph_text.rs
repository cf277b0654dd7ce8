//! `graph_text(graph) → text`

use datafusion::logical_expr::ScalarUDF;
use neuroql_graph::draw::{self, DrawOptions};

use super::of_graph::{Answer, OfGraph};

/// The patterns of a neuron graph, one a line.
pub fn graph_text_udf() -> ScalarUDF {
    let answer = Answer::Text(|graph, _| Ok(draw::text(graph, &DrawOptions::default())));
    let description = "The patterns of a neuron graph, one a line.";
    OfGraph { name: "graph_text", description, titled: false, answer }.udf()
}
