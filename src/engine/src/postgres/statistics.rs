//! Functions of numbers: `width_bucket`, `div`, `factorial`, the digits of `numeric`, and `bit_count`.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, make_comparator};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int32Type, Int64Type, i256};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ScalarUDF;

use super::casts::arrow_cast;
use super::overloads::{Columns, Form, Kind, Overloaded, Refused};
use super::refusal::{out_of_range, refusal};
use super::types::UNCONSTRAINED;

/// Returns the functions.
pub(super) fn functions() -> Vec<ScalarUDF> {
    use Kind::{Any, Array, Bigint, Bytes, Double, Integer, Numeric, Whole};
    const WIDTH_BUCKET: &[Form] = &[
        Form { takes: &[Double, Double, Double, Integer], gives: Integer, compute: width_bucket },
        Form { takes: &[Numeric, Numeric, Numeric, Integer], gives: Integer, compute: width_bucket_of_numeric },
        Form { takes: &[Any, Array], gives: Integer, compute: width_bucket_of_array },
    ];
    const DIV: &[Form] = &[Form { takes: &[Numeric, Numeric], gives: Whole, compute: div }];
    const SCALE: &[Form] = &[Form { takes: &[Numeric], gives: Integer, compute: scale }];
    const MIN_SCALE: &[Form] = &[Form { takes: &[Numeric], gives: Integer, compute: min_scale }];
    const FACTORIAL: &[Form] = &[Form { takes: &[Bigint], gives: Whole, compute: factorial }];
    const BIT_COUNT: &[Form] = &[Form { takes: &[Bytes], gives: Bigint, compute: bit_count }];
    vec![
        Overloaded::strict("width_bucket", WIDTH_BUCKET),
        Overloaded::strict("div", DIV),
        Overloaded::strict("scale", SCALE),
        Overloaded::strict("min_scale", MIN_SCALE),
        Overloaded::strict("factorial", FACTORIAL),
        Overloaded::strict("bit_count", BIT_COUNT),
        Refused::of("trim_scale", "all values of a column of numeric have the same number of digits after the point"),
        Refused::of("setseed", "the numbers of random() cannot be repeated"),
    ]
}

fn bucket_error(message: &str) -> DataFusionError {
    refusal("2201G", message)
}

fn width_bucket(args: &Columns) -> Result<ArrayRef> {
    let numbers = [0, 1, 2].map(|place| args.primitive::<Float64Type>(place));
    let counts = args.primitive::<Int32Type>(3);
    args.numbers::<Int32Type>(|row| {
        let [operand, low, high] = numbers.map(|column| column.value(row));
        bucket(operand, low, high, counts.value(row))
    })
}

/// Returns the bucket of a number, from 1; those below and above have the buckets 0 and `count + 1`.
fn bucket(operand: f64, low: f64, high: f64, count: i32) -> Result<i32> {
    if count <= 0 {
        return Err(bucket_error("count must be greater than zero"));
    }
    if operand.is_nan() || low.is_nan() || high.is_nan() {
        return Err(bucket_error("operand, lower bound, and upper bound cannot be NaN"));
    }
    if low.is_infinite() || high.is_infinite() {
        return Err(bucket_error("lower and upper bounds must be finite"));
    }
    if low == high {
        return Err(bucket_error("lower bound cannot equal upper bound"));
    }
    let is_rising = low < high;
    let (is_below, is_above) =
        if is_rising { (operand < low, operand >= high) } else { (operand > low, operand <= high) };
    if is_below {
        return Ok(0);
    }
    if is_above {
        return count.checked_add(1).ok_or_else(|| out_of_range(&DataType::Int32));
    }
    let share = |operand: f64, low: f64, high: f64| {
        if is_rising { (operand - low) / (high - low) } else { (low - operand) / (low - high) }
    };
    // Halves of very distant bounds are no more distant than a number can be.
    let share = match (high - low).is_infinite() {
        true => share(operand / 2.0, low / 2.0, high / 2.0),
        false => share(operand, low, high),
    };
    let found = (f64::from(count) * share) as i32;
    Ok(found.min(count - 1) + 1)
}

fn width_bucket_of_numeric(args: &Columns) -> Result<ArrayRef> {
    let numbers = [0, 1, 2].map(|place| args.primitive::<Decimal128Type>(place));
    let counts = args.primitive::<Int32Type>(3);
    let widest = numbers.iter().map(|column| column.scale()).max().unwrap_or(0);
    args.numbers::<Int32Type>(|row| {
        let [operand, low, high] = numbers.map(|column| at_scale(column.value(row), widest - column.scale()));
        let count = counts.value(row);
        if count <= 0 {
            return Err(bucket_error("count must be greater than zero"));
        }
        if low == high {
            return Err(bucket_error("lower bound cannot equal upper bound"));
        }
        // Turned around, falling bounds rise.
        let (operand, low, high) = match low < high {
            true => (operand, low, high),
            false => (operand.wrapping_neg(), low.wrapping_neg(), high.wrapping_neg()),
        };
        if operand < low {
            return Ok(0);
        }
        if operand >= high {
            return count.checked_add(1).ok_or_else(|| out_of_range(&DataType::Int32));
        }
        let share = operand
            .wrapping_sub(low)
            .checked_mul(i256::from_i128(count.into()))
            .and_then(|product| product.checked_div(high.wrapping_sub(low)));
        let found = share.and_then(i256::to_i128).and_then(|found| i32::try_from(found).ok());
        found.map(|found| found + 1).ok_or_else(|| out_of_range(&DataType::Int32))
    })
}

/// Returns a number in units of a digit that is `places` further to the right.
fn at_scale(digits: i128, places: i8) -> i256 {
    let power = i256::from_i128(10).wrapping_pow(u32::from(places.max(0).unsigned_abs()));
    i256::from_i128(digits).wrapping_mul(power)
}

/// Returns how many thresholds are not greater than the operand; they are in order.
fn width_bucket_of_array(args: &Columns) -> Result<ArrayRef> {
    let lists = args.columns[1].as_list::<i32>();
    if matches!(lists.values().data_type(), DataType::List(_)) {
        return Err(refusal("2202E", "thresholds must be one-dimensional array"));
    }
    let (operand, item) = (args.columns[0].data_type(), lists.values().data_type());
    let is_integer = |it: &DataType| matches!(it, DataType::Int16 | DataType::Int32 | DataType::Int64);
    let common = match (operand, item) {
        (operand, item) if operand == item => operand.clone(),
        (_, DataType::Null) => operand.clone(),
        (operand, item) if is_integer(operand) && is_integer(item) => DataType::Int64,
        (operand, item) if operand.is_numeric() && item.is_numeric() => {
            let is_inexact = operand.is_floating() || item.is_floating();
            match (operand, item) {
                _ if is_inexact => DataType::Float64,
                (DataType::Decimal128(_, one), DataType::Decimal128(_, other)) => {
                    DataType::Decimal128(38, *one.max(other))
                }
                (DataType::Decimal128(_, scale), _) | (_, DataType::Decimal128(_, scale)) => {
                    DataType::Decimal128(38, *scale)
                }
                _ => DataType::Float64,
            }
        }
        (operand, item) if operand.is_string() && item.is_string() => DataType::Utf8,
        _ => {
            return Err(refusal("42883", "function width_bucket does not exist for an array of another type"));
        }
    };
    let common = if common == DataType::Float32 { DataType::Float64 } else { common };
    let operands = arrow_cast(&args.columns[0], &common)?;
    let thresholds = arrow_cast(lists.values(), &common)?;
    let offsets = lists.value_offsets();
    let compare = match common {
        DataType::Float64 => None,
        _ => Some(make_comparator(&operands, &thresholds, SortOptions::default())?),
    };
    let is_less = |row: usize, place: usize| match &compare {
        Some(compare) => compare(row, place) == Ordering::Less,
        None => {
            let operand = operands.as_primitive::<Float64Type>().value(row);
            let threshold = thresholds.as_primitive::<Float64Type>().value(place);
            !operand.is_nan() && (threshold.is_nan() || operand < threshold)
        }
    };
    args.numbers::<Int32Type>(|row| {
        let (first, end) = (offsets[row] as usize, offsets[row + 1] as usize);
        if (first..end).any(|place| thresholds.is_null(place)) {
            return Err(refusal("22004", "thresholds array must not contain NULLs"));
        }
        let (mut left, mut right) = (first, end);
        while left < right {
            let middle = left + (right - left) / 2;
            if is_less(row, middle) { right = middle } else { left = middle + 1 }
        }
        i32::try_from(left - first).map_err(|_| out_of_range(&DataType::Int32))
    })
}

fn div(args: &Columns) -> Result<ArrayRef> {
    let (lefts, rights) = (args.primitive::<Decimal128Type>(0), args.primitive::<Decimal128Type>(1));
    let widest = lefts.scale().max(rights.scale());
    let found = args.each(|row| {
        let left = at_scale(lefts.value(row), widest - lefts.scale());
        let right = at_scale(rights.value(row), widest - rights.scale());
        if right == i256::ZERO {
            return Err(refusal("22012", "division by zero"));
        }
        let quotient = left.checked_div(right).and_then(i256::to_i128).filter(has_38_digits);
        quotient.ok_or_else(too_long)
    })?;
    whole(found)
}

fn has_38_digits(number: &i128) -> bool {
    number.unsigned_abs() < 10u128.pow(38)
}

fn too_long() -> DataFusionError {
    refusal("22003", "value overflows numeric format: it has more than 38 digits")
}

fn whole(found: Vec<Option<i128>>) -> Result<ArrayRef> {
    Ok(Arc::new(Decimal128Array::from_iter(found).with_precision_and_scale(38, 0)?))
}

fn factorial(args: &Columns) -> Result<ArrayRef> {
    let numbers = args.primitive::<Int64Type>(0);
    whole(args.each(|row| {
        let number = numbers.value(row);
        if number < 0 {
            return Err(refusal("22003", "factorial of a negative number is undefined"));
        }
        // 33! is the last of 38 digits.
        if number > 33 {
            return Err(too_long());
        }
        Ok((2..=i128::from(number)).product())
    })?)
}

fn scale(args: &Columns) -> Result<ArrayRef> {
    let numbers = args.primitive::<Decimal128Type>(0);
    let (precision, scale) = (numbers.precision(), numbers.scale());
    args.numbers::<Int32Type>(|_| {
        if precision >= 37 && scale >= UNCONSTRAINED.1 {
            let message = "scale of numeric without a precision is not supported, because it does not know how many \
                           digits it had; use numeric(precision, scale)";
            return Err(refusal("0A000", message));
        }
        Ok(i32::from(scale.max(0)))
    })
}

fn min_scale(args: &Columns) -> Result<ArrayRef> {
    let numbers = args.primitive::<Decimal128Type>(0);
    args.numbers::<Int32Type>(|row| {
        let (mut digits, mut scale) = (numbers.value(row), i32::from(numbers.scale()));
        while scale > 0 && digits % 10 == 0 {
            (digits, scale) = (digits / 10, scale - 1);
        }
        Ok(scale.max(0))
    })
}

fn bit_count(args: &Columns) -> Result<ArrayRef> {
    let bytes = args.columns[0].as_binary::<i32>();
    args.numbers::<Int64Type>(|row| Ok(bytes.value(row).iter().map(|byte| i64::from(byte.count_ones())).sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn numbers_have_buckets() {
        let of = |operand, low, high, count| bucket(operand, low, high, count).ok();
        assert_eq!(of(5.35, 0.024, 10.06, 5), Some(3));
        assert_eq!(of(5.35, 10.06, 0.024, 5), Some(3));
        assert_eq!(of(10.06, 0.024, 10.06, 5), Some(6));
        assert_eq!(of(f64::INFINITY, 1.0, 2.0, 3), Some(4));
        assert_eq!(of(f64::NEG_INFINITY, 1.0, 2.0, 3), Some(0));
        assert_eq!(of(0.0, f64::MIN, f64::MAX, 4), Some(3));
        assert_eq!(of(5.0, 1.0, 2.0, i32::MAX), None);
        assert_eq!(of(5.0, 1.0, 1.0, 5), None);
        assert_eq!(of(5.0, f64::NAN, 1.0, 5), None);
        assert_eq!(of(5.0, 0.0, 1.0, 0), None);
    }
}
