//! Choice of the graph that stands for a neuron among several.

use std::collections::BTreeMap;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Float32Type, Int32Type, TimestampMicrosecondType};
use datafusion::error::Result;
use neuroql_graph::Graph;
use neuroql_schema::{GraphColumn, sql_error};

use crate::Error;

/// The method whose graph stands for a neuron if it has several; without it, the graph built last does.
const PREFERRED: &str = "neuroql";

/// Returns the rows of a layer's graphs that stand for their neurons, by neuron.
pub fn preferred_rows(graphs: &RecordBatch) -> BTreeMap<i32, usize> {
    let mut preferred = BTreeMap::new();
    let rank = rank(graphs);
    for (row, neuron) in graphs["neuron"].as_primitive::<Int32Type>().values().iter().enumerate() {
        preferred.entry(*neuron).and_modify(|best| *best = better(*best, row, &rank)).or_insert(row);
    }
    preferred
}

/// Returns for each of some neurons, which ascend, the row that stands for it.
pub fn preferred_rows_of(graphs: &RecordBatch, neurons: &[u32]) -> Vec<Option<usize>> {
    let mut preferred = vec![None; neurons.len()];
    let rank = rank(graphs);
    for (row, neuron) in graphs["neuron"].as_primitive::<Int32Type>().values().iter().enumerate() {
        let place = u32::try_from(*neuron).ok().and_then(|neuron| neurons.binary_search(&neuron).ok());
        if let Some(best) = place.map(|place| &mut preferred[place]) {
            *best = Some(best.map_or(row, |best| better(best, row, &rank)));
        }
    }
    preferred
}

fn better<K: PartialOrd>(best: usize, row: usize, rank: &impl Fn(usize) -> K) -> usize {
    if rank(row) > rank(best) { row } else { best }
}

/// Returns the key by which rows of one neuron are compared: the method, then the time at which the graph was built.
fn rank(graphs: &RecordBatch) -> impl Fn(usize) -> (bool, Option<i64>) + '_ {
    let methods = graphs["method"].as_string::<i32>();
    let built_at = graphs["built_at"].as_primitive::<TimestampMicrosecondType>();
    |row| (methods.value(row) == PREFERRED, built_at.is_valid(row).then(|| built_at.value(row)))
}

/// A neuron, the graph that stands for it, and its F1.
pub(crate) type PreferredGraph = (u32, Graph, f32);

/// Returns the graphs of a layer that stand for their neurons, without those that could not be made.
pub(crate) fn preferred_graphs(rows: &RecordBatch) -> impl Iterator<Item = Result<PreferredGraph>> + '_ {
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
        assert_eq!(preferred_rows_of(&rows, &[0, 3, 4, 8, 9]), [None, Some(1), None, Some(5), None]);
    }
}
