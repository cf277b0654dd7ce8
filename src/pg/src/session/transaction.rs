//! Transactions: changes that ROLLBACK undoes, and rows that other sessions see meanwhile.
//!
//! Tables in memory are changed at once, and the session that changed one holds it until the transaction ends: other
//! writers wait for it, readers see its rows as they were. Tables that are created and dropped come and go for all
//! sessions at once, and ROLLBACK restores them, too. Files and the store are not restored: they may not be changed
//! inside a transaction block.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::common::ResolvedTableReference;
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::{MemTable, provider_as_source, source_as_provider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{LogicalPlan, TableScan, WriteOp};
use datafusion::prelude::SessionContext;
use tokio::sync::Notify;

use crate::catalog::keys;
use crate::catalog::keys::held::{self, Held};
use crate::catalog::memory_rows::address;
use crate::catalog::table_notes::{self, TableNotes};
use crate::session::notifications::{Listeners, Notifications};
use crate::wire::error_response::SqlError;

/// Locks on the tables that open transactions have changed.
#[derive(Debug, Default)]
pub(crate) struct TableLocks {
    state: Mutex<LockState>,
    released: Notify,
    /// Number of the last transaction that has one.
    last: AtomicI64,
}

/// The number of a session's transaction, which it has once it is asked for.
#[derive(Debug, Clone)]
pub(crate) struct TransactionNumber {
    locks: Arc<TableLocks>,
    /// 0 if there is none.
    current: Arc<AtomicI64>,
}

impl TransactionNumber {
    /// Returns the number; each transaction has another.
    pub(crate) fn get(&self) -> i64 {
        match self.current.load(Ordering::Relaxed) {
            0 => {
                let next = self.locks.last.fetch_add(1, Ordering::Relaxed) + 1;
                // Another function of the same statement may have been first.
                let set = self.current.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed);
                set.map_or_else(|first| first, |_| next)
            }
            number => number,
        }
    }
}

#[derive(Debug, Default)]
struct LockState {
    held: HashMap<TableKey, TableLock>,
    /// The tables that sessions wait for.
    waiting: HashMap<i32, TableKey>,
}

/// The address of a table's first partition.
type TableKey = usize;

#[derive(Debug)]
struct TableLock {
    session: i32,
    table: Arc<dyn TableProvider>,
    /// Its rows before each change, from the first change on.
    before: Vec<SavedRows>,
}

/// The rows of a table before a change.
#[derive(Debug)]
enum SavedRows {
    /// The first batches of each partition.
    First(Vec<usize>),
    All(Vec<Vec<RecordBatch>>),
}

/// A change of a transaction.
#[derive(Debug)]
enum Change {
    Rows(TableKey),
    /// A name and the table that it stood for.
    Table(ResolvedTableReference, Option<Arc<dyn TableProvider>>),
    /// A relation and the notes that were on it.
    Notes(Arc<dyn TableProvider>, Option<Arc<TableNotes>>),
    /// A table, its name, and the constraints that it had.
    Constraints(Arc<dyn TableProvider>, ResolvedTableReference, Arc<Held>),
    /// A table, a key of it, true for the primary key, and the name that the key was given.
    KeyName(Arc<dyn TableProvider>, bool, Vec<usize>, Option<String>),
}

/// The open transaction of a session, in a block or without.
pub(crate) struct Transaction {
    locks: Arc<TableLocks>,
    context: SessionContext,
    session: i32,
    log: Vec<Change>,
    /// Names of savepoints, with the numbers of changes and of notifications before them.
    savepoints: Vec<(String, usize, usize)>,
    pub(crate) notifications: Notifications,
    pub(crate) number: TransactionNumber,
}

impl Transaction {
    pub(crate) fn new(
        locks: &Arc<TableLocks>,
        listeners: &Arc<Listeners>,
        context: &SessionContext,
        session: i32,
    ) -> Self {
        let (locks, context) = (Arc::clone(locks), context.clone());
        let notifications = Notifications::new(listeners, session);
        let number = TransactionNumber { locks: Arc::clone(&locks), current: Arc::default() };
        Self { locks, context, session, log: Vec::new(), savepoints: Vec::new(), notifications, number }
    }

    /// Call this before rows of a table are changed. Waits until no other transaction has changed it.
    ///
    /// # Errors
    /// 40P01 if that other transaction waits for this one, 25001 if the table cannot be restored and this is a block.
    pub(crate) async fn change_rows(
        &mut self,
        table: Arc<dyn TableProvider>,
        op: &WriteOp,
        in_block: bool,
    ) -> Result<(), SqlError> {
        let Some(key) = address(table.as_ref()) else {
            let verb = match op {
                WriteOp::Insert(_) => "INSERT",
                WriteOp::Delete => "DELETE",
                WriteOp::Update => "UPDATE",
                _ => "a change",
            };
            let message = format!("{verb} of a table that is not in memory cannot run inside a transaction block");
            let hint = "Its rows cannot be taken back. Run it outside of transactions, in autocommit mode.";
            return if in_block { Err(SqlError::error("25001", message).with_hint(hint)) } else { Ok(()) };
        };
        self.hold(key, &table).await?;
        let before = match op {
            WriteOp::Insert(_) => SavedRows::First(lengths(table.as_ref())),
            _ => SavedRows::All(partitions(table.as_ref())),
        };
        if let Some(held) = self.locks.lock().held.get_mut(&key) {
            held.before.push(before);
        }
        self.log.push(Change::Rows(key));
        Ok(())
    }

    /// Waits until no other transaction has changed a table, and holds it.
    async fn hold(&self, key: TableKey, table: &Arc<dyn TableProvider>) -> Result<(), SqlError> {
        loop {
            let released = self.locks.released.notified();
            if self.locks.lock().take(key, table, self.session)? {
                return Ok(());
            }
            let _waiting = WaitGuard(&self.locks, self.session);
            released.await;
        }
    }

    /// Changes the notes on a relation by `change`. Waits until no other transaction has changed it.
    ///
    /// # Errors
    /// 40P01 if that other transaction waits for this one, and those of `change`.
    pub(crate) async fn change_notes(
        &mut self,
        table: &Arc<dyn TableProvider>,
        change: impl FnOnce(&mut TableNotes) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        if let Some(key) = address(table.as_ref()) {
            self.hold(key, table).await?;
        }
        let before = table_notes::of(table.as_ref());
        let mut notes = before.as_deref().cloned().unwrap_or_default();
        change(&mut notes)?;
        self.log.push(Change::Notes(Arc::clone(table), before));
        table_notes::replace(table, Some(Arc::new(notes)));
        Ok(())
    }

    /// Holds tables until the transaction ends, without a change of their rows. Sessions take tables in one order. Returns
    /// true if this one held them all before.
    ///
    /// # Errors
    /// 40P01 if another transaction holds one and waits for this one.
    pub(crate) async fn hold_all(&self, tables: &[Arc<dyn TableProvider>]) -> Result<bool, SqlError> {
        let mut keyed: Vec<_> = tables.iter().filter_map(|table| Some((address(table.as_ref())?, table))).collect();
        keyed.sort_by_key(|(key, _)| *key);
        let mut held_all = true;
        for (key, table) in keyed {
            held_all &= self.locks.lock().held.get(&key).is_some_and(|held| held.session == self.session);
            self.hold(key, table).await?;
        }
        Ok(held_all)
    }

    /// Call this before rows of a table are changed that this transaction holds.
    pub(crate) fn save_rows(&mut self, table: &dyn TableProvider) {
        let Some(key) = address(table) else { return };
        if let Some(held) = self.locks.lock().held.get_mut(&key) {
            held.before.push(SavedRows::All(partitions(table)));
            self.log.push(Change::Rows(key));
        }
    }

    /// Call this before the CHECK constraints and foreign keys of a table are changed.
    pub(crate) fn save_constraints(&mut self, table: Arc<dyn TableProvider>, name: ResolvedTableReference) {
        let before = held::of(table.as_ref()).unwrap_or_default();
        self.log.push(Change::Constraints(table, name, before));
    }

    /// Call this before a key of a table gets a name.
    pub(crate) fn save_key_name(&mut self, table: Arc<dyn TableProvider>, is_primary: bool, columns: Vec<usize>) {
        let before = keys::given_name(table.as_ref(), is_primary, &columns);
        self.log.push(Change::KeyName(table, is_primary, columns, before));
    }

    /// Call this before a table is created or dropped.
    pub(crate) async fn change_table(&mut self, name: ResolvedTableReference) -> Result<(), DataFusionError> {
        let before = match self.context.table_exist(name.clone())? {
            true => Some(self.context.table_provider(name.clone()).await?),
            false => None,
        };
        self.log.push(Change::Table(name, before));
        Ok(())
    }

    /// Returns true if others may have to wait for the end of this transaction.
    pub(crate) fn holds_tables(&self) -> bool {
        !self.log.is_empty()
    }

    pub(crate) fn set_savepoint(&mut self, name: String) {
        self.savepoints.push((name, self.log.len(), self.notifications.len()));
    }

    /// Forgets a savepoint and those after it; false if there is none of this name.
    pub(crate) fn release_savepoint(&mut self, name: &str) -> bool {
        let at = self.savepoints.iter().rposition(|(found, ..)| found == name);
        at.inspect(|at| self.savepoints.truncate(*at)).is_some()
    }

    /// Undoes the changes after a savepoint; false if there is none of this name.
    pub(crate) fn roll_back_to(&mut self, name: &str) -> bool {
        let Some(at) = self.savepoints.iter().rposition(|(found, ..)| found == name) else { return false };
        self.savepoints.truncate(at + 1);
        self.undo(self.savepoints[at].1);
        self.notifications.truncate(self.savepoints[at].2);
        true
    }

    /// Ends the transaction and makes its changes visible to all. Returns the names that stood for a table before, and for
    /// none or another one now.
    pub(crate) fn commit(&mut self) -> Vec<ResolvedTableReference> {
        let changed = self.log.drain(..).filter_map(|change| match change {
            Change::Table(name, Some(_)) => Some(name),
            _ => None,
        });
        let changed = changed.collect();
        self.savepoints.clear();
        self.locks.release(self.session);
        self.notifications.commit();
        self.number.current.store(0, Ordering::Relaxed);
        changed
    }

    /// Ends the transaction and undoes its changes. Returns true if tables were created or dropped.
    pub(crate) fn roll_back(&mut self) -> bool {
        let catalog = self.log.iter().any(|change| !matches!(change, Change::Rows(_)));
        self.undo(0);
        self.notifications.roll_back();
        self.number.current.store(0, Ordering::Relaxed);
        self.savepoints.clear();
        self.locks.release(self.session);
        catalog
    }

    fn undo(&mut self, to: usize) {
        while self.log.len() > to {
            match self.log.pop() {
                Some(Change::Rows(key)) => {
                    if let Some(held) = self.locks.lock().held.get_mut(&key)
                        && let Some(before) = held.before.pop()
                    {
                        put_back(held.table.as_ref(), before);
                    }
                }
                Some(Change::Table(name, before)) => {
                    let put_back = || {
                        self.context.deregister_table(name.clone())?;
                        match before {
                            Some(table) => self.context.register_table(name.clone(), table).map(drop),
                            None => Ok(()),
                        }
                    };
                    if let Err(error) = put_back() {
                        tracing::error!(table = %name.table, %error, "a change of the catalog was not undone");
                    }
                }
                Some(Change::Notes(table, before)) => table_notes::replace(&table, before),
                Some(Change::Constraints(table, name, before)) => held::set(table.as_ref(), name, before),
                Some(Change::KeyName(table, is_primary, columns, before)) => {
                    keys::keep_name(table.as_ref(), is_primary, &columns, before);
                }
                None => return,
            }
        }
    }

    /// Returns the plan with the rows that this session may see: those of others only after they were committed.
    pub(crate) fn visible(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        if self.locks.lock().held.values().all(|held| held.session == self.session) {
            return Ok(plan);
        }
        let committed = plan.transform_up_with_subqueries(|node| {
            let LogicalPlan::TableScan(scan) = node else { return Ok(Transformed::no(node)) };
            Ok(match self.locks.committed(&scan, self.session)? {
                Some(source) => Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan })),
                None => Transformed::no(LogicalPlan::TableScan(scan)),
            })
        })?;
        Ok(committed.data)
    }
}

impl Drop for Transaction {
    /// Rolls back when a client leaves in a transaction.
    fn drop(&mut self) {
        self.roll_back();
    }
}

impl TableLocks {
    fn lock(&self) -> MutexGuard<'_, LockState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, session: i32) {
        let mut state = self.lock();
        let held = state.held.len();
        state.held.retain(|_, held| held.session != session);
        if state.held.len() < held {
            drop(state);
            self.released.notify_waiters();
        }
    }

    /// Returns the rows of a scanned table as they were before the transaction of another session.
    fn committed(
        &self,
        scan: &TableScan,
        session: i32,
    ) -> Result<Option<Arc<dyn datafusion::logical_expr::TableSource>>> {
        let Ok(table) = source_as_provider(&scan.source) else { return Ok(None) };
        let Some(key) = address(table.as_ref()) else { return Ok(None) };
        let state = self.lock();
        let Some(held) = state.held.get(&key).filter(|held| held.session != session) else { return Ok(None) };
        // The rows of each partition; a replacement has them in whole.
        let mut rows = None;
        for before in held.before.iter().rev() {
            match before {
                SavedRows::All(all) => rows = Some(all.clone()),
                SavedRows::First(lengths) => {
                    let partitions = rows.get_or_insert_with(|| partitions(table.as_ref()));
                    for (partition, length) in partitions.iter_mut().zip(lengths) {
                        partition.truncate(*length);
                    }
                }
            }
        }
        let Some(rows) = rows else { return Ok(None) };
        Ok(Some(provider_as_source(Arc::new(MemTable::try_new(table.schema(), rows)?))))
    }
}

impl LockState {
    /// Takes a table for a session; returns false if another has it.
    fn take(&mut self, key: TableKey, table: &Arc<dyn TableProvider>, session: i32) -> Result<bool, SqlError> {
        let new = || TableLock { session, table: Arc::clone(table), before: Vec::new() };
        let holder = self.held.entry(key).or_insert_with(new).session;
        if holder == session {
            return Ok(true);
        }
        let mut next = holder;
        while let Some(holder) = self.waiting.get(&next).and_then(|key| self.held.get(key)) {
            if holder.session == session {
                return Err(SqlError::error("40P01", "deadlock detected"));
            }
            next = holder.session;
        }
        self.waiting.insert(session, key);
        Ok(false)
    }
}

/// A session that waits for a table.
struct WaitGuard<'a>(&'a TableLocks, i32);

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting.remove(&self.1);
    }
}

/// Returns the batches of each partition of a table in memory.
pub(crate) fn partitions(table: &dyn TableProvider) -> Vec<Vec<RecordBatch>> {
    of_partitions(table, |batches| batches.clone())
}

/// Returns the numbers of batches of each partition of a table in memory.
pub(crate) fn lengths(table: &dyn TableProvider) -> Vec<usize> {
    of_partitions(table, |batches| batches.len())
}

fn put_back(table: &dyn TableProvider, before: SavedRows) {
    let mut index = 0;
    of_partitions(table, |batches| {
        match &before {
            SavedRows::First(lengths) => batches.truncate(lengths[index]),
            SavedRows::All(all) => batches.clone_from(&all[index]),
        }
        index += 1;
    });
}

/// Calls `look` on the partitions of a table in memory, whose locks are held for a short time only.
pub(crate) fn of_partitions<T>(table: &dyn TableProvider, mut look: impl FnMut(&mut Vec<RecordBatch>) -> T) -> Vec<T> {
    let partitions = table.downcast_ref::<MemTable>().map(|table| table.batches.iter()).into_iter().flatten();
    let look = |partition: &Arc<tokio::sync::RwLock<Vec<RecordBatch>>>| loop {
        if let Ok(mut batches) = partition.try_write() {
            return look(&mut batches);
        }
        std::thread::yield_now();
    };
    partitions.map(look).collect()
}
