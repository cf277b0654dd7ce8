//! `graph_nodes`: one row a node of each graph, depth first, and then one row a further token of a node.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray, UInt32Array};
use datafusion::arrow::compute::{cast, filter_record_batch, is_not_null, take};
use datafusion::arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;
use neuroql_graph::Kind;
use neuroql_model::Model;
use neuroql_schema::graph_column::graph_type;

use super::{GraphProjection, of_graphs, supports_key};
use crate::Error;
use crate::tables::model_table::{ModelTable, Scan};
use crate::tables::predicate::{allowed_strings, can_evaluate};

/// Table `graph_nodes`.
#[derive(Debug)]
pub(crate) struct GraphNodes;

/// Columns of `graph_nodes`.
pub(crate) fn schema() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("layer", DataType::Int32),
        field("neuron", DataType::Int32),
        field("node", DataType::Int32),
        field("parent", DataType::Int32),
        field("depth", DataType::Int32),
        field("kind", DataType::Utf8),
        field("token_id", DataType::Int32),
        field("token", DataType::Utf8),
        field("importance", DataType::Float32),
        field("activation", DataType::Float32),
        field("ends", DataType::Float32),
        field("support", DataType::Int32),
        field("method", DataType::Utf8),
    ]))
}

impl ModelTable for GraphNodes {
    fn name(&self) -> &'static str {
        "graph_nodes"
    }

    fn schema(&self, _: Option<&Model>) -> SchemaRef {
        schema()
    }

    fn supports_filter(&self, filter: &Expr) -> TableProviderFilterPushDown {
        match allowed_strings(filter, "token") {
            // The index finds the graphs that have the tokens; the filter then chooses among their nodes.
            Some(_) if can_evaluate(filter) => TableProviderFilterPushDown::Inexact,
            _ => supports_key(filter),
        }
    }

    fn is_read_at_execution(&self) -> bool {
        true
    }

    fn scan<'a>(&'a self, model: &'a Arc<Model>, scan: Scan<'a>) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>>> {
        Box::pin(async move {
            let tokens = scan.filters.iter().filter_map(|filter| allowed_strings(filter, "token"));
            // Of several filters, the one that allows the fewest tokens.
            let tokens = tokens.min_by_key(Vec::len);
            of_graphs(model, scan, schema(), GraphProjection { whole: true, tokens }, rows)
        })
    }
}

/// A row for each node of some rows of `graphs`.
pub(crate) fn rows(graphs: &RecordBatch) -> Result<RecordBatch> {
    let graphs = filter_record_batch(graphs, &is_not_null(&graphs["graph"])?)?;
    let lists = cast(&graphs["graph"], &graph_type())?;
    let lists = lists.as_list::<i32>();
    let offsets: Vec<usize> = lists.value_offsets().iter().map(|offset| *offset as usize).collect();
    let count = offsets[offsets.len() - 1] - offsets[0];
    let nodes = lists.values().slice(offsets[0], count);
    let nodes = nodes.as_struct();
    let part = |name: &'static str| {
        nodes.column_by_name(name).ok_or_else(|| Error::Internal(format!("nodes of graphs have no {name}")))
    };
    let (parents, tokens) = (part("parent")?.as_primitive::<Int32Type>(), part("token")?);

    let mut of_row = Vec::with_capacity(count);
    let mut numbers = Vec::with_capacity(count);
    let mut depths: Vec<i32> = Vec::with_capacity(count);
    for (row, pair) in offsets.windows(2).enumerate() {
        let first = depths.len();
        for number in 0..pair[1] - pair[0] {
            of_row.push(row as u32);
            numbers.push(number as i32);
            // Parents come first in a graph that was checked; files that others wrote may hold anything.
            let before =
                |row: i32| usize::try_from(row).ok().filter(|row| *row < number).map(|row| depths[first + row]);
            let depth = match parents.value(first + number) {
                parent @ -1.. => before(parent).map_or(0, |depth| depth + 1),
                alternative => before(-2 - alternative).unwrap_or(0),
            };
            depths.push(depth);
        }
    }
    let kind = |node: usize| match (tokens.is_valid(node), depths[node]) {
        (false, _) => Kind::Wildcard.name(),
        (true, 0) => Kind::Activator.name(),
        (true, _) => Kind::Context.name(),
    };
    let kinds: StringArray = (0..count).map(|node| Some(kind(node))).collect();
    let of_row = UInt32Array::from(of_row);
    let schema = schema();
    let column = |field: &Field| -> Result<ArrayRef> {
        Ok(match field.name().as_str() {
            name @ ("layer" | "neuron" | "method") => take(&graphs[name], &of_row, None)?,
            "node" => Arc::new(Int32Array::from(numbers.clone())),
            "depth" => Arc::new(Int32Array::from(depths.clone())),
            "kind" => Arc::new(kinds.clone()),
            "parent" => Arc::clone(part("parent")?),
            "token_id" => Arc::clone(part("token_id")?),
            "token" => Arc::clone(tokens),
            "importance" => Arc::clone(part("importance")?),
            "activation" => Arc::clone(part("activation")?),
            "ends" => Arc::clone(part("ends")?),
            _ => Arc::clone(part("support")?),
        })
    };
    let columns = schema.fields().iter().map(|field| column(field)).collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}
