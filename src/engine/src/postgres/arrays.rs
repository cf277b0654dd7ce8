//! Arrays as text: `{1,2,NULL}`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray, StringBuilder};
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
        DataType::Utf8 => lists.values().as_string().clone(),
        _ => texts::written(lists.values())?,
    };
    let mut arrays = StringBuilder::with_capacity(lists.len(), items.value_data().len());
    let mut array = String::new();
    for (row, ends) in lists.offsets().windows(2).enumerate() {
        if lists.is_null(row) {
            arrays.append_null();
            continue;
        }
        array.clear();
        array.push('{');
        let start = ends[0] as usize;
        for item in start..ends[1] as usize {
            if item > start {
                array.push(',');
            }
            match items.is_valid(item) {
                true if nested => array.push_str(items.value(item)),
                true => push_quoted(&mut array, items.value(item)),
                false => array.push_str("NULL"),
            }
        }
        array.push('}');
        arrays.append_value(&array);
    }
    Ok(arrays.finish())
}

/// Adds an element to an array, in quotes if it needs them.
fn push_quoted(array: &mut String, text: &str) {
    // All of these are letters of ASCII, which are no part of another one.
    let special = |byte: u8| matches!(byte, b'{' | b'}' | b',' | b'"' | b'\\' | b' ' | b'\t'..=b'\r');
    if !text.is_empty() && !text.eq_ignore_ascii_case("null") && !text.bytes().any(special) {
        array.push_str(text);
        return;
    }
    array.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(['"', '\\']) {
        array.push_str(&rest[..at]);
        array.push('\\');
        array.push_str(&rest[at..=at]);
        rest = &rest[at + 1..];
    }
    array.push_str(rest);
    array.push('"');
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
    let blanks = [' ', '\t', '\n', '\r', '\u{b}', '\u{c}'];
    let inside =
        text.trim_matches(blanks).strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(malformed)?;
    if inside.trim_matches(blanks).is_empty() {
        return Ok(());
    }
    let mut letters = inside.chars().peekable();
    loop {
        while letters.next_if(|letter| blanks.contains(letter)).is_some() {}
        let mut element = String::new();
        if letters.next_if_eq(&'"').is_some() {
            loop {
                match letters.next().ok_or_else(malformed)? {
                    '"' => break,
                    '\\' => element.push(letters.next().ok_or_else(malformed)?),
                    letter => element.push(letter),
                }
            }
            while letters.next_if(|letter| blanks.contains(letter)).is_some() {}
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
                        if !blanks.contains(&letter) {
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
    use datafusion::arrow::array::ListBuilder;

    use super::*;

    /// Compares with values as PostgreSQL 15 writes them.
    #[test]
    fn elements_are_written() {
        for (text, expected) in [
            ("a", "a"),
            ("", r#""""#),
            ("NULL", r#""NULL""#),
            ("nulls", "nulls"),
            (" a", r#"" a""#),
            ("a\u{b}", "\"a\u{b}\""),
            ("a\u{a0}", "a\u{a0}"),
            ("é", "é"),
            ("{", r#""{""#),
            ("a,b", r#""a,b""#),
            (r#"é"\ü"#, r#""é\"\\ü""#),
            (r#""""#, r#""\"\"""#),
        ] {
            let mut array = String::new();
            push_quoted(&mut array, text);
            assert_eq!(array, expected);
        }
    }

    #[test]
    fn arrays_are_written() {
        let texts = [Some(vec![Some("a b"), None]), None, Some(vec![]), Some(vec![Some("c")])];
        let mut lists = ListBuilder::new(StringBuilder::new());
        texts.into_iter().for_each(|row| lists.append_option(row));
        let lists = lists.finish();
        let expected = StringArray::from(vec![Some("{\"a b\",NULL}"), None, Some("{}"), Some("{c}")]);
        assert_eq!(written(&lists).unwrap(), expected);
        assert_eq!(written(&lists.slice(2, 2)).unwrap(), expected.slice(2, 2));
    }

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
