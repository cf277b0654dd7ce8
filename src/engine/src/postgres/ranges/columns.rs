//! Columns of ranges, and of the values that they are made of.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Date32Array, Decimal128Array, Int32Array, Int64Array, ListArray,
    PrimitiveArray, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float64Type, Int64Type, TimestampMicrosecondType,
};
use datafusion::error::Result;

use super::super::casts::arrow_cast;
use super::super::date_styles::DateStyle;
use super::super::refusal::{refusal, type_name};
use super::super::texts;
use super::RangeType;
use super::point::{Element, NO_ZONE, Point};
use super::value::{Bound, Side, Span, parse, write_with};

/// Values of a column, read when they are asked for.
pub(super) struct Values {
    kind: RangeType,
    texts: StringArray,
    /// Time zone of instants which name none; those of values do.
    zone: String,
    /// The last value that was read, which may stand in many rows.
    last: Option<(String, Vec<Span>)>,
}

impl Values {
    pub(super) fn of(kind: RangeType, column: &ArrayRef) -> Result<Self> {
        Self::in_zone(kind, column, NO_ZONE)
    }

    /// Returns the values of a column that may have texts without a type in it.
    pub(super) fn in_zone(kind: RangeType, column: &ArrayRef, zone: &str) -> Result<Self> {
        Ok(Self { kind, texts: as_texts(kind, column)?, zone: zone.to_owned(), last: None })
    }

    pub(super) fn at(&mut self, row: usize) -> Result<Option<&[Span]>> {
        if self.texts.is_null(row) {
            return Ok(None);
        }
        let text = self.texts.value(row);
        if self.last.as_ref().is_none_or(|(known, _)| known != text) {
            let spans = parse(self.kind, text, &self.zone)?;
            self.last = Some((text.to_owned(), spans));
        }
        Ok(self.last.as_ref().map(|(_, spans)| spans.as_slice()))
    }
}

/// Returns the texts of a column of ranges.
pub(super) fn as_texts(kind: RangeType, column: &ArrayRef) -> Result<StringArray> {
    match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null | DataType::Dictionary(..) => {
            let texts = arrow_cast(column, &DataType::Utf8)?;
            Ok(texts.as_string::<i32>().clone())
        }
        other => {
            let message = format!("a value of type {} is none of type {}", type_name(other), kind.shown());
            Err(refusal("42804", message))
        }
    }
}

/// Returns the bounds that a column has. `zone` is that of texts of instants which name none.
pub(super) fn points(element: Element, column: &ArrayRef, zone: &str) -> Result<Vec<Option<Point>>> {
    let found = column.data_type();
    let none =
        || refusal("42804", format!("a bound of type {} is none of type {}", type_name(found), element.type_name()));
    match (element, found) {
        (_, DataType::Null) => Ok(vec![None; column.len()]),
        (_, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => {
            let texts = arrow_cast(column, &DataType::Utf8)?;
            let read = |text: Option<&str>| text.map(|text| Point::read(element, text, zone)).transpose();
            texts.as_string::<i32>().iter().map(read).collect()
        }
        (Element::Int4 | Element::Int8, DataType::Int16 | DataType::Int32 | DataType::Int64) => {
            each::<Int64Type>(&arrow_cast(column, &DataType::Int64)?, Point::Integer)
        }
        (Element::Num, DataType::Int16 | DataType::Int32 | DataType::Int64) => {
            each::<Int64Type>(&arrow_cast(column, &DataType::Int64)?, |number| Point::Number(number.into(), 0))
        }
        (Element::Num, DataType::Decimal128(_, scale)) => {
            let scale = u8::try_from(*scale).map_err(|_| none())?;
            each::<Decimal128Type>(column, |number| Point::Number(number, scale))
        }
        // A number with a point in a statement, whose digits are those that the shortest text of it has.
        (Element::Num, DataType::Float64) => {
            let numbers = column.as_primitive::<Float64Type>().iter();
            numbers
                .map(|number| number.map(|number| Point::read(element, &number.to_string(), zone)).transpose())
                .collect()
        }
        (Element::Date, DataType::Date32) => each::<Date32Type>(column, Point::Day),
        (Element::Ts, DataType::Date32 | DataType::Timestamp(_, None))
        | (Element::Tstz, DataType::Timestamp(_, Some(_))) => {
            let micros = arrow_cast(column, &element.data_type())?;
            each::<TimestampMicrosecondType>(&micros, Point::Moment)
        }
        _ => Err(none()),
    }
}

fn each<T: ArrowPrimitiveType>(column: &ArrayRef, point: impl Fn(T::Native) -> Point) -> Result<Vec<Option<Point>>> {
    Ok(column.as_primitive::<T>().iter().map(|value| value.map(&point)).collect())
}

/// Returns the lower or the upper bounds of values.
///
/// # Errors
/// 0A000 for infinite dates and moments, and numbers of more than ten digits after the point.
pub(super) fn ends(kind: RangeType, column: &ArrayRef, side: Side) -> Result<ArrayRef> {
    let mut values = Values::of(kind, column)?;
    let mut found: Vec<Option<Point>> = Vec::with_capacity(column.len());
    for row in 0..column.len() {
        let span = values.at(row)?.and_then(|spans| match side {
            Side::Lower => spans.first(),
            Side::Upper => spans.last(),
        });
        let bound: Option<&Bound> = span.map(|span| if side == Side::Lower { &span.lower } else { &span.upper });
        found.push(bound.and_then(|bound| bound.point));
    }
    if found.iter().flatten().any(Point::is_infinite) {
        let message = format!("infinity as a value of type {} is not supported", kind.element.type_name());
        return Err(refusal("0A000", message));
    }
    let found = found.into_iter();
    Ok(match kind.element {
        Element::Int4 => Arc::new(found.map(|point| i32::try_from(whole(point?)).ok()).collect::<Int32Array>()),
        Element::Int8 => Arc::new(found.map(|point| Some(whole(point?))).collect::<Int64Array>()),
        Element::Date => Arc::new(found.map(|point| i32::try_from(whole(point?)).ok()).collect::<Date32Array>()),
        Element::Ts | Element::Tstz => {
            let micros = found.map(|point| Some(whole(point?))).collect::<TimestampMicrosecondArray>();
            arrow_cast(
                &(Arc::new(micros.with_timezone_opt(zone_of(kind.element))) as ArrayRef),
                &kind.element.data_type(),
            )?
        }
        Element::Num => {
            let numbers = found.map(|point| point.map(|point| at_ten_digits(&point)).transpose());
            let numbers = numbers.collect::<Result<Decimal128Array>>()?;
            Arc::new(numbers.with_precision_and_scale(38, 10)?)
        }
    })
}

fn zone_of(element: Element) -> Option<Arc<str>> {
    (element == Element::Tstz).then(|| "UTC".into())
}

fn whole(point: Point) -> i64 {
    match point {
        Point::Integer(number) | Point::Moment(number) => number,
        Point::Day(day) => day.into(),
        Point::Number(..) => 0,
    }
}

/// Returns a number in units of the tenth digit after the point.
fn at_ten_digits(point: &Point) -> Result<i128> {
    const DIGITS: u8 = 10;
    let Point::Number(number, scale) = point else { return Ok(0) };
    let unit = 10i128.pow(u32::from(scale.abs_diff(DIGITS)));
    let found = if *scale <= DIGITS { number.checked_mul(unit) } else { Some(number / unit) };
    if *scale > DIGITS && number % unit != 0 {
        let message = "a bound of type numeric with more than ten digits after the point is not supported as a number";
        return Err(refusal("0A000", message));
    }
    // A decimal has 38 digits.
    found.filter(|found| found.unsigned_abs() < 10u128.pow(38)).ok_or_else(|| {
        refusal("0A000", "a bound of type numeric with more than 28 digits is not supported as a number")
    })
}

/// Writes values, or arrays of them, as a session shows them: dates and moments in its style, instants in its zone. Values of
/// other types are the texts that they are.
///
/// # Errors
/// If the zone is not known, or a value is out of range.
pub fn spelled(kind: RangeType, column: &ArrayRef, style: &DateStyle, zone: &str) -> Result<ArrayRef> {
    if let Some(lists) = column.as_list_opt::<i32>() {
        let values = spelled(kind.item(), lists.values(), style, zone)?;
        let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
        return Ok(Arc::new(ListArray::new(item, lists.offsets().clone(), values, lists.nulls().cloned())));
    }
    if !kind.element.is_moment() {
        return Ok(Arc::new(as_texts(kind, column)?));
    }
    let mut values = Values::of(kind.item(), column)?;
    let mut bounds = Vec::new();
    for row in 0..column.len() {
        for span in values.at(row)?.unwrap_or_default() {
            bounds.extend([span.lower.point, span.upper.point].into_iter().flatten());
        }
    }
    let texts = spelled_points(kind.element, &bounds, style, zone)?;
    let mut texts = texts.iter().flatten();
    let mut found = Vec::with_capacity(column.len());
    for row in 0..column.len() {
        let Some(spans) = values.at(row)? else {
            found.push(None);
            continue;
        };
        let text = write_with(kind.item(), spans, |span, out| {
            span.write_with(out, |point| {
                let spelled = texts.next().unwrap_or_default().to_owned();
                if point.is_infinite() { point.written(kind.element) } else { Ok(spelled) }
            })
        });
        found.push(Some(text?));
    }
    Ok(Arc::new(StringArray::from(found)))
}

/// Writes bounds; infinite ones are written as something else.
fn spelled_points(element: Element, points: &[Point], style: &DateStyle, zone: &str) -> Result<StringArray> {
    let finite = |point: &Point| if point.is_infinite() { 0 } else { whole(*point) };
    let column: ArrayRef = match element {
        Element::Date => {
            let days = points.iter().map(|point| i32::try_from(finite(point)).ok());
            Arc::new(days.collect::<PrimitiveArray<Date32Type>>())
        }
        _ => {
            let micros: TimestampMicrosecondArray = points.iter().map(|point| Some(finite(point))).collect();
            match element {
                Element::Tstz => Arc::new(micros.with_timezone(zone)),
                _ => Arc::new(micros),
            }
        }
    };
    match style.written(&column, zone)? {
        Some(texts) => Ok(texts),
        None => texts::written(&column),
    }
}

/// Returns true if values of a type may be bounds.
pub(super) fn is_bound(element: Element, found: &DataType) -> bool {
    matches!(
        (element, found),
        (_, DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
            | (Element::Int4 | Element::Int8 | Element::Num, DataType::Int16 | DataType::Int32 | DataType::Int64)
            | (Element::Num, DataType::Decimal128(..) | DataType::Float64)
            | (Element::Date | Element::Ts, DataType::Date32)
            | (Element::Ts, DataType::Timestamp(_, None))
            | (Element::Tstz, DataType::Timestamp(_, Some(_)))
    )
}
