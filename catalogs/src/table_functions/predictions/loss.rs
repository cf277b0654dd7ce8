//! `loss(model, text)`: how little a network expected each token of a text.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float32Array, Int32Array, Int64Array};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use neuroql_model::{Cancel, Model};

use super::{OnText, TextProducer, token_texts};
use crate::state::EngineState;
use crate::table_functions::api::{Parameter, ParameterValues, TableFunction, unfiltered_plan};
use neuroql_schema::Role;

/// Table function `loss`.
#[derive(Debug)]
pub(crate) struct Loss;

impl TableFunction for Loss {
    fn name(&self) -> &'static str {
        Call::NAME
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter::required("model", DataType::Utf8), Parameter::required("text", DataType::Utf8)]
    }

    fn outputs(&self) -> Vec<Field> {
        vec![
            Field::new("example", DataType::Int64, true),
            Field::new("position", DataType::Int32, true),
            Field::new("token_id", DataType::Int32, true),
            Field::new("token", DataType::Utf8, true),
            Field::new("loss", DataType::Float32, true),
        ]
    }

    fn requires(&self) -> Role {
        Role::Reader
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &ParameterValues) -> Result<LogicalPlan> {
        unfiltered_plan(self, TextProducer::new(engine, values, Call)?)
    }
}

struct Call;

impl OnText for Call {
    const NAME: &'static str = "loss";

    fn columns(&self, model: &Model, text: &str, cancel: &Cancel) -> neuroql_model::Result<Vec<ArrayRef>> {
        let tokens = model.tokenizer().encode_cancellable(text, cancel)?;
        let (mut examples, mut positions, mut losses) = (Vec::new(), Vec::new(), Vec::new());
        for (number, example) in (0..).zip(model.examples(&tokens)) {
            let predictions = model.predictions(example, &[], cancel)?;
            let known = predictions.into_iter().filter(|prediction| prediction.next.is_some());
            // Nothing predicts the first token where there is no BOS.
            let first = model.bos().is_none().then_some(None);
            losses.extend(first.into_iter().chain(known.map(|prediction| prediction.loss)));
            examples.extend(std::iter::repeat_n(number, example.len()));
            positions.extend(0..example.len() as i32);
        }
        Ok(vec![
            Arc::new(Int64Array::from_iter_values(examples)),
            Arc::new(Int32Array::from_iter_values(positions)),
            Arc::new(Int32Array::from_iter_values(tokens.iter().map(|token| *token as i32))),
            token_texts(model, tokens.iter().map(|token| Some(*token))),
            Arc::new(losses.into_iter().collect::<Float32Array>()),
        ])
    }
}
