//! Texts of intervals, as PostgreSQL reads them.

use super::time_fields::{Field, Kind, Unread, clock, fields, fraction, integer, is_word, small};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Months, days and microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntervalParts {
    /// Number of months.
    pub months: i32,
    /// Number of days.
    pub days: i32,
    /// Number of microseconds.
    pub micros: i64,
}

/// Units of intervals, from the greatest to the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IntervalUnit {
    /// A thousand years.
    Millennium,
    /// A hundred years.
    Century,
    /// Ten years.
    Decade,
    /// Twelve months.
    Year,
    /// A month.
    Month,
    /// Seven days.
    Week,
    /// A day.
    Day,
    /// An hour.
    Hour,
    /// A minute.
    Minute,
    /// A second.
    Second,
    /// A thousandth of a second.
    Millisecond,
    /// A millionth of a second.
    Microsecond,
}

use IntervalUnit as Unit;

/// Names of units; those of ten letters stand for longer ones.
const UNITS: [(&str, Unit); 54] = [
    ("c", Unit::Century),
    ("cent", Unit::Century),
    ("centuries", Unit::Century),
    ("century", Unit::Century),
    ("d", Unit::Day),
    ("day", Unit::Day),
    ("days", Unit::Day),
    ("dec", Unit::Decade),
    ("decade", Unit::Decade),
    ("decades", Unit::Decade),
    ("decs", Unit::Decade),
    ("h", Unit::Hour),
    ("hour", Unit::Hour),
    ("hours", Unit::Hour),
    ("hr", Unit::Hour),
    ("hrs", Unit::Hour),
    ("m", Unit::Minute),
    ("microsecon", Unit::Microsecond),
    ("mil", Unit::Millennium),
    ("millennia", Unit::Millennium),
    ("millennium", Unit::Millennium),
    ("millisecon", Unit::Millisecond),
    ("mils", Unit::Millennium),
    ("min", Unit::Minute),
    ("mins", Unit::Minute),
    ("minute", Unit::Minute),
    ("minutes", Unit::Minute),
    ("mon", Unit::Month),
    ("mons", Unit::Month),
    ("month", Unit::Month),
    ("months", Unit::Month),
    ("ms", Unit::Millisecond),
    ("msec", Unit::Millisecond),
    ("msecond", Unit::Millisecond),
    ("mseconds", Unit::Millisecond),
    ("msecs", Unit::Millisecond),
    ("s", Unit::Second),
    ("sec", Unit::Second),
    ("second", Unit::Second),
    ("seconds", Unit::Second),
    ("secs", Unit::Second),
    ("us", Unit::Microsecond),
    ("usec", Unit::Microsecond),
    ("usecond", Unit::Microsecond),
    ("useconds", Unit::Microsecond),
    ("usecs", Unit::Microsecond),
    ("w", Unit::Week),
    ("week", Unit::Week),
    ("weeks", Unit::Week),
    ("y", Unit::Year),
    ("year", Unit::Year),
    ("years", Unit::Year),
    ("yr", Unit::Year),
    ("yrs", Unit::Year),
];

/// Fields that an interval literal names, as in `INTERVAL '1 2:03' DAY TO MINUTE`: from the greatest to the smallest.
pub type IntervalFields = Option<(IntervalUnit, IntervalUnit)>;

/// Longest text of an interval, between blanks, that PostgreSQL reads.
const ROOM: usize = 256;

/// Units of a bit each, of which none may come twice.
const fn bit(unit: Unit) -> u16 {
    1 << unit as u16
}

const SECONDS: u16 = bit(Unit::Second) | bit(Unit::Millisecond) | bit(Unit::Microsecond);
const CLOCK: u16 = bit(Unit::Hour) | bit(Unit::Minute) | SECONDS;

/// Unit that a word behind a number names.
enum Said {
    Nothing,
    /// A word, such as `ago`, of which there may be no number.
    Other,
    Unit(Unit),
}

#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    years: i32,
    months: i32,
    days: i32,
    micros: i64,
}

impl Sum {
    fn add_micros(&mut self, number: i64, fraction: f64, scale: i64) -> Result<(), Unread> {
        let whole = number.checked_mul(scale).and_then(|whole| self.micros.checked_add(whole));
        self.micros = whole.ok_or(Unread::Field)?;
        self.add_part(fraction, scale)
    }

    /// Adds a part of a unit of so many microseconds.
    fn add_part(&mut self, fraction: f64, scale: i64) -> Result<(), Unread> {
        let exact = fraction * scale as f64;
        let mut micros = exact as i64;
        let rest = exact - micros as f64;
        if rest > 0.5 {
            micros += 1;
        } else if rest < -0.5 {
            micros -= 1;
        }
        self.micros = self.micros.checked_add(micros).ok_or(Unread::Field)?;
        Ok(())
    }

    fn add_days(&mut self, number: i64, scale: i32) -> Result<(), Unread> {
        let days = i32::try_from(number).ok().and_then(|days| days.checked_mul(scale));
        self.days = days.and_then(|days| self.days.checked_add(days)).ok_or(Unread::Field)?;
        Ok(())
    }

    /// Adds a part of a unit of so many days; what is no whole day is time.
    fn add_part_of_days(&mut self, fraction: f64, scale: i32) -> Result<(), Unread> {
        let exact = fraction * f64::from(scale);
        let days = exact as i32;
        self.days = self.days.checked_add(days).ok_or(Unread::Field)?;
        self.add_part(exact - f64::from(days), DAY)
    }

    fn add_months(&mut self, number: i64) -> Result<(), Unread> {
        let months = i32::try_from(number).ok().and_then(|months| self.months.checked_add(months));
        self.months = months.ok_or(Unread::Field)?;
        Ok(())
    }

    fn add_years(&mut self, number: i64, fraction: f64, scale: i32) -> Result<(), Unread> {
        let years = i32::try_from(number).ok().and_then(|years| years.checked_mul(scale));
        self.years = years.and_then(|years| self.years.checked_add(years)).ok_or(Unread::Field)?;
        self.add_months((fraction * f64::from(scale) * 12.0).round_ties_even() as i64)
    }

    /// Adds a number of a unit, and returns the bits of the units that it is of.
    fn add(&mut self, number: i64, fraction: f64, unit: Unit) -> Result<u16, Unread> {
        match unit {
            Unit::Microsecond => self.add_micros(number, fraction, 1)?,
            Unit::Millisecond => self.add_micros(number, fraction, 1000)?,
            Unit::Second => self.add_micros(number, fraction, SECOND)?,
            Unit::Minute => self.add_micros(number, fraction, MINUTE)?,
            Unit::Hour => self.add_micros(number, fraction, HOUR)?,
            Unit::Day => {
                self.add_days(number, 1)?;
                self.add_part(fraction, DAY)?;
            }
            Unit::Week => {
                self.add_days(number, 7)?;
                self.add_part_of_days(fraction, 7)?;
            }
            Unit::Month => {
                self.add_months(number)?;
                self.add_part_of_days(fraction, 30)?;
            }
            Unit::Year => self.add_years(number, fraction, 1)?,
            Unit::Decade => self.add_years(number, fraction, 10)?,
            Unit::Century => self.add_years(number, fraction, 100)?,
            Unit::Millennium => self.add_years(number, fraction, 1000)?,
        }
        Ok(if unit == Unit::Second && fraction != 0.0 { SECONDS } else { bit(unit) })
    }

    fn negated(self) -> Result<Self, Unread> {
        let negated = || {
            Some(Self {
                years: self.years.checked_neg()?,
                months: self.months.checked_neg()?,
                days: self.days.checked_neg()?,
                micros: self.micros.checked_neg()?,
            })
        };
        negated().ok_or(Unread::Field)
    }

    fn parts(self) -> Result<IntervalParts, Unread> {
        let months = i64::from(self.years) * 12 + i64::from(self.months);
        let months = i32::try_from(months).map_err(|_| Unread::Range)?;
        Ok(IntervalParts { months, days: self.days, micros: self.micros })
    }
}

/// Reads an interval: `1 year 2 mons -3 days 04:05:06`, `@ 1 hour ago`, `1-2`, `P1Y2M3DT4H5M6S`. Numbers without a unit are of the
/// smallest of the fields, and what is less than that is cut off.
pub(super) fn read(text: &str, of: IntervalFields) -> Result<IntervalParts, Unread> {
    let sum = match fields(text, ROOM).and_then(|fields| words(&fields, of)) {
        Err(Unread::Syntax) => iso(text),
        other => other,
    };
    let mut parts = sum?.parts()?;
    let Some((greatest, smallest)) = of else { return Ok(parts) };
    let whole = |micros: i64, unit: i64| micros / unit * unit;
    match smallest {
        Unit::Year => parts = IntervalParts { months: parts.months / 12 * 12, days: 0, micros: 0 },
        Unit::Month => parts = IntervalParts { days: 0, micros: 0, ..parts },
        Unit::Day if greatest == Unit::Day => parts.micros = 0,
        Unit::Hour => parts.micros = whole(parts.micros, HOUR),
        Unit::Minute => parts.micros = whole(parts.micros, MINUTE),
        _ => {}
    }
    Ok(parts)
}

/// Rounds the seconds of an interval to so many digits after the point.
pub(super) fn rounded(parts: IntervalParts, digits: u32) -> Option<IntervalParts> {
    let unit = 10i64.checked_pow(6_u32.checked_sub(digits)?)?;
    let away = (parts.micros.checked_abs()?.checked_add(unit / 2)?) / unit * unit;
    Some(IntervalParts { micros: if parts.micros < 0 { -away } else { away }, ..parts })
}

/// Reads fields from the last to the first, so that units come before their numbers.
fn words(fields: &[Field], of: IntervalFields) -> Result<Sum, Unread> {
    let mut sum = Sum::default();
    let (mut seen, mut is_ago) = (0u16, false);
    let mut said = Said::Nothing;
    let of_minutes = of == Some((Unit::Minute, Unit::Second));
    for Field { kind, text, .. } in fields.iter().rev() {
        let added = match kind {
            Kind::Word | Kind::Special => {
                if ["ago", "qtr", "quarter"].iter().any(|word| is_word(text, word)) {
                    said = Said::Other;
                    is_ago |= text == "ago";
                    continue;
                }
                let unit = UNITS.iter().find(|(name, _)| is_word(text, name)).ok_or(Unread::Syntax)?;
                said = Said::Unit(unit.1);
                continue;
            }
            Kind::Clock => {
                said = Said::Unit(Unit::Day);
                sum.micros = micros_of(text, of_minutes)?;
                CLOCK
            }
            Kind::Signed if text.contains(':') && micros_of(&text[1..], of_minutes).is_ok() => {
                said = Said::Unit(Unit::Day);
                let micros = micros_of(&text[1..], of_minutes)?;
                sum.micros = if text.starts_with('-') { -micros } else { micros };
                CLOCK
            }
            Kind::Signed | Kind::Date | Kind::Number => {
                let mut unit = match said {
                    Said::Nothing => Some(of.map_or(Unit::Second, |(_, smallest)| smallest)),
                    Said::Unit(unit) => Some(unit),
                    Said::Other => None,
                };
                let (mut number, rest) = integer(text)?;
                let mut part = 0.0;
                if let Some(months) = rest.strip_prefix('-') {
                    let (months, rest) = small(months)?;
                    if !(0..12).contains(&months) {
                        return Err(Unread::Field);
                    }
                    if !rest.is_empty() {
                        return Err(Unread::Syntax);
                    }
                    let months = i64::from(if text.starts_with('-') { -months } else { months });
                    number = number.checked_mul(12).and_then(|it| it.checked_add(months)).ok_or(Unread::Field)?;
                    unit = Some(Unit::Month);
                } else if rest.starts_with('.') {
                    part = fraction(rest)?;
                    part = if text.starts_with('-') { -part } else { part };
                } else if !rest.is_empty() {
                    return Err(Unread::Syntax);
                }
                let unit = unit.ok_or(Unread::Syntax)?;
                // A number before one of hours is of days.
                said = Said::Unit(if unit == Unit::Hour { Unit::Day } else { unit });
                sum.add(number, part, unit)?
            }
        };
        if seen & added != 0 {
            return Err(Unread::Syntax);
        }
        seen |= added;
    }
    match (seen, is_ago) {
        (0, _) => Err(Unread::Syntax),
        (_, true) => sum.negated(),
        (_, false) => Ok(sum),
    }
}

fn micros_of(text: &str, of_minutes: bool) -> Result<i64, Unread> {
    let clock = clock(text, of_minutes)?;
    let seconds = clock.minutes * 60 + clock.seconds;
    let hours = clock.hours.checked_mul(HOUR);
    hours.and_then(|it| it.checked_add(seconds * SECOND + clock.micros)).ok_or(Unread::Field)
}

/// A number of a text in ISO 8601's form, its digits before the point, and what follows.
struct Number<'a> {
    whole: i64,
    part: f64,
    width: usize,
    rest: &'a str,
}

fn number(text: &str) -> Result<Number<'_>, Unread> {
    let sign = usize::from(text.starts_with('-'));
    let digits = |from: usize| text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let width = digits(sign);
    let mut end = sign + width;
    let mut known = width;
    if text[end..].starts_with('.') {
        let after = digits(end + 1);
        known += after;
        end += if known > 0 { 1 + after } else { 0 };
    }
    if known == 0 {
        return Err(Unread::Syntax);
    }
    // An exponent, if it has digits.
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        let after = digits(end + 1 + sign);
        end += if after > 0 { 1 + sign + after } else { 0 };
    }
    let number: f64 = text[..end].parse().map_err(|_| Unread::Syntax)?;
    if number.abs() > 1e15 {
        return Err(if number.is_infinite() { Unread::Syntax } else { Unread::Field });
    }
    let whole = number.trunc();
    Ok(Number { whole: whole as i64, part: number - whole, width, rest: &text[end..] })
}

/// Reads `P1Y2M3DT4H5M6S`, `P1-2-3T4:5:6` and `P00010203T040506`.
fn iso(text: &str) -> Result<Sum, Unread> {
    let mut rest = text.strip_prefix('P').filter(|rest| !rest.is_empty()).ok_or(Unread::Syntax)?;
    let mut sum = Sum::default();
    let (mut in_time, mut has_field) = (false, false);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('T') {
            (in_time, has_field, rest) = (true, false, after);
            continue;
        }
        let Number { whole, part, width, rest: after } = number(rest)?;
        let unit = after.bytes().next();
        let beyond = || after.get(1..).unwrap_or("");
        let named = match (in_time, unit) {
            (false, Some(b'Y')) => Some(Unit::Year),
            (false, Some(b'M')) => Some(Unit::Month),
            (false, Some(b'W')) => Some(Unit::Week),
            (false, Some(b'D')) => Some(Unit::Day),
            (true, Some(b'H')) => Some(Unit::Hour),
            (true, Some(b'M')) => Some(Unit::Minute),
            (true, Some(b'S')) => Some(Unit::Second),
            _ => None,
        };
        if let Some(unit) = named {
            sum.add(whole, part, unit)?;
            (has_field, rest) = (true, beyond());
            continue;
        }
        let form = if in_time { (6, ':') } else { (8, '-') };
        if !matches!(unit, None | Some(b'T')) && !after.starts_with(form.1) || in_time && unit == Some(b'T') {
            return Err(Unread::Syntax);
        }
        // Fields without letters: digits in a row, or with signs between them.
        let is_row = width == form.0 && !has_field && !after.starts_with(form.1);
        match (in_time, is_row) {
            (false, true) => {
                sum.add_years(whole / 10_000, 0.0, 1)?;
                sum.add_months(whole / 100 % 100)?;
                sum.add_days(whole % 100, 1)?;
                sum.add_part(part, DAY)?;
                rest = after;
            }
            (true, true) => {
                sum.add_micros(whole / 10_000, 0.0, HOUR)?;
                sum.add_micros(whole / 100 % 100, 0.0, MINUTE)?;
                sum.add_micros(whole % 100, 0.0, SECOND)?;
                sum.add_part(part, 1)?;
                return Ok(sum);
            }
            _ if has_field => return Err(Unread::Syntax),
            _ => {
                let units = if in_time {
                    [Unit::Hour, Unit::Minute, Unit::Second]
                } else {
                    [Unit::Year, Unit::Month, Unit::Day]
                };
                sum.add(whole, part, units[0])?;
                rest = after;
                for unit in &units[1..] {
                    let Some(next) = rest.strip_prefix(form.1) else { break };
                    let Number { whole, part, rest: after, .. } = number(next)?;
                    sum.add(whole, part, *unit)?;
                    rest = after;
                }
            }
        }
        if !rest.is_empty() && (in_time || !rest.starts_with('T')) {
            return Err(Unread::Syntax);
        }
    }
    Ok(sum)
}
