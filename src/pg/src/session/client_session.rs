//! One connection's session: its context, user, settings, limits and transaction.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{LogicalPlan, SetVariable, Statement as PlanStatement};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast;
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use datafusion_postgres::pgwire::messages::startup::ParameterStatus;
use neuroql::{DateStyle, MomentTypes};
use neuroql_access::User;
use tokio::sync::OwnedSemaphorePermit;

use crate::catalog::backends;
use crate::catalog::functions;
use crate::catalog::object_functions;
use crate::catalog::objects::Objects;
use crate::catalog::sequences::SequenceAccess;
use crate::catalog::session_tables::{ListedCursor, ListedStatement, SessionLists};
use crate::catalog::{notify_functions, value_functions};
use crate::session::on_commit::OnCommitTables;
use crate::session::result_stream::isolated;
use crate::session::server_state::ServerState;
use crate::session::settings::{REPORTED, Settings, Timeouts};
use crate::session::statement::{PlanVersion, Portal, PreparedStatement};
use crate::session::temporary_tables::TemporaryTables;
use crate::session::transaction::Transaction;
use crate::session::user_limits::UserResources;
use crate::wire::encodings::SharedEncoding;
use crate::wire::error_response::SqlError;
use crate::wire::interrupt::{TimeLimit, transaction_timeout};

/// The state of one connection.
pub(crate) struct Session {
    pub(crate) base: Arc<ServerState>,
    pub(crate) context: SessionContext,
    pub(super) temporary: TemporaryTables,
    pub(super) on_commit: OnCommitTables,
    pub(crate) user: User,
    pub(crate) client: SocketAddr,
    /// Encoding of the client's texts.
    pub(crate) encoding: SharedEncoding,
    resources: Arc<UserResources>,
    pub(crate) objects: Arc<Objects>,
    pub(super) sequences: SequenceAccess,
    settings: Arc<Mutex<Settings>>,
    /// Number of changes of settings that a plan may depend on.
    pub(super) settings_version: u64,
    pub(crate) status: TransactionStatus,
    /// Time when the transaction began, if there is one.
    pub(super) began: Option<Instant>,
    pub(crate) transaction: Transaction,
    /// True if something was changed in this transaction that ROLLBACK will not undo.
    pub(super) wrote: bool,
    pub(crate) prepared: HashMap<String, Arc<PreparedStatement>>,
    pub(crate) portals: HashMap<String, Portal>,
    /// Names of prepared statements and portals without a statement in them.
    pub(crate) empty: HashSet<String>,
    pub(crate) empty_portals: HashSet<String>,
    /// Messages to send before the statement completes.
    pub(crate) notices: Vec<PgWireBackendMessage>,
    reported: HashMap<&'static str, String>,
    schema: String,
    time_zone: String,
    date_style: DateStyle,
    lists: Arc<SessionLists>,
}

impl Session {
    /// Creates the session of a user, whose client is at an address.
    ///
    /// # Errors
    /// If the user's share of the memory cannot be set up.
    pub(crate) fn new(
        base: Arc<ServerState>,
        user: User,
        client: SocketAddr,
        pid: i32,
        timeouts: &Timeouts,
    ) -> Result<Self, DataFusionError> {
        let mut config = base.state().config().clone();
        config.set_extension(Arc::new(user.clone()));
        // pg_settings reads them.
        let settings = Arc::new(Mutex::new(Settings::new(&user, timeouts)));
        config.set_extension(Arc::clone(&settings));
        let lists = Arc::new(SessionLists::default());
        config.set_extension(Arc::clone(&lists));
        config.options_mut().extensions.insert(base.permissions.rights(&user));
        let resources = base.resources.of(&user, base.state().runtime_env())?;
        let runtime = resources.runtime.as_ref().unwrap_or(base.state().runtime_env());
        let temporary = TemporaryTables::default();
        let catalogs = {
            let defaults = &base.state().config_options().catalog;
            let server = Arc::clone(base.state().catalog_list());
            temporary.over(server, &defaults.default_catalog, &defaults.default_schema)
        };
        let mut builder = SessionStateBuilder::new_from_existing(base.state().clone());
        let types = MomentTypes::before(builder.type_planner().take());
        let state = builder
            .with_session_id(format!("pg-{pid}"))
            .with_config(config)
            .with_catalog_list(catalogs)
            .with_runtime_env(Arc::clone(runtime))
            .with_type_planner(Arc::new(types.clone()))
            .build();
        let context = SessionContext::new_with_state(state);
        types.follow(&context);
        let objects = Arc::new(Objects::new(Arc::clone(&base.functions)));
        let sequences = {
            let state = context.state();
            let (catalogs, server) = (state.catalog_list(), base.state().catalog_list());
            let catalog = &state.config_options().catalog.default_catalog;
            SequenceAccess::new(catalogs, server, catalog, &objects, &base.permissions.users, &user, &settings)
        };
        context.state_ref().write().config_mut().options_mut().extensions.insert(sequences.clone());
        functions::register_session(&context, &settings, &user, pid);
        backends::register(&context, base.registry(), &user);
        object_functions::register(&context, &objects);
        let transaction = Transaction::new(&base.locks, &base.listeners, &context, pid);
        notify_functions::register(&context, &transaction.notifications);
        value_functions::register_session(&context, &settings, &transaction.number);
        Ok(Self {
            base,
            context,
            temporary,
            on_commit: OnCommitTables::default(),
            user,
            client,
            encoding: SharedEncoding::default(),
            resources,
            objects,
            sequences,
            settings,
            settings_version: 0,
            status: TransactionStatus::Idle,
            began: None,
            transaction,
            wrote: false,
            prepared: HashMap::new(),
            portals: HashMap::new(),
            empty: HashSet::new(),
            empty_portals: HashSet::new(),
            notices: Vec::new(),
            reported: HashMap::new(),
            schema: String::new(),
            time_zone: "UTC".into(),
            date_style: DateStyle::default(),
            lists,
        })
    }

    /// Waits until the user may run one more statement; the place is taken until the permit is dropped. A transaction that
    /// holds tables does not wait, because others may wait for them.
    pub(crate) async fn take_place(&self, prepared: &PreparedStatement) -> Option<OwnedSemaphorePermit> {
        let statements = self.resources.statements.as_ref()?;
        use ast::Statement::{CreateIndex, Execute, Fetch, Vacuum};
        // REFRESH is a VACUUM here.
        let executes = matches!(prepared.sql(), Some(Execute { .. } | Fetch { .. } | CreateIndex(_) | Vacuum(_)));
        if self.transaction.holds_tables() || !(prepared.plan.is_some() || executes) {
            return None;
        }
        Arc::clone(statements).acquire_owned().await.ok()
    }

    pub(crate) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time that the next statement may run.
    pub(crate) fn time_limit(&self) -> TimeLimit {
        let statement = self.settings().statement_timeout();
        TimeLimit { statement, transaction: self.left_of_transaction() }
    }

    /// Returns the time that the client may say nothing, and what makes the error that it gets then.
    pub(crate) fn idle_limit(&self) -> (Option<Duration>, fn() -> SqlError) {
        if self.status == TransactionStatus::Idle {
            let error = || SqlError::fatal("57P05", "terminating connection due to idle-session timeout");
            return (self.settings().timeout("idle_session_timeout"), error);
        }
        let idle = self.settings().timeout("idle_in_transaction_session_timeout");
        match (idle, self.left_of_transaction()) {
            (Some(idle), left) if left.is_none_or(|left| idle <= left) => {
                (Some(idle), || SqlError::fatal("25P03", "terminating connection due to idle-in-transaction timeout"))
            }
            (_, left) => (left, transaction_timeout),
        }
    }

    fn left_of_transaction(&self) -> Option<Duration> {
        let began = self.began?;
        let limit = self.settings().timeout("transaction_timeout")?;
        Some(limit.saturating_sub(began.elapsed()))
    }

    /// Takes bytes of the memory, until the reservation is dropped. `what` holds them, for messages.
    ///
    /// # Errors
    /// 53200 if there are not so many left.
    pub(crate) fn reserve(&self, what: &'static str, bytes: usize) -> Result<MemoryReservation, SqlError> {
        let reservation = MemoryConsumer::new(what).register(&self.context.runtime_env().memory_pool);
        reservation.try_grow(bytes)?;
        Ok(reservation)
    }

    /// Returns the time zone.
    pub(crate) fn zone(&self) -> String {
        zone_of(&self.settings())
    }

    pub(super) fn version(&self) -> PlanVersion {
        let catalog = self.base.catalog_version.load(Ordering::Acquire);
        (catalog, self.settings_version, self.base.permissions.users.generation())
    }

    /// Returns the catalog and the schema of names without one.
    pub(super) fn defaults(&self) -> (String, String) {
        let state = self.context.state_ref();
        let state = state.read();
        let defaults = &state.config_options().catalog;
        (defaults.default_catalog.clone(), defaults.default_schema.clone())
    }

    /// Returns true if there is a schema of this name.
    pub(super) fn catalog_has_schema(&self, name: &str) -> bool {
        let (catalog, _) = self.defaults();
        self.context.catalog(&catalog).is_some_and(|catalog| catalog.schema(name).is_some())
    }

    /// Refuses a plan that the user may not run now: the transaction may have become read-only, and privileges may have
    /// been revoked, since it was made.
    pub(super) async fn check(&self, plan: &LogicalPlan) -> Result<(), SqlError> {
        let read_only = self.settings().read_only();
        if self.user.is_superuser() || !matches!(plan, LogicalPlan::Ddl(_)) {
            return Ok(self.base.permissions.check(plan, &self.user, read_only, &self.context)?);
        }
        // The folders of a location are read for it.
        let (permissions, plan) = (Arc::clone(&self.base.permissions), plan.clone());
        let (user, context) = (self.user.clone(), self.context.clone());
        isolated(async move { permissions.check(&plan, &user, read_only, &context) }).await
    }

    /// Sets one of DataFusion's settings, for this session only.
    pub(super) async fn set_engine(&mut self, name: &str, value: String) -> Result<(), SqlError> {
        let set = PlanStatement::SetVariable(SetVariable { variable: name.to_string(), value });
        let plan = LogicalPlan::Statement(set);
        self.check(&plan).await?;
        self.apply_engine(plan).await
    }

    /// Sets one of DataFusion's settings for a setting of Postgres that the user may change.
    async fn follow(&mut self, name: &str, value: String) -> Result<(), SqlError> {
        let set = PlanStatement::SetVariable(SetVariable { variable: name.to_string(), value });
        self.apply_engine(LogicalPlan::Statement(set)).await
    }

    async fn apply_engine(&mut self, plan: LogicalPlan) -> Result<(), SqlError> {
        self.settings_version += 1;
        let context = self.context.clone();
        isolated(async move { context.execute_logical_plan(plan).await.map(drop) }).await
    }

    /// Applies changed settings, and reports to the client those that it must know.
    pub(crate) async fn synchronize(&mut self) -> Result<(), SqlError> {
        let (path, zone, style, encoding, reports) = {
            let mut settings = self.settings();
            if !settings.changed {
                return Ok(());
            }
            settings.changed = false;
            let zone = settings.zone();
            let reports: Vec<_> =
                REPORTED.iter().filter_map(|name| settings.get(name).map(|(_, value)| (*name, value))).collect();
            (settings.search_path(), zone, settings.date_style(), settings.encoding(), reports)
        };
        self.encoding.set(encoding);
        for (name, value) in reports {
            if self.reported.get(name) != Some(&value) {
                self.notices
                    .push(PgWireBackendMessage::ParameterStatus(ParameterStatus::new(name.into(), value.clone())));
                self.reported.insert(name, value);
            }
        }
        let (catalog, _) = self.defaults();
        let schemas = self.context.catalog(&catalog).map(|catalog| catalog.schema_names()).unwrap_or_default();
        let schema = path.into_iter().find(|name| schemas.contains(name)).unwrap_or_else(|| "public".into());
        if schema != self.schema {
            self.follow("datafusion.catalog.default_schema", schema.clone()).await?;
            functions::register_current_schema(&self.context, &schema);
            self.temporary.set_default_schema(&schema);
            self.schema = schema;
        }
        if zone != self.time_zone {
            self.follow("datafusion.execution.time_zone", zone.clone()).await?;
            self.time_zone = zone;
        }
        if style != self.date_style {
            self.settings_version += 1;
            self.context.state_ref().write().config_mut().options_mut().extensions.insert(style.clone());
            self.date_style = style;
        }
        Ok(())
    }

    /// Makes [`Session::synchronize`] apply schema, time zone and style of dates again.
    pub(super) fn forget_applied(&mut self) {
        self.schema.clear();
        self.time_zone.clear();
        self.date_style = DateStyle::default();
    }

    /// Lists the statements and cursors that there are now, for `pg_prepared_statements` and `pg_cursors`.
    pub(super) fn list(&self) {
        let statements = self.prepared.iter().filter(|(name, _)| !name.is_empty()).map(|(name, prepared)| {
            let (parameters, text) = (&prepared.parameters, Arc::clone(&prepared.parsed.text));
            ListedStatement {
                name: name.clone(),
                text,
                made: prepared.made,
                parameters: parameters.iter().map(|parameter| parameter.wire.oid()).collect(),
                from_sql: prepared.from_sql,
                plans: prepared.plans.counts(),
            }
        });
        let cursors = self.portals.iter().map(|(name, portal)| ListedCursor {
            name: name.clone(),
            text: Arc::clone(&portal.prepared.parsed.text),
            is_held: portal.held,
            scrolls: portal.scroll.is_some(),
            made: portal.made,
        });
        self.lists.replace(statements.collect(), cursors.collect());
    }

    /// Fails the transaction after an error in it.
    pub(crate) fn failed(&mut self) {
        if self.status == TransactionStatus::Idle && self.transaction.roll_back() {
            self.base.catalog_changed();
        }
        self.status = self.status.to_error_state();
    }

    /// Closes the portals that end with their transaction.
    pub(crate) fn close_portals(&mut self) {
        self.portals.retain(|_, portal| portal.held);
    }
}

pub(super) fn zone_of(settings: &Settings) -> String {
    settings.zone()
}

pub(crate) fn in_failed_transaction() -> SqlError {
    SqlError::error("25P02", "current transaction is aborted, commands ignored until end of transaction block")
}
