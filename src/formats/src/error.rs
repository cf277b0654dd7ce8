//! Errors of imports.

use std::path::Path;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors that end the reading of a file or folder; what is wrong with single rows is a [`Reject`](crate::Reject).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Error of a location that is not in the format.
    #[error("\"{location}\" is not {format}: {reason}")]
    NotInFormat {
        /// The file or folder.
        location: String,
        /// Description of the right value.
        format: &'static str,
        /// The fault.
        reason: String,
    },
    /// Error of a location that holds several, of which one has to be named.
    #[error("\"{location}\" has several {what}: {found}; {advice}")]
    Ambiguous {
        /// The file or folder.
        location: String,
        /// Kind of thing that it has several of.
        what: &'static str,
        /// Their names.
        found: String,
        /// Way to choose one.
        advice: &'static str,
    },
    /// Error of the operating system.
    #[error("cannot read \"{location}\": {source}")]
    Io {
        /// The file or folder.
        location: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// Error of an option that has a value it cannot have.
    #[error("option '{option}' cannot be '{value}': {reason}")]
    InvalidOption {
        /// Its name.
        option: &'static str,
        /// Its value.
        value: String,
        /// The fault.
        reason: String,
    },
    /// Error of an address that cannot be read.
    #[error("\"{location}\" cannot be read over the network: {reason}")]
    InvalidLocation {
        /// The address.
        location: String,
        /// The fault.
        reason: String,
    },
    /// Error of a server that does not answer.
    #[error("\"{location}\" cannot be read over the network: {reason}")]
    Unreachable {
        /// Address of a file.
        location: String,
        /// The fault.
        reason: String,
    },
    /// Error of a query for files of a web server that it does not name.
    #[error(
        "\"{location}\" is on a web server, which has no list of its files: add WHERE layer = … AND neuron = …, for at most \
         {most} neurons{}", .asked.map_or_else(String::new, |asked| format!(" (these are {asked})"))
    )]
    NotListed {
        /// The address.
        location: String,
        /// Number of files that were asked for, if they were named.
        asked: Option<usize>,
        /// Greatest number of them.
        most: usize,
    },
    /// Error of a database that SQLite cannot go on with.
    #[error("the database \"{location}\" cannot be read: {reason}")]
    Database {
        /// The file.
        location: String,
        /// SQLite's message.
        reason: String,
    },
}

impl Error {
    /// SQLSTATE of this error.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Error::NotInFormat { .. } | Error::Database { .. } => "22P04",
            Error::Ambiguous { .. } | Error::InvalidOption { .. } | Error::InvalidLocation { .. } => "22023",
            Error::NotListed { .. } => "54000",
            Error::Unreachable { .. } => "58030",
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => "58P01",
            Error::Io { .. } => "58030",
        }
    }

    pub(crate) fn io(location: &Path, source: std::io::Error) -> Self {
        Self::Io { location: location.display().to_string(), source }
    }

    pub(crate) fn not_in_format(location: &Path, format: &'static str, reason: impl Into<String>) -> Self {
        Self::NotInFormat { location: location.display().to_string(), format, reason: reason.into() }
    }
}
