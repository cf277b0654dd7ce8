//! `connections(model, layer, neuron, k)`: neurons that feed a neuron most, and those that it feeds most.

use std::sync::Arc;

use datafusion::arrow::array::{Float32Array, Int32Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field};
use neuroql_model::{Cancel, Model};

use super::{NeuronRows, WeightsFunction};

/// The `k` neurons of earlier layers (`direction` is `from`) and the `k` of later ones (`to`) that a neuron is
/// connected to by the greatest |weight|: see [`Model::connections`].
pub(crate) const CONNECTIONS: WeightsFunction = WeightsFunction { name: "connections", fields, rows };

fn fields() -> Vec<Field> {
    vec![
        Field::new("direction", DataType::Utf8, true),
        Field::new("other_layer", DataType::Int32, true),
        Field::new("other_neuron", DataType::Int32, true),
        Field::new("via", DataType::Utf8, true),
        Field::new("weight", DataType::Float32, true),
        Field::new("cosine", DataType::Float32, true),
    ]
}

fn rows(model: &Model, layer: usize, neurons: &[u32], k: usize, cancel: &Cancel) -> neuroql_model::Result<NeuronRows> {
    let mut found = Vec::new();
    for neuron in neurons {
        let connections = model.connections(layer, *neuron, k, cancel)?;
        found.extend(connections.from.into_iter().map(|connection| (*neuron, "from", connection)));
        found.extend(connections.to.into_iter().map(|connection| (*neuron, "to", connection)));
    }
    let all = || found.iter().map(|(.., connection)| connection);
    Ok(NeuronRows {
        neurons: found.iter().map(|(neuron, ..)| *neuron).collect(),
        columns: vec![
            Arc::new(StringArray::from_iter_values(found.iter().map(|(_, direction, _)| direction))),
            Arc::new(Int32Array::from_iter_values(all().map(|c| c.layer as i32))),
            Arc::new(Int32Array::from_iter_values(all().map(|c| c.neuron as i32))),
            Arc::new(StringArray::from_iter_values(all().map(|c| c.via.to_string()))),
            Arc::new(Float32Array::from_iter_values(all().map(|c| c.weight))),
            Arc::new(all().map(|c| c.cosine).collect::<Float32Array>()),
        ],
    })
}
