//! Functions of one graph: `graph_text`, `graph_json`, `graph_dot`, `graph_mermaid`, `graph_components`, `graph_expand`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int32Array, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF};
use neuroql_graph::draw::{self, DrawOptions};
use neuroql_graph::formats::json;
use neuroql_graph::{Graph, component_count};
use neuroql_schema::sql_error;

use crate::function::{Kernel, function, is_text};
use crate::interrupt::Interrupt;
use crate::tokenize::SECTION;
use neuroql_schema::graph_column::{GraphBuilder, GraphColumn, accepts, graph_type};

/// A graph that examples show: " the" after " of".
pub(crate) const EXAMPLE: &str = "graph_from_json('{\"version\": 1, \"nodes\": [{\"parent\": null, \"kind\": \"token\", \"id\": 265, \
\"token\": \" the\", \"importance\": 1, \"activation\": 1, \"ends\": null, \"support\": 1}, {\"parent\": 0, \"kind\": \"token\", \
\"id\": 287, \"token\": \" of\", \"importance\": 0.5, \"activation\": 0, \"ends\": 0.9, \"support\": 1}]}')";

/// The patterns of a neuron graph, in lines.
pub(crate) fn graph_text_udf() -> ScalarUDF {
    let output = Output::Text(|graph, _| Ok(draw::text(graph, &DrawOptions::default())));
    let description = "The patterns of a neuron graph, those that predict the most first. Patterns that differ in one token \
                       only and predict about the same share a line, with the alternatives in its place.";
    UnaryGraphFunction { name: "graph_text", description, titled: false, output }.udf()
}

/// A neuron graph as JSON, which graph_from_json() reads.
pub(crate) fn graph_json_udf() -> ScalarUDF {
    let output = Output::Text(|graph, _| json::print(graph));
    let description = "A neuron graph as JSON, which graph_from_json() reads.";
    UnaryGraphFunction { name: "graph_json", description, titled: false, output }.udf()
}

/// A drawing of a neuron graph in Graphviz' language.
pub(crate) fn graph_dot_udf() -> ScalarUDF {
    let output = Output::Text(|graph, title| {
        Ok(draw::dot(graph, &DrawOptions { title: title.map(str::to_owned), ..DrawOptions::default() }))
    });
    let description = "A drawing of a neuron graph in Graphviz' language.";
    UnaryGraphFunction { name: "graph_dot", description, titled: true, output }.udf()
}

/// A drawing of a neuron graph in Mermaid's language.
pub(crate) fn graph_mermaid_udf() -> ScalarUDF {
    let output = Output::Text(|graph, title| {
        Ok(draw::mermaid(graph, &DrawOptions { title: title.map(str::to_owned), ..DrawOptions::default() }))
    });
    let description = "A drawing of a neuron graph in Mermaid's language.";
    UnaryGraphFunction { name: "graph_mermaid", description, titled: true, output }.udf()
}

/// Function `graph_components`: the number of parts of a graph that share no context token.
pub(crate) fn graph_components_udf() -> ScalarUDF {
    // A graph has fewer nodes than an int counts.
    let output = Output::Number(|graph| component_count(graph) as i32);
    let description = "How many parts a neuron graph has that share no context token: a neuron whose graph has several \
                       may stand for several things.";
    UnaryGraphFunction { name: "graph_components", description, titled: false, output }.udf()
}

/// Function `graph_expand`: the graph with a node for each token.
pub(crate) fn graph_expand_udf() -> ScalarUDF {
    let output = Output::Graph(|graph| graph.expanded().into_owned());
    let description = "The neuron graph in which each node has one token: nodes that match any of several tokens are \
                       repeated for each, with all nodes below them. It predicts the same.";
    UnaryGraphFunction { name: "graph_expand", description, titled: false, output }.udf()
}

/// A function of a graph and, where it has one, a title.
struct UnaryGraphFunction {
    name: &'static str,
    description: &'static str,
    titled: bool,
    output: Output,
}

/// The value of a row, from its graph and title.
enum Output {
    Text(fn(&Graph, Option<&str>) -> neuroql_graph::Result<String>),
    Number(fn(&Graph) -> i32),
    Graph(fn(&Graph) -> Graph),
}

impl UnaryGraphFunction {
    fn udf(self) -> ScalarUDF {
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

impl Kernel for UnaryGraphFunction {
    fn coerce(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        let graph = types.first().and_then(accepts)?;
        match types {
            [_] => Some(vec![graph]),
            [_, title] if self.titled && is_text(title) => Some(vec![graph, DataType::Utf8]),
            _ => None,
        }
    }

    fn return_type(&self) -> DataType {
        match self.output {
            Output::Text(_) => DataType::Utf8,
            Output::Number(_) => DataType::Int32,
            Output::Graph(_) => graph_type(),
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
        let array: ArrayRef = match self.output {
            Output::Text(text) => {
                let texts =
                    rows.map(|row| row?.map(|(graph, title)| text(&graph, title)).transpose().map_err(sql_error));
                Arc::new(texts.collect::<Result<StringArray>>()?)
            }
            Output::Number(number) => {
                let numbers = rows.map(|row| Ok(row?.map(|(graph, _)| number(&graph))));
                Arc::new(numbers.collect::<Result<Int32Array>>()?)
            }
            Output::Graph(make) => {
                let mut out = GraphBuilder::default();
                for row in rows {
                    out.append(row?.map(|(graph, _)| make(&graph)).as_ref()).map_err(sql_error)?;
                }
                Arc::new(out.finish()?)
            }
        };
        Ok(ColumnarValue::Array(array))
    }
}
