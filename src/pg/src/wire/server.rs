//! Listening, accepting, and going down in order.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use neuroql::Engine;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Error;
use crate::client::Readers;
use crate::session::ServerState;
use crate::session::result_stream::LargeStackFuture;
use crate::session::settings::Timeouts;
use crate::wire::connection_slots::{ConnectionSlots, PendingConnections};
use crate::wire::interrupt::Phase;
use crate::wire::startup::{SUPERUSER, StartupContext};
use crate::wire::tls::{self, TlsFiles};
use neuroql::Role;
use neuroql_access::{AllowedLocations, AuditLog, FailedLogins, HostRules, Missing, Permissions, User, Users, missing};

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
    /// Rules on who may connect from where; without them every user may from everywhere.
    pub host_rules: Option<PathBuf>,
    /// File that log-ins, refusals and changes of tables and privileges are appended to.
    pub audit_log: Option<PathBuf>,
    /// Folders and URLs below which analysts may register models and datasets.
    pub allowed_locations: Vec<String>,
    /// Certificate and key; with them connections that ask for it are encrypted, and remote ones that do not are
    /// refused.
    pub tls: Option<TlsFiles>,
    /// True to serve other machines without encryption.
    pub allow_unencrypted: bool,
    /// Greatest number of clients at a time; a few of these slots are kept for superusers.
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
            host_rules: None,
            audit_log: None,
            allowed_locations: Vec::new(),
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
    shared: Arc<StartupContext>,
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
        let users = match &config.password_file {
            Some(file) => Users::read(file)?,
            None => Users::without_passwords(User::new(SUPERUSER, Role::Superuser)),
        };
        let locations = AllowedLocations::new(&config.allowed_locations).map_err(Error::Location)?;
        let failed = |source: io::Error| Error::Listen { address: config.listen.clone(), source };
        let addresses: Vec<_> = tokio::net::lookup_host(&config.listen).await.map_err(failed)?.collect();
        let is_safe = tls.is_some() || config.allow_unencrypted;
        match missing(&addresses, users.have_passwords(), is_safe) {
            Some(Missing::Passwords) => return Err(Error::Exposed { address: config.listen.clone() }),
            Some(Missing::Encryption) => return Err(Error::Unencrypted { address: config.listen.clone() }),
            None => {}
        }
        let listener = TcpListener::bind(addresses.as_slice()).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;

        let hosts = config.host_rules.as_deref().map(HostRules::read).transpose()?.unwrap_or_default();
        let shows_certificates = config.tls.as_ref().is_some_and(|tls| tls.client_authorities.is_some());
        if let Some(file) = config.host_rules.filter(|_| hosts.need_certificates() && !shows_certificates) {
            let reason = "they ask for certificates of clients, which --tls-client-ca is for".into();
            return Err(neuroql_access::Error::HostRules { file, reason }.into());
        }
        let audit = match config.audit_log {
            Some(file) => AuditLog::open(file.clone()).map_err(|source| Error::Audit { file, source })?,
            None => AuditLog::default(),
        };
        let permissions = Permissions { users: Arc::new(users), hosts, locations, audit };
        forget_gone(engine, &permissions.users).await?;
        let base = ServerState::new(engine, Arc::new(permissions))?;
        let (phase, receiver) = watch::channel(Phase::Serving);
        let shared = StartupContext {
            base: Arc::new(base),
            tls,
            phase: receiver,
            slots: ConnectionSlots::new(config.max_connections, config.max_connections_per_user),
            starting: PendingConnections::default(),
            failed: FailedLogins::default(),
            timeouts: Timeouts { default: config.statement_timeout, most: config.max_statement_timeout },
        };
        Ok(Self { listener, address, shared: Arc::new(shared), phase, grace: config.grace })
    }

    /// Returns sessions that only read, over the same tables and transactions.
    pub fn readers(&self) -> Readers {
        Readers::over(Arc::clone(&self.shared.base))
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
            shared.starting.make_room();
            let own = Arc::clone(&shared);
            let admit_and_serve = async move {
                if let Err(error) = prepare(&stream) {
                    tracing::debug!(%peer, "socket options: {error}");
                }
                let admitted = tokio::time::timeout(STARTUP_TIMEOUT, own.admit(stream, peer, number)).await;
                own.starting.remove(number);
                match admitted {
                    Ok(Some(connection)) => LargeStackFuture(Box::pin(connection.serve())).await,
                    Ok(None) => {}
                    Err(_) => tracing::info!(%peer, "no startup packet in time"),
                }
            };
            shared.starting.add(number, peer.ip().to_canonical(), || connections.spawn(admit_and_serve));
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

/// Forgets who owned tables that are gone. A model that nobody has registered by a statement is a superuser's, whatever
/// its name belonged to.
async fn forget_gone(engine: &Engine, users: &Users) -> Result<(), Error> {
    let registered = engine
        .store()
        .registrations()
        .await
        .map_err(|error| Error::Catalog(DataFusionError::External(Box::new(error))))?;
    let context = engine.session();
    users.forget_owners(|schema, table| {
        let exists = context.table_exist(TableReference::partial(schema, table)).unwrap_or(false);
        let is_model = engine.registry().get(table).is_ok();
        exists && (!is_model || registered.iter().any(|known| known.model == table))
    });
    Ok(())
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
