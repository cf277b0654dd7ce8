//! Errors of the functions.

use datafusion::error::DataFusionError;
use neuroql_schema::sql_error;

/// Errors of functions other than those of [`neuroql_model::Error`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A token id that is negative or NULL inside an array.
    #[error("detokenize: {0} is not a token id")]
    NotATokenId(String),
    /// Tokens to compare graphs on, for a method that reads none.
    #[error("graph_similarity: tokens are read by method 'behaviour' only, not by '{method}'")]
    NoText {
        /// Name of the method.
        method: &'static str,
    },
    /// The engine called a function in a way it never should.
    #[error("internal error (this is a bug in neuroql): {0}")]
    Internal(String),
}

impl Error {
    /// SQLSTATE of this error.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Error::NotATokenId(_) => "22003",
            Error::NoText { .. } => "22023",
            Error::Internal(_) => "XX000",
        }
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        sql_error(error)
    }
}
