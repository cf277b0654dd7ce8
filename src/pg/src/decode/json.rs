//! JSON: `json` is kept as it was sent; `jsonb` is written as Postgres writes it.

use serde::de::IgnoredAny;

use crate::wire::error_response::SqlError;

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
    Ok(neuroql::json::normal(text)?)
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
    fn normal_forms_have_limits() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(normal(&nested(200)).unwrap(), nested(200));
        assert_eq!(normal(&nested(1_000_000)).unwrap_err().sqlstate, "54001");
        assert!(check(&nested(1_000_000)).is_ok());
        assert_eq!(normal("\"\\ud800\"").unwrap_err().sqlstate, "22P02");
        assert_eq!(normal("\"\\u0000\"").unwrap_err().sqlstate, "22P05");
    }
}
