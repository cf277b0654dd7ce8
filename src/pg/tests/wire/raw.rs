//! A client that speaks the protocol byte by byte, so that it can also do it wrong.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// The messages of an answer.
pub struct Answer(Vec<(u8, Vec<u8>)>);

impl Answer {
    /// Returns the tags of completed commands.
    pub fn tags(&self) -> Vec<String> {
        let tag = |body: &Vec<u8>| String::from_utf8_lossy(&body[..body.len() - 1]).into_owned();
        self.0.iter().filter(|(kind, _)| *kind == b'C').map(|(_, body)| tag(body)).collect()
    }

    /// Returns the SQLSTATE of the error, if there is one.
    pub fn sqlstate(&self) -> Option<String> {
        let (_, body) = self.0.iter().find(|(kind, _)| *kind == b'E')?;
        let field = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&b'C'))?;
        Some(String::from_utf8_lossy(&field[1..]).into_owned())
    }

    /// Returns the first column of the first row.
    pub fn value(&self) -> Option<String> {
        let (_, body) = self.0.iter().find(|(kind, _)| *kind == b'D')?;
        let length = usize::try_from(i32::from_be_bytes(body[2..6].try_into().unwrap())).ok()?;
        Some(String::from_utf8_lossy(&body[6..6 + length]).into_owned())
    }

    /// Returns the bytes of the first column of the first row.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let (_, body) = self.0.iter().find(|(kind, _)| *kind == b'D')?;
        let length = usize::try_from(i32::from_be_bytes(body[2..6].try_into().unwrap())).ok()?;
        Some(body[6..6 + length].to_vec())
    }

    /// Returns the name of the first column.
    pub fn column_name(&self) -> Option<Vec<u8>> {
        let (_, body) = self.0.iter().find(|(kind, _)| *kind == b'T')?;
        body[2..].split(|byte| *byte == 0).next().map(<[u8]>::to_vec)
    }

    /// Returns the message of the error.
    pub fn message(&self) -> Option<Vec<u8>> {
        let (_, body) = self.0.iter().find(|(kind, _)| *kind == b'E')?;
        body.split(|byte| *byte == 0).find(|field| field.first() == Some(&b'M')).map(|field| field[1..].to_vec())
    }

    /// Returns the data of a copy.
    pub fn copied(&self) -> Vec<u8> {
        self.0.iter().filter(|(kind, _)| *kind == b'd').flat_map(|(_, body)| body.clone()).collect()
    }

    /// Returns sender, channel and payload of the notifications.
    pub fn notifications(&self) -> Vec<(String, String, String)> {
        let read = |body: &Vec<u8>| {
            let sender = i32::from_be_bytes(body[..4].try_into().unwrap()).to_string();
            let mut texts = body[4..].split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
            (sender, texts.next().unwrap(), texts.next().unwrap())
        };
        self.0.iter().filter(|(kind, _)| *kind == b'A').map(|(_, body)| read(body)).collect()
    }

    /// Returns the type of the first column.
    pub fn column_type(&self) -> Option<u32> {
        let (_, body) = self.0.iter().find(|(kind, _)| *kind == b'T')?;
        let name = body[2..].iter().position(|byte| *byte == 0)?;
        let at = 2 + name + 1 + 4 + 2;
        Some(u32::from_be_bytes(body[at..at + 4].try_into().unwrap()))
    }

    /// Returns type, size and modifier of each column.
    pub fn columns(&self) -> Vec<(u32, i16, i32)> {
        let Some((_, body)) = self.0.iter().find(|(kind, _)| *kind == b'T') else { return Vec::new() };
        let mut rest = &body[2..];
        let mut columns = Vec::new();
        while let Some(name) = rest.iter().position(|byte| *byte == 0) {
            // Behind the name are the numbers of a table and of a column, and a format is last.
            let fields = &rest[name + 1 + 6..name + 1 + 18];
            let kind = u32::from_be_bytes(fields[..4].try_into().unwrap());
            let size = i16::from_be_bytes(fields[4..6].try_into().unwrap());
            columns.push((kind, size, i32::from_be_bytes(fields[6..10].try_into().unwrap())));
            rest = &rest[name + 1 + 18..];
        }
        columns
    }

    /// Returns the transaction status at the end.
    pub fn status(&self) -> Option<char> {
        self.0.iter().rfind(|(kind, _)| *kind == b'Z').map(|(_, body)| char::from(body[0]))
    }
}

/// A connection.
pub struct Raw {
    stream: BufReader<TcpStream>,
}

/// Returns a startup packet.
pub fn startup(user: &str) -> Vec<u8> {
    let mut body = 196_608i32.to_be_bytes().to_vec();
    body.extend_from_slice(format!("user\0{user}\0\0").as_bytes());
    let mut packet = i32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

/// Returns a message: its type, its length and its body.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend_from_slice(&i32::try_from(body.len() + 4).unwrap().to_be_bytes());
    message.extend_from_slice(body);
    message
}

/// Sends any bytes, and waits until the server hangs up.
pub fn throw(port: u16, bytes: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // The server may hang up before everything is sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.take(1 << 20).read_to_end(&mut answer);
}

impl Raw {
    /// Connects without a password.
    pub fn connect(port: u16, user: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(&startup(user)).unwrap();
        let mut raw = Self { stream: BufReader::new(stream) };
        raw.read_until(b'Z');
        raw
    }

    /// Sends a query and reads the answer.
    pub fn query(&mut self, query: &str) -> Answer {
        self.send_query(query);
        self.read_until(b'Z')
    }

    /// Sends a query.
    pub fn send_query(&mut self, query: &str) {
        self.send(&message(b'Q', format!("{query}\0").as_bytes()));
    }

    /// Sends a query of any bytes and reads the answer.
    pub fn query_bytes(&mut self, query: &[u8]) -> Answer {
        self.send(&message(b'Q', &[query, b"\0"].concat()));
        self.read_until(b'Z')
    }

    /// Sends a query through the extended protocol.
    pub fn send_extended(&mut self, query: &str, max_rows: i32) {
        let mut bytes = message(b'P', format!("\0{query}\0\0\0").as_bytes());
        bytes.extend(message(b'B', &[0; 8]));
        bytes.extend(message(b'D', b"P\0"));
        bytes.extend(message(b'E', &[&[0][..], &max_rows.to_be_bytes()].concat()));
        bytes.extend(message(b'S', &[]));
        self.send(&bytes);
    }

    /// Sends a query of one parameter through the extended protocol; the answer is text.
    pub fn query_with(&mut self, query: &str, kind: u32, format: i16, value: &[u8]) -> Answer {
        let mut parse = format!("\0{query}\0").into_bytes();
        parse.extend(1i16.to_be_bytes());
        parse.extend(kind.to_be_bytes());
        let mut bytes = message(b'P', &parse);
        let mut bind = b"\0\0".to_vec();
        bind.extend(1i16.to_be_bytes());
        bind.extend(format.to_be_bytes());
        bind.extend(1i16.to_be_bytes());
        bind.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
        bind.extend(value);
        bind.extend(0i16.to_be_bytes());
        bytes.extend(message(b'B', &bind));
        bytes.extend(message(b'D', b"P\0"));
        bytes.extend(message(b'E', &[0; 5]));
        bytes.extend(message(b'S', &[]));
        self.send(&bytes);
        self.read_until(b'Z')
    }

    /// Sends messages, and reads the answer up to the end of the query or of a Sync.
    pub fn exchange(&mut self, messages: &[Vec<u8>]) -> Answer {
        self.send(&messages.concat());
        self.read_until(b'Z')
    }

    /// Sends a query, and returns the bytes that come first.
    pub fn first_bytes(&mut self, query: &str) -> Vec<u8> {
        self.send_query(query);
        let mut bytes = vec![0; 1 << 16];
        let count = self.stream.get_mut().read(&mut bytes).unwrap();
        bytes.truncate(count);
        bytes
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 5];
        self.stream.read_exact(&mut header).ok()?;
        let [kind, length @ ..] = header;
        let mut body = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap() - 4];
        self.stream.read_exact(&mut body).ok()?;
        Some((kind, body))
    }

    /// Reads up to a message of a kind.
    pub fn read_until(&mut self, kind: u8) -> Answer {
        let mut messages = Vec::new();
        while let Some(message) = self.read() {
            let last = message.0 == kind;
            messages.push(message);
            if last {
                return Answer(messages);
            }
        }
        panic!("the connection ended before a message of type {}", char::from(kind))
    }

    /// Reads until the server hangs up.
    pub fn read_to_end(&mut self) -> Answer {
        Answer(std::iter::from_fn(|| self.read()).collect())
    }

    /// Counts rows up to the end of the query without keeping them.
    pub fn count_rows(&mut self, mut each: impl FnMut(usize)) -> usize {
        let mut rows = 0;
        loop {
            match self.read() {
                Some((b'D', _)) => {
                    rows += 1;
                    each(rows);
                }
                Some((b'Z', _)) => return rows,
                Some((b'E', body)) => panic!("{}", String::from_utf8_lossy(&body)),
                Some(_) => {}
                None => panic!("the connection ended"),
            }
        }
    }
}

/// Returns the bytes of memory that this process has in use.
pub fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
