//! `simulate(graph, int[] [, semantics]) → real[]`

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, Float32Builder, ListBuilder, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF};
use neuroql_graph::{DEEPEST, Matcher, Semantics};
use neuroql_schema::sql_error;

use super::token_lists::TokenLists;
use super::unary::EXAMPLE;
use crate::function::{Kernel, function, is_text};
use crate::interrupt::Interrupt;
use crate::tokenize::SECTION;
use neuroql_schema::graph_column::{GraphColumn, accepts};

/// Predictions of a graph for each token of a text.
pub(crate) fn simulate_udf() -> ScalarUDF {
    function("simulate", documentation(), Simulate)
}

fn documentation() -> Documentation {
    let description = "The activation that a neuron graph predicts at each token, as a share of the neuron's greatest; \
                       0 where no pattern matches. Times max_activation it is comparable with activation().";
    Documentation::builder(SECTION, description, "simulate(graph, tokens [, semantics])")
        .with_argument("graph", "A neuron graph")
        .with_argument("tokens", "Token ids; NULL and negative ones match wildcards only")
        .with_argument(
            "semantics",
            "What counts where several patterns match: 'longest' (the default), 'max', 'greedy' as Neuron2Graph, \
             'shortest' as its OpenAI variant",
        )
        .with_sql_example(format!("SELECT simulate({EXAMPLE}, tokenize('toy', 'because of the people'))"))
        .build()
}

struct Simulate;

impl Kernel for Simulate {
    fn coerce(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        match types {
            [graph, ids] => Some(vec![accepts(graph)?, TokenLists::coerce(ids)?]),
            [graph, ids, semantics] if is_text(semantics) => {
                Some(vec![accepts(graph)?, TokenLists::coerce(ids)?, DataType::Utf8])
            }
            _ => None,
        }
    }

    fn return_type(&self) -> DataType {
        DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true)))
    }

    fn invoke(&self, args: ScalarFunctionArgs, interrupt: &Interrupt) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        // A literal graph is one row, made ready once.
        let scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let graphs = GraphColumn::try_new(&args.args[0].to_array(if scalar { 1 } else { rows })?)?;
        let row_of = |row: usize| if scalar { 0 } else { row };
        let tokens = TokenLists::new(&args.args[1].to_array(rows)?);
        let names = args.args.get(2).map(|names| cast(&names.to_array(rows)?, &DataType::Utf8)).transpose()?;
        let names: Option<&StringArray> = names.as_ref().map(|names| names.as_string());

        let mut ready: Option<CachedMatcher> = None;
        let mut text: Vec<u32> = Vec::new();
        let mut predicted: Vec<f32> = Vec::new();
        let mut out = ListBuilder::new(Float32Builder::new());
        for row in 0..rows {
            interrupt.check()?;
            let name = names.map(|names| names.is_valid(row).then(|| names.value(row)));
            if graphs.is_null(row_of(row)) || !tokens.read(row, &mut text) || name == Some(None) {
                out.append_null();
                continue;
            }
            let semantics = match name.flatten() {
                Some(name) => name.parse().map_err(sql_error)?,
                None => Semantics::default(),
            };
            let current = match ready {
                // Rows of one graph and many texts follow each other.
                Some(last) if last.semantics == semantics && graphs.same(last.row, row_of(row)) => last,
                _ => CachedMatcher::new(&graphs, row_of(row), semantics)?,
            };
            predicted.clear();
            let simulated = current.matcher.simulate_while(&text, &mut predicted, || interrupt.goes_on());
            simulated.map_err(sql_error)?;
            out.values().append_slice(&predicted);
            out.append(true);
            ready = Some(current);
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}

/// A graph made ready for rows to come.
struct CachedMatcher {
    row: usize,
    semantics: Semantics,
    matcher: Matcher,
}

impl CachedMatcher {
    fn new(graphs: &GraphColumn, row: usize, semantics: Semantics) -> Result<Self> {
        let matcher = match graphs.view(row) {
            // Decoding checks the depth; most graphs have too few nodes to be too deep.
            Ok(view) if view.len() > DEEPEST => {
                let graph = graphs.graph(row).map_err(sql_error)?.unwrap_or_default();
                Matcher::of(&graph, semantics)
            }
            view => view.and_then(|view| Matcher::new(view, semantics)),
        };
        Ok(Self { row, semantics, matcher: matcher.map_err(sql_error)? })
    }
}
