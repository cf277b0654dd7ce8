//! Values of the setting `TimeZone`: names of places, and distances from UTC as POSIX writes them, which count to the west.
//!
//! The engine has zones that count to the east: of `-02:00` its zone is `+02:00`.

use std::str::FromStr;

use datafusion::arrow::array::timezone::Tz;
use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;

use crate::decode;
use crate::wire::error_response::SqlError;

const HOUR: i64 = 3600;

/// Returns a value as Postgres shows it; `None` if it is no time zone.
///
/// # Errors
/// 0A000 for a zone of Postgres that is not supported.
pub(super) fn spelt(value: &str) -> Result<Option<String>, SqlError> {
    let shown = if value.get(..8).is_some_and(|word| word.eq_ignore_ascii_case("interval")) {
        of_interval(&value[8..]).map(of_distance)
    } else if let Ok(hours) = value.trim_start().parse::<f64>() {
        // A number counts to the east.
        hours.is_finite().then(|| of_distance((hours * HOUR as f64) as i64))
    } else {
        named(value).or_else(|| Some(value.to_uppercase()))
    };
    let Some(shown) = shown else { return Ok(None) };
    if is_name(&shown) {
        return Ok(Some(shown));
    }
    let Some(Posix { west, rest }) = Posix::read(&shown) else { return Ok(None) };
    let refused = |what: &str| Err(SqlError::not_supported(format!("the time zone \"{value}\" {what}")));
    if !rest.is_empty() {
        return refused("has rules for daylight saving, which are supported of named zones only");
    }
    if west % 60 != 0 || west.abs() >= 24 * HOUR {
        return refused("is not supported: its distance from UTC has seconds, or is a day or more");
    }
    Ok(Some(shown))
}

/// Returns the engine's zone for a value as Postgres shows it.
pub(super) fn zone(shown: &str) -> String {
    match Posix::read(shown).filter(|_| !is_name(shown)) {
        Some(Posix { west, .. }) => {
            let sign = if west > 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", west.abs() / HOUR, west.abs() % HOUR / 60)
        }
        None => shown.to_owned(),
    }
}

/// Returns the abbreviation of a zone as Postgres shows it; `None` for a place, whose abbreviation depends on the day.
pub(super) fn abbreviation(shown: &str) -> Option<String> {
    if is_name(shown) {
        return None;
    }
    let quoted = shown.strip_prefix('<').and_then(|quoted| quoted.split_once('>'));
    let end = || shown.find(|letter: char| letter.is_ascii_digit() || matches!(letter, ',' | '-' | '+'));
    Some(quoted.map_or_else(|| &shown[..end().unwrap_or(shown.len())], |(inner, _)| inner).to_owned())
}

/// Returns true for the name of a place, or of one of the zones that have names.
fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && Tz::from_str(text).is_ok()
}

/// Finds a name in whatever case it is written.
fn named(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split('/').collect();
    let title = |part: &str| {
        let words = part.split_inclusive(['_', '-']).map(|word| {
            let (first, rest) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
            first.to_uppercase() + &rest.to_lowercase()
        });
        words.collect::<String>()
    };
    let last = parts.len() - 1;
    let each = |is_upper: fn(usize, usize) -> bool| {
        let parts = parts.iter().enumerate();
        let parts = parts.map(|(at, part)| if is_upper(at, last) { part.to_uppercase() } else { title(part) });
        parts.collect::<Vec<_>>().join("/")
    };
    // As it is written, `UTC`, `Europe/Berlin`, `Etc/GMT+5`, `US/Pacific`.
    let forms =
        [text.to_owned(), text.to_uppercase(), each(|_, _| false), each(|at, last| at == last), each(|at, _| at == 0)];
    forms.into_iter().find(|form| is_name(form))
}

/// Returns the seconds of an interval in quotes, which has neither months nor days.
fn of_interval(text: &str) -> Option<i64> {
    let text = text.trim().strip_prefix('\'')?.strip_suffix('\'')?;
    match decode::from_text(&Type::INTERVAL, text, "UTC").ok()? {
        ScalarValue::IntervalMonthDayNano(Some(found)) if found.months == 0 && found.days == 0 => {
            Some(found.nanoseconds / 1_000_000_000)
        }
        _ => None,
    }
}

/// Writes a zone so many seconds east of UTC: `<+02>-02`.
fn of_distance(east: i64) -> String {
    let (sign, opposite) = if east < 0 { ('-', '+') } else { ('+', '-') };
    let away = east.abs();
    let (minutes, seconds) = (away % HOUR / 60, away % 60);
    let text = match (minutes, seconds) {
        (0, 0) => format!("{:02}", away / HOUR),
        (minutes, 0) => format!("{:02}:{minutes:02}", away / HOUR),
        (minutes, seconds) => format!("{:02}:{minutes:02}:{seconds:02}", away / HOUR),
    };
    format!("<{sign}{text}>{opposite}{text}")
}

/// A zone as POSIX writes it: an abbreviation, which may be empty, and the distance.
struct Posix<'a> {
    /// Seconds west of UTC.
    west: i64,
    /// Rest of the text: the zone in summer.
    rest: &'a str,
}

impl<'a> Posix<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let rest = match text.strip_prefix('<') {
            Some(quoted) => quoted.split_once('>')?.1,
            None => {
                let end = text.find(|letter: char| letter.is_ascii_digit() || matches!(letter, ',' | '-' | '+'));
                &text[end?..]
            }
        };
        let (is_east, digits) = match rest.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, rest.strip_prefix('+').unwrap_or(rest)),
        };
        let (mut seconds, mut rest) = number(digits, 167)?;
        seconds *= HOUR;
        for unit in [60, 1] {
            let Some(more) = rest.strip_prefix(':') else { break };
            let (part, after) = number(more, 59)?;
            seconds += part * unit;
            rest = after;
        }
        Some(Self { west: if is_east { -seconds } else { seconds }, rest })
    }
}

/// Takes a number up to a greatest one from the beginning of a text.
fn number(text: &str, most: i64) -> Option<(i64, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..end].parse().ok().filter(|number| *number <= most)?;
    Some((number, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with what `SHOW timezone` of PostgreSQL 15 answers, and the distance from UTC.
    #[test]
    fn zones_are_those_of_postgres() {
        for (value, shown, engine) in [
            ("-02:00", "-02:00", "+02:00"),
            ("+02:00", "+02:00", "-02:00"),
            ("2:00", "2:00", "-02:00"),
            ("01:30", "01:30", "-01:30"),
            ("-2", "<-02>+02", "-02:00"),
            (" 2", "<+02>-02", "+02:00"),
            ("-2.5", "<-02:30>+02:30", "-02:30"),
            ("5.5", "<+05:30>-05:30", "+05:30"),
            ("-0.5", "<-00:30>+00:30", "-00:30"),
            ("0", "<+00>-00", "+00:00"),
            ("1e1", "<+10>-10", "+10:00"),
            ("interval '-02:00'", "<-02>+02", "-02:00"),
            ("INTERVAL '3 hours'", "<+03>-03", "+03:00"),
            ("foobar0", "FOOBAR0", "+00:00"),
            ("foobar+3:30", "FOOBAR+3:30", "-03:30"),
            ("<abc>5", "<ABC>5", "-05:00"),
            ("<+02>-02", "<+02>-02", "+02:00"),
            ("utc-3:15", "UTC-3:15", "+03:15"),
            ("europe/berlin", "Europe/Berlin", "Europe/Berlin"),
            ("AMERICA/NEW_YORK", "America/New_York", "America/New_York"),
            ("us/pacific", "US/Pacific", "US/Pacific"),
            ("etc/gmt+5", "Etc/GMT+5", "Etc/GMT+5"),
            ("utc", "UTC", "UTC"),
            ("gmt", "GMT", "GMT"),
            ("est", "EST", "EST"),
            ("EST5EDT", "EST5EDT", "EST5EDT"),
        ] {
            assert_eq!(spelt(value).unwrap().as_deref(), Some(shown), "{value}");
            assert_eq!(zone(shown), engine, "{value}");
        }
        for value in [
            "",
            "a",
            "z",
            "PST",
            "+",
            "+0200",
            "-0530",
            "0530",
            "-168:00",
            "200",
            "12:60",
            "nan",
            "inf",
            "Middle/Earth",
            "/",
            "interval '1 day'",
            "interval '1 month'",
            "interval",
            "<a",
            "é",
            "İ5x/",
        ] {
            assert_eq!(spelt(value).ok().flatten(), None, "{value}");
        }
        for value in ["FOO5BAR", "-2x", "24", "25:00", "0.01", "interval '-02:00:30'"] {
            assert_eq!(spelt(value).unwrap_err().sqlstate, "0A000", "{value}");
        }
    }
}
