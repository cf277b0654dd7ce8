//! Examples kept of a neuron: those in which it is strongest, and a random one of each octave of strength.

use std::cmp::Ordering;

use crate::batch::Example;
use crate::total_order::is_greater;

/// Number of tokens kept before the peak of an example.
pub const BEFORE: usize = 15;
/// Number of tokens kept after it.
pub const AFTER: usize = 4;
/// Number of bands of peak activation, of each of which one example is drawn: less than 2⁻⁶, then octaves.
pub const BANDS: usize = 12;

/// Peak of a neuron in an example.
#[derive(Debug, Clone, PartialEq)]
pub struct Peak {
    /// Number of the document.
    pub document: i64,
    /// Number of the example within the document.
    pub example: i64,
    /// Position of the peak in the example; the first of equal ones.
    pub position: u32,
    /// Activation at the peak.
    pub activation: f32,
    /// Tokens around it and the activations on them, at most [`BEFORE`] before and [`AFTER`] after.
    pub around: Box<[(u32, f32)]>,
}

impl Peak {
    /// Compares by activation, greatest first; of equal ones, the first in the dataset.
    pub(crate) fn rank(&self, other: &Self) -> Ordering {
        let place = |peak: &Self| (peak.document, peak.example);
        match (is_greater(self.activation, other.activation), is_greater(other.activation, self.activation)) {
            (true, _) => Ordering::Less,
            (_, true) => Ordering::Greater,
            _ => place(self).cmp(&place(other)),
        }
    }
}

/// An example with the hash of its number.
pub(crate) struct HashedExample<'a> {
    pub example: Example<'a>,
    hash: u64,
}

impl<'a> HashedExample<'a> {
    fn new(example: Example<'a>) -> Self {
        Self { example, hash: mix(mix(example.document as u64) ^ example.example as u64) }
    }

    /// Hashes all examples of a batch.
    pub fn all(examples: &[Example<'a>]) -> Vec<Self> {
        examples.iter().copied().map(Self::new).collect()
    }

    /// Draws a random number, which depends on the example and the seed only.
    #[inline]
    pub fn draw(&self, seed: u64) -> u64 {
        mix(seed ^ self.hash)
    }
}

/// Seed of a neuron, for [`HashedExample::draw`].
pub(crate) fn seed(layer: u32, neuron: u32) -> u64 {
    mix(u64::from(layer) << 32 | u64::from(neuron))
}

/// Selected examples of one neuron.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selected {
    /// Strongest example of each document, at most `k` of them, strongest first.
    pub best: Vec<Peak>,
    /// Further examples of the same documents, kept while there are less than `k` documents.
    pub further: Vec<Peak>,
    /// Example of each band, with the random number by which it was drawn.
    pub drawn: Vec<Option<(u64, Peak)>>,
}

impl Selected {
    /// Returns the `k` strongest examples, of distinct documents as far as there are enough, strongest first.
    pub fn top(&self, k: usize) -> Vec<&Peak> {
        let mut top: Vec<&Peak> = self.best.iter().chain(&self.further).take(k).collect();
        top.sort_by(|a, b| a.rank(b));
        top
    }

    /// Returns the randomly drawn examples, strongest first.
    pub fn drawn(&self) -> impl Iterator<Item = &Peak> {
        self.drawn.iter().rev().flatten().map(|(_, peak)| peak)
    }

    /// Restores a stored example, in the order of [`Selected::top`] and [`Selected::drawn`].
    pub fn restore(&mut self, peak: Peak, ranked: bool, draw: Option<u64>) {
        if let Some(hash) = draw {
            self.drawn.resize(BANDS, None);
            let band = band(peak.activation);
            self.drawn[band] = Some((hash, peak));
        } else if ranked {
            let known = self.best.iter().any(|best| best.document == peak.document);
            if known { self.further.push(peak) } else { self.best.push(peak) }
        }
    }

    #[inline]
    fn draws(&self, draw: u64, activation: f32) -> bool {
        let drawn = self.drawn.get(band(activation)).and_then(Option::as_ref);
        drawn.is_none_or(|(least, _)| draw < *least)
    }

    #[inline]
    fn ranks(&self, k: usize, activation: f32, document: i64) -> bool {
        let Some(last) = self.best.last().filter(|_| self.best.len() >= k) else { return k > 0 };
        // Equal examples are kept only if they come first in the dataset.
        is_greater(activation, last.activation)
            || (activation.to_bits() == last.activation.to_bits() && document < last.document)
    }

    /// Keeps an example if it is among the strongest, or if its random number `draw` is the least of its band.
    pub(crate) fn offer(&mut self, k: usize, draw: u64, peak: Peak) {
        self.drawn.resize(BANDS, None);
        if self.draws(draw, peak.activation) {
            self.drawn[band(peak.activation)] = Some((draw, peak.clone()));
        }
        if self.ranks(k, peak.activation, peak.document) {
            self.insert(k, peak);
        }
    }

    fn insert(&mut self, k: usize, peak: Peak) {
        match self.best.iter().position(|best| best.document == peak.document) {
            Some(same) if peak.rank(&self.best[same]) == Ordering::Less => {
                let former = std::mem::replace(&mut self.best[same], peak);
                self.further.push(former);
            }
            Some(_) => self.further.push(peak),
            None => self.best.push(peak),
        }
        self.best.sort_by(Peak::rank);
        self.best.truncate(k);
        self.further.sort_by(Peak::rank);
        self.further.truncate(k - self.best.len());
    }
}

/// Band of a peak.
#[inline]
pub(crate) fn band(activation: f32) -> usize {
    if activation.is_nan() {
        return BANDS - 1;
    }
    // Exponents of 2⁻⁶ and above; negative numbers are below all of them.
    let exponent = (activation.max(0.0).to_bits() >> 23) as usize;
    exponent.saturating_sub(127 - 6 - 1).min(BANDS - 1)
}

/// Output function of SplitMix64.
pub(crate) fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
