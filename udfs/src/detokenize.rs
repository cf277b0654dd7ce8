//! `detokenize(model, int[]) → text`

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field, Int32Type};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use neuroql_model::Registry;
use neuroql_schema::sql_error;

use crate::Error;
use crate::arguments::Models;
use crate::tokenize::SECTION;

/// The text of a sequence of token ids.
pub(crate) fn detokenize_udf(registry: Arc<Registry>) -> ScalarUDF {
    let signature = Signature {
        parameter_names: Some(vec!["model".into(), "tokens".into()]),
        ..Signature::user_defined(Volatility::Stable)
    };
    ScalarUDF::from(Detokenize { models: Models(registry), signature, documentation: documentation() })
}

fn documentation() -> Documentation {
    Documentation::builder(SECTION, "The text of a sequence of token ids.", "detokenize(model, tokens)")
        .with_argument("model", "Name of a registered model")
        .with_argument("tokens", "Token ids; bytes that are not UTF-8 become U+FFFD")
        .with_sql_example("SELECT detokenize('toy', tokenize('toy', 'import numpy as np'))")
        .build()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Detokenize {
    models: Models,
    signature: Signature,
    documentation: Documentation,
}

impl ScalarUDFImpl for Detokenize {
    fn name(&self) -> &str {
        "detokenize"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Lists of any integers: literals are int8 lists, columns often int4.
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [_, DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)]
                if item.data_type().is_integer() || item.data_type().is_null() => {}
            [_, DataType::Null] => {}
            _ => return plan_err!("function detokenize(text, integer[]) does not take {types:?}"),
        }
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)));
        Ok(vec![DataType::Utf8, list])
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let mut lookup = self.models.lookup(&args.config_options);
        let mut out = StringBuilder::new();
        for (model, ids) in arrays[0].as_string::<i32>().iter().zip(arrays[1].as_list::<i32>().iter()) {
            let (Some(model), Some(ids)) = (model, ids) else {
                out.append_null();
                continue;
            };
            let ids = ids
                .as_primitive::<Int32Type>()
                .iter()
                .map(|id| {
                    let not_an_id = || Error::NotATokenId(id.map_or("NULL".into(), |id| id.to_string()));
                    id.and_then(|id| u32::try_from(id).ok()).ok_or_else(not_an_id)
                })
                .collect::<Result<Vec<u32>, _>>()?;
            out.append_value(lookup(model)?.tokenizer().decode(&ids).map_err(sql_error)?);
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}
