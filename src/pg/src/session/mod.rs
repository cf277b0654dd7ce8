//! One connection's session: its DataFusion context, settings, transaction, prepared statements and portals.

pub(crate) mod commands;
pub(crate) mod copy_in;
pub(crate) mod plan_cache;
mod planner;
pub(crate) mod result_stream;
pub(crate) mod set_show;
pub(crate) mod settings;
mod transaction;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::common::ResolvedTableReference;
use datafusion::datasource::source_as_provider;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{DdlStatement, LogicalPlan, SetVariable, Statement as PlanStatement, WriteOp};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use datafusion_postgres::pgwire::messages::startup::ParameterStatus;
use neuroql::{CancelOnDrop, Guest, ReusablePlan, interruptible};

use crate::catalog;
use crate::catalog::backends;
use crate::catalog::functions;
use crate::catalog::object_functions;
use crate::catalog::objects::{Functions, Objects};
use crate::encode::column::Columns;
use crate::session::plan_cache::{Lease, Mode, PlanCache, Turn};
use crate::session::planner::Planner;
use crate::session::result_stream::{Rows, executed, isolated};
use crate::session::settings::{REPORTED, Settings, Timeouts};
use crate::session::transaction::{Changes, Transaction};
use crate::sql::parameters::{self, Parameter};
use crate::sql::parse::{Parsed, Parser};
use crate::wire::error_response::{Failure, SqlError};
use crate::wire::interrupt::{Registry, TimeLimit, transaction_timeout};
use neuroql_access::Role;

/// Greatest number of bytes of a query that is parsed without a task: a fraction of a millisecond.
const SHORT: usize = 1 << 10;

/// State that the sessions of a server share.
pub(crate) struct Base {
    engine: neuroql::Engine,
    state: SessionState,
    parser: Arc<Parser>,
    functions: Arc<Functions>,
    /// Number of changes of the catalog: a plan made before one is made again.
    catalog_version: AtomicU64,
    changes: Arc<Changes>,
    registry: Arc<Registry>,
}

impl Base {
    pub(crate) fn new(engine: &neuroql::Engine, roles: Vec<Role>) -> Result<Self, DataFusionError> {
        let context = engine.session();
        // Times without a zone of their own are in that of the session, which is UTC until it is set.
        context.state_ref().write().config_mut().options_mut().set("datafusion.execution.time_zone", "UTC")?;
        let functions = catalog::register(&context, roles)?;
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
            catalog_version: AtomicU64::new(0),
            changes: Arc::default(),
            registry: Arc::default(),
        })
    }

    /// Counts a change of the catalog: plans that were made before are made again.
    pub(crate) fn catalog_changed(&self) {
        self.catalog_version.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub(crate) fn state(&self) -> &SessionState {
        &self.state
    }
}

/// A statement that can be run, any number of times.
pub(crate) struct Prepared {
    pub(crate) parsed: Parsed,
    /// Plan; `None` for a statement about the session itself.
    pub(crate) plan: Option<LogicalPlan>,
    pub(crate) parameters: Vec<Parameter>,
    /// Columns of the result; `None` for a statement without a result.
    pub(crate) columns: Option<Arc<Columns>>,
    version: (u64, u64),
    pub(crate) plans: PlanCache,
}

impl Prepared {
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
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) values: Vec<ScalarValue>,
    pub(crate) format: Format,
    pub(crate) running: Option<(Rows, Tag)>,
    /// True for `DECLARE … WITH HOLD`: the portal survives its transaction.
    pub(crate) held: bool,
}

/// The command tag of a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tag {
    pub(crate) verb: &'static str,
    /// True if the number of rows follows.
    pub(crate) counted: bool,
}

impl Tag {
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
    Rows(Rows, Tag),
    Done(String),
}

impl Outcome {
    pub(crate) fn done(tag: &str) -> Self {
        Self::Done(tag.into())
    }
}

/// The state of one connection.
pub(crate) struct Session {
    pub(crate) base: Arc<Base>,
    pub(crate) context: SessionContext,
    pub(crate) role: Role,
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
    pub(crate) prepared: HashMap<String, Arc<Prepared>>,
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
    pub(crate) fn new(base: Arc<Base>, role: Role, pid: i32, timeouts: &Timeouts) -> Self {
        let mut config = base.state.config().clone();
        if !role.superuser {
            config.set_extension(Arc::new(Guest));
        }
        let state = SessionStateBuilder::new_from_existing(base.state.clone())
            .with_session_id(format!("pg-{pid}"))
            .with_config(config)
            .build();
        let context = SessionContext::new_with_state(state);
        let settings = Arc::new(Mutex::new(Settings::new(&role, timeouts)));
        functions::register_session(&context, &settings, &role, pid);
        backends::register(&context, base.registry(), &role);
        let objects = Arc::new(Objects::new(Arc::clone(&base.functions)));
        object_functions::register(&context, &objects);
        let transaction = Transaction::new(&base.changes, &context, pid);
        Self {
            base,
            context,
            role,
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
        }
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
    pub(crate) async fn parse(&self, query: String) -> Result<Vec<Parsed>, SqlError> {
        if query.len() <= SHORT {
            return self.base.parser.parse(&query);
        }
        let parser = Arc::clone(&self.base.parser);
        isolated(async move { parser.parse(&query) }).await
    }

    /// Plans a statement. `declared` are the parameter types that the client declared.
    pub(crate) async fn prepare(&self, parsed: Parsed, declared: &[Option<Type>]) -> Result<Prepared, SqlError> {
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
        parsed: Parsed,
        declared: &[Option<Type>],
        version: (u64, u64),
    ) -> Result<Prepared, SqlError> {
        let (planner, _guard) = self.planner();
        let declared = declared.to_vec();
        isolated(async move { planner.prepare(statement, parsed, &declared, version).await }).await
    }

    /// Returns a planner of statements in tasks of their own, until the guard is dropped.
    fn planner(&self) -> (Planner, CancelOnDrop) {
        let (state, guard) = interruptible(&self.context);
        let settings = self.settings();
        let planner = Planner {
            context: self.context.clone(),
            state,
            objects: Arc::clone(&self.objects),
            role: self.role.clone(),
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

    pub(crate) fn prepare_without_plan(parsed: Parsed, columns: Option<Arc<Columns>>, version: (u64, u64)) -> Prepared {
        Prepared { parsed, plan: None, parameters: Vec::new(), columns, version, plans: PlanCache::default() }
    }

    pub(crate) fn version(&self) -> (u64, u64) {
        (self.base.catalog_version.load(Ordering::Acquire), self.settings_version)
    }

    /// Runs a statement up to the point where its rows can be fetched.
    pub(crate) async fn run(&mut self, prepared: &Arc<Prepared>, values: &[ScalarValue]) -> Result<Outcome, Failure> {
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
    pub(crate) async fn up_to_date(&mut self, prepared: &Arc<Prepared>) -> Result<Arc<Prepared>, SqlError> {
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
        prepared: &Arc<Prepared>,
        plan: &LogicalPlan,
        values: &[ScalarValue],
    ) -> Result<Option<Outcome>, Failure> {
        if !matches!(prepared.sql(), Some(ast::Statement::Query(_))) {
            return Ok(None);
        }
        let mode = Mode::of(&self.settings().get("plan_cache_mode").map(|(_, value)| value).unwrap_or_default());
        let lease = match prepared.plans.turn(mode) {
            Turn::Pass => return Ok(None),
            Turn::Run(kept) => Lease::new(prepared, kept),
            Turn::Plan => {
                let mut lease = Lease::planning(prepared);
                let (state, guard) = interruptible(&self.context);
                let query = plan.clone();
                let planned = async move { Ok::<_, SqlError>(ReusablePlan::new(&query, state, guard).await) };
                lease.planned(isolated(planned).await?);
                lease
            }
        };
        if !lease.takes(values) {
            lease.give_back();
            return Ok(None);
        }
        neuroql_access::check(plan, &self.role, self.settings().read_only())?;
        Ok(Some(Outcome::Rows(Rows::start_kept(lease, values)?, Tag::SELECT)))
    }

    pub(crate) async fn run_plan(&mut self, plan: LogicalPlan, statement: &Statement) -> Result<Outcome, Failure> {
        // This is checked again, because the transaction may have become read-only since the statement was prepared.
        let read_only = self.settings().read_only();
        neuroql_access::check(&plan, &self.role, read_only)?;
        let context = self.context.clone();
        let in_block = self.status != TransactionStatus::Idle;
        if let LogicalPlan::Dml(change) = &plan
            && let Ok(table) = source_as_provider(&change.target)
        {
            self.transaction.change_rows(table, &change.op, in_block).await?;
        }
        let plan = self.transaction.visible(plan)?;
        match &plan {
            LogicalPlan::Ddl(ddl) => {
                match changed_table(ddl, &context) {
                    Some(name) => self.transaction.change_table(name).await?,
                    None => self.wrote = true,
                }
                let mut tag = ddl_tag(ddl).to_owned();
                let filled = match (ddl, statement) {
                    (DdlStatement::CreateMemoryTable(table), Statement::Statement(inner)) => match inner.as_ref() {
                        ast::Statement::CreateTable(create) if create.query.is_some() => Some(table.name.clone()),
                        _ => None,
                    },
                    _ => None,
                };
                let is_there = match &filled {
                    Some(table) => context.table_exist(table.clone())?,
                    None => false,
                };
                let rows = context.clone();
                let done = isolated(async move { context.execute_logical_plan(plan).await?.collect().await }).await;
                self.base.catalog_changed();
                done?;
                self.base.engine.settle().await?;
                if let Some(table) = filled {
                    tag = match is_there {
                        true => "CREATE TABLE AS".into(),
                        false => {
                            let count = isolated(async move { rows.table(table).await?.count().await }).await?;
                            format!("SELECT {count}")
                        }
                    };
                }
                Ok(Outcome::Done(tag))
            }
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
                let batches = executed(&context, plan).await?;
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
                    Statement::Explain(_) => Tag::EXPLAIN,
                    Statement::Statement(inner) => match inner.as_ref() {
                        ast::Statement::Explain { .. } | ast::Statement::ExplainTable { .. } => Tag::EXPLAIN,
                        ast::Statement::Query(_) => Tag::SELECT,
                        _ => Tag::SHOW,
                    },
                    _ => Tag::SELECT,
                };
                Ok(Outcome::Rows(Rows::start(&self.context, plan), tag))
            }
        }
    }

    /// Sets one of DataFusion's settings, for this session only.
    pub(crate) async fn set_engine(&mut self, name: &str, value: String) -> Result<(), SqlError> {
        let set = PlanStatement::SetVariable(SetVariable { variable: name.to_string(), value });
        let plan = LogicalPlan::Statement(set);
        let read_only = self.settings().read_only();
        neuroql_access::check(&plan, &self.role, read_only)?;
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

/// Returns the table or view that a statement creates or drops, if ROLLBACK can restore what its name stood for.
fn changed_table(ddl: &DdlStatement, context: &SessionContext) -> Option<ResolvedTableReference> {
    let name = match ddl {
        DdlStatement::CreateExternalTable(table) => &table.name,
        DdlStatement::CreateMemoryTable(table) => &table.name,
        DdlStatement::CreateView(view) => &view.name,
        DdlStatement::DropTable(table) => &table.name,
        DdlStatement::DropView(view) => &view.name,
        _ => return None,
    };
    let defaults = context.state().config_options().catalog.clone();
    let name = name.clone().resolve(&defaults.default_catalog, &defaults.default_schema);
    // A model is a schema, too.
    let is_model = matches!(ddl, DdlStatement::CreateExternalTable(table) if table.file_type.eq_ignore_ascii_case("model"))
        || context.catalog(&name.catalog).is_some_and(|catalog| catalog.schema(&name.table).is_some());
    (!is_model).then_some(name)
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

fn ddl_tag(ddl: &DdlStatement) -> &'static str {
    match ddl {
        DdlStatement::CreateExternalTable(_) | DdlStatement::CreateMemoryTable(_) => "CREATE TABLE",
        DdlStatement::CreateView(_) => "CREATE VIEW",
        DdlStatement::CreateCatalogSchema(_) => "CREATE SCHEMA",
        DdlStatement::CreateCatalog(_) => "CREATE DATABASE",
        DdlStatement::CreateIndex(_) => "CREATE INDEX",
        DdlStatement::DropTable(_) => "DROP TABLE",
        DdlStatement::DropView(_) => "DROP VIEW",
        DdlStatement::DropCatalogSchema(_) => "DROP SCHEMA",
        DdlStatement::CreateFunction(_) => "CREATE FUNCTION",
        DdlStatement::DropFunction(_) => "DROP FUNCTION",
    }
}
