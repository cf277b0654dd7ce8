//! Everything that may interrupt a statement: a cancel request, its timeout, a client that hangs up, a shutdown.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use futures::FutureExt;
use tokio::sync::watch;

use crate::wire::error_response::{Failure, SqlError};
use crate::wire::framing::Inbox;

/// How far the server is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Accepting connections.
    Serving,
    /// Idle connections close, running statements may finish.
    Draining,
    /// Running statements are interrupted.
    Stopping,
}

/// Who can be cancelled: process number and secret of every connection.
#[derive(Default)]
pub(crate) struct Registry {
    entries: Mutex<HashMap<i32, Entry>>,
    last_pid: AtomicI32,
}

struct Entry {
    secret: [u8; 4],
    cancelled: watch::Sender<()>,
}

/// A connection's place in the [`Registry`], given up when dropped.
pub(crate) struct Registration {
    registry: Arc<Registry>,
    pub(crate) pid: i32,
    pub(crate) secret: [u8; 4],
    cancelled: watch::Receiver<()>,
}

impl Registry {
    pub(crate) fn register(self: &Arc<Self>) -> Registration {
        let secret: [u8; 4] = rand::random();
        let (sender, cancelled) = watch::channel(());
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = loop {
            let pid = self.last_pid.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & i32::MAX;
            if pid != 0 && !entries.contains_key(&pid) {
                break pid;
            }
        };
        entries.insert(pid, Entry { secret, cancelled: sender });
        drop(entries);
        Registration { registry: Arc::clone(self), pid, secret, cancelled }
    }

    /// Interrupts the statement of connection `pid`, if the secret is right.
    pub(crate) fn cancel(&self, pid: i32, secret: &[u8]) {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(&pid)
            && verify_slices_are_equal(&entry.secret, secret).is_ok()
        {
            entry.cancelled.send_replace(());
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.pid);
    }
}

/// Watches over the statements of one connection.
pub(crate) struct Attention {
    pub(crate) registration: Registration,
    phase: watch::Receiver<Phase>,
}

impl Attention {
    pub(crate) fn new(registration: Registration, phase: watch::Receiver<Phase>) -> Self {
        Self { registration, phase }
    }

    /// Completes when idle connections should close.
    pub(crate) async fn draining(&mut self) {
        // The sender lives in the server; without one there is no server.
        let _ = self.phase.wait_for(|phase| *phase >= Phase::Draining).await;
    }

    /// Runs `work` to its end or to the first interruption, whichever comes first. Interrupted work is dropped.
    pub(crate) async fn during<T>(
        &mut self,
        inbox: &mut Inbox,
        limit: TimeLimit,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let cancelled = &mut self.registration.cancelled;
        // A request that came while nothing ran has missed its statement.
        cancelled.mark_unchanged();
        tokio::select! {
            biased;
            _ = cancelled.changed() => Err(SqlError::error("57014", "canceling statement due to user request").into()),
            () = within(limit.statement) => {
                Err(SqlError::error("57014", "canceling statement due to statement timeout").into())
            }
            () = within(limit.transaction) => Err(transaction_timeout().into()),
            _ = self.phase.wait_for(|phase| *phase == Phase::Stopping) => Err(shutting_down().into()),
            () = inbox.hung_up() => Err(Failure::Disconnected),
            // Statements run in tasks of their own; this catches what is left, the encoding of rows.
            result = AssertUnwindSafe(work).catch_unwind() => match result {
                Ok(result) => result,
                Err(payload) => Err(SqlError::panic(payload.as_ref()).into()),
            },
        }
    }
}

/// How long a statement may run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TimeLimit {
    /// Until it is cancelled.
    pub(crate) statement: Option<Duration>,
    /// Until the transaction that it is in ends, and the connection with it.
    pub(crate) transaction: Option<Duration>,
}

/// Completes after a time, never without one.
pub(crate) async fn within(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

pub(crate) fn transaction_timeout() -> SqlError {
    SqlError::fatal("25P04", "terminating connection due to transaction timeout")
}

/// The last words to a client when the server goes down.
pub(crate) fn shutting_down() -> SqlError {
    SqlError::fatal("57P01", "terminating connection due to administrator command")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_secret_cancels() {
        let registry = Arc::new(Registry::default());
        let mut one = registry.register();
        let two = registry.register();
        assert_ne!(one.pid, two.pid);
        one.cancelled.mark_unchanged();
        registry.cancel(one.pid, &one.secret.map(|byte| !byte));
        registry.cancel(one.pid, &[]);
        registry.cancel(two.pid, &one.secret);
        assert!(!one.cancelled.has_changed().unwrap());
        registry.cancel(one.pid, &one.secret);
        assert!(one.cancelled.has_changed().unwrap());
        drop(one);
        assert_eq!(registry.entries.lock().unwrap().len(), 1);
    }
}
