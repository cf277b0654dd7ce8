//! DROP TABLE, DROP VIEW and DROP MATERIALIZED VIEW, of several names or one: all of them or none.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::sqlparser::ast::{ObjectName, ObjectType, Statement};

use crate::catalog::keys::held;
use crate::session::objects::{RelationKind, find, indexes, run_part};
use crate::session::{Outcome, PreparedStatement, Session, ddl};
use crate::sql::column_names::fold;
use crate::wire::error_response::{Failure, SqlError, notice};

/// Returns true for objects that this module and that of indexes drop.
pub(super) fn drops(object_type: ObjectType) -> bool {
    use ObjectType::{Index, MaterializedView, Table, View};
    matches!(object_type, Table | View | MaterializedView | Index)
}

/// Drops relations. The flags are those of IF EXISTS and CASCADE.
pub(super) async fn drop_relations(
    session: &mut Session,
    prepared: &PreparedStatement,
    object_type: ObjectType,
    (if_exists, cascade): (bool, bool),
    names: &[ObjectName],
) -> Result<Outcome, Failure> {
    let (wanted, tag) = match object_type {
        ObjectType::View => (RelationKind::View, "DROP VIEW"),
        ObjectType::MaterializedView => (RelationKind::MaterializedView, "DROP MATERIALIZED VIEW"),
        _ => (RelationKind::Table, "DROP TABLE"),
    };
    let mut found = Vec::new();
    for name in names {
        let relation = match find(session, name).await {
            Err(error) if error.sqlstate == "3F000" && if_exists => {
                session.notices.push(notice(format!("{}, skipping", error.message)));
                continue;
            }
            relation => relation?,
        };
        let last = last(name);
        match relation {
            Some(relation) if relation.kind == wanted => {
                if found.iter().all(|((known, _), _)| *known != relation.name) {
                    found.push(((relation.name, name.clone()), relation.table));
                }
            }
            Some(relation) => {
                let error = SqlError::error("42809", format!("\"{last}\" is not {}", wanted.a()));
                return Err(error.with_hint(relation.kind.dropped_by()).into());
            }
            None if indexes::find(session, name).await?.is_some() => {
                let error = SqlError::error("42809", format!("\"{last}\" is not {}", wanted.a()));
                return Err(error.with_hint("Use DROP INDEX to remove an index.").into());
            }
            None if if_exists => {
                session.notices.push(notice(format!("{} \"{last}\" does not exist, skipping", wanted.name())));
            }
            None => {
                return Err(SqlError::error("42P01", format!("{} \"{last}\" does not exist", wanted.name())).into());
            }
        }
    }
    let mut plans = Vec::with_capacity(found.len());
    for (_, name) in children_first(found) {
        let one = Statement::Drop {
            object_type: if wanted == RelationKind::View { ObjectType::View } else { ObjectType::Table },
            if_exists: false,
            names: vec![name],
            cascade,
            restrict: false,
            purge: false,
            temporary: false,
            table: None,
        };
        let one = DFStatement::Statement(Box::new(one));
        plans.push((session.plan(one.clone()).await?, one));
    }
    let is_lasting = |plan: &LogicalPlan| match plan {
        LogicalPlan::Ddl(ddl) => ddl::changed_table(ddl, &session.context).is_none(),
        _ => true,
    };
    if plans.len() > 1 && plans.iter().any(|(plan, _)| is_lasting(plan)) {
        let message = format!("{tag} of several names, one of them that of a model, is not supported");
        return Err(SqlError::not_supported(message).with_hint("Drop one at a time.").into());
    }
    for (plan, statement) in plans {
        run_part(session, plan, statement, prepared).await?;
    }
    Ok(Outcome::done(tag))
}

/// Returns what is said of tables, those that reference others before these, as far as they do not reference each other.
fn children_first<T>(mut tables: Vec<(T, Arc<dyn TableProvider>)>) -> Vec<T> {
    let is_of = |reference: &held::Reference, table: &dyn TableProvider| {
        held::rows(table).is_some_and(|rows| reference.rows.as_ptr() == Arc::as_ptr(rows))
    };
    let mut sorted = Vec::with_capacity(tables.len());
    while !tables.is_empty() {
        let is_free = |at: &usize| {
            let references = held::references(tables[*at].1.as_ref());
            let mut others = tables.iter().enumerate().filter(|(other, _)| other != at);
            others.all(|(_, (_, other))| references.iter().all(|reference| !is_of(reference, other.as_ref())))
        };
        let next = (0..tables.len()).find(is_free).unwrap_or_default();
        sorted.push(tables.remove(next).0);
    }
    sorted
}

fn last(name: &ObjectName) -> String {
    name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default()
}
