//! UPDATE and DELETE as queries of the rows that they change.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::Column;
use datafusion::datasource::{MemTable, source_as_provider};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    DmlStatement, Expr, ExprSchemable, LogicalPlan, Prepare, Projection, Statement as PlanStatement, TableScan, WriteOp,
};
use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::sqlparser::ast::{
    self, AssignmentTarget, Delete, FromTable, Ident, Query, SelectItem, SetExpr, Statement, TableFactor,
    TableWithJoins, Update, UpdateTableFromKind, Value,
};

use crate::session::returning;
use crate::session::row_changes::internal;
use crate::sql::assignments;
use crate::sql::column_names::fold;
use crate::sql::rewrite::join_using;
use crate::wire::error_response::SqlError;

/// An UPDATE or DELETE whose query is planned in its place.
pub(crate) struct ChangeQuery {
    /// The name of the changed table, for messages.
    table: String,
    /// The columns that an UPDATE assigns values to, which are the outputs of the query.
    assigned: Option<Vec<String>>,
    /// The part that the planner has no plan of, for tables that are not in memory.
    needs: Option<&'static str>,
    original: DFStatement,
}

/// Puts the query of an UPDATE or DELETE into its place. What the planner refuses it is left.
///
/// # Errors
/// 42601 for syntax of other databases, 42703 for a column that is none of the table.
pub(crate) fn take(statement: &mut DFStatement) -> Result<Option<ChangeQuery>, SqlError> {
    let DFStatement::Statement(inner) = &*statement else { return Ok(None) };
    let change = match inner.as_ref() {
        Statement::Prepare { statement, .. } => statement.as_ref(),
        other => other,
    };
    let found = match change {
        Statement::Update(update) => of_update(update)?,
        Statement::Delete(delete) => of_delete(delete)?,
        _ => None,
    };
    let Some((mut query, table, assigned, needs)) = found else { return Ok(None) };
    check_names(&query)?;
    join_using::rewrite(&mut query)?;
    let original = statement.clone();
    let query = Statement::Query(Box::new(query));
    if let DFStatement::Statement(inner) = statement {
        match inner.as_mut() {
            Statement::Prepare { statement, .. } => **statement = query,
            other => *other = query,
        }
    }
    Ok(Some(ChangeQuery { table, assigned, needs, original }))
}

/// Refuses another table of the name of the changed one.
fn check_names(query: &Query) -> Result<(), SqlError> {
    let SetExpr::Select(select) = query.body.as_ref() else { return Ok(()) };
    let name = |table: &TableFactor| match table {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
            Some(fold(&alias.name))
        }
        TableFactor::Table { name, args: None, .. } => name.0.last().and_then(|part| part.as_ident()).map(fold),
        _ => None,
    };
    let tables = select
        .from
        .iter()
        .flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)));
    let mut names = tables.filter_map(name);
    let Some(first) = names.next() else { return Ok(()) };
    match names.any(|other| other == first) {
        true => Err(SqlError::error("42712", format!("table name \"{first}\" specified more than once"))),
        false => Ok(()),
    }
}

/// A query, the name of the changed table, the assigned columns, and what the planner has no plan of.
type Found = (Query, String, Option<Vec<String>>, Option<&'static str>);

fn of_update(update: &Update) -> Result<Option<Found>, SqlError> {
    let Update { table, assignments, from, selection, returning, output, or, order_by, limit, .. } = update;
    let is_other = returning.is_some() || output.is_some() || or.is_some() || limit.is_some() || !order_by.is_empty();
    if is_other || !update.optimizer_hints.is_empty() {
        return Ok(None);
    }
    let mut tables = vec![changed(table, "UPDATE")?];
    let needs = match from {
        Some(UpdateTableFromKind::AfterSet(others)) => {
            tables.extend(others.iter().cloned());
            Some("UPDATE … FROM")
        }
        Some(UpdateTableFromKind::BeforeSet(_)) => return Err(syntax("FROM before SET")),
        None => None,
    };
    let name = name_of(table);
    let (mut columns, mut items) = (Vec::new(), Vec::new());
    for (place, assignment) in assignments.iter().enumerate() {
        let AssignmentTarget::ColumnName(target) = &assignment.target else { return Ok(None) };
        let parts: Vec<_> = target.0.iter().filter_map(|part| part.as_ident()).map(fold).collect();
        let column = match parts.as_slice() {
            [column] => column.clone(),
            [first, ..] => return Err(no_column(first, &name)),
            [] => return Ok(None),
        };
        columns.push(column);
        let alias = Ident::new(format!("neuroql_value_{place}"));
        items.push(SelectItem::ExprWithAlias { expr: assignment.value.clone(), alias });
    }
    Ok(Some((query(items, tables, selection.clone())?, name, Some(columns), needs)))
}

fn of_delete(delete: &Delete) -> Result<Option<Found>, SqlError> {
    let Delete { tables, from, using, selection, returning, output, order_by, limit, .. } = delete;
    let is_other = returning.is_some() || output.is_some() || limit.is_some() || !order_by.is_empty();
    if is_other || !tables.is_empty() || !delete.optimizer_hints.is_empty() {
        return Ok(None);
    }
    let FromTable::WithFromKeyword(targets) = from else { return Ok(None) };
    let [table] = targets.as_slice() else { return Err(syntax("several tables of a DELETE")) };
    let mut tables = vec![changed(table, "DELETE")?];
    tables.extend(using.iter().flatten().cloned());
    let has_alias = matches!(&table.relation, TableFactor::Table { alias: Some(_), .. });
    let needs = match (using, has_alias) {
        (Some(_), _) => Some("DELETE … USING"),
        (None, true) => Some("an alias of the table of a DELETE"),
        (None, false) => None,
    };
    let one = ast::Expr::value(Value::Number("1".into(), false));
    let items = vec![SelectItem::ExprWithAlias { expr: one, alias: Ident::new("neuroql_value") }];
    Ok(Some((query(items, tables, selection.clone())?, name_of(table), None, needs)))
}

/// Returns the table that a statement changes.
fn changed(table: &TableWithJoins, verb: &str) -> Result<TableWithJoins, SqlError> {
    match table {
        TableWithJoins { relation: TableFactor::Table { args: None, alias, .. }, joins } if joins.is_empty() => {
            match alias {
                Some(alias) if !alias.columns.is_empty() => {
                    Err(syntax("columns behind the alias of the changed table"))
                }
                _ => Ok(table.clone()),
            }
        }
        _ => Err(syntax(&format!("{verb} of something else than one table"))),
    }
}

fn syntax(what: &str) -> SqlError {
    SqlError::error("42601", format!("syntax error: {what}"))
}

fn name_of(table: &TableWithJoins) -> String {
    match &table.relation {
        TableFactor::Table { name, .. } => name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default(),
        _ => String::new(),
    }
}

fn no_column(column: &str, table: &str) -> SqlError {
    SqlError::error("42703", format!("column \"{column}\" of relation \"{table}\" does not exist"))
}

fn query(items: Vec<SelectItem>, tables: Vec<TableWithJoins>, selection: Option<ast::Expr>) -> Result<Query, SqlError> {
    let mut query = returning::template().ok_or_else(|| internal("there is no query of a change"))?;
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection = items;
        select.from = tables;
        select.selection = selection;
    }
    Ok(query)
}

impl ChangeQuery {
    /// Makes the plan of the change of that of its query; `None` if the planner's own is wanted, for a table that is not in
    /// memory.
    ///
    /// # Errors
    /// 42803, 42P20 and 0A000 for what are no values of each row, 0A000 for what there is for tables in memory only.
    pub(crate) fn planned(&self, plan: LogicalPlan) -> Result<Option<LogicalPlan>, SqlError> {
        let projection = match plan {
            LogicalPlan::Statement(PlanStatement::Prepare(prepare)) => {
                let input = self.planned(Arc::unwrap_or_clone(prepare.input))?;
                return Ok(input.map(|input| {
                    let prepare = Prepare { input: Arc::new(input), ..prepare };
                    LogicalPlan::Statement(PlanStatement::Prepare(prepare))
                }));
            }
            LogicalPlan::Projection(projection) => projection,
            _ => return Err(internal("the query of a change has another plan")),
        };
        self.check_values(&projection.input)?;
        let Some(scan) = target(&projection.input).filter(|scan| is_in_memory(scan)) else {
            return match self.needs {
                Some(part) => {
                    let message = format!("{part} is not supported: the table \"{}\" is not in memory", self.table);
                    Err(SqlError::not_supported(message))
                }
                None => Ok(None),
            };
        };
        let (name, source) = (scan.table_name.clone(), Arc::clone(&scan.source));
        let Some(columns) = &self.assigned else {
            return Ok(Some(LogicalPlan::Dml(DmlStatement::new(name, source, WriteOp::Delete, projection.input))));
        };
        let (schema, rows) = (source.schema(), projection.input);
        let mut values: HashMap<&str, Expr> = HashMap::new();
        for (column, value) in columns.iter().zip(projection.expr) {
            if schema.index_of(column).is_err() {
                return Err(no_column(column, &self.table));
            }
            values.insert(column, value.unalias());
        }
        let outputs = schema.fields().iter().enumerate().map(|(place, field)| {
            let value = match values.remove(field.name().as_str()) {
                Some(value) => value.cast_to(field.data_type(), rows.schema()).map_err(unassignable)?,
                None => Expr::Column(Column::from(rows.schema().qualified_field(place))),
            };
            Ok(value.alias(field.name()))
        });
        let outputs = outputs.collect::<Result<Vec<_>, SqlError>>()?;
        let rows = LogicalPlan::Projection(Projection::try_new(outputs, rows)?);
        Ok(Some(LogicalPlan::Dml(DmlStatement::new(name, source, WriteOp::Update, Arc::new(rows)))))
    }

    /// Returns the statement as the planner reads it.
    pub(crate) fn into_original(self) -> DFStatement {
        self.original
    }

    /// Refuses values that are those of several rows.
    fn check_values(&self, rows: &LogicalPlan) -> Result<(), SqlError> {
        let Some(verb) = self.assigned.as_ref().map(|_| "UPDATE") else { return Ok(()) };
        match rows {
            LogicalPlan::Aggregate(_) => {
                Err(SqlError::error("42803", format!("aggregate functions are not allowed in {verb}")))
            }
            LogicalPlan::Window(_) => {
                Err(SqlError::error("42P20", format!("window functions are not allowed in {verb}")))
            }
            LogicalPlan::Unnest(_) => {
                Err(SqlError::not_supported(format!("set-returning functions are not allowed in {verb}")))
            }
            _ => Ok(()),
        }
    }
}

fn unassignable(error: DataFusionError) -> SqlError {
    assignments::unassignable(&error.strip_backtrace()).unwrap_or_else(|| error.into())
}

/// Returns the first table of the rows of a change.
pub(super) fn target(rows: &LogicalPlan) -> Option<&TableScan> {
    match rows {
        LogicalPlan::TableScan(scan) => Some(scan),
        LogicalPlan::Filter(filter) => target(&filter.input),
        LogicalPlan::Join(join) => target(&join.left),
        LogicalPlan::SubqueryAlias(alias) => target(&alias.input),
        _ => None,
    }
}

fn is_in_memory(scan: &TableScan) -> bool {
    source_as_provider(&scan.source).is_ok_and(|table| table.downcast_ref::<MemTable>().is_some())
}

/// Puts another plan into the place of the first table of the rows of a change, or of the join of it with others.
pub(super) fn with_first(
    rows: &LogicalPlan,
    first: LogicalPlan,
    is_first: fn(&LogicalPlan) -> bool,
) -> Result<LogicalPlan, SqlError> {
    if is_first(rows) {
        return Ok(first);
    }
    let mut inputs: Vec<LogicalPlan> = rows.inputs().into_iter().cloned().collect();
    let Some(input) = inputs.first_mut() else { return Err(internal("a change reads no table")) };
    *input = with_first(input, first, is_first)?;
    Ok(rows.with_new_exprs(rows.expressions(), inputs)?)
}
