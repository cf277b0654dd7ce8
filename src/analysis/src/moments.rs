//! Mean and central moments, merged batch by batch.

/// Moments of values: count, mean and sums of powers of deviations from it.
///
/// Merged by the formulas of Pébay, *Formulas for Robust, One-Pass Parallel Computation of Covariances and
/// Arbitrary-Order Statistical Moments* (Sandia SAND2008-6212), which lose no digits where the mean is large.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moments {
    /// Number of values.
    pub count: u64,
    /// Mean of the values.
    pub mean: f64,
    /// Sum of squared deviations from the mean.
    pub m2: f64,
    /// Sum of cubed deviations.
    pub m3: f64,
    /// Sum of fourth powers of deviations.
    pub m4: f64,
}

impl Moments {
    /// Makes moments of the sums of the first four powers of the distances of the values from a number near their mean.
    /// The farther it is from the mean, the more digits are lost: of moment `p`, those of `distance^p` beside it.
    pub fn of_powers(count: u64, near: f64, [first, second, third, fourth]: [f64; 4]) -> Self {
        let d = first / count.max(1) as f64;
        // Sums of even powers are not negative, but rounding may make them so; NaN stays.
        let even = |sum: f64| if sum < 0.0 { 0.0 } else { sum };
        Self {
            count,
            mean: near + d,
            m2: even(second - d * first),
            m3: third - d * (3.0 * second - 2.0 * d * first),
            m4: even(fourth - d * (4.0 * third - d * (6.0 * second - 3.0 * d * first))),
        }
    }

    /// Merges the moments of another set of values.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        let (a, b) = (self.count as f64, other.count as f64);
        let n = a + b;
        let d = other.mean - self.mean;
        let (d_n, d2) = (d / n, d * d);
        self.m4 += other.m4
            + d2 * d_n * d_n * a * b * (a * a - a * b + b * b) / n
            + 6.0 * d_n * d_n * (a * a * other.m2 + b * b * self.m2)
            + 4.0 * d_n * (a * other.m3 - b * self.m3);
        self.m3 += other.m3 + d2 * d_n * a * b * (a - b) / n + 3.0 * d_n * (a * other.m2 - b * self.m2);
        self.m2 += other.m2 + d * d_n * a * b;
        self.mean += d_n * b;
        self.count += other.count;
    }

    /// Variance, the mean squared deviation (of the population: divided by the count); `None` without values.
    pub fn variance(&self) -> Option<f64> {
        (self.count > 0).then(|| self.m2 / self.count as f64)
    }

    /// Skewness, the third standardised moment; `None` if all values are equal.
    pub fn skewness(&self) -> Option<f64> {
        (self.m2 > 0.0).then(|| (self.count as f64).sqrt() * self.m3 / self.m2.powf(1.5))
    }

    /// Kurtosis, the fourth standardised moment, 3 for a normal distribution; `None` if all values are equal.
    pub fn kurtosis(&self) -> Option<f64> {
        (self.m2 > 0.0).then(|| self.count as f64 * self.m4 / (self.m2 * self.m2))
    }
}
