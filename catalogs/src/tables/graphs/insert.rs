//! `INSERT INTO model.graphs`

use std::fmt;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Int32Type, Schema, TimestampMicrosecondType};
use datafusion::error::Result;
use futures::future::BoxFuture;
use neuroql_model::Model;
use neuroql_schema::graph_column::{GraphBuilder, GraphColumn};
use neuroql_schema::sql_error;

use super::graph_check::Vocabulary;
use crate::Error;
use crate::state::EngineState;
use crate::tables::graph_error::InvalidGraph;
use crate::tables::insert::RowWriter;

/// Method of a graph if its row names none.
const METHOD: &str = "custom";

/// Writes graphs of a model.
pub(super) struct GraphWriter {
    pub model: Arc<Model>,
    pub engine: Arc<EngineState>,
    /// Read when the first row is checked.
    pub vocabulary: OnceLock<Vocabulary>,
}

impl fmt::Debug for GraphWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphWriter").field("model", &self.model.name()).finish_non_exhaustive()
    }
}

impl RowWriter for GraphWriter {
    fn target(&self) -> String {
        format!("graphs of {}", self.model.name())
    }

    fn check(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        checked(&self.model, self.vocabulary.get_or_init(|| Vocabulary::of(&self.model)), rows)
    }

    fn put<'a>(&'a self, rows: &'a RecordBatch) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.engine.store.put_graphs(self.model.name(), rows).await.map_err(sql_error) })
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

    let missing = |value| Error::MissingValue { table: "graphs", value };
    let mut builder = GraphBuilder::default();
    let (mut nodes, mut patterns, mut tokens, mut lengths) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in 0..batch.num_rows() {
        let place =
            |column: &Int32Array, name| column.is_valid(row).then(|| i64::from(column.value(row))).ok_or(missing(name));
        let layer = model.check_layer(place(&layers, "a layer")?).map_err(sql_error)?;
        let neuron = model.check_neuron(place(&neurons, "a neuron")?).map_err(sql_error)?;
        let unfit = |reason: InvalidGraph| Error::Graph { layer: layer as u32, neuron, reason: Box::new(reason) };
        let graph = graphs.graph(row).map_err(|error| unfit(error.into()))?;
        if graph.is_none() && reasons.is_null(row) {
            return Err(missing("a graph, or a reason why it has none").into());
        }
        let graph = graph.map(|graph| vocabulary.bind(&graph)).transpose().map_err(unfit)?;
        nodes.push(graph.as_ref().map(|graph| graph.nodes().len() as i32));
        patterns.push(graph.as_ref().map(|graph| graph.patterns() as i32));
        tokens.push(graph.as_ref().map(|graph| graph.tokens() as i32));
        lengths.push(graph.as_ref().map(|graph| graph.description_length() as f32));
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
            "named_tokens" => Arc::new(Int32Array::from(tokens.clone())),
            "description_length" => Arc::new(Float32Array::from(lengths.clone())),
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
