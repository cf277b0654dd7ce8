//! From the text of a query to prepared statements.

use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion_postgres::pgwire::api::Type;
use neuroql::{CancelOnDrop, interruptible};

use crate::encode::column::Columns;
use crate::session::client_session::{Session, zone_of};
use crate::session::commands;
use crate::session::plan_cache::PlanCache;
use crate::session::planner::Planner;
use crate::session::result_stream::isolated;
use crate::session::statement::{PlanVersion, PreparedStatement};
use crate::sql::limits;
use crate::sql::parse::ParsedStatement;
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
    pub(super) async fn prepare_statement(
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
        let (parameters, plans) = (Vec::new(), PlanCache::default());
        Ok(PreparedStatement { parsed, plan: None, parameters, columns, version, plans, _memory })
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
}
