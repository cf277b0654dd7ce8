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
    /// A number of tokens to write below 0.
    #[error("generate: tokens is {0}, expected a number from 0")]
    Tokens(i64),
    /// A theme that drawings do not have.
    #[error("graph_svg: there is no theme '{0}'; it is 'light', 'dark' or 'page'")]
    Theme(String),
    /// An address that a drawing may not link to.
    #[error("graph_svg: '{0}' is not an address to link to; it begins with /, ?, #, http:// or https://")]
    Link(String),
    /// A number of nodes that is no size of a drawing.
    #[error("graph_svg: {given} is not a number of nodes from 1 to {most}")]
    DrawnNodes {
        /// The number.
        given: i64,
        /// The greatest that is allowed.
        most: i64,
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
            Error::NoText { .. } | Error::Tokens(_) | Error::Theme(_) | Error::Link(_) | Error::DrawnNodes { .. } => {
                "22023"
            }
            Error::Internal(_) => "XX000",
        }
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        sql_error(error)
    }
}
