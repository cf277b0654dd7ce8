//! Learns neuron graphs: from examples that activate a neuron to a trie of token patterns, and its scores.
//!
//! The faithful method follows Neuron2Graph (Foote et al., arXiv 2305.19911): `prune` finds the part of an example that
//! activates the neuron, `saliency` the importance of its tokens, and [`fit`] makes patterns of them. A [`QueryRunner`]
//! runs changed texts through the model, those of many neurons together. [`score`] judges a graph on examples and on
//! random text that it was not made from. All texts are token ids.

mod background;
mod build;
mod error;
pub mod fit;
mod masked_lm;
mod method;
mod options;
mod population;
mod prune;
mod query_runner;
mod random;
mod saliency;
mod sample;
mod score;
mod select;
mod split;
mod substitutes;

pub use background::{Background, BackgroundActivation, Window};
pub use build::{GraphTrainer, NeuronOutcome, Reason};
pub use error::{Error, Result};
pub use masked_lm::{Filler, Gap, MaskedLm};
pub use method::Method;
pub use options::{LEAST_THRESHOLD, Options, Substitutes};
pub use population::{Population, PopulationScores, population_scores};
pub use query_runner::{Positions, Query, QueryRunner};
pub use sample::{Sample, Task};
pub use score::{Calibration, Scores, score};
pub use select::{SPARE, peaks, spread, strongest};
pub use split::split;
