//! Predicting activations: elements are neurons × tokens; those of building matchers are graphs.

use std::collections::HashMap;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use neuroql_graph::{Automaton, Builder, Element, Graph, Matcher, Pattern, Policy, Predictions, Semantics, Symbol};

const VOCABULARY: u32 = 50_000;

/// Random number generator with the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() * limit as f64) as usize
    }

    /// Draws a token id by Zipf's law: the k-th most frequent with a probability of about 1/k.
    fn token(&mut self) -> u32 {
        f64::from(VOCABULARY).powf(self.next()) as u32 - 1
    }
}

/// Makes a graph like learned ones: some activators with a few patterns each, many with a wildcard in them.
fn graph(random: &mut Random) -> Graph {
    let mut builder = Builder::new(Policy::Max);
    for _ in 0..1 + random.below(10) {
        let activator = random.token();
        for _ in 0..1 + random.below(3) {
            let mut tokens = vec![Some(activator)];
            for _ in 0..random.below(4) {
                let token = random.token();
                tokens.push((random.next() < 0.7).then_some(token));
            }
            let element = |token: &Option<u32>| {
                let symbol = token.map_or(Symbol::Any, |id| Symbol::token(id, id.to_string()));
                Element { symbol, importance: 1.0, activation: 1.0 }
            };
            let pattern = Pattern { elements: tokens.iter().map(element).collect(), ends: random.next() as f32 };
            builder.insert(&pattern).expect("short patterns");
        }
    }
    builder.build().expect("a trie")
}

/// The algorithm of Neuron2Graph as published, with a hash table per node.
#[derive(Default)]
struct Plain {
    children: HashMap<u32, Plain>,
    ends: Option<f32>,
}

const WILDCARD: u32 = u32::MAX;

impl Plain {
    fn new(graph: &Graph) -> Self {
        let mut top = Self::default();
        for pattern in graph.to_patterns() {
            let mut at = &mut top;
            for element in &pattern.elements {
                let key = match &element.symbol {
                    Symbol::Token(token) => token.id.unwrap_or(WILDCARD),
                    _ => WILDCARD,
                };
                at = at.children.entry(key).or_default();
            }
            at.ends = Some(pattern.ends);
        }
        top
    }

    fn simulate(&self, tokens: &[u32], out: &mut Vec<f32>) {
        for end in 1..=tokens.len() {
            let (mut at, mut result) = (self, 0.0);
            for token in tokens[..end].iter().rev() {
                let Some(next) = at.children.get(token).or_else(|| at.children.get(&WILDCARD)) else { break };
                at = next;
                result = at.ends.unwrap_or(result);
            }
            out.push(result);
        }
    }
}

fn simulate(criterion: &mut Criterion) {
    for neurons in [512, 3072] {
        let mut random = Random(7);
        let graphs: Vec<_> = (0..neurons).map(|_| graph(&mut random)).collect();
        let tokens: Vec<u32> = (0..1024).map(|_| random.token()).collect();
        let mut group = criterion.benchmark_group("simulate");
        group.throughput(Throughput::Elements((neurons * tokens.len()) as u64)).sample_size(20);

        let plain: Vec<_> = graphs.iter().map(Plain::new).collect();
        let mut out = Vec::new();
        group.bench_function(BenchmarkId::new("published algorithm", neurons), |bencher| {
            bencher.iter(|| {
                for plain in &plain {
                    out.clear();
                    plain.simulate(black_box(&tokens), &mut out);
                }
            });
        });
        for semantics in [Semantics::Greedy, Semantics::Longest] {
            let matchers: Vec<_> = graphs.iter().flat_map(|graph| Matcher::of(graph, semantics)).collect();
            group.bench_function(BenchmarkId::new(format!("one by one, {}", semantics.name()), neurons), |bencher| {
                bencher.iter(|| {
                    for matcher in &matchers {
                        out.clear();
                        matcher.simulate(black_box(&tokens), &mut out);
                    }
                });
            });
            let Ok(automaton) = Automaton::of(&graphs, semantics) else { return };
            let mut predictions = Predictions::default();
            group.bench_function(BenchmarkId::new(format!("together, {}", semantics.name()), neurons), |bencher| {
                bencher.iter(|| automaton.simulate(black_box(&tokens), &mut predictions));
            });
            group.bench_function(
                BenchmarkId::new(format!("together, dense, {}", semantics.name()), neurons),
                |bencher| {
                    bencher.iter(|| automaton.simulate_dense(black_box(&tokens), &mut out));
                },
            );
        }
        group.throughput(Throughput::Elements(neurons as u64));
        group.bench_function(BenchmarkId::new("making the automaton", neurons), |bencher| {
            bencher.iter(|| Automaton::of(black_box(&graphs), Semantics::Longest));
        });
        group.bench_function(BenchmarkId::new("making matchers", neurons), |bencher| {
            bencher.iter(|| graphs.iter().flat_map(|graph| Matcher::of(graph, Semantics::Longest)).count());
        });
        group.finish();
    }
}

criterion_group!(benches, simulate);
criterion_main!(benches);
