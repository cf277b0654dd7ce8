//! Examples of the store that others have published, after those of analyses.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use neuroql_model::Model;
use neuroql_pipeline::{RowFilter, Selection};
use neuroql_schema::sql_error;
use neuroql_store::ExampleKey;

use super::schema;
use crate::state::EngineState;
use crate::tables::neuron_rows::batch;
use crate::tables::predicate::{NeuronSelection, Predicate};

/// Neurons whose examples are read at once.
const NEURONS: usize = 128;

/// Reads the examples of analyses, then those that were published.
pub(super) struct ExamplesPartition {
    pub analysed: Arc<dyn PartitionStream>,
    pub model: Arc<Model>,
    pub engine: Arc<EngineState>,
    pub places: NeuronSelection,
}

impl fmt::Debug for ExamplesPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.analysed.fmt(f)
    }
}

impl PartitionStream for ExamplesPartition {
    fn schema(&self) -> &SchemaRef {
        self.analysed.schema()
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (model, engine) = (Arc::clone(&self.model), Arc::clone(&self.engine));
        let schema = Arc::clone(self.schema());
        let columns = Arc::clone(&schema);
        let published = match self.places.select(&model) {
            Ok(places) => published(model, engine, places).map(move |rows| select(&rows?, &columns)).boxed(),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        };
        let rows = self.analysed.execute(context).chain(published);
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

/// Takes the columns of a schema from rows of the store.
fn select(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| Ok(cast(&rows[field.name().as_str()], field.data_type())?));
    batch(schema, columns.collect::<Result<_>>()?, rows.num_rows())
}

/// Rows of the store of some neurons, as many at once as are not too large together.
fn published(
    model: Arc<Model>,
    engine: Arc<EngineState>,
    places: Selection,
) -> BoxStream<'static, Result<RecordBatch>> {
    let width = model.neurons_per_layer() as u32;
    let layers = futures::stream::iter(places).then(move |(layer, neurons)| {
        let (model, engine) = (Arc::clone(&model), Arc::clone(&engine));
        async move {
            let is_there = engine.store.has_examples(model.name(), layer as u32).await.map_err(sql_error)?;
            let neurons = if is_there { neurons.unwrap_or_else(|| (0..width).collect()) } else { Vec::new() };
            let chunks: Vec<Vec<u32>> = neurons.chunks(NEURONS).map(<[u32]>::to_vec).collect();
            let rows = futures::stream::iter(chunks).then(move |neurons| {
                let (model, engine) = (Arc::clone(&model), Arc::clone(&engine));
                async move {
                    let version = model.version();
                    let rows = engine.store.examples(model.name(), &version, layer as u32, &neurons);
                    rows.await.map_err(sql_error)
                }
            });
            Ok::<_, DataFusionError>(rows)
        }
    });
    layers.try_flatten().boxed()
}

/// Keys of the published examples that a predicate lets pass.
pub(super) async fn deleted(
    model: &Arc<Model>,
    engine: &Arc<EngineState>,
    predicate: &Predicate,
) -> Result<Vec<ExampleKey>> {
    let places = (0..model.config().layers).map(|layer| (layer, None)).collect();
    let mut rows = published(Arc::clone(model), Arc::clone(engine), places);
    let mut deleted = Vec::new();
    while let Some(rows) = rows.try_next().await? {
        let keys = ExampleKey::of_rows(&rows).map_err(sql_error)?.into_iter();
        let matches = predicate.evaluate(&select(&rows, &schema())?)?;
        deleted.extend(keys.zip(matches.iter()).filter_map(|(key, matches)| matches?.then_some(key)));
    }
    Ok(deleted)
}
