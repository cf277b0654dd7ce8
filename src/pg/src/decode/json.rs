//! JSON: `json` is kept as it was sent; `jsonb` is written as Postgres writes it.

use std::fmt::Write;

use serde::de::IgnoredAny;

use crate::wire::error_response::SqlError;

/// Greatest number of arrays and objects in each other in a `jsonb`, which is read by recursion.
const DEEPEST: usize = 250;

/// Greatest number of digits that numbers of a `jsonb` may have more than they are written with, all together: `1e9` has
/// nine zeros.
const MOST_ZEROS: usize = 1 << 20;

/// Checks that a text is JSON.
pub(super) fn check(text: &str) -> Result<(), SqlError> {
    serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|error| invalid(text, &error))
}

/// Returns the error of a text that is no JSON, with the end of what was read of it.
fn invalid(text: &str, error: &serde_json::Error) -> SqlError {
    /// Characters that are shown.
    const SHOWN: usize = 50;
    let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let mut end = error.column().min(line.len());
    while !line.is_char_boundary(end) {
        end += 1;
    }
    let hidden = line[..end].chars().count().saturating_sub(SHOWN);
    let shown: String = line[..end].chars().skip(hidden).collect();
    let (before, after) = (if hidden > 0 { "..." } else { "" }, if end < line.len() { "..." } else { "" });
    SqlError::error("22P02", "invalid input syntax for type json")
        .with_hint(error.to_string())
        .with_context(format!("JSON data, line {}: {before}{shown}{after}", error.line()))
}

/// Returns JSON as `jsonb` writes it: keys in order, the last of equal ones, numbers as `numeric` has them.
pub(super) fn normal(text: &str) -> Result<String, SqlError> {
    check(text)?;
    let mut reader = Reader { rest: text, depth: 0, zeros: 0 };
    let value = reader.value().ok_or_else(|| SqlError::error("XX000", "internal error: JSON that was checked"))??;
    let mut written = String::with_capacity(text.len());
    value.write(&mut written);
    Ok(written)
}

enum Json {
    /// `null`, `true`, `false` or a number.
    Plain(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    fn write(&self, out: &mut String) {
        match self {
            Self::Plain(text) => out.push_str(text),
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
}

/// Writes a string as `escape_json` of Postgres does.
fn quote(text: &str, out: &mut String) {
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

    fn value(&mut self) -> Option<Result<Json, SqlError>> {
        if self.depth > DEEPEST {
            let message = format!("jsonb of more than {DEEPEST} arrays and objects in each other is not supported");
            return Some(Err(SqlError::error("54001", message)));
        }
        self.depth += 1;
        let value = self.nested();
        self.depth -= 1;
        value
    }

    fn nested(&mut self) -> Option<Result<Json, SqlError>> {
        self.skip();
        Some(Ok(match self.rest.chars().next()? {
            '"' => match self.text()? {
                Ok(text) => Json::Text(text),
                Err(error) => return Some(Err(error)),
            },
            '[' => {
                self.take('[');
                let mut items = Vec::new();
                while !self.take(']') {
                    match self.value()? {
                        Ok(item) => items.push(item),
                        failed => return Some(failed),
                    }
                    self.take(',');
                }
                Json::Array(items)
            }
            '{' => {
                self.take('{');
                let mut members: Vec<(String, Json)> = Vec::new();
                while !self.take('}') {
                    self.skip();
                    let key = match self.text()? {
                        Ok(key) => key,
                        Err(error) => return Some(Err(error)),
                    };
                    self.take(':');
                    match self.value()? {
                        Ok(value) => members.push((key, value)),
                        failed => return Some(failed),
                    }
                    self.take(',');
                }
                // Keys are ordered by length first; the last of equal ones stays.
                members.reverse();
                members.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
                members.dedup_by(|(later, _), (first, _)| later == first);
                Json::Object(members)
            }
            _ => {
                let end = self.rest.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(end);
                self.rest = rest;
                match word.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
                    true => match number(word) {
                        Some(number) => {
                            self.zeros += number.len().saturating_sub(word.len());
                            if self.zeros > MOST_ZEROS {
                                let message = "jsonb numbers with exponents of more than a million digits together are \
                                               not supported";
                                return Some(Err(SqlError::error("54000", message)));
                            }
                            Json::Plain(number)
                        }
                        None => {
                            let message =
                                format!("jsonb numbers of more than 1000 digits are not supported: {word:.60}");
                            return Some(Err(SqlError::not_supported(message)));
                        }
                    },
                    false => Json::Plain(word.into()),
                }
            }
        }))
    }

    fn text(&mut self) -> Option<Result<String, SqlError>> {
        let bytes = self.rest.as_bytes();
        let mut end = 1;
        while bytes.get(end).is_some_and(|byte| *byte != b'"') {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let (literal, rest) = self.rest.split_at_checked(end + 1)?;
        self.rest = rest;
        let text = match serde_json::from_str::<String>(literal) {
            Ok(text) => text,
            Err(error) => return Some(Err(invalid(literal, &error))),
        };
        if text.contains('\0') {
            return Some(Err(SqlError::error(
                "22P05",
                "unsupported Unicode escape sequence: \\u0000 cannot be converted to text",
            )));
        }
        Some(Ok(text))
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
    use super::*;

    #[test]
    fn errors_show_where_they_are() {
        for (text, context) in [
            ("{x", "JSON data, line 1: {x"),
            ("", "JSON data, line 1: "),
            ("[1,\n 2,\n é }", "JSON data, line 3:  é..."),
        ] {
            let error = check(text).unwrap_err();
            assert_eq!((&*error.sqlstate, error.message.as_str()), ("22P02", "invalid input syntax for type json"));
            assert_eq!(error.context.as_deref(), Some(context), "{text}");
        }
        let long = check(&format!("[{}, x]", "1".repeat(100))).unwrap_err();
        assert_eq!(long.context, Some(format!("JSON data, line 1: ...{}, x...", "1".repeat(47))));
    }

    #[test]
    fn deep_and_long_values_are_refused() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(normal(&nested(DEEPEST)).unwrap(), nested(DEEPEST));
        assert_eq!(normal(&nested(DEEPEST + 2)).unwrap_err().sqlstate, "54001");
        assert_eq!(normal(&nested(1_000_000)).unwrap_err().sqlstate, "54001");
        assert!(check(&nested(1_000_000)).is_ok());
        let numbers = |count: usize| format!("[{}]", vec!["1e1000"; count].join(","));
        assert_eq!(normal(&numbers(2)).unwrap().len(), 2 * 1001 + 4);
        assert_eq!(normal(&numbers(2000)).unwrap_err().sqlstate, "54000");
    }
}
