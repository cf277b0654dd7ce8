//! `EXPLAIN (FORMAT JSON)`: programs that draw plans read one column of one row, as PostgreSQL sends it.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::format::ExplainFormat;
use datafusion::logical_expr::LogicalPlan;
use datafusion_postgres::pgwire::api::Type;

use crate::encode::column;

/// Returns true if a plan is explained in JSON.
pub(crate) fn is_json(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Explain(explain) if explain.explain_format == ExplainFormat::PostgresJSON)
}

/// Returns the column that [`plans`] leaves.
pub(crate) fn schema() -> Schema {
    let field = Field::new("QUERY PLAN", DataType::Utf8, true).with_metadata(column::mark(&Type::JSON));
    Schema::new(vec![field])
}

/// Leaves out the first of the columns `plan_type` and `plan`.
pub(crate) fn plans(batch: RecordBatch) -> RecordBatch {
    let plans = batch.columns().last().map(Arc::clone);
    // The rows of an EXPLAIN have texts in both columns.
    plans.and_then(|plans| RecordBatch::try_new(Arc::new(schema()), vec![plans]).ok()).unwrap_or(batch)
}
