//! Elementary functions without branches or calls, so that loops over them vectorise.

use super::LANES;

/// Computes eˣ to about 1 ulp, with 0 and ∞ replaced by the ends of the range: Cody-Waite reduction and the degree-6
/// polynomial of Cephes' `expf`.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x };
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = 1.987_569_1e-4_f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let y = p.mul_add(r * r, r) + 1.0;
    y * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

/// Computes erf to some 1e-7: the rational minimax approximation that Eigen and XLA use.
#[inline(always)]
fn erf(x: f32) -> f32 {
    const LIMIT: f32 = 3.832_507;
    let x = x.clamp(-LIMIT, LIMIT);
    let z = x * x;
    let a = -2.726_142_3e-10_f32;
    let a = a.mul_add(z, 2.770_681_4e-8);
    let a = a.mul_add(z, -2.101_024e-6);
    let a = a.mul_add(z, -5.692_506_4e-5);
    let a = a.mul_add(z, -7.349_906e-4);
    let a = a.mul_add(z, -2.954_6e-3);
    let a = a.mul_add(z, -1.609_603_3e-2);
    let b = -1.456_607_2e-5_f32;
    let b = b.mul_add(z, -2.133_740_5e-4);
    let b = b.mul_add(z, -1.682_827e-3);
    let b = b.mul_add(z, -7.373_329e-3);
    let b = b.mul_add(z, -1.426_473_9e-2);
    let y = x * a / b;
    // Where erf rounds to ±1, so that x·(1 + erf) of large negative x is 0.
    let y = if x >= LIMIT { 1.0 } else { y };
    if x <= -LIMIT { -1.0 } else { y }
}

/// Computes GELU, x·Φ(x).
#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// Computes the tanh approximation of GELU, 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), written with one exponential.
#[inline(always)]
pub(super) fn gelu_tanh(x: f32) -> f32 {
    let u = 0.797_884_6 * x * (0.044_715 * x).mul_add(x, 1.0);
    x - x / (exp(2.0 * u) + 1.0)
}

/// Computes tanh to some 2e-7 of 1, written with one exponential.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

/// Computes SiLU, x·sigmoid(x).
#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// Computes the fast GELU, x·sigmoid(1.702·x).
#[inline(always)]
pub(super) fn quick_gelu(x: f32) -> f32 {
    x / (1.0 + exp(-1.702 * x))
}

/// Largest element; −∞ for an empty slice.
#[inline(always)]
pub(super) fn max(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = if *x > *lane { *x } else { *lane };
    }
    let mut top = lanes[0];
    for lane in &lanes[1..] {
        top = if *lane > top { *lane } else { top };
    }
    top
}

/// Sum of a row.
#[inline(always)]
pub(super) fn sum(row: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += chunk[i];
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    pairwise(lanes)
}

/// Sum of (x − centre)² over a row.
#[inline(always)]
pub(super) fn sum_of_squares(row: &[f32], centre: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            let x = chunk[i] - centre;
            lanes[i] = x.mul_add(x, lanes[i]);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        let x = x - centre;
        *lane = x.mul_add(x, *lane);
    }
    pairwise(lanes)
}

/// Sums lanes in a fixed order that keeps the error small.
#[inline(always)]
fn pairwise(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest |f − reference| over [−20, 20], relative to max(|reference|, 1).
    fn worst(f: impl Fn(f32) -> f32, reference: impl Fn(f64) -> f64) -> f64 {
        (-200_000..=200_000)
            .map(|i| {
                let x = i as f32 * 1e-4;
                let want = reference(f64::from(x));
                (f64::from(f(x)) - want).abs() / want.abs().max(1.0)
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn functions_match_float64() {
        assert!(worst(exp, f64::exp) < 2e-7);
        assert!(worst(super::tanh, f64::tanh) < 3e-7);
        assert!(worst(silu, |x| x / (1.0 + (-x).exp())) < 3e-7);
        assert!(worst(gelu, |x| 0.5 * x * (1.0 + candle_core::cpu::erf::erf_f64(x / 2f64.sqrt()))) < 2e-6);
        let tanh = |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh());
        assert!(worst(gelu_tanh, tanh) < 2e-6);
    }

    #[test]
    fn extremes_stay_finite() {
        for x in [f32::MAX, f32::MIN, 1e30, -1e30, 0.0, -0.0] {
            for f in [gelu, gelu_tanh, silu] {
                assert!(!f(x).is_nan(), "{x}");
            }
        }
    }

    #[test]
    fn reductions_cover_remainders() {
        for n in [0, 1, 15, 16, 17, 31, 32, 100] {
            let row: Vec<f32> = (0..n).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
            assert_eq!(sum(&row), row.iter().sum::<f32>());
            assert_eq!(sum_of_squares(&row, 1.0), row.iter().map(|x| (x - 1.0) * (x - 1.0)).sum::<f32>());
            assert_eq!(max(&row), row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
