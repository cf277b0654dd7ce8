//! Instants by the clocks of the session.
//!
//! The type of an instant names a zone: that of the session in which its column was created or its text was read. It says
//! nothing of the instant. Postgres casts, cuts, shows and moves all instants in the time zone of the session, so that they
//! are given that zone where clocks count, and the zone of their type again where they go on.

use std::str::FromStr;
use std::sync::Arc;

use chrono::{Duration, Months, NaiveDate};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray};
use datafusion::arrow::datatypes::{
    DataType, Field, FieldRef, Float64Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    TimeUnit,
};
use datafusion::common::{DFSchema, exec_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{BinaryExpr, ScalarFunction};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, cast,
};
use datafusion::scalar::ScalarValue;

use super::casts::{arrow_cast, item_of, round_moment, unit};
use super::microseconds::{FIRST_DAY, in_nanos, is_in_range};
use super::refusal::{refusal, type_name};
use super::zones::shifted;

/// Functions whose answers depend on what clocks show.
const OF_CLOCKS: [&str; 9] = [
    "array_to_string",
    "arrow_cast",
    "date_part",
    "date_trunc",
    "extract",
    "generate_series",
    "range",
    "to_char",
    "to_date",
];

/// Returns true if clocks of a zone show UTC.
pub(super) fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "+00:00")
}

/// Returns true if values are instants, or arrays of them.
pub(super) fn has_instants(data_type: &DataType) -> bool {
    matches!(item_of(data_type), DataType::Timestamp(_, Some(_)))
}

/// Returns a type with another zone for its instants; `None` if they have it, or the type has none.
pub fn in_zone(data_type: &DataType, zone: &str) -> Option<DataType> {
    match data_type {
        DataType::Timestamp(unit, Some(own)) if **own != *zone && !(is_utc(own) && is_utc(zone)) => {
            Some(DataType::Timestamp(*unit, Some(zone.into())))
        }
        DataType::List(item) => {
            let inner = in_zone(item.data_type(), zone)?;
            Some(DataType::List(Arc::new(Field::clone(item).with_data_type(inner))))
        }
        _ => None,
    }
}

/// Gives the instants of an expression a zone; returns true if they had another.
///
/// # Errors
/// If the expression has no type.
pub(super) fn localize(expr: &mut Expr, schema: &DFSchema, zone: &str) -> Result<bool> {
    let Some(local) = in_zone(&expr.get_type(schema)?, zone) else { return Ok(false) };
    *expr = cast(std::mem::take(expr), local);
    Ok(true)
}

/// Returns true if the answer of a function depends on what clocks show.
pub(super) fn is_of_clocks(call: &ScalarFunction) -> bool {
    OF_CLOCKS.contains(&call.name())
}

/// Returns `moment + interval` or `moment - interval`, if `binary` is one; instants move by the clocks of the session. `types` are
/// those of its sides.
pub(super) fn moved(binary: &BinaryExpr, types: (&DataType, &DataType), zone: &str) -> Option<Expr> {
    let (moment, interval, planned) = match (types, binary.op) {
        ((planned @ DataType::Timestamp(..), DataType::Interval(_)), Operator::Plus | Operator::Minus) => {
            (&binary.left, &binary.right, planned)
        }
        ((DataType::Interval(_), planned @ DataType::Timestamp(..)), Operator::Plus) => {
            (&binary.right, &binary.left, planned)
        }
        _ => return None,
    };
    let local = in_zone(planned, zone);
    let interval = Expr::clone(interval);
    let moment = match &local {
        Some(local) => cast(Expr::clone(moment), local.clone()),
        None => Expr::clone(moment),
    };
    let is_back = binary.op == Operator::Minus;
    let function = MoveInstant { is_back, signature: Signature::any(2, Volatility::Immutable) };
    let moved = ScalarUDF::from(function).call(vec![moment, interval]);
    Some(if local.is_some() { cast(moved, planned.clone()) } else { moved })
}

pub(super) fn out_of_range() -> DataFusionError {
    refusal("22008", "timestamp out of range")
}

/// Returns what the clocks of a zone show at instants, or the instants at which they show it, in the unit of the array.
pub(super) fn by_clocks(moments: &ArrayRef, zone: Tz, is_instant: bool) -> Result<PrimitiveArray<Int64Type>> {
    let DataType::Timestamp(of, _) = moments.data_type() else {
        return exec_err!("{} is not a timestamp", moments.data_type());
    };
    let second = unit(*of);
    let numbers = arrow_cast(moments, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    numbers.try_unary(|moment| shifted(moment, second, zone, is_instant).ok_or_else(out_of_range))
}

/// Casts dates and local times to instants, or instants to local times, by the clocks of the zone of the instants.
///
/// # Errors
/// If a moment is out of range.
pub(super) fn cast_by_clocks(moments: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    let DataType::Timestamp(to, to_zone) = target else { return exec_err!("{target} is not a timestamp") };
    let moments = match moments.data_type() {
        DataType::Timestamp(..) => Arc::clone(moments),
        // A date is the time at which it begins.
        _ if *to == TimeUnit::Nanosecond => in_nanos(moments, None)?,
        _ => arrow_cast(moments, &DataType::Timestamp(*to, None))?,
    };
    let DataType::Timestamp(from, own) = moments.data_type() else {
        return exec_err!("{} is not a timestamp", moments.data_type());
    };
    let Some(zone) = to_zone.as_ref().or(own.as_ref()) else { return arrow_cast(&moments, target) };
    let numbers: ArrayRef = Arc::new(by_clocks(&moments, Tz::from_str(zone)?, own.is_some())?);
    let found = arrow_cast(&numbers, &DataType::Timestamp(*from, to_zone.clone()))?;
    match to {
        _ if unit(*to) < unit(*from) => round_moment(&found, target),
        TimeUnit::Nanosecond if from != to => in_nanos(&found, to_zone.as_ref()),
        _ => arrow_cast(&found, target),
    }
}

/// Returns the instants that are so many seconds after 1970 began.
///
/// # Errors
/// If a number is no such instant.
pub(super) fn of_seconds(seconds: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    const MICROS: f64 = 1e6;
    // Postgres counts from the year 2000, and rounds what it has then.
    const EPOCH: i64 = 946_684_800;
    let micros: PrimitiveArray<Int64Type> = seconds.as_primitive::<Float64Type>().try_unary(|seconds: f64| {
        if seconds.is_nan() {
            return Err(refusal("22008", "timestamp cannot be NaN"));
        }
        if seconds.is_infinite() {
            return Err(refusal("0A000", "a timestamp has no infinity here"));
        }
        let since = ((seconds - EPOCH as f64) * MICROS).round_ties_even();
        let micros = if since.abs() < 9e18 { (since as i64).checked_add(EPOCH * 1_000_000) } else { None };
        let micros = micros.filter(|micros| is_in_range(*micros));
        micros.ok_or_else(|| refusal("22008", format!("timestamp out of range: \"{seconds}\"")))
    })?;
    let DataType::Timestamp(_, zone) = target else { return exec_err!("{target} is not a timestamp") };
    let micros: ArrayRef = Arc::new(micros);
    arrow_cast(&arrow_cast(&micros, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?, target)
}

/// `moment + interval` and `moment - interval`: months and days of an instant are those of the clocks of its zone.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MoveInstant {
    is_back: bool,
    signature: Signature,
}

impl ScalarUDFImpl for MoveInstant {
    fn name(&self) -> &str {
        if self.is_back { "pg_instant_minus" } else { "pg_instant_plus" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), args.arg_fields[0].data_type().clone(), true)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [instants, intervals] = &args.args[..] else { return exec_err!("{} takes two arguments", self.name()) };
        // The optimizer asks what becomes of NULL, which has no type then.
        if instants.data_type().is_null() || intervals.data_type().is_null() {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(args.return_field.data_type())?));
        }
        let is_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let (instants, intervals) = (instants.to_array(rows)?, intervals.to_array(rows)?);
        let DataType::Timestamp(of, zone) = instants.data_type() else {
            return exec_err!("{} of {}", self.name(), type_name(instants.data_type()));
        };
        let (second, zone) = (unit(*of), Tz::from_str(zone.as_deref().unwrap_or("+00:00"))?);
        let intervals = arrow_cast(&intervals, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
        let numbers = arrow_cast(&instants, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        let each = |row: usize| {
            if numbers.is_null(row) || intervals.is_null(row) {
                return Ok(None);
            }
            let moved = moved_by(numbers.value(row), intervals.value(row), self.is_back, second, zone);
            moved.map(Some).ok_or_else(out_of_range)
        };
        let found = (0..rows).map(each).collect::<Result<Int64Array>>()?;
        let found = arrow_cast(&(Arc::new(found) as ArrayRef), instants.data_type())?;
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)
        } else {
            ColumnarValue::Array(found)
        })
    }
}

/// Moves an instant first by months, then by days, then by time. A second has `second` units.
fn moved_by(instant: i64, by: IntervalMonthDayNano, is_back: bool, second: i64, zone: Tz) -> Option<i64> {
    let day = second.checked_mul(86_400)?;
    let sign = if is_back { -1 } else { 1 };
    let mut instant = instant;
    if by.months != 0 {
        let local = shifted(instant, second, zone, true)?;
        let date = NaiveDate::default().checked_add_signed(Duration::try_days(local.div_euclid(day))?)?;
        let months = Months::new(by.months.unsigned_abs());
        let is_later = (by.months < 0) == is_back;
        let date = if is_later { date.checked_add_months(months) } else { date.checked_sub_months(months) }?;
        let days = date.signed_duration_since(NaiveDate::default()).num_days();
        instant = shifted(days.checked_mul(day)?.checked_add(local.rem_euclid(day))?, second, zone, false)?;
    }
    if by.days != 0 {
        let local = shifted(instant, second, zone, true)?;
        let days = i64::from(by.days).checked_mul(sign)?.checked_mul(day)?;
        instant = shifted(local.checked_add(days)?, second, zone, false)?;
    }
    let rest = by.nanoseconds / (1_000_000_000 / second);
    let moved = instant.checked_add(rest.checked_mul(sign)?)?;
    (moved.div_euclid(day) >= FIRST_DAY).then_some(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn at(text: &str) -> i64 {
        text.parse::<chrono::NaiveDateTime>().unwrap().and_utc().timestamp_micros()
    }

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn instants_move_by_clocks() {
        let zone = Tz::from_str("America/New_York").unwrap();
        let of = |instant: &str, months, days, hours: i64, is_back| {
            let by = IntervalMonthDayNano::new(months, days, hours * 3_600_000_000_000);
            moved_by(at(instant), by, is_back, SECOND, zone)
        };
        // 2024-03-09 02:30, before the night in which this hour is left out.
        assert_eq!(of("2024-03-09T07:30:00", 0, 1, 0, false), Some(at("2024-03-10T07:30:00")));
        assert_eq!(of("2024-03-09T07:30:00", 0, 0, 24, false), Some(at("2024-03-10T07:30:00")));
        assert_eq!(of("2024-03-09T17:00:00", 0, 1, 0, false), Some(at("2024-03-10T16:00:00")));
        assert_eq!(of("2024-01-31T07:30:00", 1, 0, 0, false), Some(at("2024-02-29T07:30:00")));
        assert_eq!(of("2024-04-10T06:30:00", 1, 0, 0, true), Some(at("2024-03-10T07:30:00")));
        // 2024-11-02 01:30, before the night in which this hour comes twice.
        assert_eq!(of("2024-11-02T05:30:00", 0, 1, 1, false), Some(at("2024-11-03T07:30:00")));
        assert_eq!(of("2024-11-03T05:30:00", 1, -1, 0, false), Some(at("2024-12-02T06:30:00")));
        assert_eq!(moved_by(i64::MAX, IntervalMonthDayNano::new(1, 0, 0), false, SECOND, zone), None);
    }

    #[test]
    fn types_differ_in_their_zone_only() {
        let instant = |zone: &str| DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into()));
        assert_eq!(in_zone(&instant("UTC"), "Asia/Tokyo"), Some(instant("Asia/Tokyo")));
        assert_eq!(in_zone(&instant("+00:00"), "UTC"), None);
        assert_eq!(in_zone(&DataType::Timestamp(TimeUnit::Second, None), "Asia/Tokyo"), None);
        let list = |zone: &str| DataType::new_list(instant(zone), true);
        assert_eq!(in_zone(&list("UTC"), "Asia/Tokyo"), Some(list("Asia/Tokyo")));
    }
}
