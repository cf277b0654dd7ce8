//! Composite values as Postgres writes them.
//!
//! arrow-pg writes NULL in them as `""`, which is an empty string.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray, StructArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Field};
use datafusion_postgres::pgwire::types::format::FormatOptions;

use crate::decode::is_space;
use crate::encode::column::decimal_text;
use crate::encode::datetime;
use crate::floats;

/// Writes a column of composite values, or of arrays of them, as text; `None` if it holds something else, or a value in
/// them is of a type that is not written here.
pub(crate) fn spell(column: &ArrayRef, options: &FormatOptions) -> Option<ArrayRef> {
    match column.data_type() {
        DataType::Struct(_) => Some(Arc::new(records(column.as_struct(), options)?)),
        DataType::List(item) if matches!(item.data_type(), DataType::Struct(_)) => {
            let lists = column.as_list::<i32>();
            let values = spell(lists.values(), options)?;
            let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
            Some(Arc::new(ListArray::new(item, lists.offsets().clone(), values, lists.nulls().cloned())))
        }
        _ => None,
    }
}

/// Writes records as `record_out` of Postgres does.
fn records(records: &StructArray, options: &FormatOptions) -> Option<StringArray> {
    let columns = records.columns().iter().map(|column| texts(column, options)).collect::<Option<Vec<_>>>()?;
    let record = |row: usize| {
        let mut text = String::from("(");
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            if column.is_valid(row) {
                let value = column.value(row);
                let special = |c: char| matches!(c, '"' | '\\' | '(' | ')' | ',') || is_space(c);
                push(value, value.is_empty() || value.contains(special), "\"", &mut text);
            }
        }
        text + ")"
    };
    Some((0..records.len()).map(|row| records.is_valid(row).then(|| record(row))).collect())
}

/// Writes arrays as `array_out` of Postgres does.
fn arrays(lists: &ListArray, options: &FormatOptions) -> Option<StringArray> {
    let items = texts(lists.values(), options)?;
    let array = |range: std::ops::Range<usize>| {
        let mut text = String::from("{");
        for (index, item) in range.enumerate() {
            if index > 0 {
                text.push(',');
            }
            if items.is_null(item) {
                text.push_str("NULL");
                continue;
            }
            let value = items.value(item);
            let special = |c: char| matches!(c, '"' | '\\' | '{' | '}' | ',') || is_space(c);
            let quoted = value.is_empty() || value.eq_ignore_ascii_case("null") || value.contains(special);
            push(value, quoted, "\\", &mut text);
        }
        text + "}"
    };
    let ranges = lists.offsets().windows(2).map(|ends| ends[0] as usize..ends[1] as usize);
    Some(ranges.enumerate().map(|(row, range)| lists.is_valid(row).then(|| array(range))).collect())
}

/// Writes a value, in quotes if `quoted`, with `escape` before each quotation mark in it and each backslash doubled.
fn push(value: &str, quoted: bool, escape: &str, text: &mut String) {
    if !quoted {
        text.push_str(value);
        return;
    }
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str(escape),
            '\\' => text.push('\\'),
            _ => {}
        }
        text.push(c);
    }
    text.push('"');
}

/// Returns values as text, as they stand outside of records.
fn texts(column: &ArrayRef, options: &FormatOptions) -> Option<StringArray> {
    use DataType::{
        Binary, Boolean, Date32, Decimal128, Float32, Float64, Interval, List, Null, Struct, Time32, Time64, Timestamp,
        Utf8,
    };
    Some(match column.data_type() {
        Null => StringArray::new_null(column.len()),
        Utf8 => column.as_string::<i32>().clone(),
        Float32 | Float64 => floats::spell(column, options.extra_float_digits.into())?.as_string::<i32>().clone(),
        Boolean => column.as_boolean().iter().map(|value| Some(if value? { "t" } else { "f" })).collect(),
        Date32 | Time32(_) | Time64(_) | Timestamp(..) | Interval(_) => {
            datetime::spell(column, options)?.as_string_opt::<i32>()?.clone()
        }
        Decimal128(_, scale) => {
            let numbers = column.as_primitive::<Decimal128Type>().iter();
            numbers.map(|number| number.map(|number| decimal_text(number, *scale))).collect()
        }
        Binary if options.bytea_output == "hex" => {
            column.as_binary::<i32>().iter().map(|bytes| bytes.map(hexadecimal)).collect()
        }
        uuid if neuroql::is_uuid(uuid) => neuroql::uuid_texts(column)?.as_string::<i32>().clone(),
        Struct(_) => records(column.as_struct(), options)?,
        List(_) => arrays(column.as_list(), options)?,
        kind if kind.is_integer() || kind.is_string() => cast(column, &Utf8).ok()?.as_string::<i32>().clone(),
        _ => return None,
    })
}

/// Writes bytes as `byteaout` does.
fn hexadecimal(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\\x{digits}")
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, DurationSecondArray, Float32Array, Int32Array,
        NullArray, TimestampMicrosecondArray,
    };
    use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
    use datafusion::arrow::datatypes::Int64Type;

    use super::*;

    fn record(columns: Vec<ArrayRef>, valid: &[bool]) -> ArrayRef {
        let field = |(i, column): (usize, &ArrayRef)| Field::new(format!("c{i}"), column.data_type().clone(), true);
        let fields: Vec<Field> = columns.iter().enumerate().map(field).collect();
        Arc::new(StructArray::new(fields.into(), columns, Some(NullBuffer::from(valid.to_vec()))))
    }

    fn spelt(column: &ArrayRef) -> Vec<Option<String>> {
        spell(column, &FormatOptions::default())
            .unwrap()
            .as_string::<i32>()
            .iter()
            .map(|text| text.map(str::to_owned))
            .collect()
    }

    /// Checks the same rows as `psql` of PostgreSQL 15 shows them.
    #[test]
    fn as_postgres_writes_them() {
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(-3), None]));
        let words: ArrayRef = Arc::new(StringArray::from(vec![Some("a b"), Some(""), None, None]));
        let reals: ArrayRef = Arc::new(Float32Array::from(vec![Some(1.0), Some(0.25), Some(f32::NAN), None]));
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, None]));
        let all = record(vec![numbers, words, reals, flags], &[true, true, true, false]);
        let expected = [Some("(1,\"a b\",1,t)"), Some("(,\"\",0.25,f)"), Some("(-3,,NaN,)"), None];
        assert_eq!(spelt(&all), expected.map(|text| text.map(str::to_owned)));

        let odd: ArrayRef = Arc::new(StringArray::from(vec!["a\"b", "c\\d", "(,)", "ü", "\n", "null"]));
        let expected = ["(\"a\"\"b\")", "(\"c\\\\d\")", "(\"(,)\")", "(ü)", "(\"\n\")", "(null)"];
        assert_eq!(spelt(&record(vec![odd], &[true; 6])), expected.map(|text| Some(text.to_owned())));
    }

    #[test]
    fn nulls_and_moments_in_records() {
        let none: ArrayRef = Arc::new(NullArray::new(2));
        assert_eq!(spelt(&record(vec![Arc::clone(&none)], &[true; 2])), [Some("()".into()), Some("()".into())]);
        let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(0), None]));
        let moments: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(1_500_000), None]));
        let numbers = Decimal128Array::from(vec![Some(-50), None]).with_precision_and_scale(8, 2).unwrap();
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&b"\x00A"[..]), None]));
        let all = record(vec![none, days, moments, Arc::new(numbers), bytes], &[true; 2]);
        let first = "(,1970-01-01,\"1970-01-01 00:00:01.5\",-0.50,\"\\\\x0041\")";
        assert_eq!(spelt(&all), [Some(first.to_owned()), Some("(,,,,)".to_owned())]);
    }

    #[test]
    fn arrays_and_records_in_records() {
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(1), None]),
            Some(vec![]),
            None,
        ]));
        let words: ArrayRef = Arc::new(StringArray::from(vec!["x", "a\"b", "NULL"]));
        let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
        let quoted: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([2, 0, 1]), words, None));
        let inner = record(vec![Arc::clone(&lists)], &[true, true, true]);
        let rows = record(vec![lists, quoted, inner], &[true; 3]);
        let expected =
            [r#"("{1,NULL}","{x,""a\\""b""}","(""{1,NULL}"")")"#, r#"({},{},"({})")"#, r#"(,"{""NULL""}","()")"#];
        assert_eq!(spelt(&rows), expected.map(|text| Some(text.to_owned())));
    }

    #[test]
    fn other_types_are_left() {
        let words: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        assert!(spell(&words, &FormatOptions::default()).is_none());
        let times: ArrayRef = Arc::new(DurationSecondArray::from(vec![0]));
        assert!(spell(&record(vec![times], &[true]), &FormatOptions::default()).is_none());
    }
}
