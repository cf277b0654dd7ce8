//! Values of composite types that users make: kept as the text that `record_out` of Postgres writes.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, StructArray};
use datafusion::arrow::datatypes::{Field, Fields};
use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;
use postgres_types::{Field as PgField, Kind};

use super::binary::Reader;
use super::{Form, decode, is_space, name};
use crate::encode::record;
use crate::wire::error_response::SqlError;

/// Returns the fields of a composite type.
pub(crate) fn fields(kind: &Type) -> &[PgField] {
    match kind.kind() {
        Kind::Composite(fields) => fields,
        _ => &[],
    }
}

/// Reads the text form of a value.
pub(super) fn text(kind: &Type, text: &str) -> Result<ScalarValue, SqlError> {
    let parts = parts(kind, text)?;
    let values = fields(kind).iter().zip(&parts);
    let values =
        values.map(|(field, part)| decode(field.type_(), Form::Text, part.as_ref().map(String::as_bytes), "UTC"));
    written(values.collect::<Result<_, _>>()?)
}

/// Reads the binary form of a value.
pub(super) fn binary(kind: &Type, bytes: &[u8]) -> Result<ScalarValue, SqlError> {
    let mut reader = Reader { rest: bytes };
    let count = i32::from_be_bytes(reader.bytes()?);
    let wanted = fields(kind);
    if usize::try_from(count) != Ok(wanted.len()) {
        let message = format!("wrong number of columns: {count}, expected {}", wanted.len());
        return Err(SqlError::error("42804", message));
    }
    let mut values = Vec::with_capacity(wanted.len());
    for (place, field) in (1..).zip(wanted) {
        let (found, expected) = (u32::from_be_bytes(reader.bytes()?), field.type_());
        if found != expected.oid() {
            let (oid, expected) = (expected.oid(), name(expected));
            let message =
                format!("binary data has type {found} instead of expected {oid} ({expected}) in record column {place}");
            return Err(SqlError::error("42804", message));
        }
        let length = i32::from_be_bytes(reader.bytes()?);
        let value = match usize::try_from(length) {
            Ok(length) => Some(reader.slice(length)?),
            Err(_) => None,
        };
        values.push(decode(expected, Form::Binary, value, "UTC")?);
    }
    reader.end()?;
    written(values)
}

/// Returns the value of fields.
fn written(values: Vec<ScalarValue>) -> Result<ScalarValue, SqlError> {
    let columns = values.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>, _>>()?;
    let texts = texts(columns, 1)?;
    Ok(ScalarValue::Utf8(texts.as_string::<i32>().iter().next().flatten().map(str::to_owned)))
}

/// Returns the values of rows, whose fields are these columns.
///
/// # Errors
/// None for columns of types that fields have.
pub(crate) fn texts(columns: Vec<ArrayRef>, rows: usize) -> Result<ArrayRef, SqlError> {
    let of = |(place, column): (usize, &ArrayRef)| Field::new(format!("f{place}"), column.data_type().clone(), true);
    let fields: Fields = columns.iter().enumerate().map(of).collect();
    let records: ArrayRef = match columns.is_empty() {
        true => Arc::new(StructArray::new_empty_fields(rows, None)),
        false => Arc::new(StructArray::new(fields, columns, None)),
    };
    let written = record::spell(&records, &Default::default());
    written.ok_or_else(|| SqlError::error("XX000", "internal error: a composite value with a field of another type"))
}

/// Returns the texts of the fields in the text of a value; `None` for NULL.
///
/// # Errors
/// 22P02 for a text that is no record of so many fields.
pub(crate) fn parts(kind: &Type, text: &str) -> Result<Vec<Option<String>>, SqlError> {
    let malformed =
        |hint: &str| Err(SqlError::error("22P02", format!("malformed record literal: \"{text}\"")).with_hint(hint));
    let count = fields(kind).len();
    let Some(rest) = text.trim_start_matches(is_space).strip_prefix('(') else {
        return malformed("Missing left parenthesis.");
    };
    let mut letters = rest.chars().peekable();
    let mut parts = Vec::with_capacity(count);
    for place in 0..count {
        if place > 0 && letters.next_if_eq(&',').is_none() {
            return malformed("Too few columns.");
        }
        if matches!(letters.peek(), Some(',' | ')')) {
            parts.push(None);
            continue;
        }
        let mut part = String::new();
        let mut is_quoted = false;
        loop {
            match letters.peek().copied() {
                None => return malformed("Unexpected end of input."),
                Some(',' | ')') if !is_quoted => break,
                Some(letter) => {
                    letters.next();
                    match letter {
                        '\\' => match letters.next() {
                            Some(escaped) => part.push(escaped),
                            None => return malformed("Unexpected end of input."),
                        },
                        '"' if !is_quoted => is_quoted = true,
                        // Two of them are one.
                        '"' if letters.next_if_eq(&'"').is_some() => part.push('"'),
                        '"' => is_quoted = false,
                        letter => part.push(letter),
                    }
                }
            }
        }
        parts.push(Some(part));
    }
    if letters.next_if_eq(&')').is_none() {
        return malformed("Too many columns.");
    }
    match letters.all(is_space) {
        true => Ok(parts),
        false => malformed("Junk after right parenthesis."),
    }
}

/// Returns the binary form of a value that has been read.
///
/// # Errors
/// 22P02 if it has not.
pub(crate) fn packed(kind: &Type, text: &str) -> Result<Vec<u8>, SqlError> {
    let fields = fields(kind);
    let count = |length: usize| i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes();
    let mut bytes = count(fields.len()).to_vec();
    for (field, part) in fields.iter().zip(parts(kind, text)?) {
        let kind = field.type_();
        bytes.extend(kind.oid().to_be_bytes());
        let Some(part) = part else {
            bytes.extend((-1_i32).to_be_bytes());
            continue;
        };
        let value = match (decode(kind, Form::Text, Some(part.as_bytes()), "UTC")?, kind.kind()) {
            (ScalarValue::Utf8(Some(text)), Kind::Composite(_)) => packed(kind, &text)?,
            (ScalarValue::Utf8(Some(text)), _) => text.into_bytes(),
            (ScalarValue::Boolean(Some(value)), _) => vec![value.into()],
            (ScalarValue::Int16(Some(value)), _) => value.to_be_bytes().to_vec(),
            (ScalarValue::Int32(Some(value)), _) => value.to_be_bytes().to_vec(),
            (ScalarValue::Int64(Some(value)), _) => value.to_be_bytes().to_vec(),
            (ScalarValue::Float32(Some(value)), _) => value.to_be_bytes().to_vec(),
            (ScalarValue::Float64(Some(value)), _) => value.to_be_bytes().to_vec(),
            _ => return Err(SqlError::error("XX000", "internal error: a field of another type")),
        };
        bytes.extend(count(value.len()));
        bytes.extend(value);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composite(fields: &[(&str, Type)]) -> Type {
        let fields = fields.iter().map(|(name, kind)| PgField::new((*name).to_owned(), kind.clone())).collect();
        Type::new("comp".into(), 16_384, Kind::Composite(fields), "public".into())
    }

    fn comp() -> Type {
        composite(&[("foo", Type::TEXT), ("bar", Type::INT8), ("baz", Type::FLOAT8)])
    }

    fn read(kind: &Type, value: &str) -> Result<String, String> {
        match text(kind, value) {
            Ok(ScalarValue::Utf8(Some(text))) => Ok(text),
            Ok(other) => Err(other.to_string()),
            Err(error) => Err(error.sqlstate.into_owned()),
        }
    }

    /// Compares with PostgreSQL 15.
    #[test]
    fn texts_of_records_are_read() {
        for (written, expected) in [
            ("(a,1,2)", Ok("(a,1,2)")),
            (" ( a,1 ,2 ) ", Ok("(\" a\",1,2)")),
            ("(,,)", Ok("(,,)")),
            ("(\"\",,)", Ok("(\"\",,)")),
            ("(\"a\"\"b\\\"c\\\\,)\",1,1e3)", Ok("(\"a\"\"b\"\"c\\\\,)\",1,1000)")),
            ("(a\" \"b,1,NaN)", Ok("(\"a b\",1,NaN)")),
            ("a", Err("22P02")),
            ("(a)", Err("22P02")),
            ("(a,1,2,3)", Err("22P02")),
            ("(a,x,2)", Err("22P02")),
            ("(a,1,2", Err("22P02")),
            ("(a,1,2) x", Err("22P02")),
            ("(a,1,\"", Err("22P02")),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(read(&comp(), written), expected, "{written}");
        }
        assert_eq!(read(&composite(&[]), "()"), Ok("()".into()));
        assert_eq!(read(&composite(&[]), "(1)"), Err("22P02".into()));
        assert_eq!(read(&composite(&[("a", Type::INT4)]), "()"), Ok("()".into()));
        let nested = composite(&[("c", comp()), ("d", Type::BOOL)]);
        assert_eq!(read(&nested, "(\"(x,1,)\",true)"), Ok("(\"(x,1,)\",t)".into()));
    }

    #[test]
    fn binary_forms_are_read_as_they_are_written() {
        let nested = composite(&[("c", comp()), ("d", Type::BOOL), ("e", Type::INT2), ("f", Type::FLOAT4)]);
        for (kind, value) in
            [(comp(), "(\"a b\",-1,2.5)"), (comp(), "(,,)"), (nested, "(\"(x,1,)\",t,3,0.1)"), (composite(&[]), "()")]
        {
            let bytes = packed(&kind, value).unwrap();
            assert_eq!(binary(&kind, &bytes).unwrap(), ScalarValue::Utf8(Some(value.into())));
        }
        let bytes = packed(&comp(), "(a,1,2)").unwrap();
        let other = composite(&[("foo", Type::TEXT), ("bar", Type::INT4), ("baz", Type::FLOAT8)]);
        assert_eq!(binary(&other, &bytes).unwrap_err().sqlstate, "42804");
        assert_eq!(binary(&composite(&[]), &bytes).unwrap_err().sqlstate, "42804");
        assert_eq!(binary(&comp(), &bytes[..20]).unwrap_err().sqlstate, "22P03");
    }
}
