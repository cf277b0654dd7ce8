//! `graph_embedding(graph [, dimensions]) → real[]`

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, Float32Builder, ListBuilder};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF};
use neuroql_graph::{DIMENSIONS, Error, embedding};
use neuroql_schema::graph_column::{GraphColumn, accepts};
use neuroql_schema::sql_error;

use super::unary::EXAMPLE;
use crate::function::{Kernel, function};
use crate::interrupt::Interrupt;
use crate::tokenize::SECTION;

/// Function `graph_embedding`: a vector whose cosine with others follows the similarity of the graphs.
pub(crate) fn graph_embedding_udf() -> ScalarUDF {
    let description = "A vector of length 1 for a neuron graph, for clusters and maps: the cosine of two is high if the \
                       graphs share patterns, or parts of patterns from the activator on. The same in all versions. \
                       Graphs without wildcards that predict the same have the same vector; NULL if a graph predicts \
                       nothing.";
    let documentation = Documentation::builder(SECTION, description, "graph_embedding(graph [, dimensions])")
        .with_argument("graph", "A neuron graph")
        .with_argument("dimensions", "Length of the array, 1 to 4096, by default 256")
        .with_sql_example(format!("SELECT graph_embedding({EXAMPLE}, 4)"))
        .build();
    function("graph_embedding", documentation, GraphEmbedding)
}

struct GraphEmbedding;

impl Kernel for GraphEmbedding {
    fn coerce(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        let graph = types.first().and_then(accepts)?;
        match types {
            [_] => Some(vec![graph]),
            [_, dimensions] if dimensions.is_integer() || dimensions.is_null() => Some(vec![graph, DataType::Int64]),
            _ => None,
        }
    }

    fn return_type(&self) -> DataType {
        DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true)))
    }

    fn invoke(&self, args: ScalarFunctionArgs, interrupt: &Interrupt) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let graphs = GraphColumn::try_new(&arrays[0])?;
        let dimensions = arrays.get(1).map(|dimensions| dimensions.as_primitive::<Int64Type>());
        let mut out = ListBuilder::new(Float32Builder::new());
        for row in 0..graphs.len() {
            interrupt.check()?;
            let wanted = match dimensions {
                Some(dimensions) => dimensions.is_valid(row).then(|| dimensions.value(row)),
                None => Some(DIMENSIONS as i64),
            };
            let vector = match graphs.graph(row).map_err(sql_error)?.zip(wanted) {
                Some((graph, wanted)) => {
                    let allowed = "1 to 4096";
                    let out =
                        |_| Error::OutOfRange { what: "the number of dimensions", value: wanted.to_string(), allowed };
                    let dimensions = usize::try_from(wanted).map_err(out).map_err(sql_error)?;
                    embedding(&graph, dimensions).map_err(sql_error)?
                }
                None => None,
            };
            if let Some(vector) = &vector {
                out.values().append_slice(vector);
            }
            out.append(vector.is_some());
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}
