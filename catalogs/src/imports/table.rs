//! The tables of an import, read while a query runs.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::utils::{Guarantee, LiteralGuarantee, collect_columns};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::scalar::ScalarValue;
use futures::future::BoxFuture;
use neuroql_formats::{Item, LayerSelection, Reject, Request, Row, Table};
use neuroql_pipeline::RowFilter;
use neuroql_schema::Rights;
use tokio::sync::mpsc::Sender;

use super::{Import, columns, schemas};
use crate::Error;
use crate::async_method::async_method;
use crate::tables::graphs;
use crate::tables::predicate::{Predicate, can_evaluate};

/// Rows of a batch, at most.
const ROWS: usize = 1024;

/// Bytes of the rows of a batch, about, at most.
const BYTES: usize = 4 << 20;

/// A kind of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Rows of the files.
    Rows(Table),
    /// The nodes of its graphs.
    GraphNodes,
    /// Facts about the model.
    Models,
    /// Rows of all tables that cannot be read.
    Rejects,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Rows(table) => table.name(),
            Kind::GraphNodes => "graph_nodes",
            Kind::Models => "models",
            Kind::Rejects => "rejects",
        }
    }
}

/// A table of an import.
#[derive(Debug)]
pub(crate) struct ImportTable {
    pub import: Arc<Import>,
    pub kind: Kind,
}

impl TableProvider for ImportTable {
    fn schema(&self) -> SchemaRef {
        schemas::schema(self.kind)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_table_definition(&self) -> Option<&str> {
        self.import.definition.as_deref()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match is_of_place(filter) && self.kind != Kind::Models {
            // They choose the files that are read, which may have rows that they do not let pass.
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async_method!(scan => plan);
}

/// Returns true if a filter is on the layer alone, or on the neuron alone.
fn is_of_place(filter: &Expr) -> bool {
    let columns = filter.column_refs();
    let names = |name: &str| columns.iter().all(|column| column.name == name);
    !columns.is_empty() && (names("layer") || names("neuron")) && can_evaluate(filter)
}

impl ImportTable {
    fn plan<'a>(
        &'a self,
        session: &'a dyn Session,
        projection: Option<&'a Vec<usize>>,
        filters: &'a [Expr],
        limit: Option<usize>,
    ) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            Rights::of(session.config_options()).check_schema(&self.import.name)?;
            let whole = self.schema();
            if self.kind == Kind::Models {
                let batch = self.import.model_row(&whole)?;
                return Ok(MemorySourceConfig::try_new_exec(&[vec![batch]], whole, projection.cloned())?
                    as Arc<dyn ExecutionPlan>);
            }
            let predicate = Predicate::compile(filters, &whole, session)?;
            let schema = match projection {
                Some(columns) => Arc::new(whole.project(columns)?),
                None => whole,
            };
            let (import, kind) = (Arc::clone(&self.import), self.kind);
            let scan = Arc::new(ImportScan { import, kind, schema: Arc::clone(&schema), predicate });
            Ok(Arc::new(StreamingTableExec::try_new(schema, vec![scan], None, [], false, limit)?)
                as Arc<dyn ExecutionPlan>)
        })
    }
}

impl Import {
    /// The row of `models`: what its publisher says of the model.
    fn model_row(&self, schema: &SchemaRef) -> Result<RecordBatch> {
        let known = self.source.description();
        let text = |value: &Option<String>| -> ArrayRef { Arc::new(StringArray::from(vec![value.clone()])) };
        let int =
            |value: Option<u32>| -> ArrayRef { Arc::new(Int32Array::from(vec![value.map(|value| value as i32)])) };
        let column = |field: &Field| match field.name().as_str() {
            "model" => text(&known.name),
            "layers" => int(known.layers),
            "neurons_per_layer" => int(known.neurons_per_layer),
            "activation_function" => text(&known.activation_function),
            "parameters" => Arc::new(Int64Array::from(vec![known.parameters])),
            "dataset" => text(&known.dataset),
            "location" => text(&Some(self.location.clone())),
            _ => new_null_array(field.data_type(), 1),
        };
        let columns = schema.fields().iter().map(|field| column(field)).collect();
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }

    /// Layers and neurons that a predicate lets pass; there may be nothing of some.
    fn select(&self, predicate: &Predicate) -> Result<Vec<LayerSelection>> {
        let of = |name: &str| {
            let parts = predicate.parts().iter();
            let parts = parts.filter(|part| collect_columns(part).iter().any(|column| column.name() == name));
            Predicate::new(parts.cloned().collect())
        };
        let passing = |name: &str, numbers: &mut dyn Iterator<Item = u32>| -> Result<Option<Arc<[u32]>>> {
            let predicate = of(name);
            if predicate.is_empty() {
                return Ok(None);
            }
            let numbers: Vec<u32> = numbers.collect();
            let schema = Arc::new(Schema::new(vec![Field::new(name, DataType::Int32, false)]));
            let column = Int32Array::from_iter_values(numbers.iter().map(|number| *number as i32));
            let mask = predicate.evaluate(&RecordBatch::try_new(schema, vec![Arc::new(column)])?)?;
            Ok(Some(mask.values().set_indices().map(|index| numbers[index]).collect()))
        };
        let layers = self.source.layers().map_err(Error::from)?;
        let width = self.source.width();
        let neurons = match named(predicate, "neuron") {
            Some(neurons) => passing("neuron", &mut neurons.into_iter().filter(|neuron| *neuron < width))?,
            None => passing("neuron", &mut (0..width))?,
        };
        let layers = match passing("layer", &mut layers.iter().copied())? {
            Some(passing) => passing.to_vec(),
            None => layers,
        };
        Ok(layers.into_iter().map(|layer| LayerSelection { layer, neurons: neurons.clone() }).collect())
    }
}

/// Numbers of a column outside of which a predicate lets nothing pass, in ascending order; `None` if it does not name
/// them.
fn named(predicate: &Predicate, column: &str) -> Option<BTreeSet<u32>> {
    let mut guarantees = predicate.parts().iter().flat_map(LiteralGuarantee::analyze);
    let named = guarantees.find(|found| found.guarantee == Guarantee::In && found.column.name == column)?;
    let number = |value: &ScalarValue| match value {
        ScalarValue::Int32(number) => Some(number.and_then(|number| u32::try_from(number).ok())),
        _ => None,
    };
    // Of another type they are left to the predicate.
    let numbers: Option<Vec<Option<u32>>> = named.literals.iter().map(number).collect();
    numbers.map(|numbers| numbers.into_iter().flatten().collect())
}

/// A scan of a table.
struct ImportScan {
    import: Arc<Import>,
    kind: Kind,
    schema: SchemaRef,
    predicate: Predicate,
}

impl fmt::Debug for ImportScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { import, kind, predicate, .. } = self;
        write!(f, "{}.{}", import.name, kind.name())?;
        if predicate.is_empty() { Ok(()) } else { write!(f, " files of {predicate}") }
    }
}

impl PartitionStream for ImportScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), 2);
        let reader = Reader {
            import: Arc::clone(&self.import),
            kind: self.kind,
            schema: Arc::clone(&self.schema),
            sender: builder.tx(),
            rows: Vec::new(),
            bytes: 0,
            rejects: Vec::new(),
            rejected: 0,
        };
        let predicate = self.predicate.clone();
        builder.spawn_blocking(move || reader.run(&predicate));
        builder.build()
    }
}

/// Reads rows on a thread that may wait, and sends them in batches.
struct Reader {
    import: Arc<Import>,
    kind: Kind,
    schema: SchemaRef,
    sender: Sender<Result<RecordBatch>>,
    rows: Vec<Row>,
    bytes: usize,
    rejects: Vec<Reject>,
    /// Number of rows that could not be read.
    rejected: usize,
}

impl Reader {
    fn run(mut self, predicate: &Predicate) -> Result<()> {
        let import = Arc::clone(&self.import);
        let selection = import.select(predicate)?;
        let tables = match self.kind {
            Kind::Rows(table) => vec![table],
            Kind::GraphNodes => vec![Table::Graphs],
            // Scores are rows of the explanations.
            Kind::Rejects => {
                import.source.tables().into_iter().filter(|table| *table != Table::ExplanationScores).collect()
            }
            Kind::Models => Vec::new(),
        };
        let schema = Arc::clone(&self.schema);
        let columns: Vec<&str> = match self.kind {
            // What each table would read.
            Kind::Rejects => vec!["max_activation", "mean", "nodes", "precision"],
            _ => schema.fields().iter().map(|field| field.name().as_str()).collect(),
        };
        for table in tables {
            let request = Request { table, selection: selection.clone(), columns: &columns };
            let mut failed = None;
            let mut sink = |item| match self.take(item) {
                Ok(flow) => flow,
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            };
            import.source.scan(&request, &mut sink).map_err(Error::from)?;
            if let Some(error) = failed {
                return Err(error);
            }
        }
        let _ = self.send()?;
        if self.rejected > 0 && self.kind != Kind::Rejects {
            let (name, table) = (&import.name, self.kind.name());
            tracing::warn!(rejected = self.rejected, "{name}.{table}: rows that cannot be read are in {name}.rejects");
        }
        Ok(())
    }

    fn take(&mut self, item: Item) -> Result<ControlFlow<()>> {
        if self.sender.is_closed() {
            return Ok(ControlFlow::Break(()));
        }
        match item {
            Item::Reject(reject) if self.kind == Kind::Rejects => self.rejects.push(reject),
            Item::Row(row) if self.kind != Kind::Rejects => {
                self.bytes += bytes(&row);
                self.rows.push(row);
            }
            Item::Reject(_) => self.rejected += 1,
            Item::Row(_) => {}
        }
        let is_full = self.rows.len() >= ROWS || self.rejects.len() >= ROWS || self.bytes >= BYTES;
        if is_full { self.send() } else { Ok(ControlFlow::Continue(())) }
    }

    /// Sends the rows that have been read.
    fn send(&mut self) -> Result<ControlFlow<()>> {
        let (mut rows, rejects) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.rejects));
        self.bytes = 0;
        if rows.is_empty() && rejects.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let (vocabulary, dataset) =
            (self.import.vocabulary.as_deref(), self.import.source.description().dataset.as_deref());
        let batch = match self.kind {
            Kind::Rejects => columns::of_rejects(&rejects, &self.schema)?,
            Kind::GraphNodes => {
                let schema = schemas::schema(Kind::Rows(Table::Graphs));
                let nodes = graphs::node_rows(&columns::of_rows(&mut rows, &schema, vocabulary, dataset)?)?;
                let own = self.schema.fields().iter().map(|field| nodes.schema_ref().index_of(field.name()));
                nodes.project(&own.collect::<Result<Vec<_>, _>>()?)?
            }
            _ => columns::of_rows(&mut rows, &self.schema, vocabulary, dataset)?,
        };
        match self.sender.blocking_send(Ok(batch)) {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(_) => Ok(ControlFlow::Break(())),
        }
    }
}

/// Bytes that a row takes, about.
fn bytes(row: &Row) -> usize {
    match row {
        Row::Example(row) => row.tokens.iter().map(|token| token.len() + 32).sum::<usize>() + 4 * row.activations.len(),
        Row::Graph(row) => row.graph.as_ref().map_or(64, |graph| 64 * graph.nodes().len()),
        Row::Explanation(row) => row.text.len() + 64,
        _ => 64,
    }
}
