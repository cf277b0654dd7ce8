//! −0 is 0 where values are keys: of joins, `IN`, `CASE x WHEN`, `NULLIF`, windows, DISTINCT in aggregates, and of an order
//! with more keys. Arrow's kernels take them for two values there.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{BinaryExpr, Case, InList, InSubquery};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, SortExpr, Subquery, binary_expr, lit,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;
use neuroql_catalogs::reads_activations;

use super::arithmetic::checked;
use super::rules::{each_expression, expressions_of_node};

/// Adds 0 to keys that are floating-point numbers.
#[derive(Debug)]
pub(super) struct NormalizeZeroKeys;

impl AnalyzerRule for NormalizeZeroKeys {
    fn name(&self) -> &str {
        "zero_keys"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = each_expression(plan, compared)?;
        plan.transform_up_with_subqueries(|plan| {
            let is_ordered = matches!(plan, LogicalPlan::Sort(_) | LogicalPlan::Window(_));
            // A scan is asked for the greatest of its own column of activations, which it would not find in a sum.
            let is_own = is_ordered && reads_activations(&plan)?;
            let is_left = |key: &Expr| is_own && matches!(key, Expr::Column(_));
            let schema = merge_schema(&plan.inputs());
            match plan {
                LogicalPlan::Join(mut join) => {
                    let mut changed = false;
                    for (left, right) in &mut join.on {
                        changed |= unsign(left, join.left.schema())?;
                        changed |= unsign(right, join.right.schema())?;
                    }
                    let join = LogicalPlan::Join(join);
                    Ok(if changed { Transformed::yes(join) } else { Transformed::no(join) })
                }
                LogicalPlan::Sort(mut sort) => {
                    let last = sort.expr.len().saturating_sub(1);
                    let mut changed = false;
                    for key in &mut sort.expr[..last] {
                        changed |= !is_left(&key.expr) && unsign(&mut key.expr, &schema)?;
                    }
                    let sort = LogicalPlan::Sort(sort);
                    Ok(if changed { Transformed::yes(sort) } else { Transformed::no(sort) })
                }
                plan @ (LogicalPlan::Window(_) | LogicalPlan::Aggregate(_)) => {
                    expressions_of_node(plan, &schema, |expr| keys(expr, &schema, is_left))
                }
                other => Ok(Transformed::no(other)),
            }
        })
        .data()
    }
}

/// Changes the keys of a window function or of an aggregate.
fn keys(expr: Expr, schema: &DFSchema, is_left: impl Fn(&Expr) -> bool) -> Result<Transformed<Expr>> {
    let mut changed = false;
    let mut each = |key: &mut Expr| -> Result<()> {
        changed |= !is_left(key) && unsign(key, schema)?;
        Ok(())
    };
    let expr = match expr {
        Expr::WindowFunction(mut call) => {
            call.params.partition_by.iter_mut().try_for_each(&mut each)?;
            call.params.order_by.iter_mut().map(|key: &mut SortExpr| &mut key.expr).try_for_each(&mut each)?;
            Expr::WindowFunction(call)
        }
        Expr::AggregateFunction(mut call) if call.params.distinct => {
            // The order of a DISTINCT is that of its argument.
            call.params.args.iter_mut().try_for_each(&mut each)?;
            call.params.order_by.iter_mut().map(|key| &mut key.expr).try_for_each(&mut each)?;
            Expr::AggregateFunction(call)
        }
        other => other,
    };
    Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
}

/// Rewrites comparisons that are no operators, and those that may become keys.
fn compared(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Case(Case { expr: Some(mut base), mut when_then_expr, else_expr }) => {
            let mut changed = unsign(&mut base, schema)?;
            if changed {
                for (when, _) in &mut when_then_expr {
                    changed |= unsign(when, schema)?;
                }
            }
            let case = Expr::Case(Case { expr: Some(base), when_then_expr, else_expr });
            Ok(if changed { Transformed::yes(case) } else { Transformed::no(case) })
        }
        // It may become a key of a join.
        Expr::BinaryExpr(BinaryExpr { mut left, op: op @ (Operator::Eq | Operator::IsNotDistinctFrom), mut right })
            if left.any_column_refs() && right.any_column_refs() =>
        {
            let changed = unsign(&mut left, schema)? | unsign(&mut right, schema)?;
            let equal = Expr::BinaryExpr(BinaryExpr { left, op, right });
            Ok(if changed { Transformed::yes(equal) } else { Transformed::no(equal) })
        }
        Expr::ScalarFunction(call)
            if call.name() == "nullif"
                && call.args.len() == 2
                && !call.args[0].is_volatile()
                && is_float(&call.args[0], schema) =>
        {
            let (value, other) = (call.args[0].clone(), call.args[1].clone());
            let null = Expr::Literal(ScalarValue::try_from(&value.get_type(schema)?)?, None);
            let equal = binary_expr(value.clone(), Operator::Eq, other);
            let when_then_expr = vec![(Box::new(equal), Box::new(null))];
            Ok(Transformed::yes(Expr::Case(Case { expr: None, when_then_expr, else_expr: Some(Box::new(value)) })))
        }
        Expr::InList(InList { mut expr, mut list, negated })
            if is_float(&expr, schema) && list.iter().any(|item| !is_number_but_zero(item)) =>
        {
            let mut changed = unsign(&mut expr, schema)?;
            for item in &mut list {
                changed |= unsign(item, schema)?;
            }
            let within = Expr::InList(InList { expr, list, negated });
            Ok(if changed { Transformed::yes(within) } else { Transformed::no(within) })
        }
        Expr::InSubquery(InSubquery { mut expr, subquery, negated }) if is_float(&expr, schema) => {
            unsign(&mut expr, schema)?;
            let plan = Arc::unwrap_or_clone(subquery.subquery);
            let (qualifier, field) = plan.schema().qualified_field(0);
            let (mut column, name) = (Expr::from((qualifier, field)), field.name().clone());
            unsign(&mut column, plan.schema())?;
            let plan = LogicalPlanBuilder::from(plan).project([column.alias(name)])?.build()?;
            let subquery = Subquery { subquery: Arc::new(plan), ..subquery };
            Ok(Transformed::yes(Expr::InSubquery(InSubquery { expr, subquery, negated })))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn is_float(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Float32 | DataType::Float64))
}

/// Returns true for a constant that no zero is equal to.
fn is_number_but_zero(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Float32(number), _) => number.is_none_or(|number| number != 0.0),
        Expr::Literal(ScalarValue::Float64(number), _) => number.is_none_or(|number| number != 0.0),
        Expr::Literal(ScalarValue::Int64(number), _) => number.is_none_or(|number| number != 0),
        Expr::Literal(ScalarValue::Int32(number), _) => number.is_none_or(|number| number != 0),
        Expr::Cast(cast) => is_number_but_zero(&cast.expr),
        _ => false,
    }
}

/// Takes the sign off a zero; returns true if the expression was changed.
fn unsign(expr: &mut Expr, schema: &DFSchema) -> Result<bool> {
    let zero = match expr.get_type(schema) {
        Ok(DataType::Float32) => lit(0f32),
        Ok(DataType::Float64) => lit(0f64),
        _ => return Ok(false),
    };
    match expr {
        Expr::Literal(ScalarValue::Float32(Some(number)), _) => *number += 0.0,
        Expr::Literal(ScalarValue::Float64(Some(number)), _) => *number += 0.0,
        Expr::Literal(..) => return Ok(false),
        _ => {
            let Some(plus) = checked(Operator::Plus) else { return Ok(false) };
            *expr = plus.call(vec![std::mem::take(expr), zero]);
        }
    }
    Ok(true)
}
