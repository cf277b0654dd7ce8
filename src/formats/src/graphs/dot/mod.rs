//! Neuron2Graph's drawings, in Graphviz's language.
//!
//! A drawing has the tokens of a trie without its wildcards, one node for those of the same depth and text. Colours are
//! the numbers: activators are the redder the more they activate, context is the bluer the more important it is; a
//! thick outline is the end of a pattern. So reading a drawing back loses some of the graph: gaps are closed, paths
//! that cross share nodes, numbers have 8 bits and values below a floor are white.

mod label;
mod read;
mod syntax;
mod write;

pub use read::parse;
pub use write::print;

/// Returns the token of a label as it is written in a drawing, with or without quotes, as far as labels are unambiguous.
pub fn token(label: &str) -> String {
    label::token(&syntax::unquoted(label))
}

const FORMAT: &str = "Neuron2Graph drawing";

/// The thresholds that a graph was learned with; colours depend on them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Activation threshold, which sets the scale of activations.
    pub activation: f32,
    /// Importance threshold, which sets the scale of importances.
    pub importance: f32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { activation: 0.5, importance: 0.75 }
    }
}

impl Thresholds {
    /// Activation up to which an activator is white.
    fn activation_floor(self) -> f64 {
        (decimal(self.activation) - 0.2).max(0.0)
    }

    /// Importance up to which context is white.
    fn importance_floor(self) -> f64 {
        (decimal(self.importance) - 0.2).max(0.1)
    }
}

/// The f64 with the same decimal digits, as in the original, which computes in f64.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}
