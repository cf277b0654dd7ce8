//! Errors of columns of the wrong type, and of users without a right.

use datafusion::error::DataFusionError;

use crate::sql_error;

/// An error of a column's type, or of a user's rights.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A column of something else than neuron graphs.
    #[error("not a graph: {0}")]
    NotAGraph(String),
    /// Something that the user may not do, or not with this object.
    #[error("permission denied for {0}")]
    Denied(String),
}

impl Error {
    /// SQLSTATE of this error.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Error::NotAGraph(_) => "42804",
            Error::Denied(_) => "42501",
        }
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        sql_error(error)
    }
}
