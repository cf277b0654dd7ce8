//! Errors of columns of the wrong type.

use datafusion::error::DataFusionError;

use crate::sql_error;

/// An error of a column's type.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A column of something else than neuron graphs.
    #[error("not a graph: {0}")]
    NotAGraph(String),
}

impl Error {
    /// SQLSTATE of this error.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Error::NotAGraph(_) => "42804",
        }
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        sql_error(error)
    }
}
