//! Conditions that keep rows away from what fails for them.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{BinaryExpr, Case};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, ExprSchemable, Filter, LogicalPlan, Operator, lit};

use super::PARTIAL;
use super::arithmetic::is_division;
use super::casts::may_refuse;
use super::json;
use super::quotients::is_quotient;
use super::ranges;

/// Functions that are not defined for all arguments, beside those of [`PARTIAL`].
const FAILING: [&str; 24] = [
    "chr",
    "decode",
    "div",
    "factorial",
    "format",
    "make_date",
    "make_time",
    "make_timestamp",
    "make_timestamptz",
    "neuroql_enum",
    "normalize",
    "pg_overlay",
    "pg_to_date",
    "pg_to_timestamp",
    "regexp_instr",
    "regexp_substr",
    "split_part",
    "substr",
    "to_char",
    "to_date",
    "to_number",
    "to_timestamp",
    "unistr",
    "width_bucket",
];

/// Nodes of a condition beyond which it is not repeated to guard another.
const GREATEST_GUARD: usize = 200;

/// Number of guards in each other beyond which conditions are not guarded.
const DEEPEST_GUARD: usize = 50;

/// Returns true if an expression may fail for rows that a condition beside it is there to keep away.
pub(super) fn may_fail(expr: &Expr, schema: &DFSchema) -> bool {
    // What no row changes is computed before there are rows.
    let is_constant = |expr: &Expr| !expr.any_column_refs() && !expr.contains_outer();
    expr.exists(|expr| {
        Ok(match expr {
            Expr::ScalarFunction(function) => match &function.args[..] {
                // Division by a constant other than zero does not fail.
                [_, divisor] if is_division(&function.func) || is_quotient(&function.func) => !is_constant(divisor),
                [value] if may_refuse(&function.func) => !is_constant(value),
                // Only a length can be wrong, and a constant is one that can be looked at.
                [_, _, length] if function.name() == "substr" => !is_constant(length),
                [_, _] if function.name() == "substr" => false,
                args if ranges::may_refuse(&function.func) => !args.iter().all(is_constant),
                args if json::may_refuse(&function.func) => !args.iter().all(is_constant),
                args if PARTIAL.contains(&function.name()) || FAILING.contains(&function.name()) => {
                    !args.iter().all(is_constant)
                }
                _ => false,
            },
            Expr::Cast(cast) if is_constant(&cast.expr) => false,
            Expr::Cast(cast) => match (cast.expr.get_type(schema)?, cast.field.data_type()) {
                (from, to) if is_text(&from) => !is_text(to),
                (from, to) => loses_range(&from, to),
            },
            _ => false,
        })
    })
    .unwrap_or(true)
}

/// Returns true if a number of one type may be out of the range of another.
fn loses_range(from: &DataType, to: &DataType) -> bool {
    use DataType::{Decimal128, Float32, Float64, Int16, Int32, Int64};
    match (from, to) {
        (Float32 | Float64 | Decimal128(..), Int16 | Int32 | Int64 | Decimal128(..)) => from != to,
        (Int32, Int16) | (Int64, Int16 | Int32) | (Float64, Float32) => true,
        (Int16 | Int32 | Int64, Decimal128(precision, scale)) => i16::from(*precision) - i16::from(*scale) < 19,
        _ => false,
    }
}

/// Brings the conditions of a WHERE into the order in which PostgreSQL evaluates them, if one of them may fail: those with fewer
/// operators and calls first.
pub(super) fn in_order(filter: Filter) -> Transformed<LogicalPlan> {
    let schema = filter.input.schema();
    let may_fail = |condition: &&Expr| {
        let divides = |part: &Expr| {
            Ok(matches!(part, Expr::BinaryExpr(it) if matches!(it.op, Operator::Divide | Operator::Modulo)))
        };
        may_fail(condition, schema) || condition.exists(divides).unwrap_or(true)
    };
    let conditions = split_conjunction(&filter.predicate);
    if conditions.len() < 2 || !conditions.iter().any(may_fail) || filter.predicate.is_volatile() {
        return Transformed::no(LogicalPlan::Filter(filter));
    }
    let mut ordered = conditions.clone();
    ordered.sort_by_key(|condition| cost(condition));
    let predicate = if ordered == conditions { None } else { conjunction(ordered.into_iter().cloned()) };
    let mut filter = filter;
    match predicate {
        Some(predicate) => {
            filter.predicate = predicate;
            Transformed::yes(LogicalPlan::Filter(filter))
        }
        None => Transformed::no(LogicalPlan::Filter(filter)),
    }
}

/// Returns what PostgreSQL takes a condition to cost, an operator being 2.
fn cost(condition: &Expr) -> usize {
    const SUBQUERY: usize = 1000;
    let mut cost = 0;
    let counted = condition.apply(|part| {
        cost += match part {
            Expr::BinaryExpr(binary) if matches!(binary.op, Operator::And | Operator::Or) => 0,
            Expr::BinaryExpr(_) | Expr::ScalarFunction(_) | Expr::Like(_) | Expr::Cast(_) => 2,
            Expr::Between(_) => 4,
            Expr::InList(within) => 1 + within.list.len(),
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => SUBQUERY,
            _ => 0,
        };
        // What is cast as it stands in the statement is computed before.
        let is_literal = matches!(part, Expr::Cast(cast) if matches!(*cast.expr, Expr::Literal(..)));
        cost -= if is_literal { 2 } else { 0 };
        Ok(TreeNodeRecursion::Continue)
    });
    if counted.is_ok() { cost } else { SUBQUERY }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Guards conditions as in `a <> 0 AND 1 / a > 2`: one that may fail is evaluated only where the one to its left does
/// not decide, as in Postgres.
pub(super) fn guarded(binary: BinaryExpr, schema: &DFSchema) -> Transformed<Expr> {
    guarded_within(binary, schema, 0)
}

fn guarded_within(binary: BinaryExpr, schema: &DFSchema, depth: usize) -> Transformed<Expr> {
    let BinaryExpr { left, op, right } = binary;
    let plain = |left, right| Expr::BinaryExpr(BinaryExpr { left, op, right });
    // In a row of guarded conditions the next one stands behind the last guard, so that none is repeated more than once.
    let left = match *left {
        Expr::BinaryExpr(BinaryExpr { left: first, op: own, right: guard })
            if own == op && is_guard(&guard, &first) && may_fail(&right, schema) && is_cheap(&right) =>
        {
            let (expr, when_then_expr, last) = match *guard {
                Expr::Case(Case { expr, when_then_expr, else_expr: Some(last) }) => (expr, when_then_expr, last),
                other => return Transformed::no(plain(Box::new(plain(first, Box::new(other))), right)),
            };
            let last = guarded_within(BinaryExpr { left: last, op, right }, schema, depth + 1).data;
            let guard = Expr::Case(Case { expr, when_then_expr, else_expr: Some(Box::new(last)) });
            return Transformed::yes(plain(first, Box::new(guard)));
        }
        other => Box::new(other),
    };
    let decides = lit(op == Operator::Or);
    if depth > DEEPEST_GUARD
        || is_guard(&right, &left)
        || nodes(&left) > GREATEST_GUARD
        || !may_fail(&right, schema)
        || !is_cheap(&left)
        || !is_cheap(&right)
    {
        return Transformed::no(plain(left, right));
    }
    let rest = Expr::Case(Case {
        expr: Some(left.clone()),
        when_then_expr: vec![(Box::new(decides.clone()), Box::new(decides))],
        else_expr: Some(right),
    });
    // Where `left` is NULL, `NULL AND right` is still to be found.
    Transformed::yes(plain(left, Box::new(rest)))
}

/// Returns true if a condition may be evaluated more than once, and in a CASE.
fn is_cheap(expr: &Expr) -> bool {
    let heavy = expr.exists(|expr| {
        Ok(match expr {
            Expr::ScalarFunction(function) => function.func.as_async().is_some(),
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => true,
            _ => false,
        })
    });
    !heavy.unwrap_or(true) && !expr.is_volatile()
}

/// Returns true if this is a condition that is evaluated only where another does not decide.
fn is_guard(condition: &Expr, other: &Expr) -> bool {
    matches!(condition, Expr::Case(case) if case.expr.as_deref() == Some(other) && case.else_expr.is_some())
}

fn nodes(expr: &Expr) -> usize {
    let mut count = 0;
    let counted = expr.apply(|_| {
        count += 1;
        Ok(if count > GREATEST_GUARD { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    if counted.is_ok() { count } else { usize::MAX }
}
