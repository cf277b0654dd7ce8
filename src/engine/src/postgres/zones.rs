//! `timezone(zone, moment)`, as which Postgres reads `moment AT TIME ZONE zone`.

use std::str::FromStr;
use std::sync::Arc;

use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit, TimestampMicrosecondType};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::casts::arrow_cast;
use super::microseconds::{in_micros, is_in_range};
use super::refusal::{refusal, type_name};

/// Returns the function `timezone`.
pub(super) fn time_zone() -> ScalarUDF {
    ScalarUDF::from(TimeZone { signature: Signature::any(2, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeZone {
    signature: Signature,
}

/// Returns a zone by its name.
fn zone(name: &str) -> Result<Tz> {
    let is_utc = ["utc", "gmt", "z", "zulu"].iter().any(|utc| name.eq_ignore_ascii_case(utc));
    if !is_utc && !name.contains('/') {
        let message = format!("AT TIME ZONE '{name}' is not supported; name the zone as in 'Europe/Berlin', or 'UTC'");
        return Err(refusal("0A000", message));
    }
    let name = if is_utc { "UTC" } else { name };
    Tz::from_str(name).map_err(|_| refusal("22023", format!("time zone \"{name}\" not recognized")))
}

impl ScalarUDFImpl for TimeZone {
    fn name(&self) -> &str {
        "timezone"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match &arguments[1] {
            DataType::Timestamp(_, Some(_)) => Ok(DataType::Timestamp(TimeUnit::Microsecond, None)),
            DataType::Timestamp(_, None) => Ok(DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))),
            other => {
                let message = format!(
                    "AT TIME ZONE of {} is not supported; cast it to timestamp or timestamptz",
                    type_name(other)
                );
                Err(refusal("0A000", message))
            }
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, true)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [zones, moments] = &args.args[..] else { return exec_err!("{} takes two arguments", self.name()) };
        let is_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        // A column of one zone is the rule.
        let one = match zones {
            ColumnarValue::Scalar(name) => name.try_as_str().flatten().map(zone).transpose()?,
            ColumnarValue::Array(_) => None,
        };
        let names = arrow_cast(&zones.to_array(rows)?, &DataType::Utf8)?;
        let names: &StringArray = names.as_string();
        let is_instant = matches!(moments.data_type(), DataType::Timestamp(_, Some(_)));
        let moments = moments.to_array(rows)?;
        if !matches!(moments.data_type(), DataType::Timestamp(..)) {
            return exec_err!("{} of {}", self.name(), moments.data_type());
        }
        let moments = in_micros(&moments)?;
        let moments = moments.as_primitive::<TimestampMicrosecondType>();
        let each = |row: usize| {
            if moments.is_null(row) || names.is_null(row) {
                return Ok(None);
            }
            let zone = match one {
                Some(zone) => zone,
                None => zone(names.value(row))?,
            };
            let moment = moments.value(row);
            let moment = shifted(moment, 1_000_000, zone, is_instant).filter(|moment| is_in_range(*moment));
            moment.map(Some).ok_or_else(|| refusal("22008", "timestamp out of range"))
        };
        let found = (0..rows).map(each).collect::<Result<TimestampMicrosecondArray>>()?;
        let found: ArrayRef = Arc::new(found.with_data_type(args.return_field.data_type().clone()));
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)
        } else {
            ColumnarValue::Array(found)
        })
    }
}

/// Returns the local time of an instant, or the instant of a local time, where a second has `second` units. A time that clocks
/// skip is as before they did, one they show twice is the second.
pub(super) fn shifted(moment: i64, second: i64, zone: Tz, is_instant: bool) -> Option<i64> {
    use chrono::{DateTime, Duration, LocalResult, Offset, TimeZone};
    // Clocks have skipped an hour or two, and a day where the date line was moved.
    const SKIPPED: [i64; 2] = [3, 27];
    let time = with_known_rules(DateTime::from_timestamp(moment.div_euclid(second), 0)?.naive_utc());
    let seconds = if is_instant {
        zone.offset_from_utc_datetime(&time).fix().local_minus_utc()
    } else {
        let offset = match zone.offset_from_local_datetime(&time) {
            LocalResult::Single(offset) | LocalResult::Ambiguous(_, offset) => offset,
            LocalResult::None => SKIPPED.into_iter().find_map(|hours| {
                let before = time.checked_sub_signed(Duration::hours(hours))?;
                zone.offset_from_local_datetime(&before).latest()
            })?,
        };
        -offset.fix().local_minus_utc()
    };
    moment.checked_add(i64::from(seconds).checked_mul(second)?)
}

/// Returns a time of a year whose changes of clocks are in the tables of zones, for one of a later year: the last year with the
/// same days of the week. Their rules name such days, and go on for ever in Postgres.
fn with_known_rules(time: chrono::NaiveDateTime) -> chrono::NaiveDateTime {
    use chrono::Datelike;
    const LAST: i32 = 2099;
    if time.year() <= LAST {
        return time;
    }
    let begins = |year: i32| chrono::NaiveDate::from_ymd_opt(year, 1, 1).map(|day| (day.weekday(), day.leap_year()));
    let alike = (0..28).map(|back| LAST - back).find(|year| begins(*year) == begins(time.year()));
    alike.and_then(|year| time.with_year(year)).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn clocks_are_changed() {
        let berlin = zone("Europe/Berlin").unwrap();
        let at = |text: &str| text.parse::<chrono::NaiveDateTime>().unwrap().and_utc().timestamp_nanos_opt().unwrap();
        let shifted = |moment, zone, is_instant| shifted(moment, 1_000_000_000, zone, is_instant);
        assert_eq!(shifted(at("2024-07-01T10:00:00"), berlin, true), Some(at("2024-07-01T12:00:00")));
        assert_eq!(shifted(at("2024-07-01T10:00:00"), berlin, false), Some(at("2024-07-01T08:00:00")));
        // The hour that was left out, and the one that came twice.
        assert_eq!(shifted(at("2024-03-31T02:30:00"), berlin, false), Some(at("2024-03-31T01:30:00")));
        assert_eq!(shifted(at("2024-10-27T02:30:00"), berlin, false), Some(at("2024-10-27T01:30:00")));
        // The day that was left out.
        let apia = zone("Pacific/Apia").unwrap();
        assert_eq!(shifted(at("2011-12-30T10:00:00"), apia, false), Some(at("2011-12-30T20:00:00")));
        assert!(zone("EST").is_err());
    }

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn clocks_are_changed_in_later_centuries() {
        let at = |text: &str| text.parse::<chrono::NaiveDateTime>().unwrap().and_utc().timestamp();
        for (name, local, instant) in [
            ("Europe/Berlin", "2325-10-24T00:00:00", "2325-10-23T22:00:00"),
            ("Europe/Berlin", "2325-12-24T00:00:00", "2325-12-23T23:00:00"),
            ("America/New_York", "2325-10-23T20:00:00", "2325-10-24T00:00:00"),
            ("Europe/Berlin", "2100-03-28T12:00:00", "2100-03-28T10:00:00"),
            ("Europe/Berlin", "2100-03-27T12:00:00", "2100-03-27T11:00:00"),
            ("Australia/Sydney", "3000-01-15T12:00:00", "3000-01-15T01:00:00"),
            ("Europe/Berlin", "2400-02-29T12:00:00", "2400-02-29T11:00:00"),
        ] {
            let zone = zone(name).unwrap();
            assert_eq!(shifted(at(local), 1, zone, false), Some(at(instant)), "{name} {local}");
            assert_eq!(shifted(at(instant), 1, zone, true), Some(at(local)), "{name} {instant}");
        }
    }
}
