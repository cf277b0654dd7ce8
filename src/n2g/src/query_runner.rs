//! Activations on texts that are made up: shortened, masked, substituted.
//!
//! Queries of many neurons of a layer share forward passes, what texts begin with alike runs once (most are made of one
//! text by changing one token), and the pass stops at the layer.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::try_join_all;
use neuroql_model::{Batch, Cancel, Model, Placement, Pool, ReadSpec, Registry, Result, reduce};

/// A question for a neuron's activations on a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The neuron.
    pub neuron: u32,
    /// The text, without BOS.
    pub tokens: Vec<u32>,
    /// Where.
    pub at: At,
}

/// Positions of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum At {
    /// Each of them.
    All,
    /// The last one.
    Last,
}

/// Asks one layer of a model.
#[derive(Debug, Clone)]
pub struct QueryRunner {
    model: Arc<Model>,
    registry: Arc<Registry>,
    layer: usize,
    cancel: Cancel,
}

/// Tokens of queries that are made at once.
const TURN: usize = 1 << 24;

/// Parts of what queries are made of, so that those of each part have no more than so many tokens if it can be; what
/// options and examples ask for may be far more than there is memory for.
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

/// A query whose answer is missing: there is one for each.
pub(crate) fn unanswered() -> neuroql_model::Error {
    neuroql_model::Error::Internal("a query of a neuron's activation has no answer".into())
}

/// Number of a query and the column of its neuron.
type Asked = (usize, usize);

/// Queries that one forward pass answers.
#[derive(Default)]
struct Pass {
    neurons: Vec<u32>,
    batch: Batch,
    /// For each text: its rows in the result, which follow those of the text before it, and who asked with which column.
    answers: Vec<(usize, Vec<Asked>)>,
}

impl QueryRunner {
    /// Of a layer; `cancel` stops its passes.
    pub fn new(model: Arc<Model>, registry: Arc<Registry>, layer: usize, cancel: Cancel) -> Self {
        Self { model, registry, layer, cancel }
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The threads.
    pub fn pool(&self) -> &Pool {
        self.registry.pool()
    }

    /// Stops it.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The answers, one a query, in order; a text without tokens has no activations.
    ///
    /// # Errors
    /// As [`Model::run`].
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

    fn pack(&self, queries: &[Query]) -> Vec<Pass> {
        let mut distinct: HashMap<(&[u32], At), Vec<usize>> = HashMap::new();
        let mut order: Vec<(&[u32], At)> = Vec::new();
        for (i, query) in queries.iter().enumerate().filter(|(_, query)| !query.tokens.is_empty()) {
            let key = (query.tokens.as_slice(), query.at);
            let asked = distinct.entry(key).or_default();
            if asked.is_empty() {
                order.push(key);
            }
            asked.push(i);
        }
        // Texts that begin alike come one after another, in one pass if it has room.
        order.sort_unstable();
        // A value or a few are read of a text.
        let tokens = self.model.batch_tokens(1);
        let mut passes = Vec::new();
        let mut pass = Pass::new(self.model.bos());
        for key in order {
            if pass.batch.tokens() >= tokens {
                passes.push(std::mem::replace(&mut pass, Pass::new(self.model.bos())));
            }
            pass.push(key, &distinct[&key], queries);
        }
        if !pass.batch.is_empty() {
            passes.push(pass);
        }
        passes
    }
}

impl Pass {
    fn new(bos: Option<u32>) -> Self {
        Self { batch: Batch::sharing(bos), ..Self::default() }
    }

    fn push(&mut self, (tokens, at): (&[u32], At), asked: &[usize], queries: &[Query]) {
        let start = self.batch.rows();
        match at {
            At::All => self.batch.push(tokens),
            At::Last => self.batch.push_positions(tokens, &[tokens.len() as u32 - 1]),
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

    /// Runs it; each query with its values.
    fn run(self, model: &Model, layer: usize, cancel: &Cancel) -> Result<Vec<(usize, Vec<f32>)>> {
        let spec = ReadSpec::new(model, [(layer, Some(self.neurons))])?;
        let rows: Vec<usize> = self.answers.iter().map(|(rows, _)| *rows).collect();
        let (mut pairs, mut asked) = (Vec::new(), Vec::new());
        for (text, (rows, queries)) in self.answers.iter().enumerate() {
            pairs.extend(queries.iter().map(|(_, column)| (text as u32, *column as u32)));
            asked.extend(queries.iter().map(|(query, _)| (*query, *rows)));
        }
        // A pass of one layer has one tensor; only what is asked of it leaves the device.
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
