//! Baselines of the paper's Table 1: look-ups of tokens and of n-grams.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use neuroql_graph::{Builder, Element, Graph, Pattern, Policy, Symbol};
use neuroql_model::Placement;

use super::TokenTexts;
use crate::{Method, Options, QueryRunner, Result, Task};

/// Fits the graphs of [`Method::Token`] or [`Method::Ngram`].
pub(crate) async fn baseline(
    runner: &QueryRunner,
    tasks: &[Arc<Task>],
    method: Method,
    words: &TokenTexts,
    options: &Options,
) -> Result<Vec<Result<Graph>>> {
    let graphs = tasks.iter().map(|task| {
        let (task, words, options) = (Arc::clone(task), words.clone(), options.clone());
        let graph = move || match method {
            Method::Token => token(&task, &words),
            _ => ngram(&task, &words, &options),
        };
        runner.pool().run(Placement::OneThread, move || Ok(graph()))
    });
    Ok(join_all(graphs).await.into_iter().map(|graph| graph?).collect())
}

/// Makes the graph in which each token predicts the greatest activation that was seen on it.
fn token(task: &Task, words: &TokenTexts) -> Result<Graph> {
    let mut most: BTreeMap<u32, f32> = BTreeMap::new();
    for sample in &task.train {
        for (token, a) in sample.tokens.iter().zip(&sample.activations).filter(|(_, a)| **a > 0.0) {
            let known = most.entry(*token).or_insert(*a);
            *known = known.max(*a);
        }
    }
    let mut builder = Builder::new(Policy::Max);
    for (token, a) in most {
        let element = Element { symbol: Symbol::Token(words.token(token)), importance: 1.0, activation: a };
        builder.insert(&Pattern { elements: vec![element], ends: a })?;
    }
    Ok(builder.build()?)
}

/// Makes the graph in which each firing token with those before it predicts the greatest activation seen there.
fn ngram(task: &Task, words: &TokenTexts, options: &Options) -> Result<Graph> {
    let mut builder = Builder::new(Policy::Max);
    for sample in &task.train {
        for (at, &ends) in sample.activations.iter().enumerate().filter(|(_, a)| **a >= options.activation_threshold) {
            let first = at.saturating_sub(options.ngram);
            let element = |i: usize| Element {
                symbol: Symbol::Token(words.token(sample.tokens[i])),
                importance: 1.0,
                activation: sample.activations[i],
            };
            let elements = (first..=at).rev().map(element).collect();
            builder.insert(&Pattern { elements, ends })?;
        }
    }
    Ok(builder.build()?)
}
