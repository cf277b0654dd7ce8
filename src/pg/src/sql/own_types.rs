//! Names of types that users have made, in statements: they are looked up before a statement is planned, and a name that the
//! planner knows by the number of its type stands in their place.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::arrow::datatypes::{DataType as ArrowType, Field, FieldRef};
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::TableType;
use datafusion::error::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    self, ArrayElemTypeDef, DataType, Expr, Ident, ObjectName, ObjectNamePart, TableFactor, Visit, VisitMut, Visitor,
    visit_expressions, visit_expressions_mut,
};
use datafusion_postgres::pgwire::api::Type;
use neuroql::Refusal;
use neuroql_access::resolved_table;
use postgres_types::Kind;

use crate::catalog::own_types;
use crate::catalog::server_catalogs::PG_CATALOG;
use crate::decode;
use crate::encode::column;
use crate::sql::column_names::fold;
use crate::sql::rewrite::literal_casts;
use crate::wire::error_response::SqlError;

/// First part of a name that stands for a type. The second is the type's number, and the name in the statement follows.
const STAND_IN: &str = "\u{f8ff}neuroql type";

/// Calls a function with each type that a statement names.
fn visit(statement: &mut Statement, each: &mut impl FnMut(&mut DataType)) {
    match statement {
        Statement::Statement(inner) => {
            match inner.as_mut() {
                ast::Statement::CreateTable(table) => {
                    table.columns.iter_mut().for_each(|column| visit_type(&mut column.data_type, each));
                }
                ast::Statement::Prepare { data_types, statement, .. } => {
                    data_types.iter_mut().for_each(|data_type| visit_type(data_type, each));
                    visit_casts(statement.as_mut(), each);
                    return;
                }
                _ => {}
            }
            visit_casts(inner.as_mut(), each);
        }
        Statement::Explain(explain) => visit(&mut explain.statement, each),
        Statement::CopyTo(copy) => {
            if let CopyToSource::Query(query) = &mut copy.source {
                visit_casts(query.as_mut(), each);
            }
        }
        _ => {}
    }
}

fn visit_casts(tree: &mut impl VisitMut, each: &mut impl FnMut(&mut DataType)) {
    let _ = visit_expressions_mut(tree, |expr| {
        match expr {
            Expr::Cast { data_type, .. } => visit_type(data_type, each),
            Expr::TypedString(typed) => visit_type(&mut typed.data_type, each),
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
}

/// Calls a function with a type, or with that of the items of an array.
fn visit_type(data_type: &mut DataType, each: &mut impl FnMut(&mut DataType)) {
    match data_type {
        DataType::Array(
            ArrayElemTypeDef::SquareBracket(item, _)
            | ArrayElemTypeDef::AngleBracket(item)
            | ArrayElemTypeDef::Parenthesis(item),
        ) => visit_type(item, each),
        other => each(other),
    }
}

/// Returns a name that may be that of a type of a user.
fn name_of(data_type: &DataType) -> Option<&ObjectName> {
    match data_type {
        DataType::Custom(name, modifiers) if modifiers.is_empty() && number_of(name).is_none() => Some(name),
        _ => None,
    }
}

/// Returns the number in a name that stands for a type.
fn number_of(name: &ObjectName) -> Option<u32> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(first), ObjectNamePart::Identifier(number), ..] if first.value == STAND_IN => {
            number.value.parse().ok()
        }
        _ => None,
    }
}

/// Returns the type that a name in a statement stands for, or the type of arrays of it.
pub(crate) fn of_sql(data_type: &DataType) -> Option<Type> {
    match data_type {
        DataType::Custom(name, _) => own_types::by_oid(number_of(name)?),
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, None)) => own_types::array_of(&of_sql(item)?),
        _ => None,
    }
}

/// Returns the parts of a name, as they are looked up.
pub(crate) fn parts_of(name: &ObjectName) -> Option<Vec<String>> {
    name.0.iter().map(|part| part.as_ident().map(fold)).collect()
}

/// Returns the name of the relation that a type of this name would be.
pub(crate) fn reference(parts: &[String]) -> Option<TableReference> {
    Some(match parts {
        [name] => TableReference::bare(name.as_str()),
        [schema, name] => TableReference::partial(schema.as_str(), name.as_str()),
        [catalog, schema, name] => TableReference::full(catalog.as_str(), schema.as_str(), name.as_str()),
        _ => return None,
    })
}

/// Returns the type of a name.
async fn find(parts: &[String], context: &SessionContext) -> Result<Option<Type>, SqlError> {
    let Some(name) = reference(parts) else { return Ok(None) };
    // Types of PostgreSQL are found first.
    let is_known = parts.len() == 1 && is_builtin(&parts[0]);
    if is_known || parts.len() > 1 && parts[parts.len() - 2] == PG_CATALOG {
        return Ok(None);
    }
    let name = resolved_table(&name, context);
    let schema = context.catalog(&name.catalog).and_then(|catalog| catalog.schema(&name.schema));
    let Some(schema) = schema else { return Ok(None) };
    if schema.table_type(&name.table).await? != Some(TableType::Temporary) {
        return Ok(None);
    }
    let table = schema.table(&name.table).await?;
    Ok(table.as_deref().and_then(|table: &dyn TableProvider| own_types::of(table)).map(|own| own.kind()))
}

/// Returns true for the name of a type of PostgreSQL.
pub(crate) fn is_builtin(name: &str) -> bool {
    /// Numbers of PostgreSQL's own types are less.
    const END: u32 = 6_200;
    (1..END).filter_map(Type::from_oid).any(|kind| kind.name() == name)
}

/// Looks up the types of users that a statement names.
///
/// # Errors
/// Those of the catalogs.
pub(crate) async fn resolve(statement: &mut Statement, context: &SessionContext) -> Result<(), SqlError> {
    if !own_types::exist() {
        return Ok(());
    }
    let mut names: HashMap<Vec<String>, Option<Type>> = HashMap::new();
    visit(statement, &mut |data_type| {
        if let Some(parts) = name_of(data_type).and_then(parts_of) {
            names.insert(parts, None);
        }
    });
    for (parts, kind) in &mut names {
        *kind = find(parts, context).await?;
    }
    names.retain(|_, kind| kind.is_some());
    if !names.is_empty() {
        visit(statement, &mut |data_type| {
            let kind = name_of(data_type).and_then(parts_of).and_then(|parts| names.get(&parts).cloned().flatten());
            if let (Some(kind), DataType::Custom(name, _)) = (kind, data_type) {
                let stand_in = [STAND_IN.to_owned(), kind.oid().to_string()];
                let stand_in = stand_in.map(|part| ObjectNamePart::Identifier(Ident::with_quote('"', part)));
                name.0.splice(0..0, stand_in);
            }
        });
        check_places(statement)?;
    }
    Ok(())
}

/// Refuses types of users where values would not be read as theirs.
fn check_places(statement: &Statement) -> Result<(), SqlError> {
    struct OfFunctions;

    impl Visitor for OfFunctions {
        type Break = SqlError;

        fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<SqlError> {
            if !literal_casts::is_function(table) {
                return ControlFlow::Continue(());
            }
            visit_expressions(table, |expr| {
                let kind = match expr {
                    Expr::Cast { data_type, .. } => of_sql(data_type),
                    Expr::TypedString(typed) => of_sql(&typed.data_type),
                    _ => None,
                };
                let Some(kind) = kind else { return ControlFlow::Continue(()) };
                let kind = decode::name(&kind);
                let message = format!("a value of type {kind} as an argument of a function in FROM is not supported");
                ControlFlow::Break(SqlError::not_supported(message))
            })
        }
    }

    let Statement::Statement(inner) = statement else { return Ok(()) };
    if let ast::Statement::CreateTable(table) = inner.as_ref()
        && table.query.is_some()
        && table.columns.iter().any(|column| of_sql(&column.data_type).is_some())
    {
        return Err(SqlError::error("42601", "syntax error: CREATE TABLE … AS gives its columns no types"));
    }
    match inner.visit(&mut OfFunctions) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Looks up the types of users among types.
///
/// # Errors
/// Those of the catalogs.
pub(crate) async fn resolve_types(
    data_types: &[DataType],
    context: &SessionContext,
) -> Result<Vec<DataType>, SqlError> {
    let mut resolved = data_types.to_vec();
    for data_type in &mut resolved {
        let mut parts = None;
        visit_type(data_type, &mut |data_type| parts = name_of(data_type).and_then(parts_of));
        let Some(kind) = (match parts {
            Some(parts) if own_types::exist() => find(&parts, context).await?,
            _ => None,
        }) else {
            continue;
        };
        visit_type(data_type, &mut |data_type| {
            if let DataType::Custom(name, _) = data_type {
                let stand_in = [STAND_IN.to_owned(), kind.oid().to_string()];
                let stand_in = stand_in.map(|part| ObjectNamePart::Identifier(Ident::with_quote('"', part)));
                name.0.splice(0..0, stand_in);
            }
        });
    }
    Ok(resolved)
}

/// Gives types the names back that a statement has them by.
pub(crate) fn restore(statement: &mut Statement) {
    visit(statement, &mut |data_type| {
        if let DataType::Custom(name, _) = data_type
            && number_of(name).is_some()
        {
            name.0.drain(..2);
        }
    });
}

/// Plans types of users, and leaves other types to the next planner.
#[derive(Debug)]
pub(crate) struct OwnTypes<P> {
    next: P,
}

impl<P> OwnTypes<P> {
    pub(crate) fn before(next: P) -> Self {
        Self { next }
    }
}

/// Returns a field of a type of a user.
pub(crate) fn field(kind: &Type) -> FieldRef {
    let data_type = match kind.kind() {
        Kind::Array(_) => ArrowType::new_list(ArrowType::Utf8, true),
        _ => ArrowType::Utf8,
    };
    Field::new("", data_type, true).with_metadata(column::mark(kind)).into()
}

impl<P: TypePlanner> TypePlanner for OwnTypes<P> {
    fn plan_type_field(&self, sql_type: &DataType) -> Result<Option<FieldRef>> {
        if let Some(kind) = of_sql(sql_type) {
            return Ok(Some(field(&kind)));
        }
        if let DataType::Array(ArrayElemTypeDef::SquareBracket(item, _)) = sql_type {
            let mut is_own = false;
            visit_type(&mut item.as_ref().clone(), &mut |item| is_own |= of_sql(item).is_some());
            if is_own {
                let message = "arrays of arrays, and of a length, of a type that a user has made are not supported";
                return Err(Refusal::error("0A000", message));
            }
        }
        let planned = self.next.plan_type_field(sql_type)?;
        if let (None, DataType::Custom(name, modifiers)) = (&planned, sql_type)
            && modifiers.is_empty()
            && let Some(parts) = parts_of(name)
            && let Some((last, schemas)) = parts.split_last()
        {
            let of_postgres = schemas.last().is_none_or(|schema| schema == PG_CATALOG);
            // A type of PostgreSQL that is missing here is refused by the planner.
            if !(is_serial(last) || of_postgres && is_builtin(last)) {
                return Err(Refusal::error("42704", format!("type \"{}\" does not exist", parts.join("."))));
            }
        }
        Ok(planned)
    }
}

/// Returns true for a name of PostgreSQL that is none of a type, but stands in the place of one.
fn is_serial(name: &str) -> bool {
    matches!(name, "serial" | "serial2" | "serial4" | "serial8" | "bigserial" | "smallserial" | "decimal" | "dec")
}

#[cfg(test)]
mod tests {
    use crate::sql::parse::Parser;

    use super::*;

    fn statement(sql: &str) -> Statement {
        Parser::default().parse(sql).unwrap().remove(0).statement
    }

    #[test]
    fn names_come_back() {
        let own = own_types::OwnType::new_enum("public", "mood", &["a".into()]).unwrap();
        let written =
            statement("CREATE VIEW v AS SELECT 'a'::mood, CAST('{a}' AS s.mood[]) FROM t WHERE b = CAST('a' AS mood)");
        let mut stood = written.clone();
        let mut found = 0;
        visit(&mut stood, &mut |data_type| {
            if let DataType::Custom(name, _) = data_type {
                let stand_in = [STAND_IN.to_owned(), own.oid().to_string()];
                let stand_in = stand_in.map(|part| ObjectNamePart::Identifier(Ident::with_quote('"', part)));
                name.0.splice(0..0, stand_in);
                assert_eq!(of_sql(data_type), Some(own.kind()));
                found += 1;
            }
        });
        assert_eq!(found, 3);
        assert_ne!(stood, written);
        restore(&mut stood);
        assert_eq!(stood, written);
    }

    #[test]
    fn types_of_postgres_are_known() {
        for name in ["text", "point", "int4range", "_text", "xml"] {
            assert!(is_builtin(name), "{name}");
        }
        assert!(!is_builtin("mood"));
    }
}
