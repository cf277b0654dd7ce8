//! Tables: models, datasets, and for each model its neurons, activations, examples, graphs, vocabulary and weights.

use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::LogicalPlan;

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

/// The columns of the table that a plan's node reads which only a superuser may see.
pub fn superuser_columns(node: &LogicalPlan) -> &'static [&'static str] {
    let LogicalPlan::TableScan(scan) = node else { return &[] };
    match source_as_provider(&scan.source) {
        Ok(table) if table.is::<models::Models>() || table.is::<datasets::Datasets>() => &["location"],
        _ => &[],
    }
}
