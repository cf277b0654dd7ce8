//! `COPY … TO STDOUT`: rows in Postgres' text, CSV and binary formats.

use bytes::{BufMut, Bytes, BytesMut};
use datafusion::sql::sqlparser::ast::{CopyLegacyCsvOption, CopyLegacyOption, CopyOption, Ident};
use datafusion_postgres::pgwire::messages::data::DataRow;

use crate::sql::column_names::fold;
use crate::wire::encodings::Encoding;
use crate::wire::error_response::SqlError;

/// Header of a binary copy: a signature, no flags, no extension.
pub(crate) const BINARY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const BINARY_TRAILER: &[u8] = &[0xff, 0xff];

/// Format of the rows of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CopyFormat {
    Text(TextOptions),
    Csv { text: TextOptions, quote: u8, escape: u8, force_quote: Vec<String> },
    Binary,
}

/// Options that text and CSV share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextOptions {
    pub(crate) delimiter: u8,
    pub(crate) null: String,
    pub(crate) header: bool,
    /// Encoding of the data, if it is not that of the client.
    pub(crate) encoding: Option<Encoding>,
}

/// Options of a statement, before they are checked.
#[derive(Default)]
struct CopyOptions {
    format: Option<String>,
    delimiter: Option<char>,
    null: Option<String>,
    header: bool,
    encoding: Option<Encoding>,
    quote: Option<char>,
    escape: Option<char>,
    force_quote: Option<Vec<Ident>>,
}

impl CopyFormat {
    /// Reads the options of a statement.
    pub(crate) fn of(options: &[CopyOption], legacy: &[CopyLegacyOption]) -> Result<Self, SqlError> {
        let mut given = CopyOptions::default();
        for option in options {
            match option {
                CopyOption::Format(name) => given.format = Some(name.value.to_lowercase()),
                CopyOption::Delimiter(delimiter) => given.delimiter = Some(*delimiter),
                CopyOption::Null(null) => given.null = Some(null.clone()),
                CopyOption::Header(header) => given.header = *header,
                CopyOption::Quote(quote) => given.quote = Some(*quote),
                CopyOption::Escape(escape) => given.escape = Some(*escape),
                CopyOption::ForceQuote(columns) => given.force_quote = Some(columns.clone()),
                CopyOption::Encoding(name) => {
                    let unknown = "argument to option \"encoding\" must be a valid encoding name";
                    let known = Encoding::named(name).ok_or_else(|| SqlError::error("22023", unknown))?;
                    given.encoding = Some(known);
                }
                CopyOption::Freeze(false) => {}
                other => return Err(SqlError::not_supported(format!("COPY option {other} is not supported"))),
            }
        }
        for option in legacy {
            match option {
                CopyLegacyOption::Binary => given.format = Some("binary".into()),
                CopyLegacyOption::Delimiter(delimiter) => given.delimiter = Some(*delimiter),
                CopyLegacyOption::Null(null) => given.null = Some(null.clone()),
                CopyLegacyOption::Header => given.header = true,
                CopyLegacyOption::Csv(options) => {
                    given.format = Some("csv".into());
                    for option in options {
                        match option {
                            CopyLegacyCsvOption::Header => given.header = true,
                            CopyLegacyCsvOption::Quote(quote) => given.quote = Some(*quote),
                            CopyLegacyCsvOption::Escape(escape) => given.escape = Some(*escape),
                            CopyLegacyCsvOption::ForceQuote(columns) => given.force_quote = Some(columns.clone()),
                            other => {
                                return Err(SqlError::not_supported(format!("COPY option {other} is not supported")));
                            }
                        }
                    }
                }
                other => return Err(SqlError::not_supported(format!("COPY option {other} is not supported"))),
            }
        }
        given.check()
    }

    pub(crate) fn is_binary(&self) -> bool {
        matches!(self, Self::Binary)
    }

    /// Returns the encoding of the data for a client of this encoding.
    pub(crate) fn encoding(&self, client: Encoding) -> Encoding {
        match self {
            Self::Binary => client,
            Self::Text(text) | Self::Csv { text, .. } => text.encoding.unwrap_or(client),
        }
    }

    /// Returns the header of the copy, if it has one.
    pub(crate) fn begin(&self, columns: &[String]) -> Option<Bytes> {
        let (text, row) = match self {
            Self::Binary => return Some(Bytes::from_static(BINARY_HEADER)),
            Self::Text(text) | Self::Csv { text, .. } => (text, columns),
        };
        if !text.header {
            return None;
        }
        let mut line = BytesMut::new();
        for (i, name) in row.iter().enumerate() {
            if i > 0 {
                line.put_u8(text.delimiter);
            }
            match self {
                Self::Csv { quote, escape, .. } => {
                    put_csv(&mut line, name.as_bytes(), text, (*quote, *escape), false, row.len() == 1);
                }
                _ => put_text(&mut line, name.as_bytes(), text.delimiter),
            }
        }
        line.put_u8(b'\n');
        Some(line.freeze())
    }

    /// Writes a row; its values are in the format of the copy.
    pub(crate) fn row(&self, row: DataRow, columns: &[String]) -> Result<Bytes, SqlError> {
        let text = match self {
            Self::Binary => {
                let mut tuple = BytesMut::with_capacity(row.data.len() + 2);
                tuple.put_i16(row.field_count);
                tuple.extend_from_slice(&row.data);
                return Ok(tuple.freeze());
            }
            Self::Text(text) | Self::Csv { text, .. } => text,
        };
        let mut line = BytesMut::with_capacity(row.data.len() + 8);
        let mut rest = row.data.as_ref();
        for i in 0..columns.len() {
            if i > 0 {
                line.put_u8(text.delimiter);
            }
            let malformed = || SqlError::error("XX000", "internal error: a row is shorter than its columns");
            let (length, after) = rest.split_first_chunk::<4>().ok_or_else(malformed)?;
            rest = after;
            let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                line.extend_from_slice(text.null.as_bytes());
                continue;
            };
            let (value, after) = rest.split_at_checked(length).ok_or_else(malformed)?;
            rest = after;
            match self {
                Self::Csv { quote, escape, force_quote, .. } => {
                    let force = force_quote.contains(&columns[i]);
                    put_csv(&mut line, value, text, (*quote, *escape), force, columns.len() == 1);
                }
                _ => put_text(&mut line, value, text.delimiter),
            }
        }
        line.put_u8(b'\n');
        Ok(line.freeze())
    }

    /// Returns the trailer of the copy, if it has one.
    pub(crate) fn end(&self) -> Option<Bytes> {
        self.is_binary().then(|| Bytes::from_static(BINARY_TRAILER))
    }
}

impl CopyOptions {
    /// Returns the format, or Postgres' errors for options that do not go together.
    fn check(self) -> Result<CopyFormat, SqlError> {
        let invalid = |message: &str| SqlError::error("22023", message.to_owned());
        let not_here = |message: &str| SqlError::error("0A000", message.to_owned());
        let csv = match self.format.as_deref() {
            None | Some("text") => false,
            Some("csv") => true,
            Some("binary") => {
                return match self {
                    Self { delimiter: Some(_), .. } => {
                        Err(SqlError::error("42601", "cannot specify DELIMITER in BINARY mode"))
                    }
                    Self { null: Some(_), .. } => Err(SqlError::error("42601", "cannot specify NULL in BINARY mode")),
                    Self { header: true, .. } => Err(not_here("cannot specify HEADER in BINARY mode")),
                    Self { quote: None, escape: None, force_quote: None, .. } => Ok(CopyFormat::Binary),
                    _ => Err(not_here("COPY quote available only in CSV mode")),
                };
            }
            Some(other) => return Err(invalid(&format!("COPY format \"{other}\" not recognized"))),
        };
        let byte = |given: Option<char>, default: u8, what: &str| match given {
            None => Ok(default),
            Some(letter) if letter.is_ascii() && !matches!(letter, '\n' | '\r' | '\0') => Ok(letter as u8),
            Some('\n' | '\r') => Err(invalid(&format!("COPY {what} cannot be newline or carriage return"))),
            Some(_) => Err(not_here(&format!("COPY {what} must be a single one-byte character"))),
        };
        let delimiter = byte(self.delimiter, if csv { b',' } else { b'\t' }, "delimiter")?;
        let null = self.null.unwrap_or_else(|| if csv { String::new() } else { "\\N".into() });
        if null.contains(['\n', '\r']) {
            return Err(invalid("COPY null representation cannot use newline or carriage return"));
        }
        if null.as_bytes().contains(&delimiter) {
            return Err(invalid("COPY delimiter character must not appear in the NULL specification"));
        }
        let text = TextOptions { delimiter, null, header: self.header, encoding: self.encoding };
        if !csv {
            if delimiter.is_ascii_lowercase() || delimiter.is_ascii_digit() || matches!(delimiter, b'\\' | b'.') {
                return Err(invalid(&format!("COPY delimiter cannot be \"{}\"", char::from(delimiter))));
            }
            return match (self.quote, self.escape, self.force_quote) {
                (None, None, None) => Ok(CopyFormat::Text(text)),
                (Some(_), ..) => Err(not_here("COPY quote available only in CSV mode")),
                (_, Some(_), _) => Err(not_here("COPY escape available only in CSV mode")),
                _ => Err(not_here("COPY force quote available only in CSV mode")),
            };
        }
        let quote = byte(self.quote, b'"', "quote")?;
        let escape = byte(self.escape, quote, "escape")?;
        if delimiter == quote {
            return Err(invalid("COPY delimiter and quote must be different"));
        }
        if text.null.as_bytes().contains(&quote) {
            return Err(invalid("CSV quote character must not appear in the NULL specification"));
        }
        let force_quote = self.force_quote.iter().flatten().map(fold);
        Ok(CopyFormat::Csv { text, quote, escape, force_quote: force_quote.collect() })
    }
}

fn put_text(line: &mut BytesMut, value: &[u8], delimiter: u8) {
    for byte in value {
        let escaped = match byte {
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x0b => b'v',
            b'\\' => b'\\',
            byte if *byte == delimiter => delimiter,
            byte => {
                line.put_u8(*byte);
                continue;
            }
        };
        line.put_slice(&[b'\\', escaped]);
    }
}

fn put_csv(line: &mut BytesMut, value: &[u8], text: &TextOptions, (quote, escape): (u8, u8), force: bool, alone: bool) {
    let special = |byte: &u8| *byte == text.delimiter || *byte == quote || matches!(byte, b'\n' | b'\r');
    // A value that would be read as NULL, or as the end of the data by old clients.
    let quoted = force || value == text.null.as_bytes() || (alone && value == b"\\.") || value.iter().any(special);
    if !quoted {
        line.put_slice(value);
        return;
    }
    line.put_u8(quote);
    for byte in value {
        if *byte == quote || *byte == escape {
            line.put_u8(escape);
        }
        line.put_u8(*byte);
    }
    line.put_u8(quote);
}
