//! `graph_svg(graph [, title [, theme [, link [, nodes]]]]) → text`

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, Int64Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF};
use neuroql_graph::draw::{self, DrawOptions, Theme};
use neuroql_schema::graph_column::{GraphColumn, accepts};
use neuroql_schema::sql_error;

use super::unary::EXAMPLE;
use crate::error::Error;
use crate::function::{Kernel, function, is_text};
use crate::interrupt::Interrupt;
use crate::tokenize::SECTION;

/// Beginnings of addresses that a drawing may link to.
const ADDRESSES: [&str; 5] = ["/", "?", "#", "http://", "https://"];

/// Greatest number of nodes of a drawing.
const MOST_NODES: i64 = 10_000;

/// A drawing of a neuron graph as SVG.
pub(crate) fn graph_svg_udf() -> ScalarUDF {
    let description = "A drawing of a neuron graph as SVG.";
    let documentation = Documentation::builder(
        SECTION,
        description,
        "graph_svg(graph [, title [, theme [, link [, nodes]]]])",
    )
    .with_argument("graph", "A neuron graph")
    .with_argument("title", "What is written above it; nothing if it is empty")
    .with_argument("theme", "'light' (the default), 'dark', or 'page' for the colour of the text around it")
    .with_argument(
        "link",
        "An address, such as '/search?q=', that nodes link to, with the query that searches for their tokens after it; \
             no links if it is empty",
    )
    .with_argument("nodes", "The greatest number of nodes that are drawn, by default 120; branches are folded to it")
    .with_sql_example(format!("SELECT graph_svg({EXAMPLE}, 'of the', 'dark', '/search?q=')"))
    .build();
    function("graph_svg", documentation, GraphSvg)
}

struct GraphSvg;

impl Kernel for GraphSvg {
    fn coerce(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        let (graph, rest) = types.split_first()?;
        let mut wanted = vec![accepts(graph)?];
        for (index, given) in rest.iter().enumerate() {
            wanted.push(match index {
                0..3 if is_text(given) => DataType::Utf8,
                3 if given.is_integer() || given.is_null() => DataType::Int64,
                _ => return None,
            });
        }
        Some(wanted)
    }

    fn return_type(&self) -> DataType {
        DataType::Utf8
    }

    fn invoke(&self, args: ScalarFunctionArgs, interrupt: &Interrupt) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let graphs = GraphColumn::try_new(&arrays[0])?;
        let texts: Vec<&StringArray> = arrays.iter().skip(1).take(3).map(|texts| texts.as_string()).collect();
        let counts: Option<&Int64Array> = arrays.get(4).map(|counts| counts.as_primitive::<Int64Type>());
        let rows = (0..graphs.len()).map(|row| -> Result<Option<String>> {
            interrupt.check()?;
            // NULL in, NULL out, for all arguments.
            if arrays.iter().skip(1).any(|array| array.is_null(row)) {
                return Ok(None);
            }
            let Some(graph) = graphs.graph(row).map_err(sql_error)? else { return Ok(None) };
            let text = |index: usize| texts.get(index).map(|texts| texts.value(row));
            let options = options(text(0), text(1), text(2), counts.map(|counts| counts.value(row)));
            Ok(Some(draw::svg(&graph, &options.map_err(sql_error)?)))
        });
        Ok(ColumnarValue::Array(Arc::new(rows.collect::<Result<StringArray>>()?)))
    }
}

fn options(
    title: Option<&str>,
    theme: Option<&str>,
    link: Option<&str>,
    nodes: Option<i64>,
) -> std::result::Result<DrawOptions, Error> {
    let mut options = DrawOptions { title: title.map(str::to_owned), ..DrawOptions::default() };
    if let Some(name) = theme {
        options.theme = Theme::of_name(name).ok_or_else(|| Error::Theme(name.to_owned()))?;
    }
    if let Some(link) = link.filter(|link| !link.is_empty()) {
        if !ADDRESSES.iter().any(|start| link.starts_with(start)) || link.chars().any(char::is_control) {
            return Err(Error::Link(link.to_owned()));
        }
        options.link = Some(link.to_owned());
    }
    if let Some(nodes) = nodes {
        let in_range = usize::try_from(nodes).ok().filter(|_| (1..=MOST_NODES).contains(&nodes));
        options.max_nodes = in_range.ok_or(Error::DrawnNodes { given: nodes, most: MOST_NODES })?;
    }
    Ok(options)
}
