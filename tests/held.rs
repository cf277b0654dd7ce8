//! Tests of readers beside a writer whose objects are slow: they wait for nobody, and see what was committed.

#![expect(clippy::print_stdout, reason = "a test says what it measured")]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use libtest_mimic::Trial;
use neuroql::{Engine, Store};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::analysis::{SMALL, everything, in_one_go};
use crate::answers::rows;
use crate::server::Error;
use crate::timing;

/// One trial.
pub fn trials() -> Vec<Trial> {
    vec![timing::test("held::readers_do_not_wait", || Ok(readers_do_not_wait()?))]
}

/// Number of look-ups beside each writer.
const LOOK_UPS: usize = 200;

/// Time far longer than any look-up takes; a reader that waits for the writer never ends.
const EVER: Duration = Duration::from_secs(60);

/// Objects in memory, of which those of one table are not written or deleted as long as somebody holds them.
#[derive(Debug)]
struct HeldObjects {
    objects: InMemory,
    held: watch::Sender<bool>,
    waiting: Arc<AtomicUsize>,
}

impl HeldObjects {
    fn new() -> Self {
        Self { objects: InMemory::new(), held: watch::Sender::new(false), waiting: Arc::default() }
    }

    async fn pass(location: &Path, mut held: watch::Receiver<bool>, waiting: Arc<AtomicUsize>) {
        if location.as_ref().starts_with("neurons/") {
            waiting.fetch_add(1, Ordering::SeqCst);
            // The sender lives as long as the store.
            let _ = held.wait_for(|held| !held).await;
            waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    async fn wait(&self, location: &Path) {
        Self::pass(location, self.held.subscribe(), Arc::clone(&self.waiting)).await;
    }

    /// Holds all writes until they are released.
    fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Returns when a write waits.
    async fn until_held(&self) -> Result<(), Error> {
        let start = Instant::now();
        while self.waiting.load(Ordering::SeqCst) == 0 {
            if start.elapsed() > EVER {
                return Err("nothing is written".into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    fn release(&self) {
        self.held.send_replace(false);
    }
}

impl fmt::Display for HeldObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

#[async_trait]
impl ObjectStore for HeldObjects {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.wait(location).await;
        self.objects.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.wait(location).await;
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.objects.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let (held, waiting) = (self.held.clone(), Arc::clone(&self.waiting));
        let locations = locations.then(move |location| {
            let (held, waiting) = (held.subscribe(), Arc::clone(&waiting));
            async move {
                if let Ok(location) = &location {
                    Self::pass(location, held, waiting).await;
                }
                location
            }
        });
        self.objects.delete_stream(locations.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.wait(to).await;
        self.objects.copy_opts(from, to, options).await
    }
}

/// Checks that readers do not wait while an analysis commits, and while files are vacuumed.
#[tokio::main]
async fn readers_do_not_wait() -> Result<(), Error> {
    let objects = Arc::new(HeldObjects::new());
    let store = Store::over(Arc::clone(&objects) as Arc<dyn ObjectStore>).await?;
    let engine = Engine::builder().with_store(store).build()?;
    let context = engine.session();
    rows(&context, SMALL).await?;
    rows(&context, "SELECT * FROM analyze(model => 'toy', dataset => 'small', documents => 5)").await?;
    let look_up = "SELECT neuron, tokens, max_activation FROM toy.neurons WHERE dataset = 'small' AND layer = 1 \
                   AND neuron IN (3, 5, 17) ORDER BY neuron";
    for what in ["analysis", "vacuum"] {
        let before = rows(&context, look_up).await?;
        objects.hold();
        let (session, store) = (engine.session(), Arc::clone(engine.store()));
        let writer = tokio::spawn(async move {
            match what {
                "analysis" => {
                    rows(&session, "SELECT * FROM analyze(model => 'toy', dataset => 'small')").await.map(drop)
                }
                _ => store.vacuum(Some(Duration::ZERO)).await.map(drop).map_err(Error::from),
            }
        });
        objects.until_held().await?;
        let mut times = Vec::with_capacity(LOOK_UPS);
        for i in 0..LOOK_UPS {
            if i == LOOK_UPS / 2 {
                // By now readers look for commits of other processes.
                tokio::time::sleep(Duration::from_millis(1100)).await;
            }
            let start = Instant::now();
            let found =
                timeout(EVER, rows(&context, look_up)).await.map_err(|_| format!("a reader waits for {what}"))??;
            times.push(start.elapsed());
            assert_eq!(found, before, "beside {what}");
        }
        assert!(!writer.is_finished(), "{what} was held");
        times.sort_unstable();
        println!(
            "look-ups while {what} is held: median {:?}, p99 {:?}, longest {:?}",
            times[LOOK_UPS / 2],
            times[LOOK_UPS * 99 / 100],
            times[LOOK_UPS - 1]
        );
        objects.release();
        timeout(EVER, writer).await???;
        let after = rows(&context, look_up).await?;
        assert_eq!(after == before, what == "vacuum", "readers see what was committed at once");
    }
    assert_eq!(everything(&context).await?, in_one_go().await?);
    Ok(())
}
