//! Moments that `to_date` and `to_timestamp` read with a template.

use super::Wrong;
use super::moments::{DAYS, Key, MONTHS, Node, ROMAN, date_of, days_of};

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// A moment that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Days since 1970, before fractions of a second are rounded.
    pub(super) date: i64,
    /// Days since 1970.
    pub(super) days: i64,
    /// Microseconds of the day.
    pub(super) micros: i64,
    /// Seconds by which its zone is ahead of UTC, if it names one.
    pub(super) offset: Option<i64>,
}

/// How days are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Convention {
    Gregorian,
    IsoWeek,
}

/// The fields that were read; 0 stands for those that were not.
#[derive(Debug, Default)]
struct Found {
    convention: Option<Convention>,
    hour: i64,
    is_half: bool,
    is_afternoon: i64,
    minute: i64,
    second: i64,
    second_of_day: i64,
    weekday: i64,
    day: i64,
    day_of_year: i64,
    month: i64,
    milliseconds: i64,
    year: i64,
    is_before: i64,
    week: i64,
    week_of_month: i64,
    century: i64,
    julian: i64,
    microseconds: i64,
    /// Digits of the fraction of a second, if a pattern says how many.
    fraction: Option<usize>,
    /// Digits of the pattern of the year.
    year_digits: usize,
    zone_sign: i64,
    zone_hour: i64,
    zone_minute: i64,
}

impl Key {
    /// Returns true if only digits are read.
    fn is_digits(self) -> bool {
        !matches!(
            self,
            Self::Era
                | Self::Half
                | Self::DayName
                | Self::DayShort
                | Self::Exact
                | Self::MonthName
                | Self::MonthShort
                | Self::Offset
                | Self::Roman
                | Self::ZoneHour
                | Self::Zone
        )
    }

    fn convention(self) -> Option<Convention> {
        match self {
            Self::IsoDayOfYear | Self::IsoWeekday | Self::IsoWeek | Self::IsoYear(_) => Some(Convention::IsoWeek),
            Self::DayOfYear
            | Self::Day
            | Self::Weekday
            | Self::Month
            | Self::MonthName
            | Self::MonthShort
            | Self::Roman
            | Self::Week
            | Self::WeekOfMonth
            | Self::YearWithComma
            | Self::Year(_) => Some(Convention::Gregorian),
            _ => None,
        }
    }
}

fn wrong(message: String) -> Wrong {
    ("22007", message)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Reads a text by a template.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    nodes: &'a [Node],
    found: Found,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Goes over one letter.
    fn skip(&mut self) {
        self.at += self.text[self.at..].chars().next().map_or(0, char::len_utf8);
    }

    fn spaces(&mut self) -> i64 {
        let before = self.at;
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
        (self.at - before) as i64
    }

    /// Returns true if what follows a pattern is no digit.
    fn is_before_separator(&self, place: usize) -> bool {
        if let Node::Pattern { ordinal: Some(_), .. } = &self.nodes[place] {
            return true;
        }
        match self.nodes.get(place + 1) {
            None => true,
            Some(Node::Pattern { key, .. }) => !key.is_digits(),
            Some(Node::Letter(letter) | Node::Separator(letter) | Node::Space(letter)) => !letter.is_ascii_digit(),
        }
    }

    /// Reads an integer, of `length` letters where it is followed by another. Returns it with the number of letters.
    fn integer(&mut self, place: usize, length: usize, is_filled: bool, written: &str) -> Result<(i64, usize), Wrong> {
        let start = self.at;
        self.spaces();
        let rest = &self.text.as_bytes()[self.at..];
        let (digits, end) = if is_filled || self.is_before_separator(place) {
            let end = number_length(rest);
            (&rest[..end], end)
        } else {
            if rest.len() < length {
                return Err(wrong(format!("source string too short for \"{written}\" formatting field")));
            }
            let end = number_length(&rest[..length]);
            if end > 0 && end < length {
                let shown = String::from_utf8_lossy(&rest[..length]);
                return Err(wrong(format!("invalid value \"{shown}\" for \"{written}\"")));
            }
            (&rest[..end], end)
        };
        if end == 0 {
            let shown: String = self.text[start..].chars().take(length).collect();
            return Err(wrong(format!("invalid value \"{shown}\" for \"{written}\"")));
        }
        let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.trim_start().parse::<i32>().ok());
        let out = || ("22008", format!("value for \"{written}\" in source string is out of range"));
        let number = number.ok_or_else(out)?;
        self.at += end;
        Ok((number.into(), self.at - start))
    }

    /// Reads one of some names; returns its place.
    fn name(&mut self, names: &[&str], written: &str) -> Result<i64, Wrong> {
        let rest = &self.text.as_bytes()[self.at..];
        let matches =
            |name: &&str| rest.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name.as_bytes()));
        let Some(place) = names.iter().position(matches) else {
            let shown =
                self.text[self.at..].split(|letter: char| letter.is_ascii_whitespace()).next().unwrap_or_default();
            return Err(wrong(format!("invalid value \"{shown}\" for \"{written}\"")));
        };
        self.at += names[place].len();
        Ok(place as i64)
    }
}

/// Returns the number of bytes of an integer at the start of a text, as C's `strtol` reads it.
fn number_length(text: &[u8]) -> usize {
    let spaces = text.iter().take_while(|byte| is_space(**byte)).count();
    let sign = usize::from(matches!(text.get(spaces), Some(b'+' | b'-')));
    let digits = text[spaces + sign..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 { 0 } else { spaces + sign + digits }
}

fn set(field: &mut i64, value: i64, written: &str) -> Result<(), Wrong> {
    if *field != 0 && *field != value {
        return Err(wrong(format!("conflicting values for \"{written}\" field in formatting string")));
    }
    *field = value;
    Ok(())
}

/// Returns a year that is nearest to 2020 of those with some last digits.
fn near_2020(year: i64) -> i64 {
    match year {
        ..70 => year + 2000,
        70..100 => year + 1900,
        100..520 => year + 2000,
        520..1000 => year + 1000,
        _ => year,
    }
}

/// Reads a moment.
///
/// # Errors
/// 22007 and 22008 if the text is of another form, or its fields are out of their ranges.
pub(super) fn read(nodes: &[Node], text: &str) -> Result<Moment, Wrong> {
    let mut reader = Reader { text, at: 0, nodes, found: Found::default() };
    let (mut is_exact, mut extra) = (false, 0i64);
    for (place, node) in nodes.iter().enumerate() {
        if reader.at >= text.len() {
            break;
        }
        if !is_exact && (!matches!(node, Node::Letter(_)) || place == 0) {
            extra += reader.spaces();
            if reader.at >= text.len() && !matches!(node, Node::Pattern { .. }) {
                break;
            }
        }
        match node {
            Node::Space(_) | Node::Separator(_) if is_exact => reader.skip(),
            Node::Space(_) | Node::Separator(_) => {
                extra -= 1;
                if reader.peek().is_some_and(|byte| is_space(byte) || byte.is_ascii_punctuation()) {
                    reader.at += 1;
                    extra += 1;
                }
            }
            Node::Letter(_) if !is_exact && extra > 0 => extra -= 1,
            Node::Letter(_) => reader.skip(),
            Node::Pattern { key, has_points, is_filled, ordinal, written, .. } => {
                if let Some(convention) = key.convention() {
                    match reader.found.convention {
                        Some(other) if other != convention => {
                            return Err(wrong("invalid combination of date conventions".into()));
                        }
                        _ => reader.found.convention = Some(convention),
                    }
                }
                if *key == Key::Exact {
                    is_exact = true;
                } else {
                    let has_ordinal = reader.pattern(place, *key, *has_points, *is_filled, written, extra)?;
                    if has_ordinal && ordinal.is_some() {
                        reader.skip();
                        reader.skip();
                    }
                }
                if !is_exact {
                    extra = reader.spaces();
                }
            }
        }
    }
    reader.found.moment(text)
}

impl Reader<'_> {
    /// Reads the field of a pattern; returns true if an ordinal number may stand there.
    fn pattern(
        &mut self,
        place: usize,
        key: Key,
        has_points: bool,
        is_filled: bool,
        written: &str,
        extra: i64,
    ) -> Result<bool, Wrong> {
        let short = |name: &&'static str| &name[..3];
        let length = written.len();
        match key {
            Key::Era => {
                let names = if has_points { ["a.d.", "b.c."] } else { ["ad", "bc"] };
                let found = self.name(&names, written)?;
                set(&mut self.found.is_before, found, written)?;
                return Ok(false);
            }
            Key::Half => {
                let names = if has_points { ["a.m.", "p.m."] } else { ["am", "pm"] };
                let found = self.name(&names, written)?;
                set(&mut self.found.is_afternoon, found, written)?;
                self.found.is_half = true;
                return Ok(false);
            }
            Key::MonthName | Key::MonthShort => {
                let names: Vec<_> =
                    MONTHS.iter().map(|name| if key == Key::MonthName { name } else { short(name) }).collect();
                let found = self.name(&names, written)? + 1;
                set(&mut self.found.month, found, written)?;
                return Ok(false);
            }
            Key::DayName | Key::DayShort => {
                let names: Vec<_> =
                    DAYS.iter().map(|name| if key == Key::DayName { name } else { short(name) }).collect();
                let found = self.name(&names, written)?;
                set(&mut self.found.weekday, found, written)?;
                self.found.weekday += 1;
                return Ok(false);
            }
            Key::Roman => {
                // XII before XI, XI before X.
                let names: Vec<_> = ROMAN.iter().rev().copied().collect();
                let found = 12 - self.name(&names, written)?;
                set(&mut self.found.month, found, written)?;
                return Ok(false);
            }
            Key::Offset | Key::Zone => {
                return Err(("0A000", format!("formatting field \"{written}\" is only supported in to_char")));
            }
            Key::YearWithComma => {
                let rest = &self.text[self.at..];
                let thousands = number_length(rest.as_bytes());
                let parts = rest[thousands..].strip_prefix(',').map(|rest| {
                    let head: &[u8] = &rest.as_bytes()[..rest.len().min(3)];
                    number_length(head)
                });
                let (Some(years), true) = (parts.filter(|years| *years > 0), thousands > 0) else {
                    return Err(wrong("invalid input string for \"Y,YYY\"".into()));
                };
                let number = |digits: &str| digits.trim_start().parse::<i32>().map(i64::from);
                let out = |_| ("22008", format!("value for \"{written}\" in source string is out of range"));
                let year = number(&rest[..thousands]).map_err(out)? * 1000
                    + number(&rest[thousands + 1..thousands + 1 + years]).map_err(out)?;
                set(&mut self.found.year, year, written)?;
                self.found.year_digits = 4;
                self.at += thousands + 1 + years;
                return Ok(true);
            }
            Key::ZoneHour => {
                self.found.zone_sign = match self.peek() {
                    Some(sign @ (b'+' | b'-' | b' ')) => {
                        self.at += 1;
                        if sign == b'-' { -1 } else { 1 }
                    }
                    _ => {
                        let before = self.at.checked_sub(1).and_then(|before| self.text.as_bytes().get(before));
                        if extra > 0 && before == Some(&b'-') { -1 } else { 1 }
                    }
                };
                let (hour, _) = self.integer(place, 2, is_filled, written)?;
                set(&mut self.found.zone_hour, hour, written)?;
                return Ok(false);
            }
            _ => {}
        }
        let length = match key {
            Key::Hour12 | Key::Hour24 => 2,
            Key::Millisecond => 3,
            Key::Microsecond => 6,
            Key::Fraction(digits) => digits,
            Key::IsoWeekday => 1,
            _ => length,
        };
        let (value, used) = self.integer(place, length, is_filled, written)?;
        let found = &mut self.found;
        let field = match key {
            Key::Hour12 | Key::Hour24 => &mut found.hour,
            Key::Minute => &mut found.minute,
            Key::Second => &mut found.second,
            Key::Millisecond => &mut found.milliseconds,
            Key::Fraction(_) | Key::Microsecond => &mut found.microseconds,
            Key::SecondOfDay => &mut found.second_of_day,
            Key::ZoneMinute => &mut found.zone_minute,
            Key::Month => &mut found.month,
            Key::DayOfYear | Key::IsoDayOfYear => &mut found.day_of_year,
            Key::Day => &mut found.day,
            Key::Weekday | Key::IsoWeekday => &mut found.weekday,
            Key::Week | Key::IsoWeek => &mut found.week,
            Key::Century => &mut found.century,
            Key::Year(_) | Key::IsoYear(_) => &mut found.year,
            Key::WeekOfMonth => &mut found.week_of_month,
            Key::Julian => &mut found.julian,
            // A quarter says nothing of a day.
            _ => return Ok(true),
        };
        set(field, value, written)?;
        if let Key::Fraction(digits) = key {
            found.fraction = Some(digits);
        }
        match key {
            Key::Hour12 => found.is_half = true,
            Key::Millisecond => found.milliseconds *= 10i64.pow(3usize.saturating_sub(used).min(2) as u32),
            Key::Fraction(_) | Key::Microsecond => {
                found.microseconds *= 10i64.pow(6usize.saturating_sub(used).min(5) as u32);
            }
            Key::ZoneMinute if found.zone_sign == 0 => found.zone_sign = 1,
            Key::IsoWeekday => found.weekday = if found.weekday + 1 > 7 { 1 } else { found.weekday + 1 },
            Key::Year(digits) | Key::IsoYear(digits) => {
                if digits < 4 && used < 4 {
                    found.year = near_2020(found.year);
                }
                found.year_digits = digits;
            }
            _ => {}
        }
        Ok(!matches!(key, Key::ZoneMinute))
    }
}

/// Returns the first day of the first week of a year of ISO weeks.
fn first_week(year: i64) -> i64 {
    let day = days_of(year, 1, 4);
    day - (day + 3).rem_euclid(7)
}

impl Found {
    fn moment(mut self, text: &str) -> Result<Moment, Wrong> {
        let out = || ("22008", format!("date/time field value out of range: \"{text}\""));
        let (mut year, mut month, mut day) = (0, 1, 1);
        let (mut has_year, mut has_month, mut has_day) = (false, false, false);
        let (mut hour, mut minute, mut second) = (0, 0, 0);
        if self.second_of_day != 0 {
            let rest = self.second_of_day % 3600;
            (hour, minute, second) = (self.second_of_day / 3600, rest / 60, rest % 60);
        }
        second = if self.second != 0 { self.second } else { second };
        minute = if self.minute != 0 { self.minute } else { minute };
        hour = if self.hour != 0 { self.hour } else { hour };
        if self.is_half {
            if !(1..=12).contains(&hour) {
                return Err(wrong(format!("hour \"{hour}\" is invalid for the 12-hour clock")));
            }
            match self.is_afternoon != 0 {
                true if hour < 12 => hour += 12,
                false if hour == 12 => hour = 0,
                _ => {}
            }
        }
        let century = if self.is_before != 0 { -self.century } else { self.century };
        if self.year != 0 {
            has_year = true;
            if self.century != 0 && self.year_digits <= 2 {
                let rest = self.year % 100;
                year = match (rest != 0, century >= 0) {
                    (true, true) => rest + (century - 1) * 100,
                    (true, false) => (century + 1) * 100 - rest + 1,
                    (false, true) => century * 100,
                    (false, false) => century * 100 + 1,
                };
            } else {
                year = if self.is_before != 0 { -self.year } else { self.year };
                year += i64::from(year < 0);
            }
        } else if self.century != 0 {
            has_year = true;
            year = if century >= 0 { (century - 1) * 100 + 1 } else { century * 100 + 1 };
        }
        if self.julian != 0 {
            (year, month, day) = date_of(self.julian - 2_440_588);
            (has_year, has_month, has_day) = (true, true, true);
        }
        if self.week != 0 {
            if self.convention == Some(Convention::IsoWeek) {
                let start = first_week(year) + (self.week - 1) * 7;
                // Weeks begin on Monday, of which the number is 2.
                let days = match self.weekday {
                    0 => 0,
                    1 => 6,
                    weekday => weekday - 2,
                };
                (year, month, day) = date_of(start + days);
                (has_year, has_month, has_day) = (true, true, true);
            } else {
                self.day_of_year = (self.week - 1) * 7 + 1;
            }
        }
        if self.week_of_month != 0 {
            self.day = (self.week_of_month - 1) * 7 + 1;
        }
        if self.day != 0 {
            (day, has_day) = (self.day, true);
        }
        if self.month != 0 {
            (month, has_month) = (self.month, true);
        }
        if self.day_of_year != 0 && (month <= 1 || day <= 1) {
            if year == 0 && self.is_before == 0 {
                return Err(wrong("cannot calculate day of year without year information".into()));
            }
            if self.convention == Some(Convention::IsoWeek) {
                (year, month, day) = date_of(first_week(year) + self.day_of_year - 1);
                (has_year, has_month, has_day) = (true, true, true);
            } else {
                // Days before each month.
                let before = |month: i64| days_of(year, month, 1) - days_of(year, 1, 1);
                let own = (1..=12).find(|month| self.day_of_year <= before(month + 1)).unwrap_or(13);
                if month <= 1 {
                    month = own;
                }
                if day <= 1 {
                    day = self.day_of_year - before(own);
                }
                (has_month, has_day) = (true, true);
            }
        }
        let micros = self.milliseconds * 1000 + self.microseconds;
        if has_month && !(1..=12).contains(&month) || has_day && !(1..=31).contains(&day) {
            return Err(out());
        }
        let next = if month == 12 { days_of(year + 1, 1, 1) } else { days_of(year, month + 1, 1) };
        if has_year && has_month && has_day && day > next - days_of(year, month, 1) {
            return Err(out());
        }
        let fits = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..60).contains(&second);
        if !fits || !(0..1_000_000).contains(&micros) {
            return Err(out());
        }
        let offset = match self.zone_sign {
            0 => None,
            _ if !(0..=15).contains(&self.zone_hour) || !(0..60).contains(&self.zone_minute) => {
                return Err(("22009", format!("time zone displacement out of range: \"{text}\"")));
            }
            sign => Some(sign * (self.zone_hour * 3600 + self.zone_minute * 60)),
        };
        let micros = ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros;
        let days = days_of(year, month, day);
        let Some(digits) = self.fraction else { return Ok(Moment { date: days, days, micros, offset }) };
        // Halves are rounded away from the year 2000.
        let unit = 10i64.pow(6 - digits.min(6) as u32);
        let is_before = days < days_of(2000, 1, 1);
        let rounded = if is_before { (micros + (unit - 1) / 2) / unit } else { (micros + unit / 2) / unit } * unit;
        Ok(Moment { date: days, days: days + rounded / DAY, micros: rounded % DAY, offset })
    }
}
