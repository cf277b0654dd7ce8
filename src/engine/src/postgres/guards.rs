//! Conditions that keep rows away from what fails for them.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::{BinaryExpr, Case};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, lit};

use super::arithmetic::is_division;
use super::casts::may_refuse_text;
use super::quotients::is_quotient;

/// Returns true if an expression may fail for rows that a condition beside it is there to keep away.
pub(super) fn may_fail(expr: &Expr, schema: &DFSchema) -> bool {
    let is_constant = |expr: &Expr| matches!(expr, Expr::Literal(..));
    expr.exists(|expr| {
        Ok(match expr {
            Expr::ScalarFunction(function) => match &function.args[..] {
                // Division by a constant other than zero does not fail.
                [_, divisor] if is_division(&function.func) || is_quotient(&function.func) => !is_constant(divisor),
                [text] if may_refuse_text(&function.func) => !is_constant(text),
                _ => false,
            },
            Expr::Cast(cast) => {
                !is_constant(&cast.expr) && !is_text(cast.field.data_type()) && is_text(&cast.expr.get_type(schema)?)
            }
            _ => false,
        })
    })
    .unwrap_or(true)
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Guards conditions as in `a <> 0 AND 1 / a > 2`: one that may fail is evaluated only where the one to its left does
/// not decide, as in Postgres.
pub(super) fn guarded(binary: BinaryExpr, schema: &DFSchema) -> Transformed<Expr> {
    let BinaryExpr { left, op, right } = binary;
    let plain = |left, right| Expr::BinaryExpr(BinaryExpr { left, op, right });
    let decides = lit(op == Operator::Or);
    let is_guarded = matches!(&*right, Expr::Case(case) if case.expr.as_deref() == Some(&*left));
    let is_cheap = |expr: &Expr| {
        let heavy = expr.exists(|expr| {
            Ok(match expr {
                Expr::ScalarFunction(function) => function.func.as_async().is_some(),
                Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => true,
                _ => false,
            })
        });
        !heavy.unwrap_or(true) && !expr.is_volatile()
    };
    if is_guarded || !may_fail(&right, schema) || !is_cheap(&left) || !is_cheap(&right) {
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
