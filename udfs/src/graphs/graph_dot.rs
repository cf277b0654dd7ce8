//! `graph_dot(graph [, title]) → text`

use datafusion::logical_expr::ScalarUDF;
use neuroql_graph::draw::{self, DrawOptions};

use super::of_graph::{Answer, OfGraph};

/// A drawing of a neuron graph in Graphviz' language.
pub fn graph_dot_udf() -> ScalarUDF {
    let answer = Answer::Text(|graph, title| {
        Ok(draw::dot(graph, &DrawOptions { title: title.map(str::to_owned), ..DrawOptions::default() }))
    });
    let description = "A drawing of a neuron graph in Graphviz' language.";
    OfGraph { name: "graph_dot", description, titled: true, answer }.udf()
}
