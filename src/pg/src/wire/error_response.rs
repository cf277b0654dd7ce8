//! Errors in the form in which clients get them.

use std::any::Any;
use std::borrow::Cow;

use datafusion::error::DataFusionError;
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError};
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;

/// One ErrorResponse.
#[derive(Debug, Clone)]
pub(crate) struct SqlError {
    fatal: bool,
    pub(crate) sqlstate: Cow<'static, str>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// 1-based character in the query text; psql draws a caret there.
    pub(crate) position: Option<usize>,
    /// Place where the error was found, beside the position in the statement.
    pub(crate) context: Option<String>,
}

impl SqlError {
    /// Error of a statement; the connection goes on.
    pub(crate) fn error(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self {
            fatal: false,
            sqlstate: sqlstate.into(),
            message: message.into(),
            hint: None,
            position: None,
            context: None,
        }
    }

    /// Error after which the connection is closed.
    pub(crate) fn fatal(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self { fatal: true, ..Self::error(sqlstate, message) }
    }

    /// Error of a peer that does not speak the protocol.
    pub(crate) fn protocol_violation(message: impl Into<String>) -> Self {
        Self::fatal("08P01", message)
    }

    pub(crate) fn not_supported(message: impl Into<String>) -> Self {
        Self::error("0A000", message)
    }

    /// Error of a panic, which is a bug in neuroql: the client learns that, the log keeps the details.
    pub(crate) fn panic(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_string())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "unknown cause".into());
        tracing::error!("a statement panicked: {text}");
        Self::error("XX000", format!("internal error (this is a bug in neuroql): {text}"))
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_position(mut self, position: Option<usize>) -> Self {
        self.position = position;
        self
    }

    pub(crate) fn with_context(mut self, context: impl Into<String>) -> Self {
        self.context = Some(context.into());
        self
    }

    pub(crate) fn into_fatal(mut self) -> Self {
        self.fatal = true;
        self
    }

    pub(crate) fn is_fatal(&self) -> bool {
        self.fatal
    }

    pub(crate) fn into_message(self) -> PgWireBackendMessage {
        let severity = if self.fatal { "FATAL" } else { "ERROR" };
        let mut info = ErrorInfo::new(severity.into(), self.sqlstate.into_owned(), self.message);
        info.severity_nonlocalized = Some(severity.into());
        info.hint = self.hint;
        info.where_context = self.context;
        info.position = self.position.map(|position| position.to_string());
        PgWireBackendMessage::ErrorResponse(info.into())
    }
}

/// A notice of severity WARNING.
pub(crate) fn warning(sqlstate: &str, message: &str) -> PgWireBackendMessage {
    let mut info = ErrorInfo::new("WARNING".into(), sqlstate.into(), message.into());
    info.severity_nonlocalized = Some("WARNING".into());
    PgWireBackendMessage::NoticeResponse(info.into())
}

/// A notice.
pub(crate) fn notice(message: String) -> PgWireBackendMessage {
    let mut info = ErrorInfo::new("NOTICE".into(), "00000".into(), message);
    info.severity_nonlocalized = Some("NOTICE".into());
    PgWireBackendMessage::NoticeResponse(info.into())
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(error) = cause {
            if let Some(ExternalSqlError(error)) = error.downcast_ref() {
                return error.clone();
            }
            cause = error.source();
        }
        let found = neuroql::diagnose(&error);
        if found.sqlstate == "XX000" {
            tracing::error!("internal error: {error}");
        }
        Self { hint: found.hint, ..Self::error(found.sqlstate, found.message) }
    }
}

impl From<neuroql_access::Error> for SqlError {
    fn from(error: neuroql_access::Error) -> Self {
        match error {
            neuroql_access::Error::Plan(error) => error.into(),
            other => Self { hint: other.hint(), ..Self::error(other.sqlstate(), other.to_string()) },
        }
    }
}

impl From<PgWireError> for SqlError {
    fn from(error: PgWireError) -> Self {
        match error {
            PgWireError::UserError(info) => {
                Self { sqlstate: info.code.into(), hint: info.hint, ..Self::error("XX000", info.message) }
            }
            PgWireError::ApiError(inner) => match inner.downcast::<DataFusionError>() {
                Ok(inner) => Self::from(*inner),
                Err(inner) => Self::error("XX000", inner.to_string()),
            },
            PgWireError::FailedToParseParameter(inner) => Self::error("22P02", inner.to_string()),
            PgWireError::InvalidRustTypeForParameter(name) => {
                Self::not_supported(format!("parameters of type {name} are not supported"))
            }
            other => Self::error("XX000", other.to_string()),
        }
    }
}

/// Returns an error of a function or rule in the form in which DataFusion carries it; [`SqlError::from`] finds it again.
pub(crate) fn external(error: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(ExternalSqlError(error)))
}

/// An error on its way through DataFusion.
#[derive(Debug)]
pub(crate) struct ExternalSqlError(pub(crate) SqlError);

impl std::fmt::Display for ExternalSqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for ExternalSqlError {}

/// Reasons why a statement did not complete.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error to send to the client.
    SqlError(SqlError),
    /// The client has gone.
    Disconnected,
}

impl<E: Into<SqlError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::SqlError(error.into())
    }
}

impl From<std::io::Error> for Failure {
    fn from(_: std::io::Error) -> Self {
        Self::Disconnected
    }
}
