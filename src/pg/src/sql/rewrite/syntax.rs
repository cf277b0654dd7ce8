//! Rewrites of PostgreSQL's syntax that the planner does not read, or reads otherwise, into spellings that mean the
//! same.

use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    self, AccessExpr, BinaryOperator, DataType, Distinct, DuplicateTreatment, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Ident, LimitClause, ObjectName, ObjectNamePart,
    OrderByExpr, OrderByKind, OrderByOptions, Query, Select, SelectItem, SetExpr, Subscript, UnaryOperator, Value,
    ValueWithSpan, VisitMut, VisitorMut,
};

use neuroql_access::TEMPORARY;

use crate::sql::rewrite::from_functions::CHANNELS;
use crate::sql::rewrite::{call, cast, function_syntax, interval_arguments, is_named, windows};
use crate::sql::unsupported;
use crate::wire::error_response::SqlError;

/// Rewrites a statement in place, after the names of its columns were taken.
///
/// # Errors
/// 42704 and 42P20 if a window is based on one that is not there, or has what it may not change.
pub(crate) fn rewrite(statement: &mut Statement) -> Result<(), SqlError> {
    let found = match statement {
        Statement::Statement(inner) => {
            temporary(inner)?;
            inner.visit(&mut RewriteSyntax)
        }
        Statement::Explain(explain) => return rewrite(&mut explain.statement),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => query.visit(&mut RewriteSyntax),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        _ => ControlFlow::Continue(()),
    };
    match found {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Rewrites an expression in place.
///
/// # Errors
/// 42704 and 42P20, as those of a statement.
pub(crate) fn rewrite_expression(expr: &mut Expr) -> Result<(), SqlError> {
    match expr.visit(&mut RewriteSyntax) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Gives temporary tables and views the schema that they are in.
fn temporary(statement: &mut ast::Statement) -> Result<(), SqlError> {
    let (name, temporary) = match statement {
        ast::Statement::CreateTable(table) => {
            let schema = table.name.0.iter().rev().nth(1).and_then(|schema| schema.as_ident());
            let is_temporary = |schema: &Ident| schema.value.eq_ignore_ascii_case(TEMPORARY);
            if table.on_commit.is_some() && !table.temporary && !schema.is_some_and(is_temporary) {
                return Err(SqlError::error("42P16", "ON COMMIT can only be used on temporary tables"));
            }
            if table.temporary {
                table.global = None;
            }
            (&mut table.name, &mut table.temporary)
        }
        ast::Statement::CreateView(view) => (&mut view.name, &mut view.temporary),
        _ => return Ok(()),
    };
    if !std::mem::take(temporary) {
        return Ok(());
    }
    match name.0.as_mut_slice() {
        [table] => *name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(TEMPORARY)), table.clone()]),
        [schema, _] if schema.as_ident().is_some_and(|schema| schema.value.eq_ignore_ascii_case(TEMPORARY)) => {}
        _ => return Err(SqlError::error("42P16", "cannot create temporary relation in non-temporary schema")),
    }
    Ok(())
}

struct RewriteSyntax;

impl VisitorMut for RewriteSyntax {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        limit(query);
        if let SetExpr::Select(select) = query.body.as_mut() {
            if let Some(Distinct::On(keys)) = &mut select.distinct {
                let is_place = |key: &Expr| place(key).is_some();
                if keys.iter().any(is_place) {
                    keys.iter_mut().for_each(|key| by_name(key, &select.projection));
                    if let Some(OrderByKind::Expressions(order)) = query.order_by.as_mut().map(|order| &mut order.kind)
                    {
                        order.iter_mut().for_each(|key| by_name(&mut key.expr, &select.projection));
                    }
                }
            }
            series(select);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        unsupported::letters_of_ascii(expr).map_or_else(ControlFlow::Break, ControlFlow::Continue)
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<SqlError> {
        windows::merge(select).map_or_else(ControlFlow::Break, ControlFlow::Continue)
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        let taken = |expr: &mut Expr| std::mem::replace(expr, Expr::value(Value::Null));
        function_syntax::rewrite(expr);
        match expr {
            Expr::AtTimeZone { timestamp, time_zone } => {
                *expr = call("timezone", vec![taken(time_zone), taken(timestamp)]);
            }
            // `~ a` is `a` XOR -1, a number whose bits are all ones.
            Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr: number } => {
                let ones = Expr::UnaryOp {
                    op: UnaryOperator::Minus,
                    expr: Box::new(Expr::value(Value::Number("1".into(), false))),
                };
                *expr = binary(taken(number), BinaryOperator::PGBitwiseXor, ones);
            }
            Expr::Function(function) if is_named(function, "mod") => {
                if let Some([left, right]) = arguments(function) {
                    *expr = binary(left.clone(), BinaryOperator::Modulo, right.clone());
                }
            }
            // Whether there is a row does not depend on which of equal ones is taken; the planner cannot join with them.
            Expr::Exists { subquery, .. } if subquery.limit_clause.is_none() && subquery.fetch.is_none() => {
                if let SetExpr::Select(select) = subquery.body.as_mut()
                    && matches!(select.distinct, Some(Distinct::On(_) | Distinct::Distinct))
                {
                    select.distinct = None;
                    subquery.order_by = None;
                }
            }
            // A row is NULL if all of its values are, and not NULL if none is.
            Expr::IsNull(row) | Expr::IsNotNull(row) if values_of_row(row).is_some() => {
                let Some(values) = values_of_row(row) else { return ControlFlow::Continue(()) };
                let values: Vec<_> = values.into_iter().cloned().collect();
                let test = if matches!(expr, Expr::IsNull(_)) { Expr::IsNull } else { Expr::IsNotNull };
                let tests = values.into_iter().map(|value| test(Box::new(Expr::Nested(Box::new(value)))));
                *expr = tests
                    .reduce(|left, right| binary(left, BinaryOperator::And, right))
                    .unwrap_or_else(|| Expr::value(Value::Boolean(true)));
            }
            Expr::CompoundFieldAccess { root, access_chain } => open_slices(root, access_chain),
            // Texts are ordered by their bytes: other collations are refused.
            Expr::Collate { expr: text, collation } => {
                if let Err(error) = unsupported::collation(collation) {
                    return ControlFlow::Break(error);
                }
                *expr = taken(text);
            }
            // A number with decimals is numeric until it is cast, and numeric has no -0.
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: number } if is_decimal_zero(number) => {
                *expr = taken(number)
            }
            Expr::Function(function) if BYTES.iter().any(|name| is_named(function, name)) => first_is_bytea(function),
            Expr::Function(function) if AGGREGATES.iter().any(|name| is_named(function, name)) => {
                distinct_in_order(function)
            }
            Expr::Function(function) if is_named(function, "make_interval") => interval_arguments::complete(function),
            Expr::Function(function) if is_named(function, "every") => {
                function.name = ObjectName::from(vec![Ident::new("bool_and")]);
            }
            // Parentheses around a subquery do not make it an array.
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } => {
                while let Expr::Nested(inner) = right.as_mut()
                    && matches!(inner.as_ref(), Expr::Nested(_) | Expr::Subquery(_))
                {
                    **right = taken(inner);
                }
            }
            Expr::Function(function) if is_named(function, "array_dims") => {
                function.name = ObjectName::from(vec![Ident::new("pg_array_dims")]);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Functions of bytes, whose first argument may be a string.
const BYTES: [&str; 5] = ["encode", "sha224", "sha256", "sha384", "sha512"];

/// Aggregates whose result depends on the order of their values.
const AGGREGATES: [&str; 2] = ["array_agg", "string_agg"];

fn is_decimal_zero(expr: &Expr) -> bool {
    let Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) = expr else { return false };
    number.contains(['.', 'e', 'E']) && number.parse() == Ok(0.0)
}

/// Reads a string that is the first argument of a function as bytes.
fn first_is_bytea(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    if let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(first))) = list.args.first_mut()
        && let Expr::Value(ValueWithSpan {
            value: Value::SingleQuotedString(_) | Value::EscapedStringLiteral(_), ..
        }) = first
    {
        let text = std::mem::replace(first, Expr::value(Value::Null));
        *first = cast(text, DataType::Bytea);
    }
}

/// Orders distinct values that are put together without an order, as PostgreSQL does.
fn distinct_in_order(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    let is_ordered = list.clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_)));
    if list.duplicate_treatment == Some(DuplicateTreatment::Distinct)
        && !is_ordered
        && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(first))) = list.args.first()
    {
        let options = OrderByOptions { asc: None, nulls_first: None };
        let by = OrderByExpr { expr: first.clone(), options, with_fill: None };
        list.clauses.push(FunctionArgumentClause::OrderBy(vec![by]));
    }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    let nested = |side| Box::new(Expr::Nested(Box::new(side)));
    Expr::Nested(Box::new(Expr::BinaryOp { left: nested(left), op, right: nested(right) }))
}

/// Returns the values of `(a, b)` or `ROW(a, b)`.
fn values_of_row(expr: &Expr) -> Option<Vec<&Expr>> {
    match expr {
        Expr::Tuple(values) => Some(values.iter().collect()),
        Expr::Function(function) if is_named(function, "row") => {
            let FunctionArguments::List(list) = &function.args else { return None };
            let values = list.args.iter().map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value),
                _ => None,
            });
            values.collect()
        }
        _ => None,
    }
}

/// Gives the bounds to slices of arrays that leave them out: `a[2:]` is `a[2:cardinality(a)]`, `a[:2]` `a[1:2]`. The number of
/// all elements is no less than the length, and 0 if there are none.
fn open_slices(root: &Expr, access_chain: &mut [AccessExpr]) {
    let [AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride: None })] = access_chain else {
        return;
    };
    let number = |text: &str| Expr::value(Value::Number(text.into(), false));
    lower_bound.get_or_insert_with(|| number("1"));
    upper_bound.get_or_insert_with(|| call("cardinality", vec![root.clone()]));
}

/// Returns the two arguments of a plain call.
fn arguments(function: &Function) -> Option<[&Expr; 2]> {
    let FunctionArguments::List(list) = &function.args else { return None };
    match &list.args[..] {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(left)), FunctionArg::Unnamed(FunctionArgExpr::Expr(right))] => {
            Some([left, right])
        }
        _ => None,
    }
}

/// Rewrites `FETCH FIRST n ROWS ONLY` to `LIMIT n`.
fn limit(query: &mut Query) {
    let Some(fetch) = &query.fetch else { return };
    if fetch.with_ties || fetch.percent {
        return;
    }
    let count = fetch.quantity.clone().unwrap_or_else(|| Expr::value(Value::Number("1".into(), false)));
    match &mut query.limit_clause {
        clause @ None => {
            *clause = Some(LimitClause::LimitOffset { limit: Some(count), offset: None, limit_by: Vec::new() });
        }
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(count),
        Some(_) => return,
    }
    query.fetch = None;
}

/// Returns the place of a column in the list of outputs, if the key is a number.
fn place(key: &Expr) -> Option<usize> {
    match key {
        Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) => number.parse().ok(),
        _ => None,
    }
}

/// Replaces a number in ORDER BY or DISTINCT ON by the output that it stands for.
fn by_name(key: &mut Expr, outputs: &[SelectItem]) {
    let Some(place) = place(key) else { return };
    if let Some(SelectItem::UnnamedExpr(output) | SelectItem::ExprWithAlias { expr: output, .. }) =
        place.checked_sub(1).and_then(|place| outputs.get(place))
    {
        // A bare number would be a place again.
        *key = if self::place(output).is_some() { Expr::Nested(Box::new(output.clone())) } else { output.clone() };
    }
}

/// Unnests `SELECT generate_series(…)`, which has a row for each number: the planner's function is an array of them.
fn series(select: &mut Select) {
    for output in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = output {
            unnest_series(expr);
        }
    }
}

fn unnest_series(expr: &mut Expr) {
    match expr {
        Expr::Function(function) if is_named(function, "generate_series") || is_named(function, CHANNELS) => {
            let series = std::mem::replace(expr, Expr::value(Value::Null));
            *expr = call("unnest", vec![series]);
        }
        Expr::Cast { expr, .. } | Expr::Nested(expr) | Expr::UnaryOp { expr, .. } => unnest_series(expr),
        Expr::BinaryOp { left, right, .. } => {
            unnest_series(left);
            unnest_series(right);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;
    use neuroql::PostgresDialect;

    use super::*;

    fn rewritten(text: &str) -> String {
        let statement = Parser::parse_sql(&PostgresDialect, text).unwrap().remove(0);
        let mut statement = Statement::Statement(Box::new(statement));
        rewrite(&mut statement).unwrap();
        statement.to_string()
    }

    #[test]
    fn statements_are_said_otherwise() {
        for (written, read) in [
            ("SELECT a FROM t FETCH FIRST 2 ROWS ONLY", "SELECT a FROM t LIMIT 2"),
            ("SELECT a FROM t OFFSET 1 FETCH NEXT ROW ONLY", "SELECT a FROM t LIMIT 1 OFFSET 1"),
            ("SELECT a FROM t FETCH FIRST 2 ROWS WITH TIES", "SELECT a FROM t FETCH FIRST 2 ROWS WITH TIES"),
            (
                "SELECT DISTINCT ON (1) a + 1 AS x, b FROM t ORDER BY 1, b DESC",
                "SELECT DISTINCT ON (a + 1) a + 1 AS x, b FROM t ORDER BY a + 1, b DESC",
            ),
            ("SELECT generate_series(1, 3), f(x)", "SELECT unnest(generate_series(1, 3)), f(x)"),
            ("SELECT generate_series(1, 3)::INT * 2", "SELECT unnest(generate_series(1, 3))::INT * 2"),
            ("SELECT (mod(a, -b)) * 2", "SELECT (((a) % (-b))) * 2"),
            ("SELECT x AT TIME ZONE 'UTC'", "SELECT timezone('UTC', x)"),
            ("SELECT ~ a", "SELECT ((a) # (-1))"),
            ("SELECT (a, 1) IS NULL", "SELECT (((a) IS NULL) AND ((1) IS NULL))"),
            ("SELECT ROW(a) IS NOT NULL, a IS NULL", "SELECT (a) IS NOT NULL, a IS NULL"),
            ("SELECT a COLLATE \"C\" < b, -0.0, -0, - 0e1", "SELECT a < b, 0.0, -0, 0e1"),
            (
                "SELECT encode('\\001', 'hex'), encode(a, 'hex')",
                "SELECT encode(CAST('\\001' AS BYTEA), 'hex'), encode(a, 'hex')",
            ),
            (
                "SELECT array_agg(DISTINCT a), string_agg(DISTINCT a, ',' ORDER BY a DESC)",
                "SELECT array_agg(DISTINCT a ORDER BY a), string_agg(DISTINCT a, ',' ORDER BY a DESC)",
            ),
            ("SELECT a[2:], a[:2], a[2:3]", "SELECT a[2:cardinality(a)], a[1:2], a[2:3]"),
        ] {
            assert_eq!(rewritten(written), read);
        }
    }
}
