//! The text form of arrays.

use super::is_space;
use crate::wire::error_response::SqlError;

/// Reads the items of an array of one dimension, as text.
pub(crate) fn read(text: &str) -> Result<Vec<Option<String>>, SqlError> {
    let malformed = || SqlError::error("22P02", format!("malformed array literal: \"{text}\""));
    let mut rest = text.trim_start_matches(is_space);
    if rest.starts_with('[') {
        let message = format!("arrays with bounds of their own are not supported: \"{text}\"");
        return Err(SqlError::not_supported(message));
    }
    rest = rest.strip_prefix('{').ok_or_else(malformed)?.trim_start_matches(is_space);
    let mut items = Vec::new();
    if let Some(end) = rest.strip_prefix('}') {
        return if end.trim_start_matches(is_space).is_empty() { Ok(items) } else { Err(malformed()) };
    }
    loop {
        rest = rest.trim_start_matches(is_space);
        if rest.starts_with('{') {
            let message = format!("arrays of more than one dimension are not supported: \"{text}\"");
            return Err(SqlError::not_supported(message));
        }
        let item = ArrayItem::read(rest).ok_or_else(malformed)?;
        items.push(item.value);
        let mut letters = item.rest.chars();
        match letters.next() {
            Some(',') => rest = letters.as_str(),
            Some('}') if letters.as_str().trim_start_matches(is_space).is_empty() => return Ok(items),
            _ => return Err(malformed()),
        }
    }
}

struct ArrayItem<'a> {
    value: Option<String>,
    rest: &'a str,
}

impl<'a> ArrayItem<'a> {
    /// Reads up to the comma or brace after an item.
    fn read(text: &'a str) -> Option<Self> {
        let mut value = String::new();
        let (mut quoted, mut escaped, mut was_quoted) = (false, false, false);
        // End of the value's last character that is not white space.
        let mut end = 0;
        for (at, letter) in text.char_indices() {
            if escaped {
                value.push(letter);
                (escaped, end) = (false, value.len());
                continue;
            }
            match letter {
                '\\' => escaped = true,
                '"' if quoted => (quoted, end) = (false, value.len()),
                // Quotation marks are around a whole item.
                '"' if was_quoted || end > 0 => return None,
                '"' => (quoted, was_quoted) = (true, true),
                ',' | '}' if !quoted => {
                    value.truncate(end);
                    let plain = !was_quoted && !text[..at].contains('\\');
                    if value.is_empty() && !was_quoted {
                        return None;
                    }
                    let value = (!plain || !value.eq_ignore_ascii_case("null")).then_some(value);
                    return Some(Self { value, rest: &text[at..] });
                }
                '{' if !quoted => return None,
                _ if quoted => value.push(letter),
                _ if is_space(letter) => value.push(letter),
                // Something after the closing mark.
                _ if was_quoted => return None,
                _ => {
                    value.push(letter);
                    end = value.len();
                }
            }
        }
        None
    }
}
