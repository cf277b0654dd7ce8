//! Values of the setting `DateStyle`.

use neuroql::{DateForm, DateOrder, DateStyle};

/// Returns a value as Postgres shows it; `None` if it is no style. What it leaves out is as in `current`, or as in `reset` if it
/// names the default.
pub(super) fn spelt(value: &str, current: &str, reset: &str) -> Option<String> {
    let (current, reset) = (DateStyle::read(current), DateStyle::read(reset));
    let (mut form, mut order) = (None, None);
    // What DEFAULT and GERMAN say unless something else does.
    let (mut other_form, mut other_order) = (current.form, current.order);
    for word in words(value)? {
        let begins = |with: &str| word.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
        let upper = word.to_ascii_uppercase();
        let (named_form, named_order) = match upper.as_str() {
            "ISO" => (Some(DateForm::Iso), None),
            "SQL" => (Some(DateForm::Sql), None),
            "GERMAN" => {
                other_order = DateOrder::Dmy;
                (Some(DateForm::German), None)
            }
            _ if begins("POSTGRES") => (Some(DateForm::Postgres), None),
            "YMD" => (None, Some(DateOrder::Ymd)),
            "DMY" => (None, Some(DateOrder::Dmy)),
            "MDY" | "US" => (None, Some(DateOrder::Mdy)),
            _ if begins("EURO") => (None, Some(DateOrder::Dmy)),
            _ if begins("NONEURO") => (None, Some(DateOrder::Mdy)),
            "DEFAULT" => {
                (other_form, other_order) = (reset.form, reset.order);
                (None, None)
            }
            _ => return None,
        };
        if named_form.is_some_and(|named| *form.get_or_insert(named) != named)
            || named_order.is_some_and(|named| *order.get_or_insert(named) != named)
        {
            return None;
        }
    }
    let style = DateStyle { form: form.unwrap_or(other_form), order: order.unwrap_or(other_order), abbreviation: None };
    Some(style.spell())
}

/// Splits a list at its commas as names are, which may be in quotes; `None` if it is none.
fn words(list: &str) -> Option<Vec<&str>> {
    let mut words = Vec::new();
    let mut rest = list.trim();
    if rest.is_empty() {
        return Some(words);
    }
    loop {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => {
                let end = rest.find(|letter: char| letter == ',' || letter.is_whitespace()).unwrap_or(rest.len());
                rest.split_at(end)
            }
        };
        if word.is_empty() {
            return None;
        }
        words.push(word);
        let after = after.trim_start();
        if after.is_empty() {
            return Some(words);
        }
        rest = after.strip_prefix(',')?.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with what `SHOW datestyle` of PostgreSQL 15 answers.
    #[test]
    fn styles_are_those_of_postgres() {
        for (value, current, shown) in [
            ("SQL, DMY", "ISO, MDY", Some("SQL, DMY")),
            ("german", "ISO, MDY", Some("German, DMY")),
            ("German,YMD", "ISO, MDY", Some("German, YMD")),
            ("mdy, german", "ISO, YMD", Some("German, MDY")),
            ("ISO", "German, DMY", Some("ISO, DMY")),
            ("postgresXX, euro", "ISO, MDY", Some("Postgres, DMY")),
            ("SQL, SQL", "ISO, DMY", Some("SQL, DMY")),
            ("", "SQL, DMY", Some("SQL, DMY")),
            ("default", "SQL, DMY", Some("ISO, MDY")),
            ("default, german", "ISO, MDY", Some("German, DMY")),
            ("german,default", "ISO, DMY", Some("German, MDY")),
            (" sql , us ", "ISO, YMD", Some("SQL, MDY")),
            ("\"sql\"", "ISO, MDY", Some("SQL, MDY")),
            ("noneuropean", "SQL, DMY", Some("SQL, MDY")),
            ("SQL, german", "ISO, MDY", None),
            ("sql,mdy,dmy", "ISO, MDY", None),
            ("foo", "ISO, MDY", None),
            ("iso; mdy", "ISO, MDY", None),
            ("iso,", "ISO, MDY", None),
            ("usa", "ISO, MDY", None),
        ] {
            assert_eq!(spelt(value, current, "ISO, MDY").as_deref(), shown, "{value}");
        }
    }
}
