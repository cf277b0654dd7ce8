//! Functions of two graphs.

use std::sync::Arc;

use datafusion::arrow::array::Float64Array;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF};
use neuroql_graph::Graph;
use neuroql_schema::sql_error;

use super::of_graph::EXAMPLE;
use crate::function::{Kernel, function};
use crate::interrupt::Interrupt;
use crate::tokenize::SECTION;
use neuroql_schema::graph_column::{GraphBuilder, GraphColumn, accepts, graph_type};

/// A function of two graphs. NULL if one of its arguments is NULL.
pub(crate) struct OfTwoGraphs {
    pub name: &'static str,
    pub description: &'static str,
    pub answer: Answer,
}

/// The result for the graphs of a row.
pub(crate) enum Answer {
    /// A number, or NULL.
    Number(fn(&Graph, &Graph) -> neuroql_graph::Result<Option<f64>>),
    /// A graph.
    Graph(fn(&Graph, &Graph) -> neuroql_graph::Result<Graph>),
}

impl OfTwoGraphs {
    pub fn udf(self) -> ScalarUDF {
        let documentation = Documentation::builder(SECTION, self.description, format!("{}(a, b)", self.name))
            .with_argument("a", "A neuron graph")
            .with_argument("b", "A neuron graph")
            .with_sql_example(format!("SELECT {}({EXAMPLE}, {EXAMPLE})", self.name));
        function(self.name, documentation.build(), self)
    }
}

impl Kernel for OfTwoGraphs {
    fn coerce(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        let [a, b] = types else { return None };
        Some(vec![accepts(a)?, accepts(b)?])
    }

    fn return_type(&self) -> DataType {
        match self.answer {
            Answer::Number(_) => DataType::Float64,
            Answer::Graph(_) => graph_type(),
        }
    }

    fn invoke(&self, args: ScalarFunctionArgs, interrupt: &Interrupt) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let (mut a, mut b) = (Side::try_new(&args.args[0])?, Side::try_new(&args.args[1])?);
        match &self.answer {
            Answer::Number(number) => {
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
            Answer::Graph(make) => {
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
pub(crate) struct Side {
    graphs: GraphColumn,
    scalar: bool,
    last: Option<(usize, Option<Graph>)>,
}

impl Side {
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
