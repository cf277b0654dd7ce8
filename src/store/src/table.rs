//! A Delta table of the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{Field, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::logical_expr::{Expr, ident, lit};
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::prelude::SessionContext;
use deltalake::protocol::SaveMode;
use deltalake::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use tokio::sync::Mutex;

use crate::location::Root;
use crate::{Error, Result};

/// How long a snapshot serves readers before they look for commits of other processes.
const FRESH: Duration = Duration::from_secs(1);

/// How long files that no snapshot needs any more stay for readers of older ones.
const RETENTION: Duration = Duration::from_secs(600);

/// Attempts of a commit that depends on nothing another writer may have changed.
const ATTEMPTS: usize = 5;

/// A table and the newest snapshot of it that this process has seen.
#[derive(Debug)]
pub(crate) struct Table {
    name: &'static str,
    schema: SchemaRef,
    partitions: &'static [&'static str],
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    table: DeltaTable,
    /// Whether the table exists; it is created by the first write.
    exists: bool,
    seen: Instant,
}

impl Table {
    /// A table that has not been looked for yet.
    pub fn new(
        root: &Root,
        name: &'static str,
        schema: SchemaRef,
        partitions: &'static [&'static str],
    ) -> Result<Self> {
        let failed = |error| Error::of(name, "read", error);
        let url = root.table(name);
        let builder = DeltaTableBuilder::from_url(url.clone()).map_err(failed)?;
        let builder = match root.objects() {
            Some(store) => builder.with_storage_backend(store, url),
            None => builder,
        };
        let table = builder.build().map_err(failed)?;
        let current = Current { table, exists: false, seen: Instant::now() };
        Ok(Self { name, schema, partitions, current: Mutex::new(current) })
    }

    /// Looks whether it exists, and in which version.
    pub async fn open(self) -> Result<Self> {
        let mut current = self.current.lock().await;
        self.load(&mut current).await?;
        drop(current);
        Ok(self)
    }

    /// The version that readers see now; it changes with every commit.
    pub async fn version(&self) -> Result<Option<u64>> {
        let current = self.fresh().await?;
        Ok(current.exists.then(|| current.table.version()).flatten())
    }

    /// The rows that match, in no order.
    pub async fn read(&self, filter: Expr, columns: Option<&[&str]>) -> Result<Vec<RecordBatch>> {
        let failed = |error| Error::of(self.name, "read", error);
        let table = {
            let current = self.fresh().await?;
            if !current.exists {
                return Ok(Vec::new());
            }
            current.table.clone()
        };
        let rows = async {
            let session = SessionContext::new();
            table.update_datafusion_session(&session.state())?;
            let provider = table.table_provider().await?;
            let schema = match columns {
                Some(columns) => {
                    let indices = columns.iter().map(|c| self.schema.index_of(c)).collect::<Result<Vec<_>, _>>()?;
                    Arc::new(self.schema.project(&indices)?)
                }
                None => Arc::clone(&self.schema),
            };
            let wanted = schema.fields().iter().map(|field| ident(field.name()));
            let rows = session.read_table(provider)?.filter(filter)?.select(wanted)?.collect().await?;
            rows.into_iter().map(|batch| conform(&batch, &schema)).collect::<Result<_, DeltaTableError>>()
        };
        rows.await.map_err(failed)
    }

    /// Adds rows.
    pub async fn append(&self, rows: RecordBatch) -> Result<()> {
        self.write(rows, None, true).await
    }

    /// Puts rows in the place of those that match. Fails with [`Error::Conflict`] if somebody else has changed these
    /// since this process last looked.
    pub async fn replace(&self, rows: RecordBatch, filter: Expr) -> Result<()> {
        self.write(rows, Some(filter), false).await
    }

    /// Puts rows in the place of those that match, whoever has written these: the last writer prevails.
    pub async fn upsert(&self, rows: RecordBatch, filter: Expr) -> Result<()> {
        self.write(rows, Some(filter), true).await
    }

    async fn write(&self, rows: RecordBatch, replaced: Option<Expr>, again: bool) -> Result<()> {
        let mut current = self.current.lock().await;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).unwrap_or_default()))
            .set_created_by(concat!("neuroql ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        for attempt in 1.. {
            let write = current
                .table
                .clone()
                .write([rows.clone()])
                .with_partition_columns(self.partitions.iter().copied())
                .with_writer_properties(properties.clone());
            let write = match &replaced {
                // The first write of all has nothing to replace.
                Some(filter) if current.exists => {
                    write.with_save_mode(SaveMode::Overwrite).with_replace_where(filter.clone())
                }
                _ => write.with_save_mode(SaveMode::Append),
            };
            match write.await {
                Ok(table) => {
                    *current = Current { table, exists: true, seen: Instant::now() };
                    return Ok(());
                }
                Err(error) => match Error::of(self.name, "written", error) {
                    // Rows that are only added conflict with nothing but the creation of the table.
                    Error::Conflict { .. } if attempt < ATTEMPTS && (again || !current.exists) => {
                        self.load(&mut current).await?;
                    }
                    error => return Err(error),
                },
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Removes the rows that match.
    pub async fn delete(&self, filter: Expr) -> Result<()> {
        let mut current = self.current.lock().await;
        if !current.exists {
            return Ok(());
        }
        let delete = current.table.clone().delete().with_predicate(filter);
        let (table, _) = delete.await.map_err(|error| Error::of(self.name, "written", error))?;
        *current = Current { table, exists: true, seen: Instant::now() };
        Ok(())
    }

    /// Deletes files that no snapshot of the last ten minutes needs.
    pub async fn vacuum(&self, retention: Option<Duration>) -> Result<usize> {
        let mut current = self.current.lock().await;
        if !current.exists {
            return Ok(0);
        }
        let retention = retention.unwrap_or(RETENTION);
        let vacuum = current
            .table
            .clone()
            .vacuum()
            .with_retention_period(TimeDelta::from_std(retention).unwrap_or(TimeDelta::MAX))
            .with_enforce_retention_duration(false);
        let (table, done) = vacuum.await.map_err(|error| Error::of(self.name, "written", error))?;
        *current = Current { table, exists: true, seen: Instant::now() };
        Ok(done.files_deleted.len())
    }

    /// The snapshot, not older than [`FRESH`].
    async fn fresh(&self) -> Result<tokio::sync::MutexGuard<'_, Current>> {
        let mut current = self.current.lock().await;
        if current.seen.elapsed() > FRESH {
            self.load(&mut current).await?;
        }
        Ok(current)
    }

    async fn load(&self, current: &mut Current) -> Result<()> {
        // Loading a table that is not there works as well but is logged as an error.
        let failed = |error| Error::of(self.name, "read", error);
        if !current.exists && !current.table.verify_deltatable_existence().await.map_err(failed)? {
            current.seen = Instant::now();
            return Ok(());
        }
        match current.table.update_state().await {
            Ok(()) => current.exists = true,
            Err(DeltaTableError::NotATable(_)) => current.exists = false,
            Err(error) => return Err(failed(error)),
        }
        current.seen = Instant::now();
        Ok(())
    }
}

/// A batch in the columns and types of a schema: Delta tables are read as views, and files by others have an order of
/// their own.
pub(crate) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, DeltaTableError> {
    let column = |field: &Arc<Field>| {
        let missing = || ArrowError::SchemaError(format!("column \"{}\" is missing", field.name()));
        cast(batch.column_by_name(field.name()).ok_or_else(missing)?, field.data_type())
    };
    let columns = schema.fields().iter().map(column).collect::<Result<_, _>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// `column = value`
pub(crate) fn is(column: &str, value: &str) -> Expr {
    ident(column).eq(lit(value))
}
