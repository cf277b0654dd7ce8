//! The password file: users who may connect where a password is asked.

use std::collections::HashMap;
use std::path::Path;

use crate::{Error, Verifier};

/// A user of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Name in the startup packet.
    pub name: String,
    /// True if the user may change data, read the server's files and change settings of the whole server.
    pub superuser: bool,
}

/// Users and their secrets.
///
/// One user a line, `user:secret` or `user:secret:superuser`; blank lines and lines starting with `#` are
/// skipped. The secret is a SCRAM verifier as Postgres stores it
/// (`SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>`) or a plain password, in which `:` and `\` are written
/// `\:` and `\\`. A file with a plain password must be readable by its owner only.
#[derive(Debug)]
pub struct Users {
    users: HashMap<String, (Role, Verifier)>,
    /// Key of the salts for users that do not exist.
    secret: [u8; 32],
}

impl Users {
    /// Reads a password file.
    ///
    /// # Errors
    /// [`Error::PasswordFile`] if it cannot be read, a line is malformed, or others can read its plain passwords.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let bad = |reason: String| Error::PasswordFile { file: file.to_path_buf(), reason };
        let text = std::fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
        let (users, plain) = Self::parse(&text).map_err(bad)?;
        if plain && readable_by_others(file).map_err(|error| bad(error.to_string()))? {
            return Err(bad("holds plain passwords and can be read by other users; run chmod 600 on it".into()));
        }
        Ok(users)
    }

    /// Parses the text of a password file. The flag is true if a password was plain.
    fn parse(text: &str) -> Result<(Self, bool), String> {
        let mut users = HashMap::new();
        let mut plain = false;
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| format!("line {number}: {what}");
            let (name, rest) = line.split_once(':').ok_or_else(|| wrong("expected user:secret[:superuser]"))?;
            let (verifier, attribute) = if rest.starts_with("SCRAM-SHA-256$") {
                // Iterations and salt, then the two keys: the third colon ends the secret.
                let end = rest.match_indices(':').nth(2).map_or(rest.len(), |(at, _)| at);
                let verifier = Verifier::parse(&rest[..end]).ok_or_else(|| wrong("malformed SCRAM verifier"))?;
                (verifier, rest[end..].strip_prefix(':'))
            } else {
                plain = true;
                let (password, attribute) = unescape(rest);
                if password.is_empty() {
                    return Err(wrong("the password is empty"));
                }
                (Verifier::derive(&password), attribute)
            };
            let superuser = match attribute.map(str::trim_end) {
                None | Some("") => false,
                Some("superuser") => true,
                Some(other) => return Err(wrong(&format!("\"{other}\" is not a role attribute; use superuser"))),
            };
            if name.is_empty() {
                return Err(wrong("the user name is empty"));
            }
            let role = Role { name: name.to_string(), superuser };
            if users.insert(name.to_string(), (role, verifier)).is_some() {
                return Err(wrong(&format!("user \"{name}\" occurs twice")));
            }
        }
        if users.is_empty() {
            return Err("holds no users".into());
        }
        Ok((Self { users, secret: rand::random() }, plain))
    }

    /// Returns the verifier to hold a conversation with, and the role if there is one of this name.
    pub fn lookup(&self, user: &str) -> (Option<Role>, Verifier) {
        match self.users.get(user) {
            Some((role, verifier)) => (Some(role.clone()), verifier.clone()),
            None => (None, Verifier::mock(user, &self.secret)),
        }
    }

    /// All users, for `pg_roles`.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.users.values().map(|(role, _)| role)
    }
}

/// Returns the text up to an unescaped colon, and the text after the colon.
fn unescape(text: &str) -> (String, Option<&str>) {
    let mut password = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            ':' => return (password, Some(&text[at + 1..])),
            '\\' => match letters.next() {
                Some((_, escaped)) => password.push(escaped),
                None => password.push('\\'),
            },
            other => password.push(other),
        }
    }
    (password, None)
}

#[cfg(unix)]
fn readable_by_others(file: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::metadata(file)?.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn readable_by_others(_file: &Path) -> std::io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_passwords_and_verifiers() {
        let text = "# users\n\nada:secret:superuser\nbob:a\\:b\\\\c\n\
                    eve:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=:superuser\n";
        let (users, plain) = Users::parse(text).unwrap();
        assert!(plain);
        let role = |name: &str| users.lookup(name).0;
        assert_eq!(role("ada"), Some(Role { name: "ada".into(), superuser: true }));
        assert_eq!(role("bob"), Some(Role { name: "bob".into(), superuser: false }));
        assert_eq!(role("eve"), Some(Role { name: "eve".into(), superuser: true }));
        assert_eq!(role("nobody"), None);
        assert_eq!(unescape("a\\:b\\\\c"), ("a:b\\c".into(), None));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, reason) in [
            ("", "no users"),
            ("ada", "line 1: expected"),
            ("ada:x\nada:y", "line 2: user \"ada\" occurs twice"),
            ("ada:", "password is empty"),
            (":x", "user name is empty"),
            ("ada:x:admin", "\"admin\" is not a role attribute"),
            ("ada:SCRAM-SHA-256$1:x$y:z", "malformed SCRAM"),
        ] {
            let error = Users::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_plain_password_must_be_private() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "ada:secret\n").unwrap();
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o644)).unwrap();
        assert!(
            matches!(Users::read(file.path()), Err(Error::PasswordFile { reason, .. }) if reason.contains("chmod"))
        );
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o600)).unwrap();
        assert!(Users::read(file.path()).is_ok());
    }
}
