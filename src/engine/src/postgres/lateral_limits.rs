//! Some rows of a subquery in FROM for each row beside it: `FROM a, LATERAL (SELECT … FROM b WHERE b.k = a.k ORDER BY t LIMIT 3)`.
//!
//! DataFusion joins both sides by what they are compared by, and would take those rows of all. They are counted apart for each
//! value of `b.k`, so that the comparison may come after the limit.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprFunctionExt, FetchType, LogicalPlan, LogicalPlanBuilder, Operator, SkipType, Subquery,
    binary_expr, lit,
};
use datafusion::optimizer::AnalyzerRule;

/// Counts the rows of correlated subqueries in FROM that have a limit.
#[derive(Debug)]
pub(super) struct LateralLimits;

impl AnalyzerRule for LateralLimits {
    fn name(&self) -> &str {
        "lateral_limits"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut found = false;
        plan.apply_with_subqueries(|node| {
            found |= matches!(node, LogicalPlan::Subquery(_));
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if !found {
            return Ok(plan);
        }
        plan.transform_up_with_subqueries(|node| {
            let LogicalPlan::Subquery(subquery) = &node else { return Ok(Transformed::no(node)) };
            Ok(match counted(&subquery.subquery)? {
                Some(plan) => {
                    let outer_ref_columns = plan.all_out_ref_exprs();
                    let subquery = Arc::new(plan);
                    let spans = Default::default();
                    Transformed::yes(LogicalPlan::Subquery(Subquery { subquery, outer_ref_columns, spans }))
                }
                None => Transformed::no(node),
            })
        })
        .data()
    }
}

/// Returns a subquery whose rows are counted for each value that they are compared by; `None` for one without a limit, and for
/// one that compares otherwise than by `=`.
fn counted(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Limit(limit) = plan else { return Ok(None) };
    let (skip, fetch) = match (limit.get_skip_type()?, limit.get_fetch_type()?) {
        (SkipType::Literal(skip), FetchType::Literal(fetch)) => (skip as u64, fetch.map(|fetch| fetch as u64)),
        _ => return Ok(None),
    };
    let (keys, rows) = sorted(&limit.input);
    let LogicalPlan::Projection(outputs) = rows else { return Ok(None) };
    let LogicalPlan::Filter(filter) = outputs.input.as_ref() else { return Ok(None) };
    let reads_outer = outputs.expr.iter().any(Expr::contains_outer) || keys.iter().any(|key| key.expr.contains_outer());
    if reads_outer || !filter.input.all_out_ref_exprs().is_empty() {
        return Ok(None);
    }
    let (correlated, own): (Vec<_>, Vec<_>) =
        split_conjunction_owned(filter.predicate.clone()).into_iter().partition(Expr::contains_outer);
    let Some(pairs) = correlated.into_iter().map(compared).collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())
    else {
        return Ok(None);
    };
    let mut rows = LogicalPlanBuilder::from(filter.input.as_ref().clone());
    if let Some(own) = conjunction(own) {
        rows = rows.filter(own)?;
    }
    let name = |index: usize| format!("__lateral_key{index}");
    let partition: Vec<Expr> = (0..pairs.len()).map(|index| Expr::Column(Column::from_name(name(index)))).collect();
    let mut columns = outputs.expr.clone();
    columns.extend(pairs.iter().enumerate().map(|(index, (inner, _))| inner.clone().alias(name(index))));
    let number = row_number().partition_by(partition.clone());
    let number = if keys.is_empty() { number.build()? } else { number.order_by(keys).build()? };
    let number = number.alias("__lateral_row");
    let row = Expr::Column(Column::from_name("__lateral_row"));
    let mut wanted = row.clone().gt(lit(skip));
    if let Some(fetch) = fetch {
        wanted = wanted.and(row.lt_eq(lit(skip.saturating_add(fetch))));
    }
    for (inner, (_, outer)) in partition.into_iter().zip(pairs) {
        wanted = wanted.and(binary_expr(inner, Operator::Eq, outer));
    }
    let columns_of_plan: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
    let rows = rows.project(columns)?.window([number])?.filter(wanted)?.project(columns_of_plan)?;
    Ok(Some(rows.build()?))
}

/// Returns what rows are sorted by, and the rows.
fn sorted(plan: &LogicalPlan) -> (Vec<Sort>, &LogicalPlan) {
    match plan {
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => (sort.expr.clone(), &sort.input),
        // The planner adds keys to the rows that it sorts, and takes them off again.
        LogicalPlan::Projection(projection) if projection.expr.iter().all(|expr| matches!(expr, Expr::Column(_))) => {
            match projection.input.as_ref() {
                LogicalPlan::Sort(sort) if sort.fetch.is_none() => (sort.expr.clone(), &sort.input),
                _ => (Vec::new(), plan),
            }
        }
        plan => (Vec::new(), plan),
    }
}

/// Returns the sides of `column = value of the row beside it`, the column first.
fn compared(condition: Expr) -> Option<(Expr, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return None };
    let is_outer = |side: &Expr| side.contains_outer() && side.column_refs().is_empty();
    let has_subquery = |side: &Expr| {
        let is_subquery = |part: &Expr| matches!(part, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_));
        side.exists(|part| Ok(is_subquery(part))).unwrap_or(true)
    };
    if has_subquery(&left) || has_subquery(&right) {
        return None;
    }
    match (left.contains_outer(), right.contains_outer()) {
        (false, true) if is_outer(&right) => Some((*left, *right)),
        (true, false) if is_outer(&left) => Some((*right, *left)),
        _ => None,
    }
}
