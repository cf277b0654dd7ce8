//! Synthetic stores of graphs as large as those of real models, for benchmarks and tests.
//!
//! ```
//! use neuroql_graph::synthetic::{GPT2_SMALL, Store};
//!
//! let store = Store::new(GPT2_SMALL, 7);
//! let nodes: usize = store.graphs().take(100).map(|graph| graph.nodes().len()).sum();
//! assert!((1_000..5_000).contains(&nodes));
//! assert_eq!(store.graphs().nth(99), Some(store.graph(99)));
//! ```

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, LogNormal, Zipf};

use crate::{Builder, Element, Graph, Pattern, Policy, Symbol};

/// Number of neurons of GPT-2 small.
pub const GPT2_SMALL: u64 = 12 * 3072;
/// Number of neurons of GPT-2 XL.
pub const GPT2_XL: u64 = 48 * 6400;
/// Number of neurons of all 25 models that DeepDecipher shows.
pub const ALL_MODELS: u64 = 1_111_808;

/// Number of tokens of the vocabulary.
pub const VOCABULARY: u32 = 50_000;

/// Share of neurons without any pattern, such as those that never fire.
const EMPTY: f64 = 0.02;
/// Share of neurons that fire on one token in any context.
const SINGLE: f64 = 0.06;
/// Share of neurons with exactly the graph of one of [`FEW`] neurons.
const IDENTICAL: f64 = 0.03;
const FEW: u64 = 12;
/// Share of neurons that are one of about [`RELATIVES`] variants of the same graph.
const RELATED: f64 = 0.25;
const RELATIVES: u64 = 8;
/// Median and greatest number of nodes of a graph.
const MEDIAN_NODES: f64 = 24.0;
const MOST_NODES: usize = 200;

/// A store of synthetic graphs. Each is generated on demand, from the seed and its place, so none is in memory.
///
/// Token ids are Zipfian over [`VOCABULARY`]; graphs have 1 to 200 nodes with a median of about 20 and activations with
/// three decimals from 0.5 to 1, as learned ones have. A quarter of them has near relatives, some are equal, some empty.
#[derive(Debug, Clone)]
pub struct Store {
    graphs: u64,
    seed: u64,
    texts: Vec<Arc<str>>,
    ids: Zipf<f64>,
    sizes: LogNormal<f64>,
}

impl Store {
    /// Makes a store of `graphs` graphs. Equal seeds give equal stores, with one version of this crate and of `rand`.
    pub fn new(graphs: u64, seed: u64) -> Self {
        Self {
            graphs,
            seed,
            texts: (0..VOCABULARY).map(text).collect(),
            ids: Zipf::new(f64::from(VOCABULARY), 1.0).expect("a positive number of tokens and exponent"),
            sizes: LogNormal::new(MEDIAN_NODES.ln(), 1.0).expect("a finite deviation"),
        }
    }

    /// Number of graphs.
    pub fn len(&self) -> u64 {
        self.graphs
    }

    /// Returns true if there are no graphs.
    pub fn is_empty(&self) -> bool {
        self.graphs == 0
    }

    /// All graphs, in the order of their places.
    pub fn graphs(&self) -> impl Iterator<Item = Graph> + '_ {
        (0..self.graphs).map(|place| self.graph(place))
    }

    /// The graph at a place.
    pub fn graph(&self, place: u64) -> Graph {
        let mut random = self.random(0, place);
        let mut kind: f64 = random.random();
        let mut is = |share: f64| {
            kind -= share;
            kind < 0.0
        };
        let patterns = if is(EMPTY) {
            Vec::new()
        } else if is(SINGLE) {
            vec![self.pattern(&mut random, None, 1)]
        } else if is(IDENTICAL) {
            let model = random.random_range(0..FEW);
            self.patterns(&mut self.random(1, model))
        } else if is(RELATED) {
            let families = (self.graphs as f64 * RELATED / RELATIVES as f64) as u64;
            let family = random.random_range(0..=families);
            let ancestor = self.patterns(&mut self.random(2, family));
            self.varied(&mut random, ancestor)
        } else {
            self.patterns(&mut random)
        };
        let mut builder = Builder::new(Policy::Max);
        patterns.iter().for_each(|pattern| builder.insert(pattern).expect("short patterns"));
        builder.build().expect("what a builder builds is a trie")
    }

    /// Independent random number generator for each purpose and number.
    fn random(&self, purpose: u64, number: u64) -> StdRng {
        let mut seed = [0; 32];
        for (bytes, part) in seed.chunks_exact_mut(8).zip([self.seed, purpose, number]) {
            bytes.copy_from_slice(&part.to_le_bytes());
        }
        StdRng::from_seed(seed)
    }

    /// Draws the patterns of a graph: some activators, most with several contexts.
    fn patterns(&self, random: &mut StdRng) -> Vec<Pattern> {
        let wanted = (self.sizes.sample(random).round() as usize).clamp(1, MOST_NODES);
        let mut patterns: Vec<Pattern> = Vec::new();
        let mut nodes = 0;
        while nodes < wanted {
            let length = 1 + (0..6).take_while(|_| random.random_bool(0.6)).count();
            let old = patterns.choose(random).filter(|_| random.random_bool(0.6)).map(|old| old.elements[0].clone());
            nodes += length - usize::from(old.is_some() && length > 1);
            patterns.push(self.pattern(random, old, length.min(wanted)));
        }
        patterns
    }

    fn pattern(&self, random: &mut StdRng, activator: Option<Element>, length: usize) -> Pattern {
        let ends = round(random.random_range(0.5..=1.0));
        let mut elements = vec![activator.unwrap_or_else(|| self.token(random, 1.0, ends))];
        for depth in 1..length {
            // The last element is never a wildcard.
            let element = match depth + 1 < length && random.random_bool(0.4) {
                true => Element { symbol: Symbol::Any, importance: 0.0, activation: 0.0 },
                false => {
                    let (importance, activation) = (random.random_range(0.75..=1.0), random.random_range(0.0..0.6));
                    self.token(random, round(importance), round(activation))
                }
            };
            elements.push(element);
        }
        Pattern { elements, ends }
    }

    fn token(&self, random: &mut StdRng, importance: f32, activation: f32) -> Element {
        let id = self.ids.sample(random) as u32 - 1;
        let text = Arc::clone(&self.texts[id as usize]);
        Element { symbol: Symbol::token(id, text), importance, activation }
    }

    /// Varies the patterns of a relative: one in 30 is lost, one in 3 ends a little differently, one may be added.
    fn varied(&self, random: &mut StdRng, mut patterns: Vec<Pattern>) -> Vec<Pattern> {
        patterns.retain(|_| !random.random_bool(1.0 / 30.0));
        for pattern in &mut patterns {
            if random.random_bool(1.0 / 3.0) {
                pattern.ends = round((pattern.ends + random.random_range(-0.02..0.02)).clamp(0.5, 1.0));
            }
        }
        if random.random_bool(0.25) {
            patterns.push(self.pattern(random, None, 2));
        }
        patterns
    }
}

fn round(activation: f32) -> f32 {
    (activation * 1000.0).round() / 1000.0
}

/// Text of a token id: a word of as many syllables as the id needs.
fn text(id: u32) -> Arc<str> {
    let mut text = String::from(" ");
    let mut rest = id + 1;
    while rest > 0 {
        text.push(char::from(b"bdfgklmnprstvz"[(rest % 14) as usize]));
        rest /= 14;
        text.push(char::from(b"aeiou"[(rest % 5) as usize]));
        rest /= 5;
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn sizes_are_as_described() {
        let store = Store::new(2_000, 7);
        let mut sizes: Vec<usize> = store.graphs().map(|graph| graph.nodes().len()).collect();
        sizes.sort_unstable();
        assert!((17..=23).contains(&sizes[1_000]), "{}", sizes[1_000]);
        assert!(sizes[1_999] <= MOST_NODES && sizes[1_999] > 100);
        assert!(sizes[0] == 0 && sizes[100] == 1);
    }

    #[test]
    fn seeds_and_places_matter() {
        let [one, same, other] = [7, 7, 8].map(|seed| Store::new(50, seed).graphs().collect::<Vec<_>>());
        assert!(one == same && one != other);
    }

    #[test]
    fn texts_are_distinct() {
        assert_eq!((0..VOCABULARY).map(text).collect::<HashSet<_>>().len(), VOCABULARY as usize);
    }
}
