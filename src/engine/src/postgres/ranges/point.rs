//! Values of the types that ranges are of.

use std::cmp::Ordering;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Datelike, Duration, NaiveDate, NaiveTime, Timelike};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DecimalType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::error::{DataFusionError, Result};

use super::super::casts::from_text;
use super::super::date_styles::is_ambiguous;
use super::super::instants::is_utc;
use super::super::numeric_texts::{self, Written};
use super::super::refusal::refusal;
use super::super::zones::shifted;

/// Type of the bounds of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// `integer`.
    Int4,
    /// `bigint`.
    Int8,
    /// `numeric`.
    Num,
    /// `date`.
    Date,
    /// `timestamp without time zone`.
    Ts,
    /// `timestamp with time zone`.
    Tstz,
}

impl Element {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Int4, Self::Int8, Self::Num, Self::Date, Self::Ts, Self::Tstz];

    /// Returns the name of the type in messages.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Int4 => "integer",
            Self::Int8 => "bigint",
            Self::Num => "numeric",
            Self::Date => "date",
            Self::Ts => "timestamp without time zone",
            Self::Tstz => "timestamp with time zone",
        }
    }

    /// Returns the beginning of the names of the types of ranges and multiranges.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Int4 => "int4",
            Self::Int8 => "int8",
            Self::Num => "num",
            Self::Date => "date",
            Self::Ts => "ts",
            Self::Tstz => "tstz",
        }
    }

    /// Returns the Arrow type of a bound.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Int4 => DataType::Int32,
            Self::Int8 => DataType::Int64,
            Self::Num => DataType::Decimal128(38, 10),
            Self::Date => DataType::Date32,
            Self::Ts => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Tstz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// Returns true if there is a next value after each.
    pub(super) fn is_discrete(self) -> bool {
        matches!(self, Self::Int4 | Self::Int8 | Self::Date)
    }

    /// Returns true if texts of values depend on the settings of a session.
    pub fn is_moment(self) -> bool {
        matches!(self, Self::Date | Self::Ts | Self::Tstz)
    }
}

/// A zone of texts that are all values in their normal form, so that none lacks a zone.
pub(super) const NO_ZONE: &str = "";

/// A bound of a range that is not missing.
#[derive(Debug, Clone, Copy)]
pub enum Point {
    /// An integer.
    Integer(i64),
    /// A number of so many digits after the point.
    Number(i128, u8),
    /// Days since 1970; the least and the greatest are the infinities.
    Day(i32),
    /// Microseconds since 1970; the least and the greatest are the infinities.
    Moment(i64),
}

impl Point {
    /// Returns the order of two values of one type.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(one), Self::Integer(other)) | (Self::Moment(one), Self::Moment(other)) => one.cmp(other),
            (Self::Day(one), Self::Day(other)) => one.cmp(other),
            (one, other) => {
                let key = |point: &Self| {
                    let mut key = Vec::new();
                    point.push_key(&mut key);
                    key
                };
                key(one).cmp(&key(other))
            }
        }
    }

    /// Writes bytes whose order is that of the values, and of which none are the beginning of others'.
    pub(super) fn push_key(&self, out: &mut Vec<u8>) {
        let whole = |number: i64| ((number as u64) ^ (1 << 63)).to_be_bytes();
        match self {
            Self::Integer(number) | Self::Moment(number) => out.extend(whole(*number)),
            Self::Day(day) => out.extend(whole(i64::from(*day))),
            Self::Number(0, _) => out.push(1),
            Self::Number(number, scale) => {
                let digits = number.unsigned_abs().to_string();
                // Digits before the point, counted from the first that is not zero; at most 38, at least -38.
                let whole = digits.len() as i64 - i64::from(*scale);
                let mut key = vec![(whole + 128) as u8];
                key.extend(digits.trim_end_matches('0').bytes());
                key.push(0);
                // Of negative numbers those with more digits are less.
                if number.is_negative() {
                    out.push(0);
                    out.extend(key.into_iter().map(|byte| !byte));
                } else {
                    out.push(2);
                    out.extend(key);
                }
            }
        }
    }

    /// Returns the next value of a type that has one.
    pub(super) fn next(&self, element: Element) -> Result<Self> {
        let out_of_range = || refusal("22003", format!("{} out of range", element.type_name()));
        match self {
            Self::Integer(number) => {
                let next = number.checked_add(1).ok_or_else(out_of_range)?;
                match element {
                    Element::Int4 if i32::try_from(next).is_err() => Err(out_of_range()),
                    _ => Ok(Self::Integer(next)),
                }
            }
            Self::Day(day) => {
                let next = day.checked_add(1).filter(|next| *next != i32::MAX && date_of(*next).is_some());
                next.map(Self::Day).ok_or_else(|| refusal("22008", "date out of range"))
            }
            other => Ok(*other),
        }
    }

    /// Returns true for the infinities of dates and moments.
    pub fn is_infinite(&self) -> bool {
        matches!(self, Self::Day(i32::MIN | i32::MAX) | Self::Moment(i64::MIN | i64::MAX))
    }

    /// Reads a text. `zone` is that of instants which name none, or [`NO_ZONE`].
    pub(super) fn read(element: Element, text: &str, zone: &str) -> Result<Self> {
        let trimmed = text.trim_matches(is_space);
        match element {
            Element::Int4 => integer(element, text, trimmed, i64::from(i32::MIN)..=i64::from(i32::MAX)),
            Element::Int8 => integer(element, text, trimmed, i64::MIN..=i64::MAX),
            Element::Num => number(text),
            Element::Date | Element::Ts | Element::Tstz => {
                if let Some(point) = plain(element, text, zone) {
                    return Ok(point);
                }
                let is_day = element == Element::Date;
                match trimmed.to_ascii_lowercase().as_str() {
                    "infinity" if is_day => return Ok(Self::Day(i32::MAX)),
                    "-infinity" if is_day => return Ok(Self::Day(i32::MIN)),
                    "infinity" => return Ok(Self::Moment(i64::MAX)),
                    "-infinity" => return Ok(Self::Moment(i64::MIN)),
                    _ => {}
                }
                if element == Element::Tstz && zone == NO_ZONE {
                    let message =
                        format!("'{text}' in a range is not supported here, because its time zone is not known");
                    return Err(refusal("0A000", message));
                }
                if is_ambiguous(text) {
                    let message =
                        format!("'{text}' in a range is not supported, because its order depends on DateStyle");
                    return Err(refusal("0A000", message));
                }
                let to = match element {
                    Element::Tstz => DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into())),
                    other => other.data_type(),
                };
                let texts: ArrayRef = Arc::new(StringArray::from(vec![text]));
                let read = from_text(&texts, &to)?.filter(|read| *read.data_type() == to && read.is_valid(0));
                let read = read.ok_or_else(|| syntax("22007", element, text))?;
                Ok(match element {
                    Element::Date => Self::Day(read.as_primitive::<Date32Type>().value(0)),
                    _ => Self::Moment(read.as_primitive::<TimestampMicrosecondType>().value(0)),
                })
            }
        }
    }

    /// Writes a value as Postgres does, instants in UTC.
    ///
    /// # Errors
    /// 22008 for a date or moment that is out of range.
    pub fn written(&self, element: Element) -> Result<String> {
        let out_of_range = || {
            let kind = if element == Element::Date { "date" } else { "timestamp" };
            refusal("22008", format!("{kind} out of range"))
        };
        Ok(match self {
            Self::Integer(number) => number.to_string(),
            // No number has more digits than this.
            Self::Number(number, scale) => {
                Decimal128Type::format_decimal(*number, 40, i8::try_from(*scale).unwrap_or(0))
            }
            Self::Day(i32::MAX) | Self::Moment(i64::MAX) => "infinity".into(),
            Self::Day(i32::MIN) | Self::Moment(i64::MIN) => "-infinity".into(),
            Self::Day(day) => {
                let date = date_of(*day).ok_or_else(out_of_range)?;
                let (year, era) = year(date);
                format!("{year:04}-{:02}-{:02}{era}", date.month(), date.day())
            }
            Self::Moment(micros) => {
                let moment = DateTime::from_timestamp_micros(*micros).ok_or_else(out_of_range)?.naive_utc();
                let (year, era) = year(moment.date());
                let fraction = match moment.nanosecond() / 1000 {
                    0 => String::new(),
                    micros => format!(".{micros:06}").trim_end_matches('0').to_owned(),
                };
                let zone = if element == Element::Tstz { "+00" } else { "" };
                let clock = moment.format("%H:%M:%S");
                format!("{year:04}-{:02}-{:02} {clock}{fraction}{zone}{era}", moment.month(), moment.day())
            }
        })
    }
}

fn year(date: NaiveDate) -> (i32, &'static str) {
    if date.year() > 0 { (date.year(), "") } else { (1 - date.year(), " BC") }
}

/// Returns a day that is counted from 1970.
pub(super) fn date_of(day: i32) -> Option<NaiveDate> {
    NaiveDate::default().checked_add_signed(Duration::try_days(i64::from(day))?)
}

/// Returns true if C's `isspace` is true of an ASCII character.
pub(super) fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t'..='\r')
}

fn syntax(sqlstate: &'static str, element: Element, text: &str) -> DataFusionError {
    let name = match element {
        Element::Ts => "timestamp",
        other => other.type_name(),
    };
    refusal(sqlstate, format!("invalid input syntax for type {name}: \"{text}\""))
}

fn integer(element: Element, text: &str, digits: &str, range: std::ops::RangeInclusive<i64>) -> Result<Point> {
    let magnitude = digits.strip_prefix(['-', '+']).unwrap_or(digits);
    if magnitude.is_empty() || !magnitude.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(syntax("22P02", element, text));
    }
    match digits.parse::<i64>() {
        Ok(number) if range.contains(&number) => Ok(Point::Integer(number)),
        _ => {
            let message = format!("value \"{text}\" is out of range for type {}", element.type_name());
            Err(refusal("22003", message))
        }
    }
}

fn number(text: &str) -> Result<Point> {
    let refused =
        |why: &str| refusal("0A000", format!("a bound of type numeric that {why} is not supported: \"{text}\""));
    match numeric_texts::read(text) {
        Written::Number(digits) => {
            let scale = u8::try_from(digits.shown()).ok().filter(|scale| *scale <= 38);
            let scale = scale.ok_or_else(|| refused("has more than 38 digits"))?;
            let number = digits.at(scale as i8).ok_or_else(|| refused("has more than 38 digits"))?;
            Ok(Point::Number(number, scale))
        }
        Written::NotFinite => Err(refused("is not finite")),
        Written::TooLarge => Err(refused("has more than 38 digits")),
        Written::Nothing => Err(syntax("22P02", Element::Num, text)),
    }
}

/// Reads a date or moment in the form of ISO 8601, which [`Point::written`] writes, too: `2000-01-01 10:00:00.5+02`. `None` if it
/// is written in another one, or no such date.
fn plain(element: Element, text: &str, zone: &str) -> Option<Point> {
    let text = text.trim_matches(is_space);
    let (text, is_before) = text.strip_suffix(" BC").map_or((text, false), |rest| (rest, true));
    let (date, clock) = match text.find([' ', 'T']) {
        Some(_) if element == Element::Date => return None,
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, "00:00"),
    };
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() < 4 || month.len() != 2 || day.len() != 2 {
        return None;
    }
    let year = i32::try_from(whole(year)?).ok().filter(|year| *year > 0)?;
    let date = NaiveDate::from_ymd_opt(if is_before { 1 - year } else { year }, whole(month)?, whole(day)?)?;
    // Postgres has no days before this one.
    if date < NaiveDate::from_ymd_opt(-4713, 11, 24)? {
        return None;
    }
    if element == Element::Date {
        let days = date.signed_duration_since(NaiveDate::default()).num_days();
        return Some(Point::Day(i32::try_from(days).ok()?));
    }
    let (clock, distance) = clock.split_at(clock.find(['+', '-']).unwrap_or(clock.len()));
    let local = date.and_time(time(clock)?).and_utc().timestamp_micros();
    match element {
        Element::Ts if distance.is_empty() => Some(Point::Moment(local)),
        Element::Tstz if !distance.is_empty() => {
            Some(Point::Moment(local.checked_sub(east(distance)?.checked_mul(1_000_000)?)?))
        }
        // Clocks of places are known up to the year 2100.
        Element::Tstz if zone != NO_ZONE && (date.year() < 2100 || is_utc(zone)) => {
            shifted(local, 1_000_000, Tz::from_str(zone).ok()?, false).map(Point::Moment)
        }
        _ => None,
    }
}

fn whole(digits: &str) -> Option<u32> {
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Reads what a clock shows: `10:00`, `10:00:00.5`.
fn time(clock: &str) -> Option<NaiveTime> {
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let parts: Vec<&str> = clock.split(':').collect();
    let (hour, minute, second) = match parts.as_slice() {
        [hour, minute] if fraction == "0" => (hour, minute, &"00"),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    let has_form = [hour, minute, second].iter().all(|part| part.len() == 2) && (1..=6).contains(&fraction.len());
    let micros = whole(fraction)?.checked_mul(10u32.checked_pow(6u32.checked_sub(fraction.len() as u32)?)?)?;
    NaiveTime::from_hms_micro_opt(whole(hour)?, whole(minute)?, whole(second)?, micros).filter(|_| has_form)
}

/// Reads how many seconds a zone is to the east of UTC: `+02`, `-03:30`.
fn east(distance: &str) -> Option<i64> {
    let digits = distance.strip_prefix(['+', '-'])?;
    let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "00"));
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (whole(hours).filter(|hours| *hours < 16)?, whole(minutes).filter(|minutes| *minutes < 60)?);
    let seconds = i64::from(hours * 3600 + minutes * 60);
    Some(if distance.starts_with('-') { -seconds } else { seconds })
}
