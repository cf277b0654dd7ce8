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

/// A call of a table function, before the filters on its rows are known.
pub(crate) trait Call: Debug + Send + Sync + 'static {
    /// Work of one reading of the rows.
    type Work: Work;

    /// Columns of the rows.
    fn schema(&self) -> SchemaRef;

    /// Filter pushdown of [`Call::work`]; filters that it does not support are applied to its rows.
    fn supports(&self, _filter: &Expr) -> TableProviderFilterPushDown {
        TableProviderFilterPushDown::Unsupported
    }

    /// Returns the work for the rows that a query asks for.
    fn work<'a>(&'a self, session: &'a dyn Session, asked: Asked<'a>) -> BoxFuture<'a, Result<Self::Work>>;
}

/// Rows of a call that a query asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Filters that the call [supports](Call::supports).
    pub filters: &'a [Expr],
    projection: Option<&'a Vec<usize>>,
    /// Number of rows to read at most.
    pub limit: Option<usize>,
}

impl Asked<'_> {
    /// Returns true if a column is read.
    pub fn reads(&self, column: usize) -> bool {
        self.projection.is_none_or(|columns| columns.contains(&column))
    }
}

/// Work that computes rows. EXPLAIN shows its [`Display`].
pub(crate) trait Work: Display + Send + Sync + 'static {
    /// Computes the rows and sends them as they come, until all are sent or [nobody listens](Rows::send).
    fn run<'a>(&'a self, context: &'a Arc<TaskContext>, rows: &'a Rows) -> BoxFuture<'a, Result<()>>;
}

/// Sender of the rows of a work.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    schema: SchemaRef,
    sender: Sender<Result<RecordBatch>>,
}

impl Rows {
    /// Makes a batch of these columns.
    pub fn batch(&self, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// Sends rows. Returns false if nobody listens any more: the query has ended, and the work should end too.
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

/// The plan of a call whose work does not depend on the rows asked for.
pub(crate) fn always_computed(function: &dyn TableFunction, work: impl Work) -> Result<LogicalPlan> {
    let schema = Arc::new(Schema::new(function.outputs()));
    computed(function.name(), Always { schema, work: Arc::new(work) })
}

/// A call with one work for all readings.
struct Always<W> {
    schema: SchemaRef,
    work: Arc<W>,
}

impl<W: Work> Debug for Always<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.work, f)
    }
}

impl<W: Work> Call for Always<W> {
    type Work = Arc<W>;

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn work<'a>(&'a self, _: &'a dyn Session, _: Asked<'a>) -> BoxFuture<'a, Result<Arc<W>>> {
        Box::pin(async move { Ok(Arc::clone(&self.work)) })
    }
}

impl<W: Work> Work for Arc<W> {
    fn run<'a>(&'a self, context: &'a Arc<TaskContext>, rows: &'a Rows) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { W::run(self, context, rows).await })
    }
}

/// The plan of a call.
pub(crate) fn computed(name: &'static str, call: impl Call) -> Result<LogicalPlan> {
    let table = Arc::new(Computed(call));
    LogicalPlanBuilder::scan(name, provider_as_source(table), None)?.build()
}

#[derive(Debug)]
struct Computed<C>(C);

impl<C: Call> TableProvider for Computed<C> {
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

impl<C: Call> Computed<C> {
    fn plan<'a>(
        &'a self,
        session: &'a dyn Session,
        projection: Option<&'a Vec<usize>>,
        filters: &'a [Expr],
        limit: Option<usize>,
    ) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            let work = Arc::new(self.0.work(session, Asked { filters, projection, limit }).await?);
            let stream = Arc::new(Stream { schema: self.schema(), work: Arc::clone(&work) });
            let plan = StreamingTableExec::try_new(self.schema(), vec![stream], projection, [], false, limit)?;
            Ok(Arc::new(Working { rows: Arc::new(plan), work }) as Arc<dyn ExecutionPlan>)
        })
    }
}

/// Execution plan of the rows of a work, described by the work in EXPLAIN.
struct Working<W> {
    rows: Arc<dyn ExecutionPlan>,
    work: Arc<W>,
}

impl<W: Work> Debug for Working<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.work, f)
    }
}

impl<W: Work> DisplayAs for Working<W> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableFunction: {}", self.work)?;
        self.rows.fetch().map_or(Ok(()), |limit| write!(f, ", limit={limit}"))
    }
}

impl<W: Work> ExecutionPlan for Working<W> {
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
        Some(Arc::new(Self { rows, work: Arc::clone(&self.work) }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.rows.metrics()
    }
}

struct Stream<W> {
    schema: SchemaRef,
    work: Arc<W>,
}

impl<W: Work> Debug for Stream<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.work, f)
    }
}

impl<W: Work> PartitionStream for Stream<W> {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        // The work stops when the stream is dropped, at its next row or await.
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), 1);
        let (rows, work) = (Rows { schema: Arc::clone(&self.schema), sender: builder.tx() }, Arc::clone(&self.work));
        builder.spawn(async move { work.run(&context, &rows).await });
        builder.build()
    }
}
