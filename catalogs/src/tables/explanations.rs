//! `explanations`: what people or language models say of neurons, in words, with a score.
//!
//! Rows come from `INSERT`, from published data or from anywhere else; `DELETE` removes them. A source says each thing
//! of a neuron once: the same row again takes the place of the first, with its score.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::future::BoxFuture;
use futures::{StreamExt, TryFutureExt, TryStreamExt};
use neuroql_model::Model;
use neuroql_pipeline::RowFilter;
use neuroql_schema::sql_error;
use neuroql_store::ExplanationKey;

use crate::Error;
use crate::state::EngineState;
use crate::tables::insert::{self, RowWriter};
use crate::tables::model_table::{ModelTable, Scan};
use crate::tables::neuron_rows::supports_place;
use crate::tables::predicate::{NeuronSelection, Predicate};

/// Source of an explanation if its row names none.
const SOURCE: &str = "custom";

/// Table `explanations`.
#[derive(Debug)]
pub(crate) struct Explanations;

/// Columns of `explanations`.
pub(crate) fn schema() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("layer", DataType::Int32),
        field("neuron", DataType::Int32),
        field("source", DataType::Utf8),
        field("explanation", DataType::Utf8),
        field("score", DataType::Float32),
    ]))
}

/// Takes the table's columns of rows of the store.
fn select(rows: &RecordBatch) -> Result<RecordBatch> {
    let schema = schema();
    let columns = schema.fields().iter().map(|field| Ok(cast(&rows[field.name().as_str()], field.data_type())?));
    Ok(RecordBatch::try_new(Arc::clone(&schema), columns.collect::<Result<_>>()?)?)
}

impl ModelTable for Explanations {
    fn name(&self) -> &'static str {
        "explanations"
    }

    fn schema(&self, _: Option<&Model>) -> SchemaRef {
        schema()
    }

    fn supports_filter(&self, filter: &Expr) -> TableProviderFilterPushDown {
        supports_place(filter)
    }

    fn is_read_at_execution(&self) -> bool {
        true
    }

    fn scan<'a>(&'a self, model: &'a Arc<Model>, scan: Scan<'a>) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            let predicate = Predicate::compile(scan.filters, &schema(), scan.session)?;
            let places = NeuronSelection::new(model, predicate)?;
            let rows = ExplanationPartition {
                model: Arc::clone(model),
                engine: Arc::clone(scan.engine),
                schema: schema(),
                places,
            };
            let exec =
                StreamingTableExec::try_new(schema(), vec![Arc::new(rows)], scan.projection, [], false, scan.limit)?;
            Ok(Arc::new(exec) as Arc<dyn ExecutionPlan>)
        })
    }

    fn insert(
        &self,
        model: &Arc<Model>,
        engine: &Arc<EngineState>,
        input: Arc<dyn ExecutionPlan>,
        op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let writer = ExplanationWriter { model: Arc::clone(model), engine: Arc::clone(engine) };
        insert::plan(input, schema(), op, writer)
    }

    fn supports_delete(&self) -> bool {
        true
    }

    fn delete<'a>(
        &'a self,
        model: &'a Arc<Model>,
        engine: &'a Arc<EngineState>,
        predicate: &'a Predicate,
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let version = model.version();
            let mut deleted = Vec::new();
            for layer in 0..model.config().layers as u32 {
                let rows = engine.store.explanations(model.name(), &version, layer, None).await.map_err(sql_error)?;
                let rows = select(&rows)?;
                let keys = ExplanationKey::of_rows(&rows).map_err(sql_error)?.into_iter();
                let matches = predicate.evaluate(&rows)?;
                deleted.extend(keys.zip(matches.iter()).filter_map(|(key, matches)| matches?.then_some(key)));
            }
            engine.store.delete_explanations(model.name(), &deleted).await.map_err(sql_error)?;
            Ok(deleted.len() as u64)
        })
    }
}

struct ExplanationPartition {
    model: Arc<Model>,
    engine: Arc<EngineState>,
    schema: SchemaRef,
    places: NeuronSelection,
}

impl fmt::Debug for ExplanationPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Explanations");
        out.field("model", &self.model.name());
        if let Some(layers) = self.places.layers() {
            out.field("layers", &layers);
        }
        out.finish()
    }
}

impl PartitionStream for ExplanationPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (model, engine) = (Arc::clone(&self.model), Arc::clone(&self.engine));
        let rows = futures::future::ready(self.places.select(&self.model))
            .map_ok(|places| futures::stream::iter(places).map(Ok))
            .try_flatten_stream()
            .and_then(move |(layer, neurons)| {
                let (model, engine) = (Arc::clone(&model), Arc::clone(&engine));
                async move {
                    let version = model.version();
                    let rows = engine.store.explanations(model.name(), &version, layer as u32, neurons.as_deref());
                    select(&rows.await.map_err(sql_error)?)
                }
            });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows.map_err(DataFusionError::from)))
    }
}

/// Writes explanations of a model.
struct ExplanationWriter {
    model: Arc<Model>,
    engine: Arc<EngineState>,
}

impl fmt::Debug for ExplanationWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExplanationWriter").field("model", &self.model.name()).finish_non_exhaustive()
    }
}

impl RowWriter for ExplanationWriter {
    fn target(&self) -> String {
        format!("explanations of {}", self.model.name())
    }

    fn check(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let missing = |value| Error::MissingValue { table: "explanations", value };
        let (layers, neurons) = (rows["layer"].as_primitive::<Int32Type>(), rows["neuron"].as_primitive::<Int32Type>());
        let (sources, texts) = (rows["source"].as_string::<i32>(), rows["explanation"].as_string::<i32>());
        for row in 0..rows.num_rows() {
            let layer = layers.is_valid(row).then(|| layers.value(row)).ok_or(missing("a layer"))?;
            let neuron = neurons.is_valid(row).then(|| neurons.value(row)).ok_or(missing("a neuron"))?;
            self.model.check_layer(layer.into()).map_err(sql_error)?;
            self.model.check_neuron(neuron.into()).map_err(sql_error)?;
            if texts.is_null(row) {
                return Err(missing("an explanation").into());
            }
        }
        let sources: StringArray = sources.iter().map(|source| source.or(Some(SOURCE))).collect();
        let versions = StringArray::from_iter_values(std::iter::repeat_n(self.model.version(), rows.num_rows()));
        let mut fields = rows.schema().fields().to_vec();
        let mut columns = rows.columns().to_vec();
        for (field, column) in fields.iter().zip(&mut columns) {
            if field.name() == "source" {
                *column = Arc::new(sources.clone()) as ArrayRef;
            }
        }
        fields.push(Arc::new(Field::new("model_version", DataType::Utf8, false)));
        columns.push(Arc::new(versions));
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    fn put<'a>(&'a self, rows: &'a RecordBatch) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.engine.store.put_explanations(self.model.name(), rows).await.map_err(sql_error) })
    }
}
