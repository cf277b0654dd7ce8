//! Random text of the corpus, and where on it neurons fire.

use std::sync::Arc;

/// A piece of random text.
#[derive(Debug, Clone)]
pub struct Window {
    /// Number of its document.
    pub document: i64,
    /// Its tokens, BOS not among them.
    pub tokens: Arc<[u32]>,
}

/// A token on which a neuron is active.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fired {
    /// Which window.
    pub window: u32,
    /// Where in it.
    pub position: u32,
    /// Over the neuron's greatest.
    pub activation: f32,
}

impl Fired {
    /// The same with an activation over another greatest.
    pub fn scaled(self, by: f32) -> Self {
        Self { activation: self.activation * by, ..self }
    }
}

/// Random text, part of it to learn from and part to judge by.
#[derive(Debug, Clone, Default)]
pub struct Background {
    /// The text.
    pub windows: Vec<Window>,
}

impl Background {
    /// Returns whether a document's windows are for learning; the others are for judging.
    pub fn is_train(document: i64) -> bool {
        crate::random::Random::new(document as u64).next() & 1 == 0
    }

    /// Tokens in all.
    pub fn tokens(&self) -> usize {
        self.windows.iter().map(|window| window.tokens.len()).sum()
    }
}
