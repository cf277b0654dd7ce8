//! The function that `ARRAY(SELECT …)` becomes, around the array of an aggregate.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, ListArray, new_empty_array};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{internal_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Name of the function.
pub const NAME: &str = "neuroql_array_of_rows";

/// Returns the function.
pub(super) fn function() -> ScalarUDF {
    ScalarUDF::from(ArrayOfRows { signature: Signature::any(1, Volatility::Immutable) })
}

/// An array that has no elements where an aggregate had no rows.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayOfRows {
    signature: Signature,
}

impl ScalarUDFImpl for ArrayOfRows {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the field of {NAME} is that of its argument")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields[0].data_type() {
            DataType::List(_) => Ok(Arc::clone(&args.arg_fields[0])),
            other => plan_err!("{NAME} of {other}"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let lists = args.args[0].to_array(args.number_rows)?;
        let lists = lists.as_list::<i32>();
        if lists.null_count() == 0 {
            return Ok(ColumnarValue::Array(Arc::new(lists.clone())));
        }
        let DataType::List(item) = lists.data_type() else { return internal_err!("{NAME} of {}", lists.data_type()) };
        let lengths = (0..lists.len()).map(|row| if lists.is_null(row) { 0 } else { lists.value(row).len() });
        let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
        let parts: Vec<_> = (0..lists.len()).filter(|row| lists.is_valid(*row)).map(|row| lists.value(row)).collect();
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        let values = match parts.as_slice() {
            [] => new_empty_array(item.data_type()),
            parts => datafusion::arrow::compute::concat(parts)?,
        };
        Ok(ColumnarValue::Array(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, None)?)))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{Field, Int32Type};
    use datafusion::common::config::ConfigOptions;

    use super::*;

    #[test]
    fn there_is_an_array_for_every_row() {
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
        let field = Arc::new(Field::new("a", lists.data_type().clone(), true));
        for (given, expected) in [
            (lists.clone(), vec![Some(vec![Some(1), None]), Some(vec![]), Some(vec![])]),
            (lists.slice(1, 1), vec![Some(vec![])]),
        ] {
            let number_rows = given.len();
            let args = ScalarFunctionArgs {
                args: vec![ColumnarValue::Array(Arc::new(given))],
                arg_fields: vec![Arc::clone(&field)],
                number_rows,
                return_field: Arc::clone(&field),
                config_options: Arc::new(ConfigOptions::default()),
            };
            let found = function().inner().invoke_with_args(args).unwrap().to_array(number_rows).unwrap();
            assert_eq!(*found.as_list::<i32>(), ListArray::from_iter_primitive::<Int32Type, _, _>(expected));
        }
    }
}
