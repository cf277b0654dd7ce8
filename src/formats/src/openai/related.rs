//! Tokens and neurons that a neuron is connected with, and tokens on which it fires.

use serde::{Deserialize, Deserializer};

use super::check_lengths;
use crate::files::Parsed;
use crate::json;
use crate::source::parse_place;
use crate::{Place, RelatedNeuron, RelatedToken, Row};

#[derive(Deserialize)]
struct ByWeight {
    input_positive: Option<TokensAndWeights>,
    input_negative: Option<TokensAndWeights>,
    output_positive: Option<TokensAndWeights>,
    output_negative: Option<TokensAndWeights>,
}

#[derive(Deserialize)]
struct TokensAndWeights {
    tokens: Vec<Option<String>>,
    strengths: Vec<Option<f64>>,
}

#[derive(Deserialize)]
struct ByActivation {
    tokens: Vec<Option<String>>,
    average_activations: Vec<Option<f64>>,
}

#[derive(Deserialize)]
struct Connections {
    /// `None` if the file does not have it, `Some(None)` if it is null: the first layer has no inputs, the last no outputs.
    #[serde(default, deserialize_with = "present")]
    c_fc: Option<Option<Connected>>,
    #[serde(default, deserialize_with = "present")]
    c_proj: Option<Option<Connected>>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Connected>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct Connected {
    top_positive_neurons: Vec<String>,
    top_positive_weights: Vec<Option<f64>>,
    top_negative_neurons: Vec<String>,
    top_negative_weights: Vec<Option<f64>>,
}

/// Reads the tokens that raise or lower a neuron, and those that it raises or lowers.
pub(super) fn tokens_by_weight(place: Place, bytes: &[u8]) -> Parsed {
    let ByWeight { input_positive, input_negative, output_positive, output_negative } = json::parse(bytes)?;
    let lists = [
        ("input_positive", input_positive),
        ("input_negative", input_negative),
        ("output_positive", output_positive),
        ("output_negative", output_negative),
    ];
    if lists.iter().all(|(_, list)| list.is_none()) {
        return Err("it has no lists of tokens".into());
    }
    let mut rows = Vec::new();
    for (relation, list) in lists {
        if let Some(TokensAndWeights { tokens, strengths }) = list {
            add_tokens(&mut rows, place, relation, tokens, strengths);
        }
    }
    Ok(rows)
}

/// Reads the tokens on which a neuron fires most, with its mean activation there.
pub(super) fn tokens_by_activation(place: Place, bytes: &[u8]) -> Parsed {
    let ByActivation { tokens, average_activations } = json::parse(bytes)?;
    let mut rows = Vec::new();
    add_tokens(&mut rows, place, "average_activation", tokens, average_activations);
    Ok(rows)
}

fn add_tokens(
    rows: &mut Vec<Result<Row, String>>,
    place: Place,
    relation: &'static str,
    tokens: Vec<Option<String>>,
    values: Vec<Option<f64>>,
) {
    if let Err(reason) = check_lengths(relation, tokens.len(), values.len()) {
        rows.push(Err(reason));
        return;
    }
    for (i, (token, value)) in tokens.into_iter().zip(values).enumerate() {
        if let Some(token) = token {
            let rank = i as u32 + 1;
            rows.push(Ok(Row::RelatedToken(RelatedToken { place, relation, rank, token, value })));
        }
    }
}

/// Reads the neurons that a neuron is connected with most: by its input weights, and by its output weights.
pub(super) fn neurons(place: Place, bytes: &[u8]) -> Parsed {
    let Connections { c_fc, c_proj } = json::parse(bytes)?;
    if c_fc.is_none() && c_proj.is_none() {
        return Err("it has neither c_fc nor c_proj".into());
    }
    let mut rows = Vec::new();
    let names = [["input_positive", "input_negative"], ["output_positive", "output_negative"]];
    for ([positive, negative], connected) in names.into_iter().zip([c_fc, c_proj].map(Option::flatten)) {
        let Some(connected) = connected else { continue };
        let lists = [
            (positive, connected.top_positive_neurons, connected.top_positive_weights),
            (negative, connected.top_negative_neurons, connected.top_negative_weights),
        ];
        for (relation, neurons, weights) in lists {
            if neurons.len() != weights.len() {
                rows.push(Err(format!("{relation} has {} neurons and {} weights", neurons.len(), weights.len())));
                continue;
            }
            for (i, (name, weight)) in neurons.into_iter().zip(weights).enumerate() {
                let other = parse_place(&name)
                    .ok_or_else(|| format!("{relation}: \"{}\" is not a neuron such as 1_17", name.escape_debug()));
                let row =
                    |other| Row::RelatedNeuron(RelatedNeuron { place, relation, rank: i as u32 + 1, other, weight });
                rows.push(other.map(row));
            }
        }
    }
    Ok(rows)
}
