//! Values as clients send them: the text and the binary form of each type, as Postgres reads them.
//!
//! A value is exactly what was sent, or it is refused: with Postgres' error if Postgres refuses it, by the name of its
//! type if there is no such type here.

mod arrays;
mod binary;
pub(crate) mod composite;
pub(crate) mod copy;
pub(crate) mod date_order;
pub(crate) mod datetime;
mod interval;
mod json;
pub(crate) mod network;
mod numeric;
mod ranges;
mod text;

use datafusion::arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;
use neuroql_access::TEMPORARY;
use postgres_types::Kind;

pub(crate) use self::arrays::read as array_items;
use crate::catalog::objects::quoted;
use crate::sql::range_values;
use crate::wire::error_response::SqlError;

/// Form of a value: text or binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Binary,
}

/// Returns the value of a parameter of a type. `zone` is the time zone of times that name none.
pub(crate) fn decode(wire: &Type, form: Form, bytes: Option<&[u8]>, zone: &str) -> Result<ScalarValue, SqlError> {
    let Some(bytes) = bytes else {
        let data_type = arrow_type(wire, zone).ok_or_else(|| unsupported(wire))?;
        return Ok(ScalarValue::try_from(&data_type)?);
    };
    match (wire.kind(), form) {
        (Kind::Array(item), _) if arrow_type(item, zone).is_none() => Err(unsupported(wire)),
        (Kind::Array(item), Form::Text) => {
            let items = arrays::read(utf8(bytes)?)?.into_iter();
            let items = items.map(|item_text| match item_text {
                Some(item_text) => text::read(item, &item_text, zone).map(Some),
                None => Ok(None),
            });
            list(item, items.collect::<Result<_, _>>()?, zone)
        }
        (Kind::Array(item), Form::Binary) => {
            let items = binary::read_array(bytes)?.into_iter();
            let items = items.map(|bytes| bytes.map(|bytes| binary::read(item, bytes, zone)).transpose());
            list(item, items.collect::<Result<_, _>>()?, zone)
        }
        (_, Form::Text) => text::read(wire, utf8(bytes)?, zone),
        (_, Form::Binary) => binary::read(wire, bytes, zone),
    }
}

/// Returns the value of a literal without a type as one of this type.
pub(crate) fn from_text(wire: &Type, text: &str, zone: &str) -> Result<ScalarValue, SqlError> {
    decode(wire, Form::Text, Some(text.as_bytes()), zone)
}

/// Returns the items of the text of an array; `None` if it is no array of one dimension.
pub(crate) fn items(text: &str) -> Option<Vec<Option<String>>> {
    arrays::read(text).ok()
}

fn list(item: &Type, items: Vec<Option<ScalarValue>>, zone: &str) -> Result<ScalarValue, SqlError> {
    let natural = arrow_type(item, zone).ok_or_else(|| unsupported(item))?;
    let (item_type, items) = match natural {
        DataType::Decimal128(..) => numeric::of_one_scale(items)?,
        other => (other, items),
    };
    let null = ScalarValue::try_from(&item_type)?;
    let items: Vec<_> = items.into_iter().map(|value| value.unwrap_or_else(|| null.clone())).collect();
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&items, &item_type)))
}

/// Returns the Arrow type of a type's values, if it has one. A numeric has as many digits as each value needs.
pub(crate) fn arrow_type(wire: &Type, zone: &str) -> Option<DataType> {
    if let Kind::Array(item) = wire.kind() {
        return Some(DataType::new_list(arrow_type(item, zone)?, true));
    }
    Some(match *wire {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::NUMERIC => DataType::Decimal128(38, 10),
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Nanosecond),
        Type::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into())),
        Type::INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
        Type::UUID => neuroql::UUID,
        Type::CHAR
        | Type::TEXT
        | Type::VARCHAR
        | Type::BPCHAR
        | Type::NAME
        | Type::JSON
        | Type::JSONB
        | Type::TIMETZ
        | Type::INET
        | Type::CIDR
        | Type::MACADDR
        | Type::UNKNOWN => DataType::Utf8,
        _ if range_values::of_type(wire).is_some() => DataType::Utf8,
        _ if is_oid(wire) => DataType::Int32,
        _ if matches!(wire.kind(), Kind::Enum(_) | Kind::Composite(_)) => DataType::Utf8,
        _ => return None,
    })
}

/// Returns true if values of the type are numbers of objects of the catalog, which are kept as `int4`.
pub(crate) fn is_oid(wire: &Type) -> bool {
    matches!(
        *wire,
        Type::OID
            | Type::REGCLASS
            | Type::REGTYPE
            | Type::REGPROC
            | Type::REGPROCEDURE
            | Type::REGOPER
            | Type::REGOPERATOR
            | Type::REGNAMESPACE
            | Type::REGROLE
            | Type::REGCONFIG
            | Type::REGDICTIONARY
            | Type::REGCOLLATION
            | Type::XID
            | Type::CID
    )
}

/// Returns the name of a type in PostgreSQL's messages.
pub(crate) fn name(wire: &Type) -> String {
    match *wire {
        Type::BOOL => "boolean".into(),
        Type::INT2 => "smallint".into(),
        Type::INT4 => "integer".into(),
        Type::INT8 => "bigint".into(),
        Type::FLOAT4 => "real".into(),
        Type::FLOAT8 => "double precision".into(),
        Type::VARCHAR => "character varying".into(),
        Type::BPCHAR => "character".into(),
        Type::CHAR => "\"char\"".into(),
        Type::TIME => "time without time zone".into(),
        Type::TIMETZ => "time with time zone".into(),
        Type::TIMESTAMP => "timestamp without time zone".into(),
        Type::TIMESTAMPTZ => "timestamp with time zone".into(),
        Type::BIT => "bit".into(),
        Type::VARBIT => "bit varying".into(),
        _ => match wire.kind() {
            Kind::Array(item) => format!("{}[]", name(item)),
            // Types of this schema are those that are found without it, as a rule.
            Kind::Enum(_) | Kind::Composite(_) if matches!(wire.schema(), "public" | TEMPORARY) => quoted(wire.name()),
            Kind::Enum(_) | Kind::Composite(_) => format!("{}.{}", quoted(wire.schema()), quoted(wire.name())),
            _ => wire.name().into(),
        },
    }
}

/// Error of a type that is not supported, by its name.
pub(crate) fn unsupported(wire: &Type) -> SqlError {
    SqlError::not_supported(format!("parameters of type {} are not supported", name(wire)))
}

fn utf8(bytes: &[u8]) -> Result<&str, SqlError> {
    let invalid = |at: usize, length: usize| {
        let bytes: Vec<_> = bytes.iter().skip(at).take(length).map(|byte| format!("0x{byte:02x}")).collect();
        SqlError::error("22021", format!("invalid byte sequence for encoding \"UTF8\": {}", bytes.join(" ")))
    };
    let text =
        std::str::from_utf8(bytes).map_err(|error| invalid(error.valid_up_to(), error.error_len().unwrap_or(1)))?;
    match text.find('\0') {
        Some(at) => Err(invalid(at, 1)),
        None => Ok(text),
    }
}

fn syntax(kind: &str, text: &str) -> SqlError {
    invalid_syntax("22P02", kind, text)
}

fn invalid_syntax(sqlstate: &'static str, kind: &str, text: &str) -> SqlError {
    SqlError::error(sqlstate, format!("invalid input syntax for type {kind}: \"{text}\""))
}

/// Returns true if C's `isspace` is true of an ASCII character.
pub(crate) fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t'..='\r')
}

fn trimmed(text: &str) -> &str {
    text.trim_matches(is_space)
}
