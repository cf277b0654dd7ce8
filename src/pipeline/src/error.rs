//! Errors of runs over documents.

use datafusion::error::DataFusionError;
use neuroql_schema::sql_error;

/// Errors of runs over documents other than those of the model, the store or the graphs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two analyses of one model and dataset at once.
    #[error("model \"{model}\" is being analysed over \"{dataset}\" already")]
    Busy {
        /// Name of the model.
        model: String,
        /// Name of the dataset.
        dataset: String,
    },
    /// A document without a number, or with one that is too large.
    #[error(
        "dataset \"{dataset}\": column \"document\" of row {row} is {value}; each text needs a number that is a bigint"
    )]
    DocumentNumber {
        /// Name of the dataset.
        dataset: String,
        /// The row, counted from 1.
        row: u64,
        /// The value in its place.
        value: String,
    },
    /// A broken invariant.
    #[error("internal error (this is a bug in neuroql): {0}")]
    Internal(String),
}

impl Error {
    /// SQLSTATE of this error.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Error::Busy { .. } => "55006",
            Error::DocumentNumber { .. } => "22004",
            Error::Internal(_) => "XX000",
        }
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        sql_error(error)
    }
}
