//! A client that keeps the bytes of an answer, for each of the protocol's ways to ask.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use super::values::Value;

/// The time after which a server that does not answer counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection.
pub struct Client {
    stream: TcpStream,
    received: BytesMut,
}

/// Answers to one message.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Rows {
        names: Vec<String>,
        /// The oids of the columns' types.
        types: Vec<u32>,
        rows: Vec<Vec<Option<Vec<u8>>>>,
        tag: String,
    },
    /// A command without rows.
    Done {
        tag: String,
    },
    Error {
        code: String,
        message: String,
    },
    /// The connection broke or nothing came in time.
    Broken(String),
}

/// Answer to Describe.
#[derive(Debug, Clone, PartialEq)]
pub enum Described {
    Parameters(Vec<u32>),
    Failed(Answer),
}

/// The format of values in the extended protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text = 0,
    Binary = 1,
}

impl Client {
    /// Connects as a user without a password.
    pub fn connect(port: u16, user: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream, received: BytesMut::new() };
        let mut out = BytesMut::new();
        frontend::startup_message([("user", user), ("database", user), ("client_encoding", "UTF8")], &mut out)?;
        client.stream.write_all(&out)?;
        loop {
            match client.next()? {
                Message::ReadyForQuery(_) => return Ok(client),
                Message::ErrorResponse(body) => {
                    let (code, message) = error(body.fields())?;
                    return Err(io::Error::other(format!("{code}: {message}")));
                }
                _ => {}
            }
        }
    }

    /// Sends one statement by the simple protocol.
    pub fn simple(&mut self, query: &str) -> Answer {
        let mut out = BytesMut::new();
        broken((|| {
            frontend::query(query, &mut out)?;
            self.stream.write_all(&out)?;
            self.collect()
        })())
    }

    /// Parses a statement and asks for the types of its parameters.
    pub fn prepare(&mut self, query: &str, types: &[u32]) -> Described {
        let mut out = BytesMut::new();
        let mut parameters = None;
        let answer = broken((|| {
            frontend::parse("", query, types.iter().copied(), &mut out)?;
            frontend::describe(b'S', "", &mut out)?;
            frontend::sync(&mut out);
            self.stream.write_all(&out)?;
            self.gather(|message| {
                if let Message::ParameterDescription(body) = message {
                    parameters = Some(body.parameters().collect::<Vec<_>>()?);
                }
                Ok(())
            })
        })());
        match (answer, parameters) {
            (failed @ (Answer::Error { .. } | Answer::Broken(_)), _) => Described::Failed(failed),
            (_, Some(parameters)) => Described::Parameters(parameters),
            (_, None) => Described::Failed(Answer::Broken("no ParameterDescription".into())),
        }
    }

    /// Executes the statement that was prepared last, `page` rows at a time (0 for all).
    pub fn execute(&mut self, values: &[Value], format: Format, page: i32) -> Answer {
        let mut out = BytesMut::new();
        broken((|| {
            let encode = |value: &Value, out: &mut BytesMut| {
                let bytes = match format {
                    Format::Text => value.text().map(String::into_bytes),
                    Format::Binary => value.binary(),
                };
                Ok(match bytes {
                    Some(bytes) => {
                        out.extend_from_slice(&bytes);
                        IsNull::No
                    }
                    None => IsNull::Yes,
                })
            };
            frontend::bind("", "", [format as i16], values, encode, [format as i16], &mut out)
                .map_err(|_| io::Error::other("a parameter cannot be sent"))?;
            frontend::describe(b'P', "", &mut out)?;
            // Executing a portal that has come to its end gives no rows.
            for _ in 0..if page == 0 { 0 } else { 40 } {
                frontend::execute("", page, &mut out)?;
            }
            if page == 0 {
                frontend::execute("", 0, &mut out)?;
            }
            frontend::sync(&mut out);
            self.stream.write_all(&out)?;
            self.collect()
        })())
    }

    fn collect(&mut self) -> io::Result<Answer> {
        self.gather(|_| Ok(()))
    }

    /// Reads up to ReadyForQuery. The last statement's answer counts; an error ends it.
    fn gather(&mut self, mut also: impl FnMut(&Message) -> io::Result<()>) -> io::Result<Answer> {
        let mut columns: Option<(Vec<String>, Vec<u32>)> = None;
        let mut rows = Vec::new();
        let mut tag = String::new();
        let mut failed = None;
        loop {
            let message = self.next()?;
            also(&message)?;
            match message {
                Message::RowDescription(body) => {
                    let each = body.fields().map(|field| Ok((field.name().to_owned(), field.type_oid())));
                    columns = Some(each.collect::<Vec<_>>()?.into_iter().unzip());
                    rows.clear();
                }
                Message::DataRow(body) => {
                    let buffer = body.buffer();
                    let row = body.ranges().map(|range| Ok(range.map(|range| buffer[range].to_vec()))).collect()?;
                    rows.push(row);
                }
                // Of a portal read in pages the first tag counts those rows that came with it.
                Message::CommandComplete(body) if tag.is_empty() => tag = body.tag()?.to_owned(),
                Message::ErrorResponse(body) => {
                    let (code, message) = error(body.fields())?;
                    failed = failed.or(Some(Answer::Error { code, message }));
                }
                Message::ReadyForQuery(_) => {
                    return Ok(match (failed, columns) {
                        (Some(error), _) => error,
                        (None, Some((names, types))) => Answer::Rows { names, types, rows, tag },
                        (None, None) => Answer::Done { tag },
                    });
                }
                _ => {}
            }
        }
    }

    fn next(&mut self) -> io::Result<Message> {
        loop {
            if let Some(message) = Message::parse(&mut self.received)? {
                return Ok(message);
            }
            let mut chunk = [0; 16384];
            let count = self.stream.read(&mut chunk)?;
            if count == 0 {
                return Err(io::Error::other("the server closed the connection"));
            }
            self.received.extend_from_slice(&chunk[..count]);
        }
    }
}

fn error(mut fields: postgres_protocol::message::backend::ErrorFields<'_>) -> io::Result<(String, String)> {
    let (mut code, mut message) = (String::new(), String::new());
    while let Some(field) = fields.next()? {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = value,
            b'M' => message = value,
            _ => {}
        }
    }
    Ok((code, message))
}

fn broken(answer: io::Result<Answer>) -> Answer {
    answer.unwrap_or_else(|error| Answer::Broken(error.to_string()))
}
