//! `models`: one row a registered model that the user may use.

use std::sync::Arc;

use crate::async_method::async_method;
use crate::state::EngineState;
use datafusion::arrow::array::{ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;
use neuroql_model::Model;
use neuroql_model::location::Revision;
use neuroql_schema::Rights;

/// Table `models`.
#[derive(Debug)]
pub(crate) struct Models {
    pub engine: Arc<EngineState>,
}

/// Columns of `models`.
pub(crate) fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let int = |name: &str| Field::new(name, DataType::Int32, false);
    Arc::new(Schema::new(vec![
        text("model"),
        text("architecture"),
        int("layers"),
        int("neurons_per_layer"),
        int("d_model"),
        text("activation_function"),
        text("site"),
        Field::new("parameters", DataType::Int64, false),
        int("vocabulary"),
        int("context"),
        // NULL for users who may not see it.
        Field::new("location", DataType::Utf8, true),
        text("sha256"),
        text("dtype"),
        text("device"),
        Field::new("bos", DataType::Boolean, false),
        int("window"),
        text("tokenizer_sha256"),
        // NULL for models that are not of the hub.
        Field::new("revision", DataType::Utf8, true),
        Field::new("commit_sha", DataType::Utf8, true),
        Field::new("step", DataType::Int64, true),
    ]))
}

impl TableProvider for Models {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async_method!(scan => plan);
}

impl Models {
    fn plan<'a>(
        &'a self,
        session: &'a dyn Session,
        projection: Option<&'a Vec<usize>>,
        _: &'a [Expr],
        _: Option<usize>,
    ) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            let rights = Rights::of(session.config_options());
            let models = self.engine.registry.list();
            let models: Vec<_> = models.into_iter().filter(|model| rights.may_use(model.name())).collect();
            let text = |f: fn(&Model) -> String| -> ArrayRef {
                Arc::new(StringArray::from_iter_values(models.iter().map(|model| f(model))))
            };
            let int = |f: fn(&Model) -> usize| -> ArrayRef {
                Arc::new(Int32Array::from_iter_values(models.iter().map(|model| f(model) as i32)))
            };
            let of_hub = |f: fn(&Revision) -> String| -> ArrayRef {
                Arc::new(models.iter().map(|model| model.revision().map(f)).collect::<StringArray>())
            };
            let steps: Int64Array = models.iter().map(|model| model.revision().and_then(Revision::step)).collect();
            let parameters = Int64Array::from_iter_values(models.iter().map(|model| model.parameters() as i64));
            let columns = vec![
                text(|m| m.name().into()),
                text(|m| m.config().architecture.clone()),
                int(|m| m.config().layers),
                int(|m| m.neurons_per_layer()),
                int(|m| m.config().d_model),
                text(|m| m.config().activation.to_string()),
                text(Model::site_name),
                Arc::new(parameters),
                int(|m| m.config().vocabulary),
                int(|m| m.config().context),
                text(|m| m.location().into()),
                text(|m| m.sha256().into()),
                text(|m| m.dtype().as_str().into()),
                text(|m| m.device_name().into()),
                Arc::new(BooleanArray::from_iter(models.iter().map(|model| Some(model.bos().is_some())))),
                int(Model::window),
                text(|m| m.tokenizer_sha256().into()),
                of_hub(|revision| revision.name.clone()),
                of_hub(|revision| revision.commit.clone()),
                Arc::new(steps),
            ];
            let schema = self.schema();
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
            Ok(MemorySourceConfig::try_new_exec(&[vec![batch]], schema, projection.cloned())? as Arc<dyn ExecutionPlan>)
        })
    }
}
