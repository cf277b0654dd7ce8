//! Summaries of one batch.

use crate::histogram::{HISTOGRAM_BINS, bin};
use crate::moments::Moments;
use crate::total_order::{greater, lesser};
use crate::{Error, Result};

/// An example of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example<'a> {
    /// Number of its document.
    pub document: i64,
    /// Number of the example within the document.
    pub example: i64,
    /// Tokens of the example; the batch has a row for each.
    pub tokens: &'a [u32],
}

/// Summary of a batch: reductions of its matrix of activations.
#[derive(Debug)]
pub struct BatchSummary {
    pub(crate) width: usize,
    pub(crate) moments: Vec<Moments>,
    pub(crate) positive: Vec<u32>,
    /// Number of values by bin, `[neurons, bins]`.
    pub(crate) histogram: Vec<u32>,
    /// Greatest value of each example, `[examples, neurons]`.
    peaks: Vec<f32>,
    /// Least value of each example, `[examples, neurons]`.
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
            // Every number replaces NaN.
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
            for rows in rows.chunks(width * (CACHED / width).max(1)) {
                pulp::Arch::new().dispatch(AddSums { sums: &mut sums, rows });
                pulp::Arch::new().dispatch(Bins { histogram: &mut summary.histogram, rows, width });
                pulp::Arch::new().dispatch(Extremes {
                    rows,
                    peaks: &mut summary.peaks[of_example.clone()],
                    troughs: &mut summary.troughs[of_example.clone()],
                });
            }
            first += example.tokens.len();
        }
        summary.moments = sums.moments(first as u64);
        summary.positive = sums.positive;
        summary
    }

    /// Makes a summary of parts that were computed elsewhere: `[neurons]`, moments and numbers of positive rows;
    /// `[neurons, bins]`, numbers of rows by bin; `[examples, neurons]`, greatest and least values of each example.
    ///
    /// # Errors
    /// [`Error::Shape`] if their numbers of neurons or of examples differ.
    pub fn from_parts(
        moments: Vec<Moments>,
        positive: Vec<u32>,
        histogram: Vec<u32>,
        peaks: Vec<f32>,
        troughs: Vec<f32>,
    ) -> Result<Self> {
        let width = moments.len();
        let same = |found: usize, expected: usize| match found == expected {
            true => Ok(()),
            false => Err(Error::Shape { expected, found }),
        };
        same(positive.len(), width)?;
        same(histogram.len(), width * HISTOGRAM_BINS)?;
        same(troughs.len(), peaks.len())?;
        same(peaks.len() % width.max(1), 0)?;
        Ok(Self { width, moments, positive, histogram, peaks, troughs })
    }

    /// Greatest value of each neuron in each example: `[examples, neurons]`.
    pub fn peaks(&self) -> &[f32] {
        &self.peaks
    }

    /// Returns [`BatchSummary::peaks`] and [`BatchSummary::troughs`], owned.
    pub fn into_extremes(self) -> (Vec<f32>, Vec<f32>) {
        (self.peaks, self.troughs)
    }

    /// Greatest and least value of each neuron.
    pub(crate) fn extremes(&self) -> (Vec<f32>, Vec<f32>) {
        let (mut greatest, mut least) = (vec![f32::NEG_INFINITY; self.width], vec![f32::NAN; self.width]);
        let width = self.width.max(1);
        for (peaks, troughs) in self.peaks.chunks_exact(width).zip(self.troughs.chunks_exact(width)) {
            greatest.iter_mut().zip(peaks).for_each(|(all, peak)| *all = greater(*all, *peak));
            least.iter_mut().zip(troughs).for_each(|(all, trough)| *all = lesser(*all, *trough));
        }
        (greatest, least)
    }

    /// Least value of each neuron in each example: `[examples, neurons]`.
    pub fn troughs(&self) -> &[f32] {
        &self.troughs
    }
}

/// Columns: the values of some neurons on all tokens of some examples.
#[derive(Debug, Default)]
pub struct Columns {
    pairs: Vec<(u32, u32)>,
    /// Values of each pair, one pair after the other.
    values: Vec<f32>,
}

impl Columns {
    /// Makes columns of fetched values: for each pair of an example and a neuron, which ascend by neuron, as many as
    /// the example has tokens.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are more or fewer.
    pub fn new(pairs: Vec<(u32, u32)>, examples: &[Example<'_>], values: Vec<f32>) -> Result<Self> {
        let expected = pairs.iter().map(|(example, _)| examples[*example as usize].tokens.len()).sum();
        match values.len() {
            found if found == expected => Ok(Self { pairs, values }),
            found => Err(Error::Shape { expected, found }),
        }
    }

    /// Gathers columns from a whole matrix, `[tokens, neurons]`; pairs ascend by neuron.
    pub fn gather(pairs: Vec<(u32, u32)>, examples: &[Example<'_>], matrix: &[f32], width: usize) -> Self {
        // Wanted neurons of each example, and the places of their values.
        let mut wanted = vec![Vec::new(); examples.len()];
        let mut end = 0;
        for &(example, neuron) in &pairs {
            wanted[example as usize].push((neuron as usize, end));
            end += examples[example as usize].tokens.len();
        }
        let mut values = vec![0.0; end];
        let mut rows = matrix.chunks_exact(width.max(1));
        for (example, wanted) in examples.iter().zip(wanted) {
            // Row by row, in the order of the matrix in memory.
            for (position, row) in rows.by_ref().take(example.tokens.len()).enumerate() {
                wanted.iter().for_each(|(neuron, place)| values[place + position] = row[*neuron]);
            }
        }
        Self { pairs, values }
    }

    /// Returns true if it has the values of a pair.
    pub(crate) fn has(&self, (example, neuron): (u32, u32)) -> bool {
        self.pairs.binary_search_by_key(&(neuron, example), |(example, neuron)| (*neuron, *example)).is_ok()
    }

    /// Iterates over the pairs with their values.
    pub(crate) fn iter<'a>(&'a self, examples: &'a [Example<'_>]) -> impl Iterator<Item = ((u32, u32), &'a [f32])> {
        let mut rest = &self.values[..];
        self.pairs.iter().map(move |pair| {
            let (own, others) = rest.split_at(examples[pair.0 as usize].tokens.len());
            rest = others;
            (*pair, own)
        })
    }
}

/// Number of values that fit in the second-level cache while they are reduced.
const CACHED: usize = 1 << 16;

/// Number of first rows whose mean approximates that of the batch.
const TYPICAL: usize = 64;

/// Sums of powers of the distances from a number near the mean, and counts of positive values.
///
/// The number is the mean of the first rows. Moving the sums to the mean itself changes them little, so no digits are
/// lost.
struct Sums {
    width: usize,
    near: Vec<f64>,
    /// Sums of each power, from the first to the fourth.
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
        let moments = |i: usize| Moments::of_powers(count, self.near[i], [first[i], second[i], third[i], fourth[i]]);
        (0..self.width).map(moments).collect()
    }
}

/// Number of neurons whose sums are kept in registers together.
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
            let mut add = |values: &[f32; BLOCK]| {
                for i in 0..BLOCK {
                    let d = f64::from(values[i]) - center[i];
                    let square = d * d;
                    s1[i] += d;
                    s2[i] += square;
                    s3[i] += square * d;
                    s4[i] += square * square;
                    counts[i] += u32::from(values[i] > 0.0);
                }
            };
            for row in self.rows.chunks_exact(width) {
                match row[start..].first_chunk() {
                    Some(whole) => add(whole),
                    None => {
                        let mut rest = [0.0; BLOCK];
                        rest[..block].copy_from_slice(&row[start..]);
                        add(&rest);
                    }
                }
            }
            for (sums, of_block) in [(&mut *first, s1), (&mut *second, s2), (&mut *third, s3), (&mut *fourth, s4)] {
                sums[start..start + block].iter_mut().zip(of_block).for_each(|(sum, add)| *sum += add);
            }
            positive[start..start + block].iter_mut().zip(counts).for_each(|(sum, add)| *sum += add);
        }
    }
}

/// Number of neurons whose bins fit in the first-level cache together.
const BIN_BLOCK: usize = 16;

/// Number of rows whose bins are computed before they are counted: reading one number right after the store of its
/// vector is slow.
const BIN_ROWS: usize = 8;

/// Number of bins of a neuron with room for any index of six bits, so that no index has to be checked.
const ROOM: usize = 64;

/// Counts values by bin.
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
            for rows in self.rows.chunks(BIN_ROWS * width) {
                let mut bins = [[0_u32; BIN_BLOCK]; BIN_ROWS];
                for (bins, row) in bins.iter_mut().zip(rows.chunks_exact(width)) {
                    for (bin_of, value) in bins.iter_mut().zip(&row[first..first + block]) {
                        *bin_of = bin(*value) as u32;
                    }
                }
                for bins in &bins[..rows.len() / width] {
                    for i in 0..block {
                        counts[i][bins[i] as usize % ROOM] += 1;
                    }
                }
            }
            for (i, counts) in counts.iter().take(block).enumerate() {
                let bins = &mut self.histogram[(first + i) * HISTOGRAM_BINS..][..HISTOGRAM_BINS];
                bins.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
            }
        }
    }
}

/// Updates the extremes of one example by some of its rows.
struct Extremes<'a> {
    rows: &'a [f32],
    peaks: &'a mut [f32],
    troughs: &'a mut [f32],
}

impl pulp::WithSimd for Extremes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let width = self.peaks.len();
        for row in self.rows.chunks_exact(width) {
            let (peaks, troughs) = (&mut self.peaks[..width], &mut self.troughs[..width]);
            for i in 0..width {
                peaks[i] = greater(peaks[i], row[i]);
                troughs[i] = lesser(troughs[i], row[i]);
            }
        }
    }
}
