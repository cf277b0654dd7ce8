//! Which of several graphs of a neuron stands for it.

use std::collections::BTreeMap;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Float32Type, Int32Type, TimestampMicrosecondType};
use datafusion::error::Result;
use neuroql_graph::Graph;
use neuroql_schema::{GraphColumn, sql_error};

use crate::Error;

/// The method whose graph stands for a neuron if it has several; else the one built last does.
const PREFERRED: &str = "neuroql";

/// Returns the rows of a layer's graphs that stand for their neurons, by neuron.
pub fn preferred_rows(graphs: &RecordBatch) -> BTreeMap<i32, usize> {
    let neurons = graphs["neuron"].as_primitive::<Int32Type>();
    let methods = graphs["method"].as_string::<i32>();
    let built_at = graphs["built_at"].as_primitive::<TimestampMicrosecondType>();
    let rank = |row: usize| (methods.value(row) == PREFERRED, built_at.is_valid(row).then(|| built_at.value(row)));
    let mut preferred = BTreeMap::new();
    for (row, neuron) in neurons.values().iter().enumerate() {
        let best = preferred.entry(*neuron).or_insert(row);
        if rank(row) > rank(*best) {
            *best = row;
        }
    }
    preferred
}

/// A neuron, the graph that stands for it, and its F1.
pub(crate) type Preferred = (u32, Graph, f32);

/// The graphs of a layer that stand for their neurons; whatever could not be made is not among them.
pub(crate) fn preferred_graphs(rows: &RecordBatch) -> impl Iterator<Item = Result<Preferred>> + '_ {
    let column = GraphColumn::try_new(&rows["graph"]);
    let f1 = rows["f1"].as_primitive::<Float32Type>();
    preferred_rows(rows).into_iter().filter_map(move |(neuron, row)| {
        let graph = match &column {
            Ok(column) => column.graph(row).map_err(sql_error).transpose()?,
            Err(error) => Err(Error::Internal(format!("the store's graphs are no graphs: {error}")).into()),
        };
        let f1 = if f1.is_valid(row) { f1.value(row) } else { f32::NAN };
        Some(graph.map(|graph| (neuron as u32, graph, f1)))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int32Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn our_method_comes_first_and_then_the_last_built() {
        let rows = RecordBatch::try_from_iter([
            ("neuron", Arc::new(Int32Array::from(vec![3, 3, 3, 5, 5, 8])) as ArrayRef),
            ("method", Arc::new(StringArray::from(vec!["n2g", "neuroql", "token", "n2g", "token", "token"]))),
            (
                "built_at",
                Arc::new(TimestampMicrosecondArray::from(vec![Some(9), Some(1), Some(7), Some(2), Some(4), None])),
            ),
        ])
        .unwrap();
        assert_eq!(preferred_rows(&rows), BTreeMap::from([(3, 1), (5, 4), (8, 5)]));
    }
}
