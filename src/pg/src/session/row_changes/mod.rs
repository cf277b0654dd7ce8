//! Changes of the rows of tables in memory: UPDATE, DELETE, and INSERT with ON CONFLICT.
//!
//! DataFusion evaluates the conditions of UPDATE and DELETE for a table alone: it knows no FROM and USING, and passes over
//! subqueries. So a change is planned as a query here, of which the changed table is the first one. It runs over the rows of that
//! table with their numbers, and says which of them change and what they become.

mod conflicts;
mod queries;
mod rows;
mod upserts;

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::datasource::{MemTable, source_as_provider};
use datafusion::error::Result;
use datafusion::logical_expr::{DmlStatement, LogicalPlan};

pub(crate) use self::conflicts::{inserted, is_upsert, settled, take as take_conflict};
pub(crate) use self::queries::take;
use crate::wire::error_response::SqlError;

/// The rows that a change has changed.
#[derive(Debug, Default)]
pub(super) struct ChangedRows {
    pub(super) count: usize,
    /// They themselves, if they were asked for: the new ones, or the old ones of a DELETE, with the columns of the tables that
    /// they were joined with.
    pub(super) rows: Option<RecordBatch>,
}

/// Returns the change that a plan makes to a table in memory, by statements whose rows can be returned.
pub(super) fn change_of(plan: &LogicalPlan) -> Option<&DmlStatement> {
    let dml = match plan {
        LogicalPlan::Dml(dml) => dml,
        other => conflicts::parts(other)?.insert,
    };
    is_in_memory(dml).then_some(dml)
}

/// Returns true if a statement changes a table in memory.
pub(super) fn is_in_memory(dml: &DmlStatement) -> bool {
    source_as_provider(&dml.target).is_ok_and(|table| table.downcast_ref::<MemTable>().is_some())
}

/// Returns a batch of a table as one of the types of its columns.
fn of_schema(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        match column.data_type() == field.data_type() {
            true => Ok(Arc::clone(column)),
            false => cast_with_options(column, field.data_type(), &strict),
        }
    });
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn internal(message: &str) -> SqlError {
    SqlError::error("XX000", format!("internal error: {message}"))
}
