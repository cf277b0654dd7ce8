//! Runs prepared statements and plans, up to the point where their rows can be fetched.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{LogicalPlan, Statement as PlanStatement, WriteOp};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use neuroql::{ReusablePlan, interruptible};

use crate::session::client_session::{Session, in_failed_transaction};
use crate::session::commands;
use crate::session::concealed_paths::without_files;
use crate::session::explain;
use crate::session::plan_cache::{PlanChoice, PlanGuard};
use crate::session::result_stream::{ResultRows, executed, isolated};
use crate::session::returning;
use crate::session::row_changes;
use crate::session::statement::{CommandTag, Outcome, PreparedStatement};
use crate::session::transaction::lengths;
use crate::sql::parameters;
use crate::sql::parse::ParsedStatement;
use crate::wire::error_response::{Failure, SqlError};

impl Session {
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
        if prepared.reads_lists {
            // PostgreSQL counts this execution, too.
            self.list();
        }
        match prepared.sql() {
            Some(statement) if commands::is_about_session(statement) => {
                Box::pin(commands::run(self, statement, &prepared, values)).await
            }
            _ => match &prepared.plan {
                Some(plan) => {
                    let kept = self.run_kept(&prepared, plan, values).await?;
                    prepared.plans.count(kept.is_some());
                    if let Some(outcome) = kept {
                        return Ok(outcome);
                    }
                    let mut bound = parameters::bind(plan.clone(), &prepared.parameters, values)?;
                    if prepared.columns.is_some() && !values.is_empty() {
                        bound = parameters::as_described(bound, plan)?;
                    }
                    // Apart, so that a statement with a kept plan does not move so large a future.
                    Box::pin(self.run_plan(bound, &prepared.parsed)).await
                }
                None => Err(SqlError::error("XX000", "internal error: a statement without a plan").into()),
            },
        }
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
        let mode = self.settings().plan_cache_mode();
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

    pub(crate) async fn run_plan(&mut self, plan: LogicalPlan, parsed: &ParsedStatement) -> Result<Outcome, Failure> {
        self.check(&plan).await?;
        if let Some((change, rows)) = returning::split(&plan)? {
            return self.run_returning(change, rows, parsed).await;
        }
        check_explained(&plan)?;
        if row_changes::is_upsert(&plan) {
            let changed = self.upsert(&plan, false).await?;
            return Ok(Outcome::Done(format!("INSERT 0 {}", changed.count)));
        }
        if let LogicalPlan::Dml(change) = &plan
            && matches!(change.op, WriteOp::Update | WriteOp::Delete)
            && row_changes::change_of(&plan).is_some()
        {
            let verb = if matches!(change.op, WriteOp::Update) { "UPDATE" } else { "DELETE" };
            let changed = self.change_rows(change, false).await?;
            return Ok(Outcome::Done(format!("{verb} {}", changed.count)));
        }
        let context = self.context.clone();
        let in_block = self.status != TransactionStatus::Idle;
        let mut changed = None;
        if let LogicalPlan::Dml(change) = &plan
            && let Ok(table) = source_as_provider(&change.target)
        {
            changed = Some(self.begin_change(table, change, in_block).await?);
        }
        let plan = self.transaction.visible(plan)?;
        match &plan {
            LogicalPlan::Ddl(_) => self.run_ddl(plan, parsed).await,
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
                let done = executed(&context, plan).await;
                let batches = match changed {
                    Some(changed) => self.end_change(changed, done).await?,
                    None => done?,
                };
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
                let tag = match &parsed.statement {
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
}

/// Refuses EXPLAIN where it would change a table in memory: EXPLAIN ANALYZE does without a look at constraints, and DataFusion
/// updates and deletes rows when it makes the plan of a change.
fn check_explained(plan: &LogicalPlan) -> Result<(), SqlError> {
    let (explained, verb) = match plan {
        LogicalPlan::Analyze(analyze) => (&analyze.input, "EXPLAIN ANALYZE"),
        LogicalPlan::Explain(explain) => (&explain.plan, "EXPLAIN"),
        _ => return Ok(()),
    };
    let LogicalPlan::Dml(change) = explained.as_ref() else { return Ok(()) };
    let is_insert = matches!(change.op, WriteOp::Insert(_));
    let is_in_memory = source_as_provider(&change.target).is_ok_and(|table| !lengths(table.as_ref()).is_empty());
    if !is_in_memory || is_insert && verb == "EXPLAIN" {
        return Ok(());
    }
    let what = if is_insert { "INSERT" } else { "UPDATE, DELETE and TRUNCATE" };
    Err(SqlError::not_supported(format!("{verb} of {what} of a table in memory is not supported")))
}

/// Returns the number of rows changed, which is DataFusion's answer to a change.
fn count(batches: &[RecordBatch]) -> u64 {
    batches
        .iter()
        .filter_map(|batch| batch.columns().first()?.as_primitive_opt::<UInt64Type>())
        .flat_map(|column| (0..column.len()).filter(|row| column.is_valid(*row)).map(|row| column.value(row)))
        .sum()
}
