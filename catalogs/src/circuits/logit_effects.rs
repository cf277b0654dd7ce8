//! `logit_effects(model, layer, neuron, k)`: tokens that a neuron promotes and suppresses.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float32Array, Int32Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field};
use neuroql_model::{Cancel, Model};

use super::OfWeights;

/// The `k` tokens whose logits a neuron raises most, greatest effect first, then the `k` that it lowers most, least
/// effect first: see [`Model::logit_effects`]. A token is returned once.
pub(crate) const LOGIT_EFFECTS: OfWeights =
    OfWeights { name: "logit_effects", place: ["layer", "neuron"], fields, columns };

fn fields() -> Vec<Field> {
    vec![
        Field::new("token_id", DataType::Int32, true),
        Field::new("token", DataType::Utf8, true),
        Field::new("effect", DataType::Float32, true),
    ]
}

fn columns(
    model: &Model,
    layer: usize,
    neuron: u32,
    k: usize,
    cancel: &Cancel,
) -> neuroql_model::Result<Vec<ArrayRef>> {
    let texts = model.tokenizer().texts();
    let mut effects = Vec::new();
    for found in model.logit_effects(layer, &[neuron], k, cancel)? {
        let raised = found.promoted.len();
        // With a k of more than half of the vocabulary the lists meet.
        let left = model.config().vocabulary - raised;
        effects.extend(found.promoted);
        effects.extend(found.suppressed.into_iter().take(left));
    }
    let text = |token: u32| texts.get(token as usize).cloned();
    Ok(vec![
        Arc::new(Int32Array::from_iter_values(effects.iter().map(|e| e.token as i32))),
        Arc::new(effects.iter().map(|e| text(e.token)).collect::<StringArray>()),
        Arc::new(Float32Array::from_iter_values(effects.iter().map(|e| e.effect))),
    ])
}
