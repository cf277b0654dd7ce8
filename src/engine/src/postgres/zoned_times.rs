//! Values of `time with time zone`: texts such as `12:30:15.5+02`, as Postgres writes them.

use std::fmt::Write;
use std::str::FromStr;

use chrono::{Duration, LocalResult, NaiveDate, NaiveDateTime, Offset, TimeZone, Utc};
use datafusion::arrow::array::timezone::Tz;
use datafusion::error::Result;

use super::clock_texts::{ClockZone, ZonedClock, read_zoned};
use super::moments::zone_hours;
use super::refusal::refusal;
use super::text_values::{error, zone_name};
use super::time_fields::Unread;

const KIND: &str = "time with time zone";
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// A time of day, and how far its clock is from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZonedTime {
    /// Microseconds since midnight, 24:00:00 among them.
    pub micros: i64,
    /// Seconds east of UTC.
    pub east: i32,
}

impl ZonedTime {
    /// Reads a time. One without a zone is of `zone`, as its clocks are today; without that either it is refused.
    ///
    /// # Errors
    /// 22007, 22008, 22009 or 22023 as in Postgres, and 0A000 for forms that are not supported.
    pub fn read(text: &str, zone: Option<&str>) -> Result<Self> {
        let wrong = |unread| error(KIND, text, unread);
        let ZonedClock { micros, zone: written, date } = read_zoned(text, zone_name).map_err(wrong)?;
        let named = match (written, zone) {
            (Some(ClockZone::East(east)), _) => return Ok(Self { micros, east }),
            (Some(ClockZone::Named(name)), _) => name,
            (None, Some(zone)) => zone.to_owned(),
            (None, None) => {
                return Err(refusal("0A000", format!("{KIND} \"{text}\" without its zone is not supported here")));
            }
        };
        if let Some(hours) = zone_hours(&named) {
            return Ok(Self { micros, east: hours * 3600 });
        }
        let zone = Tz::from_str(&named).map_err(|_| wrong(Unread::Zone(named)))?;
        let date = match date {
            Some((year, month, day)) => u32::try_from(month)
                .ok()
                .zip(u32::try_from(day).ok())
                .and_then(|(month, day)| NaiveDate::from_ymd_opt(year, month, day))
                .ok_or_else(|| wrong(Unread::Field))?,
            None => zone.from_utc_datetime(&Utc::now().naive_utc()).date_naive(),
        };
        let local = date.and_time(chrono::NaiveTime::MIN).checked_add_signed(Duration::microseconds(micros));
        let east = local.and_then(|local| east_of(zone, local)).ok_or_else(|| wrong(Unread::Field))?;
        Ok(Self { micros, east })
    }

    /// Returns the time that is so many microseconds after midnight; `None` if there is no such time.
    pub fn new(micros: i64, east: i32) -> Option<Self> {
        ((0..=DAY).contains(&micros) && east.abs() < 16 * 3600).then_some(Self { micros, east })
    }

    /// Writes the time as Postgres does: `12:30:15.5+02`.
    pub fn spell(self) -> String {
        let seconds = self.micros / SECOND;
        let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let fraction = self.micros % SECOND;
        // Writing to a string does not fail.
        if fraction != 0 {
            let digits = format!("{fraction:06}");
            let _ = write!(text, ".{}", digits.trim_end_matches('0'));
        }
        let away = self.east.abs();
        let _ = write!(text, "{}{:02}", if self.east < 0 { '-' } else { '+' }, away / 3600);
        if away % 3600 != 0 {
            let _ = write!(text, ":{:02}", away / 60 % 60);
        }
        if away % 60 != 0 {
            let _ = write!(text, ":{:02}", away % 60);
        }
        text
    }
}

/// Returns how far clocks that show a time are ahead of UTC. A time that they skip is as before they did, one that they show twice
/// is the second.
fn east_of(zone: Tz, local: NaiveDateTime) -> Option<i32> {
    let offset = match zone.offset_from_local_datetime(&local) {
        LocalResult::Single(offset) | LocalResult::Ambiguous(_, offset) => offset,
        LocalResult::None => {
            let before = local.checked_sub_signed(Duration::hours(3))?;
            zone.offset_from_local_datetime(&before).latest()?
        }
    };
    Some(offset.fix().local_minus_utc())
}

#[cfg(test)]
mod tests {
    use datafusion::error::DataFusionError;

    use super::*;
    use crate::postgres::Refusal;

    fn read(text: &str, zone: Option<&str>) -> String {
        match ZonedTime::read(text, zone) {
            Ok(time) => time.spell(),
            Err(DataFusionError::External(error)) => error.downcast_ref::<Refusal>().unwrap().sqlstate().into(),
            Err(error) => panic!("{error}"),
        }
    }

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn times_are_read_and_written() {
        for (text, shown) in [
            ("10:20:30.000040-02:00", "10:20:30.00004-02"),
            ("24:00", "24:00:00+00"),
            ("23:59:59.9999999", "24:00:00+00"),
            ("00:00+05:30:15", "00:00:00+05:30:15"),
            ("00:00+0530", "00:00:00+05:30"),
            ("2024-07-01 12:30 Europe/Berlin", "12:30:00+02"),
            ("2024-01-01 12:30 Europe/Berlin", "12:30:00+01"),
            ("12:30 PST", "12:30:00-08"),
            ("12:30 PM -08", "12:30:00-08"),
            ("10:20:30.000040Z", "10:20:30.00004+00"),
            ("allballs", "00:00:00+00"),
            ("12:30 Europe/Berlin", "22007"),
            ("12:30+16", "22009"),
            ("24:00:01", "22008"),
            ("x", "22007"),
            ("", "22007"),
        ] {
            assert_eq!(read(text, Some("UTC")), shown, "{text}");
        }
        assert_eq!(read("12:30", Some("+02:00")), "12:30:00+02");
        assert_eq!(read("12:30", Some("Asia/Kolkata")), "12:30:00+05:30");
        assert_eq!(read("12:30", None), "0A000");
        assert_eq!(read("12:30+01", None), "12:30:00+01");
    }

    #[test]
    fn there_are_no_other_times() {
        assert_eq!(ZonedTime::new(DAY, 3600).map(ZonedTime::spell).as_deref(), Some("24:00:00+01"));
        assert!(ZonedTime::new(DAY + 1, 0).is_none());
        assert!(ZonedTime::new(-1, 0).is_none());
        assert!(ZonedTime::new(0, 16 * 3600).is_none());
    }
}
