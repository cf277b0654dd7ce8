//! `tokenize(model, text) → int[]`

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, Int32Builder, ListBuilder};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::logical_expr::DocSection;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use neuroql_model::Registry;
use neuroql_schema::sql_error;

use crate::arguments::Models;

/// Token ids of a text, without BOS.
pub(crate) fn tokenize_udf(registry: Arc<Registry>) -> ScalarUDF {
    ScalarUDF::from(Tokenize { models: Models(registry), signature: text_signature(), documentation: documentation() })
}

/// `(model text, text text)`, with these names.
pub(crate) fn text_signature() -> Signature {
    let signature = Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Stable);
    Signature { parameter_names: Some(vec!["model".into(), "text".into()]), ..signature }
}

/// The section of documentation that this crate's functions are listed in.
pub const SECTION: DocSection = DocSection { include: true, label: "Neuron Functions", description: None };

fn documentation() -> Documentation {
    Documentation::builder(SECTION, "Token ids of a text, without BOS.", "tokenize(model, text)")
        .with_argument("model", "Name of a registered model")
        .with_argument("text", "Any text; the text of a special token is that token")
        .with_sql_example("SELECT tokenize('toy', 'import numpy as np')")
        .build()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Tokenize {
    models: Models,
    signature: Signature,
    documentation: Documentation,
}

impl ScalarUDFImpl for Tokenize {
    fn name(&self) -> &str {
        "tokenize"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let mut lookup = self.models.lookup(&args.config_options);
        let mut out = ListBuilder::new(Int32Builder::new());
        for (model, text) in arrays[0].as_string::<i32>().iter().zip(arrays[1].as_string::<i32>()) {
            let (Some(model), Some(text)) = (model, text) else {
                out.append_null();
                continue;
            };
            let ids = lookup(model)?.tokenizer().encode(text).map_err(sql_error)?;
            out.append_value(ids.into_iter().map(|id| Some(id as i32)));
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}
