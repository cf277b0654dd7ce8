//! `gcd` and `lcm` of integers, which are `integer` if both numbers are no wider.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::casts::arrow_cast;
use super::functions::nullable_field;
use super::refusal::out_of_range;

/// A function of two integers that DataFusion computes in `bigint`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct IntegerFunction {
    function: Arc<ScalarUDF>,
    signature: Signature,
}

impl IntegerFunction {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function, signature: Signature::user_defined(Volatility::Immutable) })
    }
}

impl ScalarUDFImpl for IntegerFunction {
    delegate!(name, aliases, documentation, is_strict);

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let is_narrow = |it: &DataType| matches!(it, DataType::Int16 | DataType::Int32 | DataType::Null);
        if arguments.len() == 2 && arguments.iter().all(is_narrow) {
            return Ok(vec![DataType::Int32; 2]);
        }
        self.function.coerce_types(arguments)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::Int32, DataType::Int32] => Ok(DataType::Int32),
            _ => self.function.return_type(arguments),
        }
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if *args.return_field.data_type() != DataType::Int32 {
            return self.function.invoke_with_args(args);
        }
        let rows = args.number_rows;
        let wide = |value: &ColumnarValue| value.cast_to(&DataType::Int64, None);
        args.args = args.args.iter().map(wide).collect::<Result<_>>()?;
        let as_wide = |field: &FieldRef| Arc::new(Field::clone(field).with_data_type(DataType::Int64));
        args.arg_fields = args.arg_fields.iter().map(as_wide).collect();
        args.return_field = as_wide(&args.return_field);
        let found = self.function.invoke_with_args(args)?;
        let narrow = |array| arrow_cast(array, &DataType::Int32).map_err(|_| out_of_range(&DataType::Int32));
        Ok(match found {
            ColumnarValue::Scalar(scalar) => {
                let array = narrow(&scalar.to_array_of_size(1)?)?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
            }
            ColumnarValue::Array(_) => ColumnarValue::Array(narrow(&found.into_array(rows)?)?),
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        nullable_field(self, &args)
    }
}
