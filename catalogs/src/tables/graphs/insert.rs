//! `INSERT INTO model.graphs`: checks rows and puts them into the store, a commit every few seconds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::common::not_impl_err;
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use futures::StreamExt;
use futures::future::BoxFuture;
use neuroql_model::Model;
use neuroql_schema::graph_column::{GraphBuilder, GraphColumn};
use neuroql_schema::sql_error;
use tokio::time::{Instant, timeout_at};

use super::graph_check::Vocabulary;
use super::schema;
use crate::Error;
use crate::async_method::async_method;
use crate::state::EngineState;
use crate::tables::graph_error::InvalidGraph;

/// Longest time that rows wait for others before they are committed.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes of rows that are committed at once.
const BYTES: usize = 64 << 20;

/// Method of a graph if its row names none.
const METHOD: &str = "custom";

/// The plan that inserts the rows of another.
pub(super) fn plan(
    model: &Arc<Model>,
    engine: &Arc<EngineState>,
    input: Arc<dyn ExecutionPlan>,
    op: InsertOp,
) -> Result<Arc<dyn ExecutionPlan>> {
    if op == InsertOp::Overwrite {
        return not_impl_err!(
            "INSERT OVERWRITE is not supported for graphs: rows of the same neuron and method are \
                              replaced by INSERT, others removed by DELETE"
        );
    }
    let sink = GraphSink { model: Arc::clone(model), engine: Arc::clone(engine), schema: schema() };
    Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), None)))
}

struct GraphSink {
    model: Arc<Model>,
    engine: Arc<EngineState>,
    schema: SchemaRef,
}

impl fmt::Debug for GraphSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphSink").field("model", &self.model.name()).finish_non_exhaustive()
    }
}

impl DisplayAs for GraphSink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "graphs of {}", self.model.name())
    }
}

impl DataSink for GraphSink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async_method!(write_all => write<'a>(data: SendableRecordBatchStream, context: &'a Arc<TaskContext>) -> u64);
}

impl GraphSink {
    fn write<'a>(&'a self, mut data: SendableRecordBatchStream, _: &'a Arc<TaskContext>) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let mut vocabulary = None;
            let mut waiting: Vec<RecordBatch> = Vec::new();
            let mut deadline = Instant::now();
            let mut count = 0;
            loop {
                let next = match waiting.is_empty() {
                    true => data.next().await,
                    false => match timeout_at(deadline, data.next()).await {
                        Ok(next) => next,
                        // Rows that wait are committed, however long the next ones take.
                        Err(_) => {
                            self.commit(&mut waiting).await?;
                            continue;
                        }
                    },
                };
                let next = next.map(|batch| {
                    let vocabulary = vocabulary.get_or_insert_with(|| Vocabulary::of(&self.model));
                    checked(&self.model, vocabulary, &batch?)
                });
                match next {
                    Some(Ok(rows)) if rows.num_rows() == 0 => {}
                    Some(Ok(rows)) => {
                        count += rows.num_rows() as u64;
                        if waiting.is_empty() {
                            deadline = Instant::now() + PATIENCE;
                        }
                        waiting.push(rows);
                        let bytes: usize = waiting.iter().map(RecordBatch::get_array_memory_size).sum();
                        if bytes >= BYTES || Instant::now() >= deadline {
                            self.commit(&mut waiting).await?;
                        }
                    }
                    Some(Err(error)) => {
                        // The rows before the error, maybe built for hours, are worth keeping.
                        self.commit(&mut waiting).await?;
                        return Err(error);
                    }
                    None => {
                        self.commit(&mut waiting).await?;
                        return Ok(count);
                    }
                }
            }
        })
    }
}

impl GraphSink {
    async fn commit(&self, waiting: &mut Vec<RecordBatch>) -> Result<()> {
        let Some(first) = waiting.first() else { return Ok(()) };
        let rows = concat_batches(first.schema_ref(), waiting.iter())?;
        self.engine.store.put_graphs(self.model.name(), &rows).await.map_err(sql_error)?;
        waiting.clear();
        Ok(())
    }
}

/// Checks rows, and returns them as the store takes them.
fn checked(model: &Model, vocabulary: &Vocabulary, batch: &RecordBatch) -> Result<RecordBatch> {
    let number = |name: &str| batch[name].as_primitive::<Int32Type>().clone();
    let (layers, neurons) = (number("layer"), number("neuron"));
    let graphs = GraphColumn::try_new(&batch["graph"])?;
    let text = |name: &str| batch[name].as_string::<i32>().clone();
    let (methods, reasons) = (text("method"), text("reason"));
    let built_at = batch["built_at"].as_primitive::<TimestampMicrosecondType>().clone();
    let now = chrono::Utc::now().timestamp_micros();

    let mut builder = GraphBuilder::default();
    let (mut nodes, mut patterns) = (Vec::new(), Vec::new());
    for row in 0..batch.num_rows() {
        let place = |column: &Int32Array, name| {
            column.is_valid(row).then(|| i64::from(column.value(row))).ok_or(Error::NullInGraphs(name))
        };
        let layer = model.check_layer(place(&layers, "layer")?).map_err(sql_error)?;
        let neuron = model.check_neuron(place(&neurons, "neuron")?).map_err(sql_error)?;
        let unfit = |reason: InvalidGraph| Error::Graph { layer: layer as u32, neuron, reason: Box::new(reason) };
        let graph = graphs.graph(row).map_err(|error| unfit(error.into()))?;
        if graph.is_none() && reasons.is_null(row) {
            return Err(Error::NullInGraphs("graph, or a reason why it has none").into());
        }
        let graph = graph.map(|graph| vocabulary.bind(&graph)).transpose().map_err(unfit)?;
        nodes.push(graph.as_ref().map(|graph| graph.nodes().len() as i32));
        patterns.push(graph.as_ref().map(|graph| graph.patterns() as i32));
        builder.append(graph.as_ref()).map_err(|error| unfit(error.into()))?;
    }
    let graphs: ArrayRef = Arc::new(builder.finish()?);
    let times = built_at.iter().map(|time| time.or(Some(now)));
    let version = model.version();
    let changed = |name: &str, given: &ArrayRef| -> ArrayRef {
        match name {
            "graph" => Arc::clone(&graphs),
            "nodes" => Arc::new(Int32Array::from(nodes.clone())),
            "patterns" => Arc::new(Int32Array::from(patterns.clone())),
            "method" => Arc::new(methods.iter().map(|method| method.or(Some(METHOD))).collect::<StringArray>()),
            "built_at" => Arc::new(times.clone().collect::<TimestampMicrosecondArray>().with_timezone_opt(Some("UTC"))),
            _ => Arc::clone(given),
        }
    };
    let mut fields = batch.schema().fields().to_vec();
    let mut columns: Vec<ArrayRef> =
        fields.iter().zip(batch.columns()).map(|(field, given)| changed(field.name(), given)).collect();
    for (field, column) in fields.iter_mut().zip(&columns) {
        *field = Arc::new(Field::new(field.name(), column.data_type().clone(), true));
    }
    fields.push(Arc::new(Field::new("model_version", DataType::Utf8, false)));
    columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(version, batch.num_rows()))));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
