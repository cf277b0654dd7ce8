//! `graph_from_json(text) → graph`

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use neuroql_graph::formats::json;

use super::layout::{GraphBuilder, graph_error, graph_type};
use super::of_graph::EXAMPLE;
use crate::tokenize::SECTION;

/// The neuron graph that a text in JSON is.
pub fn graph_from_json_udf() -> ScalarUDF {
    let signature = Signature::exact(vec![DataType::Utf8], Volatility::Immutable);
    let signature = Signature { parameter_names: Some(vec!["json".into()]), ..signature };
    let description = "The neuron graph that a text is, as graph_json() writes them. Tokens may lack an id: INSERT gives \
                       them those of the model.";
    let documentation = Documentation::builder(SECTION, description, "graph_from_json(json)")
        .with_argument("json", "An object with a version and nodes")
        .with_sql_example(format!("SELECT {EXAMPLE}"))
        .build();
    ScalarUDF::from(GraphFromJson { signature, documentation })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct GraphFromJson {
    signature: Signature,
    documentation: Documentation,
}

impl ScalarUDFImpl for GraphFromJson {
    fn name(&self) -> &str {
        "graph_from_json"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(graph_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let texts = ColumnarValue::values_to_arrays(&args.args)?;
        let mut out = GraphBuilder::default();
        for text in texts[0].as_string::<i32>() {
            let graph = text.map(json::parse).transpose().map_err(graph_error)?;
            out.append(graph.as_ref()).map_err(graph_error)?;
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish()?)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}
