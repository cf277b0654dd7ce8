//! `graph_from_json(text) → graph`

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF};
use neuroql_graph::formats::json;
use neuroql_schema::sql_error;

use super::of_graph::EXAMPLE;
use crate::function::{Kernel, function};
use crate::interrupt::Interrupt;
use crate::tokenize::SECTION;
use neuroql_schema::graph_column::{GraphBuilder, graph_type};

/// The neuron graph that a text in JSON is.
pub fn graph_from_json_udf() -> ScalarUDF {
    let description = "The neuron graph that a text is, as graph_json() writes them. Tokens may lack an id: INSERT gives \
                       them those of the model.";
    let documentation = Documentation::builder(SECTION, description, "graph_from_json(json)")
        .with_argument("json", "An object with a version and nodes")
        .with_sql_example(format!("SELECT {EXAMPLE}"))
        .build();
    function("graph_from_json", documentation, GraphFromJson)
}

struct GraphFromJson;

impl Kernel for GraphFromJson {
    fn coerce(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        matches!(types, [text] if text.is_string() || text.is_null()).then(|| vec![DataType::Utf8])
    }

    fn return_type(&self) -> DataType {
        graph_type()
    }

    fn invoke(&self, args: ScalarFunctionArgs, _: &Interrupt) -> Result<ColumnarValue> {
        let texts = ColumnarValue::values_to_arrays(&args.args)?;
        let mut out = GraphBuilder::default();
        for text in texts[0].as_string::<i32>() {
            let graph = text.map(json::parse).transpose().map_err(sql_error)?;
            out.append(graph.as_ref()).map_err(sql_error)?;
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish()?)))
    }
}
