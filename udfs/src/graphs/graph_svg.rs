//! `graph_svg(graph [, title]) → text`

use datafusion::logical_expr::ScalarUDF;
use neuroql_graph::draw::{self, DrawOptions};

use super::of_graph::{Answer, OfGraph};

/// A drawing of a neuron graph as SVG.
pub fn graph_svg_udf() -> ScalarUDF {
    let answer = Answer::Text(|graph, title| {
        Ok(draw::svg(graph, &DrawOptions { title: title.map(str::to_owned), ..DrawOptions::default() }))
    });
    let description = "A drawing of a neuron graph as SVG.";
    OfGraph { name: "graph_svg", description, titled: true, answer }.udf()
}
