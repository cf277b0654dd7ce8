//! Rewrites of PostgreSQL's syntax that the planner does not read, or reads otherwise, into spellings that mean the
//! same.

use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Distinct, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, LimitClause,
    ObjectName, OrderByKind, Query, Select, SelectItem, SetExpr, UnaryOperator, Value, ValueWithSpan, VisitMut,
    VisitorMut,
};

use crate::sql::rewrite::{call, is_named};

/// Rewrites a statement in place, after the names of its columns were taken.
pub(crate) fn rewrite(statement: &mut Statement) {
    match statement {
        Statement::Statement(inner) => {
            let _: ControlFlow<()> = inner.visit(&mut Rewrites);
        }
        Statement::Explain(explain) => rewrite(&mut explain.statement),
        Statement::CopyTo(copy) => {
            if let CopyToSource::Query(query) = &mut copy.source {
                let _: ControlFlow<()> = query.visit(&mut Rewrites);
            }
        }
        _ => {}
    }
}

struct Rewrites;

impl VisitorMut for Rewrites {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
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

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let taken = |expr: &mut Expr| std::mem::replace(expr, Expr::value(Value::Null));
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

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    let nested = |side| Box::new(Expr::Nested(Box::new(side)));
    Expr::Nested(Box::new(Expr::BinaryOp { left: nested(left), op, right: nested(right) }))
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
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = output
            && matches!(expr, Expr::Function(function) if is_named(function, "generate_series"))
        {
            let series = std::mem::replace(expr, Expr::value(Value::Null));
            *expr = call("unnest", vec![series]);
        }
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
        rewrite(&mut statement);
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
            ("SELECT (mod(a, -b)) * 2", "SELECT (((a) % (-b))) * 2"),
            ("SELECT x AT TIME ZONE 'UTC'", "SELECT timezone('UTC', x)"),
            ("SELECT ~ a", "SELECT ((a) # (-1))"),
        ] {
            assert_eq!(rewritten(written), read);
        }
    }
}
