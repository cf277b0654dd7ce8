//! A change of the rows of a table: what it holds before it, and what is checked after it.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::common::ResolvedTableReference;
use datafusion::logical_expr::{DmlStatement, WriteOp};
use neuroql_access::resolved_table;

use crate::catalog::keys::held;
use crate::catalog::memory_rows::address;
use crate::session::Session;
use crate::session::checks;
use crate::session::constraints;
use crate::session::foreign_keys::{Related, RowChange, check_parents};
use crate::session::referential_actions::follow;
use crate::session::result_stream::isolated;
use crate::session::transaction::{lengths, partitions};
use crate::wire::error_response::SqlError;

/// A table whose rows are about to change.
pub(super) struct ChangedTable {
    table: Arc<dyn TableProvider>,
    name: ResolvedTableReference,
    change: Option<RowChange>,
    /// The numbers of batches of its partitions before the change.
    before: Vec<usize>,
    related: Arc<Related>,
    /// Its rows before the change, if others may reference them.
    old: Vec<Vec<RecordBatch>>,
}

impl ChangedTable {
    /// Returns the table with its constraints of now.
    pub(super) fn table(&self) -> &Arc<dyn TableProvider> {
        &self.table
    }

    pub(super) fn name(&self) -> &str {
        &self.name.table
    }
}

impl Session {
    /// Call this before the rows of a table are changed. Waits until this transaction holds the tables that it concerns.
    ///
    /// # Errors
    /// 40P01 if another transaction holds one of them and waits for this one, 25001 if the table cannot be restored and
    /// this is a block.
    pub(super) async fn begin_change(
        &mut self,
        table: Arc<dyn TableProvider>,
        dml: &DmlStatement,
        in_block: bool,
    ) -> Result<ChangedTable, SqlError> {
        let name = resolved_table(&dml.table_name, &self.context);
        let change = RowChange::of(&dml.op).filter(|_| address(table.as_ref()).is_some());
        if let Some(change) = change {
            self.hold_related(&table, &name, change).await?;
        }
        self.transaction.change_rows(Arc::clone(&table), &dml.op, in_block).await?;
        let Some(row_change) = change else {
            let (before, related) = (lengths(table.as_ref()), Arc::default());
            return Ok(ChangedTable { table, name, change, before, related, old: Vec::new() });
        };
        // Its constraints may have changed until it was held.
        let table = self.with_constraints_of_now(table, &name).await?;
        let related = Arc::new(self.hold_related(&table, &name, row_change).await?);
        if matches!(dml.op, WriteOp::Truncate) {
            Self::check_truncate(&related, table.as_ref())?;
        }
        for other in related.tables().filter(|related| related.may_change) {
            self.transaction.save_rows(other.table.as_ref());
        }
        let old = match related.is_empty() || row_change == RowChange::Insert {
            true => Vec::new(),
            false => partitions(table.as_ref()),
        };
        Ok(ChangedTable { before: lengths(table.as_ref()), table, name, change, related, old })
    }

    /// Returns the table that stands under a name if it has the rows of this one.
    async fn with_constraints_of_now(
        &self,
        table: Arc<dyn TableProvider>,
        name: &ResolvedTableReference,
    ) -> Result<Arc<dyn TableProvider>, SqlError> {
        if !self.context.table_exist(name.clone()).unwrap_or(false) {
            return Ok(table);
        }
        let found = self.context.table_provider(name.clone()).await?;
        let is_same =
            held::rows(table.as_ref()).is_some_and(|rows| held::has_rows(found.as_ref(), &Arc::downgrade(rows)));
        Ok(if is_same { found } else { table })
    }

    /// Checks the rows of a table after their change, and does what foreign keys do then.
    ///
    /// # Errors
    /// The error of the change, or of the first constraint that is violated: of class 23.
    pub(super) async fn end_change(
        &self,
        changed: ChangedTable,
        done: Result<Vec<RecordBatch>, SqlError>,
    ) -> Result<Vec<RecordBatch>, SqlError> {
        let ChangedTable { table, name, change, before, related, old } = changed;
        let done = done.map_err(|error| constraints::named(error, table.as_ref(), &name.table))?;
        constraints::check_types(table.as_ref(), &before)?;
        let from = (change == Some(RowChange::Insert)).then_some(before);
        if matches!(change, Some(RowChange::Insert | RowChange::Update)) {
            checks::check(&self.context, &table, &name.table, from.as_deref()).await?;
        }
        let (of_keys, named) = (Arc::clone(&table), name.clone());
        isolated(async move { constraints::check(of_keys.as_ref(), &named.table) }).await?;
        let (Some(change), Some(at), false) = (change, address(table.as_ref()), related.is_empty()) else {
            return Ok(done);
        };
        let updated = match change {
            RowChange::Insert => HashSet::new(),
            _ => follow(&related, at, change, old).await?,
        };
        if change != RowChange::Delete {
            let all = Arc::clone(&related);
            isolated(async move {
                let rows = checks::rows_from(table.as_ref(), from.as_deref());
                check_parents(&all, table.as_ref(), &name.table, &rows)
            })
            .await?;
        }
        for at in updated {
            let Some(other) = related.get(at).cloned() else { continue };
            checks::check(&self.context, &other.table, &other.name.table, None).await?;
            let all = Arc::clone(&related);
            isolated(async move {
                let (table, name) = (other.table.as_ref(), &other.name.table);
                constraints::check(table, name)?;
                check_parents(&all, table, name, &checks::rows_from(table, None))
            })
            .await?;
        }
        Ok(done)
    }
}
