//! `EXCEPT ALL` and `INTERSECT ALL`, which count how often a row comes.
//!
//! DataFusion plans them as joins that do not. Here the first of equal rows of one side meets the first of the other, the second
//! the second, and so on.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, JoinConstraint, JoinType, NullEquality};
use datafusion::error::Result;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Distinct, Expr, ExprFunctionExt, Join, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::AnalyzerRule;

/// Names of the numbers of equal rows on either side.
const NUMBERS: [&str; 2] = ["__row_of_left", "__row_of_right"];

/// Numbers equal rows on both sides; to be run once both sides have their types.
#[derive(Debug)]
pub(super) struct CountedRows;

impl AnalyzerRule for CountedRows {
    fn name(&self) -> &str {
        "counted_rows"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Join(join)
                if is_set_operation(&join) && !is_distinct(&join.left) && !is_numbered(&join.left) =>
            {
                counted(join).map(Transformed::yes)
            }
            other => Ok(Transformed::no(other)),
        })
        .data()
    }
}

/// Returns true for a join that `INTERSECT` or `EXCEPT` is planned as.
pub(super) fn is_set_operation(join: &Join) -> bool {
    join.null_equality == NullEquality::NullEqualsNull
        && matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
}

/// Returns true for the first side of one that does not count.
fn is_distinct(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Distinct(Distinct::All(_)))
}

/// Returns true for the rows of a view, which are numbered when it is made.
fn is_numbered(plan: &LogicalPlan) -> bool {
    plan.schema().fields().last().is_some_and(|field| field.name() == NUMBERS[0])
}

fn counted(join: Join) -> Result<LogicalPlan> {
    let outputs: Vec<Expr> = join.left.schema().iter().map(Expr::from).collect();
    let [left, right] = [join.left, join.right];
    let mut on = join.on;
    on.push((Expr::Column(Column::from_name(NUMBERS[0])), Expr::Column(Column::from_name(NUMBERS[1]))));
    let joined = Join::try_new(
        Arc::new(numbered(left, NUMBERS[0])?),
        Arc::new(numbered(right, NUMBERS[1])?),
        on,
        join.filter,
        join.join_type,
        JoinConstraint::On,
        NullEquality::NullEqualsNull,
        join.null_aware,
    )?;
    LogicalPlanBuilder::from(LogicalPlan::Join(joined)).project(outputs)?.build()
}

/// Adds a column with the number of each row among those that are equal.
fn numbered(plan: Arc<LogicalPlan>, name: &str) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = plan.schema().iter().map(Expr::from).collect();
    let number = row_number().partition_by(columns).build()?.alias(name);
    LogicalPlanBuilder::from(plan).window([number])?.build()
}
