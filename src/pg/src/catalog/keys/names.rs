//! Names that CONSTRAINT gives to keys.
//!
//! DataFusion's constraints have none, so that they are kept here, by the rows of the tables in memory that have the keys,
//! as long as these are there.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use datafusion::arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::sql::sqlparser::ast::{ColumnOption, CreateTable, Expr, Ident, IndexColumn, TableConstraint};
use tokio::sync::RwLock;

use crate::sql::column_names::fold;

type Rows = RwLock<Vec<RecordBatch>>;

/// A key: true if it is the primary key, and the places of its columns.
type Key = (bool, Vec<usize>);

/// The rows of a table, and the names of its keys.
type NamedKeys = (Weak<Rows>, HashMap<Key, String>);

/// The names of the keys of tables, by the address of the rows of each.
static NAMES: LazyLock<Mutex<HashMap<usize, NamedKeys>>> = LazyLock::new(Mutex::default);

/// Keeps the names that a statement gives to the keys of the table that it has created.
pub(crate) fn keep(table: &dyn TableProvider, create: &CreateTable) {
    let schema = table.schema();
    let place = |name: &Ident| schema.index_of(&fold(name)).ok();
    let of_columns = |columns: &[IndexColumn]| -> Option<Vec<usize>> {
        let each = columns.iter().map(|column| match &column.column.expr {
            Expr::Identifier(name) => place(name),
            _ => None,
        });
        each.collect()
    };
    let constraints = create.constraints.iter().filter_map(|constraint| match constraint {
        TableConstraint::PrimaryKey(key) => Some(((true, of_columns(&key.columns)?), fold(key.name.as_ref()?))),
        TableConstraint::Unique(key) => Some(((false, of_columns(&key.columns)?), fold(key.name.as_ref()?))),
        _ => None,
    });
    let options = create.columns.iter().flat_map(|column| {
        column.options.iter().filter_map(move |option| {
            let is_primary = match &option.option {
                ColumnOption::PrimaryKey(_) => true,
                ColumnOption::Unique(_) => false,
                _ => return None,
            };
            Some(((is_primary, vec![place(&column.name)?]), fold(option.name.as_ref()?)))
        })
    });
    let names: HashMap<Key, String> = constraints.chain(options).collect();
    let Some(rows) = rows(table).filter(|_| !names.is_empty()) else { return };
    let mut all = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|_, (rows, _)| rows.strong_count() > 0);
    all.insert(Arc::as_ptr(rows).addr(), (Arc::downgrade(rows), names));
}

/// Keeps the name of a key of a table; `None` is for one without.
pub(crate) fn keep_one(table: &dyn TableProvider, is_primary: bool, columns: &[usize], name: Option<String>) {
    let Some(rows) = rows(table) else { return };
    let mut all = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|_, (rows, _)| rows.strong_count() > 0);
    let (_, names) = all.entry(Arc::as_ptr(rows).addr()).or_insert_with(|| (Arc::downgrade(rows), HashMap::default()));
    let key = (is_primary, columns.to_vec());
    match name {
        Some(name) => names.insert(key, name),
        None => names.remove(&key),
    };
}

/// Returns the name that the key of a table was given.
pub(crate) fn given(table: &dyn TableProvider, is_primary: bool, columns: &[usize]) -> Option<String> {
    let rows = rows(table)?;
    let all = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let (kept, names) = all.get(&Arc::as_ptr(rows).addr())?;
    // The address may be that of another table that is gone.
    (kept.as_ptr() == Arc::as_ptr(rows)).then(|| names.get(&(is_primary, columns.to_vec())).cloned()).flatten()
}

fn rows(table: &dyn TableProvider) -> Option<&Arc<Rows>> {
    table.downcast_ref::<MemTable>()?.batches.first()
}
