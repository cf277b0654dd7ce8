//! `chr`, `lpad` and `rpad` for numbers that DataFusion takes otherwise, or panics at.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl};
use datafusion::scalar::ScalarValue;

use super::casts::arrow_cast;
use super::refusal::refusal;

/// A function of a number: the code of a character, or a length.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct CharacterFunction {
    function: Arc<ScalarUDF>,
}

impl CharacterFunction {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function })
    }
}

impl ScalarUDFImpl for CharacterFunction {
    delegate!(name, aliases, signature, return_type, return_field_from_args, documentation, is_strict);

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_code = self.name() == "chr";
        let place = if is_code { 0 } else { 1 };
        let Some(number) = args.args.get(place) else { return self.function.invoke_with_args(args) };
        let is_scalar = matches!(number, ColumnarValue::Scalar(_));
        let numbers = arrow_cast(&number.to_array(if is_scalar { 1 } else { args.number_rows })?, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        if is_code {
            if numbers.iter().flatten().any(|code| code == 0) {
                return Err(refusal("54000", "null character not permitted"));
            }
            return self.function.invoke_with_args(args);
        }
        // A negative length is that of the empty text. What stands for NULL may be any number.
        let lengths: ArrayRef = Arc::new(
            numbers
                .iter()
                .map(|length| length.map(|length| length.max(0)))
                .collect::<datafusion::arrow::array::Int64Array>(),
        );
        args.args[place] = if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&lengths, 0)?)
        } else {
            ColumnarValue::Array(lengths)
        };
        self.function.invoke_with_args(args)
    }
}
