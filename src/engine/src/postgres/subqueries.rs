//! `IN` and `NOT IN` of subqueries with three values of truth.
//!
//! DataFusion plans `x NOT IN (SELECT y …)` as an anti join that minds NULL if `x` is a column, the subquery is not
//! correlated and nothing stands beside it but AND. Everywhere else NULL would count as a value that is not equal.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, Spans, TableReference};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Filter, Join, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, binary_expr, lit,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

use super::refusal::refusal;

/// Rewrites subqueries that DataFusion would answer without regard to NULL.
#[derive(Debug)]
pub(super) struct NullAwareSubqueries;

impl AnalyzerRule for NullAwareSubqueries {
    fn name(&self) -> &str {
        "three_valued_in"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.apply_with_subqueries(|node| check_levels(node).map(|()| TreeNodeRecursion::Continue))?;
        plan.transform_up_with_subqueries(|plan| {
            let mut changed = false;
            let filter = match plan {
                LogicalPlan::Filter(filter) => filter,
                LogicalPlan::Join(join) => match above(join)? {
                    LogicalPlan::Filter(filter) => {
                        changed = true;
                        filter
                    }
                    other => return Ok(Transformed::no(other)),
                },
                other => return Ok(Transformed::no(other)),
            };
            let schema = merge_schema(&[filter.input.as_ref()]);
            let mut parts = Vec::new();
            for part in split_conjunction_owned(filter.predicate) {
                let part = condition(part, &schema)?;
                changed |= part.transformed;
                parts.push(part.data);
            }
            let predicate = conjunction(parts).unwrap_or_else(|| lit(true));
            let plan = LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?);
            Ok(if changed { Transformed::yes(plan) } else { Transformed::no(plan) })
        })
        .data()
    }
}

/// Makes the conditions of an inner join that ask a subquery of its rows a filter of them; the optimizer would put them
/// there after this, or not at all.
fn above(mut join: Join) -> Result<LogicalPlan> {
    let is_asking = |part: &Expr| match part {
        Expr::InSubquery(_) => true,
        Expr::Exists(Exists { subquery, .. }) | Expr::ScalarSubquery(subquery) => {
            !subquery.outer_ref_columns.is_empty()
        }
        _ => false,
    };
    let asks = |expr: &Expr| expr.exists(|part| Ok(is_asking(part))).unwrap_or(true);
    if join.join_type != JoinType::Inner
        && let Some(condition) = join.filter.as_ref().filter(|condition| asks(condition))
    {
        let is_in = condition.exists(|part| Ok(matches!(part, Expr::InSubquery(_)))).unwrap_or(true);
        let subquery = if is_in { "IN (SELECT …)" } else { "a correlated subquery" };
        let message =
            format!("{subquery} in the condition of an outer join is not supported; put it into WHERE, or join");
        return Err(refusal("0A000", message));
    }
    let Some(filter) = join.filter.take_if(|filter| join.join_type == JoinType::Inner && asks(filter)) else {
        return Ok(LogicalPlan::Join(join));
    };
    let (asking, others): (Vec<_>, Vec<_>) = split_conjunction_owned(filter).into_iter().partition(asks);
    join.filter = conjunction(others);
    let predicate = conjunction(asking).unwrap_or_else(|| lit(true));
    Ok(LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(LogicalPlan::Join(join)))?))
}

/// Rewrites a condition that rows must pass.
fn condition(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let negated = match expr {
        Expr::InSubquery(InSubquery { negated: false, .. }) => return Ok(Transformed::no(expr)),
        Expr::Not(inner) => match *inner {
            Expr::InSubquery(within) => {
                let within = InSubquery { negated: !within.negated, ..within };
                return condition(Expr::InSubquery(within), schema);
            }
            inner => return anywhere(Expr::Not(Box::new(inner)), schema),
        },
        Expr::InSubquery(within) => within,
        // NULL is as good as false on either side of an OR.
        other => return anywhere(other, schema),
    };
    let is_correlated = !negated.subquery.outer_ref_columns.is_empty();
    if matches!(*negated.expr, Expr::Column(_)) && !is_correlated {
        return Ok(Transformed::no(Expr::InSubquery(negated)));
    }
    // Nothing in the subquery is equal, and nothing may be. An anti join that minds NULL would do so for the columns of the
    // correlation, too, once the optimizer has moved a comparison of constants out of its condition.
    let may_be_null = may_be_null(&negated, schema)?;
    let value = outer(*negated.expr.clone(), schema)?;
    let (subquery, output) = output_beside(&negated.subquery, &negated.expr)?;
    let output = Expr::Column(output);
    let equal = binary_expr(output.clone(), Operator::Eq, value.clone());
    let hit = if may_be_null { equal.or(output.is_null()).or(value.is_null()) } else { equal };
    let rows = LogicalPlanBuilder::from(subquery).filter(hit)?.build()?;
    Ok(Transformed::yes(exists(rows, true)))
}

/// Rewrites a condition at any place of an expression: NULL is not false there.
fn anywhere(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        let within = match expr {
            Expr::InSubquery(within) => within,
            other => return Ok(Transformed::no(other)),
        };
        // The optimizer may find NOT IN beside AND after all, and has no anti join that minds NULL for a correlation.
        let is_correlated = !within.subquery.outer_ref_columns.is_empty();
        let is_never_null = !may_be_null(&within, schema)?;
        let beside = match is_correlated {
            // The optimizer loses columns of the table that this would make of the subquery.
            true => match output_beside(&within.subquery, &within.expr) {
                Err(_) if is_never_null => None,
                found => Some(found?),
            },
            false => None,
        };
        let is_beside = beside.is_some();
        let (subquery, output) = match beside {
            Some(found) => found,
            None => marked_output(&within.subquery)?,
        };
        let plan = Arc::new(subquery.clone());
        let within = InSubquery { subquery: Subquery { subquery: plan, ..within.subquery.clone() }, ..within };
        if is_never_null && !is_beside {
            return Ok(Transformed::yes(Expr::InSubquery(within)));
        }
        let output = Expr::Column(output);
        let rows = exists(subquery.clone(), false);
        let of = |condition: Expr| -> Result<Expr> {
            Ok(exists(LogicalPlanBuilder::from(subquery.clone()).filter(condition)?.build()?, false))
        };
        let unknown = rows.and(within.expr.clone().is_null().or(of(output.clone().is_null())?));
        let null = Expr::Literal(ScalarValue::Boolean(None), None);
        let found = match is_beside {
            true => of(binary_expr(output, Operator::Eq, outer(*within.expr.clone(), schema)?))?,
            false => Expr::InSubquery(InSubquery { negated: false, ..within.clone() }),
        };
        let found = if is_never_null { found } else { found.or(unknown.and(null)) };
        Ok(Transformed::yes(if within.negated { Expr::Not(Box::new(found)) } else { found }))
    })
}

/// Returns the plan of a subquery and its column.
fn output_of(subquery: &Subquery) -> Result<(LogicalPlan, Column)> {
    let plan = Arc::unwrap_or_clone(Arc::clone(&subquery.subquery));
    let column = Column::from(plan.schema().qualified_field(0));
    Ok((plan, column))
}

/// Returns the plan of a subquery and its column, which has a table: DataFusion projects one without twice where it makes a mark
/// of the comparison.
fn marked_output(subquery: &Subquery) -> Result<(LogicalPlan, Column)> {
    let (plan, column) = output_of(subquery)?;
    if column.relation.is_some() {
        return Ok((plan, column));
    }
    let plan = LogicalPlanBuilder::from(plan).alias(OUTPUT)?.build()?;
    Ok((plan, Column::new(Some(OUTPUT), column.name)))
}

/// Refuses subqueries that read a query further out than the one around them, for which DataFusion has no plan.
fn check_levels(node: &LogicalPlan) -> Result<()> {
    let schema = merge_schema(&node.inputs());
    // The columns of a LATERAL in a subquery are those of that subquery.
    let is_near = |outer: &Expr, subquery: &LogicalPlan| match outer {
        Expr::OuterReferenceColumn(_, column) => {
            schema.has_column(column) || subquery.exists(|inner| Ok(inner.schema().has_column(column))).unwrap_or(false)
        }
        _ => false,
    };
    node.apply_expressions(|expr| {
        expr.apply(|part| {
            let (value, subquery) = match part {
                Expr::InSubquery(within) => (Some(within.expr.as_ref()), &within.subquery),
                Expr::Exists(Exists { subquery, .. }) | Expr::ScalarSubquery(subquery) => (None, subquery),
                _ => return Ok(TreeNodeRecursion::Continue),
            };
            let mut outer = subquery.outer_ref_columns.iter();
            if value.is_some_and(Expr::contains_outer) || !outer.all(|outer| is_near(outer, &subquery.subquery)) {
                return Err(too_far());
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(())
}

fn too_far() -> DataFusionError {
    refusal(
        "0A000",
        "a subquery that reads a query further out than the one around it is not supported; join, or use WITH",
    )
}

/// The name of a column that a value of the query around it is compared with, or of its table.
const OUTPUT: &str = "__output";

/// Returns the plan of a subquery and its column, whose name is none of those in a value that it will be compared with: the
/// optimizer tells the columns of both queries apart by their names.
pub(super) fn output_beside(subquery: &Subquery, value: &Expr) -> Result<(LogicalPlan, Column)> {
    let (plan, column) = output_of(subquery)?;
    if !value.column_refs().into_iter().any(|column| is_shadowed(column, &plan)) {
        return Ok((plan, column));
    }
    if !subquery.outer_ref_columns.is_empty() {
        let message = "a value compared with a correlated subquery that reads a table of the same name is not supported; \
                       give one of them an alias";
        return Err(refusal("0A000", message));
    }
    let plan = LogicalPlanBuilder::from(plan).project([Expr::Column(column).alias(OUTPUT)])?.build()?;
    Ok((plan, Column::from_name(OUTPUT)))
}

/// Returns true if a table in a plan has the name of a column's table, or a column without one the column's name.
fn is_shadowed(column: &Column, plan: &LogicalPlan) -> bool {
    let is_same = |qualifier: Option<&TableReference>, name: &str| match &column.relation {
        Some(relation) => qualifier == Some(relation),
        None => qualifier.is_none() && name == column.name,
    };
    plan.schema().iter().any(|(qualifier, field)| is_same(qualifier, field.name()))
        || !matches!(plan, LogicalPlan::SubqueryAlias(_))
            && plan.inputs().into_iter().any(|input| is_shadowed(column, input))
}

/// Returns true if `IN` may be NULL.
fn may_be_null(within: &InSubquery, schema: &DFSchema) -> Result<bool> {
    Ok(within.expr.nullable(schema)? || within.subquery.subquery.schema().field(0).is_nullable())
}

fn exists(plan: LogicalPlan, negated: bool) -> Expr {
    let outer_ref_columns = plan.all_out_ref_exprs();
    let subquery = Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: Spans::new() };
    Expr::Exists(Exists { subquery, negated })
}

/// Returns an expression of the query as its subquery sees it.
///
/// # Errors
/// 0A000 if it reads a query around that one, or in a subquery of its own.
pub(super) fn outer(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    expr.transform_up(|expr| {
        Ok(match expr {
            Expr::Column(column) => {
                let (qualifier, field) = schema.qualified_field_from_column(&column)?;
                let column = Column::new(qualifier.cloned(), field.name());
                Transformed::yes(Expr::OuterReferenceColumn(Arc::clone(field), column))
            }
            Expr::OuterReferenceColumn(..) => return Err(too_far()),
            Expr::InSubquery(InSubquery { ref subquery, .. })
            | Expr::Exists(Exists { ref subquery, .. })
            | Expr::ScalarSubquery(ref subquery)
                if !subquery.outer_ref_columns.is_empty() =>
            {
                return Err(too_far());
            }
            other => Transformed::no(other),
        })
    })
    .data()
}
