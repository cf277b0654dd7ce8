//! Statements about relations that need no plan of their own: DROP, TRUNCATE, COMMENT, indexes, materialized views, and
//! those that change nothing.

mod comments;
mod dropped;
pub(super) mod indexes;
pub(super) mod materialized_views;

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, ResolvedTableReference, TableReference};
use datafusion::datasource::TableType;
use datafusion::logical_expr::{
    DdlStatement, DmlStatement, DropTable, LogicalPlan, LogicalPlanBuilder, TableSource, WriteOp,
};
use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::{
    CascadeOption, Ident, ObjectName, ObjectType, Statement, Truncate, TruncateIdentityOption, TruncateTableTarget,
};
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use neuroql_access::{Error, Event, resolved_table};

use crate::catalog::keys::held;
use crate::catalog::own_types;
use crate::catalog::table_notes;
use crate::session::sequences;
use crate::session::transaction::{lengths, of_partitions};
use crate::session::{Outcome, PreparedStatement, Session};
use crate::sql::column_names::fold;
use crate::sql::parse::ParsedStatement;
use crate::sql::utility::{Target, Utility};
use crate::wire::error_response::{Failure, SqlError, notice, warning};

/// Returns true if this module runs the statement.
pub(super) fn runs(statement: &Statement) -> bool {
    match statement {
        Statement::Truncate(_) | Statement::Vacuum(_) | Statement::CreateIndex(_) | Statement::Comment { .. } => true,
        Statement::Drop { object_type, .. } => dropped::drops(*object_type),
        _ => false,
    }
}

/// Checks, before a statement runs, that the user may drop what it drops.
pub(super) async fn check_prepared(session: &Session, statement: &Statement) -> Result<(), SqlError> {
    let Statement::Drop { object_type, names, .. } = statement else { return Ok(()) };
    if *object_type == ObjectType::Index {
        return Ok(());
    }
    for name in names {
        // What is not there is told when the statement runs.
        if let Ok(Some(relation)) = find(session, name).await {
            check_rights(session, &relation, &format!("DROP {object_type}"))?;
        }
    }
    Ok(())
}

/// Runs a statement of this module.
pub(super) async fn run(
    session: &mut Session,
    statement: &Statement,
    prepared: &PreparedStatement,
) -> Result<Outcome, Failure> {
    match (statement, &prepared.parsed.utility) {
        (Statement::Truncate(truncate), _) => run_truncate(session, truncate).await,
        (Statement::CreateIndex(create), _) => indexes::create(session, create).await,
        (Statement::Comment { object_type, object_name, comment, if_exists }, _) => {
            if *if_exists {
                return Err(SqlError::error("42601", "syntax error at or near \"if\"").into());
            }
            comments::comment(session, *object_type, object_name, comment.as_deref()).await
        }
        (Statement::Drop { object_type, if_exists, names, cascade, .. }, utility) => {
            if *object_type != ObjectType::Index {
                return dropped::drop_relations(session, prepared, *object_type, (*if_exists, *cascade), names).await;
            }
            if matches!(utility, Some(Utility::Concurrently)) {
                refuse_in_block(session, "DROP INDEX CONCURRENTLY")?;
                if names.len() > 1 {
                    let message = "DROP INDEX CONCURRENTLY does not support dropping multiple objects";
                    return Err(SqlError::not_supported(message).into());
                }
            }
            indexes::drop_indexes(session, *if_exists, names).await
        }
        (_, Some(Utility::CommentOnConstraint { name, table, comment })) => {
            comments::comment_on_constraint(session, &fold(name), table, comment.as_deref()).await
        }
        (_, Some(Utility::Refresh { name, populated, concurrently })) => {
            materialized_views::refresh(session, prepared, name, *populated, *concurrently).await
        }
        (_, Some(Utility::AlterSequence(alter))) => sequences::alter(session, alter).await,
        (_, Some(Utility::Vacuum(targets))) => {
            refuse_in_block(session, "VACUUM")?;
            maintain(session, targets, "vacuum").await?;
            Ok(Outcome::done("VACUUM"))
        }
        (_, Some(Utility::Analyze(targets))) => {
            maintain(session, targets, "analyze").await?;
            Ok(Outcome::done("ANALYZE"))
        }
        _ => Err(SqlError::error("XX000", "internal error: not a statement about relations").into()),
    }
}

/// Runs a part of a statement: a plan, and the statement that says the same.
async fn run_part(
    session: &mut Session,
    plan: LogicalPlan,
    statement: DFStatement,
    prepared: &PreparedStatement,
) -> Result<(), Failure> {
    let parsed = ParsedStatement { statement, ..prepared.parsed.clone() };
    session.run_plan(plan, &parsed).await.map(drop)
}

fn refuse_in_block(session: &Session, command: &str) -> Result<(), SqlError> {
    match session.status {
        TransactionStatus::Idle => Ok(()),
        _ => Err(SqlError::error("25001", format!("{command} cannot run inside a transaction block"))),
    }
}

/// A kind of relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RelationKind {
    Table,
    View,
    MaterializedView,
}

impl RelationKind {
    fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View => "view",
            Self::MaterializedView => "materialized view",
        }
    }

    /// Returns the kind with its article.
    fn a(self) -> &'static str {
        match self {
            Self::Table => "a table",
            Self::View => "a view",
            Self::MaterializedView => "a materialized view",
        }
    }

    fn dropped_by(self) -> &'static str {
        match self {
            Self::Table => "Use DROP TABLE to remove a table.",
            Self::View => "Use DROP VIEW to remove a view.",
            Self::MaterializedView => "Use DROP MATERIALIZED VIEW to remove a materialized view.",
        }
    }
}

/// A relation that a statement names.
struct Relation {
    name: ResolvedTableReference,
    table: Arc<dyn TableProvider>,
    kind: RelationKind,
}

impl Relation {
    fn new(name: ResolvedTableReference, table: Arc<dyn TableProvider>) -> Self {
        let is_materialized = table_notes::of(table.as_ref()).is_some_and(|notes| notes.view.is_some());
        let kind = match table.table_type() {
            TableType::View => RelationKind::View,
            _ if is_materialized => RelationKind::MaterializedView,
            _ => RelationKind::Table,
        };
        Self { name, table, kind }
    }
}

/// Returns the relation of a name, `None` if there is none.
///
/// # Errors
/// 3F000 if there is no such schema, 0A000 if a temporary table hides the relation.
async fn find(session: &Session, name: &ObjectName) -> Result<Option<Relation>, SqlError> {
    session.temporary.check_name(name)?;
    let name = resolved(session, name)?;
    let catalog = session.context.catalog(&name.catalog);
    let Some(schema) = catalog.and_then(|catalog| catalog.schema(&name.schema)) else {
        return Err(SqlError::error("3F000", format!("schema \"{}\" does not exist", name.schema)));
    };
    let table = schema.table(&name.table).await?.filter(|table| own_types::of(table.as_ref()).is_none());
    Ok(table.map(|table| Relation::new(name, table)))
}

/// Returns the relation of a name.
///
/// # Errors
/// 42P01 if there is none, and those of [`find`].
async fn find_existing(session: &Session, name: &ObjectName) -> Result<Relation, SqlError> {
    find(session, name).await?.ok_or_else(|| missing(name))
}

fn missing(name: &ObjectName) -> SqlError {
    let parts = name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect::<Vec<_>>().join(".");
    SqlError::error("42P01", format!("relation \"{parts}\" does not exist"))
}

/// Returns the whole name of a relation.
fn resolved(session: &Session, name: &ObjectName) -> Result<ResolvedTableReference, SqlError> {
    let message = || format!("improper qualified name (too many dotted names): {name}");
    let reference = object_name_to_table_reference(name.clone(), true);
    let reference = reference.map_err(|_| SqlError::error("42601", message()))?;
    Ok(resolved_table(&reference, &session.context))
}

/// Refuses a change of a relation by others than those who may drop it. `command` is the statement, for messages.
fn check_rights(session: &Session, relation: &Relation, command: &str) -> Result<(), SqlError> {
    let name = TableReference::from(relation.name.clone());
    let schema = Arc::new(DFSchema::empty());
    let plan = LogicalPlan::Ddl(DdlStatement::DropTable(DropTable { name, if_exists: false, schema }));
    let read_only = session.settings().read_only();
    let checked = session.base.permissions.check(&plan, &session.user, read_only, &session.context);
    checked.map_err(|error| {
        SqlError::from(match error {
            Error::Denied { denial, .. } => Error::Denied { what: command.to_owned(), denial },
            Error::ReadOnly(_) => Error::ReadOnly(command.to_owned()),
            other => other,
        })
    })
}

/// Notes in the audit log that a relation was changed, and has plans made again.
fn changed(session: &Session, command: &str, relation: &Relation) {
    let object = format!("{}.{}", relation.name.schema, relation.name.table);
    let event = Event::Changed { command, object: &object };
    session.base.permissions.audit.record(&session.user.name, session.client, event);
    session.base.catalog_changed();
}

/// Returns a plan that deletes all rows of a table.
fn emptied(name: TableReference, table: Arc<dyn TableSource>) -> Result<LogicalPlan, SqlError> {
    let rows = LogicalPlanBuilder::scan(name.clone(), Arc::clone(&table), None)?.build()?;
    Ok(LogicalPlan::Dml(DmlStatement::new(name, table, WriteOp::Delete, Arc::new(rows))))
}

async fn run_truncate(session: &mut Session, truncate: &Truncate) -> Result<Outcome, Failure> {
    if truncate.if_exists || truncate.partitions.is_some() || truncate.on_cluster.is_some() {
        return Err(SqlError::error("42601", "syntax error in TRUNCATE").into());
    }
    let cascades = truncate.cascade == Some(CascadeOption::Cascade);
    let mut relations: Vec<Relation> = Vec::new();
    for target in &truncate.table_names {
        let relation = find_existing(session, &target.name).await?;
        if relations.iter().all(|known| known.name != relation.name) {
            check_truncate(session, &relation, truncate).await?;
            relations.push(relation);
        }
    }
    if cascades {
        let mut next = 0;
        while let Some(relation) = relations.get(next) {
            next += 1;
            for reference in held::references(relation.table.as_ref()) {
                let Some(child) = child(session, &reference).await? else { continue };
                if relations.iter().all(|known| known.name != child.name) {
                    session.notices.push(notice(format!("truncate cascades to table \"{}\"", child.name.table)));
                    check_truncate(session, &child, truncate).await?;
                    relations.push(child);
                }
            }
        }
    }
    check_references(session, &relations).await?;
    let in_block = session.status != TransactionStatus::Idle;
    let tables: Vec<_> = relations.iter().map(|relation| Arc::clone(&relation.table)).collect();
    session.transaction.hold_all(&tables).await?;
    for table in &tables {
        session.transaction.change_rows(Arc::clone(table), &WriteOp::Truncate, in_block).await?;
    }
    // Others may have made foreign keys until the tables were held.
    check_references(session, &relations).await?;
    if truncate.identity == Some(TruncateIdentityOption::Restart) {
        for relation in &relations {
            session.restart_owned(&relation.name, relation.table.as_ref()).await?;
        }
    }
    for table in tables {
        of_partitions(table.as_ref(), Vec::clear);
    }
    Ok(Outcome::done("TRUNCATE TABLE"))
}

/// Checks that the user may empty a relation, and that it can be.
async fn check_truncate(session: &Session, relation: &Relation, truncate: &Truncate) -> Result<(), SqlError> {
    let name = &relation.name.table;
    if relation.kind != RelationKind::Table {
        return Err(SqlError::error("42809", format!("\"{name}\" is not a table")));
    }
    // The plan of one table is checked as the statement that it is.
    let parts = [&relation.name.catalog, &relation.name.schema, name];
    let parts = parts.map(|part| Ident::with_quote('"', part.to_string()));
    let one = TruncateTableTarget { name: ObjectName::from(parts.to_vec()), only: false, has_asterisk: false };
    let one = Truncate { table_names: vec![one], identity: None, cascade: None, ..truncate.clone() };
    session.plan(DFStatement::Statement(Box::new(Statement::Truncate(one)))).await?;
    if lengths(relation.table.as_ref()).is_empty() {
        let message = format!("TRUNCATE of the table \"{name}\", which is not in memory, is not supported");
        return Err(SqlError::not_supported(message));
    }
    Ok(())
}

/// Returns the table that has a foreign key, if it stands under its name.
async fn child(session: &Session, reference: &held::Reference) -> Result<Option<Relation>, SqlError> {
    if !session.context.table_exist(reference.child.clone()).unwrap_or(false) {
        return Ok(None);
    }
    let table = session.context.table_provider(reference.child.clone()).await?;
    let is_there = held::has_rows(table.as_ref(), &reference.rows);
    Ok(is_there.then(|| Relation::new(reference.child.clone(), table)))
}

/// Refuses to empty tables that others reference.
///
/// # Errors
/// 0A000, as in PostgreSQL.
async fn check_references(session: &Session, relations: &[Relation]) -> Result<(), SqlError> {
    for relation in relations {
        for reference in held::references(relation.table.as_ref()) {
            let Some(child) = child(session, &reference).await? else { continue };
            if relations.iter().all(|known| known.name != child.name) {
                let (name, child) = (&relation.name.table, &child.name.table);
                let message = "cannot truncate a table referenced in a foreign key constraint";
                let hint = format!(
                    "Table \"{child}\" references \"{name}\". Truncate table \"{child}\" at the same time, or use TRUNCATE … CASCADE."
                );
                return Err(SqlError::not_supported(message).with_hint(hint));
            }
        }
    }
    Ok(())
}

/// Checks the names of a VACUUM or ANALYZE. Tables in memory have nothing to be done: no space is kept, no statistics are
/// read.
async fn maintain(session: &mut Session, targets: &[Target], verb: &str) -> Result<(), SqlError> {
    for (name, columns) in targets {
        let relation = find_existing(session, name).await?;
        let table = &relation.name.table;
        if relation.kind == RelationKind::View {
            let message = format!("skipping \"{table}\" --- cannot {verb} non-tables or special system tables");
            session.notices.push(warning("01000", &message));
            continue;
        }
        let schema = relation.table.schema();
        if let Some(column) = columns.iter().map(fold).find(|column| schema.index_of(column).is_err()) {
            let message = format!("column \"{column}\" of relation \"{table}\" does not exist");
            return Err(SqlError::error("42703", message));
        }
    }
    Ok(())
}
