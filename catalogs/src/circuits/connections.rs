//! `connections(model, layer, neuron, k)`: neurons that feed a neuron most, and those that it feeds most.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float32Array, Int32Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field};
use neuroql_model::{Cancel, Model};

use super::OfWeights;

/// The `k` neurons of earlier layers (`direction` is `from`) and the `k` of later ones (`to`) that a neuron is connected
/// to by the greatest |weight|: see [`Model::connections`].
pub(crate) const CONNECTIONS: OfWeights =
    OfWeights { name: "connections", place: ["of_layer", "of_neuron"], fields, columns };

fn fields() -> Vec<Field> {
    vec![
        Field::new("direction", DataType::Utf8, true),
        Field::new("layer", DataType::Int32, true),
        Field::new("neuron", DataType::Int32, true),
        Field::new("via", DataType::Utf8, true),
        Field::new("weight", DataType::Float32, true),
        Field::new("cosine", DataType::Float32, true),
    ]
}

fn columns(
    model: &Model,
    layer: usize,
    neuron: u32,
    k: usize,
    cancel: &Cancel,
) -> neuroql_model::Result<Vec<ArrayRef>> {
    let found = model.connections(layer, neuron, k, cancel)?;
    let directions = found.from.iter().map(|_| "from").chain(found.to.iter().map(|_| "to"));
    let directions: ArrayRef = Arc::new(StringArray::from_iter_values(directions));
    let all = || found.from.iter().chain(&found.to);
    Ok(vec![
        directions,
        Arc::new(Int32Array::from_iter_values(all().map(|c| c.layer as i32))),
        Arc::new(Int32Array::from_iter_values(all().map(|c| c.neuron as i32))),
        Arc::new(StringArray::from_iter_values(all().map(|c| c.via.to_string()))),
        Arc::new(Float32Array::from_iter_values(all().map(|c| c.weight))),
        Arc::new(all().map(|c| c.cosine).collect::<Float32Array>()),
    ])
}
