//! `graph_contains(graph, graph) → double precision`

use datafusion::logical_expr::ScalarUDF;
use neuroql_graph::{Similarity, similarity};

use super::of_two::{Answer, OfTwoGraphs};

/// How much of one neuron graph another has.
pub fn graph_contains_udf() -> ScalarUDF {
    let description = "Share of b's patterns, by weight, that a has too: 1 if a contains b; NULL if b has none. \
                       graph_similarity(b, a, 'containment') is the same.";
    let answer = Answer::Number(|a, b| similarity(b, a, Similarity::Containment));
    OfTwoGraphs { name: "graph_contains", description, answer }.udf()
}
