//! Time zones in the text of times.

use std::str::FromStr;

use chrono::{Duration, LocalResult, NaiveDateTime, Offset, TimeZone};
use datafusion::arrow::array::timezone::Tz;

use crate::wire::error_response::SqlError;

/// Time zone of a time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Zone {
    /// Seconds east of UTC.
    Fixed(i64),
    Named(Tz),
}

impl Zone {
    /// Reads `+05:30`, `-8`, `UTC`, `PST` or `Europe/Berlin`.
    pub(super) fn read(text: &str) -> Result<Self, SqlError> {
        let unknown = || SqlError::error("22023", format!("time zone \"{text}\" not recognized"));
        if let Some(digits) = text.strip_prefix(['+', '-']) {
            let seconds = seconds(digits).ok_or_else(unknown)?;
            // This is the greatest offset in Postgres.
            if seconds >= 16 * 3600 {
                return Err(SqlError::error("22009", format!("time zone displacement out of range: \"{text}\"")));
            }
            return Ok(Self::Fixed(if text.starts_with('-') { -seconds } else { seconds }));
        }
        if let Some(hours) = neuroql::zone_hours(text) {
            return Ok(Self::Fixed(i64::from(hours) * 3600));
        }
        Tz::from_str(text).map(Self::Named).map_err(|_| unknown())
    }

    /// Returns the time in UTC. A time that clocks skip is as before they did, one they show twice is the second.
    pub(super) fn utc(self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        match self {
            Self::Fixed(seconds) => local.checked_sub_signed(Duration::seconds(seconds)),
            Self::Named(zone) => {
                let offset = match zone.offset_from_local_datetime(&local) {
                    LocalResult::Single(offset) | LocalResult::Ambiguous(_, offset) => offset.fix(),
                    LocalResult::None => {
                        let before = local.checked_sub_signed(Duration::hours(3))?;
                        zone.offset_from_local_datetime(&before).latest()?.fix()
                    }
                };
                local.checked_sub_signed(Duration::seconds(offset.local_minus_utc().into()))
            }
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
