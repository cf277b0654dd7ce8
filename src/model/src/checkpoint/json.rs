//! JSON as Python writes it, with the numbers `NaN`, `Infinity` and `-Infinity`.

use serde_json::Value;

/// Key under which transformers 5 writes such a number: `{"__float__": "NaN"}`.
const FLOAT: &str = "__float__";

/// Parses JSON; a number that JSON does not have becomes the object that transformers 5 writes for it, which
/// [`not_finite`] recognises.
///
/// # Errors
/// The error of serde_json for the original text.
pub(crate) fn parse(bytes: &[u8]) -> serde_json::Result<Value> {
    // Few files have such numbers, so most are parsed once only.
    serde_json::from_slice(bytes).or_else(|error| match spelt_out(bytes) {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| error),
        None => Err(error),
    })
}

/// Name of a number that JSON does not have, if the value stands for one.
pub(crate) fn not_finite(value: &Value) -> Option<&str> {
    match value {
        Value::Object(map) if map.len() == 1 => map.get(FLOAT)?.as_str(),
        _ => None,
    }
}

/// Replaces every such number outside of strings by an object; `None` if there is none.
fn spelt_out(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut at, mut found) = (Vec::with_capacity(bytes.len()), 0, false);
    while at < bytes.len() {
        if bytes[at] == b'"' {
            let end = string_end(bytes, at);
            out.extend_from_slice(&bytes[at..end]);
            at = end;
            continue;
        }
        let names = ["NaN", "Infinity", "-Infinity"];
        match names.into_iter().find(|name| bytes[at..].starts_with(name.as_bytes())) {
            Some(name) => {
                out.extend_from_slice(format!("{{\"{FLOAT}\":\"{name}\"}}").as_bytes());
                at += name.len();
                found = true;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    found.then_some(out)
}

/// Position after the string that begins at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{not_finite, parse};

    #[test]
    fn numbers_of_python_are_read_outside_of_strings_only() {
        let text =
            br#"{"a": NaN, "b": [-Infinity, Infinity, 1.5], "NaN": "NaN, \"Infinity\\", "c": {"__float__": "NaN"}}"#;
        let value = parse(text).unwrap();
        assert_eq!(not_finite(&value["a"]), Some("NaN"));
        assert_eq!(not_finite(&value["b"][0]), Some("-Infinity"));
        assert_eq!(not_finite(&value["b"][1]), Some("Infinity"));
        assert_eq!(value["b"][2], json!(1.5));
        assert_eq!(value["NaN"], json!("NaN, \"Infinity\\"));
        assert_eq!(not_finite(&value["c"]), Some("NaN"));
        assert_eq!(not_finite(&json!({"__float__": "NaN", "x": 1})), None);
    }

    #[test]
    fn what_is_no_json_stays_none() {
        for text in ["{\"a\": Nan}", "{\"a\": -NaN}", "{NaN: 1}", "NaNNaN", "{\"a\": \"NaN", "{\"a\": NaN", "\"\\"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        let error = parse(b"{\"a\": NaN,\n \"b\": nope}").unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
