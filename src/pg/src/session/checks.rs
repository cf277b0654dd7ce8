//! CHECK constraints of tables in memory: their conditions are planned when they are made, and evaluated for the rows of a
//! change while its transaction holds the table.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ResolvedTableReference, TableReference};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, not};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::sqlparser::ast::{self, SelectItem, SetExpr};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_postgres::pgwire::api::Type;
use neuroql::PostgresDialect;

use crate::catalog::keys::held::{self, Check};
use crate::decode;
use crate::encode::column;
use crate::session::Session;
use crate::session::constraints;
use crate::session::result_stream::{executed, isolated};
use crate::session::transaction::of_partitions;
use crate::sql::deparse::Deparser;
use crate::sql::parse::ParsedStatement;
use crate::sql::table_constraints::{NewCheck, check_condition};
use crate::wire::error_response::SqlError;

/// Checks the batches of a table from these numbers on, those of each partition, against its CHECK constraints. `None` is
/// for all batches.
///
/// # Errors
/// 23514 with the first constraint, by name, that a row violates, 23502 for a NULL in a primary key, and what the conditions
/// fail with.
pub(super) async fn check(
    context: &SessionContext,
    table: &Arc<dyn TableProvider>,
    name: &str,
    from: Option<&[usize]>,
) -> Result<(), SqlError> {
    let Some(held) = held::of(table.as_ref()) else { return Ok(()) };
    if held.checks.is_empty() {
        return Ok(());
    }
    // NULL where none may be is found first.
    constraints::check_primary(table.as_ref(), name)?;
    check_rows(context, table, name, &rows_from(table.as_ref(), from)).await
}

/// Checks rows of a table, which need not be in it, against its CHECK constraints.
///
/// # Errors
/// 23514 with the first constraint, by name, that a row violates, and what the conditions fail with.
pub(super) async fn check_rows(
    context: &SessionContext,
    table: &Arc<dyn TableProvider>,
    name: &str,
    rows: &[RecordBatch],
) -> Result<(), SqlError> {
    let Some(held) = held::of(table.as_ref()) else { return Ok(()) };
    let mut checks = held.checks.clone();
    checks.sort_by(|one, other| one.name.cmp(&other.name));
    for check in checks {
        if is_violated(context, table, &check, rows.to_vec()).await? {
            let message = format!("new row for relation \"{name}\" violates check constraint \"{}\"", check.name);
            return Err(SqlError::error("23514", message).with_hint(format!("Its condition is {}.", check.plain_text)));
        }
    }
    Ok(())
}

/// Returns the batches of a table from these numbers on, those of each partition.
pub(super) fn rows_from(table: &dyn TableProvider, from: Option<&[usize]>) -> Vec<RecordBatch> {
    let mut from = from.unwrap_or_default().iter();
    let added =
        of_partitions(table, |batches| batches.get(from.next().copied().unwrap_or(0)..).unwrap_or_default().to_vec());
    added.into_iter().flatten().collect()
}

/// Returns true if the condition is false for one of the rows, which are of a table.
pub(super) async fn is_violated(
    context: &SessionContext,
    table: &Arc<dyn TableProvider>,
    check: &Check,
    rows: Vec<RecordBatch>,
) -> Result<bool, SqlError> {
    if rows.iter().all(|batch| batch.num_rows() == 0) {
        return Ok(false);
    }
    let of_rows = MemTable::try_new(table.schema(), vec![Vec::new()])?;
    of_partitions(&of_rows, |batches| batches.clone_from(&rows));
    let scan = LogicalPlanBuilder::scan(check.table.clone(), provider_as_source(Arc::new(of_rows)), None)?;
    let plan = scan.filter(not(check.condition.clone()))?.limit(0, Some(1))?.build()?;
    Ok(executed(context, plan).await?.iter().any(|batch| batch.num_rows() > 0))
}

impl Session {
    /// Plans a CHECK constraint of a table. `name` chooses its name from the names of the columns of the condition.
    ///
    /// # Errors
    /// Those of PostgreSQL for a condition that is none of a row of the table.
    pub(super) async fn plan_check(
        &self,
        table: &ResolvedTableReference,
        new: &NewCheck,
        name: impl FnOnce(&[&str]) -> Result<String, SqlError> + Send,
    ) -> Result<Check, SqlError> {
        let (state, condition, from) = (self.context.state(), new.condition.clone(), table.clone());
        let parsed = isolated(async move {
            check_condition(&condition, &|name| {
                state.aggregate_functions().contains_key(name) && !state.scalar_functions().contains_key(name)
            })?;
            ParsedStatement::new(query(condition, &from)?)
        });
        let prepared = self.prepare_condition(parsed.await?).await?;
        let plan = prepared.plan.clone();
        let syntax = new.condition.clone();
        let planned = isolated(async move { planned(plan, &syntax) }).await?;
        let Planned { condition, table, columns, text, plain_text } = planned;
        let names: Vec<_> = columns.iter().map(|(_, name)| name.as_str()).collect();
        let name = name(&names)?;
        let columns = columns.iter().map(|(place, _)| *place).collect();
        Ok(Check { name, condition, table, columns, text, plain_text })
    }
}

/// Returns the query of a condition from its table.
fn query(condition: ast::Expr, table: &ResolvedTableReference) -> Result<DFStatement, SqlError> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let parts = [&table.catalog, &table.schema, &table.table].map(|part| quoted(part));
    let text = format!("SELECT 1 FROM {}", parts.join("."));
    let parsed = Parser::parse_sql(&PostgresDialect, &text).map_err(DataFusionError::from)?.pop();
    let Some(mut statement) = parsed else { return Err(unplanned()) };
    if let ast::Statement::Query(query) = &mut statement
        && let SetExpr::Select(select) = query.body.as_mut()
    {
        select.projection = vec![SelectItem::UnnamedExpr(condition)];
    }
    Ok(DFStatement::Statement(Box::new(statement)))
}

fn unplanned() -> SqlError {
    SqlError::not_supported("this condition of a CHECK constraint is not supported")
}

/// A condition that is planned.
struct Planned {
    condition: Expr,
    table: TableReference,
    /// The columns that it names, with their places.
    columns: Vec<(usize, String)>,
    text: String,
    plain_text: String,
}

fn planned(plan: Option<LogicalPlan>, syntax: &ast::Expr) -> Result<Planned, SqlError> {
    let Some(LogicalPlan::Projection(projection)) = plan else { return Err(unplanned()) };
    let LogicalPlan::TableScan(scan) = projection.input.as_ref() else { return Err(unplanned()) };
    let [condition] = projection.expr.as_slice() else { return Err(unplanned()) };
    let condition = condition.clone().unalias_nested().data;
    let kind = condition.get_type(projection.input.schema())?;
    if !matches!(kind, DataType::Boolean | DataType::Null) {
        let kind = column::pg_type(&kind).map_or_else(|| kind.to_string(), |kind| decode::name(&kind));
        let message = format!("argument of CHECK must be type boolean, not type {kind}");
        return Err(SqlError::error("42804", message));
    }
    let schema = scan.source.schema();
    let mut columns: Vec<(usize, String)> = Vec::new();
    condition.apply(|part| {
        if let Expr::Column(column) = part
            && !columns.iter().any(|(_, name)| *name == column.name)
        {
            columns.push((schema.index_of(&column.name)?, column.name.clone()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let kind = |name: &str| {
        let field = schema.field_with_name(name).ok()?;
        match column::wire_kind(field)? {
            Type::BPCHAR => Some("bpchar".into()),
            kind => Some(decode::name(&kind)),
        }
    };
    let write = |is_plain| Deparser { kind: &kind, is_plain }.condition(syntax);
    let (text, plain_text) = (write(false), write(true));
    Ok(Planned { condition, table: scan.table_name.clone(), columns, text, plain_text })
}
