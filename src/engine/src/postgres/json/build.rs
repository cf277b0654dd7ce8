//! Values of any type as JSON.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, StringArray, StructArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::error::Result;

use super::super::casts::{arrow_cast, has_unknown_digits};
use super::super::refusal::{refusal, type_name};
use super::super::texts;
use super::super::uuids::is_uuid;
use super::JsonKind;
use super::functions::text_of_rows;
use super::value::{normal, quote};

/// Begins a text of an aggregate that is an array or a row, which have lines of their own in a `json`.
const STRUCTURED: char = '\u{1}';

/// A column whose values are written as JSON.
pub(super) enum Writer {
    Null,
    Boolean(BooleanArray),
    /// Texts of numbers; those that JSON has no number for are strings.
    Numbers(StringArray),
    Json(StringArray),
    Texts(StringArray),
    Lists(ListArray, Box<Writer>),
    Rows(StructArray, Vec<(String, Writer)>),
}

impl Writer {
    /// Returns the writer of a column.
    ///
    /// # Errors
    /// 0A000 for types whose values are not written as Postgres writes them.
    pub(super) fn of(column: &ArrayRef, field: &Field) -> Result<Self> {
        use DataType::{
            Binary, Boolean, Date32, Decimal128, Dictionary, Float32, Float64, Int8, Int16, Int32, Int64, Interval,
            LargeUtf8, List, Null, Struct, Time64, Timestamp, UInt8, UInt16, UInt32, UInt64, Utf8, Utf8View,
        };
        let not_supported = || {
            let message = format!(
                "values of type {} as JSON are not supported; cast them to text",
                type_name(column.data_type())
            );
            refusal("0A000", message)
        };
        let as_text =
            || Ok::<_, datafusion::error::DataFusionError>(arrow_cast(column, &Utf8)?.as_string::<i32>().clone());
        Ok(match column.data_type() {
            Null => Self::Null,
            Boolean => Self::Boolean(column.as_boolean().clone()),
            Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 => Self::Numbers(as_text()?),
            Decimal128(..) if has_unknown_digits(column.data_type()) => return Err(not_supported()),
            Decimal128(..) => Self::Numbers(as_text()?),
            Float32 | Float64 => Self::Numbers(texts::written(column)?),
            Utf8 | LargeUtf8 | Utf8View => match JsonKind::of(field) {
                Some(_) => Self::Json(as_text()?),
                None => Self::Texts(as_text()?),
            },
            Date32 | Time64(_) | Interval(_) | Binary => Self::Texts(texts::written(column)?),
            uuid if is_uuid(uuid) => Self::Texts(texts::written(column)?),
            Timestamp(_, None) => {
                let written = texts::written(column)?;
                let moments = written.iter().map(|text| text.map(|text| text.replacen(' ', "T", 1)));
                Self::Texts(moments.collect())
            }
            Dictionary(_, values) => Self::of(&arrow_cast(column, values)?, field)?,
            List(item) => {
                let lists = column.as_list::<i32>().clone();
                let items = Self::of(lists.values(), item)?;
                Self::Lists(lists, Box::new(items))
            }
            Struct(fields) => {
                let rows = column.as_struct().clone();
                let names = names(fields);
                let parts = names.into_iter().zip(fields).zip(rows.columns());
                let parts = parts.map(|((name, field), column)| Ok((name, Self::of(column, field)?)));
                let parts = parts.collect::<Result<Vec<_>>>()?;
                Self::Rows(rows, parts)
            }
            _ => return Err(not_supported()),
        })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Boolean(values) => values.is_null(row),
            Self::Numbers(texts) | Self::Json(texts) | Self::Texts(texts) => texts.is_null(row),
            Self::Lists(lists, _) => lists.is_null(row),
            Self::Rows(rows, _) => rows.is_null(row),
        }
    }

    /// Returns the value of a row.
    pub(super) fn written(&self, row: usize) -> Result<String> {
        let mut out = String::new();
        self.write(row, &mut out);
        Ok(out)
    }

    fn write(&self, row: usize, out: &mut String) {
        if self.is_null(row) {
            out.push_str("null");
            return;
        }
        match self {
            Self::Null => {}
            Self::Boolean(values) => out.push_str(if values.value(row) { "true" } else { "false" }),
            Self::Numbers(texts) => {
                let text = texts.value(row);
                if text.ends_with(|digit: char| digit.is_ascii_digit()) { out.push_str(text) } else { quote(text, out) }
            }
            Self::Json(texts) => out.push_str(texts.value(row)),
            Self::Texts(texts) => quote(texts.value(row), out),
            Self::Lists(lists, items) => {
                let ends = lists.value_offsets();
                let places = usize::try_from(ends[row]).unwrap_or(0)..usize::try_from(ends[row + 1]).unwrap_or(0);
                out.push('[');
                for (index, place) in places.enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    items.write(place, out);
                }
                out.push(']');
            }
            Self::Rows(_, parts) => {
                out.push('{');
                for (index, (name, part)) in parts.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    quote(name, out);
                    out.push(':');
                    part.write(row, out);
                }
                out.push('}');
            }
        }
    }

    /// Writes the key of an object.
    fn write_key(&self, row: usize, out: &mut String) -> Result<()> {
        match self {
            Self::Null => {}
            Self::Boolean(values) => quote(if values.value(row) { "true" } else { "false" }, out),
            Self::Numbers(texts) | Self::Texts(texts) => quote(texts.value(row), out),
            Self::Json(_) | Self::Lists(..) | Self::Rows(..) => {
                return Err(refusal("22023", "key value must be scalar, not array, composite, or json"));
            }
        }
        Ok(())
    }
}

/// Returns the names of the parts of a row: those of `ROW(…)` are `f1`, `f2` and so on.
fn names(fields: &Fields) -> Vec<String> {
    let is_unnamed = fields.iter().enumerate().all(|(place, field)| *field.name() == format!("c{place}"));
    let name = |(place, field): (usize, &FieldRef)| match is_unnamed {
        true => format!("f{}", place + 1),
        false => field.name().clone(),
    };
    fields.iter().enumerate().map(name).collect()
}

/// Returns JSON as a value of the type.
pub(super) fn finished(kind: JsonKind, text: String) -> Result<String> {
    match kind {
        JsonKind::Json => Ok(text),
        JsonKind::Jsonb => normal(&text),
    }
}

fn writers(columns: &[ArrayRef], fields: &[FieldRef]) -> Result<Vec<Writer>> {
    columns.iter().zip(fields).map(|(column, field)| Writer::of(column, field)).collect()
}

/// Returns arrays of the arguments.
pub(super) fn arrays(kind: JsonKind, columns: &[ArrayRef], fields: &[FieldRef], rows: usize) -> Result<ArrayRef> {
    let items = writers(columns, fields)?;
    let array = |row: usize| {
        let mut out = String::from("[");
        for (index, item) in items.iter().enumerate() {
            out.push_str(if index > 0 { ", " } else { "" });
            item.write(row, &mut out);
        }
        out.push(']');
        finished(kind, out).map(Some)
    };
    text_of_rows(rows, array)
}

/// Returns objects of keys and values in turn.
pub(super) fn objects(
    function: &str,
    kind: JsonKind,
    columns: &[ArrayRef],
    fields: &[FieldRef],
    rows: usize,
) -> Result<ArrayRef> {
    if !columns.len().is_multiple_of(2) {
        return Err(refusal("22023", "argument list must have even number of elements"));
    }
    let parts = writers(columns, fields)?;
    let object = |row: usize| {
        let mut out = String::from("{");
        for (index, pair) in parts.chunks_exact(2).enumerate() {
            out.push_str(if index > 0 { ", " } else { "" });
            if pair[0].is_null(row) {
                let place = 2 * index + 1;
                return Err(refusal(
                    "22023",
                    match function {
                        "jsonb_build_object" => format!("argument {place}: key must not be null"),
                        _ => format!("argument {place} cannot be null"),
                    },
                ));
            }
            pair[0].write_key(row, &mut out)?;
            out.push_str(" : ");
            pair[1].write(row, &mut out);
        }
        out.push('}');
        finished(kind, out).map(Some)
    };
    text_of_rows(rows, object)
}

/// Returns the values of a column as texts of an aggregate.
pub(super) fn elements(column: &ArrayRef, field: &Field, rows: usize) -> Result<ArrayRef> {
    let values = Writer::of(column, field)?;
    let is_structured = matches!(values, Writer::Lists(..) | Writer::Rows(..));
    let element = |row: usize| {
        let mut out = String::new();
        if is_structured && !values.is_null(row) {
            out.push(STRUCTURED);
        }
        values.write(row, &mut out);
        Ok(Some(out))
    };
    text_of_rows(rows, element)
}

/// Returns the array of an aggregate's texts.
pub(super) fn collected(kind: JsonKind, texts: &[Option<&str>]) -> Result<String> {
    let mut out = String::from("[");
    for (index, text) in texts.iter().enumerate() {
        let text = text.unwrap_or("null");
        out.push_str(if index > 0 { ", " } else { "" });
        match text.strip_prefix(STRUCTURED) {
            Some(text) => {
                out.push_str(if index > 0 { "\n " } else { "" });
                out.push_str(text);
            }
            None => out.push_str(text),
        }
    }
    out.push(']');
    finished(kind, out)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Float64Array, Int32Array};
    use datafusion::arrow::datatypes::Int32Type;

    use super::*;

    fn written(column: ArrayRef) -> Vec<String> {
        let field = Field::new("v", column.data_type().clone(), true);
        let writer = Writer::of(&column, &field).unwrap();
        (0..column.len()).map(|row| writer.written(row).unwrap()).collect()
    }

    #[test]
    fn values_are_written_as_postgres_does() {
        assert_eq!(written(Arc::new(Int32Array::from(vec![Some(-7), None]))), ["-7", "null"]);
        let doubles = Float64Array::from(vec![1.5, 1e20, f64::NAN, f64::NEG_INFINITY]);
        assert_eq!(written(Arc::new(doubles)), ["1.5", "1e+20", "\"NaN\"", "\"-Infinity\""]);
        assert_eq!(written(Arc::new(StringArray::from(vec!["a\"\n\u{1}é"]))), ["\"a\\\"\\n\\u0001é\""]);
        assert_eq!(written(Arc::new(BooleanArray::from(vec![true]))), ["true"]);
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
        assert_eq!(written(Arc::new(lists)), ["[1,null]", "null"]);
    }

    #[test]
    fn aggregates_are_written_as_postgres_does() {
        let texts = [Some("\u{1}[1]"), Some("null"), Some("\u{1}[2]")];
        assert_eq!(collected(JsonKind::Json, &texts).unwrap(), "[[1], null, \n [2]]");
        assert_eq!(collected(JsonKind::Jsonb, &texts).unwrap(), "[[1], null, [2]]");
        assert_eq!(collected(JsonKind::Json, &[Some("{\"a\":1}"), Some("2")]).unwrap(), "[{\"a\":1}, 2]");
    }

    #[test]
    fn keys_are_scalars() {
        let field = Field::new("v", DataType::Utf8, true);
        let columns: [ArrayRef; 2] =
            [Arc::new(StringArray::from(vec![Some("a"), None])), Arc::new(Int32Array::from(vec![1, 2]))];
        let fields = [Arc::new(field), Arc::new(Field::new("v", DataType::Int32, true))];
        let found = objects("json_build_object", JsonKind::Json, &columns, &fields, 1).unwrap();
        assert_eq!(found.as_string::<i32>().value(0), "{\"a\" : 1}");
        assert!(objects("json_build_object", JsonKind::Json, &columns, &fields, 2).is_err());
        let swapped = [Arc::clone(&columns[0])];
        assert!(objects("json_build_object", JsonKind::Json, &swapped, &fields[..1], 1).is_err());
        let marked = [JsonKind::Json.field("v"), Arc::clone(&fields[1])];
        let json: [ArrayRef; 2] = [Arc::new(StringArray::from(vec!["{}"])), Arc::new(Int32Array::from(vec![1]))];
        assert!(objects("json_build_object", JsonKind::Json, &json, &marked, 1).is_err());
    }
}
