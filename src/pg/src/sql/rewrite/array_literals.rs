//! `x = ANY ('{1,2}')`: the text without a type is an array of the type of `x`, whose items are compared with it one by one.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DollarQuotedString, Expr, Value, ValueWithSpan, VisitMut, visit_expressions_mut,
};

use crate::decode;
use crate::sql::rewrite::row_values::{boolean, joined, nested, refuse_volatile};
use crate::wire::error_response::SqlError;

/// Rewrites comparisons with all or any items of a text.
///
/// # Errors
/// 22P02 for a text that is no array, 0A000 for one of several dimensions.
pub(crate) fn rewrite(tree: &mut impl VisitMut) -> Result<(), SqlError> {
    let found = visit_expressions_mut(tree, |expr| match compared(expr) {
        Ok(Some(compared)) => {
            *expr = compared;
            ControlFlow::Continue(())
        }
        Ok(None) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    });
    match found {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn compared(expr: &Expr) -> Result<Option<Expr>, SqlError> {
    let (left, op, right, is_any) = match expr {
        Expr::AnyOp { left, compare_op, right, .. } => (left, compare_op, right, true),
        Expr::AllOp { left, compare_op, right } => (left, compare_op, right, false),
        _ => return Ok(None),
    };
    let Some(text) = text(right) else { return Ok(None) };
    let items: Vec<Expr> = decode::array_items(text)?.into_iter().map(literal).collect();
    let left = match left.as_ref() {
        one @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_) | Expr::Nested(_)) => one.clone(),
        other => nested(other.clone()),
    };
    if items.is_empty() {
        // The value is read, whatever it is.
        let is_known = nested(Expr::IsNull(Box::new(left)));
        let never = nested(Expr::IsNull(Box::new(is_known)));
        return Ok(Some(if is_any { never } else { nested(binary(never, BinaryOperator::Eq, boolean(false))) }));
    }
    Ok(Some(match (op, is_any) {
        (BinaryOperator::Eq, true) => nested(Expr::InList { expr: Box::new(left), list: items, negated: false }),
        (BinaryOperator::NotEq, false) => nested(Expr::InList { expr: Box::new(left), list: items, negated: true }),
        (
            BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq,
            _,
        ) => {
            refuse_volatile(std::slice::from_ref(&left))?;
            let parts = items.into_iter().map(|item| nested(binary(left.clone(), op.clone(), item)));
            let joins = if is_any { BinaryOperator::Or } else { BinaryOperator::And };
            nested(joined(parts.collect(), &joins))
        }
        _ => return Ok(None),
    }))
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// Returns the text of a literal without a type.
fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Nested(inner) => text(inner),
        Expr::Value(ValueWithSpan {
            value:
                Value::SingleQuotedString(text)
                | Value::EscapedStringLiteral(text)
                | Value::UnicodeStringLiteral(text)
                | Value::DollarQuotedString(DollarQuotedString { value: text, .. }),
            ..
        }) => Some(text),
        _ => None,
    }
}

fn literal(item: Option<String>) -> Expr {
    Expr::value(item.map_or(Value::Null, Value::SingleQuotedString))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;
    use neuroql::PostgresDialect;

    use super::*;

    fn rewritten(condition: &str) -> Result<String, String> {
        let mut statement = Parser::parse_sql(&PostgresDialect, &format!("SELECT {condition}")).unwrap().remove(0);
        rewrite(&mut statement).map_err(|error| error.sqlstate.into_owned())?;
        Ok(statement.to_string())
    }

    #[test]
    fn items_are_compared() {
        for (text, expected) in [
            ("a = ANY('{1,2}')", "(a IN ('1', '2'))"),
            ("a = SOME('{\"x y\",NULL,\"NULL\"}')", "(a IN ('x y', NULL, 'NULL'))"),
            ("a <> ALL('{1}')", "(a NOT IN ('1'))"),
            ("a + 1 < ANY('{1,2}')", "(((a + 1) < '1') OR ((a + 1) < '2'))"),
            ("a >= ALL('{1,2}')", "((a >= '1') AND (a >= '2'))"),
            ("a = ANY('{}')", "((a IS NULL) IS NULL)"),
            ("a = ANY(b)", "a = ANY(b)"),
            ("a = ANY('{1}'::INT[])", "a = ANY('{1}'::INT[])"),
        ] {
            assert_eq!(rewritten(text).unwrap(), format!("SELECT {expected}"), "{text}");
        }
        assert_eq!(rewritten("a = ANY('1,2')").unwrap_err(), "22P02");
        assert_eq!(rewritten("a = ANY('{{1},{2}}')").unwrap_err(), "0A000");
    }
}
