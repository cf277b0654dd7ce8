//! CREATE INDEX and DROP INDEX. An index is kept as a note on its table and changes no answer; a unique one is checked as a
//! key is.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::ResolvedTableReference;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan, Volatility};
use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::sqlparser::ast::{
    CreateIndex, Expr, Ident, IndexColumn, IndexType, ObjectName, SelectItem, SetExpr, Statement,
};
use datafusion::sql::sqlparser::parser::Parser;
use neuroql::PostgresDialect;
use neuroql_access::TEMPORARY;

use crate::catalog::keys;
use crate::catalog::table_notes::{self, Index, IndexExpression, IndexKey, TableNotes};
use crate::encode::column;
use crate::session::constraints::are_unique;
use crate::session::objects::{
    Relation, RelationKind, changed, check_rights, find as find_relation, find_existing, refuse_in_block,
};
use crate::session::result_stream::isolated;
use crate::session::transaction::{lengths, partitions};
use crate::session::{Outcome, Session};
use crate::sql::column_names::fold;
use crate::sql::figured_names::item_name;
use crate::sql::mark_checks;
use crate::wire::error_response::{Failure, SqlError, notice};

/// Greatest number of bytes of a name.
const LONGEST_NAME: usize = 63;

/// Operator classes of texts that an index may name, all of which compare bytes here.
const TEXT_OPERATORS: [&str; 4] = ["text_ops", "varchar_ops", "text_pattern_ops", "varchar_pattern_ops"];

/// Checks the rows of a table against its unique indexes.
///
/// # Errors
/// 23505 if two rows have the same key.
pub(in crate::session) fn check(table: &dyn TableProvider, batches: &[RecordBatch]) -> Result<(), SqlError> {
    let Some(notes) = table_notes::of(table) else { return Ok(()) };
    let schema = table.schema();
    for index in notes.indexes.iter().filter(|index| index.is_unique) {
        if !is_unique(index, batches, &schema)? {
            let message = format!("duplicate key value violates unique constraint \"{}\"", index.name);
            return Err(SqlError::error("23505", message).with_hint(must_be_unique(index)));
        }
    }
    Ok(())
}

fn is_unique(index: &Index, batches: &[RecordBatch], schema: &SchemaRef) -> Result<bool, SqlError> {
    let columns: Option<Vec<_>> = index.keys.iter().map(|key| schema.index_of(&key.name).ok()).collect();
    match columns {
        Some(columns) => are_unique(batches, &columns),
        None => Err(SqlError::error("XX000", "internal error: an index of columns that are not there")),
    }
}

fn must_be_unique(index: &Index) -> String {
    let names: Vec<_> = index.keys.iter().map(|key| key.name.as_str()).collect();
    format!("({}) must be unique.", names.join(", "))
}

/// Returns the table of the index of a name, and the name without its schema.
pub(super) async fn find(session: &Session, name: &ObjectName) -> Result<Option<(Relation, String)>, SqlError> {
    let mut parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect();
    let Some(index) = parts.pop() else { return Ok(None) };
    let (catalog, default) = session.defaults();
    let schemas = match parts.pop() {
        Some(schema) => vec![schema],
        None => vec![TEMPORARY.to_owned(), default],
    };
    for schema in schemas {
        for relation in relations(session, &catalog, &schema).await? {
            if names_of(&relation).any(|known| known == index) {
                return Ok(Some((relation, index)));
            }
        }
    }
    Ok(None)
}

/// Returns the names of a relation's indexes, those of its keys among them.
fn names_of(relation: &Relation) -> impl Iterator<Item = String> {
    let notes = table_notes::of(relation.table.as_ref());
    let own =
        notes.into_iter().flat_map(|notes| notes.indexes.iter().map(|index| index.name.clone()).collect::<Vec<_>>());
    own.chain(keys::names_of(relation.table.as_ref(), &relation.name.table))
}

/// Returns the relations of a schema.
async fn relations(session: &Session, catalog: &str, schema: &str) -> Result<Vec<Relation>, SqlError> {
    let Some(provider) = session.context.catalog(catalog).and_then(|catalog| catalog.schema(schema)) else {
        return Ok(Vec::new());
    };
    let mut relations = Vec::new();
    for name in provider.table_names() {
        if let Some(table) = provider.table(&name).await? {
            let name =
                ResolvedTableReference { catalog: catalog.into(), schema: schema.into(), table: name.as_str().into() };
            relations.push(Relation::new(name, table));
        }
    }
    Ok(relations)
}

/// Returns the names in a schema that an index may not have.
async fn taken_names(session: &Session, table: &ResolvedTableReference) -> Result<HashSet<String>, SqlError> {
    let mut taken = HashSet::new();
    for relation in relations(session, &table.catalog, &table.schema).await? {
        taken.extend(names_of(&relation));
        taken.insert(relation.name.table.to_string());
    }
    Ok(taken)
}

/// Refuses the name of a relation that is to be created if an index of its schema has it.
///
/// # Errors
/// 42P07.
pub(in crate::session) async fn check_name(session: &Session, name: &ResolvedTableReference) -> Result<(), SqlError> {
    for relation in relations(session, &name.catalog, &name.schema).await? {
        if names_of(&relation).any(|known| known == *name.table) {
            return Err(SqlError::error("42P07", format!("relation \"{}\" already exists", name.table)));
        }
    }
    Ok(())
}

/// Creates an index.
pub(super) async fn create(session: &mut Session, create: &CreateIndex) -> Result<Outcome, Failure> {
    if create.concurrently {
        refuse_in_block(session, "CREATE INDEX CONCURRENTLY")?;
    }
    let is_hash = check_parts(create)?;
    let relation = find_existing(session, &create.table_name).await?;
    let table = relation.name.table.to_string();
    if relation.kind == RelationKind::View {
        return Err(SqlError::error("42809", format!("cannot create index on relation \"{table}\"")).into());
    }
    check_rights(session, &relation, "CREATE INDEX")?;
    if lengths(relation.table.as_ref()).is_empty() {
        let message = format!("an index of the table \"{table}\", which is not in memory, is not supported");
        return Err(SqlError::not_supported(message).into());
    }
    let schema = relation.table.schema();
    let mut keys: Vec<IndexKey> = Vec::with_capacity(create.columns.len());
    for found in &create.columns {
        let key = key(session, create, found, &schema, is_hash).await?;
        if create.unique && key.expression.is_some() {
            return Err(SqlError::not_supported("a unique index of expressions is not supported").into());
        }
        if let (true, Ok(column)) = (create.unique, schema.field_with_name(&key.name)) {
            mark_checks::check_key(column)?;
        }
        keys.push(key);
    }
    let include = create.include.iter().map(|name| column_named(&schema, name)).collect::<Result<Vec<_>, _>>()?;
    if let Some(predicate) = &create.predicate {
        check_expression(session, create, predicate, true).await?;
    }
    let column_names = distinct(keys.iter().map(|key| key.name.clone()).chain(include.iter().cloned()));
    let given = match &create.name {
        None => None,
        Some(name) => match name.0.as_slice() {
            [name] => name.as_ident().map(fold),
            _ => return Err(SqlError::error("42601", "syntax error at or near \".\"").into()),
        },
    };
    let (name, _name) = loop {
        let name = match &given {
            Some(name) => name.clone(),
            None => free_name(&table, &column_names, &taken_names(session, &relation.name).await?),
        };
        let reference = ResolvedTableReference { table: name.as_str().into(), ..relation.name.clone() };
        let held = session.base.hold_name(&reference).await;
        // Another session may have taken the name meanwhile.
        if !taken_names(session, &relation.name).await?.contains(&name) {
            break (name, held);
        }
        if given.is_some() {
            let message = format!("relation \"{name}\" already exists");
            if create.if_not_exists {
                session.notices.push(notice(format!("{message}, skipping")));
                return Ok(Outcome::done("CREATE INDEX"));
            }
            return Err(SqlError::error("42P07", message).into());
        }
    };
    // A key keeps the name of its column, by which it is found; those of expressions are the index's own.
    for (key, own) in keys.iter_mut().zip(&column_names).filter(|(key, _)| key.expression.is_some()) {
        key.name.clone_from(own);
    }
    let predicate = create.predicate.as_ref().map(|predicate| written(unnested(predicate)));
    let mut index = Index { name, place: 0, is_unique: create.unique, is_hash, keys, include, predicate };
    let change = session.transaction.change_notes(&relation.table, |notes| {
        index.place = free_place(notes)?;
        notes.indexes.push(Arc::new(index.clone()));
        Ok(())
    });
    change.await?;
    if create.unique {
        let provider = Arc::clone(&relation.table);
        let checked = isolated(async move {
            let batches: Vec<_> = partitions(provider.as_ref()).into_iter().flatten().collect();
            if is_unique(&index, &batches, &schema)? {
                return Ok(());
            }
            let message = format!("could not create unique index \"{}\"", index.name);
            Err(SqlError::error("23505", message).with_hint(must_be_unique(&index)))
        });
        checked.await?;
    }
    changed(session, "CREATE INDEX", &relation);
    Ok(Outcome::done("CREATE INDEX"))
}

/// Drops indexes: all of them or none.
pub(super) async fn drop_indexes(
    session: &mut Session,
    if_exists: bool,
    names: &[ObjectName],
) -> Result<Outcome, Failure> {
    let mut found = Vec::new();
    for name in names {
        let last = name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
        let Some((relation, index)) = find(session, name).await? else {
            match find_relation(session, name).await {
                Ok(Some(other)) => {
                    let error = SqlError::error("42809", format!("\"{last}\" is not an index"));
                    return Err(error.with_hint(other.kind.dropped_by()).into());
                }
                Err(error) if error.sqlstate != "3F000" || !if_exists => return Err(error.into()),
                _ if if_exists => {
                    session.notices.push(notice(format!("index \"{last}\" does not exist, skipping")));
                    continue;
                }
                _ => return Err(SqlError::error("42704", format!("index \"{last}\" does not exist")).into()),
            }
        };
        let notes = table_notes::of(relation.table.as_ref());
        if !notes.is_some_and(|notes| notes.indexes.iter().any(|known| known.name == index)) {
            let table = &relation.name.table;
            let message = format!("cannot drop index {index} because constraint {index} on table {table} requires it");
            let hint = format!("You can drop constraint {index} on table {table} instead.");
            return Err(SqlError::error("2BP01", message).with_hint(hint).into());
        }
        check_rights(session, &relation, "DROP INDEX")?;
        found.push((relation, index));
    }
    for (relation, index) in found {
        let change = session.transaction.change_notes(&relation.table, |notes| {
            notes.indexes.retain(|known| known.name != index);
            notes.index_comments.remove(&index);
            Ok(())
        });
        change.await?;
        changed(session, "DROP INDEX", &relation);
    }
    Ok(Outcome::done("DROP INDEX"))
}

/// Refuses parts that are not supported; returns true for the method `hash`.
fn check_parts(create: &CreateIndex) -> Result<bool, SqlError> {
    let refused = |message: &str| Err(SqlError::not_supported(message));
    let is_hash = match &create.using {
        None | Some(IndexType::BTree) => false,
        Some(IndexType::Hash) => true,
        Some(other) => {
            let method = other.to_string().to_lowercase();
            return refused(&format!("an index by the access method \"{method}\" is not supported"));
        }
    };
    if !create.index_options.is_empty() || !create.alter_options.is_empty() {
        return Err(SqlError::error("42601", "syntax error behind the columns of an index"));
    }
    if create.nulls_distinct == Some(false) {
        return refused("an index with NULLS NOT DISTINCT is not supported");
    }
    if !create.with.is_empty() {
        return refused("WITH of an index is not supported");
    }
    if create.unique && create.predicate.is_some() {
        return refused("a unique index with WHERE is not supported");
    }
    if is_hash {
        let has_options = |column: &IndexColumn| column.column.options.asc.is_some();
        let has_nulls = |column: &IndexColumn| column.column.options.nulls_first.is_some();
        let missing = match create {
            CreateIndex { unique: true, .. } => Some("unique indexes"),
            CreateIndex { include, .. } if !include.is_empty() => Some("included columns"),
            CreateIndex { columns, .. } if columns.len() > 1 => Some("multicolumn indexes"),
            CreateIndex { columns, .. } if columns.iter().any(has_options) => Some("ASC/DESC options"),
            CreateIndex { columns, .. } if columns.iter().any(has_nulls) => Some("NULLS FIRST/LAST options"),
            _ => None,
        };
        if let Some(missing) = missing {
            return refused(&format!("access method \"hash\" does not support {missing}"));
        }
    }
    Ok(is_hash)
}

fn column_named(schema: &SchemaRef, name: &Ident) -> Result<String, SqlError> {
    let name = fold(name);
    match schema.index_of(&name) {
        Ok(_) => Ok(name),
        Err(_) => Err(SqlError::error("42703", format!("column \"{name}\" does not exist"))),
    }
}

fn unnested(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => unnested(inner),
        other => other,
    }
}

/// Reads a key of an index.
async fn key(
    session: &Session,
    create: &CreateIndex,
    found: &IndexColumn,
    schema: &SchemaRef,
    is_hash: bool,
) -> Result<IndexKey, SqlError> {
    let options = &found.column.options;
    let is_descending = options.asc == Some(false);
    let mut expr = unnested(&found.column.expr);
    let mut collation = None;
    if let Expr::Collate { expr: inner, collation: name } = expr {
        let last = name.0.last().and_then(|part| part.as_ident()).map(|last| last.value.clone()).unwrap_or_default();
        collation = match last.as_str() {
            "C" | "POSIX" => Some(format!("\"{last}\"")),
            "default" => None,
            _ => return Err(SqlError::not_supported(format!("the collation {name} is not supported"))),
        };
        expr = unnested(inner);
    }
    let (name, expression, data_type) = match expr {
        Expr::Identifier(name) => {
            let name = column_named(schema, name)?;
            let data_type = schema.field_with_name(&name).map(|field| field.data_type().clone());
            (name, None, data_type.unwrap_or(DataType::Null))
        }
        expr => {
            let (data_type, kind) = check_expression(session, create, expr, false).await?;
            let name = item_name(&SelectItem::UnnamedExpr(expr.clone())).filter(|name| name != "?column?");
            let is_call = matches!(expr, Expr::Function(_));
            let expression = IndexExpression { text: written(expr), is_call, kind };
            (name.unwrap_or_else(|| "expr".into()), Some(expression), data_type)
        }
    };
    let is_text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    if collation.is_some() && !is_text {
        return Err(SqlError::error("42804", "collations are not supported by the type of a key of the index"));
    }
    let operators = found.operator_class.as_ref().map(|class| {
        let name = class.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
        match TEXT_OPERATORS.contains(&name.as_str()) {
            true if is_text => Ok(name),
            true => Err(SqlError::error("42804", format!("operator class \"{name}\" does not accept the data type"))),
            false => Err(SqlError::not_supported(format!("the operator class \"{class}\" is not supported"))),
        }
    });
    let operators = operators.transpose()?.filter(|name| name != "text_ops");
    // NULL is the greatest value.
    let nulls_first = !is_hash && options.nulls_first.unwrap_or(is_descending);
    Ok(IndexKey { name, expression, collation, operators, is_descending, nulls_first })
}

/// Checks that an expression, or the condition of a partial index, can be computed of the rows of the table; returns its type
/// and the number of that.
async fn check_expression(
    session: &Session,
    create: &CreateIndex,
    expr: &Expr,
    is_predicate: bool,
) -> Result<(DataType, i32), SqlError> {
    let text = format!("SELECT 1 FROM {}", create.table_name);
    let parsed = Parser::parse_sql(&PostgresDialect, &text).map_err(datafusion::error::DataFusionError::from)?;
    let unexpected = || SqlError::error("XX000", "internal error: an expression of an index has no query");
    let Some(Statement::Query(mut query)) = parsed.into_iter().next() else { return Err(unexpected()) };
    let SetExpr::Select(select) = query.body.as_mut() else { return Err(unexpected()) };
    match is_predicate {
        true => select.selection = Some(expr.clone()),
        false => select.projection = vec![SelectItem::UnnamedExpr(expr.clone())],
    }
    let plan = session.plan(DFStatement::Statement(Box::new(Statement::Query(query)))).await?;
    let place = if is_predicate { "index predicates" } else { "index expressions" };
    let mut refused = None;
    plan.apply(|node| {
        if matches!(node, LogicalPlan::Aggregate(_)) {
            let message = format!("aggregate functions are not allowed in {place}");
            refused = Some(SqlError::error("42803", message));
        } else if matches!(node, LogicalPlan::Window(_)) {
            let message = format!("window functions are not allowed in {place}");
            refused = Some(SqlError::error("42P20", message));
        } else if matches!(node, LogicalPlan::Unnest(_)) {
            let message = format!("set-returning functions are not allowed in {place}");
            refused = Some(SqlError::not_supported(message));
        }
        node.apply_expressions(|found| {
            found.apply(|part| {
                refused = refused.take().or_else(|| refusal(part, is_predicate));
                Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    })?;
    if let Some(refused) = refused {
        return Err(refused);
    }
    let schema = plan.schema();
    let field = schema.fields().first().ok_or_else(unexpected)?;
    Ok((field.data_type().clone(), i32::try_from(column::wire_oid(field)).unwrap_or_default()))
}

/// Returns why a part of an expression may not be in an index.
fn refusal(part: &PlanExpr, is_predicate: bool) -> Option<SqlError> {
    let what = if is_predicate { "index predicate" } else { "index expression" };
    match part {
        PlanExpr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
            let message = format!("functions in {what} must be marked IMMUTABLE");
            Some(SqlError::error("42P17", message))
        }
        PlanExpr::AggregateFunction(_) => {
            let message = format!("aggregate functions are not allowed in {what}s");
            Some(SqlError::error("42803", message))
        }
        PlanExpr::ScalarSubquery(_) | PlanExpr::InSubquery(_) | PlanExpr::Exists(_) | PlanExpr::SetComparison(_) => {
            Some(SqlError::not_supported(format!("cannot use subquery in {what}")))
        }
        PlanExpr::Placeholder(_) => Some(SqlError::error("42P02", format!("there is no parameter in an {what}"))),
        _ => None,
    }
}

fn written(expr: &Expr) -> String {
    expr.to_string()
}

/// Gives names of columns that are there before a number.
fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for name in names {
        let numbered = |number: usize| if number == 0 { name.clone() } else { format!("{name}{number}") };
        let free = (0..).map(numbered).find(|name| !found.contains(name));
        found.push(free.unwrap_or(name));
    }
    found
}

/// Returns the name that PostgreSQL gives an index of these columns.
fn free_name(table: &str, columns: &[String], taken: &HashSet<String>) -> String {
    let columns = columns.join("_");
    let numbered = |number: usize| {
        let label = if number == 0 { "idx".to_owned() } else { format!("idx{number}") };
        object_name(table, &columns, &label)
    };
    (0..).map(numbered).find(|name| !taken.contains(name)).unwrap_or_else(|| numbered(0))
}

/// Joins parts of a name, and cuts the longer ones so that the name is not too long.
fn object_name(table: &str, columns: &str, label: &str) -> String {
    let room = LONGEST_NAME - label.len() - 2;
    let (mut table_length, mut columns_length) = (table.len(), columns.len());
    while table_length + columns_length > room {
        if table_length > columns_length { table_length -= 1 } else { columns_length -= 1 }
    }
    let cut = |text: &str, length: usize| text[..text.floor_char_boundary(length)].to_owned();
    format!("{}_{}_{label}", cut(table, table_length), cut(columns, columns_length))
}

/// Returns a place among the numbers of a table's indexes that none has.
fn free_place(notes: &TableNotes) -> Result<i32, SqlError> {
    let free = keys::INDEX_PLACES.rev().find(|place| notes.indexes.iter().all(|index| index.place != *place));
    let message = "more than 32 indexes of a table are not supported";
    free.ok_or_else(|| SqlError::not_supported(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_postgres() {
        let name = |table: &str, columns: &[&str], taken: &[&str]| {
            let columns = distinct(columns.iter().map(|&name| name.to_owned()));
            free_name(table, &columns, &taken.iter().map(|&name| name.to_owned()).collect())
        };
        assert_eq!(name("t", &["a"], &[]), "t_a_idx");
        assert_eq!(name("t", &["a", "b"], &[]), "t_a_b_idx");
        assert_eq!(name("t", &["a"], &["t_a_idx", "t_a_idx1"]), "t_a_idx2");
        assert_eq!(name("t", &["a", "a", "expr", "expr"], &[]), "t_a_a1_expr_expr1_idx");
        // As PostgreSQL 15 answers to tables and columns of 60 letters.
        let (table, column) = ("t".repeat(60), "c".repeat(60));
        assert_eq!(name(&table, &[&column], &[]), format!("{}_{}_idx", "t".repeat(29), "c".repeat(29)));
        assert_eq!(name(&"ü".repeat(30), &[&"é".repeat(30)], &[]).chars().count(), 14 + 14 + 5);
    }
}
