//! The differences from PostgreSQL that are intended. Each is in the README, too.
//!
//! Literals: a bare whole number is `bigint` and one with a point `double precision`; statements of this test write
//! `1::int` and `'1.5'::numeric`, which both servers take for the same. So do they cast `avg` of integers, which is
//! `double precision`, and `sum` of bigints, which is a `bigint`.

use super::compare;
use super::values::{Ty, is_array};
use super::wire::Format;

/// Difference in the scale of a numeric: a column has one scale in neuroql, so 1.5 beside 0.25 is printed as 1.50.
pub const SCALE: &str = "digits after the point of a numeric";

/// Error of an unneeded value: PostgreSQL computes constants of dates and times and of some functions before it knows that a
/// row needs them, which are computed for rows here.
pub const UNNEEDED: &str = "an error of a value that no row needs";

/// Error of a constant that is too long for a numeric here, which has 28 digits before the point without a precision: it is
/// refused where it is read, and no row reads it.
pub const LONG: &str = "an error of a constant with too many digits for a numeric here";

/// Returns true if a statement has such a constant.
pub fn has_long_number(sql: &str) -> bool {
    sql.split(|letter: char| !letter.is_ascii_digit()).any(|digits| digits.len() > 28)
}

/// Error that comes later: PostgreSQL computes constants when a statement is prepared; here the error comes when it
/// runs.
pub const LATER: &str = "an error of a value that comes when the statement runs";

/// Returns true if this is the answer to a statement that prepares another one.
pub fn is_of_preparation(tag: &str) -> bool {
    matches!(tag, "PREPARE" | "DECLARE CURSOR" | "CREATE VIEW")
}

/// Sign of a zero: a group of -0 and 0 is shown as 0; PostgreSQL shows the one that it has met first.
pub const ZERO: &str = "the sign of a zero in groups";

/// Returns true if PostgreSQL does not find out the type of a literal, which is text here: the generator takes `'a'`
/// for one of its texts, as which it counts beside other values.
pub fn is_of_unknown(code: &str, message: &str) -> bool {
    matches!(code, "42804" | "42725" | "42P18") && message.contains("unknown")
}

/// Returns true if an error of PostgreSQL is one of a value (class 22, data exception), or of a subquery for one that has more rows.
pub fn is_of_value(code: &str) -> bool {
    code.starts_with("22") || code == "21000"
}

/// Returns true if rows are the same but for differences that are allowed.
pub fn equal(
    types: &[u32],
    one: &[Vec<Option<Vec<u8>>>],
    two: &[Vec<Option<Vec<u8>>>],
    format: Format,
    ordered: bool,
    grouped: bool,
) -> bool {
    let normal = |rows: &[Vec<Option<Vec<u8>>>]| -> Vec<Vec<Option<Vec<u8>>>> {
        let cell = |(cell, ty): (&Option<Vec<u8>>, &u32)| Some(normal(cell.as_deref()?, *ty, format, grouped));
        rows.iter().map(|row| row.iter().zip(types).map(cell).collect()).collect()
    };
    compare::same(&normal(one), &normal(two), ordered)
}

fn normal(cell: &[u8], ty: u32, format: Format, grouped: bool) -> Vec<u8> {
    let numeric = ty == Ty::Numeric.oid();
    match format {
        Format::Text if numeric => shortest(cell),
        Format::Text if ty == Ty::Numeric.array().oid() => {
            let items = cell.split(|byte| b"{,}".contains(byte)).map(shortest);
            items.collect::<Vec<_>>().join(&b',')
        }
        // A slice of an array has the mark of NULLs of the whole array in PostgreSQL.
        Format::Binary if is_array(ty) && cell.len() >= 8 => {
            let unmarked = [&cell[..4], &[0; 4], &cell[8..]].concat();
            if ty == Ty::Numeric.array().oid() { elements(&unmarked) } else { unmarked }
        }
        Format::Binary if numeric => digits(cell),
        // The sign of a NaN, which no client shows, is that of the processor in PostgreSQL; here it has none.
        Format::Binary if ty == 700 && cell == [0xff, 0xc0, 0, 0] => vec![0x7f, 0xc0, 0, 0],
        Format::Binary if ty == 701 && cell == [0xff, 0xf8, 0, 0, 0, 0, 0, 0] => vec![0x7f, 0xf8, 0, 0, 0, 0, 0, 0],
        Format::Text if grouped && matches!(ty, 700 | 701) && cell == b"-0" => b"0".to_vec(),
        Format::Binary
            if grouped
                && matches!(ty, 700 | 701)
                && cell.first() == Some(&0x80)
                && cell[1..].iter().all(|it| *it == 0) =>
        {
            vec![0; cell.len()]
        }
        _ => cell.to_vec(),
    }
}

/// Returns a number without zeros at the end of its fraction.
fn shortest(number: &[u8]) -> Vec<u8> {
    if !number.contains(&b'.') {
        return number.to_vec();
    }
    let end = number.iter().rposition(|digit| *digit != b'0').unwrap_or_default();
    let end = if number[end] == b'.' { end } else { end + 1 };
    number[..end].to_vec()
}

/// Returns weight, sign and groups of four digits of a numeric in its binary form, without the number of digits that
/// are shown and groups of zeros at the end.
fn digits(cell: &[u8]) -> Vec<u8> {
    if cell.len() < 8 {
        return cell.to_vec();
    }
    let mut groups = &cell[8..];
    while let Some(rest) = groups.strip_suffix(&[0, 0]) {
        groups = rest;
    }
    [&cell[2..6], groups].concat()
}

/// Applies [`digits`] to each element of an array.
fn elements(cell: &[u8]) -> Vec<u8> {
    let word =
        |at: usize| cell.get(at..at + 4).map(|bytes| i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let mut at = 12 + 8 * usize::try_from(word(0).unwrap_or_default()).unwrap_or_default();
    let mut out = cell.get(..at).unwrap_or(cell).to_vec();
    while let Some(length) = word(at) {
        at += 4;
        let Ok(length) = usize::try_from(length) else {
            out.push(1);
            continue;
        };
        out.push(0);
        out.extend(digits(cell.get(at..at + length).unwrap_or_default()));
        at += length;
    }
    out
}
