//! Summaries of batches, as an analysis computes them beside the forward pass: elements are activations.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use neuroql_analysis::{BatchSummary, Columns, Example, LayerBounds, LayerSummary};

const TOKENS: usize = 4096;
const WIDTH: usize = 512;
const LENGTH: usize = 128;
const K: usize = 20;

/// Random numbers that are the same on every machine, one in five of them positive.
fn activations(seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.8
    };
    (0..TOKENS * WIDTH).map(|_| next()).collect()
}

fn summary(c: &mut Criterion) {
    let mut group = c.benchmark_group("a batch of 4096 tokens, 512 neurons");
    group.sample_size(20).throughput(Throughput::Elements((TOKENS * WIDTH) as u64));
    let batches: Vec<Vec<f32>> = (1..9).map(activations).collect();
    let tokens: Vec<u32> = (0..LENGTH as u32).collect();
    let examples: Vec<Vec<Example>> = (0..8_i64)
        .map(|batch| {
            let example = |i| Example { document: 100 * batch + i / 4, example: i % 4, tokens: &tokens };
            (0..(TOKENS / LENGTH) as i64).map(example).collect()
        })
        .collect();
    // Other values each time, as in an analysis, so that they are not in the cache.
    let mut i = 0;
    group.bench_function("summary", |b| {
        b.iter(|| {
            i = (i + 1) % 8;
            BatchSummary::new(&examples[i], black_box(&batches[i]), WIDTH)
        });
    });
    let summaries: Vec<BatchSummary> =
        examples.iter().zip(&batches).map(|(examples, values)| BatchSummary::new(examples, values, WIDTH)).collect();
    let mut layer = LayerSummary::new(0, WIDTH, K);
    let mut before = 0;
    for _ in 0..4 {
        for i in 0..8 {
            let columns = Columns::gather(layer.wanted(&summaries[i], &examples[i]), &examples[i], &batches[i], WIDTH);
            layer.merge(&summaries[i], &examples[i], &columns, before);
            before += examples[i].len() as u64;
        }
    }
    group.bench_function("merge", |b| {
        b.iter(|| {
            i = (i + 1) % 8;
            let wanted = layer.wanted(black_box(&summaries[i]), &examples[i]);
            let columns = Columns::gather(wanted, &examples[i], &batches[i], WIDTH);
            layer.merge(&summaries[i], &examples[i], &columns, before);
        });
    });
    let peaks: Vec<f32> = batches.iter().flat_map(|values| &values[..WIDTH * 1024]).copied().collect();
    let troughs: Vec<f32> = batches.iter().flat_map(|values| &values[WIDTH * 1024..WIDTH * 2048]).copied().collect();
    group.throughput(Throughput::Elements(peaks.len() as u64));
    group.bench_function("bounds of 8192 examples", |b| {
        b.iter(|| LayerBounds::new(black_box(&[&peaks[..]]), &[&troughs[..]], WIDTH))
    });
    group.finish();
}

criterion_group!(benches, summary);
criterion_main!(benches);
