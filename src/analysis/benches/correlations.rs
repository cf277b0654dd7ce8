//! Pairs of neurons: elements are pairs × tokens, those below the diagonal not counted.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use neuroql_analysis::{CoActivations, CoMoments, Sign};

const TOKENS: usize = 8192;
const WIDTH: usize = 1024;

/// Random numbers that are the same on every machine, one in five of them positive.
fn activations(width: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.8
    };
    (0..TOKENS * width).map(|_| next()).collect()
}

fn correlations(c: &mut Criterion) {
    let mut group = c.benchmark_group("1024 neurons with each other");
    let x = activations(WIDTH);
    group.sample_size(10).throughput(Throughput::Elements((TOKENS * WIDTH * (WIDTH + 1) / 2) as u64));
    let mut pairs = CoMoments::within(WIDTH);
    group.bench_function("co-moments", |b| b.iter(|| pairs.add(black_box(&x)).expect("whole rows")));
    let mut counts = CoActivations::within(WIDTH, 0.0);
    group.bench_function("co-activations", |b| b.iter(|| counts.add(black_box(&x)).expect("whole rows")));
    // In batches.
    let parts = || x.chunks(1024 * WIDTH);
    group.bench_function("co-activations, 1024 tokens at a time", |b| {
        b.iter(|| parts().for_each(|x| counts.add(black_box(x)).expect("whole rows")));
    });
    group.finish();

    let mut group = c.benchmark_group("512 neurons with 512 others");
    let (x, y) = (activations(WIDTH / 2), activations(WIDTH / 2));
    group.sample_size(10).throughput(Throughput::Elements((TOKENS * WIDTH * WIDTH / 4) as u64));
    let mut pairs = CoMoments::between(WIDTH / 2, WIDTH / 2);
    group.bench_function("co-moments", |b| b.iter(|| pairs.add_pairs(black_box(&x), black_box(&y)).expect("rows")));
    group.finish();

    let mut group = c.benchmark_group("results of 1024 neurons");
    let mut pairs = CoMoments::within(WIDTH);
    pairs.add(&activations(WIDTH)).expect("whole rows");
    group.sample_size(10);
    group.bench_function("strongest 10 of each", |b| {
        b.iter(|| (0..WIDTH).map(|i| black_box(&pairs).strongest(i, 10, Sign::Either).len()).sum::<usize>());
    });
    let other = pairs.clone();
    group.bench_function("merge", |b| b.iter(|| pairs.merge(black_box(&other)).expect("as many neurons")));
    group.finish();
}

criterion_group!(benches, correlations);
criterion_main!(benches);
