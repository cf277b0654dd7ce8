//! Saliency: the importance of the tokens of a text for an activation.

use neuroql_model::{Model, Result};

use crate::Options;
use crate::prune::PrunedSample;
use crate::query_runner::{Positions, Query, QueryRunner, turns, unanswered};
use crate::random::Random;

/// Importances in a pruned text by masking: `importances[k·n + j]` = 1 − a_j(token k masked)/a_j(original), paper §3.2.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskedImportances {
    /// Activations of the model on the pruned text, `[n]`.
    pub activations: Vec<f32>,
    /// Importances, `[n, n]`; 0 where the token comes later, the original activation is 0 or nothing fires.
    pub importances: Vec<f32>,
}

impl MaskedImportances {
    /// Position of the greatest activation; the first of equal ones.
    pub fn peak(&self) -> usize {
        peak(&self.activations)
    }
}

fn peak(activations: &[f32]) -> usize {
    let greatest = activations.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    activations.iter().position(|a| *a == greatest).unwrap_or(0)
}

/// Measures the importance of each token for each later one that fires, by a masking token, as Neuron2Graph does.
///
/// Only tokens that patterns need are run: up to the last that fires, and if `peaks`, up to the greatest activation.
///
/// # Errors
/// Errors of [`QueryRunner::ask`].
pub async fn by_mask(
    runner: &QueryRunner,
    pruned: &[(u32, f32, &PrunedSample)],
    mask: u32,
    peaks: bool,
    options: &Options,
) -> Result<Vec<MaskedImportances>> {
    let mut masked = Vec::with_capacity(pruned.len());
    for pruned in turns(pruned, |(.., pruned)| pruned.tokens.len().pow(2)) {
        masked.extend(masked_in_turn(runner, pruned, mask, peaks, options).await?);
    }
    Ok(masked)
}

async fn masked_in_turn(
    runner: &QueryRunner,
    pruned: &[(u32, f32, &PrunedSample)],
    mask: u32,
    peaks: bool,
    options: &Options,
) -> Result<Vec<MaskedImportances>> {
    let original = |(neuron, _, pruned): &(u32, f32, &PrunedSample)| Query {
        neuron: *neuron,
        tokens: pruned.tokens.clone(),
        at: Positions::All,
    };
    let originals = runner.ask(&pruned.iter().map(original).collect::<Vec<_>>()).await?;
    let mut queries = Vec::new();
    let mut lengths = Vec::new();
    for ((neuron, max_activation, pruned), activations) in pruned.iter().zip(&originals) {
        let fires = |a: &f32| a * pruned.scale / max_activation > options.activation_threshold;
        let fired = activations.iter().rposition(fires).map_or(0, |last| last + 1);
        let length = if peaks { fired.max(peak(activations) + 1).min(activations.len()) } else { fired };
        lengths.push(length);
        queries.extend((0..length).map(|k| {
            let mut tokens = pruned.tokens[..length].to_vec();
            tokens[k] = mask;
            Query { neuron: *neuron, tokens, at: Positions::All }
        }));
    }
    let mut answers = runner.ask(&queries).await?.into_iter();
    let masked = originals.into_iter().zip(lengths).map(|(activations, length)| {
        let n = activations.len();
        let mut importances = vec![0.0; n * n];
        for (k, masked) in answers.by_ref().take(length).enumerate() {
            for j in k..length {
                if activations[j] != 0.0 {
                    importances[k * n + j] = 1.0 - masked[j] / activations[j];
                }
            }
        }
        MaskedImportances { activations, importances }
    });
    Ok(masked.collect())
}

/// Measures the importance of each token of a neuron's pruned text for its last one, by randomly drawn tokens in its
/// place, which, unlike a mask, are no signal of their own. Mean over the draws. Without tokens to draw from, it is 0.
///
/// # Errors
/// Errors of [`QueryRunner::ask`].
pub async fn by_draws(
    runner: &QueryRunner,
    pruned: &[(u32, &PrunedSample, &[u32])],
    draws: usize,
) -> Result<Vec<Vec<f32>>> {
    let mut importances = Vec::with_capacity(pruned.len());
    for pruned in turns(pruned, |(_, pruned, _)| draws * (pruned.pivot + 1).pow(2)) {
        importances.extend(drawn_in_turn(runner, pruned, draws).await?);
    }
    Ok(importances)
}

async fn drawn_in_turn(
    runner: &QueryRunner,
    pruned: &[(u32, &PrunedSample, &[u32])],
    draws: usize,
) -> Result<Vec<Vec<f32>>> {
    let mut queries = Vec::new();
    for (neuron, pruned, words) in pruned {
        let mut random = Random::new(u64::from(*neuron) << 32 | u64::from(pruned.tokens[pruned.pivot]));
        let tokens = &pruned.tokens[..=pruned.pivot];
        queries.push(Query { neuron: *neuron, tokens: tokens.to_vec(), at: Positions::Last });
        for k in 0..pruned.pivot {
            for _ in 0..draws {
                let mut tokens = tokens.to_vec();
                if !words.is_empty() {
                    tokens[k] = words[random.below(words.len())];
                }
                queries.push(Query { neuron: *neuron, tokens, at: Positions::Last });
            }
        }
    }
    let mut answers = runner.ask(&queries).await?.into_iter().map(|values| values[0]);
    let mut importances = Vec::with_capacity(pruned.len());
    for (_, pruned, _) in pruned {
        let original = answers.next().ok_or_else(unanswered)?;
        let mut row = Vec::with_capacity(pruned.pivot + 1);
        for _ in 0..pruned.pivot {
            let mean = answers.by_ref().take(draws).sum::<f32>() / draws as f32;
            row.push(if original > 0.0 { 1.0 - mean / original } else { 0.0 });
        }
        // Importance of the activator itself.
        row.push(1.0);
        importances.push(row);
    }
    Ok(importances)
}

/// Masking token of a vocabulary: its mask or padding token if it has one (Neuron2Graph takes token 1, which is one for
/// GPT-NeoX but a quotation mark for GPT-2). Else a token of little meaning: an underscore, as in OpenAI's code, or
/// token 1.
pub fn masking_token(model: &Model) -> u32 {
    let texts = model.tokenizer().texts();
    let vocabulary = model.config().vocabulary.min(texts.len());
    let find = |text: &str| texts[..vocabulary].iter().position(|known| known == text).map(|id| id as u32);
    let known = ["<|padding|>", "[MASK]", "<mask>", "<pad>", "[PAD]", "<|pad|>", " _", "▁_", "_"];
    known.into_iter().find_map(find).unwrap_or(1.min(vocabulary.saturating_sub(1) as u32))
}
