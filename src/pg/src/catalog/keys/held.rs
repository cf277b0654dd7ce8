//! CHECK constraints and foreign keys of tables in memory.
//!
//! They are kept by the rows of their table. A foreign key holds while both tables stand under their names with these rows,
//! so that it goes and comes with each of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};

use datafusion::catalog::TableProvider;
use datafusion::common::{ResolvedTableReference, TableReference};
use datafusion::logical_expr::Expr;

use crate::catalog::memory_rows::ByRows;
pub(crate) use crate::catalog::memory_rows::{Rows, has_rows, rows};
pub(crate) use crate::sql::table_constraints::Action;

/// A CHECK constraint.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) name: String,
    /// The condition, of columns of `table`.
    pub(crate) condition: Expr,
    pub(crate) table: TableReference,
    /// The places of its columns, in the order in which it names them.
    pub(crate) columns: Vec<usize>,
    /// The condition as PostgreSQL writes it, and with the parentheses that it needs only.
    pub(crate) text: String,
    pub(crate) plain_text: String,
}

/// A foreign key.
#[derive(Debug)]
pub(crate) struct ForeignKey {
    pub(crate) name: String,
    /// The places of its columns.
    pub(crate) columns: Vec<usize>,
    /// The table that it references, and its rows.
    pub(crate) parent: ResolvedTableReference,
    pub(crate) rows: Weak<Rows>,
    /// The places of the referenced columns.
    pub(crate) referenced: Vec<usize>,
    pub(crate) on_delete: Action,
    pub(crate) on_update: Action,
    /// Number of foreign keys made before it, which are looked at before it.
    pub(crate) number: u64,
}

impl ForeignKey {
    /// Returns false if the rows that it references are gone.
    pub(crate) fn is_held(&self) -> bool {
        self.rows.strong_count() > 0
    }
}

/// The constraints of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    pub(crate) checks: Vec<Arc<Check>>,
    pub(crate) foreign_keys: Vec<Arc<ForeignKey>>,
}

/// A foreign key, and the table that has it.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub(crate) child: ResolvedTableReference,
    pub(crate) rows: Weak<Rows>,
    pub(crate) key: Arc<ForeignKey>,
}

/// The constraints of tables, with the name under which each table stands.
static HELD: LazyLock<ByRows<(ResolvedTableReference, Arc<Held>)>> = LazyLock::new(ByRows::default);

/// Returns a number for a foreign key that is made.
pub(crate) fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Sets the constraints of a table, which stands under this name.
pub(crate) fn set(table: &dyn TableProvider, name: ResolvedTableReference, held: Arc<Held>) {
    let has_some = !held.checks.is_empty() || !held.foreign_keys.is_empty();
    HELD.update(table, |_| has_some.then_some((name, held)));
}

/// Returns the constraints of a table; `None` if it has no such.
pub(crate) fn of(table: &dyn TableProvider) -> Option<Arc<Held>> {
    HELD.get(table).map(|(_, held)| held)
}

/// Returns the foreign keys that reference a table, in the order in which they were made. Their tables may be gone.
pub(crate) fn references(table: &dyn TableProvider) -> Vec<Reference> {
    let Some(parent) = rows(table) else { return Vec::new() };
    let mut found = Vec::new();
    for (rows, (child, held)) in HELD.all() {
        let keys = held.foreign_keys.iter().filter(|key| key.rows.as_ptr() == Arc::as_ptr(parent));
        found.extend(keys.map(|key| Reference {
            child: child.clone(),
            rows: Weak::clone(&rows),
            key: Arc::clone(key),
        }));
    }
    found.sort_by_key(|reference| reference.key.number);
    found
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::datasource::MemTable;

    use super::*;

    fn table() -> MemTable {
        let schema = Schema::new(vec![Field::new("a", DataType::Int32, true)]);
        MemTable::try_new(Arc::new(schema), vec![Vec::new()]).unwrap()
    }

    fn name(table: &str) -> ResolvedTableReference {
        TableReference::bare(table).resolve("c", "s")
    }

    #[test]
    fn constraints_go_with_the_rows_of_their_table() {
        let (parent, child) = (table(), table());
        let key = |number| ForeignKey {
            name: format!("f{number}"),
            columns: vec![0],
            parent: name("p"),
            rows: Arc::downgrade(rows(&parent).unwrap()),
            referenced: vec![0],
            on_delete: Action::NoAction,
            on_update: Action::NoAction,
            number,
        };
        let held = Held { checks: Vec::new(), foreign_keys: vec![Arc::new(key(2)), Arc::new(key(1))] };
        assert!(of(&child).is_none() && references(&parent).is_empty());
        set(&child, name("c"), Arc::new(held));
        assert_eq!(of(&child).unwrap().foreign_keys.len(), 2);
        let found = references(&parent);
        let names: Vec<_> = found.iter().map(|reference| reference.key.name.as_str()).collect();
        assert_eq!(names, ["f1", "f2"]);
        assert!(has_rows(&child, &found[0].rows) && !has_rows(&parent, &found[0].rows));
        assert!(references(&child).is_empty());
        drop(child);
        assert!(references(&parent).is_empty());
        let again = table();
        set(&again, name("c"), Arc::default());
        assert!(of(&again).is_none());
    }
}
