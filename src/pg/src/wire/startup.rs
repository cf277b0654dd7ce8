//! Start-up of a connection, until its client may send queries: encryption, startup packet, password.
//!
//! The peer is a stranger here, so packets are read exactly, in small bounded pieces, and nothing of the first
//! plaintext bytes can slip into an encrypted conversation.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use datafusion_postgres::pgwire::messages::PgWireBackendMessage as Message;
use datafusion_postgres::pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, SecretKey,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;

use crate::session::settings::Timeouts;
use crate::session::{ServerState, Session};
use crate::wire::connection::Connection;
use crate::wire::connection_slots::{ConnectionSlot, ConnectionSlots, PendingConnections};
use crate::wire::error_response::{Failure, SqlError};
use crate::wire::framing::{HEADER, Inbox, LARGEST_STARTUP_PACKET, Outbox, Socket, Tcp, split};
use crate::wire::interrupt::{InterruptHandler, Phase, shutting_down};
use crate::wire::tls::{ALPN, Tls, client_certificate};
use neuroql_access::{ChannelBinding, ClientCertificate, Connecting, Event, Exchange, FailedLogins, Login, User};

const CANCEL_REQUEST: i32 = 80_877_102;
const SSL_REQUEST: i32 = 80_877_103;
const GSS_REQUEST: i32 = 80_877_104;
const PROTOCOL_3_0: i32 = 3 << 16;
const SCRAM: &str = "SCRAM-SHA-256";
const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The database that PostgreSQL has from the beginning.
const DATABASE: &str = "postgres";

/// The user of every connection to a server without a password file.
pub(crate) const SUPERUSER: &str = "neuroql";

/// State that the connections of a server share.
pub(crate) struct StartupContext {
    pub(crate) base: Arc<ServerState>,
    pub(crate) tls: Option<Tls>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) slots: Arc<ConnectionSlots>,
    pub(crate) starting: PendingConnections,
    pub(crate) failed: FailedLogins,
    pub(crate) timeouts: Timeouts,
}

/// Encryption of a connection.
struct Secure {
    /// The certificate that the client has shown.
    certificate: Option<ClientCertificate>,
}

/// A client that asks to come in.
struct Peer {
    address: SocketAddr,
    /// `None` without encryption.
    secure: Option<Secure>,
}

/// The first packet of a connection.
#[derive(Debug, PartialEq, Eq)]
enum FirstPacket {
    Ssl,
    Gss,
    Cancel { pid: i32, secret: Vec<u8> },
    Startup { minor: u16, parameters: Vec<(String, String)> },
}

impl StartupContext {
    /// Lets a client in. Returns `None` if there is no client to serve: a cancel request, a refusal, a peer that failed
    /// to log in. `number` is that of the peer among those that start up.
    pub(crate) async fn admit(&self, stream: TcpStream, peer: SocketAddr, number: u64) -> Option<Connection> {
        let tcp = Arc::new(stream);
        let (socket, secure, first) = match self.open(Tcp(Arc::clone(&tcp))).await {
            Ok(opened) => opened,
            Err(_) => return None,
        };
        self.starting.spoke(number);
        let (mut inbox, mut outbox) = split(socket, Some(tcp));
        let admitted = match first {
            Ok(FirstPacket::Cancel { pid, secret }) => {
                self.base.registry().cancel(pid, &secret);
                return None;
            }
            Ok(FirstPacket::Startup { minor, parameters }) => {
                let peer = Peer { address: peer, secure };
                self.welcome(&mut inbox, &mut outbox, &peer, minor, parameters).await
            }
            Ok(FirstPacket::Ssl | FirstPacket::Gss) => {
                Err(SqlError::protocol_violation("unexpected encryption request").into())
            }
            Err(failure) => Err(failure),
        };
        let_in(admitted, inbox, outbox, peer).await
    }

    /// Lets in a client at the other end of a pipe in this process, who needs no password.
    pub(crate) async fn admit_local(&self, mut pipe: DuplexStream) -> Option<Connection> {
        let first = read_first(&mut pipe).await;
        let (mut inbox, mut outbox) = split(Box::new(pipe), None);
        let admitted = match first {
            Ok(FirstPacket::Startup { minor, parameters }) => {
                let here = Peer { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), secure: None };
                self.welcome(&mut inbox, &mut outbox, &here, minor, parameters).await
            }
            Ok(_) => Err(SqlError::protocol_violation("expected a startup packet").into()),
            Err(failure) => Err(failure),
        };
        let_in(admitted, inbox, outbox, "this process").await
    }

    /// Negotiates encryption and reads the packet after that.
    async fn open(&self, mut stream: Tcp) -> std::io::Result<Opened> {
        let mut byte = [0];
        if let Some(tls) = &self.tls
            && stream.0.peek(&mut byte).await? == 1
            && byte[0] == TLS_HANDSHAKE
        {
            let encrypted = tls.acceptor.accept(stream).await?;
            if encrypted.get_ref().1.alpn_protocol() != Some(ALPN) {
                return Err(std::io::ErrorKind::InvalidData.into());
            }
            return Ok(encrypted_socket(encrypted).await);
        }
        // Each kind of encryption may be asked for once.
        for _ in 0..2 {
            match read_first(&mut stream).await {
                Ok(FirstPacket::Ssl) => match &self.tls {
                    Some(tls) => {
                        stream.write_all(b"S").await?;
                        return Ok(encrypted_socket(tls.acceptor.accept(stream).await?).await);
                    }
                    None => stream.write_all(b"N").await?,
                },
                Ok(FirstPacket::Gss) => stream.write_all(b"N").await?,
                first => return Ok((Box::new(stream), None, first)),
            }
        }
        let first = read_first(&mut stream).await;
        Ok((Box::new(stream), None, first))
    }

    /// Lets a client in, and notes in the audit log whether it came in.
    async fn welcome(
        &self,
        inbox: &mut Inbox,
        outbox: &mut Outbox,
        peer: &Peer,
        minor: u16,
        parameters: Vec<(String, String)>,
    ) -> Result<(Session, InterruptHandler, ConnectionSlot), Failure> {
        let user = parameters.iter().find(|(name, _)| name == "user").map(|(_, user)| user.clone()).unwrap_or_default();
        let admitted = self.log_in(inbox, outbox, peer, minor, parameters).await;
        let audit = &self.base.permissions.audit;
        match &admitted {
            Ok((session, ..)) => audit.record(&session.user.name, peer.address, Event::LogIn),
            Err(Failure::SqlError(error)) => {
                let event = Event::LogInFailed { sqlstate: &error.sqlstate, message: &error.message };
                audit.record(&user, peer.address, event);
            }
            Err(Failure::Disconnected) => {}
        }
        admitted
    }

    async fn log_in(
        &self,
        inbox: &mut Inbox,
        outbox: &mut Outbox,
        peer: &Peer,
        minor: u16,
        parameters: Vec<(String, String)>,
    ) -> Result<(Session, InterruptHandler, ConnectionSlot), Failure> {
        let find = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let Some(user) = find("user").filter(|user| !user.is_empty()) else {
            return Err(SqlError::fatal("28000", "no PostgreSQL user name specified in startup packet").into());
        };
        if find("replication").is_some_and(|value| !matches!(value, "false" | "off" | "no" | "0")) {
            return Err(SqlError::fatal("0A000", "replication is not supported").into());
        }
        let extensions: Vec<_> =
            parameters.iter().filter(|(name, _)| name.starts_with("_pq_.")).map(|(name, _)| name.clone()).collect();
        if minor > 0 || !extensions.is_empty() {
            let answer = NegotiateProtocolVersion::new(PROTOCOL_3_0, extensions);
            outbox.put(Message::NegotiateProtocolVersion(answer))?;
        }
        // Without a database a client means the one that is named like the user.
        let database = find("database").filter(|name| !name.is_empty()).unwrap_or(user);
        let certificate = peer.secure.as_ref().and_then(|secure| secure.certificate.as_ref());
        let is_encrypted = peer.secure.is_some();
        let connecting = Connecting { user, database, address: peer.address.ip(), is_encrypted, certificate };
        let login = self.base.permissions.hosts.check(connecting);
        let login = login.map_err(|error| SqlError::from(error).into_fatal())?;
        let own_name = user;
        let user = self.authenticate(inbox, outbox, peer, login, user).await?;
        if database != own_name && !self.has_database(database) {
            return Err(SqlError::fatal("3D000", format!("database \"{database}\" does not exist")).into());
        }
        let slot = self.slots.take(&user)?;

        let registration = self.base.registry().register(&user, peer.address);
        let (pid, secret) = (registration.pid, i32::from_be_bytes(registration.secret));
        let mut session =
            Session::new(Arc::clone(&self.base), user, peer.address, pid, &self.timeouts).map_err(SqlError::from)?;
        apply_parameters(&session, &parameters).map_err(SqlError::into_fatal)?;
        session.synchronize().await.map_err(SqlError::into_fatal)?;

        outbox.put(Message::Authentication(Authentication::Ok))?;
        for notice in session.notices.drain(..) {
            outbox.put(notice)?;
        }
        outbox.put(Message::BackendKeyData(BackendKeyData::new(pid, SecretKey::I32(secret))))?;
        Ok((session, InterruptHandler::new(registration, self.phase.clone()), slot))
    }

    /// Returns true if clients may give the database this name, beside the one of their user: the catalogs, what host rules name,
    /// and the database that many tools connect to first.
    fn has_database(&self, name: &str) -> bool {
        let catalogs = self.base.catalogs();
        name == DATABASE || catalogs.catalog(name).is_some() || self.base.permissions.hosts.name_database(name)
    }

    async fn authenticate(
        &self,
        inbox: &mut Inbox,
        outbox: &mut Outbox,
        peer: &Peer,
        login: Login,
        user: &str,
    ) -> Result<User, Failure> {
        let address = peer.address.ip().to_canonical();
        let local = address.is_loopback();
        let secure = peer.secure.is_some();
        let users = &self.base.permissions.users;
        if !users.have_passwords() {
            // The server then listens on loopback only; this checks it once more.
            return match users.get(SUPERUSER).filter(|_| local) {
                Some(superuser) => Ok(superuser),
                None => Err(SqlError::fatal("28000", "this server accepts local connections only").into()),
            };
        }
        if self.tls.is_some() && !secure && !local {
            return Err(
                SqlError::fatal("28000", "this server requires encryption; connect with sslmode=require").into()
            );
        }
        // Who is added to the password file can log in at once.
        let changed = Arc::clone(users);
        tokio::task::spawn_blocking(move || changed.refresh()).await.map_err(|_| shutting_down())?;
        let (found, verifier) = users.lookup(user);
        if login == Login::Certificate {
            let denied = || SqlError::fatal("28000", format!("certificate authentication failed for user \"{user}\""));
            return Ok(found.ok_or_else(denied)?);
        }

        let end_point = self.tls.as_ref().and_then(|tls| tls.end_point.as_deref()).filter(|_| secure);
        let mechanisms = end_point.map(|_| SCRAM_PLUS).into_iter().chain([SCRAM]);
        let offered = Authentication::SASL(mechanisms.map(str::to_owned).collect());
        outbox.put(Message::Authentication(offered))?;
        outbox.flush().await?;
        let malformed = || SqlError::protocol_violation("malformed SCRAM message");
        let body = password_message(inbox).await?;
        // SASLInitialResponse: mechanism, zero byte, length, data.
        let mut parts = body.splitn(2, |byte| *byte == 0);
        let (mechanism, rest) = (parts.next().unwrap_or_default(), parts.next().ok_or_else(malformed)?);
        let channel = match (mechanism, end_point) {
            (mechanism, Some(hash)) if mechanism == SCRAM_PLUS.as_bytes() => ChannelBinding::Chosen(hash),
            (mechanism, Some(_)) if mechanism == SCRAM.as_bytes() => ChannelBinding::Declined,
            (mechanism, None) if mechanism == SCRAM.as_bytes() => ChannelBinding::NotOffered,
            _ => {
                let message = "client selected an authentication mechanism not offered";
                return Err(SqlError::protocol_violation(message).into());
            }
        };
        let client_first = rest.get(4..).and_then(|data| std::str::from_utf8(data).ok()).ok_or_else(malformed)?;
        let exchange = Exchange::begin(client_first, verifier, channel).ok_or_else(malformed)?;
        let challenge = Bytes::copy_from_slice(exchange.challenge().as_bytes());
        outbox.put(Message::Authentication(Authentication::SASLContinue(challenge)))?;
        outbox.flush().await?;

        let body = password_message(inbox).await?;
        let client_final = std::str::from_utf8(&body).map_err(|_| malformed())?;
        match (exchange.finish(client_final), found) {
            (Some(server_final), Some(found)) => {
                self.failed.forget(address);
                outbox.put(Message::Authentication(Authentication::SASLFinal(Bytes::from(server_final))))?;
                Ok(found)
            }
            // The answer does not tell a wrong name from a wrong password.
            _ => {
                tokio::time::sleep(self.failed.add(address)).await;
                Err(SqlError::fatal("28P01", format!("password authentication failed for user \"{user}\"")).into())
            }
        }
    }
}

/// A socket, its encryption, and the first packet that came over it.
type Opened = (Box<dyn Socket>, Option<Secure>, Result<FirstPacket, Failure>);

async fn encrypted_socket(mut stream: TlsStream<Tcp>) -> Opened {
    let secure = Secure { certificate: client_certificate(stream.get_ref().1) };
    let first = read_first(&mut stream).await;
    (Box::new(stream), Some(secure), first)
}

/// Returns the connection of a client that may come in; tells another why not.
async fn let_in(
    admitted: Result<(Session, InterruptHandler, ConnectionSlot), Failure>,
    mut inbox: Inbox,
    mut outbox: Outbox,
    peer: impl std::fmt::Display,
) -> Option<Connection> {
    match admitted {
        Ok((session, interrupts, slot)) => {
            inbox.encoding = session.encoding.clone();
            outbox.encoding = session.encoding.clone();
            Some(Connection { inbox, outbox, session, interrupts, _slot: slot })
        }
        Err(Failure::Disconnected) => None,
        Err(Failure::SqlError(error)) => {
            tracing::info!(%peer, sqlstate = %error.sqlstate, "refused: {}", error.message);
            // The peer may have hung up; then it does not matter.
            let _ = outbox.put(error.into_message());
            let _ = outbox.flush().await;
            outbox.close().await;
            None
        }
    }
}

/// First byte of a TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;

async fn password_message(inbox: &mut Inbox) -> Result<Bytes, Failure> {
    match inbox.packet(LARGEST_STARTUP_PACKET).await? {
        Some(packet) if packet.first() == Some(&b'p') => Ok(packet.freeze().slice(HEADER..)),
        Some(_) => Err(SqlError::protocol_violation("expected a password message").into()),
        None => Err(Failure::Disconnected),
    }
}

/// Reads exactly one packet.
async fn read_first(stream: &mut (impl AsyncRead + Unpin)) -> Result<FirstPacket, Failure> {
    let mut header = [0; 8];
    stream.read_exact(&mut header).await?;
    let [a, b, c, d, e, f, g, h] = header;
    let (length, code) = (i32::from_be_bytes([a, b, c, d]), i32::from_be_bytes([e, f, g, h]));
    let length = usize::try_from(length).unwrap_or(0);
    if !(8..=LARGEST_STARTUP_PACKET).contains(&length) {
        return Err(SqlError::protocol_violation("invalid length of startup packet").into());
    }
    let mut body = vec![0; length - 8];
    stream.read_exact(&mut body).await?;
    Ok(interpret(code, &body)?)
}

fn interpret(code: i32, body: &[u8]) -> Result<FirstPacket, SqlError> {
    match code {
        SSL_REQUEST => Ok(FirstPacket::Ssl),
        GSS_REQUEST => Ok(FirstPacket::Gss),
        CANCEL_REQUEST => match body.split_first_chunk::<4>() {
            Some((pid, secret)) => Ok(FirstPacket::Cancel { pid: i32::from_be_bytes(*pid), secret: secret.to_vec() }),
            None => Err(SqlError::protocol_violation("invalid length of cancel request")),
        },
        version if version >> 16 == 3 => {
            let malformed =
                || SqlError::protocol_violation("invalid startup packet layout: expected terminator as last byte");
            let text = body.strip_suffix(&[0]).ok_or_else(malformed)?;
            let mut parameters = Vec::new();
            let mut words = text.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
            while let Some(name) = words.next().filter(|name| !name.is_empty()) {
                parameters.push((name, words.next().ok_or_else(malformed)?));
            }
            // The minor version is the sixteen bits below the major one.
            Ok(FirstPacket::Startup { minor: (version & 0xffff) as u16, parameters })
        }
        version => Err(SqlError::protocol_violation(format!(
            "unsupported frontend protocol {}.{}: server supports 3.0",
            (version >> 16) as u16,
            (version & 0xffff) as u16
        ))),
    }
}

/// Applies the settings in the startup packet, and `-c name=value` in its options.
fn apply_parameters(session: &Session, parameters: &[(String, String)]) -> Result<(), SqlError> {
    let mut settings = session.settings();
    for (name, value) in parameters {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" => {
                for (name, value) in options(value)? {
                    settings.initialize(&name, &value)?;
                }
            }
            name if name.starts_with("_pq_.") => {}
            name => settings.initialize(name, value)?,
        }
    }
    Ok(())
}

/// Reads `-c a=b --c=d`, in which a backslash keeps a space together with its neighbours.
fn options(text: &str) -> Result<Vec<(String, String)>, SqlError> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => word.extend(letters.next()),
            letter if letter.is_whitespace() => words.push(std::mem::take(&mut word)),
            letter => word.push(letter),
        }
    }
    words.push(word);
    let mut settings = Vec::new();
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let setting = match word.as_str() {
            "-c" => words.next().unwrap_or_default(),
            word => match word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
                Some(setting) => setting.to_string(),
                None => return Err(SqlError::error("42601", format!("invalid command-line argument: {word}"))),
            },
        };
        let Some((name, value)) = setting.split_once('=') else {
            return Err(SqlError::error("42601", format!("invalid command-line argument: {setting}")));
        };
        settings.push((name.replace('-', "_"), value.to_string()));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn startup_packets() {
        let packet = interpret(PROTOCOL_3_0, b"user\0ada\0database\0x\0\0").unwrap();
        let parameters = vec![("user".into(), "ada".into()), ("database".into(), "x".into())];
        assert_eq!(packet, FirstPacket::Startup { minor: 0, parameters });
        assert_eq!(
            interpret(CANCEL_REQUEST, &[0, 0, 0, 1, 9]).unwrap(),
            FirstPacket::Cancel { pid: 1, secret: vec![9] }
        );
        assert!(interpret(CANCEL_REQUEST, &[0]).is_err());
        assert!(interpret(PROTOCOL_3_0, b"user\0ada").is_err());
        assert!(interpret(PROTOCOL_3_0, b"").is_err());
        assert!(interpret(2 << 16, b"\0").is_err());
    }

    #[test]
    fn options_of_libpq() {
        let pairs = |text| options(text).unwrap();
        assert_eq!(
            pairs("-c statement_timeout=5s  --search-path=a,b"),
            [("statement_timeout".to_string(), "5s".to_string()), ("search_path".to_string(), "a,b".to_string())]
        );
        assert_eq!(pairs("-capplication_name=a\\ b"), [("application_name".to_string(), "a b".to_string())]);
        assert!(pairs("").is_empty());
        assert!(options("-x").is_err());
        assert!(options("-c a").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_packet_is_read_or_refused(code: i32, body: Vec<u8>) {
            let _ = interpret(code, &body);
            let _ = interpret(PROTOCOL_3_0, &body);
        }
    }
}
