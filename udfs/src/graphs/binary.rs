//! Functions of two graphs: `graph_contains`, `graph_union`, `graph_intersection`, `graph_difference`.

use std::sync::Arc;

use datafusion::arrow::array::Float64Array;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF};
use neuroql_graph::{Graph, Similarity, similarity};
use neuroql_schema::sql_error;

use super::unary::EXAMPLE;
use crate::function::{Kernel, function};
use crate::interrupt::Interrupt;
use crate::tokenize::SECTION;
use neuroql_schema::graph_column::{GraphBuilder, GraphColumn, accepts, graph_type};

/// Function `graph_contains`: the share of one graph's patterns that another has.
pub(crate) fn graph_contains_udf() -> ScalarUDF {
    let description = "Share of b's patterns, by weight, that a has too: 1 if a contains b; NULL if b has none. \
                       graph_similarity(b, a, 'containment') is the same.";
    let output = Output::Number(|a, b| similarity(b, a, Similarity::Containment));
    BinaryGraphFunction { name: "graph_contains", description, output }.udf()
}

/// The patterns of two neuron graphs.
pub(crate) fn graph_union_udf() -> ScalarUDF {
    let description = "The neuron graph of all patterns that one of two graphs has.";
    BinaryGraphFunction { name: "graph_union", description, output: Output::Graph(Graph::union) }.udf()
}

/// The patterns that two neuron graphs have in common.
pub(crate) fn graph_intersection_udf() -> ScalarUDF {
    let description = "The neuron graph of the patterns that both of two graphs have.";
    BinaryGraphFunction { name: "graph_intersection", description, output: Output::Graph(Graph::intersection) }.udf()
}

/// The patterns of one neuron graph that another lacks.
pub(crate) fn graph_difference_udf() -> ScalarUDF {
    let description = "The neuron graph of the patterns of a that b does not have.";
    BinaryGraphFunction { name: "graph_difference", description, output: Output::Graph(Graph::difference) }.udf()
}

/// A function of two graphs. NULL if one of its arguments is NULL.
struct BinaryGraphFunction {
    name: &'static str,
    description: &'static str,
    output: Output,
}

/// The result for the graphs of a row.
enum Output {
    /// A number, or NULL.
    Number(fn(&Graph, &Graph) -> neuroql_graph::Result<Option<f64>>),
    /// A graph.
    Graph(fn(&Graph, &Graph) -> neuroql_graph::Result<Graph>),
}

impl BinaryGraphFunction {
    fn udf(self) -> ScalarUDF {
        let documentation = Documentation::builder(SECTION, self.description, format!("{}(a, b)", self.name))
            .with_argument("a", "A neuron graph")
            .with_argument("b", "A neuron graph")
            .with_sql_example(format!("SELECT {}({EXAMPLE}, {EXAMPLE})", self.name));
        function(self.name, documentation.build(), self)
    }
}

impl Kernel for BinaryGraphFunction {
    fn coerce(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        let [a, b] = types else { return None };
        Some(vec![accepts(a)?, accepts(b)?])
    }

    fn return_type(&self) -> DataType {
        match self.output {
            Output::Number(_) => DataType::Float64,
            Output::Graph(_) => graph_type(),
        }
    }

    fn invoke(&self, args: ScalarFunctionArgs, interrupt: &Interrupt) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let (mut a, mut b) = (GraphArgument::try_new(&args.args[0])?, GraphArgument::try_new(&args.args[1])?);
        match &self.output {
            Output::Number(number) => {
                let mut out = Float64Array::builder(rows);
                for row in 0..rows {
                    interrupt.check()?;
                    out.append_option(match (a.get(row)?, b.get(row)?) {
                        (Some(a), Some(b)) => number(a, b).map_err(sql_error)?,
                        _ => None,
                    });
                }
                Ok(ColumnarValue::Array(Arc::new(out.finish())))
            }
            Output::Graph(make) => {
                let mut out = GraphBuilder::default();
                for row in 0..rows {
                    interrupt.check()?;
                    let graph = match (a.get(row)?, b.get(row)?) {
                        (Some(a), Some(b)) => Some(make(a, b).map_err(sql_error)?),
                        _ => None,
                    };
                    out.append(graph.as_ref()).map_err(sql_error)?;
                }
                Ok(ColumnarValue::Array(Arc::new(out.finish()?)))
            }
        }
    }
}

/// An argument, and its graph that was decoded last: rows of a join repeat them.
pub(crate) struct GraphArgument {
    graphs: GraphColumn,
    scalar: bool,
    last: Option<(usize, Option<Graph>)>,
}

impl GraphArgument {
    pub fn try_new(argument: &ColumnarValue) -> Result<Self> {
        let scalar = matches!(argument, ColumnarValue::Scalar(_));
        Ok(Self { graphs: GraphColumn::try_new(&argument.to_array(1)?)?, scalar, last: None })
    }

    pub fn get(&mut self, row: usize) -> Result<Option<&Graph>> {
        let row = if self.scalar { 0 } else { row };
        if self.last.as_ref().is_none_or(|(last, _)| *last != row) {
            self.last = Some((row, self.graphs.graph(row).map_err(sql_error)?));
        }
        Ok(self.last.as_ref().and_then(|(_, graph)| graph.as_ref()))
    }
}
