//! `NOT EXISTS (…) IS NULL` is `NOT (EXISTS (…) IS NULL)`: the parser takes NOT EXISTS for one operator, and NOT binds less
//! than what follows.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value, VisitMut, VisitorMut};

/// Moves the NOT of a NOT EXISTS above the operators that bind more.
pub(crate) fn rewrite(tree: &mut impl VisitMut) {
    let _: ControlFlow<()> = tree.visit(&mut RaiseNegations);
}

struct RaiseNegations;

impl VisitorMut for RaiseNegations {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Some(operand) = first_operand(expr) else { return ControlFlow::Continue(()) };
        match operand {
            Expr::Exists { negated: negated @ true, .. } => *negated = false,
            // It stands here without parentheses only if it was moved before.
            Expr::UnaryOp { op: UnaryOperator::Not, expr: inner } => {
                let inner = std::mem::replace(inner.as_mut(), Expr::value(Value::Null));
                *operand = inner;
            }
            _ => return ControlFlow::Continue(()),
        }
        let inner = std::mem::replace(expr, Expr::value(Value::Null));
        *expr = Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(inner) };
        ControlFlow::Continue(())
    }
}

/// Returns the first operand of an operator that binds more than NOT.
fn first_operand(expr: &mut Expr) -> Option<&mut Expr> {
    match expr {
        Expr::IsNull(operand)
        | Expr::IsNotNull(operand)
        | Expr::IsTrue(operand)
        | Expr::IsNotTrue(operand)
        | Expr::IsFalse(operand)
        | Expr::IsNotFalse(operand)
        | Expr::IsUnknown(operand)
        | Expr::IsNotUnknown(operand)
        | Expr::IsDistinctFrom(operand, _)
        | Expr::IsNotDistinctFrom(operand, _)
        | Expr::InList { expr: operand, .. }
        | Expr::InSubquery { expr: operand, .. }
        | Expr::Between { expr: operand, .. } => Some(operand),
        Expr::BinaryOp { left, op, .. }
            if !matches!(op, BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Xor) =>
        {
            Some(left)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    #[test]
    fn not_binds_less_than_what_follows() {
        for (written, read) in [
            ("NOT EXISTS (SELECT 1) IS NULL", "NOT EXISTS (SELECT 1) IS NULL"),
            ("(NOT EXISTS (SELECT 1)) IS NULL", "(NOT EXISTS (SELECT 1)) IS NULL"),
            ("NOT EXISTS (SELECT 1) AND true", "NOT EXISTS (SELECT 1) AND true"),
            (
                "NOT EXISTS (SELECT NOT EXISTS (SELECT 1) IS TRUE) = b IS NOT TRUE",
                "NOT EXISTS (SELECT NOT EXISTS (SELECT 1) IS TRUE) = b IS NOT TRUE",
            ),
        ] {
            let parse = |text: &str| {
                Parser::new(&PostgreSqlDialect {})
                    .try_with_sql(text)
                    .and_then(|mut parser| parser.parse_expr())
                    .unwrap()
            };
            let mut expr = parse(written);
            rewrite(&mut expr);
            assert_eq!(expr.to_string(), read);
            let is_not = matches!(&expr, Expr::UnaryOp { op: UnaryOperator::Not, .. });
            assert_eq!(is_not, written.starts_with("NOT") && !written.contains("AND"), "{written}");
        }
    }
}
