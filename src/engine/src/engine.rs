//! The engine: what all sessions share.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use neuroql_catalogs::ModelFactory;
use neuroql_model::{Progress, Registry};

use crate::register::{external, register, register_bundled, threads};

/// Consumers of memory that an error about too little of it names.
const NAMED_CONSUMERS: std::num::NonZeroUsize = std::num::NonZeroUsize::MIN.saturating_add(2);

/// Models, catalog, functions and memory, shared by all sessions; clones are the same engine.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    base: SessionState,
    registry: Arc<Registry>,
    factory: ModelFactory,
}

impl Engine {
    /// An engine with the bundled model, to be changed by the builder's methods.
    pub fn builder() -> EngineBuilder {
        EngineBuilder { memory_limit: None, threads: threads(), bundled: true, progress: Arc::new(()) }
    }

    /// A session of its own: settings and prepared statements are private to it; tables, models and memory are shared.
    pub fn session(&self) -> SessionContext {
        let base = self.shared.base.clone();
        let id = format!("{:016x}", session_number());
        SessionContext::new_with_state(SessionStateBuilder::new_from_existing(base).with_session_id(id).build())
    }

    /// Loads a model and registers it, as `CREATE EXTERNAL TABLE name STORED AS MODEL LOCATION '…' OPTIONS (…)` does.
    ///
    /// # Errors
    /// What is wrong with the name, the location, the files or the options; see [`crate::sqlstate`].
    pub async fn register_model(&self, name: &str, location: &str, options: HashMap<String, String>) -> Result<()> {
        self.shared.factory.load(name, location, &options).await.map(drop)
    }

    /// The models.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.shared.registry
    }
}

/// Distinct within the process.
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
}

impl EngineBuilder {
    /// Bytes that all queries together may hold; what can spill to disk does, what cannot fails with SQLSTATE 53200.
    /// Weights of models are not counted. Without a limit memory is not accounted for.
    pub fn with_memory_limit(self, bytes: usize) -> Self {
        Self { memory_limit: Some(bytes), ..self }
    }

    /// Threads that run forward passes and the partitions of a query; all processors if not given.
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads: threads.max(1), ..self }
    }

    /// Told about downloads.
    pub fn with_progress(self, progress: Arc<dyn Progress>) -> Self {
        Self { progress, ..self }
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
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false);
        let mut runtime = RuntimeEnvBuilder::new();
        if let Some(bytes) = self.memory_limit {
            let pool = TrackConsumersPool::new(FairSpillPool::new(bytes), NAMED_CONSUMERS);
            runtime = runtime.with_memory_pool(Arc::new(pool));
        }
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_config(config)
            .with_runtime_env(runtime.build_arc()?)
            .build();
        let context = SessionContext::new_with_state(state);
        let registry = Arc::new(Registry::new(self.threads).map_err(external)?);
        let factory = register(&context, &registry, self.progress)?;
        if self.bundled {
            register_bundled(&context, &registry)?;
        }
        Ok(Engine { shared: Arc::new(Shared { base: context.state(), registry, factory }) })
    }
}
