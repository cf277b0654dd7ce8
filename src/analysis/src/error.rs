//! Errors of invalid arguments.

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error of a computation of this crate.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Error {
    /// Error of two vectors of different lengths.
    #[error("vectors must be of the same length, not {left} and {right}")]
    DifferentLengths {
        /// Length of the first.
        left: usize,
        /// Length of the second.
        right: usize,
    },
    /// Error of merging counts of neurons that fire above different thresholds.
    #[error("internal error (this is a bug in neuroql): counts above {left} and {right} cannot be added")]
    DifferentThresholds {
        /// Threshold of the first.
        left: f32,
        /// Threshold of the second.
        right: f32,
    },
    /// Error of a matrix without whole rows, or of two whose shapes differ.
    #[error("internal error (this is a bug in neuroql): expected {expected} values, found {found}")]
    Shape {
        /// Expected number of values, or of which the number must be a multiple.
        expected: usize,
        /// Actual number of values.
        found: usize,
    },
}

impl Error {
    /// SQLSTATE of this error, from appendix A of the PostgreSQL manual.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Error::DifferentLengths { .. } => "22000",
            Error::DifferentThresholds { .. } | Error::Shape { .. } => "XX000",
        }
    }
}
