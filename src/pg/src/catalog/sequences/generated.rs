//! Defaults and identities of the columns of a table in memory, which DataFusion does not keep.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use datafusion::catalog::TableProvider;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::ScalarFunction;
use neuroql_access::TEMPORARY;

use crate::catalog::memory_rows::ByRows;
pub(crate) use crate::catalog::memory_rows::{Rows, rows};
use crate::catalog::objects::{parts, quoted};
use crate::catalog::sequences::functions::NEXTVAL;

/// Columns by their names.
pub(crate) type Columns = HashMap<String, GeneratedColumn>;

/// A column with a default or an identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct GeneratedColumn {
    /// The default as PostgreSQL writes it, unless it is a number of a sequence.
    pub(crate) default: Option<String>,
    pub(crate) identity: Option<Identity>,
}

/// The kind of an identity column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    Always,
    ByDefault,
}

impl Identity {
    /// Returns its letter in `pg_attribute`.
    pub(crate) fn letter(self) -> &'static str {
        match self {
            Self::Always => "a",
            Self::ByDefault => "d",
        }
    }

    /// Returns its name in `information_schema.columns`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Always => "ALWAYS",
            Self::ByDefault => "BY DEFAULT",
        }
    }
}

static COLUMNS: LazyLock<ByRows<Arc<Columns>>> = LazyLock::new(ByRows::default);

/// True once there is a sequence, or a column with a default or an identity. Until then the catalog need not look for them.
static EXIST: AtomicBool = AtomicBool::new(false);

/// Call this when there is a first sequence.
pub(super) fn begin() {
    EXIST.store(true, Ordering::Release);
}

/// Returns false if there cannot be any sequences, defaults and identities.
pub(super) fn exist() -> bool {
    EXIST.load(Ordering::Acquire)
}

/// Keeps the columns of a table.
pub(crate) fn keep(table: &dyn TableProvider, columns: Columns) {
    if rows(table).is_some() && !columns.is_empty() {
        begin();
        COLUMNS.update(table, |_| Some(Arc::new(columns)));
    }
}

/// Returns the columns of a table that have a default or an identity.
pub(crate) fn columns(table: &dyn TableProvider) -> Option<Arc<Columns>> {
    COLUMNS.get(table)
}

/// Returns the kind of an identity column.
pub(crate) fn identity(table: &dyn TableProvider, column: &str) -> Option<Identity> {
    columns(table)?.get(column)?.identity
}

/// Returns the default of a column as PostgreSQL writes it. The values of an identity column are no default.
pub(crate) fn default(table: &dyn TableProvider, column: &str) -> Option<String> {
    if identity(table, column).is_some() {
        return None;
    }
    if let Some(name) = sequence_of(table, column) {
        return Some(format!("nextval('{}'::regclass)", short(&name).replace('\'', "''")));
    }
    columns(table)?.get(column)?.default.clone()
}

/// Returns the name of the sequence whose numbers a column has by default.
pub(crate) fn sequence_of(table: &dyn TableProvider, column: &str) -> Option<String> {
    taken_from(table.get_column_default(column)?)
}

/// Returns the name of the sequence that an expression takes a number from, if it is nothing else.
pub(crate) fn taken_from(default: &Expr) -> Option<String> {
    match default {
        Expr::Cast(cast) => taken_from(&cast.expr),
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == NEXTVAL => match args.as_slice() {
            [Expr::Literal(name, _)] => name.try_as_str().flatten().map(str::to_owned),
            _ => None,
        },
        _ => None,
    }
}

/// Returns a name without the schema in which it is found anyway.
fn short(name: &str) -> String {
    match parts(name).as_deref() {
        Some([schema, name]) if schema == "public" || schema == TEMPORARY => quoted(name),
        _ => name.to_owned(),
    }
}
