//! Results on their way to the client.
//!
//! A query runs in a task of its own and hands over one batch at a time: a slow client slows it down, an abandoned
//! result aborts it, a panic in it is an error of this one statement, and a client hears of a cancelled statement
//! at once even if the task is in the middle of a computation.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigNonZeroUsize;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use futures::{FutureExt, StreamExt, TryStreamExt};
use neuroql::{CancelOnDrop, has_expression, interruptible, sqlstate};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Mutex, mpsc};
use tokio::task::{JoinError, block_in_place};

use crate::session::plan_cache::PlanGuard;
use crate::session::progress::Progress;
use crate::wire::error_response::SqlError;

/// A future with a large stack: expressions are trees, and a client writes them as deep as `parse` allows. Costs
/// nothing on threads whose stack is large already.
pub(crate) struct LargeStackFuture<F>(pub(crate) Pin<Box<F>>);

const STACK_NEEDED: usize = 12 << 20;
const STACK_SIZE: usize = 32 << 20;

impl<F: Future> Future for LargeStackFuture<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        stacker::maybe_grow(STACK_NEEDED, STACK_SIZE, || self.0.as_mut().poll(context))
    }
}

/// A future whose polls may take long without a pause, as planning does: the thread gives its other tasks away before,
/// so that others are served and statements end in time.
struct BlockingFuture<F>(Pin<Box<F>>);

impl<F: Future> Future for BlockingFuture<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        match Handle::current().runtime_flavor() {
            RuntimeFlavor::MultiThread => block_in_place(|| self.0.as_mut().poll(context)),
            _ => self.0.as_mut().poll(context),
        }
    }
}

/// Plans a query and starts it.
async fn started(
    state: SessionState,
    plan: LogicalPlan,
    progress: Progress,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let planned = async move {
        let mut state = state;
        let optimized = state.optimize(&plan).map_err(|error| unplanned(error, &plan))?;
        let rows = rows_of_batches(&optimized, state.config().batch_size())?;
        state.config_mut().options_mut().execution.batch_size = ConfigNonZeroUsize::try_new(rows)?;
        let planned = state.query_planner().create_physical_plan(&optimized, &state).await;
        // A name that the optimizer gives a subquery.
        let plan = planned.map_err(|error| match error.strip_backtrace().contains("__correlated_sq") {
            true => unplanned(error, &plan),
            false => error,
        })?;
        progress.planned(&plan);
        execute_stream(plan, Arc::new(TaskContext::from(&state)))
    };
    BlockingFuture(Box::pin(planned)).await
}

/// Names what the optimizer has no plan for: the columns of a statement are known before, so that one that it misses or finds
/// twice is one of its own.
fn unplanned(error: DataFusionError, plan: &LogicalPlan) -> DataFusionError {
    let state = sqlstate(&error);
    if !matches!(state, "42703" | "42701" | "42702" | "42000") {
        return error;
    }
    let is_subquery = |part: &Expr| {
        matches!(part, Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_))
    };
    let has_subquery = has_expression(plan, |part, _| is_subquery(part));
    let message = match has_subquery.unwrap_or(false) {
        false if state == "42000" => return error,
        true => "a subquery is not supported at this place of a statement; join, or use WITH",
        false => {
            "the statement is not supported, as two of its expressions have one name; compute them in a subquery in FROM"
        }
    };
    DataFusionError::NotImplemented(message.to_owned())
}

/// Bytes that the repetitions of a constant take in a batch, at most.
const REPEATED: usize = 16 << 20;

/// Returns the number of rows of a plan's batches: a constant is repeated in each row of a batch, so that there are
/// fewer of a large one.
fn rows_of_batches(plan: &LogicalPlan, rows: usize) -> Result<usize, DataFusionError> {
    let mut largest = 0;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::Literal(value, _) = part {
                    largest = largest.max(value.size());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(rows.min(REPEATED / largest.max(1)).max(1))
}

/// Runs work that may compute for long in a task of its own, ended with this future.
pub(crate) async fn isolated<T: Send + 'static, E: Into<SqlError> + Send + 'static>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, SqlError> {
    match SpawnedTask::spawn(LargeStackFuture(Box::pin(BlockingFuture(Box::pin(work))))).join().await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => Err(join_failed(error)),
    }
}

/// Runs a statement to its end in a task of its own, ended with this future.
pub(crate) async fn executed(context: &SessionContext, plan: LogicalPlan) -> Result<Vec<RecordBatch>, SqlError> {
    let (state, _guard) = interruptible(context);
    isolated(async move { started(state, plan, Progress::begin()).await?.try_collect::<Vec<_>>().await }).await
}

fn join_failed(error: JoinError) -> SqlError {
    match error.try_into_panic() {
        Ok(payload) => SqlError::panic(payload.as_ref()),
        Err(_) => SqlError::error("57014", "canceling statement because the server is shutting down"),
    }
}

/// Remaining rows of a result. Clones share them: rows that one takes do not reach the other.
#[derive(Clone)]
pub(crate) struct ResultRows {
    feed: Arc<Mutex<BatchFeed>>,
    /// Number of rows that may still be taken through this clone.
    left: usize,
    /// Change rows before they are taken, one after the other, but not their number.
    shows: Vec<fn(RecordBatch) -> RecordBatch>,
    progress: Progress,
}

struct BatchFeed {
    source: BatchSource,
    /// The rest of the last batch.
    rest: Option<RecordBatch>,
    /// Ends the functions that run for a result when it is abandoned.
    _guard: CancelOnDrop,
    /// The guard of the plan, if it is a kept one.
    plan_guard: Option<PlanGuard>,
}

/// Source of the batches.
enum BatchSource {
    /// A task that runs the query.
    Task(mpsc::Receiver<Result<RecordBatch, DataFusionError>>, SpawnedTask<()>),
    /// A query that runs where its rows are taken.
    Here(SendableRecordBatchStream),
    Ended,
}

impl ResultRows {
    /// Starts a query.
    pub(crate) fn start(context: &SessionContext, plan: LogicalPlan) -> Self {
        let (state, guard) = interruptible(context);
        let progress = Progress::begin();
        let feed = BatchFeed {
            source: BatchSource::task(started(state, plan, progress.clone())),
            rest: None,
            _guard: guard,
            plan_guard: None,
        };
        Self { progress, ..Self::new(feed) }
    }

    /// Returns what the query has done so far.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Starts a query whose plan is kept.
    pub(crate) fn start_kept(mut plan_guard: PlanGuard, values: &[ScalarValue]) -> Result<Self, SqlError> {
        let stream = plan_guard.execute(values)?;
        let source = match plan_guard.is_quick() {
            true => BatchSource::Here(stream),
            false => BatchSource::task(std::future::ready(Ok(stream))),
        };
        Ok(Self::new(BatchFeed { source, rest: None, _guard: CancelOnDrop::default(), plan_guard: Some(plan_guard) }))
    }

    /// Returns rows that exist already.
    pub(crate) fn of(batch: RecordBatch) -> Self {
        Self::new(BatchFeed {
            source: BatchSource::Ended,
            rest: Some(batch),
            _guard: CancelOnDrop::default(),
            plan_guard: None,
        })
    }

    /// Returns rows that exist already and hold memory.
    pub(crate) fn of_all(schema: SchemaRef, batches: Vec<RecordBatch>, memory: MemoryReservation) -> Self {
        let rows = futures::stream::iter(batches).map(move |batch| {
            let _held = &memory;
            Ok(batch)
        });
        Self::new(BatchFeed {
            source: BatchSource::Here(Box::pin(RecordBatchStreamAdapter::new(schema, rows))),
            rest: None,
            _guard: CancelOnDrop::default(),
            plan_guard: None,
        })
    }

    fn new(feed: BatchFeed) -> Self {
        Self { feed: Arc::new(Mutex::new(feed)), left: usize::MAX, shows: Vec::new(), progress: Progress::begin() }
    }

    /// Returns the same rows, but at most `count` of them.
    pub(crate) fn first(&self, count: usize) -> Self {
        Self { left: count, ..self.clone() }
    }

    /// Returns the same rows, changed by a function that leaves their number as it is.
    pub(crate) fn shown_by(mut self, show: fn(RecordBatch) -> RecordBatch) -> Self {
        self.shows.push(show);
        self
    }

    /// Returns at most `most` more rows; `None` at the end.
    pub(crate) async fn next(&mut self, most: usize) -> Result<Option<RecordBatch>, SqlError> {
        let most = most.min(self.left);
        if most == 0 {
            return Ok(None);
        }
        let batch = self.feed.lock().await.next(most).await?;
        if let Some(batch) = &batch {
            self.left -= batch.num_rows();
        }
        Ok(batch.map(|batch| self.shows.iter().fold(batch, |batch, show| show(batch))))
    }

    /// Returns the next rows if they are ready.
    pub(crate) fn next_now(&mut self, most: usize) -> Option<Result<Option<RecordBatch>, SqlError>> {
        self.next(most).now_or_never()
    }
}

impl BatchSource {
    /// Starts a task that runs the query.
    fn task(query: impl Future<Output = Result<SendableRecordBatchStream, DataFusionError>> + Send + 'static) -> Self {
        let (sender, batches) = mpsc::channel(1);
        let task = SpawnedTask::spawn(LargeStackFuture(Box::pin(async move {
            match query.await {
                Ok(mut stream) => {
                    while let Some(batch) = stream.next().await {
                        let failed = batch.is_err();
                        if sender.send(batch).await.is_err() || failed {
                            return;
                        }
                    }
                }
                // Nobody listens if the statement was abandoned.
                Err(error) => drop(sender.send(Err(error)).await),
            }
        })));
        Self::Task(batches, task)
    }

    async fn next(&mut self) -> Option<Result<RecordBatch, DataFusionError>> {
        match self {
            Self::Task(batches, _) => batches.recv().await,
            Self::Here(stream) => LargeStackFuture(Box::pin(stream.next())).await,
            Self::Ended => None,
        }
    }
}

impl BatchFeed {
    async fn next(&mut self, most: usize) -> Result<Option<RecordBatch>, SqlError> {
        let batch = loop {
            let batch = match self.rest.take() {
                Some(batch) => batch,
                None => match self.source.next().await {
                    Some(batch) => batch?,
                    None => return self.end().await,
                },
            };
            if batch.num_rows() > 0 {
                break batch;
            }
        };
        if batch.num_rows() <= most {
            return Ok(Some(batch));
        }
        self.rest = Some(batch.slice(most, batch.num_rows() - most));
        Ok(Some(batch.slice(0, most)))
    }

    /// Ends the result, with an error if the task has panicked. The task is there until it is known how it has ended: this
    /// future may be dropped before.
    async fn end(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        let ended = match &mut self.source {
            BatchSource::Task(_, task) => task.await,
            BatchSource::Here(_) | BatchSource::Ended => Ok(()),
        };
        self.source = BatchSource::Ended;
        ended.map_err(join_failed)?;
        if let Some(plan_guard) = self.plan_guard.take() {
            plan_guard.give_back();
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Int32Array};

    use super::*;

    #[tokio::test]
    async fn rows_are_taken_in_pieces_and_shared() {
        let column: ArrayRef = Arc::new(Int32Array::from_iter_values(0..10));
        let mut rows = ResultRows::of(RecordBatch::try_from_iter([("n", column)]).unwrap());
        assert_eq!(rows.next(3).await.unwrap().unwrap().num_rows(), 3);
        let mut two = rows.first(2);
        assert_eq!(two.next(usize::MAX).await.unwrap().unwrap().num_rows(), 2);
        assert!(two.next(usize::MAX).await.unwrap().is_none());
        assert_eq!(rows.next_now(usize::MAX).unwrap().unwrap().unwrap().num_rows(), 5);
        assert!(rows.next(1).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_panic_is_told_however_often_it_is_asked_for_rows() {
        let (begin, begun) = tokio::sync::oneshot::channel::<()>();
        let (sender, batches) = mpsc::channel(1);
        drop(sender);
        let task = SpawnedTask::spawn(async move {
            let _ = begun.await;
            panic!("at the end");
        });
        let mut rows = ResultRows::new(BatchFeed {
            source: BatchSource::Task(batches, task),
            rest: None,
            _guard: CancelOnDrop::default(),
            plan_guard: None,
        });
        // There are no more batches, and the task has not ended.
        assert!(rows.next_now(1).is_none());
        begin.send(()).unwrap();
        assert!(rows.next(1).await.is_err());
    }
}
