//! `array_fill` and `trim_array`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, MutableArrayData, make_array};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int32Type};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::casts::arrow_cast;
use super::refusal::{refusal, type_name};

/// The greatest number of elements of an array of Postgres.
const LONGEST: usize = 134_217_727;

/// Returns the functions.
pub(super) fn functions() -> Vec<ScalarUDF> {
    let of = |is_trim: bool| {
        ScalarUDF::from(ArrayFunction { is_trim, signature: Signature::user_defined(Volatility::Immutable) })
    };
    vec![of(false), of(true)]
}

/// `array_fill(value, lengths)` or `trim_array(array, count)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayFunction {
    is_trim: bool,
    signature: Signature,
}

impl ArrayFunction {
    /// Returns the types that arguments are cast to.
    fn types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let is_integer = |it: &DataType| it.is_integer() || it.is_null();
        match given {
            [list @ DataType::List(_), count] if self.is_trim && is_integer(count) => {
                Ok(vec![list.clone(), DataType::Int32])
            }
            [DataType::Null, _] | [_, DataType::Null] if self.is_trim => Ok(given.to_vec()),
            [DataType::List(_), _, ..] if !self.is_trim => {
                Err(refusal("0A000", "array_fill with an array as its value is not supported"))
            }
            [_, _, _] if !self.is_trim => {
                Err(refusal("0A000", "array_fill with lower bounds is not supported: arrays begin at 1"))
            }
            [value, DataType::Null] if !self.is_trim => {
                Ok(vec![value.clone(), DataType::new_list(DataType::Int32, true)])
            }
            [value, DataType::List(item)] if !self.is_trim && is_integer(item.data_type()) => {
                let value = if value.is_null() { DataType::Utf8 } else { value.clone() };
                Ok(vec![value, DataType::new_list(DataType::Int32, true)])
            }
            _ => {
                let types = given.iter().map(type_name).collect::<Vec<_>>().join(", ");
                Err(refusal("42883", format!("function {}({types}) does not exist", self.name())))
            }
        }
    }
}

impl ScalarUDFImpl for ArrayFunction {
    fn name(&self) -> &str {
        if self.is_trim { "trim_array" } else { "array_fill" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        // The planner would wrap an error of this method; that of the result's type goes as it is.
        Ok(self.types(given).unwrap_or_else(|_| given.to_vec()))
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match self.types(arguments)?.into_iter().next() {
            Some(list) if self.is_trim => Ok(list),
            Some(value) => Ok(DataType::new_list(value, true)),
            None => exec_err!("{} takes two arguments", self.name()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, true)))
    }

    fn is_strict(&self) -> bool {
        self.is_trim
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // The optimizer asks what becomes of NULL, which has no type then.
        if self.is_trim && args.args.iter().any(|value| value.data_type().is_null()) {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(args.return_field.data_type())?));
        }
        let is_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let [first, second] = &args.args[..] else { return exec_err!("{} takes two arguments", self.name()) };
        let (first, second) = (first.to_array(rows)?, second.to_array(rows)?);
        let found = if self.is_trim { trimmed(&first, &second)? } else { filled(&first, &second)? };
        let found: ArrayRef = arrow_cast(&found, args.return_field.data_type())?;
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?),
            false => ColumnarValue::Array(found),
        })
    }
}

/// Returns arrays without some of their last elements.
fn trimmed(lists: &ArrayRef, counts: &ArrayRef) -> Result<ArrayRef> {
    let (lists, counts) = (lists.as_list::<i32>(), counts.as_primitive::<Int32Type>());
    let values = lists.values().to_data();
    let mut kept = MutableArrayData::new(vec![&values], false, values.len());
    let (mut lengths, mut valid) = (Vec::with_capacity(lists.len()), Vec::with_capacity(lists.len()));
    for row in 0..lists.len() {
        let is_valid = lists.is_valid(row) && counts.is_valid(row);
        valid.push(is_valid);
        if !is_valid {
            lengths.push(0);
            continue;
        }
        let (first, end) = (lists.value_offsets()[row] as usize, lists.value_offsets()[row + 1] as usize);
        let last = usize::try_from(counts.value(row)).ok().and_then(|count| end.checked_sub(count));
        let Some(last) = last.filter(|last| *last >= first) else {
            let message = format!("number of elements to trim must be between 0 and {}", end - first);
            return Err(refusal("2202E", message));
        };
        kept.try_extend(0, first, last)?;
        lengths.push(last - first);
    }
    let DataType::List(field) = lists.data_type() else { return exec_err!("{} is not an array", lists.data_type()) };
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, make_array(kept.freeze()), Some(valid.into()))?))
}

/// Returns arrays of a value again and again.
fn filled(values: &ArrayRef, lists: &ArrayRef) -> Result<ArrayRef> {
    let lists = lists.as_list::<i32>();
    let data = values.to_data();
    let mut made = MutableArrayData::new(vec![&data], true, values.len());
    let mut lengths = Vec::with_capacity(values.len());
    for row in 0..values.len() {
        if lists.is_null(row) {
            return Err(refusal("22004", "dimension array or low bound array cannot be null"));
        }
        let length = match lists.value(row).as_primitive::<Int32Type>() {
            dimensions if dimensions.null_count() > 0 => {
                return Err(refusal("22004", "dimension values cannot be null"));
            }
            dimensions if dimensions.is_empty() => 0,
            dimensions if dimensions.len() == 1 => dimensions.value(0),
            _ => {
                let message = "array_fill with more than one dimension is not supported";
                return Err(refusal("0A000", message));
            }
        };
        let length = match usize::try_from(length) {
            Ok(length) if length <= LONGEST => length,
            _ => return Err(refusal("54000", format!("array size exceeds the maximum allowed ({LONGEST})"))),
        };
        for _ in 0..length {
            made.try_extend(0, row, row + 1)?;
        }
        lengths.push(length);
    }
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let lists = ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), make_array(made.freeze()), None)?;
    Ok(Arc::new(lists))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int32Array, StringArray};

    use super::*;

    fn lists(lists: Vec<Option<Vec<Option<i32>>>>) -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))
    }

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn arrays_are_trimmed() {
        let given = lists(vec![Some(vec![Some(1), None, Some(3)]), None, Some(vec![]), Some(vec![Some(4)])]);
        let counts: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(1), Some(0), None]));
        let found = trimmed(&given, &counts).unwrap();
        assert_eq!(&found, &lists(vec![Some(vec![Some(1), None]), None, Some(vec![]), None]));
        for count in [2, -1] {
            let counts: ArrayRef = Arc::new(Int32Array::from(vec![count]));
            assert!(trimmed(&lists(vec![Some(vec![Some(1)])]), &counts).is_err());
        }
    }

    #[test]
    fn arrays_are_filled() {
        let values: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("b")]));
        let lengths = lists(vec![Some(vec![Some(2)]), Some(vec![Some(1)]), Some(vec![])]);
        let found = filled(&values, &lengths).unwrap();
        let found = found.as_list::<i32>();
        assert_eq!(found.value_length(0), 2);
        assert_eq!(found.value(0).as_string::<i32>().value(1), "a");
        assert!(found.value(1).is_null(0) && found.value(2).is_empty() && found.is_valid(2));
        let one: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        for wrong in [vec![Some(-1)], vec![None], vec![Some(2), Some(2)], vec![Some(200_000_000)]] {
            assert!(filled(&one, &lists(vec![Some(wrong)])).is_err());
        }
        assert!(filled(&one, &lists(vec![None])).is_err());
    }
}
