//! Ranges and multiranges as clients get them.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BinaryArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::types::format::FormatOptions;
use neuroql::DateStyle;
use neuroql::ranges::{self, Element, Point, RangeType, Span};

use crate::encode::column::numeric;
use crate::sql::range_values;

/// Writes values, or arrays of them, in the style and the zone of a session; `None` for other types.
///
/// # Errors
/// If a value is out of range.
pub(super) fn spell(column: &ArrayRef, kind: &Type, options: &FormatOptions) -> Result<Option<ArrayRef>> {
    let Some(kind) = range_values::of_type(kind).filter(|kind| kind.element.is_moment()) else { return Ok(None) };
    if !column.data_type().is_string() && column.as_list_opt::<i32>().is_none() {
        return Ok(None);
    }
    ranges::spelled(kind, column, &DateStyle::read(&options.date_style), &options.time_zone).map(Some)
}

/// Returns the binary form of values; `None` if they are of another type.
///
/// # Errors
/// If a text is no value.
pub(super) fn pack(column: &ArrayRef, kind: &Type) -> Result<Option<ArrayRef>> {
    let Some(kind) = range_values::of_type(kind).filter(|_| column.data_type().is_string()) else { return Ok(None) };
    let texts = cast(column, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>();
    let bytes = |text: &str| -> Result<Vec<u8>> {
        let spans = ranges::parse(kind, text, "UTC")?;
        if !kind.is_multi {
            return Ok(range(kind, spans.first()));
        }
        let mut bytes = length(spans.len()).to_vec();
        for span in &spans {
            let range = range(kind, Some(span));
            bytes.extend(length(range.len()));
            bytes.extend(range);
        }
        Ok(bytes)
    };
    let values = texts.iter().map(|text| text.map(bytes).transpose()).collect::<Result<Vec<_>>>()?;
    let values = values.iter().map(|value| value.as_deref()).collect::<BinaryArray>();
    Ok(Some(Arc::new(values)))
}

fn length(count: usize) -> [u8; 4] {
    i32::try_from(count).unwrap_or(i32::MAX).to_be_bytes()
}

fn range(kind: RangeType, span: Option<&Span>) -> Vec<u8> {
    let Some(span) = span else { return vec![1] };
    let mut flags = 0;
    let mut bytes = vec![0];
    for (bound, inclusive, missing) in [(&span.lower, 0x02, 0x08), (&span.upper, 0x04, 0x10)] {
        flags |= if bound.is_inclusive { inclusive } else { 0 };
        match &bound.point {
            None => flags |= missing,
            Some(point) => {
                let point = self::point(kind.element, point);
                bytes.extend(length(point.len()));
                bytes.extend(point);
            }
        }
    }
    bytes[0] = flags;
    bytes
}

fn point(element: Element, point: &Point) -> Vec<u8> {
    /// Days, and microseconds, from 1970 to 2000.
    const DAYS: i32 = 10_957;
    const MICROS: i64 = 946_684_800_000_000;
    match point {
        Point::Integer(number) if element == Element::Int4 => {
            i32::try_from(*number).unwrap_or_default().to_be_bytes().to_vec()
        }
        Point::Integer(number) => number.to_be_bytes().to_vec(),
        Point::Number(number, scale) => numeric(*number, i8::try_from(*scale).unwrap_or(0)),
        Point::Day(day) if point.is_infinite() => day.to_be_bytes().to_vec(),
        Point::Day(day) => day.saturating_sub(DAYS).to_be_bytes().to_vec(),
        Point::Moment(micros) if point.is_infinite() => micros.to_be_bytes().to_vec(),
        Point::Moment(micros) => micros.saturating_sub(MICROS).to_be_bytes().to_vec(),
    }
}
