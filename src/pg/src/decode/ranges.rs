//! Ranges and multiranges: the text form and the binary form.

use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;
use neuroql::ranges::{self, Bound, Element, Point, RangeType, Span};

use super::binary;
use super::text::text_value;
use crate::wire::error_response::SqlError;

/// Flags of the binary form of a range.
const EMPTY: u8 = 0x01;
const LOWER_INCLUSIVE: u8 = 0x02;
const UPPER_INCLUSIVE: u8 = 0x04;
const LOWER_MISSING: u8 = 0x08;
const UPPER_MISSING: u8 = 0x10;

/// Reads the text form.
pub(super) fn read(kind: RangeType, text: &str, zone: &str) -> Result<ScalarValue, SqlError> {
    Ok(text_value(&ranges::normal(kind, text, zone)?))
}

/// Reads the binary form.
pub(super) fn read_binary(kind: RangeType, bytes: &[u8]) -> Result<ScalarValue, SqlError> {
    let mut reader = Reader { rest: bytes };
    let mut spans = Vec::new();
    if kind.is_multi {
        for _ in 0..reader.length()? {
            let length = reader.length()?;
            spans.extend(span(kind.element, reader.slice(length)?)?);
        }
        reader.end()?;
        // The multirange of these ranges.
        let texts =
            spans.iter().map(|span| ranges::write(RangeType { is_multi: false, ..kind }, std::slice::from_ref(span)));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        return read(kind, &format!("{{{}}}", texts.join(",")), "UTC");
    }
    spans.extend(span(kind.element, bytes)?);
    Ok(text_value(&ranges::write(kind, &spans)?))
}

/// Reads a range; `None` if it is empty.
fn span(element: Element, bytes: &[u8]) -> Result<Option<Span>, SqlError> {
    let mut reader = Reader { rest: bytes };
    let [flags] = reader.bytes()?;
    if flags & EMPTY != 0 {
        reader.end()?;
        return Ok(None);
    }
    let mut bound = |missing: u8, inclusive: u8| -> Result<Bound, SqlError> {
        let point = match flags & missing {
            0 => {
                let length = reader.length()?;
                Some(point(element, reader.slice(length)?)?)
            }
            _ => None,
        };
        Ok(Bound { point, is_inclusive: flags & inclusive != 0 })
    };
    let lower = bound(LOWER_MISSING, LOWER_INCLUSIVE)?;
    let upper = bound(UPPER_MISSING, UPPER_INCLUSIVE)?;
    reader.end()?;
    Ok(Span::new(element, lower, upper)?)
}

fn point(element: Element, bytes: &[u8]) -> Result<Point, SqlError> {
    let kind = match element {
        Element::Int4 => Type::INT4,
        Element::Int8 => Type::INT8,
        Element::Num => Type::NUMERIC,
        Element::Date => Type::DATE,
        Element::Ts | Element::Tstz => Type::TIMESTAMP,
    };
    match (element, bytes) {
        (Element::Date, [0x7f, 0xff, 0xff, 0xff]) => return Ok(Point::Day(i32::MAX)),
        (Element::Date, [0x80, 0, 0, 0]) => return Ok(Point::Day(i32::MIN)),
        (Element::Ts | Element::Tstz, [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]) => {
            return Ok(Point::Moment(i64::MAX));
        }
        (Element::Ts | Element::Tstz, [0x80, 0, 0, 0, 0, 0, 0, 0]) => return Ok(Point::Moment(i64::MIN)),
        _ => {}
    }
    match binary::read(&kind, bytes, "UTC")? {
        ScalarValue::Int32(Some(number)) => Ok(Point::Integer(number.into())),
        ScalarValue::Int64(Some(number)) => Ok(Point::Integer(number)),
        ScalarValue::Date32(Some(day)) => Ok(Point::Day(day)),
        ScalarValue::TimestampMicrosecond(Some(micros), _) => Ok(Point::Moment(micros)),
        ScalarValue::Decimal128(Some(number), _, scale) => {
            let scale =
                u8::try_from(scale).map_err(|_| SqlError::not_supported("a numeric of this scale is not supported"))?;
            Ok(Point::Number(number, scale))
        }
        _ => Err(incorrect()),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], SqlError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(incorrect)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn length(&mut self) -> Result<usize, SqlError> {
        usize::try_from(i32::from_be_bytes(self.bytes()?)).map_err(|_| incorrect())
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], SqlError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(incorrect)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn end(&self) -> Result<(), SqlError> {
        if self.rest.is_empty() { Ok(()) } else { Err(incorrect()) }
    }
}

fn incorrect() -> SqlError {
    SqlError::error("22P03", "incorrect binary data format")
}
