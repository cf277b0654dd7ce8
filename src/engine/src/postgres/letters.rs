//! `upper`, `lower` and `initcap`, of which every letter stays one letter.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl};
use datafusion::scalar::ScalarValue;

use super::casts::arrow_cast;

/// A function that DataFusion computes with Unicode's full mappings, by which `ß` has two capitals.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct CaseFunction {
    function: Arc<ScalarUDF>,
}

impl CaseFunction {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function })
    }

    fn changed(&self, text: &str) -> String {
        match self.name() {
            "upper" => text.chars().map(upper).collect(),
            "lower" => text.chars().map(lower).collect(),
            _ => {
                let mut within = false;
                let letters = text.chars().map(|letter| {
                    let first = !within;
                    within = letter.is_alphanumeric();
                    if first { upper(letter) } else { lower(letter) }
                });
                letters.collect()
            }
        }
    }
}

fn upper(letter: char) -> char {
    let mut capitals = letter.to_uppercase();
    match (capitals.next(), capitals.next()) {
        (Some(capital), None) => capital,
        _ => letter,
    }
}

fn lower(letter: char) -> char {
    // The first is the letter, what follows a sign above it.
    letter.to_lowercase().next().unwrap_or(letter)
}

impl ScalarUDFImpl for CaseFunction {
    delegate!(name, aliases, signature, return_type, return_field_from_args, documentation, is_strict);

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let texts = args.args[0].to_array(if is_scalar { 1 } else { args.number_rows })?;
        let is_plain = match texts.data_type() {
            DataType::Utf8 => texts.as_string::<i32>().is_ascii(),
            DataType::LargeUtf8 => texts.as_string::<i64>().is_ascii(),
            DataType::Utf8View => texts.as_string_view().is_ascii(),
            _ => true,
        };
        if is_plain {
            return self.function.invoke_with_args(args);
        }
        let texts = arrow_cast(&texts, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>().iter().map(|text| text.map(|text| self.changed(text)));
        let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
        let texts = arrow_cast(&texts, args.return_field.data_type())?;
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&texts, 0)?)
        } else {
            ColumnarValue::Array(texts)
        })
    }
}
