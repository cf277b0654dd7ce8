//! Neuron2Graph as published and as its maintained code does it.

use neuroql_graph::{Builder, Graph, Inherited, Lines, Policy, Prompt, Token};

use super::Words;
use crate::prune::{Pivot, Pruned, by_steps};
use crate::saliency::{Masked, by_mask};
use crate::{Options, Oracle, Result, Task};

/// Pruned texts of a neuron with what masking does to them.
type Prompts = Vec<(Pruned, Masked)>;

/// Patterns read off pruned samples by an importance threshold, generalised by wildcards.
///
/// A graph that cannot be made is an error of its own neuron only.
pub(crate) async fn fit(
    oracle: &Oracle,
    tasks: &[&Task],
    words: &Words,
    mask: u32,
    options: &Options,
) -> Result<Vec<Result<Graph>>> {
    let pivots: Vec<Pivot> = tasks.iter().flat_map(|task| pivots(task, options)).collect();
    let pruned = by_steps(oracle, &pivots, options).await?;
    let texts: Vec<_> =
        pivots.iter().zip(&pruned).map(|(pivot, pruned)| (pivot.neuron, pivot.max_activation, pruned)).collect();
    let masked = by_mask(oracle, &texts, mask, options).await?;
    let owners: Vec<u32> = pivots.iter().map(|pivot| pivot.neuron).collect();
    let mut prompts = owners.into_iter().zip(pruned.into_iter().zip(masked)).peekable();
    let graphs = tasks.iter().map(|task| {
        let mut own: Prompts = Vec::new();
        while let Some((_, prompt)) = prompts.next_if(|(neuron, _)| *neuron == task.neuron) {
            own.push(prompt);
        }
        graph(task, &own, words, oracle.model().bos(), options)
    });
    Ok(graphs.collect())
}

/// Tokens that have patterns: the greatest of each sample, or all near to it.
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

fn graph(task: &Task, prompts: &Prompts, words: &Words, special: Option<u32>, options: &Options) -> Result<Graph> {
    let lines = Lines {
        activation_threshold: options.activation_threshold,
        importance_threshold: options.importance_threshold,
        inherited: Inherited::All,
        special,
    };
    let mut builder = Builder::new(Policy::FirstWins);
    for (pruned, masked) in prompts {
        let tokens: Vec<Token> = pruned.tokens.iter().map(|id| words.token(*id)).collect();
        let normalised = |a: &f32| (a * pruned.scale / task.max_activation * 1000.0).round_ties_even() / 1000.0;
        let activations: Vec<f32> = masked.activations.iter().map(normalised).collect();
        let prompt = Prompt { tokens: &tokens, importances: &masked.importances, activations: &activations };
        for pattern in lines.patterns(&[prompt])? {
            builder.insert(&pattern)?;
        }
    }
    builder.merge_wildcards()?;
    Ok(builder.build()?)
}
