//! `logit_attribution(model, text, target, against)`: direct effects of neurons and heads on the logit of the next token.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float32Array, Int32Array};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use neuroql_model::{Cancel, Model};
use neuroql_schema::{Role, sql_error};

use super::{OnText, TextProducer};
use crate::state::EngineState;
use crate::table_functions::api::{Parameter, ParameterValues, TableFunction, unfiltered_plan};

/// Table function `logit_attribution`.
#[derive(Debug)]
pub(crate) struct LogitAttribution;

impl TableFunction for LogitAttribution {
    fn name(&self) -> &'static str {
        Call::NAME
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter::required("model", DataType::Utf8),
            Parameter::required("text", DataType::Utf8),
            Parameter::required("target", DataType::Utf8),
            Parameter::optional_text("against"),
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        vec![
            Field::new("layer", DataType::Int32, true),
            Field::new("neuron", DataType::Int32, true),
            Field::new("head", DataType::Int32, true),
            Field::new("activation", DataType::Float32, true),
            Field::new("effect", DataType::Float32, true),
        ]
    }

    fn requires(&self) -> Role {
        Role::Reader
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &ParameterValues) -> Result<LogicalPlan> {
        let model = values.model(engine)?;
        let target = token(&model, values, "target", values.text("target")?)?;
        let against = values.optional_text("against").map(|text| token(&model, values, "against", text)).transpose()?;
        unfiltered_plan(self, TextProducer::new(engine, values, Call { tokens: (target, against) })?)
    }
}

/// Returns the token of a text that is exactly one.
fn token(model: &Model, values: &ParameterValues, parameter: &str, text: &str) -> Result<u32> {
    let tokens = model.tokenizer().encode(text).map_err(sql_error)?;
    if let [token] = tokens[..] {
        return Ok(token);
    }
    let reason = format!("is '{text}', {} tokens of model \"{}\"; expected one", tokens.len(), model.name());
    Err(values.invalid(parameter, reason).into())
}

struct Call {
    tokens: (u32, Option<u32>),
}

impl OnText for Call {
    const NAME: &'static str = "logit_attribution";

    fn columns(&self, model: &Model, text: &str, cancel: &Cancel) -> neuroql_model::Result<Vec<ArrayRef>> {
        let tokens = model.tokenizer().encode_cancellable(text, cancel)?;
        let layers = model.logit_attribution(&tokens, self.tokens, cancel)?;
        let (mut numbers, mut neurons, mut heads) = (Vec::new(), Vec::new(), Vec::new());
        let (mut activations, mut effects) = (Vec::new(), Vec::new());
        for (number, layer) in (0..).zip(layers) {
            numbers.extend(std::iter::repeat_n(number, layer.neurons.len() + layer.heads.len()));
            neurons.extend((0..layer.neurons.len() as i32).map(Some));
            heads.extend(std::iter::repeat_n(None, layer.neurons.len()));
            neurons.extend(std::iter::repeat_n(None, layer.heads.len()));
            heads.extend((0..layer.heads.len() as i32).map(Some));
            activations.extend(layer.activations.into_iter().map(Some));
            activations.extend(std::iter::repeat_n(None, layer.heads.len()));
            effects.extend(layer.neurons.into_iter().chain(layer.heads));
        }
        Ok(vec![
            Arc::new(Int32Array::from_iter_values(numbers)),
            Arc::new(Int32Array::from(neurons)),
            Arc::new(Int32Array::from(heads)),
            Arc::new(Float32Array::from(activations)),
            Arc::new(Float32Array::from_iter_values(effects)),
        ])
    }
}
