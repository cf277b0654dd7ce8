//! Errors of building graphs.

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error of building graphs. A neuron that cannot be fitted is no error, but has a [`Reason`](crate::Reason).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Error of running the model.
    #[error(transparent)]
    Model(#[from] neuroql_model::Error),
    /// Error of making the graph.
    #[error(transparent)]
    Graph(#[from] neuroql_graph::Error),
    /// Error of an unknown option, or of a value that it cannot have.
    #[error("option \"{option}\" of graph building {reason}")]
    Option {
        /// Name of the option.
        option: String,
        /// The fault.
        reason: String,
    },
}

impl Error {
    /// SQLSTATE of the error.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::Model(error) => error.sqlstate(),
            Self::Graph(error) => error.sqlstate(),
            // invalid_parameter_value
            Self::Option { .. } => "22023",
        }
    }
}
