//! What functions of two graphs have in common.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, Float64Array, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF};
use neuroql_graph::Graph;

use super::layout::{GraphBuilder, GraphColumn, accepts, graph_error, graph_type};
use super::of_graph::EXAMPLE;
use crate::function::{Kernel, function};
use crate::tokenize::SECTION;

/// A function of two graphs. NULL if one of its arguments is NULL.
pub(crate) struct OfTwoGraphs {
    pub name: &'static str,
    pub description: &'static str,
    pub answer: Answer,
}

/// What is made of the graphs of a row.
pub(crate) enum Answer {
    /// A number from 0 to 1; the text is the third argument.
    Similarity(fn(&Graph, &Graph, Option<&str>) -> neuroql_graph::Result<Option<f64>>, Method),
    /// A graph.
    Graph(fn(&Graph, &Graph) -> neuroql_graph::Result<Graph>),
}

/// Whether there is a third argument, and what it says.
pub(crate) enum Method {
    None,
    Optional(&'static str),
}

impl OfTwoGraphs {
    fn method(&self) -> Option<&'static str> {
        match self.answer {
            Answer::Similarity(_, Method::Optional(method)) => Some(method),
            _ => None,
        }
    }

    pub fn udf(self) -> ScalarUDF {
        let syntax = format!("{}(a, b{})", self.name, if self.method().is_some() { " [, method]" } else { "" });
        let mut documentation = Documentation::builder(SECTION, self.description, syntax)
            .with_argument("a", "A neuron graph")
            .with_argument("b", "A neuron graph");
        if let Some(method) = self.method() {
            documentation = documentation.with_argument("method", method);
        }
        let documentation =
            documentation.with_sql_example(format!("SELECT {}({EXAMPLE}, {EXAMPLE})", self.name)).build();
        function(self.name, documentation, self)
    }
}

impl Kernel for OfTwoGraphs {
    fn coerce(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        let (graphs, rest) = types.split_at_checked(2)?;
        let mut coerced = graphs.iter().map(accepts).collect::<Option<Vec<_>>>()?;
        match rest {
            [] => {}
            [method] if self.method().is_some() && (method.is_string() || method.is_null()) => {
                coerced.push(DataType::Utf8);
            }
            _ => return None,
        }
        Some(coerced)
    }

    fn return_type(&self) -> DataType {
        match self.answer {
            Answer::Similarity(..) => DataType::Float64,
            Answer::Graph(_) => graph_type(),
        }
    }

    fn invoke(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let (mut a, mut b) = (Side::try_new(&args.args[0])?, Side::try_new(&args.args[1])?);
        let methods = args.args.get(2).map(|methods| cast(&methods.to_array(rows)?, &DataType::Utf8)).transpose()?;
        let methods: Option<&StringArray> = methods.as_ref().map(|methods| methods.as_string());
        match &self.answer {
            Answer::Similarity(similarity, _) => {
                let mut out = Float64Array::builder(rows);
                for row in 0..rows {
                    let method = methods.map(|methods| methods.is_valid(row).then(|| methods.value(row)));
                    out.append_option(match (a.get(row)?, b.get(row)?) {
                        (Some(a), Some(b)) if method != Some(None) => {
                            similarity(a, b, method.flatten()).map_err(graph_error)?
                        }
                        _ => None,
                    });
                }
                Ok(ColumnarValue::Array(Arc::new(out.finish())))
            }
            Answer::Graph(make) => {
                let mut out = GraphBuilder::default();
                for row in 0..rows {
                    let graph = match (a.get(row)?, b.get(row)?) {
                        (Some(a), Some(b)) => Some(make(a, b).map_err(graph_error)?),
                        _ => None,
                    };
                    out.append(graph.as_ref()).map_err(graph_error)?;
                }
                Ok(ColumnarValue::Array(Arc::new(out.finish()?)))
            }
        }
    }
}

/// An argument, and its graph that was decoded last: rows of a join repeat them.
struct Side {
    graphs: GraphColumn,
    scalar: bool,
    last: Option<(usize, Option<Graph>)>,
}

impl Side {
    fn try_new(argument: &ColumnarValue) -> Result<Self> {
        let scalar = matches!(argument, ColumnarValue::Scalar(_));
        Ok(Self { graphs: GraphColumn::try_new(&argument.to_array(1)?)?, scalar, last: None })
    }

    fn get(&mut self, row: usize) -> Result<Option<&Graph>> {
        let row = if self.scalar { 0 } else { row };
        if self.last.as_ref().is_none_or(|(last, _)| *last != row) {
            self.last = Some((row, self.graphs.graph(row).map_err(graph_error)?));
        }
        Ok(self.last.as_ref().and_then(|(_, graph)| graph.as_ref()))
    }
}
