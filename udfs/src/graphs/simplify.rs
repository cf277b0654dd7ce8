//! `graph_simplify(graph, nodes) → graph`

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF};
use neuroql_graph::Error;
use neuroql_graph::prune::by_support;
use neuroql_schema::graph_column::{GraphBuilder, GraphColumn, accepts, graph_type};
use neuroql_schema::sql_error;

use super::unary::EXAMPLE;
use crate::function::{Kernel, function};
use crate::interrupt::Interrupt;
use crate::tokenize::SECTION;

/// Function `graph_simplify`: the best-supported part of a graph.
pub(crate) fn graph_simplify_udf() -> ScalarUDF {
    let description = "The part of a neuron graph that has at most so many nodes and was learned from most: of its \
                       patterns those with the most support for each node and token that they add, then those whose last \
                       token matters most. Tokens after which the same follows are one node, which predicts their mean. \
                       build_graphs with max_nodes chooses by \
                       text, which is better.";
    let documentation = Documentation::builder(SECTION, description, "graph_simplify(graph, nodes)")
        .with_argument("graph", "A neuron graph")
        .with_argument("nodes", "The greatest number of nodes, 0 or more")
        .with_sql_example(format!("SELECT graph_text(graph_simplify({EXAMPLE}, 2))"))
        .build();
    function("graph_simplify", documentation, GraphSimplify)
}

struct GraphSimplify;

impl Kernel for GraphSimplify {
    fn coerce(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        match types {
            [graph, nodes] if nodes.is_integer() || nodes.is_null() => Some(vec![accepts(graph)?, DataType::Int64]),
            _ => None,
        }
    }

    fn return_type(&self) -> DataType {
        graph_type()
    }

    fn invoke(&self, args: ScalarFunctionArgs, interrupt: &Interrupt) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let graphs = GraphColumn::try_new(&arrays[0])?;
        let nodes = arrays[1].as_primitive::<Int64Type>();
        let mut out = GraphBuilder::default();
        for row in 0..graphs.len() {
            interrupt.check()?;
            let most = nodes.is_valid(row).then(|| nodes.value(row));
            let graph = graphs.graph(row).map_err(sql_error)?.zip(most);
            let simplified = graph.map(|(graph, most)| -> Result<_> {
                let negative =
                    || Error::OutOfRange { what: "the number of nodes", value: most.to_string(), allowed: "0 or more" };
                let most = usize::try_from(most).map_err(|_| sql_error(negative()))?;
                by_support(&graph, most).map_err(sql_error)
            });
            out.append(simplified.transpose()?.as_ref()).map_err(sql_error)?;
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish()?)))
    }
}
