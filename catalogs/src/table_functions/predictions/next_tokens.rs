//! `next_tokens(model, text, k)`: the tokens that a network holds most probable after a text.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float32Array, Int32Array};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use neuroql_model::{Batch, Cancel, Model};

use super::{OnText, TextProducer, token_texts};
use crate::state::EngineState;
use crate::table_functions::api::{Parameter, ParameterValues, TableFunction, unfiltered_plan};
use neuroql_schema::Role;

/// Default of the parameter `k`: number of tokens returned.
const DEFAULT_K: i64 = 10;

/// Table function `next_tokens`.
#[derive(Debug)]
pub(crate) struct NextTokens;

impl TableFunction for NextTokens {
    fn name(&self) -> &'static str {
        Call::NAME
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter::required("model", DataType::Utf8),
            Parameter::required("text", DataType::Utf8),
            Parameter::with_default("k", DEFAULT_K),
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        vec![
            Field::new("rank", DataType::Int32, true),
            Field::new("token_id", DataType::Int32, true),
            Field::new("token", DataType::Utf8, true),
            Field::new("probability", DataType::Float32, true),
        ]
    }

    fn requires(&self) -> Role {
        Role::Reader
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &ParameterValues) -> Result<LogicalPlan> {
        let k = values.number("k", 0..=i64::MAX)? as usize;
        unfiltered_plan(self, TextProducer::new(engine, values, Call { k })?)
    }
}

struct Call {
    k: usize,
}

impl OnText for Call {
    const NAME: &'static str = "next_tokens";

    fn columns(&self, model: &Model, text: &str, cancel: &Cancel) -> neuroql_model::Result<Vec<ArrayRef>> {
        let tokens = model.tokenizer().encode_cancellable(text, cancel)?;
        model.check_length(tokens.len())?;
        let mut batch = Batch::new([], model.bos());
        batch.push_last(&tokens);
        let next = model.next_tokens(&batch, self.k, cancel)?.pop().unwrap_or_default();
        Ok(vec![
            Arc::new(Int32Array::from_iter_values(1..=next.len() as i32)),
            Arc::new(Int32Array::from_iter_values(next.iter().map(|(token, _)| *token as i32))),
            token_texts(model, next.iter().map(|(token, _)| Some(*token))),
            Arc::new(Float32Array::from_iter_values(next.iter().map(|(_, probability)| *probability))),
        ])
    }
}
