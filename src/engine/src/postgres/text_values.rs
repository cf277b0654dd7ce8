//! Columns of values that are read from texts.

use std::str::FromStr;
use std::sync::Arc;

use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{
    ArrayRef, Decimal128Array, IntervalMonthDayNanoArray, StringArray, Time64NanosecondArray,
};
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};

use super::casts::arrow_cast;
use super::clock_texts::{self, ZoneName};
use super::interval_texts::{self, IntervalFields, IntervalParts};
use super::moments::zone_hours;
use super::numeric_texts::{self, Written};
use super::refusal::refusal;
use super::time_fields::Unread;
use super::types::UNCONSTRAINED;

const MICROS_OF_DAY: i64 = 86_400_000_000;

/// Reads an interval. Numbers without a unit are of the smallest of the fields that the literal names, and its seconds have so
/// many digits after the point.
///
/// # Errors
/// 22007, 22015 or 22008 as in Postgres, and 0A000 for hours that are more than 292 years.
pub fn read_interval(text: &str, of: IntervalFields, digits: Option<u32>) -> Result<IntervalParts> {
    let parts = interval_texts::read(text, of).map_err(|unread| match unread {
        Unread::Field => refusal("22015", format!("interval field value out of range: \"{text}\"")),
        Unread::Range => refusal("22008", "interval out of range"),
        other => error("interval", text, other),
    })?;
    let parts = match digits.filter(|digits| *digits < 6) {
        Some(digits) => {
            interval_texts::rounded(parts, digits).ok_or_else(|| refusal("22008", "interval out of range"))?
        }
        None => parts,
    };
    match parts.micros.checked_mul(1000) {
        Some(_) => Ok(parts),
        None => {
            let message = format!("intervals of more than 292 years in hours are not supported: \"{text}\"");
            Err(refusal("0A000", message))
        }
    }
}

/// Reads a time: microseconds since midnight.
///
/// # Errors
/// 22007, 22008, 22009 or 22023 as in Postgres, and 0A000 for 24:00:00, and for forms that are not supported.
pub fn read_time(text: &str) -> Result<i64> {
    match clock_texts::read(text, zone_name) {
        Ok(micros) if micros < MICROS_OF_DAY => Ok(micros),
        Ok(_) => Err(refusal("0A000", format!("time 24:00:00 is not supported: \"{text}\""))),
        Err(unread) => Err(error("time", text, unread)),
    }
}

/// Returns what a word may be that names a zone.
pub(super) fn zone_name(name: &str) -> ZoneName {
    match zone_hours(name) {
        Some(_) => ZoneName::Abbreviation,
        None if name.starts_with(|first: char| first.is_ascii_alphabetic()) && Tz::from_str(name).is_ok() => {
            ZoneName::Place
        }
        None => ZoneName::Unknown,
    }
}

pub(super) fn error(kind: &str, text: &str, unread: Unread) -> DataFusionError {
    match unread {
        Unread::Syntax => refusal("22007", format!("invalid input syntax for type {kind}: \"{text}\"")),
        Unread::Field | Unread::Range => refusal("22008", format!("date/time field value out of range: \"{text}\"")),
        Unread::Displacement => refusal("22009", format!("time zone displacement out of range: \"{text}\"")),
        Unread::Zone(zone) => refusal("22023", format!("time zone \"{zone}\" not recognized")),
        Unread::Unsupported(message) => refusal("0A000", format!("{message}: \"{text}\"")),
    }
}

/// Reads a column of intervals.
pub(super) fn intervals(texts: &StringArray, to: &DataType) -> Result<ArrayRef> {
    let each = |text: &str| {
        let IntervalParts { months, days, micros } = read_interval(text, None, None)?;
        Ok(IntervalMonthDayNano::new(months, days, micros * 1000))
    };
    let found = texts.iter().map(|text| text.map(each).transpose());
    arrow_cast(&(Arc::new(found.collect::<Result<IntervalMonthDayNanoArray>>()?) as ArrayRef), to)
}

/// Reads a column of times.
pub(super) fn times(texts: &StringArray, to: &DataType) -> Result<ArrayRef> {
    let found = texts.iter().map(|text| text.map(|text| Ok(read_time(text)? * 1000)).transpose());
    arrow_cast(&(Arc::new(found.collect::<Result<Time64NanosecondArray>>()?) as ArrayRef), to)
}

/// Reads a column of `numeric`. Without a precision no digit may be lost.
pub(super) fn numerics(texts: &StringArray, to: &DataType) -> Result<ArrayRef> {
    let DataType::Decimal128(precision, scale) = to else { return exec_err!("{to} is not numeric") };
    let (precision, scale) = (*precision, *scale);
    let found = texts.iter().map(|text| text.map(|text| numeric(text, precision, scale)).transpose());
    let found = found.collect::<Result<Decimal128Array>>()?;
    Ok(Arc::new(found.with_precision_and_scale(precision, scale)?))
}

fn numeric(text: &str, precision: u8, scale: i8) -> Result<i128> {
    let is_unconstrained = (precision, scale) == UNCONSTRAINED;
    let digits = match numeric_texts::read(text) {
        Written::Number(digits) => digits,
        Written::Nothing => {
            return Err(refusal("22P02", format!("invalid input syntax for type numeric: \"{text}\"")));
        }
        Written::TooLarge => return Err(refusal("22003", "value overflows numeric format")),
        Written::NotFinite => {
            return Err(refusal("0A000", format!("numeric has no {} here; use double precision", text.trim())));
        }
    };
    if is_unconstrained && digits.least_scale() > usize::from(scale.unsigned_abs()) {
        let message = format!(
            "numeric without a precision keeps {scale} digits after the point here, and {text} has more; use \
             numeric(precision, scale)"
        );
        return Err(refusal("0A000", message));
    }
    let value = digits.at(scale).filter(|value| value.unsigned_abs() < 10u128.pow(u32::from(precision)));
    value.ok_or_else(|| match is_unconstrained {
        true => {
            let whole = i16::from(precision) - i16::from(scale);
            let message = format!(
                "numeric without a precision has {whole} digits before the point here, and {text} has more; use \
                 numeric(precision, scale)"
            );
            refusal("0A000", message)
        }
        false => refusal("22003", "numeric field overflow"),
    })
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::{Decimal128Type, IntervalUnit, TimeUnit};

    use super::*;
    use crate::postgres::Refusal;

    fn code(error: &DataFusionError) -> &'static str {
        match error {
            DataFusionError::External(error) => error.downcast_ref::<Refusal>().unwrap().sqlstate(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn columns_are_read() {
        let texts = StringArray::from(vec![Some("1 day 2:00"), None, Some("-1-2")]);
        let found = intervals(&texts, &DataType::Interval(IntervalUnit::MonthDayNano)).unwrap();
        assert_eq!((found.len(), found.null_count()), (3, 1));
        let found =
            times(&StringArray::from(vec![Some("1:2:3.4567891"), None]), &DataType::Time64(TimeUnit::Nanosecond));
        assert_eq!(found.unwrap().null_count(), 1);
        let found = numerics(&StringArray::from(vec![Some("1e2"), None]), &DataType::Decimal128(5, 2)).unwrap();
        assert_eq!(found.as_primitive::<Decimal128Type>().value(0), 10_000);
        assert!(times(&StringArray::from(Vec::<&str>::new()), &DataType::Time64(TimeUnit::Nanosecond)).is_ok());
    }

    /// Compares generated texts with PostgreSQL 15: a type, a text, and months, days and microseconds or the code of an error.
    #[test]
    fn texts_are_read_as_postgres_reads_them() {
        let (mut refused, mut wrong) = (0, Vec::new());
        for line in include_str!("texts_of_postgres.tsv").lines() {
            let [kind, text, expected] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let text = text.replace("\\t", "\t").replace("\\n", "\n");
            let found = match kind {
                "time" => read_time(&text).map(|micros| micros.to_string()),
                _ => read_interval(&text, None, None).map(|it| format!("{} {} {}", it.months, it.days, it.micros)),
            };
            match found {
                Ok(found) if found == expected => {}
                Ok(found) => wrong.push(format!("{kind} {text:?}: {found} instead of {expected}")),
                Err(error) if code(&error) == expected => {}
                // Another error, or one for a form that is not supported.
                Err(_) => refused += 1,
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(refused < 60, "{refused} texts are refused otherwise");
    }

    #[test]
    fn errors_have_codes() {
        for (text, expected) in [("1e5", "22003"), ("x", "22P02"), ("NaN", "0A000"), ("1e200000", "22003")] {
            assert_eq!(numeric(text, 5, 2).map_err(|error| code(&error)), Err(expected), "{text}");
        }
        for text in ["1.23456789012345", "1e29", "1234567890123456789012345678901234567890", "-Infinity"] {
            assert_eq!(numeric(text, 38, 10).map_err(|error| code(&error)), Err("0A000"), "{text}");
        }
        assert_eq!(numeric("1.50000000000000000000", 38, 10).unwrap(), 15_000_000_000);
        assert_eq!(read_interval("9000000 hours", None, None).map_err(|error| code(&error)), Err("0A000"));
        assert_eq!(read_time("24:00").map_err(|error| code(&error)), Err("0A000"));
        assert_eq!(read_time("23:59:59.9999999").map_err(|error| code(&error)), Err("0A000"));
    }
}
