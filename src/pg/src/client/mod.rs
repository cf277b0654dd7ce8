//! Sessions of the process itself: the wire protocol between two ends of a pipe in memory.
//!
//! A client gets the same here as any Postgres client: the same parser, permissions, types, errors and tags. The
//! user is a superuser, since whoever starts a process may do with its engine what they like.

mod reader;
mod results;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use datafusion_postgres::pgwire::messages::copy::{CopyData, CopyDone, CopyFail};
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use datafusion_postgres::pgwire::messages::simplequery::Query;
use datafusion_postgres::pgwire::messages::startup::{MESSAGE_TYPE_BYTE_PARAMETER_STATUS, SecretKey, Startup};
use datafusion_postgres::pgwire::messages::terminate::Terminate;
use datafusion_postgres::pgwire::messages::{
    DecodeContext, PgWireBackendMessage, PgWireFrontendMessage, ProtocolVersion,
};
use neuroql::Engine;
use neuroql_access::{FailedLogins, Permissions, User, Users};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::watch;

pub use self::reader::{Reader, Readers, Rows};
pub use self::results::{Column, Event, Kind, Report, Row};
use crate::Error;
use crate::session::ServerState;
use crate::session::result_stream::LargeStackFuture;
use crate::session::settings::Timeouts;
use crate::wire::connection_slots::{ConnectionSlots, PendingConnections};
use crate::wire::framing::HEADER;
use crate::wire::interrupt::Phase;
use crate::wire::startup::{SUPERUSER, StartupContext};

/// Bytes that may wait between the session and its client.
const PIPE: usize = 256 << 10;

/// Greatest number of sessions at a time.
const SESSIONS: usize = 100;

/// Errors of a session within the process, apart from those of statements.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The session has ended.
    #[error("the session has ended{}", .0.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Ended(Option<String>),
    /// The text ends at a byte 0 in the protocol.
    #[error("SQL may not hold a byte 0")]
    Zero,
    /// A message of the session is not one of the protocol. This is a bug in neuroql.
    #[error("internal error: the session sent {0}")]
    Message(String),
}

/// State of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transaction {
    /// There is none.
    None,
    /// There is one.
    Open,
    /// There is one in which a statement has failed.
    Failed,
}

/// Front end to an engine for clients within the process.
#[derive(Clone)]
pub struct Local {
    inner: Arc<Inner>,
}

struct Inner {
    shared: StartupContext,
    /// Sessions end when this is dropped.
    _phase: watch::Sender<Phase>,
}

impl Local {
    /// Sets up the Postgres catalog over the engine.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn new(engine: &Engine) -> Result<Self, Error> {
        let users = Users::without_passwords(User::new(SUPERUSER, neuroql::Role::Superuser));
        let (phase, receiver) = watch::channel(Phase::Serving);
        let shared = StartupContext {
            base: Arc::new(ServerState::new(engine, Arc::new(Permissions::of(users)))?),
            tls: None,
            phase: receiver,
            slots: ConnectionSlots::new(SESSIONS, None),
            starting: PendingConnections::default(),
            failed: FailedLogins::default(),
            timeouts: Timeouts { default: None, most: None },
        };
        Ok(Self { inner: Arc::new(Inner { shared, _phase: phase }) })
    }

    /// Starts a session. `application` is its `application_name`.
    ///
    /// # Errors
    /// If the session cannot start.
    pub async fn connect(&self, application: &str) -> Result<Client, ClientError> {
        let (near, far) = tokio::io::duplex(PIPE);
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            if let Some(connection) = inner.shared.admit_local(far).await {
                LargeStackFuture(Box::pin(connection.serve())).await;
            }
        });
        let (reader, writer) = tokio::io::split(near);
        let mut client = Client {
            reader,
            writer,
            buffer: BytesMut::new(),
            cancel: Canceller { inner: Arc::clone(&self.inner), pid: 0, secret: Vec::new() },
            transaction: Transaction::None,
            ended: None,
        };
        let mut startup = Startup::new();
        for (name, value) in [("user", SUPERUSER), ("database", SUPERUSER), ("application_name", application)] {
            startup.parameters.insert(name.into(), value.into());
        }
        client.send(PgWireFrontendMessage::Startup(startup)).await?;
        while let Some(event) = client.next().await? {
            if let Event::Error(report) = event {
                return Err(ClientError::Ended(Some(report.message)));
            }
        }
        Ok(client)
    }
}

/// Ends the statement of a session.
#[derive(Clone)]
pub struct Canceller {
    inner: Arc<Inner>,
    pid: i32,
    secret: Vec<u8>,
}

impl Canceller {
    /// Asks the session to end the statement that is running, if one is; it then has error 57014.
    pub fn cancel(&self) {
        self.inner.shared.base.registry().cancel(self.pid, &self.secret);
    }
}

/// A session within the process, which speaks the simple query protocol.
///
/// After [`Client::query`], [`Client::next`] is called until it returns `None`.
pub struct Client {
    reader: ReadHalf<DuplexStream>,
    writer: WriteHalf<DuplexStream>,
    buffer: BytesMut,
    cancel: Canceller,
    transaction: Transaction,
    /// The error after which the session ended.
    ended: Option<String>,
}

impl Client {
    /// Sends SQL: statements with semicolons between them.
    ///
    /// # Errors
    /// If the session has ended, or the text holds a byte 0.
    pub async fn query(&mut self, sql: &str) -> Result<(), ClientError> {
        if sql.contains('\0') {
            return Err(ClientError::Zero);
        }
        self.send(PgWireFrontendMessage::Query(Query::new(sql.into()))).await
    }

    /// Returns what the session says next, `None` once it waits for the next query. May be dropped while it waits.
    ///
    /// # Errors
    /// If the session has ended.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            let Some(message) = self.take_message()? else {
                if self.reader.read_buf(&mut self.buffer).await.is_ok_and(|bytes| bytes > 0) {
                    continue;
                }
                return Err(ClientError::Ended(self.ended.take()));
            };
            match message {
                PgWireBackendMessage::ReadyForQuery(ready) => {
                    self.transaction = match ready.status {
                        TransactionStatus::Idle => Transaction::None,
                        TransactionStatus::Transaction => Transaction::Open,
                        TransactionStatus::Error => Transaction::Failed,
                    };
                    return Ok(None);
                }
                PgWireBackendMessage::BackendKeyData(key) => {
                    self.cancel.pid = key.pid;
                    self.cancel.secret = match key.secret_key {
                        SecretKey::I32(secret) => secret.to_be_bytes().to_vec(),
                        SecretKey::Bytes(secret) => secret.to_vec(),
                    };
                }
                message => {
                    if let Some(event) = Event::of(message)? {
                        if let Event::Error(report) = &event
                            && report.severity == "FATAL"
                        {
                            self.ended = Some(report.message.clone());
                        }
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    /// Sends rows of a `COPY … FROM STDIN`, after [`Event::CopyIn`].
    ///
    /// # Errors
    /// If the session has ended.
    pub async fn copy(&mut self, data: Bytes) -> Result<(), ClientError> {
        self.send(PgWireFrontendMessage::CopyData(CopyData::new(data))).await
    }

    /// Ends the rows of a `COPY … FROM STDIN`.
    ///
    /// # Errors
    /// If the session has ended.
    pub async fn copy_done(&mut self) -> Result<(), ClientError> {
        self.send(PgWireFrontendMessage::CopyDone(CopyDone::new())).await
    }

    /// Gives up a `COPY … FROM STDIN`, for a reason that its error names.
    ///
    /// # Errors
    /// If the session has ended.
    pub async fn copy_fail(&mut self, reason: &str) -> Result<(), ClientError> {
        self.send(PgWireFrontendMessage::CopyFail(CopyFail::new(reason.into()))).await
    }

    /// Returns the state of the transaction after the last query.
    pub fn transaction(&self) -> Transaction {
        self.transaction
    }

    /// Returns a handle that ends statements of this session while it is waited for.
    pub fn canceller(&self) -> Canceller {
        self.cancel.clone()
    }

    /// Ends the session.
    pub async fn close(mut self) {
        // It may have ended by itself.
        let _ = self.send(PgWireFrontendMessage::Terminate(Terminate::new())).await;
    }

    async fn send(&mut self, message: PgWireFrontendMessage) -> Result<(), ClientError> {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes).map_err(|error| ClientError::Message(error.to_string()))?;
        let sent = self.writer.write_all(&bytes).await;
        sent.map_err(|_| ClientError::Ended(self.ended.take()))
    }

    /// Takes the next whole message from the buffer, other than those of parameters.
    fn take_message(&mut self) -> Result<Option<PgWireBackendMessage>, ClientError> {
        loop {
            let Some(mut packet) = self.take_packet()? else { return Ok(None) };
            let kind = packet.first().copied().unwrap_or_default();
            if kind == MESSAGE_TYPE_BYTE_PARAMETER_STATUS {
                continue;
            }
            let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
            context.awaiting_frontend_ssl = false;
            context.awaiting_frontend_startup = false;
            return match PgWireBackendMessage::decode(&mut packet, &context) {
                Ok(Some(message)) => Ok(Some(message)),
                Ok(None) | Err(_) => Err(malformed(kind)),
            };
        }
    }

    /// Takes the bytes of a whole message from the buffer.
    fn take_packet(&mut self) -> Result<Option<BytesMut>, ClientError> {
        let Some(header) = self.buffer.first_chunk::<HEADER>() else { return Ok(None) };
        let [kind, length @ ..] = *header;
        let length = usize::try_from(i32::from_be_bytes(length)).map_err(|_| malformed(kind))?;
        if self.buffer.len() <= length {
            self.buffer.reserve(length + 1 - self.buffer.len());
            return Ok(None);
        }
        Ok(Some(self.buffer.split_to(length + 1)))
    }
}

fn malformed(kind: u8) -> ClientError {
    ClientError::Message(format!("a malformed message of type '{}'", kind.escape_ascii()))
}
