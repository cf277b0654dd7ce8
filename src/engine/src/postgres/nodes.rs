//! Rewrites and refusals of whole nodes of a plan: orders, DISTINCT ON, set operations, and functions that stand where
//! DataFusion means something else by them.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Distinct, DistinctOn, Expr, ExprSchemable, LogicalPlan, Operator, binary_expr, lit};
use datafusion::scalar::ScalarValue;
use datafusion::sql::utils::UNNEST_PLACEHOLDER;

use super::array_keys::{as_bytes, order_by_bytes};
use super::functions;
use super::overloads::has_rows;
use super::refusal::refusal;
use super::rules::expressions_of_node;

/// More rows than there are, as the limit of a query that has an OFFSET only.
const ALL_ROWS: i64 = 1 << 40;

/// Rewrites `SELECT DISTINCT ON (…) … ORDER BY` to one whose columns may be NULL, as those that it is planned as are.
/// Gives `ORDER BY … OFFSET` a limit: without one DataFusion takes the order for one that nothing depends on.
pub(super) fn rewrite_order(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut on = match plan {
        LogicalPlan::Distinct(Distinct::On(on)) => on,
        LogicalPlan::Sort(mut sort) => {
            let changed = order_by_bytes(&mut sort.expr, sort.input.schema());
            return Ok(Transformed::new_transformed(LogicalPlan::Sort(sort), changed));
        }
        LogicalPlan::Limit(mut limit) if limit.skip.is_some() && limit.fetch.is_none() && is_sorted(&limit.input) => {
            limit.fetch = Some(Box::new(lit(ALL_ROWS)));
            return Ok(Transformed::yes(LogicalPlan::Limit(limit)));
        }
        other => return Ok(Transformed::no(other)),
    };
    let mut changed = false;
    let schema = Arc::clone(on.input.schema());
    // −0 is the same key as 0: which of their rows is the first is for the keys after it to say.
    for key in on.on_expr.iter_mut().chain(on.sort_expr.iter_mut().flatten().map(|sort| &mut sort.expr)) {
        let marked = std::mem::take(key).transform_up(never_null_as_output)?;
        changed |= marked.transformed;
        *key = marked.data;
        let zero = match key.get_type(&schema)? {
            DataType::Float32 => lit(0f32),
            DataType::Float64 => lit(0f64),
            _ => {
                changed |= as_bytes(key, &schema);
                continue;
            }
        };
        *key = binary_expr(std::mem::take(key), Operator::Plus, zero);
        changed = true;
    }
    let mut outputs = Vec::with_capacity(on.select_expr.len());
    for (output, (qualifier, field)) in on.select_expr.iter().zip(on.schema.iter()) {
        let marked = output.clone().unalias().transform_up(never_null_as_output)?;
        let is_nullable = marked.data.nullable(&schema)?;
        if is_nullable && !marked.transformed {
            outputs.push(output.clone());
            continue;
        }
        changed = true;
        let marked = if is_nullable { marked.data } else { functions::nullable(marked.data) };
        outputs.push(marked.alias_qualified(qualifier.cloned(), field.name()));
    }
    if !changed {
        return Ok(Transformed::no(LogicalPlan::Distinct(Distinct::On(on))));
    }
    let on = DistinctOn::try_new(on.on_expr, outputs, on.sort_expr, on.input)?;
    Ok(Transformed::yes(LogicalPlan::Distinct(Distinct::On(on))))
}

fn is_sorted(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
            plan.inputs().iter().all(|input| is_sorted(input))
        }
        _ => false,
    }
}

/// Checks that no constant integer is a key of GROUPING SETS, ROLLUP or CUBE: Postgres takes it for the position of an output,
/// which DataFusion knows in a plain GROUP BY only.
pub(super) fn check_grouping_sets(plan: &LogicalPlan) -> Result<()> {
    let LogicalPlan::Aggregate(aggregate) = plan else { return Ok(()) };
    let is_position = |key: &&Expr| matches!(key, Expr::Literal(ScalarValue::Int64(_) | ScalarValue::Int32(_), _));
    for key in &aggregate.group_expr {
        if let Expr::GroupingSet(set) = key
            && set.distinct_expr().iter().any(is_position)
        {
            let message = "a position in GROUPING SETS, ROLLUP or CUBE is not supported; write the expression";
            return Err(refusal("0A000", message));
        }
    }
    Ok(())
}

/// Checks that no array of arrays is unnested: Postgres has a row for each element of the inner ones.
pub(super) fn check_unnested(plan: &LogicalPlan) -> Result<()> {
    let LogicalPlan::Unnest(unnest) = plan else { return Ok(()) };
    for (index, _) in &unnest.list_type_columns {
        let field = unnest.input.schema().field(*index);
        let mut data_type = field.data_type();
        let same = unnest.list_type_columns.iter().filter(|(other, _)| other == index);
        for _ in 0..same.map(|(_, list)| list.depth).max().unwrap_or(1) {
            if let DataType::List(item) = data_type {
                data_type = item.data_type();
            }
        }
        if data_type.is_list() && !has_rows(field) {
            let message = "unnest of an array of arrays is not supported; unnest the array of all elements, flatten(…)";
            return Err(refusal("0A000", message));
        }
    }
    Ok(())
}

/// Checks that no aggregate compares arrays of arrays, which DataFusion fails to.
pub(super) fn check_nested_arrays(call: &AggregateFunction, schema: &DFSchema) -> Result<()> {
    let name = call.func.name();
    let is_nested = |arg: &Expr| matches!(arg.get_type(schema), Ok(DataType::List(item)) if item.data_type().is_list());
    if (call.params.distinct || matches!(name, "min" | "max")) && call.params.args.iter().any(is_nested) {
        let distinct = if call.params.distinct { "DISTINCT " } else { "" };
        let message = format!("{name}({distinct}…) of arrays of arrays is not supported; use flatten(…)");
        return Err(refusal("0A000", message));
    }
    Ok(())
}

/// Checks that `generate_series` is not used as a value: it would be an array, where Postgres has rows. Nor is it one of dates,
/// of which Postgres makes instants.
pub(super) fn check_series(plan: &LogicalPlan) -> Result<()> {
    let is_series = |expr: &Expr| matches!(expr, Expr::ScalarFunction(call) if call.name() == "generate_series");
    let mut schema = None;
    plan.apply_expressions(|expr| {
        let of_dates = expr.exists(|part| {
            let Expr::ScalarFunction(call) = part else { return Ok(false) };
            if call.name() != "generate_series" {
                return Ok(false);
            }
            let schema = schema.get_or_insert_with(|| merge_schema(&plan.inputs()));
            Ok(call.args.iter().any(|bound| matches!(bound.get_type(schema), Ok(DataType::Date32 | DataType::Date64))))
        })?;
        if of_dates {
            let message =
                "generate_series of values of type date is not supported here; cast them to timestamp or timestamptz";
            return Err(refusal("0A000", message));
        }
        // That of `unnest(generate_series(…))`.
        let is_unnested = matches!(expr, Expr::Alias(alias)
            if alias.name.starts_with(UNNEST_PLACEHOLDER) && is_series(&alias.expr));
        if !is_unnested && expr.exists(|part| Ok(is_series(part)))? {
            let message = "generate_series as a value is not supported; use FROM generate_series(…), \
                           unnest(generate_series(…)) or the array range(…)";
            return Err(refusal("0A000", message));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// Marks `IS TRUE` and its like, where their values are rows' and not conditions, as values that may be NULL: DataFusion plans
/// them as comparisons that may, and finds later that the columns differ.
pub(super) fn predicates_as_outputs(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if !matches!(plan, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_)) {
        return Ok(Transformed::no(plan));
    }
    let schema = merge_schema(&plan.inputs());
    expressions_of_node(plan, &schema, never_null_as_output)
}

fn never_null_as_output(expr: Expr) -> Result<Transformed<Expr>> {
    let is_never_null = match &expr {
        Expr::IsTrue(_) | Expr::IsFalse(_) | Expr::IsUnknown(_) => true,
        Expr::IsNotTrue(_) | Expr::IsNotFalse(_) | Expr::IsNotUnknown(_) => true,
        Expr::BinaryExpr(binary) => matches!(binary.op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom),
        _ => false,
    };
    Ok(if is_never_null { Transformed::yes(functions::nullable(expr)) } else { Transformed::no(expr) })
}

/// Checks that an array of arrays has a subscript for each dimension, and none beside a slice: DataFusion takes one dimension
/// after the other, where Postgres has NULL for `m[1]` and takes `m[1][1:2]` for `m[1:1][1:2]`.
pub(super) fn check_subscripts(plan: &LogicalPlan) -> Result<()> {
    let called = |expr: &Expr| match expr {
        Expr::ScalarFunction(call) if matches!(call.name(), "array_element" | "array_slice") => Some(call.clone()),
        _ => None,
    };
    let mut schema = None;
    plan.apply_expressions(|expr| {
        let mut is_inside = false;
        expr.apply(|part| {
            let outer = std::mem::take(&mut is_inside);
            let Some(call) = called(part) else { return Ok(TreeNodeRecursion::Continue) };
            let inner = call.args.first().and_then(called);
            if inner.is_some_and(|inner| inner.name() == "array_slice" || call.name() == "array_slice") {
                let message = "a slice beside other subscripts is not supported; take it in a subquery";
                return Err(refusal("0A000", message));
            }
            let schema = schema.get_or_insert_with(|| merge_schema(&plan.inputs()));
            if call.name() == "array_element" && !outer && part.get_type(schema)?.is_list() {
                return Err(refusal("0A000", "an array of arrays needs a subscript for each dimension"));
            }
            // The first argument is visited next.
            is_inside = call.name() == "array_element";
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(())
}
