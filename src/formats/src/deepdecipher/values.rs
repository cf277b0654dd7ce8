//! Rows of decoded values.

use std::collections::BTreeMap;

use super::blob::{self, Drawing, Explained, Index, Page, SimilarNeuron, Text};
use super::database::{DataType, Kind};
use super::graph;
use crate::{Example, Explanation, Extremes, Item, Neuron, NeuronGraph, Place, Row, Scores, Similar, Table};

/// Method of graphs that DeepDecipher made of Neuron2Graph's drawings.
const METHOD: &str = "n2g-dd";

/// Token that a text of Neuroscope begins with.
const BOS: &str = "<|endoftext|>";

/// Makes the rows of a value; a row that makes no sense is an error of its own.
pub(super) fn rows(
    table: Table,
    data_type: &DataType,
    place: Place,
    value: &[u8],
) -> Result<Vec<Result<Row, String>>, String> {
    match (table, data_type.kind) {
        (Table::Examples, Kind::Neuroscope) => {
            let Page { neuron_index, texts } = blob::compressed(value)?;
            if neuron_index != (Index { layer: place.layer, neuron: place.neuron }) {
                let Index { layer, neuron } = neuron_index;
                return Err(format!("it is the page of layer {layer}, neuron {neuron}"));
            }
            let texts = texts.into_iter().enumerate();
            Ok(texts.map(|(i, text)| example(place, i as u32 + 1, text).map(Row::Example)).collect())
        }
        (Table::Explanations, Kind::NeuronExplainer) => {
            let Explained { explanation, score } = blob::compressed(value)?;
            let (source, score) = (data_type.name.clone(), (!score.is_nan()).then(|| shortest(score)));
            Ok(vec![Ok(Row::Explanation(Explanation {
                place,
                source,
                text: explanation,
                score,
                ..Default::default()
            }))])
        }
        (Table::Graphs, Kind::Neuron2Graph) => {
            let drawing: Drawing = blob::compressed(value)?;
            let graph = Some(graph::graph(&drawing)?);
            let scores = Scores::default();
            Ok(vec![Ok(Row::Graph(NeuronGraph { place, graph, reason: None, scores, method: METHOD }))])
        }
        (Table::Similar, Kind::NeuronStore) => {
            let similar: Vec<SimilarNeuron> = blob::plain(value)?;
            let row = |SimilarNeuron { layer, neuron, similarity }| {
                let in_range = layer < crate::MOST_LAYERS && neuron < crate::MOST_NEURONS;
                let row = Row::Similar(Similar { place, other: Place { layer, neuron }, similarity });
                in_range.then_some(row).ok_or_else(|| format!("layer {layer}, neuron {neuron} is out of range"))
            };
            Ok(similar.into_iter().map(row).collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// The f64 with the same decimal digits.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}

fn example(place: Place, rank: u32, text: Text) -> Result<Example, String> {
    let Text { tokens, activations, max_activating_token_index: position, data_index, .. } = text;
    if tokens.len() != activations.len() {
        return Err(format!("text {rank} has {} tokens and {} activations", tokens.len(), activations.len()));
    }
    let Some(activation) = activations.get(position as usize).copied() else {
        return Err(format!("text {rank} has its greatest activation at token {position} of {}", tokens.len()));
    };
    let Text { min_range, max_range, min_activation, max_activation, .. } = text;
    Ok(Example {
        place,
        source: crate::neuroscope::SOURCE,
        rank: Some(rank),
        quantile: None,
        document: Some(data_index),
        position,
        activation,
        has_bos: tokens.first().is_some_and(|token| token == BOS),
        tokens,
        activations,
        extremes: Some(Extremes { min_activation, max_activation, min_range, max_range }),
    })
}

/// A neuron that nothing is known of yet.
pub(super) fn empty(layer: u32, neuron: u32) -> Neuron {
    Neuron { place: Place { layer, neuron }, ..Neuron::default() }
}

/// Adds to neurons what their examples and graphs say.
pub(super) fn summarise(neurons: &mut BTreeMap<u32, Neuron>, item: &Item) {
    let place = match item {
        Item::Row(Row::Example(Example { place, .. }) | Row::Graph(NeuronGraph { place, .. })) => *place,
        Item::Reject(reject) => match reject.place {
            Some(place) => place,
            None => return,
        },
        Item::Row(_) => return,
    };
    let neuron = neurons.entry(place.neuron).or_insert_with(|| empty(place.layer, place.neuron));
    match item {
        Item::Row(Row::Example(Example { activation, .. })) => {
            neuron.max_activation = Some(neuron.max_activation.map_or(*activation, |most| most.max(*activation)));
        }
        Item::Row(Row::Graph(NeuronGraph { graph: Some(graph), .. })) => {
            neuron.nodes = Some(graph.nodes().len() as u32);
        }
        _ => {}
    }
}
