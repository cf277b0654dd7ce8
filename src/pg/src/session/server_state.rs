//! The state that the sessions of a server share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::catalog::CatalogProviderList;
use datafusion::common::ResolvedTableReference;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use neuroql_access::Permissions;
use tokio::sync::OwnedMutexGuard;

use crate::catalog;
use crate::catalog::functions;
use crate::catalog::objects::Functions;
use crate::session::notifications::Listeners;
use crate::session::transaction::TableLocks;
use crate::session::user_limits::AllUserResources;
use crate::sql::bpchar_types::BpcharTypes;
use crate::sql::json_values::JsonTypes;
use crate::sql::own_types::OwnTypes;
use crate::sql::parse::Parser;
use crate::sql::range_values::RangeTypes;
use crate::wire::interrupt::ConnectionRegistry;

/// State that the sessions of a server share.
pub(crate) struct ServerState {
    pub(super) engine: neuroql::Engine,
    state: SessionState,
    pub(super) parser: Arc<Parser>,
    pub(super) functions: Arc<Functions>,
    pub(crate) permissions: Arc<Permissions>,
    /// Number of changes of the catalog: a plan made before one is made again.
    pub(super) catalog_version: AtomicU64,
    pub(super) locks: Arc<TableLocks>,
    pub(super) listeners: Arc<Listeners>,
    /// Names of tables that are being created.
    names: Mutex<HashMap<ResolvedTableReference, Arc<tokio::sync::Mutex<()>>>>,
    pub(super) resources: AllUserResources,
    registry: Arc<ConnectionRegistry>,
}

impl ServerState {
    pub(crate) fn new(engine: &neuroql::Engine, permissions: Arc<Permissions>) -> Result<Self, DataFusionError> {
        let context = engine.session();
        // Times without a zone of their own are in that of the session, which is UTC until it is set.
        context.state_ref().write().config_mut().options_mut().set("datafusion.execution.time_zone", "UTC")?;
        let registry = Arc::default();
        let functions = catalog::register(&context, &permissions.users, &registry)?;
        functions::register_constant(&context);
        // pg-catalog has put its planner of types in the place of the engine's.
        let mut builder = SessionStateBuilder::new_from_existing(context.state());
        let theirs = builder.type_planner().take();
        let types = JsonTypes::before(neuroql::PostgresTypes::before(theirs));
        let types = OwnTypes::before(RangeTypes::before(BpcharTypes::before(types)));
        let types = neuroql::MomentTypes::before(Some(Arc::new(types)));
        *context.state_ref().write() = builder.with_type_planner(Arc::new(types)).build();
        Ok(Self {
            engine: engine.clone(),
            state: context.state(),
            parser: Arc::default(),
            functions,
            permissions,
            catalog_version: AtomicU64::new(0),
            locks: Arc::default(),
            listeners: Arc::default(),
            names: Mutex::default(),
            resources: AllUserResources::default(),
            registry,
        })
    }

    /// Counts a change of the catalog: plans that were made before are made again.
    pub(crate) fn catalog_changed(&self) {
        self.catalog_version.fetch_add(1, Ordering::AcqRel);
    }

    /// Holds the name of a table that is to be created, until the guard is dropped.
    pub(super) async fn hold_name(&self, name: &ResolvedTableReference) -> OwnedMutexGuard<()> {
        let own = {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.retain(|_, own| Arc::strong_count(own) > 1);
            Arc::clone(names.entry(name.clone()).or_default())
        };
        own.lock_owned().await
    }

    pub(crate) fn registry(&self) -> &Arc<ConnectionRegistry> {
        &self.registry
    }

    /// Returns the catalogs.
    pub(crate) fn catalogs(&self) -> &Arc<dyn CatalogProviderList> {
        self.state.catalog_list()
    }

    pub(super) fn state(&self) -> &SessionState {
        &self.state
    }
}
