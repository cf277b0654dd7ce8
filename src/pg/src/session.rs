//! One connection's session: its DataFusion context, settings, transaction, prepared statements and portals.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Schema, UInt64Type};
use datafusion::common::tree_node::TreeNode;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{DdlStatement, Expr, LogicalPlan, SetVariable, Statement as PlanStatement, WriteOp};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast;
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use datafusion_postgres::pgwire::messages::startup::ParameterStatus;
use neuroql::Guest;

use crate::casts::{self, Casts};
use crate::objects::{Functions, Objects, Snapshot};
use crate::output::Columns;
use crate::parameters::{self, Parameter};
use crate::parse::{Parsed, Parser};
use crate::passwords::Role;
use crate::report::{Failure, Report};
use crate::rows::{Rows, executed, isolated};
use crate::settings::{REPORTED, Settings};
use crate::{catalog, functions, object_functions, permissions, statements};

/// State that the sessions of a server share.
pub(crate) struct Base {
    engine: neuroql::Engine,
    state: SessionState,
    parser: Arc<Parser>,
    functions: Arc<Functions>,
    /// Counts changes of the catalog: a plan made before one is made again.
    catalog_version: AtomicU64,
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
        })
    }

    pub(crate) fn state(&self) -> &SessionState {
        &self.state
    }
}

/// A statement that can be run, any number of times.
pub(crate) struct Prepared {
    pub(crate) parsed: Parsed,
    /// `None` for a statement about the session itself.
    pub(crate) plan: Option<LogicalPlan>,
    pub(crate) parameters: Vec<Parameter>,
    /// `None` for a statement without a result.
    pub(crate) columns: Option<Arc<Columns>>,
    version: (u64, u64),
}

impl Prepared {
    /// The statement of SQL, unless it is one of DataFusion's own.
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
    /// `DECLARE … WITH HOLD`: survives its transaction.
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

/// Takes the casts of parameters out of a statement, or the one inside an EXPLAIN.
fn take_casts(statement: &mut Statement, declared: &[Option<Type>]) -> Casts {
    match statement {
        Statement::Statement(inner) => casts::take(inner.as_mut(), declared),
        Statement::Explain(explain) => take_casts(&mut explain.statement, declared),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => casts::take(query.as_mut(), declared),
            CopyToSource::Relation(_) => Casts::default(),
        },
        _ => Casts::default(),
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
    /// Counts changes of settings that a plan may depend on.
    pub(crate) settings_version: u64,
    pub(crate) status: TransactionStatus,
    pub(crate) savepoints: Vec<String>,
    /// True if something was changed in this transaction, which ROLLBACK will not undo.
    pub(crate) wrote: bool,
    pub(crate) prepared: HashMap<String, Arc<Prepared>>,
    pub(crate) portals: HashMap<String, Portal>,
    /// Prepared statements and portals without a statement in them.
    pub(crate) empty: HashSet<String>,
    pub(crate) empty_portals: HashSet<String>,
    /// Messages to send before the statement completes.
    pub(crate) notices: Vec<PgWireBackendMessage>,
    reported: HashMap<&'static str, String>,
    schema: String,
    time_zone: String,
}

impl Session {
    pub(crate) fn new(base: Arc<Base>, role: Role, pid: i32) -> Self {
        let mut config = base.state.config().clone();
        if !role.superuser {
            config.set_extension(Arc::new(Guest));
        }
        let state = SessionStateBuilder::new_from_existing(base.state.clone())
            .with_session_id(format!("pg-{pid}"))
            .with_config(config)
            .build();
        let context = SessionContext::new_with_state(state);
        let settings = Arc::new(Mutex::new(Settings::new(&role)));
        functions::register_session(&context, &settings, &role.name, pid);
        let objects = Arc::new(Objects::new(Arc::clone(&base.functions)));
        object_functions::register(&context, &objects);
        Self {
            base,
            context,
            role,
            objects,
            settings,
            settings_version: 0,
            status: TransactionStatus::Idle,
            savepoints: Vec::new(),
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

    /// Splits a query into statements. In a task of its own: the grammar is recursive and the text is the client's.
    pub(crate) async fn parse(&self, query: String) -> Result<Vec<Parsed>, Report> {
        let parser = Arc::clone(&self.base.parser);
        isolated(async move { Ok(parser.parse(&query)) }).await?
    }

    /// Plans a statement. `declared` are the parameter types the client gave.
    pub(crate) async fn prepare(&self, parsed: Parsed, declared: &[Option<Type>]) -> Result<Prepared, Report> {
        let version = self.version();
        if let Statement::Statement(statement) = &parsed.statement
            && statements::is_about_session(statement)
        {
            return statements::prepare(self, parsed.clone(), declared, version).await;
        }
        let known = [parsed.parameter.clone()];
        let declared = if declared.is_empty() && known[0].is_some() { &known } else { declared };
        self.prepare_statement(parsed.statement.clone(), parsed, declared, version).await
    }

    /// Plans a statement of DataFusion, or the one in `parsed`.
    pub(crate) async fn prepare_statement(
        &self,
        mut statement: Statement,
        parsed: Parsed,
        declared: &[Option<Type>],
        version: (u64, u64),
    ) -> Result<Prepared, Report> {
        let casts = take_casts(&mut statement, declared);
        if parsed.objects {
            self.look_around().await?;
        }
        let known = parameters::known(declared, &casts);
        let plan = match known.clone() {
            Some(types) => self.plan_with(statement.clone(), types).await?,
            None => self.plan(statement.clone()).await?,
        };
        let zone = self.zone();
        let again = known.is_none() && parameters::needs_types_first(&plan);
        let (mut plan, mut parameters) = parameters::infer(plan, declared, &casts, &zone)?;
        if again && let Some(types) = parameters::found_as(&parameters) {
            let typed: Vec<_> = parameters.iter().map(|parameter| Some(parameter.wire.clone())).collect();
            (plan, parameters) = parameters::infer(self.plan_with(statement, types).await?, &typed, &casts, &zone)?;
        }
        parameters::check_marks(&plan, &parameters)?;
        let read_only = self.settings().read_only();
        permissions::check(&plan, &self.role, read_only)?;
        let silent = matches!(
            plan,
            LogicalPlan::Ddl(_) | LogicalPlan::Dml(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_)
        );
        let columns = (!silent).then(|| Arc::new(Columns::new(&self.described(&plan), &parsed.names)));
        Ok(Prepared { parsed, plan: Some(plan), parameters, columns, version })
    }

    /// Learns which objects there are.
    async fn look_around(&self) -> Result<(), Report> {
        let state = self.context.state();
        let mut path = vec![state.config_options().catalog.default_schema.clone()];
        path.extend(self.settings().search_path());
        let context = self.context.clone();
        let snapshot = isolated(async move { catalog::snapshot(&context).await }).await?;
        self.objects.replace(Snapshot { path, ..snapshot });
        Ok(())
    }

    /// The time zone.
    pub(crate) fn zone(&self) -> String {
        self.settings().get("TimeZone").map_or_else(|| "UTC".into(), |(_, value)| value)
    }

    /// Plans a statement of DataFusion.
    pub(crate) async fn plan(&self, statement: Statement) -> Result<LogicalPlan, Report> {
        let state = self.context.state();
        isolated(async move { state.statement_to_plan(statement).await }).await
    }

    /// The columns of a plan as they will be. Branches of a CASE or a UNION get their common type when types are coerced,
    /// until then the plan has that of the first.
    fn described(&self, plan: &LogicalPlan) -> Schema {
        let planned = || plan.schema().as_arrow().clone();
        if !is_coerced_later(plan) {
            return planned();
        }
        let state = self.context.state();
        let analyzed = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {});
        // What is wrong with it is said when it runs.
        analyzed.map_or_else(|_| planned(), |analyzed| analyzed.schema().as_arrow().clone())
    }

    /// Plans a statement with parameters of these types.
    async fn plan_with(&self, statement: Statement, types: Vec<ast::DataType>) -> Result<LogicalPlan, Report> {
        let Statement::Statement(inner) = statement else { return self.plan(statement).await };
        if types.is_empty() || !matches!(*inner, ast::Statement::Query(_) | ast::Statement::Insert(_)) {
            return self.plan(Statement::Statement(inner)).await;
        }
        let name = ast::Ident::new("statement");
        let prepare = ast::Statement::Prepare { name, data_types: types, statement: inner };
        match self.plan(Statement::Statement(Box::new(prepare))).await? {
            LogicalPlan::Statement(PlanStatement::Prepare(prepare)) => Ok(Arc::unwrap_or_clone(prepare.input)),
            _ => Err(Report::error("XX000", "internal error: PREPARE has another plan")),
        }
    }

    pub(crate) fn prepare_without_plan(parsed: Parsed, columns: Option<Arc<Columns>>, version: (u64, u64)) -> Prepared {
        Prepared { parsed, plan: None, parameters: Vec::new(), columns, version }
    }

    pub(crate) fn version(&self) -> (u64, u64) {
        (self.base.catalog_version.load(Ordering::Acquire), self.settings_version)
    }

    /// Runs a statement up to the point where its rows can be fetched.
    pub(crate) async fn run(&mut self, prepared: &Arc<Prepared>, values: &[ScalarValue]) -> Result<Outcome, Failure> {
        let ends_transaction = prepared.sql().is_some_and(statements::ends_transaction);
        if self.status == TransactionStatus::Error && !ends_transaction {
            return Err(in_failed_transaction().into());
        }
        let prepared = self.up_to_date(prepared).await?;
        match prepared.sql() {
            Some(statement) if statements::is_about_session(statement) => {
                statements::run(self, statement, &prepared, values).await
            }
            _ => match &prepared.plan {
                Some(plan) => {
                    let mut bound = parameters::bind(plan.clone(), &prepared.parameters, values)?;
                    if prepared.columns.is_some() && !values.is_empty() {
                        bound = parameters::as_described(bound, plan)?;
                    }
                    self.run_plan(bound, &prepared.parsed.statement).await
                }
                None => Err(Report::error("XX000", "internal error: a statement without a plan").into()),
            },
        }
    }

    /// The statement, planned again if the tables it names may be others by now.
    async fn up_to_date(&self, prepared: &Arc<Prepared>) -> Result<Arc<Prepared>, Report> {
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
        if same { Ok(Arc::new(fresh)) } else { Err(Report::error("0A000", "cached plan must not change result type")) }
    }

    pub(crate) async fn run_plan(&mut self, plan: LogicalPlan, statement: &Statement) -> Result<Outcome, Failure> {
        // Again, because the transaction may have become read-only since the statement was prepared.
        let read_only = self.settings().read_only();
        permissions::check(&plan, &self.role, read_only)?;
        let context = self.context.clone();
        match &plan {
            LogicalPlan::Ddl(ddl) => {
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
                self.base.catalog_version.fetch_add(1, Ordering::AcqRel);
                done?;
                self.base.engine.settle().await?;
                self.wrote = true;
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
                self.wrote = true;
                Ok(Outcome::Done(format!("{verb} {}", count(&batches))))
            }
            LogicalPlan::Statement(statement) => {
                let tag = match statement {
                    PlanStatement::SetVariable(_) => "SET",
                    PlanStatement::ResetVariable(_) => "RESET",
                    _ => return Err(Report::not_supported(format!("{} is not supported", statement.name())).into()),
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
    pub(crate) async fn set_engine(&mut self, name: &str, value: String) -> Result<(), Report> {
        let set = PlanStatement::SetVariable(SetVariable { variable: name.to_string(), value });
        let plan = LogicalPlan::Statement(set);
        let read_only = self.settings().read_only();
        permissions::check(&plan, &self.role, read_only)?;
        self.settings_version += 1;
        let context = self.context.clone();
        isolated(async move { context.execute_logical_plan(plan).await.map(drop) }).await
    }

    /// Lets changed settings take effect, and tells the client of those it must know.
    pub(crate) async fn synchronize(&mut self) -> Result<(), Report> {
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
            self.set_engine("datafusion.catalog.default_schema", schema.clone()).await?;
            functions::register_current_schema(&self.context, &schema);
            self.schema = schema;
        }
        if zone != self.time_zone {
            self.set_engine("datafusion.execution.time_zone", zone.clone()).await?;
            self.time_zone = zone;
        }
        Ok(())
    }

    /// Applies schema and time zone again at the next opportunity.
    pub(crate) fn forget_applied(&mut self) {
        self.schema.clear();
        self.time_zone.clear();
    }

    /// An error inside a transaction fails the transaction.
    pub(crate) fn failed(&mut self) {
        self.status = self.status.to_error_state();
    }

    /// Portals end with their transaction.
    pub(crate) fn close_portals(&mut self) {
        self.portals.retain(|_, portal| portal.held);
    }
}

/// Returns whether the types of a plan may change when they are coerced.
fn is_coerced_later(plan: &LogicalPlan) -> bool {
    let branches = |expr: &Expr| {
        let found = expr.exists(|expr| {
            let is_large = matches!(expr, Expr::Literal(ScalarValue::UInt64(_), _));
            Ok(matches!(expr, Expr::Case(_)) || is_large)
        });
        found.unwrap_or(true)
    };
    let found = plan.exists(|plan| {
        Ok(matches!(plan, LogicalPlan::Union(_) | LogicalPlan::RecursiveQuery(_))
            || plan.expressions().iter().any(branches))
    });
    found.unwrap_or(true)
}

pub(crate) fn in_failed_transaction() -> Report {
    Report::error("25P02", "current transaction is aborted, commands ignored until end of transaction block")
}

/// DataFusion answers a change with one row, the number of rows changed.
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
