//! Texts of times of day, as PostgreSQL reads them: `12:30`, `123015`, `1:30 PM`, `T123015`, with a zone that does not matter
//! behind, or a date before.

use super::time_fields::{Clock, Field, Kind, Unread, clock, fields, is_word, micros, small};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Longest text of a time, between blanks, that PostgreSQL reads.
const ROOM: usize = 129;

/// Kind of a word that names a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ZoneName {
    /// The abbreviation of a distance from UTC.
    Abbreviation,
    /// A place, whose distance from UTC depends on the day.
    Place,
    Unknown,
}

// Parts of a time, one bit each: none may come twice.
const HOUR: u16 = 1;
const MINUTE: u16 = 1 << 1;
const SECONDS: u16 = 1 << 2;
const FRACTION: u16 = 1 << 3;
const CLOCK: u16 = HOUR | MINUTE | SECONDS | FRACTION;
const ZONE: u16 = 1 << 4;
const HALF: u16 = 1 << 5;
const DATE: u16 = 1 << 6;
const ERA: u16 = 1 << 7;

/// Meaning of a word before a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Hour,
    Minute,
    Second,
    /// `T`, behind which there is a time.
    Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Morning,
    Afternoon,
}

/// The zone that stands behind a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClockZone {
    /// Seconds east of UTC.
    East(i32),
    /// The name of an abbreviation or place.
    Named(String),
}

/// A time of day with what else its text says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ZonedClock {
    /// Microseconds since midnight, 24:00:00 among them.
    pub(super) micros: i64,
    pub(super) zone: Option<ClockZone>,
    /// Year, month and day.
    pub(super) date: Option<(i32, i32, i32)>,
}

#[derive(Debug, Default)]
struct Reader {
    clock: Clock,
    seen: u16,
    label: Option<Label>,
    half: Option<Half>,
    is_of_place: bool,
    zone: Option<ClockZone>,
    date: Option<(i32, i32, i32)>,
}

/// Reads a time: microseconds since midnight, 24:00:00 among them. `zone` says what names a zone.
pub(super) fn read(text: &str, zone: impl Fn(&str) -> ZoneName) -> Result<i64, Unread> {
    read_zoned(text, zone).map(|read| read.micros)
}

/// Reads a time, with the zone and the date that its text may have.
pub(super) fn read_zoned(text: &str, zone: impl Fn(&str) -> ZoneName) -> Result<ZonedClock, Unread> {
    let fields = fields(text, ROOM)?;
    let mut reader = Reader::default();
    for at in 0..fields.len() {
        let added = reader.field(&fields, at, &zone)?;
        if reader.seen & added != 0 {
            return Err(Unread::Syntax);
        }
        reader.seen |= added;
    }
    let (zone, date) = (reader.zone.take(), reader.date.take());
    Ok(ZonedClock { micros: reader.micros()?, zone, date })
}

impl Reader {
    fn field(&mut self, fields: &[Field], at: usize, zone: &impl Fn(&str) -> ZoneName) -> Result<u16, Unread> {
        let Field { kind, text, written } = &fields[at];
        let next = fields.get(at + 1).map(|field| field.kind);
        match kind {
            Kind::Clock => {
                self.clock = clock(text, false)?;
                i32::try_from(self.clock.hours).map_err(|_| Unread::Field)?;
                Ok(CLOCK)
            }
            Kind::Signed => {
                self.zone = Some(ClockZone::East(displacement(text)?));
                Ok(ZONE)
            }
            Kind::Date => {
                let is_date = fields.last().is_some_and(|last| last.kind == Kind::Date) || next == Some(Kind::Clock);
                if at == 0 && fields.len() >= 2 && is_date {
                    self.date = Some(date(text)?);
                    return Ok(DATE);
                }
                if !text.starts_with(|first: char| first.is_ascii_digit()) {
                    return match zone(written) {
                        ZoneName::Unknown => Err(Unread::Zone(text.clone())),
                        _ if text.starts_with("etc/") => {
                            Err(Unread::Unsupported("a zone of this name behind a time is not supported"))
                        }
                        _ => {
                            self.is_of_place = true;
                            self.zone = Some(ClockZone::Named(written.clone()));
                            Ok(ZONE)
                        }
                    };
                }
                if self.seen & CLOCK == CLOCK {
                    return Err(Unread::Syntax);
                }
                let place = text.find('-').ok_or(Unread::Syntax)?;
                self.zone = Some(ClockZone::East(displacement(&text[place..])?));
                Ok(self.digits(&text[..place])? | ZONE)
            }
            Kind::Number => self.number(fields, at),
            Kind::Word | Kind::Special => self.word(text, written, next, zone),
        }
    }

    fn number(&mut self, fields: &[Field], at: usize) -> Result<u16, Unread> {
        let text = &fields[at].text;
        let Some(label) = self.label.take() else {
            let whole = text.split('.').next().unwrap_or(text);
            if whole.len() == text.len() {
                return self.digits(text);
            }
            let is_date = fields.last().is_some_and(|last| last.kind == Kind::Date);
            if at == 0 && fields.len() >= 2 && is_date {
                self.date = Some(date(text)?);
                return Ok(DATE);
            }
            return if whole.len() > 2 { self.digits(text) } else { Err(Unread::Syntax) };
        };
        if label == Label::Time {
            return self.digits(text);
        }
        let (number, rest) = small(text)?;
        let is_fraction = rest.starts_with('.') && label == Label::Second;
        if !rest.is_empty() && !is_fraction {
            return Err(Unread::Syntax);
        }
        match label {
            Label::Hour => {
                self.clock.hours = number.into();
                Ok(HOUR)
            }
            Label::Minute => {
                self.clock.minutes = number.into();
                Ok(MINUTE)
            }
            _ => {
                self.clock.seconds = number.into();
                if rest.is_empty() {
                    return Ok(SECONDS);
                }
                self.clock.micros = micros(rest)?;
                Ok(SECONDS | FRACTION)
            }
        }
    }

    /// Reads `hhmm` or `hhmmss`, with a fraction or without.
    fn digits(&mut self, text: &str) -> Result<u16, Unread> {
        small(text)?;
        let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
        if self.seen & CLOCK == CLOCK || !whole.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(Unread::Syntax);
        }
        let pair = |from: usize| small(&whole[from..from + 2]).map(|(number, _)| i64::from(number));
        let micros = if fraction.is_empty() { 0 } else { micros(fraction)? };
        self.clock = match whole.len() {
            6 => Clock { hours: pair(0)?, minutes: pair(2)?, seconds: pair(4)?, micros },
            4 => Clock { hours: pair(0)?, minutes: pair(2)?, seconds: 0, micros },
            _ => return Err(Unread::Syntax),
        };
        Ok(CLOCK)
    }

    fn word(
        &mut self,
        text: &str,
        written: &str,
        next: Option<Kind>,
        zone: &impl Fn(&str) -> ZoneName,
    ) -> Result<u16, Unread> {
        match text {
            "at" | "on" => return Ok(0),
            "allballs" => {
                self.clock = Clock::default();
                self.zone = Some(ClockZone::East(0));
                return Ok(CLOCK | ZONE);
            }
            "now" => return Err(Unread::Unsupported("\"now\" is not supported; use current_time or localtime")),
            "am" | "pm" => {
                self.half = Some(if text == "am" { Half::Morning } else { Half::Afternoon });
                return Ok(HALF);
            }
            "ad" | "bc" => return Ok(ERA),
            "h" | "mm" | "s" => {
                self.label = Some(match text {
                    "h" => Label::Hour,
                    "mm" => Label::Minute,
                    _ => Label::Second,
                });
                return Ok(0);
            }
            "t" => {
                if !matches!(next, Some(Kind::Number | Kind::Clock | Kind::Date)) {
                    return Err(Unread::Syntax);
                }
                self.label = Some(Label::Time);
                return Ok(0);
            }
            "d" | "j" | "jd" | "julian" | "m" | "y" => {
                return Err(Unread::Unsupported("letters before the numbers of a date are not supported"));
            }
            _ if is_word(text, "dst") => {
                return Err(Unread::Unsupported("\"dst\" behind a zone is not supported"));
            }
            _ => {}
        }
        match zone(written) {
            ZoneName::Abbreviation => {
                self.zone = Some(ClockZone::Named(written.into()));
                Ok(ZONE)
            }
            ZoneName::Place => {
                self.is_of_place = true;
                self.zone = Some(ClockZone::Named(written.into()));
                Ok(ZONE)
            }
            ZoneName::Unknown => Err(Unread::Syntax),
        }
    }

    fn micros(self) -> Result<i64, Unread> {
        let Clock { mut hours, minutes, seconds, micros } = self.clock;
        if self.half.is_some() && hours > 12 {
            return Err(Unread::Field);
        }
        match self.half {
            Some(Half::Morning) if hours == 12 => hours = 0,
            Some(Half::Afternoon) if hours != 12 => hours += 12,
            _ => {}
        }
        let total = ((hours * 60 + minutes) * 60 + seconds) * SECOND + micros;
        let fits = (0..=24).contains(&hours) && (0..60).contains(&minutes) && (0..=60).contains(&seconds);
        if !fits || !(0..=DAY).contains(&total) {
            return Err(Unread::Field);
        }
        // What the clocks of a place show depends on the day.
        let is_whole = self.seen & CLOCK == CLOCK && (!self.is_of_place || self.seen & DATE == DATE);
        if is_whole { Ok(total) } else { Err(Unread::Syntax) }
    }
}

/// Reads a distance from UTC, `+5`, `-0530`, `+05:30` or `+05:30:15`, as seconds to the east.
fn displacement(text: &str) -> Result<i32, Unread> {
    let digits = text.strip_prefix(['+', '-']).ok_or(Unread::Syntax)?;
    let number = |text| small(text).map_err(|_| Unread::Displacement);
    let (mut hours, mut rest) = number(digits)?;
    let (mut minutes, mut seconds) = (0, 0);
    if let Some(after) = rest.strip_prefix(':') {
        (minutes, rest) = number(after)?;
        if let Some(after) = rest.strip_prefix(':') {
            (seconds, rest) = number(after)?;
        }
    } else if rest.is_empty() && text.len() > 3 {
        (hours, minutes) = (hours / 100, hours % 100);
    }
    if !(0..=15).contains(&hours) || !(0..60).contains(&minutes) || !(0..60).contains(&seconds) {
        return Err(Unread::Displacement);
    }
    let away = (hours * 60 + minutes) * 60 + seconds;
    let east = if text.starts_with('-') { -away } else { away };
    if rest.is_empty() { Ok(east) } else { Err(Unread::Syntax) }
}

/// Reads a date before a time, `2024-02-29`.
fn date(text: &str) -> Result<(i32, i32, i32), Unread> {
    const UNSUPPORTED: Unread = Unread::Unsupported("a date before a time is supported as yyyy-mm-dd only");
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts[..] else { return Err(UNSUPPORTED) };
    let is_number = |part: &str| part.len() <= 4 && !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
    if year.len() != 4 || !parts.iter().all(|part| is_number(part)) {
        return Err(UNSUPPORTED);
    }
    let (year, month, day) = (small(year)?.0, small(month)?.0, small(day)?.0);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let fits = year > 0 && (1..=12).contains(&month) && (1..=days).contains(&day);
    if fits { Ok((year, month, day)) } else { Err(Unread::Field) }
}
