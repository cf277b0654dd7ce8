//! Background: random text of the corpus, and the activations of neurons on it.

use std::sync::Arc;

/// Window of random text.
#[derive(Debug, Clone)]
pub struct Window {
    /// Number of its document.
    pub document: i64,
    /// Tokens, without BOS.
    pub tokens: Arc<[u32]>,
}

/// A token of the background on which a neuron is active.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BackgroundActivation {
    /// Index of the window.
    pub window: u32,
    /// Position in the window.
    pub position: u32,
    /// Activation, over the neuron's greatest.
    pub activation: f32,
}

impl BackgroundActivation {
    /// Rescales the activation, to be over another greatest.
    pub fn scaled(self, by: f32) -> Self {
        Self { activation: self.activation * by, ..self }
    }
}

/// Background: random text, part of it to learn from and part to judge by.
#[derive(Debug, Clone, Default)]
pub struct Background {
    /// Windows of text.
    pub windows: Vec<Window>,
}

impl Background {
    /// Returns true if a document's windows are for learning; the others are for judging.
    pub fn is_train(document: i64) -> bool {
        crate::random::Random::new(document as u64).next() & 1 == 0
    }

    /// Number of tokens of all windows.
    pub fn tokens(&self) -> usize {
        self.windows.iter().map(|window| window.tokens.len()).sum()
    }
}
