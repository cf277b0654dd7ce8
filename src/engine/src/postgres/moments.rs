//! Texts of dates and moments that name a zone, which has no meaning for a type without one.

use std::str::FromStr;
use std::sync::Arc;

use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};

use super::refusal::refusal;

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

/// Returns texts of dates or moments as Arrow reads them; `None` if it reads all as they are.
///
/// # Errors
/// If a text ends with something else than a zone.
pub(super) fn readable(texts: &StringArray, to: &DataType) -> Result<Option<ArrayRef>> {
    let mut changed = false;
    let mut each = |text: &str| -> Result<String> {
        let written = rewritten(text, to)?;
        changed |= written.is_some();
        Ok(written.unwrap_or_else(|| text.into()))
    };
    let written: StringArray = texts.iter().map(|text| text.map(&mut each).transpose()).collect::<Result<_>>()?;
    Ok(changed.then(|| Arc::new(written) as ArrayRef))
}

/// Returns true if a text of an instant says what clocks show, and not of which zone they are.
pub(super) fn is_local(text: &str) -> bool {
    Parts::of_moment(text.trim_matches(is_space)).is_some_and(|parts| parts.zone.is_empty())
}

/// Returns what a text of an instant says that clocks show, with the zone if it names one; `None` if it says how far that is from
/// UTC, or is of another form. `readable` is the text as Arrow reads it.
pub(super) fn local(text: &str, readable: &str) -> Option<(String, Option<Tz>)> {
    let Parts { zone, .. } = Parts::of_moment(text.trim_matches(is_space))?;
    if zone.is_empty() {
        return Some((readable.into(), None));
    }
    if zone.starts_with(['+', '-']) || zone_hours(zone).is_some() {
        return None;
    }
    let clock = readable.strip_suffix(zone)?.trim_end();
    Some((clock.into(), Some(Tz::from_str(zone).ok()?)))
}

/// Returns a text with the seconds that Arrow requires, and with a zone only if the type has one; `None` if Arrow reads
/// the text as it is, or if the text is of another form.
fn rewritten(text: &str, to: &DataType) -> Result<Option<String>> {
    let trimmed = text.trim_matches(is_space);
    let Some(Parts { date, clock, zone }) = Parts::of_moment(trimmed) else { return Ok(None) };
    let has_zone = !zone.is_empty();
    let zone = if has_zone { offset(zone, text, to)? } else { String::new() };
    let whole = with_seconds(clock);
    if !has_zone && whole.is_none() && trimmed.len() == text.len() {
        return Ok(None);
    }
    let zone = if matches!(to, DataType::Timestamp(_, Some(_))) { zone.as_str() } else { "" };
    let clock = match whole.as_deref().unwrap_or(clock) {
        "" if !zone.is_empty() => "00:00:00",
        clock => clock,
    };
    Ok(Some(if clock.is_empty() { date.into() } else { format!("{date} {clock}{zone}") }))
}

/// Parts of a text such as `2024-02-29 10:00 +02`; those that are left out are empty.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    date: &'a str,
    clock: &'a str,
    zone: &'a str,
}

impl<'a> Parts<'a> {
    /// Splits a date in ISO 8601's form, with a time or a zone behind it or both.
    fn of_moment(text: &'a str) -> Option<Self> {
        let is_date = |letter: char| letter.is_ascii_digit() || letter == '-';
        let (date, rest) = text.split_at(text.find(|letter: char| !is_date(letter)).unwrap_or(text.len()));
        let has_form = match date.matches('-').count() {
            0 => date.len() >= 8,
            count => count == 2 && is_digit(date) && !date.ends_with('-'),
        };
        let time = rest.strip_prefix(['T', 't']).filter(|time| is_digit(time)).unwrap_or(rest);
        let (clock, zone) = clock_and_zone(time.trim_start_matches(is_space))?;
        has_form.then_some(Self { date, clock, zone })
    }
}

/// Splits a text into a time, if it begins with one, and what follows; `None` if that is half a day or an era.
fn clock_and_zone(text: &str) -> Option<(&str, &str)> {
    let is_clock = |letter: char| letter.is_ascii_digit() || matches!(letter, ':' | '.');
    let end = if is_digit(text) { text.find(|letter: char| !is_clock(letter)).unwrap_or(text.len()) } else { 0 };
    let (clock, zone) = text.split_at(end);
    let zone = zone.trim_start_matches(is_space);
    let first = zone.split(is_space).next().unwrap_or(zone);
    let is_other = ["am", "pm", "ad", "bc"].iter().any(|other| first.eq_ignore_ascii_case(other));
    (!is_other).then_some((clock, zone))
}

/// Returns a time of hours and minutes with seconds; `None` for another.
fn with_seconds(clock: &str) -> Option<String> {
    let (hours, minutes) = clock.split_once(':')?;
    (matches!(hours.len(), 1 | 2) && minutes.len() == 2).then(|| format!("{hours:0>2}:{minutes}:00"))
}

/// Returns a zone as Arrow reads it behind a time.
fn offset(zone: &str, text: &str, to: &DataType) -> Result<String> {
    if let Some(digits) = zone.strip_prefix(['+', '-']) {
        let (hours, minutes, seconds) = displacement(digits).ok_or_else(|| invalid(text, to))?;
        if hours > 15 || minutes > 59 || seconds > 59 {
            return Err(refusal("22009", format!("time zone displacement out of range: \"{text}\"")));
        }
        if seconds > 0 && matches!(to, DataType::Timestamp(_, Some(_))) {
            return Err(refusal("0A000", format!("seconds in a time zone are not supported: \"{text}\"")));
        }
        return Ok(format!("{}{hours:02}:{minutes:02}", &zone[..1]));
    }
    if let Some(hours) = zone_hours(zone) {
        return Ok(format!("{}{:02}:00", if hours < 0 { '-' } else { '+' }, hours.abs()));
    }
    match Tz::from_str(zone) {
        Ok(_) => Ok(format!(" {zone}")),
        Err(_) if zone.contains('/') => {
            Err(refusal("22023", format!("time zone \"{}\" not recognized", zone.to_ascii_lowercase())))
        }
        Err(_) => Err(invalid(text, to)),
    }
}

/// Reads `5`, `0530`, `05:30` or `05:30:15` as hours, minutes and seconds.
fn displacement(digits: &str) -> Option<(u32, u32, u32)> {
    let number = |part: &str| match part.bytes().all(|digit| digit.is_ascii_digit()) {
        true => part.parse::<u32>().ok(),
        false => None,
    };
    if !digits.contains(':') && digits.len() > 2 && digits.is_ascii() {
        let (hours, minutes) = digits.split_at(digits.len() - 2);
        return Some((number(hours)?, number(minutes)?, 0));
    }
    let parts = digits.split(':').map(number).collect::<Option<Vec<_>>>()?;
    match parts[..] {
        [hours] => Some((hours, 0, 0)),
        [hours, minutes] => Some((hours, minutes, 0)),
        [hours, minutes, seconds] => Some((hours, minutes, seconds)),
        _ => None,
    }
}

/// Returns the error of a text that is no date or moment.
fn invalid(text: &str, to: &DataType) -> DataFusionError {
    let name = match to {
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone",
        _ => "timestamp",
    };
    refusal("22007", format!("invalid input syntax for type {name}: \"{text}\""))
}

fn is_digit(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

/// Returns true if Postgres skips a character around a word.
fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t'..='\r')
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::TimeUnit;

    use super::*;
    use crate::postgres::Refusal;

    const MOMENT: DataType = DataType::Timestamp(TimeUnit::Nanosecond, None);

    /// Returns what Arrow is to read: the text itself, another one, or the code of an error.
    fn read(text: &str, to: &DataType) -> String {
        match rewritten(text, to) {
            Ok(written) => written.unwrap_or_else(|| text.into()),
            Err(DataFusionError::External(error)) => error.downcast_ref::<Refusal>().unwrap().sqlstate().into(),
            Err(error) => panic!("{error}"),
        }
    }

    /// Checks outcomes of PostgreSQL 15.
    #[test]
    fn zones_are_left_out_of_dates_and_moments() {
        for (text, date, moment) in [
            ("2024-02-29", "2024-02-29", "2024-02-29"),
            ("2024-02-29 +00", "2024-02-29", "2024-02-29"),
            ("2024-02-29+00", "2024-02-29", "2024-02-29"),
            (" 2024-02-29  -05 ", "2024-02-29", "2024-02-29"),
            ("2024-02-29 UTC", "2024-02-29", "2024-02-29"),
            ("2024-02-29Z", "2024-02-29", "2024-02-29"),
            ("2024-02-29 Europe/Berlin", "2024-02-29", "2024-02-29"),
            ("20240229 +00", "20240229", "20240229"),
            ("2024-02-29 01:00:00+02", "2024-02-29 01:00:00", "2024-02-29 01:00:00"),
            ("2024-02-29T01:00:00Z", "2024-02-29 01:00:00", "2024-02-29 01:00:00"),
            ("2024-02-29T01:00:00", "2024-02-29T01:00:00", "2024-02-29T01:00:00"),
            ("2024-02-29 1:00 +15:59:59", "2024-02-29 01:00:00", "2024-02-29 01:00:00"),
            ("2024-02-29 01:00:00.25 EST", "2024-02-29 01:00:00.25", "2024-02-29 01:00:00.25"),
            ("2024-02-29 xx", "22007", "22007"),
            ("2024-02-29T", "22007", "22007"),
            ("2024-02-29 +", "22007", "22007"),
            ("2024-02-29 +00 +00", "22007", "22007"),
            ("2024-02-29 01:00:00 xx", "22007", "22007"),
            ("2024-02-29 +99", "22009", "22009"),
            ("2024-02-29 +16", "22009", "22009"),
            ("2024-02-29 -0060", "22009", "22009"),
            ("2024-02-29 +12345", "22009", "22009"),
            ("2024-02-29 America/Nowhere", "22023", "22023"),
            // Arrow refuses these.
            ("abc", "abc", "abc"),
            ("", "", ""),
            ("2024-02-29 BC", "2024-02-29 BC", "2024-02-29 BC"),
            ("2024-02-29 01:00:00 PM +00", "2024-02-29 01:00:00 PM +00", "2024-02-29 01:00:00 PM +00"),
        ] {
            assert_eq!(read(text, &DataType::Date32), date, "{text}");
            assert_eq!(read(text, &MOMENT), moment, "{text}");
        }
    }

    #[test]
    fn zones_of_instants_are_kept() {
        let instant = DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into()));
        for (text, becomes) in [
            ("2024-02-29", "2024-02-29"),
            ("2024-02-29 01:00", "2024-02-29 01:00:00"),
            ("2024-02-29 +00", "2024-02-29 00:00:00+00:00"),
            ("2024-02-29 PST", "2024-02-29 00:00:00-08:00"),
            ("2024-02-29 Europe/Berlin", "2024-02-29 00:00:00 Europe/Berlin"),
            ("2024-02-29 01:00+0530", "2024-02-29 01:00:00+05:30"),
            ("2024-07-01 10:00:00 CET", "2024-07-01 10:00:00+01:00"),
            ("2024-02-29T01:00:00Z", "2024-02-29 01:00:00+00:00"),
            ("2024-02-29 01:00:00+05:30:15", "0A000"),
            ("2024-02-29 xx", "22007"),
            ("2024-02-29 +99", "22009"),
        ] {
            assert_eq!(read(text, &instant), becomes, "{text}");
        }
    }

    #[test]
    fn clocks_are_those_of_a_zone() {
        let instant = DataType::Timestamp(TimeUnit::Nanosecond, Some("Asia/Tokyo".into()));
        let of = |text: &str| local(text, &read(text, &instant));
        for (text, shown, is_named) in [
            ("2024-02-29", "2024-02-29", false),
            (" 2024-02-29 1:00 ", "2024-02-29 01:00:00", false),
            ("2024-02-29T01:00:00.5", "2024-02-29T01:00:00.5", false),
            ("2024-02-29 Europe/Berlin", "2024-02-29 00:00:00", true),
            ("2024-02-29 01:00:00.5 Europe/Berlin", "2024-02-29 01:00:00.5", true),
        ] {
            let (clock, zone) = of(text).unwrap();
            assert_eq!((clock.as_str(), zone.is_some()), (shown, is_named), "{text}");
        }
        for text in ["2024-02-29 01:00+02", "2024-02-29 PST", "2024-02-29T01:00:00Z", "abc", ""] {
            assert!(of(text).is_none(), "{text}");
        }
    }
}
