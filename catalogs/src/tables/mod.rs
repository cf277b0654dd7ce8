//! Tables: models, datasets, and for each model its neurons, activations, examples, graphs, explanations, vocabulary and
//! weights.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNode;
use datafusion::datasource::listing::ListingTable;
use datafusion::datasource::{MemTable, source_as_provider};
use datafusion::error::Result;
use datafusion::logical_expr::{LogicalPlan, TableSource};
use model_table::{AllModelsTableProvider, ModelTableProvider};
use neuroql_schema::Role;

use crate::imports::ImportTable;

pub(crate) mod activations;
pub(crate) mod attention;
pub(crate) mod bundled_corpus;
pub(crate) mod csv;
pub(crate) mod dataset;
pub(crate) mod datasets;
pub(crate) mod deferred_places;
pub(crate) mod delete;
pub(crate) mod examples;
pub(crate) mod explanations;
pub(crate) mod graph_error;
pub(crate) mod graphs;
pub(crate) mod insert;
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
        let of_model = table.downcast_ref::<ModelTableProvider>().map(|of_model| of_model.table.name());
        let name =
            of_model.or_else(|| table.downcast_ref::<AllModelsTableProvider>().map(|of_all| of_all.table.name()));
        Ok(name == Some("activations"))
    })
}

/// Returns the schema of the model or published data that a plan's node reads, if it reads one.
pub fn schema_of_scan(node: &LogicalPlan) -> Option<String> {
    let LogicalPlan::TableScan(scan) = node else { return None };
    let table = source_as_provider(&scan.source).ok()?;
    let of_model = table.downcast_ref::<ModelTableProvider>().map(|of_model| of_model.model.name().to_owned());
    of_model.or_else(|| table.downcast_ref::<ImportTable>().map(|of_import| of_import.import.name.clone()))
}

/// Who may change the rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeRights {
    /// Its owner: it is in memory.
    Owner,
    /// Users of a role insert rows, if they may use the schema of the model; its owner changes them.
    OfModel {
        /// Name of the model.
        schema: String,
        /// The least role that may insert.
        insert: Role,
    },
    /// Superusers: its rows are files of the server.
    Superuser,
}

/// Returns who may change the rows of a table.
pub fn change_rights(target: &Arc<dyn TableSource>) -> ChangeRights {
    let Ok(table) = source_as_provider(target) else { return ChangeRights::Superuser };
    match table.downcast_ref::<ModelTableProvider>() {
        Some(of_model) => {
            ChangeRights::OfModel { schema: of_model.model.name().to_owned(), insert: of_model.table.insert_requires() }
        }
        None if table.is::<MemTable>() => ChangeRights::Owner,
        None => ChangeRights::Superuser,
    }
}

/// Returns where the files of a table, model or published data are; none if it has no files.
pub fn locations_of(table: &dyn TableProvider) -> Vec<String> {
    if let Some(listing) = table.downcast_ref::<ListingTable>() {
        return listing.table_paths().iter().map(ToString::to_string).collect();
    }
    let of_model = table.downcast_ref::<ModelTableProvider>().map(|table| table.model.location().to_owned());
    of_model
        .or_else(|| table.downcast_ref::<ImportTable>().map(|table| table.import.location().to_owned()))
        .into_iter()
        .collect()
}

/// The columns of the table that a plan's node reads which only a superuser may see.
pub fn superuser_columns(node: &LogicalPlan) -> &'static [&'static str] {
    let LogicalPlan::TableScan(scan) = node else { return &[] };
    match source_as_provider(&scan.source) {
        Ok(table) if table.is::<models::Models>() || table.is::<datasets::Datasets>() || table.is::<ImportTable>() => {
            &["location"]
        }
        _ => &[],
    }
}
