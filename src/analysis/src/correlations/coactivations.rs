//! Co-activations: counts of the tokens on which pairs of neurons fire.

use rayon::prelude::*;

use super::rows_of;
use super::tiles::{Tile, Tiles};
use crate::{Error, Result};

/// Number of tokens whose bits are counted at once, the usual number of a batch.
const TOKENS: usize = 1024;

/// Greatest number of columns of a tile, so that the bits of its rows and columns fit in the first-level cache.
const WIDTH: usize = 128;

/// Number of neurons that are counted together.
const BLOCK: usize = 64;

/// Co-activations of all pairs of neurons, of one set or of two: counts of the tokens on which both fire. A neuron
/// fires where its activation is greater than a threshold; NaN is not.
///
/// Each neuron's firing is a bit a token, and pairs are counted 64 tokens at a time. Counts are exact.
///
/// ```
/// use neuroql_analysis::CoActivations;
///
/// // Four tokens, two neurons, which fire on three and two of them and on one together.
/// let mut counts = CoActivations::within(2, 0.0);
/// counts.add(&[1.0, 1.0, 2.0, 0.0, 1.0, -1.0, 0.0, 3.0])?;
/// let overlap = counts.overlap(0, 1);
/// assert_eq!((overlap.both, overlap.first, overlap.second, overlap.tokens), (1, 3, 2, 4));
/// assert_eq!(overlap.jaccard(), Some(0.25));
/// # Ok::<(), neuroql_analysis::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CoActivations {
    threshold: f32,
    tokens: u64,
    x: Vec<u64>,
    /// Counts of the second set; empty for pairs within one set.
    y: Vec<u64>,
    both: Tiles<u64, WIDTH>,
}

/// Overlap of the tokens on which two neurons fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// Number of tokens on which both fire.
    pub both: u64,
    /// Number of tokens on which the first fires.
    pub first: u64,
    /// Number of tokens on which the second fires.
    pub second: u64,
    /// Number of all tokens.
    pub tokens: u64,
}

impl Overlap {
    /// Jaccard similarity: the share of the tokens on which one fires that both fire on; `None` if there are none.
    pub fn jaccard(&self) -> Option<f64> {
        let either = self.first + self.second - self.both;
        (either > 0).then(|| self.both as f64 / either as f64)
    }

    /// Lift: the number of tokens on which both fire over that of independent neurons; `None` if one never fires.
    pub fn lift(&self) -> Option<f64> {
        let expected = self.first as f64 * self.second as f64;
        (expected > 0.0).then(|| self.both as f64 * self.tokens as f64 / expected)
    }
}

impl CoActivations {
    /// Makes empty counts of `width` neurons with each other.
    pub fn within(width: usize, threshold: f32) -> Self {
        let both = Tiles::new(width, width, true);
        Self { threshold, tokens: 0, x: vec![0; width], y: Vec::new(), both }
    }

    /// Makes empty counts of `width` neurons with `others` of another set.
    pub fn between(width: usize, others: usize, threshold: f32) -> Self {
        let both = Tiles::new(width, others, false);
        Self { threshold, tokens: 0, x: vec![0; width], y: vec![0; others], both }
    }

    /// Number of tokens added.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Adds a batch to pairs within one set; `x` is `[tokens, width]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` has no whole rows, or the pairs are of two sets.
    pub fn add(&mut self, x: &[f32]) -> Result<()> {
        if !self.both.symmetric() {
            return Err(Error::Shape { expected: self.both.columns(), found: 0 });
        }
        self.tokens += rows_of(x, self.x.len())? as u64;
        let x = bits(x, self.x.len(), self.threshold);
        count_single(&mut self.x, &x);
        self.count_pairs(&x, &x);
        Ok(())
    }

    /// Adds a batch to pairs of two sets; `x` is `[tokens, width]` and `y` `[tokens, others]`, row for row of the same
    /// tokens.
    ///
    /// # Errors
    /// [`Error::Shape`] if they are not of as many whole rows, or the pairs are within one set.
    pub fn add_pairs(&mut self, x: &[f32], y: &[f32]) -> Result<()> {
        let rows = rows_of(x, self.x.len())?;
        let others = self.both.columns();
        if self.both.symmetric() || y.len() != rows * others {
            return Err(Error::Shape { expected: rows * others, found: y.len() });
        }
        self.tokens += rows as u64;
        let (x, y) = (bits(x, self.x.len(), self.threshold), bits(y, others, self.threshold));
        count_single(&mut self.x, &x);
        count_single(&mut self.y, &y);
        self.count_pairs(&x, &y);
        Ok(())
    }

    /// Adds the counts of another.
    ///
    /// # Errors
    /// [`Error::Shape`] if its numbers of neurons differ, [`Error::DifferentThresholds`] if its threshold does.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let shape = |of: &Self| (of.both.rows(), of.both.columns(), of.both.symmetric());
        if shape(self) != shape(other) {
            let size = |of: &Self| of.both.rows() * of.both.columns();
            return Err(Error::Shape { expected: size(self), found: size(other) });
        }
        if self.threshold.to_bits() != other.threshold.to_bits() {
            return Err(Error::DifferentThresholds { left: self.threshold, right: other.threshold });
        }
        self.tokens += other.tokens;
        let add = |counts: &mut [u64], others: &[u64]| {
            counts.iter_mut().zip(others).for_each(|(count, other)| *count += other);
        };
        add(&mut self.x, &other.x);
        add(&mut self.y, &other.y);
        for (tile, other) in self.both.tiles.iter_mut().zip(&other.both.tiles) {
            add(&mut tile.values, &other.values);
        }
        Ok(())
    }

    /// Overlap of neuron `i` with neuron `j`, which is of the other set if there are two.
    ///
    /// # Panics
    /// Panics if there is no such neuron.
    pub fn overlap(&self, i: usize, j: usize) -> Overlap {
        let second = if self.both.symmetric() { self.x[j] } else { self.y[j] };
        Overlap { both: self.both.get(i, j), first: self.x[i], second, tokens: self.tokens }
    }

    /// The `k` neurons whose firing overlaps most with that of neuron `i`, by [`Overlap::jaccard`], greatest first and in
    /// the order of their numbers where it is equal; itself and those that never fire with it are left out.
    ///
    /// # Panics
    /// Panics if there is no neuron `i`.
    pub fn strongest(&self, i: usize, k: usize) -> Vec<(u32, Overlap)> {
        assert!(i < self.both.rows(), "no neuron {i}");
        let others = (0..self.both.columns()).filter(|j| !(self.both.symmetric() && *j == i));
        let overlaps = others.map(|j| (j as u32, self.overlap(i, j))).filter(|(_, overlap)| overlap.both > 0);
        let mut overlaps: Vec<(u32, Overlap)> = overlaps.collect();
        let order = |(a, one): &(u32, Overlap), (b, other): &(u32, Overlap)| {
            // Both fire on some token, so neither is `None`.
            other.jaccard().unwrap_or(0.0).total_cmp(&one.jaccard().unwrap_or(0.0)).then(a.cmp(b))
        };
        if k < overlaps.len() {
            overlaps.select_nth_unstable_by(k, order);
            overlaps.truncate(k);
        }
        overlaps.sort_unstable_by(order);
        overlaps
    }

    /// Size in bytes; `others` as in [`CoActivations::between`], `None` for [`CoActivations::within`].
    pub fn bytes(width: usize, others: Option<usize>) -> usize {
        let pairs = Tiles::<(), WIDTH>::size(width, others.unwrap_or(width), others.is_none());
        (width + others.unwrap_or(0) + pairs) * size_of::<u64>()
    }

    fn count_pairs(&mut self, x: &[Bits], y: &[Bits]) {
        self.both.tiles.par_iter_mut().for_each(|tile| {
            for (x, y) in x.iter().zip(y) {
                pulp::Arch::new().dispatch(CountTile { tile, x, y });
            }
        });
    }
}

/// Bitmap of the tokens of a part of a batch on which neurons fire: `[words, neurons]`, a bit a token.
struct Bits {
    neurons: usize,
    words: Vec<u64>,
}

fn bits(x: &[f32], neurons: usize, threshold: f32) -> Vec<Bits> {
    if neurons == 0 {
        return Vec::new();
    }
    let pack = |x: &[f32]| {
        let words = (x.len() / neurons).div_ceil(64);
        let mut bits = Bits { neurons, words: vec![0; words * neurons] };
        pulp::Arch::new().dispatch(Pack { x, threshold, bits: &mut bits });
        bits
    };
    x.par_chunks(TOKENS * neurons).map(pack).collect()
}

/// Packs comparisons with the threshold into a bit a token.
struct Pack<'a> {
    x: &'a [f32],
    threshold: f32,
    bits: &'a mut Bits,
}

impl pulp::WithSimd for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let Self { x, threshold, bits: Bits { neurons, words } } = self;
        for (rows, words) in x.chunks(64 * *neurons).zip(words.chunks_exact_mut(*neurons)) {
            for (token, row) in rows.chunks_exact(*neurons).enumerate() {
                for (word, x) in words.iter_mut().zip(row) {
                    *word |= u64::from(*x > threshold) << token;
                }
            }
        }
    }
}

fn count_single(counts: &mut [u64], parts: &[Bits]) {
    for words in parts.iter().flat_map(|part| part.words.chunks_exact(part.neurons)) {
        counts.iter_mut().zip(words).for_each(|(count, word)| *count += u64::from(word.count_ones()));
    }
}

/// Counts the pairs of a tile, 64 tokens at a time.
struct CountTile<'a> {
    tile: &'a mut Tile<u64>,
    x: &'a Bits,
    y: &'a Bits,
}

impl pulp::WithSimd for CountTile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let Self { tile: Tile { rows, columns, values }, x, y } = self;
        for (i, counts) in (rows.0..).zip(values.chunks_exact_mut(columns.1)) {
            for (block, counts) in counts.chunks_mut(BLOCK).enumerate() {
                let first = columns.0 + block * BLOCK;
                let mut both = [0_u64; BLOCK];
                for (x, y) in x.words.chunks_exact(x.neurons).zip(y.words.chunks_exact(y.neurons)) {
                    let (x, y) = (x[i], &y[first..first + counts.len()]);
                    match <&[u64; BLOCK]>::try_from(y) {
                        Ok(y) => (0..BLOCK).for_each(|j| both[j] += u64::from((x & y[j]).count_ones())),
                        Err(_) => {
                            both.iter_mut().zip(y).for_each(|(both, y)| *both += u64::from((x & y).count_ones()));
                        }
                    }
                }
                counts.iter_mut().zip(both).for_each(|(count, both)| *count += both);
            }
        }
    }
}
