//! Calls of async functions wherever SQL allows an expression.
//!
//! DataFusion 55 plans calls of async functions in projections, in filters and in the arguments of aggregates. In sort
//! keys, groups, windows, other parts of aggregates, conditions of joins and `VALUES` they come to be executed as if
//! they were synchronous, and fail. [`AsyncCalls`] computes those in a projection below.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, UnnestOptions, not_impl_err};
use datafusion::error::Result;
use datafusion::functions_nested::expr_fn::make_array;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, ExprSchemable, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Values};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// Optimizer rule that moves calls of async functions to where they can be planned. It must be the last rule: another
/// pushes filters down into joins.
#[derive(Debug, Default)]
pub struct AsyncCalls;

impl OptimizerRule for AsyncCalls {
    fn name(&self) -> &str {
        "async_calls"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Sort(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) if calls_in(&plan) => {
                below(plan).map(Transformed::yes)
            }
            LogicalPlan::Values(values) if values.values.iter().flatten().any(has_call) => {
                row_by_row(values).map(Transformed::yes)
            }
            LogicalPlan::Join(Join { filter: Some(ref filter), .. }) if has_call(filter) => match plan {
                LogicalPlan::Join(join) => beside(join).map(Transformed::yes),
                plan => Ok(Transformed::no(plan)),
            },
            plan => Ok(Transformed::no(plan)),
        }
    }
}

fn is_call(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(function) if function.func.as_async().is_some())
}

fn has_call(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(is_call(expr))).unwrap_or_default()
}

fn calls_in(plan: &LogicalPlan) -> bool {
    plan.expressions().iter().any(has_call)
}

/// Calls that are to be columns of a projection.
struct ProjectedCalls {
    of: &'static str,
    calls: Vec<Expr>,
}

impl ProjectedCalls {
    /// Creates an empty list; `of` is a part of the columns' names.
    fn new(of: &'static str) -> Self {
        Self { of, calls: Vec::new() }
    }

    fn name(&self, number: usize) -> String {
        format!("__async_{}_{number}", self.of)
    }

    /// Returns the column of a call.
    fn column(&mut self, call: Expr) -> Expr {
        let number = self.calls.iter().position(|known| *known == call).unwrap_or_else(|| {
            self.calls.push(call);
            self.calls.len() - 1
        });
        Expr::Column(Column::new_unqualified(self.name(number)))
    }

    /// Replaces the calls in an expression by columns; the expression keeps its name.
    fn named(&mut self, expr: Expr, names: &NamePreserver) -> Result<Expr> {
        if let Expr::GroupingSet(_) = expr {
            return expr.map_children(|expr| self.named(expr, names).map(Transformed::yes)).data();
        }
        let name = names.save(&expr);
        Ok(name.restore(replaced(expr, |call| self.column(call))?))
    }

    /// Adds a column for each call to a plan.
    fn project(self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        if self.calls.is_empty() {
            return Ok(plan.clone());
        }
        let own = plan.schema().columns().into_iter().map(Expr::Column);
        let names: Vec<String> = (0..self.calls.len()).map(|number| self.name(number)).collect();
        let calls = self.calls.into_iter().zip(names).map(|(call, name)| call.alias(name));
        LogicalPlanBuilder::from(plan.clone()).project(own.chain(calls))?.build()
    }
}

/// Replaces the calls in an expression.
fn replaced(expr: Expr, mut other: impl FnMut(Expr) -> Expr) -> Result<Expr> {
    let replace = |expr: Expr| match is_call(&expr) {
        true => Ok(Transformed::new(other(expr), true, TreeNodeRecursion::Jump)),
        false => Ok(Transformed::no(expr)),
    };
    expr.transform_down(replace).data()
}

/// Projects a plan to the columns of a schema.
fn only(schema: &DFSchema, plan: LogicalPlan) -> Result<LogicalPlan> {
    LogicalPlanBuilder::from(plan).project(schema.columns().into_iter().map(Expr::Column))?.build()
}

/// Moves the calls of a plan with one input below it.
fn below(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut calls = ProjectedCalls::new("call");
    let names = NamePreserver::new(&plan);
    let expressions = plan.expressions().into_iter().map(|expr| calls.named(expr, &names)).collect::<Result<_>>()?;
    let input = calls.project(plan.inputs()[0])?;
    only(plan.schema(), plan.with_new_exprs(expressions, vec![input])?)
}

/// Moves the calls in the condition of a join: below it on the side whose columns they read, or into a filter above it
/// if they read both sides.
fn beside(join: Join) -> Result<LogicalPlan> {
    let (mut left, mut right) = (ProjectedCalls::new("left"), ProjectedCalls::new("right"));
    let is_of =
        |call: &Expr, side: &LogicalPlan| call.column_refs().into_iter().all(|column| side.schema().has_column(column));
    let of_both = |expr: &Expr| is_call(expr) && !is_of(expr, &join.left) && !is_of(expr, &join.right);
    let (mut within, mut above) = (Vec::new(), Vec::new());
    for condition in join.filter.into_iter().flat_map(split_conjunction_owned) {
        if condition.exists(|expr| Ok(of_both(expr)))? {
            above.push(condition);
            continue;
        }
        let column = |call: Expr| if is_of(&call, &join.left) { left.column(call) } else { right.column(call) };
        within.push(replaced(condition, column)?);
    }
    if !above.is_empty() && join.join_type != JoinType::Inner {
        return not_impl_err!(
            "an async function such as activation() of columns of both sides in the condition of a join that is no inner one"
        );
    }
    let joined = LogicalPlan::Join(Join::try_new(
        Arc::new(left.project(&join.left)?),
        Arc::new(right.project(&join.right)?),
        join.on,
        conjunction(within),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?);
    let filtered = match conjunction(above) {
        Some(condition) => LogicalPlanBuilder::from(joined).filter(condition)?.build()?,
        None => joined,
    };
    only(&join.schema, filtered)
}

/// Plans `VALUES` with calls: each column becomes an array of calls in one row, which is unnested.
fn row_by_row(Values { schema, values }: Values) -> Result<LogicalPlan> {
    let no_columns = DFSchema::empty();
    let columns = schema.columns();
    let array = |(place, column): (usize, &Column)| {
        let kind = schema.field(place).data_type();
        let elements = values.iter().map(|row| row[place].clone().cast_to(kind, &no_columns));
        Ok(make_array(elements.collect::<Result<_>>()?).alias(column.name.clone()))
    };
    let arrays = columns.iter().enumerate().map(array).collect::<Result<Vec<Expr>>>()?;
    LogicalPlanBuilder::empty(true)
        .project(arrays)?
        .unnest_columns_with_options(columns, UnnestOptions::default())?
        .build()
}
