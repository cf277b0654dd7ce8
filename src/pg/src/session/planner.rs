//! Planning of statements, apart from the connection that they come from.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    CreateMemoryTable, CreateView, DdlStatement, Expr, ExprSchemable, LogicalPlan, Statement as PlanStatement,
};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{self, Value, ValueWithSpan, VisitMut, VisitorMut};
use datafusion_postgres::pgwire::api::Type;
use neuroql::DateStyle;
use neuroql_access::{Permissions, TEMPORARY, User};

use crate::catalog;
use crate::catalog::objects::{Objects, Snapshot};
use crate::catalog::session_tables;
use crate::encode::column::Columns;
use crate::encode::modifiers;
use crate::session::objects::materialized_views;
use crate::session::plan_cache::PlanCache;
use crate::session::statement::{PlanVersion, PreparedStatement};
use crate::session::temporary_tables::TemporaryTables;
use crate::session::{ddl, explain, returning, row_changes, user_types};
use crate::sql::assignments::{self, Assignments};
use crate::sql::column_names;
use crate::sql::literals;
use crate::sql::mark_checks;
use crate::sql::marks;
use crate::sql::own_types;
use crate::sql::parameters::{self, Parameter};
use crate::sql::parse::ParsedStatement;
use crate::sql::rewrite;
use crate::sql::rewrite::array_subqueries;
use crate::sql::rewrite::from_functions;
use crate::sql::rewrite::inserts;
use crate::sql::rewrite::literal_casts;
use crate::sql::rewrite::parameter_casts::{self, ParameterCasts};
use crate::sql::rewrite::scalar_subqueries;
use crate::sql::rewrite::table_aliases;
use crate::sql::sequence_syntax::{self, Overriding};
use crate::sql::unsupported;
use crate::sql::utility::{self, Utility};
use crate::sql::uuid_values;
use crate::wire::activity::now;
use crate::wire::error_response::SqlError;

/// Name of DataFusion's rule that gives values that stand together one type.
const TYPE_COERCION: &str = "type_coercion";

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
    /// Time zone in which constants are read: that of the session when it first saw the statement.
    pub(crate) zone_of_constants: String,
    /// Which values the statement gives identity columns.
    pub(crate) overriding: Overriding,
    /// True if the statement is to mean the same in every time zone.
    pub(crate) keeps_constants: bool,
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
        self.overriding = match parsed.copy_from {
            Some(_) => Overriding::SystemValue,
            None => sequence_syntax::taken(&mut statement),
        };
        own_types::resolve(&mut statement, &self.context).await?;
        inserts::complete(&mut statement, &self.context).await?;
        let has_literals = literal_casts::take(&mut statement, &self.zone_of_constants)?;
        if has_literals {
            literals::register(&mut self.state)?;
        }
        let with_casts = statement.clone();
        let casts = take_casts(&mut statement, declared);
        let is_marked = assignments::mark(&mut statement);
        let beside = match is_marked || casts.taken.is_empty() || parameters::known(declared, &casts).is_some() {
            true => None,
            false => self.types_beside_casts(with_casts, declared, &casts).await,
        };
        let declared = beside.as_deref().unwrap_or(declared);
        if assignments::mark_conflict(&mut statement) || is_marked {
            assignments::register(&mut self.state)?;
        }
        uuid_values::mark_constants(&mut statement, &self.context).await?;
        if parsed.objects {
            self.refresh_objects().await?;
        }
        let kept = (self.keeps_constants || self.zone_of_constants != self.zone).then(|| statement.clone());
        let (mut plan, mut parameters) = self.plan_typed(statement, declared, &casts, is_marked).await?;
        if let Some(mut statement) = kept {
            let texts = self.local_constants(&plan)?;
            if !texts.is_empty() {
                write_zone(&mut statement, &texts, &self.zone_of_constants);
                (plan, parameters) = self.plan_typed(statement, declared, &casts, is_marked).await?;
                self.check_constants(&plan)?;
            }
        }
        if has_literals || parameters.iter().any(Parameter::is_kept_as_text) || marks::has_marks(&plan)? {
            plan = marks::settle(plan)?;
            mark_checks::check(&plan)?;
        }
        uuid_values::check(&plan)?;
        if !matches!(parsed.utility, Some(Utility::Refresh { .. })) {
            materialized_views::check(&plan)?;
        }
        let silent = matches!(
            plan,
            LogicalPlan::Ddl(_) | LogicalPlan::Dml(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_)
        ) || row_changes::is_upsert(&plan);
        let columns = || Columns::new(&self.described(&plan), &parsed.names).with_modifiers(&plan);
        let columns = (!silent).then(|| Arc::new(columns()));
        let (zone, zone_of_constants) = (self.zone, self.zone_of_constants);
        let reads_lists = session_tables::reads_lists(&plan);
        Ok(PreparedStatement {
            parsed,
            plan: Some(plan),
            parameters,
            columns,
            version,
            zone,
            zone_of_constants,
            reads_lists,
            made: now(),
            from_sql: false,
            order: DateStyle::of(self.state.config_options()).order,
            plans: PlanCache::default(),
            _memory: memory,
        })
    }

    /// Returns the types of all parameters, of which some are cast: those beside `$1::numeric` in `$1::numeric + $2` are known
    /// before the cast is taken out. `None` if they are not found so.
    async fn types_beside_casts(
        &self,
        statement: Statement,
        declared: &[Option<Type>],
        casts: &ParameterCasts,
    ) -> Option<Vec<Option<Type>>> {
        let plan = self.plan(statement).await.ok()?;
        let (_, parameters) = parameters::infer(plan, declared, casts, &self.zone).ok()?;
        Some(parameters.into_iter().map(|parameter| Some(parameter.wire)).collect())
    }

    /// Plans a statement and finds its parameters. `is_marked` is true if values that it assigns are marked.
    async fn plan_typed(
        &self,
        statement: Statement,
        declared: &[Option<Type>],
        casts: &ParameterCasts,
        is_marked: bool,
    ) -> Result<(LogicalPlan, Vec<Parameter>), SqlError> {
        let known = parameters::known(declared, casts);
        let plan = match known.clone() {
            Some(types) => self.plan_with(statement.clone(), types).await?,
            None => self.plan(statement.clone()).await?,
        };
        let assignments = Assignments::new(declared, casts, &self.zone, &self.state, is_marked);
        let plan = assignments.overriding(self.overriding).reading_in(&self.zone_of_constants).settle(plan)?;
        let again = known.is_none() && parameters::needs_types_first(&plan);
        let (plan, parameters) = parameters::infer(plan, declared, casts, &self.zone)?;
        if again && let Some(types) = parameters::found_as(&parameters) {
            let typed: Vec<_> = parameters.iter().map(|parameter| Some(parameter.wire.clone())).collect();
            let planned = self.plan_with(statement, types).await?;
            let assignments = Assignments::new(&typed, casts, &self.zone, &self.state, is_marked);
            let assignments = assignments.overriding(self.overriding).reading_in(&self.zone_of_constants);
            let planned = assignments.settle(planned)?;
            return parameters::infer(planned, &typed, casts, &self.zone);
        }
        Ok((plan, parameters))
    }

    /// Returns the constant texts that a plan reads in the time zone of the session.
    fn local_constants(&self, plan: &LogicalPlan) -> Result<BTreeSet<String>, SqlError> {
        match self.analyzed(plan) {
            Ok(analyzed) => Ok(neuroql::local_constants(&analyzed)?),
            // An error of the plan is reported when it runs.
            Err(_) => Ok(BTreeSet::new()),
        }
    }

    /// Checks that no constant would be another instant in another time zone.
    fn check_constants(&self, plan: &LogicalPlan) -> Result<(), SqlError> {
        match self.local_constants(plan)?.first() {
            Some(text) => {
                let message = format!("the constant '{text}' cannot be kept without its time zone; write it behind");
                Err(SqlError::not_supported(message))
            }
            None => Ok(()),
        }
    }

    /// Refuses a plan of a view with a date whose form does not tell the order of its parts: other sessions may have another
    /// order.
    fn check_order(&self, plan: &LogicalPlan) -> Result<(), SqlError> {
        // An error of the plan is reported when it runs.
        let Ok(analyzed) = self.analyzed(plan) else { return Ok(()) };
        match neuroql::ordered_constant(&analyzed)? {
            Some(text) => {
                let message = format!("'{text}' in a view is not supported, because its order depends on DateStyle");
                Err(SqlError::not_supported(message).with_hint("Write the date as in '2000-12-31'."))
            }
            None => Ok(()),
        }
    }

    /// Applies the rules that come before types are coerced: those of a view are coerced when it is created, without them.
    fn before_coercion(&self, plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
        let mut rules = self.state.analyzer().rules.iter().take_while(|rule| rule.name() != TYPE_COERCION);
        rules.try_fold(plan, |plan, rule| rule.analyze(plan, self.state.config_options()))
    }

    fn analyzed(&self, plan: &LogicalPlan) -> DataFusionResult<LogicalPlan> {
        let state = &self.state;
        state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {})
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
        if let Some(query) = returning::take(&mut statement)? {
            let change = Box::pin(self.plan(statement)).await?;
            return returning::combined(change, Box::pin(self.plan(query)).await?);
        }
        if let Some(mut conflict) = row_changes::take_conflict(&mut statement)? {
            let insert = Box::pin(self.plan(statement)).await?;
            let update = match conflict.update.take() {
                Some(update) => Some(Box::pin(self.plan(update)).await?),
                None => None,
            };
            return conflict.combined(insert, update);
        }
        let is_scalar = |name: &str| {
            self.state.scalar_functions().contains_key(name)
                && !self.state.aggregate_functions().contains_key(name)
                && !self.state.window_functions().contains_key(name)
        };
        scalar_subqueries::inline(&mut statement, &is_scalar);
        array_subqueries::aggregate(&mut statement, &|name| self.state.aggregate_functions().contains_key(name))?;
        from_functions::make_rows(&mut statement, &|name| {
            is_scalar(name) && !self.state.table_functions().contains_key(name)
        })?;
        own_types::resolve(&mut statement, &self.context).await?;
        unsupported::check_calls(&statement, &is_scalar)?;
        self.temporary.check(&statement)?;
        call_arrays(&mut statement);
        utility::unmark(&mut statement);
        let change = row_changes::take(&mut statement)?;
        let has_types = matches!(&statement, Statement::Statement(inner)
            if matches!(inner.as_ref(), ast::Statement::CreateTable(table) if !table.columns.is_empty()));
        let mut again = statement.clone();
        let mut plan = match self.state.statement_to_plan(statement).await {
            // Expressions that are written otherwise and planned alike, such as `every(a)` beside `bool_and(a)`.
            // Nor are those that `ORDER BY 1` stands for found beside groups unless they have a name.
            Err(error)
                if [
                    "require unique expression names",
                    "which would be ambiguous",
                    "duplicate unqualified field name",
                ]
                .iter()
                .any(|text| error.strip_backtrace().contains(text))
                    || error.strip_backtrace().contains("Column in ORDER BY must be in GROUP BY")
                        && !column_names::makes_columns(&again) =>
            {
                column_names::alias_expressions(&mut again);
                self.state.statement_to_plan(again.clone()).await?
            }
            Err(error)
                if error.strip_backtrace().contains("Cannot access field at argument")
                    && table_aliases::rename(&mut again) =>
            {
                self.state.statement_to_plan(again.clone()).await?
            }
            // The planner finds the fields of outputs, the analyzer those in conditions.
            Ok(plan) if table_aliases::accesses_no_field(&plan)? && table_aliases::rename(&mut again) => {
                self.state.statement_to_plan(again.clone()).await?
            }
            Err(error) if uuid_values::is_not_told_from(&error.strip_backtrace()) => {
                uuid_values::compare_with_texts(&mut again);
                self.state.statement_to_plan(again.clone()).await?
            }
            Err(error)
                if uuid_values::has_no_cast_to_text(&error.strip_backtrace())
                    && let Some(query) = uuid_values::query_of(&again) =>
            {
                let query = self.state.statement_to_plan(query).await?;
                uuid_values::write_texts(&mut again, query.schema(), &self.context).await?;
                self.state.statement_to_plan(again.clone()).await?
            }
            Err(error) if let Some(refused) = assignments::unassignable(&error.strip_backtrace()) => {
                return Err(refused);
            }
            Err(error) if error.strip_backtrace().contains("Inconsistent metadata across values list") => {
                let message = "VALUES of different types in a column are not supported; cast them to one";
                return Err(SqlError::not_supported(message));
            }
            planned => planned?,
        };
        if let Some(change) = change {
            plan = match change.planned(plan)? {
                Some(planned) => planned,
                None => self.state.statement_to_plan(change.into_original()).await?,
            };
        }
        if let LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) = &mut plan
            && !has_types
            && let Some(input) = modifiers::with_lengths(&create.input)?
        {
            create.input = Arc::new(input);
        }
        match &plan {
            LogicalPlan::Ddl(DdlStatement::CreateView(CreateView { input, .. })) => {
                column_names::check_columns(input.schema())?;
            }
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(CreateMemoryTable { input, .. })) => {
                column_names::check_columns(input.schema())?;
            }
            LogicalPlan::Copy(copy) => column_names::check_columns(copy.input.schema())?,
            _ => {}
        }
        if let LogicalPlan::Ddl(DdlStatement::CreateView(view)) = &plan {
            let texts = self.local_constants(&view.input)?;
            if !texts.is_empty() {
                write_zone(&mut again, &texts, &self.zone);
                plan = self.state.statement_to_plan(again.clone()).await?;
                if let LogicalPlan::Ddl(DdlStatement::CreateView(view)) = &plan {
                    self.check_constants(&view.input)?;
                }
            }
        }
        if let LogicalPlan::Ddl(DdlStatement::CreateView(view)) = &mut plan {
            self.check_order(&view.input)?;
            let mut input = view.input.as_ref().clone();
            // The rules would take values of these types for texts.
            if marks::has_marks(&input)? {
                input = marks::settle(input)?;
            }
            view.input = Arc::new(self.before_coercion(input)?);
            own_types::restore(&mut again);
            view.definition = Some(ddl::written(again));
        }
        uuid_values::read_defaults(&mut plan)?;
        if marks::has_marks(&plan)? {
            plan = marks::settle(plan)?;
        }
        user_types::check_relations(&plan)?;
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
        // An error of the plan is reported when it runs.
        self.analyzed(plan).map_or_else(|_| planned(), |analyzed| analyzed.schema().as_arrow().clone())
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
    let mut found = false;
    let visited = plan.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::Union(_) | LogicalPlan::RecursiveQuery(_));
        let mut schema = None;
        node.apply_expressions(|expr| {
            found |= expr.exists(|part| {
                Ok(match part {
                    Expr::Case(_) | Expr::Literal(ScalarValue::UInt64(_), _) => true,
                    // They have the type of the values, or of the one in the place of those that are not there.
                    Expr::WindowFunction(call) => {
                        matches!(call.fun.name(), "lag" | "lead") && call.params.args.len() > 2
                    }
                    Expr::ScalarFunction(call) if TYPED_LATER.contains(&call.name()) => {
                        has_other_type(call, schema.get_or_insert_with(|| merge_schema(&node.inputs())))
                    }
                    _ => false,
                })
            })?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found || visited.is_err()
}

/// Functions that [`has_other_type`] knows.
const TYPED_LATER: [&str; 8] =
    ["coalesce", "date_trunc", "greatest", "least", "make_array", "nullif", "round", "trunc"];

/// Returns true if a call has another type once its arguments have the types that Postgres gives them.
fn has_other_type(call: &ScalarFunction, schema: &DFSchema) -> bool {
    let types: Vec<_> = call.args.iter().filter_map(|arg| arg.get_type(schema).ok()).collect();
    match call.name() {
        "round" | "trunc" => call.args.len() == 2 && types.first().is_some_and(DataType::is_integer),
        "date_trunc" => types.contains(&DataType::Date32),
        _ => {
            let is_mixed = types.iter().any(DataType::is_floating) && types.iter().any(|found| found.is_decimal());
            is_mixed || types.contains(&DataType::Float32) && types.contains(&DataType::Float64)
        }
    }
}

/// Makes calls of `ARRAY[…]` with parameters or subqueries: the planner forgets the types of parameters and the queries of WITH
/// inside of it. So it does of `= ANY` with a parameter or a constant.
fn call_arrays(statement: &mut Statement) {
    let call = |expr: &mut ast::Expr| {
        if let Some(sides) = uuid_values::any_of_unknown(expr) {
            *expr = rewrite::call("array_has", sides);
        }
        let ast::Expr::Array(array) = expr else { return ControlFlow::<()>::Continue(()) };
        let found = ast::visit_expressions(&array.elem, |part| match part {
            ast::Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. })
            | ast::Expr::Subquery(_)
            | ast::Expr::Exists { .. }
            | ast::Expr::InSubquery { .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        if found.is_break() {
            *expr = rewrite::call("make_array", std::mem::take(&mut array.elem));
        }
        ControlFlow::Continue(())
    };
    match statement {
        Statement::Statement(inner) => {
            let _ = ast::visit_expressions_mut(inner.as_mut(), call);
        }
        Statement::Explain(explain) => call_arrays(&mut explain.statement),
        Statement::CopyTo(copy) => {
            if let CopyToSource::Query(query) = &mut copy.source {
                let _ = ast::visit_expressions_mut(query.as_mut(), call);
            }
        }
        _ => {}
    }
}

/// Writes the name of a time zone behind each of these texts.
fn write_zone(statement: &mut Statement, texts: &BTreeSet<String>, zone: &str) {
    struct Zone<'a> {
        texts: &'a BTreeSet<String>,
        name: &'a str,
    }

    impl VisitorMut for Zone<'_> {
        type Break = ();

        fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
            if let Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) = &mut value.value
                && self.texts.contains(text.as_str())
            {
                text.push(' ');
                text.push_str(self.name);
            }
            ControlFlow::Continue(())
        }
    }

    if let Statement::Statement(inner) = statement {
        let _ = inner.visit(&mut Zone { texts, name: zone });
    }
}
