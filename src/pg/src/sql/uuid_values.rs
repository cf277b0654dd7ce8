//! `uuid` where the planner has no casts: texts in assignments to columns of the type, defaults of such columns, and columns of
//! files.

use std::ops::ControlFlow;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::{CreateMemoryTable, DdlStatement, Expr, ExprSchemable, LogicalPlan, cast};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement;
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::{self, SelectItem, SetExpr, TableFactor, TableObject};
use datafusion_postgres::pgwire::api::Type;

use crate::decode;
use crate::encode::column;
use crate::sql::assignment_casts;
use crate::sql::assignments;
use crate::sql::column_names::fold;
use crate::sql::marks::lost;
use crate::sql::rewrite::{self, call};
use crate::wire::error_response::{SqlError, external};

/// Marks the constants that a statement assigns if a column of its table is of the type, and casts those that are outputs of
/// the query of an INSERT. The planner has casts of constants to other types, but none of a text to this one.
///
/// # Errors
/// If the table cannot be looked up.
pub(crate) async fn mark_constants(statement: &mut Statement, context: &SessionContext) -> Result<(), SqlError> {
    let Some(inner) = statement_of(statement) else { return Ok(()) };
    let Some(schema) = target_schema(inner, context).await?.filter(has_uuids) else {
        return Ok(());
    };
    let marked = |value: &mut ast::Expr| {
        if is_constant(value) {
            let inner = std::mem::replace(value, ast::Expr::value(ast::Value::Null));
            *value = call(assignments::MARK, vec![inner]);
        }
    };
    match inner {
        ast::Statement::Insert(insert) => {
            let columns = columns_of(insert, &schema);
            match insert.source.as_mut().map(|source| source.body.as_mut()) {
                Some(SetExpr::Values(values)) => {
                    values.rows.iter_mut().flat_map(|row| row.content.iter_mut()).for_each(marked);
                }
                Some(query) => cast_outputs(query, &ast::DataType::Uuid, &|place, output| {
                    is_text(output) && columns.get(place).is_some_and(neuroql::is_uuid)
                }),
                None => {}
            }
        }
        ast::Statement::Update(update) => {
            update.assignments.iter_mut().map(|assignment| &mut assignment.value).for_each(marked);
        }
        _ => {}
    }
    Ok(())
}

/// Takes the array and the value out of `value = ANY (array)` if one of them has no type yet. The function that it is planned
/// as has a type for it beside a `uuid` only where it is called by its name.
pub(crate) fn any_of_unknown(expr: &mut ast::Expr) -> Option<Vec<ast::Expr>> {
    let ast::Expr::AnyOp { left, compare_op: ast::BinaryOperator::Eq, right, .. } = expr else { return None };
    // A subquery is no array.
    if matches!(**right, ast::Expr::Subquery(_)) || !is_unknown(left) && !is_unknown(right) {
        return None;
    }
    let taken = |side: &mut Box<ast::Expr>| std::mem::replace(side.as_mut(), ast::Expr::value(ast::Value::Null));
    Some(vec![taken(right), taken(left)])
}

/// Returns true for a parameter, a text and NULL.
fn is_unknown(value: &ast::Expr) -> bool {
    match value {
        ast::Expr::Nested(inner) => is_unknown(inner),
        ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::Placeholder(_) | ast::Value::Null, .. }) => true,
        other => is_text(other),
    }
}

/// Returns true if an error of the planner says that it has no cast of the type to a text.
pub(crate) fn has_no_cast_to_text(message: &str) -> bool {
    message.contains("Cannot automatically convert FixedSizeBinary(16) to Utf8")
}

/// Returns true if an error of the planner says that it does not compare the type with another one by IS DISTINCT FROM.
pub(crate) fn is_not_told_from(message: &str) -> bool {
    let compared = message.split_once("comparison operation ").map_or("", |(_, compared)| compared);
    compared.contains("FixedSizeBinary(16)") && compared.contains(" DISTINCT FROM ")
}

/// Makes comparisons, whose operands are read, of IS DISTINCT FROM with texts, which are not NULL.
pub(crate) fn compare_with_texts(statement: &mut Statement) {
    let Some(inner) = statement_of(statement) else { return };
    let _ = ast::visit_expressions_mut(inner, |expr| {
        let (left, right, is_distinct) = match expr {
            ast::Expr::IsDistinctFrom(left, right) => (left, right, true),
            ast::Expr::IsNotDistinctFrom(left, right) => (left, right, false),
            _ => return ControlFlow::<()>::Continue(()),
        };
        // The parser takes `a IS NOT DISTINCT FROM b AND c` for `a IS NOT DISTINCT FROM (b AND c)`, which is refused.
        if is_text(left) && !matches!(**right, ast::Expr::BinaryOp { .. }) || is_text(right) {
            let taken =
                |side: &mut Box<ast::Expr>| std::mem::replace(side, Box::new(ast::Expr::value(ast::Value::Null)));
            let (left, right) = (taken(left), taken(right));
            let op = if is_distinct { ast::BinaryOperator::NotEq } else { ast::BinaryOperator::Eq };
            let compared = Box::new(ast::Expr::Nested(Box::new(ast::Expr::BinaryOp { left, op, right })));
            *expr = if is_distinct { ast::Expr::IsNotFalse(compared) } else { ast::Expr::IsTrue(compared) };
        }
        ControlFlow::Continue(())
    });
}

/// Returns the query of an INSERT.
pub(crate) fn query_of(statement: &Statement) -> Option<Statement> {
    match statement {
        Statement::Statement(inner) => match inner.as_ref() {
            ast::Statement::Insert(insert) => {
                Some(Statement::Statement(Box::new(ast::Statement::Query(insert.source.clone()?))))
            }
            _ => None,
        },
        Statement::Explain(explain) => query_of(&explain.statement),
        _ => None,
    }
}

/// Casts outputs of the query of an INSERT to texts where the columns are such. `outputs` are the types of the outputs.
///
/// # Errors
/// If the table cannot be looked up.
pub(crate) async fn write_texts(
    statement: &mut Statement,
    outputs: &DFSchema,
    context: &SessionContext,
) -> Result<(), SqlError> {
    let Some(inner) = statement_of(statement) else { return Ok(()) };
    let Some(schema) = target_schema(inner, context).await? else { return Ok(()) };
    if let ast::Statement::Insert(insert) = inner {
        let columns = columns_of(insert, &schema);
        let is_written = |place: usize, _: &ast::Expr| {
            let is_uuid = outputs.fields().get(place).is_some_and(|output| neuroql::is_uuid(output.data_type()));
            is_uuid && columns.get(place).is_some_and(DataType::is_string)
        };
        if let Some(source) = &mut insert.source {
            cast_outputs(&mut source.body, &ast::DataType::Text, &is_written);
        }
    }
    Ok(())
}

/// Casts the outputs of a query that are to be cast, by their places. Those of a star stay.
fn cast_outputs(body: &mut SetExpr, to: &ast::DataType, is_cast: &dyn Fn(usize, &ast::Expr) -> bool) {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            cast_outputs(left, to, is_cast);
            cast_outputs(right, to, is_cast);
        }
        SetExpr::Query(query) => cast_outputs(&mut query.body, to, is_cast),
        SetExpr::Select(select) => {
            let is_known =
                |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
            if !select.projection.iter().all(is_known) {
                return;
            }
            for (place, item) in select.projection.iter_mut().enumerate() {
                if let SelectItem::UnnamedExpr(output) | SelectItem::ExprWithAlias { expr: output, .. } = item
                    && is_cast(place, output)
                {
                    let inner = std::mem::replace(output, ast::Expr::value(ast::Value::Null));
                    *output = rewrite::cast(inner, to.clone());
                }
            }
        }
        _ => {}
    }
}

/// Returns the statement, or the one inside an EXPLAIN.
fn statement_of(statement: &mut Statement) -> Option<&mut ast::Statement> {
    match statement {
        Statement::Statement(inner) => Some(inner),
        Statement::Explain(explain) => statement_of(&mut explain.statement),
        _ => None,
    }
}

/// Returns the columns of the table that a statement changes.
async fn target_schema(statement: &ast::Statement, context: &SessionContext) -> Result<Option<SchemaRef>, SqlError> {
    let Some(name) = target(statement) else { return Ok(None) };
    let Ok(table) = object_name_to_table_reference(name.clone(), true) else { return Ok(None) };
    if !context.table_exist(table.clone())? {
        return Ok(None);
    }
    Ok(Some(context.table_provider(table).await?.schema()))
}

/// Returns the types of the columns that an INSERT gives values.
fn columns_of(insert: &ast::Insert, schema: &SchemaRef) -> Vec<DataType> {
    let of_name = |name: &ast::ObjectName| {
        let name = name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
        schema.field_with_name(&name).map_or(DataType::Null, |field| field.data_type().clone())
    };
    match insert.columns.is_empty() {
        true => schema.fields().iter().map(|field| field.data_type().clone()).collect(),
        false => insert.columns.iter().map(of_name).collect(),
    }
}

/// Returns the name of the table that a statement changes.
fn target(statement: &ast::Statement) -> Option<&ast::ObjectName> {
    match statement {
        ast::Statement::Insert(insert) => match &insert.table {
            TableObject::TableName(name) => Some(name),
            _ => None,
        },
        ast::Statement::Update(update) => match &update.table.relation {
            TableFactor::Table { name, .. } => Some(name),
            _ => None,
        },
        _ => None,
    }
}

fn has_uuids(schema: &SchemaRef) -> bool {
    schema.fields().iter().any(|field| column::uuid_type(field.data_type()) == Some(Type::UUID))
}

/// Returns true for a constant, but for numbers with a sign.
fn is_constant(value: &ast::Expr) -> bool {
    use ast::Value;
    matches!(value, ast::Expr::Value(ast::ValueWithSpan { value, .. }) if !matches!(value, Value::Placeholder(_)))
}

fn is_text(value: &ast::Expr) -> bool {
    use ast::Value;
    let ast::Expr::Value(ast::ValueWithSpan { value, .. }) = value else { return false };
    matches!(
        value,
        Value::SingleQuotedString(_)
            | Value::EscapedStringLiteral(_)
            | Value::UnicodeStringLiteral(_)
            | Value::DollarQuotedString(_)
    )
}

/// Reads the defaults of columns of the type.
///
/// # Errors
/// 22P02 for a text that is no value, 42804 for a default of another type.
pub(crate) fn read_defaults(plan: &mut LogicalPlan) -> Result<()> {
    let LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(table)) = plan else { return Ok(()) };
    let CreateMemoryTable { input, column_defaults, .. } = table;
    for (name, default) in column_defaults {
        let Ok(field) = input.schema().field_with_unqualified_name(name) else { continue };
        if !neuroql::is_uuid(field.data_type()) {
            continue;
        }
        *default = match std::mem::take(default) {
            Expr::Cast(found) if neuroql::is_uuid(found.field.data_type()) => match constant(&found.expr)? {
                Some(value) => value,
                None => Expr::Cast(found),
            },
            other => match constant(&other)? {
                Some(value) => value,
                None => checked(other, name)?,
            },
        };
    }
    Ok(())
}

/// Returns the value of a text without a type.
fn constant(expr: &Expr) -> Result<Option<Expr>> {
    let text = match expr {
        Expr::Literal(text, None) => text.try_as_str().flatten(),
        _ => None,
    };
    let value = text.map(|text| decode::from_text(&Type::UUID, text, "UTC")).transpose().map_err(external)?;
    Ok(value.map(|value| Expr::Literal(value, None)))
}

/// Returns a default that is no text without a type.
fn checked(default: Expr, name: &str) -> Result<Expr> {
    if matches!(&default, Expr::Literal(ScalarValue::Null, _)) {
        return Ok(Expr::Literal(ScalarValue::try_from(&neuroql::UUID)?, None));
    }
    let field = default.to_field(&DFSchema::empty())?.1;
    match assignment_casts::kind(&field) {
        _ if neuroql::is_uuid(field.data_type()) => Ok(default),
        Some(Type::UUID) => Ok(cast(default, neuroql::UUID)),
        Some(kind) if kind != Type::UNKNOWN => {
            let kind = decode::name(&kind);
            let message = format!("column \"{name}\" is of type uuid but default expression is of type {kind}");
            let hint = "You will need to rewrite or cast the expression.";
            Err(external(SqlError::error("42804", message).with_hint(hint)))
        }
        // The numbers of a sequence, and values that are not known before they are computed.
        _ => Ok(default),
    }
}

/// Refuses values of the type in columns of files, where other programs would write them otherwise.
///
/// # Errors
/// 0A000.
pub(crate) fn check(plan: &LogicalPlan) -> Result<(), SqlError> {
    let schema = match plan {
        LogicalPlan::Copy(copy) => copy.input.schema(),
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(table)) => &table.schema,
        _ => return Ok(()),
    };
    match schema.fields().iter().find_map(|field| column::uuid_type(field.data_type())) {
        Some(found) => Err(lost(&found, "columns of files")),
        None => Ok(()),
    }
}
