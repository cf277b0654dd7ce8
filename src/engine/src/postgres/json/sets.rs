//! The rows of functions that return sets, as arrays that are unnested, and values without NULLs.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use datafusion::error::Result;

use super::super::refusal::refusal;
use super::JsonKind;
use super::document::{self, Shape};
use super::functions::MOST;
use super::value::{DEEPEST, Json};

/// Rows of a value: NULL where `null` becomes a text.
type Rows = Vec<Option<String>>;

/// Returns arrays of texts.
///
/// # Errors
/// 54000 if they are longer than a column of a batch may be.
pub(super) fn lists(rows: usize, mut of: impl FnMut(usize) -> Result<Option<Rows>>) -> Result<ArrayRef> {
    let mut lists = ListBuilder::new(StringBuilder::new());
    let mut bytes = 0;
    for row in 0..rows {
        let list = of(row)?;
        bytes += list.iter().flatten().flatten().map(String::len).sum::<usize>();
        if bytes > MOST {
            return Err(refusal("54000", "requested length too large"));
        }
        lists.append_option(list);
    }
    Ok(Arc::new(lists.finish()))
}

/// Returns the rows of `json_array_elements` and its like.
///
/// # Errors
/// 22023 for a value that is no array.
pub(super) fn items(kind: JsonKind, value: &str, as_text: bool) -> Result<Rows> {
    let suffix = if as_text { "_text" } else { "" };
    let message = match (document::shape(value), kind) {
        (Shape::Array, _) => {
            check_escapes(kind, value)?;
            return document::items(value)?.into_iter().map(|item| part(item, as_text)).collect();
        }
        (Shape::Object, JsonKind::Jsonb) => "cannot extract elements from an object".to_owned(),
        (_, JsonKind::Jsonb) => "cannot extract elements from a scalar".to_owned(),
        (Shape::Object, JsonKind::Json) => format!("cannot call json_array_elements{suffix} on a non-array"),
        (_, JsonKind::Json) => format!("cannot call json_array_elements{suffix} on a scalar"),
    };
    Err(refusal("22023", message))
}

/// Returns the rows of `json_object_keys`.
///
/// # Errors
/// 22023 for a value that is no object.
pub(super) fn keys(kind: JsonKind, value: &str) -> Result<Rows> {
    let what = match document::shape(value) {
        Shape::Object => {
            check_escapes(kind, value)?;
            return document::members(value)?.into_iter().map(|(key, _)| document::text_of(key)).collect();
        }
        Shape::Array => "an array",
        _ => "a scalar",
    };
    Err(refusal("22023", format!("cannot call {}_object_keys on {what}", kind.name())))
}

/// Returns the values of `json_each` and its like.
///
/// # Errors
/// 22023 for a value that is no object.
pub(super) fn values(kind: JsonKind, value: &str, as_text: bool) -> Result<Rows> {
    let message = match (document::shape(value), kind) {
        (Shape::Object, _) => {
            check_escapes(kind, value)?;
            return document::members(value)?.into_iter().map(|(_, value)| part(value, as_text)).collect();
        }
        (_, JsonKind::Jsonb) => format!("cannot call jsonb_each{} on a non-object", if as_text { "_text" } else { "" }),
        (Shape::Array, JsonKind::Json) => "cannot deconstruct an array as an object".to_owned(),
        (_, JsonKind::Json) => "cannot deconstruct a scalar".to_owned(),
    };
    Err(refusal("22023", message))
}

fn part(value: &str, as_text: bool) -> Result<Option<String>> {
    if as_text { document::text_of(value) } else { Ok(Some(value.to_owned())) }
}

/// Checks texts that are kept as they were written.
fn check_escapes(kind: JsonKind, value: &str) -> Result<()> {
    match kind {
        JsonKind::Json => document::check_escapes(value),
        JsonKind::Jsonb => Ok(()),
    }
}

/// Returns `json_strip_nulls(value)`: without the keys whose value is `null`.
pub(super) fn without_nulls(kind: JsonKind, value: &str) -> Result<String> {
    match kind {
        JsonKind::Jsonb => {
            let mut value = Json::read(value)?;
            strip(&mut value);
            Ok(value.written())
        }
        JsonKind::Json => {
            document::check_escapes(value)?;
            let mut out = String::with_capacity(value.len());
            write_stripped(value.trim(), 0, &mut out)?;
            Ok(out)
        }
    }
}

fn strip(value: &mut Json) {
    match value {
        Json::Array(items) => items.iter_mut().for_each(strip),
        Json::Object(members) => {
            members.retain(|(_, value)| *value != Json::Null);
            members.iter_mut().for_each(|(_, value)| strip(value));
        }
        _ => {}
    }
}

fn write_stripped(value: &str, depth: usize, out: &mut String) -> Result<()> {
    if depth > DEEPEST {
        return Err(refusal("54001", "stack depth limit exceeded"));
    }
    match document::shape(value) {
        Shape::Array => {
            out.push('[');
            for (index, item) in document::items(value)?.into_iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write_stripped(item, depth + 1, out)?;
            }
            out.push(']');
        }
        Shape::Object => {
            out.push('{');
            let members = document::members(value)?;
            let kept = members.into_iter().filter(|(_, value)| document::shape(value) != Shape::Null);
            for (index, (key, value)) in kept.enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                out.push_str(key);
                out.push(':');
                write_stripped(value, depth + 1, out)?;
            }
            out.push('}');
        }
        _ => out.push_str(value.trim()),
    }
    Ok(())
}
