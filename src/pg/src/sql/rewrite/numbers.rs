//! Numbers of many digits, which would lose some as double precision.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, ExactNumberInfo, Expr, Value, ValueWithSpan, VisitMut, visit_expressions_mut,
};

/// Number of significant digits that double precision keeps of every number.
const KEPT: usize = 15;

/// Number of digits that `numeric` has.
const MOST: usize = 38;

/// Writes numbers with a point or beyond 64 bits as `numeric` if they have more digits than double precision keeps.
pub(crate) fn keep_digits(tree: &mut impl VisitMut) {
    let _ = visit_expressions_mut(tree, |expr| {
        if let Expr::Value(ValueWithSpan { value: Value::Number(text, _), .. }) = expr
            && let Some((precision, scale)) = exact(text)
        {
            let data_type = DataType::Numeric(ExactNumberInfo::PrecisionAndScale(precision, scale));
            let text = Expr::value(Value::SingleQuotedString(std::mem::take(text)));
            *expr = Expr::Cast { kind: CastKind::Cast, expr: Box::new(text), data_type, array: false, format: None };
        }
        ControlFlow::<()>::Continue(())
    });
}

/// Returns precision and scale of a number that would lose digits, and that `numeric` can hold.
fn exact(text: &str) -> Option<(u64, i64)> {
    if text.parse::<u64>().is_ok() || !text.bytes().all(|letter| letter.is_ascii_digit() || letter == b'.') {
        return None;
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = whole.trim_start_matches('0');
    let digits = whole.len() + if whole.is_empty() { fraction.trim_start_matches('0').len() } else { fraction.len() };
    let precision = (whole.len() + fraction.len()).max(1);
    (digits > KEPT && precision <= MOST).then_some((precision as u64, fraction.len() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_numbers_are_exact() {
        assert_eq!(exact("1234567890123456789.5"), Some((20, 1)));
        assert_eq!(exact("99999999999999999999"), Some((20, 0)));
        assert_eq!(exact("0.1234567890123456"), Some((16, 16)));
        for text in ["1", "1.5", "18446744073709551615", "123456789.123456", "1e300", "0.000000000000000001"] {
            assert_eq!(exact(text), None, "{text}");
        }
    }
}
