//! Pauses in long computations.
//!
//! A task gives its thread to others only where it waits. DataFusion's [`CooperativeExec`] makes a scan wait after 128
//! batches, however long what is computed from each takes, and a join or `unnest` may yield millions of rows for a
//! single batch of its input. Until the task waits, it can neither be cancelled nor serve another client.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use datafusion::arrow::array::{RecordBatch, UInt64Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Statistics, internal_err};
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::{
    CardinalityEffect, ChildrenPropertiesMode, ReplaceChildrenOptions, SchedulingType, replace_children_if_necessary,
};
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PiecewiseMergeJoinExec, SortMergeJoinExec,
};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{Stream, StreamExt};

/// Time that a task computes before it lets others run.
const SLICE: Duration = Duration::from_millis(5);

/// A batch of so many times the rows that are wanted is divided.
const LARGE_BATCH: usize = 4;

/// Batches of fewer rows are not worth dividing, however few a statement asks for.
const LEAST_ROWS: usize = 8192;

/// Rows of a batch for a join that compares each of them with all rows of its other input before it pauses.
const COMPARED_ROWS: usize = 256;

/// Puts a `TimeSlicedExec` in the place of each [`CooperativeExec`] and above each operator that may yield many
/// batches for one of its input. It must run after the rules that look for [`CooperativeExec`].
#[derive(Debug)]
pub struct TimeSlices;

impl PhysicalOptimizerRule for TimeSlices {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let sliced = plan.transform_up(|node| {
            if let Some(cooperative) = node.downcast_ref::<CooperativeExec>() {
                let input = Arc::clone(cooperative.input());
                return Ok(Transformed::yes(match input.is::<TimeSlicedExec>() {
                    true => input,
                    false => TimeSlicedExec::over(input),
                }));
            }
            if !multiplies(&node) {
                return Ok(Transformed::no(node));
            }
            Ok(Transformed::yes(TimeSlicedExec::over(divide_compared(node)?)))
        });
        sliced.map(|sliced| sliced.data)
    }

    fn name(&self) -> &str {
        "time_slices"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Returns true if an operator may yield many batches, or a very large one, for one of its input.
fn multiplies(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.is::<UnnestExec>()
        || node.is::<CrossJoinExec>()
        || node.is::<NestedLoopJoinExec>()
        || node.is::<HashJoinExec>()
        || node.is::<SortMergeJoinExec>()
        || node.is::<PiecewiseMergeJoinExec>()
}

/// Divides the input of a join of which each row is compared with all of the other's, or with all of an equal key, and
/// that looks for others only at its end: pairs that a condition refuses yield no batch.
fn divide_compared(join: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let has_condition = |join: &HashJoinExec| join.filter().is_some();
    if !join.is::<NestedLoopJoinExec>() && !join.downcast_ref::<HashJoinExec>().is_some_and(has_condition) {
        return Ok(join);
    }
    let mut children: Vec<_> = join.children().into_iter().cloned().collect();
    if let Some(compared) = children.last_mut() {
        let input = match compared.downcast_ref::<TimeSlicedExec>() {
            Some(sliced) => Arc::clone(&sliced.input),
            None => Arc::clone(compared),
        };
        *compared = TimeSlicedExec::with_rows(input, Some(COMPARED_ROWS));
    }
    replace_children_if_necessary(join, children)
}

/// Yields the rows of its input, and lets other tasks run after each time slice. Divides large batches.
#[derive(Debug)]
pub(crate) struct TimeSlicedExec {
    input: Arc<dyn ExecutionPlan>,
    /// Number of rows of a part of a large batch; `None` for `datafusion.execution.batch_size`.
    rows: Option<usize>,
    properties: Arc<PlanProperties>,
}

impl TimeSlicedExec {
    fn over(input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Self::with_rows(input, None)
    }

    fn with_rows(input: Arc<dyn ExecutionPlan>, rows: Option<usize>) -> Arc<dyn ExecutionPlan> {
        let properties = PlanProperties::clone(input.properties()).with_scheduling_type(SchedulingType::Cooperative);
        Arc::new(Self { input, rows, properties: Arc::new(properties) })
    }
}

impl DisplayAs for TimeSlicedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TimeSlicedExec")?;
        self.rows.map_or(Ok(()), |rows| write!(f, ": rows={rows}"))
    }
}

impl ExecutionPlan for TimeSlicedExec {
    fn name(&self) -> &'static str {
        "TimeSlicedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Self::with_rows(input, self.rows)),
            _ => internal_err!("{} has one child", self.name()),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let most = self.rows.unwrap_or(context.session_config().batch_size().max(LEAST_ROWS));
        let input = self.input.execute(partition, context)?;
        Ok(Box::pin(TimeSlicedStream { input, began: None, most, rest: None }))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        match inputs {
            [input] => Ok(Arc::clone(input)),
            _ => internal_err!("{} has one child", self.name()),
        }
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}

struct TimeSlicedStream {
    input: SendableRecordBatchStream,
    /// When the task began to compute without a pause.
    began: Option<Instant>,
    /// Number of rows of a part of a large batch.
    most: usize,
    /// A large batch, and the number of its rows that were yielded.
    rest: Option<(RecordBatch, usize)>,
}

impl TimeSlicedStream {
    /// Returns the next part of the large batch. Parts are copies: a slice would count in memory as the whole batch.
    fn part(&mut self) -> Option<Result<RecordBatch>> {
        let (batch, from) = self.rest.take()?;
        let to = batch.num_rows().min(from + self.most);
        let rows = UInt64Array::from_iter_values(from as u64..to as u64);
        let part = take_record_batch(&batch, &rows);
        if to < batch.num_rows() && part.is_ok() {
            self.rest = Some((batch, to));
        }
        Some(part.map_err(Into::into))
    }
}

impl Stream for TimeSlicedStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.began.get_or_insert_with(Instant::now).elapsed() >= SLICE {
            self.began = None;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(part) = self.part() {
            return Poll::Ready(Some(part));
        }
        // Others have run meanwhile.
        let polled = self.input.poll_next_unpin(context);
        if polled.is_pending() {
            self.began = None;
        }
        match ready!(polled) {
            Some(Ok(batch)) if batch.num_rows() >= self.most.saturating_mul(LARGE_BATCH) && batch.num_columns() > 0 => {
                self.rest = Some((batch, 0));
                Poll::Ready(self.part())
            }
            batch => Poll::Ready(batch),
        }
    }
}

impl RecordBatchStream for TimeSlicedStream {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use datafusion::execution::SessionStateBuilder;
    use datafusion::execution::config::SessionConfig;
    use datafusion::physical_plan::{displayable, execute_stream};
    use datafusion::prelude::SessionContext;

    use super::*;

    fn context() -> SessionContext {
        let config = SessionConfig::new().with_target_partitions(1);
        let state = SessionStateBuilder::new_with_default_features().with_config(config);
        SessionContext::new_with_state(state.with_physical_optimizer_rule(Arc::new(TimeSlices)).build())
    }

    /// 10¹² rows, for each of which nothing is read.
    const CROSS_JOIN: &str =
        "SELECT count(*) FROM (SELECT unnest(range(0, 1000000)) a) x, (SELECT unnest(range(0, 1000000)) b) y";

    /// 4·10⁸ pairs, none of which becomes a row.
    const COMPARISON: &str = "SELECT count(*) FROM (SELECT unnest(range(0, 20000)) a) x, \
                              (SELECT unnest(range(0, 20000)) b) y WHERE a * b < 0";

    #[tokio::test]
    async fn long_queries_pause() {
        for query in [CROSS_JOIN, COMPARISON] {
            let plan = context().sql(query).await.unwrap().create_physical_plan().await.unwrap();
            let mut rows = execute_stream(plan, context().task_ctx()).unwrap();
            let mut waker = Context::from_waker(Waker::noop());
            for pause in 0..5 {
                assert!(rows.poll_next_unpin(&mut waker).is_pending(), "{query}: it ended after {pause} pauses");
            }
        }
    }

    #[tokio::test]
    async fn large_batches_are_divided_and_whole() {
        let query = context().sql("SELECT unnest(range(0, 100001)) AS n").await.unwrap();
        let batches = query.collect().await.unwrap();
        assert!(batches.len() > 10 && batches.iter().all(|batch| batch.num_rows() <= 8192));
        let query = "SELECT count(DISTINCT n), min(n), max(n) FROM (SELECT unnest(range(0, 100001)) AS n)";
        let rows = context().sql(query).await.unwrap().collect().await.unwrap();
        let shown = datafusion::arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string();
        assert!(shown.contains("| 100001            | 0      | 100000 |"), "{shown}");
    }

    #[tokio::test]
    async fn scans_and_joins_are_sliced() {
        let small = CROSS_JOIN.replace("1000000", "3");
        let plan = context().sql(&small).await.unwrap().create_physical_plan().await.unwrap();
        let shown = displayable(plan.as_ref()).indent(false).to_string();
        assert!(shown.contains("TimeSlicedExec\n      CrossJoinExec"), "{shown}");
        let small = COMPARISON.replace("20000", "3");
        let plan = context().sql(&small).await.unwrap().create_physical_plan().await.unwrap();
        let shown = displayable(plan.as_ref()).indent(false).to_string();
        assert!(shown.contains("TimeSlicedExec: rows=256"), "{shown}");
        assert!(!shown.contains("CooperativeExec"), "{shown}");
    }
}
