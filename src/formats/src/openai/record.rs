//! Records: moments of a neuron's activations, and texts on which it is strong or that were drawn at random.

use serde::Deserialize;

use super::{NeuronId, check_lengths};
use crate::files::Parsed;
use crate::json;
use crate::{Example, Neuron, Place, Row};

#[derive(Deserialize)]
struct NeuronRecord {
    neuron_id: NeuronId,
    random_sample: Option<Vec<ActivationRecord>>,
    random_sample_by_quantile: Option<Vec<Vec<ActivationRecord>>>,
    quantile_boundaries: Option<Vec<f32>>,
    most_positive_activation_records: Option<Vec<ActivationRecord>>,
}

#[derive(Deserialize)]
struct Moments {
    neuron_id: NeuronId,
    mean: Option<f64>,
    variance: Option<f64>,
    skewness: Option<f64>,
    kurtosis: Option<f64>,
    most_positive_activation_records: Option<Vec<Activations>>,
}

#[derive(Deserialize)]
struct Activations {
    #[serde(deserialize_with = "json::numbers")]
    activations: Vec<f32>,
}

#[derive(Deserialize)]
struct ActivationRecord {
    tokens: Vec<String>,
    #[serde(deserialize_with = "json::numbers")]
    activations: Vec<f32>,
}

/// Reads the moments of a record.
pub(super) fn neuron(place: Place, bytes: &[u8]) -> Result<Neuron, String> {
    let Moments { neuron_id, mean, variance, skewness, kurtosis, most_positive_activation_records } =
        json::parse(bytes)?;
    neuron_id.check(place)?;
    let strongest = most_positive_activation_records.iter().flatten().flat_map(|record| &record.activations).copied();
    let max_activation = strongest.filter(|activation| !activation.is_nan()).reduce(f32::max);
    Ok(Neuron { place, mean, variance, skewness, kurtosis, max_activation, ..Neuron::default() })
}

/// Reads the texts of a record: the strongest, then those drawn from all, then those drawn from quantiles.
pub(super) fn examples(place: Place, bytes: &[u8]) -> Parsed {
    let record: NeuronRecord = json::parse(bytes)?;
    record.neuron_id.check(place)?;
    let mut rows = Vec::new();
    for (i, text) in record.most_positive_activation_records.into_iter().flatten().enumerate() {
        let rank = i as u32 + 1;
        rows.push(example(place, &format!("the record of rank {rank}"), text, Some(rank), None));
    }
    for (i, text) in record.random_sample.into_iter().flatten().enumerate() {
        rows.push(example(place, &format!("random record {}", i + 1), text, None, None));
    }
    let quantiles = record.random_sample_by_quantile.unwrap_or_default();
    let boundaries = record.quantile_boundaries.unwrap_or_default();
    if quantiles.len() != boundaries.len() {
        rows.push(Err(format!("it has {} quantiles and {} boundaries", quantiles.len(), boundaries.len())));
        return Ok(rows);
    }
    for (texts, quantile) in quantiles.into_iter().zip(boundaries) {
        for text in texts {
            rows.push(example(place, &format!("a record of quantile {quantile}"), text, None, Some(quantile)));
        }
    }
    Ok(rows)
}

fn example(
    place: Place,
    what: &str,
    record: ActivationRecord,
    rank: Option<u32>,
    quantile: Option<f32>,
) -> Result<Row, String> {
    let ActivationRecord { tokens, activations } = record;
    check_lengths(what, tokens.len(), activations.len())?;
    // The first of the greatest; NaN is less than any number.
    let mut peak: Option<(usize, f32)> = None;
    for (position, activation) in activations.iter().copied().enumerate() {
        if peak.is_none_or(|(_, greatest)| activation > greatest || greatest.is_nan()) {
            peak = Some((position, activation));
        }
    }
    let (position, activation) = peak.ok_or_else(|| format!("{what} has no tokens"))?;
    Ok(Row::Example(Example {
        place,
        source: super::SOURCE,
        rank,
        quantile,
        position: position as u32,
        activation,
        tokens,
        activations,
        ..Example::default()
    }))
}
