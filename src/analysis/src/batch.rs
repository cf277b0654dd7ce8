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

/// Neurons whose sums are kept in registers and first-level cache together.
const BLOCK: usize = 64;

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
        pulp::Arch::new().dispatch(Sums { summary: &mut summary, values });
        pulp::Arch::new().dispatch(Bins { histogram: &mut summary.histogram, values, width });
        let mut first = 0;
        for (i, example) in examples.iter().enumerate() {
            let (start, end) = (first * width, (first + example.tokens.len()) * width);
            let of_example = i * width..(i + 1) * width;
            pulp::Arch::new().dispatch(Extremes {
                values: &values[start..end],
                peaks: &mut summary.peaks[of_example.clone()],
                positions: &mut summary.positions[of_example.clone()],
                troughs: &mut summary.troughs[of_example],
            });
            first += example.tokens.len();
        }
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

/// Moments and counts of positive values, in two passes over the batch, which the cache holds.
struct Sums<'a> {
    summary: &'a mut BatchSummary,
    values: &'a [f32],
}

impl pulp::WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let width = self.summary.width;
        let count = self.values.len() / width;
        for first in (0..width).step_by(BLOCK) {
            let block = BLOCK.min(width - first);
            let mut mean = [0.0_f64; BLOCK];
            let mut positive = [0_u32; BLOCK];
            for row in self.values.chunks_exact(width) {
                let row = &row[first..first + block];
                for i in 0..block {
                    mean[i] += f64::from(row[i]);
                    positive[i] += u32::from(row[i] > 0.0);
                }
            }
            for mean in &mut mean {
                *mean /= count.max(1) as f64;
            }
            let (mut m2, mut m3, mut m4) = ([0.0_f64; BLOCK], [0.0_f64; BLOCK], [0.0_f64; BLOCK]);
            for row in self.values.chunks_exact(width) {
                let row = &row[first..first + block];
                for i in 0..block {
                    let d = f64::from(row[i]) - mean[i];
                    let square = d * d;
                    m2[i] += square;
                    m3[i] += square * d;
                    m4[i] += square * square;
                }
            }
            for i in 0..block {
                self.summary.moments[first + i] =
                    Moments { count: count as u64, mean: mean[i], m2: m2[i], m3: m3[i], m4: m4[i] };
                self.summary.positive[first + i] = positive[i];
            }
        }
    }
}

/// Neurons whose bins first-level cache holds together.
const BIN_BLOCK: usize = 16;

/// Rows that second-level cache holds while the blocks go over them.
const BIN_ROWS: usize = 256;

/// Bins of a neuron with room for any index of six bits, so that none has to be checked.
const ROOM: usize = 64;

/// Counts of values by bin.
struct Bins<'a> {
    histogram: &'a mut [u32],
    values: &'a [f32],
    width: usize,
}

impl pulp::WithSimd for Bins<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let width = self.width;
        for rows in self.values.chunks(width * BIN_ROWS) {
            for first in (0..width).step_by(BIN_BLOCK) {
                let block = BIN_BLOCK.min(width - first);
                let mut counts = [[0_u32; ROOM]; BIN_BLOCK];
                for row in rows.chunks_exact(width) {
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
}

/// The extremes of one example.
struct Extremes<'a> {
    values: &'a [f32],
    peaks: &'a mut [f32],
    positions: &'a mut [u32],
    troughs: &'a mut [f32],
}

impl pulp::WithSimd for Extremes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let width = self.peaks.len();
        for (position, row) in self.values.chunks_exact(width).enumerate() {
            let (peaks, positions) = (&mut self.peaks[..width], &mut self.positions[..width]);
            let troughs = &mut self.troughs[..width];
            for i in 0..width {
                let value = row[i];
                positions[i] = if is_greater(value, peaks[i]) { position as u32 } else { positions[i] };
                peaks[i] = greater(peaks[i], value);
                troughs[i] = lesser(troughs[i], value);
            }
        }
    }
}
