//! Notes on relations that DataFusion keeps nowhere: comments, indexes, what kind of table one is.
//!
//! Notes are kept by the rows of a table in memory, and by the provider of a view, as long as these are there. So they go
//! and come with them, when a transaction is undone, too.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use datafusion::catalog::TableProvider;
use datafusion::sql::sqlparser::ast::{CreateTable, Query};

use crate::catalog::memory_rows::{self, Rows, rows};
use crate::sql::utility;

/// Notes of statements on a relation.
#[derive(Debug, Clone, Default)]
pub(crate) struct TableNotes {
    pub(crate) comment: Option<String>,
    /// Comments on columns, by their names.
    pub(crate) columns: BTreeMap<String, String>,
    /// Comments on constraints and indexes, by their names.
    pub(crate) constraints: BTreeMap<String, String>,
    pub(crate) index_comments: BTreeMap<String, String>,
    pub(crate) indexes: Vec<Arc<Index>>,
    pub(crate) is_unlogged: bool,
    /// The query of a materialized view.
    pub(crate) view: Option<MaterializedView>,
}

/// A materialized view.
#[derive(Debug, Clone)]
pub(crate) struct MaterializedView {
    pub(crate) query: Arc<Query>,
    /// The schema in which its names without one are looked up.
    pub(crate) schema: String,
    /// False until its rows have been computed.
    pub(crate) is_populated: bool,
}

/// An index, which changes no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) name: String,
    /// Its place among the numbers of its table's keys and indexes.
    pub(crate) place: i32,
    pub(crate) is_unique: bool,
    pub(crate) is_hash: bool,
    pub(crate) keys: Vec<IndexKey>,
    /// Columns that the index has beside its keys.
    pub(crate) include: Vec<String>,
    /// The condition of a partial index.
    pub(crate) predicate: Option<String>,
}

/// A key of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexKey {
    /// The name of the column, or that of an expression as a column of the index.
    pub(crate) name: String,
    /// The expression, if it is no column.
    pub(crate) expression: Option<IndexExpression>,
    pub(crate) collation: Option<String>,
    /// Operator class, if it is not that of the type.
    pub(crate) operators: Option<String>,
    pub(crate) is_descending: bool,
    pub(crate) nulls_first: bool,
}

/// An expression that an index has as a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexExpression {
    pub(crate) text: String,
    /// True for calls of functions, which need no parentheses.
    pub(crate) is_call: bool,
    /// Number of its type.
    pub(crate) kind: i32,
}

/// Key by which notes are kept.
#[derive(Debug)]
enum Anchor {
    Rows(Weak<Rows>),
    Provider(Weak<dyn TableProvider>),
}

impl Anchor {
    fn is_alive(&self) -> bool {
        match self {
            Self::Rows(rows) => rows.strong_count() > 0,
            Self::Provider(provider) => provider.strong_count() > 0,
        }
    }
}

/// Notes by the address of what they are kept by.
type AllNotes = HashMap<usize, (Anchor, Arc<TableNotes>)>;

static NOTES: LazyLock<Mutex<AllNotes>> = LazyLock::new(Mutex::default);

fn all() -> MutexGuard<'static, AllNotes> {
    NOTES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the address of what the notes on a relation are kept by.
fn address(table: &dyn TableProvider) -> usize {
    memory_rows::address(table).unwrap_or_else(|| std::ptr::from_ref(table).cast::<()>().addr())
}

/// Returns the notes on a relation.
pub(crate) fn of(table: &dyn TableProvider) -> Option<Arc<TableNotes>> {
    let all = all();
    let (anchor, notes) = all.get(&address(table))?;
    // The address may be that of another relation that is gone.
    anchor.is_alive().then(|| Arc::clone(notes))
}

/// Replaces the notes on a relation.
pub(crate) fn replace(table: &Arc<dyn TableProvider>, notes: Option<Arc<TableNotes>>) {
    let mut all = all();
    all.retain(|_, (anchor, _)| anchor.is_alive());
    let address = address(table.as_ref());
    let Some(notes) = notes else {
        all.remove(&address);
        return;
    };
    let anchor = match rows(table.as_ref()) {
        Some(rows) => Anchor::Rows(Arc::downgrade(rows)),
        None => Anchor::Provider(Arc::downgrade(table)),
    };
    all.insert(address, (anchor, notes));
}

/// Notes what a statement says of the table that it has created. Names without a schema are looked up in `schema`.
pub(crate) fn created(table: &Arc<dyn TableProvider>, create: &CreateTable, schema: &str) {
    let view = create.query.as_ref().filter(|_| utility::is_materialized(create)).map(|query| MaterializedView {
        query: Arc::new(query.as_ref().clone()),
        schema: schema.to_owned(),
        is_populated: !utility::is_without_data(create),
    });
    if view.is_some() || utility::is_unlogged(create) {
        let notes = TableNotes { view, is_unlogged: utility::is_unlogged(create), ..TableNotes::default() };
        replace(table, Some(Arc::new(notes)));
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Schema;
    use datafusion::datasource::{MemTable, ViewTable};
    use datafusion::logical_expr::LogicalPlanBuilder;

    use super::*;

    fn comment(text: &str) -> Option<Arc<TableNotes>> {
        Some(Arc::new(TableNotes { comment: Some(text.to_owned()), ..TableNotes::default() }))
    }

    fn noted(table: &Arc<dyn TableProvider>) -> Option<String> {
        of(table.as_ref())?.comment.clone()
    }

    #[test]
    fn notes_go_with_their_relation() {
        let memory = || MemTable::try_new(Arc::new(Schema::empty()), vec![Vec::new()]).unwrap();
        let table: Arc<dyn TableProvider> = Arc::new(memory());
        let other: Arc<dyn TableProvider> = Arc::new(memory());
        let view = || {
            let plan = LogicalPlanBuilder::empty(false).build().unwrap();
            Arc::new(ViewTable::new(plan, None)) as Arc<dyn TableProvider>
        };
        let (shown, hidden) = (view(), view());
        assert_eq!(noted(&table), None);
        replace(&table, comment("a"));
        replace(&shown, comment("b"));
        assert_eq!([&table, &other, &shown, &hidden].map(noted), [Some("a".into()), None, Some("b".into()), None]);
        replace(&table, comment("c"));
        assert_eq!(noted(&table).as_deref(), Some("c"));
        replace(&table, None);
        assert_eq!(noted(&table), None);
        let place = address(shown.as_ref());
        drop(shown);
        replace(&other, None);
        assert!(!all().get(&place).is_some_and(|(anchor, _)| anchor.is_alive()));
    }
}
