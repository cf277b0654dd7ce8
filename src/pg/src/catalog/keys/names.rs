//! Names that CONSTRAINT gives to keys.
//!
//! DataFusion's constraints have none, so that they are kept here.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use datafusion::catalog::TableProvider;
use datafusion::sql::sqlparser::ast::{ColumnOption, CreateTable, Expr, Ident, IndexColumn, TableConstraint};

use crate::catalog::memory_rows::ByRows;
use crate::sql::column_names::fold;

/// A key: true if it is the primary key, and the places of its columns.
type Key = (bool, Vec<usize>);

static NAMES: LazyLock<ByRows<Arc<HashMap<Key, String>>>> = LazyLock::new(ByRows::default);

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
    if !names.is_empty() {
        NAMES.update(table, |_| Some(Arc::new(names)));
    }
}

/// Keeps the name of a key of a table; `None` is for one without.
pub(crate) fn keep_one(table: &dyn TableProvider, is_primary: bool, columns: &[usize], name: Option<String>) {
    NAMES.update(table, |names| {
        let mut names = names.unwrap_or_default();
        let key = (is_primary, columns.to_vec());
        match name {
            Some(name) => Arc::make_mut(&mut names).insert(key, name),
            None => Arc::make_mut(&mut names).remove(&key),
        };
        Some(names)
    });
}

/// Returns the name that the key of a table was given.
pub(crate) fn given(table: &dyn TableProvider, is_primary: bool, columns: &[usize]) -> Option<String> {
    NAMES.get(table)?.get(&(is_primary, columns.to_vec())).cloned()
}
