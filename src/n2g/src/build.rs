//! Trainer of the graphs of many neurons of a layer at once.

use std::collections::HashSet;
use std::sync::Arc;

use neuroql_graph::{Graph, Matcher};
use neuroql_model::{Model, Placement};

use crate::fit::{self, TokenTexts};
use crate::saliency::masking_token;
use crate::score::{Scores, score};
use crate::substitutes::Sources;
use crate::{Background, BackgroundActivation, MaskedLm, Method, Options, QueryRunner, Result, Task};

/// Reason why a neuron has no graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The dataset has no tokens.
    #[error("the dataset has no text")]
    NoText,
    /// Its greatest activation is not above 0.
    #[error("the neuron is never positive on the dataset")]
    NeverFires,
    /// There is no example to learn from.
    #[error("the dataset has no example on which the neuron is positive")]
    NoExamples,
    /// No pattern was found in its examples.
    #[error("no pattern was found in the neuron's examples")]
    NoPattern,
    /// The method failed.
    #[error("{0}")]
    Failed(String),
}

/// Outcome of building the graph of a neuron.
#[derive(Debug, Clone, PartialEq)]
pub struct NeuronOutcome {
    /// Index of the neuron in its layer.
    pub neuron: u32,
    /// Its graph with scores, or the reason why there is none.
    pub outcome: Result<(Graph, Scores), Reason>,
}

/// Trainer of graphs. Between calls it keeps the neighbours of tokens and the masked language model.
#[derive(Debug)]
pub struct GraphTrainer {
    method: Method,
    options: Options,
    mask: u32,
    words: TokenTexts,
    sources: Sources,
}

impl GraphTrainer {
    /// Makes a trainer for all layers of a model.
    pub fn new(model: &Arc<Model>, method: Method, options: Options) -> Self {
        Self {
            method,
            mask: options.masking_token.unwrap_or_else(|| masking_token(model)),
            words: TokenTexts::new(Arc::clone(model.tokenizer().texts())),
            sources: Sources::new(model),
            options,
        }
    }

    /// Sets a masked language model that is loaded already, in place of the one of the options, which is loaded when it
    /// is first needed.
    pub fn with_masked_lm(mut self, masked_lm: Arc<MaskedLm>) -> Self {
        self.sources.set_masked_lm(masked_lm);
        self
    }

    /// Builds and judges the graphs of some neurons of the runner's layer, one result each, in order. `fired` has the
    /// tokens of the background on which each is active.
    ///
    /// # Errors
    /// Errors that stop all of them: the model cannot run, or the work was cancelled. An error of one neuron is a
    /// [`Reason`].
    pub async fn build(
        &mut self,
        runner: &QueryRunner,
        tasks: Vec<Task>,
        background: &Arc<Background>,
        fired: Vec<Vec<BackgroundActivation>>,
    ) -> Result<Vec<NeuronOutcome>> {
        let hopeless = |task: &Task| match task.max_activation {
            _ if background.windows.is_empty() && task.train.is_empty() => Some(Reason::NoText),
            greatest if greatest.is_nan() || greatest <= 0.0 => Some(Reason::NeverFires),
            _ if task.train.is_empty() => Some(Reason::NoExamples),
            _ => None,
        };
        let tasks: Vec<Arc<Task>> = tasks.into_iter().map(Arc::new).collect();
        let fired: Vec<Arc<[BackgroundActivation]>> = fired.into_iter().map(Arc::from).collect();
        let fit: Vec<usize> = (0..tasks.len()).filter(|i| hopeless(&tasks[*i]).is_none()).collect();
        let chosen: Vec<Arc<Task>> = fit.iter().map(|i| Arc::clone(&tasks[*i])).collect();
        let of_chosen: Vec<Arc<[BackgroundActivation]>> = fit.iter().map(|i| Arc::clone(&fired[*i])).collect();
        let mut graphs = self.fit(runner, &chosen, background, &of_chosen).await?.into_iter();
        let made: Vec<Result<Graph, Reason>> = tasks
            .iter()
            .map(|task| match hopeless(task) {
                Some(reason) => Err(reason),
                None => match graphs.next() {
                    Some(Ok(graph)) if graph.is_empty() => Err(Reason::NoPattern),
                    Some(Ok(graph)) => Ok(graph),
                    Some(Err(error)) => Err(Reason::Failed(error.to_string())),
                    None => Err(Reason::NoPattern),
                },
            })
            .collect();
        let judged = made.into_iter().zip(tasks).zip(fired).map(|((graph, task), fired)| {
            let (background, semantics) = (Arc::clone(background), self.method.semantics());
            let (threshold, neuron) = (self.options.fire_threshold, task.neuron);
            let judge = move || {
                let outcome = graph.and_then(|graph| {
                    let matcher = Matcher::of(&graph, semantics).map_err(|e| Reason::Failed(e.to_string()))?;
                    let seen: HashSet<i64> = task.train.iter().map(|sample| sample.document).collect();
                    let scores = score(&matcher, &task.held_out, &background, &fired, &seen, threshold);
                    Ok((graph, scores))
                });
                Ok(outcome)
            };
            // It runs no model, so it can only fail by an internal error, of this neuron alone.
            let outcome = runner.pool().run(Placement::OneThread, judge);
            async move {
                let outcome = outcome.await.unwrap_or_else(|error| Err(Reason::Failed(error.to_string())));
                NeuronOutcome { neuron, outcome }
            }
        });
        Ok(futures::future::join_all(judged).await)
    }

    async fn fit(
        &mut self,
        runner: &QueryRunner,
        tasks: &[Arc<Task>],
        background: &Arc<Background>,
        fired: &[Arc<[BackgroundActivation]>],
    ) -> Result<Vec<Result<Graph>>> {
        let Self { method, options, mask, words, sources } = self;
        match method {
            Method::Token | Method::Ngram => fit::baseline(runner, tasks, *method, words, options).await,
            Method::N2g => fit::n2g(runner, tasks, words, sources, *mask, options).await,
            Method::Openai => fit::openai(runner, tasks, words, *mask, options).await,
            Method::Neuroql => fit::neuroql::fit(runner, tasks, background, fired, words, sources, options).await,
        }
    }
}
