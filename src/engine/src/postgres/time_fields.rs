//! Texts of times and intervals, taken apart as PostgreSQL does: into numbers, clocks, dates, words and signed numbers.

/// Reasons why a text is no value of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unread {
    /// It has another form (22007).
    Syntax,
    /// A field is out of its range (22008, or 22015 for intervals).
    Field,
    /// A value is out of the range of the type (22008).
    Range,
    /// A distance from UTC is out of range (22009).
    Displacement,
    /// It names a zone that there is not (22023).
    Zone(String),
    /// It has a meaning that is not supported (0A000).
    Unsupported(&'static str),
}

/// Kinds of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Digits, with a point or without.
    Number,
    /// A date, or the name of a zone with a slash in it.
    Date,
    /// Digits with colons.
    Clock,
    /// Letters.
    Word,
    /// A sign and letters.
    Special,
    /// A sign and a number.
    Signed,
}

/// A field of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) kind: Kind,
    /// Its letters are small.
    pub(super) text: String,
    /// As it was written.
    pub(super) written: String,
}

/// Greatest number of fields.
const MOST_FIELDS: usize = 25;

/// Number of letters that tell words apart.
const LETTERS: usize = 10;

/// Words of dates and times. Behind another word, digits or a plus make the name of a zone.
const WORDS: [&str; 70] = [
    "ad",
    "allballs",
    "am",
    "apr",
    "april",
    "at",
    "aug",
    "august",
    "bc",
    "d",
    "dec",
    "december",
    "dow",
    "doy",
    "dst",
    "epoch",
    "feb",
    "february",
    "fri",
    "friday",
    "h",
    "infinity",
    "isodow",
    "isoyear",
    "j",
    "jan",
    "january",
    "jd",
    "jul",
    "julian",
    "july",
    "jun",
    "june",
    "m",
    "mar",
    "march",
    "may",
    "mm",
    "mon",
    "monday",
    "nov",
    "november",
    "now",
    "oct",
    "october",
    "on",
    "pm",
    "s",
    "sat",
    "saturday",
    "sep",
    "sept",
    "september",
    "sun",
    "sunday",
    "t",
    "thu",
    "thur",
    "thurs",
    "thursday",
    "today",
    "tomorrow",
    "tue",
    "tues",
    "tuesday",
    "wed",
    "wednesday",
    "weds",
    "y",
    "yesterday",
];

/// Returns true if a word is one of a table, whose words may be cut after ten letters.
pub(super) fn is_word(text: &str, word: &str) -> bool {
    text == word || text.len() > LETTERS && text.is_char_boundary(LETTERS) && &text[..LETTERS] == word
}

fn is_space(letter: u8) -> bool {
    matches!(letter, b' ' | b'\t'..=b'\r')
}

/// Takes a text apart. Together its fields may have so many letters.
pub(super) fn fields(text: &str, room: usize) -> Result<Vec<Field>, Unread> {
    let bytes = text.as_bytes();
    let at = |place: usize| bytes.get(place).copied().unwrap_or(0);
    let run = |mut place: usize, belongs: &dyn Fn(u8) -> bool| {
        while belongs(at(place)) {
            place += 1;
        }
        place
    };
    let is_digit = |letter: u8| letter.is_ascii_digit();
    let is_letter = |letter: u8| letter.is_ascii_alphabetic();
    let (mut found, mut place, mut used) = (Vec::new(), 0, 0);
    while place < bytes.len() {
        let first = at(place);
        if is_space(first) {
            place += 1;
            continue;
        }
        if found.len() >= MOST_FIELDS {
            return Err(Unread::Syntax);
        }
        let start = place;
        let mut is_signed = false;
        let kind = if is_digit(first) {
            place = run(place, &is_digit);
            match at(place) {
                b':' => {
                    place = run(place, &|letter| is_digit(letter) || letter == b':' || letter == b'.');
                    Kind::Clock
                }
                delimiter @ (b'-' | b'/' | b'.') => {
                    place += 1;
                    if is_digit(at(place)) {
                        place = run(place, &is_digit);
                        if at(place) == delimiter {
                            place = run(place, &|letter| is_digit(letter) || letter == delimiter);
                            Kind::Date
                        } else if delimiter == b'.' {
                            Kind::Number
                        } else {
                            Kind::Date
                        }
                    } else {
                        place = run(place, &|letter| letter.is_ascii_alphanumeric() || letter == delimiter);
                        Kind::Date
                    }
                }
                _ => Kind::Number,
            }
        } else if first == b'.' {
            place = run(place + 1, &is_digit);
            Kind::Number
        } else if is_letter(first) {
            place = run(place, &is_letter);
            let word = text[start..place].to_ascii_lowercase();
            let is_date = match at(place) {
                b'-' | b'/' | b'.' => true,
                next if next == b'+' || is_digit(next) => !WORDS.iter().any(|known| is_word(&word, known)),
                _ => false,
            };
            if is_date {
                let belongs = |letter: u8| letter.is_ascii_alphanumeric() || b"+-/_.:".contains(&letter);
                place = run(place, &belongs);
                Kind::Date
            } else {
                Kind::Word
            }
        } else if first == b'+' || first == b'-' {
            // Blanks behind a sign are no part of the field.
            is_signed = true;
            place = run(place + 1, &is_space);
            let after = place;
            let kind = if is_digit(at(place)) {
                place = run(place, &|letter| is_digit(letter) || b":.-".contains(&letter));
                Kind::Signed
            } else if is_letter(at(place)) {
                place = run(place, &is_letter);
                Kind::Special
            } else {
                return Err(Unread::Syntax);
            };
            let written = format!("{}{}", char::from(first), &text[after..place]);
            used += written.len() + 1;
            found.push(Field { kind, text: written.to_ascii_lowercase(), written });
            kind
        } else if first.is_ascii_punctuation() {
            place += 1;
            continue;
        } else {
            return Err(Unread::Syntax);
        };
        if !is_signed {
            let written = text[start..place].to_owned();
            used += written.len() + 1;
            found.push(Field { kind, text: written.to_ascii_lowercase(), written });
        }
        if used > room {
            return Err(Unread::Syntax);
        }
    }
    Ok(found)
}

/// Reads an integer at the beginning of a text as C does, and returns what follows; without digits it is 0.
pub(super) fn integer(text: &str) -> Result<(i64, &str), Unread> {
    let start = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii() && is_space(letter as u8)).len();
    let sign = usize::from(text[start..].starts_with(['+', '-']));
    let digits = text[start + sign..].bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Ok((0, text));
    }
    let end = start + sign + digits;
    let number = text[start..end].trim_start_matches('+').parse().map_err(|_| Unread::Field)?;
    Ok((number, &text[end..]))
}

/// Reads an integer of 32 bits at the beginning of a text.
pub(super) fn small(text: &str) -> Result<(i32, &str), Unread> {
    let (number, rest) = integer(text)?;
    Ok((i32::try_from(number).map_err(|_| Unread::Field)?, rest))
}

/// Reads a fraction, which begins with its point.
pub(super) fn fraction(text: &str) -> Result<f64, Unread> {
    let digits = text.strip_prefix('.').ok_or(Unread::Syntax)?;
    if digits.is_empty() {
        return Ok(0.0);
    }
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(Unread::Syntax);
    }
    format!("0.{digits}").parse().map_err(|_| Unread::Syntax)
}

/// Reads a fraction of a second as microseconds.
pub(super) fn micros(text: &str) -> Result<i64, Unread> {
    Ok((fraction(text)? * 1e6).round_ties_even() as i64)
}

/// A reading of a clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Clock {
    pub(super) hours: i64,
    pub(super) minutes: i64,
    pub(super) seconds: i64,
    pub(super) micros: i64,
}

/// Reads `hh:mm`, `hh:mm:ss.ffffff` or `mm:ss.ffffff`; `mm:ss` if two numbers are of minutes and seconds.
pub(super) fn clock(text: &str, of_minutes: bool) -> Result<Clock, Unread> {
    let (hours, rest) = integer(text)?;
    let (minutes, rest) = small(rest.strip_prefix(':').ok_or(Unread::Syntax)?)?;
    let mut clock = Clock { hours, minutes: minutes.into(), seconds: 0, micros: 0 };
    let shift = |clock: Clock| {
        let minutes = i32::try_from(clock.hours).map_err(|_| Unread::Field)?;
        Ok(Clock { hours: 0, minutes: minutes.into(), seconds: clock.minutes, micros: clock.micros })
    };
    if rest.is_empty() {
        if of_minutes {
            clock = shift(clock)?;
        }
    } else if rest.starts_with('.') {
        clock.micros = micros(rest)?;
        clock = shift(clock)?;
    } else {
        let (seconds, rest) = small(rest.strip_prefix(':').ok_or(Unread::Syntax)?)?;
        clock.seconds = seconds.into();
        if !rest.is_empty() {
            clock.micros = micros(rest)?;
        }
    }
    let fits = clock.hours >= 0
        && (0..=59).contains(&clock.minutes)
        && (0..=60).contains(&clock.seconds)
        && (0..=1_000_000).contains(&clock.micros);
    if fits { Ok(clock) } else { Err(Unread::Field) }
}
