//! Errors of the store.

use deltalake::DeltaTableError;
use deltalake::kernel::transaction::{CommitConflictError, TransactionError};

/// Errors of stores.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A location that is neither a folder nor the URL of an object store.
    #[error("\"{location}\" cannot be a store: {reason}")]
    Location {
        /// The location that was given.
        location: String,
        /// Reason that it is refused.
        reason: String,
    },
    /// A store that cannot be read or written.
    #[error("the store's table \"{table}\" cannot be {doing}: {reason}")]
    Access {
        /// Name of the table.
        table: &'static str,
        /// The operation: read, written.
        doing: &'static str,
        /// The storage's error.
        reason: String,
    },
    /// No room left.
    #[error("the store's table \"{table}\" cannot be written: the disk is full; nothing of what was there is lost")]
    Full {
        /// Name of the table.
        table: &'static str,
    },
    /// Files that are damaged.
    #[error("the store's table \"{table}\" is damaged: {reason}")]
    Damaged {
        /// Name of the table.
        table: &'static str,
        /// The fault.
        reason: String,
    },
    /// Two writers at once.
    #[error("another process has written to the store's table \"{table}\" at the same time: {reason}; run it again")]
    Conflict {
        /// Name of the table.
        table: &'static str,
        /// The change.
        reason: String,
    },
}

impl Error {
    /// SQLSTATE of this error.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Error::Location { .. } => "22023",
            Error::Access { .. } => "58030",
            Error::Full { .. } => "53100",
            Error::Damaged { .. } => "XX001",
            Error::Conflict { .. } => "40001",
        }
    }

    /// Converts an error of a Delta table.
    pub(crate) fn of(table: &'static str, doing: &'static str, error: DeltaTableError) -> Self {
        let reason = sources(&error);
        // Object stores wrap the system's error in text of their own.
        if reason.contains("No space left on device") || reason.contains("os error 28") {
            return Self::Full { table };
        }
        match &error {
            DeltaTableError::Transaction {
                source: TransactionError::CommitConflict(CommitConflictError::CorruptedState { .. }),
            } => Self::Damaged { table, reason },
            DeltaTableError::Transaction {
                source:
                    TransactionError::CommitConflict(_)
                    | TransactionError::VersionAlreadyExists(_)
                    | TransactionError::MaxCommitAttempts(_),
            }
            | DeltaTableError::VersionAlreadyExists(_) => Self::Conflict { table, reason },
            DeltaTableError::InvalidJsonLog { .. }
            | DeltaTableError::InvalidStatsJson { .. }
            | DeltaTableError::Parquet { .. }
            | DeltaTableError::SchemaMismatch { .. }
            | DeltaTableError::KernelError(_) => Self::Damaged { table, reason },
            _ => Self::Access { table, doing, reason },
        }
    }
}

/// Returns an error and its causes as text, as far as they say different things.
fn sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

/// Result of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;
