//! Tests of the number of readings of datasets: none to plan a query, and one to see that they are still those
//! analysed, for all who ask.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use futures::future::try_join_all;
use futures::stream::BoxStream;
use libtest_mimic::Trial;
use neuroql::Engine;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use crate::answers::rows;
use crate::server::Error;
use crate::timing;

/// One trial per kind of table.
pub fn trials() -> Vec<Trial> {
    vec![timing::test("readings::files", || Ok(files()?)), timing::test("readings::streams", || Ok(streams()?))]
}

/// Objects in memory that count how often one is read.
#[derive(Debug, Default)]
struct CountingObjects {
    objects: InMemory,
    reads: AtomicUsize,
}

impl CountingObjects {
    /// Returns the number of readings since it was last called.
    fn reads(&self) -> usize {
        self.reads.swap(0, Ordering::SeqCst)
    }
}

impl fmt::Display for CountingObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counting")
    }
}

#[async_trait]
impl ObjectStore for CountingObjects {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.objects.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        if !options.head {
            self.reads.fetch_add(1, Ordering::SeqCst);
        }
        self.objects.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

/// Returns a query of the greatest activation of a neuron, which an analysis knows.
fn greatest(dataset: &str) -> String {
    format!(
        "SELECT layer, neuron, max(activation) FROM toy.activations WHERE dataset = '{dataset}' AND layer = 1 \
         AND neuron = 5 GROUP BY layer, neuron"
    )
}

async fn text(context: &SessionContext, sql: &str) -> Result<String, Error> {
    Ok(datafusion::arrow::util::pretty::pretty_format_batches(&rows(context, sql).await?)?.to_string())
}

/// Checks a file, and views of it.
#[tokio::main]
async fn files() -> Result<(), Error> {
    let objects = Arc::new(CountingObjects::default());
    let engine = Engine::builder().build()?;
    let context = engine.session();
    let store = Arc::clone(&objects) as Arc<dyn ObjectStore>;
    context.register_object_store(&"counting://here".parse()?, store);
    let file = Path::from("texts.csv");
    objects.put(&file, "text\nimport numpy as np\n\"Call me\nIshmael.\"\n".into()).await?;
    for sql in [
        "CREATE EXTERNAL TABLE texts STORED AS CSV LOCATION 'counting://here/texts.csv'",
        "CREATE VIEW some AS SELECT upper(text) AS text FROM texts WHERE text <> 'x'",
        "CREATE VIEW twice AS SELECT text FROM texts UNION ALL SELECT text FROM texts",
        // Its documents are others each time.
        "CREATE VIEW chance AS SELECT text FROM texts WHERE random() >= 0",
    ] {
        rows(&context, sql).await?;
    }
    for (dataset, files) in [("texts", 1), ("some", 1), ("twice", 2), ("chance", 1)] {
        rows(&context, &format!("SELECT * FROM analyze('toy', '{dataset}')")).await?;
        objects.reads();
        let sql = greatest(dataset);
        for _ in 0..3 {
            let plan = text(&context, &format!("EXPLAIN {sql}")).await?;
            assert!(plan.contains("plan=stored answer"), "{plan}");
        }
        assert_eq!(objects.reads(), 0, "to plan {dataset}");
        let sessions: Vec<SessionContext> = (0..8).map(|_| engine.session()).collect();
        let answers = try_join_all(sessions.iter().map(|session| text(session, &sql))).await?;
        assert!(answers.iter().all(|answer| *answer == answers[0] && answer.contains("| 1 ")), "{answers:?}");
        match dataset {
            "chance" => assert_eq!(objects.reads(), 8 * files, "{dataset}"),
            _ => assert!(objects.reads() <= files, "{dataset}"),
        }
        assert_eq!(text(&context, &sql).await?, answers[0]);
        let again = if dataset == "chance" { files } else { 0 };
        assert_eq!(objects.reads(), again, "{dataset} once more");
        let plan = text(&context, &format!("EXPLAIN ANALYZE {sql}")).await?;
        assert!(plan.contains("plan=stored answer,") && plan.contains("tokens_run=0"), "{plan}");
    }
    // After other texts are put in the same place, activations are those of the new texts.
    objects.put(&file, "text\nthe the the\n".into()).await?;
    for dataset in ["texts", "some"] {
        let before = text(
            &context,
            "SELECT max_activation FROM toy.neurons WHERE dataset = 'texts' AND layer = 1 AND neuron = 5",
        );
        let before = before.await?;
        objects.reads();
        let plan = text(&context, &format!("EXPLAIN ANALYZE {}", greatest(dataset))).await?;
        assert!(plan.contains("plan=full scan (the dataset is not as it was analysed)"), "{plan}");
        assert!(!plan.contains("tokens_run=0"), "{plan}");
        // Read once for its hash and once for its texts.
        assert_eq!(objects.reads(), 2);
        let found = text(&context, &greatest(dataset)).await?;
        assert_eq!(objects.reads(), 1, "the hash is known");
        let upper = if dataset == "some" { "THE THE THE" } else { "the the the" };
        let sql = greatest(dataset).replace(&format!("dataset = '{dataset}'"), &format!("text = '{upper}'"));
        assert_eq!(found, text(&context, &sql).await?);
        assert_ne!(found, before);
        // The change is known now when the query is planned.
        assert!(text(&context, &format!("EXPLAIN {}", greatest(dataset))).await?.contains("plan=full scan"));
        objects.reads();
    }
    Ok(())
}

/// A stream whose changes nobody knows.
#[derive(Debug)]
struct UnversionedTexts {
    schema: SchemaRef,
    reads: Arc<AtomicUsize>,
    newest: Arc<std::sync::Mutex<&'static str>>,
}

impl PartitionStream for UnversionedTexts {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let text = *self.newest.lock().expect("no test panics with it");
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), vec![Arc::new(StringArray::from(vec![text]))]);
        let batches = futures::stream::iter([batch.map_err(Into::into)]);
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

/// Checks that a stream is read for every query, and for none that is only planned.
#[tokio::main]
async fn streams() -> Result<(), Error> {
    let (reads, newest) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::Mutex::new("import numpy as np")));
    let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, false)]));
    let stream =
        UnversionedTexts { schema: Arc::clone(&schema), reads: Arc::clone(&reads), newest: Arc::clone(&newest) };
    let context = Engine::builder().build()?.session();
    context.register_table("live", Arc::new(StreamingTable::try_new(schema, vec![Arc::new(stream)])?))?;
    rows(&context, "SELECT * FROM analyze('toy', 'live')").await?;
    reads.store(0, Ordering::SeqCst);
    for _ in 0..3 {
        text(&context, &format!("EXPLAIN {}", greatest("live"))).await?;
    }
    assert_eq!(reads.load(Ordering::SeqCst), 0);
    let first = text(&context, &greatest("live")).await?;
    assert_eq!(reads.swap(0, Ordering::SeqCst), 1, "for its hash");
    *newest.lock().map_err(|e| e.to_string())? = "the the the";
    let second = text(&context, &greatest("live")).await?;
    assert_eq!(reads.swap(0, Ordering::SeqCst), 2, "for its hash and its text");
    assert_ne!(first, second);
    assert_eq!(second, text(&context, &greatest("live").replace("dataset = 'live'", "text = 'the the the'")).await?);
    Ok(())
}
