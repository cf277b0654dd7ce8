//! Values of `jsonb` as trees, read from JSON and written as Postgres writes them.

use std::fmt::Write;

use datafusion::error::{DataFusionError, Result};
use serde::de::IgnoredAny;

use super::super::refusal::refusal;
use super::document;

/// Greatest number of arrays and objects in each other in a `jsonb`, which is read by recursion.
pub(super) const DEEPEST: usize = 250;

/// Greatest number of digits that numbers of a `jsonb` may have more than they are written with, all together: `1e9` has
/// nine zeros.
const MOST_ZEROS: usize = 1 << 20;

/// Checks that a text is JSON.
///
/// # Errors
/// 22P02 if it is not.
pub fn check(text: &str) -> Result<()> {
    serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|_| invalid())
}

fn invalid() -> DataFusionError {
    refusal("22P02", "invalid input syntax for type json")
}

/// Returns JSON as `jsonb` writes it: keys in order, the last of equal ones, numbers as `numeric` has them.
///
/// # Errors
/// 22P02 and 22P05 for a text that is no JSON, 54001, 54000 and 0A000 for values that are too deep or have too long numbers.
pub fn normal(text: &str) -> Result<String> {
    Ok(Json::read(text)?.written())
}

/// Returns a text that two values of `jsonb` have in common if they are equal: `1` and `1.0` are.
///
/// # Errors
/// Those of [`normal`].
pub fn key(text: &str) -> Result<String> {
    let mut value = Json::read(text)?;
    value.trim_numbers();
    Ok(value.written())
}

/// A value of `jsonb`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Json {
    Null,
    Boolean(bool),
    /// The digits of a number, as `numeric` has them.
    Number(String),
    Text(String),
    Array(Vec<Json>),
    /// Keys are in order, and each is there once.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads JSON.
    pub(super) fn read(text: &str) -> Result<Self> {
        check(text)?;
        Reader { rest: text, depth: 0, zeros: 0 }.value()
    }

    /// Makes numbers the same text if they are equal.
    pub(super) fn trim_numbers(&mut self) {
        match self {
            Self::Number(digits) if digits.contains('.') => {
                let trimmed = digits.trim_end_matches('0').trim_end_matches('.').len();
                digits.truncate(trimmed);
            }
            Self::Array(items) => items.iter_mut().for_each(Self::trim_numbers),
            Self::Object(members) => members.iter_mut().for_each(|(_, value)| value.trim_numbers()),
            _ => {}
        }
    }

    pub(super) fn written(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Boolean(truth) => out.push_str(if *truth { "true" } else { "false" }),
            Self::Number(digits) => out.push_str(digits),
            Self::Text(text) => quote(text, out),
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    quote(key, out);
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// Returns the place of a key, or the one that it would have.
    pub(super) fn place_of(members: &[(String, Self)], key: &str) -> std::result::Result<usize, usize> {
        members.binary_search_by(|(name, _)| order(name, key))
    }
}

/// Keys are ordered by their length first.
fn order(one: &str, other: &str) -> std::cmp::Ordering {
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

/// Writes a string as `escape_json` of Postgres does.
pub(super) fn quote(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => {
                // Writing to a String does not fail.
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Reader of a text that is known to be JSON.
struct Reader<'a> {
    rest: &'a str,
    /// Arrays and objects around the next value.
    depth: usize,
    /// Digits of numbers that are not written in the text.
    zeros: usize,
}

impl Reader<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, letter: char) -> bool {
        self.skip();
        let found = self.rest.strip_prefix(letter);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn value(&mut self) -> Result<Json> {
        if self.depth > DEEPEST {
            let message = format!("jsonb of more than {DEEPEST} arrays and objects in each other is not supported");
            return Err(refusal("54001", message));
        }
        self.depth += 1;
        let value = self.nested();
        self.depth -= 1;
        value
    }

    fn nested(&mut self) -> Result<Json> {
        self.skip();
        Ok(match self.rest.chars().next().ok_or_else(invalid)? {
            '"' => Json::Text(self.text()?),
            '[' => {
                self.take('[');
                let mut items = Vec::new();
                while !self.take(']') {
                    items.push(self.value()?);
                    self.take(',');
                }
                Json::Array(items)
            }
            '{' => {
                self.take('{');
                let mut members: Vec<(String, Json)> = Vec::new();
                while !self.take('}') {
                    self.skip();
                    let key = self.text()?;
                    self.take(':');
                    members.push((key, self.value()?));
                    self.take(',');
                }
                // The last of equal keys stays.
                members.reverse();
                members.sort_by(|(a, _), (b, _)| order(a, b));
                members.dedup_by(|(later, _), (first, _)| later == first);
                Json::Object(members)
            }
            _ => self.word()?,
        })
    }

    /// Reads a number, `true`, `false` or `null`.
    fn word(&mut self) -> Result<Json> {
        let end = self.rest.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word {
            "null" => return Ok(Json::Null),
            "true" => return Ok(Json::Boolean(true)),
            "false" => return Ok(Json::Boolean(false)),
            _ => {}
        }
        let Some(number) = number(word) else {
            let message = format!("jsonb numbers of more than 1000 digits are not supported: {word:.60}");
            return Err(refusal("0A000", message));
        };
        self.zeros += number.len().saturating_sub(word.len());
        if self.zeros > MOST_ZEROS {
            let message = "jsonb numbers with exponents of more than a million digits together are not supported";
            return Err(refusal("54000", message));
        }
        Ok(Json::Number(number))
    }

    fn text(&mut self) -> Result<String> {
        let bytes = self.rest.as_bytes();
        let mut end = 1;
        while bytes.get(end).is_some_and(|byte| *byte != b'"') {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let (literal, rest) = self.rest.split_at_checked(end + 1).ok_or_else(invalid)?;
        self.rest = rest;
        document::string(literal)
    }
}

/// Writes a number as `numeric` does: without exponent, with the digits it has after the point.
fn number(word: &str) -> Option<String> {
    let (negative, magnitude) = word.strip_prefix('-').map_or((false, word), |rest| (true, rest));
    let (mantissa, exponent) = magnitude.split_once(['e', 'E']).unwrap_or((magnitude, "0"));
    let exponent: i64 = exponent.parse().ok().filter(|exponent: &i64| exponent.abs() <= 1000)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}");
    let point = whole.len() as i64 + exponent;
    if point <= 0 {
        digits.insert_str(0, &"0".repeat(usize::try_from(1 - point).ok()?));
    }
    let point = usize::try_from(point.max(1)).ok()?;
    if digits.len() < point {
        digits.extend(std::iter::repeat_n('0', point - digits.len()));
    }
    let (whole, fraction) = digits.split_at(point);
    let whole = whole.trim_start_matches('0');
    let zero = whole.is_empty() && fraction.bytes().all(|digit| digit == b'0');
    let sign = if negative && !zero { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use super::super::super::refusal::Refusal;
    use super::*;

    fn code(text: &str) -> &'static str {
        match normal(text).unwrap_err() {
            DataFusionError::External(error) => error.downcast_ref::<Refusal>().unwrap().sqlstate(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn deep_and_long_values_are_refused() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(normal(&nested(DEEPEST)).unwrap(), nested(DEEPEST));
        assert_eq!(code(&nested(DEEPEST + 2)), "54001");
        assert_eq!(code(&nested(1_000_000)), "54001");
        assert!(check(&nested(1_000_000)).is_ok());
        let numbers = |count: usize| format!("[{}]", vec!["1e1000"; count].join(","));
        assert_eq!(normal(&numbers(2)).unwrap().len(), 2 * 1001 + 4);
        assert_eq!(code(&numbers(2000)), "54000");
        assert_eq!(code("1e2000"), "0A000");
        for text in ["", "{x", "[01]", "[1.]", "1 2", "[\"\\ud800\"]", "[\"\u{9}\"]", "nul"] {
            assert_eq!(code(text), "22P02", "{text}");
        }
        assert_eq!(code("\"\\u0000\""), "22P05");
    }

    /// Compares with PostgreSQL 15: a line is a text, a tab, and what it is as `jsonb`.
    #[test]
    fn values_have_the_normal_form_of_postgres() {
        let lines = include_str!("normal_forms.tsv").lines();
        let mut count = 0;
        for line in lines {
            let (text, expected) = line.split_once('\t').unwrap();
            assert_eq!(normal(text).unwrap(), expected, "{text}");
            // A value is its own normal form.
            assert_eq!(normal(expected).unwrap(), expected);
            count += 1;
        }
        assert!(count >= 300, "{count}");
    }

    #[test]
    fn equal_values_have_one_key() {
        for (one, other, equal) in [
            ("1", "1.0", true),
            ("-0.0", "0", true),
            ("100", "1e2", true),
            ("100", "10", false),
            ("{\"a\": [1.50, \"1.50\"]}", "{\"a\":[15e-1,\"1.50\"]}", true),
            ("\"1.0\"", "\"1\"", false),
            ("1", "[1]", false),
            ("1", "\"1\"", false),
            ("{\"b\":1,\"a\":2,\"b\":3}", "{\"a\":2.00,\"b\":3}", true),
            ("0.10", "0.1", true),
        ] {
            assert_eq!(key(one).unwrap() == key(other).unwrap(), equal, "{one} {other}");
        }
    }
}
