//! One value as Postgres prints it, from an Arrow array and from the binary protocol.

use std::error::Error;
use std::fmt::Display;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use sqllogictest::DefaultColumnType;
use tokio_postgres::types::{FromSql, Kind, Type};

/// A value's text; SQL NULL is `None`.
#[derive(Debug, Clone)]
pub struct Cell(Option<String>);

impl Cell {
    /// Returns a value as the simple protocol delivers it.
    pub fn text(value: Option<&str>) -> Self {
        Cell(value.map(str::to_owned))
    }

    /// Returns the value at `row` of `array`.
    pub fn arrow(array: &dyn Array, row: usize) -> Self {
        if array.is_null(row) {
            return Cell(None);
        }
        Cell(Some(match array.data_type() {
            DataType::Null => return Cell(None),
            DataType::Boolean => boolean(array.as_boolean().value(row)),
            DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
            DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
            DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
            DataType::Float32 => float(array.as_primitive::<Float32Type>().value(row)),
            DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row)),
            DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
            DataType::LargeUtf8 => array.as_string::<i64>().value(row).to_owned(),
            DataType::Utf8View => array.as_string_view().value(row).to_owned(),
            kind if neuroql::is_uuid(kind) => neuroql::uuid_text(array.as_fixed_size_binary().value(row)),
            DataType::List(_) => {
                let items = array.as_list::<i32>().value(row);
                braces((0..items.len()).map(|item| Cell::arrow(&items, item)))
            }
            _ => ArrayFormatter::try_new(array, &FormatOptions::default())
                .map_or_else(|error| error.to_string(), |formatter| formatter.value(row).to_string()),
        }))
    }

    /// Returns it as it stands in an .slt file: one line, NULL and the empty string spelled out.
    pub fn line(&self) -> String {
        match self.0.as_deref() {
            None => "NULL".into(),
            Some("") => "(empty)".into(),
            Some(text) => text.replace('\\', "\\\\").replace('\n', "\\n"),
        }
    }
}

impl<'a> FromSql<'a> for Cell {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Cell(Some(match *kind {
            Type::BOOL => boolean(bool::from_sql(kind, raw)?),
            Type::INT2 => i16::from_sql(kind, raw)?.to_string(),
            Type::INT4 => i32::from_sql(kind, raw)?.to_string(),
            Type::INT8 => i64::from_sql(kind, raw)?.to_string(),
            Type::FLOAT4 => float(f32::from_sql(kind, raw)?),
            Type::FLOAT8 => float(f64::from_sql(kind, raw)?),
            Type::NUMERIC => numeric(raw).ok_or("malformed numeric")?,
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN => String::from_sql(kind, raw)?,
            Type::JSON => std::str::from_utf8(raw)?.to_owned(),
            Type::UUID => neuroql::uuid_text(raw),
            Type::JSONB => std::str::from_utf8(raw.get(1..).ok_or("malformed jsonb")?)?.to_owned(),
            _ if matches!(kind.kind(), Kind::Array(_)) => braces(Vec::<Cell>::from_sql(kind, raw)?.into_iter()),
            _ => return Err(format!("no decoder for {kind}").into()),
        })))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Cell(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Returns the column type letter of an Arrow type.
pub fn arrow_column(kind: &DataType) -> DefaultColumnType {
    match kind {
        DataType::Int16 | DataType::Int32 | DataType::Int64 => DefaultColumnType::Integer,
        DataType::Float32 | DataType::Float64 => DefaultColumnType::FloatingPoint,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DefaultColumnType::Text,
        _ => DefaultColumnType::Any,
    }
}

/// Returns the column type letter of a Postgres type.
pub fn wire_column(kind: &Type) -> DefaultColumnType {
    match *kind {
        Type::INT2 | Type::INT4 | Type::INT8 => DefaultColumnType::Integer,
        Type::FLOAT4 | Type::FLOAT8 => DefaultColumnType::FloatingPoint,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::JSON | Type::JSONB => DefaultColumnType::Text,
        _ => DefaultColumnType::Any,
    }
}

fn boolean(value: bool) -> String {
    if value { "t".into() } else { "f".into() }
}

/// Reads a binary numeric: digits in base 10,000, of which the first counts 10,000 to the power of `weight`.
fn numeric(raw: &[u8]) -> Option<String> {
    let words: Vec<i16> = raw.chunks_exact(2).map(|two| i16::from_be_bytes([two[0], two[1]])).collect();
    let [_, weight, sign, scale, digits @ ..] = words.as_slice() else { return None };
    let digit = |place: i16| usize::try_from(weight - place).ok().and_then(|at| digits.get(at)).copied().unwrap_or(0);
    let whole: String = (0..=(*weight).max(0)).rev().map(|place| format!("{:04}", digit(place))).collect();
    let fraction: String = (1..=(scale + 3) / 4).map(|place| format!("{:04}", digit(-place))).collect();
    let (whole, scale) = (whole.trim_start_matches('0'), usize::try_from(*scale).ok()?);
    let point = if scale > 0 { "." } else { "" };
    let minus = if *sign == 0x4000 { "-" } else { "" };
    Some(format!("{minus}{}{point}{}", if whole.is_empty() { "0" } else { whole }, fraction.get(..scale)?))
}

fn float(value: impl Display + Into<f64> + Copy) -> String {
    match value.into() {
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        _ => value.to_string(),
    }
}

fn braces(items: impl Iterator<Item = Cell>) -> String {
    let quoted = |item: Cell| match item.0 {
        None => "NULL".to_owned(),
        Some(text) => {
            let special = |letter: char| letter.is_ascii_whitespace() || "{}\",\\".contains(letter);
            if text.is_empty() || text.eq_ignore_ascii_case("null") || text.contains(special) {
                format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
            } else {
                text
            }
        }
    };
    format!("{{{}}}", items.map(quoted).collect::<Vec<_>>().join(","))
}
