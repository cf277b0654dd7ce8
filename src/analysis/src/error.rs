//! Errors of the arguments of this crate.

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every way a computation of this crate fails.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Error {
    /// Two vectors that cannot be compared.
    #[error("vectors must be of the same length, not {left} and {right}")]
    DifferentLengths {
        /// Length of the first.
        left: usize,
        /// Length of the second.
        right: usize,
    },
    /// Counts of neurons that fire above different thresholds.
    #[error("internal error (this is a bug in neuroql): counts above {left} and {right} cannot be added")]
    DifferentThresholds {
        /// Threshold of the first.
        left: f32,
        /// Threshold of the second.
        right: f32,
    },
    /// A matrix without whole rows, or two that do not belong together.
    #[error("internal error (this is a bug in neuroql): expected {expected} values, found {found}")]
    Shape {
        /// A number of values, or a multiple of it.
        expected: usize,
        /// How many there are.
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
