//! The rows of tables in memory, and what is kept by them.
//!
//! DataFusion keeps neither the names of constraints nor defaults as they were written. They are kept here by the rows of
//! their table, not by its name: so they go with it, and come back with it when a transaction is undone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use datafusion::arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use tokio::sync::RwLock;

/// The first partition of a table in memory.
pub(crate) type Rows = RwLock<Vec<RecordBatch>>;

/// Returns the rows of a table in memory; `None` for other tables.
pub(crate) fn rows(table: &dyn TableProvider) -> Option<&Arc<Rows>> {
    table.downcast_ref::<MemTable>()?.batches.first()
}

/// Returns the address of the rows of a table in memory, by which it is told from other tables.
pub(crate) fn address(table: &dyn TableProvider) -> Option<usize> {
    rows(table).map(|rows| Arc::as_ptr(rows).addr())
}

/// Returns true if a table has these rows.
pub(crate) fn has_rows(table: &dyn TableProvider, wanted: &Weak<Rows>) -> bool {
    rows(table).is_some_and(|rows| Arc::as_ptr(rows) == wanted.as_ptr())
}

/// One value for each of some tables in memory, as long as their rows are there.
#[derive(Debug)]
pub(crate) struct ByRows<T>(Mutex<Entries<T>>);

/// By the address of the rows. The weak pointer keeps other rows from that address.
type Entries<T> = HashMap<usize, (Weak<Rows>, T)>;

impl<T> Default for ByRows<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> ByRows<T> {
    fn entries(&self) -> MutexGuard<'_, Entries<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the value of a table.
    pub(crate) fn get(&self, table: &dyn TableProvider) -> Option<T> {
        Some(self.entries().get(&address(table)?)?.1.clone())
    }

    /// Replaces the value of a table by what `change` makes of it; `None` is for a table without one. A table that is not in
    /// memory has none.
    pub(crate) fn update(&self, table: &dyn TableProvider, change: impl FnOnce(Option<T>) -> Option<T>) {
        let Some(rows) = rows(table) else { return };
        let mut entries = self.entries();
        entries.retain(|_, (rows, _)| rows.strong_count() > 0);
        let address = Arc::as_ptr(rows).addr();
        let before = entries.remove(&address).map(|(_, value)| value);
        if let Some(value) = change(before) {
            entries.insert(address, (Arc::downgrade(rows), value));
        }
    }

    /// Returns the values of all tables that are there, with their rows.
    pub(crate) fn all(&self) -> Vec<(Weak<Rows>, T)> {
        self.entries().values().filter(|(rows, _)| rows.strong_count() > 0).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Schema;

    use super::*;

    #[test]
    fn values_go_with_the_rows_of_their_table() {
        let table = || MemTable::try_new(Arc::new(Schema::empty()), vec![Vec::new()]).unwrap();
        let (first, second, values) = (table(), table(), ByRows::default());
        values.update(&first, |before| {
            assert_eq!(before, None);
            Some(1)
        });
        values.update(&second, |_| Some(2));
        assert_eq!([values.get(&first), values.get(&second)], [Some(1), Some(2)]);
        // A table of the same rows is the same table.
        let mut again = table();
        again.batches = first.batches.clone();
        drop(first);
        assert_eq!(values.get(&again), Some(1));
        values.update(&again, |before| before.map(|before| before + 2));
        assert_eq!(values.get(&again), Some(3));
        assert!(has_rows(&again, &values.all().iter().find(|(_, value)| *value == 3).unwrap().0));
        drop(again);
        let left: Vec<_> = values.all().into_iter().map(|(_, value)| value).collect();
        assert_eq!(left, [2]);
        values.update(&second, |_| None);
        assert_eq!(values.get(&second), None);
        assert!(values.entries().is_empty());
    }
}
