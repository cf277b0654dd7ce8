//! Materialized views: tables in memory that keep the rows of their query, until they are refreshed.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::{DdlStatement, LogicalPlan, TableSource};
use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::sqlparser::ast::{ObjectName, ObjectNamePart, Query, Statement, visit_relations};
use datafusion::sql::sqlparser::parser::Parser;
use neuroql::PostgresDialect;

use crate::catalog::table_notes::{self, MaterializedView};
use crate::session::objects::{RelationKind, changed, check_rights, emptied, find_existing, run_part};
use crate::session::{Outcome, PreparedStatement, Session};
use crate::wire::error_response::{Failure, SqlError};

/// Refuses changes of materialized views by other statements than theirs, and queries of those without rows yet.
///
/// # Errors
/// 42809 for a change, 55000 for a query.
pub(in crate::session) fn check(plan: &LogicalPlan) -> Result<(), SqlError> {
    if matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Ddl(DdlStatement::CreateView(_))) {
        return Ok(());
    }
    let mut refused = None;
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::Dml(change) if view_of(&change.target).is_some() => {
                let message = format!("cannot change materialized view \"{}\"", change.table_name.table());
                refused = Some(SqlError::error("42809", message));
            }
            LogicalPlan::TableScan(scan) => {
                if view_of(&scan.source).is_some_and(|view| !view.is_populated) {
                    let message = format!("materialized view \"{}\" has not been populated", scan.table_name.table());
                    let error = SqlError::error("55000", message);
                    refused = Some(error.with_hint("Use the REFRESH MATERIALIZED VIEW command."));
                } else if let Some(view) = scan.source.get_logical_plan() {
                    refused = check(&view).err();
                }
            }
            _ => {}
        }
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    refused.map_or(Ok(()), Err)
}

fn view_of(source: &Arc<dyn TableSource>) -> Option<MaterializedView> {
    let table = source_as_provider(source).ok()?;
    table_notes::of(table.as_ref())?.view.clone()
}

/// Computes the rows of a view again, or empties it.
pub(super) async fn refresh(
    session: &mut Session,
    prepared: &PreparedStatement,
    name: &ObjectName,
    populated: bool,
    concurrently: bool,
) -> Result<Outcome, Failure> {
    if concurrently && !populated {
        let message = "CONCURRENTLY and WITH NO DATA options cannot be used together";
        return Err(SqlError::error("42601", message).into());
    }
    let relation = find_existing(session, name).await?;
    let table = relation.name.table.to_string();
    let notes = table_notes::of(relation.table.as_ref());
    let Some(view) = notes.as_ref().and_then(|notes| notes.view.clone()) else {
        return Err(match relation.kind {
            RelationKind::View => SqlError::error("42809", format!("\"{table}\" is not a table or materialized view")),
            _ => SqlError::not_supported(format!("\"{table}\" is not a materialized view")),
        }
        .into());
    };
    check_rights(session, &relation, "REFRESH MATERIALIZED VIEW")?;
    if concurrently && !view.is_populated {
        let message = "CONCURRENTLY cannot be used when the materialized view is not populated";
        return Err(SqlError::not_supported(message).into());
    }
    if concurrently && !notes.is_some_and(|notes| notes.indexes.iter().any(|index| index.is_unique)) {
        let message = format!("cannot refresh materialized view \"{}.{table}\" concurrently", relation.name.schema);
        let hint = "Create a unique index with no WHERE clause on one or more columns of the materialized view.";
        return Err(SqlError::error("55000", message).with_hint(hint).into());
    }
    let insert = match populated {
        true => {
            session.temporary.check_view(&view.query)?;
            check_schema(session, &view, &table)?;
            let insert = insert(&relation.name.schema, &table, &view.query)?;
            let planned = session.prepare_statement(insert.clone(), prepared.parsed.clone(), &[], session.version());
            let plan = planned.await?.plan;
            if let Some(LogicalPlan::Dml(insert)) = &plan {
                check(&insert.input)?;
            }
            Some((plan.ok_or_else(|| SqlError::error("XX000", "internal error: REFRESH without a plan"))?, insert))
        }
        false => None,
    };
    let name = TableReference::from(relation.name.clone());
    let empty = emptied(name, provider_as_source(Arc::clone(&relation.table)))?;
    run_part(session, empty, prepared.parsed.statement.clone(), prepared).await?;
    if let Some((plan, statement)) = insert {
        run_part(session, plan, statement, prepared).await?;
    }
    let change = session.transaction.change_notes(&relation.table, |notes| {
        notes.view = Some(MaterializedView { is_populated: populated, ..view });
        Ok(())
    });
    change.await?;
    changed(session, "REFRESH MATERIALIZED VIEW", &relation);
    Ok(Outcome::done("REFRESH MATERIALIZED VIEW"))
}

/// Refuses to refresh a view whose names would mean other tables than when it was created.
fn check_schema(session: &Session, view: &MaterializedView, table: &str) -> Result<(), SqlError> {
    let is_bare = |name: &ObjectName| match name.0.as_slice() {
        [ObjectNamePart::Identifier(_)] => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let schema = session.context.state_ref().read().config_options().catalog.default_schema.clone();
    if schema == view.schema || visit_relations(view.query.as_ref(), is_bare).is_continue() {
        return Ok(());
    }
    let message = format!("REFRESH of \"{table}\", which was created with another search_path, is not supported");
    Err(SqlError::not_supported(message).with_hint(format!("SET search_path TO {} before.", view.schema)))
}

/// Returns the statement that fills a view.
fn insert(schema: &str, table: &str, query: &Query) -> Result<DFStatement, SqlError> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let text = format!("INSERT INTO {}.{} SELECT 1", quoted(schema), quoted(table));
    let parsed = Parser::parse_sql(&PostgresDialect, &text).map_err(datafusion::error::DataFusionError::from)?;
    match parsed.into_iter().next() {
        Some(Statement::Insert(mut insert)) => {
            insert.source = Some(Box::new(query.clone()));
            Ok(DFStatement::Statement(Box::new(Statement::Insert(insert))))
        }
        _ => Err(SqlError::error("XX000", "internal error: REFRESH inserts nothing")),
    }
}
