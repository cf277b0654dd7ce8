//! Listening, accepting, and going down in order.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use neuroql::Engine;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Error;
use crate::session::Base;
use crate::session::result_stream::Roomy;
use crate::session::settings::Timeouts;
use crate::wire::interrupt::Phase;
use crate::wire::places::{FailedLogins, Places, Strangers};
use crate::wire::startup::{SUPERUSER, Shared};
use crate::wire::tls::{self, TlsFiles};
use neuroql_access::{Role, Users};

/// Time after which a peer that has not logged in is disconnected.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for interrupted statements to report so before the process ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Configuration of a [`Server`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Address and port, `127.0.0.1:5433`; port 0 takes a free one.
    pub listen: String,
    /// Users and passwords; without it every local client is the superuser `neuroql`.
    pub password_file: Option<PathBuf>,
    /// Certificate and key; with them connections that ask for it are encrypted, and remote ones that do not are
    /// refused.
    pub tls: Option<TlsFiles>,
    /// True to serve other machines without encryption.
    pub allow_unencrypted: bool,
    /// Greatest number of clients at a time; a few of these places are kept for superusers.
    pub max_connections: usize,
    /// Greatest number of clients at a time of each user who is not a superuser.
    pub max_connections_per_user: Option<usize>,
    /// Limit on the time of statements in sessions that do not set `statement_timeout`.
    pub statement_timeout: Option<Duration>,
    /// Greatest `statement_timeout` of users who are not superusers.
    pub max_statement_timeout: Option<Duration>,
    /// Time that running statements may go on after the server was told to stop.
    pub grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:5433".into(),
            password_file: None,
            tls: None,
            allow_unencrypted: false,
            max_connections: 100,
            max_connections_per_user: None,
            statement_timeout: None,
            max_statement_timeout: None,
            grace: Duration::from_secs(5),
        }
    }
}

/// A server that has its address but does not accept clients yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    grace: Duration,
}

impl Server {
    /// Reads the files named in the configuration and takes the address.
    ///
    /// # Errors
    /// Fails rather than serve less safely than asked: on an unreadable or unsuitable certificate, key or password
    /// file, and on an address that other machines can reach if there is no password file, or no encryption.
    pub async fn bind(engine: &Engine, config: Config) -> Result<Self, Error> {
        let tls = config.tls.as_ref().map(tls::read).transpose()?;
        let passwords = config.password_file.as_deref().map(Users::read).transpose()?;
        let failed = |source: io::Error| Error::Listen { address: config.listen.clone(), source };
        let addresses: Vec<_> = tokio::net::lookup_host(&config.listen).await.map_err(failed)?.collect();
        if !addresses.iter().all(|address| address.ip().to_canonical().is_loopback()) {
            if passwords.is_none() {
                return Err(Error::Exposed { address: config.listen.clone() });
            }
            if tls.is_none() && !config.allow_unencrypted {
                return Err(Error::Unencrypted { address: config.listen.clone() });
            }
        }
        let listener = TcpListener::bind(addresses.as_slice()).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;

        let roles = match &passwords {
            Some(passwords) => passwords.roles().cloned().collect(),
            None => vec![Role { name: SUPERUSER.into(), superuser: true }],
        };
        let base = Base::new(engine, roles)?;
        let (phase, receiver) = watch::channel(Phase::Serving);
        let shared = Shared {
            base: Arc::new(base),
            passwords,
            tls,
            phase: receiver,
            places: Places::new(config.max_connections, config.max_connections_per_user),
            strangers: Strangers::default(),
            failed: FailedLogins::default(),
            timeouts: Timeouts { default: config.statement_timeout, most: config.max_statement_timeout },
        };
        Ok(Self { listener, address, shared: Arc::new(shared), phase, grace: config.grace })
    }

    /// Returns the address that clients connect to.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves clients until `shutdown` completes, then lets running statements finish for a while.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, shared, phase, grace, .. } = self;
        let mut numbers = 0_u64..;
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(ended) = connections.join_next() => {
                    report_panic(ended);
                    continue;
                }
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of file descriptors, most likely: waiting is better than spinning.
                        tracing::warn!("cannot accept a connection: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let number = numbers.next().unwrap_or_default();
            shared.strangers.make_room();
            let own = Arc::clone(&shared);
            let admit_and_serve = async move {
                if let Err(error) = prepare(&stream) {
                    tracing::debug!(%peer, "socket options: {error}");
                }
                let admitted = tokio::time::timeout(STARTUP_TIMEOUT, own.admit(stream, peer, number)).await;
                own.strangers.remove(number);
                match admitted {
                    Ok(Some(connection)) => Roomy(Box::pin(connection.serve())).await,
                    Ok(None) => {}
                    Err(_) => tracing::info!(%peer, "no startup packet in time"),
                }
            };
            shared.strangers.add(number, peer.ip().to_canonical(), || connections.spawn(admit_and_serve));
        }
        drop(listener);
        phase.send_replace(Phase::Draining);
        if tokio::time::timeout(grace, finish(&mut connections)).await.is_err() {
            tracing::info!("interrupting {} running statements", connections.len());
            phase.send_replace(Phase::Stopping);
            // Dropping the set then cuts off the remaining clients.
            let _ = tokio::time::timeout(LAST_WORDS, finish(&mut connections)).await;
        }
    }
}

async fn finish(connections: &mut JoinSet<()>) {
    while let Some(ended) = connections.join_next().await {
        report_panic(ended);
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection ended with a panic: {error}");
    }
}

/// Sets options of a connection: small packets are sent at once, and a peer that has vanished from the network is
/// noticed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
