//! Rows of the catalog about tables and views, and what notes on them change in its rows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, BooleanArray, RecordBatch, StringArray};
use datafusion::datasource::TableType;
use datafusion::error::Result;
use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::sqlparser::ast::{Query, Statement};
use datafusion::sql::sqlparser::parser::Parser;
use neuroql::{PostgresDialect, column_comment, table_comment};

use crate::catalog::batches::{numbers, replaced, texts};
use crate::catalog::keys::Relation;
use crate::catalog::keys::numbered::{NumberedTable, NumberedTables};
use crate::catalog::keys::rows::{Cell, Row, defined};
use crate::catalog::table_notes::{self, TableNotes};
use crate::session::ddl;
use crate::wire::startup::SUPERUSER;

/// Place of the query of a view among definitions.
pub(crate) const VIEW: i32 = -1;

/// Returns the rows of tables in a table of the catalog.
pub(super) fn rows(relation: Relation, listed: &NumberedTables) -> Vec<Row> {
    let tables = listed.tables.iter().map(Arc::as_ref);
    match relation {
        Relation::Comments => {
            let of_tables = tables.flat_map(|table| comments(table, listed.pg_class, listed.pg_constraint));
            of_tables.chain(constraint_comments(listed)).collect()
        }
        Relation::Views => tables.filter_map(view).collect(),
        Relation::MaterializedViews => tables.filter_map(materialized_view).collect(),
        Relation::Definitions => tables.filter_map(definition).collect(),
        _ => Vec::new(),
    }
}

fn notes(table: &NumberedTable) -> Option<Arc<TableNotes>> {
    table_notes::of(table.provider.as_ref())
}

/// Returns a row of `pg_description`. `class` is the number of the table of the catalog that has the object.
fn comment(oid: i32, class: i32, column: i32, text: &str) -> Row {
    vec![
        ("objoid", Cell::Number(oid)),
        ("classoid", Cell::Number(class)),
        ("objsubid", Cell::Number(column)),
        ("description", text.into()),
    ]
}

/// Returns the comments on a table, its columns, keys and indexes. The numbers are those of `pg_class` and `pg_constraint`.
fn comments(table: &NumberedTable, pg_class: i32, pg_constraint: i32) -> Vec<Row> {
    let provider = table.provider.as_ref();
    let notes = notes(table).unwrap_or_default();
    let own = table_comment(provider);
    let mut rows = Vec::new();
    rows.extend(own.or(notes.comment.as_deref()).map(|text| comment(table.oid, pg_class, 0, text)));
    if own.is_some() || !notes.columns.is_empty() {
        for (number, field) in (1..).zip(provider.schema().fields()) {
            let text = column_comment(provider, field.name()).or(notes.columns.get(field.name()).map(String::as_str));
            rows.extend(text.map(|text| comment(table.oid, pg_class, number, text)));
        }
    }
    for key in &table.keys {
        let of_index = notes.index_comments.get(&key.declared.name);
        rows.extend(of_index.map(|text| comment(key.index_oid, pg_class, 0, text)));
        let of_constraint = notes.constraints.get(&key.declared.name).filter(|_| key.declared.index.is_none());
        rows.extend(of_constraint.map(|text| comment(key.constraint_oid(), pg_constraint, 0, text)));
    }
    rows
}

/// Returns the comments on CHECK constraints and foreign keys.
fn constraint_comments(listed: &NumberedTables) -> impl Iterator<Item = Row> {
    listed.constraints.iter().filter_map(|constraint| {
        let notes = notes(constraint.table())?;
        Some(comment(constraint.oid(), listed.pg_constraint, 0, notes.constraints.get(constraint.name())?))
    })
}

/// Returns the query of a view, as PostgreSQL ends it.
fn query(table: &NumberedTable) -> Option<String> {
    if let Some(view) = notes(table).and_then(|notes| notes.view.clone()) {
        return Some(written(view.query.as_ref().clone()));
    }
    if table.provider.table_type() != TableType::View {
        return None;
    }
    let definition = table.provider.get_table_definition()?;
    match Parser::parse_sql(&PostgresDialect, definition).ok()?.pop()? {
        Statement::CreateView(view) => Some(written(*view.query)),
        _ => None,
    }
}

fn written(query: Query) -> String {
    format!(" {};", ddl::written(DFStatement::Statement(Box::new(Statement::Query(Box::new(query))))))
}

fn definition(table: &NumberedTable) -> Option<Row> {
    Some(defined(table.oid, VIEW, query(table)?))
}

fn view(table: &NumberedTable) -> Option<Row> {
    if table.provider.table_type() != TableType::View {
        return None;
    }
    // Functions that are relations have none.
    let query = query(table)?;
    Some(vec![
        ("schemaname", table.schema.as_str().into()),
        ("viewname", table.name.as_str().into()),
        ("viewowner", SUPERUSER.into()),
        ("definition", Cell::Text(query)),
    ])
}

fn materialized_view(table: &NumberedTable) -> Option<Row> {
    let notes = notes(table)?;
    let view = notes.view.as_ref()?;
    Some(vec![
        ("schemaname", table.schema.as_str().into()),
        ("matviewname", table.name.as_str().into()),
        ("matviewowner", SUPERUSER.into()),
        ("hasindexes", Cell::Flag(!notes.indexes.is_empty())),
        ("ispopulated", Cell::Flag(view.is_populated)),
        ("definition", Cell::Text(written(view.query.as_ref().clone()))),
    ])
}

/// Marks unlogged tables, with their indexes, and materialized views in `pg_class`.
pub(super) fn with_kinds(batch: &RecordBatch, tables: &[Arc<NumberedTable>]) -> Result<RecordBatch> {
    let mut unlogged = HashSet::new();
    let mut views = HashMap::new();
    for table in tables {
        let Some(notes) = notes(table) else { continue };
        if notes.is_unlogged {
            unlogged.insert(table.oid);
            unlogged.extend(table.keys.iter().map(|key| key.index_oid));
        }
        if let Some(view) = &notes.view {
            views.insert(table.oid, view.is_populated);
        }
    }
    if unlogged.is_empty() && views.is_empty() {
        return Ok(batch.clone());
    }
    let oids = numbers(batch, "oid")?.values();
    let persistence = oids.iter().zip(texts(batch, "relpersistence")?);
    let persistence = persistence.map(|(oid, known)| if unlogged.contains(oid) { Some("u") } else { known });
    let kinds = oids.iter().zip(texts(batch, "relkind")?);
    let kinds = kinds.map(|(oid, known)| if views.contains_key(oid) { Some("m") } else { known });
    let known = batch.column(batch.schema().index_of("relispopulated")?).as_boolean();
    let populated = oids.iter().zip(known).map(|(oid, known)| views.get(oid).copied().or(known));
    let marked = replaced(batch, "relpersistence", Arc::new(persistence.collect::<StringArray>()))?;
    let marked = replaced(&marked, "relkind", Arc::new(kinds.collect::<StringArray>()))?;
    replaced(&marked, "relispopulated", Arc::new(populated.collect::<BooleanArray>()))
}
