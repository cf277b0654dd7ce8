//! Logins: passwords, tokens in cookies, and the number of wrong tries.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use neuroql_access::{Connecting, Event, FailedLogins, Permissions};

use crate::error::Fault;

/// Name of the cookie.
const COOKIE: &str = "neuroql_session";

/// The database of host rules.
const DATABASE: &str = "neuroql";

/// Time that a login lasts.
const LIFE: Duration = Duration::from_secs(12 * 3600);

/// Greatest number of logins that are remembered; the oldest is forgotten first.
const MOST: usize = 10_000;

/// Wrong passwords of an address in a minute, after which it has to wait.
const TRIES: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// Hash of a token: what is remembered does not let anyone in.
type Key = [u8; 32];

/// Users who may log in, and those who have.
#[derive(Debug)]
pub(crate) struct Logins {
    permissions: Arc<Permissions>,
    failed: FailedLogins,
    tries: Mutex<HashMap<IpAddr, Vec<Instant>>>,
    sessions: Mutex<HashMap<Key, (String, Instant)>>,
    /// Users who send their password with each request, with their address, and when that was noted last.
    noted: Mutex<HashMap<(String, IpAddr), Instant>>,
    /// True if cookies are sent over encrypted connections only.
    is_secure: bool,
}

impl Logins {
    pub fn new(permissions: Arc<Permissions>, is_secure: bool) -> Self {
        Self {
            permissions,
            failed: FailedLogins::default(),
            tries: Mutex::default(),
            sessions: Mutex::default(),
            noted: Mutex::default(),
            is_secure,
        }
    }

    /// Returns the user of a request, by its cookie or its password; `None` if it has neither.
    ///
    /// # Errors
    /// 401 for a wrong password, 429 after too many of them.
    pub async fn user(&self, headers: &HeaderMap, address: IpAddr) -> Result<Option<(String, bool)>, Fault> {
        if let Some(token) = cookie(headers) {
            let key = key(token);
            let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((user, since)) = sessions.get(&key)
                && since.elapsed() < LIFE
            {
                return Ok(Some((user.clone(), true)));
            }
        }
        let Some(given) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
        let malformed = || Fault::bad_request("the Authorization header is not one of Basic authentication");
        let given = given.to_str().map_err(|_| malformed())?;
        let (scheme, encoded) = given.split_once(' ').ok_or_else(malformed)?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(malformed());
        }
        let decoded = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or_else(malformed)?;
        let (name, password) = decoded.split_once(':').ok_or_else(malformed)?;
        let user = self.check(name, password, address).await?;
        self.note(&user, address);
        Ok(Some((user, false)))
    }

    /// Notes in the audit log that a user has given the password with a request, once for each address.
    fn note(&self, user: &str, address: IpAddr) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|_, since| since.elapsed() < LIFE);
        let key = (user.to_owned(), address);
        if noted.contains_key(&key) {
            return;
        }
        if noted.len() < MOST {
            noted.insert(key, Instant::now());
        }
        drop(noted);
        self.permissions.audit.record(user, SocketAddr::from((address, 0)), Event::LogIn);
    }

    /// Checks a password.
    ///
    /// # Errors
    /// 401 if it is wrong, 429 after too many wrong ones from an address.
    async fn check(&self, name: &str, password: &str, address: IpAddr) -> Result<String, Fault> {
        if self.recent(address) >= TRIES {
            let message = format!("{TRIES} wrong passwords came from your address; wait a minute");
            return Err(Fault::new(StatusCode::TOO_MANY_REQUESTS, message));
        }
        let audit = &self.permissions.audit;
        let client = SocketAddr::from((address, 0));
        // Browsers are not asked for certificates: who needs one is refused.
        let is_encrypted = self.is_secure;
        let connecting = Connecting { user: name, database: DATABASE, address, is_encrypted, certificate: None };
        if let Err(refused) = self.permissions.hosts.check(connecting) {
            let message = refused.to_string();
            audit.record(name, client, Event::LogInFailed { sqlstate: refused.sqlstate(), message: &message });
            return Err(Fault::new(StatusCode::FORBIDDEN, message));
        }
        let users = Arc::clone(&self.permissions.users);
        let (given, password) = (name.to_owned(), password.to_owned());
        let checked = tokio::task::spawn_blocking(move || users.authenticate(&given, &password)).await;
        match checked.map_err(Fault::internal)? {
            Some(user) => {
                self.failed.forget(address);
                Ok(user.name)
            }
            None => {
                let message = "the name or the password is wrong";
                audit.record(name, client, Event::LogInFailed { sqlstate: "28P01", message });
                let wait = self.failed.add(address);
                self.tries
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .entry(address)
                    .or_default()
                    .push(Instant::now());
                tokio::time::sleep(wait).await;
                Err(Fault::new(StatusCode::UNAUTHORIZED, message))
            }
        }
    }

    /// Returns the number of wrong passwords of an address in the last minute.
    fn recent(&self, address: IpAddr) -> usize {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.retain(|_, times| {
            times.retain(|time| time.elapsed() < WINDOW);
            !times.is_empty()
        });
        tries.get(&address).map_or(0, Vec::len)
    }

    /// Logs a user in; returns the value of `Set-Cookie`.
    ///
    /// # Errors
    /// 401 for a wrong password, 429 after too many of them.
    pub async fn log_in(&self, name: &str, password: &str, address: IpAddr) -> Result<String, Fault> {
        let user = self.check(name, password, address).await?;
        self.permissions.audit.record(&user, SocketAddr::from((address, 0)), Event::LogIn);
        let token = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, (_, since)| since.elapsed() < LIFE);
        if sessions.len() >= MOST
            && let Some(oldest) = sessions.iter().min_by_key(|(_, (_, since))| *since).map(|(key, _)| *key)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(key(&token), (user, Instant::now()));
        Ok(self.set_cookie(&token, LIFE.as_secs()))
    }

    /// Logs a user out; returns the value of `Set-Cookie`.
    pub fn log_out(&self, headers: &HeaderMap) -> String {
        if let Some(token) = cookie(headers) {
            self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(token));
        }
        self.set_cookie("", 0)
    }

    fn set_cookie(&self, token: &str, age: u64) -> String {
        let secure = if self.is_secure { "; Secure" } else { "" };
        format!("{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/; Max-Age={age}{secure}")
    }
}

fn key(token: &str) -> Key {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    key
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}
