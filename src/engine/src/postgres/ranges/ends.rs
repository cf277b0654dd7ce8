//! `lower` and `upper`: a letter's case in a text, a bound of a range.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl};
use datafusion::scalar::ScalarValue;

use super::RangeType;
use super::columns::ends;
use super::value::Side;

/// The function of texts, and of ranges if its argument is one.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct EndFunction {
    function: Arc<ScalarUDF>,
}

impl EndFunction {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function })
    }
}

impl ScalarUDFImpl for EndFunction {
    delegate!(name, aliases, signature, return_type, documentation, is_strict);

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields.first().and_then(|field| RangeType::of(field)).filter(|kind| !kind.is_array) {
            Some(kind) => Ok(Arc::new(Field::new(self.name(), kind.element.data_type(), true))),
            None => self.function.return_field_from_args(args),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let kind = args.arg_fields.first().and_then(|field| RangeType::of(field));
        let is_text = |found: &DataType| found.is_string() || matches!(found, DataType::Dictionary(..));
        let (Some(kind), false) = (kind, is_text(args.return_field.data_type())) else {
            return self.function.invoke_with_args(args);
        };
        let side = if self.name() == "lower" { Side::Lower } else { Side::Upper };
        match &args.args[0] {
            ColumnarValue::Scalar(value) => {
                let found = ends(kind, &value.to_array()?, side)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?))
            }
            ColumnarValue::Array(values) => Ok(ColumnarValue::Array(ends(kind, values, side)?)),
        }
    }
}
