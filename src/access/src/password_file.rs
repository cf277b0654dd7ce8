//! The password file: one user a line, and the privileges that were granted.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::privileges::PUBLIC;
use crate::{Error, Privileges, User, Verifier};

/// A password file.
///
/// One user a line, `user:secret` or `user:secret:attributes`; blank lines and lines that begin with `#` are kept and
/// mean nothing. The secret is a SCRAM verifier as Postgres stores it
/// (`SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>`) or a plain password, in which `:` and `\` are written `\:` and
/// `\\`. A file with a plain password must be readable by its owner only. Attributes are a role and limits. Lines that
/// begin with a colon are privileges.
#[derive(Debug, Clone, Default)]
pub struct PasswordFile {
    lines: Vec<Line>,
    privileges: Privileges,
}

#[derive(Debug, Clone)]
enum Line {
    /// A comment or a blank line.
    Other(String),
    User {
        user: Box<User>,
        secret: Secret,
        /// The line as it was read.
        text: String,
    },
}

/// The secret of a user.
#[derive(Debug, Clone)]
pub(crate) enum Secret {
    Plain(String),
    Verifier(Verifier),
}

impl Secret {
    /// Returns the verifier. Takes milliseconds for a plain password.
    pub(crate) fn verifier(&self) -> Verifier {
        match self {
            Self::Plain(password) => Verifier::derive(password),
            Self::Verifier(verifier) => verifier.clone(),
        }
    }
}

impl PasswordFile {
    /// Reads a password file.
    ///
    /// # Errors
    /// [`Error::PasswordFile`] if it cannot be read, a line is malformed, or others can read its plain passwords.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(file).map_err(|error| bad(file, error))?;
        let read = Self::parse(&text).map_err(|reason| bad(file, reason))?;
        let has_plain = read.users().any(|(_, secret)| matches!(secret, Secret::Plain(_)));
        if has_plain && readable_by_others(file).map_err(|error| bad(file, error))? {
            return Err(bad(file, "holds plain passwords and can be read by other users; run chmod 600 on it"));
        }
        Ok(read)
    }

    /// Parses the text of a password file.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut read = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = |what: String| format!("line {number}: {what}");
            if line.trim().is_empty() || line.starts_with('#') {
                read.lines.push(Line::Other(line.to_owned()));
                continue;
            }
            if let Some(privileges) = line.strip_prefix(':').filter(|rest| rest.starts_with('{')) {
                read.privileges.read(privileges).map_err(wrong)?;
                continue;
            }
            let (user, secret) = parse_user(line).map_err(wrong)?;
            if read.user(&user.name).is_some() {
                return Err(wrong(format!("user \"{}\" occurs twice", user.name)));
            }
            read.lines.push(Line::User { user: Box::new(user), secret, text: line.to_owned() });
        }
        Ok(read)
    }

    /// Returns the users, in the order of their lines.
    pub(crate) fn users(&self) -> impl Iterator<Item = (&User, &Secret)> {
        self.lines.iter().filter_map(|line| match line {
            Line::User { user, secret, .. } => Some((user.as_ref(), secret)),
            Line::Other(_) => None,
        })
    }

    /// Returns all users, with true for those whose password is plain, in the order of their lines.
    pub fn list(&self) -> impl Iterator<Item = (&User, bool)> {
        self.users().map(|(user, secret)| (user, matches!(secret, Secret::Plain(_))))
    }

    /// Returns the user of a name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users().map(|(user, _)| user).find(|user| user.name == name)
    }

    /// Returns the privileges.
    pub fn privileges(&self) -> &Privileges {
        &self.privileges
    }

    /// Returns the privileges, to change them.
    pub fn privileges_mut(&mut self) -> &mut Privileges {
        &mut self.privileges
    }

    /// Adds a user, of whom the verifier of the password is kept.
    ///
    /// # Errors
    /// The reason if there is a user of this name, or there can be none.
    pub fn add(&mut self, user: User, password: &str) -> Result<(), String> {
        check_name(&user.name)?;
        if self.user(&user.name).is_some() {
            return Err(format!("user \"{}\" exists", user.name));
        }
        let secret = derive(password)?;
        let text = line(&user, &secret);
        self.lines.push(Line::User { user: Box::new(user), secret: Secret::Verifier(secret), text });
        Ok(())
    }

    /// Changes a user's password.
    ///
    /// # Errors
    /// The reason if there is no user of this name.
    pub fn set_password(&mut self, name: &str, password: &str) -> Result<(), String> {
        let verifier = derive(password)?;
        let found = self.lines.iter_mut().find_map(|line| match line {
            Line::User { user, secret, text } if user.name == name => Some((user, secret, text)),
            _ => None,
        });
        let (user, secret, text) = found.ok_or_else(|| missing(name))?;
        *text = line(user, &verifier);
        *secret = Secret::Verifier(verifier);
        Ok(())
    }

    /// Removes a user with all privileges. Tables of the user belong to superusers from then on.
    ///
    /// # Errors
    /// The reason if there is no user of this name.
    pub fn remove(&mut self, name: &str) -> Result<(), String> {
        self.user(name).ok_or_else(|| missing(name))?;
        self.lines.retain(|line| !matches!(line, Line::User { user, .. } if user.name == name));
        self.privileges.forget(name);
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let lines = self.lines.iter().map(|line| match line {
            Line::Other(line) | Line::User { text: line, .. } => line.clone(),
        });
        for line in lines.chain(self.privileges.lines().into_iter().map(|line| format!(":{line}"))) {
            text += &line;
            text.push('\n');
        }
        text
    }

    /// Changes a password file, or writes a new one if `is_new` is true and there is none. Others who change it wait
    /// meanwhile, and others who read it find what was there before or what is there after.
    ///
    /// # Errors
    /// [`Error::PasswordFile`] with the reason that `change` gives, or if the file cannot be read or written.
    pub fn edit<T>(
        file: &Path,
        is_new: bool,
        change: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<(Self, T), Error> {
        // A link stays one: the file that it leads to is replaced.
        let file = &fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf());
        let _lock = lock(file)?;
        let mut edited = match Self::read(file) {
            Err(_) if is_new && !file.exists() => Self::default(),
            read => read?,
        };
        let done = change(&mut edited).map_err(|reason| bad(file, reason))?;
        replace(file, &edited.text()).map_err(|error| bad(file, error))?;
        Ok((edited, done))
    }
}

/// Error of a file.
pub(crate) fn bad(file: &Path, reason: impl ToString) -> Error {
    Error::PasswordFile { file: file.to_path_buf(), reason: reason.to_string() }
}

fn missing(name: &str) -> String {
    format!("there is no user \"{name}\"")
}

fn derive(password: &str) -> Result<Verifier, String> {
    match password {
        "" => Err("the password is empty".into()),
        password if password.contains('\0') => Err("the password holds a byte 0".into()),
        password => Ok(Verifier::derive(password)),
    }
}

/// Returns the reason why a name cannot be that of a new user.
fn check_name(name: &str) -> Result<(), String> {
    let reason = match name {
        "" => "the user name is empty".to_owned(),
        PUBLIC => format!("\"{PUBLIC}\" stands for all users"),
        name if name.contains(':') || name.starts_with('#') || name.chars().any(char::is_control) => {
            format!(
                "\"{}\" cannot be a user's name: it has a colon, a control character or begins with #",
                name.escape_debug()
            )
        }
        name if name.trim() != name => format!("\"{name}\" cannot be a user's name: it begins or ends with a space"),
        _ => return Ok(()),
    };
    Err(reason)
}

fn line(user: &User, verifier: &Verifier) -> String {
    format!("{}:{}:{}", user.name, verifier.to_text(), user.attributes())
}

fn parse_user(line: &str) -> Result<(User, Secret), String> {
    let (name, rest) = line.split_once(':').ok_or("expected user:secret[:attributes]")?;
    let (secret, attributes) = if rest.starts_with("SCRAM-SHA-256$") {
        // Iterations and salt, then the two keys: the third colon ends the secret.
        let end = rest.match_indices(':').nth(2).map_or(rest.len(), |(at, _)| at);
        let verifier = Verifier::parse(&rest[..end]).ok_or("malformed SCRAM verifier")?;
        (Secret::Verifier(verifier), rest[end..].strip_prefix(':'))
    } else {
        let (password, attributes) = unescape(rest);
        if password.is_empty() {
            return Err("the password is empty".into());
        }
        (Secret::Plain(password), attributes)
    };
    if name.is_empty() {
        return Err("the user name is empty".into());
    }
    Ok((User::with_attributes(name, attributes.unwrap_or_default())?, secret))
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

/// Returns the path beside a file with an ending after its name.
fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    file.with_file_name(name)
}

/// Takes the lock on a file, until it is dropped. The file itself cannot be locked, because it is replaced.
fn lock(file: &Path) -> Result<File, Error> {
    let path = beside(file, ".lock");
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    private(&mut options);
    let locked = options.open(&path).and_then(|opened| opened.lock().map(|()| opened));
    locked.map_err(|error| bad(file, format!("cannot be locked with {}: {error}", path.display())))
}

/// Replaces a file by another that only its owner may read, at once.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let new = beside(file, &format!(".{}.new", std::process::id()));
    let written = write_new(file, &new, text);
    if written.is_err() {
        // What is left of it holds secrets.
        let _ = fs::remove_file(&new);
    }
    written
}

fn write_new(file: &Path, new: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    private(&mut options);
    let mut opened = options.open(new)?;
    keep_owner(file, new)?;
    opened.write_all(text.as_bytes())?;
    opened.sync_all()?;
    fs::rename(new, file)?;
    #[cfg(unix)]
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn private(_options: &mut OpenOptions) {}

/// Gives a new file the owner of the one that it replaces: an administrator changes the file of the server's user.
#[cfg(unix)]
fn keep_owner(file: &Path, new: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, chown};
    let (Ok(before), now) = (fs::metadata(file), fs::metadata(new)?) else { return Ok(()) };
    if (before.uid(), before.gid()) != (now.uid(), now.gid()) {
        chown(new, Some(before.uid()), Some(before.gid()))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn keep_owner(_file: &Path, _new: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn readable_by_others(file: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(file)?.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn readable_by_others(_file: &Path) -> std::io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use neuroql::Role;

    use super::*;

    #[test]
    fn mistakes_are_named() {
        for (text, reason) in [
            ("ada", "line 1: expected"),
            ("ada:x\nada:y", "line 2: user \"ada\" occurs twice"),
            ("ada:", "password is empty"),
            (":x", "user name is empty"),
            (":{\"x\"", "malformed privileges"),
            ("ada:x:admin", "\"admin\" is not a role attribute"),
            ("ada:x:max_connections=none", "max_connections=none"),
            ("ada:SCRAM-SHA-256$1:x$y:z", "malformed SCRAM"),
        ] {
            let error = PasswordFile::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert_eq!(unescape("a\\:b\\\\c"), ("a:b\\c".into(), None));
    }

    #[test]
    fn edits_leave_other_lines_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        assert!(PasswordFile::edit(&file, false, |_| Ok(())).is_err());
        PasswordFile::edit(&file, true, |users| users.add(User::new("ann", Role::Analyst), "p\u{e4}ss:w")).unwrap();
        let mut text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("ann:SCRAM-SHA-256$") && text.ends_with(":analyst\n") && !text.contains("ss:w"));
        text = format!("# the lab\n\nada:se\\:cret:superuser\n{text}");
        fs::write(&file, &text).unwrap();
        let edited = PasswordFile::edit(&file, false, |users| {
            users.privileges_mut().set_usage("smol", &["ann".into()], true);
            Ok(())
        });
        assert_eq!(
            edited.unwrap().0.list().map(|(user, plain)| (&user.name[..], plain)).collect::<Vec<_>>(),
            [("ada", true), ("ann", false)]
        );
        let after = fs::read_to_string(&file).unwrap();
        assert!(after.starts_with(&text) && after[text.len()..].starts_with(":{\"usage\":\"smol\""), "{after}");
        PasswordFile::edit(&file, false, |users| users.set_password("ada", "new")).unwrap();
        let (left, ()) = PasswordFile::edit(&file, false, |users| users.remove("ann")).unwrap();
        assert!(left.user("ann").is_none() && left.user("ada").is_some_and(User::is_superuser));
        let after = fs::read_to_string(&file).unwrap();
        assert!(
            after.starts_with("# the lab\n\nada:SCRAM-SHA-256$") && !after.contains("ann") && !after.contains("cret")
        );
        for (name, reason) in [
            ("", "empty"),
            ("a:b", "colon"),
            ("#a", "colon"),
            ("a\nb", "control"),
            ("public", "all users"),
            (" a", "space"),
            ("ada", "exists"),
        ] {
            let added = PasswordFile::edit(&file, false, |users| users.add(User::new(name, Role::Reader), "x"));
            assert!(added.unwrap_err().to_string().contains(reason), "{name}");
        }
        for refused in [
            PasswordFile::edit(&file, false, |users| users.add(User::new("eve", Role::Reader), "")),
            PasswordFile::edit(&file, false, |users| users.remove("eve")),
            PasswordFile::edit(&file, false, |users| users.set_password("eve", "x")),
        ] {
            assert!(matches!(refused, Err(Error::PasswordFile { .. })));
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), after);
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "users" || name == "users.lock"), "{left:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_rewritten_file_is_private_and_a_link_stays_one() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("users"), folder.path().join("link"));
        fs::write(&file, "ada:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n").unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        PasswordFile::edit(&link, false, |users| users.add(User::new("bob", Role::Reader), "x")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(&file).unwrap().contains("\nbob:"));
    }

    #[test]
    fn writers_wait_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        PasswordFile::edit(&file, true, |users| users.add(User::new("ada", Role::Superuser), "x")).unwrap();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let file = &file;
                scope.spawn(move || {
                    PasswordFile::edit(file, false, |users| {
                        users.add(User::new(format!("u{number}"), Role::Reader), "x")
                    })
                    .unwrap();
                });
            }
        });
        assert_eq!(PasswordFile::read(&file).unwrap().list().count(), 9);
    }
}
