//! Rows of graphs that were built.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Float32Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::error::Result;
use neuroql_graph::Graph;
use neuroql_n2g::{NeuronOutcome, Scores};
use neuroql_schema::graph_column::GraphBuilder;
use neuroql_schema::sql_error;

use crate::error::Error;
use crate::tables::graphs;

/// Values that all rows of a batch share.
pub(super) struct BatchValues<'a> {
    pub layer: u32,
    pub method: &'a str,
    pub dataset: &'a str,
    /// Seconds per neuron.
    pub seconds: f32,
    pub options: &'a str,
}

/// Makes a row for each neuron; `greatest` are their greatest activations.
pub(super) fn batch(common: &BatchValues, built: &[NeuronOutcome], greatest: &[f32]) -> Result<RecordBatch> {
    let mut graphs_column = GraphBuilder::default();
    for built in built {
        let graph = built.outcome.as_ref().ok().map(|(graph, _)| graph);
        graphs_column.append(graph).map_err(sql_error)?;
    }
    let mut graphs_column: Option<ArrayRef> = Some(Arc::new(graphs_column.finish()?));
    let rows = built.len();
    let count = |f: &dyn Fn(&Graph) -> usize| -> ArrayRef {
        Arc::new(built.iter().map(|b| b.outcome.as_ref().ok().map(|(g, _)| f(g) as i32)).collect::<Int32Array>())
    };
    let score = |f: &dyn Fn(&Scores) -> Option<f32>| -> ArrayRef {
        Arc::new(built.iter().map(|b| b.outcome.as_ref().ok().and_then(|(_, s)| f(s))).collect::<Float32Array>())
    };
    let counted = |f: &dyn Fn(&Scores) -> u64| -> ArrayRef {
        Arc::new(built.iter().map(|b| b.outcome.as_ref().ok().map(|(_, s)| f(s) as i32)).collect::<Int32Array>())
    };
    let same = |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows))) };
    let schema = graphs::schema();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        columns.push(match field.name().as_str() {
            "layer" => Arc::new(Int32Array::from_value(common.layer as i32, rows)),
            "neuron" => Arc::new(Int32Array::from_iter_values(built.iter().map(|built| built.neuron as i32))),
            "graph" => graphs_column.take().ok_or_else(|| Error::Internal("two columns of graphs".into()))?,
            "nodes" => count(&|graph| graph.nodes().len()),
            "patterns" => count(&Graph::patterns),
            "max_activation" => {
                Arc::new(greatest.iter().map(|a| Some(*a).filter(|a| a.is_finite())).collect::<Float32Array>())
            }
            "precision" => score(&|s| s.precision),
            "recall" => score(&|s| s.recall),
            "f1" => score(&|s| s.f1),
            "accuracy" => score(&|s| s.accuracy),
            "r2" => score(&|s| s.r2),
            "pearson" => score(&|s| s.pearson),
            "random_precision" => score(&|s| s.random_precision),
            "random_recall" => score(&|s| s.random_recall),
            "positives" => counted(&|s| s.positives),
            "random_positives" => counted(&|s| s.random_positives),
            "random_predictions" => counted(&|s| s.random_predictions),
            "named_tokens" => count(&Graph::tokens),
            "description_length" => Arc::new(
                built
                    .iter()
                    .map(|b| b.outcome.as_ref().ok().map(|(graph, _)| graph.description_length() as f32))
                    .collect::<Float32Array>(),
            ),
            "method" => same(common.method),
            "dataset" => same(common.dataset),
            "seconds" => Arc::new(Float32Array::from_value(common.seconds, rows)),
            "built_at" => {
                let now = chrono::Utc::now().timestamp_micros();
                Arc::new(TimestampMicrosecondArray::from_value(now, rows).with_timezone("UTC"))
            }
            "reason" => Arc::new(
                built.iter().map(|b| b.outcome.as_ref().err().map(ToString::to_string)).collect::<StringArray>(),
            ),
            "options" => same(common.options),
            other => return Err(Error::Internal(format!("column {other} is not known of a build")).into()),
        });
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}
