//! `regexp_match`, whose groups that take no part are NULL, and `regexp_replace`, whose replacements know `\1`, `\&` and
//! `\\` only.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListBuilder, StringBuilder};
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl};
use datafusion::scalar::ScalarValue;
use regex::{Captures, Regex};

use super::casts::arrow_cast;
use super::refusal::refusal;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct RegexpFunction {
    function: Arc<ScalarUDF>,
}

impl RegexpFunction {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function })
    }
}

/// A compiled pattern, and whether all matches are replaced.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    pub(super) regex: Regex,
    pub(super) all: bool,
}

impl Pattern {
    /// Compiles a pattern with its flags, of which `g` is for functions of all matches.
    pub(super) fn of(pattern: &str, flags: &str, replaces: bool) -> Result<Self> {
        let (mut options, mut all) = (String::new(), false);
        for flag in flags.chars() {
            match flag {
                'i' => options = "(?i)".into(),
                'c' => options.clear(),
                's' => {}
                'g' if replaces => all = true,
                'g' => return Err(refusal("22023", "regexp_match() does not support the \"global\" option")),
                other => {
                    let message = format!("the option \"{other}\" of regular expressions is not supported");
                    return Err(refusal("0A000", message));
                }
            }
        }
        let regex = Regex::new(&format!("{options}{pattern}"))
            .map_err(|error| refusal("2201B", format!("invalid regular expression: {error}")))?;
        Ok(Self { regex, all })
    }
}

impl ScalarUDFImpl for RegexpFunction {
    delegate!(name, aliases, signature, return_type, return_field_from_args, documentation, is_strict);

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let texts = args
            .args
            .iter()
            .map(|argument| arrow_cast(&argument.to_array(rows)?, &DataType::Utf8))
            .collect::<Result<Vec<ArrayRef>>>()?;
        let text = |place: usize, row: usize| {
            let texts = texts.get(place)?.as_string::<i32>();
            texts.is_valid(row).then(|| texts.value(row))
        };
        let replaces = self.name() == "regexp_replace";
        let flags_at = if replaces { 3 } else { 2 };
        let mut known: HashMap<(String, String), Pattern> = HashMap::new();
        let mut last: Option<((&str, &str), Pattern)> = None;
        let mut lists = ListBuilder::new(StringBuilder::new());
        let mut replaced = StringBuilder::new();
        for row in 0..rows {
            let flags = if texts.len() > flags_at { text(flags_at, row) } else { Some("") };
            let replacement = if replaces { text(2, row) } else { Some("") };
            let (Some(subject), Some(pattern), Some(flags), Some(replacement)) =
                (text(0, row), text(1, row), flags, replacement)
            else {
                lists.append_null();
                replaced.append_null();
                continue;
            };
            // A column of one pattern is the rule.
            if last.as_ref().is_none_or(|(key, _)| *key != (pattern, flags)) {
                let key = (pattern.to_owned(), flags.to_owned());
                if !known.contains_key(&key) {
                    known.insert(key.clone(), Pattern::of(pattern, flags, replaces)?);
                }
                last = known.get(&key).map(|found| ((pattern, flags), found.clone()));
            }
            let Some((_, Pattern { regex, all })) = &last else { continue };
            if replaces {
                let count = if *all { 0 } else { 1 };
                let change = |found: &Captures<'_>| expanded(replacement, found);
                replaced.append_value(regex.replacen(subject, count, change));
                continue;
            }
            match regex.captures(subject) {
                Some(found) => {
                    let groups = found.iter().skip(usize::from(found.len() > 1));
                    groups.for_each(|group| lists.values().append_option(group.map(|group| group.as_str())));
                    lists.append(true);
                }
                None => lists.append_null(),
            }
        }
        let found: ArrayRef = if replaces { Arc::new(replaced.finish()) } else { Arc::new(lists.finish()) };
        let found = arrow_cast(&found, args.return_field.data_type())?;
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)
        } else {
            ColumnarValue::Array(found)
        })
    }
}

/// Expands a replacement with the matched text: `\&` is all of it, `\1` its first group.
fn expanded(replacement: &str, found: &Captures<'_>) -> String {
    let mut text = String::with_capacity(replacement.len());
    let mut letters = replacement.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            text.push(letter);
            continue;
        }
        match letters.next() {
            Some('&') => text.push_str(&found[0]),
            Some('\\') | None => text.push('\\'),
            Some(digit @ '1'..='9') => {
                let group = digit.to_digit(10).and_then(|group| found.get(group as usize));
                text.push_str(group.map_or("", |group| group.as_str()));
            }
            Some(other) => text.extend(['\\', other]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn replacements_are_expanded() {
        let regex = Regex::new("(b)(x)?").unwrap();
        let of =
            |replacement: &str| regex.replace("abc", |found: &Captures<'_>| expanded(replacement, found)).into_owned();
        assert_eq!(of("$0"), "a$0c");
        assert_eq!(of("\\\\"), "a\\c");
        assert_eq!(of("<\\&>"), "a<b>c");
        assert_eq!(of("[\\1\\2]"), "a[b]c");
        assert_eq!(of("\\q"), "a\\qc");
    }
}
