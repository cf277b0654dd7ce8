//! Registration of everything that neuroql adds to a session.

use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, TableProvider};
use datafusion::error::Result;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::SessionContext;
use neuroql_catalogs::{
    AggregatePushdown, Catalog, CheckParameterJoins, CheckTextFilters, CsvFactory, DdlRecordingFactory, EngineState,
    GuardAmbiguousFilters, ImportFactory, ImportFormat, KeepDeleteFilter, ModelFactory, N2gExport, Settings,
    TableFunctionPlanner, TimeSlices, TopKPushdown, bundled_corpus,
};
use neuroql_model::checkpoint::Checkpoint;
use neuroql_model::{Model, Options, Progress, Registry};
use neuroql_schema::sql_error;
use neuroql_store::{BundledAnalysis, BundledGraphs, Store};
use neuroql_udfs::AsyncCalls;

use crate::Engine;
use crate::aggregates_from_statistics::AggregatesFromStatistics;
use crate::cancellable_rule::stopping;
use crate::changed_rows::ChangedRows;
use crate::distinct_limits::DistinctLimits;

/// DataFusion's rule by which groups in an order with a limit are kept in a heap. It makes room for as many as the limit
/// says at once, so that `SELECT DISTINCT … ORDER BY … LIMIT 1000000000000` would end the process.
const TOP_K_AGGREGATION: &str = "LimitAggregation";

/// Registers neuroql in a session that a program made itself: [`EngineBuilder::register`](crate::EngineBuilder::register)
/// with nothing changed. Returns the registry of models, to which the program may add its own.
///
/// # Errors
/// If the session has no default catalog and will not take one.
pub fn register_all(context: &SessionContext) -> Result<Arc<Registry>> {
    Ok(Arc::clone(Engine::builder().register(context)?.registry()))
}

/// Returns the number of threads for forward passes if none is set: one a processor this process may use.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Creates an empty registry, and a store with the results of the bundled model.
pub(crate) fn new_state(threads: usize, store: Store, cache_bytes: u64, bundled: bool) -> Result<Arc<EngineState>> {
    let registry = Arc::new(Registry::new(threads).map_err(sql_error)?);
    let toy = neuroql_datasets::TOY;
    let analysis = BundledAnalysis {
        model: toy.name,
        dataset: "corpus",
        neurons: toy.analysis.neurons,
        bounds: toy.analysis.bounds,
        contexts: toy.analysis.contexts,
    };
    let mut store = store;
    if bundled {
        store = store.with_bundled(analysis);
        if let Some(graphs) = toy.graphs {
            store = store.with_bundled_graphs(BundledGraphs { model: toy.name, graphs });
        }
    }
    Ok(Arc::new(EngineState::new(registry, store, cache_bytes)?))
}

/// Registers functions, tables and statements over a registry.
pub(crate) fn register(
    context: &SessionContext,
    state: &Arc<EngineState>,
    progress: Arc<dyn Progress>,
) -> Result<ModelFactory> {
    crate::postgres::register(context)?;
    for function in neuroql_udfs::all(&state.registry) {
        context.register_udf(function);
    }
    for aggregate in neuroql_udfs::aggregates() {
        context.register_udaf(aggregate);
    }
    crate::postgres::sizes::register(context)?;
    context.state_ref().write().config_mut().options_mut().extensions.insert(Settings::default());
    let (catalog, schema) = {
        let state = context.state_ref();
        let state = state.read();
        let options = &state.config_options().catalog;
        (options.default_catalog.clone(), options.default_schema.clone())
    };
    let inner = context.catalog(&catalog).unwrap_or_else(|| Arc::new(MemoryCatalogProvider::new()));
    if inner.schema(&schema).is_none() {
        inner.register_schema(&schema, Arc::new(MemorySchemaProvider::new()))?;
    }
    let wrapped: Arc<dyn CatalogProvider> = Arc::new(Catalog::new(inner, Arc::clone(state), &schema));
    context.register_catalog(catalog, wrapped);
    context.register_relation_planner(Arc::new(TableFunctionPlanner))?;
    let factory = ModelFactory::new(Arc::clone(state), progress);
    let engine = Arc::clone(state);
    let state = context.state_ref();
    let mut rules = GuardAmbiguousFilters::rules(state.read().physical_optimizers());
    rules.retain(|rule| rule.name() != TOP_K_AGGREGATION);
    AggregatesFromStatistics::among(&mut rules);
    let with_rule = SessionStateBuilder::new_from_existing(state.read().clone())
        .with_physical_optimizer_rules(rules)
        .with_analyzer_rule(Arc::new(KeepDeleteFilter))
        .with_optimizer_rule(Arc::new(AsyncCalls))
        .with_optimizer_rule(Arc::new(CheckParameterJoins))
        .with_optimizer_rule(Arc::new(ChangedRows))
        .with_physical_optimizer_rule(Arc::new(AggregatePushdown))
        .with_physical_optimizer_rule(Arc::new(TopKPushdown))
        .with_physical_optimizer_rule(Arc::new(TimeSlices))
        .with_physical_optimizer_rule(Arc::new(DistinctLimits));
    *state.write() = with_rule.build();
    let csv = state.read().get_file_format_factory("csv");
    if let Some(csv) = csv {
        state.write().register_file_format(Arc::new(CsvFactory(csv)), true)?;
    }
    state.write().register_file_format(Arc::new(N2gExport), true)?;
    let planner = Arc::clone(state.read().query_planner());
    let planned = SessionStateBuilder::new_from_existing(state.read().clone());
    *state.write() = planned.with_query_planner(Arc::new(CheckTextFilters(planner))).build();
    let planned = state.read().clone();
    *state.write() = stopping(planned);
    for format in ImportFormat::ALL {
        let factory = ImportFactory::new(Arc::clone(&engine), format);
        state.write().table_factories_mut().insert(format.file_type().to_owned(), Arc::new(factory));
    }
    for factory in state.write().table_factories_mut().values_mut() {
        *factory = Arc::new(DdlRecordingFactory(Arc::clone(factory)));
    }
    state.write().table_factories_mut().insert(ModelFactory::FILE_TYPE.to_owned(), Arc::new(factory.clone()));
    Ok(factory)
}

/// Registers the bundled model and its corpus.
pub(crate) fn register_bundled(context: &SessionContext, registry: &Registry) -> Result<()> {
    let bundle = neuroql_datasets::TOY;
    let checkpoint = Checkpoint::from_bytes(bundle.config, bundle.weights, bundle.tokenizer).map_err(sql_error)?;
    let model = Model::from_checkpoint(bundle.name, "bundled", checkpoint, &Options::default()).map_err(sql_error)?;
    registry.insert(Arc::new(model)).map_err(sql_error)?;
    let corpus: Arc<dyn TableProvider> = bundled_corpus()?;
    context.register_table("corpus", corpus)?;
    Ok(())
}
