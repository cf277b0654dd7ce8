//! Averages of integers that are cast to `numeric`, which they are in Postgres.

use datafusion::common::JoinType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, LogicalPlan};

use super::casts::{CastRule, cast_by};
use super::rules::expressions_of_node;

/// Casts averages of integers to `numeric` by a rule of their own; to be run before types are coerced.
pub(super) fn averages_as_numeric(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|plan| {
        if !casts_to_numeric(&plan)? {
            return Ok(Transformed::no(plan));
        }
        let inputs: Vec<LogicalPlan> = plan.inputs().into_iter().cloned().collect();
        let inputs: Vec<&LogicalPlan> = inputs.iter().collect();
        let schema = merge_schema(&inputs);
        expressions_of_node(plan, &schema, |expr| {
            Ok(match expr {
                Expr::Cast(cast) if cast.field.data_type().is_decimal() && is_average(&cast.expr, &inputs) => {
                    Transformed::yes(cast_by(CastRule::AverageToNumeric, cast))
                }
                other => Transformed::no(other),
            })
        })
    })
    .data()
}

fn casts_to_numeric(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_expressions(|expr| {
        found |= expr.exists(|part| Ok(matches!(part, Expr::Cast(cast) if cast.field.data_type().is_decimal())))?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Returns true if a value is the average of integers.
fn is_average(expr: &Expr, inputs: &[&LogicalPlan]) -> bool {
    let is_integer = |argument: &Expr| {
        inputs.iter().any(|input| argument.get_type(input.schema()).is_ok_and(|found| found.is_integer()))
    };
    match expr {
        Expr::Alias(alias) => is_average(&alias.expr, inputs),
        Expr::Negative(inner) => is_average(inner, inputs),
        Expr::AggregateFunction(call) => call.func.name() == "avg" && call.params.args.first().is_some_and(is_integer),
        Expr::WindowFunction(call) => call.fun.name() == "avg" && call.params.args.first().is_some_and(is_integer),
        Expr::ScalarFunction(call) if matches!(call.name(), "coalesce" | "nullif" | "abs") => {
            call.args.iter().any(|argument| is_average(argument, inputs))
        }
        Expr::ScalarSubquery(subquery) => is_column_of_averages(&subquery.subquery, 0),
        Expr::Column(column) => inputs.iter().any(|input| {
            input.schema().maybe_index_of_column(column).is_some_and(|index| is_column_of_averages(input, index))
        }),
        _ => false,
    }
}

fn is_column_of_averages(plan: &LogicalPlan, index: usize) -> bool {
    let computed = |exprs: &[Expr], index: usize, input: &LogicalPlan| {
        exprs.get(index).is_some_and(|expr| is_average(expr, &[input]))
    };
    match plan {
        LogicalPlan::Projection(projection) => computed(&projection.expr, index, &projection.input),
        LogicalPlan::Aggregate(aggregate) => {
            let keys = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
            index.checked_sub(keys).is_some_and(|index| computed(&aggregate.aggr_expr, index, &aggregate.input))
        }
        LogicalPlan::Window(window) => match index.checked_sub(window.input.schema().fields().len()) {
            Some(index) => computed(&window.window_expr, index, &window.input),
            None => is_column_of_averages(&window.input, index),
        },
        LogicalPlan::Join(join) => match (join.join_type, index.checked_sub(join.left.schema().fields().len())) {
            (JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full, Some(index)) => {
                is_column_of_averages(&join.right, index)
            }
            (JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full, None) => {
                is_column_of_averages(&join.left, index)
            }
            _ => false,
        },
        LogicalPlan::Union(union) => union.inputs.iter().any(|input| is_column_of_averages(input, index)),
        LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Distinct(Distinct::All(_)) => {
            plan.inputs().into_iter().any(|input| is_column_of_averages(input, index))
        }
        _ => false,
    }
}
