//! Comparison of two answers.

use super::wire::{Answer, Format};

/// Result of comparing neuroql's answer with Postgres'.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Equal,
    /// neuroql has an error where Postgres has a value: its SQLSTATE and message.
    Refused(String, String),
    /// Both have an error.
    BothRefused,
    /// The statement was not run in this way.
    Skipped,
    /// A difference that is allowed, by its reason.
    Allowed(&'static str),
    Wrong(&'static str),
}

/// Rules for comparing rows.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    pub format: Format,
    /// True to compare rows one by one, false as a multiset.
    pub ordered: bool,
    /// True if the command's tag counts.
    pub tags: bool,
    /// True if all values of the query are computed.
    pub values: bool,
    /// True if the query makes groups of equal values.
    pub grouped: bool,
}

/// Compares two answers.
pub fn judge(postgres: &Answer, neuroql: &Answer, rows: Rows) -> Verdict {
    match (postgres, neuroql) {
        (_, Answer::Broken(_)) => Verdict::Wrong("no answer"),
        (_, Answer::Error { code, .. }) if code.len() != 5 || code == "XX000" => Verdict::Wrong("an internal error"),
        (Answer::Broken(_), _) => Verdict::Wrong("PostgreSQL does not answer"),
        (Answer::Error { .. }, Answer::Error { .. }) => Verdict::BothRefused,
        (Answer::Error { code, .. }, Answer::Done { tag })
            if super::allowed::is_of_value(code) && super::allowed::is_of_preparation(tag) =>
        {
            Verdict::Allowed(super::allowed::LATER)
        }
        (Answer::Error { code, message }, Answer::Rows { .. } | Answer::Done { .. })
            if super::allowed::is_of_unknown(code, message) =>
        {
            Verdict::Skipped
        }
        (Answer::Error { code, .. }, Answer::Rows { rows: found, .. })
            if super::allowed::is_of_value(code) && (found.is_empty() || !rows.values) =>
        {
            Verdict::Allowed(super::allowed::UNNEEDED)
        }
        (Answer::Error { code, .. }, Answer::Done { tag })
            if super::allowed::is_of_value(code) && matches!(&tag[..], "SELECT 0" | "INSERT 0 0") =>
        {
            Verdict::Allowed(super::allowed::UNNEEDED)
        }
        (Answer::Error { .. }, _) => Verdict::Wrong("a value where there is an error"),
        (_, Answer::Error { code, message }) => Verdict::Refused(code.clone(), message.clone()),
        (Answer::Done { tag: one }, Answer::Done { tag: two }) => {
            if one == two {
                Verdict::Equal
            } else {
                Verdict::Wrong("another tag")
            }
        }
        (
            Answer::Rows { names, types, rows: one, tag },
            Answer::Rows { names: other_names, types: other_types, rows: two, tag: other },
        ) => {
            if types != other_types {
                return Verdict::Wrong("other types");
            }
            if names != other_names {
                return Verdict::Wrong("other names");
            }
            if one.len() != two.len() {
                return Verdict::Wrong("another number of rows");
            }
            if rows.tags && tag != other {
                return Verdict::Wrong("another tag");
            }
            if same(one, two, rows.ordered) {
                return Verdict::Equal;
            }
            if super::allowed::equal(types, one, two, rows.format, rows.ordered, false) {
                return Verdict::Allowed(super::allowed::SCALE);
            }
            if rows.grouped && super::allowed::equal(types, one, two, rows.format, rows.ordered, true) {
                return Verdict::Allowed(super::allowed::ZERO);
            }
            Verdict::Wrong("other values")
        }
        _ => Verdict::Wrong("rows or none"),
    }
}

type Row = Vec<Option<Vec<u8>>>;

/// Returns true if rows are the same, in their order or in any.
pub fn same(one: &[Row], two: &[Row], ordered: bool) -> bool {
    if ordered {
        return one == two;
    }
    let (mut one, mut two) = (one.to_vec(), two.to_vec());
    one.sort();
    two.sort();
    one == two
}
