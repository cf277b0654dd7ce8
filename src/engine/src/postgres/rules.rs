//! Rewrites expressions into ones that answer as Postgres does.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{BinaryExpr, Case, Cast, Like, ScalarFunction, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, disjunction, merge_schema};
use datafusion::logical_expr::{
    Expr, ExprSchemable, GroupingSet, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, Union, WindowFrameBound,
    WindowFrameUnits, binary_expr, cast, lit,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

use super::PARTIAL;
use super::arithmetic::{checked, checked_negation, is_checked};
use super::array_keys::order_by_bytes;
use super::assignments::{assignment, copied_in_zone};
use super::averages::averages_as_numeric;
use super::cast_expressions::{cast_of, is_constant_number};
use super::casts::{CastRule, cast_by, rule};
use super::contains::{ArrayContains, is_contains};
use super::functions::{ArrayHas, is_array_has};
use super::guards::{guarded, in_order, may_fail};
use super::nodes::{
    check_grouping_sets, check_nested_arrays, check_subscripts, check_unnested, predicates_as_outputs, rewrite_order,
};
use super::nulls::{arrays_compared, minding, rows_compared};
use super::operators::{as_integer, is_text_constant, type_of_constants};
use super::patterns::{found, is_translated, like, no_escape, regular, similar};
use super::quotients::{is_quotient, quotient};
use super::refusal::refusal;
use super::text_functions::check_text_function;
use super::{
    array_rows, functions, instants, numeric_arithmetic, ordered_sets, rounding, spans, templates, text_forms, times,
    uuids,
};

/// Rewrites before types are coerced: operators that DataFusion plans otherwise than they are meant.
#[derive(Debug)]
pub(super) struct RewriteOperators;

impl AnalyzerRule for RewriteOperators {
    fn name(&self) -> &str {
        "postgres_operators"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let zone = config.execution.time_zone.as_deref().unwrap_or("UTC");
        plan.apply_with_subqueries(|plan| {
            check_grouping_sets(plan)?;
            check_unnested(plan).map(|()| TreeNodeRecursion::Continue)
        })?;
        let plan = averages_as_numeric(plan)?;
        let plan = plan.transform_up_with_subqueries(rewrite_order).data()?;
        each_expression(plan, |expr, schema| operator(expr, schema, zone))
    }
}

/// Rewrites when types are known: arithmetic and casts.
#[derive(Debug)]
pub(super) struct RewriteArithmetic;

impl AnalyzerRule for RewriteArithmetic {
    fn name(&self) -> &str {
        "postgres_values"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let zone = config.execution.time_zone.as_deref().unwrap_or("UTC");
        plan.apply_with_subqueries(|plan| check_subscripts(plan).map(|()| TreeNodeRecursion::Continue))?;
        let plan = plan.transform_up_with_subqueries(assignment).data()?;
        let plan = copied_in_zone(plan, zone)?;
        let marked = plan.transform_up_with_subqueries(predicates_as_outputs)?;
        let plan = if marked.transformed { with_current_schemas(marked.data)? } else { marked.data };
        let plan = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Filter(filter) => Ok(in_order(filter)),
            other => Ok(Transformed::no(other)),
        });
        let plan = plan.data()?;
        each_expression(plan, |expr, schema| value(expr, schema, zone))
    }
}

/// Rewrites every expression of a plan and its subqueries, innermost first.
pub(super) fn each_expression(
    plan: LogicalPlan,
    rewrite: impl Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| {
        let mut schema = merge_schema(&plan.inputs());
        if let LogicalPlan::TableScan(scan) = &plan {
            let source = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?;
            schema.merge(&source);
        }
        expressions_of_node(plan, &schema, |expr| rewrite(expr, &schema))
    })?;
    if rewritten.transformed { with_current_schemas(rewritten.data) } else { Ok(rewritten.data) }
}

/// Gives each node the schema that follows from its inputs, after some have changed: those above, such as UNION, have the
/// schema that their inputs had.
pub(super) fn with_current_schemas(plan: LogicalPlan) -> Result<LogicalPlan> {
    let current = |plan: LogicalPlan| {
        let plan = match plan {
            // Before types are coerced its inputs may differ.
            LogicalPlan::Union(union) => LogicalPlan::Union(Union::try_new(union.inputs.clone()).unwrap_or(union)),
            other => other.recompute_schema()?,
        };
        Ok(Transformed::yes(plan))
    };
    plan.transform_up_with_subqueries(current).data()
}

/// Rewrites the expressions of one node, innermost first. They keep their names, and the rows of VALUES the one type that
/// they have.
pub(super) fn expressions_of_node(
    plan: LogicalPlan,
    schema: &DFSchema,
    mut rewrite: impl FnMut(Expr) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&plan);
    let types: Vec<DataType> = match &plan {
        LogicalPlan::Values(rows) => rows.schema.fields().iter().map(|field| field.data_type().clone()).collect(),
        _ => Vec::new(),
    };
    let mut columns = types.iter().cycle();
    let plan = plan.map_expressions(|expr| {
        if let Expr::GroupingSet(set) = expr {
            return keys_of_set(set, &names, &mut rewrite);
        }
        let name = names.save(&expr);
        let planned = columns.next();
        let mut rewritten = expr.transform_up(&mut rewrite)?;
        if let Some(planned) = planned
            && rewritten.transformed
            && rewritten.data.get_type(schema)? != *planned
        {
            rewritten = rewritten.update_data(|expr| cast(expr, planned.clone()));
        }
        Ok(rewritten.update_data(|expr| name.restore(expr)))
    })?;
    if plan.transformed { plan.map_data(LogicalPlan::recompute_schema) } else { Ok(plan) }
}

/// Rewrites the keys of GROUPING SETS and its like: each has a name of its own.
fn keys_of_set(
    set: GroupingSet,
    names: &NamePreserver,
    rewrite: &mut impl FnMut(Expr) -> Result<Transformed<Expr>>,
) -> Result<Transformed<Expr>> {
    let mut changed = false;
    let mut each = |keys: Vec<Expr>| -> Result<Vec<Expr>> {
        let mut rewritten = Vec::with_capacity(keys.len());
        for key in keys {
            let name = names.save(&key);
            let key = key.transform_up(&mut *rewrite)?;
            changed |= key.transformed;
            rewritten.push(if key.transformed { name.restore(key.data) } else { key.data });
        }
        Ok(rewritten)
    };
    let set = match set {
        GroupingSet::Rollup(keys) => GroupingSet::Rollup(each(keys)?),
        GroupingSet::Cube(keys) => GroupingSet::Cube(each(keys)?),
        GroupingSet::GroupingSets(sets) => {
            GroupingSet::GroupingSets(sets.into_iter().map(&mut each).collect::<Result<_>>()?)
        }
    };
    Ok(Transformed::new_transformed(Expr::GroupingSet(set), changed))
}

fn operator(expr: Expr, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    match &expr {
        Expr::ScalarFunction(call) => check_text_function(call, schema)?,
        Expr::AggregateFunction(call) => {
            check_nested_arrays(call, schema)?;
            uuids::check_aggregate(call, schema)?;
        }
        _ => {}
    }
    match expr {
        Expr::SimilarTo(Like { negated, expr, pattern, escape_char, case_insensitive: _ }) => {
            uuids::check_pattern(&expr, schema)?;
            let operator = if negated { Operator::RegexNotMatch } else { Operator::RegexMatch };
            let pattern = similar(*pattern, Some(escape_char.unwrap_or('\\')));
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(expr, operator, Box::new(pattern)))))
        }
        Expr::Like(like_expr) => like_operator(like_expr, schema),
        binary @ Expr::BinaryExpr(_) => binary_operator(binary),
        Expr::InList(mut found) => {
            let mut changed = false;
            if found.list.iter().any(is_text_constant)
                && let Some(data_type) = type_of_constants(&found.expr, schema)
            {
                changed = cast_constants(found.list.iter_mut(), &data_type);
            }
            // The optimizer makes this of it too late: it leaves out `x = x` of a query further out, NULL or not.
            if let [item] = found.list.as_slice()
                && *item == *found.expr
            {
                let operator = if found.negated { Operator::NotEq } else { Operator::Eq };
                return Ok(Transformed::yes(binary_expr(*found.expr, operator, found.list.remove(0))));
            }
            Ok(Transformed::new_transformed(Expr::InList(found), changed))
        }
        Expr::Between(mut between) => {
            let mut changed = false;
            if let Some(data_type) = type_of_constants(&between.expr, schema) {
                changed = cast_constants([between.low.as_mut(), between.high.as_mut()], &data_type);
            }
            Ok(Transformed::new_transformed(Expr::Between(between), changed))
        }
        // A subquery without rows is NULL, whatever its column is.
        Expr::ScalarSubquery(subquery)
            if !subquery.subquery.schema().field(0).is_nullable() && !has_one_row(&subquery.subquery) =>
        {
            let plan = Arc::unwrap_or_clone(subquery.subquery);
            let (qualifier, field) = plan.schema().qualified_field(0);
            let (column, name) = (Expr::from((qualifier, field)), field.name().clone());
            // A correlated subquery becomes a join, whose columns may be NULL.
            let value = match subquery.outer_ref_columns.is_empty() {
                true => functions::nullable_constant(column),
                false => functions::nullable(column),
            };
            let plan = LogicalPlanBuilder::from(plan).project([value.alias(name)])?.build()?;
            Ok(Transformed::yes(Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), ..subquery })))
        }
        row @ (Expr::IsNull(_) | Expr::IsNotNull(_)) => row_operator(row),
        // Postgres sorts to find those that are equal, and keeps that order.
        Expr::AggregateFunction(mut call)
            if call.params.distinct
                && call.params.order_by.is_empty()
                && matches!(call.func.name(), "array_agg" | "string_agg")
                && !call.params.args.is_empty() =>
        {
            call.params.order_by = vec![call.params.args[0].clone().sort(true, false)];
            Ok(Transformed::yes(Expr::AggregateFunction(call)))
        }
        Expr::AggregateFunction(call) if ordered_sets::is_to_order(&call) => {
            Ok(Transformed::yes(Expr::AggregateFunction(ordered_sets::ordered(call))))
        }
        Expr::AggregateFunction(mut call) => {
            // The order of a DISTINCT is that of its argument.
            let changed = !call.params.distinct && order_by_bytes(&mut call.params.order_by, schema);
            Ok(Transformed::new_transformed(Expr::AggregateFunction(call), changed))
        }
        Expr::Case(case) => Ok(match minding(&case) {
            Some(case) => Transformed::yes(case),
            None => Transformed::no(Expr::Case(case)),
        }),
        Expr::WindowFunction(call) => window_order(call, schema),
        call @ Expr::ScalarFunction(_) => function_call(call, schema, zone),
        // A number beyond `bigint` is `numeric`; smaller ones of this type were made by `arrow_cast`.
        Expr::Literal(ScalarValue::UInt64(Some(number)), metadata) if number > i64::MAX as u64 => {
            Ok(Transformed::yes(Expr::Literal(ScalarValue::Decimal128(Some(i128::from(number)), 20, 0), metadata)))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Casts the texts among values that are constants; returns true if there are some.
fn cast_constants<'a>(values: impl IntoIterator<Item = &'a mut Expr>, data_type: &DataType) -> bool {
    let mut changed = false;
    for value in values.into_iter().filter(|value| is_text_constant(value)) {
        *value = cast(std::mem::take(value), data_type.clone());
        changed = true;
    }
    changed
}

/// Has LIKE check and translate its pattern.
fn like_operator(like_expr: Like, schema: &DFSchema) -> Result<Transformed<Expr>> {
    for operand in [&like_expr.expr, &like_expr.pattern] {
        uuids::check_pattern(operand, schema)?;
        if matches!(operand.get_type(schema), Ok(DataType::Binary | DataType::LargeBinary | DataType::BinaryView)) {
            return Err(refusal("0A000", "LIKE over bytea is not supported; compare encode(…, 'hex')"));
        }
    }
    match like_expr.escape_char {
        None | Some('\\') if ends_in_escape(&like_expr.pattern) => Err(no_escape()),
        None | Some('\\') if is_checked_pattern(&like_expr.pattern) => Ok(Transformed::no(Expr::Like(like_expr))),
        None | Some('\\') => {
            let pattern = Box::new(like(*like_expr.pattern, '\\'));
            Ok(Transformed::yes(Expr::Like(Like { pattern, escape_char: None, ..like_expr })))
        }
        Some(escape) => {
            let pattern = Box::new(like(*like_expr.pattern, escape));
            Ok(Transformed::yes(Expr::Like(Like { pattern, escape_char: None, ..like_expr })))
        }
    }
}

/// Rewrites an operator of two operands, before types are coerced.
fn binary_operator(expr: Expr) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if matches!(
                op,
                Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch
            ) && !is_translated(&right) =>
        {
            let right = Box::new(regular(*right));
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
        }
        // The optimizer takes `x # x` for 0, NULL or not.
        Expr::BinaryExpr(BinaryExpr { left, op: op @ Operator::BitwiseXor, right }) if left == right => {
            let right = Box::new(functions::nullable(*right));
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
        }
        // The parser takes `a IS NOT DISTINCT FROM b AND c` for `a IS NOT DISTINCT FROM (b AND c)`.
        Expr::BinaryExpr(BinaryExpr {
            op: Operator::IsNotDistinctFrom | Operator::IsDistinctFrom, ref right, ..
        }) if matches!(&**right, Expr::BinaryExpr(BinaryExpr { op: Operator::And | Operator::Or, .. })) => {
            let message = "AND or OR after IS [NOT] DISTINCT FROM is ambiguous here; put the comparison in parentheses, \
                           as in (a IS NOT DISTINCT FROM b) AND c";
            Err(refusal("0A000", message))
        }
        other => row_operator(other),
    }
}

/// Rewrites a call of a function, before types are coerced.
fn function_call(expr: Expr, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    match expr {
        // `x = ANY (array)` is planned as DataFusion's own function, which does not mind NULL.
        Expr::ScalarFunction(function) if function.name() == "array_has" && !is_array_has(&function.func) => {
            let func = Arc::new(ArrayHas::of(function.func));
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: function.args })))
        }
        Expr::ScalarFunction(function) if matches!(function.name(), "array_append" | "array_prepend") => {
            Ok(match array_rows::checked(&function, schema) {
                Some(checked) => Transformed::yes(checked),
                None => Transformed::no(Expr::ScalarFunction(function)),
            })
        }
        Expr::ScalarFunction(mut function)
            if matches!(
                function.name(),
                "regexp_replace"
                    | "regexp_like"
                    | "regexp_match"
                    | "regexp_count"
                    | "regexp_instr"
                    | "regexp_substr"
                    | "regexp_split_to_array"
                    | "pg_regexp_matches"
            ) && function.args.get(1).is_some_and(|pattern| !is_translated(pattern)) =>
        {
            let pattern = std::mem::replace(&mut function.args[1], lit(false));
            // Of `regexp_like` only whether it does.
            function.args[1] = if function.name() == "regexp_like" { regular(pattern) } else { found(pattern) };
            Ok(Transformed::yes(Expr::ScalarFunction(function)))
        }
        Expr::ScalarFunction(function)
            if PARTIAL.contains(&function.name())
                && function.args.iter().any(|arg| arg.get_type(schema).is_ok_and(|it| it.is_decimal())) =>
        {
            let name = function.name();
            let message = format!("{name} of numeric is not supported; cast it to double precision");
            Err(refusal("0A000", message))
        }
        // Digits of the two's complement, of which an integer has eight.
        Expr::ScalarFunction(mut function) if function.name() == "to_hex" && function.args.len() == 1 => {
            let number = as_integer(function.args.remove(0));
            let is_narrow = matches!(number.get_type(schema), Ok(DataType::Int16 | DataType::Int32));
            let digits = match is_narrow {
                true => binary_expr(cast(number, DataType::Int64), Operator::BitwiseAnd, lit(u32::MAX as i64)),
                false => number,
            };
            let function = Expr::ScalarFunction(ScalarFunction { func: function.func, args: vec![digits] });
            Ok(if is_narrow { Transformed::yes(function) } else { Transformed::no(function) })
        }
        Expr::ScalarFunction(mut function)
            if function.name() == "date_trunc"
                && matches!(function.args.get(1).map(|day| day.get_type(schema)), Some(Ok(DataType::Date32))) =>
        {
            let day = std::mem::replace(&mut function.args[1], lit(false));
            function.args[1] = cast(day, DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into())));
            Ok(Transformed::yes(Expr::ScalarFunction(function)))
        }
        Expr::ScalarFunction(function) if matches!(function.name(), "round" | "trunc") && function.args.len() == 2 => {
            rounding::to_places(function, schema)
        }
        Expr::ScalarFunction(function) if times::REWRITTEN.contains(&function.name()) => {
            times::rewritten(function, schema, zone)
        }
        Expr::ScalarFunction(function) if function.name() == "overlay" => {
            Ok(Transformed::yes(text_forms::overlay().call(function.args)))
        }
        Expr::ScalarFunction(function) if templates::REWRITTEN.contains(&function.name()) => {
            templates::rewritten(function, schema, zone)
        }
        // A `numeric` beside a floating-point number is one, which it was not when the quotient was planned.
        Expr::ScalarFunction(mut function)
            if is_quotient(&function.func)
                && function
                    .args
                    .iter()
                    .any(|side| matches!(side.get_type(schema), Ok(found) if found.is_floating())) =>
        {
            let mut side = || cast(function.args.pop().unwrap_or_default(), DataType::Float64);
            let (right, left) = (side(), side());
            Ok(Transformed::yes(binary_expr(left, Operator::Divide, right)))
        }
        // Of a boolean itself, and of no text that was made of it.
        Expr::ScalarFunction(mut function)
            if matches!(function.name(), "concat" | "concat_ws" | "format")
                && function.args.iter().any(|arg| matches!(arg.get_type(schema), Ok(DataType::Boolean))) =>
        {
            for arg in &mut function.args {
                if arg.get_type(schema)? == DataType::Boolean {
                    let cast = Cast::new_from_field(Box::new(std::mem::take(arg)), text_field());
                    *arg = cast_by(CastRule::BooleanOut, cast);
                }
            }
            Ok(Transformed::yes(Expr::ScalarFunction(function)))
        }
        Expr::ScalarFunction(function)
            if matches!(function.name(), "floor" | "ceil" | "trunc" | "round")
                && function.args.len() == 1
                && matches!(function.args[0].get_type(schema), Ok(DataType::Decimal128(_, scale)) if scale > 0) =>
        {
            rounding::to_whole(function, schema)
        }
        Expr::ScalarFunction(function) if function.name() == "array_has_all" && !is_contains(&function.func) => {
            let func = Arc::new(ArrayContains::of(function.func));
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: function.args })))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Compares rows, and tests them for NULL, part by part.
fn row_operator(expr: Expr) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Eq | Operator::NotEq), right })
            if row_of(&left).is_some() && row_of(&left).map(<[Expr]>::len) == row_of(&right).map(<[Expr]>::len) =>
        {
            let pairs = row_of(&left).into_iter().flatten().zip(row_of(&right).into_iter().flatten());
            let pairs = pairs.map(|(left, right)| binary_expr(left.clone(), op, right.clone()));
            let all = if op == Operator::Eq { conjunction(pairs) } else { disjunction(pairs) };
            Ok(Transformed::yes(all.unwrap_or_else(|| lit(true))))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if op.supports_propagation()
                && row_of(&left).is_some()
                && row_of(&left).map(<[Expr]>::len) == row_of(&right).map(<[Expr]>::len) =>
        {
            let (lefts, rights) = (row_of(&left).unwrap_or_default(), row_of(&right).unwrap_or_default());
            Ok(match rows_compared(op, lefts, rights) {
                Some(compared) => Transformed::yes(compared),
                None => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
            })
        }
        // A row is NULL if all of it is, and is not if nothing of it is.
        Expr::IsNull(row) if row_of(&row).is_some() => {
            let parts = row_of(&row).unwrap_or_default().iter().map(|part| part.clone().is_null());
            Ok(Transformed::yes(conjunction(parts).unwrap_or_else(|| lit(true))))
        }
        Expr::IsNotNull(row) if row_of(&row).is_some() => {
            let parts = row_of(&row).unwrap_or_default().iter().map(|part| part.clone().is_not_null());
            Ok(Transformed::yes(conjunction(parts).unwrap_or_else(|| lit(true))))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Has a window order arrays and uuid as PostgreSQL does.
fn window_order(mut call: Box<WindowFunction>, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let changed = order_by_bytes(&mut call.params.order_by, schema) || uuids::is_key(&call.params.order_by, schema);
    let frame = &mut call.params.window_frame;
    if changed && frame.units == WindowFrameUnits::Range {
        let has_offset =
            |bound: &WindowFrameBound| !bound.is_unbounded() && !matches!(bound, WindowFrameBound::CurrentRow);
        if has_offset(&frame.start_bound) || has_offset(&frame.end_bound) {
            return Err(refusal("0A000", "RANGE with an offset is not supported for arrays and uuid"));
        }
        // Without offsets, rows of the same key are a range as they are a group.
        frame.units = WindowFrameUnits::Groups;
    }
    Ok(Transformed::new_transformed(Expr::WindowFunction(call), changed))
}

/// Returns true if a plan has one row, whatever it reads.
fn has_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Projection(projection) => has_one_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => has_one_row(&alias.input),
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        _ => false,
    }
}

/// Returns true if a constant pattern ends in an escape character that escapes nothing.
fn ends_in_escape(pattern: &Expr) -> bool {
    let Expr::Literal(pattern, _) = pattern else { return false };
    let text = pattern.try_as_str().flatten().unwrap_or_default();
    text.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Returns true if a pattern of LIKE is a constant, or one that is checked as it is used.
fn is_checked_pattern(pattern: &Expr) -> bool {
    match pattern {
        Expr::Literal(..) => true,
        Expr::Cast(cast) => is_checked_pattern(&cast.expr),
        other => is_translated(other),
    }
}

/// Returns the values of `(a, b)`.
fn row_of(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::ScalarFunction(function) if function.name() == "struct" => Some(&function.args),
        _ => None,
    }
}

/// Rewrites a value. Functions of what clocks show see instants in the zone of the session.
fn value(expr: Expr, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    let mut call = match expr {
        Expr::ScalarFunction(call) if instants::is_of_clocks(&call) => call,
        other => return value_of(other, schema, zone),
    };
    let planned = Expr::ScalarFunction(call.clone()).get_type(schema)?;
    let mut changed = false;
    for arg in &mut call.args {
        changed |= instants::localize(arg, schema, zone)?;
    }
    let value = value_of(Expr::ScalarFunction(call), schema, zone)?;
    if !changed {
        return Ok(value);
    }
    let is_planned = value.data.get_type(schema)? == planned;
    Ok(Transformed::yes(if is_planned { value.data } else { cast(value.data, planned) }))
}

fn value_of(expr: Expr, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(binary) => arithmetic(binary, schema, zone),
        Expr::Negative(inner) => {
            let is_float = matches!(inner.get_type(schema)?, DataType::Float32 | DataType::Float64);
            if is_float && !is_constant_number(&inner)
                || matches!(inner.get_type(schema)?, DataType::Int16 | DataType::Int32 | DataType::Int64)
            {
                return Ok(Transformed::yes(checked_negation().call(vec![*inner])));
            }
            Ok(Transformed::no(Expr::Negative(inner)))
        }
        Expr::Cast(cast) => cast_of(cast, schema, zone),
        Expr::TryCast(mut cast) if !instants::has_instants(cast.field.data_type()) => {
            let changed = instants::localize(&mut cast.expr, schema, zone)?;
            Ok(Transformed::new_transformed(Expr::TryCast(cast), changed))
        }
        // A frame that reaches a day back is of days of these clocks.
        Expr::WindowFunction(mut call) => {
            let mut changed = false;
            for key in &mut call.params.order_by {
                changed |= instants::localize(&mut key.expr, schema, zone)?;
            }
            Ok(Transformed::new_transformed(Expr::WindowFunction(call), changed))
        }
        Expr::ScalarFunction(mut function)
            if function.name() == "to_timestamp"
                && function.args.len() == 1
                && matches!(function.args[0].get_type(schema), Ok(found) if found.is_numeric()) =>
        {
            let instant = Expr::ScalarFunction(function.clone()).get_type(schema)?;
            let seconds = Cast::new(Box::new(function.args.remove(0)), DataType::Float64);
            let seconds = cast_of(seconds, schema, zone)?.data;
            Ok(Transformed::yes(cast_by(CastRule::SecondsToInstant, Cast::new(Box::new(seconds), instant))))
        }
        Expr::ScalarFunction(function) if function.name() == "round" && function.args.len() == 1 => {
            let [number] = &function.args[..] else { return Ok(Transformed::no(Expr::ScalarFunction(function))) };
            let data_type = number.get_type(schema)?;
            if !matches!(data_type, DataType::Float32 | DataType::Float64) || is_constant_number(number) {
                return Ok(Transformed::no(Expr::ScalarFunction(function)));
            }
            let cast = Cast::new(Box::new(number.clone()), data_type);
            Ok(Transformed::yes(cast_by(CastRule::RoundEven, cast)))
        }
        Expr::ScalarFunction(mut function) if function.name() == "array_to_string" && !function.args.is_empty() => {
            let DataType::List(item) = function.args[0].get_type(schema)? else {
                return Ok(Transformed::no(Expr::ScalarFunction(function)));
            };
            if let DataType::List(inner) = item.data_type() {
                if matches!(inner.data_type(), DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Utf8) {
                    return Ok(Transformed::no(Expr::ScalarFunction(function)));
                }
                let message =
                    "array_to_string of arrays of arrays is supported for integers and text only; use flatten";
                return Err(refusal("0A000", message));
            }
            let texts = Arc::new(Field::new("", DataType::new_list(DataType::Utf8, true), true));
            let rule = match item.data_type() {
                DataType::Boolean => Some(CastRule::Elements(Box::new(CastRule::BooleanOut))),
                _ => rule(&DataType::List(item), &texts, false)?,
            };
            let Some(rule) = rule else { return Ok(Transformed::no(Expr::ScalarFunction(function))) };
            let array = function.args.remove(0);
            function.args.insert(0, cast_by(rule, Cast::new_from_field(Box::new(array), texts)));
            Ok(Transformed::yes(Expr::ScalarFunction(function)))
        }
        Expr::ScalarFunction(function)
            if matches!(function.name(), "greatest" | "least")
                && function.args.iter().any(|arg| matches!(arg.get_type(schema), Ok(DataType::List(_)))) =>
        {
            let name = function.name();
            Err(refusal("0A000", format!("{name} of arrays is not supported; compare them in a CASE")))
        }
        // A simple CASE is not taken apart into ANDs and ORs, which would evaluate all of it for every row.
        Expr::Case(Case { expr: None, when_then_expr, else_expr })
            if when_then_expr.iter().any(|(_, then)| may_fail(then, schema))
                || else_expr.as_deref().is_some_and(|it| may_fail(it, schema)) =>
        {
            let is_boolean = when_then_expr.first().map(|(_, then)| then.get_type(schema)).transpose()?;
            let case = Case { expr: None, when_then_expr, else_expr };
            if is_boolean == Some(DataType::Boolean) {
                return Ok(Transformed::yes(Expr::Case(Case { expr: Some(Box::new(lit(true))), ..case })));
            }
            Ok(Transformed::no(Expr::Case(case)))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn arithmetic(binary: BinaryExpr, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    if matches!(binary.op, Operator::And | Operator::Or) {
        return Ok(guarded(binary, schema));
    }
    let (left, right) = (binary.left.get_type(schema)?, binary.right.get_type(schema)?);
    if binary.op.supports_propagation() && matches!((&left, &right), (DataType::Interval(_), DataType::Interval(_))) {
        let span = |side: Box<Expr>| Box::new(spans::span(*side));
        let spans = BinaryExpr { left: span(binary.left), op: binary.op, right: span(binary.right) };
        return Ok(Transformed::yes(Expr::BinaryExpr(spans)));
    }
    if let Some(moved) = instants::moved(&binary, (&left, &right), zone) {
        return Ok(Transformed::yes(moved));
    }
    if binary.op == Operator::Minus {
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        let difference = |binary| Box::new(Expr::BinaryExpr(binary));
        match (&left, &right) {
            (DataType::Timestamp(..), DataType::Timestamp(..)) => {
                return Ok(Transformed::yes(cast_by(CastRule::Between, Cast::new(difference(binary), interval))));
            }
            (DataType::Date32, DataType::Date32) => {
                return Ok(Transformed::yes(Expr::Cast(Cast::new(difference(binary), DataType::Int32))));
            }
            _ => {}
        }
    }
    if binary.op == Operator::Divide
        && let Some(quotient) = quotient((*binary.left.clone(), &left), (*binary.right.clone(), &right))
    {
        return Ok(Transformed::yes(quotient));
    }
    if matches!((&left, &right), (DataType::List(_), DataType::List(_)))
        && let Some(compared) = arrays_compared(&binary)
    {
        return Ok(Transformed::yes(compared));
    }
    let function = match (&left, &right) {
        (DataType::Decimal128(..), DataType::Decimal128(..)) => numeric_arithmetic::checked(binary.op),
        _ if left == right && is_checked(&left) => checked(binary.op),
        _ => None,
    };
    Ok(match function {
        Some(function) => Transformed::yes(function.call(vec![*binary.left, *binary.right])),
        None => Transformed::no(Expr::BinaryExpr(binary)),
    })
}

fn text_field() -> FieldRef {
    Arc::new(Field::new("", DataType::Utf8, true))
}
