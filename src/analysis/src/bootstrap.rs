//! Bootstrap confidence intervals of means.

use crate::examples::mix;

/// Number of resamples.
const RESAMPLES: usize = 1000;

/// Number of values above which the limit of the bootstrap is taken, to which it is close by then.
const MOST: usize = 100_000;

/// 97.5th percentile of the normal distribution.
const NORMAL: f64 = 1.959_963_984_540_054;

/// A mean and its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// 2.5th percentile of the bootstrap.
    pub low: f64,
    /// 97.5th percentile of the bootstrap.
    pub high: f64,
}

/// Percentile bootstrap of a mean (Efron & Tibshirani, *An Introduction to the Bootstrap*, chapter 13): 1,000
/// resamples, deterministic and independent of the order of the values. For more than 100,000 values the mean ± 1.96
/// standard errors, to which the bootstrap converges. `None` without values.
///
/// ```
/// use neuroql_analysis::bootstrap;
///
/// let values: Vec<f64> = (0..100).map(f64::from).collect();
/// let interval = bootstrap(&values).unwrap();
/// assert!(interval.low < interval.mean && interval.mean == 49.5 && interval.mean < interval.high);
/// ```
pub fn bootstrap(values: &[f64]) -> Option<Interval> {
    if values.is_empty() {
        return None;
    }
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let count = values.len() as u64;
    let mean = |sum: f64| sum / count as f64;
    if values.len() > MOST {
        let mean = mean(values.iter().sum());
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count as f64;
        let error = NORMAL * (variance / count as f64).sqrt();
        return Some(Interval { mean, low: mean - error, high: mean + error });
    }
    let mut state = count;
    let mut draw = || {
        state = state.wrapping_add(1);
        values[(mix(state) % count) as usize]
    };
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| mean((0..count).map(|_| draw()).sum())).collect();
    means.sort_unstable_by(f64::total_cmp);
    Some(Interval {
        mean: mean(values.iter().sum()),
        low: means[RESAMPLES * 25 / 1000],
        high: means[RESAMPLES * 975 / 1000 - 1],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the interval of normal means with the mean ± 1.96 standard errors.
    #[test]
    fn as_the_normal_interval() {
        let values: Vec<f64> = (0..400).map(|i| (mix(i) % 1000) as f64 / 1000.0).collect();
        let interval = bootstrap(&values).unwrap();
        let variance = values.iter().map(|v| (v - interval.mean).powi(2)).sum::<f64>() / 399.0;
        let error = (variance / 400.0).sqrt();
        assert!((interval.low - (interval.mean - 1.96 * error)).abs() < 0.25 * error, "{interval:?}");
        assert!((interval.high - (interval.mean + 1.96 * error)).abs() < 0.25 * error, "{interval:?}");
        let mut reversed = values;
        reversed.reverse();
        assert_eq!(bootstrap(&reversed), Some(interval));
    }

    #[test]
    fn of_many_values_it_is_the_limit() {
        let values = |count: usize| (0..count as u64).map(|i| (mix(i) % 1000) as f64).collect::<Vec<_>>();
        let (few, many) = (bootstrap(&values(MOST)).unwrap(), bootstrap(&values(MOST + 1)).unwrap());
        let width = |interval: Interval| interval.high - interval.low;
        assert!((width(few) / width(many) - 1.0).abs() < 0.1, "{few:?} {many:?}");
        assert!((few.mean - many.mean).abs() < 0.01);
    }

    #[test]
    fn of_little() {
        assert_eq!(bootstrap(&[]), None);
        assert_eq!(bootstrap(&[0.5]), Some(Interval { mean: 0.5, low: 0.5, high: 0.5 }));
    }
}
