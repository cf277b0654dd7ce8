//! Products and distances of vectors, in bytes read, beside a loop that adds up f64 one by one.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use neuroql_analysis::{cosine, dot, l2};

fn naive(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn vectors(c: &mut Criterion) {
    let mut group = c.benchmark_group("vectors");
    // A neuron of a small model, one of a large model, and vectors larger than any cache.
    for length in [128, 4096, 1 << 24] {
        let vector = |step: usize| (0..length).map(|i| ((i * step) % 997) as f32 / 500.0 - 1.0).collect::<Vec<f32>>();
        let (a, b) = (vector(31), vector(57));
        group.sample_size(20).throughput(Throughput::Bytes(2 * 4 * length as u64));
        let mut bench = |name: &str, f: &dyn Fn(&[f32], &[f32]) -> f64| {
            let id = BenchmarkId::new(name, length);
            group.bench_function(id, |bencher| bencher.iter(|| f(black_box(&a), black_box(&b))));
        };
        bench("naive dot", &naive);
        bench("dot", &|a, b| dot(a, b).unwrap_or(f64::NAN));
        bench("l2", &|a, b| l2(a, b).unwrap_or(f64::NAN));
        bench("cosine", &|a, b| cosine(a, b).ok().flatten().unwrap_or(f64::NAN));
    }
    group.finish();
}

criterion_group!(benches, vectors);
criterion_main!(benches);
