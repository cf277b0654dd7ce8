//! `interval * number` and `interval / number`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, IntervalMonthDayNanoArray};
use datafusion::arrow::datatypes::{
    DataType, Field, FieldRef, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::casts::arrow_cast;
use super::refusal::refusal;

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// Returns the product or quotient of an interval and a number; `None` for other operands.
pub(super) fn product(
    op: &BinaryOperator,
    (left, left_type): (&Expr, &DataType),
    (right, right_type): (&Expr, &DataType),
) -> Option<Expr> {
    let is_interval = |it: &DataType| matches!(it, DataType::Interval(_));
    // A constant text is a number, too.
    let is_number = |expr: &Expr, it: &DataType| {
        it.is_numeric() || it.is_null() || it.is_string() && matches!(expr, Expr::Literal(..))
    };
    let (interval, number, divides) = match op {
        BinaryOperator::Multiply if is_interval(left_type) && is_number(right, right_type) => (left, right, false),
        BinaryOperator::Multiply if is_number(left, left_type) && is_interval(right_type) => (right, left, false),
        BinaryOperator::Divide if is_interval(left_type) && is_number(right, right_type) => (left, right, true),
        _ => return None,
    };
    let number = match number {
        Expr::Placeholder(Placeholder { id, field: None }) => {
            let field = Some(Arc::new(Field::new("", DataType::Float64, true)));
            Expr::Placeholder(Placeholder { id: id.clone(), field })
        }
        other => cast(other.clone(), DataType::Float64),
    };
    let function = IntervalProduct { divides, signature: Signature::any(2, Volatility::Immutable) };
    Some(ScalarUDF::from(function).call(vec![cast(interval.clone(), INTERVAL), number]))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IntervalProduct {
    divides: bool,
    signature: Signature,
}

impl ScalarUDFImpl for IntervalProduct {
    fn name(&self) -> &str {
        if self.divides { "pg_interval_divide" } else { "pg_interval_multiply" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(INTERVAL)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), INTERVAL, true)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [intervals, numbers] = &args.args[..] else { return exec_err!("{} takes two arguments", self.name()) };
        let is_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let intervals = arrow_cast(&intervals.to_array(rows)?, &INTERVAL)?;
        let numbers = arrow_cast(&numbers.to_array(rows)?, &DataType::Float64)?;
        let (intervals, numbers) =
            (intervals.as_primitive::<IntervalMonthDayNanoType>(), numbers.as_primitive::<Float64Type>());
        let each = |row: usize| match intervals.is_valid(row) && numbers.is_valid(row) {
            true => scaled(intervals.value(row), numbers.value(row), self.divides).map(Some),
            false => Ok(None),
        };
        let found: ArrayRef = Arc::new((0..rows).map(each).collect::<Result<IntervalMonthDayNanoArray>>()?);
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)
        } else {
            ColumnarValue::Array(found)
        })
    }
}

/// Multiplies an interval as `interval_mul` of Postgres does, or divides it as `interval_div` does: what is left of months is
/// days, 30 of them a month, and what is left of days is time.
fn scaled(interval: IntervalMonthDayNano, number: f64, divides: bool) -> Result<IntervalMonthDayNano> {
    const DAYS: f64 = 30.0;
    const SECONDS: f64 = 86_400.0;
    let out_of_range = || refusal("22008", "interval out of range");
    if divides && number == 0.0 {
        return Err(refusal("22012", "division by zero"));
    }
    let times = |part: f64| if divides { part / number } else { part * number };
    let whole = |value: f64| match (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&value) {
        true => Ok(value as i32),
        false => Err(out_of_range()),
    };
    let rounded = |value: f64| (value * 1e6).round_ties_even() / 1e6;
    let (of_months, of_days) = (times(f64::from(interval.months)), times(f64::from(interval.days)));
    let (months, mut days) = (whole(of_months)?, whole(of_days)?);
    let rest_of_months = rounded((of_months - f64::from(months)) * DAYS);
    let mut seconds = rounded((of_days - f64::from(days) + rest_of_months - rest_of_months.trunc()) * SECONDS);
    if seconds.abs() >= SECONDS {
        days = days.checked_add(whole(seconds / SECONDS)?).ok_or_else(out_of_range)?;
        seconds -= (seconds / SECONDS).trunc() * SECONDS;
    }
    days = days.checked_add(whole(rest_of_months)?).ok_or_else(out_of_range)?;
    let micros = (times((interval.nanoseconds / 1000) as f64) + seconds * 1e6).round_ties_even();
    // 2^63 is the first number that is no 64-bit integer.
    if !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&micros) {
        return Err(out_of_range());
    }
    let nanoseconds = (micros as i64).checked_mul(1000);
    let message = "intervals of more than 292 years in units of time are not supported";
    Ok(IntervalMonthDayNano::new(months, days, nanoseconds.ok_or_else(|| refusal("0A000", message))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with values of PostgreSQL 15.
    #[test]
    fn intervals_are_scaled_as_postgres_does() {
        const HOUR: i64 = 3_600_000_000_000;
        let of = |months, days, nanoseconds, number, divides| {
            let found = scaled(IntervalMonthDayNano::new(months, days, nanoseconds), number, divides).ok()?;
            Some((found.months, found.days, found.nanoseconds))
        };
        assert_eq!(of(0, 1, 0, 2.0, false), Some((0, 2, 0)));
        assert_eq!(of(0, 1, 0, 1.5, false), Some((0, 1, 12 * HOUR)));
        assert_eq!(of(1, 0, 0, 0.5, false), Some((0, 15, 0)));
        assert_eq!(of(13, 5, HOUR, -1.1, false), Some((-14, -14, -(13 * HOUR + HOUR / 10))));
        assert_eq!(of(1, 0, 0, 3.0, true), Some((0, 10, 0)));
        assert_eq!(of(0, 1, 0, 7.0, true), Some((0, 0, 12_342_857_143_000)));
        assert_eq!(of(0, 0, HOUR, 0.0, true), None);
        assert_eq!(of(0, 1, 0, f64::NAN, false), None);
        assert_eq!(of(0, 1, 0, 1e12, false), None);
        assert_eq!(of(0, 0, HOUR, 1e9, false), None);
    }
}
