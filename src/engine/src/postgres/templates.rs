//! Templates of `to_char`.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::{Expr, ExprSchemable, lit};

use super::casts::{CastRule, cast_by};
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

/// Returns `to_char` with the template translated from Postgres' language, unless it is one of chrono's.
pub(super) fn templated(mut function: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let template = match function.args.get(1) {
        Some(Expr::Literal(template, _)) => template.try_as_str().flatten().map(str::to_owned),
        Some(_) => {
            let message = "to_char with a template that is not a constant is not supported";
            return Err(refusal("0A000", message));
        }
        None => None,
    };
    match template {
        Some(template) if !template.contains('%') => {
            function.args[1] = lit(translated(&template)?);
            let moment = std::mem::take(&mut function.args[0]);
            function.args[0] = match moment.get_type(schema)? {
                data_type @ (DataType::Date32 | DataType::Timestamp(..)) => {
                    cast_by(CastRule::PlainYear, Cast::new(Box::new(moment), data_type))
                }
                _ => moment,
            };
            Ok(Transformed::yes(Expr::ScalarFunction(function)))
        }
        _ => Ok(Transformed::no(Expr::ScalarFunction(function))),
    }
}

/// Translates a template to chrono's language.
///
/// # Errors
/// If it holds a pattern that is not known here.
fn translated(template: &str) -> Result<String> {
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
