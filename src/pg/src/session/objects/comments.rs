//! COMMENT ON relations, their columns, constraints and indexes.

use datafusion::sql::sqlparser::ast::{CommentObject, ObjectName};
use neuroql::table_comment;
use neuroql_access::TEMPORARY;

use crate::catalog::keys;
use crate::session::objects::{Relation, RelationKind, changed, check_rights, find_existing, indexes};
use crate::session::transaction::lengths;
use crate::session::{Outcome, Session};
use crate::sql::column_names::fold;
use crate::wire::error_response::{Failure, SqlError};

/// Sets a comment; `None` and an empty text remove it.
pub(super) async fn comment(
    session: &mut Session,
    object_type: CommentObject,
    name: &ObjectName,
    comment: Option<&str>,
) -> Result<Outcome, Failure> {
    let comment = comment.filter(|comment| !comment.is_empty()).map(str::to_owned);
    let wanted = match object_type {
        CommentObject::Table => RelationKind::Table,
        CommentObject::View => RelationKind::View,
        CommentObject::MaterializedView => RelationKind::MaterializedView,
        CommentObject::Column => return on_column(session, name, comment).await,
        CommentObject::Index => return on_index(session, name, comment).await,
        other => return Err(SqlError::not_supported(format!("COMMENT ON {other} is not supported")).into()),
    };
    let relation = find_existing(session, name).await?;
    check(session, &relation)?;
    if relation.kind != wanted {
        let message = format!("\"{}\" is not {}", relation.name.table, wanted.a());
        return Err(SqlError::error("42809", message).into());
    }
    let table = &relation.table;
    let change = session.transaction.change_notes(table, |notes| {
        notes.comment = comment;
        Ok(())
    });
    change.await?;
    done(session, &relation)
}

async fn on_column(session: &mut Session, name: &ObjectName, comment: Option<String>) -> Result<Outcome, Failure> {
    let (column, relation) = match name.0.split_last() {
        Some((column, rest)) if !rest.is_empty() => (column, ObjectName(rest.to_vec())),
        _ => return Err(SqlError::error("42601", "column name must be qualified").into()),
    };
    let column = column.as_ident().map(fold).unwrap_or_default();
    let relation = find_existing(session, &relation).await?;
    if relation.table.schema().index_of(&column).is_err() {
        let message = format!("column \"{column}\" of relation \"{}\" does not exist", relation.name.table);
        return Err(SqlError::error("42703", message).into());
    }
    check(session, &relation)?;
    let change = session.transaction.change_notes(&relation.table, |notes| {
        match comment {
            Some(comment) => notes.columns.insert(column, comment),
            None => notes.columns.remove(&column),
        };
        Ok(())
    });
    change.await?;
    done(session, &relation)
}

async fn on_index(session: &mut Session, name: &ObjectName, comment: Option<String>) -> Result<Outcome, Failure> {
    let Some((relation, index)) = indexes::find(session, name).await? else {
        let relation = find_existing(session, name).await?;
        let message = format!("\"{}\" is not an index", relation.name.table);
        return Err(SqlError::error("42809", message).into());
    };
    check(session, &relation)?;
    let change = session.transaction.change_notes(&relation.table, |notes| {
        match comment {
            Some(comment) => notes.index_comments.insert(index, comment),
            None => notes.index_comments.remove(&index),
        };
        Ok(())
    });
    change.await?;
    done(session, &relation)
}

/// Sets the comment on a constraint of a table.
pub(super) async fn comment_on_constraint(
    session: &mut Session,
    name: &str,
    table: &ObjectName,
    comment: Option<&str>,
) -> Result<Outcome, Failure> {
    let relation = find_existing(session, table).await?;
    let mut known = keys::names_of(relation.table.as_ref(), &relation.name.table);
    if let Some(held) = keys::held::of(relation.table.as_ref()) {
        known.extend(held.checks.iter().map(|check| check.name.clone()));
        known.extend(held.foreign_keys.iter().map(|key| key.name.clone()));
    }
    if !known.iter().any(|known| known == name) {
        let message = format!("constraint \"{name}\" for table \"{}\" does not exist", relation.name.table);
        return Err(SqlError::error("42704", message).into());
    }
    check(session, &relation)?;
    let change = session.transaction.change_notes(&relation.table, |notes| {
        match comment.filter(|comment| !comment.is_empty()) {
            Some(comment) => notes.constraints.insert(name.to_owned(), comment.to_owned()),
            None => notes.constraints.remove(name),
        };
        Ok(())
    });
    change.await?;
    done(session, &relation)
}

/// Refuses comments on relations of neuroql itself, on those of other users, and those that would not last as long as their
/// relation: the store keeps statements that create views and tables over files, without their comments.
fn check(session: &Session, relation: &Relation) -> Result<(), SqlError> {
    let (schema, name) = (&*relation.name.schema, &relation.name.table);
    let is_own = matches!(schema, "pg_catalog" | "information_schema")
        || session.base.engine.is_model_schema(schema)
        || table_comment(relation.table.as_ref()).is_some();
    if is_own {
        let message = format!("comments on \"{name}\", a relation of neuroql itself, cannot be changed");
        return Err(SqlError::error("42501", message));
    }
    check_rights(session, relation, "COMMENT")?;
    let in_memory = !lengths(relation.table.as_ref()).is_empty() || schema == TEMPORARY;
    if !in_memory && !session.base.engine.store().is_fleeting() {
        let message =
            format!("COMMENT ON \"{name}\" is not supported: the store would not keep it with its definition");
        return Err(SqlError::not_supported(message));
    }
    Ok(())
}

fn done(session: &Session, relation: &Relation) -> Result<Outcome, Failure> {
    changed(session, "COMMENT", relation);
    Ok(Outcome::done("COMMENT"))
}
