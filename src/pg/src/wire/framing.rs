//! Packets: bytes from and to a socket, framed here and decoded by pgwire.
//!
//! Framing is done here because every length is checked before a byte is buffered for it: the limit is 10 kB
//! until the peer has proved who it is. Both halves are safe to drop at any await, so a statement can be
//! abandoned half-way through its rows and the next message still starts where a message may start.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use datafusion_postgres::pgwire::messages::{
    DecodeContext, PgWireBackendMessage, PgWireFrontendMessage, ProtocolVersion,
};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::task::yield_now;

use crate::wire::encodings::SharedEncoding;
use crate::wire::error_response::{Failure, SqlError};
use crate::wire::layout::is_well_formed;

/// The longest packet of an authenticated client: a query or its parameters.
pub(crate) const LARGEST_PACKET: usize = 128 << 20;
/// The longest packet of a client before it is authenticated, as in Postgres.
pub(crate) const LARGEST_STARTUP_PACKET: usize = 10_000;
/// Input that may wait while a statement runs; a client that pipelines more is made to wait.
const READ_AHEAD: usize = 1 << 20;
/// Time between checks that the client is still there.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Requests in a row of a client whose next one is there at once, before other clients have their turn.
const TURN: u32 = 2;
/// Bytes of buffer reserved for one read.
const READ_SIZE: usize = 16 << 10;
/// Bytes of a message's type and length.
pub(crate) const HEADER: usize = 5;
/// Output is handed to the socket in pieces of at least this size.
const FLUSH_AT: usize = 64 << 10;

/// A plain or encrypted connection.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A TCP connection that may be watched while it is read, to see that the peer is there.
#[derive(Debug, Clone)]
pub(crate) struct Tcp(pub(crate) Arc<TcpStream>);

impl AsyncRead for Tcp {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(task))?;
            match self.0.try_read_buf(buffer) {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(task))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(Shutdown::Write))
    }
}

/// Splits a connection, so that a hang-up is seen while rows are written. `tcp` is the connection that carries it.
pub(crate) fn split(socket: Box<dyn Socket>, tcp: Option<Arc<TcpStream>>) -> (Inbox, Outbox) {
    let (reader, writer) = tokio::io::split(socket);
    let encoding = SharedEncoding::default();
    let inbox =
        Inbox { reader, buffer: BytesMut::new(), in_a_row: 0, tcp, encoding: encoding.clone(), unreadable: None };
    (inbox, Outbox { writer, buffer: BytesMut::with_capacity(FLUSH_AT), encoding })
}

/// Messages of the client.
pub(crate) struct Inbox {
    reader: ReadHalf<Box<dyn Socket>>,
    buffer: BytesMut,
    /// Reads in a row that did not wait.
    in_a_row: u32,
    tcp: Option<Arc<TcpStream>>,
    pub(crate) encoding: SharedEncoding,
    /// The error of a text in the last message that cannot be converted.
    pub(crate) unreadable: Option<SqlError>,
}

impl Inbox {
    /// Returns the next packet, a type byte, a length and a body. `None` at the end of the connection.
    pub(crate) async fn packet(&mut self, limit: usize) -> Result<Option<BytesMut>, Failure> {
        loop {
            if let Some(packet) = self.take_packet(limit)? {
                return Ok(Some(packet));
            }
            self.buffer.reserve(READ_SIZE);
            let mut has_waited = false;
            let mut read = pin!(self.reader.read_buf(&mut self.buffer));
            let bytes = poll_fn(|task| {
                let read = read.as_mut().poll(task);
                has_waited |= read.is_pending();
                read
            });
            if bytes.await? == 0 {
                return Ok(None);
            }
            self.in_a_row = if has_waited { 0 } else { self.in_a_row + 1 };
            if self.in_a_row >= TURN {
                self.in_a_row = 0;
                yield_now().await;
            }
        }
    }

    /// Returns the next message of an authenticated client.
    pub(crate) async fn message(&mut self) -> Result<Option<PgWireFrontendMessage>, Failure> {
        match self.packet(LARGEST_PACKET).await? {
            Some(packet) => self.read(packet).map(Some),
            None => Ok(None),
        }
    }

    fn read(&mut self, mut packet: BytesMut) -> Result<PgWireFrontendMessage, Failure> {
        self.unreadable = self.encoding.get().read_message(&mut packet).err();
        Ok(decode(packet)?)
    }

    /// Returns the next message of an authenticated client, if all of it has come already.
    pub(crate) fn buffered(&mut self) -> Result<Option<PgWireFrontendMessage>, Failure> {
        self.take_packet(LARGEST_PACKET)?.map(|packet| self.read(packet)).transpose()
    }

    fn take_packet(&mut self, limit: usize) -> Result<Option<BytesMut>, SqlError> {
        let Some(header) = self.buffer.first_chunk::<HEADER>() else { return Ok(None) };
        let [_, length @ ..] = *header;
        let length = i32::from_be_bytes(length);
        let length = match usize::try_from(length) {
            Ok(length) if (4..=limit).contains(&length) => length,
            _ => return Err(SqlError::protocol_violation(format!("invalid message length {length}"))),
        };
        if self.buffer.len() < length + 1 {
            return Ok(None);
        }
        Ok(Some(self.buffer.split_to(length + 1)))
    }

    /// Completes when the client has gone, reading ahead (boundedly) what it sends meanwhile.
    pub(crate) async fn hung_up(&mut self) {
        while self.buffer.len() < READ_AHEAD {
            self.buffer.reserve(READ_SIZE);
            match self.reader.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        // Unread bytes hide the end of the connection; the system knows of it.
        let Some(tcp) = &self.tcp else { return std::future::pending().await };
        loop {
            match tcp.ready(Interest::READABLE).await {
                Ok(ready) if ready.is_read_closed() => return,
                Err(_) => return,
                Ok(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }
}

fn decode(mut packet: BytesMut) -> Result<PgWireFrontendMessage, SqlError> {
    let kind = packet.first().copied().unwrap_or_default();
    let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
    context.awaiting_frontend_ssl = false;
    context.awaiting_frontend_startup = false;
    let malformed = || SqlError::protocol_violation(format!("malformed message of type '{}'", kind.escape_ascii()));
    if !is_well_formed(kind, packet.get(HEADER..).unwrap_or_default()) {
        return Err(malformed());
    }
    // pgwire panics at some messages.
    match catch_unwind(AssertUnwindSafe(|| PgWireFrontendMessage::decode(&mut packet, &context))) {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Err(error)) => Err(SqlError::protocol_violation(error.to_string())),
        Ok(Ok(None)) | Err(_) => Err(malformed()),
    }
}

/// Messages to the client.
pub(crate) struct Outbox {
    writer: WriteHalf<Box<dyn Socket>>,
    buffer: BytesMut,
    pub(crate) encoding: SharedEncoding,
}

impl Outbox {
    /// Appends a message to the output.
    pub(crate) fn put(&mut self, message: PgWireBackendMessage) -> Result<(), SqlError> {
        let start = self.buffer.len();
        message.encode(&mut self.buffer).map_err(|error| {
            self.buffer.truncate(start);
            SqlError::error("54000", error.to_string())
        })?;
        self.encoding.get().write_message(&mut self.buffer, start).inspect_err(|_| self.buffer.truncate(start))
    }

    /// Returns true if the output should be passed to the socket.
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() >= FLUSH_AT
    }

    /// Writes everything out.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while !self.buffer.is_empty() {
            // `write_buf` takes only what the socket took, so dropping this future loses nothing.
            if self.writer.write_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        if self.buffer.capacity() > 4 * FLUSH_AT {
            self.buffer = BytesMut::with_capacity(FLUSH_AT);
        }
        self.writer.flush().await
    }

    /// Shuts down the connection's transport.
    pub(crate) async fn close(&mut self) {
        // The peer may be gone already; there is nothing left to do about it.
        let _ = self.writer.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8], limit: usize) -> Result<Option<BytesMut>, Failure> {
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(bytes).await.unwrap();
        drop(client);
        split(Box::new(server), None).0.packet(limit).await
    }

    #[tokio::test]
    async fn packets_are_framed_and_limited() {
        assert_eq!(read(b"S\0\0\0\x04", 100).await.unwrap().unwrap()[..], b"S\0\0\0\x04"[..]);
        assert_eq!(read(b"Q\0\0\0\x06a\0rest", 100).await.unwrap().unwrap()[..], b"Q\0\0\0\x06a\0"[..]);
        assert!(read(b"Q\0\0\0\x06a", 100).await.unwrap().is_none());
        for bad in [&b"Q\0\0\0\x03abc"[..], b"Q\xff\xff\xff\xffabc", b"Q\x7f\xff\xff\xffabc", b"Q\0\0\0\x65abc"] {
            assert!(matches!(read(bad, 100).await, Err(Failure::SqlError(error)) if error.is_fatal()));
        }
    }

    #[test]
    fn malformed_bodies_are_protocol_violations() {
        for kind in *b"QPBDECSHfcdX?" {
            for body in [&b""[..], b"\0", b"\xff\xff", b"\0\xff\xff\xff\xff\xff", &[0xff; 64]] {
                let length = i32::try_from(body.len() + 4).unwrap().to_be_bytes();
                let packet = [&[kind][..], &length, body].concat();
                if let Err(error) = decode(BytesMut::from(&packet[..])) {
                    assert_eq!(error.sqlstate, "08P01");
                }
            }
        }
    }
}
