//! What can be said of one batch alone.

use crate::histogram::{HISTOGRAM_BINS, bin};
use crate::moments::Moments;
use crate::order::{greater, is_greater, lesser};

/// An example of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example<'a> {
    /// Number of its document.
    pub document: i64,
    /// Its number within the document.
    pub example: i64,
    /// Its tokens; the batch has a row for each.
    pub tokens: &'a [u32],
}

/// Reductions of a matrix of activations.
#[derive(Debug)]
pub struct BatchSummary {
    pub(crate) width: usize,
    pub(crate) moments: Vec<Moments>,
    pub(crate) positive: Vec<u32>,
    /// `[neurons, bins]`
    pub(crate) histogram: Vec<u32>,
    /// `[examples, neurons]`: the greatest value of each example, and where it first occurs.
    peaks: Vec<f32>,
    pub(crate) positions: Vec<u32>,
    /// `[examples, neurons]`: the least value of each example.
    troughs: Vec<f32>,
}

impl BatchSummary {
    /// Summarises a batch; `values` is `[tokens, neurons]` and `width` the number of neurons.
    pub fn new(examples: &[Example<'_>], values: &[f32], width: usize) -> Self {
        debug_assert_eq!(values.len(), width * examples.iter().map(|e| e.tokens.len()).sum::<usize>());
        let mut summary = Self {
            width,
            moments: vec![Moments::default(); width],
            positive: vec![0; width],
            histogram: vec![0; width * HISTOGRAM_BINS],
            peaks: vec![f32::NEG_INFINITY; width * examples.len()],
            positions: vec![0; width * examples.len()],
            // NaN gives way to every number.
            troughs: vec![f32::NAN; width * examples.len()],
        };
        if width == 0 {
            return summary;
        }
        let mut sums = Sums::new(values, width);
        let mut first = 0;
        for (i, example) in examples.iter().enumerate() {
            let of_example = i * width..(i + 1) * width;
            let rows = &values[first * width..(first + example.tokens.len()) * width];
            let mut position = 0;
            for rows in rows.chunks(width * (CACHED / width).max(1)) {
                pulp::Arch::new().dispatch(AddSums { sums: &mut sums, rows });
                pulp::Arch::new().dispatch(Bins { histogram: &mut summary.histogram, rows, width });
                pulp::Arch::new().dispatch(Extremes {
                    rows,
                    position,
                    peaks: &mut summary.peaks[of_example.clone()],
                    positions: &mut summary.positions[of_example.clone()],
                    troughs: &mut summary.troughs[of_example.clone()],
                });
                position += (rows.len() / width) as u32;
            }
            first += example.tokens.len();
        }
        summary.moments = sums.moments(first as u64);
        summary.positive = sums.positive;
        summary
    }

    /// The greatest value of each neuron in each example: `[examples, neurons]`.
    pub fn peaks(&self) -> &[f32] {
        &self.peaks
    }

    /// The least value of each neuron in each example: `[examples, neurons]`.
    pub fn troughs(&self) -> &[f32] {
        &self.troughs
    }
}

/// Values that second-level cache holds while all is computed of them.
const CACHED: usize = 1 << 16;

/// Rows whose mean is taken for that of the batch.
const TYPICAL: usize = 64;

/// Sums of powers of the distances from a number near the mean, and counts of positive values.
///
/// The number is the mean of the first rows: what is left of the sums when they are moved to the mean itself is not small
/// beside them, so no digits are lost.
struct Sums {
    width: usize,
    near: Vec<f64>,
    /// By power, from the first to the fourth.
    powers: [Vec<f64>; 4],
    positive: Vec<u32>,
}

impl Sums {
    fn new(values: &[f32], width: usize) -> Self {
        let mut near = vec![0.0; width];
        let typical = &values[..values.len().min(TYPICAL * width)];
        for row in typical.chunks_exact(width) {
            near.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        let rows = (typical.len() / width).max(1) as f64;
        near.iter_mut().for_each(|sum| *sum = Some(*sum / rows).filter(|mean| mean.is_finite()).unwrap_or(0.0));
        Self { width, near, powers: std::array::from_fn(|_| vec![0.0; width]), positive: vec![0; width] }
    }

    fn moments(&self, count: u64) -> Vec<Moments> {
        if count == 0 {
            return vec![Moments::default(); self.width];
        }
        let [first, second, third, fourth] = &self.powers;
        let n = count as f64;
        let moments = |i: usize| {
            let (s1, s2, s3, s4) = (first[i], second[i], third[i], fourth[i]);
            let d = s1 / n;
            let m2 = not_negative(s2 - d * s1);
            let m3 = s3 - d * (3.0 * s2 - 2.0 * d * s1);
            let m4 = not_negative(s4 - d * (4.0 * s3 - d * (6.0 * s2 - 3.0 * d * s1)));
            Moments { count, mean: self.near[i] + d, m2, m3, m4 }
        };
        (0..self.width).map(moments).collect()
    }
}

/// Sums of even powers are not, but rounding may make them so.
fn not_negative(sum: f64) -> f64 {
    if sum < 0.0 { 0.0 } else { sum }
}

/// Neurons whose sums are kept in registers together.
const BLOCK: usize = 32;

struct AddSums<'a> {
    sums: &'a mut Sums,
    rows: &'a [f32],
}

impl pulp::WithSimd for AddSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let Sums { width, near, powers: [first, second, third, fourth], positive } = self.sums;
        let width = *width;
        for start in (0..width).step_by(BLOCK) {
            let block = BLOCK.min(width - start);
            let mut center = [0.0_f64; BLOCK];
            center[..block].copy_from_slice(&near[start..start + block]);
            let (mut s1, mut s2) = ([0.0_f64; BLOCK], [0.0_f64; BLOCK]);
            let (mut s3, mut s4) = ([0.0_f64; BLOCK], [0.0_f64; BLOCK]);
            let mut counts = [0_u32; BLOCK];
            for row in self.rows.chunks_exact(width) {
                let mut of_block = [0.0_f32; BLOCK];
                match row[start..].first_chunk::<BLOCK>() {
                    Some(whole) => of_block = *whole,
                    None => of_block[..block].copy_from_slice(&row[start..]),
                }
                for i in 0..BLOCK {
                    let d = f64::from(of_block[i]) - center[i];
                    let square = d * d;
                    s1[i] += d;
                    s2[i] += square;
                    s3[i] += square * d;
                    s4[i] += square * square;
                    counts[i] += u32::from(of_block[i] > 0.0);
                }
            }
            for (sums, of_block) in [(&mut *first, s1), (&mut *second, s2), (&mut *third, s3), (&mut *fourth, s4)] {
                sums[start..start + block].iter_mut().zip(of_block).for_each(|(sum, add)| *sum += add);
            }
            positive[start..start + block].iter_mut().zip(counts).for_each(|(sum, add)| *sum += add);
        }
    }
}

/// Neurons whose bins first-level cache holds together.
const BIN_BLOCK: usize = 16;

/// Bins of a neuron with room for any index of six bits, so that none has to be checked.
const ROOM: usize = 64;

/// Counts of values by bin.
struct Bins<'a> {
    histogram: &'a mut [u32],
    rows: &'a [f32],
    width: usize,
}

impl pulp::WithSimd for Bins<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let width = self.width;
        for first in (0..width).step_by(BIN_BLOCK) {
            let block = BIN_BLOCK.min(width - first);
            let mut counts = [[0_u32; ROOM]; BIN_BLOCK];
            for row in self.rows.chunks_exact(width) {
                let mut bins = [0_u32; BIN_BLOCK];
                for (bin_of, value) in bins.iter_mut().zip(&row[first..first + block]) {
                    *bin_of = bin(*value) as u32;
                }
                for i in 0..block {
                    counts[i][bins[i] as usize % ROOM] += 1;
                }
            }
            for (i, counts) in counts.iter().take(block).enumerate() {
                let bins = &mut self.histogram[(first + i) * HISTOGRAM_BINS..][..HISTOGRAM_BINS];
                bins.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
            }
        }
    }
}

/// The extremes of one example, of which these rows start at a position.
struct Extremes<'a> {
    rows: &'a [f32],
    position: u32,
    peaks: &'a mut [f32],
    positions: &'a mut [u32],
    troughs: &'a mut [f32],
}

impl pulp::WithSimd for Extremes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let width = self.peaks.len();
        for (row, position) in self.rows.chunks_exact(width).zip(self.position..) {
            let (peaks, positions) = (&mut self.peaks[..width], &mut self.positions[..width]);
            let troughs = &mut self.troughs[..width];
            for i in 0..width {
                let value = row[i];
                positions[i] = if is_greater(value, peaks[i]) { position } else { positions[i] };
                peaks[i] = greater(peaks[i], value);
                troughs[i] = lesser(troughs[i], value);
            }
        }
    }
}
