//! Files of web servers, which have no list of them: bounded reads of files that are named.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use ureq::http::{StatusCode, header};
use url::Url;

use crate::{Error, Result};

/// Greatest size of a file that a web server sends, in bytes.
const MOST_BYTES: u64 = 16 << 20;

/// Files that are asked for at the same time.
pub(crate) const AT_ONCE: usize = 8;

/// Redirections that are followed for one file.
const REDIRECTIONS: usize = 3;

/// Longest time that connecting to a server may take.
const CONNECTING: Duration = Duration::from_secs(10);

/// A folder of a web server.
#[derive(Debug, Clone)]
pub struct WebFolder {
    url: Url,
    agent: ureq::Agent,
    timeout: Duration,
}

/// Outcome of the request for a file: its bytes, `None` if the server has no such file, or the fault of the file.
pub(crate) type Answer = Result<Option<Vec<u8>>, String>;

impl WebFolder {
    /// A folder at an address such as `https://example.org/data/`, of which each file has to arrive within `timeout`.
    /// Nothing is asked of the server yet.
    ///
    /// # Errors
    /// [`Error::InvalidLocation`].
    pub fn new(address: &str, timeout: Duration) -> Result<Self> {
        let refuse = |reason: &str| Error::InvalidLocation { location: shown(address), reason: reason.to_owned() };
        let mut url = Url::parse(address).map_err(|error| refuse(&error.to_string()))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(refuse("only https:// and http:// are read over the network"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(refuse("it names no server"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("it has a user's name or password, which all who may read the table would see"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("it has a ? or #, and files are named by what comes after the address"));
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .timeout_connect(Some(timeout.min(CONNECTING)))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("neuroql/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { url, agent: config.new_agent(), timeout })
    }

    /// Address of a file.
    pub(crate) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Last part of the path of the folder.
    pub(crate) fn name(&self) -> Option<String> {
        self.url.path_segments()?.rfind(|part| !part.is_empty()).map(str::to_owned)
    }

    /// Asks for a file.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if the server does not answer, or not in time: then it will not for other files either.
    pub(crate) fn read(&self, path: &str) -> Result<Answer> {
        let mut url = match Url::parse(&self.address(path)) {
            Ok(url) => url,
            Err(error) => return Ok(Err(error.to_string())),
        };
        for _ in 0..=REDIRECTIONS {
            let response = match self.agent.get(url.as_str()).call() {
                Ok(response) => response,
                Err(error) => return self.failed(path, &error),
            };
            let status = response.status();
            if status.is_redirection() {
                let target = response.headers().get(header::LOCATION).and_then(|target| target.to_str().ok());
                url = match target.map(|target| next(&url, target)) {
                    Some(Ok(target)) => target,
                    Some(Err(reason)) => return Ok(Err(reason)),
                    None => return Ok(Err(format!("the server answers {status} and does not say where it leads"))),
                };
                continue;
            }
            return match status {
                StatusCode::OK => self.body(path, response),
                StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Ok(None)),
                _ => Ok(Err(format!("the server answers {status}"))),
            };
        }
        Ok(Err(format!("the server redirects more than {REDIRECTIONS} times")))
    }

    fn body(&self, path: &str, response: ureq::http::Response<ureq::Body>) -> Result<Answer> {
        let (declared, mut bytes) = (response.body().content_length(), Vec::new());
        if declared.is_some_and(|declared| declared > MOST_BYTES) {
            return Ok(Err(format!("it is larger than {MOST_BYTES} bytes")));
        }
        let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader().take(MOST_BYTES + 1);
        match reader.read_to_end(&mut bytes) {
            Ok(_) if bytes.len() as u64 > MOST_BYTES => Ok(Err(format!("it is larger than {MOST_BYTES} bytes"))),
            Ok(_) => Ok(Ok(Some(bytes))),
            Err(error) => match ureq::Error::from(error) {
                late @ ureq::Error::Timeout(_) => self.failed(path, &late),
                ureq::Error::Io(late) if late.kind() == ErrorKind::TimedOut => self.failed(path, &late.into()),
                error => Ok(Err(format!("it ended after {} bytes: {error}", bytes.len()))),
            },
        }
    }

    /// Tells errors of one file from those of the server.
    fn failed(&self, path: &str, error: &ureq::Error) -> Result<Answer> {
        let is_late = |error: &std::io::Error| error.kind() == ErrorKind::TimedOut;
        let reason = match error {
            ureq::Error::Timeout(_) => format!("it did not send the file within {:?}", self.timeout),
            ureq::Error::Io(error) if is_late(error) => format!("it did not send the file within {:?}", self.timeout),
            ureq::Error::Http(_) | ureq::Error::BadUri(_) | ureq::Error::Protocol(_) => {
                return Ok(Err(format!("the server's answer cannot be read: {error}")));
            }
            _ => error.to_string(),
        };
        Err(Error::Unreachable { location: self.address(path), reason })
    }
}

/// The address that a redirection leads to, if it is on the same server and no less secret.
fn next(from: &Url, target: &str) -> Result<Url, String> {
    let to = from.join(target).map_err(|error| format!("the server redirects to no address: {error}"))?;
    let is_as_secret = to.scheme() == from.scheme() || to.scheme() == "https";
    let is_own = to.host() == from.host() && to.username().is_empty() && to.password().is_none();
    match is_as_secret && is_own {
        true => Ok(to),
        false => Err(format!(
            "the server redirects to {}, which is another server: name that in LOCATION if it is to be read",
            &to[..url::Position::BeforePath]
        )),
    }
}

/// An address as it may be shown: without a password.
fn shown(address: &str) -> String {
    match Url::parse(address) {
        Ok(mut url) => {
            // Addresses without a server have no password to take away.
            let _ = url.set_password(None);
            url.to_string()
        }
        Err(_) => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let folder = |address| WebFolder::new(address, Duration::from_secs(1));
        assert_eq!(
            folder("https://a.example/x/data").unwrap().address("0/1.json"),
            "https://a.example/x/data/0/1.json"
        );
        assert_eq!(folder("http://a.example").unwrap().address("0/1.json"), "http://a.example/0/1.json");
        assert_eq!(folder("http://a.example/solu-1l/").unwrap().name().as_deref(), Some("solu-1l"));
        for (bad, reason) in [
            ("ftp://a.example/", "only https"),
            ("https://", "host"),
            ("https://me:secret@a.example/", "password"),
            ("https://a.example/?sv=1", "? or #"),
            ("https://a.example/#x", "? or #"),
            ("https://a.exa mple/", "domain"),
        ] {
            let error = folder(bad).unwrap_err();
            assert!(error.to_string().contains(reason) && !error.to_string().contains("secret"), "{bad}: {error}");
            assert_eq!(error.sqlstate(), "22023");
        }
    }

    #[test]
    fn redirections_stay_on_the_server() {
        let leads = |from: &str, target: &str| next(&Url::parse(from).unwrap(), target).map(|url| url.to_string());
        assert_eq!(leads("http://a.example/x/1.json", "/y/1.json").unwrap(), "http://a.example/y/1.json");
        assert_eq!(leads("http://a.example/x", "https://a.example/x").unwrap(), "https://a.example/x");
        for bad in
            ["http://b.example/", "//b.example/x", "http://169.254.169.254/", "http://me:x@a.example/", "file:///x"]
        {
            assert!(leads("http://a.example/x", bad).is_err(), "{bad}");
        }
        assert!(leads("https://a.example/x", "http://a.example/x").is_err());
    }
}
