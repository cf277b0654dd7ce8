//! `input_tokens(model, layer, neuron, k)`: tokens whose embeddings drive a neuron.

use std::sync::Arc;

use datafusion::arrow::array::{Float32Array, Int32Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field};
use neuroql_model::{Cancel, Model};

use super::{NeuronRows, WeightsFunction};

/// The `k` tokens whose embeddings alone make a neuron fire most, greatest activation first: see
/// [`Model::input_tokens`]. `up` is NULL where MLPs have no gate.
pub(crate) const INPUT_TOKENS: WeightsFunction = WeightsFunction { name: "input_tokens", fields, rows };

fn fields() -> Vec<Field> {
    vec![
        Field::new("token_id", DataType::Int32, true),
        Field::new("token", DataType::Utf8, true),
        Field::new("activation", DataType::Float32, true),
        Field::new("pre_activation", DataType::Float32, true),
        Field::new("up", DataType::Float32, true),
    ]
}

fn rows(model: &Model, layer: usize, neurons: &[u32], k: usize, cancel: &Cancel) -> neuroql_model::Result<NeuronRows> {
    let texts = model.tokenizer().texts();
    let found = model.input_tokens(layer, neurons, k, cancel)?;
    let found: Vec<_> =
        neurons.iter().zip(found).flat_map(|(neuron, tokens)| tokens.into_iter().map(|t| (*neuron, t))).collect();
    let text = |token: u32| texts.get(token as usize).cloned();
    Ok(NeuronRows {
        neurons: found.iter().map(|(neuron, _)| *neuron).collect(),
        columns: vec![
            Arc::new(Int32Array::from_iter_values(found.iter().map(|(_, t)| t.token as i32))),
            Arc::new(found.iter().map(|(_, t)| text(t.token)).collect::<StringArray>()),
            Arc::new(Float32Array::from_iter_values(found.iter().map(|(_, t)| t.activation))),
            Arc::new(Float32Array::from_iter_values(found.iter().map(|(_, t)| t.pre_activation))),
            Arc::new(found.iter().map(|(_, t)| t.up).collect::<Float32Array>()),
        ],
    })
}
