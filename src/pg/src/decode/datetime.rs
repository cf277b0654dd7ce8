//! The text form of dates and times: ISO 8601 and other forms that Postgres reads and that are not ambiguous.

use chrono::{Duration, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use datafusion::scalar::ScalarValue;

use super::zone::Zone;
use super::{invalid_syntax, is_space, trimmed};
use crate::wire::error_response::SqlError;

const MICROS: i64 = 1_000_000;

/// Reads a date: days since 1970.
pub(super) fn date(text: &str) -> Result<ScalarValue, SqlError> {
    let parts = DateTimeParts::read(text, "date")?;
    let date = parts.date.ok_or_else(|| syntax_error("date", text))?;
    Ok(date_value(date))
}

pub(super) fn date_value(date: NaiveDate) -> ScalarValue {
    let days = date.signed_duration_since(NaiveDate::default()).num_days();
    ScalarValue::Date32(i32::try_from(days).ok())
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
    let local = DateTimeParts::read(text, "timestamp")?.local(text, "timestamp")?;
    Ok(ScalarValue::TimestampMicrosecond(Some(local.and_utc().timestamp_micros()), None))
}

/// Reads an instant: microseconds since 1970.
pub(super) fn timestamptz(text: &str, zone: &str) -> Result<ScalarValue, SqlError> {
    let kind = "timestamp with time zone";
    let parts = DateTimeParts::read(text, kind)?;
    let written = match parts.zone {
        Some(written) => written,
        None => Zone::read(zone)?,
    };
    let local = parts.local(text, kind)?;
    let utc = written.utc(local).ok_or_else(|| out_of_range("timestamp", text))?;
    Ok(ScalarValue::TimestampMicrosecond(Some(utc.and_utc().timestamp_micros()), Some(zone.into())))
}

fn syntax_error(kind: &str, text: &str) -> SqlError {
    invalid_syntax("22007", kind, text)
}

fn field_out_of_range(text: &str) -> SqlError {
    SqlError::error("22008", format!("date/time field value out of range: \"{text}\""))
}

fn out_of_range(kind: &str, text: &str) -> SqlError {
    SqlError::error("22008", format!("{kind} out of range: \"{text}\""))
}

/// Parts of the text of a date or time.
struct DateTimeParts {
    date: Option<NaiveDate>,
    /// Microseconds since midnight.
    micros: Option<i64>,
    zone: Option<Zone>,
}

impl DateTimeParts {
    fn local(&self, text: &str, kind: &str) -> Result<NaiveDateTime, SqlError> {
        let date = self.date.ok_or_else(|| syntax_error(kind, text))?;
        let time = Duration::microseconds(self.micros.unwrap_or(0));
        date.and_time(NaiveTime::MIN).checked_add_signed(time).ok_or_else(|| out_of_range("timestamp", text))
    }

    fn read(text: &str, kind: &str) -> Result<Self, SqlError> {
        let word = trimmed(text);
        let lower = word.to_ascii_lowercase();
        let special = ["infinity", "-infinity", "now", "today", "tomorrow", "yesterday", "allballs"];
        if special.contains(&lower.as_str()) {
            return Err(SqlError::not_supported(format!("{kind} \"{word}\" is not supported; send a date or time")));
        }
        if lower == "epoch" {
            return Ok(Self { date: Some(NaiveDate::default()), micros: Some(0), zone: Some(Zone::Fixed(0)) });
        }
        let invalid = || syntax_error(kind, text);
        let mut words: Vec<&str> = word.split(is_space).filter(|word| !word.is_empty()).collect();
        let mut negative = false;
        if let Some(last) = words.last()
            && (last.eq_ignore_ascii_case("bc") || last.eq_ignore_ascii_case("ad"))
        {
            negative = last.eq_ignore_ascii_case("bc");
            words.pop();
        }
        let mut parts = Self { date: None, micros: None, zone: None };
        let mut words = words.into_iter().peekable();
        if kind != "time" || words.peek().is_some_and(|first| first.matches('-').count() >= 2) {
            let first = words.next().ok_or_else(invalid)?;
            // In `2024-02-29T12:00` a T follows a digit, which it does in no month.
            let joined = first.find(['T', 't']).filter(|at| *at > 0 && first.as_bytes()[at - 1].is_ascii_digit());
            let (date, time) = match joined {
                Some(at) => (first[..at].to_owned(), Some(&first[at + 1..])),
                None if !named(first) && !first.bytes().all(|byte| byte.is_ascii_digit()) => {
                    let (date, zone) = first.split_at(zone_start(first));
                    if !zone.is_empty() {
                        parts.zone = Some(written_zone(zone, text, kind)?);
                    }
                    (date.to_owned(), None)
                }
                None if first.len() >= 8 && first.bytes().all(|byte| byte.is_ascii_digit()) => (first.to_owned(), None),
                // Such as `29 Feb 2024` and `February 29, 2024`.
                None => {
                    let mut date = first.to_owned();
                    while date.split(separator).filter(|part| !part.is_empty()).count() < 3 {
                        date = format!("{date} {}", words.next().ok_or_else(invalid)?);
                    }
                    (date, None)
                }
            };
            parts.date = Some(read_date(&date, negative, text, kind)?);
            if let Some(time) = time {
                parts.read_time(time, text, kind)?;
            }
        }
        if parts.micros.is_none()
            && let Some(time) = words.next_if(|word| parts.date.is_none() || word.starts_with(digit))
        {
            parts.read_time(time, text, kind)?;
        }
        if let Some(half) = words.next_if(|word| word.eq_ignore_ascii_case("am") || word.eq_ignore_ascii_case("pm")) {
            let micros = parts.micros.ok_or_else(invalid)?;
            let hour = micros / (3600 * MICROS);
            if !(1..=12).contains(&hour) {
                return Err(field_out_of_range(text));
            }
            let morning = micros - if hour == 12 { 12 * 3600 * MICROS } else { 0 };
            parts.micros = Some(if half.eq_ignore_ascii_case("pm") { morning + 12 * 3600 * MICROS } else { morning });
        }
        if let Some(zone) = words.next() {
            if parts.zone.is_some() {
                return Err(invalid());
            }
            parts.zone = Some(written_zone(zone, text, kind)?);
        }
        // What the clocks of a place show depends on the day.
        let without_day = parts.date.is_none() && matches!(parts.zone, Some(Zone::Named(_)));
        if without_day || words.next().is_some() { Err(invalid()) } else { Ok(parts) }
    }

    /// Reads `12:30`, `12:30:15.25` or `123015`, and a zone right behind.
    fn read_time(&mut self, text: &str, whole: &str, kind: &str) -> Result<(), SqlError> {
        let end = text.find(|letter: char| !matches!(letter, '0'..='9' | ':' | '.')).unwrap_or(text.len());
        let (clock, zone) = text.split_at(end);
        let invalid = || syntax_error(kind, whole);
        let number = |digits: &str| -> Result<i64, SqlError> {
            let plain = (1..=2).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
            if plain { digits.parse().map_err(|_| invalid()) } else { Err(invalid()) }
        };
        let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(clock, part)| (clock, Some(part)));
        let parts: Vec<&str> = match (clock.contains(':'), clock.len()) {
            (true, _) => clock.split(':').collect(),
            (false, 6) => vec![&clock[..2], &clock[2..4], &clock[4..]],
            _ => return Err(invalid()),
        };
        let (hour, minute, second) = match parts.as_slice() {
            [hour, minute] if fraction.is_none() => (number(hour)?, number(minute)?, 0),
            [hour, minute, second] => (number(hour)?, number(minute)?, number(second)?),
            _ => return Err(invalid()),
        };
        let fraction = match fraction {
            Some(digits) if !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                let fraction: f64 = format!("0.{digits}").parse().map_err(|_| invalid())?;
                (fraction * MICROS as f64).round_ties_even() as i64
            }
            Some("") | None => 0,
            Some(_) => return Err(invalid()),
        };
        let micros = ((hour * 60 + minute) * 60 + second) * MICROS + fraction;
        if hour > 24 || minute > 59 || second > 60 || micros > 86_400 * MICROS {
            return Err(field_out_of_range(whole));
        }
        self.micros = Some(micros);
        if !zone.is_empty() {
            if self.zone.is_some() {
                return Err(invalid());
            }
            self.zone = Some(written_zone(zone, whole, kind)?);
        }
        Ok(())
    }
}

/// Reads a zone behind a date or a time. Only what names a place is taken for an unknown zone; anything else makes the
/// whole text wrong.
fn written_zone(zone: &str, whole: &str, kind: &str) -> Result<Zone, SqlError> {
    let is_offset = |digits: &str| digits.starts_with(digit) && digits.chars().all(|it| digit(it) || it == ':');
    Zone::read(zone).map_err(|error| match zone.strip_prefix(['+', '-']) {
        Some(digits) if is_offset(digits) => {
            SqlError::error("22009", format!("time zone displacement out of range: \"{whole}\""))
        }
        None if zone.contains('/') => error,
        _ => syntax_error(kind, whole),
    })
}

/// Returns where the zone begins that follows a date in digits without a blank, as in `2024-02-29+00`.
fn zone_start(word: &str) -> usize {
    let end = word.find(|letter: char| !digit(letter) && !separator(letter)).unwrap_or(word.len());
    let date = &word[..end];
    let whole =
        date.ends_with(digit) && (date.split(separator).count() == 3 || date.len() >= 8 && date.chars().all(digit));
    if whole { end } else { word.len() }
}

fn digit(letter: char) -> bool {
    letter.is_ascii_digit()
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

fn month(word: &str) -> Option<u32> {
    let lower = word.to_ascii_lowercase();
    let short = if lower == "sept" { "sep" } else { lower.as_str() };
    let found = MONTHS.iter().position(|name| *name == short || (short.len() == 3 && name.starts_with(short)))?;
    Some(found as u32 + 1)
}

fn separator(letter: char) -> bool {
    matches!(letter, '-' | '/' | ',' | '.') || is_space(letter)
}

fn named(word: &str) -> bool {
    word.split(separator).any(|part| month(part).is_some())
}

fn read_date(written: &str, before_christ: bool, text: &str, kind: &str) -> Result<NaiveDate, SqlError> {
    let invalid = || syntax_error(kind, text);
    let parts: Vec<&str> = match written.bytes().all(|byte| byte.is_ascii_digit()) && written.len() >= 8 {
        true => {
            let (year, rest) = written.split_at(written.len() - 4);
            vec![year, &rest[..2], &rest[2..]]
        }
        false => written.split(separator).filter(|part| !part.is_empty()).collect(),
    };
    let [first, second, third] = parts.as_slice() else { return Err(invalid()) };
    let number = |digits: &str| -> Result<i64, SqlError> {
        let plain = digits.len() <= 7 && digits.bytes().all(|digit| digit.is_ascii_digit());
        if plain { digits.parse().map_err(|_| invalid()) } else { Err(invalid()) }
    };
    // A year has three digits or more: the meaning of two digits depends on the DateStyle.
    let (year, month, day) = if first.len() >= 3 && month(first).is_none() {
        (*first, month(second).map_or_else(|| number(second), |month| Ok(month.into()))?, *third)
    } else if third.len() < 3 {
        return Err(invalid());
    } else if let Some(month) = month(first) {
        (*third, month.into(), *second)
    } else if let Some(month) = month(second) {
        (*third, month.into(), *first)
    } else {
        (*third, number(first)?, *second)
    };
    let (year, day) = (number(year)?, number(day)?);
    if year == 0 {
        return Err(field_out_of_range(text));
    }
    let year = if before_christ { 1 - year } else { year };
    let date = (|| {
        let (year, month, day) = (i32::try_from(year).ok()?, u32::try_from(month).ok()?, u32::try_from(day).ok()?);
        NaiveDate::from_ymd_opt(year, month, day)
    })();
    let known = (1..=12).contains(&month) && (1..=31).contains(&day) && year.abs() < 262_000;
    match date {
        Some(date) if date >= first_day() => Ok(date),
        Some(_) => Err(out_of_range(if kind == "date" { "date" } else { "timestamp" }, text)),
        None if known || year.abs() < 262_000 => Err(field_out_of_range(text)),
        None => Err(SqlError::not_supported(format!("dates after the year 262000 are not supported: \"{text}\""))),
    }
}

/// Returns the first day of Postgres' calendar.
fn first_day() -> NaiveDate {
    NaiveDate::from_ymd_opt(-4713, 11, 24).unwrap_or(NaiveDate::MIN)
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

    /// Returns a value as text, or the code of its error.
    fn outcome(value: Result<ScalarValue, SqlError>) -> String {
        value.map_or_else(|error| error.sqlstate.into(), |value| value.to_string())
    }

    /// Checks outcomes of PostgreSQL 15.
    #[test]
    fn zones_have_no_meaning_for_types_without_one() {
        let day = outcome(date("2024-02-29"));
        for text in [
            "2024-02-29 +00",
            "2024-02-29+00",
            " 2024-02-29  -05 ",
            "2024-02-29 UTC",
            "2024-02-29Z",
            "2024-02-29UTC",
            "2024-02-29 +15:59:59",
            "2024-02-29 +100",
            "2024-02-29 Europe/Berlin",
            "2024-02-29 01:00:00+02",
            "2024-02-29 01:00 PM +02",
            "20240229 +00",
            "20240229+00",
            "2024/02/29 +00",
            "29 Feb 2024 +00",
            "Feb 29 2024 UTC",
        ] {
            assert_eq!(outcome(date(text)), day, "{text}");
        }
        assert_eq!(outcome(timestamp("2024-02-29 +05")), outcome(timestamp("2024-02-29 00:00:00")));
        assert_eq!(outcome(timestamp("2024-02-29T01:00:00+05")), outcome(timestamp("2024-02-29 01:00:00")));
        assert_eq!(outcome(date("2023-02-28 +00 BC")), outcome(date("2023-02-28 BC")));
        for text in ["01:02:03+00", "01:02:03 -05", "01:02:03 UTC", "01:02:03Z", "2024-02-29 01:02:03 Europe/Berlin"] {
            assert_eq!(outcome(time(text)), outcome(time("01:02:03")), "{text}");
        }
    }

    /// Checks outcomes of PostgreSQL 15.
    #[test]
    fn zones_move_instants() {
        for (text, utc) in [
            ("2024-02-29 +00", "2024-02-29 00:00:00"),
            ("2024-02-29+0530", "2024-02-28 18:30:00"),
            ("2024-02-29 PST", "2024-02-29 08:00:00"),
            ("2024-02-29 Europe/Berlin", "2024-02-28 23:00:00"),
            ("2024-07-01 10:00 CET", "2024-07-01 09:00:00"),
            ("2024-02-29", "2024-02-29 00:00:00"),
        ] {
            let expected = timestamptz(&format!("{utc}+00"), "UTC");
            assert_eq!(outcome(timestamptz(text, "UTC")), outcome(expected), "{text}");
        }
    }

    /// Checks outcomes of PostgreSQL 15.
    #[test]
    fn what_is_no_zone_is_refused() {
        for (text, sqlstate) in [
            ("2024-02-29 xx", "22007"),
            ("2024-02-29xx", "22007"),
            ("2024-02-29T", "22007"),
            ("2024-02-29 +", "22007"),
            ("2024-02-29 10", "22007"),
            ("2024-02-29-05", "22007"),
            ("2024-02-29 +00 +00", "22007"),
            ("2024-02-29 +00 UTC", "22007"),
            ("2024-02-29 10:00:00 xx", "22007"),
            ("2024-02-29 10:00:00+02 +02", "22007"),
            ("2024-02-29 +99", "22009"),
            ("2024-02-29+16", "22009"),
            ("2024-02-29 -00:60", "22009"),
            ("2024-02-29 +12345", "22009"),
            ("2024-02-29 10:00:00 +99", "22009"),
            ("2024-02-29 America/Nowhere", "22023"),
            ("2024-02-30 +00", "22008"),
        ] {
            assert_eq!(outcome(date(text)), sqlstate, "{text}");
            assert_eq!(outcome(timestamp(text)), sqlstate, "{text}");
            assert_eq!(outcome(timestamptz(text, "UTC")), sqlstate, "{text}");
        }
        let wrong = [("01:02:03 xx", "22007"), ("01:02:03 Europe/Berlin", "22007"), ("01:02:03+99", "22009")];
        for (text, sqlstate) in wrong.into_iter().chain([("2024-02-29 +00", "22007"), ("2024-02-29", "22007")]) {
            assert_eq!(outcome(time(text)), sqlstate, "{text}");
        }
        let message = date("2024-02-29 +99").map_err(|error| error.message);
        assert_eq!(message, Err("time zone displacement out of range: \"2024-02-29 +99\"".into()));
    }
}
