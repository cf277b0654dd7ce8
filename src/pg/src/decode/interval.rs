//! The text form of intervals.

use datafusion::scalar::ScalarValue;

use super::{invalid_syntax, is_space, trimmed};
use crate::wire::error_response::SqlError;

const SECOND: f64 = 1e6;

/// Months, days and microseconds, each with a sign of its own.
#[derive(Debug, Default, Clone, Copy)]
struct IntervalFields {
    months: f64,
    days: f64,
    micros: f64,
    /// The units that occurred, one bit each: none may occur twice.
    seen: u16,
}

const SECONDS: u16 = 1;
const MINUTES: u16 = 1 << 1;
const HOURS: u16 = 1 << 2;
const DAYS: u16 = 1 << 3;
const MONTHS: u16 = 1 << 4;
const YEARS: u16 = 1 << 5;

impl IntervalFields {
    /// Adds `number` of a unit. A fraction of a month is added as days, of a day as hours.
    fn add(&mut self, number: f64, unit: &str) -> Option<()> {
        let unit = unit.to_ascii_lowercase();
        let months = |number: f64, sum: &mut Self| {
            let whole = number.trunc();
            sum.months += whole;
            sum.add_days((number - whole) * 30.0);
        };
        let years = |years: f64, sum: &mut Self| {
            let whole = years.trunc();
            sum.months += whole * 12.0 + ((years - whole) * 12.0).round_ties_even();
        };
        let seen = match unit.as_str() {
            "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecond" | "microseconds" => {
                self.micros += number;
                1 << 6
            }
            "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecond" | "milliseconds" => {
                self.micros += number * 1e3;
                1 << 7
            }
            "s" | "sec" | "secs" | "second" | "seconds" => {
                self.micros += number * SECOND;
                SECONDS
            }
            "m" | "min" | "mins" | "minute" | "minutes" => {
                self.micros += number * 60.0 * SECOND;
                MINUTES
            }
            "h" | "hr" | "hrs" | "hour" | "hours" => {
                self.micros += number * 3600.0 * SECOND;
                HOURS
            }
            "d" | "day" | "days" => {
                self.add_days(number);
                DAYS
            }
            "w" | "week" | "weeks" => {
                self.add_days(number * 7.0);
                1 << 8
            }
            "mon" | "mons" | "month" | "months" => {
                months(number, self);
                MONTHS
            }
            "y" | "yr" | "yrs" | "year" | "years" => {
                years(number, self);
                YEARS
            }
            "decade" | "decades" | "dec" | "decs" => {
                years(number * 10.0, self);
                1 << 9
            }
            "c" | "cent" | "century" | "centuries" => {
                years(number * 100.0, self);
                1 << 10
            }
            "mil" | "mils" | "millennium" | "millennia" => {
                years(number * 1000.0, self);
                1 << 11
            }
            _ => return None,
        };
        self.see(seen)
    }

    fn see(&mut self, units: u16) -> Option<()> {
        let fresh = self.seen & units == 0;
        self.seen |= units;
        fresh.then_some(())
    }

    fn add_days(&mut self, days: f64) {
        self.days += days.trunc();
        self.micros += (days - days.trunc()) * 86_400.0 * SECOND;
    }

    fn value(self, text: &str) -> Result<ScalarValue, SqlError> {
        let out_of_range = || SqlError::error("22015", format!("interval field value out of range: \"{text}\""));
        let (months, days, micros) = (self.months, self.days, self.micros.round_ties_even());
        let fits = |value: f64| value.abs() <= f64::from(i32::MAX);
        if !fits(months) || !fits(days) {
            return Err(out_of_range());
        }
        // Arrow counts nanoseconds.
        if micros.abs() > i64::MAX as f64 / 1000.0 {
            let message = format!("intervals of more than 292 years in hours are not supported: \"{text}\"");
            return Err(SqlError::not_supported(message));
        }
        value(months as i32, days as i32, micros as i64).ok_or_else(out_of_range)
    }
}

/// Returns an interval, unless its nanoseconds do not fit.
pub(super) fn value(months: i32, days: i32, micros: i64) -> Option<ScalarValue> {
    Some(ScalarValue::new_interval_mdn(months, days, micros.checked_mul(1000)?))
}

/// Reads `1 year 2 mons -3 days 04:05:06`, `@ 1 hour ago`, `1-2`, `P1Y2M3DT4H5M6S`.
pub(super) fn read(text: &str) -> Result<ScalarValue, SqlError> {
    let word = trimmed(text);
    let invalid = || invalid_syntax("22007", "interval", text);
    let sum = match word.strip_prefix(['P', 'p']) {
        Some(rest) => iso(rest),
        None => words(word),
    };
    sum.ok_or_else(invalid)?.value(text)
}

fn words(text: &str) -> Option<IntervalFields> {
    let text = text.strip_prefix('@').unwrap_or(text);
    let mut sum = IntervalFields::default();
    let mut ago = false;
    let mut number: Option<f64> = None;
    let mut fields = 0;
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        if ago {
            return None;
        }
        let sign = usize::from(rest.starts_with(['-', '+']));
        let numeric = rest[sign..].starts_with(|letter: char| letter.is_ascii_digit() || letter == '.');
        let part = |c: char| c.is_ascii_digit() || c == '.' || c == ':';
        let end = if numeric {
            rest[sign..].find(|c| !part(c)).map_or(rest.len(), |at| at + sign)
        } else {
            rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len())
        };
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return None;
        }
        rest = after;
        if !numeric {
            if word.eq_ignore_ascii_case("ago") && number.is_none() && fields > 0 {
                ago = true;
            } else {
                sum.add(number.take()?, word)?;
                fields += 1;
            }
        } else if word.contains(':') {
            // A number before a clock is of days.
            if let Some(days) = number.take() {
                sum.add(days, "days")?;
            }
            sum.micros += clock(word)?;
            sum.see(HOURS | MINUTES | SECONDS)?;
            fields += 1;
        } else if let Some(months) = rest.strip_prefix('-') {
            // Years and months of the standard.
            let end = months.find(|c: char| !c.is_ascii_digit()).unwrap_or(months.len());
            let (months, after) = months.split_at(end);
            let (years, months): (i32, i32) = (word.parse().ok()?, months.parse().ok()?);
            if number.is_some() || months > 11 {
                return None;
            }
            let months = f64::from(years.abs()) * 12.0 + f64::from(months);
            sum.months += if word.starts_with('-') { -months } else { months };
            sum.see(YEARS | MONTHS)?;
            fields += 1;
            rest = after;
        } else {
            if number.is_some() {
                return None;
            }
            number = Some(word.parse().ok()?);
        }
        rest = rest.trim_start_matches(is_space);
    }
    if let Some(seconds) = number {
        sum.add(seconds, "seconds")?;
        fields += 1;
    }
    if ago {
        sum = IntervalFields { months: -sum.months, days: -sum.days, micros: -sum.micros, ..sum };
    }
    (fields > 0).then_some(sum)
}

/// Reads `04:05` or `-04:05:06.7` as microseconds.
fn clock(text: &str) -> Option<f64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let parts: Vec<&str> = text.split(':').collect();
    let whole = |digits: &str| digits.parse::<u32>().ok().map(f64::from);
    let (hours, minutes, seconds) = match parts.as_slice() {
        // Minutes and seconds, if the last part has a fraction.
        [minutes, seconds] if seconds.contains('.') => (0.0, whole(minutes)?, seconds.parse().ok()?),
        [hours, minutes] => (whole(hours)?, whole(minutes)?, 0.0),
        [hours, minutes, seconds] => (whole(hours)?, whole(minutes)?, seconds.parse::<f64>().ok()?),
        _ => return None,
    };
    if minutes > 59.0 || seconds > 60.0 {
        return None;
    }
    Some(sign * ((hours * 60.0 + minutes) * 60.0 + seconds) * SECOND)
}

fn iso(text: &str) -> Option<IntervalFields> {
    let mut sum = IntervalFields::default();
    let mut rest = text;
    let mut in_time = false;
    let mut fields = 0;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(['T', 't']) {
            if in_time || after.is_empty() {
                return None;
            }
            (in_time, rest) = (true, after);
            continue;
        }
        let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit = match (in_time, rest.as_bytes()[end].to_ascii_uppercase()) {
            (false, b'Y') => "years",
            (false, b'M') => "months",
            (false, b'W') => "weeks",
            (false, b'D') => "days",
            (true, b'H') => "hours",
            (true, b'M') => "minutes",
            (true, b'S') => "seconds",
            _ => return None,
        };
        sum.add(number, unit)?;
        fields += 1;
        rest = &rest[end + 1..];
    }
    (fields > 0).then_some(sum)
}
