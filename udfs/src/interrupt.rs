//! Cancellation of functions that take long.
//!
//! DataFusion calls functions from the threads that also serve clients, and cannot end a call. So whoever serves
//! clients runs each statement in a state that is [`interruptible`].

use datafusion::common::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;
use neuroql_model::{Cancel, CancelOnDrop};
use neuroql_schema::sql_error;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Returns the state of a session for a single statement: functions that still run when the guard is dropped end soon
/// after with the error that the statement was cancelled, and the threads of the runtime are not kept from other work
/// by them. It must be used in a task of its own, not in a [`LocalSet`](tokio::task::LocalSet).
pub fn interruptible(context: &SessionContext) -> (SessionState, CancelOnDrop) {
    let guard = CancelOnDrop::default();
    let mut state = context.state();
    state.config_mut().options_mut().extensions.insert(Interrupt(guard.flag()));
    // This sets the options that functions get.
    state.mark_start_execution();
    (state, guard)
}

/// The flag of a statement's guard.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt(Cancel);

impl Interrupt {
    /// The flag itself, for forward passes.
    pub fn flag(&self) -> Cancel {
        self.0.clone()
    }

    /// Returns true if the statement was not cancelled.
    pub fn goes_on(&self) -> bool {
        self.0.check().is_ok()
    }

    /// Returns an error if the statement was cancelled.
    pub fn check(&self) -> Result<()> {
        self.0.check().map_err(sql_error)
    }
}

/// Returns an error if the statement with these options was cancelled; for planning.
///
/// # Errors
/// Returns the error of a cancelled statement.
pub fn check_interrupt(options: &ConfigOptions) -> Result<()> {
    options.extensions.get::<Interrupt>().map_or(Ok(()), Interrupt::check)
}

/// Runs a function of a statement with these options.
pub(crate) fn run<T>(options: &ConfigOptions, work: impl FnOnce(&Interrupt) -> T) -> T {
    let Some(interrupt) = options.extensions.get::<Interrupt>() else { return work(&Interrupt::default()) };
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| work(interrupt)),
        _ => work(interrupt),
    }
}

neuroql_schema::private_config_extension!(Interrupt, "neuroql_interrupt");
