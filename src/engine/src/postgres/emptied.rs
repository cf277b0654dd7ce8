//! `nullif` of arrays: a NULL that it makes has no elements, which functions such as `array_append` would go on with.
//! A text beside another value is of its type.

use std::sync::Arc;

use datafusion::arrow::array::{Array, UInt64Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::common_types::of_one_type;
use super::uuids;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Emptied {
    function: Arc<ScalarUDF>,
    signature: Signature,
}

impl Emptied {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function, signature: Signature::user_defined(Volatility::Immutable) })
    }
}

impl ScalarUDFImpl for Emptied {
    delegate!(name, aliases, return_type, documentation);

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match uuids::field_of_one_type(self.name(), &args) {
            Some(field) => Ok(field),
            None => self.function.return_field_from_args(args),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [_, _] => of_one_type(types, |types| match types {
                // A type that stands alone is that of both.
                [one] => Ok(vec![one.clone()]),
                _ => uuids::coerced(&self.function, types),
            }),
            _ => uuids::coerced(&self.function, types),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let found = self.function.invoke_with_args(args)?;
        let ColumnarValue::Array(array) = &found else { return Ok(found) };
        let (DataType::List(_), Some(nulls)) = (array.data_type(), array.nulls()) else { return Ok(found) };
        let places: UInt64Array = (0..array.len()).map(|row| nulls.is_valid(row).then_some(row as u64)).collect();
        Ok(ColumnarValue::Array(take(array, &places, None)?))
    }
}
