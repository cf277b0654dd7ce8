//! From the text of a query to prepared statements.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion_postgres::pgwire::api::Type;
use neuroql::{CancelOnDrop, interruptible};

use crate::catalog::own_types;
use crate::decode::date_order;
use crate::encode::column::Columns;
use crate::session::client_session::{Session, zone_of};
use crate::session::commands;
use crate::session::plan_cache::PlanCache;
use crate::session::planner::Planner;
use crate::session::result_stream::isolated;
use crate::session::statement::{PlanVersion, PreparedStatement};
use crate::sql::limits;
use crate::sql::parse::ParsedStatement;
use crate::sql::sequence_syntax::Overriding;
use crate::wire::activity::now;
use crate::wire::error_response::SqlError;

/// Greatest number of bytes of a query that is parsed without a task: a fraction of a millisecond.
const SHORT: usize = 1 << 10;

impl Session {
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
        self.prepare_with_constants(parsed, declared, self.zone()).await
    }

    /// Plans a statement whose constants are read in a time zone.
    async fn prepare_with_constants(
        &self,
        parsed: ParsedStatement,
        declared: &[Option<Type>],
        zone: String,
    ) -> Result<PreparedStatement, SqlError> {
        let version = self.version();
        if let Statement::Statement(statement) = &parsed.statement
            && commands::is_about_session(statement)
        {
            return commands::prepare(self, parsed.clone(), declared, version).await;
        }
        let known = [parsed.parameter.clone()];
        let declared = if declared.is_empty() && known[0].is_some() { &known } else { declared };
        self.plan_statement(parsed.statement.clone(), parsed, declared, version, zone).await
    }

    /// Plans a statement of DataFusion, or the one in `parsed`.
    pub(super) async fn prepare_statement(
        &self,
        statement: Statement,
        parsed: ParsedStatement,
        declared: &[Option<Type>],
        version: PlanVersion,
    ) -> Result<PreparedStatement, SqlError> {
        self.plan_statement(statement, parsed, declared, version, self.zone()).await
    }

    async fn plan_statement(
        &self,
        statement: Statement,
        parsed: ParsedStatement,
        declared: &[Option<Type>],
        version: PlanVersion,
        zone_of_constants: String,
    ) -> Result<PreparedStatement, SqlError> {
        let memory = self.reserve("a statement", parsed.memory)?;
        let (planner, _guard) = self.planner();
        let planner = Planner { zone_of_constants, ..planner };
        let declared = declared.to_vec();
        isolated(async move { planner.prepare(statement, parsed, &declared, version, memory).await }).await
    }

    /// Plans a condition that holds for good: its constants are those that they are in the time zone of now.
    pub(super) async fn prepare_condition(&self, parsed: ParsedStatement) -> Result<PreparedStatement, SqlError> {
        let memory = self.reserve("a statement", parsed.memory)?;
        let (planner, _guard) = self.planner();
        let planner = Planner { keeps_constants: true, ..planner };
        let (statement, version) = (parsed.statement.clone(), self.version());
        isolated(async move { planner.prepare(statement, parsed, &[], version, memory).await }).await
    }

    /// Returns a planner of statements in tasks of their own, until the guard is dropped.
    fn planner(&self) -> (Planner, CancelOnDrop) {
        let (state, guard) = interruptible(&self.context);
        let settings = self.settings();
        let zone = zone_of(&settings);
        let planner = Planner {
            context: self.context.clone(),
            state,
            temporary: self.temporary.clone(),
            objects: Arc::clone(&self.objects),
            permissions: Arc::clone(&self.base.permissions),
            user: self.user.clone(),
            read_only: settings.read_only(),
            search_path: settings.search_path(),
            zone_of_constants: zone.clone(),
            keeps_constants: false,
            zone,
            overriding: Overriding::default(),
        };
        (planner, guard)
    }

    /// Plans a statement of DataFusion.
    pub(super) async fn plan(&self, statement: Statement) -> Result<LogicalPlan, SqlError> {
        let (planner, _guard) = self.planner();
        isolated(async move { planner.plan(statement).await }).await
    }

    pub(super) fn prepare_without_plan(
        &self,
        parsed: ParsedStatement,
        columns: Option<Arc<Columns>>,
        version: PlanVersion,
    ) -> Result<PreparedStatement, SqlError> {
        let _memory = self.reserve("a statement", parsed.memory)?;
        let (parameters, plans, zone) = (Vec::new(), PlanCache::default(), self.zone());
        let zone_of_constants = zone.clone();
        Ok(PreparedStatement {
            parsed,
            plan: None,
            parameters,
            columns,
            version,
            zone,
            zone_of_constants,
            order: self.settings().date_style().order,
            reads_lists: false,
            made: now(),
            from_sql: false,
            plans,
            _memory,
        })
    }

    /// Checks that the rows of a cursor or portal are those that they would be in the time zone of the session, which may not be
    /// the one in which they are computed.
    ///
    /// # Errors
    /// 0A000 if they are not.
    pub(crate) async fn check_zone(&self, prepared: &PreparedStatement, of_rows: &str) -> Result<(), SqlError> {
        let zone = self.zone();
        if of_rows == zone {
            return Ok(());
        }
        let Some(plan) = prepared.plan.clone() else { return Ok(()) };
        let zones = [of_rows.to_owned(), zone];
        let (state, _guard) = interruptible(&self.context);
        let differs = isolated(async move {
            let mut analyzed = Vec::with_capacity(zones.len());
            for zone in zones {
                let mut options = ConfigOptions::clone(state.config_options());
                options.execution.time_zone = Some(zone);
                analyzed.push(state.analyzer().execute_and_check(plan.clone(), &options, |_, _| {})?);
            }
            Ok::<_, DataFusionError>(analyzed.first() != analyzed.last())
        });
        match differs.await? {
            true => {
                let message = "the time zone has changed since the cursor was declared or its portal was run";
                Err(SqlError::not_supported(message))
            }
            false => Ok(()),
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
        let declared: Vec<_> =
            prepared.parameters.iter().map(|parameter| Some(own_types::current(&parameter.wire))).collect();
        let zone = prepared.zone_of_constants.clone();
        let mut fresh = self.prepare_with_constants(prepared.parsed.clone(), &declared, zone).await?;
        if fresh.order != prepared.order
            && let Some(text) = date_order::constant(&prepared.parsed.statement)
        {
            let message =
                format!("the order of the parts of '{text}' has changed with DateStyle since it was prepared");
            return Err(SqlError::not_supported(message));
        }
        let same = match (&fresh.columns, &prepared.columns) {
            (Some(fresh), Some(old)) => fresh.same_types(old),
            (None, None) => true,
            _ => false,
        };
        if !same {
            return Err(SqlError::error("0A000", "cached plan must not change result type"));
        }
        (fresh.made, fresh.from_sql) = (prepared.made, prepared.from_sql);
        fresh.plans.count_as(&prepared.plans);
        let fresh = Arc::new(fresh);
        for kept in self.prepared.values_mut().filter(|kept| Arc::ptr_eq(kept, prepared)) {
            *kept = Arc::clone(&fresh);
        }
        Ok(fresh)
    }
}
