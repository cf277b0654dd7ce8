//! Values and names as they are written in SQL, and texts as they are written in addresses and HTML.

use std::fmt::Write;

use crate::error::Fault;

/// Returns a text as a literal.
///
/// # Errors
/// 400 for a byte 0, which no text in SQL has.
pub(crate) fn literal(text: &str) -> Result<String, Fault> {
    if text.contains('\0') {
        return Err(Fault::bad_request("a text may not hold the character U+0000"));
    }
    Ok(format!("'{}'", text.replace('\'', "''")))
}

/// Returns a name, in quotes if it needs them.
pub(crate) fn name(name: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    let starts = name.starts_with(|letter: char| letter.is_ascii_lowercase() || letter == '_');
    match starts && name.chars().all(is_plain) && !RESERVED.contains(&name) {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// Words that are no names without quotes.
const RESERVED: [&str; 24] = [
    "all", "and", "any", "array", "as", "case", "cast", "else", "end", "from", "group", "in", "is", "join", "limit",
    "not", "null", "or", "order", "select", "table", "union", "user", "where",
];

/// Encodes a text as part of an address.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

/// Escapes a text for HTML and attributes in double quotes. A byte 0, which no document may have, becomes U+FFFD.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\0' => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// Writes a token so that it can be seen: line breaks, tabs and characters without a glyph have signs.
pub(crate) fn visible(token: &str) -> String {
    let mut seen = String::with_capacity(token.len());
    for letter in token.chars() {
        match letter {
            '\n' => seen.push('⏎'),
            '\t' => seen.push('⇥'),
            '\r' => seen.push('␍'),
            letter if letter.is_control() || is_unseen(letter) => {
                let _ = write!(seen, "\\u{{{:x}}}", u32::from(letter));
            }
            letter => seen.push(letter),
        }
    }
    seen
}

/// Returns true for characters that turn the direction of text or have no glyph.
fn is_unseen(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}')
}

/// Returns a number with four significant digits, `–` for none.
pub(crate) fn number(value: Option<f64>) -> String {
    let Some(value) = value else { return "–".into() };
    let size = value.abs();
    if size == 0.0 {
        "0".into()
    } else if !value.is_finite() {
        value.to_string()
    } else if !(1e-3..1e6).contains(&size) {
        format!("{value:.2e}")
    } else {
        let digits = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
        let text = format!("{value:.digits$}");
        match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text,
        }
    }
}

/// Returns a count with thin spaces between thousands.
pub(crate) fn count(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut spaced = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            spaced.push('\u{202f}');
        }
        spaced.push(digit);
    }
    if value < 0 { format!("−{spaced}") } else { spaced }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_literals() {
        assert_eq!(name("toy"), "toy");
        assert_eq!(name("Toy"), "\"Toy\"");
        assert_eq!(name("a\"; DROP"), "\"a\"\"; DROP\"");
        assert_eq!(name("select"), "\"select\"");
        assert_eq!(name(""), "\"\"");
        assert_eq!(literal("it's \\").unwrap(), "'it''s \\'");
        assert!(literal("a\0").is_err());
    }

    #[test]
    fn texts_of_pages() {
        assert_eq!(encoded("a b/ü\""), "a%20b%2F%C3%BC%22");
        assert_eq!(escaped("<a href='x'>&\"\0"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\u{fffd}");
        assert_eq!(visible("a\n\u{202e}\0"), "a⏎\\u{202e}\\u{0}");
    }

    #[test]
    fn numbers_are_short() {
        let shown = |value| number(Some(value));
        assert_eq!([0.0, 1.5, -0.123456, 1234.56, 123456.7].map(shown), ["0", "1.5", "-0.1235", "1235", "123457"]);
        assert_eq!([1e-7, 2.5e9, 0.001].map(shown), ["1.00e-7", "2.50e9", "0.001"]);
        assert_eq!(number(None), "–");
        assert_eq!(count(1_467_904), "1\u{202f}467\u{202f}904");
        assert_eq!(count(-12), "−12");
    }
}
