//! Users, their roles and limits.

use std::fmt::Write as _;
use std::time::Duration;

use neuroql::Role;

/// A user of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Name in the startup packet.
    pub name: String,
    /// Rights of the user.
    pub role: Role,
    /// True if the user may use the schema of every model, as superusers do, also in sessions that only read.
    pub uses_all: bool,
    /// Limits of the user.
    pub limits: UserLimits,
}

/// Limits of a user, `None` where it sets no limit of the user's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// Greatest number of connections at a time.
    pub max_connections: Option<usize>,
    /// Greatest number of statements that run at a time; others wait.
    pub max_statements: Option<usize>,
    /// Bytes of memory that the user's statements may hold together.
    pub memory: Option<usize>,
    /// Limit on the time of statements in sessions that do not set it.
    pub statement_timeout: Option<Duration>,
    /// Greatest `statement_timeout` that the user may set.
    pub max_statement_timeout: Option<Duration>,
}

impl User {
    /// Creates a user without limits.
    pub fn new(name: impl Into<String>, role: Role) -> Self {
        Self { name: name.into(), role, uses_all: role == Role::Superuser, limits: UserLimits::default() }
    }

    /// Returns true for a superuser.
    pub fn is_superuser(&self) -> bool {
        self.role == Role::Superuser
    }

    /// Returns the user as a reader of the same schemas.
    pub fn as_reader(self) -> Self {
        Self { role: Role::Reader, ..self }
    }

    /// Reads the attributes of a user, as they stand in a line of the password file: `analyst,max_connections=4`.
    pub(crate) fn with_attributes(name: &str, attributes: &str) -> Result<Self, String> {
        let mut role = None;
        let mut limits = UserLimits::default();
        for word in attributes.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let Some((limit, value)) = word.split_once('=') else {
                let found: Role = word.parse().map_err(|_| {
                    format!("\"{word}\" is not a role attribute; use reader, analyst or superuser, or a limit such as max_connections=4")
                })?;
                if role.replace(found).is_some() {
                    return Err("a user has one role".into());
                }
                continue;
            };
            limits.set(limit.trim(), value.trim())?;
        }
        Ok(Self { limits, ..Self::new(name, role.unwrap_or(Role::Reader)) })
    }

    /// Returns role and limits as they stand in a line of the password file: `analyst,max_connections=4`.
    pub fn attributes(&self) -> String {
        let mut text = self.role.name().to_owned();
        let UserLimits { max_connections, max_statements, memory, statement_timeout, max_statement_timeout } =
            &self.limits;
        let numbers = [("max_connections", max_connections), ("max_statements", max_statements), ("memory", memory)];
        let times = [("statement_timeout", statement_timeout), ("max_statement_timeout", max_statement_timeout)];
        let numbers = numbers.map(|(name, value)| (name, value.map(|value| value.to_string())));
        let times = times.map(|(name, value)| (name, value.map(|value| format!("{}ms", value.as_millis()))));
        for (name, value) in numbers.into_iter().chain(times) {
            if let Some(value) = value {
                // Writing to a String cannot fail.
                let _ = write!(text, ",{name}={value}");
            }
        }
        text
    }
}

impl UserLimits {
    /// Sets the limit of a name.
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = |expected: &str| format!("{name}={value}: expected {expected}");
        let number = || match value.parse::<usize>() {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => Err(wrong("a number from 1")),
        };
        let time = || parse_time(value).map(Some).ok_or_else(|| wrong("a time such as 500ms, 30s or 5min"));
        match name {
            "max_connections" => self.max_connections = number()?,
            "max_statements" => self.max_statements = number()?,
            "memory" => {
                let size = parse_size(value).filter(|size| *size > 0);
                self.memory = Some(size.ok_or_else(|| wrong("a size such as 500MB or 4GB"))?);
            }
            "statement_timeout" => self.statement_timeout = time()?,
            "max_statement_timeout" => self.max_statement_timeout = time()?,
            _ => {
                return Err(format!(
                    "\"{name}\" is not a limit; limits are max_connections, max_statements, memory, statement_timeout \
                     and max_statement_timeout"
                ));
            }
        }
        Ok(())
    }
}

/// Reads a time as settings are written: `500`, `500ms`, `30s`, `1.5min`, `2h`, `1d`.
pub fn parse_time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let unit = match text[end..].trim() {
        "" | "ms" => 1.0,
        "us" => 0.001,
        "s" => 1e3,
        "min" => 60e3,
        "h" => 3600e3,
        "d" => 86_400e3,
        _ => return None,
    };
    let value = (number * unit).round();
    // Postgres' limit: an int4.
    (0.0..=f64::from(i32::MAX)).contains(&value).then(|| Duration::from_millis(value as u64))
}

/// Reads a size: `512`, `500MB`, `4GB`, `1.5GiB`, with decimal units, and binary ones with an i.
pub fn parse_size(text: &str) -> Option<usize> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let unit: f64 = match text[end..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let size = number * unit;
    (size >= 1.0 && size < usize::MAX as f64).then_some(size as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let text = "analyst, max_connections=4,statement_timeout=1.5min,memory=2GB,max_statements=2";
        let user = User::with_attributes("ann", text).unwrap();
        assert_eq!((user.role, user.uses_all), (Role::Analyst, false));
        assert_eq!(user.limits.max_connections, Some(4));
        assert_eq!(user.limits.memory, Some(2_000_000_000));
        assert_eq!(user.limits.statement_timeout, Some(Duration::from_secs(90)));
        assert_eq!(User::with_attributes("ann", &user.attributes()), Ok(user));
        assert_eq!(User::with_attributes("bob", ""), Ok(User::new("bob", Role::Reader)));
        let root = User::with_attributes("root", "superuser").unwrap();
        assert!(root.is_superuser() && root.uses_all && root.clone().as_reader().uses_all);
    }

    #[test]
    fn wrong_attributes_are_named() {
        for (text, part) in [
            ("admin", "\"admin\" is not a role attribute"),
            ("reader,analyst", "one role"),
            ("max_connections=0", "max_connections=0: expected a number from 1"),
            ("max_connections=-1", "a number from 1"),
            ("memory=much", "a size such as"),
            ("statement_timeout=soon", "a time such as"),
            ("color=red", "\"color\" is not a limit"),
        ] {
            let error = User::with_attributes("ann", text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4GB"), Some(4_000_000_000));
        assert_eq!(parse_size("1.5 GiB"), Some(1_610_612_736));
        assert_eq!(parse_size("1000"), Some(1000));
        for bad in ["", "GB", "4 apples", "-1", "0", "1e99GB", "99999999999999TB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
