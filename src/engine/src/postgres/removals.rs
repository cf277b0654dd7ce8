//! `array_remove`, which removes NULLs if they are asked for.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::filter;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl};
use datafusion::scalar::ScalarValue;

/// A function that removes all elements of a value, of which NULL is none to DataFusion.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ArrayRemove {
    function: Arc<ScalarUDF>,
    aliases: Vec<String>,
}

impl ArrayRemove {
    /// Returns `array_remove_all` in the place of `array_remove`.
    pub(super) fn of(function: Arc<ScalarUDF>, instead_of: &ScalarUDF) -> ScalarUDF {
        ScalarUDF::from(Self { function, aliases: instead_of.aliases().to_vec() })
    }
}

impl ScalarUDFImpl for ArrayRemove {
    delegate!(signature, return_type, coerce_types, documentation);

    fn name(&self) -> &str {
        "array_remove"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let field = self.function.return_field_from_args(args)?;
        Ok(Arc::new(Field::clone(&field).with_nullable(true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let (lists, removed) = (args.args[0].to_array(rows)?, args.args[1].to_array(rows)?);
        let Some(lists) = lists.as_list_opt::<i32>() else { return self.function.invoke_with_args(args) };
        let is_none = |row: usize| *removed.data_type() == DataType::Null || removed.is_null(row);
        if !(0..rows).any(|row| is_none(row) && lists.is_valid(row)) {
            return self.function.invoke_with_args(args);
        }
        let others = self.function.invoke_with_args(args)?.into_array(rows)?;
        let others = others.as_list_opt::<i32>();
        let mut kept = Vec::with_capacity(rows);
        for row in 0..rows {
            kept.push(match others {
                _ if lists.is_null(row) => None,
                _ if is_none(row) => {
                    let list = lists.value(row);
                    let valid: BooleanArray = (0..list.len()).map(|place| Some(list.is_valid(place))).collect();
                    Some(filter(&list, &valid)?)
                }
                Some(others) => Some(others.value(row)),
                None => None,
            });
        }
        let found = assembled(lists, &kept)?;
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)
        } else {
            ColumnarValue::Array(found)
        })
    }
}

/// Removes NULLs from lists; a list that is NULL becomes an empty one.
pub(super) fn without_nulls(lists: &ListArray) -> Result<ArrayRef> {
    let kept = (0..lists.len()).map(|row| {
        let list = lists.value(row);
        let valid: BooleanArray =
            (0..list.len()).map(|place| Some(list.is_valid(place) && lists.is_valid(row))).collect();
        Ok(Some(filter(&list, &valid)?))
    });
    assembled(lists, &kept.collect::<Result<Vec<_>>>()?)
}

/// Makes a column of these lists, of the type that `like` has.
fn assembled(like: &ListArray, lists: &[Option<ArrayRef>]) -> Result<ArrayRef> {
    let DataType::List(item) = like.data_type() else { return Ok(Arc::new(like.clone())) };
    let parts: Vec<&dyn Array> = lists.iter().flatten().map(AsRef::as_ref).collect();
    let values = match parts.is_empty() {
        true => datafusion::arrow::array::new_empty_array(item.data_type()),
        false => datafusion::arrow::compute::concat(&parts)?,
    };
    let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.as_ref().map_or(0, |list| list.len())));
    let nulls = lists.iter().map(Option::is_some).collect::<Vec<_>>().into();
    Ok(Arc::new(ListArray::new(Arc::clone(item), offsets, values, Some(nulls))))
}
