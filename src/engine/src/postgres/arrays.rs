//! Arrays as text: `{1,2,NULL}`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::error::Result;

use super::casts::arrow_cast;
use super::refusal::{refusal, type_name};
use super::texts;

/// Writes each array as Postgres does.
pub(super) fn written(lists: &ListArray) -> Result<StringArray> {
    let nested = matches!(lists.value_type(), DataType::List(_));
    let items = match lists.value_type() {
        DataType::Boolean => {
            let items = lists.values().as_boolean().iter().map(|it| it.map(|it| if it { "t" } else { "f" }));
            items.collect()
        }
        _ => texts::written(lists.values())?,
    };
    let one = |row: usize| {
        let (start, end) = (lists.value_offsets()[row] as usize, lists.value_offsets()[row + 1] as usize);
        let parts = (start..end).map(|item| match items.is_valid(item) {
            true if nested => items.value(item).to_owned(),
            true => quoted(items.value(item)),
            false => "NULL".to_owned(),
        });
        format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
    };
    Ok((0..lists.len()).map(|row| lists.is_valid(row).then(|| one(row))).collect())
}

/// Writes an element, in quotes if it needs them.
fn quoted(text: &str) -> String {
    let special = |letter: char| matches!(letter, '{' | '}' | ',' | '"' | '\\') || letter.is_ascii_whitespace();
    if !text.is_empty() && !text.eq_ignore_ascii_case("null") && !text.contains(special) && !text.contains('\u{b}') {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Reads arrays from texts.
pub(super) fn parsed(texts: &StringArray, target: &DataType) -> Result<ArrayRef> {
    let DataType::List(item) = target else { return exec_err!("{target} is not an array") };
    if item.data_type().is_nested() {
        return Err(refusal("0A000", format!("a text cannot be cast to {}; use ARRAY[…]", type_name(target))));
    }
    let mut items: Vec<Option<String>> = Vec::new();
    let mut lengths = Vec::with_capacity(texts.len());
    for text in texts.iter() {
        let before = items.len();
        if let Some(text) = text {
            elements(text, &mut items)?;
        }
        lengths.push(items.len() - before);
    }
    let nulls: NullBuffer = texts.iter().map(|text| text.is_some()).collect();
    let items: ArrayRef = Arc::new(items.iter().map(|item| item.as_deref()).collect::<StringArray>());
    let items = match super::casts::from_text(&items, item.data_type())? {
        Some(items) => items,
        None => arrow_cast(&items, item.data_type())?,
    };
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), items, Some(nulls))?))
}

/// Reads the elements of one array.
fn elements(text: &str, items: &mut Vec<Option<String>>) -> Result<()> {
    let malformed = || refusal("22P02", format!("malformed array literal: \"{text}\""));
    let inside = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(malformed)?;
    if inside.trim().is_empty() {
        return Ok(());
    }
    let mut letters = inside.chars().peekable();
    loop {
        while letters.next_if(|letter| letter.is_ascii_whitespace()).is_some() {}
        let mut element = String::new();
        if letters.next_if_eq(&'"').is_some() {
            loop {
                match letters.next().ok_or_else(malformed)? {
                    '"' => break,
                    '\\' => element.push(letters.next().ok_or_else(malformed)?),
                    letter => element.push(letter),
                }
            }
            while letters.next_if(|letter| letter.is_ascii_whitespace()).is_some() {}
            items.push(Some(element));
        } else {
            let mut escaped = false;
            // Blanks at the end do not count, unless they are escaped.
            let mut kept = 0;
            while let Some(letter) = letters.next_if(|letter| *letter != ',') {
                match letter {
                    '{' | '}' => {
                        let message = "arrays of arrays cannot be read from text; use ARRAY[…]";
                        return Err(if letter == '{' { refusal("0A000", message) } else { malformed() });
                    }
                    '"' => return Err(malformed()),
                    '\\' => {
                        element.push(letters.next().ok_or_else(malformed)?);
                        escaped = true;
                        kept = element.len();
                    }
                    letter => {
                        element.push(letter);
                        if !letter.is_ascii_whitespace() {
                            kept = element.len();
                        }
                    }
                }
            }
            element.truncate(kept);
            if element.is_empty() {
                return Err(malformed());
            }
            items.push((escaped || !element.eq_ignore_ascii_case("null")).then_some(element));
        }
        match letters.next() {
            None => return Ok(()),
            Some(',') => {}
            Some(_) => return Err(malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Option<String>>> {
        let mut items = Vec::new();
        elements(text, &mut items).map(|()| items)
    }

    /// Compares with values as PostgreSQL 15 reads them.
    #[test]
    fn elements_are_read() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            read("{ a , \"b c\",NULL,\"NULL\", x y ,\"\"}").unwrap(),
            [some("a"), some("b c"), None, some("NULL"), some("x y"), some("")]
        );
        assert_eq!(read("{\"a\\\"b\",c\\,d}").unwrap(), [some("a\"b"), some("c,d")]);
        assert_eq!(read(" {} ").unwrap(), []);
        for text in ["a", "{a", "{a,}", "{,a}", "{\"a\"b}", "{a\"b\"}", "{{1},{2}}"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
