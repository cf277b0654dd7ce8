//! Graphs from other values: `graph_from_json(text)` and `graph_from_nodes(array)`.

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF};
use neuroql_graph::formats::json;
use neuroql_schema::sql_error;

use super::unary::EXAMPLE;
use crate::function::{Kernel, function, is_text};
use crate::interrupt::Interrupt;
use crate::tokenize::SECTION;
use neuroql_schema::graph_column::{GraphBuilder, GraphColumn, accepts, graph_type};

/// Function `graph_from_json`: the graph that a text in JSON describes.
pub(crate) fn graph_from_json_udf() -> ScalarUDF {
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
        matches!(types, [text] if is_text(text)).then(|| vec![DataType::Utf8])
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

/// Function `graph_from_nodes`: the graph of an array of nodes.
pub(crate) fn graph_from_nodes_udf() -> ScalarUDF {
    let description = "The neuron graph that an array of nodes is, in any order and with any of a node's fields: what is \
                       left out of importance, activation and support is 1. INSERT gives tokens without an id that of \
                       the model.";
    let documentation = Documentation::builder(SECTION, description, "graph_from_nodes(nodes)")
        .with_argument("nodes", "Structs with parent (the index of a node, or -1), token_id, token, ends and so on")
        .with_sql_example(
            "SELECT graph_from_nodes(ARRAY[named_struct('parent', -1, 'token', ' the', 'ends', NULL), \
             named_struct('parent', 0, 'token', ' of', 'ends', 0.9)])",
        )
        .build();
    function("graph_from_nodes", documentation, GraphFromNodes)
}

struct GraphFromNodes;

impl Kernel for GraphFromNodes {
    fn coerce(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        if let [nodes] = types { Some(vec![accepts(nodes)?]) } else { None }
    }

    fn return_type(&self) -> DataType {
        graph_type()
    }

    fn invoke(&self, args: ScalarFunctionArgs, _: &Interrupt) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let column = GraphColumn::try_new(&arrays[0])?;
        let mut out = GraphBuilder::default();
        for row in 0..column.len() {
            let graph = column.graph(row).map_err(sql_error)?;
            out.append(graph.as_ref()).map_err(sql_error)?;
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish()?)))
    }
}
