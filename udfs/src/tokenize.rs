//! `tokenize(model, text) → int[]`

use std::sync::Arc;

use datafusion::arrow::array::{Int32Builder, ListBuilder};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::logical_expr::DocSection;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use neuroql_model::{Model, Registry};
use neuroql_schema::sql_error;

use crate::arguments::{Models, rows, text};
use crate::interrupt;

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
        let mut out = ListBuilder::new(Int32Builder::new());
        each_text(&self.models, &args, |tokens| {
            match tokens {
                Some((_, ids)) => out.append_value(ids.into_iter().map(|id| Some(id as i32))),
                None => out.append_null(),
            }
            Ok(())
        })?;
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// Calls `take` with the model and the token ids of each row of a call of a model and a text; with none where one is NULL.
pub(crate) fn each_text(
    models: &Models,
    args: &ScalarFunctionArgs,
    mut take: impl FnMut(Option<(&Model, Vec<u32>)>) -> Result<()>,
) -> Result<()> {
    interrupt::run(&args.config_options, |interrupt| {
        let mut lookup = models.lookup(&args.config_options);
        let (held, cancel) = (interrupt.reservation("tokenize"), interrupt.flag());
        for row in 0..rows(args) {
            let (Some(model), Some(text)) = (text(&args.args[0], row), text(&args.args[1], row)) else {
                take(None)?;
                continue;
            };
            let model = lookup(model)?;
            held.try_resize(model.tokenizer().encoding_bytes(text).map_err(sql_error)?)?;
            let ids = model.tokenizer().encode_cancellable(text, &cancel).map_err(sql_error)?;
            take(Some((&*model, ids)))?;
        }
        Ok(())
    })
}
