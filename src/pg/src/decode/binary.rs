//! The binary form of values.

use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;

use super::text::{oid_value, text_value, uuid_value};
use super::{composite, datetime, interval, is_oid, json, name, network, numeric, ranges, text, unsupported, utf8};
use crate::catalog::own_types;
use crate::sql::range_values;
use crate::wire::error_response::SqlError;

/// Reads the value of a type that is no array.
pub(super) fn read(wire: &Type, bytes: &[u8], zone: &str) -> Result<ScalarValue, SqlError> {
    let mut reader = Reader { rest: bytes };
    let value = match *wire {
        // Both forms of these types are text.
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::CHAR | Type::JSON | Type::UNKNOWN => {
            return text::read(wire, utf8(bytes)?, zone);
        }
        _ if own_types::is_composite(wire) => return composite::binary(wire, bytes),
        _ if own_types::is_enum(wire) => return text::read(wire, utf8(bytes)?, zone),
        Type::BYTEA => return Ok(ScalarValue::Binary(Some(bytes.to_vec()))),
        Type::JSONB => {
            let [1, text @ ..] = bytes else {
                return Err(SqlError::error("22P03", "unsupported jsonb version number"));
            };
            return Ok(text_value(&json::normal(utf8(text)?)?));
        }
        Type::BOOL => ScalarValue::Boolean(Some(reader.bytes::<1>()? != [0])),
        Type::INT2 => ScalarValue::Int16(Some(i16::from_be_bytes(reader.bytes()?))),
        Type::INT4 => ScalarValue::Int32(Some(i32::from_be_bytes(reader.bytes()?))),
        Type::INT8 => ScalarValue::Int64(Some(i64::from_be_bytes(reader.bytes()?))),
        Type::FLOAT4 => ScalarValue::Float32(Some(f32::from_be_bytes(reader.bytes()?))),
        Type::FLOAT8 => ScalarValue::Float64(Some(f64::from_be_bytes(reader.bytes()?))),
        Type::UUID => uuid_value(&reader.bytes()?),
        Type::NUMERIC => {
            let groups = u16::from_be_bytes(reader.bytes()?);
            let weight = i16::from_be_bytes(reader.bytes()?);
            let sign = u16::from_be_bytes(reader.bytes()?);
            let scale = u16::from_be_bytes(reader.bytes()?);
            let groups =
                (0..groups).map(|_| Ok(i16::from_be_bytes(reader.bytes()?))).collect::<Result<Vec<_>, SqlError>>()?;
            numeric::from_groups(weight, sign, scale, &groups)?
        }
        Type::DATE => {
            // 2000-01-01 is day 10,957 of 1970.
            let days = i32::from_be_bytes(reader.bytes()?);
            match days {
                i32::MAX | i32::MIN => return Err(infinite(wire)),
                days => ScalarValue::Date32(Some(days.checked_add(10_957).ok_or_else(|| infinite(wire))?)),
            }
        }
        Type::TIME => {
            let micros = i64::from_be_bytes(reader.bytes()?);
            datetime::time_value(micros).ok_or_else(|| SqlError::not_supported("time 24:00:00 is not supported"))?
        }
        Type::INET | Type::CIDR | Type::MACADDR => return Ok(text_value(&network::unpacked(wire, bytes)?)),
        Type::TIMETZ => {
            let micros = i64::from_be_bytes(reader.bytes()?);
            let west = i32::from_be_bytes(reader.bytes()?);
            text_value(&datetime::timetz_value(micros, west)?)
        }
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let micros = match i64::from_be_bytes(reader.bytes()?) {
                i64::MAX | i64::MIN => return Err(infinite(wire)),
                micros => datetime::from_2000(micros).ok_or_else(|| infinite(wire))?,
            };
            let zone = (*wire == Type::TIMESTAMPTZ).then(|| zone.into());
            ScalarValue::TimestampMicrosecond(Some(micros), zone)
        }
        Type::INTERVAL => {
            let micros = i64::from_be_bytes(reader.bytes()?);
            let days = i32::from_be_bytes(reader.bytes()?);
            let months = i32::from_be_bytes(reader.bytes()?);
            interval::value(months, days, micros)
                .ok_or_else(|| SqlError::not_supported("intervals of more than 292 years in hours are not supported"))?
        }
        _ if is_oid(wire) => oid_value(u32::from_be_bytes(reader.bytes()?))?,
        _ => match range_values::of_type(wire) {
            Some(kind) => return ranges::read_binary(kind, bytes),
            None => return Err(unsupported(wire)),
        },
    };
    reader.end()?;
    Ok(value)
}

fn infinite(wire: &Type) -> SqlError {
    SqlError::not_supported(format!("{} infinity is not supported", name(wire)))
}

/// Reads the items of an array of one dimension.
pub(super) fn read_array(bytes: &[u8]) -> Result<Vec<Option<&[u8]>>, SqlError> {
    let mut reader = Reader { rest: bytes };
    let dimensions = i32::from_be_bytes(reader.bytes()?);
    let _has_nulls: [u8; 4] = reader.bytes()?;
    let _item_type: [u8; 4] = reader.bytes()?;
    let items = match dimensions {
        0 => 0,
        1 => {
            let items = i32::from_be_bytes(reader.bytes()?);
            if i32::from_be_bytes(reader.bytes()?) != 1 {
                return Err(SqlError::not_supported("arrays with bounds of their own are not supported"));
            }
            items
        }
        _ => return Err(SqlError::not_supported("arrays of more than one dimension are not supported")),
    };
    let mut read = Vec::new();
    for _ in 0..items {
        read.push(match i32::from_be_bytes(reader.bytes()?) {
            -1 => None,
            length => Some(reader.slice(usize::try_from(length).map_err(|_| incorrect())?)?),
        });
    }
    reader.end()?;
    Ok(read)
}

pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], SqlError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(incorrect)?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(super) fn slice(&mut self, length: usize) -> Result<&'a [u8], SqlError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(incorrect)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn end(&self) -> Result<(), SqlError> {
        if self.rest.is_empty() { Ok(()) } else { Err(incorrect()) }
    }
}

fn incorrect() -> SqlError {
    SqlError::error("22P03", "incorrect binary data format in bind parameter")
}
