//! Statistics of the neurons of a layer over a corpus: moments, examples, and bounds.
//!
//! This room knows neither models nor SQL. It takes matrices of activations, `[tokens, neurons]`, cut into examples,
//! one batch after another in the order of the corpus:
//!
//! ```
//! use neuroql_analysis::{BatchSummary, Columns, Example, LayerBounds, LayerSummary};
//!
//! // Two examples of two and one tokens, three neurons.
//! let examples = [
//!     Example { document: 0, example: 0, tokens: &[7, 8] },
//!     Example { document: 1, example: 0, tokens: &[9] },
//! ];
//! let values = [0.5, -1.0, 0.0, 2.0, 0.0, 0.0, 1.0, 3.0, 0.0];
//! let mut summary = LayerSummary::new(0, 3, 20);
//! let batch = BatchSummary::new(&examples, &values, 3);
//! let columns = Columns::gather(summary.wanted(&batch, &examples), &examples, &values, 3);
//! summary.merge(&batch, &examples, &columns, 0);
//! assert_eq!(summary.state()[1].max, 3.0);
//! let bounds = LayerBounds::new(&[batch.peaks()], &[batch.troughs()], 3);
//! assert!(bounds.upper(1, 0) >= 0.0 && bounds.lower(1, 0) <= -1.0);
//! ```
//!
//! [`BatchSummary`] and the [wanted](LayerSummary::wanted) values of batches can be computed in parallel;
//! [`LayerSummary`] merges them in order, so that its results do not depend on threads. Its
//! [state](LayerSummary::state) can be stored and restored to continue an earlier run. [`LayerBounds`] is the index:
//! for each neuron and example two bytes between which all of its activations lie, after the partition bounds of
//! DeepEverest (He et al., PVLDB 15, 2021).
//!
//! Pairs of neurons have [`CoMoments`] for correlations and [`CoActivations`] for the number of tokens on which both
//! fire; stored vectors are compared by [`dot`], [`cosine`] and [`l2`].

mod admission;
mod batch;
mod bootstrap;
mod bounds;
mod correlations;
mod error;
mod examples;
mod histogram;
mod moments;
mod pruning;
mod reduce;
mod summary;
mod top_tokens;
mod total_order;
mod vectors;

pub use batch::{BatchSummary, Columns, Example};
pub use bootstrap::{Interval, bootstrap};
pub use bounds::{LayerBounds, QuantizedBounds, ROUNDING};
pub use correlations::{CoActivations, CoMoments, Correlate, Overlap, Sign};
pub use error::{Error, Result};
pub use examples::{AFTER, BANDS, BEFORE, Peak, Selected};
pub use histogram::{HISTOGRAM_BINS, histogram_edges};
pub use moments::Moments;
pub use pruning::{NeuronBounds, reaches, threshold};
pub use reduce::{ValueRange, counts, maxima, minima, second_moments, sums};
pub use summary::{LayerSummary, NeuronState};
pub use top_tokens::{TopKBound, TopToken, TopTokens, kept_tokens};
pub use total_order::{greater, lesser};
pub use vectors::{cosine, dot, l2};
