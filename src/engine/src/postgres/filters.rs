//! Conditions without columns above an aggregate of all rows.
//!
//! DataFusion pushes them below the aggregate, which then has one row of no input where it should have none: `SELECT …
//! FROM (SELECT max(x) FROM t) WHERE (SELECT false)`.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{EmptyRelation, Expr, Filter, JoinType, Limit, LogicalPlan, lit};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::scalar::ScalarValue;

/// Keeps them above; to be run before DataFusion's rule.
#[derive(Debug)]
pub(super) struct FiltersAboveAggregates;

/// The rule that it must precede.
const PUSHES: &str = "push_down_filter";

impl FiltersAboveAggregates {
    /// Rules with this one in its place.
    pub(super) fn among(rules: &[Arc<dyn OptimizerRule + Send + Sync>]) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
        let mut found = Vec::with_capacity(rules.len() + 1);
        for rule in rules {
            if rule.name() == PUSHES {
                found.push(Arc::new(Self) as _);
            }
            found.push(Arc::clone(rule));
        }
        found
    }
}

impl OptimizerRule for FiltersAboveAggregates {
    fn name(&self) -> &str {
        "postgres_above_aggregates"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Filter(filter) => {
                let conditions = split_conjunction(&filter.predicate);
                if conditions.iter().any(|condition| never(condition)) {
                    return Ok(Transformed::yes(nothing(&LogicalPlan::Filter(filter))));
                }
                if !conditions.iter().any(|condition| may_be_free(condition)) {
                    return Ok(Transformed::no(LogicalPlan::Filter(filter)));
                }
                let Filter { predicate, input, .. } = filter;
                let guarded = guarded(Arc::unwrap_or_clone(input))?;
                let transformed = guarded.transformed;
                let plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(guarded.data))?);
                Ok(if transformed { Transformed::yes(plan) } else { Transformed::no(plan) })
            }
            LogicalPlan::Join(join) => {
                let conditions: Vec<_> = join.filter.iter().flat_map(split_conjunction).collect();
                if join.join_type == JoinType::Inner && conditions.iter().any(|condition| never(condition)) {
                    return Ok(Transformed::yes(nothing(&LogicalPlan::Join(join))));
                }
                if !conditions.iter().any(|condition| may_be_free(condition)) {
                    return Ok(Transformed::no(LogicalPlan::Join(join)));
                }
                LogicalPlan::Join(join).map_children(guarded)
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

/// Returns a plan of no rows with a plan's columns.
fn nothing(plan: &LogicalPlan) -> LogicalPlan {
    LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: Arc::clone(plan.schema()) })
}

fn never(condition: &Expr) -> bool {
    matches!(condition, Expr::Literal(ScalarValue::Boolean(Some(false) | None), _))
}

/// Returns true for a condition that has no columns, or none once those of a select list are written out.
fn may_be_free(condition: &Expr) -> bool {
    !matches!(condition, Expr::Literal(..))
}

/// Returns a plan whose aggregates of all rows are below a limit of their one row, which no condition passes.
fn guarded(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => {
            let input = Arc::new(LogicalPlan::Aggregate(aggregate));
            Ok(Transformed::yes(LogicalPlan::Limit(Limit { skip: None, fetch: Some(Box::new(lit(1i64))), input })))
        }
        LogicalPlan::Projection(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Extension(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::Union(_) => plan.map_children(guarded),
        other => Ok(Transformed::no(other)),
    }
}
