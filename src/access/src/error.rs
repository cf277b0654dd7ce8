use std::path::PathBuf;

use datafusion::error::DataFusionError;

/// Errors of permissions, of settings and of the password file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The password file cannot be used.
    #[error("password file {}: {reason}", file.display())]
    PasswordFile {
        /// The file.
        file: PathBuf,
        /// The fault.
        reason: String,
    },
    /// Only a superuser may do it.
    #[error("permission denied for {0}")]
    Denied(String),
    /// A transaction that was begun as read-only may not do it.
    #[error("cannot execute {0} in a read-only transaction")]
    ReadOnly(String),
    /// A value that a setting may not have.
    #[error("invalid value for parameter \"{name}\": \"{value}\"; whole numbers from {least} to {most} are allowed")]
    Setting {
        /// The setting.
        name: String,
        /// The value.
        value: String,
        /// The least that is allowed.
        least: u64,
        /// The most that is allowed.
        most: u64,
    },
    /// A plan that cannot be walked.
    #[error(transparent)]
    Plan(#[from] DataFusionError),
}

impl Error {
    /// Its SQLSTATE, as Postgres has it.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::PasswordFile { .. } => "F0000",
            Self::Denied(_) => "42501",
            Self::ReadOnly(_) => "25006",
            Self::Setting { .. } => "22023",
            Self::Plan(error) => neuroql::sqlstate(error),
        }
    }

    /// Advice to the user.
    pub fn hint(&self) -> Option<&'static str> {
        matches!(self, Self::Denied(_)).then_some("Only a superuser may do this.")
    }
}
