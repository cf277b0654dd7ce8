//! `activations`: virtual, a scan runs the model.
//!
//! Parts of a query by which the scan spares work of the model:
//!
//! | of the query | what is saved |
//! |---|---|
//! | `text = …` / `dataset = …`, filters on `document` | other documents are not read |
//! | filters on `example`, `position`, `token_id`, `token` | examples without a wanted token do not run, others only up to their last wanted token |
//! | filters on `layer`, `neuron`, and those of joins | the pass stops at the deepest layer and multiplies only the selected neurons there |
//! | `activation > x`, other filters, TopK's moving threshold | rows are dropped before they are built |
//! | `LIMIT` | no pass starts once there are rows enough |
//! | the selected columns | others are not built |
//! | after `analyze`: filters on `activation`, `ORDER BY activation LIMIT k` | examples in which no row can pass do not run: `neuroql_pipeline::bounds` |
//! | `GROUP BY layer, neuron` with max, min, sum, avg, count | rows are not built at all: [`planner::aggregate_pushdown`](crate::planner::aggregate_pushdown) |
//!
//! [`scan_request`] takes a query apart, [`source`] is the scan, [`stream`] a partition of it at work, and [`rows`]
//! turns tensors into rows. `neuroql-pipeline` yields the documents, packs their tokens into batches and runs these.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;
use neuroql_model::Model;

use crate::tables::model_table::{ModelTable, Scan};
use crate::tables::predicate::can_evaluate;

mod candidates;
mod metrics;
pub(crate) mod partial_aggregate;
mod rows;
mod scan_request;
pub(crate) mod source;
mod stream;

use scan_request::ScanRequest;
use source::ActivationSource;

/// Table `activations`.
#[derive(Debug)]
pub(crate) struct Activations;

/// Columns of the table.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("dataset", DataType::Utf8View, true),
        Field::new("document", DataType::Int64, false),
        Field::new("example", DataType::Int64, false),
        Field::new("text", DataType::Utf8View, false),
        Field::new("position", DataType::Int32, false),
        Field::new("token_id", DataType::Int32, false),
        Field::new("token", DataType::Utf8View, false),
        Field::new("layer", DataType::Int32, false),
        Field::new("neuron", DataType::Int32, false),
        Field::new("activation", DataType::Float32, false),
    ]))
}

impl ModelTable for Activations {
    fn name(&self) -> &'static str {
        "activations"
    }

    fn schema(&self, _: Option<&Model>) -> SchemaRef {
        schema()
    }

    fn supports_filter(&self, filter: &Expr) -> TableProviderFilterPushDown {
        if can_evaluate(filter) { TableProviderFilterPushDown::Exact } else { TableProviderFilterPushDown::Unsupported }
    }

    fn scan<'a>(&'a self, model: &'a Arc<Model>, scan: Scan<'a>) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            let request = ScanRequest::new(model, &scan).await?;
            let source = ActivationSource::new(request, Arc::clone(scan.engine), scan.session)?;
            Ok(DataSourceExec::from_data_source(source) as Arc<dyn ExecutionPlan>)
        })
    }
}
