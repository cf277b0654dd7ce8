//! `tokens(model, text) → text[]`

use std::sync::Arc;

use datafusion::arrow::array::{ListBuilder, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};
use neuroql_model::Registry;

use crate::arguments::Models;
use crate::interrupt::Interrupt;
use crate::tokenize::{SECTION, each_text, text_signature};

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

/// Bytes of a buffer that grows, for each byte in it.
const GROWTH: usize = 2;

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
        let held = Interrupt::of(&args.config_options).reservation("tokens");
        let mut out = ListBuilder::new(StringBuilder::new());
        each_text(&self.models, &args, |tokens| {
            let Some((model, ids)) = tokens else {
                out.append_null();
                return Ok(());
            };
            // A tokenizer may know more tokens than the embedding has rows for; those have no text here.
            let texts = model.tokenizer().texts();
            let texts = ids.iter().map(|id| texts.get(*id as usize));
            let bytes: usize = texts.clone().map(|text| size_of::<i32>() + text.map_or(0, String::len)).sum();
            held.try_grow(GROWTH * bytes)?;
            texts.for_each(|text| out.values().append_option(text));
            out.append(true);
            Ok(())
        })?;
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}
