//! Summary of a layer over any number of batches.

use crate::admission::AdmissionThreshold;
use crate::batch::{BatchSummary, Columns, Example};
use crate::examples::{AFTER, BEFORE, HashedExample, Peak, Selected, seed};
use crate::histogram::{HISTOGRAM_BINS, bin};
use crate::moments::Moments;
use crate::top_tokens::{TopToken, kept_tokens, offer, passes};
use crate::total_order::{greater, is_greater, lesser};

/// Summary of a layer: statistics and examples of its neurons.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSummary {
    layer: u32,
    k: usize,
    neurons: Vec<NeuronState>,
    /// Floor of each neuron.
    floors: Vec<AdmissionThreshold>,
}

/// State of the summary of one neuron.
#[derive(Debug, Clone, PartialEq)]
pub struct NeuronState {
    /// Moments of its activations.
    pub moments: Moments,
    /// Greatest activation, −∞ before the first.
    pub max: f32,
    /// Least activation, NaN before the first.
    pub min: f32,
    /// Number of tokens on which it is positive.
    pub positive: u64,
    /// Number of tokens by [bin](crate::histogram_edges).
    pub histogram: Vec<u64>,
    /// Number of examples by the bin of their peak.
    pub peaks: Vec<u64>,
    /// Selected examples.
    pub selected: Selected,
    /// Strongest tokens, strongest first, [`kept_tokens`] of them.
    pub strongest: Vec<TopToken>,
}

impl Default for NeuronState {
    fn default() -> Self {
        Self {
            moments: Moments::default(),
            max: f32::NEG_INFINITY,
            min: f32::NAN,
            positive: 0,
            histogram: vec![0; HISTOGRAM_BINS],
            peaks: vec![0; HISTOGRAM_BINS],
            selected: Selected::default(),
            strongest: Vec::new(),
        }
    }
}

impl NeuronState {
    /// Density: the share of tokens on which it is positive; `None` without tokens.
    pub fn density(&self) -> Option<f64> {
        (self.moments.count > 0).then(|| self.positive as f64 / self.moments.count as f64)
    }

    /// Share of tokens in each bin; `None` without tokens.
    pub fn histogram_shares(&self) -> Option<Vec<f32>> {
        let tokens = self.moments.count;
        (tokens > 0).then(|| self.histogram.iter().map(|n| (*n as f64 / tokens as f64) as f32).collect())
    }

    /// Quantile of an activation: the share of examples whose peak is in a lower bin.
    pub fn quantile(&self, activation: f32) -> f64 {
        let lower: u64 = self.peaks[..bin(activation)].iter().sum();
        let all: u64 = self.peaks.iter().sum();
        lower as f64 / all.max(1) as f64
    }
}

impl LayerSummary {
    /// Makes an empty summary of `width` neurons, which keeps the `k` strongest examples of each.
    pub fn new(layer: u32, width: usize, k: usize) -> Self {
        Self::from_state(layer, k, vec![NeuronState::default(); width])
    }

    /// Makes a summary that continues from a state.
    pub fn from_state(layer: u32, k: usize, neurons: Vec<NeuronState>) -> Self {
        let floors =
            neurons.iter().map(|neuron| AdmissionThreshold::of(&neuron.selected, &neuron.strongest, k)).collect();
        Self { layer, k, neurons, floors }
    }

    /// Index of the layer.
    pub fn layer(&self) -> u32 {
        self.layer
    }

    /// State of each neuron.
    pub fn state(&self) -> &[NeuronState] {
        &self.neurons
    }

    /// Number of the strongest examples kept of each neuron.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Greatest size in bytes.
    pub fn bytes(width: usize, k: usize) -> usize {
        let peak = size_of::<Peak>() + (BEFORE + AFTER + 1) * size_of::<(u32, f32)>();
        let lists = 2 * HISTOGRAM_BINS * size_of::<u64>() + kept_tokens(k) * size_of::<TopToken>();
        width * (size_of::<NeuronState>() + lists + (k + crate::BANDS) * peak)
    }

    /// Wanted values of a batch, of which [`LayerSummary::merge`] needs more than the extremes: pairs of an example and
    /// a neuron, ascending by neuron. Later merges only reduce them, so they can be computed for batches in parallel.
    pub fn wanted(&self, batch: &BatchSummary, examples: &[Example<'_>]) -> Vec<(u32, u32)> {
        let placed = HashedExample::all(examples);
        let mut wanted = Vec::new();
        for (n, floor) in self.floors.iter().enumerate() {
            let seed = seed(self.layer, n as u32);
            for (i, placed) in placed.iter().enumerate() {
                let peak = batch.peaks()[i * batch.width + n];
                let Example { document, tokens, .. } = placed.example;
                if !tokens.is_empty() && floor.wants(self.k, || placed.draw(seed), peak, document) {
                    wanted.push((i as u32, n as u32));
                }
            }
        }
        wanted
    }

    /// Merges a batch of `examples`; `columns` has at least the [wanted](Self::wanted) values, and `before` is the
    /// number of examples that were added earlier.
    pub fn merge(&mut self, batch: &BatchSummary, examples: &[Example<'_>], columns: &Columns, before: u64) {
        let (width, k, most) = (batch.width, self.k, kept_tokens(self.k));
        debug_assert_eq!(width, self.neurons.len());
        debug_assert!(self.wanted(batch, examples).iter().all(|pair| columns.has(*pair)));
        let placed = HashedExample::all(examples);
        let (greatest, least) = batch.extremes();
        let mut columns = columns.iter(examples).peekable();
        // Neurons in the outer loop: the state of one is contiguous in memory.
        for (n, neuron) in self.neurons.iter_mut().enumerate() {
            neuron.moments.merge(&batch.moments[n]);
            neuron.positive += u64::from(batch.positive[n]);
            let bins = &batch.histogram[n * HISTOGRAM_BINS..(n + 1) * HISTOGRAM_BINS];
            neuron.histogram.iter_mut().zip(bins).for_each(|(total, count)| *total += u64::from(*count));
            neuron.max = greater(neuron.max, greatest[n]);
            neuron.min = lesser(neuron.min, least[n]);
            for (i, example) in examples.iter().enumerate() {
                neuron.peaks[bin(batch.peaks()[i * width + n])] += u64::from(!example.tokens.is_empty());
            }
            let seed = seed(self.layer, n as u32);
            let is_told = columns.peek().is_some_and(|((_, neuron), _)| *neuron == n as u32);
            while let Some(((i, _), values)) = columns.next_if(|((_, neuron), _)| *neuron == n as u32) {
                let placed = &placed[i as usize];
                let peak = batch.peaks()[i as usize * width + n];
                let draw = placed.draw(seed);
                neuron.selected.offer(k, draw, peak_of(placed.example, values, peak));
                if passes(&neuron.strongest, most, peak) {
                    offer(&mut neuron.strongest, most, (before + u64::from(i)) as u32, values);
                }
            }
            if is_told {
                self.floors[n] = AdmissionThreshold::of(&neuron.selected, &neuron.strongest, k);
            }
        }
    }
}

/// Peak of an example, with the tokens around it.
fn peak_of(Example { document, example, tokens }: Example<'_>, values: &[f32], activation: f32) -> Peak {
    // The first of equal ones.
    let position = values.iter().position(|value| !is_greater(activation, *value)).unwrap_or(0);
    let range = position.saturating_sub(BEFORE)..(position + AFTER + 1).min(tokens.len());
    let around = tokens[range.clone()].iter().copied().zip(values[range].iter().copied()).collect();
    Peak { document, example, position: position as u32, activation, around }
}
