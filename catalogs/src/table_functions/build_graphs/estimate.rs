//! Estimated cost of building or judging graphs.

use datafusion::error::Result;
use neuroql_model::{Model, Pool};
use neuroql_n2g::Method;
use neuroql_pipeline::graphs::{GATHERED_BYTES, RANDOM_TOKENS};
use neuroql_pipeline::{Freshness, Origin};
use neuroql_schema::sql_error;

use crate::planner::estimate::{Estimate, RunConditions, TokenCount};
use crate::state::EngineState;

/// Approximate number of tokens of an example.
const EXAMPLE_TOKENS: f64 = 100.0;

/// Approximate number of bytes that a neuron takes for each token of its examples.
const TOKEN_BYTES: f64 = 16.0;

/// Work on examples of neurons.
pub(crate) struct ExampleWorkload<'a> {
    pub model: &'a Model,
    pub pool: &'a Pool,
    /// Layers, number of neurons of each, and number of tokens that are searched for their examples.
    pub layers: Vec<(u32, usize, f64)>,
    /// Examples of each neuron.
    pub examples: usize,
    /// Tokens that are run for each token of an example.
    pub effort: f64,
}

impl ExampleWorkload<'_> {
    /// Estimates the cost if nothing of it was done before.
    pub fn estimate(&self) -> Estimate {
        let of_neuron = self.examples as f64 * EXAMPLE_TOKENS;
        let (mut tokens, mut token_layers, mut most) = (0.0, 0.0, 0.0_f64);
        for (layer, neurons, searched) in &self.layers {
            let neurons = *neurons as f64;
            let of_layer = searched + RANDOM_TOKENS as f64 + neurons * of_neuron * self.effort;
            tokens += of_layer;
            token_layers += of_layer * f64::from(layer + 1);
            most = most.max(neurons);
        }
        let running = RunConditions {
            speed: self.model.speed(),
            layers: token_layers / f64::max(tokens, 1.0),
            batch: self.model.batch_tokens(1),
            lanes: self.pool.threads() + 1,
            threads: self.pool.threads(),
        };
        let held = (most * of_neuron * TOKEN_BYTES).min(GATHERED_BYTES as f64);
        let per_token = 4.0 * self.model.neurons_per_layer() as f64;
        running.estimate(Some(TokenCount::about_so_many(tokens)), self.pool.threads() + 1, held, per_token)
    }
}

/// Adds to layers and numbers of their neurons the number of tokens that are searched for examples: none if an analysis
/// knows them.
pub(crate) async fn searched(
    engine: &EngineState,
    model: &Model,
    origin: &Origin,
    most: usize,
    layers: impl Iterator<Item = (u32, usize)>,
) -> Result<Vec<(u32, usize, f64)>> {
    let Some(name) = origin.dataset().map(|dataset| dataset.name()) else { return Ok(Vec::new()) };
    let freshness = Freshness::of(model);
    let all = TokenCount::of(origin, model, model.tokenizer().bytes_per_token());
    let most = all.map_or(most as f64, |all| all.count.min(most as f64));
    let mut found = Vec::new();
    for (layer, neurons) in layers {
        let progress = engine.store.progress(model.name(), name, layer).await.map_err(sql_error)?;
        let analysed = progress.is_some_and(|progress| freshness.is_complete(&progress));
        found.push((layer, neurons, if analysed { 0.0 } else { most }));
    }
    Ok(found)
}

/// Tokens that building runs for each token of a neuron's examples, as measured on the toy.
pub(super) fn effort(method: Method) -> f64 {
    match method {
        Method::Neuroql => 4.0,
        Method::N2g => 4.0,
        Method::Openai => 4.0,
        Method::Token | Method::Ngram => 1.0,
    }
}
