//! `graphs`: the graphs of neurons, one row a neuron and method, or the reason why there is no graph.
//!
//! Rows come from the store and from the program itself, as far as they are of the model as it is loaded. `INSERT`
//! puts rows into the store, in the place of those of the same neuron and method; `DELETE`
//! removes them.

use std::fmt;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{RecordBatch, new_null_array};
use datafusion::arrow::compute::{cast, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
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
use neuroql_schema::graph_column::graph_type;
use neuroql_schema::{Role, sql_error};
use neuroql_store::GraphKey;

use crate::state::EngineState;
use crate::tables;
use crate::tables::model_table::{ModelTable, Scan};
use crate::tables::neuron_rows::supports_place;
use crate::tables::predicate::{NeuronSelection, Predicate, supports_columns};

mod graph_check;
mod insert;
mod nodes;

use insert::GraphWriter;
pub(crate) use nodes::{GraphNodes, rows as node_rows, schema as nodes_schema};

/// Rows of the store that become a batch.
const ROWS: usize = 256;

/// Table `graphs`.
#[derive(Debug)]
pub(crate) struct Graphs;

/// The columns, which are those that `build_graphs` returns, in the same order: `INSERT … SELECT *` goes by position.
pub(crate) fn schema() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let real = |name: &str| field(name, DataType::Float32);
    Arc::new(Schema::new(vec![
        field("layer", DataType::Int32),
        field("neuron", DataType::Int32),
        field("graph", graph_type()),
        field("nodes", DataType::Int32),
        field("patterns", DataType::Int32),
        real("max_activation"),
        real("precision"),
        real("recall"),
        real("f1"),
        real("accuracy"),
        real("r2"),
        real("pearson"),
        real("random_precision"),
        real("random_recall"),
        field("method", DataType::Utf8),
        field("dataset", DataType::Utf8),
        real("seconds"),
        field("built_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        field("reason", DataType::Utf8),
        field("options", DataType::Utf8),
        field("positives", DataType::Int32),
        field("random_positives", DataType::Int32),
        field("random_predictions", DataType::Int32),
        field("named_tokens", DataType::Int32),
        real("description_length"),
    ]))
}

/// Columns of the store's rows in the types of a schema; those that were not read are NULL.
pub(crate) fn select(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| match rows.column_by_name(field.name()) {
        Some(column) => Ok(cast(column, field.data_type())?),
        None => Ok(new_null_array(field.data_type(), rows.num_rows())),
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_>>()?)?)
}

impl ModelTable for Graphs {
    fn name(&self) -> &'static str {
        "graphs"
    }

    fn schema(&self, _: Option<&Model>) -> SchemaRef {
        schema()
    }

    fn supports_filter(&self, filter: &Expr) -> TableProviderFilterPushDown {
        supports_key(filter)
    }

    fn is_read_at_execution(&self) -> bool {
        true
    }

    fn scan<'a>(&'a self, model: &'a Arc<Model>, scan: Scan<'a>) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            let schema = schema();
            let graph = schema.index_of("graph")?;
            let whole = scan.projection.is_none_or(|columns| columns.contains(&graph));
            of_graphs(model, scan, schema, GraphProjection { whole, tokens: None }, |rows| {
                select(rows, &self::schema())
            })
        })
    }

    /// Graphs that somebody has built.
    fn insert_requires(&self) -> Role {
        Role::Analyst
    }

    fn insert(
        &self,
        model: &Arc<Model>,
        engine: &Arc<EngineState>,
        input: Arc<dyn ExecutionPlan>,
        op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (model, engine) = (Arc::clone(model), Arc::clone(engine));
        tables::insert::plan(input, schema(), op, GraphWriter { model, engine, vocabulary: OnceLock::new() })
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
            let whole = predicate.columns().contains("graph");
            let version = model.version();
            let mut deleted = Vec::new();
            for layer in 0..model.config().layers as u32 {
                // Graphs that are part of the program cannot be deleted.
                let stored = engine.store.stored_graphs(model.name(), &version, layer).await.map_err(sql_error)?;
                if stored.is_empty() {
                    continue;
                }
                let rows = match whole {
                    true => engine.resources.graphs(model, layer, None).await?,
                    false => engine.resources.graph_scores(model, layer).await?,
                };
                let rows = select(&rows, &self::schema())?;
                let matches = predicate.evaluate(&rows)?;
                let keys = GraphKey::of_rows(&rows).map_err(sql_error)?.into_iter().zip(matches.iter());
                deleted.extend(keys.filter_map(|(key, matches)| (matches? && stored.contains(&key)).then_some(key)));
            }
            engine.store.delete_graphs(model.name(), &deleted).await.map_err(sql_error)?;
            Ok(deleted.len() as u64)
        })
    }
}

/// Pushes down filters on the key of a row: they choose the rows that are read.
fn supports_key(filter: &Expr) -> TableProviderFilterPushDown {
    supports_columns(filter, &["layer", "neuron", "method"])
}

/// Returns the layers and neurons that filters leave.
fn places(model: &Model, filters: &[Expr], schema: &SchemaRef, scan: Scan<'_>) -> Result<NeuronSelection> {
    let of_place = filters.iter().filter(|f| supports_place(f) == TableProviderFilterPushDown::Exact).cloned();
    let places = Predicate::compile(&of_place.collect::<Vec<_>>(), schema, scan.session)?;
    NeuronSelection::new(model, places)
}

/// Makes rows of a table from rows of the store.
type RowMapper = fn(&RecordBatch) -> Result<RecordBatch>;

/// Graphs that a table reads.
struct GraphProjection {
    /// True to read the graphs themselves, not only the columns about them.
    whole: bool,
    /// Tokens of which a graph must have one; others may be read too.
    tokens: Option<Vec<String>>,
}

/// Scans a table made of the store's rows of graphs.
fn of_graphs(
    model: &Arc<Model>,
    scan: Scan<'_>,
    schema: SchemaRef,
    wanted: GraphProjection,
    make: RowMapper,
) -> Result<Arc<dyn ExecutionPlan>> {
    let is_of_key = |filter: &&Expr| supports_key(filter) == TableProviderFilterPushDown::Exact;
    let of_keys: Vec<Expr> = scan.filters.iter().filter(is_of_key).cloned().collect();
    let rows = Arc::new(GraphPartition {
        model: Arc::clone(model),
        engine: Arc::clone(scan.engine),
        schema: Arc::clone(&schema),
        places: places(model, scan.filters, &self::schema(), scan)?,
        predicate: Predicate::compile(&of_keys, &self::schema(), scan.session)?,
        wanted,
        make,
    });
    Ok(Arc::new(StreamingTableExec::try_new(schema, vec![rows], scan.projection, [], false, scan.limit)?))
}

struct GraphPartition {
    model: Arc<Model>,
    engine: Arc<EngineState>,
    schema: SchemaRef,
    places: NeuronSelection,
    /// Predicate on the columns of a row's key.
    predicate: Predicate,
    wanted: GraphProjection,
    make: RowMapper,
}

impl fmt::Debug for GraphPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Graphs");
        out.field("model", &self.model.name());
        if let Some(layers) = self.places.layers() {
            out.field("layers", &layers);
        }
        if !self.predicate.is_empty() {
            out.field("where", &self.predicate.to_string());
        }
        if let Some(tokens) = &self.wanted.tokens {
            out.field("indexed_tokens", tokens);
        }
        out.field("graphs", &self.wanted.whole).finish()
    }
}

impl PartitionStream for GraphPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (model, engine) = (Arc::clone(&self.model), Arc::clone(&self.engine));
        let (predicate, whole, make) = (self.predicate.clone(), self.wanted.whole, self.make);
        let tokens = self.wanted.tokens.clone();
        let places = futures::future::ready(self.places.select(&self.model));
        let rows = places
            .map_ok(|places| futures::stream::iter(places).map(Ok))
            .try_flatten_stream()
            .and_then(move |(layer, neurons)| {
                let (model, engine, predicate) = (Arc::clone(&model), Arc::clone(&engine), predicate.clone());
                let (layer, tokens) = (layer as u32, tokens.clone());
                async move {
                    let neurons = match tokens {
                        Some(tokens) => {
                            let having = engine.resources.graph_index(&model).await?.neurons_with(&tokens, layer);
                            Some(having.into_iter().filter(|n| is_among(neurons.as_deref(), *n)).collect())
                        }
                        None => neurons,
                    };
                    let rows = match (whole, &neurons) {
                        (_, Some(neurons)) if neurons.is_empty() => RecordBatch::new_empty(self::schema()),
                        (true, neurons) => engine.resources.graphs(&model, layer, neurons.as_deref()).await?,
                        (false, _) => engine.resources.graph_scores(&model, layer).await?,
                    };
                    let rows = filter_record_batch(&rows, &predicate.evaluate(&rows)?)?;
                    let parts = (0..rows.num_rows()).step_by(ROWS);
                    let parts: Vec<_> =
                        parts.map(|first| rows.slice(first, ROWS.min(rows.num_rows() - first))).collect();
                    Ok::<_, DataFusionError>(futures::stream::iter(parts).map(move |part| make(&part)))
                }
            })
            .try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}

/// Returns true if a neuron is among some, which ascend; `None` stands for all.
fn is_among(neurons: Option<&[u32]>, neuron: u32) -> bool {
    neurons.is_none_or(|neurons| neurons.binary_search(&neuron).is_ok())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::compute::can_cast_types;
    use neuroql_store::Store;

    use super::*;

    /// The columns that are shown are those stored, save the name of a list's elements.
    #[tokio::test]
    async fn the_store_has_these_columns() {
        let store = Store::in_memory().unwrap();
        let stored = store.graphs("m", "v", 0, None).await.unwrap().schema();
        for field in schema().fields() {
            let kept = stored.field_with_name(field.name()).unwrap();
            match (kept.data_type(), field.data_type()) {
                (DataType::List(kept), DataType::List(field)) => assert_eq!(kept.data_type(), field.data_type()),
                (kept, field) => assert_eq!(kept, field),
            }
            assert!(can_cast_types(kept.data_type(), field.data_type()));
        }
        let own = ["model", "model_version"];
        let missing = stored.fields().iter().filter(|f| schema().index_of(f.name()).is_err());
        assert_eq!(missing.map(|f| f.name().as_str()).collect::<Vec<_>>(), own);
    }
}
