//! Listening, accepting, and going down in order.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use neuroql::Engine;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::Error;
use crate::attention::{Phase, Registry};
use crate::passwords::{Passwords, Role};
use crate::rows::Roomy;
use crate::session::Base;
use crate::startup::{SUPERUSER, Shared};
use crate::tls::{self, TlsFiles};

/// A peer that has not proved who it is by then is sent away.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections above the limit that may be told so at a time; cancel requests come through here, too.
const OVERFLOW: usize = 64;
/// How long interrupted statements have to say so before the process ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How a [`Server`] is reached and by whom.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address and port, `127.0.0.1:5433`; port 0 takes a free one.
    pub listen: String,
    /// Users and passwords; without it every local client is the superuser `neuroql`.
    pub password_file: Option<PathBuf>,
    /// Encrypts connections that ask for it, and refuses remote ones that do not.
    pub tls: Option<TlsFiles>,
    /// Clients at a time.
    pub max_connections: usize,
    /// How long running statements may go on after the server was told to stop.
    pub grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:5433".into(),
            password_file: None,
            tls: None,
            max_connections: 100,
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
    max_connections: usize,
    grace: Duration,
}

impl Server {
    /// Reads the files named in the configuration and takes the address.
    ///
    /// Fails rather than serve less safely than asked: on an unreadable or unsuitable certificate, key or password
    /// file, and on an address other machines can reach when there is no password file.
    pub async fn bind(engine: &Engine, config: Config) -> Result<Self, Error> {
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let passwords = config.password_file.as_deref().map(Passwords::read).transpose()?;
        let failed = |source: io::Error| Error::Listen { address: config.listen.clone(), source };
        let addresses: Vec<_> = tokio::net::lookup_host(&config.listen).await.map_err(failed)?.collect();
        if passwords.is_none() && !addresses.iter().all(|address| address.ip().to_canonical().is_loopback()) {
            return Err(Error::Exposed { address: config.listen.clone() });
        }
        let listener = TcpListener::bind(addresses.as_slice()).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;

        let roles = match &passwords {
            Some(passwords) => passwords.roles().cloned().collect(),
            None => vec![Role { name: SUPERUSER.into(), superuser: true }],
        };
        let base = Base::new(engine, roles)?;
        let (phase, receiver) = watch::channel(Phase::Serving);
        let shared =
            Shared { base: Arc::new(base), registry: Arc::new(Registry::default()), passwords, tls, phase: receiver };
        Ok(Self {
            listener,
            address,
            shared: Arc::new(shared),
            phase,
            max_connections: config.max_connections,
            grace: config.grace,
        })
    }

    /// Where clients connect to.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves clients until `shutdown` completes, then lets running statements finish for a while.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, shared, phase, max_connections, grace, .. } = self;
        let clients = Arc::new(Semaphore::new(max_connections));
        let overflow = Arc::new(Semaphore::new(OVERFLOW));
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
            let (permit, full) = match Arc::clone(&clients).try_acquire_owned() {
                Ok(permit) => (permit, false),
                Err(_) => match Arc::clone(&overflow).try_acquire_owned() {
                    Ok(permit) => (permit, true),
                    Err(_) => continue,
                },
            };
            let shared = Arc::clone(&shared);
            connections.spawn(async move {
                let _permit = permit;
                if let Err(error) = prepare(&stream) {
                    tracing::debug!(%peer, "socket options: {error}");
                }
                match tokio::time::timeout(STARTUP_TIMEOUT, shared.admit(stream, peer, full)).await {
                    Ok(Some(connection)) => Roomy(Box::pin(connection.serve())).await,
                    Ok(None) => {}
                    Err(_) => tracing::info!(%peer, "no startup packet in time"),
                }
            });
        }
        drop(listener);
        phase.send_replace(Phase::Draining);
        if tokio::time::timeout(grace, finish(&mut connections)).await.is_err() {
            tracing::info!("interrupting {} running statements", connections.len());
            phase.send_replace(Phase::Stopping);
            // Whoever is left after that is cut off by dropping the set.
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

/// Small packets go out at once, and a peer that has vanished from the network is noticed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
