//! Operators and functions of `jsonb` that compare or change values.

use std::collections::HashSet;

use datafusion::error::Result;

use super::super::refusal::refusal;
use super::document::place;
use super::value::Json;

/// Greatest number of parts that are compared for one answer.
const MOST_COMPARISONS: u64 = 100_000_000;

/// Returns `left @> right`.
pub(super) fn contains(left: &str, right: &str) -> Result<bool> {
    let (mut left, mut right) = (Json::read(left)?, Json::read(right)?);
    left.trim_numbers();
    right.trim_numbers();
    let mut left_over = MOST_COMPARISONS;
    match (&left, &right) {
        // An array contains a value by itself, at the top only.
        (Json::Array(_), Json::Array(_)) | (Json::Object(_), _) | (_, Json::Object(_)) => {
            has(&left, &right, &mut left_over)
        }
        (Json::Array(items), scalar) => Ok(items.contains(scalar)),
        (one, other) => Ok(one == other),
    }
}

fn has(outer: &Json, inner: &Json, left_over: &mut u64) -> Result<bool> {
    let parts = match outer {
        Json::Array(items) => items.len() as u64,
        _ => 0,
    };
    *left_over =
        left_over.checked_sub(1 + parts).ok_or_else(|| refusal("54000", "too many values to compare by @>"))?;
    match (outer, inner) {
        (Json::Object(outer), Json::Object(inner)) => {
            for (key, wanted) in inner {
                let Ok(found) = Json::place_of(outer, key) else { return Ok(false) };
                if !has(&outer[found].1, wanted, left_over)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Json::Array(outer), Json::Array(inner)) => {
            let is_scalar = |item: &&Json| !matches!(item, Json::Array(_) | Json::Object(_));
            let scalars: HashSet<&Json> = outer.iter().filter(is_scalar).collect();
            for wanted in inner {
                if is_scalar(&wanted) {
                    if !scalars.contains(wanted) {
                        return Ok(false);
                    }
                    continue;
                }
                let mut found = false;
                for item in outer.iter().filter(|item| !is_scalar(item)) {
                    if has(item, wanted, left_over)? {
                        found = true;
                        break;
                    }
                }
                if !found {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (outer, inner) => Ok(outer == inner),
    }
}

/// Returns `value ? key`: an object has the key, an array the string, or the value is the string.
pub(super) fn exists(value: &Json, key: &str) -> bool {
    let is_key = |value: &Json| matches!(value, Json::Text(text) if text == key);
    match value {
        Json::Object(members) => Json::place_of(members, key).is_ok(),
        Json::Array(items) => items.iter().any(is_key),
        other => is_key(other),
    }
}

/// Returns `jsonb_set(value, path, new, create)`.
///
/// # Errors
/// 22023 for a scalar, 22004 for a NULL in the path, 22P02 for a step into an array that is no place.
pub(super) fn set(value: &str, path: &[Option<&str>], new: &str, create: bool) -> Result<String> {
    let mut value = Json::read(value)?;
    match &value {
        Json::Array(items) if items.is_empty() && !create => return Ok(value.written()),
        Json::Object(members) if members.is_empty() && !create => return Ok(value.written()),
        Json::Array(_) | Json::Object(_) => {}
        _ => return Err(refusal("22023", "cannot set path in scalar")),
    }
    if !path.is_empty() {
        set_at(&mut value, path, 0, &Json::read(new)?, create)?;
    }
    Ok(value.written())
}

fn set_at(value: &mut Json, path: &[Option<&str>], depth: usize, new: &Json, create: bool) -> Result<()> {
    let is_last = depth + 1 == path.len();
    let Some(step) = path[depth] else {
        return Err(refusal("22004", format!("path element at position {} is null", depth + 1)));
    };
    match value {
        Json::Object(members) => match (Json::place_of(members, step), is_last) {
            (Ok(place), true) => members[place].1 = new.clone(),
            (Ok(place), false) => set_at(&mut members[place].1, path, depth + 1, new, create)?,
            (Err(place), true) if create => members.insert(place, (step.to_owned(), new.clone())),
            (Err(_), _) => {}
        },
        Json::Array(items) => {
            let Some(found) = place(step) else {
                let message = format!("path element at position {} is not an integer: \"{step}\"", depth + 1);
                return Err(refusal("22P02", message));
            };
            match index_of(items, found) {
                Some(index) if is_last => items[index] = new.clone(),
                Some(index) => set_at(&mut items[index], path, depth + 1, new, create)?,
                None if is_last && create && found < 0 => items.insert(0, new.clone()),
                None if is_last && create => items.push(new.clone()),
                None => {}
            }
        }
        // A scalar has no parts.
        _ => {}
    }
    Ok(())
}

/// Returns `left || right`.
pub(super) fn concat(left: &str, right: &str) -> Result<String> {
    let both = match (Json::read(left)?, Json::read(right)?) {
        (Json::Object(mut members), Json::Object(others)) => {
            for (key, value) in others {
                match Json::place_of(&members, &key) {
                    Ok(place) => members[place].1 = value,
                    Err(place) => members.insert(place, (key, value)),
                }
            }
            Json::Object(members)
        }
        (left, right) => {
            let items = |value| match value {
                Json::Array(items) => items,
                one => vec![one],
            };
            let mut all = items(left);
            all.extend(items(right));
            Json::Array(all)
        }
    };
    Ok(both.written())
}

/// Returns `value - keys`: an object without the keys, an array without the strings.
///
/// # Errors
/// 22023 for a scalar.
pub(super) fn delete_keys(value: &str, keys: &[&str]) -> Result<String> {
    let mut value = Json::read(value)?;
    match &mut value {
        Json::Object(members) => members.retain(|(key, _)| !keys.contains(&key.as_str())),
        Json::Array(items) => items.retain(|item| !matches!(item, Json::Text(text) if keys.contains(&text.as_str()))),
        _ => return Err(refusal("22023", "cannot delete from scalar")),
    }
    Ok(value.written())
}

/// Returns `value - place`, which is counted from the end if it is below 0.
///
/// # Errors
/// 22023 for a value that is no array.
pub(super) fn delete_place(value: &str, place: i64) -> Result<String> {
    let mut value = Json::read(value)?;
    match &mut value {
        Json::Array(items) => {
            if let Some(index) = index_of(items, place) {
                items.remove(index);
            }
        }
        Json::Object(_) => return Err(refusal("22023", "cannot delete from object using integer index")),
        _ => return Err(refusal("22023", "cannot delete from scalar")),
    }
    Ok(value.written())
}

/// Returns `value #- path`.
///
/// # Errors
/// 22023 for a scalar, 22004 for a NULL in the path, 22P02 for a step into an array that is no place.
pub(super) fn delete_path(value: &str, path: &[Option<&str>]) -> Result<String> {
    let mut value = Json::read(value)?;
    if !matches!(value, Json::Array(_) | Json::Object(_)) {
        return Err(refusal("22023", "cannot delete path in scalar"));
    }
    let mut part = &mut value;
    for (depth, step) in path.iter().enumerate() {
        let is_last = depth + 1 == path.len();
        let Some(step) = step else {
            return Err(refusal("22004", format!("path element at position {} is null", depth + 1)));
        };
        part = match part {
            Json::Object(members) => match Json::place_of(members, step) {
                Ok(place) if is_last => {
                    members.remove(place);
                    break;
                }
                Ok(place) => &mut members[place].1,
                Err(_) => break,
            },
            Json::Array(items) => {
                let Some(found) = place(step) else {
                    let message = format!("path element at position {} is not an integer: \"{step}\"", depth + 1);
                    return Err(refusal("22P02", message));
                };
                match index_of(items, found) {
                    Some(index) if is_last => {
                        items.remove(index);
                        break;
                    }
                    Some(index) => &mut items[index],
                    None => break,
                }
            }
            _ => break,
        };
    }
    Ok(value.written())
}

/// Returns the index of a place that is counted from the end if it is below 0.
fn index_of(items: &[Json], place: i64) -> Option<usize> {
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let index = if place < 0 { place + length } else { place };
    usize::try_from(index).ok().filter(|index| *index < items.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with PostgreSQL 15.
    #[test]
    fn values_contain_others() {
        for (left, right, expected) in [
            ("{\"a\":1,\"b\":2}", "{\"b\":2.0}", true),
            ("[1,2]", "[1]", true),
            ("[1,2]", "1", true),
            ("[[1]]", "1", false),
            ("1", "[1]", false),
            ("1", "1.0", true),
            ("{\"a\":{\"b\":1,\"c\":2}}", "{\"a\":{\"c\":2}}", true),
            ("[1]", "[1.0,1]", true),
            ("[1,[2,3]]", "[[3]]", true),
            ("{\"a\":1}", "{}", true),
            ("[]", "{}", false),
            ("{}", "[]", false),
            ("1", "{}", false),
            ("[{\"a\":1,\"b\":2}]", "[{\"a\":1}]", true),
            ("{\"a\":[1,2]}", "{\"a\":1}", false),
            ("{\"a\":[1,2]}", "{\"a\":[1]}", true),
            ("[\"a\"]", "\"a\"", true),
            ("{\"a\":1}", "\"a\"", false),
        ] {
            assert_eq!(contains(left, right).unwrap(), expected, "{left} @> {right}");
        }
    }

    #[test]
    fn keys_exist() {
        for (value, key, expected) in [
            ("{\"a\":1}", "a", true),
            ("[\"a\"]", "a", true),
            ("\"a\"", "a", true),
            ("[1]", "1", false),
            ("{\"b\":\"a\"}", "a", false),
        ] {
            assert_eq!(exists(&Json::read(value).unwrap(), key), expected, "{value} ? {key}");
        }
    }

    /// Compares with PostgreSQL 15.
    #[test]
    fn parts_are_set() {
        let set = |value: &str, path: &[&str], create: bool| {
            let path: Vec<_> = path.iter().map(|step| Some(*step)).collect();
            set(value, &path, "3", create).unwrap()
        };
        for (value, path, create, expected) in [
            ("{\"a\":1}", ["a"].as_slice(), true, "{\"a\": 3}"),
            ("{\"a\":1}", &["b"], true, "{\"a\": 1, \"b\": 3}"),
            ("{\"bb\":1}", &["b"], true, "{\"b\": 3, \"bb\": 1}"),
            ("{\"a\":1}", &["b"], false, "{\"a\": 1}"),
            ("[1,2]", &["5"], true, "[1, 2, 3]"),
            ("[1,2]", &["-5"], true, "[3, 1, 2]"),
            ("[1,2]", &["-1"], true, "[1, 3]"),
            ("[1,2]", &["5"], false, "[1, 2]"),
            ("{\"a\":{\"b\":1}}", &["a", "c", "d"], true, "{\"a\": {\"b\": 1}}"),
            ("{\"a\":{\"b\":1}}", &["a", "c"], true, "{\"a\": {\"b\": 1, \"c\": 3}}"),
            ("{\"a\":1}", &[], true, "{\"a\": 1}"),
            ("{\"a\":1}", &["a", "b"], true, "{\"a\": 1}"),
        ] {
            assert_eq!(set(value, path, create), expected, "{value} {path:?}");
        }
        assert!(super::set("5", &[Some("a")], "3", true).is_err());
        assert!(super::set("[1]", &[Some("a")], "3", true).is_err());
        assert!(super::set("{\"a\":1}", &[Some("a"), None], "3", true).is_err());
        assert!(super::set("{\"a\":1}", &[Some("b"), None], "3", true).is_ok());
        assert!(super::set("{}", &[None], "3", false).is_ok());
    }

    /// Compares with PostgreSQL 15.
    #[test]
    fn values_are_joined_and_parts_deleted() {
        for (left, right, expected) in [
            ("{\"a\":1}", "{\"b\":2,\"a\":3}", "{\"a\": 3, \"b\": 2}"),
            ("[1]", "[2]", "[1, 2]"),
            ("1", "2", "[1, 2]"),
            ("{\"a\":1}", "[1]", "[{\"a\": 1}, 1]"),
            ("[]", "null", "[null]"),
        ] {
            assert_eq!(concat(left, right).unwrap(), expected, "{left} || {right}");
        }
        assert_eq!(delete_keys("{\"a\":1,\"b\":2}", &["a", "x"]).unwrap(), "{\"b\": 2}");
        assert_eq!(delete_keys("[\"a\",1,\"a\"]", &["a"]).unwrap(), "[1]");
        assert!(delete_keys("1", &["a"]).is_err());
        for (place, expected) in
            [(1, "[1, 3]"), (-1, "[1, 2]"), (7, "[1, 2, 3]"), (-4, "[1, 2, 3]"), (i64::MIN, "[1, 2, 3]")]
        {
            assert_eq!(delete_place("[1,2,3]", place).unwrap(), expected, "{place}");
        }
        assert!(delete_place("{}", 1).is_err());
        let path = |steps: &[&'static str]| steps.iter().map(|step| Some(*step)).collect::<Vec<_>>();
        for (value, steps, expected) in [
            ("{\"a\":{\"b\":[1,2]}}", path(&["a", "b", "0"]), "{\"a\": {\"b\": [2]}}"),
            ("{\"a\":1}", path(&["x"]), "{\"a\": 1}"),
            ("{\"a\":1}", path(&[]), "{\"a\": 1}"),
            ("{\"a\":1}", path(&["a", "b"]), "{\"a\": 1}"),
            ("[1,[2,3]]", path(&["1", "-1"]), "[1, [2]]"),
        ] {
            assert_eq!(delete_path(value, &steps).unwrap(), expected, "{value} {steps:?}");
        }
        assert!(delete_path("1", &path(&["a"])).is_err());
        assert!(delete_path("[1]", &path(&["a"])).is_err());
        assert!(delete_path("{\"a\":1}", &[None]).is_err());
    }
}
