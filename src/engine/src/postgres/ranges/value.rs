//! Ranges and multiranges: their texts as Postgres reads and writes them, and their normal forms.

use std::cmp::Ordering;

use datafusion::error::{DataFusionError, Result};

use super::super::refusal::refusal;
use super::RangeType;
use super::point::{Element, Point, is_space};

/// A bound of a range; it is missing if it has no point.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// The value; `None` if the range has no end on this side.
    pub point: Option<Point>,
    /// True if the value is in the range.
    pub is_inclusive: bool,
}

/// A range that is not empty.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Where it begins.
    pub lower: Bound,
    /// Where it ends.
    pub upper: Bound,
}

/// One side of a range, for comparisons of bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Lower,
    Upper,
}

/// Returns the order of two bounds: that of Postgres' `range_cmp_bounds`.
pub(super) fn compare(one: &Bound, one_side: Side, other: &Bound, other_side: Side) -> Ordering {
    let (one_point, other_point) = match (&one.point, &other.point) {
        (None, None) if one_side == other_side => return Ordering::Equal,
        (None, _) => return if one_side == Side::Lower { Ordering::Less } else { Ordering::Greater },
        (_, None) => return if other_side == Side::Lower { Ordering::Greater } else { Ordering::Less },
        (Some(one), Some(other)) => (one, other),
    };
    let outer = |side: Side| if side == Side::Lower { Ordering::Greater } else { Ordering::Less };
    one_point.order(other_point).then_with(|| match (one.is_inclusive, other.is_inclusive) {
        (false, false) if one_side == other_side => Ordering::Equal,
        (false, _) => outer(one_side),
        (true, false) => outer(other_side).reverse(),
        (true, true) => Ordering::Equal,
    })
}

impl Span {
    /// Returns a range in its normal form; `None` if it is empty.
    ///
    /// # Errors
    /// 22000 if it ends before it begins, 22003 and 22008 if a bound that is made inclusive or exclusive is out of range.
    pub fn new(element: Element, lower: Bound, upper: Bound) -> Result<Option<Self>> {
        let finite = |bound: Bound| Bound { is_inclusive: bound.is_inclusive && bound.point.is_some(), ..bound };
        let (mut lower, mut upper) = (finite(lower), finite(upper));
        if is_empty(&lower, &upper)? {
            return Ok(None);
        }
        if element.is_discrete() {
            if let (Some(point), false) = (&lower.point, lower.is_inclusive)
                && !point.is_infinite()
            {
                lower = Bound { point: Some(point.next(element)?), is_inclusive: true };
            }
            if let (Some(point), true) = (&upper.point, upper.is_inclusive)
                && !point.is_infinite()
            {
                upper = Bound { point: Some(point.next(element)?), is_inclusive: false };
            }
            if is_empty(&lower, &upper)? {
                return Ok(None);
            }
        }
        Ok(Some(Self { lower, upper }))
    }

    fn read(kind: RangeType, whole: &str, text: &str, zone: &str) -> Result<Option<Self>> {
        let element = kind.element;
        let mut rest = text.trim_start_matches(is_space);
        if rest.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("empty")) {
            return match rest[5..].trim_start_matches(is_space) {
                "" => Ok(None),
                _ => Err(malformed(kind, whole)),
            };
        }
        let is_lower_inclusive = rest.starts_with('[');
        rest = rest.strip_prefix(['[', '(']).ok_or_else(|| malformed(kind, whole))?;
        let (lower, after) = bound(rest).ok_or_else(|| malformed(kind, whole))?;
        rest = after.strip_prefix(',').ok_or_else(|| malformed(kind, whole))?;
        let (upper, after) = bound(rest).ok_or_else(|| malformed(kind, whole))?;
        let is_upper_inclusive = after.starts_with(']');
        rest = after.strip_prefix([']', ')']).ok_or_else(|| malformed(kind, whole))?;
        if !rest.trim_start_matches(is_space).is_empty() {
            return Err(malformed(kind, whole));
        }
        let point = |text: Option<String>| text.map(|text| Point::read(element, &text, zone)).transpose();
        let lower = Bound { point: point(lower)?, is_inclusive: is_lower_inclusive };
        let upper = Bound { point: point(upper)?, is_inclusive: is_upper_inclusive };
        Self::new(element, lower, upper)
    }

    fn write(&self, element: Element, out: &mut String) -> Result<()> {
        self.write_with(out, |point| point.written(element))
    }

    /// Writes the range with bounds as another function writes them.
    pub(super) fn write_with(&self, out: &mut String, mut written: impl FnMut(&Point) -> Result<String>) -> Result<()> {
        out.push(if self.lower.is_inclusive { '[' } else { '(' });
        for (place, bound) in [&self.lower, &self.upper].into_iter().enumerate() {
            out.push_str(if place > 0 { "," } else { "" });
            if let Some(point) = &bound.point {
                quote(&written(point)?, out);
            }
        }
        out.push(if self.upper.is_inclusive { ']' } else { ')' });
        Ok(())
    }

    /// Writes bytes whose order is that of ranges.
    pub(super) fn push_key(&self, out: &mut Vec<u8>) {
        for (bound, side) in [(&self.lower, Side::Lower), (&self.upper, Side::Upper)] {
            match &bound.point {
                None => out.push(if side == Side::Lower { 0 } else { 2 }),
                Some(point) => {
                    out.push(1);
                    point.push_key(out);
                    out.push(u8::from(bound.is_inclusive == (side == Side::Upper)));
                }
            }
        }
    }
}

fn is_empty(lower: &Bound, upper: &Bound) -> Result<bool> {
    let (Some(first), Some(last)) = (&lower.point, &upper.point) else { return Ok(false) };
    match first.order(last) {
        Ordering::Less => Ok(false),
        Ordering::Equal => Ok(!(lower.is_inclusive && upper.is_inclusive)),
        Ordering::Greater => Err(refusal("22000", "range lower bound must be less than or equal to range upper bound")),
    }
}

fn malformed(kind: RangeType, text: &str) -> DataFusionError {
    let what = if kind.is_multi { "multirange" } else { "range" };
    refusal("22P02", format!("malformed {what} literal: \"{text}\""))
}

/// Reads a bound up to the comma or bracket behind it; no text if it is missing.
fn bound(text: &str) -> Option<(Option<String>, &str)> {
    if text.starts_with([',', ')', ']']) {
        return Some((None, text));
    }
    let mut value = String::new();
    let mut letters = text.char_indices().peekable();
    let mut is_quoted = false;
    while let Some((at, letter)) = letters.next() {
        match letter {
            ',' | ')' | ']' if !is_quoted => return Some((Some(value), &text[at..])),
            '\\' => value.push(letters.next()?.1),
            '"' if !is_quoted => is_quoted = true,
            '"' if letters.next_if(|(_, next)| *next == '"').is_some() => value.push('"'),
            '"' => is_quoted = false,
            other => value.push(other),
        }
    }
    None
}

/// Writes a bound, in quotation marks if it needs them.
fn quote(value: &str, out: &mut String) {
    let is_special = |letter: char| matches!(letter, '"' | '\\' | '(' | ')' | '[' | ']' | ',') || is_space(letter);
    if !value.is_empty() && !value.contains(is_special) {
        out.push_str(value);
        return;
    }
    out.push('"');
    for letter in value.chars() {
        if matches!(letter, '"' | '\\') {
            out.push(letter);
        }
        out.push(letter);
    }
    out.push('"');
}

/// Returns the texts of the ranges of a multirange.
fn parts(kind: RangeType, text: &str) -> Result<Vec<&str>> {
    let malformed = || malformed(kind, text);
    let mut rest = text.trim_start_matches(is_space).strip_prefix('{').ok_or_else(malformed)?;
    let mut found = Vec::new();
    let mut is_first = true;
    loop {
        rest = rest.trim_start_matches(is_space);
        if is_first && rest.starts_with('}') {
            rest = &rest[1..];
            break;
        }
        is_first = false;
        let length = if rest.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("empty")) {
            5
        } else if rest.starts_with(['[', '(']) {
            let length = range_length(rest).ok_or_else(malformed)?;
            found.push(&rest[..length]);
            length
        } else {
            return Err(malformed());
        };
        rest = rest[length..].trim_start_matches(is_space);
        match rest.chars().next() {
            Some(',') => rest = &rest[1..],
            Some('}') => {
                rest = &rest[1..];
                break;
            }
            _ => return Err(malformed()),
        }
    }
    if rest.trim_start_matches(is_space).is_empty() { Ok(found) } else { Err(malformed()) }
}

/// Returns the length of the range at the beginning of a text.
fn range_length(text: &str) -> Option<usize> {
    let mut letters = text.char_indices();
    let mut is_quoted = false;
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => {
                letters.next()?;
            }
            '"' => is_quoted = !is_quoted,
            ']' | ')' if !is_quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Reads a range, or a multirange as the ranges that it is made of, in order and apart. `zone` is that of instants which name
/// none.
///
/// # Errors
/// 22P02 if the text is none, 22000 if a range ends before it begins, and the errors of the bounds.
pub fn parse(kind: RangeType, text: &str, zone: &str) -> Result<Vec<Span>> {
    if !kind.is_multi {
        return Ok(Span::read(kind, text, text, zone)?.into_iter().collect());
    }
    let of_range = RangeType { is_multi: false, ..kind };
    let spans = parts(kind, text)?.into_iter().map(|part| Span::read(of_range, part, part, zone));
    let spans = spans.collect::<Result<Vec<_>>>()?;
    Ok(apart(spans.into_iter().flatten().collect()))
}

/// Brings ranges in order, and makes one of those that overlap or meet.
pub(super) fn apart(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by(|one, other| {
        compare(&one.lower, Side::Lower, &other.lower, Side::Lower)
            .then_with(|| compare(&one.upper, Side::Upper, &other.upper, Side::Upper))
    });
    let mut found: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match found.last_mut() {
            Some(last) if !last.is_before(&span) || last.meets(&span) => *last = last.around(&span),
            _ => found.push(span),
        }
    }
    found
}

/// Writes a value.
///
/// # Errors
/// 22008 for dates and moments that are out of range.
pub fn write(kind: RangeType, spans: &[Span]) -> Result<String> {
    write_with(kind, spans, |span, out| span.write(kind.element, out))
}

pub(super) fn write_with(
    kind: RangeType,
    spans: &[Span],
    mut write: impl FnMut(&Span, &mut String) -> Result<()>,
) -> Result<String> {
    let mut out = String::new();
    if !kind.is_multi {
        match spans.first() {
            Some(span) => write(span, &mut out)?,
            None => out.push_str("empty"),
        }
        return Ok(out);
    }
    out.push('{');
    for (place, span) in spans.iter().enumerate() {
        out.push_str(if place > 0 { "," } else { "" });
        write(span, &mut out)?;
    }
    out.push('}');
    Ok(out)
}

/// Returns bytes whose order is that of the values, and which are equal if the values are.
pub(super) fn key(kind: RangeType, spans: &[Span]) -> Vec<u8> {
    let mut key = Vec::new();
    for span in spans {
        key.push(1);
        span.push_key(&mut key);
    }
    if kind.is_multi || spans.is_empty() {
        key.push(0);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::super::super::refusal::Refusal;
    use super::*;

    fn kind(name: &str) -> RangeType {
        RangeType::named(name).unwrap()
    }

    fn normal(name: &str, text: &str) -> Result<String> {
        write(kind(name), &parse(kind(name), text, "Europe/Berlin")?)
    }

    fn code(name: &str, text: &str) -> &'static str {
        match normal(name, text).unwrap_err() {
            DataFusionError::External(error) => error.downcast_ref::<Refusal>().unwrap().sqlstate(),
            other => panic!("{other}"),
        }
    }

    /// Values as PostgreSQL 15 shows them, instants in UTC.
    #[test]
    fn values_have_the_normal_form_of_postgres() {
        for (name, text, expected) in [
            ("int4range", " [1,5] ", "[1,6)"),
            ("int4range", "(1,2)", "empty"),
            ("int4range", "[1,1)", "empty"),
            ("int4range", "EMPTY ", "empty"),
            ("int4range", "[,]", "(,)"),
            ("int4range", "[ 1, \"5\")", "[1,5)"),
            ("int4range", "(,\\5]", "(,6)"),
            ("int8range", "[-9223372036854775808,9223372036854775807)", "[-9223372036854775808,9223372036854775807)"),
            ("numrange", "[1.50,2]", "[1.50,2]"),
            ("numrange", "[1.0,1.00]", "[1.0,1.00]"),
            ("numrange", "(.5,1e2)", "(0.5,100)"),
            ("daterange", "(2000-01-01,2000-01-31]", "[2000-01-02,2000-02-01)"),
            ("daterange", "[2000-01-01,infinity]", "[2000-01-01,infinity]"),
            ("daterange", "(-infinity,20000102)", "(-infinity,2000-01-02)"),
            (
                "tsrange",
                "[2000-01-01,\"2000-01-02 10:00:00.50\"]",
                "[\"2000-01-01 00:00:00\",\"2000-01-02 10:00:00.5\"]",
            ),
            (
                "tstzrange",
                "[2000-07-01,2000-07-02 00:00+02)",
                "[\"2000-06-30 22:00:00+00\",\"2000-07-01 22:00:00+00\")",
            ),
            ("tsrange", "[9999-12-31 10:00,)", "[\"9999-12-31 10:00:00\",)"),
            (
                "tstzrange",
                "[9999-07-01 00:00+02,9999-07-02 00:00-03:30)",
                "[\"9999-06-30 22:00:00+00\",\"9999-07-02 03:30:00+00\")",
            ),
            ("daterange", "[0044-03-15 BC,0044-03-15 BC]", "[\"0044-03-15 BC\",\"0044-03-16 BC\")"),
            ("int4multirange", "{}", "{}"),
            ("int4multirange", " { [3,4), empty ,[1,2],[8,9] } ", "{[1,4),[8,10)}"),
            ("int4multirange", "{[1,10),[2,3),(,0)}", "{(,0),[1,10)}"),
            ("nummultirange", "{[1,2),(2,3)}", "{[1,2),(2,3)}"),
            ("nummultirange", "{[1,2),[2,3)}", "{[1,3)}"),
        ] {
            let found = normal(name, text).unwrap_or_else(|error| panic!("{name} {text}: {error}"));
            assert_eq!(found, expected, "{name} {text}");
            assert_eq!(normal(name, &found).unwrap(), found);
        }
    }

    #[test]
    fn texts_that_are_no_values_are_refused() {
        for (name, text, expected) in [
            ("int4range", "", "22P02"),
            ("int4range", "[1,2", "22P02"),
            ("int4range", "[1 2)", "22P02"),
            ("int4range", "[1,2,3)", "22P02"),
            ("int4range", "[1,2)x", "22P02"),
            ("int4range", "emptyx", "22P02"),
            ("int4range", "[x,2)", "22P02"),
            ("int4range", "[\"\",2)", "22P02"),
            ("int4range", "[1,2\\", "22P02"),
            ("int4range", "é", "22P02"),
            ("int4range", "[2,1)", "22000"),
            ("int4range", "[1,2147483647]", "22003"),
            ("int4range", "[1,2147483648)", "22003"),
            ("numrange", "[NaN,)", "0A000"),
            ("daterange", "[01/02/2000,)", "0A000"),
            ("daterange", "[2000-13-01,)", "22008"),
            ("int4multirange", "{[1,2)", "22P02"),
            ("int4multirange", "{[1,2),}", "22P02"),
            ("int4multirange", "[1,2)", "22P02"),
            ("int4multirange", "{[1,2)}x", "22P02"),
            ("int4multirange", "{[2,1)}", "22000"),
        ] {
            assert_eq!(code(name, text), expected, "{name} {text}");
        }
    }

    /// Values in the order that PostgreSQL 15 gives them.
    #[test]
    fn keys_have_the_order_of_postgres() {
        for (name, ordered) in [
            ("int4range", vec!["empty", "(,5)", "(,)", "[-7,3)", "[1,2)", "[1,3)", "[1,)", "[2,3)"]),
            (
                "numrange",
                vec![
                    "empty",
                    "(,1)",
                    "[-10,0)",
                    "[-1.5,0)",
                    "[-1.25,0)",
                    "[0,1)",
                    "[0.05,1)",
                    "[0.5,1)",
                    "[1,2)",
                    "[1,2]",
                    "(1,2)",
                    "[9,)",
                    "[10,)",
                    "[11,)",
                ],
            ),
            ("int4multirange", vec!["{}", "{(,1)}", "{[1,2)}", "{[1,2),[3,4)}", "{[1,3)}", "{[2,3)}"]),
        ] {
            let keys: Vec<_> =
                ordered.iter().map(|text| key(kind(name), &parse(kind(name), text, "UTC").unwrap())).collect();
            assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{name}: {keys:?}");
        }
        let of = |text: &str| key(kind("numrange"), &parse(kind("numrange"), text, "UTC").unwrap());
        assert_eq!(of("[1.0,200]"), of("[1,2e2]"));
        assert_eq!(of("[0.0,1]"), of("[0,1.000]"));
    }
}
