//! The engine: models, catalog, functions and memory, shared by all sessions.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::cache::cache_manager::{
    DEFAULT_FILE_STATISTICS_MEMORY_LIMIT, DEFAULT_LIST_FILES_CACHE_MEMORY_LIMIT, DEFAULT_METADATA_CACHE_LIMIT,
};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use neuroql_catalogs::{EngineState, ModelFactory};
use neuroql_model::{Options, Progress, Registry};
use neuroql_schema::sql_error;
use neuroql_store::Store;

use crate::postgres::MomentTypes;
use crate::register::{new_state, register, register_bundled, threads};

/// Consumers of memory that an error about too little of it names.
const NAMED_CONSUMERS: std::num::NonZeroUsize = std::num::NonZeroUsize::MIN.saturating_add(2);

/// Models, catalog, functions and memory, shared by all sessions; clones are the same engine.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<EngineInner>,
}

#[derive(Debug)]
struct EngineInner {
    base: SessionState,
    state: Arc<EngineState>,
    factory: ModelFactory,
}

impl Engine {
    /// Returns a builder of an engine with the bundled model.
    pub fn builder() -> EngineBuilder {
        EngineBuilder { memory_limit: None, threads: threads(), bundled: true, progress: Arc::new(()), store: None }
    }

    /// Creates a session: settings and prepared statements are private to it; tables, models and memory are shared.
    pub fn session(&self) -> SessionContext {
        let mut builder = SessionStateBuilder::new_from_existing(self.shared.base.clone());
        let types = MomentTypes::before(builder.type_planner().take());
        let id = format!("{:016x}", session_number());
        let state = builder.with_session_id(id).with_type_planner(Arc::new(types.clone())).build();
        let context = SessionContext::new_with_state(state);
        types.follow(&context);
        context
    }

    /// Loads a model and registers it, as `CREATE EXTERNAL TABLE name STORED AS MODEL LOCATION '…' OPTIONS (…)` does.
    ///
    /// # Errors
    /// An error that names the option, location or file that is wrong; see [`crate::sqlstate`].
    pub async fn register_model(&self, name: &str, location: &str, options: Options) -> Result<()> {
        self.shared.factory.load(name, location, options).await.map(drop)
    }

    /// Returns the registry of models.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.shared.state.registry
    }

    /// Returns true if a schema of this name is that of a model or of published data.
    pub fn is_model_schema(&self, name: &str) -> bool {
        self.shared.state.is_schema(name)
    }

    /// Returns the store of results.
    pub fn store(&self) -> &Arc<Store> {
        &self.shared.state.store
    }

    /// Loads the models that the store remembers and creates its external tables and views again.
    ///
    /// # Errors
    /// If the store cannot be read. A model, table or view that cannot be loaded or created is left out, with a warning in
    /// the log.
    pub async fn restore(&self) -> Result<()> {
        self.shared.factory.restore().await?;
        self.shared.state.restore_tables(&self.session()).await
    }

    /// Waits until the changes of earlier statements are in the store; DataFusion creates and drops tables without waiting.
    ///
    /// # Errors
    /// If it could not be written.
    pub async fn settle(&self) -> Result<()> {
        self.shared.state.settle().await
    }
}

/// Shares of a memory limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MemoryShares {
    /// Bytes of queries.
    queries: usize,
    /// Bytes of cached results of the store.
    results: u64,
    /// Bytes of cached metadata, statistics and listings of the files of datasets.
    metadata: usize,
    statistics: usize,
    lists: usize,
}

impl MemoryShares {
    /// Divisor of a limit that gives the part for caches,
    const CACHES: usize = 4;
    /// and divisor of that part that gives the part for files.
    const FILES: usize = 8;

    /// Divides a limit. No cache becomes larger than it would without a limit; the rest is for queries.
    fn within(limit: usize) -> Self {
        let caches = limit / Self::CACHES;
        let files = caches / Self::FILES;
        let results = ((caches - files) as u64).min(EngineState::CACHE_BYTES);
        let metadata = (files / 2).min(DEFAULT_METADATA_CACHE_LIMIT);
        let statistics = (files / 4).min(DEFAULT_FILE_STATISTICS_MEMORY_LIMIT);
        let lists = (files / 4).min(DEFAULT_LIST_FILES_CACHE_MEMORY_LIMIT);
        let queries = limit - results as usize - metadata - statistics - lists;
        Self { queries, results, metadata, statistics, lists }
    }
}

/// Returns a number that is distinct within the process.
fn session_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Options of an [`Engine`].
pub struct EngineBuilder {
    memory_limit: Option<usize>,
    threads: usize,
    bundled: bool,
    progress: Arc<dyn Progress>,
    store: Option<Store>,
}

impl EngineBuilder {
    /// Limits the bytes that all queries and caches together may hold: caches take a quarter of them at most. Operators
    /// that can spill to disk do, others fail with SQLSTATE 53200. Weights of models are not counted. Without a limit
    /// memory of queries is not accounted for, and caches take 3.6 GB at most.
    pub fn with_memory_limit(self, bytes: usize) -> Self {
        Self { memory_limit: Some(bytes), ..self }
    }

    /// Sets the number of threads that run forward passes and the partitions of a query; all processors if not given.
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads: threads.max(1), ..self }
    }

    /// Sets the receiver of the progress of downloads.
    pub fn with_progress(self, progress: Arc<dyn Progress>) -> Self {
        Self { progress, ..self }
    }

    /// Keeps results in this store; without one they end with the engine. Call [`Engine::restore`] for the models and
    /// tables it remembers.
    pub fn with_store(self, store: Store) -> Self {
        Self { store: Some(store), ..self }
    }

    /// Leaves out the bundled model and its corpus.
    pub fn without_bundled(self) -> Self {
        Self { bundled: false, ..self }
    }

    /// Builds the engine.
    ///
    /// # Errors
    /// If threads cannot be started.
    pub fn build(self) -> Result<Engine> {
        let config = SessionConfig::new()
            .with_information_schema(true)
            .with_target_partitions(self.threads)
            .with_default_catalog_and_schema("neuroql", "public")
            .set_str("datafusion.sql_parser.dialect", "PostgreSQL")
            // The strongest tokens of each neuron are a common question, and there are not too many neurons to keep heaps.
            .set_bool("datafusion.optimizer.enable_window_topn", true)
            // Files that are read in pieces would be cut within values.
            .set_bool("datafusion.catalog.newlines_in_values", true)
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false);
        let mut runtime = RuntimeEnvBuilder::new();
        let mut caches = EngineState::CACHE_BYTES;
        if let Some(bytes) = self.memory_limit {
            let shares = MemoryShares::within(bytes);
            caches = shares.results;
            let pool = TrackConsumersPool::new(FairSpillPool::new(shares.queries), NAMED_CONSUMERS);
            runtime = runtime
                .with_memory_pool(Arc::new(pool))
                .with_metadata_cache_limit(shares.metadata)
                .with_file_statistics_cache_limit(shares.statistics)
                .with_object_list_cache_limit(shares.lists);
        }
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_config(config)
            .with_runtime_env(runtime.build_arc()?)
            .build();
        self.register_with(&SessionContext::new_with_state(state), caches)
    }

    /// Builds the engine in a session that a program made itself: tables, functions, statements, rules of the planner
    /// and, unless left out, the bundled model. The session keeps its settings, its memory pool (the memory limit of
    /// this builder bounds caches only) and the tables it has; [`Engine::session`] gives others like it. Its default
    /// catalog is wrapped, so do this before handing it out.
    ///
    /// # Errors
    /// If threads cannot be started, or the session has no default catalog and will not take one.
    pub fn register(self, context: &SessionContext) -> Result<Engine> {
        let caches = self.memory_limit.map_or(EngineState::CACHE_BYTES, |bytes| MemoryShares::within(bytes).results);
        self.register_with(context, caches)
    }

    fn register_with(self, context: &SessionContext, cache_bytes: u64) -> Result<Engine> {
        let store = match self.store {
            Some(store) => store,
            None => Store::in_memory().map_err(sql_error)?,
        };
        let state = new_state(self.threads, store, cache_bytes, self.bundled)?;
        let factory = register(context, &state, self.progress)?;
        if self.bundled {
            register_bundled(context, &state.registry)?;
        }
        Ok(Engine { shared: Arc::new(EngineInner { base: context.state(), state, factory }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_shared_out() {
        for limit in [0, 1 << 20, 256 << 20, 4 << 30, 1 << 40] {
            let MemoryShares { queries, results, metadata, statistics, lists } = MemoryShares::within(limit);
            assert_eq!(queries + results as usize + metadata + statistics + lists, limit);
            assert!(queries >= limit - limit / 4 && results <= EngineState::CACHE_BYTES, "{limit}");
        }
        assert_eq!(MemoryShares::within(1 << 40).results, EngineState::CACHE_BYTES);
    }
}
