//! Substituted tokens in patterns, in place of those that were seen.
//!
//! The model is run with each candidate in its place, and only tokens on which the neuron fires are kept.

use std::collections::HashSet;

use neuroql_model::Result;

use super::compact_pattern::{CompactPattern, PatternStep, tokens};
use super::neuroql::Fit;
use crate::query_runner::{Positions, Query, QueryRunner, turns};
use crate::substitutes::{Sources, TokenPlace};
use crate::{Options, Substitutes};

/// Greatest number of a neuron's own tokens that are tried in the place of another.
const MOST_OWN: usize = 48;

/// A token that a neuron was verified to fire on in the place of another.
pub(crate) struct VerifiedSubstitute {
    /// Pattern with the token in its place.
    pub line: CompactPattern,
    /// Index of the firing that the pattern came from.
    pub firing: usize,
    /// Index of the replaced token in the firing's context.
    pub at: usize,
    /// Token id.
    pub token: u32,
    /// Activation with the token in place, over the neuron's greatest; at most 1, as the text is made up.
    pub activation: f32,
}

/// Finds the tokens that each neuron fires on, verified by running the model, in place of one of its patterns.
///
/// # Errors
/// Errors of [`Sources::tokens`].
pub(crate) async fn substitute(
    runner: &QueryRunner,
    fits: &[Fit],
    sources: &mut Sources,
    options: &Options,
) -> Result<Vec<Vec<VerifiedSubstitute>>> {
    if options.substitutes == Substitutes::None {
        return Ok(fits.iter().map(|_| Vec::new()).collect());
    }
    let mut places: Vec<PatternToken> = Vec::new();
    for (number, fit) in fits.iter().enumerate() {
        for found in &fit.found {
            // The strongest firing represents all firings of the pattern.
            let Some(&first) = found.from.first() else { continue };
            let firing = &fit.firings[first];
            let before = &fit.task.train[firing.sample].tokens[..firing.start];
            let of_line = tokens(&found.line, firing.tokens.len()).map(|(step, at)| PatternToken {
                place: TokenPlace { before, tokens: &firing.tokens, at },
                fit: number,
                firing: first,
                line: &found.line,
                step,
            });
            places.extend(of_line);
        }
    }
    let own: Vec<OwnTokens> = fits.iter().map(OwnTokens::new).collect();
    let mut substituted: Vec<Vec<VerifiedSubstitute>> = fits.iter().map(|_| Vec::new()).collect();
    let most = MOST_OWN + 2 * options.max_augmentations;
    for places in turns(&places, |place| most * place.place.tokens.len()) {
        let texts: Vec<TokenPlace> = places.iter().map(|place| place.place).collect();
        let mut queries = Vec::new();
        let mut asked = Vec::new();
        for (place, candidates) in places.iter().zip(sources.tokens(runner, &texts, options).await?) {
            for candidate in place.candidates(&own[place.fit], candidates) {
                let mut tokens = place.place.tokens.to_vec();
                tokens[place.place.at] = candidate;
                queries.push(Query { neuron: fits[place.fit].task.neuron, tokens, at: Positions::Last });
                asked.push((place, candidate));
            }
        }
        for ((place, token), values) in asked.into_iter().zip(runner.ask(&queries).await?) {
            let activation = values[0] / fits[place.fit].task.max_activation;
            if activation >= options.activation_threshold {
                let mut line = place.line.clone();
                line[place.step] = PatternStep::Token(token);
                let (firing, at) = (place.firing, place.place.at);
                let activation = activation.min(1.0);
                substituted[place.fit].push(VerifiedSubstitute { line, firing, at, token, activation });
            }
        }
    }
    Ok(substituted)
}

/// A token of a pattern.
struct PatternToken<'a> {
    /// Place of the token in the text that the pattern was made from.
    place: TokenPlace<'a>,
    /// Index of the fit of the pattern.
    fit: usize,
    /// Index of the firing that gave the pattern.
    firing: usize,
    line: &'a CompactPattern,
    /// Index of the token in the pattern.
    step: usize,
}

impl PatternToken<'_> {
    /// Candidates for the place: tokens of the neuron's own, then others.
    fn candidates(&self, own: &OwnTokens, others: Vec<u32>) -> impl Iterator<Item = u32> {
        let own = if self.step == 0 { &own.activators } else { &own.contexts };
        let there = self.place.tokens[self.place.at];
        let mut seen = HashSet::new();
        own.iter().copied().filter(move |token| *token != there).chain(others).filter(move |token| seen.insert(*token))
    }
}

/// Tokens that a neuron is known to fire on, or after: those of one pattern may fit another too.
struct OwnTokens {
    activators: Vec<u32>,
    contexts: Vec<u32>,
}

impl OwnTokens {
    fn new(fit: &Fit) -> Self {
        let mut activators: Vec<u32> = fit.firings.iter().filter_map(|f| f.tokens.last().copied()).collect();
        activators.extend(fit.active());
        let contexts = fit.found.iter().flat_map(|found| found.line.iter().skip(1));
        let contexts =
            contexts.filter_map(|step| if let PatternStep::Token(token) = step { Some(*token) } else { None });
        Self { activators: distinct(activators), contexts: distinct(contexts.collect()) }
    }
}

/// Distinct tokens in order, [`MOST_OWN`] at most.
fn distinct(tokens: Vec<u32>) -> Vec<u32> {
    let mut seen = HashSet::new();
    tokens.into_iter().filter(|token| seen.insert(*token)).take(MOST_OWN).collect()
}
