//! Subqueries without FROM that name columns of the query around them: `(SELECT a + 1)` is `(a + 1)`.

use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, GroupByExpr, Query, Select, SelectItem, SetExpr, UnaryOperator, Value, Visit,
    VisitMut, visit_expressions, visit_expressions_mut,
};

use crate::sql::column_names::fold;

/// Functions with several rows.
const ROWS: [&str; 4] = ["unnest", "generate_series", "generate_subscripts", "_pg_expandarray"];

/// Puts the values of subqueries without FROM into their places, if these have functions only that `is_scalar` knows by name.
pub(crate) fn inline(statement: &mut Statement, is_scalar: &dyn Fn(&str) -> bool) {
    match statement {
        Statement::Statement(inner) => inline_in(inner.as_mut(), is_scalar),
        Statement::Explain(explain) => inline(&mut explain.statement, is_scalar),
        Statement::CopyTo(copy) => {
            if let CopyToSource::Query(query) = &mut copy.source {
                inline_in(query.as_mut(), is_scalar);
            }
        }
        _ => {}
    }
}

fn inline_in(tree: &mut impl VisitMut, is_scalar: &dyn Fn(&str) -> bool) {
    let _ = visit_expressions_mut(tree, |expr| {
        if let Some(value) = inlined(expr, is_scalar) {
            *expr = value;
        }
        ControlFlow::<()>::Continue(())
    });
}

fn inlined(expr: &Expr, is_scalar: &dyn Fn(&str) -> bool) -> Option<Expr> {
    match expr {
        Expr::Subquery(query) => {
            let (values, condition) = parts(query, is_scalar)?;
            let [value] = values.as_slice() else { return None };
            names_columns(value, condition).then(|| nested(only_if(condition, nested((*value).clone()), None)))
        }
        Expr::Exists { subquery, negated } => {
            let (_, condition) = parts(subquery, is_scalar)?;
            let condition = condition.filter(|condition| has_columns(condition))?;
            let condition = Box::new(nested(condition.clone()));
            Some(nested(if *negated { Expr::IsNotTrue(condition) } else { Expr::IsTrue(condition) }))
        }
        Expr::InSubquery { expr: left, subquery, negated } => {
            let (values, condition) = parts(subquery, is_scalar)?;
            let [value] = values.as_slice() else { return None };
            if !names_columns(value, condition) {
                return None;
            }
            let equal = Expr::BinaryOp {
                left: Box::new(nested(left.as_ref().clone())),
                op: BinaryOperator::Eq,
                right: Box::new(nested((*value).clone())),
            };
            let found = nested(only_if(condition, nested(equal), Some(Expr::value(Value::Boolean(false)))));
            Some(match negated {
                true => nested(Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(found) }),
                false => found,
            })
        }
        _ => None,
    }
}

/// Returns the values of the one row of a query without FROM, and its condition.
fn parts<'a>(query: &'a Query, is_scalar: &dyn Fn(&str) -> bool) -> Option<(Vec<&'a Expr>, Option<&'a Expr>)> {
    let Query { with: None, order_by: None, limit_clause: None, fetch: None, .. } = query else { return None };
    let select = match query.body.as_ref() {
        SetExpr::Select(select) if is_plain(select) => select,
        SetExpr::Query(query) => return parts(query, is_scalar),
        _ => return None,
    };
    let values = select.projection.iter().map(|item| match item {
        SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. } => Some(value),
        _ => None,
    });
    let values = values.collect::<Option<Vec<_>>>()?;
    let is_one = |value: &&Expr| is_of_one_row(*value, is_scalar);
    (values.iter().all(is_one) && select.selection.iter().all(|condition| is_of_one_row(condition, is_scalar)))
        .then_some((values, select.selection.as_ref()))
}

fn is_plain(select: &Select) -> bool {
    let is_grouped = match &select.group_by {
        GroupByExpr::Expressions(keys, modifiers) => !keys.is_empty() || !modifiers.is_empty(),
        GroupByExpr::All(_) => true,
    };
    let has_more = select.having.is_some() || select.qualify.is_some() || !select.named_window.is_empty();
    select.from.is_empty() && select.distinct.is_none() && select.into.is_none() && !is_grouped && !has_more
}

/// Returns true if a value is neither that of several rows nor several rows itself.
fn is_of_one_row(tree: &impl Visit, is_scalar: &dyn Fn(&str) -> bool) -> bool {
    let found = visit_expressions(tree, |part| match part {
        Expr::Function(function) => {
            let name = function.name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
            match function.over.is_none() && is_scalar(&name) && !ROWS.contains(&name.as_str()) {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_continue()
}

fn names_columns(value: &Expr, condition: Option<&Expr>) -> bool {
    has_columns(value) || condition.is_some_and(has_columns)
}

fn has_columns(tree: &Expr) -> bool {
    let found = visit_expressions(tree, |part| match part {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

fn only_if(condition: Option<&Expr>, value: Expr, otherwise: Option<Expr>) -> Expr {
    match condition {
        None => value,
        Some(condition) => Expr::Case {
            case_token: AttachedToken::empty(),
            end_token: AttachedToken::empty(),
            operand: None,
            conditions: vec![CaseWhen { condition: condition.clone(), result: value }],
            else_result: otherwise.map(Box::new),
        },
    }
}

fn nested(expr: Expr) -> Expr {
    match expr {
        Expr::Nested(_) => expr,
        other => Expr::Nested(Box::new(other)),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;
    use neuroql::PostgresDialect;

    use super::*;

    #[test]
    fn values_are_put_into_their_places() {
        for (text, expected) in [
            ("(SELECT a + 1)", "(a + 1)"),
            ("(SELECT abs(a) WHERE b > 1)", "(CASE WHEN b > 1 THEN (abs(a)) END)"),
            ("EXISTS (SELECT 1 WHERE a > 1)", "((a > 1) IS TRUE)"),
            ("NOT EXISTS (SELECT a WHERE a > 1)", "((a > 1) IS NOT TRUE)"),
            ("a IN (SELECT b)", "((a) = (b))"),
            ("a NOT IN (SELECT b WHERE c)", "(NOT (CASE WHEN c THEN ((a) = (b)) ELSE false END))"),
            ("(SELECT 1)", "(SELECT 1)"),
            ("(SELECT sum(a))", "(SELECT sum(a))"),
            ("(SELECT unnest(a))", "(SELECT unnest(a))"),
            ("(SELECT a FROM u)", "(SELECT a FROM u)"),
            ("(SELECT a LIMIT 0)", "(SELECT a LIMIT 0)"),
            ("EXISTS (SELECT count(*) WHERE a > 1)", "EXISTS (SELECT count(*) WHERE a > 1)"),
        ] {
            let parsed = Parser::parse_sql(&PostgresDialect, &format!("SELECT {text} FROM t")).unwrap().remove(0);
            let mut statement = Statement::Statement(Box::new(parsed));
            inline(&mut statement, &|name| matches!(name, "abs" | "unnest"));
            assert_eq!(statement.to_string(), format!("SELECT {expected} FROM t"));
        }
    }
}
