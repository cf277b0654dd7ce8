//! Values of Arrow as JSON.
//!
//! Numbers, booleans, arrays and structs are themselves, other values are text, and so are NaN and the infinities, which
//! JSON does not have.

use std::fmt::Write;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

/// Writes the value of a row.
///
/// # Errors
/// If the value cannot be formatted.
pub(crate) fn write_value(out: &mut String, array: &dyn Array, row: usize) -> Result<(), ArrowError> {
    if array.is_null(row) {
        out.push_str("null");
        return Ok(());
    }
    macro_rules! integers {
        ($($kind:ident $type:ident),*) => {
            match array.data_type() {
                $(DataType::$kind => {
                    let _ = write!(out, "{}", array.as_primitive::<$type>().value(row));
                    return Ok(());
                })*
                _ => {}
            }
        };
    }
    integers!(Int8 Int8Type, Int16 Int16Type, Int32 Int32Type, Int64 Int64Type, UInt8 UInt8Type, UInt16 UInt16Type,
        UInt32 UInt32Type, UInt64 UInt64Type);
    match array.data_type() {
        DataType::Null => out.push_str("null"),
        DataType::Boolean => out.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            write_number(out, value.is_finite(), value.is_nan(), value > 0.0, format_args!("{value:?}"));
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            write_number(out, value.is_finite(), value.is_nan(), value > 0.0, format_args!("{value:?}"));
        }
        DataType::Utf8 => write_text(out, array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => write_text(out, array.as_string::<i64>().value(row)),
        DataType::Utf8View => write_text(out, array.as_string_view().value(row)),
        DataType::List(_) => write_items(out, &array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => write_items(out, &array.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(..) => write_items(out, &array.as_fixed_size_list().value(row))?,
        DataType::Struct(fields) => {
            let columns = array.as_struct();
            out.push('{');
            for (index, (field, column)) in fields.iter().zip(columns.columns()).enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_text(out, field.name());
                out.push(':');
                write_value(out, column, row)?;
            }
            out.push('}');
        }
        DataType::Decimal128(..) | DataType::Decimal256(..) => out.push_str(&formatted(array, row)?),
        _ => write_text(out, &formatted(array, row)?),
    }
    Ok(())
}

fn formatted(array: &dyn Array, row: usize) -> Result<String, ArrowError> {
    let options = FormatOptions::default();
    ArrayFormatter::try_new(array, &options)?.value(row).try_to_string()
}

fn write_items(out: &mut String, items: &ArrayRef) -> Result<(), ArrowError> {
    out.push('[');
    for item in 0..items.len() {
        if item > 0 {
            out.push(',');
        }
        write_value(out, items, item)?;
    }
    out.push(']');
    Ok(())
}

fn write_number(out: &mut String, is_finite: bool, is_nan: bool, is_positive: bool, text: std::fmt::Arguments) {
    let _ = match (is_finite, is_nan, is_positive) {
        (true, ..) => out.write_fmt(text),
        (_, true, _) => out.write_str("\"NaN\""),
        (.., true) => out.write_str("\"Infinity\""),
        _ => out.write_str("\"-Infinity\""),
    };
}

/// Writes a text in quotes.
pub(crate) fn write_text(out: &mut String, text: &str) {
    // A text is always JSON.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// Writes the rows of a batch as objects, a line each.
///
/// # Errors
/// If a value cannot be formatted.
pub(crate) fn write_lines(out: &mut String, batch: &RecordBatch) -> Result<(), ArrowError> {
    for row in 0..batch.num_rows() {
        out.push('{');
        for (index, (field, column)) in batch.schema_ref().fields().iter().zip(batch.columns()).enumerate() {
            if index > 0 {
                out.push(',');
            }
            write_text(out, field.name());
            out.push(':');
            write_value(out, column, row)?;
        }
        out.push_str("}\n");
    }
    Ok(())
}

/// Writes the rows of a batch as arrays, with commas before all but the first row of the result.
///
/// # Errors
/// If a value cannot be formatted.
pub(crate) fn write_arrays(out: &mut String, batch: &RecordBatch, is_first: &mut bool) -> Result<(), ArrowError> {
    for row in 0..batch.num_rows() {
        out.push_str(if *is_first { "[" } else { ",\n[" });
        *is_first = false;
        for (index, column) in batch.columns().iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            write_value(out, column, row)?;
        }
        out.push(']');
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Float32Array, Int64Array, ListArray, StringViewArray};

    use super::*;

    #[test]
    fn values_are_json() {
        let reals: ArrayRef =
            Arc::new(Float32Array::from(vec![Some(0.85), Some(f32::NAN), Some(f32::NEG_INFINITY), None]));
        let texts: ArrayRef = Arc::new(StringViewArray::from(vec!["a\"\n", "\u{0}", "</script>", "é"]));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
            Some(vec![Some(1), None]),
            Some(vec![]),
            None,
            Some(vec![Some(i64::MIN)]),
        ]));
        let whole: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX; 4]));
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("r", reals, true),
            ("t", texts, true),
            ("l", lists, true),
            ("i", whole, true),
        ])
        .unwrap();
        let mut lines = String::new();
        write_lines(&mut lines, &batch).unwrap();
        let expected = "{\"r\":0.85,\"t\":\"a\\\"\\n\",\"l\":[1,null],\"i\":9223372036854775807}\n\
                        {\"r\":\"NaN\",\"t\":\"\\u0000\",\"l\":[],\"i\":9223372036854775807}\n\
                        {\"r\":\"-Infinity\",\"t\":\"</script>\",\"l\":null,\"i\":9223372036854775807}\n\
                        {\"r\":null,\"t\":\"é\",\"l\":[-9223372036854775808],\"i\":9223372036854775807}\n";
        assert_eq!(lines, expected);
        let (mut arrays, mut is_first) = (String::new(), true);
        write_arrays(&mut arrays, &batch.slice(0, 1), &mut is_first).unwrap();
        write_arrays(&mut arrays, &batch.slice(3, 1), &mut is_first).unwrap();
        assert_eq!(
            arrays,
            "[0.85,\"a\\\"\\n\",[1,null],9223372036854775807],\n[null,\"é\",[-9223372036854775808],9223372036854775807]"
        );
        for line in lines.lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
        }
    }
}
