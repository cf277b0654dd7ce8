//! `encode`, whose base64 has padding and lines of 76 characters.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl};
use datafusion::scalar::ScalarValue;

use super::casts::arrow_cast;

/// The characters of a line, as RFC 2045 has them.
const LINE: usize = 76;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Encode {
    function: Arc<ScalarUDF>,
}

impl Encode {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function })
    }
}

impl ScalarUDFImpl for Encode {
    delegate!(name, aliases, signature, return_type, return_field_from_args, documentation);

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_base64 = match args.args.get(1) {
            Some(ColumnarValue::Scalar(name)) => {
                name.try_as_str().flatten().is_some_and(|name| name.eq_ignore_ascii_case("base64"))
            }
            _ => false,
        };
        if !is_base64 {
            return self.function.invoke_with_args(args);
        }
        args.args[1] = ColumnarValue::Scalar(ScalarValue::from("base64pad"));
        let rows = args.number_rows;
        let found = self.function.invoke_with_args(args)?;
        let data_type = found.data_type();
        let is_scalar = matches!(found, ColumnarValue::Scalar(_));
        let texts = arrow_cast(&found.into_array(if is_scalar { 1 } else { rows })?, &DataType::Utf8)?;
        let texts: ArrayRef =
            Arc::new(texts.as_string::<i32>().iter().map(|text| text.map(in_lines)).collect::<StringArray>());
        let texts = arrow_cast(&texts, &data_type)?;
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&texts, 0)?)
        } else {
            ColumnarValue::Array(texts)
        })
    }
}

fn in_lines(text: &str) -> String {
    let mut lines = String::with_capacity(text.len() + text.len() / LINE);
    for (place, letter) in text.chars().enumerate() {
        if place > 0 && place % LINE == 0 {
            lines.push('\n');
        }
        lines.push(letter);
    }
    lines
}
