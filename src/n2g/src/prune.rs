//! Pruning: finds the shortest context on which a neuron still fires.

use neuroql_model::Result;

use crate::Options;
use crate::query_runner::{Positions, Query, QueryRunner, turns};
use crate::sample::Sample;

/// Pruned sample: the part of it that ends with the token on which the neuron fires, or with a few tokens after it.
#[derive(Debug, Clone, PartialEq)]
pub struct PrunedSample {
    /// Tokens of the part.
    pub tokens: Vec<u32>,
    /// Index of the activator in the tokens.
    pub pivot: usize,
    /// Activation on the whole sample over that on these tokens, by which activations on them are rescaled, so that the
    /// activator keeps its own.
    pub scale: f32,
}

/// Pivot, the input of pruning: a sample and the position of an activator.
#[derive(Debug, Clone, Copy)]
pub struct Pivot<'a> {
    /// Index of the neuron in its layer.
    pub neuron: u32,
    /// Greatest activation of the neuron over the dataset.
    pub max_activation: f32,
    /// The sample.
    pub sample: &'a Sample,
    /// Position of the activator.
    pub position: usize,
}

impl Pivot<'_> {
    fn suffix(&self, length: usize) -> &[u32] {
        &self.sample.tokens[self.position + 1 - length..=self.position]
    }

    fn activation(&self) -> f32 {
        self.sample.activations[self.position]
    }

    /// Length of the longest context of at most `cutoff` tokens, at least 1.
    fn longest(&self, cutoff: usize) -> usize {
        (self.position + 1).min(cutoff.max(1))
    }

    /// Bound of the number of tokens of all contexts of at most `cutoff` tokens.
    fn tokens_tried(&self, cutoff: usize) -> usize {
        self.longest(cutoff).pow(2)
    }
}

/// Prunes by steps, as Neuron2Graph does (`fast_prune`): tries contexts of 5, 10, … tokens up to the cut-off, or the
/// whole of a shorter one, and takes the first on which the activator is still the maximum and keeps enough of its
/// activation, else the longest. A few tokens of the rest of its sentence stay after it.
///
/// # Errors
/// Errors of [`QueryRunner::ask`].
pub async fn by_steps(runner: &QueryRunner, pivots: &[Pivot<'_>], options: &Options) -> Result<Vec<PrunedSample>> {
    let mut pruned = Vec::with_capacity(pivots.len());
    for pivots in turns(pivots, |pivot| pivot.tokens_tried(options.cutoff)) {
        pruned.extend(by_steps_in_turn(runner, pivots, options).await?);
    }
    Ok(pruned)
}

async fn by_steps_in_turn(runner: &QueryRunner, pivots: &[Pivot<'_>], options: &Options) -> Result<Vec<PrunedSample>> {
    let lengths: Vec<Vec<usize>> = pivots.iter().map(|pivot| lengths(pivot.position + 1, options)).collect();
    let mut queries = Vec::new();
    for (pivot, lengths) in pivots.iter().zip(&lengths) {
        queries.extend(lengths.iter().map(|&length| Query {
            neuron: pivot.neuron,
            tokens: pivot.suffix(length).to_vec(),
            at: Positions::All,
        }));
    }
    let mut answers = runner.ask(&queries).await?.into_iter();
    let texts = runner.model().tokenizer().texts();
    let mut pruned = Vec::with_capacity(pivots.len());
    for (pivot, lengths) in pivots.iter().zip(&lengths) {
        let mut chosen = None;
        for (i, (length, values)) in lengths.iter().zip(answers.by_ref().take(lengths.len())).enumerate() {
            let peak = values.iter().copied().fold(f32::NEG_INFINITY, f32::max) / pivot.max_activation;
            let first = values.iter().position(|value| *value / pivot.max_activation == peak);
            let kept = (peak - pivot.activation()) / pivot.activation() > options.keep - 1.0;
            let stays = first == Some(length - 1);
            if chosen.is_none() && ((stays && kept) || i + 1 == lengths.len()) {
                chosen = Some((*length, peak));
            }
        }
        let Some((length, peak)) = chosen else { continue };
        let mut tokens = pivot.suffix(length).to_vec();
        tokens.extend(rest_of_sentence(pivot, texts, options.post_context));
        pruned.push(PrunedSample { tokens, pivot: length - 1, scale: scale(pivot.activation(), peak) });
    }
    Ok(pruned)
}

/// Computes [`PrunedSample::scale`]; 0, so that nothing fires, if the pruned activation is not positive.
fn scale(whole: f32, pruned: f32) -> f32 {
    if pruned > 0.0 { whole / pruned } else { 0.0 }
}

/// Lengths of context that are tried.
fn lengths(whole: usize, options: &Options) -> Vec<usize> {
    let step = options.skip_interval.max(1);
    let lengths: Vec<usize> =
        (1..=whole.min(options.cutoff)).filter(|length| *length == whole || length % step == 0).collect();
    if lengths.is_empty() { vec![whole.min(options.cutoff).max(1)] } else { lengths }
}

/// Tokens after the activator up to the end of its sentence.
fn rest_of_sentence<'a>(pivot: &'a Pivot, texts: &'a [String], most: usize) -> impl Iterator<Item = u32> + 'a {
    let ends = |token: &u32| texts.get(*token as usize).is_some_and(|text| text.contains(['.', '!', '\n']));
    let mut ended = false;
    let tokens = &pivot.sample.tokens[pivot.position..];
    let rest = tokens.iter().enumerate().take_while(move |(_, token)| {
        let before = ended;
        ended |= ends(token);
        !before
    });
    rest.skip(1).take(most).map(|(_, token)| *token)
}

/// Prunes by exact search, one token at a time: takes the shortest context whose last token keeps enough of its
/// activation, else the longest, of at most `cutoff` tokens.
///
/// # Errors
/// Errors of [`QueryRunner::ask`].
pub async fn exact(runner: &QueryRunner, pivots: &[Pivot<'_>], keep: f32, cutoff: usize) -> Result<Vec<PrunedSample>> {
    let mut pruned = Vec::with_capacity(pivots.len());
    for pivots in turns(pivots, |pivot| pivot.tokens_tried(cutoff)) {
        pruned.extend(exact_in_turn(runner, pivots, keep, cutoff).await?);
    }
    Ok(pruned)
}

async fn exact_in_turn(
    runner: &QueryRunner,
    pivots: &[Pivot<'_>],
    keep: f32,
    cutoff: usize,
) -> Result<Vec<PrunedSample>> {
    let longest = |pivot: &Pivot| pivot.longest(cutoff);
    let mut found: Vec<Option<PrunedSample>> = vec![None; pivots.len()];
    let mut tried = 0;
    // Most contexts are short: lengths are tried in growing bunches.
    while found.iter().zip(pivots).any(|(found, pivot)| found.is_none() && tried < longest(pivot)) {
        let bunch = tried + 1..=(2 * tried).max(8);
        let mut queries = Vec::new();
        let mut asked = Vec::new();
        for (i, pivot) in pivots.iter().enumerate().filter(|(i, _)| found[*i].is_none()) {
            for length in bunch.clone().take_while(|length| *length <= longest(pivot)) {
                let tokens = pivot.suffix(length).to_vec();
                queries.push(Query { neuron: pivot.neuron, tokens, at: Positions::Last });
                asked.push((i, length));
            }
        }
        for ((i, length), values) in asked.into_iter().zip(runner.ask(&queries).await?) {
            let pivot = &pivots[i];
            let value = values[0] / pivot.max_activation;
            let last = length == longest(pivot);
            if found[i].is_none() && (value >= keep * pivot.activation() || last) {
                let tokens = pivot.suffix(length).to_vec();
                found[i] = Some(PrunedSample { tokens, pivot: length - 1, scale: scale(pivot.activation(), value) });
            }
        }
        tried = *bunch.end();
    }
    Ok(found.into_iter().flatten().collect())
}
