//! Explanations of a neuron, scored by how well its activations can be simulated from them.

use serde::Deserialize;

use super::{NeuronId, SOURCE};
use crate::files::Parsed;
use crate::json;
use crate::{Explanation, Place, Row};

#[derive(Deserialize)]
struct SimulationResults {
    neuron_id: NeuronId,
    scored_explanations: Vec<ScoredExplanation>,
}

#[derive(Deserialize)]
struct ScoredExplanation {
    explanation: String,
    scored_simulation: Option<ScoredSimulation>,
}

#[derive(Deserialize)]
struct ScoredSimulation {
    ev_correlation_score: Option<f64>,
    rsquared_score: Option<f64>,
    absolute_dev_explained_score: Option<f64>,
}

/// Reads the explanations of a file, which has one object a line.
pub(super) fn explanations(place: Place, bytes: &[u8]) -> Parsed {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let mut rows = Vec::new();
    for line in lines {
        match json::parse::<SimulationResults>(line)
            .and_then(|results| results.neuron_id.check(place).map(|()| results))
        {
            Ok(results) => rows.extend(results.scored_explanations.into_iter().map(|scored| Ok(row(place, scored)))),
            Err(reason) => rows.push(Err(reason)),
        }
    }
    if bytes.trim_ascii().is_empty() { Err("it is empty".into()) } else { Ok(rows) }
}

fn row(place: Place, scored: ScoredExplanation) -> Row {
    let simulation = scored.scored_simulation.as_ref();
    Row::Explanation(Explanation {
        place,
        source: SOURCE.into(),
        text: scored.explanation,
        score: simulation.and_then(|simulation| simulation.ev_correlation_score),
        rsquared: simulation.and_then(|simulation| simulation.rsquared_score),
        absolute_dev_explained: simulation.and_then(|simulation| simulation.absolute_dev_explained_score),
    })
}
