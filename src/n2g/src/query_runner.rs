//! Runner of queries: activations on changed texts, which are shortened, masked or substituted.
//!
//! Queries of many neurons of a layer share forward passes, shared prefixes of texts run once (most texts differ in one
//! token), and the pass stops at the layer.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::try_join_all;
use neuroql_model::{Batch, Cancel, Model, Placement, Pool, ReadSpec, Registry, Result, reduce};

/// Query of a neuron's activations on a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Index of the neuron in the layer.
    pub neuron: u32,
    /// Tokens of the text, without BOS.
    pub tokens: Vec<u32>,
    /// Positions to read.
    pub at: Positions,
}

/// Positions of a text to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Positions {
    /// All positions.
    All,
    /// The last position.
    Last,
}

/// Runner of queries on one layer of a model.
#[derive(Debug, Clone)]
pub struct QueryRunner {
    model: Arc<Model>,
    registry: Arc<Registry>,
    layer: usize,
    cancel: Cancel,
}

/// Greatest number of tokens of the queries of one turn.
const TURN: usize = 1 << 24;

/// Splits items into turns whose queries have at most [`TURN`] tokens, unless one item alone has more: options and
/// examples may give more queries than fit in memory.
pub(crate) fn turns<T>(items: &[T], tokens: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    turns_of(TURN, items, tokens)
}

fn turns_of<T>(most: usize, mut items: &[T], tokens: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let mut left = most;
        let mut fits = |item: &T| {
            let fits = tokens(item) <= left;
            left = left.saturating_sub(tokens(item));
            fits
        };
        let fitting = items.iter().take_while(|item| fits(item)).count();
        let (turn, rest) = items.split_at(fitting.max(1).min(items.len()));
        items = rest;
        (!turn.is_empty()).then_some(turn)
    })
}

/// Error of a query without an answer, which is a bug: each query has one.
pub(crate) fn unanswered() -> neuroql_model::Error {
    neuroql_model::Error::Internal("a query of a neuron's activation has no answer".into())
}

/// Index of a query and the column of its neuron.
type QueryColumn = (usize, usize);

/// Forward pass that answers several queries.
#[derive(Default)]
struct ForwardPass {
    neurons: Vec<u32>,
    batch: Batch,
    /// Number of rows of each text in the result, where texts follow each other, and the queries of the text.
    answers: Vec<(usize, Vec<QueryColumn>)>,
}

impl QueryRunner {
    /// Makes a runner for a layer; `cancel` stops its passes.
    pub fn new(model: Arc<Model>, registry: Arc<Registry>, layer: usize, cancel: Cancel) -> Self {
        Self { model, registry, layer, cancel }
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Pool of the threads that run passes.
    pub fn pool(&self) -> &Pool {
        self.registry.pool()
    }

    /// Flag that stops the passes.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Runs queries; returns the activations of each, in order. A text without tokens has none.
    ///
    /// # Errors
    /// Errors of [`Model::run`].
    pub async fn ask(&self, queries: &[Query]) -> Result<Vec<Vec<f32>>> {
        let passes = self.pack(queries);
        let runs = passes.into_iter().map(|pass| {
            let (model, cancel, layer) = (Arc::clone(&self.model), self.cancel.clone(), self.layer);
            let job = move || pass.run(&model, layer, &cancel);
            self.pool().run(Placement::OneThread.of(&self.model), job)
        });
        let mut answers = vec![Vec::new(); queries.len()];
        for (query, values) in try_join_all(runs).await?.into_iter().flatten() {
            answers[query] = values;
        }
        Ok(answers)
    }

    fn pack(&self, queries: &[Query]) -> Vec<ForwardPass> {
        let mut distinct: HashMap<(&[u32], Positions), Vec<usize>> = HashMap::new();
        let mut order: Vec<(&[u32], Positions)> = Vec::new();
        for (i, query) in queries.iter().enumerate().filter(|(_, query)| !query.tokens.is_empty()) {
            let key = (query.tokens.as_slice(), query.at);
            let asked = distinct.entry(key).or_default();
            if asked.is_empty() {
                order.push(key);
            }
            asked.push(i);
        }
        // Texts with shared prefixes come one after another, in one pass if it has room.
        order.sort_unstable();
        // One value or a few are read of each text.
        let tokens = self.model.batch_tokens(1);
        let mut passes = Vec::new();
        let mut pass = ForwardPass::new(self.model.bos());
        for key in order {
            if pass.batch.tokens() >= tokens {
                passes.push(std::mem::replace(&mut pass, ForwardPass::new(self.model.bos())));
            }
            pass.push(key, &distinct[&key], queries);
        }
        if !pass.batch.is_empty() {
            passes.push(pass);
        }
        passes
    }
}

impl ForwardPass {
    fn new(bos: Option<u32>) -> Self {
        Self { batch: Batch::sharing(bos), ..Self::default() }
    }

    fn push(&mut self, (tokens, at): (&[u32], Positions), asked: &[usize], queries: &[Query]) {
        let start = self.batch.rows();
        match at {
            Positions::All => self.batch.push(tokens),
            Positions::Last => self.batch.push_positions(tokens, &[tokens.len() as u32 - 1]),
        }
        let columns = asked.iter().map(|query| {
            let neuron = queries[*query].neuron;
            let known = self.neurons.iter().position(|known| *known == neuron);
            let column = known.unwrap_or_else(|| {
                self.neurons.push(neuron);
                self.neurons.len() - 1
            });
            (*query, column)
        });
        let columns = columns.collect();
        self.answers.push((self.batch.rows() - start, columns));
    }

    /// Runs the pass; returns each query with its values.
    fn run(self, model: &Model, layer: usize, cancel: &Cancel) -> Result<Vec<(usize, Vec<f32>)>> {
        let spec = ReadSpec::new(model, [(layer, Some(self.neurons))])?;
        let rows: Vec<usize> = self.answers.iter().map(|(rows, _)| *rows).collect();
        let (mut pairs, mut asked) = (Vec::new(), Vec::new());
        for (text, (rows, queries)) in self.answers.iter().enumerate() {
            pairs.extend(queries.iter().map(|(_, column)| (text as u32, *column as u32)));
            asked.extend(queries.iter().map(|(query, _)| (*query, *rows)));
        }
        // A pass of one layer has one tensor; only the values of queries leave the device.
        let mut values = Vec::new();
        for tensor in model.run(&self.batch, &spec, cancel)? {
            values = reduce::columns(&tensor, &rows, &pairs)?;
        }
        let mut rest = values.as_slice();
        let mut answer = |(query, rows): (usize, usize)| {
            let (own, others) = rest.split_at(rows);
            rest = others;
            (query, own.to_vec())
        };
        Ok(asked.into_iter().map(&mut answer).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_no_larger_than_they_may_be() {
        let of = |items: &[usize]| turns_of(10, items, |tokens| *tokens).map(<[usize]>::to_vec).collect::<Vec<_>>();
        assert_eq!(of(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(of(&[4, 6, 1, 11, 0, 10, 1]), [vec![4, 6], vec![1], vec![11], vec![0, 10], vec![1]]);
    }
}
