//! Functions of dates and times: `make_timestamp`, `age`, `justify_hours`, `overlaps`, `clock_timestamp` and their like.

use std::sync::Arc;

use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike, Utc};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, TimestampNanosecondArray};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Float64Type, Int32Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    IntervalUnit, Time64NanosecondType, TimeUnit, TimestampNanosecondType,
};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions::datetime::current_date;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    binary_expr, cast,
};

use super::casts::arrow_cast;
use super::overloads::{Columns, Form, Kind, Overloaded};
use super::refusal::refusal;
use super::zones;

const MICROS: i64 = 1_000_000;
const DAY: i64 = 86_400 * MICROS;

/// Calls that are rewritten when the types of their arguments are known.
pub(super) const REWRITTEN: [&str; 3] = ["age", "make_timestamptz", "overlaps"];

/// Returns the functions. `date_bin` is DataFusion's.
pub(super) fn functions(date_bin: Arc<ScalarUDF>) -> Vec<ScalarUDF> {
    use Kind::{Any, Boolean, Date, Double, Instant, Integer, Interval, Text, Time, Timestamp};
    const MAKE_DATE: &[Form] = &[Form { takes: &[Integer, Integer, Integer], gives: Date, compute: make_date }];
    const MAKE_TIME: &[Form] = &[Form { takes: &[Integer, Integer, Double], gives: Time, compute: make_time }];
    const MAKE_INSTANT: &[Form] = &[
        Form { takes: &[Integer, Integer, Integer, Integer, Integer, Double], gives: Instant, compute: planned },
        Form { takes: &[Integer, Integer, Integer, Integer, Integer, Double, Text], gives: Instant, compute: planned },
    ];
    const AGE: &[Form] = &[
        Form { takes: &[Timestamp, Timestamp], gives: Interval, compute: age },
        Form { takes: &[Any, Any], gives: Interval, compute: planned },
        Form { takes: &[Any], gives: Interval, compute: planned },
    ];
    const JUSTIFY_DAYS: &[Form] =
        &[Form { takes: &[Interval], gives: Interval, compute: |args| justified(args, days) }];
    const JUSTIFY_HOURS: &[Form] =
        &[Form { takes: &[Interval], gives: Interval, compute: |args| justified(args, hours) }];
    const JUSTIFY_INTERVAL: &[Form] =
        &[Form { takes: &[Interval], gives: Interval, compute: |args| justified(args, both) }];
    const IS_FINITE: &[Form] = &[
        Form { takes: &[Date], gives: Boolean, compute: is_finite },
        Form { takes: &[Timestamp], gives: Boolean, compute: is_finite },
        Form { takes: &[Instant], gives: Boolean, compute: is_finite },
        Form { takes: &[Interval], gives: Boolean, compute: is_finite },
    ];
    const OVERLAPS: &[Form] = &[Form { takes: &[Any, Any, Any, Any], gives: Boolean, compute: overlaps }];
    vec![
        Overloaded::strict("make_date", MAKE_DATE),
        Overloaded::strict("make_time", MAKE_TIME),
        make_timestamp(),
        Overloaded::stable("make_timestamptz", MAKE_INSTANT),
        Overloaded::stable("age", AGE),
        Overloaded::strict("justify_days", JUSTIFY_DAYS),
        Overloaded::strict("justify_hours", JUSTIFY_HOURS),
        Overloaded::strict("justify_interval", JUSTIFY_INTERVAL),
        Overloaded::strict("isfinite", IS_FINITE),
        Overloaded::lenient("overlaps", OVERLAPS),
        ScalarUDF::from(Clock { signature: Signature::nullary(Volatility::Volatile) }),
        ScalarUDF::from(DateBin { function: date_bin }),
    ]
}

fn make_timestamp() -> ScalarUDF {
    use Kind::{Double, Integer, Timestamp};
    const MAKE_TIMESTAMP: &[Form] =
        &[Form { takes: &[Integer, Integer, Integer, Integer, Integer, Double], gives: Timestamp, compute: timestamp }];
    Overloaded::strict("make_timestamp", MAKE_TIMESTAMP)
}

/// The computation of calls that are rewritten before they are computed.
fn planned(_: &Columns) -> Result<ArrayRef> {
    Err(refusal("0A000", "this function is supported in statements only"))
}

fn local() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, None)
}

fn instant(zone: &str) -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some(zone.into()))
}

/// Rewrites a call of one of [`REWRITTEN`], with the clocks of the session.
pub(super) fn rewritten(mut call: ScalarFunction, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    match (call.name(), call.args.len()) {
        ("make_timestamptz", 6) => {
            // What the session's clocks show, in the zone that the call was planned with.
            let shown = cast(make_timestamp().call(call.args), instant(zone));
            Ok(Transformed::yes(cast(shown, instant("+00:00"))))
        }
        ("make_timestamptz", 7) => {
            let Some(zone) = call.args.pop() else { return Ok(Transformed::no(Expr::ScalarFunction(call))) };
            let shown = make_timestamp().call(call.args);
            Ok(Transformed::yes(zones::time_zone().call(vec![zone, shown])))
        }
        ("age", 1 | 2) => {
            let is_moment = |arg: &Expr| match arg.get_type(schema) {
                Ok(found) => {
                    found.is_null() || found.is_string() || matches!(found, DataType::Timestamp(..) | DataType::Date32)
                }
                Err(_) => true,
            };
            if !call.args.iter().all(is_moment) {
                return Err(refusal("42883", "function age does not exist for these arguments"));
            }
            let mut args = Vec::with_capacity(2);
            if call.args.len() == 1 {
                args.push(cast(current_date().call(Vec::new()), local()));
            }
            for arg in call.args {
                let is_instant = matches!(arg.get_type(schema), Ok(DataType::Timestamp(_, Some(_))));
                let arg = if is_instant { cast(arg, instant(zone)) } else { arg };
                args.push(cast(arg, local()));
            }
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: call.func, args })))
        }
        ("overlaps", 4) => {
            let types: Vec<_> = call.args.iter().map(|arg| arg.get_type(schema).unwrap_or(DataType::Null)).collect();
            let is_of = |wanted: fn(&DataType) -> bool| types.iter().any(wanted);
            let common = if is_of(|it| matches!(it, DataType::Time64(_))) {
                DataType::Time64(TimeUnit::Nanosecond)
            } else if is_of(|it| matches!(it, DataType::Timestamp(_, Some(_)))) {
                instant(zone)
            } else {
                local()
            };
            for end in [1, 3] {
                let start = cast(call.args[end - 1].clone(), common.clone());
                if matches!(types[end], DataType::Interval(_)) {
                    let length = std::mem::take(&mut call.args[end]);
                    call.args[end] = binary_expr(start, Operator::Plus, length);
                }
            }
            let args = call.args.into_iter().map(|arg| cast(arg, common.clone())).collect();
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: call.func, args })))
        }
        _ => Ok(Transformed::no(Expr::ScalarFunction(call))),
    }
}

fn wrong_date(year: i32, month: i32, day: i32) -> DataFusionError {
    refusal("22008", format!("date field value out of range: {year}-{month:02}-{day:02}"))
}

/// Returns a date, of a year that is negative before our era.
fn date(year: i32, month: i32, day: i32) -> Result<NaiveDate> {
    let wrong = || wrong_date(year, month, day);
    // The year before 1 is -1.
    let proleptic = match year {
        0 => return Err(wrong()),
        ..0 => year + 1,
        _ => year,
    };
    let (number, day_number) = (u32::try_from(month).map_err(|_| wrong())?, u32::try_from(day).map_err(|_| wrong())?);
    if NaiveDate::from_ymd_opt(2000 + proleptic.rem_euclid(400), number, day_number).is_none() {
        return Err(wrong());
    }
    let date = NaiveDate::from_ymd_opt(proleptic, number, day_number);
    let first = NaiveDate::from_ymd_opt(-4713, 11, 24);
    date.filter(|date| Some(*date) >= first)
        .ok_or_else(|| refusal("22008", format!("date out of range: {proleptic}-{month:02}-{day:02}")))
}

/// Returns the microseconds of a time of day.
fn clock(hour: i32, minute: i32, second: f64) -> Result<i64> {
    let wrong = || refusal("22008", format!("time field value out of range: {hour}:{minute:02}:{second:02}"));
    let micros = (second * MICROS as f64).round_ties_even();
    let fits = (0..=24).contains(&hour) && (0..60).contains(&minute) && (0.0..=60e6).contains(&micros);
    if !fits {
        return Err(wrong());
    }
    let all = (i64::from(hour) * 60 + i64::from(minute)) * 60 * MICROS + micros as i64;
    if all > DAY { Err(wrong()) } else { Ok(all) }
}

fn days_of(date: NaiveDate) -> i64 {
    date.signed_duration_since(NaiveDate::default()).num_days()
}

fn integers(args: &Columns, row: usize) -> [i32; 3] {
    [0, 1, 2].map(|place| args.primitive::<Int32Type>(place).value(row))
}

fn make_date(args: &Columns) -> Result<ArrayRef> {
    args.numbers::<Date32Type>(|row| {
        let [year, month, day] = integers(args, row);
        i32::try_from(days_of(date(year, month, day)?)).map_err(|_| wrong_date(year, month, day))
    })
}

fn make_time(args: &Columns) -> Result<ArrayRef> {
    let hours = [0, 1].map(|place| args.primitive::<Int32Type>(place));
    let seconds = args.primitive::<Float64Type>(2);
    args.numbers::<Time64NanosecondType>(|row| {
        let [hour, minute] = hours.map(|column| column.value(row));
        match clock(hour, minute, seconds.value(row))? {
            DAY => Err(refusal("0A000", "the time 24:00:00 is not supported")),
            micros => Ok(micros * 1000),
        }
    })
}

fn timestamp(args: &Columns) -> Result<ArrayRef> {
    let clocks = [3, 4].map(|place| args.primitive::<Int32Type>(place));
    let seconds = args.primitive::<Float64Type>(5);
    args.numbers::<TimestampNanosecondType>(|row| {
        let [year, month, day] = integers(args, row);
        let days = days_of(date(year, month, day)?);
        let [hour, minute] = clocks.map(|column| column.value(row));
        let micros = clock(hour, minute, seconds.value(row))?;
        let found = days.checked_mul(DAY).and_then(|days| days.checked_add(micros)?.checked_mul(1000));
        found.ok_or_else(|| refusal("22008", "timestamp out of range"))
    })
}

fn out_of_range() -> DataFusionError {
    refusal("22008", "interval out of range")
}

fn age(args: &Columns) -> Result<ArrayRef> {
    let (ends, starts) = (args.primitive::<TimestampNanosecondType>(0), args.primitive::<TimestampNanosecondType>(1));
    args.numbers::<IntervalMonthDayNanoType>(|row| {
        let moment = |nanos: i64| chrono::DateTime::from_timestamp_nanos(nanos).naive_utc();
        between(moment(ends.value(row)), moment(starts.value(row))).ok_or_else(out_of_range)
    })
}

/// Returns the time between two moments in years, months and days of the calendar.
fn between(end: NaiveDateTime, start: NaiveDateTime) -> Option<IntervalMonthDayNano> {
    let fields = |moment: NaiveDateTime| {
        let nanos = i64::from(moment.num_seconds_from_midnight()) * 1_000_000_000 + i64::from(moment.nanosecond());
        (i64::from(moment.year()) * 12 + i64::from(moment.month0()), i64::from(moment.day()), nanos)
    };
    let (is_back, sign) = if end < start { (true, -1) } else { (false, 1) };
    let ((end_months, end_days, end_nanos), (start_months, start_days, start_nanos)) = (fields(end), fields(start));
    let mut months = (end_months - start_months) * sign;
    let mut days = (end_days - start_days) * sign;
    let mut nanos = (end_nanos - start_nanos) * sign;
    if nanos < 0 {
        nanos += DAY * 1000;
        days -= 1;
    }
    // Days are borrowed from the month of the earlier moment.
    let month = if is_back { end } else { start };
    while days < 0 {
        days += days_of_month(month)?;
        months -= 1;
    }
    let months = i32::try_from(months * sign).ok()?;
    Some(IntervalMonthDayNano::new(months, i32::try_from(days * sign).ok()?, nanos * sign))
}

fn days_of_month(moment: NaiveDateTime) -> Option<i64> {
    let first = moment.date().with_day(1)?;
    let next = first.checked_add_months(chrono::Months::new(1))?;
    Some(next.signed_duration_since(first).num_days())
}

/// An interval in months, days and nanoseconds.
type Parts = (i32, i32, i64);

fn justified(args: &Columns, justify: fn(Parts) -> Option<Parts>) -> Result<ArrayRef> {
    let intervals = args.primitive::<IntervalMonthDayNanoType>(0);
    args.numbers::<IntervalMonthDayNanoType>(|row| {
        let interval = intervals.value(row);
        let found = justify((interval.months, interval.days, interval.nanoseconds)).ok_or_else(out_of_range)?;
        Ok(IntervalMonthDayNano::new(found.0, found.1, found.2))
    })
}

/// Makes months of 30 days.
fn days((mut months, mut days, nanos): Parts) -> Option<Parts> {
    months = months.checked_add(days / 30)?;
    days %= 30;
    if months > 0 && days < 0 {
        (months, days) = (months - 1, days + 30);
    } else if months < 0 && days > 0 {
        (months, days) = (months + 1, days - 30);
    }
    Some((months, days, nanos))
}

/// Makes days of 24 hours.
fn hours((months, mut days, mut nanos): Parts) -> Option<Parts> {
    const DAY_NANOS: i64 = DAY * 1000;
    days = days.checked_add(i32::try_from(nanos / DAY_NANOS).ok()?)?;
    nanos %= DAY_NANOS;
    if days > 0 && nanos < 0 {
        (days, nanos) = (days - 1, nanos + DAY_NANOS);
    } else if days < 0 && nanos > 0 {
        (days, nanos) = (days + 1, nanos - DAY_NANOS);
    }
    Some((months, days, nanos))
}

/// Makes months of days, days of hours, and gives all the same sign.
fn both((mut months, mut days, mut nanos): Parts) -> Option<Parts> {
    const DAY_NANOS: i64 = DAY * 1000;
    if days > 0 && nanos > 0 || days < 0 && nanos < 0 {
        months = months.checked_add(days / 30)?;
        days %= 30;
    }
    days = days.checked_add(i32::try_from(nanos / DAY_NANOS).ok()?)?;
    nanos %= DAY_NANOS;
    months = months.checked_add(days / 30)?;
    days %= 30;
    if months > 0 && (days < 0 || days == 0 && nanos < 0) {
        (months, days) = (months - 1, days + 30);
    } else if months < 0 && (days > 0 || days == 0 && nanos > 0) {
        (months, days) = (months + 1, days - 30);
    }
    if days > 0 && nanos < 0 {
        (days, nanos) = (days - 1, nanos + DAY_NANOS);
    } else if days < 0 && nanos > 0 {
        (days, nanos) = (days + 1, nanos - DAY_NANOS);
    }
    Some((months, days, nanos))
}

/// Returns true for every value: there are no infinite ones.
fn is_finite(args: &Columns) -> Result<ArrayRef> {
    args.truths(|_| Ok(true))
}

fn overlaps(args: &Columns) -> Result<ArrayRef> {
    let kind = args.columns[0].data_type();
    if !kind.is_temporal() || args.columns.iter().any(|column| column.data_type() != kind) {
        return Err(refusal("42883", "function overlaps does not exist for these arguments"));
    }
    let columns = args.columns.iter().map(|column| arrow_cast(column, &DataType::Int64)).collect::<Result<Vec<_>>>()?;
    let at = |place: usize, row: usize| {
        let column = columns[place].as_primitive::<Int64Type>();
        column.is_valid(row).then(|| column.value(row))
    };
    let each = |row: usize| overlap((at(0, row), at(1, row)), (at(2, row), at(3, row)));
    Ok(Arc::new((0..args.rows).map(each).collect::<BooleanArray>()))
}

type Period = (Option<i64>, Option<i64>);

/// Returns whether two periods overlap, an end of which may be NULL.
fn overlap(one: Period, other: Period) -> Option<bool> {
    let in_order = |(start, end): Period| match (start, end) {
        (None, end) => end.map(|end| (end, None)),
        (Some(start), None) => Some((start, None)),
        (Some(start), Some(end)) => Some((start.min(end), Some(start.max(end)))),
    };
    let ((start, end), (other_start, other_end)) = (in_order(one)?, in_order(other)?);
    if start == other_start {
        return (end.is_some() && other_end.is_some()).then_some(true);
    }
    let (later, end_of_later, end_of_earlier) =
        if start > other_start { (start, end, other_end) } else { (other_start, other_end, end) };
    match end_of_earlier? {
        end if later < end => Some(true),
        _ => end_of_later.map(|_| false),
    }
}

/// `clock_timestamp()`, another moment for each row.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Clock {
    signature: Signature,
}

impl ScalarUDFImpl for Clock {
    fn name(&self) -> &str {
        "clock_timestamp"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(instant("+00:00"))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let now = || Utc::now().timestamp_micros().checked_mul(1000);
        let moments: TimestampNanosecondArray = (0..args.number_rows).map(|_| now()).collect();
        Ok(ColumnarValue::Array(Arc::new(moments.with_timezone("+00:00"))))
    }
}

/// `date_bin` of intervals without months.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DateBin {
    function: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for DateBin {
    delegate!(scalar);

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Some(strides) = args.args.first() {
            let strides = match strides {
                ColumnarValue::Scalar(stride) => stride.to_array()?,
                ColumnarValue::Array(strides) => Arc::clone(strides),
            };
            if matches!(strides.data_type(), DataType::Interval(_)) {
                let strides = arrow_cast(&strides, &DataType::Interval(IntervalUnit::MonthDayNano))?;
                for stride in strides.as_primitive::<IntervalMonthDayNanoType>().iter().flatten() {
                    check_stride(stride)?;
                }
            }
        }
        self.function.invoke_with_args(args)
    }
}

fn check_stride(stride: IntervalMonthDayNano) -> Result<()> {
    if stride.months != 0 {
        return Err(refusal("0A000", "timestamps cannot be binned into intervals containing months or years"));
    }
    let nanos = i128::from(stride.days) * i128::from(DAY) * 1000 + i128::from(stride.nanoseconds);
    if nanos <= 0 { Err(refusal("22008", "stride must be greater than zero")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> NaiveDateTime {
        text.parse().unwrap()
    }

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn ages_are_of_the_calendar() {
        const SECOND: i64 = 1_000_000_000;
        for (end, start, months, days, nanos) in [
            ("2001-04-10T00:00:00", "1957-06-13T00:00:00", 43 * 12 + 9, 27, 0),
            ("2000-01-31T00:00:00", "2000-03-01T00:00:00", -1, -1, 0),
            ("2000-03-01T00:00:00", "2000-01-31T00:00:00", 1, 1, 0),
            ("2001-03-01T10:00:00", "2000-02-29T12:30:00.5", 12, 0, 77_399 * SECOND + SECOND / 2),
            ("2000-05-31T00:00:00", "2000-02-29T00:00:00", 3, 2, 0),
            ("2000-01-01T00:00:00", "2000-01-01T00:00:00", 0, 0, 0),
        ] {
            let found = between(moment(end), moment(start));
            assert_eq!(found, Some(IntervalMonthDayNano::new(months, days, nanos)), "{end} {start}");
        }
    }

    #[test]
    fn intervals_are_justified() {
        const HOUR: i64 = 3_600_000_000_000;
        assert_eq!(days((0, -35, 3 * HOUR)), Some((-1, -5, 3 * HOUR)));
        assert_eq!(days((1, -35, 0)), Some((0, -5, 0)));
        assert_eq!(hours((0, 1, -27 * HOUR)), Some((0, 0, -3 * HOUR)));
        assert_eq!(both((1, 0, -HOUR)), Some((0, 29, 23 * HOUR)));
        assert_eq!(both((-1, 40, -50 * HOUR)), Some((0, 7, 22 * HOUR)));
        assert_eq!(both((2, -70, 0)), Some((0, -10, 0)));
        assert_eq!(days((i32::MAX, 40, 0)), None);
    }

    #[test]
    fn dates_and_times_are_checked() {
        assert_eq!(date(-44, 3, 15).unwrap().year(), -43);
        for (year, month, day) in [(2013, 2, 30), (0, 3, 15), (2013, 13, 1), (2013, -1, 1), (6_000_000, 1, 1)] {
            assert!(date(year, month, day).is_err(), "{year} {month} {day}");
        }
        assert!(date(2000, 2, 29).is_ok() && date(1900, 2, 29).is_err());
        assert_eq!(clock(8, 15, 23.5).unwrap(), (8 * 3600 + 15 * 60) * MICROS + 23_500_000);
        assert_eq!(clock(23, 59, 60.0).unwrap(), DAY);
        for (hour, minute, second) in [(25, 0, 0.0), (23, 59, 60.1), (-1, 0, 0.0), (1, 1, f64::NAN), (24, 0, 1.0)] {
            assert!(clock(hour, minute, second).is_err(), "{hour} {minute} {second}");
        }
        assert!(check_stride(IntervalMonthDayNano::new(1, 0, 0)).is_err());
        assert!(check_stride(IntervalMonthDayNano::new(0, -1, 0)).is_err());
        assert!(check_stride(IntervalMonthDayNano::new(0, 0, 1000)).is_ok());
    }

    #[test]
    fn periods_overlap() {
        assert_eq!(overlap((Some(10), Some(12)), (Some(11), Some(13))), Some(true));
        assert_eq!(overlap((Some(1), Some(1)), (Some(1), Some(1))), Some(true));
        assert_eq!(overlap((Some(1), None), (Some(1), Some(2))), None);
        assert_eq!(overlap((Some(1), Some(11)), (Some(11), Some(12))), Some(false));
        assert_eq!(overlap((None, Some(3)), (Some(1), Some(4))), Some(true));
        assert_eq!(overlap((None, None), (Some(1), Some(4))), None);
        assert_eq!(overlap((Some(5), Some(1)), (Some(2), None)), Some(true));
    }
}
