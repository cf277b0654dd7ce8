//! `graph_similarity(graph, graph [, method]) → double precision`

use datafusion::logical_expr::ScalarUDF;
use neuroql_graph::{Similarity, similarity};

use super::of_two::{Answer, Method, OfTwoGraphs};

/// How alike two neuron graphs are.
pub fn graph_similarity_udf() -> ScalarUDF {
    let description = "How alike two neuron graphs are, from 0 to 1; NULL if neither has what is compared.";
    let methods = Method::Optional(
        "'patterns' (the default: weighted Jaccard similarity of patterns), 'tokens' (tokens by role, as Neuron2Graph), \
         'behaviour' (correlation of what they predict for texts that their patterns match) or 'containment' (share of \
         a's patterns that b has; the only one that is not symmetric)",
    );
    let answer =
        |a: &_, b: &_, method: Option<&str>| similarity(a, b, method.map_or(Ok(Similarity::default()), str::parse)?);
    OfTwoGraphs { name: "graph_similarity", description, answer: Answer::Similarity(answer, methods) }.udf()
}
