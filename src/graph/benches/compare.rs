//! Comparing graphs of made-up stores as large as those of GPT-2 small and XL.
//!
//! Runs that take seconds are not sampled by criterion: `NEUROQL_BENCH_LARGE=1` adds the pairs of 307,200 graphs.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use neuroql_graph::synthetic::{GPT2_SMALL, GPT2_XL, Store};
use neuroql_graph::{Graph, PatternIndex, PatternIndexBuilder, Signature, Similarity, behaviour, similarity};

const SEED: u64 = 7;

fn signatures(store: &Store) -> Vec<Signature> {
    store.graphs().map(|graph| Signature::of(&graph)).collect()
}

fn index(signatures: &[Signature]) -> PatternIndex {
    let mut builder = PatternIndexBuilder::default();
    (0..).zip(signatures).for_each(|(key, signature)| builder.push(key, signature));
    builder.build().expect("few patterns")
}

fn count(index: &PatternIndex, threshold: f64) -> usize {
    let mut count = 0;
    let counted = index.pairs(threshold, |pairs| {
        count += pairs.len();
        ControlFlow::Continue(())
    });
    counted.map(|_| count).expect("a threshold over 0")
}

/// Benchmarks each method of similarity on the same 1,000 pairs.
fn two_graphs(criterion: &mut Criterion) {
    let store = Store::new(GPT2_SMALL, SEED);
    let graphs: Vec<Graph> = store.graphs().take(1_001).collect();
    let mut group = criterion.benchmark_group("two graphs");
    group.throughput(Throughput::Elements(1_000)).sample_size(20);
    for method in Similarity::ALL {
        group.bench_function(method.name(), |bencher| {
            bencher.iter(|| {
                graphs.windows(2).filter_map(|two| similarity(&two[0], &two[1], method).ok().flatten()).sum::<f64>()
            });
        });
    }
    let text: Vec<u32> = (0..256).map(|at| at * at % 997).collect();
    group.bench_function("behaviour on 256 tokens", |bencher| {
        bencher.iter(|| {
            graphs.windows(2).filter_map(|two| behaviour(&two[0], &two[1], &[&text]).ok().flatten()).sum::<f64>()
        });
    });
    group.bench_function("signatures", |bencher| {
        bencher.iter(|| graphs.iter().map(|graph| Signature::of(black_box(graph)).total()).sum::<f64>());
    });
    let signatures: Vec<Signature> = graphs.iter().map(Signature::of).collect();
    group.bench_function("patterns, of signatures", |bencher| {
        bencher.iter(|| signatures.windows(2).filter_map(|two| two[0].similarity(&two[1])).sum::<f64>());
    });
    group.finish();
}

/// Benchmarks GPT-2 XL: building the index, and finding the ten most similar to each of 100 graphs.
fn most_similar(criterion: &mut Criterion) {
    let signatures = signatures(&Store::new(GPT2_XL, SEED));
    let index = index(&signatures);
    let mut group = criterion.benchmark_group("most similar");
    group.sample_size(10);
    group.bench_function(BenchmarkId::new("making the index", GPT2_XL), |bencher| {
        bencher.iter(|| self::index(black_box(&signatures)));
    });
    let asked: Vec<&Signature> = signatures.iter().step_by(signatures.len() / 100).collect();
    group.throughput(Throughput::Elements(asked.len() as u64));
    for at_least in [0.0, 0.5] {
        group.bench_function(BenchmarkId::new(format!("ten of at least {at_least}"), GPT2_XL), |bencher| {
            bencher.iter(|| {
                asked.iter().map(|signature| index.most_similar(signature, 10, at_least).len()).sum::<usize>()
            });
        });
    }
    group.finish();
    let time = |signature| {
        let start = Instant::now();
        black_box(index.most_similar(signature, 10, 0.0));
        start.elapsed()
    };
    let mut times: Vec<Duration> = signatures.iter().step_by(307).map(time).collect();
    times.sort_unstable();
    let [median, most, all] = [times.len() / 2, times.len() * 99 / 100, times.len() - 1].map(|at| times[at]);
    report(&format!("most similar, of {}: median {median:?}, 99 % {most:?}, slowest {all:?}", times.len()));
    report(&format!(
        "index: {} graphs, {} different, {} patterns, {} bytes",
        index.len(),
        index.distinct(),
        index.postings(),
        index.bytes()
    ));
}

/// Benchmarks finding all pairs, beside comparing each graph with each other on few enough graphs.
fn pairs(criterion: &mut Criterion) {
    let small = signatures(&Store::new(GPT2_SMALL, SEED));
    let mut group = criterion.benchmark_group("pairs");
    group.sample_size(10);
    for threshold in [0.9, 0.5] {
        let index = index(&small);
        group.bench_function(BenchmarkId::new(format!("of at least {threshold}"), GPT2_SMALL), |bencher| {
            bencher.iter(|| count(&index, threshold));
        });
    }
    let sample = &small[..4096];
    let sampled = index(sample);
    group.bench_function(BenchmarkId::new("of at least 0.9", sample.len()), |bencher| {
        bencher.iter(|| count(&sampled, 0.9));
    });
    group.bench_function(BenchmarkId::new("each with each", sample.len()), |bencher| {
        bencher.iter(|| {
            let later = |at: usize| &sample[at + 1..];
            let similar = |at: usize| later(at).iter().filter_map(move |other| sample[at].similarity(other));
            (0..sample.len()).flat_map(similar).filter(|similarity| *similarity >= 0.9).count()
        });
    });
    group.finish();
    if std::env::var_os("NEUROQL_BENCH_LARGE").is_some() {
        let index = index(&signatures(&Store::new(GPT2_XL, SEED)));
        for threshold in [0.9, 0.7, 0.5] {
            let start = Instant::now();
            let found = count(&index, threshold);
            report(&format!("pairs of at least {threshold} of {GPT2_XL}: {found} in {:?}", start.elapsed()));
        }
    }
}

#[expect(clippy::print_stderr, reason = "a benchmark's figures")]
fn report(line: &str) {
    eprintln!("{line}");
}

criterion_group!(benches, two_graphs, most_similar, pairs);
criterion_main!(benches);
