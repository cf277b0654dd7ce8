//! Errors of requests: a status and a sentence.

use askama::Template;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use neuroql_pg::Report;
use serde_json::json;

/// Why a request has no answer.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub status: StatusCode,
    /// SQLSTATE of the statement that failed.
    pub sqlstate: Option<String>,
    /// One sentence.
    pub message: String,
    pub hint: Option<String>,
    /// Character of the statement, from 1.
    pub position: Option<usize>,
}

impl Fault {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, sqlstate: None, message: message.into(), hint: None, position: None }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// A fault of this program; the log has the details.
    pub fn internal(details: impl std::fmt::Display) -> Self {
        tracing::error!("internal error: {details}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error (this is a bug in neuroql); the log says more")
    }
}

impl From<Box<Report>> for Fault {
    fn from(report: Box<Report>) -> Self {
        let report = *report;
        let status = match report.sqlstate.as_str() {
            "42501" | "25006" => StatusCode::FORBIDDEN,
            "57014" => StatusCode::GATEWAY_TIMEOUT,
            "57P01" => StatusCode::SERVICE_UNAVAILABLE,
            code if code.starts_with("53") => StatusCode::SERVICE_UNAVAILABLE,
            code if code.starts_with("58") || code.starts_with("XX") => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Self {
            status,
            sqlstate: Some(report.sqlstate),
            message: report.message,
            hint: report.hint,
            position: report.position,
        }
    }
}

impl From<askama::Error> for Fault {
    fn from(error: askama::Error) -> Self {
        Self::internal(error)
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    title: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
    sqlstate: Option<&'a str>,
}

/// A fault as a page.
pub(crate) struct PageFault(pub Fault);

/// A fault as JSON.
pub(crate) struct JsonFault(pub Fault);

/// A fault as a line of text, as DeepDecipher has it.
pub(crate) struct TextFault(pub Fault);

macro_rules! from_fault {
    ($($kind:ident)*) => {
        $(impl<E: Into<Fault>> From<E> for $kind {
            fn from(error: E) -> Self {
                Self(error.into())
            }
        })*
    };
}

from_fault!(PageFault JsonFault TextFault);

impl IntoResponse for PageFault {
    fn into_response(self) -> Response {
        let Self(fault) = self;
        let page = ErrorPage {
            title: fault.status.canonical_reason().unwrap_or("Error"),
            message: &fault.message,
            hint: fault.hint.as_deref(),
            sqlstate: fault.sqlstate.as_deref(),
        };
        match page.render() {
            Ok(page) => (fault.status, Html(page)).into_response(),
            Err(_) => TextFault(fault).into_response(),
        }
    }
}

impl IntoResponse for JsonFault {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "application/json")];
        (self.0.status, kind, format!("{}\n", self.0.to_json())).into_response()
    }
}

impl Fault {
    /// Returns the object that programs get: `{"error": {…}}`.
    pub fn to_json(&self) -> serde_json::Value {
        let error = json!({
            "sqlstate": self.sqlstate,
            "message": self.message,
            "hint": self.hint,
            "position": self.position,
        });
        json!({ "error": error })
    }
}

impl IntoResponse for TextFault {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        (self.0.status, kind, self.0.message).into_response()
    }
}
