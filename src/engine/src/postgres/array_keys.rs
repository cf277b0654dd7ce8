//! Arrays as keys of an order: bytes that are in the order in which Postgres has the arrays.
//!
//! DataFusion sorts arrays with NULL as the greatest element, but filters what may be among the first rows, and compares the
//! first values of groups, as if NULL were the least, or not at all where an array is within another.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BinaryArray};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    SortExpr, Volatility,
};
use datafusion::scalar::ScalarValue;

/// Makes bytes of the keys of an order that are arrays; returns true if some are.
pub(super) fn order_by_bytes(keys: &mut [SortExpr], schema: &DFSchema) -> bool {
    let mut changed = false;
    for key in keys {
        changed |= as_bytes(&mut key.expr, schema);
    }
    changed
}

/// Makes bytes of a key if it is an array.
pub(super) fn as_bytes(key: &mut Expr, schema: &DFSchema) -> bool {
    let is_array = matches!(key.get_type(schema), Ok(DataType::List(_)));
    if is_array {
        let function = ArrayKey { signature: Signature::any(1, Volatility::Immutable) };
        *key = ScalarUDF::from(function).call(vec![std::mem::take(key)]);
    }
    is_array
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayKey {
    signature: Signature,
}

impl ScalarUDFImpl for ArrayKey {
    fn name(&self) -> &str {
        "pg_array_key"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Binary, args.arg_fields[0].is_nullable())))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[0] {
            ColumnarValue::Array(arrays) => Ok(ColumnarValue::Array(keys(arrays)?)),
            ColumnarValue::Scalar(array) => {
                let key = keys(&array.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&key, 0)?))
            }
        }
    }
}

/// Returns the key of each array. Keys of arrays of one type may be compared, whatever column they are from.
fn keys(arrays: &ArrayRef) -> Result<ArrayRef> {
    let last = SortOptions { descending: false, nulls_first: false };
    let converter = RowConverter::new(vec![SortField::new_with_options(arrays.data_type().clone(), last)])?;
    let rows = converter.convert_columns(&[Arc::clone(arrays)])?;
    let nulls = arrays.logical_nulls();
    let keys = rows.iter().enumerate().map(|(row, key)| {
        let is_null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        (!is_null).then(|| key.as_ref().to_vec())
    });
    Ok(Arc::new(keys.collect::<BinaryArray>()))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, ListArray};
    use datafusion::arrow::buffer::OffsetBuffer;
    use datafusion::arrow::datatypes::Int32Type;

    use super::*;

    fn key_of(arrays: ListArray, row: usize) -> Vec<u8> {
        keys(&(Arc::new(arrays) as ArrayRef)).unwrap().as_binary::<i32>().value(row).to_vec()
    }

    /// Arrays in the order in which PostgreSQL 15 has them.
    #[test]
    fn keys_are_in_the_order_of_arrays() {
        let arrays = [
            vec![],
            vec![Some(-1)],
            vec![Some(1)],
            vec![Some(1), Some(1)],
            vec![Some(1), None],
            vec![Some(2)],
            vec![None],
            vec![None, Some(0)],
            vec![None, None],
        ];
        let list = |array: &Vec<Option<i32>>| ListArray::from_iter_primitive::<Int32Type, _, _>([Some(array.clone())]);
        let nested = |array: &Vec<Option<i32>>| {
            let inner: ArrayRef = Arc::new(list(array));
            let item = Arc::new(Field::new_list_field(inner.data_type().clone(), true));
            ListArray::new(item, OffsetBuffer::from_lengths([1]), inner, None)
        };
        for pair in arrays.windows(2) {
            assert!(key_of(list(&pair[0]), 0) < key_of(list(&pair[1]), 0), "{pair:?}");
            assert!(key_of(nested(&pair[0]), 0) < key_of(nested(&pair[1]), 0), "{pair:?}");
        }
        let none: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, Vec<_>, _>([None]));
        assert_eq!(keys(&none).unwrap().null_count(), 1);
    }
}
