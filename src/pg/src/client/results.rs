//! Answers of a session to queries.

use std::ops::Range;

use bytes::Bytes;
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::messages::PgWireBackendMessage as Message;
use datafusion_postgres::pgwire::messages::data::{DataRow, FieldDescription};
use postgres_types::Kind as TypeKind;

use crate::client::ClientError;

/// Part of the answer to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The columns of rows to come.
    Columns(Vec<Column>),
    /// A row.
    Row(Row),
    /// A statement is complete; this is its tag, such as `INSERT 0 1`.
    Complete(String),
    /// The query held no statement.
    Empty,
    /// Something to tell the user that is no error.
    Notice(Report),
    /// The statement has failed.
    Error(Report),
    /// Rows of a `COPY … FROM STDIN` are waited for.
    CopyIn,
    /// Data of a `COPY … TO STDOUT` comes now.
    CopyOut,
    /// Some of that data.
    CopyData(Bytes),
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Type of its values.
    pub kind: Kind,
}

/// Kinds of values, as far as it matters to how they are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `t` or `f`.
    Boolean,
    /// An integer, a numeric or a floating point number; also NaN and Infinity.
    Number,
    /// JSON.
    Json,
    /// An array in braces, `{1,NULL,"a b"}`.
    Array(Box<Kind>),
    /// Anything else.
    Text,
}

/// A row, in which values are in the text format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    data: Bytes,
    values: Vec<Option<Range<usize>>>,
}

/// An error or a notice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// ERROR, FATAL, WARNING, NOTICE and so on.
    pub severity: String,
    /// The SQLSTATE.
    pub sqlstate: String,
    /// Primary message.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// Suggestion.
    pub hint: Option<String>,
    /// Context other than the query.
    pub context: Option<String>,
    /// Character of the query, from 1.
    pub position: Option<usize>,
}

impl Event {
    /// Reads a message; returns `None` for one that is of no interest.
    pub(super) fn of(message: Message) -> Result<Option<Self>, ClientError> {
        Ok(Some(match message {
            Message::RowDescription(row) => Self::Columns(row.fields.into_iter().map(Column::of).collect()),
            Message::DataRow(row) => match Row::of(row) {
                Some(row) => Self::Row(row),
                None => return Err(ClientError::Message("a malformed row".into())),
            },
            Message::CommandComplete(complete) => Self::Complete(complete.tag),
            Message::EmptyQueryResponse(_) => Self::Empty,
            Message::NoticeResponse(notice) => Self::Notice(Report::of(notice.fields)),
            Message::ErrorResponse(error) => Self::Error(Report::of(error.fields)),
            Message::CopyInResponse(_) => Self::CopyIn,
            Message::CopyOutResponse(_) => Self::CopyOut,
            Message::CopyData(data) => Self::CopyData(data.data),
            _ => return Ok(None),
        }))
    }
}

impl Column {
    fn of(field: FieldDescription) -> Self {
        Self { name: field.name, kind: Type::from_oid(field.type_id).map_or(Kind::Text, |known| Kind::of(&known)) }
    }
}

impl Kind {
    fn of(known: &Type) -> Self {
        match *known {
            Type::BOOL => Self::Boolean,
            Type::INT2 | Type::INT4 | Type::INT8 | Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => Self::Number,
            // psql aligns these as numbers, too.
            Type::OID | Type::XID | Type::CID => Self::Number,
            Type::JSON | Type::JSONB => Self::Json,
            _ => match known.kind() {
                TypeKind::Array(element) => Self::Array(Box::new(Self::of(element))),
                _ => Self::Text,
            },
        }
    }
}

impl Row {
    /// Makes a row of values.
    pub fn new(values: &[Option<&str>]) -> Self {
        let mut data = Vec::new();
        let mut ranges = Vec::with_capacity(values.len());
        for value in values {
            let start = data.len();
            data.extend_from_slice(value.unwrap_or_default().as_bytes());
            ranges.push(value.map(|_| start..data.len()));
        }
        Self { data: data.into(), values: ranges }
    }

    fn of(row: DataRow) -> Option<Self> {
        let data = row.data.freeze();
        let mut values = Vec::with_capacity(usize::try_from(row.field_count).ok()?);
        let mut start = 0;
        for _ in 0..row.field_count {
            let length = i32::from_be_bytes(*data.get(start..)?.first_chunk()?);
            start += 4;
            let Ok(length) = usize::try_from(length) else {
                values.push(None);
                continue;
            };
            std::str::from_utf8(data.get(start..start + length)?).ok()?;
            values.push(Some(start..start + length));
            start += length;
        }
        Some(Self { data, values })
    }

    /// Returns the values in the order of the columns, `None` for NULL.
    pub fn values(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        self.values.iter().map(|range| {
            // `of` has checked ranges and encoding.
            range.clone().and_then(|range| std::str::from_utf8(&self.data[range]).ok())
        })
    }

    /// Returns the number of bytes of all values.
    pub fn size(&self) -> usize {
        self.data.len()
    }
}

impl Report {
    fn of(fields: Vec<(u8, String)>) -> Self {
        let mut report = Self::default();
        for (code, text) in fields {
            match code {
                b'S' => report.severity = text,
                b'C' => report.sqlstate = text,
                b'M' => report.message = text,
                b'D' => report.detail = Some(text),
                b'H' => report.hint = Some(text),
                b'W' => report.context = Some(text),
                b'P' => report.position = text.parse().ok(),
                _ => {}
            }
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn rows_are_read_or_refused() {
        let row = |bytes: &[u8], field_count| Row::of(DataRow::new(BytesMut::from(bytes), field_count));
        let two = row(b"\0\0\0\x02ab\xff\xff\xff\xff", 2).unwrap();
        assert_eq!(two.values().collect::<Vec<_>>(), [Some("ab"), None]);
        assert_eq!(row(b"\0\0\0\0", 1).unwrap().values().collect::<Vec<_>>(), [Some("")]);
        for bad in [&b"\0\0\0\x03ab"[..], b"\0\0", b"\0\0\0\x01\xff", b""] {
            assert!(row(bad, 1).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn kinds_of_types() {
        assert_eq!(Kind::of(&Type::FLOAT4_ARRAY), Kind::Array(Box::new(Kind::Number)));
        assert_eq!(Kind::of(&Type::TIMESTAMP), Kind::Text);
        assert_eq!(Kind::of(&Type::JSONB), Kind::Json);
    }
}
