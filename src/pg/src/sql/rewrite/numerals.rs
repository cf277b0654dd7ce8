//! Constants of `numeric` without a precision, which show as many digits as were written: `'5000'::numeric` is 5000,
//! `'0.00'::numeric` 0.00.
//!
//! A column of `numeric` without a precision has ten digits after the point here. Where a constant is an output of the statement
//! or becomes a text, its digits are known, and it is given the precision that has them.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, GroupByExpr, Query, Select, SelectItem, SetExpr,
    TypedString, UnaryOperator, Value, ValueWithSpan, visit_expressions_mut,
};

/// Digits that the constants of an expression may have together, so that what is computed of them fits.
const MOST_DIGITS: u64 = 37;

/// Gives constants of a statement the digits that they show.
pub(crate) fn show_digits(statement: &mut Statement) {
    let Statement::Statement(inner) = statement else { return };
    let _ = visit_expressions_mut(inner.as_mut(), |expr| {
        match expr {
            Expr::Cast { expr: value, data_type: DataType::Text | DataType::Varchar(_), .. } => {
                exact(value);
            }
            Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
                exact(left);
                exact(right);
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    if let ast::Statement::Query(query) = inner.as_mut()
        && let Some(select) = plain_select(query)
    {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item
                && exact(expr)
                && is_cast(expr)
            {
                // Clients are told the precision of a cast, and this one has none.
                let value = Box::new(std::mem::replace(expr, Expr::value(Value::Null)));
                let zero = Box::new(Expr::value(Value::Number("0".into(), false)));
                *expr = Expr::BinaryOp { left: value, op: BinaryOperator::Plus, right: zero };
            }
        }
    }
}

/// Returns the SELECT of a query whose outputs are named nowhere else in it.
fn plain_select(query: &mut Query) -> Option<&mut Select> {
    if query.order_by.is_some() {
        return None;
    }
    match query.body.as_mut() {
        SetExpr::Select(select) => {
            let is_grouped = !matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty());
            (!is_grouped && select.distinct.is_none() && select.having.is_none()).then_some(select.as_mut())
        }
        SetExpr::Query(query) => plain_select(query),
        _ => None,
    }
}

fn is_cast(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_cast(inner),
        other => matches!(other, Expr::Cast { .. }),
    }
}

/// Gives the casts of an expression their digits, if it is made of nothing but constants; returns true if it has such casts.
fn exact(expr: &mut Expr) -> bool {
    let is_exact = digits(expr).is_some_and(|(count, has_cast)| has_cast && count <= MOST_DIGITS);
    if is_exact {
        rewrite(expr);
    }
    is_exact
}

/// Returns the number of digits of the constants of an expression, and whether one of them is cast; `None` if there is more to it.
fn digits(expr: &Expr) -> Option<(u64, bool)> {
    match expr {
        Expr::Nested(inner) | Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr: inner } => {
            digits(inner)
        }
        Expr::BinaryOp { left, op: BinaryOperator::Plus | BinaryOperator::Minus | BinaryOperator::Multiply, right } => {
            let ((left, one), (right, other)) = (digits(left)?, digits(right)?);
            Some((left + right + 1, one || other))
        }
        Expr::Value(ValueWithSpan { value: Value::Number(text, _), .. }) => match size(text)? {
            (precision, 0) if text.bytes().all(|digit| digit.is_ascii_digit()) => Some((precision, false)),
            _ => None,
        },
        other => Some((size(constant(other)?)?.0, true)),
    }
}

/// Returns the text of a constant that is cast to `numeric` without a precision.
fn constant(expr: &Expr) -> Option<&str> {
    let is_numeric = |data_type: &DataType| {
        matches!(
            data_type,
            DataType::Numeric(ExactNumberInfo::None)
                | DataType::Decimal(ExactNumberInfo::None)
                | DataType::Dec(ExactNumberInfo::None)
        )
    };
    let value = match expr {
        Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, array: false, .. }
            if is_numeric(data_type) =>
        {
            match expr.as_ref() {
                Expr::Value(value) => &value.value,
                _ => return None,
            }
        }
        Expr::TypedString(TypedString { data_type, value, .. }) if is_numeric(data_type) => &value.value,
        _ => return None,
    };
    match value {
        Value::Number(text, _) | Value::SingleQuotedString(text) => Some(text),
        _ => None,
    }
}

fn rewrite(expr: &mut Expr) {
    match expr {
        Expr::Nested(inner) | Expr::UnaryOp { expr: inner, .. } => return rewrite(inner),
        Expr::BinaryOp { left, right, .. } => {
            rewrite(left);
            return rewrite(right);
        }
        _ => {}
    }
    if let Some(text) = constant(expr)
        && let Some((precision, scale)) = size(text)
    {
        let text = Box::new(Expr::value(Value::SingleQuotedString(text.into())));
        let data_type = DataType::Numeric(ExactNumberInfo::PrecisionAndScale(precision, scale));
        *expr = Expr::Cast { kind: CastKind::Cast, expr: text, data_type, array: false, format: None };
    }
}

/// Returns the precision and scale of a number as Postgres shows it; `None` if it is none, or too long.
fn size(text: &str) -> Option<(u64, i64)> {
    let text = text.trim_matches(crate::decode::is_space);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let mantissa = mantissa.strip_prefix(['+', '-']).unwrap_or(mantissa);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |part: &str| part.bytes().all(|digit| digit.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let limit = i64::try_from(MOST_DIGITS).ok()?;
    if exponent.abs() > limit {
        return None;
    }
    let scale = (i64::try_from(fraction.len()).ok()? - exponent).max(0);
    let before = (i64::try_from(whole.trim_start_matches('0').len()).ok()? + exponent.max(0)).max(1);
    Some((u64::try_from(before + scale).ok()?, scale))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParserBuilder;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;

    use super::*;

    fn shown(query: &str) -> String {
        let mut parser = DFParserBuilder::new(query).with_dialect(&PostgreSqlDialect {}).build().unwrap();
        let mut statement = parser.parse_statement().unwrap();
        show_digits(&mut statement);
        statement.to_string()
    }

    #[test]
    fn constants_have_the_digits_that_they_show() {
        for (query, expected) in [
            ("SELECT '5000'::numeric", "SELECT CAST('5000' AS NUMERIC(4,0)) + 0"),
            ("SELECT 1.50::numeric AS x", "SELECT CAST('1.50' AS NUMERIC(3,2)) + 0 AS x"),
            ("SELECT - '0.5'::numeric * 2", "SELECT -CAST('0.5' AS NUMERIC(2,1)) * 2"),
            ("SELECT '1e5'::numeric", "SELECT CAST('1e5' AS NUMERIC(6,0)) + 0"),
            ("SELECT '1.5e-3'::numeric", "SELECT CAST('1.5e-3' AS NUMERIC(5,4)) + 0"),
            (
                "SELECT a FROM t WHERE '5'::numeric::text = b",
                "SELECT a FROM t WHERE CAST('5' AS NUMERIC(1,0))::TEXT = b",
            ),
            ("SELECT 'x' || '0.00'::numeric", "SELECT 'x' || CAST('0.00' AS NUMERIC(3,2))"),
        ] {
            assert_eq!(shown(query), expected, "{query}");
        }
        for query in [
            "SELECT 'NaN'::NUMERIC",
            "SELECT 'x'::NUMERIC",
            "SELECT '1'::NUMERIC / 3",
            "SELECT a::NUMERIC FROM t",
            "SELECT '1'::NUMERIC(5,2)",
            "SELECT DISTINCT '5'::NUMERIC FROM t",
            "SELECT '1'::NUMERIC UNION ALL SELECT '2.5'::NUMERIC",
            "SELECT '1234567890123456789012345678901234567890'::NUMERIC",
            "CREATE TABLE t AS SELECT '5000'::NUMERIC AS a",
            "INSERT INTO t SELECT '5000'::NUMERIC",
            "SELECT 1.5 + 2",
        ] {
            assert_eq!(shown(query), query);
        }
    }
}
