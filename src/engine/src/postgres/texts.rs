//! Values as text, as Postgres' output functions write them.

use std::fmt::Write;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{
    DataType, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType,
};
use datafusion::arrow::util::display::FormatOptions;
use datafusion::error::Result;

use super::casts::arrow_cast;
use super::{arrays, bytea, floats, uuids};

/// Writes each value as text.
pub(super) fn written(column: &ArrayRef) -> Result<StringArray> {
    if let DataType::List(_) = column.data_type() {
        return arrays::written(column.as_list());
    }
    if let Some(texts) = floats::spell(column, 1) {
        return Ok(texts.as_string().clone());
    }
    Ok(match column.data_type() {
        DataType::Binary => column.as_binary::<i32>().iter().map(|bytes| bytes.map(bytea::written)).collect(),
        uuid if uuids::is_uuid(uuid) => uuids::written(column),
        DataType::Date32 => {
            let texts = arrow_cast(column, &DataType::Utf8)?;
            texts.as_string::<i32>().iter().map(|text| text.map(in_era)).collect()
        }
        DataType::Timestamp(..) => moments(column)?,
        DataType::Time64(_) => {
            let texts = arrow_cast(column, &DataType::Utf8)?;
            texts.as_string::<i32>().iter().map(|text| text.map(without_zeros)).collect()
        }
        DataType::Interval(unit) => intervals(column, *unit),
        _ => arrow_cast(column, &DataType::Utf8)?.as_string().clone(),
    })
}

/// Writes moments as `2024-05-06 01:02:03.5`, with their distance from UTC, `+00`, where there is a zone.
fn moments(column: &ArrayRef) -> Result<StringArray> {
    let formats = FormatOptions::new()
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%::z"));
    let options = CastOptions { safe: false, format_options: formats };
    let texts = cast_with_options(column, &DataType::Utf8, &options)?;
    let is_zoned = matches!(column.data_type(), DataType::Timestamp(_, Some(_)));
    let shorter = |text: &str| {
        let (moment, zone) = if is_zoned { text.split_at(text.len().saturating_sub(9)) } else { (text, "") };
        // Minutes and seconds of the zone are left out if there are none.
        let zone = zone.strip_suffix(":00").map_or(zone, |zone| zone.strip_suffix(":00").unwrap_or(zone));
        in_era(&format!("{}{zone}", without_zeros(moment)))
    };
    Ok(texts.as_string::<i32>().iter().map(|text| text.map(shorter)).collect())
}

/// Returns a date or moment with its era, from one of the proleptic calendar, whose year 0 is 1 BC to Postgres:
/// `-0043-03-15` is `0044-03-15 BC`.
fn in_era(text: &str) -> String {
    let sign = usize::from(text.starts_with(['-', '+']));
    let (year, rest) = text.split_at(text[sign..].find('-').map_or(text.len(), |end| sign + end));
    match year.parse::<i64>() {
        Ok(year) if year <= 0 => format!("{:04}{rest} BC", 1 - year),
        Ok(year) => format!("{year:04}{rest}"),
        // Arrow writes all years as numbers.
        Err(_) => text.into(),
    }
}

/// Returns a number without zeros at the end of its fraction.
fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

fn intervals(column: &ArrayRef, unit: IntervalUnit) -> StringArray {
    match unit {
        IntervalUnit::YearMonth => {
            let values = column.as_primitive::<IntervalYearMonthType>().iter();
            values.map(|value| value.map(|months| interval(months, 0, 0))).collect()
        }
        IntervalUnit::DayTime => {
            let values = column.as_primitive::<IntervalDayTimeType>().iter();
            let text = |days, milliseconds| interval(0, days, i64::from(milliseconds) * 1_000_000);
            values.map(|value| value.map(|value| text(value.days, value.milliseconds))).collect()
        }
        IntervalUnit::MonthDayNano => {
            let values = column.as_primitive::<IntervalMonthDayNanoType>().iter();
            values.map(|value| value.map(|value| interval(value.months, value.days, value.nanoseconds))).collect()
        }
    }
}

/// Writes an interval as `1 year 2 mons 3 days 04:05:06.5`.
fn interval(months: i32, days: i32, nanoseconds: i64) -> String {
    let mut text = String::new();
    let mut negative = false;
    for (count, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if count != 0 {
            let space = if text.is_empty() { "" } else { " " };
            // After something negative what is not says so.
            let sign = if negative && count > 0 { "+" } else { "" };
            let plural = if count == 1 { "" } else { "s" };
            // Writing to a string does not fail.
            let _ = write!(text, "{space}{sign}{count} {unit}{plural}");
            negative = count < 0;
        }
    }
    if nanoseconds == 0 && !text.is_empty() {
        return text;
    }
    let space = if text.is_empty() { "" } else { " " };
    let sign = match (nanoseconds < 0, negative) {
        (true, _) => "-",
        (false, true) => "+",
        (false, false) => "",
    };
    let microseconds = nanoseconds.unsigned_abs() / 1000;
    let seconds = microseconds / 1_000_000;
    let (hours, minutes, seconds, fraction) =
        (seconds / 3600, seconds / 60 % 60, seconds % 60, microseconds % 1_000_000);
    let _ = write!(text, "{space}{sign}{hours:02}:{minutes:02}:{seconds:02}");
    if fraction != 0 {
        let fraction = format!("{fraction:06}");
        let _ = write!(text, ".{}", fraction.trim_end_matches('0'));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn intervals_are_written_as_postgres_does() {
        const HOUR: i64 = 3_600_000_000_000;
        assert_eq!(interval(14, 0, 0), "1 year 2 mons");
        assert_eq!(interval(0, 1, 2 * HOUR), "1 day 02:00:00");
        assert_eq!(interval(0, 0, HOUR * 3 / 2), "01:30:00");
        assert_eq!(interval(0, -1, 0), "-1 days");
        assert_eq!(interval(0, -1, HOUR), "-1 days +01:00:00");
        assert_eq!(interval(-1, 1, -HOUR), "-1 mons +1 day -01:00:00");
        assert_eq!(interval(0, 0, 0), "00:00:00");
        assert_eq!(interval(0, 0, 500_000_000), "00:00:00.5");
    }
}
