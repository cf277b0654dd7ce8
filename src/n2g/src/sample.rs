//! The texts that a graph is learned from and judged by.

use std::sync::Arc;

use crate::split;

/// An example and what a neuron does on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Number of the document.
    pub document: i64,
    /// Number of the example in the document.
    pub example: i64,
    /// Its tokens, BOS not among them.
    pub tokens: Arc<[u32]>,
    /// `[tokens]`, over the neuron's greatest.
    pub activations: Vec<f32>,
}

impl Sample {
    /// Its greatest activation and where that is; the first place of equal ones.
    pub fn peak(&self) -> Option<(usize, f32)> {
        let mut peak: Option<(usize, f32)> = None;
        for (i, &a) in self.activations.iter().enumerate() {
            if peak.is_none_or(|(_, most)| a > most) {
                peak = Some((i, a));
            }
        }
        peak
    }

    /// The same with activations over another greatest.
    pub fn scaled(&self, by: f32) -> Self {
        let tokens = Arc::clone(&self.tokens);
        let activations = self.activations.iter().map(|a| a * by).collect();
        Self { document: self.document, example: self.example, tokens, activations }
    }
}

/// The input of one neuron's graph.
#[derive(Debug, Clone)]
pub struct Task {
    /// The neuron.
    pub neuron: u32,
    /// Its greatest activation on the examples that were searched: what other activations are measured by.
    pub max_activation: f32,
    /// Activating examples to learn from, strongest first.
    pub train: Vec<Sample>,
    /// Activating examples to judge by, of other documents.
    pub held_out: Vec<Sample>,
}

impl Task {
    /// Of samples of the neuron those on which it is active, [split]: at most so many, the strongest.
    pub fn new(neuron: u32, max_activation: f32, mut samples: Vec<Sample>, most: usize) -> Self {
        let peak = |sample: &Sample| sample.peak().map_or(0.0, |(_, a)| a);
        let place = |sample: &Sample| (sample.document, sample.example);
        samples.retain(|sample| peak(sample) > 0.0);
        samples.sort_by(|a, b| peak(b).total_cmp(&peak(a)).then(place(a).cmp(&place(b))));
        let (train, held_out) = split(samples, most);
        Self { neuron, max_activation, train, held_out }
    }
}
