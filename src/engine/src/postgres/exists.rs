//! `EXISTS (SELECT …)` and `x IN (SELECT …)` as values: in a select list, a CASE, an aggregate's argument or an order.
//!
//! DataFusion plans them in conditions only. Elsewhere they become scalar subqueries that count rows, and everywhere those that
//! read elements of arrays of the query around them.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Spans};
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, binary_expr, lit};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

use super::laterals::reads_elements;
use super::refusal::refusal;
use super::rules::expressions_of_node;
use super::subqueries::{outer, output_beside};
use crate::plans::subquery_of;

/// Rewrites subqueries whose rows are asked for outside of conditions.
#[derive(Debug)]
pub(super) struct ExistsAsScalar;

impl AnalyzerRule for ExistsAsScalar {
    fn name(&self) -> &str {
        "exists_as_scalar"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            if matches!(plan, LogicalPlan::Join(_) | LogicalPlan::TableScan(_)) {
                return Ok(Transformed::no(plan));
            }
            let is_condition = matches!(plan, LogicalPlan::Filter(_));
            let schema = merge_schema(&plan.inputs());
            expressions_of_node(plan, &schema, |expr| match subquery_of(&expr) {
                Some(subquery) if is_condition && !reads_elements(&subquery.subquery)? => Ok(Transformed::no(expr)),
                _ => value(expr, &schema),
            })
        })
        .data()
    }
}

/// Rewrites `x = ANY (SELECT …)` and `x <> ALL (SELECT …)` to IN and NOT IN, and prepares the subqueries of others for the
/// conditions that DataFusion makes of them.
pub(super) fn quantified(expr: Expr, _: &DFSchema) -> Result<Transformed<Expr>> {
    let SetComparison { expr, subquery, op, quantifier } = match expr {
        Expr::SetComparison(comparison) => comparison,
        other => return Ok(Transformed::no(other)),
    };
    let negated = match (op, &quantifier) {
        (Operator::Eq, SetQuantifier::Any) => Some(false),
        (Operator::NotEq, SetQuantifier::All) => Some(true),
        _ => None,
    };
    if let Some(negated) = negated {
        return Ok(Transformed::yes(Expr::InSubquery(InSubquery { expr, subquery, negated })));
    }
    let is_asking = |part: &Expr| matches!(part, Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_));
    if expr.exists(|part| Ok(is_asking(part)))? {
        let message = "EXISTS, IN, ANY and ALL of a subquery are not supported in a value compared with those of another; \
                       join, or use WITH";
        return Err(refusal("0A000", message));
    }
    let (plan, _) = output_beside(&subquery, &expr)?;
    if plan.schema().fields().iter().any(|field| field.data_type().is_nested()) {
        let message = format!("{op} {quantifier} (SELECT …) of arrays is not supported; use EXISTS");
        return Err(refusal("0A000", message));
    }
    let subquery = Subquery { subquery: Arc::new(plan), ..subquery };
    Ok(Transformed::yes(Expr::SetComparison(SetComparison { expr, subquery, op, quantifier })))
}

fn value(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    Ok(match expr {
        Expr::Exists(Exists { subquery, negated }) => {
            let found = has_rows(Arc::unwrap_or_clone(subquery.subquery))?;
            Transformed::yes(if negated { !found } else { found })
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            let (plan, output) = output_beside(&subquery, &expr)?;
            let output = Expr::Column(output);
            let equal = binary_expr(output.clone(), Operator::Eq, outer(*expr.clone(), schema)?);
            let found = has_rows(LogicalPlanBuilder::from(plan.clone()).filter(equal)?.build()?)?;
            // NULL IN (…) is NULL if there are rows, and so is what is not found beside NULLs.
            let nulls = LogicalPlanBuilder::from(plan.clone()).filter(output.is_null())?.build()?;
            let unknown = has_rows(plan)?.and(expr.is_null()).or(has_rows(nulls)?);
            let value = found.or(unknown.and(Expr::Literal(ScalarValue::Boolean(None), None)));
            Transformed::yes(if negated { !value } else { value })
        }
        other => Transformed::no(other),
    })
}

/// Returns an expression that is true if a subquery has rows, and false if it has none.
fn has_rows(plan: LogicalPlan) -> Result<Expr> {
    let outer_ref_columns = plan.all_out_ref_exprs();
    let mut rows = LogicalPlanBuilder::from(plan);
    if outer_ref_columns.is_empty() {
        rows = rows.limit(0, Some(1))?;
    }
    let counted = rows.aggregate(Vec::<Expr>::new(), [count(lit(1i64)).alias("rows")])?.build()?;
    let subquery = Subquery { subquery: Arc::new(counted), outer_ref_columns, spans: Spans::new() };
    Ok(binary_expr(Expr::ScalarSubquery(subquery), Operator::Gt, lit(0i64)).is_true())
}
