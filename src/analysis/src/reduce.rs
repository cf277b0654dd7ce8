//! Reductions of the columns of a matrix of activations, over all values or those in a range.

use crate::moments::Moments;
use crate::total_order::{greater, lesser};

/// Range of values between two numbers, both included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueRange {
    /// Least value.
    pub least: f32,
    /// Greatest value.
    pub greatest: f32,
    /// True if NaN, which in SQL is greater than all numbers, is in the range.
    pub nan: bool,
}

impl ValueRange {
    /// Range of all values.
    pub const ALWAYS: Self = Self { least: f32::NEG_INFINITY, greatest: f32::INFINITY, nan: true };

    /// Range of values greater than a number, or equal to it if `or_equal`.
    pub fn above(number: f64, or_equal: bool) -> Self {
        let mut least = number as f32;
        // The least f32 in the range; the conversion rounds to the nearest.
        if f64::from(least) < number || (f64::from(least) == number && !or_equal) {
            least = least.next_up();
        }
        Self { least, ..Self::ALWAYS }
    }

    /// Range of values less than a number, or equal to it if `or_equal`.
    pub fn below(number: f64, or_equal: bool) -> Self {
        let mut greatest = number as f32;
        if f64::from(greatest) > number || (f64::from(greatest) == number && !or_equal) {
            greatest = greatest.next_down();
        }
        Self { greatest, nan: false, ..Self::ALWAYS }
    }

    /// Intersection of two ranges.
    pub fn and(self, other: Self) -> Self {
        Self {
            least: self.least.max(other.least),
            greatest: self.greatest.min(other.greatest),
            nan: self.nan && other.nan,
        }
    }

    /// Returns true if a value is in the range.
    #[inline(always)]
    pub fn holds(self, value: f32) -> bool {
        (value >= self.least && value <= self.greatest) || (self.nan && value.is_nan())
    }

    /// Returns true if all values between two bounds are in the range, false if none is, and else `None`.
    pub fn of_all(self, lower: f32, upper: f32) -> Option<bool> {
        if self == Self::ALWAYS {
            return Some(true);
        }
        if upper.is_nan() || lower.is_nan() {
            return None;
        }
        if upper < self.least || lower > self.greatest {
            return Some(false);
        }
        (lower >= self.least && upper <= self.greatest).then_some(true)
    }
}

/// Number of values of each column in a range; `values` is `[rows, width]`, as below.
pub fn counts(values: &[f32], width: usize, condition: ValueRange) -> Vec<u64> {
    if condition == ValueRange::ALWAYS {
        return vec![values.len().checked_div(width).unwrap_or(0) as u64; width];
    }
    fold::<_, Count>(values, width, condition, 0)
}

/// Greatest value of each column; −∞ without any.
pub fn maxima(values: &[f32], width: usize, condition: ValueRange) -> Vec<f32> {
    fold::<_, Max>(values, width, condition, f32::NEG_INFINITY)
}

/// Least value of each column; NaN without any.
pub fn minima(values: &[f32], width: usize, condition: ValueRange) -> Vec<f32> {
    fold::<_, Min>(values, width, condition, f32::NAN)
}

/// Sum of each column.
pub fn sums(values: &[f32], width: usize, condition: ValueRange) -> Vec<f64> {
    fold::<_, Sum>(values, width, condition, 0.0)
}

/// Moments of each column up to the second.
pub fn second_moments(values: &[f32], width: usize, condition: ValueRange) -> Vec<Moments> {
    let (counts, sums) = (counts(values, width, condition), sums(values, width, condition));
    let mut moments: Vec<Moments> = counts
        .iter()
        .zip(sums)
        .map(|(count, sum)| Moments { count: *count, mean: sum / (*count).max(1) as f64, ..Moments::default() })
        .collect();
    for row in values.chunks_exact(width.max(1)) {
        for (moments, value) in moments.iter_mut().zip(row) {
            let d = f64::from(*value) - moments.mean;
            moments.m2 += if condition.holds(*value) { d * d } else { 0.0 };
        }
    }
    moments
}

/// Step of a reduction: adds a value to a total.
trait Step<T> {
    fn step(total: T, value: f32) -> T;
}

struct Count;
struct Max;
struct Min;
struct Sum;

impl Step<u64> for Count {
    #[inline(always)]
    fn step(total: u64, _: f32) -> u64 {
        total + 1
    }
}

impl Step<f32> for Max {
    #[inline(always)]
    fn step(total: f32, value: f32) -> f32 {
        greater(total, value)
    }
}

impl Step<f32> for Min {
    #[inline(always)]
    fn step(total: f32, value: f32) -> f32 {
        lesser(total, value)
    }
}

impl Step<f64> for Sum {
    #[inline(always)]
    fn step(total: f64, value: f32) -> f64 {
        total + f64::from(value)
    }
}

fn fold<T: Copy, S: Step<T>>(values: &[f32], width: usize, condition: ValueRange, start: T) -> Vec<T> {
    let mut totals = vec![start; width];
    pulp::Arch::new().dispatch(Fold::<T, S> { values, condition, totals: &mut totals, step: std::marker::PhantomData });
    totals
}

struct Fold<'a, T, S> {
    values: &'a [f32],
    condition: ValueRange,
    totals: &'a mut [T],
    step: std::marker::PhantomData<S>,
}

impl<T: Copy, S: Step<T>> pulp::WithSimd for Fold<'_, T, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<D: pulp::Simd>(self, _: D) {
        let (width, condition) = (self.totals.len(), self.condition);
        let totals = &mut self.totals[..width];
        let always = condition == ValueRange::ALWAYS;
        for row in self.values.chunks_exact(width.max(1)) {
            for i in 0..width {
                let stepped = S::step(totals[i], row[i]);
                totals[i] = if always || condition.holds(row[i]) { stepped } else { totals[i] };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = f32> {
        prop_oneof![8 => (-6_i8..6).prop_map(|v| f32::from(v) / 2.0), 1 => any::<f32>()]
    }

    proptest! {
        #[test]
        fn as_the_naive_version(values in proptest::collection::vec(number(), 0..60), x in number(), or_equal in any::<bool>(), up in any::<bool>()) {
            prop_assume!(!x.is_nan());
            let bound = if up { ValueRange::above } else { ValueRange::below };
            let condition = bound(f64::from(x), or_equal);
            // The order of SQL: NaN is greater than all numbers.
            let passes = |v: f32| match (up, or_equal) {
                (true, false) => v.is_nan() || v > x,
                (true, true) => v.is_nan() || v >= x,
                (false, false) => v < x,
                (false, true) => v <= x,
            };
            let width = 3;
            let values = &values[..values.len() / width * width];
            for column in 0..width {
                let kept: Vec<f32> = values.iter().skip(column).step_by(width).copied().filter(|v| passes(*v)).collect();
                prop_assert_eq!(counts(values, width, condition)[column], kept.len() as u64);
                let greatest = kept.iter().copied().fold(f32::NEG_INFINITY, greater);
                prop_assert_eq!(maxima(values, width, condition)[column].to_bits(), greatest.to_bits());
                let least = kept.iter().copied().fold(f32::NAN, lesser);
                let found = minima(values, width, condition)[column];
                prop_assert!(found == least || (found.is_nan() && least.is_nan()));
                if kept.iter().all(|v| v.is_finite() && v.abs() < 1e6) {
                    let sum: f64 = kept.iter().map(|v| f64::from(*v)).sum();
                    prop_assert!((sums(values, width, condition)[column] - sum).abs() < 1e-6);
                    let mean = sum / kept.len().max(1) as f64;
                    let m2: f64 = kept.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum();
                    prop_assert!((second_moments(values, width, condition)[column].m2 - m2).abs() <= 1e-9 * (1.0 + m2));
                }
                if let Some(all) = condition.of_all(least, kept.iter().copied().fold(least, greater)) {
                    prop_assert!(all || kept.is_empty());
                }
            }
        }

        #[test]
        fn thresholds_between_two_floats(x in any::<f64>().prop_filter("finite", |x| x.is_finite()), v in any::<f32>()) {
            prop_assume!(!v.is_nan());
            prop_assert_eq!(ValueRange::above(x, false).holds(v), f64::from(v) > x);
            prop_assert_eq!(ValueRange::above(x, true).holds(v), f64::from(v) >= x);
            prop_assert_eq!(ValueRange::below(x, false).holds(v), f64::from(v) < x);
            prop_assert_eq!(ValueRange::below(x, true).holds(v), f64::from(v) <= x);
        }
    }
}
