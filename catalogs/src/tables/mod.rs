//! Tables: models, datasets, and for each model its neurons, activations, examples, graphs, vocabulary and weights.

use datafusion::common::tree_node::TreeNode;
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use model_table::{OfAll, OfModel};

pub(crate) mod activations;
pub(crate) mod bundled_corpus;
pub(crate) mod csv;
pub(crate) mod dataset;
pub(crate) mod datasets;
pub(crate) mod examples;
pub(crate) mod graph_error;
pub(crate) mod graphs;
pub(crate) mod model_table;
pub(crate) mod models;
pub(crate) mod neuron_rows;
pub(crate) mod neurons;
pub(crate) mod predicate;
pub(crate) mod vocabulary;
pub(crate) mod weights;

/// Returns true if a plan reads the activations of a model.
///
/// # Errors
/// Never; the walk through a plan has a result.
pub fn reads_activations(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| {
        let LogicalPlan::TableScan(scan) = node else { return Ok(false) };
        let Ok(table) = source_as_provider(&scan.source) else { return Ok(false) };
        let of_model = table.downcast_ref::<OfModel>().map(|of_model| of_model.table.name());
        let name = of_model.or_else(|| table.downcast_ref::<OfAll>().map(|of_all| of_all.table.name()));
        Ok(name == Some("activations"))
    })
}

/// The columns of the table that a plan's node reads which only a superuser may see.
pub fn superuser_columns(node: &LogicalPlan) -> &'static [&'static str] {
    let LogicalPlan::TableScan(scan) = node else { return &[] };
    match source_as_provider(&scan.source) {
        Ok(table) if table.is::<models::Models>() || table.is::<datasets::Datasets>() => &["location"],
        _ => &[],
    }
}
