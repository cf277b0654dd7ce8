//! Patterns with other tokens in place of those that were seen.
//!
//! Each candidate is put in its place and the model is run: only what the neuron fires on is kept.

use std::collections::HashSet;

use neuroql_model::Result;

use super::line::{Line, Step};
use super::neuroql::{Fit, Substituted};
use crate::oracle::{At, Oracle, Query, turns};
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
    let mut places: Vec<OwnPlace> = Vec::new();
    for (number, fit) in fits.iter().enumerate() {
        for found in &fit.found {
            // The strongest firing stands for all that gave the pattern.
            let Some(&first) = found.from.first() else { continue };
            let firing = &fit.firings[first];
            let before = &fit.task.train[firing.sample].tokens[..firing.start];
            let of_line = important(&found.line, firing.tokens.len()).into_iter().map(|(step, at)| OwnPlace {
                place: Place { before, tokens: &firing.tokens, at },
                fit: number,
                firing: first,
                line: &found.line,
                step,
            });
            places.extend(of_line);
        }
    }
    let own: Vec<Own> = fits.iter().map(Own::new).collect();
    let mut substituted: Vec<Vec<Substituted>> = vec![Vec::new(); fits.len()];
    let most = MOST_OWN + 2 * options.max_augmentations;
    for places in turns(&places, |place| most * place.place.tokens.len()) {
        let texts: Vec<Place> = places.iter().map(|place| place.place).collect();
        let mut queries = Vec::new();
        let mut asked = Vec::new();
        for (place, candidates) in places.iter().zip(sources.tokens(oracle, &texts, options).await?) {
            for candidate in place.candidates(&own[place.fit], candidates) {
                let (tokens, line) = place.with(candidate);
                queries.push(Query { neuron: fits[place.fit].task.neuron, tokens, at: At::Last });
                asked.push((place, line));
            }
        }
        for ((place, line), values) in asked.into_iter().zip(oracle.ask(&queries).await?) {
            let fit = &fits[place.fit];
            let activation = values[0] / fit.task.max_activation;
            let known = fit.found.iter().any(|found| found.line == line);
            if activation >= options.activation_threshold && !known {
                substituted[place.fit].push((line, place.firing, activation));
            }
        }
    }
    Ok(substituted)
}

/// A token of a pattern.
struct OwnPlace<'a> {
    /// Where it is in the text that the pattern was made from.
    place: Place<'a>,
    /// Whose pattern it is.
    fit: usize,
    /// The firing that gave the pattern.
    firing: usize,
    line: &'a Line,
    /// Where it is in the pattern.
    step: usize,
}

impl OwnPlace<'_> {
    /// What is tried there: tokens of the neuron's own, then others.
    fn candidates(&self, own: &Own, others: Vec<u32>) -> impl Iterator<Item = u32> {
        let own = if self.step == 0 { &own.activators } else { &own.contexts };
        let there = self.place.tokens[self.place.at];
        let mut seen = HashSet::new();
        own.iter().copied().filter(move |token| *token != there).chain(others).filter(move |token| seen.insert(*token))
    }

    /// The text and the pattern with another token there.
    fn with(&self, token: u32) -> (Vec<u32>, Line) {
        let (mut tokens, mut line) = (self.place.tokens.to_vec(), self.line.clone());
        tokens[self.place.at] = token;
        line[self.step] = Step::Token(token);
        (tokens, line)
    }
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
