//! Kernels against the compositions, on random shapes; and on one thread against several.

#[cfg(not(feature = "cuda"))]
pub(super) mod loops;

use std::cell::Cell;

use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

use super::packing::Plan;
use super::{Attention, Packing, Rotary, activate, add, matmul, norm};
use crate::kernel::{Rotation, Segments};
use crate::weights::{Extras, Linear, NormWeights};
use crate::{Activation, Config, Norm, NormKind, Positions, Rope, RopeScaling};

thread_local! {
    static PLAN: Cell<Option<Plan>> = const { Cell::new(None) };
}

/// Plan that a test of this thread set instead of the kernels.
pub(super) fn plan() -> Option<Plan> {
    PLAN.get()
}

fn instead<T>(plan: Plan, f: impl FnOnce() -> T) -> T {
    PLAN.set(Some(plan));
    let result = f();
    PLAN.set(None);
    result
}

/// Runs `f` without kernels on this thread.
pub(crate) fn composed<T>(f: impl FnOnce() -> T) -> T {
    instead(Plan::Composed, f)
}

/// Runs `f` on this thread with the fused attention of GPUs, by loops in place of their kernels.
#[cfg(not(feature = "cuda"))]
pub(crate) fn fused<T>(f: impl FnOnce() -> T) -> T {
    instead(Plan::Fused, f)
}

fn random(seed: u64, shape: &[usize], scale: f32) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * scale
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn config(activation: Activation, gated: bool, heads: usize, kv_heads: usize, d_head: usize) -> Config {
    let norm = Norm { kind: NormKind::Layer, eps: 1e-5, affine: true };
    Config {
        architecture: "test".into(),
        layers: 1,
        d_model: heads * d_head,
        heads,
        kv_heads,
        d_head,
        d_mlp: 8,
        vocabulary: 8,
        context: 1024,
        norm,
        final_norm: norm,
        activation,
        gated,
        positions: Positions::Learned,
        parallel: false,
        attention_scale: (d_head as f32).powf(-0.5),
        ..Config::default()
    }
}

fn close(got: &Tensor, wanted: &Tensor) {
    assert_eq!(got.dims(), wanted.dims());
    let (got, wanted): (Vec<f32>, Vec<f32>) =
        (got.flatten_all().unwrap().to_vec1().unwrap(), wanted.flatten_all().unwrap().to_vec1().unwrap());
    let scale = wanted.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
    for (a, b) in got.iter().zip(&wanted) {
        assert!((a - b).abs() <= 1e-5 * scale, "{a} is not {b} (largest is {scale})");
    }
}

/// Runs `f` on one thread and on four: the results must be the same to the bit.
fn on_any_threads(f: impl Fn() -> Tensor + Sync + Send) -> Tensor {
    let run = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&f);
    let (one, four) = (run(1), run(4));
    let bits = |t: &Tensor| -> Vec<u32> {
        t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    };
    assert_eq!(bits(&one), bits(&four));
    one
}

const ACTIVATIONS: [Activation; 6] = [
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::QuickGelu,
    Activation::Relu,
    Activation::Silu,
    Activation::Solu,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn norm_matches(seed in any::<u64>(), rows in 1usize..300, d in 16usize..200, kind in 0usize..3, scale in 0.01f32..100.0) {
        let kind = [NormKind::Layer, NormKind::Rms, NormKind::None][kind];
        let norm_kind = Norm { kind, eps: 1e-5, affine: true };
        let weights = NormWeights {
            weight: Some(random(seed + 1, &[d], 2.0)),
            bias: (seed % 2 == 0).then(|| random(seed + 2, &[d], 1.0)),
        };
        let x = random(seed, &[rows, d], scale);
        let got = on_any_threads(|| norm(x.clone(), norm_kind, &weights).unwrap());
        if kind == NormKind::None {
            close(&got, &x);
        } else {
            close(&got, &super::reference::norm(&x, norm_kind, &weights).unwrap());
        }
    }

    #[test]
    fn products_match(seed in any::<u64>(), m in 1usize..200, k in 1usize..100, n in 1usize..300) {
        let x = random(seed, &[m, k], 1.0);
        let linear = Linear::new(random(seed + 1, &[k, n], 1.0), None);
        // Threads may split sums in other ways, so not to the bit.
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| matmul(&x, &linear).unwrap())
        };
        close(&run(1), &x.matmul(&linear.matrix().unwrap()).unwrap());
        close(&run(4), &run(1));
    }

    #[test]
    fn activations_match(seed in any::<u64>(), rows in 1usize..200, d in 1usize..300, which in 0..5usize, scale in 0.1f32..30.0) {
        let config = config(ACTIVATIONS[which], false, 1, 1, 8);
        let (x, bias) = (random(seed, &[rows, d], scale), random(seed + 1, &[d], 1.0));
        let bias = (seed % 2 == 0).then_some(&bias);
        // The kernel works in place, so it gets a copy.
        let got = on_any_threads(|| activate(x.copy().unwrap(), &config, bias).unwrap());
        close(&got, &super::reference::activate(&x, &config, bias).unwrap());
    }

    #[test]
    fn gates_match(seed in any::<u64>(), rows in 1usize..100, d in 1usize..300, which in 0..4usize) {
        let config = config(ACTIVATIONS[which], true, 1, 1, 8);
        let (x, bias) = (random(seed, &[rows, 2 * d], 5.0), random(seed + 1, &[2 * d], 1.0));
        let bias = (seed % 2 == 0).then_some(&bias);
        let got = on_any_threads(|| activate(x.clone(), &config, bias).unwrap());
        close(&got, &super::reference::activate(&x, &config, bias).unwrap());
    }

    #[test]
    fn sums_match(seed in any::<u64>(), rows in 1usize..200, d in 1usize..300) {
        let (x, y, bias) = (random(seed, &[rows, d], 3.0), random(seed + 1, &[rows, d], 3.0), random(seed + 2, &[d], 1.0));
        let bias = (seed % 2 == 0).then_some(&bias);
        let got = on_any_threads(|| add(x.copy().unwrap(), &y, bias).unwrap());
        close(&got, &super::reference::add(&x, &y, bias).unwrap());
    }

    #[test]
    fn attention_matches(
        seed in any::<u64>(),
        lengths in prop::collection::vec(1usize..150, 1..5),
        kv_heads in 1usize..4,
        shared in 1usize..4,
        half in 1usize..20,
        turned in 0usize..20,
        adjacent_pairs in any::<bool>(),
        branches in prop::collection::vec(prop::option::of(any::<prop::sample::Index>()), 4),
    ) {
        let (heads, d_head) = (kv_heads * shared, 2 * half);
        let mut config = config(Activation::Gelu, false, heads, kv_heads, d_head);
        let offsets: Vec<usize> =
            std::iter::once(0).chain(lengths.iter().scan(0, |end, n| { *end += n; Some(*end) })).collect();
        // Each segment but the first may follow any row before it.
        let mut parents = vec![None];
        let mut positions: Vec<u32> = (0..lengths[0] as u32).collect();
        for (length, branch) in lengths[1..].iter().zip(&branches) {
            let parent = branch.map(|branch| branch.index(positions.len()));
            let first = parent.map_or(0, |parent| positions[parent] + 1);
            positions.extend(first..first + *length as u32);
            parents.push(parent.map(|parent| parent as u32));
        }
        let rows = positions.len();
        let longest = *positions.iter().max().unwrap() as usize + 1;
        let width = (heads + 2 * kv_heads) * d_head;
        let qkv = random(seed, &[rows, width], 2.0);
        let bias = random(seed + 1, &[width], 1.0);
        let shift = random(seed + 2, &[longest, (heads + kv_heads) * d_head], 1.0);
        let pairs = turned.min(half);
        let angles: Vec<f32> = (0..longest * pairs).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
        let rotation = Rotation {
            cos: angles.iter().map(|a| a.cos()).collect(),
            sin: angles.iter().map(|a| a.sin()).collect(),
            dims: 2 * pairs,
            adjacent_pairs,
        };
        let rotary = Rotary::new(rotation);
        let segments = Segments { offsets: &offsets, parents: &parents, positions: &positions };
        let rotaries = if pairs > 0 { vec![rotary] } else { Vec::new() };
        if pairs > 0 {
            let rope = Rope { dims: 2 * pairs, base: 1e4, adjacent_pairs, scaling: RopeScaling::Default };
            config.positions = Positions::Rotary(rope);
        }
        let extras = Extras::default();
        let pack = |plan| {
            Packing::new(&segments, (heads, None), &rotaries, (&Device::Cpu, DType::F32), plan).unwrap()
        };
        let attention = Attention {
            config: &config,
            layer: 0,
            bias: (seed % 2 == 0).then_some(&bias),
            shift: (seed % 3 == 0).then_some(&shift),
            rotaries: &rotaries,
            extras: &extras,
            alibi: None,
            segments,
            packing: None,
        };
        let got = on_any_threads(|| attention.run(&qkv).unwrap());
        close(&got, &super::reference::attention(&attention, &pack(Plan::Composed), &qkv).unwrap());
        #[cfg(not(feature = "cuda"))]
        close(&got, &super::fused::attention(&attention, &pack(Plan::Fused), &qkv).unwrap());
    }
}
