//! Functions as expressions: `simulate(col("graph"), col("tokens"))` in a `DataFrame`.
//!
//! Functions that run a model belong to an engine; `SessionContext::udf("activation")?.call(…)` calls these.
//!
//! ```
//! use datafusion::prelude::col;
//! use neuroql_udfs::expr_fn::{graph_contains, simulate};
//!
//! let predicted = simulate(col("graph"), col("tokens")).alias("predicted");
//! let contained = graph_contains(col("a"), col("b")).gt(datafusion::prelude::lit(0.5));
//! # assert_eq!(contained.to_string(), "graph_contains(a, b) > Float64(0.5)");
//! # let _ = predicted;
//! ```

use std::sync::{Arc, LazyLock};

use datafusion::logical_expr::{Expr, ScalarUDF};

use crate::{graphs, vectors};

/// `name(argument, …) = udf`: a function that calls the one scalar function that all expressions share.
macro_rules! expr_fn {
    ($($(#[$doc:meta])* $name:ident($($argument:ident),+) = $udf:path;)+) => {
        $(
            $(#[$doc])*
            pub fn $name($($argument: Expr),+) -> Expr {
                static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new($udf()));
                FUNCTION.call(vec![$($argument),+])
            }
        )+
    };
}

expr_fn! {
    /// Predictions of a graph for each of an array of token ids.
    simulate(graph, tokens) = graphs::simulate_udf;
    /// Similarity of two graphs, from 0 to 1: the weighted Jaccard similarity of their patterns.
    graph_similarity(a, b) = graphs::graph_similarity_udf;
    /// Share of the patterns of `b`, by weight, that `a` has too.
    graph_contains(a, b) = graphs::graph_contains_udf;
    /// The graph of all patterns that one of two graphs has.
    graph_union(a, b) = graphs::graph_union_udf;
    /// The graph of the patterns that both of two graphs have.
    graph_intersection(a, b) = graphs::graph_intersection_udf;
    /// The graph of the patterns of `a` that `b` does not have.
    graph_difference(a, b) = graphs::graph_difference_udf;
    /// Number of parts of a graph that share no context token.
    graph_components(graph) = graphs::graph_components_udf;
    /// The graph with a node for each token.
    graph_expand(graph) = graphs::graph_expand_udf;
    /// The best-supported part of a graph, of at most so many nodes.
    graph_simplify(graph, nodes) = graphs::graph_simplify_udf;
    /// A vector of 256 numbers whose cosine with others follows the similarity of the graphs.
    graph_embedding(graph) = graphs::graph_embedding_udf;
    /// The patterns of a graph.
    graph_text(graph) = graphs::graph_text_udf;
    /// A graph as JSON, which [`graph_from_json`] reads.
    graph_json(graph) = graphs::graph_json_udf;
    /// A drawing of a graph in Graphviz' language.
    graph_dot(graph) = graphs::graph_dot_udf;
    /// A drawing of a graph in Mermaid's language.
    graph_mermaid(graph) = graphs::graph_mermaid_udf;
    /// A drawing of a graph as SVG.
    graph_svg(graph) = graphs::graph_svg_udf;
    /// The graph that JSON in the form of [`graph_json`] describes.
    graph_from_json(json) = graphs::graph_from_json_udf;
    /// The graph that an array of nodes is.
    graph_from_nodes(nodes) = graphs::graph_from_nodes_udf;
    /// The inner product of two arrays of numbers of one length.
    dot(a, b) = vectors::dot_udf;
    /// The cosine of the angle between two arrays of numbers of one length.
    cosine(a, b) = vectors::cosine_udf;
    /// The Euclidean distance between two arrays of numbers of one length.
    l2(a, b) = vectors::l2_udf;
}
