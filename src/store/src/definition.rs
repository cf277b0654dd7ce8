//! Definitions of tables as rows.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::TimestampMicrosecondType;
use datafusion::arrow::error::ArrowError;
use datafusion::logical_expr::lit;

use crate::analysis::{MalformedColumn, column};
use crate::store::{arrow, damaged, whole};
use crate::table::is;
use crate::{Result, Store};
use neuroql_schema::tables::TABLES;

/// A table or view that was created, by the statement that creates it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Name in the default schema.
    pub name: String,
    /// `CREATE EXTERNAL TABLE …` or `CREATE VIEW …`
    pub sql: String,
}

impl Store {
    /// Returns the tables and views that were created, earliest first.
    ///
    /// # Errors
    /// [`Error::Access`](crate::Error::Access), [`Error::Damaged`](crate::Error::Damaged).
    pub async fn definitions(&self) -> Result<Vec<Definition>> {
        let rows = self.tables.read(lit(true), None).await?;
        let rows = whole("tables", &rows, &TABLES)?;
        Definition::from_rows(&rows).map_err(|e| damaged("tables", &e))
    }

    /// Remembers a table or view, in the place of an earlier one of the same name.
    ///
    /// # Errors
    /// [`Error::Access`](crate::Error::Access), [`Error::Full`](crate::Error::Full),
    /// [`Error::Conflict`](crate::Error::Conflict).
    pub async fn define(&self, definition: &Definition) -> Result<()> {
        let row = definition.row().map_err(|e| arrow("tables", e))?;
        self.tables.replace(vec![row], is("name", &definition.name)).await
    }

    /// Forgets a table or view; analyses of it stay.
    ///
    /// # Errors
    /// See [`Store::define`].
    pub async fn undefine(&self, name: &str) -> Result<()> {
        self.tables.delete(is("name", name)).await
    }
}

impl Definition {
    fn row(&self) -> Result<RecordBatch, ArrowError> {
        let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values([value])) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64;
        let created = TimestampMicrosecondArray::from_value(now, 1).with_timezone("UTC");
        RecordBatch::try_new(Arc::clone(&TABLES), vec![text(&self.name), text(&self.sql), Arc::new(created)])
    }

    fn from_rows(rows: &RecordBatch) -> Result<Vec<Self>, MalformedColumn> {
        let text = |name| Ok::<_, MalformedColumn>(column(rows, name)?.as_string::<i32>());
        let (name, sql) = (text("name")?, text("definition")?);
        let created = column(rows, "created_at")?.as_primitive::<TimestampMicrosecondType>();
        let mut order: Vec<usize> = (0..rows.num_rows()).collect();
        order.sort_by_key(|&i| (created.value(i), name.value(i)));
        Ok(order.into_iter().map(|i| Self { name: name.value(i).into(), sql: sql.value(i).into() }).collect())
    }
}
