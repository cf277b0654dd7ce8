//! `verify_model(model, reference, texts)`: differences of a model's activations between batches that a text is run in,
//! and from those of a reference. A row a layer; see [`Model::verify`].

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float32Array, Int32Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::logical_expr::LogicalPlan;
use datafusion::scalar::ScalarValue;
use futures::future::BoxFuture;
use neuroql_model::{CancelOnDrop, LayerDifferences, Model, Placement, Reference};
use neuroql_schema::{Rights, Role, sql_error};

use crate::Error;
use crate::state::EngineState;
use crate::table_functions::api::{
    Parameter, ParameterValues, RowProducer, RowSender, ScanOptions, StreamingTableFunction, TableFunction,
    streaming_plan,
};

/// Table function `verify_model`.
#[derive(Debug)]
pub(crate) struct VerifyModel;

impl TableFunction for VerifyModel {
    fn requires(&self) -> Role {
        // A reference is a file of the server: `work` refuses it to other users.
        Role::Reader
    }

    fn name(&self) -> &'static str {
        "verify_model"
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter::required("model", DataType::Utf8),
            // The column reference is that of the rows.
            Parameter::optional_text("reference").in_column("reference_file"),
            Parameter::with_default("texts", ScalarValue::new_null_list(DataType::Utf8, true, 1)),
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        let difference = |name: &str| Field::new(name, DataType::Float32, true);
        vec![
            Field::new("layer", DataType::Int32, true),
            difference("batched"),
            difference("reordered"),
            difference("moved"),
            difference("reference"),
            difference("largest"),
        ]
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &ParameterValues) -> Result<LogicalPlan> {
        let call = Verification {
            engine: Arc::clone(engine),
            model: values.model(engine)?,
            reference: values.optional_text("reference").map(str::to_owned),
            texts: texts(values)?,
            schema: Arc::new(Schema::new(self.outputs())),
        };
        if call.reference.is_some() && call.texts.is_some() {
            let reason = "are those of the reference if there is one: give one of the two";
            return Err(values.invalid("texts", reason).into());
        }
        streaming_plan(self.name(), call)
    }
}

/// Returns the texts that a call gives, if any.
fn texts(values: &ParameterValues) -> Result<Option<Vec<String>>> {
    let Some(ScalarValue::List(list)) = values.get("texts") else { return Ok(None) };
    if list.is_null(0) {
        return Ok(None);
    }
    let texts = list.value(0);
    let texts = texts.as_string::<i32>();
    if texts.null_count() > 0 {
        return Err(values.invalid("texts", "have a NULL among them").into());
    }
    Ok(Some(texts.iter().flatten().map(str::to_owned).collect()))
}

/// Arguments of a call of `verify_model`.
#[derive(Debug, Clone)]
struct Verification {
    engine: Arc<EngineState>,
    model: Arc<Model>,
    /// Location of the reference activations.
    reference: Option<String>,
    texts: Option<Vec<String>>,
    schema: SchemaRef,
}

impl StreamingTableFunction for Verification {
    type Producer = Self;

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn producer<'a>(&'a self, session: &'a dyn Session, _: ScanOptions<'a>) -> BoxFuture<'a, Result<Self>> {
        Box::pin(async move {
            // A file of the server's.
            if self.reference.is_some() && !Rights::of(session.config_options()).has(Role::Superuser) {
                return Err(Error::MayNotLoad("a reference".into()).into());
            }
            Ok(self.clone())
        })
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "verify_model model={}", self.model.name())?;
        match (&self.reference, &self.texts) {
            (Some(reference), _) => write!(f, " reference={reference}"),
            (None, Some(texts)) => write!(f, " texts={}", texts.len()),
            (None, None) => Ok(()),
        }
    }
}

impl RowProducer for Verification {
    fn run<'a>(&'a self, context: &'a Arc<TaskContext>, rows: &'a RowSender) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let reference = match self.reference.clone() {
                Some(location) => {
                    let opened = SpawnedTask::spawn_blocking(move || Reference::open(&location)).await;
                    Some(
                        opened
                            .map_err(|error| Error::Internal(format!("reading failed: {error}")))?
                            .map_err(sql_error)?,
                    )
                }
                None => None,
            };
            let (model, texts, guard) = (Arc::clone(&self.model), self.texts.clone(), CancelOnDrop::default());
            let needed = model.verify_bytes(texts.as_deref(), reference.as_ref()).map_err(sql_error)?;
            let reservation = MemoryConsumer::new("verify_model").register(context.memory_pool());
            reservation.try_grow(needed)?;
            let cancel = guard.flag();
            let job = move || model.verify(texts.as_deref(), reference.as_ref(), &cancel);
            let found =
                self.engine.registry.pool().run(Placement::AllThreads.of(&self.model), job).await.map_err(sql_error)?;
            rows.send(rows.batch(columns(&found))?).await;
            Ok(())
        })
    }
}

fn columns(found: &[LayerDifferences]) -> Vec<ArrayRef> {
    let real =
        |f: fn(&LayerDifferences) -> f32| -> ArrayRef { Arc::new(Float32Array::from_iter_values(found.iter().map(f))) };
    vec![
        Arc::new(Int32Array::from_iter_values(found.iter().map(|layer| layer.layer as i32))),
        real(|layer| layer.batched),
        real(|layer| layer.reordered),
        real(|layer| layer.moved),
        Arc::new(found.iter().map(|layer| layer.reference).collect::<Float32Array>()),
        real(|layer| layer.largest),
    ]
}
