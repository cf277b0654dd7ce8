//! Centred rows of activations, scaled for products in f32.

use super::product::Columns;
use crate::moments::Moments;

/// Greatest number of rows that are centred and multiplied at once; sums over more are in f64.
pub(super) const ROWS: usize = 512;

/// Number of columns whose sums are kept in registers and first-level cache together.
const BLOCK: usize = 64;

/// Centred rows, at most [`ROWS`]: `values[row, i] = (x[row, i] − mean(i)) / scale(i)`.
#[derive(Debug, Default)]
pub(super) struct Centred {
    pub rows: usize,
    /// Centred and scaled values, `[rows, width]`; squares of a column sum to at most 1.
    pub values: Vec<f32>,
    /// Scale of each column, a power of two that keeps products and sums in the range of f32; 1 for a constant column.
    pub scales: Vec<f64>,
    /// Moments up to the second.
    pub moments: Vec<Moments>,
}

impl Centred {
    /// Centres `x`, which is `[rows, width]`.
    pub fn set(&mut self, x: &[f32], rows: usize, width: usize) {
        self.rows = rows;
        self.values.resize(x.len(), 0.0);
        self.scales.resize(width, 1.0);
        self.moments.resize(width, Moments::default());
        pulp::Arch::new().dispatch(CentreRows { x, centred: self });
    }

    /// Selects columns, given the first and their number.
    pub fn columns(&self, columns: (usize, usize)) -> Columns<'_> {
        Columns { values: &self.values, width: self.scales.len(), columns }
    }
}

struct CentreRows<'a> {
    x: &'a [f32],
    centred: &'a mut Centred,
}

impl pulp::WithSimd for CentreRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let Self { x, centred } = self;
        let width = centred.scales.len();
        let rows = centred.rows as f64;
        for first in (0..width).step_by(BLOCK) {
            let block = BLOCK.min(width - first);
            // Sums of deviations from the first row: (x₀ − mean)² is at most the sum of squared deviations from the
            // mean, so the subtraction below loses no more than a factor of 1 + rows, three digits of sixteen.
            let mut shift = [0.0_f64; BLOCK];
            for i in 0..block {
                shift[i] = f64::from(x[first + i]);
            }
            let (mut sum, mut square) = ([0.0_f64; BLOCK], [0.0_f64; BLOCK]);
            for row in x.chunks_exact(width) {
                let row = &row[first..first + block];
                for i in 0..block {
                    let d = f64::from(row[i]) - shift[i];
                    sum[i] += d;
                    square[i] += d * d;
                }
            }
            let (mut mean, mut factor) = ([0.0_f64; BLOCK], [1.0_f64; BLOCK]);
            for i in 0..block {
                mean[i] = shift[i] + sum[i] / rows;
                let m2 = square[i] - sum[i] * sum[i] / rows;
                // NaN stays NaN.
                let m2 = if m2 < 0.0 { 0.0 } else { m2 };
                let scale = power_of_two_above(m2.sqrt());
                factor[i] = 1.0 / scale;
                centred.scales[first + i] = scale;
                centred.moments[first + i] =
                    Moments { count: centred.rows as u64, mean: mean[i], m2, ..Moments::default() };
            }
            for (row, out) in x.chunks_exact(width).zip(centred.values.chunks_exact_mut(width)) {
                let (row, out) = (&row[first..first + block], &mut out[first..first + block]);
                for i in 0..block {
                    out[i] = ((f64::from(row[i]) - mean[i]) * factor[i]) as f32;
                }
            }
        }
    }
}

/// Least power of two that is greater than a number; 1 for zero and for numbers that are not finite.
#[inline(always)]
fn power_of_two_above(number: f64) -> f64 {
    const EXPONENT: u64 = 0x7ff << 52;
    if number > 0.0 && number < f64::MAX {
        // Numbers here are roots of sums of squares of f32: from 1e-46 to 1e42, never subnormal.
        2.0 * f64::from_bits(number.to_bits() & EXPONENT)
    } else {
        1.0
    }
}
