//! Functions over neuron graphs.

use datafusion::logical_expr::ScalarUDF;

mod binary;
mod construct;
mod embedding;
mod graph_similarity;
mod simplify;
mod simulate;
mod svg;
mod token_lists;
mod unary;

pub(crate) use binary::{graph_contains_udf, graph_difference_udf, graph_intersection_udf, graph_union_udf};
pub(crate) use construct::{graph_from_json_udf, graph_from_nodes_udf};
pub(crate) use embedding::graph_embedding_udf;
pub(crate) use graph_similarity::graph_similarity_udf;
pub(crate) use simplify::graph_simplify_udf;
pub(crate) use simulate::simulate_udf;
pub(crate) use svg::graph_svg_udf;
pub(crate) use unary::{
    graph_components_udf, graph_dot_udf, graph_expand_udf, graph_json_udf, graph_mermaid_udf, graph_text_udf,
};

/// Every function over graphs.
pub(crate) fn all() -> Vec<ScalarUDF> {
    vec![
        simulate_udf(),
        graph_components_udf(),
        graph_contains_udf(),
        graph_difference_udf(),
        graph_dot_udf(),
        graph_embedding_udf(),
        graph_expand_udf(),
        graph_from_json_udf(),
        graph_from_nodes_udf(),
        graph_intersection_udf(),
        graph_json_udf(),
        graph_mermaid_udf(),
        graph_similarity_udf(),
        graph_simplify_udf(),
        graph_svg_udf(),
        graph_text_udf(),
        graph_union_udf(),
    ]
}
