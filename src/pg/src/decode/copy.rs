//! `COPY … FROM STDIN`: rows from Postgres' text, CSV and binary formats.

use bytes::{Buf, BytesMut};

use crate::encode::copy::{BINARY_HEADER, CopyFormat, TextOptions};
use crate::wire::error_response::SqlError;

/// The values of a row in their written form; `None` is NULL.
pub(crate) type Row = Vec<Option<Vec<u8>>>;

/// Length of the signature of a binary copy; flags and the length of an extension follow.
const SIGNATURE: usize = 11;

/// Reads a copy in the pieces that it comes in, which end anywhere.
#[derive(Debug)]
pub(crate) struct CopyReader {
    format: CopyFormat,
    columns: Vec<String>,
    /// Bytes of an incomplete row.
    buffer: BytesMut,
    /// Bytes of the buffer that were already searched for the end of a row.
    seen: usize,
    /// The row of CSV that is being read.
    record: CsvRecord,
    /// Number of lines, or of rows of a binary copy, that were read.
    line: usize,
    header: bool,
    ended: bool,
}

/// Part of a row of CSV.
#[derive(Debug, Default)]
struct CsvRecord {
    fields: Row,
    field: Vec<u8>,
    /// True if a part of the field was in quotes.
    quoted: bool,
    in_quotes: bool,
    /// True if the last byte was the escape character, in quotes.
    escaping: bool,
    /// True if the last byte was a carriage return outside of quotes.
    returned: bool,
    /// True if something of the row was read.
    started: bool,
}

impl CopyReader {
    pub(crate) fn new(format: CopyFormat, columns: Vec<String>) -> Self {
        let header = match &format {
            CopyFormat::Text(text) | CopyFormat::Csv { text, .. } => text.header,
            CopyFormat::Binary => true,
        };
        Self {
            format,
            columns,
            buffer: BytesMut::new(),
            seen: 0,
            record: CsvRecord::default(),
            line: 0,
            header,
            ended: false,
        }
    }

    /// Returns the number of the last line that was read, counted from 1.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// Returns the rows that end in a piece.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<Vec<Row>, SqlError> {
        let mut rows = Vec::new();
        if self.ended {
            return match self.format {
                CopyFormat::Binary if !piece.is_empty() => Err(malformed("received copy data after EOF marker")),
                _ => Ok(rows),
            };
        }
        match self.format.clone() {
            CopyFormat::Text(text) => {
                self.buffer.extend_from_slice(piece);
                self.lines(&text, &mut rows)?;
            }
            CopyFormat::Csv { text, quote, escape, .. } => {
                for byte in piece {
                    if self.ended {
                        break;
                    }
                    self.csv(*byte, &text, quote, escape, &mut rows)?;
                }
            }
            CopyFormat::Binary => {
                self.buffer.extend_from_slice(piece);
                self.tuples(&mut rows)?;
            }
        }
        Ok(rows)
    }

    /// Returns the rows that end with the copy.
    pub(crate) fn finish(&mut self) -> Result<Vec<Row>, SqlError> {
        let mut rows = Vec::new();
        match self.format.clone() {
            _ if self.ended => {}
            CopyFormat::Text(text) => {
                if !self.buffer.is_empty() {
                    self.buffer.extend_from_slice(b"\n");
                    self.seen = 0;
                    self.lines(&text, &mut rows)?;
                }
            }
            CopyFormat::Csv { text, escape, quote, .. } => {
                if self.record.escaping && escape == quote {
                    (self.record.in_quotes, self.record.escaping) = (false, false);
                }
                if self.record.in_quotes {
                    return Err(malformed("unterminated CSV quoted field"));
                }
                if self.record.started {
                    self.end_record(&text, &mut rows)?;
                }
            }
            CopyFormat::Binary if self.header => return Err(malformed("COPY file signature not recognized")),
            CopyFormat::Binary if !self.buffer.is_empty() => return Err(malformed("unexpected EOF in COPY data")),
            CopyFormat::Binary => {}
        }
        Ok(rows)
    }

    fn lines(&mut self, text: &TextOptions, rows: &mut Vec<Row>) -> Result<(), SqlError> {
        while !self.ended {
            // A backslash before the end of a line makes the newline part of a value.
            let end = loop {
                let Some(at) = self.buffer[self.seen..].iter().position(|byte| *byte == b'\n') else {
                    self.seen = self.buffer.len();
                    return Ok(());
                };
                let at = self.seen + at;
                let backslashes = self.buffer[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
                if backslashes % 2 == 0 || &self.buffer[..at] == b"\\." {
                    break at;
                }
                self.seen = at + 1;
            };
            let line = self.buffer.split_to(end + 1);
            self.seen = 0;
            self.line += 1;
            let line = &line[..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if std::mem::take(&mut self.header) {
                continue;
            }
            if line == b"\\." {
                self.ended = true;
                self.line -= 1;
                return Ok(());
            }
            let row = fields(line, text.delimiter).map(|field| match field == text.null.as_bytes() {
                true => None,
                false => Some(unescaped(field)),
            });
            let row = self.checked(row.collect())?;
            rows.push(row);
        }
        Ok(())
    }

    fn csv(
        &mut self,
        byte: u8,
        text: &TextOptions,
        quote: u8,
        escape: u8,
        rows: &mut Vec<Row>,
    ) -> Result<(), SqlError> {
        let record = &mut self.record;
        if record.in_quotes {
            if std::mem::take(&mut record.escaping) {
                if byte == quote || byte == escape {
                    record.field.push(byte);
                    return Ok(());
                }
                if escape == quote {
                    record.in_quotes = false;
                } else {
                    record.field.push(escape);
                }
            }
            if record.in_quotes {
                match byte {
                    _ if byte == escape => record.escaping = true,
                    _ if byte == quote => record.in_quotes = false,
                    _ => record.field.push(byte),
                }
                return Ok(());
            }
        }
        if record.returned && byte != b'\n' {
            return Err(malformed("unquoted carriage return found in data").with_hint("Quote values with line ends."));
        }
        match byte {
            b'\n' => return self.end_record(text, rows),
            b'\r' => record.returned = true,
            _ if byte == quote => (record.in_quotes, record.quoted) = (true, true),
            _ if byte == text.delimiter => self.end_field(text),
            _ => record.field.push(byte),
        }
        self.record.started = true;
        Ok(())
    }

    fn end_field(&mut self, text: &TextOptions) {
        let record = &mut self.record;
        let field = std::mem::take(&mut record.field);
        let is_null = !std::mem::take(&mut record.quoted) && field == text.null.as_bytes();
        record.fields.push((!is_null).then_some(field));
    }

    fn end_record(&mut self, text: &TextOptions, rows: &mut Vec<Row>) -> Result<(), SqlError> {
        self.line += 1;
        let is_end = self.record.fields.is_empty() && !self.record.quoted && self.record.field == b"\\.";
        self.end_field(text);
        let row = std::mem::take(&mut self.record).fields;
        if std::mem::take(&mut self.header) {
            return Ok(());
        }
        if is_end {
            self.ended = true;
            self.line -= 1;
            return Ok(());
        }
        let row = self.checked(row)?;
        rows.push(row);
        Ok(())
    }

    fn tuples(&mut self, rows: &mut Vec<Row>) -> Result<(), SqlError> {
        if self.header {
            let Some(start) = self.buffer.first_chunk::<{ SIGNATURE + 8 }>() else { return Ok(()) };
            if start[..SIGNATURE] != BINARY_HEADER[..SIGNATURE] {
                return Err(malformed("COPY file signature not recognized"));
            }
            let mut rest = &start[SIGNATURE..];
            let (flags, extension) = (rest.get_u32(), rest.get_i32());
            if flags >> 16 != 0 {
                return Err(malformed("unrecognized critical flags in COPY file header"));
            }
            let Ok(extension) = usize::try_from(extension) else {
                return Err(malformed("invalid COPY file header (missing length)"));
            };
            let Some(length) = (SIGNATURE + 8).checked_add(extension).filter(|length| *length <= self.buffer.len())
            else {
                return Ok(());
            };
            self.buffer.advance(length);
            self.header = false;
        }
        loop {
            let mut rest = &self.buffer[..];
            let Ok(count) = rest.try_get_i16() else { return Ok(()) };
            if count == -1 {
                self.ended = true;
                if !rest.is_empty() {
                    return Err(malformed("received copy data after EOF marker"));
                }
                self.buffer.clear();
                return Ok(());
            }
            self.line += usize::from(self.seen == 0);
            self.seen = 1;
            if usize::try_from(count).ok() != Some(self.columns.len()) {
                let wanted = self.columns.len();
                return Err(malformed(&format!("row field count is {count}, expected {wanted}")));
            }
            let mut row = Row::with_capacity(self.columns.len());
            for _ in 0..count {
                let Ok(length) = rest.try_get_i32() else { return Ok(()) };
                match usize::try_from(length) {
                    Ok(length) => {
                        let Some((value, after)) = rest.split_at_checked(length) else { return Ok(()) };
                        row.push(Some(value.to_vec()));
                        rest = after;
                    }
                    Err(_) if length == -1 => row.push(None),
                    Err(_) => return Err(malformed("invalid field size")),
                }
            }
            let taken = self.buffer.len() - rest.len();
            self.buffer.advance(taken);
            self.seen = 0;
            rows.push(row);
        }
    }

    fn checked(&self, row: Row) -> Result<Row, SqlError> {
        match row.len() {
            // An empty line of a table without columns.
            _ if self.columns.is_empty() && row.len() == 1 => Ok(Row::new()),
            given if given > self.columns.len() => Err(malformed("extra data after last expected column")),
            given if given < self.columns.len() => {
                Err(malformed(&format!("missing data for column \"{}\"", self.columns[given])))
            }
            _ => Ok(row),
        }
    }
}

fn malformed(message: &str) -> SqlError {
    SqlError::error("22P04", message)
}

/// Splits a line of text into fields; a delimiter after a backslash is part of a field.
fn fields(line: &[u8], delimiter: u8) -> impl Iterator<Item = &[u8]> {
    let mut escaped = false;
    line.split(move |byte| {
        let ends = !escaped && *byte == delimiter;
        escaped = !escaped && *byte == b'\\';
        ends
    })
}

fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            value.push(*byte);
            continue;
        }
        let Some((letter, after)) = rest.split_first() else { break };
        rest = after;
        let digits = |bytes: &[u8], most: usize, radix: u32| {
            let digits = bytes.iter().take(most).take_while(|byte| char::from(**byte).is_digit(radix));
            let digits: Vec<u32> = digits.filter_map(|byte| char::from(*byte).to_digit(radix)).collect();
            let number = digits.iter().fold(0, |number, digit| number * radix + digit);
            // Like C's `char`, this takes an octal number above 255.
            (digits.len(), (number & 0xff) as u8)
        };
        match letter {
            b'b' => value.push(0x08),
            b'f' => value.push(0x0c),
            b'n' => value.push(b'\n'),
            b'r' => value.push(b'\r'),
            b't' => value.push(b'\t'),
            b'v' => value.push(0x0b),
            b'0'..=b'7' => {
                let (more, _) = digits(rest, 2, 8);
                let (_, number) = digits(&field[field.len() - rest.len() - 1..], more + 1, 8);
                value.push(number);
                rest = &rest[more..];
            }
            b'x' => match digits(rest, 2, 16) {
                (0, _) => value.push(b'x'),
                (count, number) => {
                    value.push(number);
                    rest = &rest[count..];
                }
            },
            other => value.push(*other),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(format: &CopyFormat, columns: usize, bytes: &[u8], piece: usize) -> Result<Vec<Row>, SqlError> {
        let names = (0..columns).map(|column| format!("c{column}")).collect();
        let mut reader = CopyReader::new(format.clone(), names);
        let mut rows = Vec::new();
        for piece in bytes.chunks(piece.max(1)) {
            rows.extend(reader.push(piece)?);
        }
        rows.extend(reader.finish()?);
        Ok(rows)
    }

    fn text() -> CopyFormat {
        CopyFormat::of(&[], &[]).unwrap()
    }

    fn csv() -> CopyFormat {
        use datafusion::sql::sqlparser::ast::{CopyLegacyOption, CopyOption, Ident};
        let none: [CopyLegacyOption; 0] = [];
        CopyFormat::of(&[CopyOption::Format(Ident::new("csv"))], &none).unwrap()
    }

    fn row(values: &[Option<&str>]) -> Row {
        values.iter().map(|value| value.map(|value| value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn text_is_read_as_postgres_reads_it() {
        let bytes = b"a\\tb\t\\N\nx\\\ny\t\\101\\x4a\\q\\\\\n\\N\\N\tz\\\r\n\\.\nignored";
        let rows = read(&text(), 2, bytes, 3).unwrap();
        let wanted = [row(&[Some("a\tb"), None]), row(&[Some("x\ny"), Some("AJq\\")]), row(&[Some("NN"), Some("z")])];
        assert_eq!(rows, wanted);
        assert_eq!(read(&text(), 2, b"a\n", 9).unwrap_err().message, "missing data for column \"c1\"");
        assert_eq!(read(&text(), 1, b"a\tb\n", 9).unwrap_err().message, "extra data after last expected column");
    }

    #[test]
    fn csv_is_read_as_postgres_reads_it() {
        let bytes = b"a,\"b,\"\"c\n\"\r\n,\"\"\nx\"y\"z,\"\\.\"\n\\.\nignored";
        let rows = read(&csv(), 2, bytes, 1).unwrap();
        let wanted = [row(&[Some("a"), Some("b,\"c\n")]), row(&[None, Some("")]), row(&[Some("xyz"), Some("\\.")])];
        assert_eq!(rows, wanted);
        assert_eq!(read(&csv(), 1, b"\"a", 9).unwrap_err().message, "unterminated CSV quoted field");
        assert_eq!(read(&csv(), 1, b"a\rb\n", 9).unwrap_err().sqlstate, "22P04");
    }

    #[test]
    fn binary_is_checked() {
        let good = [BINARY_HEADER, b"\0\x02\0\0\0\x01a\xff\xff\xff\xff\xff\xff"].concat();
        assert_eq!(read(&CopyFormat::Binary, 2, &good, 2).unwrap(), [row(&[Some("a"), None])]);
        for bad in [&good[..good.len() - 3], &good[1..], &[&good[..], b"x"].concat(), b""] {
            assert_eq!(read(&CopyFormat::Binary, 2, bad, 5).unwrap_err().sqlstate, "22P04");
        }
    }

    fn written(format: &CopyFormat, rows: &[Row], columns: usize) -> Vec<u8> {
        use datafusion_postgres::pgwire::messages::data::DataRow;
        let names: Vec<String> = (0..columns).map(|column| format!("c{column}")).collect();
        let mut bytes = format.begin(&names).map(|bytes| bytes.to_vec()).unwrap_or_default();
        for row in rows {
            let mut data = BytesMut::new();
            for value in row {
                data.extend_from_slice(&value.as_ref().map_or(-1, |value| value.len() as i32).to_be_bytes());
                data.extend_from_slice(value.as_deref().unwrap_or_default());
            }
            bytes.extend(format.row(DataRow::new(data, columns as i16), &names).unwrap());
        }
        bytes.extend(format.end().unwrap_or_default());
        bytes
    }

    proptest! {
        /// Checks that rows that were written are read again, however the bytes are cut.
        #[test]
        fn copies_are_read_again(
            rows in prop::collection::vec(prop::collection::vec(prop::option::of("[a\\\\\"',\\t\\n\\r\\.N x]{0,6}"), 2), 0..8),
            piece in 1_usize..20,
        ) {
            let rows: Vec<Row> =
                rows.into_iter().map(|row| row.into_iter().map(|value| value.map(String::into_bytes)).collect()).collect();
            for format in [text(), csv(), CopyFormat::Binary] {
                let bytes = written(&format, &rows, 2);
                prop_assert_eq!(&read(&format, 2, &bytes, piece).unwrap(), &rows);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), piece in 1_usize..20) {
            for format in [text(), csv(), CopyFormat::Binary] {
                let _ = read(&format, 2, &bytes, piece);
                let _ = read(&format, 2, &[BINARY_HEADER, &bytes].concat(), piece);
            }
        }
    }
}
