//! Dates, times and intervals as Postgres writes them.

use std::fmt::Write;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Datelike, Duration, NaiveDate, NaiveDateTime, Offset, TimeZone, Timelike};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Field, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion_postgres::pgwire::types::format::FormatOptions;
use neuroql::DateStyle;

/// Writes a column of times, or of arrays of them, as text; `None` if it holds something else, or a time out of range.
pub(crate) fn spell(column: &ArrayRef, options: &FormatOptions) -> Option<ArrayRef> {
    match DateStyle::read(&options.date_style).written(column, &options.time_zone) {
        Ok(Some(texts)) => return Some(Arc::new(texts)),
        Ok(None) => {}
        Err(_) => return None,
    }
    match column.data_type() {
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>();
            texts(column, |row| date(NaiveDate::default().checked_add_signed(Duration::days(days.value(row).into()))?))
        }
        DataType::Time32(unit) | DataType::Time64(unit) => {
            let micros = micros(column, *unit)?;
            texts(column, |row| {
                let time = NaiveDateTime::default().checked_add_signed(Duration::microseconds(micros[row]))?;
                let mut text = String::new();
                clock(&time, &mut text);
                Some(text)
            })
        }
        DataType::Timestamp(unit, None) => {
            let micros = micros(column, *unit)?;
            texts(column, |row| timestamp(DateTime::from_timestamp_micros(micros[row])?.naive_utc(), None))
        }
        DataType::Timestamp(unit, Some(_)) => {
            let zone = Tz::from_str(&options.time_zone).ok()?;
            let micros = micros(column, *unit)?;
            texts(column, |row| {
                let utc = DateTime::from_timestamp_micros(micros[row])?.naive_utc();
                let offset = zone.offset_from_utc_datetime(&utc).fix().local_minus_utc();
                timestamp(utc.checked_add_signed(Duration::seconds(offset.into()))?, Some(offset))
            })
        }
        DataType::Interval(IntervalUnit::MonthDayNano) if options.interval_style == "postgres" => {
            let intervals = column.as_primitive::<IntervalMonthDayNanoType>();
            texts(column, |row| {
                let value = intervals.value(row);
                Some(interval(value.months, value.days, value.nanoseconds.div_euclid(1000)))
            })
        }
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            let values = spell(lists.values(), options).filter(|values| *values.data_type() == DataType::Utf8)?;
            let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
            Some(Arc::new(ListArray::new(item, lists.offsets().clone(), values, lists.nulls().cloned())))
        }
        _ => None,
    }
}

/// Returns the text of each row that is not NULL.
fn texts(column: &ArrayRef, text: impl Fn(usize) -> Option<String>) -> Option<ArrayRef> {
    let mut all = Vec::with_capacity(column.len());
    for row in 0..column.len() {
        all.push(if column.is_valid(row) { Some(text(row)?) } else { None });
    }
    Some(Arc::new(StringArray::from(all)))
}

/// Returns times as microseconds; finer parts are cut off.
fn micros(column: &ArrayRef, unit: TimeUnit) -> Option<Vec<i64>> {
    let counts = match column.data_type() {
        DataType::Time32(_) => cast(&cast(column, &DataType::Int32).ok()?, &DataType::Int64).ok()?,
        _ => cast(column, &DataType::Int64).ok()?,
    };
    let counts = counts.as_primitive::<Int64Type>();
    let micros = |count: i64| match unit {
        TimeUnit::Second => count.checked_mul(1_000_000),
        TimeUnit::Millisecond => count.checked_mul(1000),
        TimeUnit::Microsecond => Some(count),
        TimeUnit::Nanosecond => Some(count.div_euclid(1000)),
    };
    (0..counts.len()).map(|row| if counts.is_valid(row) { micros(counts.value(row)) } else { Some(0) }).collect()
}

/// Returns a year as it is written, and true if it is before Christ.
fn year(date: &impl Datelike) -> (i32, bool) {
    if date.year() > 0 { (date.year(), false) } else { (1 - date.year(), true) }
}

// Writing to a String does not fail.

fn date(date: NaiveDate) -> Option<String> {
    let (year, before_christ) = year(&date);
    let era = if before_christ { " BC" } else { "" };
    Some(format!("{year:04}-{:02}-{:02}{era}", date.month(), date.day()))
}

fn timestamp(time: NaiveDateTime, offset: Option<i32>) -> Option<String> {
    let (year, before_christ) = year(&time);
    let mut text = format!("{year:04}-{:02}-{:02} ", time.month(), time.day());
    clock(&time, &mut text);
    if let Some(offset) = offset {
        let seconds = offset.abs();
        let _ = write!(text, "{}{:02}", if offset < 0 { '-' } else { '+' }, seconds / 3600);
        if seconds % 3600 != 0 {
            let _ = write!(text, ":{:02}", seconds / 60 % 60);
        }
        if seconds % 60 != 0 {
            let _ = write!(text, ":{:02}", seconds % 60);
        }
    }
    text.push_str(if before_christ { " BC" } else { "" });
    Some(text)
}

fn clock(time: &NaiveDateTime, text: &mut String) {
    let _ = write!(text, "{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second());
    fraction(time.nanosecond() / 1000, text);
}

/// Writes microseconds without the zeros at their end.
fn fraction(micros: u32, text: &mut String) {
    if micros > 0 {
        let digits = format!("{micros:06}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
}

/// Writes an interval as `EncodeInterval` does: units after negative ones have a sign.
fn interval(months: i32, days: i32, micros: i64) -> String {
    let mut text = String::new();
    let mut negative = false;
    for (count, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if count == 0 {
            continue;
        }
        let space = if text.is_empty() { "" } else { " " };
        let sign = if negative && count > 0 { "+" } else { "" };
        let _ = write!(text, "{space}{sign}{count} {unit}{}", if count == 1 { "" } else { "s" });
        negative = count < 0;
    }
    if text.is_empty() || micros != 0 {
        let space = if text.is_empty() { "" } else { " " };
        let sign = match micros < 0 {
            true => "-",
            false if negative => "+",
            false => "",
        };
        let seconds = micros.unsigned_abs() / 1_000_000;
        let _ = write!(text, "{space}{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        fraction((micros.unsigned_abs() % 1_000_000) as u32, &mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        Date32Array, IntervalMonthDayNanoArray, Time64NanosecondArray, TimestampMicrosecondArray,
    };
    use datafusion::arrow::datatypes::IntervalMonthDayNano;

    use super::*;

    fn spelt(column: ArrayRef, zone: &str) -> Vec<String> {
        let mut options = FormatOptions::default();
        options.time_zone = zone.into();
        let texts = spell(&column, &options).unwrap();
        texts.as_string::<i32>().iter().map(|text| text.unwrap_or("NULL").to_owned()).collect()
    }

    /// Checks values as `psql` of PostgreSQL 15 shows them.
    #[test]
    fn as_postgres_writes_them() {
        let days = Date32Array::from(vec![Some(0), Some(-719_162), Some(-719_163), None, Some(2_932_896)]);
        let expected = ["1970-01-01", "0001-01-01", "0001-12-31 BC", "NULL", "9999-12-31"];
        assert_eq!(spelt(Arc::new(days), "UTC"), expected);
        let times = Time64NanosecondArray::from(vec![0, 45_015_123_400_000, 86_399_999_999_999]);
        assert_eq!(spelt(Arc::new(times), "UTC"), ["00:00:00", "12:30:15.1234", "23:59:59.999999"]);
        let stamps = TimestampMicrosecondArray::from(vec![1_709_209_815_500_000, -62_135_596_800_000_000]);
        let plain: ArrayRef = Arc::new(stamps.clone());
        assert_eq!(spelt(plain, "Asia/Tokyo"), ["2024-02-29 12:30:15.5", "0001-01-01 00:00:00"]);
        let zoned: ArrayRef = Arc::new(stamps.with_timezone("UTC"));
        assert_eq!(spelt(Arc::clone(&zoned), "Asia/Kolkata")[0], "2024-02-29 18:00:15.5+05:30");
        let expected = ["2024-02-29 07:30:15.5-05", "0001-12-31 19:03:58-04:56:02 BC"];
        assert_eq!(spelt(zoned, "America/New_York"), expected);
        let intervals = [(14, -3, 14_706_789_000), (0, 0, 0), (-1, 1, 0), (0, -1, 7_380_000_000), (0, 0, -1)];
        let intervals = intervals.map(|(months, days, micros)| IntervalMonthDayNano::new(months, days, micros * 1000));
        let expected = [
            "1 year 2 mons -3 days +04:05:06.789",
            "00:00:00",
            "-1 mons +1 day",
            "-1 days +02:03:00",
            "-00:00:00.000001",
        ];
        assert_eq!(spelt(Arc::new(IntervalMonthDayNanoArray::from(intervals.to_vec())), "UTC"), expected);
    }
}
