//! Templates of `to_char`.

use datafusion::error::Result;

use super::refusal::refusal;

/// Patterns of Postgres and chrono; longer ones before those that they begin with.
const PATTERNS: [(&str, &str); 22] = [
    ("FMMonth", "%B"),
    ("FMDay", "%A"),
    ("FMDD", "%-d"),
    ("FMMM", "%-m"),
    ("FMHH24", "%-H"),
    ("FMHH12", "%-I"),
    ("HH24", "%H"),
    ("HH12", "%I"),
    ("YYYY", "%Y"),
    ("IYYY", "%G"),
    ("DDD", "%j"),
    ("Mon", "%b"),
    ("HH", "%I"),
    ("YY", "%y"),
    ("MM", "%m"),
    ("DD", "%d"),
    ("Dy", "%a"),
    ("IW", "%V"),
    ("MI", "%M"),
    ("SS", "%S"),
    ("AM", "%p"),
    ("PM", "%p"),
];

/// Translates a template to chrono's language.
///
/// # Errors
/// If it holds a pattern that is not known here.
pub(super) fn translated(template: &str) -> Result<String> {
    let mut found = String::new();
    let mut rest = template;
    'next: while let Some(letter) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (inside, after) = quoted.split_once('"').unwrap_or((quoted, ""));
            found.push_str(inside);
            rest = after;
            continue;
        }
        for (pattern, chrono) in PATTERNS {
            if let Some(after) = rest.strip_prefix(pattern) {
                found.push_str(chrono);
                rest = after;
                continue 'next;
            }
        }
        // Fractions of a second have digits after a point in chrono's language.
        for (pattern, chrono) in [("US", "%6f"), ("MS", "%3f")] {
            if let Some(after) = rest.strip_prefix(pattern) {
                found.push_str(chrono);
                rest = after;
                continue 'next;
            }
        }
        if letter.is_alphanumeric() {
            return Err(refusal(
                "0A000",
                format!("the template \"{template}\" of to_char is not supported from {rest}"),
            ));
        }
        found.push(letter);
        rest = &rest[letter.len_utf8()..];
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_translated() {
        assert_eq!(translated("YYYY-MM-DD HH24:MI:SS.MS").unwrap(), "%Y-%m-%d %H:%M:%S.%3f");
        assert_eq!(translated("FMDay \"at\" HH12 AM").unwrap(), "%A at %I %p");
        assert!(translated("Month").is_err());
        assert!(translated("9999").is_err());
    }
}
