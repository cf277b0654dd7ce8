//! Patterns with other tokens in place of those that were seen.
//!
//! Each candidate is put in its place and the model is run: only what the neuron fires on is kept.

use std::collections::HashSet;

use neuroql_model::Result;

use super::line::{Line, Step};
use super::neuroql::{Fit, Substituted};
use crate::oracle::{At, Oracle, Query};
use crate::substitutes::{Place, Sources};
use crate::{Options, Substitutes};

/// Tokens of a neuron's own that are tried in the place of another.
const MOST_OWN: usize = 48;

/// For each neuron, its patterns with one token replaced that the neuron was verified to fire on.
///
/// # Errors
/// As [`Sources::tokens`].
pub(crate) async fn substitute(
    oracle: &Oracle,
    fits: &[Fit],
    sources: &mut Sources,
    options: &Options,
) -> Result<Vec<Vec<Substituted>>> {
    if options.substitutes == Substitutes::None {
        return Ok(vec![Vec::new(); fits.len()]);
    }
    let mut places = Vec::new();
    let mut owners: Vec<(usize, usize, &Line, usize)> = Vec::new();
    for (number, fit) in fits.iter().enumerate() {
        for found in &fit.found {
            // The strongest firing stands for all that gave the pattern.
            let Some(&first) = found.from.first() else { continue };
            let firing = &fit.firings[first];
            let before = &fit.task.train[firing.sample].tokens[..firing.start];
            for (step, at) in important(&found.line, firing.tokens.len()) {
                places.push(Place { before, tokens: &firing.tokens, at });
                owners.push((number, first, &found.line, step));
            }
        }
    }
    let mut queries = Vec::new();
    let mut asked: Vec<(usize, usize, Line)> = Vec::new();
    let own: Vec<Own> = fits.iter().map(Own::new).collect();
    let candidates = sources.tokens(oracle, &places, options).await?;
    for ((place, (number, firing, line, step)), candidates) in places.iter().zip(owners).zip(candidates) {
        let own = if step == 0 { &own[number].activators } else { &own[number].contexts };
        let own = own.iter().filter(|token| **token != place.tokens[place.at]);
        let candidates = own.copied().chain(candidates.iter().copied());
        let mut seen = HashSet::new();
        for candidate in candidates.filter(|token| seen.insert(*token)) {
            let mut tokens = place.tokens.to_vec();
            tokens[place.at] = candidate;
            let mut line = line.clone();
            line[step] = Step::Token(candidate);
            queries.push(Query { neuron: fits[number].task.neuron, tokens, at: At::Last });
            asked.push((number, firing, line));
        }
    }
    let mut substituted: Vec<Vec<Substituted>> = vec![Vec::new(); fits.len()];
    for ((number, firing, line), values) in asked.into_iter().zip(oracle.ask(&queries).await?) {
        let fit = &fits[number];
        let activation = values[0] / fit.task.max_activation;
        let known = fit.found.iter().any(|found| found.line == line);
        if activation >= options.activation_threshold && !known {
            substituted[number].push((line, firing, activation));
        }
    }
    Ok(substituted)
}

/// Tokens that a neuron is known to fire on, or after: what one pattern has may stand in another too.
struct Own {
    activators: Vec<u32>,
    contexts: Vec<u32>,
}

impl Own {
    fn new(fit: &Fit) -> Self {
        let mut activators: Vec<u32> = fit.firings.iter().filter_map(|f| f.tokens.last().copied()).collect();
        activators.extend(fit.active());
        let contexts = fit.found.iter().flat_map(|found| found.line.iter().skip(1));
        let contexts = contexts.filter_map(|step| if let Step::Token(token) = step { Some(*token) } else { None });
        Self { activators: distinct(activators), contexts: distinct(contexts.collect()) }
    }
}

/// The first of equal ones, [`MOST_OWN`] at most.
fn distinct(tokens: Vec<u32>) -> Vec<u32> {
    let mut seen = HashSet::new();
    tokens.into_iter().filter(|token| seen.insert(*token)).take(MOST_OWN).collect()
}

/// The tokens of a pattern: where they are in it and in a text of the given length that it was made from.
fn important(line: &Line, length: usize) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    let mut at = length;
    for (i, step) in line.iter().enumerate() {
        match step {
            Step::Token(_) => {
                at -= 1;
                places.push((i, at));
            }
            Step::Any => at -= 1,
            Step::Gap(most) => at -= usize::from(*most) / 2,
        }
    }
    places
}
