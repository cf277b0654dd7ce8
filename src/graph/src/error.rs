//! Errors of graphs.

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of graphs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Error of a node whose parent is not in the graph.
    #[error("node {node} of the graph has parent {parent}, but there are {nodes} nodes")]
    Dangling {
        /// The node.
        node: usize,
        /// Index of the parent that it names.
        parent: i64,
        /// Number of nodes.
        nodes: usize,
    },
    /// Error of a node that is its own ancestor.
    #[error("node {0} of the graph is an ancestor of itself")]
    Cycle(usize),
    /// Error of two children of a node with the same symbol.
    #[error("nodes {first} and {second} of the graph have the same parent and the same token")]
    Duplicate {
        /// The first of them.
        first: usize,
        /// The second.
        second: usize,
    },
    /// Error of something with more parts than allowed, such as a graph of too many nodes.
    #[error("the graph has {what} {count}, at most {limit} are supported")]
    TooLarge {
        /// The parts that are too many.
        what: &'static str,
        /// Its size.
        count: usize,
        /// The greatest size allowed.
        limit: usize,
    },
    /// Error of a computation that its caller interrupted.
    #[error("interrupted")]
    Interrupted,
    /// Error of a number of a node that is infinite or not a number.
    #[error("{what} of node {node} of the graph is {value}")]
    NotFinite {
        /// The node.
        node: usize,
        /// Name of the number.
        what: &'static str,
        /// The number.
        value: String,
    },
    /// Error of an array whose length does not fit.
    #[error("{what}: {found} values where there should be {expected}")]
    Shape {
        /// The array.
        what: &'static str,
        /// Expected number of values.
        expected: usize,
        /// Actual number of values.
        found: usize,
    },
    /// Error of a number outside of its range.
    #[error("{what} is {value}, it must be {allowed}")]
    OutOfRange {
        /// Meaning of the number.
        what: &'static str,
        /// The number.
        value: String,
        /// The allowed range, in words.
        allowed: &'static str,
    },
    /// Error of a text that is not a graph in the format.
    #[error("not a graph in the format {format}: {reason}")]
    Malformed {
        /// The format.
        format: &'static str,
        /// The fault.
        reason: String,
    },
    /// Error of a part of a graph that a format cannot express.
    #[error("the format {format} has no {what}")]
    Inexpressible {
        /// The format.
        format: &'static str,
        /// The part.
        what: &'static str,
    },
    /// Error of an unknown name.
    #[error("there is no {what} \"{name}\"; there are {known}")]
    Unknown {
        /// Kind of the names.
        what: &'static str,
        /// The unknown name.
        name: String,
        /// The known names.
        known: String,
    },
    /// Error of the syntax of a search query.
    #[error("search query, character {position}: {problem}")]
    Syntax {
        /// Position in characters, from 1.
        position: usize,
        /// The fault, and what the parser expected.
        problem: String,
    },
    /// Error of a search query that is too large.
    #[error("the search query has {count} {what}, at most {limit} are supported")]
    QueryTooLarge {
        /// Kind of the parts that are too many.
        what: &'static str,
        /// Number of them.
        count: usize,
        /// The greatest number allowed.
        limit: usize,
    },
}

impl Error {
    /// SQLSTATE of the error.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            // program_limit_exceeded
            Self::TooLarge { .. } | Self::QueryTooLarge { .. } => "54000",
            // query_canceled
            Self::Interrupted => "57014",
            // syntax_error
            Self::Syntax { .. } => "42601",
            // undefined_parameter is not for values: invalid_parameter_value
            Self::Unknown { .. } | Self::OutOfRange { .. } => "22023",
            // invalid_text_representation
            Self::Malformed { .. } => "22P02",
            // feature_not_supported
            Self::Inexpressible { .. } => "0A000",
            // data_exception
            _ => "22000",
        }
    }
}
