//! Errors of graphs.

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of graphs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A node names a parent that the graph does not have.
    #[error("node {node} of the graph has parent {parent}, but there are {nodes} nodes")]
    Dangling {
        /// The node.
        node: usize,
        /// The name.
        parent: i64,
        /// How many there are.
        nodes: usize,
    },
    /// Nodes are their own ancestors.
    #[error("node {0} of the graph is an ancestor of itself")]
    Cycle(usize),
    /// Two children of a node have the same symbol.
    #[error("nodes {first} and {second} of the graph have the same parent and the same token")]
    Duplicate {
        /// The one.
        first: usize,
        /// The other.
        second: usize,
    },
    /// More nodes, or deeper ones, than a graph may have.
    #[error("the graph has {what} {count}, at most {limit} are supported")]
    TooLarge {
        /// The thing that is too large.
        what: &'static str,
        /// How large it is.
        count: usize,
        /// How large it may be.
        limit: usize,
    },
    /// Whoever asked does not want to know any more.
    #[error("interrupted")]
    Interrupted,
    /// A number that is not one.
    #[error("{what} of node {node} of the graph is {value}")]
    NotFinite {
        /// The node.
        node: usize,
        /// Which of its numbers.
        what: &'static str,
        /// The number.
        value: String,
    },
    /// An array that does not fit the tokens it belongs to.
    #[error("{what}: {found} values where there should be {expected}")]
    Shape {
        /// The array.
        what: &'static str,
        /// How many values it should have.
        expected: usize,
        /// How many it has.
        found: usize,
    },
    /// A number outside of what makes sense.
    #[error("{what} is {value}, it must be {allowed}")]
    OutOfRange {
        /// The meaning of the number.
        what: &'static str,
        /// The number.
        value: String,
        /// The numbers that make sense, in words.
        allowed: &'static str,
    },
    /// A text that is not a graph in the format it was said to be in.
    #[error("not a graph in the format {format}: {reason}")]
    Malformed {
        /// The format.
        format: &'static str,
        /// The fault.
        reason: String,
    },
    /// Something in a graph that a format has no way to write.
    #[error("the format {format} has no {what}")]
    Inexpressible {
        /// The format.
        format: &'static str,
        /// The missing part.
        what: &'static str,
    },
    /// A name that nothing has.
    #[error("there is no {what} \"{name}\"; there are {known}")]
    Unknown {
        /// The name.
        what: &'static str,
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// A text that is no search query.
    #[error("search query, character {position}: {problem}")]
    Syntax {
        /// Where, in characters from 1.
        position: usize,
        /// The fault, and what should be there.
        problem: String,
    },
    /// A search query with more than it may have.
    #[error("the search query has {count} {what}, at most {limit} are supported")]
    QueryTooLarge {
        /// The kind of thing it has too many of.
        what: &'static str,
        /// How many it has.
        count: usize,
        /// How many it may have.
        limit: usize,
    },
}

impl Error {
    /// The SQLSTATE that a client is told.
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
