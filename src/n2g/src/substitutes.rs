//! Tokens that do as well as those that were seen.
//!
//! Candidates are variants of a token that differ in case or in a leading space, then its neighbours in the embedding.
//! Each is put in its place and the model is run: only what the neuron fires on is kept.

use std::collections::HashMap;

use neuroql_model::{Model, Result};

use crate::fit::line::{Line, Step};
use crate::fit::neuroql::{Fit, Substituted};
use crate::oracle::{At, Oracle, Query};
use crate::{Options, Substitutes};

/// Finds candidates.
#[derive(Debug)]
pub(crate) struct Neighbours {
    /// Tokens by their text in lower case without spaces around it.
    variants: HashMap<String, Vec<u32>>,
    texts: std::sync::Arc<[String]>,
    /// Of each token asked for, its neighbours, nearest first.
    nearest: HashMap<u32, Vec<u32>>,
}

impl Neighbours {
    /// Of a model.
    pub fn new(model: &Model) -> Self {
        let texts = std::sync::Arc::clone(model.tokenizer().texts());
        let mut variants: HashMap<String, Vec<u32>> = HashMap::new();
        for (id, text) in texts.iter().enumerate().take(model.config().vocabulary) {
            let word = text.trim().to_lowercase();
            // Fragments of characters have no text to compare.
            if !word.is_empty() && !text.contains('\u{fffd}') {
                variants.entry(word).or_default().push(id as u32);
            }
        }
        Self { variants, texts, nearest: HashMap::new() }
    }

    /// Makes the neighbours of tokens known.
    ///
    /// # Errors
    /// As [`Model::nearest_tokens`].
    pub fn learn(&mut self, model: &Model, tokens: impl IntoIterator<Item = u32>, count: usize) -> Result<()> {
        let mut new: Vec<u32> = tokens.into_iter().filter(|token| !self.nearest.contains_key(token)).collect();
        new.sort_unstable();
        new.dedup();
        let nearest = model.nearest_tokens(&new, count)?;
        self.nearest.extend(new.into_iter().zip(nearest));
        Ok(())
    }

    /// Candidates in place of a token, the likelier first.
    fn of(&self, token: u32, most: usize) -> Vec<u32> {
        let word = self.texts.get(token as usize).map(|text| text.trim().to_lowercase()).unwrap_or_default();
        let variants = self.variants.get(&word).into_iter().flatten();
        let nearest = self.nearest.get(&token).into_iter().flatten();
        let mut candidates: Vec<u32> = Vec::new();
        for candidate in variants.chain(nearest).copied() {
            let named = self.texts.get(candidate as usize).is_some_and(|text| !text.is_empty());
            if named && candidate != token && !candidates.contains(&candidate) && candidates.len() < most {
                candidates.push(candidate);
            }
        }
        candidates
    }
}

/// For each neuron, its patterns with one token replaced that the neuron was verified to fire on.
///
/// # Errors
/// As [`Oracle::ask`].
pub(crate) async fn substitute(
    oracle: &Oracle,
    fits: &[Fit<'_>],
    neighbours: &Neighbours,
    options: &Options,
) -> Result<Vec<Vec<Substituted>>> {
    if options.substitutes == Substitutes::None {
        return Ok(vec![Vec::new(); fits.len()]);
    }
    let mut queries = Vec::new();
    let mut asked: Vec<(usize, usize, Line)> = Vec::new();
    for (number, fit) in fits.iter().enumerate() {
        for found in &fit.found {
            // The strongest firing stands for all that gave the pattern.
            let Some(&firing) = found.from.first() else { continue };
            let tokens = &fit.firings[firing].tokens;
            for (step, at) in important(&found.line, tokens.len()) {
                for candidate in neighbours.of(tokens[at], options.max_augmentations) {
                    let mut tokens = tokens.clone();
                    tokens[at] = candidate;
                    let mut line = found.line.clone();
                    line[step] = Step::Token(candidate);
                    queries.push(Query { neuron: fit.task.neuron, tokens, at: At::Last });
                    asked.push((number, firing, line));
                }
            }
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
