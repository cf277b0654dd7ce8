//! `graph_mermaid(graph [, title]) → text`

use datafusion::logical_expr::ScalarUDF;
use neuroql_graph::draw::{self, DrawOptions};

use super::of_graph::{Answer, OfGraph};

/// A drawing of a neuron graph in Mermaid's language.
pub fn graph_mermaid_udf() -> ScalarUDF {
    let answer = Answer::Text(|graph, title| {
        Ok(draw::mermaid(graph, &DrawOptions { title: title.map(str::to_owned), ..DrawOptions::default() }))
    });
    let description = "A drawing of a neuron graph in Mermaid's language.";
    OfGraph { name: "graph_mermaid", description, titled: true, answer }.udf()
}
