//! Functions over neuron graphs.

use datafusion::logical_expr::ScalarUDF;

mod graph_components;
mod graph_contains;
mod graph_difference;
mod graph_dot;
mod graph_from_json;
mod graph_from_nodes;
mod graph_intersection;
mod graph_json;
mod graph_mermaid;
mod graph_similarity;
mod graph_svg;
mod graph_text;
mod graph_union;
mod of_graph;
mod of_two;
mod simulate;
mod token_lists;

pub use graph_components::graph_components_udf;
pub use graph_contains::graph_contains_udf;
pub use graph_difference::graph_difference_udf;
pub use graph_dot::graph_dot_udf;
pub use graph_from_json::graph_from_json_udf;
pub use graph_from_nodes::graph_from_nodes_udf;
pub use graph_intersection::graph_intersection_udf;
pub use graph_json::graph_json_udf;
pub use graph_mermaid::graph_mermaid_udf;
pub use graph_similarity::graph_similarity_udf;
pub use graph_svg::graph_svg_udf;
pub use graph_text::graph_text_udf;
pub use graph_union::graph_union_udf;
pub use simulate::simulate_udf;

/// Every function over graphs.
pub(crate) fn all() -> Vec<ScalarUDF> {
    vec![
        simulate_udf(),
        graph_components_udf(),
        graph_contains_udf(),
        graph_difference_udf(),
        graph_dot_udf(),
        graph_from_json_udf(),
        graph_from_nodes_udf(),
        graph_intersection_udf(),
        graph_json_udf(),
        graph_mermaid_udf(),
        graph_similarity_udf(),
        graph_svg_udf(),
        graph_text_udf(),
        graph_union_udf(),
    ]
}
