//! Tables that are slow, endless or broken.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use futures::stream;

/// Counters that the tables keep for the tests.
#[derive(Default)]
pub struct Tables {
    /// Number of scans that have started and not been dropped.
    pub scans_running: AtomicUsize,
    /// Number of rows made by `counted_rows`.
    pub rows_made: AtomicUsize,
}

impl Tables {
    /// Waits until this number of scans is running.
    pub async fn until_running(&self, count: usize) {
        let start = Instant::now();
        while self.scans_running.load(Ordering::SeqCst) != count {
            assert!(start.elapsed() < Duration::from_secs(20), "{count} scans are not running");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Registers all of them where every session sees them.
    pub fn register(context: &SessionContext) -> Arc<Self> {
        let tables = Arc::new(Self::default());
        for (name, kind) in [("slow_plan", Kind::SlowPlan), ("panic_plan", Kind::PanicPlan)] {
            let table = Broken { kind, tables: Arc::clone(&tables) };
            context.register_table(name, Arc::new(table)).unwrap();
        }
        let kinds = [
            ("slow_rows", Kind::SlowRows),
            ("one_second", Kind::OneSecond),
            ("counted_rows", Kind::CountedRows),
            ("panic_rows", Kind::PanicRows),
        ];
        for (name, kind) in kinds {
            let rows = Rows { kind, schema: schema(), tables: Arc::clone(&tables) };
            let table = StreamingTable::try_new(schema(), vec![Arc::new(rows)]).unwrap();
            context.register_table(name, Arc::new(table)).unwrap();
        }
        tables
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A table whose planning takes a minute.
    SlowPlan,
    PanicPlan,
    /// A table with one row at once and the next after a minute.
    SlowRows,
    /// A table with one row, after a second.
    OneSecond,
    /// A table with rows without end.
    CountedRows,
    PanicRows,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, false)]))
}

/// Counts a scan for as long as it exists.
struct Scan(Arc<Tables>);

impl Scan {
    fn start(tables: &Arc<Tables>) -> Self {
        tables.scans_running.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(tables))
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.0.scans_running.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Broken {
    kind: Kind,
    tables: Arc<Tables>,
}

impl Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

#[async_trait]
impl TableProvider for Broken {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let _scan = Scan::start(&self.tables);
        if matches!(self.kind, Kind::SlowPlan) {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        panic!("a table that panics when it is planned")
    }
}

struct Rows {
    kind: Kind,
    schema: SchemaRef,
    tables: Arc<Tables>,
}

impl Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (kind, tables, schema) = (self.kind, Arc::clone(&self.tables), schema());
        let scan = Scan::start(&tables);
        let batches = stream::unfold((0usize, scan), move |(step, scan)| {
            let (tables, schema) = (Arc::clone(&tables), Arc::clone(&schema));
            async move {
                let rows = match (kind, step) {
                    (Kind::SlowRows, 0) => 1,
                    (Kind::SlowRows, _) => {
                        tokio::time::sleep(Duration::from_secs(60)).await;
                        1
                    }
                    (Kind::OneSecond, 0) => {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        1
                    }
                    (Kind::CountedRows, _) => {
                        tokio::task::yield_now().await;
                        8192
                    }
                    (Kind::PanicRows, 1) => panic!("a table that panics after its first batch"),
                    (Kind::PanicRows, _) => 1,
                    _ => return None,
                };
                tables.rows_made.fetch_add(rows, Ordering::SeqCst);
                let values: ArrayRef = Arc::new(Int64Array::from(vec![7; rows]));
                Some((Ok(RecordBatch::try_new(schema, vec![values]).unwrap()), (step + 1, scan)))
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}
