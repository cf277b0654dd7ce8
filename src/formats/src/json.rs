//! JSON as Python's programs write it: a bare `NaN` where there is no number.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

/// Parses a value. Numbers that are `NaN` are taken for null.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(&without_nan(bytes)).map_err(|error| error.to_string())
}

/// Replaces `NaN` outside of texts by `null`.
fn without_nan(bytes: &[u8]) -> Cow<'_, [u8]> {
    const NAN: &[u8] = b"NaN";
    if !bytes.windows(NAN.len()).any(|word| word == NAN) {
        return bytes.into();
    }
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 8);
    let (mut at, mut is_text) = (0, false);
    while at < bytes.len() {
        if !is_text && bytes[at..].starts_with(NAN) {
            out.extend_from_slice(b"null");
            at += NAN.len();
            continue;
        }
        let length = if is_text && bytes[at] == b'\\' { 2 } else { 1 };
        is_text ^= bytes[at] == b'"';
        let end = (at + length).min(bytes.len());
        out.extend_from_slice(&bytes[at..end]);
        at = end;
    }
    out.into()
}

/// A list of numbers, NaN where the file has null.
pub(crate) fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
    let numbers = Vec::<Option<f32>>::deserialize(deserializer)?;
    Ok(numbers.into_iter().map(|number| number.unwrap_or(f32::NAN)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_null_but_in_texts() {
        let parsed: (Option<f32>, String, Option<f32>) = parse(br#"[NaN, "a \" NaN \\", 1.5]"#).unwrap();
        assert_eq!(parsed, (None, "a \" NaN \\".into(), Some(1.5)));
        assert!(parse::<Vec<f32>>(b"[NaNNaN").is_err());
    }
}
