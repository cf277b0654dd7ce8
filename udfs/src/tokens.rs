//! `tokens(model, text) → text[]`

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, ListBuilder, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};
use neuroql_model::Registry;
use neuroql_schema::sql_error;

use crate::arguments::Models;
use crate::tokenize::{SECTION, text_signature};

/// The text of each token of a text, spaces included, without BOS.
pub(crate) fn tokens_udf(registry: Arc<Registry>) -> ScalarUDF {
    ScalarUDF::from(Tokens { models: Models(registry), signature: text_signature(), documentation: documentation() })
}

fn documentation() -> Documentation {
    Documentation::builder(SECTION, "The text of each token of a text, without BOS.", "tokens(model, text)")
        .with_argument("model", "Name of a registered model")
        .with_argument("text", "Any text")
        .with_sql_example("SELECT tokens('toy', 'import numpy as np')")
        .build()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Tokens {
    models: Models,
    signature: Signature,
    documentation: Documentation,
}

impl ScalarUDFImpl for Tokens {
    fn name(&self) -> &str {
        "tokens"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let mut lookup = self.models.lookup(&args.config_options);
        let mut out = ListBuilder::new(StringBuilder::new());
        for (model, text) in arrays[0].as_string::<i32>().iter().zip(arrays[1].as_string::<i32>()) {
            let (Some(model), Some(text)) = (model, text) else {
                out.append_null();
                continue;
            };
            let model = lookup(model)?;
            let texts = model.tokenizer().texts();
            for id in model.tokenizer().encode(text).map_err(sql_error)? {
                // A tokenizer may know more tokens than the embedding has rows for; those have no text here.
                out.values().append_option(texts.get(id as usize));
            }
            out.append(true);
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}
