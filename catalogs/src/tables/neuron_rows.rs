//! Tables of stored results about neurons, read a layer at a time.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::internal_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, TryFutureExt};
use neuroql_model::Model;
use neuroql_pipeline::Selection;
use neuroql_schema::sql_error;

use crate::state::{AnalysedLayers, EngineState};
use crate::tables::model_table::Scan;
use crate::tables::predicate::{NeuronSelection, Predicate, supports_columns};

/// Some neurons of a layer, over one dataset if it was analysed.
#[derive(Debug, Clone)]
pub(crate) struct LayerPart {
    pub layer: u32,
    pub dataset: Option<String>,
    /// Numbers of the neurons, ascending.
    pub neurons: Vec<u32>,
    /// Expert of each neuron, if it is of one.
    pub experts: Vec<Option<usize>>,
}

/// Makes rows, with the columns of a schema, of a part and the store's rows of its layer: statistics, and scores of
/// graphs if they are needed.
pub(crate) type RowMapper =
    fn(&LayerPart, Option<&RecordBatch>, Option<&RecordBatch>, &SchemaRef) -> Result<RecordBatch>;

/// Columns that come from a layer's graphs.
pub(crate) const OF_GRAPHS: [&str; 4] = ["nodes", "precision", "recall", "f1"];

/// Pushes down filters on the place of a neuron: they choose the rows that are read.
pub(crate) fn supports_place(filter: &Expr) -> TableProviderFilterPushDown {
    supports_columns(filter, &["layer", "neuron"])
}

/// Scans a table of this kind; layers that were not analysed have rows only if `unknown` is true.
pub(crate) fn of_kept(
    model: &Arc<Model>,
    scan: Scan<'_>,
    schema: SchemaRef,
    unknown: bool,
    make: RowMapper,
) -> Result<Arc<dyn ExecutionPlan>> {
    let places = selection(model, &scan, &schema)?;
    let stream = partition(model, &scan, schema, places, unknown, make)?;
    let schema = Arc::clone(stream.schema());
    Ok(Arc::new(StreamingTableExec::try_new(schema, vec![stream], None, [], false, scan.limit)?))
}

/// Neurons that a scan reads.
pub(crate) fn selection(model: &Model, scan: &Scan<'_>, schema: &SchemaRef) -> Result<NeuronSelection> {
    NeuronSelection::new(model, Predicate::compile(scan.filters, schema, scan.session)?)
}

/// Reads the rows of a scan, of which [`of_kept`] makes a plan.
pub(crate) fn partition(
    model: &Arc<Model>,
    scan: &Scan<'_>,
    schema: SchemaRef,
    places: NeuronSelection,
    unknown: bool,
    make: RowMapper,
) -> Result<Arc<dyn PartitionStream>> {
    let (model, engine) = (Arc::clone(model), Arc::clone(scan.engine));
    let schema = match scan.projection {
        Some(columns) => Arc::new(schema.project(columns)?),
        None => schema,
    };
    let graphs = OF_GRAPHS.iter().any(|name| schema.index_of(name).is_ok());
    let analysed = Arc::new(AnalysedLayers::default());
    Ok(Arc::new(NeuronPartition { model, engine, schema, places, analysed, unknown, graphs, make }))
}

/// Splits a selection into parts by the datasets that are analysed now.
async fn parts(
    engine: &EngineState,
    model: &Model,
    analysed: &AnalysedLayers,
    places: Selection,
    unknown: bool,
) -> Result<Vec<LayerPart>> {
    let analysed = analysed.of(engine, model).await?;
    let mut parts = Vec::new();
    for (layer, neurons) in places {
        let layer = layer as u32;
        let neurons = neurons.unwrap_or_else(|| (0..model.neurons_per_layer() as u32).collect());
        let part = |dataset: Option<&String>| LayerPart {
            layer,
            dataset: dataset.cloned(),
            neurons: neurons.clone(),
            experts: neurons.iter().map(|neuron| model.expert_of(layer as usize, *neuron)).collect(),
        };
        let datasets: BTreeSet<&String> =
            analysed.iter().filter(|(_, layers)| layers.contains(&layer)).map(|(dataset, _)| dataset).collect();
        if datasets.is_empty() && unknown {
            parts.push(part(None));
        }
        for dataset in datasets {
            parts.push(part(Some(dataset)));
        }
    }
    Ok(parts)
}

/// Takes the values of these neurons from a column of the store, which has one a neuron, in order.
pub(crate) fn take_neurons(kept: &ArrayRef, neurons: &[u32]) -> Result<ArrayRef> {
    if let Some(last) = neurons.last().filter(|last| **last as usize >= kept.len()) {
        return internal_err!("the store has {} neurons of a layer and not the neuron {last}", kept.len());
    }
    match neurons {
        neurons if neurons.len() == kept.len() => Ok(Arc::clone(kept)),
        [one] => Ok(kept.slice(*one as usize, 1)),
        neurons => Ok(take(kept, &UInt32Array::from_iter_values(neurons.iter().copied()), None)?),
    }
}

/// Makes a batch of columns, of which there may be none.
pub(crate) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

struct NeuronPartition {
    model: Arc<Model>,
    engine: Arc<EngineState>,
    schema: SchemaRef,
    places: NeuronSelection,
    analysed: Arc<AnalysedLayers>,
    /// True if layers that were not analysed have rows.
    unknown: bool,
    /// True if scores of graphs are needed.
    graphs: bool,
    make: RowMapper,
}

impl fmt::Debug for NeuronPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("NeuronPartition");
        out.field("model", &self.model.name());
        if let Some(layers) = self.places.layers() {
            out.field("layers", &layers);
        }
        out.finish()
    }
}

impl PartitionStream for NeuronPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (engine, model) = (Arc::clone(&self.engine), Arc::clone(&self.model));
        let (unknown, graphs, make) = (self.unknown, self.graphs, self.make);
        let (places, schema) = (self.places.select(&model), Arc::clone(&self.schema));
        let analysed = Arc::clone(&self.analysed);
        let rows = async move {
            let parts = parts(&engine, &model, &analysed, places?, unknown).await?;
            let rows = futures::stream::iter(parts).then(move |part| {
                let (engine, model, schema) = (Arc::clone(&engine), Arc::clone(&model), Arc::clone(&schema));
                async move {
                    let kept = match &part.dataset {
                        Some(dataset) => {
                            Some(engine.store.neurons(model.name(), dataset, part.layer).await.map_err(sql_error)?)
                        }
                        None => None,
                    };
                    let graphs = match graphs {
                        true => Some(engine.resources.graph_scores(&model, part.layer).await?),
                        false => None,
                    };
                    make(&part, kept.as_ref(), graphs.as_ref(), &schema)
                }
            });
            Ok::<_, DataFusionError>(rows)
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows.try_flatten_stream()))
    }
}
