//! Packets: bytes from and to a socket, framed here and decoded by pgwire.
//!
//! Framing is done here because every length is checked before a byte is buffered for it: the limit is 10 kB
//! until the peer has proved who it is. Both halves are safe to drop at any await, so a statement can be
//! abandoned half-way through its rows and the next message still starts where a message may start.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Buf, Bytes, BytesMut};
use datafusion_postgres::pgwire::messages::{
    DecodeContext, PgWireBackendMessage, PgWireFrontendMessage, ProtocolVersion,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::report::{Failure, Report};

/// The longest packet of an authenticated client: a query or its parameters.
pub(crate) const LARGEST_PACKET: usize = 128 << 20;
/// The longest packet before that, as in Postgres.
pub(crate) const LARGEST_STARTUP_PACKET: usize = 10_000;
/// Input that may wait while a statement runs; a client that pipelines more is made to wait.
const READ_AHEAD: usize = 1 << 20;
/// Output is handed to the socket in pieces of at least this size.
const FLUSH_AT: usize = 64 << 10;

/// A plain or encrypted connection.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Splits a connection, so that a hang-up is seen while rows are written.
pub(crate) fn split(socket: Box<dyn Socket>) -> (Inbox, Outbox) {
    let (reader, writer) = tokio::io::split(socket);
    (Inbox { reader, buffer: BytesMut::new() }, Outbox { writer, buffer: BytesMut::with_capacity(FLUSH_AT) })
}

/// What the client sends.
pub(crate) struct Inbox {
    reader: ReadHalf<Box<dyn Socket>>,
    buffer: BytesMut,
}

impl Inbox {
    /// The next packet: its type byte and its body. `None` at the end of the connection.
    pub(crate) async fn packet(&mut self, limit: usize) -> Result<Option<(u8, Bytes)>, Failure> {
        loop {
            if let Some(packet) = self.take_packet(limit)? {
                return Ok(Some(packet));
            }
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The next message of an authenticated client.
    pub(crate) async fn message(&mut self) -> Result<Option<PgWireFrontendMessage>, Failure> {
        match self.packet(LARGEST_PACKET).await? {
            Some((kind, body)) => Ok(Some(decode(kind, &body)?)),
            None => Ok(None),
        }
    }

    fn take_packet(&mut self, limit: usize) -> Result<Option<(u8, Bytes)>, Report> {
        let Some(header) = self.buffer.first_chunk::<5>() else { return Ok(None) };
        let [kind, length @ ..] = *header;
        let length = i32::from_be_bytes(length);
        let length = match usize::try_from(length) {
            Ok(length) if (4..=limit).contains(&length) => length,
            _ => return Err(Report::protocol_violation(format!("invalid message length {length}"))),
        };
        if self.buffer.len() < length + 1 {
            return Ok(None);
        }
        let mut packet = self.buffer.split_to(length + 1).freeze();
        packet.advance(5);
        Ok(Some((kind, packet)))
    }

    /// Completes when the client has gone, reading ahead (boundedly) what it sends meanwhile.
    pub(crate) async fn hung_up(&mut self) {
        while self.buffer.len() < READ_AHEAD {
            match self.reader.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        std::future::pending().await
    }
}

fn decode(kind: u8, body: &[u8]) -> Result<PgWireFrontendMessage, Report> {
    let mut packet = BytesMut::with_capacity(body.len() + 5);
    packet.extend_from_slice(&[kind]);
    // The length was an i32 on the wire.
    packet.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
    packet.extend_from_slice(body);
    let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
    context.awaiting_frontend_ssl = false;
    context.awaiting_frontend_startup = false;
    // pgwire reads some fields without checking that they are there.
    match catch_unwind(AssertUnwindSafe(|| PgWireFrontendMessage::decode(&mut packet, &context))) {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Err(error)) => Err(Report::protocol_violation(error.to_string())),
        Ok(Ok(None)) | Err(_) => {
            Err(Report::protocol_violation(format!("malformed message of type '{}'", kind.escape_ascii())))
        }
    }
}

/// What the client is sent.
pub(crate) struct Outbox {
    writer: WriteHalf<Box<dyn Socket>>,
    buffer: BytesMut,
}

impl Outbox {
    /// Appends a message to the output.
    pub(crate) fn put(&mut self, message: PgWireBackendMessage) -> Result<(), Report> {
        let start = self.buffer.len();
        message.encode(&mut self.buffer).map_err(|error| {
            self.buffer.truncate(start);
            Report::error("54000", error.to_string())
        })
    }

    /// Whether it is time to hand the output to the socket.
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

    /// Says good-bye on the transport's level.
    pub(crate) async fn close(&mut self) {
        // The peer may be gone already; there is nothing left to do about it.
        let _ = self.writer.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8], limit: usize) -> Result<Option<(u8, Bytes)>, Failure> {
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(bytes).await.unwrap();
        drop(client);
        split(Box::new(server)).0.packet(limit).await
    }

    #[tokio::test]
    async fn packets_are_framed_and_limited() {
        assert_eq!(read(b"S\0\0\0\x04", 100).await.unwrap(), Some((b'S', Bytes::new())));
        assert_eq!(read(b"Q\0\0\0\x06a\0rest", 100).await.unwrap(), Some((b'Q', Bytes::from_static(b"a\0"))));
        assert!(read(b"Q\0\0\0\x06a", 100).await.unwrap().is_none());
        for bad in [&b"Q\0\0\0\x03abc"[..], b"Q\xff\xff\xff\xffabc", b"Q\x7f\xff\xff\xffabc", b"Q\0\0\0\x65abc"] {
            assert!(matches!(read(bad, 100).await, Err(Failure::Report(report)) if report.is_fatal()));
        }
    }

    #[test]
    fn malformed_bodies_are_protocol_violations() {
        for kind in *b"QPBDECSHfcdX?" {
            for body in [&b""[..], b"\0", b"\xff\xff", b"\0\xff\xff\xff\xff\xff", &[0xff; 64]] {
                if let Err(report) = decode(kind, body) {
                    assert_eq!(report.sqlstate, "08P01");
                }
            }
        }
    }
}
