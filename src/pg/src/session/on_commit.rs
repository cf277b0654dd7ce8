//! ON COMMIT of temporary tables: what becomes of them at the end of a transaction.

use std::sync::{Arc, Weak};

use datafusion::catalog::TableProvider;
use datafusion::error::Result;
use datafusion::sql::sqlparser::ast::OnCommit;

use crate::session::temporary_tables::TemporaryTables;
use crate::session::transaction::of_partitions;

/// The temporary tables that are dropped or emptied when a transaction is committed.
#[derive(Debug, Default)]
pub(super) struct OnCommitTables(Vec<OnCommitTable>);

#[derive(Debug)]
struct OnCommitTable {
    name: String,
    table: Weak<dyn TableProvider>,
    is_dropped: bool,
}

impl OnCommitTables {
    /// Notes what becomes of a table that has been created.
    pub(super) fn add(&mut self, name: &str, table: &Arc<dyn TableProvider>, action: &OnCommit) {
        let is_dropped = match action {
            OnCommit::Drop => true,
            OnCommit::DeleteRows => false,
            OnCommit::PreserveRows => return,
        };
        self.0.push(OnCommitTable { name: name.to_owned(), table: Arc::downgrade(table), is_dropped });
    }

    /// Drops and empties tables; returns true if one was dropped.
    ///
    /// # Errors
    /// None of tables in memory.
    pub(super) fn commit(&mut self, temporary: &TemporaryTables) -> Result<bool> {
        if self.0.is_empty() {
            return Ok(false);
        }
        let mut dropped = false;
        for noted in &self.0 {
            let Some(table) = noted.table.upgrade() else { continue };
            // Another table may have the name by now.
            let is_there = temporary.table(&noted.name).is_some_and(|found| Arc::ptr_eq(&found, &table));
            if !noted.is_dropped {
                of_partitions(table.as_ref(), Vec::clear);
            } else if is_there {
                temporary.drop_table(&noted.name)?;
                dropped = true;
            }
        }
        self.0.retain(|noted| noted.table.strong_count() > 0 && !noted.is_dropped);
        Ok(dropped)
    }
}
