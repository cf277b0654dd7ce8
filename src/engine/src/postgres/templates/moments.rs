//! Templates of dates, times and intervals, as PostgreSQL reads them, and what `to_char` writes.

use super::{Wrong, quoted};

/// Field that a pattern of a template stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// `AD` or `BC`, with points or without.
    Era,
    /// `AM` or `PM`, with points or without.
    Half,
    Century,
    DayName,
    DayShort,
    DayOfYear,
    Day,
    Weekday,
    /// So many digits of a fraction of a second.
    Fraction(usize),
    Exact,
    Hour24,
    Hour12,
    IsoDayOfYear,
    IsoWeekday,
    IsoWeek,
    /// So many digits of the year of ISO weeks.
    IsoYear(usize),
    Julian,
    Minute,
    Month,
    MonthName,
    MonthShort,
    Millisecond,
    Microsecond,
    Offset,
    Quarter,
    Roman,
    SecondOfDay,
    Second,
    ZoneHour,
    ZoneMinute,
    Zone,
    Week,
    WeekOfMonth,
    YearWithComma,
    /// So many digits of the year.
    Year(usize),
}

/// How the letters of a pattern are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Letters {
    Large,
    Small,
    First,
}

/// Patterns in large letters; longer ones before those that they begin with.
const PATTERNS: [(&str, Key); 53] = [
    ("A.D.", Key::Era),
    ("A.M.", Key::Half),
    ("AD", Key::Era),
    ("AM", Key::Half),
    ("B.C.", Key::Era),
    ("BC", Key::Era),
    ("CC", Key::Century),
    ("DAY", Key::DayName),
    ("DDD", Key::DayOfYear),
    ("DD", Key::Day),
    ("DY", Key::DayShort),
    ("D", Key::Weekday),
    ("FF1", Key::Fraction(1)),
    ("FF2", Key::Fraction(2)),
    ("FF3", Key::Fraction(3)),
    ("FF4", Key::Fraction(4)),
    ("FF5", Key::Fraction(5)),
    ("FF6", Key::Fraction(6)),
    ("FX", Key::Exact),
    ("HH24", Key::Hour24),
    ("HH12", Key::Hour12),
    ("HH", Key::Hour12),
    ("IDDD", Key::IsoDayOfYear),
    ("ID", Key::IsoWeekday),
    ("IW", Key::IsoWeek),
    ("IYYY", Key::IsoYear(4)),
    ("IYY", Key::IsoYear(3)),
    ("IY", Key::IsoYear(2)),
    ("I", Key::IsoYear(1)),
    ("J", Key::Julian),
    ("MI", Key::Minute),
    ("MM", Key::Month),
    ("MONTH", Key::MonthName),
    ("MON", Key::MonthShort),
    ("MS", Key::Millisecond),
    ("OF", Key::Offset),
    ("P.M.", Key::Half),
    ("PM", Key::Half),
    ("Q", Key::Quarter),
    ("RM", Key::Roman),
    ("SSSSS", Key::SecondOfDay),
    ("SSSS", Key::SecondOfDay),
    ("SS", Key::Second),
    ("TZH", Key::ZoneHour),
    ("TZM", Key::ZoneMinute),
    ("TZ", Key::Zone),
    ("US", Key::Microsecond),
    ("WW", Key::Week),
    ("W", Key::WeekOfMonth),
    ("Y,YYY", Key::YearWithComma),
    ("YYYY", Key::Year(4)),
    ("YYY", Key::Year(3)),
    ("YY", Key::Year(2)),
];

/// Patterns of which only the first letter is large.
const CAPITALIZED: [(&str, Key); 4] =
    [("Day", Key::DayName), ("Dy", Key::DayShort), ("Month", Key::MonthName), ("Mon", Key::MonthShort)];

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Pattern {
        key: Key,
        letters: Letters,
        /// True if points stand between the letters, as in `a.m.`.
        has_points: bool,
        /// True after `FM`: without blanks and zeros that fill.
        is_filled: bool,
        /// True after `TM`.
        is_translated: bool,
        /// The end of an ordinal number behind.
        ordinal: Option<Letters>,
        /// As it was written.
        written: String,
    },
    /// A letter that stands for itself.
    Letter(char),
    /// A mark between patterns.
    Separator(char),
    Space(char),
}

fn pattern(rest: &str) -> Option<(&'static str, Key, Letters)> {
    if let Some((name, key)) = CAPITALIZED.into_iter().find(|(name, _)| rest.starts_with(name)) {
        return Some((name, key, Letters::First));
    }
    let is_small = rest.starts_with(|first: char| first.is_ascii_lowercase());
    let single = [("Y", Key::Year(1))];
    let matches = |name: &str| {
        let head = rest.as_bytes().get(..name.len());
        head.is_some_and(|head| match is_small {
            true => name.to_ascii_lowercase().as_bytes() == head,
            false => name.as_bytes() == head,
        })
    };
    let (name, key) = PATTERNS.into_iter().chain(single).find(|(name, _)| matches(name))?;
    Some((name, key, if is_small { Letters::Small } else { Letters::Large }))
}

/// Reads a template.
pub(super) fn parsed(template: &str) -> Vec<Node> {
    let (mut nodes, mut rest) = (Vec::new(), template);
    while !rest.is_empty() {
        let (mut is_filled, mut is_translated) = (false, false);
        if let Some(after) = rest.strip_prefix("FM").or_else(|| rest.strip_prefix("fm")) {
            (is_filled, rest) = (true, after);
        } else if let Some(after) = rest.strip_prefix("TM").or_else(|| rest.strip_prefix("tm")) {
            (is_translated, rest) = (true, after);
        }
        if let Some((name, key, letters)) = pattern(rest) {
            let written = rest[..name.len()].to_owned();
            rest = &rest[name.len()..];
            let ordinal = [("TH", Some(Letters::Large)), ("th", Some(Letters::Small)), ("SP", None)];
            let mut end = None;
            if let Some((_, found)) = ordinal.into_iter().find(|(end, _)| rest.starts_with(end)) {
                (end, rest) = (found, &rest[2..]);
            }
            let has_points = name.contains('.');
            nodes.push(Node::Pattern { key, letters, has_points, is_filled, is_translated, ordinal: end, written });
            continue;
        }
        let Some(first) = rest.chars().next() else { break };
        if first == '"' {
            let (letters, behind) = quoted(&rest[1..]);
            nodes.extend(letters.into_iter().map(Node::Letter));
            rest = behind;
            continue;
        }
        // A backslash means something before a quotation mark only.
        let letter = if rest.starts_with("\\\"") { '"' } else { first };
        rest = &rest[if rest.starts_with("\\\"") { 2 } else { first.len_utf8() }..];
        nodes.push(match letter {
            letter if letter.is_ascii_punctuation() => Node::Separator(letter),
            ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' => Node::Space(letter),
            letter => Node::Letter(letter),
        });
    }
    nodes
}

/// A moment or an interval, by its fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// The astronomical year: that before 1 is 0.
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
    pub(super) micros: i64,
    /// Days since 1970; of a moment.
    pub(super) days: i64,
    pub(super) is_interval: bool,
    /// Seconds by which its zone is ahead of UTC, if it has one or may have.
    pub(super) offset: Option<i64>,
    /// Abbreviation of its zone, if that is known.
    pub(super) zone: Option<String>,
}

/// Returns the days since 1970 of a date.
pub(super) fn days_of(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March, so that the day that may be left out is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// Returns year, month and day of days since 1970.
pub(super) fn date_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

impl Fields {
    /// Returns the fields of a moment: days since 1970, and microseconds of the day.
    pub(super) fn of_moment(days: i64, micros: i64) -> Self {
        let (year, month, day) = date_of(days);
        let seconds = micros / 1_000_000;
        Self {
            year,
            month,
            day,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            micros: micros % 1_000_000,
            days,
            ..Self::default()
        }
    }

    /// Returns the fields of an interval.
    pub(super) fn of_interval(months: i64, days: i64, micros: i64) -> Self {
        let seconds = micros / 1_000_000;
        Self {
            year: months / 12,
            month: months % 12,
            day: days,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            micros: micros % 1_000_000,
            is_interval: true,
            ..Self::default()
        }
    }

    /// Returns the day of the week, Sunday the first with 0.
    fn weekday(&self) -> i64 {
        (self.days + 4).rem_euclid(7)
    }

    fn day_of_year(&self) -> i64 {
        match self.is_interval {
            true => (self.year * 12 + self.month) * 30 + self.day,
            false => self.days - days_of(self.year, 1, 1) + 1,
        }
    }

    /// Returns the first day of the week of ISO weeks in which 4 January of a year is.
    fn first_week(year: i64) -> i64 {
        let day = days_of(year, 1, 4);
        day - (day + 3).rem_euclid(7)
    }

    fn iso_year(&self) -> i64 {
        match self.days {
            days if days >= Self::first_week(self.year + 1) => self.year + 1,
            days if days < Self::first_week(self.year) => self.year - 1,
            _ => self.year,
        }
    }

    /// Returns a year as it is written: those before 1 are counted backwards.
    fn shown(&self, year: i64) -> i64 {
        if !self.is_interval && year <= 0 { 1 - year } else { year }
    }
}

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

pub(super) const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

pub(super) const ROMAN: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

fn in_letters(text: &str, letters: Letters) -> String {
    match letters {
        Letters::Large => text.to_ascii_uppercase(),
        Letters::Small => text.to_ascii_lowercase(),
        Letters::First => text.to_owned(),
    }
}

/// Returns the end of an ordinal number.
pub(super) fn ordinal(number: &str, letters: Letters) -> String {
    let digits = number.as_bytes();
    let is_teen = digits.len() > 1 && digits[digits.len() - 2] == b'1';
    let end = match digits.last() {
        Some(b'1') if !is_teen => "st",
        Some(b'2') if !is_teen => "nd",
        Some(b'3') if !is_teen => "rd",
        _ => "th",
    };
    in_letters(end, letters)
}

/// Writes a moment or interval.
///
/// # Errors
/// 22007 if a pattern means nothing for an interval, 0A000 if it is not supported.
pub(super) fn written(nodes: &[Node], at: &Fields) -> Result<String, Wrong> {
    let mut text = String::new();
    for node in nodes {
        match node {
            Node::Letter(letter) | Node::Separator(letter) | Node::Space(letter) => text.push(*letter),
            Node::Pattern { key, letters, has_points, is_filled, is_translated, ordinal: end, written } => {
                let of_interval = matches!(
                    key,
                    Key::Era
                        | Key::MonthName
                        | Key::MonthShort
                        | Key::DayName
                        | Key::DayShort
                        | Key::Weekday
                        | Key::IsoWeekday
                        | Key::Offset
                        | Key::Zone
                        | Key::ZoneHour
                        | Key::ZoneMinute
                );
                if at.is_interval && of_interval {
                    return Err(("22007", "invalid format specification for an interval value".into()));
                }
                let name = |name: &str, width: usize| {
                    let name = in_letters(name, *letters);
                    if *is_filled || *is_translated { name } else { format!("{name:width$}") }
                };
                let pointed = |short: &str, long: &str| in_letters(if *has_points { long } else { short }, *letters);
                match key {
                    Key::Era if at.year <= 0 => text += &pointed("BC", "B.C."),
                    Key::Era => text += &pointed("AD", "A.D."),
                    Key::Half if at.hour % 24 >= 12 => text += &pointed("PM", "P.M."),
                    Key::Half => text += &pointed("AM", "A.M."),
                    Key::MonthName => text += &name(MONTHS[(at.month - 1).clamp(0, 11) as usize], 9),
                    Key::MonthShort => {
                        text += &in_letters(&MONTHS[(at.month - 1).clamp(0, 11) as usize][..3], *letters)
                    }
                    Key::DayName => text += &name(DAYS[at.weekday() as usize], 9),
                    Key::DayShort => text += &in_letters(&DAYS[at.weekday() as usize][..3], *letters),
                    Key::Roman => text += &roman(at, *letters, *is_filled),
                    Key::Zone => match (&at.zone, at.offset) {
                        (Some(zone), _) => text += &in_letters(zone, *letters),
                        (None, None) => {}
                        (None, Some(_)) => return Err(unsupported(written)),
                    },
                    Key::ZoneHour | Key::ZoneMinute | Key::Offset => {
                        let offset = at.offset.unwrap_or(0);
                        let (sign, distance) = (if offset < 0 { '-' } else { '+' }, offset.abs());
                        let (hours, minutes) = (distance / 3600, distance % 3600 / 60);
                        text += &match key {
                            Key::ZoneHour => format!("{sign}{hours:02}"),
                            Key::ZoneMinute => format!("{minutes:02}"),
                            _ if distance % 3600 == 0 && *is_filled => format!("{sign}{hours}"),
                            _ if distance % 3600 == 0 => format!("{sign}{hours:02}"),
                            _ if *is_filled => format!("{sign}{hours}:{minutes:02}"),
                            _ => format!("{sign}{hours:02}:{minutes:02}"),
                        };
                    }
                    Key::Exact => {}
                    _ => {
                        let number = number(*key, at, *is_filled).ok_or_else(|| unsupported(written))?;
                        text += &number;
                        if let Some(letters) = end
                            && !number.is_empty()
                        {
                            text += &ordinal(&number, *letters);
                        }
                    }
                }
            }
        }
    }
    Ok(text)
}

fn unsupported(written: &str) -> Wrong {
    ("0A000", format!("the pattern \"{written}\" of to_char is not supported here"))
}

fn roman(at: &Fields, letters: Letters, is_filled: bool) -> String {
    if at.month == 0 && at.year == 0 {
        return String::new();
    }
    // Whole years of an interval have no month; those that go backwards are counted from the end of the year.
    let month = match at.month {
        0 if at.year >= 0 => 12,
        0 => 1,
        ..0 => at.month + 13,
        month => month,
    };
    let name = in_letters(ROMAN[(month - 1).clamp(0, 11) as usize], letters);
    if is_filled { name } else { format!("{name:4}") }
}

/// Returns a field that is a number; `None` if it is not supported.
fn number(key: Key, at: &Fields, is_filled: bool) -> Option<String> {
    if at.is_interval && matches!(key, Key::IsoDayOfYear | Key::IsoWeek | Key::IsoYear(_) | Key::Julian) {
        return None;
    }
    // A minus takes a place of its own.
    let padded = |number: i64, width: usize| {
        let width = if is_filled { 0 } else { width + usize::from(number < 0) };
        format!("{number:0width$}")
    };
    let narrow = |number: i64, width: usize| {
        let width = if is_filled { 0 } else { width };
        format!("{number:0width$}")
    };
    let last = |year: i64, digits: usize| match digits {
        4 => padded(year, 4),
        1 => (year % 10).to_string(),
        digits => {
            let width = if is_filled { 0 } else { digits + usize::from(year < 0) };
            format!("{:0width$}", year % 10i64.pow(digits as u32))
        }
    };
    Some(match key {
        Key::Century => {
            let century = match at.year {
                year if at.is_interval => year / 100,
                year if year > 0 => (year - 1) / 100 + 1,
                year => year / 100 - 1,
            };
            if century.abs() <= 99 { padded(century, 2) } else { century.to_string() }
        }
        Key::DayOfYear => narrow(at.day_of_year(), 3),
        Key::IsoDayOfYear => padded(at.days - Fields::first_week(at.iso_year()) + 1, 3),
        Key::Day => narrow(at.day, 2),
        Key::Weekday => (at.weekday() + 1).to_string(),
        Key::IsoWeekday => if at.weekday() == 0 { 7 } else { at.weekday() }.to_string(),
        Key::Fraction(digits) => {
            let scaled = at.micros / 10i64.pow(6 - digits as u32);
            format!("{scaled:0digits$}")
        }
        Key::Millisecond => format!("{:03}", at.micros / 1000),
        Key::Microsecond => format!("{:06}", at.micros),
        Key::Hour24 => padded(at.hour, 2),
        Key::Hour12 => {
            let hour = if at.hour % 12 == 0 { 12 } else { at.hour % 12 };
            let width = if is_filled { 0 } else { 2 + usize::from(at.hour < 0) };
            format!("{hour:0width$}")
        }
        Key::Minute => padded(at.minute, 2),
        Key::Second => padded(at.second, 2),
        Key::SecondOfDay => (at.hour * 3600 + at.minute * 60 + at.second).to_string(),
        Key::Month => padded(at.month, 2),
        Key::Quarter if at.month == 0 => String::new(),
        Key::Quarter => ((at.month - 1) / 3 + 1).to_string(),
        Key::IsoWeek => padded((at.days - Fields::first_week(at.iso_year())) / 7 + 1, 2),
        Key::Week => narrow((at.day_of_year() - 1) / 7 + 1, 2),
        Key::WeekOfMonth => ((at.day - 1) / 7 + 1).to_string(),
        Key::Julian => (at.days + 2_440_588).to_string(),
        Key::YearWithComma => {
            let year = at.shown(at.year);
            format!("{},{:03}", year / 1000, year % 1000)
        }
        Key::Year(digits) => last(at.shown(at.year), digits),
        Key::IsoYear(digits) => last(at.shown(at.iso_year()), digits),
        _ => return None,
    })
}
