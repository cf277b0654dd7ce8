//! `logit_effects(model, layer, neuron, k)`: tokens that a neuron promotes and suppresses.

use std::sync::Arc;

use datafusion::arrow::array::{Float32Array, Int32Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field};
use neuroql_model::{Cancel, Model};

use super::{NeuronRows, WeightsFunction};

/// The `k` tokens whose logits a neuron raises most, greatest effect first, then the `k` that it lowers most, least
/// effect first: see [`Model::logit_effects`]. A token is returned once.
pub(crate) const LOGIT_EFFECTS: WeightsFunction = WeightsFunction { name: "logit_effects", fields, rows };

fn fields() -> Vec<Field> {
    vec![
        Field::new("token_id", DataType::Int32, true),
        Field::new("token", DataType::Utf8, true),
        Field::new("effect", DataType::Float32, true),
    ]
}

fn rows(model: &Model, layer: usize, neurons: &[u32], k: usize, cancel: &Cancel) -> neuroql_model::Result<NeuronRows> {
    let texts = model.tokenizer().texts();
    let mut effects = Vec::new();
    for (neuron, found) in neurons.iter().zip(model.logit_effects(layer, neurons, k, cancel)?) {
        // With a k of more than half of the vocabulary the lists meet.
        let left = model.config().vocabulary - found.promoted.len();
        let suppressed = found.suppressed.into_iter().take(left);
        effects.extend(found.promoted.into_iter().chain(suppressed).map(|effect| (*neuron, effect)));
    }
    let text = |token: u32| texts.get(token as usize).cloned();
    Ok(NeuronRows {
        neurons: effects.iter().map(|(neuron, _)| *neuron).collect(),
        columns: vec![
            Arc::new(Int32Array::from_iter_values(effects.iter().map(|(_, e)| e.token as i32))),
            Arc::new(effects.iter().map(|(_, e)| text(e.token)).collect::<StringArray>()),
            Arc::new(Float32Array::from_iter_values(effects.iter().map(|(_, e)| e.effect))),
        ],
    })
}
