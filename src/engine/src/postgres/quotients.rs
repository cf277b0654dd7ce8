//! Division of `numeric`, with the digits that Postgres gives a quotient: 16 significant ones at least.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, i256};
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
};
use datafusion::scalar::ScalarValue;

use super::refusal::refusal;
use super::types::UNCONSTRAINED;

/// Precision and scale of a quotient. A column has one scale, but most quotients have no more digits.
pub(super) const QUOTIENT: (u8, i8) = (37, 20);

/// The significant digits of a quotient.
const SIGNIFICANT: i32 = 16;

/// Returns the quotient of two decimals, or of a decimal and an integer.
pub(super) fn quotient(left: (Expr, &DataType), right: (Expr, &DataType)) -> Option<Expr> {
    let decimal = |(side, data_type): (Expr, &DataType)| match data_type {
        DataType::Decimal128(..) => Some(side),
        DataType::Int16 | DataType::Int32 | DataType::Int64 => Some(cast(side, DataType::Decimal128(20, 0))),
        _ => None,
    };
    if !left.1.is_decimal() && !right.1.is_decimal() {
        return None;
    }
    Some(function().call(vec![decimal(left)?, decimal(right)?]))
}

/// Returns true if this is such a division.
pub(super) fn is_quotient(function: &ScalarUDF) -> bool {
    function.inner().downcast_ref::<Quotient>().is_some()
}

fn function() -> ScalarUDF {
    ScalarUDF::from(Quotient { signature: Signature::any(2, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Quotient {
    signature: Signature,
}

impl ScalarUDFImpl for Quotient {
    fn name(&self) -> &str {
        "pg_numeric_divide"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(QUOTIENT.0, QUOTIENT.1))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|side| matches!(side, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let sides = args.args.iter().map(|side| side.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let [left, right] = &sides[..] else { return exec_err!("{} takes two arguments", self.name()) };
        let (Some(lefts), Some(rights)) =
            (left.as_primitive_opt::<Decimal128Type>(), right.as_primitive_opt::<Decimal128Type>())
        else {
            return exec_err!("{} of {} and {}", self.name(), left.data_type(), right.data_type());
        };
        let each = |row: usize| {
            if lefts.is_null(row) || rights.is_null(row) {
                return Ok(None);
            }
            let number = |array: &Decimal128Array| Numeric::of(array.value(row), array.data_type());
            divided(number(lefts), number(rights)).map(Some)
        };
        let found = (0..rows).map(each).collect::<Result<Decimal128Array>>()?;
        let found: ArrayRef = Arc::new(found.with_precision_and_scale(QUOTIENT.0, QUOTIENT.1)?);
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)
        } else {
            ColumnarValue::Array(found)
        })
    }
}

/// A value of `numeric`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numeric {
    pub(super) digits: i128,
    pub(super) scale: i32,
    /// The digits after the point that Postgres shows of it: at least, and at most.
    pub(super) shown: (i32, i32),
}

impl Numeric {
    pub(super) fn of(digits: i128, data_type: &DataType) -> Self {
        let scale = match data_type {
            DataType::Decimal128(_, scale) => i32::from(*scale),
            _ => 0,
        };
        let is_unknown = matches!(data_type, DataType::Decimal128(37.., scale) if *scale >= UNCONSTRAINED.1);
        let shown = if is_unknown { (least_scale(digits, scale), scale) } else { (scale, scale) };
        Self { digits, scale, shown }
    }

    /// Returns the position of the first group of four digits, and that group, as Postgres keeps numbers.
    fn first_group(self) -> (i32, i32) {
        if self.digits == 0 {
            return (0, 0);
        }
        let digits = self.digits.unsigned_abs().to_string();
        let exponent = digits.len() as i32 - 1 - self.scale;
        let weight = exponent.div_euclid(4);
        let wanted = exponent.rem_euclid(4) as usize + 1;
        let group: String = digits.chars().chain(std::iter::repeat('0')).take(wanted).collect();
        (weight, group.parse().unwrap_or(0))
    }
}

/// Returns the scale without zeros at the end.
fn least_scale(digits: i128, scale: i32) -> i32 {
    let (mut digits, mut scale) = (digits, scale);
    while scale > 0 && digits % 10 == 0 {
        (digits, scale) = (digits / 10, scale - 1);
    }
    scale
}

fn too_long() -> DataFusionError {
    let (whole, fraction) = (i32::from(QUOTIENT.0) - i32::from(QUOTIENT.1), QUOTIENT.1);
    let message = format!(
        "a quotient of numeric with more than {whole} digits before or {fraction} after the point is not supported; \
         divide as double precision"
    );
    refusal("0A000", message)
}

/// Computes the quotient at the scale of [`QUOTIENT`], rounded as Postgres' `div_var` rounds it.
///
/// # Errors
/// If the divisor is zero, or the digits that Postgres gives are not known or do not fit.
pub(super) fn divided(left: Numeric, right: Numeric) -> Result<i128> {
    if right.digits == 0 {
        return Err(refusal("22012", "division by zero"));
    }
    // `select_div_scale`.
    let ((left_weight, left_group), (right_weight, right_group)) = (left.first_group(), right.first_group());
    let weight = left_weight - right_weight - i32::from(left_group <= right_group);
    let wanted = SIGNIFICANT - weight * 4;
    let least = wanted.max(left.shown.0).max(right.shown.0).max(0);
    let most = wanted.max(left.shown.1).max(right.shown.1).max(0);
    let kept = i32::from(QUOTIENT.1);
    let places = least.min(kept);
    let power = |exponent: i32| i256::from_i128(10).checked_pow(u32::try_from(exponent).unwrap_or(0));
    // left / 10^a / (right / 10^b) = left * 10^(b - a) / right, and so many places more.
    let exponent = right.scale - left.scale + places;
    let (over, under) = (power(exponent.max(0)).ok_or_else(too_long)?, power((-exponent).max(0)).ok_or_else(too_long)?);
    let dividend = i256::from_i128(left.digits).checked_mul(over).ok_or_else(too_long)?;
    let divisor = i256::from_i128(right.digits).checked_mul(under).ok_or_else(too_long)?;
    let (whole, rest) = match (dividend.checked_div(divisor), dividend.checked_rem(divisor)) {
        (Some(whole), Some(rest)) => (whole, rest),
        _ => return Err(too_long()),
    };
    let is_exact = rest == i256::ZERO;
    // Where not all digits fit, or it is not known how many there are, only a quotient without further ones will do.
    if !is_exact && (least > kept || least != most) {
        return Err(match least > kept {
            true => too_long(),
            false => refusal(
                "0A000",
                "how many digits a quotient of numeric without a precision has is not known; use numeric(precision, \
                 scale) or double precision",
            ),
        });
    }
    let (rest, divisor) = (rest.wrapping_abs(), divisor.wrapping_abs());
    let is_negative = (left.digits < 0) != (right.digits < 0);
    let away = if is_negative { i256::from_i128(-1) } else { i256::ONE };
    let rounded = if rest >= divisor.wrapping_sub(rest) { whole.wrapping_add(away) } else { whole };
    let shifted = power(kept - places).and_then(|power| rounded.checked_mul(power)).ok_or_else(too_long)?;
    let fits = |number: &i128| number.unsigned_abs() < 10u128.pow(u32::from(QUOTIENT.0));
    shifted.to_i128().filter(fits).ok_or_else(too_long)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(left: (i128, i8), right: (i128, i8)) -> Result<i128> {
        let number = |(digits, scale)| Numeric::of(digits, &DataType::Decimal128(30, scale));
        divided(number(left), number(right))
    }

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn quotients_have_the_digits_of_postgres() {
        // 0.1 / 2.7 = 0.03703703703703703704
        assert_eq!(of((1, 1), (27, 1)).unwrap(), 3_703_703_703_703_703_704);
        // 1 / 3 = 0.33333333333333333333
        assert_eq!(of((1, 0), (3, 0)).unwrap(), 33_333_333_333_333_333_333);
        // 20 / 3 = 6.6666666666666667
        assert_eq!(of((20, 0), (3, 0)).unwrap(), 66_666_666_666_666_667 * 10_000);
        // -10000 / 3 = -3333.3333333333333333
        assert_eq!(of((-10_000, 0), (3, 0)).unwrap(), -33_333_333_333_333_333_333 * 10_000);
        assert_eq!(of((15, 1), (5, 1)).unwrap(), 3 * 10i128.pow(20));
        assert!(of((1, 0), (0, 0)).is_err());
        // 1 / 300000 has 24 digits after the point.
        assert!(of((1, 0), (300_000, 0)).is_err());
        assert_eq!(of((1, 0), (1_000_000, 0)).unwrap(), 10i128.pow(14));
    }

    #[test]
    fn unknown_digits_are_not_guessed() {
        let unknown = |digits| Numeric::of(digits, &DataType::Decimal128(38, 10));
        // 10^13 / 3 has 4 digits after the point, or as many as its operands.
        assert!(divided(unknown(10i128.pow(23)), unknown(3 * 10i128.pow(10))).is_err());
        assert_eq!(divided(unknown(10i128.pow(23)), unknown(2 * 10i128.pow(10))).unwrap(), 5 * 10i128.pow(32));
        assert_eq!(divided(unknown(10i128.pow(10)), unknown(3 * 10i128.pow(10))).unwrap(), 33_333_333_333_333_333_333);
    }
}
