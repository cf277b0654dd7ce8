//! One connection's session: its DataFusion context, settings, transaction, prepared statements and portals.

pub(crate) mod commands;
mod concealed_paths;
mod constraints;
pub(crate) mod copy_in;
mod ddl;
mod explain;
mod grants;
pub(crate) mod plan_cache;
mod planner;
pub(crate) mod progress;
pub(crate) mod result_stream;
pub(crate) mod scroll;
pub(crate) mod set_show;
pub(crate) mod settings;
pub(crate) mod temporary_tables;
mod transaction;
mod user_limits;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::common::ResolvedTableReference;
use datafusion::datasource::source_as_provider;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{LogicalPlan, SetVariable, Statement as PlanStatement, WriteOp};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use datafusion_postgres::pgwire::messages::startup::ParameterStatus;
use neuroql::{CancelOnDrop, ReusablePlan, interruptible};

use crate::catalog;
use crate::catalog::backends;
use crate::catalog::functions;
use crate::catalog::object_functions;
use crate::catalog::objects::{Functions, Objects};
use crate::encode::column::Columns;
use crate::session::concealed_paths::without_files;
pub(crate) use crate::session::concealed_paths::without_locations;
use crate::session::plan_cache::{PlanCache, PlanCacheMode, PlanChoice, PlanGuard};
use crate::session::planner::Planner;
use crate::session::result_stream::{ResultRows, executed, isolated};
use crate::session::scroll::ScrollRows;
use crate::session::settings::{REPORTED, Settings, Timeouts};
use crate::session::temporary_tables::TemporaryTables;
use crate::session::transaction::{TableLocks, Transaction};
use crate::session::user_limits::{AllUserResources, UserResources};
use crate::sql::limits;
use crate::sql::parameters::{self, Parameter};
use crate::sql::parse::{ParsedStatement, Parser};
use crate::wire::error_response::{Failure, SqlError};
use crate::wire::interrupt::{ConnectionRegistry, TimeLimit, transaction_timeout};
use neuroql_access::{Permissions, User};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};

/// Greatest number of bytes of a query that is parsed without a task: a fraction of a millisecond.
const SHORT: usize = 1 << 10;

/// State that the sessions of a server share.
pub(crate) struct ServerState {
    engine: neuroql::Engine,
    state: SessionState,
    parser: Arc<Parser>,
    functions: Arc<Functions>,
    pub(crate) permissions: Arc<Permissions>,
    /// Number of changes of the catalog: a plan made before one is made again.
    catalog_version: AtomicU64,
    locks: Arc<TableLocks>,
    /// Names of tables that are being created.
    names: Mutex<HashMap<ResolvedTableReference, Arc<tokio::sync::Mutex<()>>>>,
    resources: AllUserResources,
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
        let types = neuroql::PostgresTypes::before(theirs);
        *context.state_ref().write() = builder.with_type_planner(Arc::new(types)).build();
        Ok(Self {
            engine: engine.clone(),
            state: context.state(),
            parser: Arc::default(),
            functions,
            permissions,
            catalog_version: AtomicU64::new(0),
            locks: Arc::default(),
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
    async fn hold_name(&self, name: &ResolvedTableReference) -> OwnedMutexGuard<()> {
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

    pub(crate) fn state(&self) -> &SessionState {
        &self.state
    }
}

/// Numbers of changes, of the catalog, of a session's settings and of privileges: a plan is of those before it.
pub(crate) type PlanVersion = (u64, u64, u64);

/// A statement that can be run, any number of times.
pub(crate) struct PreparedStatement {
    pub(crate) parsed: ParsedStatement,
    /// Plan; `None` for a statement about the session itself.
    pub(crate) plan: Option<LogicalPlan>,
    pub(crate) parameters: Vec<Parameter>,
    /// Columns of the result; `None` for a statement without a result.
    pub(crate) columns: Option<Arc<Columns>>,
    version: PlanVersion,
    pub(crate) plans: PlanCache,
    /// Memory that the statement holds.
    _memory: MemoryReservation,
}

impl PreparedStatement {
    /// Returns the columns that a client is told of: those of a COPY come with its data.
    pub(crate) fn described(&self) -> Option<&Arc<Columns>> {
        self.columns.as_ref().filter(|_| self.parsed.copy.is_none())
    }

    /// Returns the statement of SQL, unless it is one of DataFusion's own.
    pub(crate) fn sql(&self) -> Option<&ast::Statement> {
        self.parsed.statement_in_sql()
    }
}

/// A prepared statement with its parameters, perhaps half-way through its rows.
pub(crate) struct Portal {
    pub(crate) prepared: Arc<PreparedStatement>,
    pub(crate) values: Vec<ScalarValue>,
    pub(crate) format: Format,
    pub(crate) running: Option<(ResultRows, CommandTag)>,
    /// The rows of a scroll cursor.
    pub(crate) scroll: Option<ScrollRows>,
    /// True for `DECLARE … WITH HOLD`: the portal survives its transaction.
    pub(crate) held: bool,
    /// Memory that the portal holds, if it is counted.
    pub(crate) _memory: Option<MemoryReservation>,
}

/// The command tag of a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommandTag {
    pub(crate) verb: &'static str,
    /// True if the number of rows follows.
    pub(crate) counted: bool,
}

impl CommandTag {
    pub(crate) const SELECT: Self = Self { verb: "SELECT", counted: true };
    pub(crate) const FETCH: Self = Self { verb: "FETCH", counted: true };
    pub(crate) const SHOW: Self = Self { verb: "SHOW", counted: false };
    pub(crate) const EXPLAIN: Self = Self { verb: "EXPLAIN", counted: false };

    pub(crate) fn spell(self, rows: usize) -> String {
        if self.counted { format!("{} {rows}", self.verb) } else { self.verb.into() }
    }
}

/// The outcome of a statement.
pub(crate) enum Outcome {
    Rows(ResultRows, CommandTag),
    Done(String),
}

impl Outcome {
    pub(crate) fn done(tag: &str) -> Self {
        Self::Done(tag.into())
    }
}

/// The state of one connection.
pub(crate) struct Session {
    pub(crate) base: Arc<ServerState>,
    pub(crate) context: SessionContext,
    pub(crate) temporary: TemporaryTables,
    pub(crate) user: User,
    pub(crate) client: SocketAddr,
    resources: Arc<UserResources>,
    pub(crate) objects: Arc<Objects>,
    settings: Arc<Mutex<Settings>>,
    /// Number of changes of settings that a plan may depend on.
    pub(crate) settings_version: u64,
    pub(crate) status: TransactionStatus,
    /// Time when the transaction began, if there is one.
    pub(crate) began: Option<Instant>,
    pub(crate) transaction: Transaction,
    /// True if something was changed in this transaction that ROLLBACK will not undo.
    pub(crate) wrote: bool,
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
        let mut config = base.state.config().clone();
        config.set_extension(Arc::new(user.clone()));
        // pg_settings reads them.
        let settings = Arc::new(Mutex::new(Settings::new(&user, timeouts)));
        config.set_extension(Arc::clone(&settings));
        config.options_mut().extensions.insert(base.permissions.rights(&user));
        let resources = base.resources.of(&user, base.state.runtime_env())?;
        let runtime = resources.runtime.as_ref().unwrap_or(base.state.runtime_env());
        let temporary = TemporaryTables::default();
        let catalogs = {
            let defaults = &base.state.config_options().catalog;
            let server = Arc::clone(base.state.catalog_list());
            temporary.over(server, &defaults.default_catalog, &defaults.default_schema)
        };
        let state = SessionStateBuilder::new_from_existing(base.state.clone())
            .with_session_id(format!("pg-{pid}"))
            .with_config(config)
            .with_catalog_list(catalogs)
            .with_runtime_env(Arc::clone(runtime))
            .build();
        let context = SessionContext::new_with_state(state);
        functions::register_session(&context, &settings, &user, pid);
        backends::register(&context, base.registry(), &user);
        let objects = Arc::new(Objects::new(Arc::clone(&base.functions)));
        object_functions::register(&context, &objects);
        let transaction = Transaction::new(&base.locks, &context, pid);
        Ok(Self {
            base,
            context,
            temporary,
            user,
            client,
            resources,
            objects,
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
        })
    }

    /// Waits until the user may run one more statement; the place is taken until the permit is dropped. A transaction that
    /// holds tables does not wait, because others may wait for them.
    pub(crate) async fn take_place(&self, prepared: &PreparedStatement) -> Option<OwnedSemaphorePermit> {
        let statements = self.resources.statements.as_ref()?;
        let executes = matches!(prepared.sql(), Some(ast::Statement::Execute { .. } | ast::Statement::Fetch { .. }));
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

    /// Returns the time that the client may say nothing, and the error that it gets then.
    pub(crate) fn idle_limit(&self) -> (Option<Duration>, SqlError) {
        if self.status == TransactionStatus::Idle {
            let error = SqlError::fatal("57P05", "terminating connection due to idle-session timeout");
            return (self.settings().timeout("idle_session_timeout"), error);
        }
        let idle = self.settings().timeout("idle_in_transaction_session_timeout");
        match (idle, self.left_of_transaction()) {
            (Some(idle), left) if left.is_none_or(|left| idle <= left) => {
                let message = "terminating connection due to idle-in-transaction timeout";
                (Some(idle), SqlError::fatal("25P03", message))
            }
            (_, left) => (left, transaction_timeout()),
        }
    }

    fn left_of_transaction(&self) -> Option<Duration> {
        let began = self.began?;
        let limit = self.settings().timeout("transaction_timeout")?;
        Some(limit.saturating_sub(began.elapsed()))
    }

    /// Splits a query into statements. A long query is parsed in a task of its own, because others wait meanwhile.
    pub(crate) async fn parse(&self, query: String) -> Result<Vec<ParsedStatement>, SqlError> {
        if query.len() <= SHORT {
            return self.base.parser.parse(&query);
        }
        // A statement counts what it holds once it is read; until then there is more.
        let _held = self.reserve("a query", limits::memory_to_parse(&query))?;
        let parser = Arc::clone(&self.base.parser);
        isolated(async move { parser.parse(&query) }).await
    }

    /// Plans a statement. `declared` are the parameter types that the client declared.
    pub(crate) async fn prepare(
        &self,
        parsed: ParsedStatement,
        declared: &[Option<Type>],
    ) -> Result<PreparedStatement, SqlError> {
        let version = self.version();
        if let Statement::Statement(statement) = &parsed.statement
            && commands::is_about_session(statement)
        {
            return commands::prepare(self, parsed.clone(), declared, version).await;
        }
        let known = [parsed.parameter.clone()];
        let declared = if declared.is_empty() && known[0].is_some() { &known } else { declared };
        self.prepare_statement(parsed.statement.clone(), parsed, declared, version).await
    }

    /// Plans a statement of DataFusion, or the one in `parsed`.
    pub(crate) async fn prepare_statement(
        &self,
        statement: Statement,
        parsed: ParsedStatement,
        declared: &[Option<Type>],
        version: PlanVersion,
    ) -> Result<PreparedStatement, SqlError> {
        let memory = self.reserve("a statement", parsed.memory)?;
        let (planner, _guard) = self.planner();
        let declared = declared.to_vec();
        isolated(async move { planner.prepare(statement, parsed, &declared, version, memory).await }).await
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

    /// Returns a planner of statements in tasks of their own, until the guard is dropped.
    fn planner(&self) -> (Planner, CancelOnDrop) {
        let (state, guard) = interruptible(&self.context);
        let settings = self.settings();
        let planner = Planner {
            context: self.context.clone(),
            state,
            temporary: self.temporary.clone(),
            objects: Arc::clone(&self.objects),
            permissions: Arc::clone(&self.base.permissions),
            user: self.user.clone(),
            read_only: settings.read_only(),
            search_path: settings.search_path(),
            zone: zone_of(&settings),
        };
        (planner, guard)
    }

    /// Returns the time zone.
    pub(crate) fn zone(&self) -> String {
        zone_of(&self.settings())
    }

    /// Plans a statement of DataFusion.
    pub(crate) async fn plan(&self, statement: Statement) -> Result<LogicalPlan, SqlError> {
        let (planner, _guard) = self.planner();
        isolated(async move { planner.plan(statement).await }).await
    }

    pub(crate) fn prepare_without_plan(
        &self,
        parsed: ParsedStatement,
        columns: Option<Arc<Columns>>,
        version: PlanVersion,
    ) -> Result<PreparedStatement, SqlError> {
        let _memory = self.reserve("a statement", parsed.memory)?;
        let (parameters, plans) = (Vec::new(), PlanCache::default());
        Ok(PreparedStatement { parsed, plan: None, parameters, columns, version, plans, _memory })
    }

    pub(crate) fn version(&self) -> PlanVersion {
        let catalog = self.base.catalog_version.load(Ordering::Acquire);
        (catalog, self.settings_version, self.base.permissions.users.generation())
    }

    /// Returns true if there is a schema of this name.
    pub(crate) fn catalog_has_schema(&self, name: &str) -> bool {
        let catalog = self.context.state_ref().read().config_options().catalog.default_catalog.clone();
        self.context.catalog(&catalog).is_some_and(|catalog| catalog.schema(name).is_some())
    }

    /// Refuses a plan that the user may not run now: the transaction may have become read-only, and privileges may have
    /// been revoked, since it was made.
    async fn check(&self, plan: &LogicalPlan) -> Result<(), SqlError> {
        let read_only = self.settings().read_only();
        if self.user.is_superuser() || !matches!(plan, LogicalPlan::Ddl(_)) {
            return Ok(self.base.permissions.check(plan, &self.user, read_only, &self.context)?);
        }
        // The folders of a location are read for it.
        let (permissions, plan) = (Arc::clone(&self.base.permissions), plan.clone());
        let (user, context) = (self.user.clone(), self.context.clone());
        isolated(async move { permissions.check(&plan, &user, read_only, &context) }).await
    }

    /// Runs a statement up to the point where its rows can be fetched.
    pub(crate) async fn run(
        &mut self,
        prepared: &Arc<PreparedStatement>,
        values: &[ScalarValue],
    ) -> Result<Outcome, Failure> {
        let ends_transaction = prepared.sql().is_some_and(commands::ends_transaction);
        if self.status == TransactionStatus::Error && !ends_transaction {
            return Err(in_failed_transaction().into());
        }
        let prepared = self.up_to_date(prepared).await?;
        if prepared.parsed.copy_from.is_some() {
            return Err(SqlError::error("XX000", "internal error: COPY FROM STDIN without its rows").into());
        }
        match prepared.sql() {
            Some(statement) if commands::is_about_session(statement) => {
                commands::run(self, statement, &prepared, values).await
            }
            _ => match &prepared.plan {
                Some(plan) => {
                    if let Some(outcome) = self.run_kept(&prepared, plan, values).await? {
                        return Ok(outcome);
                    }
                    let mut bound = parameters::bind(plan.clone(), &prepared.parameters, values)?;
                    if prepared.columns.is_some() && !values.is_empty() {
                        bound = parameters::as_described(bound, plan)?;
                    }
                    self.run_plan(bound, &prepared.parsed.statement).await
                }
                None => Err(SqlError::error("XX000", "internal error: a statement without a plan").into()),
            },
        }
    }

    /// Returns the statement, planned again if the tables it names may have changed.
    pub(crate) async fn up_to_date(
        &mut self,
        prepared: &Arc<PreparedStatement>,
    ) -> Result<Arc<PreparedStatement>, SqlError> {
        if prepared.version == self.version() || prepared.plan.is_none() {
            return Ok(Arc::clone(prepared));
        }
        let declared: Vec<_> = prepared.parameters.iter().map(|parameter| Some(parameter.wire.clone())).collect();
        let fresh = self.prepare(prepared.parsed.clone(), &declared).await?;
        let same = match (&fresh.columns, &prepared.columns) {
            (Some(fresh), Some(old)) => fresh.same_types(old),
            (None, None) => true,
            _ => false,
        };
        if !same {
            return Err(SqlError::error("0A000", "cached plan must not change result type"));
        }
        let fresh = Arc::new(fresh);
        for kept in self.prepared.values_mut().filter(|kept| Arc::ptr_eq(kept, prepared)) {
            *kept = Arc::clone(&fresh);
        }
        Ok(fresh)
    }

    /// Runs a query with its kept plan, which is made now if that pays; `None` if it runs without one.
    async fn run_kept(
        &mut self,
        prepared: &Arc<PreparedStatement>,
        plan: &LogicalPlan,
        values: &[ScalarValue],
    ) -> Result<Option<Outcome>, Failure> {
        if !matches!(prepared.sql(), Some(ast::Statement::Query(_))) {
            return Ok(None);
        }
        let mode =
            PlanCacheMode::of(&self.settings().get("plan_cache_mode").map(|(_, value)| value).unwrap_or_default());
        let plan_guard = match prepared.plans.choose(mode) {
            PlanChoice::Uncached => return Ok(None),
            PlanChoice::Cached(kept) => PlanGuard::new(prepared, kept),
            PlanChoice::Cache => {
                let mut plan_guard = PlanGuard::planning(prepared);
                let (state, guard) = interruptible(&self.context);
                let query = plan.clone();
                let planned = async move { Ok::<_, SqlError>(ReusablePlan::new(&query, state, guard).await) };
                plan_guard.planned(isolated(planned).await?);
                plan_guard
            }
        };
        if !plan_guard.takes(values) {
            plan_guard.give_back();
            return Ok(None);
        }
        self.check(plan).await?;
        Ok(Some(Outcome::Rows(ResultRows::start_kept(plan_guard, values)?, CommandTag::SELECT)))
    }

    pub(crate) async fn run_plan(&mut self, plan: LogicalPlan, statement: &Statement) -> Result<Outcome, Failure> {
        self.check(&plan).await?;
        let context = self.context.clone();
        let in_block = self.status != TransactionStatus::Idle;
        if let LogicalPlan::Dml(change) = &plan
            && let Ok(table) = source_as_provider(&change.target)
        {
            self.transaction.change_rows(table, &change.op, in_block).await?;
        }
        let plan = self.transaction.visible(plan)?;
        match &plan {
            LogicalPlan::Ddl(_) => self.run_ddl(plan, statement).await,
            LogicalPlan::Dml(_) | LogicalPlan::Copy(_) => {
                let verb = match &plan {
                    LogicalPlan::Dml(dml) => match dml.op {
                        WriteOp::Insert(_) => "INSERT 0",
                        WriteOp::Delete => "DELETE",
                        WriteOp::Update => "UPDATE",
                        WriteOp::Ctas => "SELECT",
                        _ => "OK",
                    },
                    _ => "COPY",
                };
                let target = match &plan {
                    LogicalPlan::Dml(dml) => {
                        Some((source_as_provider(&dml.target)?, dml.table_name.table().to_owned()))
                    }
                    _ => None,
                };
                let done = executed(&context, plan).await;
                let Some((table, name)) = target else {
                    return Ok(Outcome::Done(format!("{verb} {}", count(&done?))));
                };
                let batches = done.map_err(|error| constraints::named(error, table.as_ref(), &name))?;
                isolated(async move { constraints::check(table.as_ref(), &name) }).await?;
                Ok(Outcome::Done(format!("{verb} {}", count(&batches))))
            }
            LogicalPlan::Statement(statement) => {
                let tag = match statement {
                    PlanStatement::SetVariable(_) => "SET",
                    PlanStatement::ResetVariable(_) => "RESET",
                    _ => return Err(SqlError::not_supported(format!("{} is not supported", statement.name())).into()),
                };
                self.settings_version += 1;
                isolated(async move { context.execute_logical_plan(plan).await.map(drop) }).await?;
                Ok(Outcome::done(tag))
            }
            _ => {
                let tag = match statement {
                    Statement::Explain(_) => CommandTag::EXPLAIN,
                    Statement::Statement(inner) => match inner.as_ref() {
                        ast::Statement::Explain { .. } | ast::Statement::ExplainTable { .. } => CommandTag::EXPLAIN,
                        ast::Statement::Query(_) => CommandTag::SELECT,
                        _ => CommandTag::SHOW,
                    },
                    _ => CommandTag::SELECT,
                };
                let is_json = explain::is_json(&plan);
                let mut rows = ResultRows::start(&self.context, plan);
                let is_concealed = tag.verb == CommandTag::EXPLAIN.verb && !self.user.is_superuser();
                if is_concealed {
                    rows = rows.shown_by(without_files);
                }
                if is_json {
                    rows = rows.shown_by(explain::plans);
                }
                Ok(Outcome::Rows(rows, tag))
            }
        }
    }

    /// Sets one of DataFusion's settings, for this session only.
    pub(crate) async fn set_engine(&mut self, name: &str, value: String) -> Result<(), SqlError> {
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
        let (path, zone, reports) = {
            let mut settings = self.settings();
            if !settings.changed {
                return Ok(());
            }
            settings.changed = false;
            let zone = settings.get("TimeZone").map(|(_, value)| value).unwrap_or_default();
            let reports: Vec<_> =
                REPORTED.iter().filter_map(|name| settings.get(name).map(|(_, value)| (*name, value))).collect();
            (settings.search_path(), zone, reports)
        };
        for (name, value) in reports {
            if self.reported.get(name) != Some(&value) {
                self.notices
                    .push(PgWireBackendMessage::ParameterStatus(ParameterStatus::new(name.into(), value.clone())));
                self.reported.insert(name, value);
            }
        }
        let catalog = self.context.state().config_options().catalog.default_catalog.clone();
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
        Ok(())
    }

    /// Makes [`Session::synchronize`] apply schema and time zone again.
    pub(crate) fn forget_applied(&mut self) {
        self.schema.clear();
        self.time_zone.clear();
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

fn zone_of(settings: &Settings) -> String {
    settings.get("TimeZone").map_or_else(|| "UTC".into(), |(_, value)| value)
}

pub(crate) fn in_failed_transaction() -> SqlError {
    SqlError::error("25P02", "current transaction is aborted, commands ignored until end of transaction block")
}

/// Returns the number of rows changed, which is DataFusion's answer to a change.
fn count(batches: &[RecordBatch]) -> u64 {
    batches
        .iter()
        .filter_map(|batch| batch.columns().first()?.as_primitive_opt::<UInt64Type>())
        .flat_map(|column| (0..column.len()).filter(|row| column.is_valid(*row)).map(|row| column.value(row)))
        .sum()
}
