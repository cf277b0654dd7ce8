//! `vocabulary`: one row a token.

use std::sync::Arc;

use datafusion::arrow::array::{Int32Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;
use neuroql_model::Model;

use crate::tables::model_table::{ModelTable, Scan};

/// Table `vocabulary`.
#[derive(Debug)]
pub(crate) struct Vocabulary;

impl ModelTable for Vocabulary {
    fn name(&self) -> &'static str {
        "vocabulary"
    }

    fn schema(&self, _: Option<&Model>) -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("token_id", DataType::Int32, false),
            Field::new("token", DataType::Utf8, false),
        ]))
    }

    fn supports_filter(&self, _: &Expr) -> TableProviderFilterPushDown {
        TableProviderFilterPushDown::Unsupported
    }

    fn scan<'a>(&'a self, model: &'a Arc<Model>, scan: Scan<'a>) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            let schema = self.schema(Some(model));
            let texts = model.tokenizer().texts();
            let ids = Arc::new(Int32Array::from_iter_values(0..texts.len() as i32));
            let batch = RecordBatch::try_new(
                Arc::clone(&schema),
                vec![ids, Arc::new(StringArray::from_iter_values(texts.iter()))],
            )?;
            let plan = MemorySourceConfig::try_new_exec(&[vec![batch]], schema, scan.projection.cloned())?;
            Ok(plan as Arc<dyn ExecutionPlan>)
        })
    }
}
