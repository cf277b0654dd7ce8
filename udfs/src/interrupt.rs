//! Cancellation of functions that take long, and the memory of those that take much.
//!
//! DataFusion calls functions from the threads that also serve clients, and cannot end a call. So whoever serves
//! clients runs each statement in a state that is [`interruptible`].

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation, UnboundedMemoryPool};
use datafusion::prelude::SessionContext;
use neuroql_model::{Cancel, CancelOnDrop};
use neuroql_schema::sql_error;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Returns the state of a session for a single statement: functions that still run when the guard is dropped end soon
/// after with the error that the statement was cancelled, the threads of the runtime are not kept from other work
/// by them, and they reserve memory in the session's pool. It must be used in a task of its own, not in a [`LocalSet`](tokio::task::LocalSet).
pub fn interruptible(context: &SessionContext) -> (SessionState, CancelOnDrop) {
    let guard = CancelOnDrop::default();
    let mut state = context.state();
    let interrupt = Interrupt { cancel: guard.flag(), memory: Arc::clone(&state.runtime_env().memory_pool) };
    state.config_mut().options_mut().extensions.insert(interrupt);
    // This sets the options that functions get.
    state.mark_start_execution();
    (state, guard)
}

/// The flag of a statement's guard, and the memory pool of its session.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    cancel: Cancel,
    memory: Arc<dyn MemoryPool>,
}

impl Default for Interrupt {
    /// Interrupt of a statement which nobody cancels, and whose memory is not accounted for.
    fn default() -> Self {
        Self { cancel: Cancel::default(), memory: Arc::new(UnboundedMemoryPool::default()) }
    }
}

impl Interrupt {
    /// Interrupt of the statement with these options.
    pub fn of(options: &ConfigOptions) -> Self {
        options.extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// The flag itself, for forward passes.
    pub fn flag(&self) -> Cancel {
        self.cancel.clone()
    }

    /// Returns true if the statement was not cancelled.
    pub fn goes_on(&self) -> bool {
        self.cancel.check().is_ok()
    }

    /// Returns an error if the statement was cancelled.
    pub fn check(&self) -> Result<()> {
        self.cancel.check().map_err(sql_error)
    }

    /// Returns an empty reservation of the session's memory.
    pub fn reservation(&self, function: &str) -> MemoryReservation {
        MemoryConsumer::new(function).register(&self.memory)
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

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::prelude::SessionConfig;

    use super::*;

    #[test]
    fn functions_reserve_memory_of_their_session() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(&pool)).build_arc().unwrap();
        let context = SessionContext::new_with_config_rt(SessionConfig::new(), runtime);
        let (state, guard) = interruptible(&context);
        let interrupt = Interrupt::of(state.config_options());
        let held = interrupt.reservation("a function");
        held.try_grow(60).unwrap();
        assert_eq!(pool.reserved(), 60);
        assert!(held.try_grow(60).is_err());
        drop(held);
        assert_eq!(pool.reserved(), 0);
        assert!(interrupt.goes_on());
        drop(guard);
        assert!(interrupt.check().is_err());
        // Without a statement's state nothing is accounted for.
        Interrupt::of(&ConfigOptions::default()).reservation("a function").try_grow(1 << 40).unwrap();
    }
}
