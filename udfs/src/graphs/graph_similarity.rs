//! `graph_similarity(graph, graph [, method [, int[]]]) → double precision`

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, Float64Array, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF};
use neuroql_graph::{Graph, Similarity, behaviour_while, similarity_while};
use neuroql_schema::sql_error;

use super::binary::GraphArgument;
use super::token_lists::TokenLists;
use super::unary::EXAMPLE;
use crate::Error;
use crate::function::{Kernel, function, is_text};
use crate::interrupt::Interrupt;
use crate::tokenize::SECTION;
use neuroql_schema::graph_column::accepts;

/// Function `graph_similarity`: the similarity of two graphs.
pub(crate) fn graph_similarity_udf() -> ScalarUDF {
    function("graph_similarity", documentation(), GraphSimilarity)
}

fn documentation() -> Documentation {
    let description = "How alike two neuron graphs are, from 0 to 1; NULL if neither has what is compared.";
    Documentation::builder(SECTION, description, "graph_similarity(a, b [, method [, tokens]])")
        .with_argument("a", "A neuron graph")
        .with_argument("b", "A neuron graph")
        .with_argument(
            "method",
            "'patterns' (the default: weighted Jaccard similarity of patterns), 'tokens' (tokens by role, as \
             Neuron2Graph), 'behaviour' (correlation of what they predict, 0 if it is negative) or 'containment' (share \
             of a's patterns that b has; the only one that is not symmetric)",
        )
        .with_argument(
            "tokens",
            "Token ids of the text that 'behaviour' is compared on; without them, texts that the graphs' own patterns \
             match",
        )
        .with_sql_example(format!(
            "SELECT graph_similarity({EXAMPLE}, {EXAMPLE}, 'behaviour', tokenize('toy', 'because of the people'))"
        ))
        .build()
}

struct GraphSimilarity;

impl Kernel for GraphSimilarity {
    fn coerce(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        let (graphs, rest) = types.split_at_checked(2)?;
        let mut coerced = graphs.iter().map(accepts).collect::<Option<Vec<_>>>()?;
        if let [method, ..] = rest {
            coerced.push(is_text(method).then_some(DataType::Utf8)?);
        }
        match rest {
            [] | [_] => {}
            [_, tokens] => coerced.push(TokenLists::coerce(tokens)?),
            _ => return None,
        }
        Some(coerced)
    }

    fn return_type(&self) -> DataType {
        DataType::Float64
    }

    fn invoke(&self, args: ScalarFunctionArgs, interrupt: &Interrupt) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let (mut a, mut b) = (GraphArgument::try_new(&args.args[0])?, GraphArgument::try_new(&args.args[1])?);
        let methods = args.args.get(2).map(|methods| cast(&methods.to_array(rows)?, &DataType::Utf8)).transpose()?;
        let methods: Option<&StringArray> = methods.as_ref().map(|methods| methods.as_string());
        let texts = args.args.get(3).map(|texts| texts.to_array(rows)).transpose()?;
        let texts = texts.as_ref().map(TokenLists::new);
        let mut text = Vec::new();
        let mut out = Float64Array::builder(rows);
        for row in 0..rows {
            interrupt.check()?;
            let is_null = methods.is_some_and(|methods| methods.is_null(row))
                || texts.as_ref().is_some_and(|texts| !texts.read(row, &mut text));
            out.append_option(match (a.get(row)?, b.get(row)?) {
                (Some(a), Some(b)) if !is_null => {
                    let method = methods.map(|methods| methods.value(row));
                    compare(a, b, method, texts.as_ref().map(|_| &text[..]), interrupt)?
                }
                _ => None,
            });
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}

fn compare(
    a: &Graph,
    b: &Graph,
    method: Option<&str>,
    text: Option<&[u32]>,
    interrupt: &Interrupt,
) -> Result<Option<f64>> {
    let method = method.map_or(Ok(Similarity::default()), str::parse).map_err(sql_error)?;
    let go_on = || interrupt.goes_on();
    match (method, text) {
        (_, None) => similarity_while(a, b, method, &go_on).map_err(sql_error),
        (Similarity::Behaviour, Some(text)) => behaviour_while(a, b, &[text], &go_on).map_err(sql_error),
        (other, Some(_)) => Err(Error::NoText { method: other.name() }.into()),
    }
}
