//! Planning of statements, apart from the connection that they come from.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::tree_node::TreeNode;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{DdlStatement, Expr, LogicalPlan, Statement as PlanStatement};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast;
use datafusion_postgres::pgwire::api::Type;
use neuroql_access::{Permissions, TEMPORARY, User};

use crate::catalog;
use crate::catalog::objects::{Objects, Snapshot};
use crate::encode::column::Columns;
use crate::session::plan_cache::PlanCache;
use crate::session::statement::{PlanVersion, PreparedStatement};
use crate::session::temporary_tables::TemporaryTables;
use crate::session::{ddl, explain};
use crate::sql::column_names;
use crate::sql::literals;
use crate::sql::marks;
use crate::sql::parameters::{self, Parameter};
use crate::sql::parse::ParsedStatement;
use crate::sql::rewrite::from_functions;
use crate::sql::rewrite::literal_casts;
use crate::sql::rewrite::parameter_casts::{self, ParameterCasts};
use crate::sql::unsupported;
use crate::wire::error_response::SqlError;

/// A session's state for planning, as it is now.
pub(crate) struct Planner {
    pub(crate) context: SessionContext,
    /// The state of this statement alone: planning ends when the guard of the state is dropped.
    pub(crate) state: SessionState,
    pub(crate) temporary: TemporaryTables,
    pub(crate) objects: Arc<Objects>,
    pub(crate) permissions: Arc<Permissions>,
    pub(crate) user: User,
    pub(crate) read_only: bool,
    pub(crate) search_path: Vec<String>,
    pub(crate) zone: String,
}

impl Planner {
    /// Plans a statement of DataFusion, or the one in `parsed`. `declared` are the parameter types the client gave, `memory`
    /// what was reserved for the statement.
    pub(crate) async fn prepare(
        mut self,
        mut statement: Statement,
        parsed: ParsedStatement,
        declared: &[Option<Type>],
        version: PlanVersion,
        memory: MemoryReservation,
    ) -> Result<PreparedStatement, SqlError> {
        let has_literals = literal_casts::take(&mut statement)?;
        if has_literals {
            literals::register(&mut self.state)?;
        }
        let casts = take_casts(&mut statement, declared);
        if parsed.objects {
            self.refresh_objects().await?;
        }
        let known = parameters::known(declared, &casts);
        let plan = match known.clone() {
            Some(types) => self.plan_with(statement.clone(), types).await?,
            None => self.plan(statement.clone()).await?,
        };
        let again = known.is_none() && parameters::needs_types_first(&plan);
        let (mut plan, mut parameters) = parameters::infer(plan, declared, &casts, &self.zone)?;
        if again && let Some(types) = parameters::found_as(&parameters) {
            let typed: Vec<_> = parameters.iter().map(|parameter| Some(parameter.wire.clone())).collect();
            let planned = self.plan_with(statement, types).await?;
            (plan, parameters) = parameters::infer(planned, &typed, &casts, &self.zone)?;
        }
        if has_literals || parameters.iter().any(Parameter::is_kept_as_text) {
            plan = marks::settle(plan)?;
            marks::check(&plan)?;
        }
        let silent = matches!(
            plan,
            LogicalPlan::Ddl(_) | LogicalPlan::Dml(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_)
        );
        let columns = (!silent).then(|| Arc::new(Columns::new(&self.described(&plan), &parsed.names)));
        let plans = PlanCache::default();
        Ok(PreparedStatement { parsed, plan: Some(plan), parameters, columns, version, plans, _memory: memory })
    }

    /// Reads the objects that exist now.
    async fn refresh_objects(&self) -> Result<(), SqlError> {
        let mut path = vec![TEMPORARY.to_owned(), self.state.config_options().catalog.default_schema.clone()];
        path.extend(self.search_path.iter().cloned());
        let snapshot = catalog::snapshot(&self.context).await?;
        self.objects.replace(Snapshot { path, ..snapshot });
        Ok(())
    }

    /// Plans a statement of DataFusion, with the user's permissions and without values that the user may not see.
    pub(crate) async fn plan(&self, mut statement: Statement) -> Result<LogicalPlan, SqlError> {
        let is_scalar = |name: &str| {
            self.state.scalar_functions().contains_key(name)
                && !self.state.aggregate_functions().contains_key(name)
                && !self.state.window_functions().contains_key(name)
        };
        from_functions::make_rows(&mut statement, &|name| {
            is_scalar(name) && !self.state.table_functions().contains_key(name)
        })?;
        unsupported::check_calls(&statement, &is_scalar)?;
        self.temporary.check(&statement)?;
        let mut again = statement.clone();
        let mut plan = match self.state.statement_to_plan(statement).await {
            // Expressions that are written otherwise and planned alike, such as `every(a)` beside `bool_and(a)`.
            Err(error) if error.strip_backtrace().contains("require unique expression names") => {
                column_names::alias_expressions(&mut again);
                self.state.statement_to_plan(again.clone()).await?
            }
            Err(error) if error.strip_backtrace().contains("Inconsistent metadata across values list") => {
                let message = "VALUES of different types in a column are not supported; cast them to one";
                return Err(SqlError::not_supported(message));
            }
            planned => planned?,
        };
        if let LogicalPlan::Ddl(DdlStatement::CreateView(view)) = &mut plan {
            view.definition = Some(ddl::written(again));
        }
        self.permissions.check(&plan, &self.user, self.read_only, &self.context)?;
        Ok(self.permissions.conceal(plan, &self.user)?)
    }

    /// Returns the columns of a plan as they will be. Branches of a CASE or a UNION get their common type when types
    /// are coerced, until then the plan has that of the first.
    fn described(&self, plan: &LogicalPlan) -> Schema {
        let planned = || plan.schema().as_arrow().clone();
        if explain::is_json(plan) {
            return explain::schema();
        }
        if !is_coerced_later(plan) {
            return planned();
        }
        let state = &self.state;
        let analyzed = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {});
        // An error of the plan is reported when it runs.
        analyzed.map_or_else(|_| planned(), |analyzed| analyzed.schema().as_arrow().clone())
    }

    /// Plans a statement with parameters of these types.
    async fn plan_with(&self, statement: Statement, types: Vec<ast::DataType>) -> Result<LogicalPlan, SqlError> {
        let Statement::Statement(inner) = statement else { return self.plan(statement).await };
        if types.is_empty() || !matches!(*inner, ast::Statement::Query(_) | ast::Statement::Insert(_)) {
            return self.plan(Statement::Statement(inner)).await;
        }
        let name = ast::Ident::new("statement");
        let prepare = ast::Statement::Prepare { name, data_types: types, statement: inner };
        match self.plan(Statement::Statement(Box::new(prepare))).await? {
            LogicalPlan::Statement(PlanStatement::Prepare(prepare)) => Ok(Arc::unwrap_or_clone(prepare.input)),
            _ => Err(SqlError::error("XX000", "internal error: PREPARE has another plan")),
        }
    }
}

/// Takes the casts of parameters out of a statement, or out of the one inside an EXPLAIN.
fn take_casts(statement: &mut Statement, declared: &[Option<Type>]) -> ParameterCasts {
    match statement {
        Statement::Statement(inner) => parameter_casts::take(inner.as_mut(), declared),
        Statement::Explain(explain) => take_casts(&mut explain.statement, declared),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => parameter_casts::take(query.as_mut(), declared),
            CopyToSource::Relation(_) => ParameterCasts::default(),
        },
        _ => ParameterCasts::default(),
    }
}

/// Returns true if the types of a plan may change when they are coerced.
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
