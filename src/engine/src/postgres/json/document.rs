//! The parts of a text that is known to be JSON.

use datafusion::error::{DataFusionError, Result};

use super::super::refusal::refusal;

/// Separators between the parts.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// Kind of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl Shape {
    /// Returns the name of `json_typeof`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}

/// Returns what a value is.
pub(super) fn shape(text: &str) -> Shape {
    match text.trim_start_matches(SPACE).bytes().next() {
        Some(b'{') => Shape::Object,
        Some(b'[') => Shape::Array,
        Some(b'"') => Shape::String,
        Some(b't' | b'f') => Shape::Boolean,
        Some(b'n') => Shape::Null,
        _ => Shape::Number,
    }
}

/// Returns the items of an array.
pub(super) fn items(text: &str) -> Result<Vec<&str>> {
    let mut rest = opened(text, '[')?;
    let mut items = Vec::new();
    loop {
        rest = rest.trim_start_matches(SPACE);
        if rest.starts_with(']') {
            return Ok(items);
        }
        if !items.is_empty() {
            rest = after(rest, ',')?;
        }
        let (item, next) = split_value(rest)?;
        items.push(item);
        rest = next;
    }
}

/// Returns the keys of an object, as they are written, and its values.
pub(super) fn members(text: &str) -> Result<Vec<(&str, &str)>> {
    let mut rest = opened(text, '{')?;
    let mut members = Vec::new();
    loop {
        rest = rest.trim_start_matches(SPACE);
        if rest.starts_with('}') {
            return Ok(members);
        }
        if !members.is_empty() {
            rest = after(rest, ',')?;
        }
        let (key, next) = split_value(rest)?;
        let (value, next) = split_value(after(next.trim_start_matches(SPACE), ':')?)?;
        members.push((key, value));
        rest = next;
    }
}

/// Returns the value of a key of an object, the last if there are several; `None` if it has none, or is no object.
pub(super) fn member<'a>(text: &'a str, key: &str) -> Result<Option<&'a str>> {
    if shape(text) != Shape::Object {
        return Ok(None);
    }
    let mut found = None;
    for (name, value) in members(text)? {
        if is_string(name, key)? {
            found = Some(value);
        }
    }
    Ok(found)
}

/// Returns an item of an array, from 0 or, below 0, from its end; `None` if it has none, or is no array.
pub(super) fn item(text: &str, place: i64) -> Result<Option<&str>> {
    if shape(text) != Shape::Array {
        return Ok(None);
    }
    let items = items(text)?;
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let place = if place < 0 { place.saturating_add(length) } else { place };
    Ok(usize::try_from(place).ok().and_then(|place| items.get(place).copied()))
}

/// Returns the value at the end of a path of keys and places.
pub(super) fn at_path<'a>(text: &'a str, path: &[&str]) -> Result<Option<&'a str>> {
    let mut found = text.trim_matches(SPACE);
    for step in path {
        let next = match shape(found) {
            Shape::Object => member(found, step)?,
            Shape::Array => match place(step) {
                Some(place) => item(found, place)?,
                None => None,
            },
            _ => None,
        };
        match next {
            Some(next) => found = next,
            None => return Ok(None),
        }
    }
    Ok(Some(found))
}

/// Reads a place in an array as `strtol` does: blanks and a sign before the digits.
pub(super) fn place(step: &str) -> Option<i64> {
    let digits = step.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    digits.parse::<i32>().ok().map(i64::from)
}

/// Returns the text of a value: that of a string without its quotes, none of `null`.
pub(super) fn text_of(value: &str) -> Result<Option<String>> {
    match shape(value) {
        Shape::Null => Ok(None),
        Shape::String => string(value.trim_matches(SPACE)).map(Some),
        _ => Ok(Some(value.to_owned())),
    }
}

/// Returns the text that a string stands for.
pub(super) fn string(literal: &str) -> Result<String> {
    if !literal.contains('\\') {
        let inner = literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        return inner.map(str::to_owned).ok_or_else(damaged);
    }
    let text: String = serde_json::from_str(literal).map_err(|_| damaged())?;
    if text.contains('\0') {
        let message = "unsupported Unicode escape sequence: \\u0000 cannot be converted to text";
        return Err(refusal("22P05", message));
    }
    Ok(text)
}

fn is_string(literal: &str, text: &str) -> Result<bool> {
    match literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) if !inner.contains('\\') => Ok(inner == text),
        _ => Ok(string(literal)? == text),
    }
}

/// Checks the escape sequences of all strings of a `json`, in which those of half a character are kept.
///
/// # Errors
/// 22P02 or 22P05 if one is no text.
pub(super) fn check_escapes(text: &str) -> Result<()> {
    if !text.contains("\\u") {
        return Ok(());
    }
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'"' {
            at += 1;
            continue;
        }
        let end = string_end(bytes, at).ok_or_else(damaged)?;
        string(text.get(at..end).ok_or_else(damaged)?)?;
        at = end;
    }
    Ok(())
}

fn damaged() -> DataFusionError {
    refusal("22P02", "invalid input syntax for type json")
}

fn opened(text: &str, bracket: char) -> Result<&str> {
    after(text.trim_start_matches(SPACE), bracket)
}

/// Returns what comes after a mark, and the blanks after it.
fn after(text: &str, mark: char) -> Result<&str> {
    text.strip_prefix(mark).map(|rest| rest.trim_start_matches(SPACE)).ok_or_else(damaged)
}

/// Splits a text behind the value that it begins with.
fn split_value(text: &str) -> Result<(&str, &str)> {
    let bytes = text.as_bytes();
    let end = match bytes.first() {
        Some(b'"') => string_end(bytes, 0),
        Some(b'[' | b'{') => container_end(bytes),
        Some(_) => Some(text.find([',', ':', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(text.len())),
        None => None,
    };
    match end {
        Some(end) if end > 0 => text.split_at_checked(end).ok_or_else(damaged),
        _ => Err(damaged()),
    }
}

/// Returns the end of the string that begins at a place.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Returns the end of the array or object that begins a text.
fn container_end(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = string_end(bytes, at)?;
                continue;
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_where_they_stand() {
        let object = " {\"a\" : [1,  2], \"b\\u0061\":{ \"x\" :\"]}\\\"\" } , \"a\": null} ";
        assert_eq!(member(object, "ba").unwrap(), Some("{ \"x\" :\"]}\\\"\" }"));
        assert_eq!(member(object, "a").unwrap(), Some("null"));
        assert_eq!(member(object, "x").unwrap(), None);
        assert_eq!(member("[1]", "x").unwrap(), None);
        assert_eq!(items("[ ]").unwrap(), Vec::<&str>::new());
        assert_eq!(items("[1.5 ,\"é,\", [ 2 ] ]").unwrap(), ["1.5", "\"é,\"", "[ 2 ]"]);
        assert_eq!(item("[1,2,3]", -1).unwrap(), Some("3"));
        assert_eq!(item("[1,2,3]", -4).unwrap(), None);
        assert_eq!(item("[1,2,3]", 3).unwrap(), None);
        assert_eq!(item("[1]", i64::MIN).unwrap(), None);
        assert_eq!(at_path(" {\"a\":[1,{\"b\":2}]} ", &["a", "-1", "b"]).unwrap(), Some("2"));
        assert_eq!(at_path(" [1] ", &[]).unwrap(), Some("[1]"));
        assert_eq!(at_path("5", &["0"]).unwrap(), None);
    }

    #[test]
    fn texts_of_values_are_read() {
        assert_eq!(text_of("\"x\\\"y\\u00e9\"").unwrap().as_deref(), Some("x\"yé"));
        assert_eq!(text_of("null").unwrap(), None);
        assert_eq!(text_of("[null]").unwrap().as_deref(), Some("[null]"));
        for (step, expected) in
            [("1", Some(1)), (" +1", Some(1)), ("-2", Some(-2)), ("1 ", None), ("", None), ("99999999999", None)]
        {
            assert_eq!(place(step), expected, "{step}");
        }
        assert!(check_escapes("[\"\\ud800\",1]").is_err());
        assert!(check_escapes("{\"\\u0000\":1}").is_err());
        assert!(check_escapes("{\"\\u00e9\\\\u0000\":\"\\\"\"}").is_ok());
    }

    #[test]
    fn damaged_texts_are_errors() {
        for text in
            ["", "[", "[1", "[1,", "[,", "[1 2]", "{\"a\"", "{\"a\":", "{\"a\" 1}", "{\"a", "[\"\\", "]", "{:1}"]
        {
            assert!(items(text).is_err() && members(text).is_err(), "{text}");
        }
    }
}
