//! Listening, TLS, connections, and going down in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use neuroql_access::{Missing, missing};
use neuroql_pg::{Readers, TlsFiles};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::connection::serve;
use crate::guard::Hosts;
use crate::query::{Limits, Statements};
use crate::routes::{Shared, router};
use crate::sessions::Logins;

/// Time for a handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Greatest number of connections at a time.
const CONNECTIONS: usize = 512;
/// Time that running requests may go on after the server was told to stop.
const GRACE: Duration = Duration::from_secs(3);

/// Configuration of a [`Site`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Address and port, `127.0.0.1:8433`; port 0 takes a free one.
    pub listen: String,
    /// Further names under which it may be asked for, with a port or for any.
    pub hosts: Vec<String>,
    /// Origin whose pages may read the JSON, `https://lab.example`.
    pub cors: Option<String>,
    /// Certificate and key; with them connections are encrypted.
    pub tls: Option<TlsFiles>,
    /// True to serve other machines without encryption.
    pub allow_unencrypted: bool,
    /// Time that a statement of a page may run.
    pub page_timeout: Duration,
    /// Time that a statement may run that was typed or sent by a program.
    pub query_timeout: Duration,
    /// Requests that run statements at a time; others wait.
    pub max_requests: usize,
    /// Statements of a user at a time that were typed or sent by a program.
    pub max_queries_per_user: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8433".into(),
            hosts: Vec::new(),
            cors: None,
            tls: None,
            allow_unencrypted: false,
            page_timeout: Duration::from_secs(30),
            query_timeout: Duration::from_secs(120),
            max_requests: 16,
            max_queries_per_user: 4,
        }
    }
}

/// Errors that keep a site from starting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, not one of this machine's, or not an address.
    #[error("cannot listen on {address} for HTTP: {source}")]
    Listen {
        /// Address in the configuration.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// Other machines could read without a password.
    #[error(
        "{address} can be reached from other machines: give a password file (--password-file), or serve HTTP on 127.0.0.1"
    )]
    Exposed {
        /// Address in the configuration.
        address: String,
    },
    /// Passwords could be read on the way.
    #[error(
        "{address} can be reached from other machines: give a certificate (--tls-cert, --tls-key), or say \
         --allow-unencrypted"
    )]
    Unencrypted {
        /// Address in the configuration.
        address: String,
    },
    /// The origin that may read the JSON is none.
    #[error("\"{0}\" is not an origin, such as https://lab.example")]
    Origin(String),
    /// The certificate or the key cannot be used.
    #[error(transparent)]
    Tls(#[from] neuroql_pg::Error),
}

impl Error {
    /// Returns true if another program has the address.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

/// A site that has its address but does not accept connections yet.
#[derive(Debug)]
pub struct Site {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    shared: Arc<Shared>,
}

/// Builds the state of a site at an address.
pub(crate) fn shared(
    readers: Readers,
    address: SocketAddr,
    is_encrypted: bool,
    config: Config,
) -> Result<Shared, Error> {
    let cors = match config.cors {
        None => None,
        Some(origin) => Some(origin_header(&origin).ok_or(Error::Origin(origin))?),
    };
    let limits = Limits {
        page: config.page_timeout,
        query: config.query_timeout,
        requests: config.max_requests.max(1),
        queries_of_user: config.max_queries_per_user.max(1),
    };
    let permissions = Arc::clone(readers.permissions());
    let has_passwords = permissions.users.have_passwords();
    Ok(Shared {
        statements: Statements::new(readers, limits),
        logins: has_passwords.then(|| Logins::new(permissions, is_encrypted)),
        hosts: Hosts::new(address, config.hosts),
        cors,
    })
}

struct Tls(TlsAcceptor);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").finish_non_exhaustive()
    }
}

impl Site {
    /// Reads the files named in the configuration and takes the address.
    ///
    /// # Errors
    /// Fails rather than serve less safely than asked: on an unsuitable certificate or key, and on an address that other
    /// machines can reach if the readers' users have no passwords, or there is no encryption.
    pub async fn bind(readers: Readers, config: Config) -> Result<Self, Error> {
        let tls = config.tls.as_ref().map(|files| neuroql_pg::acceptor(files, b"http/1.1")).transpose()?.map(Tls);
        let failed = |source: io::Error| Error::Listen { address: config.listen.clone(), source };
        let addresses: Vec<_> = tokio::net::lookup_host(&config.listen).await.map_err(failed)?.collect();
        let is_safe = tls.is_some() || config.allow_unencrypted;
        match missing(&addresses, readers.permissions().users.have_passwords(), is_safe) {
            Some(Missing::Passwords) => return Err(Error::Exposed { address: config.listen.clone() }),
            Some(Missing::Encryption) => return Err(Error::Unencrypted { address: config.listen.clone() }),
            None => {}
        }
        let listener = TcpListener::bind(addresses.as_slice()).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = shared(readers, address, tls.is_some(), config)?;
        Ok(Self { listener, address, tls, shared: Arc::new(shared) })
    }

    /// Returns the address that browsers connect to.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Returns the link to the first page.
    pub fn link(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        match self.address.ip() {
            ip if ip.is_unspecified() => format!("{scheme}://127.0.0.1:{}/", self.address.port()),
            _ => format!("{scheme}://{}/", self.address),
        }
    }

    /// Serves browsers until `shutdown` completes, then lets running requests finish for a while.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, tls, shared, .. } = self;
        let router = router(shared);
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let (stop, stopping) = watch::channel(false);
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!("cannot accept a connection: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            // A connection too many is closed, which a browser tries again.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let (router, stopping) = (router.clone(), stopping.clone());
            let acceptor = tls.as_ref().map(|tls| tls.0.clone());
            connections.spawn(async move {
                open(stream, peer, acceptor, router, stopping).await;
                drop(place);
            });
        }
        drop(listener);
        stop.send_replace(true);
        let all_done = async { while connections.join_next().await.is_some() {} };
        // Dropping the set then cuts off the rest.
        let _ = tokio::time::timeout(GRACE, all_done).await;
    }
}

async fn open(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    stopping: watch::Receiver<bool>,
) {
    // Small packets are sent at once; without it they wait, and nothing else fails.
    let _ = stream.set_nodelay(true);
    match acceptor {
        None => serve(stream, peer, router, stopping).await,
        Some(acceptor) => match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(encrypted)) => serve(encrypted, peer, router, stopping).await,
            _ => tracing::debug!(%peer, "no TLS"),
        },
    }
}

/// Reads an origin: a scheme and a host, without a path.
fn origin_header(text: &str) -> Option<axum::http::HeaderValue> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let is_host = !host.is_empty() && host.parse::<axum::http::uri::Authority>().is_ok() && !host.contains('@');
    if is_host { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::origin_header;

    #[test]
    fn origins() {
        assert!(origin_header("https://lab.example").is_some() && origin_header("http://127.0.0.1:3000").is_some());
        for bad in ["*", "null", "lab.example", "https://", "https://a/b", "https://u@a", "https://a\n"] {
            assert!(origin_header(bad).is_none(), "{bad}");
        }
    }
}
