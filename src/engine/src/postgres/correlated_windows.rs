//! Window functions and outer joins inside of correlated subqueries: `WHERE 2 IN (SELECT row_number() OVER (ORDER BY t) FROM b WHERE
//! b.k = a.k)`.
//!
//! DataFusion moves what such a subquery compares with the query around it above them, so that a window would be one of all rows, and
//! a condition of an outer join one of rows. Windows are parted by what is compared; other places are refused.

use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::utils::{merge_schema, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Join, LogicalPlan, Subquery, Window};
use datafusion::optimizer::AnalyzerRule;

use super::correlated_aggregates::is_equality;
use super::refusal::refusal;
use super::rules::expressions_of_node;
use crate::plans::has_expression;

/// Parts windows of correlated subqueries by what they compare.
#[derive(Debug)]
pub(super) struct CorrelatedWindows;

impl AnalyzerRule for CorrelatedWindows {
    fn name(&self) -> &str {
        "correlated_windows"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let is_outer = |part: &Expr, _: &LogicalPlan| matches!(part, Expr::OuterReferenceColumn(..));
        if !has_expression(&plan, is_outer)? {
            return Ok(plan);
        }
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Subquery(subquery) => Ok(Transformed::yes(LogicalPlan::Subquery(parted(subquery)?))),
            plan => {
                let schema = merge_schema(&plan.inputs());
                expressions_of_node(plan, &schema, |expr| {
                    Ok(Transformed::yes(match expr {
                        Expr::ScalarSubquery(subquery) => Expr::ScalarSubquery(parted(subquery)?),
                        Expr::Exists(exists) => Expr::Exists(Exists { subquery: parted(exists.subquery)?, ..exists }),
                        Expr::InSubquery(within) => {
                            Expr::InSubquery(InSubquery { subquery: parted(within.subquery)?, ..within })
                        }
                        Expr::SetComparison(compared) => {
                            let subquery = parted(compared.subquery)?;
                            Expr::SetComparison(SetComparison { subquery, ..compared })
                        }
                        other => return Ok(Transformed::no(other)),
                    }))
                })
            }
        })
        .data()
    }
}

fn parted(subquery: Subquery) -> Result<Subquery> {
    if subquery.outer_ref_columns.is_empty() {
        return Ok(subquery);
    }
    let root = Arc::clone(&subquery.subquery);
    let plan = Arc::unwrap_or_clone(subquery.subquery).transform_up(|node| match node {
        LogicalPlan::Window(window) if reads_around(&window.input, &root) => window_parted(window, &root),
        LogicalPlan::Join(join) => match is_of_rows(&join, &root) {
            true => Ok(Transformed::no(LogicalPlan::Join(join))),
            false => Err(unsupported("an outer join in", " in its condition")),
        },
        other => Ok(Transformed::no(other)),
    })?;
    Ok(Subquery { subquery: Arc::new(plan.data), ..subquery })
}

/// Returns true if a part of a subquery reads columns of the query around it, not of another part.
fn reads_around(plan: &LogicalPlan, root: &LogicalPlan) -> bool {
    plan.all_out_ref_exprs().iter().any(|outer| is_around(outer, root))
}

fn is_around(outer: &Expr, root: &LogicalPlan) -> bool {
    match outer {
        Expr::OuterReferenceColumn(_, column) => {
            !root.exists(|inner| Ok(inner.schema().has_column(column))).unwrap_or(true)
        }
        _ => false,
    }
}

/// Returns true if a join reads the query around it nowhere but in conditions that rows must meet.
fn is_of_rows(join: &Join, root: &LogicalPlan) -> bool {
    let has_outer = |expr: &Expr| expr.exists(|part| Ok(is_around(part, root))).unwrap_or(true);
    let is_asked =
        join.filter.iter().any(has_outer) || join.on.iter().any(|(one, other)| has_outer(one) || has_outer(other));
    match join.join_type {
        JoinType::Left => !is_asked && !reads_around(&join.right, root),
        JoinType::Right => !is_asked && !reads_around(&join.left, root),
        JoinType::Full => !is_asked && !reads_around(&join.left, root) && !reads_around(&join.right, root),
        _ => true,
    }
}

fn window_parted(window: Window, root: &LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut keys = Vec::new();
    let mut plan = window.input.as_ref();
    while reads_around(plan, root) {
        plan = match plan {
            LogicalPlan::Filter(filter) => {
                for condition in split_conjunction(&filter.predicate).into_iter().filter(|it| it.contains_outer()) {
                    match condition {
                        Expr::BinaryExpr(BinaryExpr { left, right, .. }) if is_equality(condition) => {
                            keys.push(if left.contains_outer() { right.as_ref() } else { left.as_ref() }.clone());
                        }
                        _ => return Err(unsupported("a window function over rows of", " otherwise than by =")),
                    }
                }
                filter.input.as_ref()
            }
            LogicalPlan::Projection(projection) if !projection.expr.iter().any(Expr::contains_outer) => {
                projection.input.as_ref()
            }
            LogicalPlan::Window(inner) if !inner.window_expr.iter().any(Expr::contains_outer) => inner.input.as_ref(),
            _ => return Err(unsupported("a window function over rows of", " at this place")),
        };
    }
    let schema = Arc::clone(window.input.schema());
    let is_there = |key: &Expr| key.column_refs().into_iter().all(|column| schema.has_column(column));
    if !keys.iter().all(is_there) {
        return Err(unsupported("a window function over rows of", " by columns that it does not return"));
    }
    expressions_of_node(LogicalPlan::Window(window), &schema, |expr| {
        Ok(match expr {
            Expr::WindowFunction(mut call) => {
                let new = keys.iter().filter(|key| !call.params.partition_by.contains(key)).cloned();
                let new: Vec<_> = new.collect();
                call.params.partition_by.extend(new);
                Transformed::yes(Expr::WindowFunction(call))
            }
            other => Transformed::no(other),
        })
    })
}

fn unsupported(what: &str, how: &str) -> DataFusionError {
    refusal(
        "0A000",
        format!("{what} a subquery that compares columns of a query around it{how} is not supported; join"),
    )
}
