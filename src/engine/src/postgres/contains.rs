//! `@>` and `<@` of arrays, where one of them or an element is NULL.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl};
use datafusion::scalar::ScalarValue;

/// `array_has_all`, as which they are planned: NULL if an array is, false if a NULL is to be contained, which is equal to
/// nothing.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ArrayContains {
    function: Arc<ScalarUDF>,
}

impl ArrayContains {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function })
    }
}

/// Returns true if this function is [`ArrayContains`].
pub(super) fn is_contains(function: &ScalarUDF) -> bool {
    function.inner().downcast_ref::<ArrayContains>().is_some()
}

impl ScalarUDFImpl for ArrayContains {
    delegate!(name, aliases, signature, return_type, coerce_types, documentation);

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let field = self.function.return_field_from_args(args)?;
        Ok(Arc::new(datafusion::arrow::datatypes::Field::clone(&field).with_nullable(true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|argument| argument.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let [all, some] = &arrays[..] else { return self.function.invoke_with_args(args) };
        let is_list = |array: &ArrayRef| matches!(array.data_type(), DataType::List(_) | DataType::Null);
        if !is_list(all) || !is_list(some) {
            return self.function.invoke_with_args(args);
        }
        let missing = |row: usize| all.is_null(row) || some.is_null(row) || *all.data_type() == DataType::Null;
        let has_null = |row: usize| some.as_list_opt::<i32>().is_some_and(|lists| lists.value(row).null_count() > 0);
        if *some.data_type() == DataType::Null || (0..rows).all(missing) {
            let nothing = ScalarValue::Boolean(None);
            return if is_scalar {
                Ok(nothing.into())
            } else {
                Ok(ColumnarValue::Array(nothing.to_array_of_size(rows)?))
            };
        }
        let found = self.function.invoke_with_args(args)?.into_array(rows)?;
        let found = found.as_boolean();
        let answer = |row: usize| match () {
            () if missing(row) => None,
            () if has_null(row) => Some(false),
            () => Some(found.is_valid(row) && found.value(row)),
        };
        let answers: ArrayRef = Arc::new((0..rows).map(answer).collect::<BooleanArray>());
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&answers, 0)?)
        } else {
            ColumnarValue::Array(answers)
        })
    }
}
