//! The text form of values.

use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;
use postgres_types::Kind;

use super::{
    composite, datetime, interval, is_oid, json, name, network, numeric, ranges, syntax, trimmed, unsupported,
};
use crate::catalog::own_types;
use crate::sql::range_values;
use crate::wire::error_response::SqlError;

/// Reads the value of a type that is no array.
pub(super) fn read(wire: &Type, text: &str, zone: &str) -> Result<ScalarValue, SqlError> {
    Ok(match *wire {
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::UNKNOWN => text_value(text),
        Type::NAME => text_value(truncated(text)),
        Type::CHAR => text_value(internal_char(text)?),
        Type::BOOL => ScalarValue::Boolean(Some(boolean(text)?)),
        Type::INT2 => ScalarValue::Int16(Some(integer(wire, text, i16::MIN.into(), i16::MAX.into())? as i16)),
        Type::INT4 => ScalarValue::Int32(Some(integer(wire, text, i32::MIN.into(), i32::MAX.into())? as i32)),
        Type::INT8 => ScalarValue::Int64(Some(integer(wire, text, i64::MIN.into(), i64::MAX.into())? as i64)),
        Type::FLOAT4 => ScalarValue::Float32(Some(float(wire, text, |text| {
            let value: f32 = text.parse().ok()?;
            Some((value, value == 0.0, value.is_infinite()))
        })?)),
        Type::FLOAT8 => ScalarValue::Float64(Some(float(wire, text, |text| {
            let value: f64 = text.parse().ok()?;
            Some((value, value == 0.0, value.is_infinite()))
        })?)),
        Type::NUMERIC => numeric::read(text)?,
        Type::BYTEA => ScalarValue::Binary(Some(neuroql::read_bytea(text)?)),
        Type::UUID => uuid_value(&neuroql::read_uuid(text)?),
        Type::JSON => {
            json::check(text)?;
            text_value(text)
        }
        Type::JSONB => text_value(&json::normal(text)?),
        Type::INET | Type::CIDR | Type::MACADDR => text_value(&network::read(wire, text)?),
        Type::TIMETZ => text_value(&datetime::timetz(text, zone)?),
        Type::DATE => datetime::date(text)?,
        Type::TIME => datetime::time(text)?,
        Type::TIMESTAMP => datetime::timestamp(text)?,
        Type::TIMESTAMPTZ => datetime::timestamptz(text, zone)?,
        Type::INTERVAL => interval::read(text)?,
        _ if is_oid(wire) => oid(wire, text)?,
        _ if own_types::is_composite(wire) => composite::text(wire, text)?,
        _ if own_types::is_enum(wire) => match own_types::current(wire).kind() {
            Kind::Enum(labels) if labels.iter().any(|label| label == text) => text_value(text),
            _ => {
                let message = format!("invalid input value for enum {}: \"{text}\"", name(wire));
                return Err(SqlError::error("22P02", message));
            }
        },
        _ => match range_values::of_type(wire) {
            Some(kind) => ranges::read(kind, text, zone)?,
            None => return Err(unsupported(wire)),
        },
    })
}

pub(super) fn text_value(text: &str) -> ScalarValue {
    ScalarValue::Utf8(Some(text.to_owned()))
}

/// Returns the value of 16 bytes.
pub(super) fn uuid_value(bytes: &[u8; 16]) -> ScalarValue {
    ScalarValue::FixedSizeBinary(16, Some(bytes.to_vec()))
}

/// Cuts a name to 63 bytes, the most that names have.
fn truncated(text: &str) -> &str {
    let mut end = text.len().min(63);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Reads the one byte of a `"char"`.
fn internal_char(text: &str) -> Result<&str, SqlError> {
    match text.chars().next() {
        Some(letter) if !letter.is_ascii() => {
            Err(SqlError::not_supported(format!("\"char\" {letter} is not supported")))
        }
        Some(_) => Ok(&text[..1]),
        None => Ok(text),
    }
}

/// Reads a boolean as `boolin` does: any beginning of a word that is no other's.
fn boolean(text: &str) -> Result<bool, SqlError> {
    let word = trimmed(text).to_ascii_lowercase();
    let begins = |whole: &str| whole.starts_with(&word);
    match word.as_str() {
        "1" | "on" => Ok(true),
        "0" | "of" | "off" => Ok(false),
        "" => Err(syntax("boolean", text)),
        _ if begins("true") || begins("yes") => Ok(true),
        _ if begins("false") || begins("no") => Ok(false),
        _ => Err(syntax("boolean", text)),
    }
}

fn integer(wire: &Type, text: &str, least: i128, most: i128) -> Result<i128, SqlError> {
    let digits = trimmed(text);
    let magnitude = digits.strip_prefix(['-', '+']).unwrap_or(digits);
    if magnitude.is_empty() || !magnitude.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(syntax(&name(wire), text));
    }
    // More digits than an i128 has are out of range, too.
    match digits.parse::<i128>() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(SqlError::error("22003", format!("value \"{text}\" is out of range for type {}", name(wire)))),
    }
}

/// Reads a floating-point number. `parse` returns it, true if it is zero, and true if it is infinite.
fn float<F>(wire: &Type, text: &str, parse: impl Fn(&str) -> Option<(F, bool, bool)>) -> Result<F, SqlError> {
    let word = trimmed(text);
    let (magnitude, digits) = (word.strip_prefix(['-', '+']).unwrap_or(word), |c: char| c.is_ascii_digit());
    let named = ["nan", "infinity", "inf"].iter().any(|known| magnitude.eq_ignore_ascii_case(known));
    // Rust also reads forms that `strtod` does not.
    if !named && !magnitude.starts_with(|c| digits(c) || c == '.') {
        return Err(syntax(&name(wire), text));
    }
    let Some((value, zero, infinite)) = parse(word) else { return Err(syntax(&name(wire), text)) };
    let mantissa = magnitude.split(['e', 'E']).next().unwrap_or_default();
    if !named && (infinite || (zero && mantissa.contains(|c: char| matches!(c, '1'..='9')))) {
        return Err(SqlError::error("22003", format!("\"{word}\" is out of range for type {}", name(wire))));
    }
    Ok(value)
}

/// Reads the number of an object; casts look up names.
fn oid(wire: &Type, text: &str) -> Result<ScalarValue, SqlError> {
    let word = trimmed(text);
    if *wire != Type::OID && word.parse::<u32>().is_err() {
        let message = format!("parameters of type {} are not supported as names; send an oid, or text", name(wire));
        return Err(SqlError::not_supported(message));
    }
    // Negative numbers count from the end.
    let value = integer(wire, text, i32::MIN.into(), u32::MAX.into())?;
    oid_value(value as i64 as u32)
}

/// Returns the number of an object as the `int4` that it is kept as.
pub(super) fn oid_value(value: u32) -> Result<ScalarValue, SqlError> {
    match i32::try_from(value) {
        Ok(value) => Ok(ScalarValue::Int32(Some(value))),
        Err(_) => Err(SqlError::not_supported(format!("oid {value} is not supported: the largest is {}", i32::MAX))),
    }
}
