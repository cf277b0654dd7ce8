use std::path::PathBuf;

use datafusion::error::DataFusionError;
use neuroql::Role;

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
    /// The file of host rules cannot be used.
    #[error("host rules {}: {reason}", file.display())]
    HostRules {
        /// The file.
        file: PathBuf,
        /// The fault.
        reason: String,
    },
    /// A client may not connect from where it is.
    #[error("{0}")]
    Host(String),
    /// A client does not show the certificate that it needs.
    #[error("{0}")]
    Certificate(String),
    /// The user may not do it.
    #[error("{}", .denial.message(.what))]
    Denied {
        /// Name of the statement, table function or schema.
        what: String,
        /// Why the user may not.
        denial: Denial,
    },
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
            Self::PasswordFile { .. } | Self::HostRules { .. } => "F0000",
            Self::Host(_) | Self::Certificate(_) => "28000",
            Self::Denied { .. } => "42501",
            Self::ReadOnly(_) => "25006",
            Self::Setting { .. } => "22023",
            Self::Plan(error) => neuroql::sqlstate(error),
        }
    }

    /// Advice to the user.
    pub fn hint(&self) -> Option<String> {
        let Self::Denied { denial, .. } = self else { return None };
        Some(match denial {
            Denial::Role(role) => format!("Only {} may do this.", role.and_above()),
            Denial::Owner(_) => return None,
            Denial::NotGranted => "A superuser grants it by GRANT USAGE ON SCHEMA.".into(),
            Denial::Location(_) => "The server is started with --allow-location for what analysts may register.".into(),
        })
    }
}

/// Why a user may not do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// It takes this role.
    Role(Role),
    /// It takes the owner of this table.
    Owner(String),
    /// The use of the schema was revoked and not granted.
    NotGranted,
    /// Nothing may be registered from this location.
    Location(String),
}

impl Denial {
    fn message(&self, what: &str) -> String {
        match self {
            Self::Role(_) | Self::NotGranted => format!("permission denied for {what}"),
            Self::Owner(table) => format!("must be owner of table {table}"),
            Self::Location(location) => format!("permission denied for location {location}"),
        }
    }
}
