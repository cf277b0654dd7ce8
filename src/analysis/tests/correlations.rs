//! Correlations and co-activations against simple, slow versions that see all tokens at once.

use neuroql_analysis::{CoActivations, CoMoments, Correlate, Error, Overlap, Sign};
use proptest::prelude::*;

/// Pearson's correlation in two passes of f64.
fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let product = |a: &[f64], mean_a: f64, b: &[f64], mean_b: f64| {
        a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b)).sum::<f64>()
    };
    let (xx, yy) = (product(x, mean_x, x, mean_x), product(y, mean_y, y, mean_y));
    let constant = |values: &[f64]| values.iter().all(|v| *v == values[0]);
    (!x.is_empty() && !constant(x) && !constant(y)).then(|| product(x, mean_x, y, mean_y) / (xx.sqrt() * yy.sqrt()))
}

fn column(values: &[f32], width: usize, i: usize) -> Vec<f64> {
    values.iter().skip(i).step_by(width).map(|v| f64::from(*v)).collect()
}

fn close(found: Option<f64>, expected: Option<f64>, tolerance: f64) -> bool {
    match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() <= tolerance,
        (found, expected) => found == expected,
    }
}

/// Random number generator with the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Activations, `[tokens, width]`: correlated columns, each with its own mean and scale.
fn activations(random: &mut Random, tokens: usize, width: usize, mean: f64) -> Vec<f32> {
    let columns: Vec<(f64, f64, f64)> = (0..width)
        .map(|_| (mean * random.next(), 10_f64.powf(6.0 * random.next() - 3.0), 2.0 * random.next() - 1.0))
        .collect();
    (0..tokens)
        .flat_map(|_| {
            let common = random.next();
            columns
                .iter()
                .map(|(mean, scale, share)| {
                    ((mean + share * common + (1.0 - share.abs()) * random.next()) * scale) as f32
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

const WIDTH: usize = 4;
const OTHERS: usize = 3;

/// Strategy for rows of [`WIDTH`] neurons and [`OTHERS`] others: few distinct, large or constant values.
fn rows() -> impl Strategy<Value = Vec<[f32; WIDTH + OTHERS]>> {
    let value = prop_oneof![6 => (-4_i8..4).prop_map(f32::from), 1 => -1e3_f32..1e3, 1 => Just(0.0)];
    let constant = proptest::collection::vec(any::<bool>(), WIDTH + OTHERS);
    let row = proptest::array::uniform::<_, { WIDTH + OTHERS }>(value);
    (proptest::collection::vec(row, 0..60), constant).prop_map(|(mut rows, constant)| {
        for (i, _) in constant.iter().enumerate().filter(|(i, constant)| **constant && i % 3 == 0) {
            rows.iter_mut().for_each(|row| row[i] = 0.1);
        }
        rows
    })
}

fn split(rows: &[[f32; WIDTH + OTHERS]]) -> (Vec<f32>, Vec<f32>) {
    let x = rows.iter().flat_map(|row| row[..WIDTH].to_vec()).collect();
    (x, rows.iter().flat_map(|row| row[WIDTH..].to_vec()).collect())
}

proptest! {
    #[test]
    fn correlations_as_the_naive_version(rows in rows(), batch in 1_usize..20, merged in any::<bool>()) {
        let (x, y) = split(&rows);
        let mut pairs = CoMoments::between(WIDTH, OTHERS);
        let mut within = CoMoments::within(WIDTH);
        for rows in rows.chunks(batch) {
            let (x, y) = split(rows);
            if merged {
                let (mut of_batch, mut within_batch) = (CoMoments::between(WIDTH, OTHERS), CoMoments::within(WIDTH));
                of_batch.add_pairs(&x, &y).unwrap();
                within_batch.add(&x).unwrap();
                pairs.merge(&of_batch).unwrap();
                within.merge(&within_batch).unwrap();
            } else {
                pairs.add_pairs(&x, &y).unwrap();
                within.add(&x).unwrap();
            }
        }
        prop_assert_eq!((pairs.tokens(), within.tokens()), (rows.len() as u64, rows.len() as u64));
        for i in 0..WIDTH {
            let x_i = column(&x, WIDTH, i);
            for j in 0..OTHERS {
                let expected = pearson(&x_i, &column(&y, OTHERS, j));
                prop_assert!(close(pairs.correlation(i, j), expected, 2e-6), "{:?} {:?}", pairs.correlation(i, j), expected);
            }
            for j in 0..WIDTH {
                prop_assert!(close(within.correlation(i, j), pearson(&x_i, &column(&x, WIDTH, j)), 2e-6));
                prop_assert_eq!(within.correlation(i, j), within.correlation(j, i));
            }
            for sign in [Sign::Positive, Sign::Negative, Sign::Either] {
                let rank = |c: &Correlate| match sign {
                    Sign::Positive => -c.correlation,
                    Sign::Negative => c.correlation,
                    Sign::Either => -c.correlation.abs(),
                };
                let others = (0..WIDTH).filter(|j| *j != i);
                let mut all: Vec<Correlate> = others
                    .filter_map(|j| Some(Correlate { neuron: j as u32, correlation: within.correlation(i, j)? }))
                    .collect();
                all.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
                for k in 0..WIDTH {
                    let k = k.min(all.len());
                    prop_assert_eq!(within.strongest(i, k, sign), all[..k].to_vec());
                }
            }
        }
    }

    #[test]
    fn counts_as_the_naive_version(rows in rows(), batch in 1_usize..20, threshold in -2_i8..3, merged in any::<bool>()) {
        let (threshold, width) = (f32::from(threshold), WIDTH + OTHERS);
        let mut pairs = CoActivations::between(WIDTH, OTHERS, threshold);
        let mut within = CoActivations::within(width, threshold);
        for rows in rows.chunks(batch) {
            let (x, y) = split(rows);
            let all: Vec<f32> = rows.iter().flatten().copied().collect();
            if merged {
                let mut of_batch = CoActivations::between(WIDTH, OTHERS, threshold);
                of_batch.add_pairs(&x, &y).unwrap();
                pairs.merge(&of_batch).unwrap();
            } else {
                pairs.add_pairs(&x, &y).unwrap();
            }
            within.add(&all).unwrap();
        }
        let count = |on: &dyn Fn(&[f32; WIDTH + OTHERS]) -> bool| rows.iter().filter(|row| on(row)).count() as u64;
        for i in 0..width {
            for j in 0..width {
                let expected = Overlap {
                    both: count(&|row| row[i] > threshold && row[j] > threshold),
                    first: count(&|row| row[i] > threshold),
                    second: count(&|row| row[j] > threshold),
                    tokens: rows.len() as u64,
                };
                prop_assert_eq!(within.overlap(i, j), expected);
                if i < WIDTH && j >= WIDTH {
                    prop_assert_eq!(pairs.overlap(i, j - WIDTH), expected);
                }
            }
            let others = (0..width).filter(|j| *j != i).map(|j| (j as u32, within.overlap(i, j)));
            let mut all: Vec<_> = others.filter(|(_, overlap)| overlap.both > 0).collect();
            // A stable sort: equal ones stay in the order of their numbers.
            all.sort_by(|(_, a), (_, b)| b.jaccard().partial_cmp(&a.jaccard()).unwrap());
            for k in 0..WIDTH {
                prop_assert_eq!(within.strongest(i, k), all[..k.min(all.len())].to_vec());
            }
        }
    }
}

/// Checks more neurons than a tile has and more tokens than a part, with means a thousand times their deviations.
#[test]
fn large_means_and_many_tiles() {
    let (tokens, width, others) = (3000, 300, 270);
    let mut random = Random(1);
    let (x, y) = (activations(&mut random, tokens, width, 1e3), activations(&mut random, tokens, others, 1e3));
    let (mut pairs, mut within) = (CoMoments::between(width, others), CoMoments::within(width));
    let (mut counts, mut counts_within) =
        (CoActivations::between(width, others, 1.0), CoActivations::within(width, 1.0));
    for (x, y) in x.chunks(1100 * width).zip(y.chunks(1100 * others)) {
        pairs.add_pairs(x, y).unwrap();
        within.add(x).unwrap();
        counts.add_pairs(x, y).unwrap();
        counts_within.add(x).unwrap();
    }
    let xs: Vec<Vec<f64>> = (0..width).map(|i| column(&x, width, i)).collect();
    let ys: Vec<Vec<f64>> = (0..others).map(|i| column(&y, others, i)).collect();
    let both = |a: &[f64], b: &[f64]| a.iter().zip(b).filter(|(a, b)| **a > 1.0 && **b > 1.0).count() as u64;
    for i in (0..width).step_by(7) {
        for (j, y) in ys.iter().enumerate() {
            assert!(close(pairs.correlation(i, j), pearson(&xs[i], y), 1e-6));
            assert_eq!(counts.overlap(i, j).both, both(&xs[i], y));
        }
        for (j, y) in xs.iter().enumerate() {
            assert!(close(within.correlation(i, j), pearson(&xs[i], y), 1e-6));
            assert_eq!(counts_within.overlap(i, j).both, both(&xs[i], y));
        }
    }
}

/// Checks a corpus of 400,000 tokens, with sums that f32 alone would get wrong in the third digit.
#[test]
fn a_long_corpus_of_alike_neurons() {
    let (tokens, width) = (400_000, 4);
    let mut random = Random(3);
    let mut pairs = CoMoments::within(width);
    let mut all: Vec<Vec<f64>> = vec![Vec::new(); width];
    for _ in 0..tokens / 1000 {
        let batch: Vec<f32> = (0..1000)
            .flat_map(|_| {
                let common = random.next();
                // Correlations of 1, almost 1, −1 and about 0.
                let noise = 1e-3 * random.next();
                [common, common + noise, 5.0 - 2.0 * common, 100.0 + random.next()].map(|v| v as f32)
            })
            .collect();
        pairs.add(&batch).unwrap();
        all.iter_mut().enumerate().for_each(|(i, values)| values.extend(column(&batch, width, i)));
    }
    for i in 0..width {
        for j in 0..width {
            assert!(close(pairs.correlation(i, j), pearson(&all[i], &all[j]), 1e-7));
        }
    }
}

#[test]
fn neurons_without_correlations() {
    // Constant but not a sum of powers of two, NaN, infinite, tiny and huge.
    let columns = |t: usize| {
        let t = t as f32;
        let nan = if t == 5.0 { f32::NAN } else { t };
        let infinite = if t == 5.0 { f32::INFINITY } else { t };
        [0.1, nan, infinite, t * 1e-38, t * 1e36, t]
    };
    let x: Vec<f32> = (0..50).flat_map(columns).collect();
    let mut pairs = CoMoments::within(6);
    pairs.add(&x[..180]).unwrap();
    pairs.add(&x[180..]).unwrap();
    for i in 0..3 {
        assert!((0..6).all(|j| pairs.correlation(i, j).is_none()), "{i}");
        assert!(pairs.strongest(i, 9, Sign::Either).is_empty());
    }
    for (i, j) in [(3, 4), (3, 5), (4, 5), (3, 3)] {
        assert!((pairs.correlation(i, j).unwrap() - 1.0).abs() < 1e-6, "{i} {j}");
    }
    assert_eq!(CoMoments::within(2).correlation(0, 1), None);
    // One token has no correlations.
    let mut one = CoMoments::within(2);
    one.add(&[1.0, 2.0]).unwrap();
    assert_eq!((one.correlation(0, 1), one.correlation(0, 0)), (None, None));
}

#[test]
fn threads_do_not_matter() {
    let mut random = Random(5);
    let x = activations(&mut random, 1500, 600, 1.0);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut pairs, mut counts) = (CoMoments::within(600), CoActivations::within(600, 0.5));
            pairs.add(&x).unwrap();
            counts.add(&x).unwrap();
            (pairs, counts)
        })
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn shapes_are_checked() {
    let mut within = CoMoments::within(3);
    assert_eq!(within.add(&[1.0; 4]), Err(Error::Shape { expected: 3, found: 4 }));
    assert!(within.add_pairs(&[1.0; 3], &[1.0; 3]).is_err());
    let mut pairs = CoMoments::between(3, 2);
    assert_eq!(pairs.add_pairs(&[1.0; 6], &[1.0; 3]), Err(Error::Shape { expected: 4, found: 3 }));
    assert!(pairs.add(&[1.0; 3]).is_err());
    assert!(pairs.merge(&within).is_err() && within.merge(&CoMoments::between(3, 3)).is_err());
    assert_eq!((within.tokens(), pairs.tokens()), (0, 0));
    assert_eq!(within, CoMoments::within(3));
    let mut counts = CoActivations::within(3, 0.0);
    assert!(counts.add(&[1.0; 4]).is_err() && counts.add_pairs(&[1.0; 3], &[1.0; 3]).is_err());
    assert!(CoActivations::between(3, 2, 0.0).add(&[1.0; 3]).is_err());
    assert!(counts.merge(&CoActivations::within(2, 0.0)).is_err());
    let error = counts.merge(&CoActivations::within(3, 0.5)).unwrap_err();
    assert_eq!(error, Error::DifferentThresholds { left: 0.0, right: 0.5 });
    assert_eq!(counts, CoActivations::within(3, 0.0));
    // No neurons.
    let mut none = CoMoments::within(0);
    none.add(&[]).unwrap();
    assert_eq!(none.tokens(), 0);
    assert!(none.add(&[1.0]).is_err());
    let mut half = CoMoments::between(2, 0);
    half.add_pairs(&[1.0; 4], &[]).unwrap();
    assert_eq!(half.tokens(), 2);
    assert_eq!(CoMoments::bytes(2, None), CoMoments::bytes(2, Some(2)) - 2 * size_of::<neuroql_analysis::Moments>());
    let none = counts.overlap(0, 1);
    assert_eq!((none.jaccard(), none.lift()), (None, None));
}
