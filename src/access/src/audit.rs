//! The audit log: log-ins, refusals, and changes of tables, users' rights and models.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

/// Greatest number of bytes of a text in an event.
const LONGEST: usize = 1024;

/// The audit log: one JSON object a line, appended to a file.
///
/// The file is opened for each event, so that it may be moved away at any time. Events hold no passwords: statements are
/// told by their names and those of the tables they are about, not by their text.
#[derive(Debug, Default)]
pub struct AuditLog {
    /// `None` to keep nothing.
    file: Option<PathBuf>,
}

/// An event of the audit log.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A user has logged in.
    LogIn,
    /// Somebody was not let in.
    LogInFailed {
        /// SQLSTATE of the error.
        sqlstate: &'a str,
        /// The error.
        message: &'a str,
    },
    /// A statement was refused.
    Refused {
        /// The error.
        message: &'a str,
    },
    /// A statement has created, dropped, granted or revoked something.
    Changed {
        /// The statement: `CREATE VIEW`.
        command: &'a str,
        /// Name of the object: `public.t`.
        object: &'a str,
    },
}

impl AuditLog {
    /// Opens a log that is kept in a file.
    ///
    /// # Errors
    /// If the file cannot be opened for writing.
    pub fn open(file: PathBuf) -> io::Result<Self> {
        opened(&file)?;
        Ok(Self { file: Some(file) })
    }

    /// Appends an event. If the file cannot be written, the log of the server has it with a warning.
    pub fn record(&self, user: &str, client: SocketAddr, event: Event) {
        let Some(file) = &self.file else { return };
        let mut line = line(SystemTime::now(), user, client, event);
        line.push('\n');
        // One write of a file that is appended to is a line that others do not break.
        if let Err(error) = opened(file).and_then(|mut opened| opened.write_all(line.as_bytes())) {
            tracing::warn!(file = %file.display(), %error, "the audit log cannot be written: {}", line.trim_end());
        }
    }
}

fn opened(file: &PathBuf) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)
}

fn line(time: SystemTime, user: &str, client: SocketAddr, event: Event) -> String {
    let cut = |text: &str| Value::from(&text[..text.floor_char_boundary(LONGEST)]);
    let (name, more) = match event {
        Event::LogIn => ("log_in", vec![]),
        Event::LogInFailed { sqlstate, message } => {
            ("log_in_failed", vec![("sqlstate", cut(sqlstate)), ("message", cut(message))])
        }
        Event::Refused { message } => {
            ("refused", vec![("sqlstate", json!("42501")), ("message", cut(&without_password(message)))])
        }
        Event::Changed { command, object } => ("changed", vec![("command", cut(command)), ("object", cut(object))]),
    };
    let mut fields = Map::new();
    fields.insert("time".into(), rfc3339(time).into());
    fields.insert("event".into(), name.into());
    fields.insert("user".into(), cut(user));
    fields.insert("client".into(), client.to_string().into());
    fields.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Value::Object(fields).to_string()
}

/// Leaves out user and password of URLs in a text.
fn without_password(text: &str) -> String {
    let mut left = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        left += before;
        let end = after.find(['/', '?', '#', ' ', '"', '\'']).unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(at) => {
                left += "***";
                &after[at..]
            }
            None => after,
        };
    }
    left + rest
}

/// Writes a time as RFC 3339 does, in UTC, with milliseconds.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days since 1 March of the year 0, in eras of 400 years: leap days come last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let at = |seconds: u64| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7));
        assert_eq!(at(0), "1970-01-01T00:00:00.007Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56.007Z");
        assert_eq!(at(1_796_083_199), "2026-11-30T23:59:59.007Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.007Z");
    }

    #[test]
    fn events_are_lines_that_are_appended() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.log");
        std::fs::write(&file, "before\n").unwrap();
        let log = AuditLog::open(file.clone()).unwrap();
        let client = ([10, 0, 0, 7], 5000).into();
        log.record("ann\n\"x", client, Event::LogIn);
        // A log that was moved away is begun anew.
        std::fs::rename(&file, folder.path().join("audit.log.1")).unwrap();
        log.record(
            "ann",
            client,
            Event::Refused { message: "permission denied for location https://me:secret@host/x" },
        );
        log.record("ann", client, Event::Changed { command: "CREATE VIEW", object: "public.t" });
        log.record("eve", client, Event::LogInFailed { sqlstate: "28P01", message: &"\u{e4}".repeat(5000) });
        let moved = std::fs::read_to_string(folder.path().join("audit.log.1")).unwrap();
        let lines: Vec<_> = moved.lines().collect();
        assert_eq!((lines.len(), lines[0]), (2, "before"));
        let text = std::fs::read_to_string(&file).unwrap();
        let events: Vec<Value> =
            [lines[1]].into_iter().chain(text.lines()).map(|line| serde_json::from_str(line).unwrap()).collect();
        let field = |index: usize, name: &str| events[index][name].as_str().unwrap().to_owned();
        assert_eq!(
            (field(0, "event"), field(0, "user"), field(0, "client")),
            ("log_in".into(), "ann\n\"x".into(), "10.0.0.7:5000".into())
        );
        assert!(field(1, "message").ends_with("https://***@host/x") && !text.contains("secret"));
        assert_eq!((field(2, "command"), field(2, "object")), ("CREATE VIEW".into(), "public.t".into()));
        assert_eq!(field(3, "message").len(), 1024);
        assert!(AuditLog::open(folder.path().join("no/such/folder")).is_err());
        AuditLog::default().record("ann", client, Event::LogIn);
    }

    #[test]
    fn passwords_in_urls_are_left_out() {
        for (text, expected) in [
            ("plain", "plain"),
            ("s3://bucket/a@b", "s3://bucket/a@b"),
            ("a https://u:p@ss@h/x and ftp://v@i", "a https://***@h/x and ftp://***@i"),
        ] {
            assert_eq!(without_password(text), expected);
        }
    }
}
