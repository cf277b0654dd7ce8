//! Arrays as text: `{1,2,NULL}`.

use std::iter::Peekable;
use std::str::Chars;
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
    let mut fields = Vec::new();
    let mut inner = target;
    while let DataType::List(item) = inner {
        fields.push(Arc::clone(item));
        inner = item.data_type();
    }
    if fields.is_empty() {
        return exec_err!("{target} is not an array");
    }
    if inner.is_nested() {
        return Err(refusal("0A000", format!("a text cannot be cast to {}; use ARRAY[…]", type_name(target))));
    }
    let mut items: Vec<Option<String>> = Vec::new();
    let mut shapes = Vec::with_capacity(texts.len());
    for text in texts.iter() {
        shapes.push(match text {
            Some(text) => elements(text, fields.len(), &mut items)?,
            None => Vec::new(),
        });
    }
    let items: ArrayRef = Arc::new(items.iter().map(|item| item.as_deref()).collect::<StringArray>());
    let mut values = match super::casts::from_text(&items, inner)? {
        Some(items) => items,
        None => arrow_cast(&items, inner)?,
    };
    for (level, field) in fields.into_iter().enumerate().rev() {
        let mut lengths = Vec::new();
        for shape in &shapes {
            let count: usize = shape.iter().take(level).product();
            // An array without elements has no lengths.
            let count = if level > 0 && shape.is_empty() { 0 } else { count };
            lengths.extend(std::iter::repeat_n(shape.get(level).copied().unwrap_or(0), count));
        }
        let nulls = (level == 0).then(|| texts.iter().map(|text| text.is_some()).collect::<NullBuffer>());
        values = Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, nulls)?);
    }
    Ok(values)
}

/// Reads the elements of one array, and returns its lengths: none if it has no elements.
fn elements(text: &str, depth: usize, items: &mut Vec<Option<String>>) -> Result<Vec<usize>> {
    let mut reader = ArrayReader { letters: text.chars().peekable(), lengths: Vec::new(), leaf: None, items };
    let lengths = reader.whole().map_err(|fault| match fault {
        Fault::Malformed => refusal("22P02", format!("malformed array literal: \"{text}\"")),
        Fault::Bounds => refusal("0A000", format!("arrays with bounds of their own are not supported: \"{text}\"")),
        Fault::Depth => {
            refusal("54000", format!("number of array dimensions exceeds the maximum allowed ({MOST_DIMENSIONS})"))
        }
    })?;
    if lengths.is_empty() || lengths.len() == depth {
        return Ok(lengths);
    }
    let message = match depth {
        1 => "arrays of arrays cannot be read from text here; use ARRAY[…]".to_owned(),
        _ => format!("an array of {} dimensions cannot be read as one of {depth}: \"{text}\"", lengths.len()),
    };
    Err(refusal("0A000", message))
}

/// Greatest number of dimensions of an array.
const MOST_DIMENSIONS: usize = 6;

const BLANKS: [char; 6] = [' ', '\t', '\n', '\r', '\u{b}', '\u{c}'];

/// Reasons why a text is no array.
enum Fault {
    Malformed,
    /// It begins with bounds, which may be others than 1 and the length.
    Bounds,
    /// It has too many dimensions.
    Depth,
}

struct ArrayReader<'a> {
    letters: Peekable<Chars<'a>>,
    /// Lengths of the arrays that are equally deep.
    lengths: Vec<Option<usize>>,
    /// How deep elements are that are no arrays.
    leaf: Option<usize>,
    items: &'a mut Vec<Option<String>>,
}

impl ArrayReader<'_> {
    fn blanks(&mut self) {
        while self.letters.next_if(|letter| BLANKS.contains(letter)).is_some() {}
    }

    fn whole(&mut self) -> Result<Vec<usize>, Fault> {
        self.blanks();
        if self.letters.peek() == Some(&'[') {
            let bounds: String = self.letters.by_ref().take_while(|letter| *letter != '=').collect();
            let is_bound =
                |letter: char| letter.is_ascii_digit() || "[]:+-".contains(letter) || BLANKS.contains(&letter);
            let has_array = self.letters.peek().is_some();
            return Err(if has_array && bounds.chars().all(is_bound) { Fault::Bounds } else { Fault::Malformed });
        }
        self.letters.next_if_eq(&'{').ok_or(Fault::Malformed)?;
        self.array(0)?;
        self.blanks();
        if self.letters.next().is_some() {
            return Err(Fault::Malformed);
        }
        let lengths: Vec<usize> = self.lengths.iter().map(|length| length.unwrap_or(0)).collect();
        Ok(if lengths == [0] { Vec::new() } else { lengths })
    }

    /// Reads an array behind its brace.
    fn array(&mut self, level: usize) -> Result<(), Fault> {
        if level >= MOST_DIMENSIONS {
            return Err(Fault::Depth);
        }
        if self.lengths.len() <= level {
            self.lengths.push(None);
        }
        self.blanks();
        if self.letters.next_if_eq(&'}').is_some() {
            return if level == 0 { Ok(()) } else { Err(Fault::Malformed) };
        }
        let mut count = 0;
        loop {
            self.blanks();
            if self.letters.next_if_eq(&'{').is_some() {
                if self.leaf == Some(level) {
                    return Err(Fault::Malformed);
                }
                self.array(level + 1)?;
            } else {
                if *self.leaf.get_or_insert(level) != level {
                    return Err(Fault::Malformed);
                }
                let item = self.item()?;
                self.items.push(item);
            }
            count += 1;
            self.blanks();
            match self.letters.next() {
                Some(',') => {}
                Some('}') => break,
                _ => return Err(Fault::Malformed),
            }
        }
        let known = self.lengths.get_mut(level).map(|length| *length.get_or_insert(count));
        if known == Some(count) { Ok(()) } else { Err(Fault::Malformed) }
    }

    fn item(&mut self) -> Result<Option<String>, Fault> {
        let mut item = String::new();
        if self.letters.next_if_eq(&'"').is_some() {
            loop {
                match self.letters.next().ok_or(Fault::Malformed)? {
                    '"' => return Ok(Some(item)),
                    '\\' => item.push(self.letters.next().ok_or(Fault::Malformed)?),
                    letter => item.push(letter),
                }
            }
        }
        let mut escaped = false;
        // Blanks at the end do not count, unless they are escaped.
        let mut kept = 0;
        while let Some(letter) = self.letters.next_if(|letter| !matches!(letter, ',' | '}')) {
            match letter {
                '{' | '"' => return Err(Fault::Malformed),
                '\\' => {
                    item.push(self.letters.next().ok_or(Fault::Malformed)?);
                    escaped = true;
                    kept = item.len();
                }
                letter => {
                    item.push(letter);
                    if !BLANKS.contains(&letter) {
                        kept = item.len();
                    }
                }
            }
        }
        item.truncate(kept);
        if item.is_empty() {
            return Err(Fault::Malformed);
        }
        Ok((escaped || !item.eq_ignore_ascii_case("null")).then_some(item))
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
        elements(text, 1, &mut items).map(|_| items)
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
        for text in ["a", "{a", "{a,}", "{,a}", "{\"a\"b}", "{a\"b\"}", "{{1},{2}}", "{a}b", "[1:2]={1,2}", "[x"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    /// Compares with values as PostgreSQL 15 reads them.
    #[test]
    fn arrays_of_arrays_are_read() {
        let target = DataType::new_list(DataType::new_list(DataType::Int32, true), true);
        let texts =
            StringArray::from(vec![Some("{{1,NULL},{3,4}}"), None, Some("{}"), Some(" { { 5 } , {6} , {7} } ")]);
        let found = parsed(&texts, &target).unwrap();
        let expected = StringArray::from(vec![Some("{{1,NULL},{3,4}}"), None, Some("{}"), Some("{{5},{6},{7}}")]);
        assert_eq!(written(found.as_list()).unwrap(), expected);
        for (text, code) in [
            ("{{1,2},{3}}", "22P02"),
            ("{{1},2}", "22P02"),
            ("{1,{2}}", "22P02"),
            ("{{1}", "22P02"),
            ("{{1},{x}}", "22P02"),
            ("{1,2}", "0A000"),
            ("{{{1}}}", "0A000"),
            ("{{}}", "22P02"),
            ("[0:0][0:1]={{1,2}}", "0A000"),
            ("{{{{{{{1}}}}}}}", "54000"),
        ] {
            let error = parsed(&StringArray::from(vec![text]), &target).unwrap_err();
            assert_eq!(crate::sqlstate(&error), code, "{text}");
        }
    }
}
