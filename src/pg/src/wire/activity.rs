//! The activity of connections, as `pg_stat_activity` shows it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion_postgres::pgwire::messages::response::TransactionStatus;

/// Greatest number of bytes of a statement that is shown, PostgreSQL's default of `track_activity_query_size`.
const LONGEST: usize = 1024;

/// Returns as much of a statement as is shown.
pub(crate) fn shown(query: &str) -> &str {
    &query[..query.floor_char_boundary(LONGEST)]
}

/// The activity of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Activity {
    /// Address of the client.
    pub(crate) client: SocketAddr,
    /// Name that the client gave itself.
    pub(crate) application: String,
    /// Times in microseconds since 1970: of the connection, its transaction and statement if there are any, and its last
    /// change of state.
    pub(crate) backend_start: i64,
    pub(crate) transaction_start: Option<i64>,
    pub(crate) query_start: Option<i64>,
    pub(crate) state_change: i64,
    pub(crate) state: &'static str,
    /// The statement that runs, or ran last, cut to [`LONGEST`] bytes.
    pub(crate) query: String,
    /// True for a session that nobody has, and that waits to be used again.
    pub(crate) is_parked: bool,
}

/// A connection's [`Activity`], which others read.
#[derive(Debug, Clone)]
pub(crate) struct SharedActivity(Arc<Mutex<Activity>>);

impl SharedActivity {
    pub(crate) fn new(client: SocketAddr) -> Self {
        let now = now();
        Self(Arc::new(Mutex::new(Activity {
            client,
            application: String::new(),
            backend_start: now,
            transaction_start: None,
            query_start: None,
            state_change: now,
            state: "idle",
            query: String::new(),
            is_parked: false,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Activity> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a copy.
    pub(crate) fn read(&self) -> Activity {
        self.lock().clone()
    }

    /// Notes that nobody has the session any more.
    pub(crate) fn park(&self) {
        self.lock().is_parked = true;
    }

    /// Notes that a client has a session that was parked.
    pub(crate) fn resume(&self, client: SocketAddr) {
        let application = std::mem::take(&mut self.lock().application);
        let fresh = Self::new(client).read();
        *self.lock() = Activity { application, ..fresh };
    }

    /// Notes that a statement begins.
    pub(crate) fn begin(&self, query: &str) {
        let mut activity = self.lock();
        let now = now();
        activity.query.clear();
        activity.query.push_str(shown(query));
        activity.query_start = Some(now);
        activity.transaction_start.get_or_insert(now);
        activity.state_change = now;
        activity.state = "active";
    }

    /// Notes the end of a statement of a session without transactions.
    pub(crate) fn end_statement(&self) {
        let application = self.lock().application.clone();
        self.end(TransactionStatus::Idle, &application);
    }

    /// Notes that the server waits for the client.
    pub(crate) fn end(&self, status: TransactionStatus, application: &str) {
        let mut activity = self.lock();
        if activity.application != application {
            application.clone_into(&mut activity.application);
        }
        activity.state_change = now();
        activity.state = match status {
            TransactionStatus::Idle => {
                activity.transaction_start = None;
                "idle"
            }
            TransactionStatus::Transaction => "idle in transaction",
            TransactionStatus::Error => "idle in transaction (aborted)",
        };
    }
}

/// Returns the microseconds since 1970.
pub(crate) fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_follow_statements_and_transactions() {
        let shared = SharedActivity::new(([127, 0, 0, 1], 5).into());
        assert_eq!((shared.read().state, shared.read().query_start), ("idle", None));
        shared.begin(&"ä".repeat(600));
        let activity = shared.read();
        assert_eq!((activity.state, activity.query.len()), ("active", 1024));
        assert_eq!(activity.transaction_start, activity.query_start);
        shared.end(TransactionStatus::Transaction, "psql");
        assert_eq!((shared.read().state, &shared.read().application[..]), ("idle in transaction", "psql"));
        shared.begin("select 1");
        assert_eq!(shared.read().transaction_start, activity.transaction_start);
        shared.end(TransactionStatus::Idle, "psql");
        assert_eq!((shared.read().state, shared.read().transaction_start), ("idle", None));
        assert_eq!(shared.read().query, "select 1");
        shared.park();
        assert!(shared.read().is_parked);
        shared.resume(([127, 0, 0, 2], 6).into());
        let activity = shared.read();
        assert_eq!((activity.is_parked, activity.client.port(), &activity.query[..]), (false, 6, ""));
        assert_eq!(activity.application, "psql");
    }
}
