//! The users of a server and their privileges, as they are now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::SystemTime;

use crate::password_file::{PasswordFile, bad};
use crate::{Error, Privileges, User, Verifier};

/// Users, their secrets and privileges. They follow the password file: who changes it need not restart the server.
#[derive(Debug)]
pub struct Users {
    /// `None` for a server that asks for no password.
    file: Option<PathBuf>,
    state: RwLock<State>,
    /// Number of changes of privileges.
    generation: AtomicU64,
    /// Key of the salts for users that do not exist.
    secret: [u8; 32],
}

#[derive(Debug, Default)]
struct State {
    users: BTreeMap<String, (User, Option<Verifier>)>,
    privileges: Privileges,
    stamp: Option<Stamp>,
}

/// Time of the last change, length and inode of a file, by which another version is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    length: u64,
    inode: u64,
}

impl Stamp {
    fn of(file: &Path) -> std::io::Result<Self> {
        let metadata = std::fs::metadata(file)?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Ok(Self { modified: metadata.modified()?, length: metadata.len(), inode })
    }
}

impl State {
    fn of(read: &PasswordFile, stamp: Option<Stamp>) -> Self {
        let users = read.users().map(|(user, secret)| (user.name.clone(), (user.clone(), Some(secret.verifier()))));
        Self { users: users.collect(), privileges: read.privileges().clone(), stamp }
    }
}

impl Users {
    /// Reads a password file.
    ///
    /// # Errors
    /// [`Error::PasswordFile`] if it cannot be read, a line is malformed, it holds no users, or others can read its plain
    /// passwords.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let state = read(file)?;
        Ok(Self { file: Some(file.to_path_buf()), state: RwLock::new(state), ..Self::empty() })
    }

    /// The one user of a server that asks for no password.
    pub fn without_passwords(user: User) -> Self {
        let users = BTreeMap::from([(user.name.clone(), (user, None))]);
        Self { state: RwLock::new(State { users, ..State::default() }), ..Self::empty() }
    }

    fn empty() -> Self {
        Self { file: None, state: RwLock::default(), generation: AtomicU64::new(0), secret: rand::random() }
    }

    /// Returns true if users give a password.
    pub fn have_passwords(&self) -> bool {
        self.file.is_some()
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        let mut now = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if now.privileges != state.privileges {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        *now = state;
    }

    /// Reads the password file again if it has changed. If it cannot be read the users stay who they were, with a
    /// warning in the log.
    pub fn refresh(&self) {
        let Some(file) = &self.file else { return };
        let stamp = Stamp::of(file).ok();
        if stamp.is_some() && stamp == self.state().stamp {
            return;
        }
        match read(file) {
            Ok(state) => {
                tracing::info!(file = %file.display(), "the password file has changed");
                self.set(state);
            }
            Err(error) => tracing::warn!("{error}; the users stay who they were"),
        }
    }

    /// Returns the verifier to hold a conversation with, and the user if there is one of this name.
    pub fn lookup(&self, name: &str) -> (Option<User>, Verifier) {
        match self.state().users.get(name) {
            Some((user, Some(verifier))) => (Some(user.clone()), verifier.clone()),
            _ => (None, Verifier::mock(name, &self.secret)),
        }
    }

    /// Returns the user who gives a password, `None` if it is wrong. Takes as long for users that do not exist.
    pub fn authenticate(&self, name: &str, password: &str) -> Option<User> {
        self.refresh();
        let (user, verifier) = self.lookup(name);
        let is_right = verifier.is_of(password);
        user.filter(|_| is_right)
    }

    /// Returns the user of a name.
    pub fn get(&self, name: &str) -> Option<User> {
        self.state().users.get(name).map(|(user, _)| user.clone())
    }

    /// Returns all users, in the order of their names.
    pub fn list(&self) -> Vec<User> {
        self.state().users.values().map(|(user, _)| user.clone()).collect()
    }

    /// Returns the number of changes of privileges so far: a plan made before the last of them is made again.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Returns what `look` finds in the privileges.
    pub fn privileges<T>(&self, look: impl FnOnce(&Privileges) -> T) -> T {
        look(&self.state().privileges)
    }

    /// Changes the privileges and keeps them in the password file. Blocks.
    ///
    /// # Errors
    /// [`Error::PasswordFile`] if it cannot be written; then nothing has changed.
    pub fn change_privileges(&self, change: impl Fn(&mut Privileges)) -> Result<(), Error> {
        let Some(file) = &self.file else {
            let mut now = self.state.write().unwrap_or_else(PoisonError::into_inner);
            change(&mut now.privileges);
            self.generation.fetch_add(1, Ordering::AcqRel);
            return Ok(());
        };
        let (edited, ()) = PasswordFile::edit(file, false, |users| {
            change(users.privileges_mut());
            Ok(())
        })?;
        // Who has changed the file since is found by the next log-in.
        let mut now = self.state.write().unwrap_or_else(PoisonError::into_inner);
        now.privileges = edited.privileges().clone();
        self.generation.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Forgets the owners of tables that are gone: those that `is_there` returns false for. Blocks.
    pub fn forget_owners(&self, is_there: impl Fn(&str, &str) -> bool) {
        let gone = self.privileges(|privileges| {
            let gone = privileges.owned().filter(|(schema, table)| !is_there(schema, table));
            gone.map(|(schema, table)| (schema.to_owned(), table.to_owned())).collect::<Vec<_>>()
        });
        let forget = |privileges: &mut Privileges| {
            gone.iter().for_each(|(schema, table)| {
                privileges.set_owner(schema, table, None);
            });
        };
        if !gone.is_empty()
            && let Err(error) = self.change_privileges(forget)
        {
            tracing::warn!("{error}; it has owners of tables that are gone");
            forget(&mut self.state.write().unwrap_or_else(PoisonError::into_inner).privileges);
        }
    }

    /// Sets the owner of a table, `None` for superusers. If the password file cannot be written, it is so until the
    /// server ends, with a warning in the log. Blocks.
    pub fn set_owner(&self, schema: &str, table: &str, owner: Option<&str>) {
        if self.privileges(|privileges| privileges.owner(schema, table).map(String::as_str) == owner) {
            return;
        }
        let change = |privileges: &mut Privileges| {
            privileges.set_owner(schema, table, owner);
        };
        if let Err(error) = self.change_privileges(change) {
            tracing::warn!("{error}; who owns {schema}.{table} is forgotten when the server ends");
            change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner).privileges);
        }
    }
}

fn read(file: &Path) -> Result<State, Error> {
    let stamp = Stamp::of(file).ok();
    let read = PasswordFile::read(file)?;
    if read.users().next().is_none() {
        return Err(bad(file, "holds no users"));
    }
    Ok(State::of(&read, stamp))
}

#[cfg(test)]
mod tests {
    use neuroql::Role;

    use super::*;
    use crate::privileges::PUBLIC;

    fn write(file: &Path, text: &str) {
        std::fs::write(file, text).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    #[test]
    fn plain_passwords_and_verifiers() {
        let text = "# users\n\nada:secret:superuser\nbob:a\\:b\\\\c\nann:x:analyst,max_connections=3\n\
                    eve:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=:superuser\n";
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.path(), text);
        let users = Users::read(file.path()).unwrap();
        let role = |name: &str| users.lookup(name).0.map(|user| user.role);
        assert_eq!(role("ada"), Some(Role::Superuser));
        assert_eq!(role("bob"), Some(Role::Reader));
        assert_eq!(role("ann"), Some(Role::Analyst));
        assert_eq!(role("eve"), Some(Role::Superuser));
        assert_eq!(role("nobody"), None);
        assert_eq!(users.get("ann").unwrap().limits.max_connections, Some(3));
        let logs_in = |name: &str, password: &str| users.authenticate(name, password).map(|user| user.is_superuser());
        assert_eq!(logs_in("ada", "secret"), Some(true));
        assert_eq!(logs_in("bob", "a:b\\c"), Some(false));
        assert_eq!((logs_in("bob", "secret"), logs_in("nobody", "")), (None, None));
        write(file.path(), "# nobody\n");
        assert!(Users::read(file.path()).unwrap_err().to_string().contains("holds no users"));
    }

    #[cfg(unix)]
    #[test]
    fn a_plain_password_must_be_private() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.path(), "ada:secret\n");
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o644)).unwrap();
        assert!(
            matches!(Users::read(file.path()), Err(Error::PasswordFile { reason, .. }) if reason.contains("chmod"))
        );
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o600)).unwrap();
        assert!(Users::read(file.path()).is_ok());
    }

    #[test]
    fn the_file_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        write(&file, "ada:secret:superuser\n");
        let users = Users::read(&file).unwrap();
        PasswordFile::edit(&file, false, |edited| edited.add(User::new("bob", Role::Reader), "x")).unwrap();
        assert!(users.get("bob").is_none());
        assert!(users.authenticate("bob", "x").is_some());
        let before = users.generation();
        users.change_privileges(|privileges| privileges.set_usage("smol", &[PUBLIC.into()], false)).unwrap();
        users.set_owner("public", "t", Some("bob"));
        assert!(users.generation() > before);
        let bob = users.get("bob").unwrap();
        let seen = |users: &Users| {
            users.privileges(|privileges| (privileges.hidden(&bob), privileges.owner("public", "t").cloned()))
        };
        assert_eq!(seen(&users), (vec!["smol".into()], Some("bob".into())));
        assert_eq!(seen(&Users::read(&file).unwrap()), seen(&users));
        // What cannot be read changes nothing.
        write(&file, "nonsense\n");
        users.refresh();
        assert!(users.authenticate("bob", "x").is_some());
        let change = |privileges: &mut Privileges| privileges.set_usage("toy", &[PUBLIC.into()], false);
        assert!(matches!(users.change_privileges(change), Err(Error::PasswordFile { .. })));
        assert_eq!(seen(&users).0, ["smol"]);
        users.forget_owners(|_, table| table == "t");
        users.set_owner("public", "u", Some("bob"));
        assert!(users.privileges(|privileges| privileges.owner("public", "u").is_some()));
        users.forget_owners(|_, table| table != "t");
        assert!(users.privileges(|privileges| privileges.owner("public", "t").is_none()));
        write(&file, "ada:secret:superuser\n");
        assert!(users.authenticate("bob", "x").is_none());
    }
}
