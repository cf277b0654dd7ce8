//! `bytea` as text, in both of Postgres' formats.

use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::error::Result;

use super::casts::binary;
use super::refusal::refusal;

/// Reads bytes from each text: `\x` and digits, or characters with `\\` and `\ooo`.
pub(super) fn parsed(texts: &StringArray) -> Result<ArrayRef> {
    binary(texts.iter().map(|text| text.map(read_bytea).transpose()))
}

/// Reads bytes as Postgres' `byteain` does: hexadecimal digits after `\x`, else characters with `\\` and `\ooo`.
///
/// # Errors
/// 22023 for a wrong or missing digit, 22P02 for a `\` before something else.
pub fn read_bytea(text: &str) -> Result<Vec<u8>> {
    match text.strip_prefix("\\x") {
        Some(digits) => hexadecimal(digits),
        None => escaped(text),
    }
}

fn hexadecimal(text: &str) -> Result<Vec<u8>> {
    let digit = |letter: char| match letter.to_digit(16) {
        Some(value) => Ok(value as u8),
        None => Err(refusal("22023", format!("invalid hexadecimal digit: \"{letter}\""))),
    };
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut letters = text.chars();
    while let Some(first) = letters.next() {
        // Blanks may stand between bytes, not within one.
        if matches!(first, ' ' | '\t' | '\n' | '\r') {
            continue;
        }
        let high = digit(first)?;
        let Some(second) = letters.next() else {
            return Err(refusal("22023", "invalid hexadecimal data: odd number of digits"));
        };
        bytes.push(high << 4 | digit(second)?);
    }
    Ok(bytes)
}

fn escaped(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return Ok(bytes),
            [b'\\', b'\\', rest @ ..] => {
                bytes.push(b'\\');
                rest
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest
            }
            [b'\\', ..] => return Err(refusal("22P02", "invalid input syntax for type bytea")),
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        };
    }
}

/// Writes bytes as Postgres does.
pub(super) fn written(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("\\x");
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with values as PostgreSQL 15 reads them.
    #[test]
    fn both_formats_are_read() {
        assert_eq!(read_bytea("\\x00fF 61").unwrap(), [0, 255, b'a']);
        assert_eq!(read_bytea("a\\\\b\\000\\377").unwrap(), [b'a', b'\\', b'b', 0, 255]);
        assert_eq!(read_bytea("ä").unwrap(), "ä".as_bytes());
        for text in ["\\x0", "\\xzz", "a\\1", "\\8", "\\400", "\\"] {
            assert!(read_bytea(text).is_err(), "{text}");
        }
        assert_eq!(written(&[0, 255]), "\\x00ff");
    }
}
