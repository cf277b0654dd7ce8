//! `regexp_like`, `regexp_count`, `regexp_instr`, `regexp_substr`, `regexp_split_to_array`, and the rows of `regexp_matches`.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, ListBuilder, StringBuilder};
use datafusion::arrow::datatypes::Int32Type;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ScalarUDF;
use regex::{Captures, Regex};

use super::matches::Pattern;
use super::overloads::{Columns, Form, Kind, Overloaded};
use super::refusal::{out_of_range, refusal};

/// Returns the functions. Their patterns are those of the regex crate.
pub(super) fn functions() -> Vec<ScalarUDF> {
    use Kind::{Boolean, Integer, Text, TextLists, Texts};
    const LIKE: &[Form] = &[
        Form { takes: &[Text, Text], gives: Boolean, compute: like },
        Form { takes: &[Text, Text, Text], gives: Boolean, compute: like },
    ];
    const COUNT: &[Form] = &[
        Form { takes: &[Text, Text], gives: Integer, compute: count },
        Form { takes: &[Text, Text, Integer], gives: Integer, compute: count },
        Form { takes: &[Text, Text, Integer, Text], gives: Integer, compute: count },
    ];
    const INSTR: &[Form] = &[
        Form { takes: &[Text, Text], gives: Integer, compute: instr },
        Form { takes: &[Text, Text, Integer], gives: Integer, compute: instr },
        Form { takes: &[Text, Text, Integer, Integer], gives: Integer, compute: instr },
        Form { takes: &[Text, Text, Integer, Integer, Integer], gives: Integer, compute: instr },
        Form { takes: &[Text, Text, Integer, Integer, Integer, Text], gives: Integer, compute: instr },
        Form { takes: &[Text, Text, Integer, Integer, Integer, Text, Integer], gives: Integer, compute: instr },
    ];
    const SUBSTR: &[Form] = &[
        Form { takes: &[Text, Text], gives: Text, compute: substr },
        Form { takes: &[Text, Text, Integer], gives: Text, compute: substr },
        Form { takes: &[Text, Text, Integer, Integer], gives: Text, compute: substr },
        Form { takes: &[Text, Text, Integer, Integer, Text], gives: Text, compute: substr },
        Form { takes: &[Text, Text, Integer, Integer, Text, Integer], gives: Text, compute: substr },
    ];
    const SPLIT: &[Form] = &[
        Form { takes: &[Text, Text], gives: Texts, compute: split },
        Form { takes: &[Text, Text, Text], gives: Texts, compute: split },
    ];
    const MATCHES: &[Form] = &[
        Form { takes: &[Text, Text], gives: TextLists, compute: matches },
        Form { takes: &[Text, Text, Text], gives: TextLists, compute: matches },
    ];
    vec![
        Overloaded::strict("regexp_like", LIKE),
        Overloaded::strict("regexp_count", COUNT),
        Overloaded::strict("regexp_instr", INSTR),
        Overloaded::strict("regexp_substr", SUBSTR),
        Overloaded::strict("regexp_split_to_array", SPLIT),
        Overloaded::strict("pg_regexp_matches", MATCHES),
    ]
}

/// Patterns that have been compiled, by their text and flags.
#[derive(Debug, Default)]
struct Compiled {
    known: HashMap<(String, String), Pattern>,
}

impl Compiled {
    /// Returns the pattern of a row, whose second argument it is.
    fn get(&mut self, args: &Columns, flags: Option<usize>, row: usize) -> Result<&Pattern> {
        let flags = flags.and_then(|place| args.columns.get(place).map(|_| args.texts(place).value(row)));
        let key = (args.texts(1).value(row).to_owned(), flags.unwrap_or_default().to_owned());
        Ok(match self.known.entry(key) {
            std::collections::hash_map::Entry::Occupied(found) => found.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => {
                let (pattern, flags) = free.key();
                let pattern = Pattern::of(pattern, flags, true)?;
                free.insert(pattern)
            }
        })
    }

    /// Returns the pattern of a row, of a function that finds all matches anyway.
    fn get_without_all(&mut self, name: &str, args: &Columns, flags: Option<usize>, row: usize) -> Result<&Regex> {
        let pattern = self.get(args, flags, row)?;
        if pattern.all {
            return Err(refusal("22023", format!("{name}() does not support the \"global\" option")));
        }
        Ok(&pattern.regex)
    }
}

/// Gives the matches of a text from a place on to `each` until it returns false. An empty match is found at the end of another one,
/// too.
fn find<'t>(regex: &Regex, text: &'t str, start: usize, mut each: impl FnMut(&Captures<'t>) -> bool) {
    let mut from = start;
    while from <= text.len() {
        let Some(found) = regex.captures_at(text, from) else { return };
        let Some(whole) = found.get(0) else { return };
        if !each(&found) {
            return;
        }
        from = whole.end();
        if whole.is_empty() {
            from += text[from..].chars().next().map_or(1, char::len_utf8);
        }
    }
}

/// Returns a positive argument, or 1 if it is left out.
fn positive(args: &Columns, place: usize, row: usize, name: &str) -> Result<i32> {
    match optional(args, place, row) {
        None => Ok(1),
        Some(value @ 1..) => Ok(value),
        Some(value) => Err(invalid(name, value)),
    }
}

fn optional(args: &Columns, place: usize, row: usize) -> Option<i32> {
    args.columns.get(place).map(|_| args.primitive::<Int32Type>(place).value(row))
}

fn invalid(name: &str, value: i32) -> DataFusionError {
    refusal("22023", format!("invalid value for parameter \"{name}\": {value}"))
}

/// Returns the place in bytes of the n-th letter, from 1; `None` if it is further than just behind the last.
fn place_of(text: &str, letter: i32) -> Option<usize> {
    let before = usize::try_from(letter).ok()?.checked_sub(1)?;
    text.char_indices().map(|(place, _)| place).chain([text.len()]).nth(before)
}

/// Returns the number of the letter at a place in bytes, from 1.
fn letter_at(text: &str, place: usize) -> Result<i32> {
    i32::try_from(text[..place].chars().count() + 1).map_err(|_| out_of_range(&Kind::Integer.data_type()))
}

fn like(args: &Columns) -> Result<ArrayRef> {
    let mut compiled = Compiled::default();
    args.truths(|row| {
        Ok(compiled.get_without_all("regexp_like", args, Some(2), row)?.is_match(args.texts(0).value(row)))
    })
}

fn count(args: &Columns) -> Result<ArrayRef> {
    let mut compiled = Compiled::default();
    args.numbers::<Int32Type>(|row| {
        let text = args.texts(0).value(row);
        let start = positive(args, 2, row, "start")?;
        let regex = compiled.get_without_all("regexp_count", args, Some(3), row)?;
        let Some(start) = place_of(text, start) else { return Ok(0) };
        let mut count = 0;
        find(regex, text, start, |_| {
            count += 1;
            true
        });
        Ok(count)
    })
}

/// Returns what `read` takes from the n-th match from a letter on.
fn nth<'t, V>(
    regex: &Regex,
    text: &'t str,
    start: i32,
    n: i32,
    read: impl Fn(&Captures<'t>) -> Option<V>,
) -> Option<V> {
    let start = place_of(text, start)?;
    let (mut left, mut value) = (n, None);
    find(regex, text, start, |found| {
        left -= 1;
        if left == 0 {
            value = read(found);
        }
        left > 0
    });
    value
}

fn instr(args: &Columns) -> Result<ArrayRef> {
    let mut compiled = Compiled::default();
    args.numbers::<Int32Type>(|row| {
        let text = args.texts(0).value(row);
        let (start, n) = (positive(args, 2, row, "start")?, positive(args, 3, row, "n")?);
        let is_end = match optional(args, 4, row) {
            None | Some(0) => false,
            Some(1) => true,
            Some(other) => return Err(invalid("endoption", other)),
        };
        let group = optional(args, 6, row).unwrap_or(0);
        let group = usize::try_from(group).map_err(|_| invalid("subexpr", group))?;
        let regex = compiled.get_without_all("regexp_instr", args, Some(5), row)?;
        let place = nth(regex, text, start, n, |found| {
            found.get(group).map(|found| if is_end { found.end() } else { found.start() })
        });
        place.map_or(Ok(0), |place| letter_at(text, place))
    })
}

fn substr(args: &Columns) -> Result<ArrayRef> {
    let mut compiled = Compiled::default();
    let found = args.each(|row| {
        let text = args.texts(0).value(row);
        let (start, n) = (positive(args, 2, row, "start")?, positive(args, 3, row, "n")?);
        let group = optional(args, 5, row).unwrap_or(0);
        let group = usize::try_from(group).map_err(|_| invalid("subexpr", group))?;
        let regex = compiled.get_without_all("regexp_substr", args, Some(4), row)?;
        Ok(nth(regex, text, start, n, |found| found.get(group).map(|found| found.as_str())))
    })?;
    let mut texts = StringBuilder::new();
    found.into_iter().for_each(|text| texts.append_option(text.flatten()));
    Ok(Arc::new(texts.finish()))
}

/// Returns what stands between the matches of a pattern. Empty ones at the ends of the text, and behind another one, do not count.
fn pieces<'t>(regex: &Regex, text: &'t str) -> Vec<&'t str> {
    let (mut found, mut end) = (Vec::new(), 0);
    find(regex, text, 0, |matched| {
        if let Some(whole) = matched.get(0).filter(|whole| whole.start() < text.len() && whole.end() > end) {
            found.push(&text[end..whole.start()]);
            end = whole.end();
        }
        true
    });
    found.push(&text[end..]);
    found
}

fn split(args: &Columns) -> Result<ArrayRef> {
    let mut compiled = Compiled::default();
    let mut lists = ListBuilder::new(StringBuilder::new());
    let rows = args.each(|row| {
        let regex = compiled.get_without_all("regexp_split_to_array", args, Some(2), row)?;
        Ok(pieces(regex, args.texts(0).value(row)))
    })?;
    for row in rows {
        for piece in row.iter().flatten() {
            lists.values().append_value(piece);
        }
        lists.append(row.is_some());
    }
    Ok(Arc::new(lists.finish()))
}

fn matches(args: &Columns) -> Result<ArrayRef> {
    let mut compiled = Compiled::default();
    let mut lists = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
    let is_valid = |row: usize| args.columns.iter().all(|column| column.is_valid(row));
    for row in 0..args.rows {
        if is_valid(row) {
            let pattern = compiled.get(args, Some(2), row)?;
            find(&pattern.regex, args.texts(0).value(row), 0, |found| {
                let groups = found.iter().skip(usize::from(found.len() > 1));
                groups.for_each(|group| lists.values().values().append_option(group.map(|group| group.as_str())));
                lists.values().append(true);
                pattern.all
            });
        }
        lists.append(is_valid(row));
    }
    Ok(Arc::new(lists.finish()))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, Int32Array, StringArray};

    use super::*;

    fn columns(texts: &[&str], numbers: &[i32]) -> Columns {
        let text = |text: &&str| Arc::new(StringArray::from(vec![*text])) as ArrayRef;
        let number = |number: &i32| Arc::new(Int32Array::from(vec![*number])) as ArrayRef;
        Columns { columns: texts.iter().map(text).chain(numbers.iter().map(number)).collect(), rows: 1 }
    }

    fn number(compute: fn(&Columns) -> Result<ArrayRef>, texts: &[&str], numbers: &[i32]) -> Option<i32> {
        Some(compute(&columns(texts, numbers)).ok()?.as_primitive::<Int32Type>().value(0))
    }

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn matches_are_counted() {
        let of = |text, pattern| number(count, &[text, pattern], &[]);
        assert_eq!(of("banana", "an"), Some(2));
        assert_eq!(of("abc", ""), Some(4));
        assert_eq!(of("aaa", "a*"), Some(2));
        assert_eq!(of("", ""), Some(1));
        assert_eq!(number(count, &["abc", ""], &[4]), Some(1));
        assert_eq!(number(count, &["abc", ""], &[5]), Some(0));
        assert_eq!(number(count, &["ab", "^b"], &[2]), Some(0));
        assert_eq!(number(count, &["ab", "b"], &[0]), None);
    }

    #[test]
    fn matches_have_places() {
        assert_eq!(number(instr, &["héllo", "l"], &[1, 2, 1]), Some(5));
        assert_eq!(number(instr, &["abc", ""], &[4]), Some(4));
        assert_eq!(number(instr, &["abc", "$"], &[1, 1, 1]), Some(4));
        assert_eq!(number(instr, &["abc", "b"], &[5]), Some(0));
        assert_eq!(number(instr, &["abab", "b"], &[1, 2, 1]), Some(5));
        assert_eq!(number(instr, &["abc", "b"], &[1, 1, 2]), None);
        assert_eq!(number(instr, &["abc", "b"], &[1, 0]), None);
        let of = |numbers: &[i32]| {
            substr(&columns(&["abcabc", "b."], numbers))
                .unwrap()
                .as_string::<i32>()
                .iter()
                .next()
                .flatten()
                .map(str::to_owned)
        };
        assert_eq!(of(&[3]).as_deref(), Some("bc"));
        assert_eq!(of(&[1, 3]), None);
    }

    #[test]
    fn texts_are_split() {
        let of = |text: &'static str, pattern: &str| pieces(&Regex::new(pattern).unwrap(), text);
        assert_eq!(of("hello world", r"\s*"), ["h", "e", "l", "l", "o", "w", "o", "r", "l", "d"]);
        assert_eq!(of("", ","), [""]);
        assert_eq!(of("a,,b,", ","), ["a", "", "b", ""]);
        assert_eq!(of("abc", ""), ["a", "b", "c"]);
    }
}
