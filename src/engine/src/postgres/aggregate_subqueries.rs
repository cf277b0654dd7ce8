//! Correlated subqueries of an aggregate of all rows, which have one row even where they find none: `WHERE 0 IN (SELECT count(*) FROM b
//! WHERE b.k = a.k)`.
//!
//! DataFusion joins the query around with the groups that there are, and has no row for the others. As values such subqueries are
//! right, so that those of EXISTS, IN, ANY and ALL become values, and HAVING a CASE of theirs.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, Spans};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction};
use datafusion::logical_expr::{
    Expr, FetchType, LogicalPlan, LogicalPlanBuilder, Operator, SkipType, Subquery, binary_expr, lit, when,
};
use datafusion::optimizer::AnalyzerRule;

use super::correlated_aggregates::{columns_of, with_columns};
use super::rules::expressions_of_node;
use crate::plans::{has_expression, subquery_of};

/// Makes values of correlated subqueries that have one row.
#[derive(Debug)]
pub(super) struct AggregateSubqueries;

impl AnalyzerRule for AggregateSubqueries {
    fn name(&self) -> &str {
        "aggregate_subqueries"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        if !has_expression(&plan, |part, _| subquery_of(part).is_some_and(is_correlated))? {
            return Ok(plan);
        }
        plan.transform_up_with_subqueries(|plan| {
            let schema = merge_schema(&plan.inputs());
            expressions_of_node(plan, &schema, |expr| {
                let Some(subquery) = subquery_of(&expr).filter(|subquery| is_correlated(subquery)) else {
                    return Ok(Transformed::no(expr));
                };
                match OneRow::of(&subquery.subquery)? {
                    Some(row) => row.value_of(expr),
                    None => Ok(Transformed::no(expr)),
                }
            })
        })
        .data()
    }
}

fn is_correlated(subquery: &Subquery) -> bool {
    !subquery.outer_ref_columns.is_empty()
}

/// A subquery that is an aggregate of all rows.
struct OneRow {
    aggregate: LogicalPlan,
    /// What the row must meet, over the columns of the aggregate: HAVING, or a LIMIT of none.
    having: Option<Expr>,
    /// The first output, over the columns of the aggregate.
    output: Expr,
}

impl OneRow {
    fn of(plan: &LogicalPlan) -> Result<Option<Self>> {
        // `EXISTS (SELECT FROM …)` has none.
        let first = plan.schema().iter().next();
        let mut output = first.map_or_else(|| lit(true), |column| Expr::Column(Column::from(column)));
        let (mut having, mut plan) = (Vec::new(), plan);
        loop {
            plan = match plan {
                LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => break,
                LogicalPlan::Projection(projection) => {
                    let computed = columns_of(projection);
                    for expr in having.iter_mut().chain([&mut output]) {
                        match with_columns(std::mem::take(expr), &computed) {
                            Some(known) => *expr = known,
                            None => return Ok(None),
                        }
                    }
                    &projection.input
                }
                LogicalPlan::Filter(filter) => {
                    having.extend(split_conjunction(&filter.predicate).into_iter().cloned());
                    &filter.input
                }
                LogicalPlan::Sort(sort) if sort.fetch.is_none() => &sort.input,
                LogicalPlan::Limit(limit) => {
                    match (limit.get_skip_type()?, limit.get_fetch_type()?) {
                        (SkipType::Literal(0), FetchType::Literal(None | Some(1..))) => {}
                        (SkipType::Literal(_), FetchType::Literal(_)) => having.push(lit(false)),
                        _ => return Ok(None),
                    }
                    &limit.input
                }
                _ => return Ok(None),
            };
        }
        Ok(Some(Self { aggregate: plan.clone(), having: conjunction(having), output }))
    }

    /// Returns an expression of this subquery as one of its values.
    fn value_of(self, expr: Expr) -> Result<Transformed<Expr>> {
        let is_there = self.having.as_ref().map(|having| self.scalar(having.clone().is_true())).transpose()?;
        Ok(Transformed::yes(match expr {
            Expr::ScalarSubquery(subquery) => match self.having.clone() {
                Some(having) => self.scalar(when(having, self.output.clone()).end()?)?,
                None => return Ok(Transformed::no(Expr::ScalarSubquery(subquery))),
            },
            Expr::Exists(Exists { negated, .. }) => {
                let is_there = is_there.unwrap_or_else(|| lit(true));
                if negated { !is_there } else { is_there }
            }
            Expr::InSubquery(InSubquery { expr, negated, .. }) => {
                let found = binary_expr(*expr, Operator::Eq, self.scalar(self.output.clone())?);
                let found = match is_there {
                    Some(is_there) => is_there.and(found),
                    None => found,
                };
                if negated { !found } else { found }
            }
            Expr::SetComparison(SetComparison { expr, op, quantifier, .. }) => {
                let compared = binary_expr(*expr, op, self.scalar(self.output.clone())?);
                match (is_there, quantifier) {
                    (None, _) => compared,
                    (Some(is_there), SetQuantifier::Any) => is_there.and(compared),
                    (Some(is_there), SetQuantifier::All) => (!is_there).or(compared),
                }
            }
            other => return Ok(Transformed::no(other)),
        }))
    }

    /// Returns a value over the columns of the aggregate as that of a subquery.
    fn scalar(&self, value: Expr) -> Result<Expr> {
        let plan = LogicalPlanBuilder::from(self.aggregate.clone()).project([value.alias("__value")])?.build()?;
        let outer_ref_columns = plan.all_out_ref_exprs();
        Ok(Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: Spans::new() }))
    }
}
