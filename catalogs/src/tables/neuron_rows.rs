//! Tables of what the store keeps of each neuron, read a layer at a time.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::StreamExt;
use neuroql_model::Model;
use neuroql_schema::sql_error;

use crate::state::EngineState;
use crate::tables::model_table::Scan;
use crate::tables::predicate::{Predicate, can_evaluate, select_neurons};

/// Some neurons of a layer, over one dataset if it was analysed.
#[derive(Debug, Clone)]
pub(crate) struct LayerPart {
    pub layer: u32,
    pub dataset: Option<String>,
    /// Ascending.
    pub neurons: Vec<u32>,
}

/// Makes rows of a part and what the store keeps of its layer: statistics, and scores of graphs if they were asked for.
pub(crate) type MakeRows = fn(&LayerPart, Option<&RecordBatch>, Option<&RecordBatch>) -> Result<RecordBatch>;

/// Columns of a layer's graphs.
pub(crate) const OF_GRAPHS: [&str; 4] = ["nodes", "precision", "recall", "f1"];

/// Filters on the place of a neuron say which rows are read.
pub(crate) fn supports_place(filter: &Expr) -> TableProviderFilterPushDown {
    let of_place = filter.column_refs().iter().all(|column| ["layer", "neuron"].contains(&column.name.as_str()));
    match of_place && can_evaluate(filter) {
        true => TableProviderFilterPushDown::Exact,
        false => TableProviderFilterPushDown::Unsupported,
    }
}

/// The rows of a table of this kind; layers that were not analysed have rows only if `unknown` says so.
pub(crate) async fn of_kept(
    model: &Arc<Model>,
    scan: Scan<'_>,
    schema: SchemaRef,
    unknown: bool,
    make: MakeRows,
) -> Result<Arc<dyn ExecutionPlan>> {
    let predicate = Predicate::compile(scan.filters, &schema, scan.session)?;
    let analysed = scan.engine.analysed(model).await?;
    let mut parts = Vec::new();
    for (layer, neurons) in select_neurons(model, &predicate)? {
        let layer = layer as u32;
        let neurons = neurons.unwrap_or_else(|| (0..model.config().d_mlp as u32).collect());
        let datasets: BTreeSet<&String> =
            analysed.iter().filter(|(_, layers)| layers.contains(&layer)).map(|(dataset, _)| dataset).collect();
        if datasets.is_empty() && unknown {
            parts.push(LayerPart { layer, dataset: None, neurons: neurons.clone() });
        }
        for dataset in datasets {
            parts.push(LayerPart { layer, dataset: Some(dataset.clone()), neurons: neurons.clone() });
        }
    }
    let (model, engine) = (Arc::clone(model), Arc::clone(scan.engine));
    let graphs = OF_GRAPHS.iter().filter_map(|name| schema.index_of(name).ok());
    let graphs = graphs.into_iter().any(|column| scan.projection.is_none_or(|columns| columns.contains(&column)));
    let stream = Arc::new(Kept { model, engine, schema: Arc::clone(&schema), parts, graphs, make });
    let exec = StreamingTableExec::try_new(schema, vec![stream], scan.projection, [], false, scan.limit)?;
    Ok(Arc::new(exec))
}

/// The rows of these neurons; the store has one a neuron, in order.
pub(crate) fn take_neurons(kept: &RecordBatch, neurons: &[u32]) -> Result<RecordBatch> {
    if neurons.len() == kept.num_rows() {
        return Ok(kept.clone());
    }
    let indices = UInt32Array::from_iter_values(neurons.iter().copied());
    Ok(take_record_batch(kept, &indices)?)
}

struct Kept {
    model: Arc<Model>,
    engine: Arc<EngineState>,
    schema: SchemaRef,
    parts: Vec<LayerPart>,
    /// True if scores of graphs are asked for.
    graphs: bool,
    make: MakeRows,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("model", &self.model.name()).field("parts", &self.parts.len()).finish()
    }
}

impl PartitionStream for Kept {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (engine, model) = (Arc::clone(&self.engine), Arc::clone(&self.model));
        let (graphs, make) = (self.graphs, self.make);
        let rows = futures::stream::iter(self.parts.clone()).then(move |part| {
            let (engine, model) = (Arc::clone(&engine), Arc::clone(&model));
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
                make(&part, kept.as_ref(), graphs.as_ref())
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}
