//! Numbers with a point as they stand in a statement: Postgres' `numeric`, DataFusion's double precision.

use datafusion::logical_expr::{Expr, lit};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// A number: digits, and how many of them stand after the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decimal {
    digits: i128,
    scale: u32,
}

/// Computes the sum, difference or product of two constants, of which one has a point, without the error of binary
/// fractions.
pub(super) fn combined(operator: &BinaryOperator, left: &Expr, right: &Expr) -> Option<Expr> {
    let has_point = |expr: &Expr| matches!(expr, Expr::Literal(ScalarValue::Float64(Some(_)), None));
    if !has_point(left) && !has_point(right) {
        return None;
    }
    let (left, right) = (constant(left)?, constant(right)?);
    let scale = left.scale.max(right.scale);
    let at = |number: Decimal| number.digits.checked_mul(10i128.checked_pow(scale - number.scale)?);
    let result = match operator {
        BinaryOperator::Plus => Decimal { digits: at(left)?.checked_add(at(right)?)?, scale },
        BinaryOperator::Minus => Decimal { digits: at(left)?.checked_sub(at(right)?)?, scale },
        BinaryOperator::Multiply => {
            Decimal { digits: left.digits.checked_mul(right.digits)?, scale: left.scale + right.scale }
        }
        _ => return None,
    };
    format!("{}e-{}", result.digits, result.scale).parse::<f64>().ok().map(lit)
}

/// Computes `round` of a constant with a point: halves go away from zero.
pub(super) fn rounded(number: &Expr, places: &Expr) -> Option<Expr> {
    let Expr::Literal(ScalarValue::Float64(Some(_)), None) = number else { return None };
    let places = match places {
        Expr::Literal(ScalarValue::Int64(Some(places)), _) => u32::try_from(*places).ok()?,
        Expr::Literal(ScalarValue::Int32(Some(places)), _) => u32::try_from(*places).ok()?,
        _ => return None,
    };
    let Decimal { digits, scale } = constant(number)?;
    if scale <= places {
        return Some(number.clone());
    }
    let unit = 10i128.checked_pow(scale - places)?;
    let (whole, rest) = (digits / unit, digits % unit);
    let whole = if rest.abs() >= unit - rest.abs() { whole + digits.signum() } else { whole };
    format!("{whole}e-{places}").parse::<f64>().ok().map(lit)
}

/// Returns a constant with a point as `numeric`.
pub(super) fn as_numeric(number: &Expr) -> Option<Expr> {
    let (inner, sign) = match number {
        Expr::Negative(inner) => (inner.as_ref(), -1),
        number => (number, 1),
    };
    let Expr::Literal(ScalarValue::Float64(Some(_)), None) = inner else { return None };
    let Decimal { digits, scale } = constant(inner)?;
    let scale = i8::try_from(scale).ok().filter(|scale| *scale <= 38)?;
    let fits = digits.unsigned_abs() < 10u128.pow(38);
    fits.then(|| Expr::Literal(ScalarValue::Decimal128(Some(sign * digits), 38, scale), None))
}

/// Reads a constant of a statement as a number.
fn constant(expr: &Expr) -> Option<Decimal> {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), None) => Some(Decimal { digits: i128::from(*value), scale: 0 }),
        Expr::Literal(ScalarValue::Float64(Some(value)), None) => {
            // What was written has the fewest digits that tell the number from its neighbours, if it had up to 15.
            let text = format!("{value:e}");
            let (mantissa, exponent) = text.split_once('e')?;
            let exponent: i32 = exponent.parse().ok()?;
            let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
            let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
            let scale = i32::try_from(fraction.len()).ok()? - exponent;
            if scale >= 0 {
                return Some(Decimal { digits, scale: u32::try_from(scale).ok()? });
            }
            let more = 10i128.checked_pow(scale.unsigned_abs())?;
            Some(Decimal { digits: digits.checked_mul(more)?, scale: 0 })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_decimal() {
        let of = |operator, left: f64, right: f64| combined(&operator, &lit(left), &lit(right));
        assert_eq!(of(BinaryOperator::Plus, 0.1, 0.2), Some(lit(0.3)));
        assert_eq!(of(BinaryOperator::Minus, 0.3, 0.1), Some(lit(0.2)));
        assert_eq!(of(BinaryOperator::Multiply, 1.1, 1.1), Some(lit(1.21)));
        assert_eq!(of(BinaryOperator::Plus, 1e20, -1.5), Some(lit(99999999999999999998.5)));
        assert_eq!(combined(&BinaryOperator::Plus, &lit(1i64), &lit(2i64)), None);
    }
}
