//! Queries that are planned once and run again with other parameters.
//!
//! A parameter becomes a function without arguments that returns the value of the statement that runs now. No rule of
//! the planner evaluates it, and scans apply filters with it as they do others. A plan may be kept if nothing in it was
//! read when it was made: `ModelTable::is_read_at_execution` says so of a table.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::plan_err;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::expr::{Placeholder, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, FetchType, LogicalPlan, Signature, SkipType, TableScan, Volatility};
use datafusion::physical_plan::async_func::AsyncFuncExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::streaming::StreamingTableExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::scalar::ScalarValue;
use neuroql_model::{CancelOnDrop, Model};

use crate::parameter::{ParameterValues, parameter};
use crate::planner::time_slices::TimeSlicedExec;
use crate::tables::model_table::{AllModelsTableProvider, ModelTableProvider};

/// Neurons up to which a query over them is not worth a task for each partition.
const FEW_NEURONS: usize = 50_000;

/// Number of runs after which operators that keep state start anew.
const RUNS_OF_OPERATORS: usize = 64;

/// Number of runs after which another plan is made.
const RUNS_OF_PLAN: usize = 1024;

/// A query with parameters, planned for any values of them. It runs once at a time.
#[derive(Debug)]
pub struct ReusablePlan {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    values: Arc<ParameterValues>,
    /// Types of the parameters, from the first to the last that is used; `None` for one that is not.
    types: Vec<Option<DataType>>,
    /// True if operators keep state from one run to the next.
    has_state: bool,
    /// True if operators keep the metrics of each run, and do not forget them when they start anew.
    wears_out: bool,
    runs: usize,
    is_quick: bool,
    /// Ends functions of the plan when dropped.
    _guard: CancelOnDrop,
}

impl ReusablePlan {
    /// Plans a query in the state and with the guard of `interruptible`. Returns `None` if the plan depends on the
    /// values of parameters or on data read to make it, or if planning fails, which planning with values will report.
    pub async fn new(query: &LogicalPlan, mut state: SessionState, guard: CancelOnDrop) -> Option<Self> {
        let size = read_at_execution(query)?;
        let query = query.clone().transform_up(nullable).ok()?.data;
        let calls_little = !size.calls_functions && (!size.calls_async || size.tables == 0);
        let is_quick = calls_little && size.neurons <= FEW_NEURONS && size.tables <= 1;
        let options = state.config_mut().options_mut();
        // Operators would keep such filters from one run to the next.
        options.optimizer.enable_dynamic_filter_pushdown = false;
        options.optimizer.enable_topk_dynamic_filter_pushdown = false;
        options.optimizer.enable_join_dynamic_filter_pushdown = false;
        options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
        if is_quick {
            options.execution.target_partitions = 1;
        }
        let values = Arc::new(ParameterValues::default());
        let mut types = Vec::new();
        let optimized = state.optimize(&query).ok()?;
        let optimized = optimized.transform_up(|node| late(node, &values, &mut types)).ok()?.data;
        let plan = state.query_planner().create_physical_plan(&optimized, &state).await.ok()?;
        let functions = (HashMap::new(), HashMap::new(), HashMap::new(), HashMap::new());
        let context = TaskContext::new(
            None,
            state.session_id().to_owned(),
            state.config().clone(),
            functions.0,
            functions.1,
            functions.2,
            functions.3,
            Arc::clone(state.runtime_env()),
        );
        let has_state = plan.exists(|node| Ok(!is_stateless(node))).unwrap_or(true);
        let wears_out = plan.exists(|node| Ok(keeps_metrics(node))).unwrap_or(true);
        let context = Arc::new(context);
        Some(Self { plan, context, values, types, has_state, wears_out, runs: 0, is_quick, _guard: guard })
    }

    /// Returns true if the values are of the types that the query was planned for.
    pub fn takes(&self, values: &[ScalarValue]) -> bool {
        let fits = |(place, wanted): (usize, &Option<DataType>)| match wanted {
            Some(wanted) => values.get(place).is_some_and(|value| value.data_type() == *wanted),
            None => true,
        };
        self.types.iter().enumerate().all(fits)
    }

    /// Returns true after so many runs that what operators keep of them takes more memory than another plan does.
    pub fn is_worn_out(&self) -> bool {
        self.wears_out && self.runs >= RUNS_OF_PLAN
    }

    /// Returns true if the query reads a few rows of one table and computes nothing that takes long, but for async
    /// functions, which leave it to others: it may run on a thread that others wait for.
    pub fn is_quick(&self) -> bool {
        self.is_quick
    }

    /// Runs the query, after the stream of the previous run has ended. `values` are those of the parameters, from the
    /// first on.
    ///
    /// # Errors
    /// Returns the errors of operators.
    pub fn execute(&mut self, values: Vec<ScalarValue>) -> Result<SendableRecordBatchStream> {
        self.values.set(values);
        self.runs += 1;
        // Operators add metrics of their own for each run.
        if self.has_state || self.runs.is_multiple_of(RUNS_OF_OPERATORS) {
            self.plan = reset_plan_states(Arc::clone(&self.plan))?;
        }
        execute_stream(Arc::clone(&self.plan), Arc::clone(&self.context))
    }
}

/// Amount of data that a query works on.
#[derive(Default)]
struct InputSize {
    tables: usize,
    neurons: usize,
    calls_functions: bool,
    calls_async: bool,
}

/// Returns the amount of data that a query works on; `None` if its plan may hold data that was read, or depends on more
/// than its text.
fn read_at_execution(query: &LogicalPlan) -> Option<InputSize> {
    let mut size = InputSize::default();
    let mut fine = true;
    let walked = query.apply(|node| {
        fine &= match node {
            LogicalPlan::TableScan(scan) => match neurons(scan) {
                Some(neurons) => {
                    size.tables += 1;
                    size.neurons += neurons;
                    true
                }
                None => false,
            },
            LogicalPlan::Limit(limit) => {
                matches!(limit.get_skip_type(), Ok(SkipType::Literal(_)))
                    && matches!(limit.get_fetch_type(), Ok(FetchType::Literal(_)))
            }
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Union(_)
            | LogicalPlan::EmptyRelation(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Distinct(_)
            | LogicalPlan::Values(_) => true,
            _ => false,
        };
        let expressions = node.apply_expressions(|expr| {
            expr.apply(|part| {
                fine &= match part {
                    Expr::ScalarFunction(call) if call.func.as_async().is_some() => {
                        size.calls_async = true;
                        true
                    }
                    Expr::ScalarFunction(call) => {
                        size.calls_functions = true;
                        is_immutable(call.func.signature())
                    }
                    Expr::AggregateFunction(call) => is_immutable(call.func.signature()),
                    Expr::Placeholder(Placeholder { id, field }) => number(id).is_some() && field.is_some(),
                    Expr::Column(_)
                    | Expr::Literal(..)
                    | Expr::Alias(_)
                    | Expr::BinaryExpr(_)
                    | Expr::Like(_)
                    | Expr::Not(_)
                    | Expr::IsNotNull(_)
                    | Expr::IsNull(_)
                    | Expr::IsTrue(_)
                    | Expr::IsFalse(_)
                    | Expr::IsUnknown(_)
                    | Expr::IsNotTrue(_)
                    | Expr::IsNotFalse(_)
                    | Expr::IsNotUnknown(_)
                    | Expr::Negative(_)
                    | Expr::Between(_)
                    | Expr::Case(_)
                    | Expr::Cast(_)
                    | Expr::TryCast(_)
                    | Expr::WindowFunction(_)
                    | Expr::InList(_) => true,
                    _ => false,
                };
                Ok(if fine { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
            })
        })?;
        Ok(if fine { expressions } else { TreeNodeRecursion::Stop })
    });
    (fine && walked.is_ok()).then_some(size)
}

fn is_immutable(signature: &Signature) -> bool {
    signature.volatility == Volatility::Immutable
}

/// Returns the number of neurons of the models whose table is scanned; `None` if the plan of the scan may hold data
/// that it read.
fn neurons(scan: &TableScan) -> Option<usize> {
    let provider = source_as_provider(&scan.source).ok()?;
    let provider: &dyn Any = provider.as_ref();
    let of = |model: &Model| model.layers_read().len() * model.neurons_per_layer();
    if let Some(one) = provider.downcast_ref::<ModelTableProvider>() {
        return one.table.is_read_at_execution().then(|| of(&one.model));
    }
    let all = provider.downcast_ref::<AllModelsTableProvider>()?;
    all.table.is_read_at_execution().then(|| all.engine.registry.list().iter().map(|model| of(model)).sum())
}

/// Makes parameters nullable, whatever they are compared to.
fn nullable(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&node);
    let changed = node.map_expressions(|expr| {
        let name = names.save(&expr);
        let changed = expr.transform_up(|part| match part {
            Expr::Placeholder(Placeholder { id, field: Some(field) }) if !field.is_nullable() => {
                let field = Some(Arc::new(Field::clone(&field).with_nullable(true)));
                Ok(Transformed::yes(Expr::Placeholder(Placeholder { id, field })))
            }
            part => Ok(Transformed::no(part)),
        })?;
        Ok(changed.update_data(|expr| name.restore(expr)))
    })?;
    changed.map_data(LogicalPlan::recompute_schema)
}

/// Replaces the parameters of an operator by functions that read them when it runs.
fn late(
    node: LogicalPlan,
    values: &Arc<ParameterValues>,
    types: &mut Vec<Option<DataType>>,
) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = names.save(&expr);
        let changed = expr.transform_up(|part| match part {
            Expr::Placeholder(Placeholder { id, field: Some(field) }) => {
                let Some(number) = number(&id) else { return plan_err!("there is no parameter {id}") };
                let place = number - 1;
                types.resize(types.len().max(number), None);
                if types[place].as_ref().is_some_and(|known| known != field.data_type()) {
                    return plan_err!("the parameter {id} has two types");
                }
                types[place] = Some(field.data_type().clone());
                let func = Arc::new(parameter(place, field, values));
                Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: Vec::new() })))
            }
            part => Ok(Transformed::no(part)),
        })?;
        Ok(changed.update_data(|expr| name.restore(expr)))
    })
}

/// Returns the number of a parameter such as `$1`, counted from 1.
fn number(id: &str) -> Option<usize> {
    id.strip_prefix('$')?.parse().ok().filter(|number| (1..=usize::from(u16::MAX)).contains(number))
}

/// Returns true if an operator can run again as it is.
fn is_stateless(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.is::<ProjectionExec>()
        || node.is::<FilterExec>()
        || node.is::<StreamingTableExec>()
        || node.is::<CooperativeExec>()
        || node.is::<TimeSlicedExec>()
        || node.is::<CoalescePartitionsExec>()
        || node.is::<AsyncFuncExec>()
        || node.is::<GlobalLimitExec>()
        || node.is::<LocalLimitExec>()
        || node.is::<UnionExec>()
        || node.is::<EmptyExec>()
        || node.is::<PlaceholderRowExec>()
}

/// Returns true if an operator keeps the metrics of its runs when it starts anew.
fn keeps_metrics(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.downcast_ref::<StreamingTableExec>().is_some_and(|scan| scan.limit().is_some())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::ArrayRef;
    use datafusion::arrow::datatypes::FieldRef;
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn planned(query: &str) -> Result<Option<ReusablePlan>> {
        let context = SessionContext::new();
        let types = vec![DataType::Int64; 3].into_iter().map(|t| Arc::new(Field::new("", t, false)) as FieldRef);
        let state = context.state();
        let plan = state.create_logical_plan(query).await?;
        let types: Vec<_> = types.collect();
        let plan = plan.transform_up(|node| {
            node.map_expressions(|expr| {
                expr.transform_up(|part| match part {
                    Expr::Placeholder(Placeholder { id, .. }) => {
                        let field = number(&id).and_then(|n| types.get(n - 1).cloned());
                        Ok(Transformed::yes(Expr::Placeholder(Placeholder { id, field })))
                    }
                    part => Ok(Transformed::no(part)),
                })
            })?
            .map_data(LogicalPlan::recompute_schema)
        })?;
        Ok(ReusablePlan::new(&plan.data, state, CancelOnDrop::default()).await)
    }

    async fn rows(plan: &mut ReusablePlan, values: &[Option<i64>]) -> Vec<Vec<String>> {
        let values = values.iter().map(|value| ScalarValue::Int64(*value)).collect();
        let batches = datafusion::physical_plan::common::collect(plan.execute(values).unwrap()).await.unwrap();
        let row = |batch: &datafusion::arrow::array::RecordBatch, row: usize| {
            let value = |column: &ArrayRef| ScalarValue::try_from_array(column, row).unwrap().to_string();
            batch.columns().iter().map(value).collect()
        };
        batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |index| row(batch, index))).collect()
    }

    #[tokio::test]
    async fn other_values_give_other_rows() {
        let query =
            "SELECT $1 + 1 AS a, $1 IS NULL AS b, $2 IN ($1, 3) AS c, CASE WHEN $1 > $2 THEN $1 ELSE 0 END AS d";
        let mut plan = planned(query).await.unwrap().unwrap();
        assert_eq!(rows(&mut plan, &[Some(1), Some(2)]).await, [["2", "false", "false", "0"]]);
        assert_eq!(rows(&mut plan, &[Some(5), Some(3)]).await, [["6", "false", "true", "5"]]);
        assert_eq!(rows(&mut plan, &[None, Some(3)]).await, [["NULL", "true", "true", "0"]]);
        assert_eq!(rows(&mut plan, &[None, Some(4)]).await, [["NULL", "true", "NULL", "0"]]);
    }

    #[tokio::test]
    async fn operators_with_state_start_anew() {
        let query = "SELECT a, count(*) AS n FROM (SELECT $1 AS a UNION ALL SELECT $2 UNION ALL SELECT $1) AS t
                     GROUP BY a ORDER BY a LIMIT 5";
        let mut plan = planned(query).await.unwrap().unwrap();
        for _ in 0..3 {
            assert_eq!(rows(&mut plan, &[Some(1), Some(2)]).await, [["1", "2"], ["2", "1"]]);
            assert_eq!(rows(&mut plan, &[Some(4), Some(4)]).await, [["4", "3"]]);
        }
    }

    #[tokio::test]
    async fn many_runs_leave_no_metrics_behind() {
        for query in ["SELECT $1 + 1 AS a", "SELECT $1 AS a UNION ALL SELECT $2 ORDER BY a"] {
            let mut plan = planned(query).await.unwrap().unwrap();
            let mut most = 0;
            for run in 0..4 * RUNS_OF_OPERATORS {
                rows(&mut plan, &[Some(run as i64), Some(2)]).await;
                let mut kept = 0;
                plan.plan
                    .apply(|node| {
                        kept += node.metrics().map_or(0, |metrics| metrics.iter().count());
                        Ok(TreeNodeRecursion::Continue)
                    })
                    .unwrap();
                most = most.max(kept);
            }
            assert!(most < 32 * RUNS_OF_OPERATORS, "{query}: {most} metrics");
            assert!(!plan.is_worn_out());
        }
    }

    #[tokio::test]
    async fn what_depends_on_values_or_time_is_not_kept() {
        for query in ["SELECT 1 LIMIT $1", "SELECT now()", "SELECT random()", "SELECT (SELECT $1)"] {
            assert!(planned(query).await.unwrap().is_none(), "{query}");
        }
        let plan = planned("SELECT $1").await.unwrap().unwrap();
        assert!(plan.takes(&[ScalarValue::Int64(None)]));
        assert!(!plan.takes(&[ScalarValue::Int32(Some(1))]) && !plan.takes(&[]));
    }
}
