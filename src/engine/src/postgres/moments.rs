//! Texts of dates and moments: ISO 8601 and other forms that Postgres reads and that are not ambiguous.

use std::str::FromStr;

use chrono::NaiveDate;
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Date32Array, PrimitiveArray, StringArray};
use datafusion::arrow::datatypes::TimestampMicrosecondType;
use datafusion::error::{DataFusionError, Result};

use super::microseconds::is_in_range;
use super::refusal::refusal;
use super::zones::shifted;

const MICROS: i64 = 1_000_000;
const DAY: i64 = 86_400 * MICROS;

/// No text of a date is longer.
const LONGEST_DATE: usize = 64;

/// Abbreviations of Postgres' default set, in hours from UTC.
const ABBREVIATIONS: [(&str, i32); 22] = [
    ("utc", 0),
    ("gmt", 0),
    ("z", 0),
    ("zulu", 0),
    ("ut", 0),
    ("wet", 0),
    ("est", -5),
    ("edt", -4),
    ("cst", -6),
    ("cdt", -5),
    ("mst", -7),
    ("mdt", -6),
    ("pst", -8),
    ("pdt", -7),
    ("hst", -10),
    ("cet", 1),
    ("cest", 2),
    ("bst", 1),
    ("eet", 2),
    ("eest", 3),
    ("msk", 3),
    ("jst", 9),
];

/// Returns the hours by which a zone is ahead of UTC, if this is the abbreviation of one.
pub fn zone_hours(abbreviation: &str) -> Option<i32> {
    let known = ABBREVIATIONS.iter().find(|(name, _)| abbreviation.eq_ignore_ascii_case(name));
    known.map(|(_, hours)| *hours)
}

/// Reads a date: days since 1970.
///
/// # Errors
/// 22007, 22008, 22009 or 22023 as in Postgres, and 0A000 for forms that are not supported.
pub fn read_date(text: &str) -> Result<i32> {
    let parts = MomentParts::read(text, "date")?;
    let date = parts.date.ok_or_else(|| syntax_error("date", text))?;
    i32::try_from(days(date)).map_err(|_| out_of_range("date", text))
}

/// Reads a moment: microseconds since 1970. A zone in the text is ignored, as in Postgres.
///
/// # Errors
/// As [`read_date`].
pub fn read_timestamp(text: &str) -> Result<i64> {
    match plain(text) {
        Some(micros) => Ok(micros),
        None => MomentParts::read(text, "timestamp")?.local(text, "timestamp"),
    }
}

/// Reads an instant: microseconds since 1970. `zone` is that of a text that names none.
///
/// # Errors
/// As [`read_date`].
pub fn read_instant(text: &str, zone: &str) -> Result<i64> {
    instant(text, Zone::read(zone)?)
}

fn instant(text: &str, zone: Zone) -> Result<i64> {
    const KIND: &str = "timestamp with time zone";
    let (local, written) = match plain(text) {
        Some(local) => (local, None),
        None => {
            let parts = MomentParts::read(text, KIND)?;
            (parts.local(text, KIND)?, parts.zone)
        }
    };
    let utc = written.unwrap_or(zone).utc(local).filter(|utc| is_in_range(*utc));
    utc.ok_or_else(|| out_of_range("timestamp", text))
}

/// Reads texts of dates.
pub(super) fn dates(texts: &StringArray) -> Result<Date32Array> {
    texts.iter().map(|text| text.map(read_date).transpose()).collect()
}

/// Reads texts of moments, or of instants of a zone.
pub(super) fn moments(texts: &StringArray, zone: Option<&str>) -> Result<PrimitiveArray<TimestampMicrosecondType>> {
    let zone = zone.map(Zone::read).transpose()?;
    let read = |text: &str| match zone {
        Some(zone) => instant(text, zone),
        None => read_timestamp(text),
    };
    texts.iter().map(|text| text.map(read).transpose()).collect()
}

/// Returns true if a text of an instant says what clocks show, and not of which zone they are.
pub(super) fn is_local(text: &str) -> bool {
    MomentParts::read(text, "timestamp with time zone").is_ok_and(|parts| parts.zone.is_none())
}

/// Reads `2024-02-29 12:30:15` with a fraction of six digits or without, which most texts are; `None` for another form or day.
fn plain(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| {
        bytes
            .get(from..to)?
            .iter()
            .try_fold(0_i64, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b' '), (13, b':'), (16, b':')];
    if !matches!(bytes.len(), 19 | 26) || separators.iter().any(|(at, separator)| bytes[*at] != *separator) {
        return None;
    }
    let fraction = match bytes.len() {
        26 if bytes[19] == b'.' => number(20, 26)?,
        26 => return None,
        _ => 0,
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if year == 0 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(year as i32, month as u32, day as u32)?;
    Some(days(date) * DAY + ((hour * 60 + minute) * 60 + second) * MICROS + fraction)
}

/// Returns the days from 1970 to a date.
fn days(date: NaiveDate) -> i64 {
    date.signed_duration_since(NaiveDate::default()).num_days()
}

fn unsupported(message: impl Into<String>) -> DataFusionError {
    refusal("0A000", message)
}

/// Returns true if C's `isspace` is true of an ASCII character.
fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t'..='\r')
}

fn syntax_error(kind: &str, text: &str) -> DataFusionError {
    refusal("22007", format!("invalid input syntax for type {kind}: \"{text}\""))
}

fn field_out_of_range(text: &str) -> DataFusionError {
    refusal("22008", format!("date/time field value out of range: \"{text}\""))
}

fn out_of_range(kind: &str, text: &str) -> DataFusionError {
    refusal("22008", format!("{kind} out of range: \"{text}\""))
}

/// Parts of the text of a date or time.
#[derive(Clone, Copy)]
struct MomentParts {
    date: Option<NaiveDate>,
    /// Microseconds since midnight.
    micros: Option<i64>,
    zone: Option<Zone>,
}

impl MomentParts {
    fn local(&self, text: &str, kind: &str) -> Result<i64> {
        let date = self.date.ok_or_else(|| syntax_error(kind, text))?;
        Ok(days(date) * DAY + self.micros.unwrap_or(0))
    }

    fn read(text: &str, kind: &str) -> Result<Self> {
        let word = text.trim_matches(is_space);
        let lower = word.to_ascii_lowercase();
        let special = ["infinity", "-infinity", "now", "today", "tomorrow", "yesterday", "allballs"];
        if special.contains(&lower.as_str()) {
            return Err(unsupported(format!("{kind} \"{word}\" is not supported; write a date or time")));
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
                while date.len() < LONGEST_DATE && date.split(separator).filter(|part| !part.is_empty()).count() < 3 {
                    date = format!("{date} {}", words.next().ok_or_else(invalid)?);
                }
                (date, None)
            }
        };
        parts.date = Some(calendar_date(&date, negative, text, kind)?);
        if let Some(time) = time {
            parts.read_time(time, text, kind)?;
        }
        if parts.micros.is_none()
            && let Some(time) = words.next_if(|word| word.starts_with(digit))
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
        if words.next().is_some() { Err(invalid()) } else { Ok(parts) }
    }

    /// Reads `12:30`, `12:30:15.25` or `123015`, and a zone right behind.
    fn read_time(&mut self, text: &str, whole: &str, kind: &str) -> Result<()> {
        let end = text.find(|letter: char| !matches!(letter, '0'..='9' | ':' | '.')).unwrap_or(text.len());
        let (clock, zone) = text.split_at(end);
        let invalid = || syntax_error(kind, whole);
        let number = |digits: &str| -> Result<i64> {
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
fn written_zone(zone: &str, whole: &str, kind: &str) -> Result<Zone> {
    let is_offset = |digits: &str| digits.starts_with(digit) && digits.chars().all(|it| digit(it) || it == ':');
    Zone::read(zone).map_err(|error| match zone.strip_prefix(['+', '-']) {
        Some(digits) if is_offset(digits) => {
            refusal("22009", format!("time zone displacement out of range: \"{whole}\""))
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

fn calendar_date(written: &str, before_christ: bool, text: &str, kind: &str) -> Result<NaiveDate> {
    let invalid = || syntax_error(kind, text);
    let parts: Vec<&str> = match written.bytes().all(|byte| byte.is_ascii_digit()) && written.len() >= 8 {
        true => {
            let (year, rest) = written.split_at(written.len() - 4);
            vec![year, &rest[..2], &rest[2..]]
        }
        false => written.split(separator).filter(|part| !part.is_empty()).collect(),
    };
    let [first, second, third] = parts.as_slice() else { return Err(invalid()) };
    let number = |digits: &str| -> Result<i64> {
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
        None => Err(unsupported(format!("dates after the year 262000 are not supported: \"{text}\""))),
    }
}

/// Returns the first day of Postgres' calendar.
fn first_day() -> NaiveDate {
    NaiveDate::from_ymd_opt(-4713, 11, 24).unwrap_or(NaiveDate::MIN)
}

/// Time zone of a time.
#[derive(Debug, Clone, Copy)]
enum Zone {
    /// Seconds east of UTC.
    Fixed(i64),
    Named(Tz),
}

impl Zone {
    /// Reads `+05:30`, `-8`, `UTC`, `PST` or `Europe/Berlin`.
    fn read(text: &str) -> Result<Self> {
        let unknown = || refusal("22023", format!("time zone \"{text}\" not recognized"));
        if let Some(digits) = text.strip_prefix(['+', '-']) {
            let seconds = seconds(digits).ok_or_else(unknown)?;
            // This is the greatest offset in Postgres.
            if seconds >= 16 * 3600 {
                return Err(refusal("22009", format!("time zone displacement out of range: \"{text}\"")));
            }
            return Ok(Self::Fixed(if text.starts_with('-') { -seconds } else { seconds }));
        }
        if let Some(hours) = zone_hours(text) {
            return Ok(Self::Fixed(i64::from(hours) * 3600));
        }
        Tz::from_str(text).map(Self::Named).map_err(|_| unknown())
    }

    /// Returns the time in UTC. A time that clocks skip is as before they did, one they show twice is the second.
    fn utc(self, local: i64) -> Option<i64> {
        match self {
            Self::Fixed(seconds) => local.checked_sub(seconds * MICROS),
            Self::Named(zone) => shifted(local, MICROS, zone, false),
        }
    }
}

/// Reads `5`, `0530`, `05:30` or `05:30:15` as seconds. The last two of three or four digits are minutes.
fn seconds(digits: &str) -> Option<i64> {
    let parts: Vec<&str> = match (digits.contains(':'), digits.len()) {
        (true, _) => digits.split(':').collect(),
        (false, 1 | 2) => vec![digits],
        (false, 3 | 4) if digits.is_ascii() => vec![&digits[..digits.len() - 2], &digits[digits.len() - 2..]],
        _ => return None,
    };
    let mut total = 0;
    for (part, unit) in parts.iter().zip([3600, 60, 1]) {
        if part.is_empty() || part.len() > 2 || !part.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let number: i64 = part.parse().ok()?;
        if unit < 3600 && number > 59 {
            return None;
        }
        total += number * unit;
    }
    (parts.len() <= 3).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::Refusal;

    fn code<T: std::fmt::Debug>(outcome: Result<T>) -> &'static str {
        match outcome {
            Err(DataFusionError::External(error)) => error.downcast_ref::<Refusal>().unwrap().sqlstate(),
            other => panic!("{other:?}"),
        }
    }

    /// Checks outcomes of PostgreSQL 15.
    #[test]
    fn zones_have_no_meaning_for_types_without_one() {
        let day = read_date("2024-02-29").unwrap();
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
            assert_eq!(read_date(text).unwrap(), day, "{text}");
        }
        assert_eq!(read_timestamp("2024-02-29 +05").unwrap(), read_timestamp("2024-02-29 00:00:00").unwrap());
        assert_eq!(read_timestamp("2024-02-29T01:00:00+05").unwrap(), read_timestamp("2024-02-29 01:00:00").unwrap());
        assert_eq!(read_date("2023-02-28 +00 BC").unwrap(), read_date("2023-02-28 BC").unwrap());
    }

    /// Checks outcomes of PostgreSQL 15.
    #[test]
    fn moments_are_read_to_the_microsecond() {
        let second = read_timestamp("2024-02-29 10:00:00").unwrap();
        for (fraction, micros) in [
            ("5", 500_000),
            ("123456", 123_456),
            ("1234565", 123_456),
            ("12345650001", 123_457),
            ("9999999", 1_000_000),
            ("0000005", 0),
            ("0000015", 2),
        ] {
            assert_eq!(read_timestamp(&format!("2024-02-29 10:00:00.{fraction}")).unwrap(), second + micros);
        }
        for (text, micros) in [
            ("0001-01-01 00:00", -62_135_596_800_000_000),
            ("9999-12-31 23:59:59.999999", 253_402_300_799_999_999),
            ("4714-11-24 00:00 BC", -210_866_803_200_000_000),
            ("1969-12-31 23:59:59.999999", -1),
            ("epoch", 0),
        ] {
            assert_eq!(read_timestamp(text).unwrap(), micros, "{text}");
        }
        assert_eq!(read_timestamp("2024-02-29 24:00").unwrap(), read_timestamp("2024-03-01").unwrap());
        assert_eq!(read_timestamp("2024-02-28 23:59:60").unwrap(), read_timestamp("2024-02-29").unwrap());
        for (text, sqlstate) in [
            ("0000-01-01 00:00:00", "22008"),
            ("2023-02-29 00:00:00", "22008"),
            ("2023-02-28 25:00:00", "22008"),
            ("4714-11-23 23:59:59 BC", "22008"),
            ("", "22007"),
            ("infinity", "0A000"),
        ] {
            assert_eq!(code(read_timestamp(text)), sqlstate, "{text}");
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
            ("2024-02-29 01:00:00+05:30:15", "2024-02-28 19:29:45"),
        ] {
            assert_eq!(read_instant(text, "UTC").unwrap(), read_timestamp(utc).unwrap(), "{text}");
        }
        let tokyo = read_instant("2024-02-29 09:00:00", "Asia/Tokyo").unwrap();
        assert_eq!(tokyo, read_timestamp("2024-02-29 00:00:00").unwrap());
    }

    #[test]
    fn clocks_are_those_of_a_zone() {
        for text in ["2024-02-29", " 2024-02-29 1:00 ", "2024-02-29T01:00:00.5", "29 Feb 2024 1:00 PM"] {
            assert!(is_local(text), "{text}");
        }
        for text in ["2024-02-29 01:00+02", "2024-02-29 PST", "2024-02-29T01:00:00Z", "2024-02-29 Europe/Berlin", "abc"]
        {
            assert!(!is_local(text), "{text}");
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
            assert_eq!(code(read_date(text)), sqlstate, "{text}");
            assert_eq!(code(read_timestamp(text)), sqlstate, "{text}");
            assert_eq!(code(read_instant(text, "UTC")), sqlstate, "{text}");
        }
        let message = read_date("2024-02-29 +99").map_err(|error| error.to_string()).unwrap_err();
        assert!(message.contains("time zone displacement out of range: \"2024-02-29 +99\""), "{message}");
    }
}
