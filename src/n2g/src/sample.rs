//! Samples: the texts that a graph is learned from and judged by.

use std::sync::Arc;

use crate::split;

/// Sample: an example and the activations of a neuron on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Number of the document.
    pub document: i64,
    /// Number of the example in the document.
    pub example: i64,
    /// Tokens, without BOS.
    pub tokens: Arc<[u32]>,
    /// Activations, `[tokens]`, over the neuron's greatest.
    pub activations: Vec<f32>,
}

impl Sample {
    /// Position and value of the greatest activation; the first of equal ones.
    pub fn peak(&self) -> Option<(usize, f32)> {
        let mut peak: Option<(usize, f32)> = None;
        for (i, &a) in self.activations.iter().enumerate() {
            if peak.is_none_or(|(_, most)| a > most) {
                peak = Some((i, a));
            }
        }
        peak
    }

    /// Rescales the activations, to be over another greatest.
    pub fn scaled(&self, by: f32) -> Self {
        let tokens = Arc::clone(&self.tokens);
        let activations = self.activations.iter().map(|a| a * by).collect();
        Self { document: self.document, example: self.example, tokens, activations }
    }
}

/// Task: the input for the graph of one neuron.
#[derive(Debug, Clone)]
pub struct Task {
    /// Index of the neuron in its layer.
    pub neuron: u32,
    /// Greatest activation on the searched examples, of which other activations are shares.
    pub max_activation: f32,
    /// Activating examples to learn from, strongest first.
    pub train: Vec<Sample>,
    /// Activating examples to judge by, of other documents.
    pub held_out: Vec<Sample>,
}

impl Task {
    /// Makes a task of the samples on which the neuron is active, [split]: at most `most`, the strongest.
    pub fn new(neuron: u32, max_activation: f32, mut samples: Vec<Sample>, most: usize) -> Self {
        let peak = |sample: &Sample| sample.peak().map_or(0.0, |(_, a)| a);
        let place = |sample: &Sample| (sample.document, sample.example);
        samples.retain(|sample| peak(sample) > 0.0);
        samples.sort_by(|a, b| peak(b).total_cmp(&peak(a)).then(place(a).cmp(&place(b))));
        let (train, held_out) = split(samples, most);
        Self { neuron, max_activation, train, held_out }
    }
}
