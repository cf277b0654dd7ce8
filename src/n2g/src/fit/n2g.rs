//! Neuron2Graph as published and as its maintained code does it.

use std::iter;
use std::sync::Arc;

use futures::future::join_all;
use neuroql_graph::{Builder, Graph, Inherited, PatternExtractor, Policy, Prompt, Token};
use neuroql_model::Placement;

use super::TokenTexts;
use crate::prune::{Pivot, PrunedSample, by_steps};
use crate::query_runner::turns;
use crate::saliency::{MaskedImportances, by_mask};
use crate::substitutes::{Prompt as Augmented, Sources};
use crate::{Options, QueryRunner, Result, Substitutes, Task};

/// Least importance for the activator of a token that is replaced by substitutes.
const AUGMENTED: f32 = 0.8;

/// A firing token, and its pruned text with its importances by masking.
type OriginalPrompt<'a> = (Pivot<'a>, (PrunedSample, MaskedImportances));

/// A pruned text with its importances by masking, then its variants.
type Prompts = Vec<(PrunedSample, MaskedImportances)>;

/// Fits graphs to patterns of pruned samples, and of variants of them in which important words are substituted, by an
/// importance threshold, generalised by wildcards.
///
/// A graph that cannot be made is an error of its own neuron only.
pub(crate) async fn fit(
    runner: &QueryRunner,
    tasks: &[Arc<Task>],
    words: &TokenTexts,
    sources: &mut Sources,
    mask: u32,
    options: &Options,
) -> Result<Vec<Result<Graph>>> {
    let of_tasks: Vec<Vec<Pivot>> = tasks.iter().map(|task| pivots(task, options)).collect();
    let pivots = of_tasks.concat();
    let pruned = by_steps(runner, &pivots, options).await?;
    let texts: Vec<_> =
        pivots.iter().zip(&pruned).map(|(pivot, pruned)| (pivot.neuron, pivot.max_activation, pruned)).collect();
    // A text that is too weak for a pattern may have stronger variants.
    let augmented = options.substitutes != Substitutes::None;
    let masked = by_mask(runner, &texts, mask, augmented, options).await?;
    let mut originals = pivots.into_iter().zip(pruned.into_iter().zip(masked));
    let mut work: Vec<(Arc<Task>, Vec<OriginalPrompt>)> = Vec::with_capacity(tasks.len());
    for (task, own) in tasks.iter().zip(&of_tasks) {
        work.push((Arc::clone(task), originals.by_ref().take(own.len()).collect()));
    }
    let most = if augmented { options.max_augmentations } else { 0 };
    let variants_of = |length: usize| most * length + 1;
    let numbers = |(_, own): &(_, Vec<OriginalPrompt>)| {
        own.iter().map(|(_, (pruned, _))| pruned.tokens.len()).map(|length| variants_of(length) * length.pow(2)).sum()
    };
    let mut graphs = Vec::with_capacity(tasks.len());
    for work in turns(&work, numbers) {
        let originals: Vec<&OriginalPrompt> = work.iter().flat_map(|(_, own)| own).collect();
        let variants = augment(runner, &originals, sources, mask, options).await?;
        let prompts = originals.into_iter().zip(variants);
        let mut prompts = prompts.map(|((_, original), own)| iter::once(original.clone()).chain(own).collect());
        let made = work.iter().map(|(task, own)| {
            let own: Vec<Prompts> = prompts.by_ref().take(own.len()).collect();
            let (task, words, bos, options) = (Arc::clone(task), words.clone(), runner.model().bos(), options.clone());
            runner.pool().run(Placement::OneThread, move || Ok(graph(&task, &own, &words, bos, &options)))
        });
        graphs.extend(join_all(made).await.into_iter().map(|graph| graph?));
    }
    Ok(graphs)
}

/// Tokens that have patterns: the strongest of each sample, or all of similar strength.
fn pivots<'a>(task: &'a Task, options: &Options) -> Vec<Pivot<'a>> {
    let mut pivots = Vec::new();
    for sample in &task.train {
        let Some((peak, greatest)) = sample.peak().filter(|(_, a)| *a > 0.0) else { continue };
        let least = options.token_activation_threshold * greatest;
        let of_sample: Vec<usize> = if options.token_activation_threshold >= 1.0 {
            vec![peak]
        } else {
            (0..sample.activations.len()).filter(|i| sample.activations[*i] >= least).collect()
        };
        pivots.extend(of_sample.into_iter().map(|position| Pivot {
            neuron: task.neuron,
            max_activation: task.max_activation,
            sample,
            position,
        }));
    }
    pivots
}

/// Variants of each pruned text in which one important word is substituted. Their activations are rescaled as those of
/// the text; those that fire have patterns.
async fn augment(
    runner: &QueryRunner,
    originals: &[&OriginalPrompt<'_>],
    sources: &mut Sources,
    mask: u32,
    options: &Options,
) -> Result<Vec<Prompts>> {
    if options.substitutes == Substitutes::None {
        return Ok(vec![Vec::new(); originals.len()]);
    }
    let bos = runner.model().bos();
    let texts: Vec<_> = originals
        .iter()
        .map(|(pivot, (pruned, masked))| {
            let peak = masked.peak();
            let n = masked.activations.len();
            let important = |k: &usize| masked.importances[k * n + peak] >= AUGMENTED;
            let special = |k: &usize| Some(pruned.tokens[*k]) == bos;
            let start = pivot.position - pruned.pivot;
            Augmented {
                before: &pivot.sample.tokens[..start],
                tokens: &pruned.tokens,
                pivot: peak,
                important: (0..=peak).filter(|k| important(k) && !special(k)).collect(),
            }
        })
        .collect();
    let variants = sources.variants(runner, &texts, options).await?;
    let counts: Vec<usize> = variants.iter().map(Vec::len).collect();
    let variants: Vec<(u32, f32, PrunedSample)> = originals
        .iter()
        .zip(variants)
        .flat_map(|((pivot, (pruned, _)), variants)| {
            let of = move |tokens| PrunedSample { tokens, pivot: pruned.pivot, scale: pruned.scale };
            variants.into_iter().map(move |tokens| (pivot.neuron, pivot.max_activation, of(tokens)))
        })
        .collect();
    let texts: Vec<_> = variants.iter().map(|(neuron, most, pruned)| (*neuron, *most, pruned)).collect();
    let masked = by_mask(runner, &texts, mask, false, options).await?;
    let mut all = variants.into_iter().map(|(.., pruned)| pruned).zip(masked);
    Ok(counts.into_iter().map(|count| all.by_ref().take(count).collect()).collect())
}

fn graph(
    task: &Task,
    prompts: &[Prompts],
    words: &TokenTexts,
    special: Option<u32>,
    options: &Options,
) -> Result<Graph> {
    let lines = PatternExtractor {
        activation_threshold: options.activation_threshold,
        importance_threshold: options.importance_threshold,
        inherited: Inherited::All,
        special,
    };
    let mut builder = Builder::new(Policy::FirstWins);
    let normalised =
        |pruned: &PrunedSample, a: &f32| (a * pruned.scale / task.max_activation * 1000.0).round_ties_even() / 1000.0;
    for prompts in prompts {
        let tokens: Vec<Vec<Token>> =
            prompts.iter().map(|(pruned, _)| pruned.tokens.iter().map(|id| words.token(*id)).collect()).collect();
        let activations: Vec<Vec<f32>> = prompts
            .iter()
            .map(|(pruned, masked)| masked.activations.iter().map(|a| normalised(pruned, a)).collect())
            .collect();
        let prompts: Vec<Prompt> = prompts
            .iter()
            .zip(tokens.iter().zip(&activations))
            .map(|((_, masked), (tokens, activations))| Prompt {
                tokens,
                importances: &masked.importances,
                activations,
            })
            .collect();
        for pattern in lines.patterns(&prompts)? {
            builder.insert(&pattern)?;
        }
    }
    builder.merge_wildcards()?;
    Ok(builder.build()?)
}
