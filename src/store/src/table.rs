//! A Delta table of the store.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use datafusion::arrow::array::{ArrayRef, RecordBatch, new_null_array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{Field, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::error::DataFusionError;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, UNNAMED_TABLE, ident, lit};
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::{
    DEFAULT_DATA_PAGE_ROW_COUNT_LIMIT, DEFAULT_WRITE_BATCH_SIZE, EnabledStatistics, WriterProperties,
};
use datafusion::parquet::schema::types::ColumnPath;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use deltalake::operations::write::SchemaMode;
use deltalake::protocol::SaveMode;
use deltalake::{DeltaTable, DeltaTableBuilder, DeltaTableError, FilterOp, FilterValue};
use futures::TryStreamExt;
use neuroql_schema::tables::ADDED;
use object_store::path::Path;
use tokio::sync::Mutex;

use crate::cache::{BoundedCache, CacheLimits};
use crate::location::Root;
use crate::row_reader::OpenFile;
use crate::{Error, Result};

/// Time that a snapshot serves readers before they look for commits of other processes.
const FRESH: Duration = Duration::from_secs(1);

/// Time that files which no snapshot needs any more stay for readers of older ones.
const RETENTION: Duration = Duration::from_secs(600);

/// Number of attempts of a commit that depends on nothing another writer has changed.
const ATTEMPTS: usize = 10;

/// Number of parts of the rows of a layer, so that two layers rarely fall to the same writer.
const PARTS: usize = 8;

/// Columns without dictionaries: those of which hardly two values are equal (activations around the peaks of examples,
/// and bounds), and those of graphs, where a dictionary of all tokens would have to be read for the sake of one graph.
const PLAIN: [&[&str]; 8] = [
    &["examples", "list", "element", "activations", "list", "element"],
    &["upper"],
    &["lower"],
    &["graph", "list", "element", "token_id"],
    &["graph", "list", "element", "token"],
    &["graph", "list", "element", "importance"],
    &["graph", "list", "element", "activation"],
    &["graph", "list", "element", "ends"],
];

/// A Delta table and the newest snapshot of it that this process has seen.
///
/// Readers take the snapshot and wait for nobody who writes. Writers wait for each other, start from the snapshot, and
/// put the one of their commit in its place.
#[derive(Debug)]
pub(crate) struct Table {
    name: &'static str,
    schema: SchemaRef,
    partitions: &'static [&'static str],
    /// Rows of a page of a column.
    page: usize,
    session: ReadSession,
    /// Files of partitions, by version of the table: finding them means to read the log of all files.
    listed: FileLists,
    /// Files of which rows were read without a query.
    opened: OpenFiles,
    /// Locked for as long as it takes to copy or to replace a pointer.
    current: RwLock<Arc<TableSnapshot>>,
    /// Held from the first attempt of a write to its commit.
    writing: Mutex<()>,
    /// Held by the task that looks for commits of other processes, so that one looks for all.
    looking: Mutex<()>,
}

/// Rows that show whether somebody else has changed what a commit goes on from.
#[derive(Debug)]
pub(crate) struct Precondition<'a> {
    pub filter: Expr,
    pub columns: &'a [&'a str],
}

/// A file of a table.
#[derive(Debug)]
struct TableFile {
    path: Path,
    size: u64,
    /// True if some of its rows were deleted.
    has_deletions: bool,
}

#[derive(Debug, Clone)]
struct TableSnapshot {
    table: DeltaTable,
    /// True if the table exists; it is created by the first write.
    exists: bool,
    /// Time when it was last looked for: commits before it are included.
    seen: Instant,
}

impl TableSnapshot {
    fn version(&self) -> Option<u64> {
        if self.exists { self.table.version() } else { None }
    }
}

/// The session for reading; it caches footers of files.
struct ReadSession(SessionContext);

impl fmt::Debug for ReadSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Session").field(&self.0.session_id()).finish()
    }
}

impl Table {
    /// Creates a table that has not been looked for yet.
    pub fn new(
        root: &Root,
        name: &'static str,
        schema: SchemaRef,
        partitions: &'static [&'static str],
    ) -> Result<Self> {
        let failed = |error| Error::of(name, "read", error);
        let url = root.table(name)?;
        let builder = DeltaTableBuilder::from_url(url.clone()).map_err(failed)?;
        let builder = match root.objects() {
            Some(store) => builder.with_storage_backend(store, url),
            None => builder,
        };
        let table = builder.build().map_err(failed)?;
        let current = TableSnapshot { table, exists: false, seen: Instant::now() };
        let page = DEFAULT_DATA_PAGE_ROW_COUNT_LIMIT;
        let (opened, listed, session) = caches(&CacheLimits::ALL).map_err(|error| failed(error.into()))?;
        let current = RwLock::new(Arc::new(current));
        let (writing, looking) = (Mutex::default(), Mutex::default());
        Ok(Self { name, schema, partitions, page, session, listed, opened, current, writing, looking })
    }

    /// Returns the same table with pages of `rows` rows, so that few rows can be read without many others.
    pub fn with_pages_of(self, rows: usize) -> Self {
        Self { page: rows, ..self }
    }

    /// Returns the same table with caches of these sizes.
    pub fn with_caches(self, shares: &CacheLimits) -> Result<Self> {
        let failed = |error: DataFusionError| Error::of(self.name, "read", error.into());
        let (opened, listed, session) = caches(shares).map_err(failed)?;
        Ok(Self { opened, listed, session, ..self })
    }

    /// Looks for the table and its version.
    pub async fn open(self) -> Result<Self> {
        self.look(&self.current()).await?;
        Ok(self)
    }

    /// Returns the version that readers see now; it changes with every commit.
    pub async fn version(&self) -> Result<Option<u64>> {
        Ok(self.fresh().await?.version())
    }

    /// Returns the names of the files that have the rows of a partition, in order: while they are the same, so are the
    /// rows.
    pub async fn files(&self, partition: &[(&str, &str)]) -> Result<Vec<String>> {
        let Some(table) = self.snapshot().await? else { return Ok(Vec::new()) };
        let files = self.files_of(&table, partition).await?;
        let mut names: Vec<String> = files.iter().map(|file| file.path.to_string()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Returns the files that have the rows of a partition, opened if they were not; `None` if they cannot be read
    /// without a query, because rows of one were deleted and the file is still there.
    pub async fn open_files(&self, partition: &[(&str, &str)]) -> Result<Option<Vec<Arc<OpenFile>>>> {
        let Some(table) = self.snapshot().await? else { return Ok(Some(Vec::new())) };
        let files = self.files_of(&table, partition).await?;
        if files.iter().any(|file| file.has_deletions) {
            return Ok(None);
        }
        let mut open = Vec::with_capacity(files.len());
        for TableFile { path, size, .. } in files.iter() {
            let opened = self.opened.get_or_load(path.clone(), async {
                OpenFile::open(table.object_store(), path.clone(), *size).await.map(Arc::new)
            });
            open.push(opened.await.map_err(|error| match Arc::try_unwrap(error) {
                Ok(error) => Error::of(self.name, "read", error),
                Err(shared) => Error::Access { table: self.name, doing: "read", reason: shared.to_string() },
            })?);
        }
        Ok(Some(open))
    }

    async fn files_of(&self, table: &DeltaTable, partition: &[(&str, &str)]) -> Result<Arc<Vec<TableFile>>> {
        let key = (table.version(), format!("{partition:?}"));
        if let Some(files) = self.listed.get(&key).await {
            return Ok(files);
        }
        let filters: Vec<_> =
            partition.iter().map(|(column, value)| (*column, FilterOp::Eq, FilterValue::Scalar(value))).collect();
        let files = table.get_active_add_actions_by_partitions(&filters).map_ok(|file| TableFile {
            path: file.object_store_path(),
            size: file.size() as u64,
            has_deletions: file.deletion_vector_descriptor().is_some(),
        });
        let files = Arc::new(files.try_collect().await.map_err(|error| Error::of(self.name, "read", error))?);
        self.listed.insert(key, Arc::clone(&files)).await;
        Ok(files)
    }

    /// Returns the table as readers see it now; `None` if it does not exist.
    async fn snapshot(&self) -> Result<Option<DeltaTable>> {
        let current = self.fresh().await?;
        Ok(current.exists.then(|| current.table.clone()))
    }

    /// Reads the rows that match, in no order.
    pub async fn read(&self, filter: Expr, columns: Option<&[&str]>) -> Result<Vec<RecordBatch>> {
        match self.snapshot().await? {
            Some(table) => self.rows(&table, filter, columns).await,
            None => Ok(Vec::new()),
        }
    }

    async fn rows(&self, table: &DeltaTable, filter: Expr, columns: Option<&[&str]>) -> Result<Vec<RecordBatch>> {
        let rows = async {
            table.update_datafusion_session(&self.session.0.state())?;
            let provider = table.table_provider().await?;
            let schema = match columns {
                Some(columns) => {
                    let indices = columns.iter().map(|c| self.schema.index_of(c)).collect::<Result<Vec<_>, _>>()?;
                    Arc::new(self.schema.project(&indices)?)
                }
                None => Arc::clone(&self.schema),
            };
            let known = provider.schema();
            let wanted = schema.fields().iter().map(|field| match known.index_of(field.name()) {
                Err(_) if is_added(field) => Ok(lit(ScalarValue::try_new_null(field.data_type())?).alias(field.name())),
                _ => Ok(ident(field.name())),
            });
            let wanted: Vec<Expr> = wanted.collect::<Result<_, DataFusionError>>()?;
            let rows = self.session.0.read_table(provider)?.filter(filter)?.select(wanted)?.collect().await?;
            rows.into_iter().map(|batch| conform(&batch, &schema)).collect::<Result<_, DeltaTableError>>()
        };
        rows.await.map_err(|error| Error::of(self.name, "read", error))
    }

    /// Adds rows.
    pub async fn append(&self, rows: Vec<RecordBatch>) -> Result<()> {
        self.write(rows, None).await
    }

    /// Puts rows in the place of those that match, however others have changed these meanwhile.
    pub async fn replace(&self, rows: Vec<RecordBatch>, filter: Expr) -> Result<()> {
        self.write(rows, Some((filter, None))).await
    }

    /// Replaces rows if the precondition has the same rows as when this process last looked, else returns
    /// [`Error::Conflict`].
    pub async fn replace_unchanged(
        &self,
        rows: Vec<RecordBatch>,
        filter: Expr,
        precondition: Precondition<'_>,
    ) -> Result<()> {
        self.write(rows, Some((filter, Some(precondition)))).await
    }

    async fn write(&self, rows: Vec<RecordBatch>, replaced: Option<(Expr, Option<Precondition<'_>>)>) -> Result<()> {
        let properties = properties(self.page);
        let input = self.side_by_side(rows).map_err(|error| Error::of(self.name, "written", error))?;
        let _writing = self.writing.lock().await;
        let mut current = self.current();
        for attempt in 1.. {
            let write = current
                .table
                .clone()
                .write([])
                .with_input_plan(input.clone())
                .with_partition_columns(self.partitions.iter().copied())
                .with_writer_properties(properties.clone());
            let write = match current.exists && self.lacks_columns(&current.table) {
                true => write.with_schema_mode(SchemaMode::Merge),
                false => write,
            };
            let write = match &replaced {
                // The first write of all has nothing to replace.
                Some((filter, _)) if current.exists => {
                    write.with_save_mode(SaveMode::Overwrite).with_replace_where(filter.clone())
                }
                _ => write.with_save_mode(SaveMode::Append),
            };
            match write.await {
                Ok(table) => {
                    self.committed(&current, table);
                    return Ok(());
                }
                Err(error) => {
                    let error = Error::of(self.name, "written", error);
                    if !matches!(error, Error::Conflict { .. }) || attempt == ATTEMPTS {
                        return Err(error);
                    }
                    // Somebody else has written; the precondition decides whether to these rows.
                    let precondition = replaced.as_ref().and_then(|(_, precondition)| precondition.as_ref());
                    let before = self.precondition_rows(&current, precondition).await?;
                    current = self.look(&current).await?;
                    if before != self.precondition_rows(&current, precondition).await? {
                        return Err(error);
                    }
                }
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Returns true if the table is of a version that had fewer columns.
    fn lacks_columns(&self, table: &DeltaTable) -> bool {
        let Ok(snapshot) = table.snapshot() else { return false };
        let known = snapshot.schema();
        self.schema.fields().iter().any(|field| is_added(field) && known.field(field.name()).is_none())
    }

    /// Plans rows in many parts: delta-rs deals out the partitions of the table to as many writers.
    fn side_by_side(&self, rows: Vec<RecordBatch>) -> Result<LogicalPlan, DeltaTableError> {
        let mut parts = Vec::new();
        for batch in rows {
            let length = if self.partitions.is_empty() { batch.num_rows() } else { batch.num_rows().div_ceil(PARTS) };
            for first in (0..batch.num_rows()).step_by(length.max(1)) {
                parts.push(vec![batch.slice(first, length.min(batch.num_rows() - first))]);
            }
        }
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let table = MemTable::try_new(Arc::clone(&self.schema), parts)?;
        Ok(LogicalPlanBuilder::scan(UNNAMED_TABLE, provider_as_source(Arc::new(table)), None)?.build()?)
    }

    /// Removes the rows that match.
    pub async fn delete(&self, filter: Expr) -> Result<()> {
        let _writing = self.writing.lock().await;
        let mut current = self.current();
        for attempt in 1.. {
            if !current.exists {
                return Ok(());
            }
            match current.table.clone().delete().with_predicate(filter.clone()).await {
                Ok((table, _)) => {
                    self.committed(&current, table);
                    return Ok(());
                }
                Err(error) => match Error::of(self.name, "written", error) {
                    Error::Conflict { .. } if attempt < ATTEMPTS => current = self.look(&current).await?,
                    error => return Err(error),
                },
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Reads the rows of a precondition, in an order of its own.
    async fn precondition_rows(
        &self,
        current: &TableSnapshot,
        precondition: Option<&Precondition<'_>>,
    ) -> Result<Vec<String>> {
        let Some(Precondition { filter, columns }) = precondition.filter(|_| current.exists) else {
            return Ok(Vec::new());
        };
        let mut rows = Vec::new();
        for batch in self.rows(&current.table, filter.clone(), Some(columns)).await? {
            for row in 0..batch.num_rows() {
                let cell = |column: &ArrayRef| array_value_to_string(column, row);
                let cells = batch.columns().iter().map(cell).collect::<Result<Vec<_>, _>>();
                rows.push(cells.map_err(|error| Error::of(self.name, "read", error.into()))?.join("\t"));
            }
        }
        rows.sort();
        Ok(rows)
    }

    /// Deletes files that only snapshots older than `retention` need (ten minutes if `None`), and returns their number.
    pub async fn vacuum(&self, retention: Option<Duration>) -> Result<usize> {
        let _writing = self.writing.lock().await;
        let current = self.current();
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
        self.committed(&current, table);
        Ok(done.files_deleted.len())
    }

    /// Returns the current snapshot, however old.
    fn current(&self) -> Arc<TableSnapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the snapshot, not older than [`FRESH`].
    async fn fresh(&self) -> Result<Arc<TableSnapshot>> {
        let asked = Instant::now();
        let is_fresh = |current: &TableSnapshot| current.seen.elapsed() <= FRESH || current.seen >= asked;
        let current = self.current();
        if is_fresh(&current) {
            return Ok(current);
        }
        let _looking = self.looking.lock().await;
        // Somebody else may have looked meanwhile.
        let current = self.current();
        if is_fresh(&current) { Ok(current) } else { self.look(&current).await }
    }

    /// Looks for commits of other processes since a snapshot, and returns the newest one.
    async fn look(&self, before: &Arc<TableSnapshot>) -> Result<Arc<TableSnapshot>> {
        let failed = |error| Error::of(self.name, "read", error);
        let seen = Instant::now();
        let TableSnapshot { mut table, exists, .. } = before.as_ref().clone();
        // Loading a table that is not there works as well but is logged as an error.
        let exists = if !exists && !table.verify_deltatable_existence().await.map_err(failed)? {
            false
        } else {
            match table.update_state().await {
                Ok(()) => true,
                Err(DeltaTableError::NotATable(_)) => false,
                Err(error) => return Err(failed(error)),
            }
        };
        Ok(self.publish(before, TableSnapshot { table, exists, seen }))
    }

    /// Makes a commit of this process known to readers.
    fn committed(&self, before: &Arc<TableSnapshot>, table: DeltaTable) {
        self.publish(before, TableSnapshot { table, exists: true, seen: Instant::now() });
    }

    /// Puts a snapshot that was made from another in its place, unless a newer one is there; returns the newest.
    fn publish(&self, before: &Arc<TableSnapshot>, found: TableSnapshot) -> Arc<TableSnapshot> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, before) || found.version() > current.version() {
            *current = Arc::new(found);
        }
        Arc::clone(&current)
    }
}

type OpenFiles = BoundedCache<Path, Arc<OpenFile>>;
type FileLists = BoundedCache<(Option<u64>, String), Arc<Vec<TableFile>>>;

fn caches(shares: &CacheLimits) -> Result<(OpenFiles, FileLists, ReadSession), DataFusionError> {
    let opened =
        BoundedCache::new(shares.opened, |path: &Path, file: &Arc<OpenFile>| path.as_ref().len() + file.bytes());
    let listed =
        BoundedCache::new(shares.listed, |(_, partition): &(Option<u64>, String), files: &Arc<Vec<TableFile>>| {
            partition.len() + files.iter().map(|file| size_of::<TableFile>() + file.path.as_ref().len()).sum::<usize>()
        });
    let runtime = RuntimeEnvBuilder::new()
        .with_metadata_cache_limit(shares.metadata as usize)
        .with_file_statistics_cache_limit(shares.statistics as usize)
        // Delta tables know their files.
        .with_object_list_cache_limit(0)
        .build_arc()?;
    let session = SessionContext::new_with_config_rt(SessionConfig::new(), runtime);
    Ok((opened, listed, ReadSession(session)))
}

/// Options for writing rows.
fn properties(page: usize) -> WriterProperties {
    let properties = WriterProperties::builder()
        .set_data_page_row_count_limit(page)
        // The writer checks the limit after each batch of this size.
        .set_write_batch_size(page.min(DEFAULT_WRITE_BATCH_SIZE))
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).unwrap_or_default()))
        .set_created_by(concat!("neuroql ", env!("CARGO_PKG_VERSION")).to_owned())
        // The least and greatest value of bytes are of no use.
        .set_column_statistics_enabled(ColumnPath::from("upper"), EnabledStatistics::None)
        .set_column_statistics_enabled(ColumnPath::from("lower"), EnabledStatistics::None);
    let path = |column: &[&str]| ColumnPath::from(column.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>());
    PLAIN.iter().fold(properties, |p, column| p.set_column_dictionary_enabled(path(column), false)).build()
}

/// Returns true for a column that tables of earlier versions lack: it is NULL there.
fn is_added(field: &Field) -> bool {
    ADDED.contains(&field.name().as_str())
}

/// Casts a batch to the columns and types of a schema: Delta tables are read as views, and files by others have an
/// order of their own.
pub(crate) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, DeltaTableError> {
    let column = |field: &Arc<Field>| {
        let missing = || ArrowError::SchemaError(format!("column \"{}\" is missing", field.name()));
        match batch.column_by_name(field.name()) {
            None if is_added(field) => Ok(new_null_array(field.data_type(), batch.num_rows())),
            column => cast(column.ok_or_else(missing)?, field.data_type()),
        }
    };
    let columns = schema.fields().iter().map(column).collect::<Result<_, _>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// Filter `column = value`.
pub(crate) fn is(column: &str, value: &str) -> Expr {
    ident(column).eq(lit(value))
}
