//! Table functions whose rows are computed while they are read.

use std::fmt::{self, Debug, Display};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::future::BoxFuture;
use tokio::sync::mpsc::Sender;

use super::TableFunction;
use crate::async_method::async_method;

/// A call of a table function whose rows are computed while they are read, before the filters on them are known.
pub(crate) trait StreamingTableFunction: Debug + Send + Sync + 'static {
    /// Producer of the rows of one scan.
    type Producer: RowProducer;

    /// Columns of the rows.
    fn schema(&self) -> SchemaRef;

    /// Filter pushdown of [`StreamingTableFunction::producer`]; filters that it does not support are applied to its
    /// rows.
    fn supports(&self, _filter: &Expr) -> TableProviderFilterPushDown {
        TableProviderFilterPushDown::Unsupported
    }

    /// Returns the producer of the rows of a scan.
    fn producer<'a>(&'a self, session: &'a dyn Session, scan: ScanOptions<'a>)
    -> BoxFuture<'a, Result<Self::Producer>>;
}

/// Filters, projection and limit of a scan of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScanOptions<'a> {
    /// Filters that the call [supports](StreamingTableFunction::supports).
    pub filters: &'a [Expr],
    projection: Option<&'a Vec<usize>>,
    /// Number of rows to read at most.
    pub limit: Option<usize>,
}

impl ScanOptions<'_> {
    /// Returns true if a column is read.
    pub fn reads(&self, column: usize) -> bool {
        self.projection.is_none_or(|columns| columns.contains(&column))
    }
}

/// Computation of the rows of a scan. EXPLAIN shows its [`Display`].
pub(crate) trait RowProducer: Display + Send + Sync + 'static {
    /// Computes the rows and sends them as they come, until all are sent or [nobody listens](RowSender::send).
    fn run<'a>(&'a self, context: &'a Arc<TaskContext>, rows: &'a RowSender) -> BoxFuture<'a, Result<()>>;
}

/// Sender of the rows of a producer.
#[derive(Debug, Clone)]
pub(crate) struct RowSender {
    schema: SchemaRef,
    sender: Sender<Result<RecordBatch>>,
}

impl RowSender {
    /// Makes a batch of these columns.
    pub fn batch(&self, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// Sends rows. Returns false if nobody listens any more: the query has ended, and the producer should end too.
    pub async fn send(&self, rows: RecordBatch) -> bool {
        self.sender.send(Ok(rows)).await.is_ok()
    }

    /// Sends rows from a thread that may wait. Without rows it only returns true if anybody listens.
    pub fn send_from_thread(&self, rows: RecordBatch) -> bool {
        if rows.num_rows() == 0 { self.is_wanted() } else { self.sender.blocking_send(Ok(rows)).is_ok() }
    }

    /// Returns true if anybody listens.
    pub fn is_wanted(&self) -> bool {
        !self.sender.is_closed()
    }
}

/// The plan of a call whose producer does not depend on filters, projection and limit.
pub(crate) fn unfiltered_plan(function: &dyn TableFunction, producer: impl RowProducer) -> Result<LogicalPlan> {
    let schema = Arc::new(Schema::new(function.outputs()));
    streaming_plan(function.name(), UnfilteredFunction { schema, producer: Arc::new(producer) })
}

/// A call with one producer for all scans.
struct UnfilteredFunction<W> {
    schema: SchemaRef,
    producer: Arc<W>,
}

impl<W: RowProducer> Debug for UnfilteredFunction<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.producer, f)
    }
}

impl<W: RowProducer> StreamingTableFunction for UnfilteredFunction<W> {
    type Producer = Arc<W>;

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn producer<'a>(&'a self, _: &'a dyn Session, _: ScanOptions<'a>) -> BoxFuture<'a, Result<Arc<W>>> {
        Box::pin(async move { Ok(Arc::clone(&self.producer)) })
    }
}

impl<W: RowProducer> RowProducer for Arc<W> {
    fn run<'a>(&'a self, context: &'a Arc<TaskContext>, rows: &'a RowSender) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { W::run(self, context, rows).await })
    }
}

/// The plan of a call.
pub(crate) fn streaming_plan(name: &'static str, call: impl StreamingTableFunction) -> Result<LogicalPlan> {
    let table = Arc::new(FunctionTableProvider(call));
    LogicalPlanBuilder::scan(name, provider_as_source(table), None)?.build()
}

#[derive(Debug)]
struct FunctionTableProvider<C>(C);

impl<C: StreamingTableFunction> TableProvider for FunctionTableProvider<C> {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters.iter().map(|filter| self.0.supports(filter)).collect())
    }

    async_method!(scan => plan);
}

impl<C: StreamingTableFunction> FunctionTableProvider<C> {
    fn plan<'a>(
        &'a self,
        session: &'a dyn Session,
        projection: Option<&'a Vec<usize>>,
        filters: &'a [Expr],
        limit: Option<usize>,
    ) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            let producer = self.0.producer(session, ScanOptions { filters, projection, limit }).await?;
            producer_plan(self.schema(), producer, projection, limit)
        })
    }
}

/// The execution plan of the rows of a producer.
pub(crate) fn producer_plan(
    schema: SchemaRef,
    producer: impl RowProducer,
    projection: Option<&Vec<usize>>,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let producer = Arc::new(producer);
    let stream = Arc::new(ProducerPartition { schema: Arc::clone(&schema), producer: Arc::clone(&producer) });
    let plan = StreamingTableExec::try_new(schema, vec![stream], projection, [], false, limit)?;
    Ok(Arc::new(RowProducerExec { rows: Arc::new(plan), producer }))
}

/// Execution plan of the rows of a producer, described by the producer in EXPLAIN.
struct RowProducerExec<W> {
    rows: Arc<dyn ExecutionPlan>,
    producer: Arc<W>,
}

impl<W: RowProducer> Debug for RowProducerExec<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.producer, f)
    }
}

impl<W: RowProducer> DisplayAs for RowProducerExec<W> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableFunction: {}", self.producer)?;
        self.rows.fetch().map_or(Ok(()), |limit| write!(f, ", limit={limit}"))
    }
}

impl<W: RowProducer> ExecutionPlan for RowProducerExec<W> {
    fn name(&self) -> &'static str {
        "TableFunction"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.rows.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("{} has no children", self.name()) }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.rows.execute(partition, context)
    }

    fn fetch(&self) -> Option<usize> {
        self.rows.fetch()
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let rows = self.rows.with_fetch(limit)?;
        Some(Arc::new(Self { rows, producer: Arc::clone(&self.producer) }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.rows.metrics()
    }
}

struct ProducerPartition<W> {
    schema: SchemaRef,
    producer: Arc<W>,
}

impl<W: RowProducer> Debug for ProducerPartition<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.producer, f)
    }
}

impl<W: RowProducer> PartitionStream for ProducerPartition<W> {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        // The producer stops when the stream is dropped, at its next row or await.
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), 1);
        let (rows, producer) =
            (RowSender { schema: Arc::clone(&self.schema), sender: builder.tx() }, Arc::clone(&self.producer));
        builder.spawn(async move { producer.run(&context, &rows).await });
        builder.build()
    }
}
