//! Products and distances of two vectors of f32.
//!
//! Every element is widened when it is read and sums are f64, so that products of f32 are exact and neither long
//! vectors nor large elements lose digits. [`LANES`] partial sums are kept on every processor, and no multiplication is
//! fused with an addition, so results are the same everywhere.

use crate::{Error, Result};

/// Number of partial sums: four AVX-512 registers of f64, enough to hide the latency of an addition.
const LANES: usize = 32;

/// Dot product `Σ aᵢ·bᵢ`; 0 for empty vectors.
///
/// # Errors
/// [`Error::DifferentLengths`].
///
/// ```
/// assert_eq!(neuroql_analysis::dot(&[1.0, 2.0], &[3.0, 4.0])?, 11.0);
/// # Ok::<(), neuroql_analysis::Error>(())
/// ```
pub fn dot(a: &[f32], b: &[f32]) -> Result<f64> {
    check(a, b)?;
    Ok(pulp::Arch::new().dispatch(Sum { a, b, term: Product }))
}

/// Cosine similarity `Σ aᵢ·bᵢ / √(Σ aᵢ²·Σ bᵢ²)`, from −1 to 1; `None` if one of the vectors is zero or empty.
///
/// # Errors
/// [`Error::DifferentLengths`].
///
/// ```
/// use neuroql_analysis::cosine;
/// assert_eq!(cosine(&[1.0, 0.0], &[-2.0, 0.0])?, Some(-1.0));
/// assert_eq!(cosine(&[1.0, 0.0], &[0.0, 0.0])?, None);
/// # Ok::<(), neuroql_analysis::Error>(())
/// ```
pub fn cosine(a: &[f32], b: &[f32]) -> Result<Option<f64>> {
    check(a, b)?;
    let [product, square_a, square_b] = pulp::Arch::new().dispatch(Products { a, b });
    if square_a == 0.0 || square_b == 0.0 {
        return Ok(None);
    }
    // Two roots, as the product of the squares may overflow.
    Ok(Some((product / (square_a.sqrt() * square_b.sqrt())).clamp(-1.0, 1.0)))
}

/// Euclidean distance `√Σ (aᵢ − bᵢ)²`; 0 for empty vectors.
///
/// # Errors
/// [`Error::DifferentLengths`].
///
/// ```
/// assert_eq!(neuroql_analysis::l2(&[1.0, 1.0], &[4.0, 5.0])?, 5.0);
/// assert!(neuroql_analysis::l2(&[1.0], &[]).is_err());
/// # Ok::<(), neuroql_analysis::Error>(())
/// ```
pub fn l2(a: &[f32], b: &[f32]) -> Result<f64> {
    check(a, b)?;
    Ok(pulp::Arch::new().dispatch(Sum { a, b, term: SquaredDifference }).sqrt())
}

fn check(a: &[f32], b: &[f32]) -> Result<()> {
    if a.len() == b.len() { Ok(()) } else { Err(Error::DifferentLengths { left: a.len(), right: b.len() }) }
}

/// Computes `Σ f(aᵢ, bᵢ)`.
struct Sum<'a, F> {
    a: &'a [f32],
    b: &'a [f32],
    term: F,
}

/// Term of a sum. A trait, since a closure would not be compiled for the processor's vector instructions.
trait Term {
    fn of(&self, a: f64, b: f64) -> f64;
}

struct Product;

impl Term for Product {
    #[inline(always)]
    fn of(&self, a: f64, b: f64) -> f64 {
        a * b
    }
}

struct SquaredDifference;

impl Term for SquaredDifference {
    #[inline(always)]
    fn of(&self, a: f64, b: f64) -> f64 {
        (a - b) * (a - b)
    }
}

impl<F: Term> pulp::WithSimd for Sum<'_, F> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> f64 {
        let mut lanes = [0.0_f64; LANES];
        let ((a, rest_a), (b, rest_b)) = (self.a.as_chunks::<LANES>(), self.b.as_chunks::<LANES>());
        for (a, b) in a.iter().zip(b) {
            for i in 0..LANES {
                lanes[i] += self.term.of(f64::from(a[i]), f64::from(b[i]));
            }
        }
        for (lane, (a, b)) in lanes.iter_mut().zip(rest_a.iter().zip(rest_b)) {
            *lane += self.term.of(f64::from(*a), f64::from(*b));
        }
        pairwise(lanes)
    }
}

/// Computes the product of two vectors and that of each with itself.
struct Products<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl pulp::WithSimd for Products<'_> {
    type Output = [f64; 3];

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> [f64; 3] {
        let (mut ab, mut aa, mut bb) = ([0.0_f64; LANES], [0.0_f64; LANES], [0.0_f64; LANES]);
        let ((a, rest_a), (b, rest_b)) = (self.a.as_chunks::<LANES>(), self.b.as_chunks::<LANES>());
        for (a, b) in a.iter().zip(b) {
            for i in 0..LANES {
                let (a, b) = (f64::from(a[i]), f64::from(b[i]));
                ab[i] += a * b;
                aa[i] += a * a;
                bb[i] += b * b;
            }
        }
        for (i, (a, b)) in rest_a.iter().zip(rest_b).enumerate() {
            let (a, b) = (f64::from(*a), f64::from(*b));
            ab[i] += a * b;
            aa[i] += a * a;
            bb[i] += b * b;
        }
        [pairwise(ab), pairwise(aa), pairwise(bb)]
    }
}

#[inline(always)]
fn pairwise(mut lanes: [f64; LANES]) -> f64 {
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
    use proptest::prelude::*;

    use super::*;

    fn pairs() -> impl Strategy<Value = Vec<(f32, f32)>> {
        let number = || prop_oneof![6 => -10.0_f32..10.0, 1 => Just(0.0), 1 => -3e38_f32..3e38, 1 => -1e-38_f32..1e-38];
        proptest::collection::vec((number(), number()), 0..200)
    }

    proptest! {
        #[test]
        fn as_the_naive_version(pairs in pairs()) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
            let wide: Vec<(f64, f64)> = pairs.iter().map(|(a, b)| (f64::from(*a), f64::from(*b))).collect();
            let size: f64 = wide.iter().map(|(a, b)| (a * b).abs()).sum();
            let product: f64 = wide.iter().map(|(a, b)| a * b).sum();
            prop_assert!((dot(&a, &b).unwrap() - product).abs() <= 1e-13 * size);
            let distance = wide.iter().map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            prop_assert!((l2(&a, &b).unwrap() - distance).abs() <= 1e-13 * distance);
            let length = |of: fn(&(f64, f64)) -> f64| wide.iter().map(|p| of(p).powi(2)).sum::<f64>().sqrt();
            let lengths = length(|p| p.0) * length(|p| p.1);
            match cosine(&a, &b).unwrap() {
                None => prop_assert!(a.iter().all(|v| *v == 0.0) || b.iter().all(|v| *v == 0.0)),
                Some(cosine) => {
                    prop_assert!(lengths > 0.0 && cosine.abs() <= 1.0);
                    prop_assert!((cosine - product / lengths).abs() <= 1e-13);
                }
            }
        }

        #[test]
        fn different_lengths_are_refused(a in 0_usize..70, b in 0_usize..70) {
            prop_assume!(a != b);
            let (x, y) = (vec![1.0; a], vec![1.0; b]);
            let error = Error::DifferentLengths { left: a, right: b };
            prop_assert_eq!(dot(&x, &y), Err(error));
            prop_assert_eq!(cosine(&x, &y), Err(error));
            prop_assert_eq!(l2(&x, &y), Err(error));
        }
    }

    #[test]
    fn extremes() {
        assert_eq!((dot(&[], &[]), l2(&[], &[]), cosine(&[], &[])), (Ok(0.0), Ok(0.0), Ok(None)));
        // Numbers whose squares overflow or underflow f32.
        let (large, small) = ([f32::MAX; 40], [f32::MIN_POSITIVE; 40]);
        assert!((cosine(&large, &small).unwrap().unwrap() - 1.0).abs() < 1e-15);
        assert_eq!(l2(&large, &large), Ok(0.0));
        assert!(dot(&[f32::NAN], &[1.0]).unwrap().is_nan());
        assert!(cosine(&[f32::NAN], &[1.0]).unwrap().unwrap().is_nan());
        assert_eq!(cosine(&[-0.0], &[1.0]), Ok(None));
        // A million tenths: f32 sums would be off in the third digit.
        let tenths = vec![0.1_f32; 1 << 20];
        let expected = f64::from(0.1_f32) * f64::from(0.1_f32) * f64::from(1 << 20);
        assert!((dot(&tenths, &tenths).unwrap() / expected - 1.0).abs() < 1e-11);
    }
}
