//! Dates and times.

use chrono::{NaiveDate, NaiveTime, Timelike};
use datafusion::scalar::ScalarValue;
use neuroql::ZonedTime;

use crate::wire::error_response::SqlError;

const MICROS: i64 = 1_000_000;

/// Reads a date: days since 1970.
pub(super) fn date(text: &str) -> Result<ScalarValue, SqlError> {
    Ok(ScalarValue::Date32(Some(neuroql::read_date(text)?)))
}

/// Reads a time: nanoseconds since midnight.
pub(super) fn time(text: &str) -> Result<ScalarValue, SqlError> {
    time_value(neuroql::read_time(text)?).ok_or_else(|| SqlError::not_supported("time 24:00:00 is not supported"))
}

/// Returns a time that is `micros` microseconds after midnight.
pub(super) fn time_value(micros: i64) -> Option<ScalarValue> {
    (0..86_400 * MICROS).contains(&micros).then(|| ScalarValue::Time64Nanosecond(Some(micros * 1000)))
}

/// Reads a time without a zone: microseconds since 1970. A zone in the text is ignored, as in Postgres.
pub(super) fn timestamp(text: &str) -> Result<ScalarValue, SqlError> {
    Ok(ScalarValue::TimestampMicrosecond(Some(neuroql::read_timestamp(text)?), None))
}

/// Reads an instant: microseconds since 1970.
pub(super) fn timestamptz(text: &str, zone: &str) -> Result<ScalarValue, SqlError> {
    Ok(ScalarValue::TimestampMicrosecond(Some(neuroql::read_instant(text, zone)?), Some(zone.into())))
}

/// Reads a time with a time zone, and returns its text. `zone` is that of a time without one; it may be empty if there is none.
pub(super) fn timetz(text: &str, zone: &str) -> Result<String, SqlError> {
    Ok(ZonedTime::read(text, Some(zone).filter(|zone| !zone.is_empty()))?.spell())
}

/// Returns the text of a time with a time zone, which is so many seconds west of UTC.
pub(super) fn timetz_value(micros: i64, west: i32) -> Result<String, SqlError> {
    let is_time = (0..=86_400 * MICROS).contains(&micros);
    let found = west.checked_neg().and_then(|east| ZonedTime::new(micros, east));
    found.map(ZonedTime::spell).ok_or_else(|| match is_time {
        true => SqlError::error("22009", "time zone displacement out of range"),
        false => SqlError::error("22008", "time out of range"),
    })
}

/// Returns the binary form of a text of a time with a time zone.
pub(crate) fn timetz_packed(text: &str) -> Option<Vec<u8>> {
    let time = ZonedTime::read(text, None).ok()?;
    let mut bytes = time.micros.to_be_bytes().to_vec();
    bytes.extend((-time.east).to_be_bytes());
    Some(bytes)
}

/// Returns microseconds since 1970 for microseconds since midnight of the year 2000, from which binary forms count.
pub(super) fn from_2000(micros: i64) -> Option<i64> {
    let epoch = NaiveDate::from_ymd_opt(2000, 1, 1)?.and_time(NaiveTime::MIN);
    debug_assert_eq!(epoch.num_seconds_from_midnight(), 0);
    micros.checked_add(epoch.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_codes_of_postgres() {
        let code = |outcome: Result<ScalarValue, SqlError>| outcome.unwrap_err().sqlstate;
        assert_eq!(code(date("2024-02-30")), "22008");
        assert_eq!(code(timestamp("2024-02-29 xx")), "22007");
        assert_eq!(code(timestamptz("2024-02-29 +99", "UTC")), "22009");
        assert_eq!(code(time("2024-02-29")), "22007");
        assert_eq!(code(timestamptz("2024-02-29 America/Nowhere", "UTC")), "22023");
    }
}
