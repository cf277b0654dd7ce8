//! What functions of one graph have in common.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int32Array, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF};
use neuroql_graph::Graph;
use neuroql_schema::sql_error;

use crate::function::{Kernel, function};
use crate::interrupt::Interrupt;
use crate::tokenize::SECTION;
use neuroql_schema::graph_column::{GraphColumn, accepts};

/// A graph that examples show: " the" after " of".
pub(crate) const EXAMPLE: &str = "graph_from_json('{\"version\": 1, \"nodes\": [{\"parent\": null, \"kind\": \"token\", \"id\": 265, \
\"token\": \" the\", \"importance\": 1, \"activation\": 1, \"ends\": null, \"support\": 1}, {\"parent\": 0, \"kind\": \"token\", \
\"id\": 287, \"token\": \" of\", \"importance\": 0.5, \"activation\": 0, \"ends\": 0.9, \"support\": 1}]}')";

/// A function of a graph and, where it has one, a title.
pub(crate) struct OfGraph {
    pub name: &'static str,
    pub description: &'static str,
    pub titled: bool,
    pub answer: Answer,
}

/// What is made of the graphs and titles of rows.
pub(crate) enum Answer {
    Text(fn(&Graph, Option<&str>) -> neuroql_graph::Result<String>),
    Number(fn(&Graph) -> i32),
}

impl OfGraph {
    pub fn udf(self) -> ScalarUDF {
        let syntax = format!("{}(graph{})", self.name, if self.titled { " [, title]" } else { "" });
        let mut documentation =
            Documentation::builder(SECTION, self.description, syntax).with_argument("graph", "A neuron graph");
        if self.titled {
            documentation = documentation.with_argument("title", "What is written above it");
        }
        let documentation = documentation.with_sql_example(format!("SELECT {}({EXAMPLE})", self.name)).build();
        function(self.name, documentation, self)
    }
}

impl Kernel for OfGraph {
    fn coerce(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        let graph = types.first().and_then(accepts)?;
        match types {
            [_] => Some(vec![graph]),
            [_, title] if self.titled && (title.is_string() || title.is_null()) => Some(vec![graph, DataType::Utf8]),
            _ => None,
        }
    }

    fn return_type(&self) -> DataType {
        match self.answer {
            Answer::Text(_) => DataType::Utf8,
            Answer::Number(_) => DataType::Int32,
        }
    }

    fn invoke(&self, args: ScalarFunctionArgs, interrupt: &Interrupt) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let graphs = GraphColumn::try_new(&arrays[0])?;
        let titles: Option<&StringArray> = arrays.get(1).map(|titles| titles.as_string());
        let rows = (0..graphs.len()).map(|row| -> Result<_> {
            interrupt.check()?;
            // NULL in, NULL out, for titles too.
            if titles.is_some_and(|titles| titles.is_null(row)) {
                return Ok(None);
            }
            let graph = graphs.graph(row).map_err(sql_error)?;
            Ok(graph.map(|graph| (graph, titles.map(|titles| titles.value(row)))))
        });
        let array: ArrayRef = match self.answer {
            Answer::Text(text) => {
                let texts =
                    rows.map(|row| row?.map(|(graph, title)| text(&graph, title)).transpose().map_err(sql_error));
                Arc::new(texts.collect::<Result<StringArray>>()?)
            }
            Answer::Number(number) => {
                let numbers = rows.map(|row| Ok(row?.map(|(graph, _)| number(&graph))));
                Arc::new(numbers.collect::<Result<Int32Array>>()?)
            }
        };
        Ok(ColumnarValue::Array(array))
    }
}
