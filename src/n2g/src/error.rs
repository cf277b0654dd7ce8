//! Errors of building graphs.

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in building graphs. That one neuron cannot be fitted is no error, but a
/// [`Reason`](crate::Reason).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model could not run.
    #[error(transparent)]
    Model(#[from] neuroql_model::Error),
    /// The graph could not be made.
    #[error(transparent)]
    Graph(#[from] neuroql_graph::Error),
    /// An option that there is not, or a value that it cannot have.
    #[error("option \"{option}\" of graph building {reason}")]
    Option {
        /// Its name.
        option: String,
        /// The fault.
        reason: String,
    },
}

impl Error {
    /// The SQLSTATE that a client is told.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::Model(error) => error.sqlstate(),
            Self::Graph(error) => error.sqlstate(),
            // invalid_parameter_value
            Self::Option { .. } => "22023",
        }
    }
}
