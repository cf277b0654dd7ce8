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
use datafusion::sql::sqlparser::ast::{
    CascadeOption, ObjectName, ObjectType, Statement, Truncate, TruncateIdentityOption, TruncateTableTarget,
};
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use neuroql_access::{Error, Event, resolved_table};

use crate::catalog::keys::held;
use crate::catalog::own_types;
use crate::catalog::sequences::generated;
use crate::catalog::table_notes;
use crate::session::transaction::lengths;
use crate::session::{Outcome, PreparedStatement, Session};
use crate::sql::column_names::fold;
use crate::sql::parse::ParsedStatement;
use crate::sql::utility::{Target, Utility};
use crate::wire::error_response::{Failure, SqlError, warning};

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
        (Statement::Truncate(truncate), _) => run_truncate(session, truncate, prepared).await,
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
    let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect();
    let reference = match parts.as_slice() {
        [table] => TableReference::bare(table.as_str()),
        [schema, table] => TableReference::partial(schema.as_str(), table.as_str()),
        [catalog, schema, table] => TableReference::full(catalog.as_str(), schema.as_str(), table.as_str()),
        _ => {
            let message = format!("improper qualified name (too many dotted names): {name}");
            return Err(SqlError::error("42601", message));
        }
    };
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

async fn run_truncate(
    session: &mut Session,
    truncate: &Truncate,
    prepared: &PreparedStatement,
) -> Result<Outcome, Failure> {
    if truncate.cascade == Some(CascadeOption::Cascade) {
        return Err(SqlError::not_supported("TRUNCATE … CASCADE is not supported").into());
    }
    if truncate.if_exists || truncate.partitions.is_some() || truncate.on_cluster.is_some() {
        return Err(SqlError::error("42601", "syntax error in TRUNCATE").into());
    }
    let mut plans: Vec<(ResolvedTableReference, LogicalPlan)> = Vec::new();
    let mut tables: Vec<(String, Arc<dyn TableProvider>)> = Vec::new();
    for target in &truncate.table_names {
        let relation = find_existing(session, &target.name).await?;
        let name = &relation.name.table;
        if relation.kind != RelationKind::Table {
            return Err(SqlError::error("42809", format!("\"{name}\" is not a table")).into());
        }
        // The plan of one table is checked as the statement that it is.
        let one = TruncateTableTarget { name: target.name.clone(), only: false, has_asterisk: false };
        let one = Truncate { table_names: vec![one], identity: None, cascade: None, ..truncate.clone() };
        let plan = session.plan(DFStatement::Statement(Box::new(Statement::Truncate(one)))).await?;
        let LogicalPlan::Dml(plan) = plan else {
            return Err(SqlError::error("XX000", "internal error: TRUNCATE has another plan").into());
        };
        if lengths(relation.table.as_ref()).is_empty() {
            let message = format!("TRUNCATE of the table \"{name}\", which is not in memory, is not supported");
            return Err(SqlError::not_supported(message).into());
        }
        if plans.iter().all(|(known, _)| *known != relation.name) {
            tables.push((name.to_string(), Arc::clone(&relation.table)));
            plans.push((relation.name, emptied(plan.table_name, plan.target)?));
        }
    }
    for (name, table) in &tables {
        check_truncated(name, table.as_ref(), truncate.identity.as_ref())?;
    }
    for (_, plan) in plans {
        run_part(session, plan, prepared.parsed.statement.clone(), prepared).await?;
    }
    Ok(Outcome::done("TRUNCATE TABLE"))
}

/// Refuses TRUNCATE of a table that others reference, and that of one whose sequences would have to begin again.
fn check_truncated(
    name: &str,
    table: &dyn TableProvider,
    identity: Option<&TruncateIdentityOption>,
) -> Result<(), SqlError> {
    let is_other =
        |reference: &held::Reference| held::rows(table).is_none_or(|rows| reference.rows.as_ptr() != Arc::as_ptr(rows));
    if let Some(reference) = held::references(table).iter().find(|reference| is_other(reference)) {
        let hint = format!("Table \"{}\" references \"{name}\".", reference.child.table);
        let message = "cannot truncate a table referenced in a foreign key constraint";
        return Err(SqlError::not_supported(message).with_hint(hint));
    }
    let is_numbered = |column: &str| generated::sequence_of(table, column).is_some();
    if identity == Some(&TruncateIdentityOption::Restart)
        && table.schema().fields().iter().any(|field| is_numbered(field.name()))
    {
        let message = format!("RESTART IDENTITY is not supported for the table \"{name}\", which has a sequence");
        return Err(SqlError::not_supported(message).with_hint("Use setval after TRUNCATE."));
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
