//! RETURNING of INSERT, UPDATE and DELETE.
//!
//! The planner knows no such statements. One is two plans: the change, and a query of its table, which runs over the changed rows
//! alone: those that an INSERT has added, the new ones of an UPDATE, the old ones of a DELETE.

use std::fmt;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchemaRef, plan_err};
use datafusion::datasource::{MemTable, provider_as_source, source_as_provider};
use datafusion::error::Result;
use datafusion::logical_expr::{
    DmlStatement, Expr, Extension, LogicalPlan, LogicalPlanBuilder, Prepare, Projection, Statement as PlanStatement,
    UserDefinedLogicalNodeCore, WriteOp,
};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, FromTable, Ident, ObjectName, Query, SelectItem, SetExpr, TableFactor, TableObject, TableWithJoins,
    UpdateTableFromKind,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_postgres::pgwire::messages::response::TransactionStatus;

use crate::session::result_stream::{ResultRows, executed};
use crate::session::row_changes;
use crate::session::transaction::{lengths, partitions};
use crate::session::{CommandTag, Outcome, Session};
use crate::sql::parse::ParsedStatement;
use crate::sql::rewrite::join_using;
use crate::wire::error_response::{Failure, SqlError};

/// A change, and the query of its rows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
struct Returning {
    change: LogicalPlan,
    rows: LogicalPlan,
}

impl UserDefinedLogicalNodeCore for Returning {
    fn name(&self) -> &str {
        "Returning"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.change, &self.rows]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.rows.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Returning")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match <[LogicalPlan; 2]>::try_from(inputs) {
            Ok([change, rows]) => Ok(Self { change, rows }),
            Err(_) => plan_err!("RETURNING has two inputs"),
        }
    }
}

/// Returns the change of a statement with RETURNING, and the query of its rows.
pub(crate) fn parts(plan: &LogicalPlan) -> Option<(&LogicalPlan, &LogicalPlan)> {
    let LogicalPlan::Extension(Extension { node }) = plan else { return None };
    let returning = node.as_any().downcast_ref::<Returning>()?;
    Some((&returning.change, &returning.rows))
}

/// Returns a plan with another change.
pub(crate) fn with_change(
    plan: LogicalPlan,
    change: impl FnOnce(LogicalPlan) -> Result<LogicalPlan, SqlError>,
) -> Result<LogicalPlan, SqlError> {
    match parts(&plan) {
        Some((before, rows)) => Ok(node(change(before.clone())?, rows.clone())),
        None => Ok(plan),
    }
}

fn node(change: LogicalPlan, rows: LogicalPlan) -> LogicalPlan {
    LogicalPlan::Extension(Extension { node: Arc::new(Returning { change, rows }) })
}

/// Takes RETURNING out of a statement, and makes a query of it.
///
/// # Errors
/// 0A000 for one of which the rows are not known.
pub(crate) fn take(statement: &mut Statement) -> Result<Option<Statement>, SqlError> {
    let inner = match statement {
        Statement::Statement(inner) => inner.as_mut(),
        Statement::Explain(explain) => {
            return match take(&mut explain.statement)? {
                Some(_) => Err(SqlError::not_supported("EXPLAIN of a statement with RETURNING is not supported")),
                None => Ok(None),
            };
        }
        _ => return Ok(None),
    };
    Ok(match inner {
        ast::Statement::Prepare { name, data_types, statement } => {
            let query = of_change(statement)?;
            query.map(|query| {
                let statement = Box::new(ast::Statement::Query(Box::new(query)));
                ast::Statement::Prepare { name: name.clone(), data_types: data_types.clone(), statement }
            })
        }
        change => of_change(change)?.map(|query| ast::Statement::Query(Box::new(query))),
    }
    .map(|query| Statement::Statement(Box::new(query))))
}

/// Returns the items of RETURNING.
pub(crate) fn items(statement: &mut ast::Statement) -> Option<&mut Vec<SelectItem>> {
    match statement {
        ast::Statement::Insert(insert) => insert.returning.as_mut(),
        ast::Statement::Update(update) => update.returning.as_mut(),
        ast::Statement::Delete(delete) => delete.returning.as_mut(),
        ast::Statement::Prepare { statement, .. } => items(statement),
        _ => None,
    }
}

/// A query whose parts are replaced.
static TEMPLATE: LazyLock<Option<Query>> = LazyLock::new(|| {
    let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql("SELECT * FROM t");
    parsed.and_then(|mut parser| parser.parse_query()).ok().map(|query| *query)
});

/// Returns a query of one table, whose parts are to be replaced.
pub(super) fn template() -> Option<Query> {
    TEMPLATE.clone()
}

fn of_change(statement: &mut ast::Statement) -> Result<Option<Query>, SqlError> {
    let refused = |what: &str| Err(SqlError::not_supported(format!("RETURNING of {what} is not supported")));
    let (items, tables) = match statement {
        ast::Statement::Insert(insert) => match (insert.returning.take(), &insert.table) {
            (None, _) => return Ok(None),
            (Some(items), TableObject::TableName(name)) => {
                let alias = insert.table_alias.as_ref().map(|alias| alias.alias.clone());
                (items, vec![named(name.clone(), alias)?])
            }
            _ => return refused("an INSERT into no table"),
        },
        ast::Statement::Update(update) => match (update.returning.take(), &update.from) {
            (None, _) => return Ok(None),
            (Some(_), Some(UpdateTableFromKind::BeforeSet(_))) => return refused("UPDATE with FROM before SET"),
            (Some(items), from) => {
                let mut tables = vec![update.table.clone()];
                if let Some(UpdateTableFromKind::AfterSet(others)) = from {
                    tables.extend(others.iter().cloned());
                }
                (items, tables)
            }
        },
        ast::Statement::Delete(delete) => match (delete.returning.take(), &delete.from) {
            (None, _) => return Ok(None),
            (Some(items), FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) => {
                match tables.as_slice() {
                    [table] => {
                        let mut tables = vec![table.clone()];
                        tables.extend(delete.using.iter().flatten().cloned());
                        (items, tables)
                    }
                    _ => return refused("a DELETE from several tables"),
                }
            }
        },
        _ => return Ok(None),
    };
    let missing = || SqlError::error("XX000", "internal error: there is no query of RETURNING");
    let mut query = TEMPLATE.clone().ok_or_else(missing)?;
    let SetExpr::Select(select) = query.body.as_mut() else { return Err(missing()) };
    select.projection = items;
    select.from = tables;
    join_using::rewrite(&mut query)?;
    Ok(Some(query))
}

/// A table with an alias, whose names are replaced.
static ALIASED: LazyLock<Option<TableWithJoins>> = LazyLock::new(|| {
    let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql("t AS x");
    parsed.and_then(|mut parser| parser.parse_table_and_joins()).ok()
});

/// Returns a table of a query.
pub(super) fn named(name: ObjectName, alias: Option<Ident>) -> Result<TableWithJoins, SqlError> {
    let missing = || SqlError::error("XX000", "internal error: there is no table of a query");
    let mut table = ALIASED.clone().ok_or_else(missing)?;
    let TableFactor::Table { name: known_name, alias: known_alias, .. } = &mut table.relation else {
        return Err(missing());
    };
    *known_name = name;
    match alias {
        Some(alias) => known_alias.iter_mut().for_each(|known| known.name = alias.clone()),
        None => *known_alias = None,
    }
    Ok(table)
}

/// Makes one plan of a change and the query of its rows.
///
/// # Errors
/// 42803 and 42P20 for aggregates and window functions, 0A000 for what is not a value of each row, or not of this table.
pub(crate) fn combined(change: LogicalPlan, rows: LogicalPlan) -> Result<LogicalPlan, SqlError> {
    let (change, rows) = match (change, rows) {
        (
            LogicalPlan::Statement(PlanStatement::Prepare(change)),
            LogicalPlan::Statement(PlanStatement::Prepare(rows)),
        ) => {
            let input = combined(Arc::unwrap_or_clone(change.input), Arc::unwrap_or_clone(rows.input))?;
            let prepare = Prepare { input: Arc::new(input), ..change };
            return Ok(LogicalPlan::Statement(PlanStatement::Prepare(prepare)));
        }
        plans => plans,
    };
    let Some(dml) = row_changes::change_of(&change) else {
        return Err(SqlError::not_supported("RETURNING of a table that is not in memory is not supported"));
    };
    let table = source_as_provider(&dml.target)?;
    let mut tables = &rows;
    while let LogicalPlan::Projection(projection) = tables {
        tables = &projection.input;
    }
    match tables {
        LogicalPlan::SubqueryAlias(_) | LogicalPlan::TableScan(_) | LogicalPlan::Join(_) => {}
        LogicalPlan::Aggregate(_) => {
            return Err(SqlError::error("42803", "aggregate functions are not allowed in RETURNING"));
        }
        LogicalPlan::Window(_) => {
            return Err(SqlError::error("42P20", "window functions are not allowed in RETURNING"));
        }
        _ => return Err(SqlError::not_supported("set-returning functions are not allowed in RETURNING")),
    }
    if scans_of(&rows, &table)? != scans_of(tables, &table)? {
        return Err(SqlError::not_supported("RETURNING with a subquery of the changed table is not supported"));
    }
    Ok(self::node(change, rows))
}

/// Counts the scans of a table in a plan.
fn scans_of(plan: &LogicalPlan, table: &Arc<dyn TableProvider>) -> Result<usize> {
    let mut scans = 0;
    plan.apply_with_subqueries(|node| {
        scans += usize::from(is_scan_of(node, table));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(scans)
}

fn is_scan_of(node: &LogicalPlan, table: &Arc<dyn TableProvider>) -> bool {
    let LogicalPlan::TableScan(scan) = node else { return false };
    source_as_provider(&scan.source).is_ok_and(|found| Arc::ptr_eq(&found, table))
}

/// Takes the plans apart, of which a cast of the columns may be the outermost.
pub(super) fn split(plan: &LogicalPlan) -> Result<Option<(LogicalPlan, LogicalPlan)>> {
    if let Some((change, rows)) = parts(plan) {
        return Ok(Some((change.clone(), rows.clone())));
    }
    let LogicalPlan::Projection(outputs) = plan else { return Ok(None) };
    let Some((change, rows)) = parts(&outputs.input) else { return Ok(None) };
    let rows = Projection::try_new(outputs.expr.clone(), Arc::new(rows.clone()))?;
    Ok(Some((change.clone(), LogicalPlan::Projection(rows))))
}

/// Puts rows into the place of the tables of a query.
fn over(query: &LogicalPlan, rows: &[RecordBatch]) -> Result<LogicalPlan> {
    if let LogicalPlan::Projection(projection) = query {
        let input = over(&projection.input, rows)?;
        return Ok(LogicalPlan::Projection(Projection::try_new(projection.expr.clone(), Arc::new(input))?));
    }
    let fields =
        query.schema().fields().iter().enumerate().map(|(place, field)| {
            Arc::new(Field::clone(field).with_name(format!("column_{place}")).with_nullable(true))
        });
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batches = rows.iter().map(|batch| {
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type()));
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
    });
    let table = MemTable::try_new(Arc::clone(&schema), vec![batches.collect::<Result<Vec<_>>>()?])?;
    let scan = LogicalPlanBuilder::scan("changed_rows", provider_as_source(Arc::new(table)), None)?.build()?;
    let columns = query.schema().iter().zip(scan.schema().columns());
    let columns = columns
        .map(|((qualifier, field), column)| Expr::Column(column).alias_qualified(qualifier.cloned(), field.name()));
    LogicalPlanBuilder::from(scan.clone()).project(columns.collect::<Vec<_>>())?.build()
}

/// Returns the batches that were added to a table in memory, in the order of their rows: each partition gets one in turn.
fn added(table: &dyn TableProvider, before: &[usize]) -> Vec<RecordBatch> {
    let partitions = partitions(table).into_iter().zip(before);
    let mut partitions: Vec<_> = partitions.map(|(batches, before)| batches.into_iter().skip(*before)).collect();
    let mut batches = Vec::new();
    loop {
        let known = batches.len();
        batches.extend(partitions.iter_mut().filter_map(Iterator::next));
        if batches.len() == known {
            return batches;
        }
    }
}

impl Session {
    /// Runs an INSERT, and returns the rows that it has added.
    async fn inserted(
        &mut self,
        change: LogicalPlan,
        table: &Arc<dyn TableProvider>,
        parsed: &ParsedStatement,
    ) -> Result<Vec<RecordBatch>, Failure> {
        let LogicalPlan::Dml(DmlStatement { op, .. }) = &change else {
            return Err(SqlError::error("XX000", "internal error: RETURNING of no change").into());
        };
        // Nobody else changes the table from here on.
        let in_block = self.status != TransactionStatus::Idle;
        self.transaction.change_rows(Arc::clone(table), op, in_block).await?;
        let before = lengths(table.as_ref());
        // The change is a statement of its own, which checks constraints.
        let Outcome::Done(tag) = Box::pin(self.run_plan(change, parsed)).await? else {
            return Err(SqlError::error("XX000", "internal error: a change has rows").into());
        };
        let changed = added(table.as_ref(), &before);
        let count: usize = changed.iter().map(RecordBatch::num_rows).sum();
        if tag != format!("INSERT 0 {count}") {
            let message = format!("internal error: RETURNING has {count} rows of {tag}");
            return Err(SqlError::error("XX000", message).into());
        }
        Ok(changed)
    }

    /// Runs a change and the query of its rows. All rows are there before the first is sent: an error takes the change back.
    pub(super) async fn run_returning(
        &mut self,
        change: LogicalPlan,
        rows: LogicalPlan,
        parsed: &ParsedStatement,
    ) -> Result<Outcome, Failure> {
        let Some(dml) = row_changes::change_of(&change) else {
            return Err(SqlError::error("XX000", "internal error: RETURNING of no change").into());
        };
        let (verb, changed, count) = match (&change, &dml.op) {
            (LogicalPlan::Dml(_), WriteOp::Insert(_)) => {
                let table = source_as_provider(&dml.target)?;
                let changed = self.inserted(change.clone(), &table, parsed).await?;
                let count = changed.iter().map(RecordBatch::num_rows).sum();
                ("INSERT 0", changed, count)
            }
            (LogicalPlan::Dml(_), op) => {
                let verb = if matches!(op, WriteOp::Update) { "UPDATE" } else { "DELETE" };
                let changed = self.change_rows(dml, true).await?;
                (verb, changed.rows.into_iter().collect(), changed.count)
            }
            _ => {
                let changed = self.upsert(&change, true).await?;
                ("INSERT 0", changed.rows.into_iter().collect(), changed.count)
            }
        };
        let rows = self.transaction.visible(over(&rows, &changed)?)?;
        let schema: SchemaRef = Arc::clone(rows.schema().inner());
        let batches = executed(&self.context, rows).await?;
        let bytes = batches.iter().map(RecordBatch::get_array_memory_size).sum();
        let memory = self.reserve("the rows of RETURNING", bytes)?;
        Ok(Outcome::Rows(ResultRows::of_all(schema, batches, memory), CommandTag::changed(verb, count)))
    }
}
