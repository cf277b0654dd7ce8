//! Variant of OpenAI's sparse autoencoder code (arXiv 2406.04093): the shortest suffix that keeps half of the
//! activation, wildcards for tokens of low saliency, a start anchor, no substitutes.

use std::sync::Arc;

use neuroql_graph::{Builder, Element, Graph, Pattern, Policy, Symbol};

use super::TokenTexts;
use crate::prune::{Pivot, PrunedSample, exact};
use crate::query_runner::{Positions, Query, unanswered};
use crate::{Options, QueryRunner, Result, Task};

/// Fits graphs of one pattern a sample, that of its greatest activation.
pub(crate) async fn fit(
    runner: &QueryRunner,
    tasks: &[Arc<Task>],
    words: &TokenTexts,
    mask: u32,
    options: &Options,
) -> Result<Vec<Result<Graph>>> {
    let mut pivots = Vec::new();
    for task in tasks {
        pivots.extend(task.train.iter().filter_map(|sample| {
            let (position, _) = sample.peak().filter(|(_, a)| *a > 0.0)?;
            Some(Pivot { neuron: task.neuron, max_activation: task.max_activation, sample, position })
        }));
    }
    let pruned = exact(runner, &pivots, options.keep, options.cutoff).await?;
    let mut queries = Vec::new();
    for (pivot, pruned) in pivots.iter().zip(&pruned) {
        let query = |tokens| Query { neuron: pivot.neuron, tokens, at: Positions::Last };
        queries.push(query(pruned.tokens.clone()));
        // A context as long as the window has no room for another token: it starts where the text does.
        let room = pruned.tokens.len() < runner.model().window();
        queries.push(query(if room { [&[mask], pruned.tokens.as_slice()].concat() } else { Vec::new() }));
        for k in 0..pruned.tokens.len() {
            let mut tokens = pruned.tokens.clone();
            tokens[k] = mask;
            queries.push(query(tokens));
        }
    }
    let mut answers =
        runner.ask(&queries).await?.into_iter().map(|values| values.last().copied().unwrap_or(f32::NEG_INFINITY));
    let made = pivots.iter().zip(&pruned).map(|(pivot, pruned)| {
        let original = answers.next().ok_or_else(unanswered)?;
        let padded = answers.next().ok_or_else(unanswered)?;
        let masked: Vec<f32> = answers.by_ref().take(pruned.tokens.len()).collect();
        let starts = padded < options.keep * pivot.sample.activations[pivot.position] * pivot.max_activation;
        let ends = original / pivot.max_activation;
        Ok((pivot.neuron, pattern(pruned, ends, original, &masked, starts, words, options)))
    });
    let patterns: Vec<(u32, Pattern)> = made.collect::<Result<_>>()?;
    let graphs = tasks.iter().map(|task| {
        let mut builder = Builder::new(Policy::FirstWins);
        let own = patterns.iter().filter(|(neuron, _)| *neuron == task.neuron);
        // In OpenAI's code, the last writer wins.
        own.rev().try_for_each(|(_, pattern)| builder.insert(pattern))?;
        Ok(builder.build()?)
    });
    Ok(graphs.collect())
}

fn pattern(
    pruned: &PrunedSample,
    ends: f32,
    original: f32,
    masked: &[f32],
    starts: bool,
    words: &TokenTexts,
    options: &Options,
) -> Pattern {
    let last = pruned.tokens.len() - 1;
    let mut elements: Vec<Element> = (0..=last)
        .rev()
        .map(|k| {
            let importance = if original == 0.0 { 0.0 } else { 1.0 - masked[k] / original };
            let salient = k == last || importance >= options.importance_threshold;
            let symbol = if salient { Symbol::Token(words.token(pruned.tokens[k])) } else { Symbol::Any };
            Element { symbol, importance, activation: if k == last { ends } else { 0.0 } }
        })
        .collect();
    if starts {
        elements.push(Element { symbol: Symbol::Start, importance: 0.0, activation: 0.0 });
    }
    Pattern { elements, ends }
}
