//! State that all tables share: the models, and the store of results about them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::error::Result;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::prelude::SessionContext;
use neuroql_model::{Model, Registry};
use neuroql_pipeline::graphs::INDEX_BYTES;
use neuroql_pipeline::{Freshness, Resources};
use neuroql_schema::sql_error;
use neuroql_store::{AnalysedLayer, CACHE_BYTES, Definition, Store};
use tokio::task::JoinHandle;

use crate::Error;
use crate::imports::Imports;

/// Models and the store of results about them.
#[derive(Debug)]
pub struct EngineState {
    /// The models that are loaded.
    pub registry: Arc<Registry>,
    /// Data that others have published.
    pub(crate) imports: Imports,
    /// Registrations, statistics, examples, bounds and graphs.
    pub store: Arc<Store>,
    /// Models, store and fingerprints of datasets, for runs over documents.
    pub(crate) resources: Arc<Resources>,
    /// Tables and views that the store remembers, by name.
    defined: Mutex<BTreeMap<String, String>>,
    /// True while tables are created from definitions in the store.
    restoring: AtomicBool,
    /// The last write that a statement has begun and could not wait for; it waits for the writes before it.
    pending: Mutex<Option<JoinHandle<Result<()>>>>,
}

impl EngineState {
    /// Default limit of all caches, in bytes.
    pub const CACHE_BYTES: u64 = INDEX_BYTES + CACHE_BYTES;

    /// Combines models and store, with caches that take at most `cache_bytes` bytes.
    ///
    /// # Errors
    /// Returns an error if the caches of the store cannot be made.
    pub fn new(registry: Arc<Registry>, store: Store, cache_bytes: u64) -> Result<Self> {
        let indexes = (u128::from(cache_bytes) * u128::from(INDEX_BYTES) / u128::from(Self::CACHE_BYTES)) as u64;
        let indexes = indexes.min(INDEX_BYTES);
        let store = store.with_cache_bytes(cache_bytes.saturating_sub(indexes)).map_err(sql_error)?;
        let store = Arc::new(store);
        Ok(Self {
            resources: Arc::new(Resources::new(Arc::clone(&registry), Arc::clone(&store), indexes)),
            registry,
            imports: Imports::default(),
            store,
            defined: Mutex::default(),
            restoring: AtomicBool::new(false),
            pending: Mutex::default(),
        })
    }

    /// Returns true if a schema of this name is a model or published data.
    pub fn is_schema(&self, name: &str) -> bool {
        self.registry.get(name).is_ok() || self.imports.get(name).is_some()
    }

    /// Forgets the registration of a model.
    pub(crate) fn forget(&self, model: &str) {
        let (store, name) = (Arc::clone(&self.store), model.to_owned());
        self.write(model, async move { store.forget(&name).await });
    }

    /// Returns true if the store remembers how a table that is created now was created.
    pub(crate) fn keeps_definitions(&self) -> bool {
        !self.store.is_fleeting() && !self.restoring.load(Ordering::Relaxed)
    }

    /// Remembers how a table was created; `None` if it cannot be created again from a statement alone.
    pub(crate) fn define(&self, name: &str, sql: Option<&str>) {
        if !self.keeps_definitions() {
            return;
        }
        let mut defined = self.defined.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match sql {
            Some(sql) => defined.insert(name.into(), sql.into()),
            None => defined.remove(name),
        };
        drop(defined);
        if before.as_deref() == sql {
            return;
        }
        let (store, key) = (Arc::clone(&self.store), name.to_owned());
        let definition = sql.map(|sql| Definition { name: name.into(), sql: sql.into() });
        self.write(name, async move {
            match definition {
                Some(definition) => store.define(&definition).await,
                None => store.undefine(&key).await,
            }
        });
    }

    /// Creates the tables and views that the store remembers in a session, earliest first; one that cannot be created
    /// is left out, with a warning: its files or tables may come back.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub async fn restore_tables(&self, context: &SessionContext) -> Result<()> {
        let mut waiting = self.store.definitions().await.map_err(sql_error)?;
        let known = waiting.iter().map(|Definition { name, sql }| (name.clone(), sql.clone())).collect();
        *self.defined.lock().unwrap_or_else(PoisonError::into_inner) = known;
        let _restoring = RestoreGuard::begin(&self.restoring);
        // A table that a view needs may have been replaced since, and so be later in the list.
        loop {
            let before = waiting.len();
            let mut failed = Vec::new();
            for definition in waiting {
                match create(context, &definition.sql).await {
                    Ok(()) => {}
                    Err(error) => failed.push((definition, error)),
                }
            }
            if failed.is_empty() || failed.len() == before {
                failed.iter().for_each(|(definition, error)| {
                    tracing::warn!(table = definition.name, %error, "cannot be created again");
                });
                break;
            }
            waiting = failed.into_iter().map(|(definition, _)| definition).collect();
        }
        Ok(())
    }

    /// Runs a write in the background, after the writes begun before: DataFusion creates and drops tables without
    /// awaiting anything.
    fn write(&self, name: &str, write: impl Future<Output = neuroql_store::Result<()>> + Send + 'static) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            tracing::warn!(name, "created or dropped outside a runtime: the store does not know");
            return;
        };
        let mut last = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.take();
        *last = Some(runtime.spawn(async move {
            let before = match before {
                Some(before) => outcome(before).await,
                None => Ok(()),
            };
            before.and(write.await.map_err(sql_error))
        }));
    }

    /// Waits for the background writes of statements.
    ///
    /// # Errors
    /// Returns an error of the store.
    pub async fn settle(&self) -> Result<()> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner).take();
        match pending {
            Some(last) => outcome(last).await,
            None => Ok(()),
        }
    }

    /// Returns the layers of this version of the model that were analysed, finished or not, by dataset, whatever the
    /// dataset holds now.
    pub(crate) async fn analysed(&self, model: &Model) -> Result<BTreeMap<String, Vec<u32>>> {
        Ok(of_model(&self.store.analysed().await.map_err(sql_error)?, model))
    }
}

/// Returns the layers of this version of a model among those that were analysed, by dataset.
fn of_model(analysed: &[AnalysedLayer], model: &Model) -> BTreeMap<String, Vec<u32>> {
    let freshness = Freshness::of(model);
    let mut datasets: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for analysed in analysed {
        if analysed.model == model.name() && freshness.is_of_model(&analysed.progress) {
            datasets.entry(analysed.dataset.clone()).or_default().push(analysed.layer);
        }
    }
    datasets
}

/// Answer of [`EngineState::analysed`] for one model, kept as long as the store's own answer is the same.
#[derive(Debug, Default)]
pub(crate) struct AnalysedLayers(Mutex<Option<(Arc<Vec<AnalysedLayer>>, Datasets)>>);

/// Layers by dataset.
type Datasets = Arc<BTreeMap<String, Vec<u32>>>;

impl AnalysedLayers {
    /// Returns what [`EngineState::analysed`] does; the model must be the same each time.
    pub(crate) async fn of(&self, engine: &EngineState, model: &Model) -> Result<Datasets> {
        let all = engine.store.analysed().await.map_err(sql_error)?;
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, datasets)) = last.as_ref().filter(|(known, _)| Arc::ptr_eq(known, &all)) {
            debug_assert_eq!(**datasets, of_model(known, model));
            return Ok(Arc::clone(datasets));
        }
        let datasets = Arc::new(of_model(&all, model));
        *last = Some((all, Arc::clone(&datasets)));
        Ok(datasets)
    }
}

/// Waits for a write and those before it, and returns their result.
async fn outcome(write: JoinHandle<Result<()>>) -> Result<()> {
    write.await.unwrap_or_else(|e| Err(Error::Internal(format!("a write was lost: {e}")).into()))
}

/// Guard; while it lives, tables are created from definitions in the store.
struct RestoreGuard<'a>(&'a AtomicBool);

impl<'a> RestoreGuard<'a> {
    fn begin(flag: &'a AtomicBool) -> Self {
        flag.store(true, Ordering::Relaxed);
        Self(flag)
    }
}

impl Drop for RestoreGuard<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Runs a statement of the store's, if it creates a table or view and does nothing else.
async fn create(context: &SessionContext, sql: &str) -> Result<()> {
    let plan = context.state().create_logical_plan(sql).await?;
    let LogicalPlan::Ddl(DdlStatement::CreateExternalTable(_) | DdlStatement::CreateView(_)) = &plan else {
        return Err(Error::Internal(format!("the store has another statement than was written: {sql}")).into());
    };
    context.execute_logical_plan(plan).await.map(drop)
}
