//! The terminal: standard output for results, standard error for everything else.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{LazyLock, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;

/// Error of a command, for a person.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl From<datafusion::error::DataFusionError> for Failure {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        let found = neuroql::diagnose(&error);
        Self { message: found.message, hint: found.hint }
    }
}

impl From<neuroql_access::Error> for Failure {
    fn from(error: neuroql_access::Error) -> Self {
        Self { message: error.to_string(), hint: error.hint() }
    }
}

impl From<neuroql_pg::Error> for Failure {
    fn from(error: neuroql_pg::Error) -> Self {
        Self { message: error.to_string(), hint: None }
    }
}

impl From<neuroql_web::Error> for Failure {
    fn from(error: neuroql_web::Error) -> Self {
        Self { message: error.to_string(), hint: None }
    }
}

impl From<neuroql_pg::ClientError> for Failure {
    fn from(error: neuroql_pg::ClientError) -> Self {
        Self { message: error.to_string(), hint: None }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { message: error.to_string(), hint: None }
    }
}

/// Logs to standard error, warnings and errors unless RUST_LOG says otherwise.
pub(crate) fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
}

/// Prints the reason why the program fails.
pub(crate) fn fail(message: &str, hint: Option<&str>) -> ExitCode {
    let mut stderr = io::stderr().lock();
    // Without a standard error there is nobody to tell.
    let _ = writeln!(stderr, "error: {message}");
    if let Some(hint) = hint {
        let _ = writeln!(stderr, "hint: {hint}");
    }
    ExitCode::FAILURE
}

/// Prints lines to standard output.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Returns the lines of progress on standard error that may be there at the same time.
pub(crate) fn bars() -> &'static MultiProgress {
    static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);
    &BARS
}

/// A bar that counts documents, on a terminal only.
pub(crate) fn document_bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} documents, {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Progress bars on a terminal, nothing elsewhere.
#[derive(Default)]
pub(crate) struct Bars {
    current: Mutex<Option<ProgressBar>>,
}

impl neuroql::Progress for Bars {
    fn begin(&self, what: &str, bytes: Option<u64>) {
        if !io::stderr().is_terminal() {
            return;
        }
        let (bar, template) = match bytes {
            Some(bytes) => (ProgressBar::new(bytes), "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}"),
            None => (ProgressBar::new_spinner(), "{spinner} {msg} {bytes}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let bar = bars().add(bar);
        bar.set_message(what.to_string());
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = &*self.current.lock().unwrap_or_else(PoisonError::into_inner) {
            bar.inc(bytes);
        }
    }

    fn finish(&self) {
        if let Some(bar) = self.current.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
            bars().remove(&bar);
        }
    }
}

/// A bar that counts neurons, on a terminal only; without a total it only counts.
pub(crate) fn neuron_bar(total: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{wide_bar} {pos}/{len} neurons, {per_sec}, {eta} left, {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} neurons, {per_sec}, {msg}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
