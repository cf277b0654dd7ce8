//! Everything that may interrupt a statement: a cancel request, its timeout, a client that hangs up, a shutdown.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use futures::FutureExt;
use tokio::sync::watch;

use crate::wire::activity::{Activity, SharedActivity};
use crate::wire::error_response::{Failure, SqlError};
use crate::wire::framing::Inbox;
use neuroql_access::User;

/// Phases of a server, from serving to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Accepting connections.
    Serving,
    /// Idle connections close, running statements may finish.
    Draining,
    /// Running statements are interrupted.
    Stopping,
}

/// Connections that can be cancelled, with process number and secret.
#[derive(Debug, Default)]
pub(crate) struct ConnectionRegistry {
    entries: Mutex<HashMap<i32, RegisteredConnection>>,
    last_pid: AtomicI32,
}

#[derive(Debug)]
struct RegisteredConnection {
    secret: [u8; 4],
    user: User,
    cancelled: watch::Sender<()>,
    terminated: watch::Sender<bool>,
    activity: SharedActivity,
}

/// An action of a session on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Signal {
    /// Ends the statement of the session.
    Cancel,
    /// Ends the session.
    Terminate,
}

/// A connection's entry in the [`ConnectionRegistry`], removed when dropped.
pub(crate) struct Registration {
    registry: Arc<ConnectionRegistry>,
    pub(crate) pid: i32,
    pub(crate) secret: [u8; 4],
    cancelled: watch::Receiver<()>,
    terminated: watch::Receiver<bool>,
    pub(crate) activity: SharedActivity,
}

impl ConnectionRegistry {
    pub(crate) fn register(self: &Arc<Self>, user: &User, client: SocketAddr) -> Registration {
        let secret: [u8; 4] = rand::random();
        let (cancel, cancelled) = watch::channel(());
        let (terminate, terminated) = watch::channel(false);
        let activity = SharedActivity::new(client);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = loop {
            let pid = self.last_pid.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & i32::MAX;
            if pid != 0 && !entries.contains_key(&pid) {
                break pid;
            }
        };
        let (user, shown) = (user.clone(), activity.clone());
        entries.insert(
            pid,
            RegisteredConnection { secret, user, cancelled: cancel, terminated: terminate, activity: shown },
        );
        drop(entries);
        Registration { registry: Arc::clone(self), pid, secret, cancelled, terminated, activity }
    }

    /// Sends a signal to connection `pid` for a user; returns false if there is no such connection.
    ///
    /// # Errors
    /// 42501 if it belongs to another user, or to a superuser, and this user is no superuser.
    pub(crate) fn signal(&self, pid: i32, signal: Signal, by: &User) -> Result<bool, SqlError> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries.get(&pid) else { return Ok(false) };
        if !by.is_superuser() && (entry.user.is_superuser() || entry.user.name != by.name) {
            let what = if signal == Signal::Cancel { "cancel a query" } else { "terminate a session" };
            return Err(SqlError::error("42501", format!("only a superuser may {what} of another user")));
        }
        match signal {
            Signal::Cancel => entry.cancelled.send_replace(()),
            Signal::Terminate => {
                entry.terminated.send_replace(true);
            }
        }
        Ok(true)
    }

    /// Returns the connections with their users and what they do, by number.
    pub(crate) fn activities(&self) -> Vec<(i32, User, Activity)> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<_> =
            entries.iter().map(|(pid, entry)| (*pid, entry.user.clone(), entry.activity.read())).collect();
        drop(entries);
        found.retain(|(.., activity)| !activity.is_parked);
        found.sort_by_key(|(pid, ..)| *pid);
        found
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

impl Registration {
    /// Completes with an error when somebody cancels the statement that runs now, or ends the session.
    pub(crate) async fn interrupted(&self) -> SqlError {
        let (mut cancelled, mut ended) = (self.cancelled.clone(), self.terminated.clone());
        cancelled.mark_unchanged();
        tokio::select! {
            biased;
            () = terminated(&mut ended) => shutting_down(),
            // The sender lives as long as this.
            _ = cancelled.changed() => cancelled_by_user(),
        }
    }
}

impl Registration {
    /// Returns true if the session was told to end.
    pub(crate) fn is_terminated(&self) -> bool {
        *self.terminated.borrow()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.pid);
    }
}

/// Watches over the statements of one connection.
pub(crate) struct InterruptHandler {
    pub(crate) registration: Registration,
    phase: watch::Receiver<Phase>,
}

impl InterruptHandler {
    pub(crate) fn new(registration: Registration, phase: watch::Receiver<Phase>) -> Self {
        Self { registration, phase }
    }

    /// Returns true if an idle connection should close.
    pub(crate) fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining || self.registration.is_terminated()
    }

    /// Completes when an idle connection should close.
    pub(crate) async fn draining(&mut self) {
        tokio::select! {
            // The sender lives in the server; without one there is no server.
            _ = self.phase.wait_for(|phase| *phase >= Phase::Draining) => {}
            () = terminated(&mut self.registration.terminated) => {}
        }
    }

    /// Waits for the client within a statement, to the first interruption.
    pub(crate) async fn between<T>(
        &mut self,
        limit: TimeLimit,
        message: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let cancelled = &mut self.registration.cancelled;
        tokio::select! {
            biased;
            () = terminated(&mut self.registration.terminated) => Err(shutting_down().into()),
            _ = cancelled.changed() => Err(cancelled_by_user().into()),
            () = within(limit.statement) => Err(cancelled_by_timeout().into()),
            () = within(limit.transaction) => Err(transaction_timeout().into()),
            _ = self.phase.wait_for(|phase| *phase >= Phase::Draining) => Err(shutting_down().into()),
            message = message => message,
        }
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
        // Statements run in tasks of their own; this catches panics of quick ones and of the encoding of rows.
        let work = AssertUnwindSafe(work).catch_unwind();
        tokio::pin!(work);
        let begun = Instant::now();
        // Most statements end before they wait for anything.
        if let Poll::Ready(result) = futures::poll!(work.as_mut()) {
            return finished(result);
        }
        let left = limit.since(begun);
        tokio::select! {
            biased;
            () = terminated(&mut self.registration.terminated) => Err(shutting_down().into()),
            _ = cancelled.changed() => Err(cancelled_by_user().into()),
            () = within(left.statement) => Err(cancelled_by_timeout().into()),
            () = within(left.transaction) => Err(transaction_timeout().into()),
            _ = self.phase.wait_for(|phase| *phase == Phase::Stopping) => Err(shutting_down().into()),
            () = inbox.hung_up() => Err(Failure::Disconnected),
            result = work => finished(result),
        }
    }
}

/// Returns the result of a statement; a panic is its error.
fn finished<T>(result: std::thread::Result<Result<T, Failure>>) -> Result<T, Failure> {
    result.unwrap_or_else(|payload| Err(SqlError::panic(payload.as_ref()).into()))
}

/// Completes when somebody ends the connection.
async fn terminated(flag: &mut watch::Receiver<bool>) {
    if flag.wait_for(|terminated| *terminated).await.is_err() {
        std::future::pending().await
    }
}

/// Time that a statement may run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TimeLimit {
    /// Time until the statement is cancelled.
    pub(crate) statement: Option<Duration>,
    /// Time until its transaction ends, and the connection with it.
    pub(crate) transaction: Option<Duration>,
}

impl TimeLimit {
    /// Returns what is left of the time for a statement that began then.
    pub(crate) fn since(self, begun: Instant) -> Self {
        let left = |limit: Option<Duration>| limit.map(|limit| limit.saturating_sub(begun.elapsed()));
        Self { statement: left(self.statement), transaction: left(self.transaction) }
    }
}

/// Completes after a time; never if `None`.
pub(crate) async fn within(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

fn cancelled_by_user() -> SqlError {
    SqlError::error("57014", "canceling statement due to user request")
}

fn cancelled_by_timeout() -> SqlError {
    SqlError::error("57014", "canceling statement due to statement timeout")
}

pub(crate) fn transaction_timeout() -> SqlError {
    SqlError::fatal("25P04", "terminating connection due to transaction timeout")
}

/// Error that clients get when the server goes down.
pub(crate) fn shutting_down() -> SqlError {
    SqlError::fatal("57P01", "terminating connection due to administrator command")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_secret_cancels() {
        let registry = Arc::new(ConnectionRegistry::default());
        let user = |name: &str, superuser| {
            User::new(name, if superuser { neuroql::Role::Superuser } else { neuroql::Role::Reader })
        };
        let client = ([127, 0, 0, 1], 5).into();
        let mut one = registry.register(&user("ada", true), client);
        let two = registry.register(&user("bob", false), client);
        assert_ne!(one.pid, two.pid);
        one.cancelled.mark_unchanged();
        registry.cancel(one.pid, &one.secret.map(|byte| !byte));
        registry.cancel(one.pid, &[]);
        registry.cancel(two.pid, &one.secret);
        assert!(!one.cancelled.has_changed().unwrap());
        registry.cancel(one.pid, &one.secret);
        assert!(one.cancelled.has_changed().unwrap());
        assert!(registry.signal(one.pid, Signal::Cancel, &user("bob", false)).is_err());
        assert!(registry.signal(two.pid, Signal::Cancel, &user("eve", false)).is_err());
        assert!(registry.signal(two.pid, Signal::Terminate, &user("bob", false)).is_ok_and(|found| found));
        assert!(*two.terminated.borrow() && !*one.terminated.borrow());
        assert!(registry.signal(77, Signal::Cancel, &user("ada", true)).is_ok_and(|found| !found));
        drop(one);
        assert_eq!(registry.entries.lock().unwrap().len(), 1);
    }
}
