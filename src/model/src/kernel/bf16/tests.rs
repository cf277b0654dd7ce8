//! Products of bf16 beside a slow version.

use half::bf16;
use proptest::prelude::*;

use super::{Blocks, Instructions, x86};

/// Instructions of this processor.
fn instructions() -> Vec<Instructions> {
    let amx = (x86::has_avx512() && x86::has_amx()).then_some(Instructions::Amx);
    x86::has_avx512().then_some(Instructions::Avx512).into_iter().chain(amx).collect()
}

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut number = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| number()).collect()
}

fn rounded(x: f32) -> f64 {
    f64::from(bf16::from_f32(x).to_f32())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn products_are_those_of_rounded_numbers(seed in any::<u64>(), m in 1usize..90, k in 1usize..140, n in 1usize..120) {
        let (lhs, rhs) = (numbers(m * k, seed), numbers(k * n, seed ^ 1));
        for instructions in instructions() {
            let blocks = Blocks::new(&rhs, (k, n), instructions);
            prop_assert_eq!(blocks.shape(), (k, n));
            let kept: Vec<f64> = blocks.matrix().into_iter().map(f64::from).collect();
            prop_assert_eq!(&kept, &rhs.iter().map(|x| rounded(*x)).collect::<Vec<_>>());
            let on = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| blocks.multiply(&lhs, m))
            };
            let got = on(1);
            for (i, row) in got.chunks_exact(n).enumerate() {
                for (j, got) in row.iter().enumerate() {
                    let terms = (0..k).map(|p| rounded(lhs[i * k + p]) * rounded(rhs[p * n + j]));
                    let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
                    prop_assert!((f64::from(*got) - sum).abs() <= 1e-6 * size, "{:?} {} {}: {} {}", instructions, i, j, got, sum);
                }
            }
            let some: Vec<u32> = (0..n as u32).rev().step_by(3).collect();
            let alone = blocks.columns(&some).multiply(&lhs, m);
            for (row, alone) in got.chunks_exact(n).zip(alone.chunks_exact(some.len())) {
                prop_assert!(some.iter().zip(alone).all(|(column, x)| row[*column as usize] == *x));
            }
            // The same bits of any number of threads and of rows.
            prop_assert_eq!(&on(3), &got);
            prop_assert_eq!(&blocks.multiply(&lhs[(m - 1) * k..], 1), &got[(m - 1) * n..]);
        }
    }
}

/// More rows than are rounded at a time, on several threads in both ways of sharing work.
#[test]
fn large_products_have_the_same_rows_however_they_are_shared() {
    let (k, n) = (2080, 2000);
    let (lhs, rhs) = (numbers(600 * k, 3), numbers(k * n, 4));
    for instructions in instructions() {
        let blocks = Blocks::new(&rhs, (k, n), instructions);
        let on = |threads: usize, rows: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| blocks.multiply(&lhs[..rows * k], rows))
        };
        let whole = on(1, 600);
        for (threads, rows) in [(2, 600), (3, 600), (2, 1), (3, 17), (5, 100)] {
            assert_eq!(on(threads, rows), whole[..rows * n], "{instructions:?} {threads} {rows}");
        }
        for (i, j) in [(0, 0), (255, 31), (256, 1999), (599, 1024)] {
            let sum: f64 = (0..k).map(|p| rounded(lhs[i * k + p]) * rounded(rhs[p * n + j])).sum();
            assert!((f64::from(whole[i * n + j]) - sum).abs() <= 1e-3, "{instructions:?} {i} {j}");
        }
    }
}

#[test]
fn numbers_that_are_not_finite_stay_so() {
    let rhs = [1.0, 0.0, 0.0, 1.0];
    for instructions in instructions() {
        let blocks = Blocks::new(&rhs, (2, 2), instructions);
        let got = blocks.multiply(&[f32::INFINITY, 2.0, f32::NAN, 1.0, -3.0, f32::NEG_INFINITY], 3);
        assert!(got[0] == f32::INFINITY && got[1].is_nan(), "{got:?}");
        assert!(got[2].is_nan() && got[3].is_nan(), "{got:?}");
        assert!(got[4].is_nan() && got[5] == f32::NEG_INFINITY, "{got:?}");
        assert!(blocks.multiply(&[], 0).is_empty());
    }
}
