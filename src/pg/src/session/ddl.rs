//! Statements that create and drop tables, views and models.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::{ResolvedTableReference, TableReference};
use datafusion::datasource::TableType;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Value, ValueWithSpan, VisitMut, VisitorMut};

use neuroql_access::{Users, resolved_table};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use crate::catalog::keys;
use crate::catalog::table_notes::{self, TableNotes};
use crate::session::objects::indexes;
use crate::session::result_stream::isolated;
use crate::session::sequences::{self, Generated};
use crate::session::{Outcome, Session};
use crate::sql::parse::ParsedStatement;
use crate::sql::table_constraints::NewConstraints;
use crate::sql::utility;
use crate::wire::error_response::{Failure, SqlError};

impl Session {
    /// Makes the changes of the transaction last. Tables that are gone have no owner any more.
    pub(crate) fn commit(&mut self) {
        match self.on_commit.commit(&self.temporary) {
            Ok(false) => {}
            Ok(true) => self.base.catalog_changed(),
            Err(error) => tracing::error!(%error, "a temporary table was not dropped at the end of its transaction"),
        }
        let gone = self.transaction.commit();
        let gone = gone.into_iter().filter(|name| self.context.table_exist(name.clone()).is_ok_and(|exists| !exists));
        forget_owners(&self.base.permissions.users, gone);
    }

    /// Runs a statement that creates or drops something, and notes who did.
    pub(super) async fn run_ddl(&mut self, plan: LogicalPlan, parsed: &ParsedStatement) -> Result<Outcome, Failure> {
        let statement = &parsed.statement;
        let LogicalPlan::Ddl(ddl) = &plan else {
            return Err(SqlError::error("XX000", "internal error: the statement creates and drops nothing").into());
        };
        let context = self.context.clone();
        sequences::check_kind(ddl, &context).await?;
        if let Some((name, cascades)) = removed_table(ddl, statement, &context) {
            self.begin_drop(&name, cascades).await?;
        }
        let created = created_table(ddl, &context);
        let name = match &created {
            Some((name, _)) => {
                let held = self.base.hold_name(name).await;
                // Another session may have created a table of this name meanwhile.
                self.check(&plan).await?;
                indexes::check_name(self, name).await?;
                Some(held)
            }
            None => None,
        };
        let is_new = match created {
            Some((name, replaces)) => replaces || !context.table_exist(name)?,
            None => false,
        };
        let dropped = match changed_table(ddl, &context) {
            Some(name) => {
                self.transaction.change_table(name.clone()).await?;
                if matches!(ddl, DdlStatement::DropTable(_)) && context.table_exist(name.clone())? {
                    self.drop_owned(&name).await?;
                }
                None
            }
            None => {
                self.wrote = true;
                dropped_table(ddl, &context)
            }
        };
        let tag = ddl_tag(ddl);
        let filled = filled_table(ddl, statement);
        let is_there = match &filled {
            Some(table) => context.table_exist(table.clone())?,
            None => false,
        };
        let (permissions, user, client) = (Arc::clone(&self.base.permissions), self.user.clone(), self.client);
        let (session, ddl) = (context.clone(), ddl.clone());
        let create = keyed_table(&ddl, statement).filter(|_| is_new).cloned();
        let on_commit = create.as_ref().and_then(|create| create.on_commit);
        let (plan, generated) = self.generate(plan, create.as_ref()).await?;
        let new_table = match &ddl {
            DdlStatement::CreateMemoryTable(table) if is_new => Some(table.name.clone()),
            _ => None,
        };
        let done = isolated(async move {
            let made = execute_ddl(plan, &ddl, create.as_ref(), generated, &session).await?;
            // Nothing comes between a table and its owner.
            permissions.note(&ddl, is_new, &user, client, &session);
            Ok::<_, SqlError>(made)
        });
        let done = done.await;
        self.base.catalog_changed();
        if let (Some((name, table)), Some(action)) = (done?, on_commit) {
            self.on_commit.add(&name, &table, &action);
        }
        // Who waits for other tables does not keep a name from others.
        drop(name);
        if let Some(table) = new_table {
            self.hold_new(table, parsed.constraints.as_deref()).await?;
        }
        // ROLLBACK brings tables and views back, but no models.
        forget_owners(&self.base.permissions.users, dropped);
        self.base.engine.settle().await?;
        let (is_view, is_empty) = kind_of_table(statement);
        Ok(Outcome::Done(match filled {
            Some(_) if is_view && (is_there || is_empty) => "CREATE MATERIALIZED VIEW".into(),
            Some(_) if is_there || is_empty => "CREATE TABLE AS".into(),
            Some(table) => {
                let count = isolated(async move { context.table(table).await?.count().await }).await?;
                format!("SELECT {count}")
            }
            None => tag.into(),
        }))
    }
}

/// Runs a plan, and keeps what the statement says of its table or view that DataFusion does not keep. Returns the table that it has
/// made in memory, if `create` is its statement, and its name.
async fn execute_ddl(
    plan: LogicalPlan,
    ddl: &DdlStatement,
    create: Option<&ast::CreateTable>,
    generated: Generated,
    session: &SessionContext,
) -> Result<Option<(String, Arc<dyn TableProvider>)>, SqlError> {
    let kept = notes_of_replaced(ddl, session).await?;
    session.execute_logical_plan(plan).await?.collect().await?;
    if let (Some(kept), DdlStatement::CreateView(view)) = (kept, ddl) {
        table_notes::replace(&session.table_provider(view.name.clone()).await?, Some(kept));
    }
    let (Some(create), DdlStatement::CreateMemoryTable(table)) = (create, ddl) else { return Ok(None) };
    let provider = session.table_provider(table.name.clone()).await?;
    keys::keep_names(provider.as_ref(), create);
    generated.keep(provider.as_ref());
    let schema = session.state_ref().read().config_options().catalog.default_schema.clone();
    table_notes::created(&provider, create, &schema);
    Ok(Some((table.name.table().to_owned(), provider)))
}

impl Session {
    /// Holds a new table with keys: a transaction that may be rolled back must not leave it to others to reference. Gives it
    /// its other constraints, and drops it if it cannot have them.
    async fn hold_new(&mut self, name: TableReference, new: Option<&NewConstraints>) -> Result<(), SqlError> {
        let name = resolved_table(&name, &self.context);
        let table = self.context.table_provider(name.clone()).await?;
        if !keys::columns_of(table.as_ref()).is_empty() {
            self.transaction.hold_all(&[table]).await?;
        }
        let Some(new) = new else { return Ok(()) };
        let constrained = self.constrain(&name.clone().into(), new).await;
        if constrained.is_err() {
            self.context.deregister_table(name)?;
        }
        constrained
    }
}

/// Forgets who owned tables.
fn forget_owners(users: &Users, names: impl IntoIterator<Item = ResolvedTableReference>) {
    for name in names {
        let has_owner = users.privileges(|privileges| privileges.owner(&name.schema, &name.table).is_some());
        // Few tables have one, and a file is written then.
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            _ if !has_owner => {}
            Ok(RuntimeFlavor::MultiThread) => block_in_place(|| users.set_owner(&name.schema, &name.table, None)),
            _ => users.set_owner(&name.schema, &name.table, None),
        }
    }
}

/// Returns the name that a statement drops.
fn dropped_table(ddl: &DdlStatement, context: &SessionContext) -> Option<ResolvedTableReference> {
    match ddl {
        DdlStatement::DropTable(table) => Some(resolved_table(&table.name, context)),
        DdlStatement::DropView(view) => Some(resolved_table(&view.name, context)),
        _ => None,
    }
}

/// Returns the table that a statement drops or replaces, and true if what references it is dropped, too.
fn removed_table(
    ddl: &DdlStatement,
    statement: &Statement,
    context: &SessionContext,
) -> Option<(ResolvedTableReference, bool)> {
    if let Some((name, true)) = created_table(ddl, context) {
        return Some((name, false));
    }
    let DdlStatement::DropTable(table) = ddl else { return None };
    let cascades = match statement {
        Statement::Statement(inner) => matches!(inner.as_ref(), ast::Statement::Drop { cascade: true, .. }),
        _ => false,
    };
    Some((resolved_table(&table.name, context), cascades))
}

/// Returns the table that a `CREATE TABLE … AS` fills.
fn filled_table(ddl: &DdlStatement, statement: &Statement) -> Option<TableReference> {
    let (DdlStatement::CreateMemoryTable(table), Statement::Statement(inner)) = (ddl, statement) else { return None };
    match inner.as_ref() {
        ast::Statement::CreateTable(create) if create.query.is_some() => Some(table.name.clone()),
        _ => None,
    }
}

/// Returns a `CREATE TABLE` that may give its keys names.
fn keyed_table<'a>(ddl: &DdlStatement, statement: &'a Statement) -> Option<&'a ast::CreateTable> {
    match (ddl, statement) {
        (DdlStatement::CreateMemoryTable(_), Statement::Statement(inner)) => match inner.as_ref() {
            ast::Statement::CreateTable(create) => Some(create),
            _ => None,
        },
        _ => None,
    }
}

/// Returns whether a statement makes a materialized view, and whether it leaves its table empty.
fn kind_of_table(statement: &Statement) -> (bool, bool) {
    let Statement::Statement(inner) = statement else { return (false, false) };
    match inner.as_ref() {
        ast::Statement::CreateTable(create) => (utility::is_materialized(create), utility::is_without_data(create)),
        _ => (false, false),
    }
}

/// Returns the notes on a view that another one replaces, which keeps them.
///
/// # Errors
/// 42809 if what is replaced is a materialized view.
async fn notes_of_replaced(ddl: &DdlStatement, context: &SessionContext) -> Result<Option<Arc<TableNotes>>, SqlError> {
    let Some((name, true)) = created_table(ddl, context) else { return Ok(None) };
    if !context.table_exist(name.clone())? {
        return Ok(None);
    }
    let is_view = matches!(ddl, DdlStatement::CreateView(_));
    let replaced = context.table_provider(name.clone()).await?;
    let notes = table_notes::of(replaced.as_ref());
    if notes.as_ref().is_some_and(|notes| notes.view.is_some()) {
        let message = format!("\"{}\" is not a {}", name.table, if is_view { "view" } else { "table" });
        return Err(SqlError::error("42809", message));
    }
    Ok(notes.filter(|_| is_view && replaced.table_type() == TableType::View))
}

/// Writes a statement so that it is read as it was, which sqlparser does not do with quotes in texts: it takes those that
/// follow each other or a backslash for escaped ones.
pub(crate) fn written(mut statement: Statement) -> String {
    struct Escape;

    impl VisitorMut for Escape {
        type Break = ();

        fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
            if let Value::SingleQuotedString(text) = &mut value.value
                && text.contains('\'')
            {
                value.value = Value::EscapedStringLiteral(std::mem::take(text));
            }
            ControlFlow::Continue(())
        }
    }

    if let Statement::Statement(inner) = &mut statement {
        let _ = inner.visit(&mut Escape);
    }
    statement.to_string()
}

/// Returns the name of the table or view that a statement creates, and true if it replaces another one.
fn created_table(ddl: &DdlStatement, context: &SessionContext) -> Option<(ResolvedTableReference, bool)> {
    let (name, replaces) = match ddl {
        DdlStatement::CreateExternalTable(table) => (&table.name, table.or_replace),
        DdlStatement::CreateMemoryTable(table) => (&table.name, table.or_replace),
        DdlStatement::CreateView(view) => (&view.name, view.or_replace),
        _ => return None,
    };
    Some((resolved_table(name, context), replaces))
}

/// Returns the table or view that a statement creates or drops, if ROLLBACK can restore what its name stood for.
pub(super) fn changed_table(ddl: &DdlStatement, context: &SessionContext) -> Option<ResolvedTableReference> {
    let name = match ddl {
        DdlStatement::CreateExternalTable(table) => &table.name,
        DdlStatement::CreateMemoryTable(table) => &table.name,
        DdlStatement::CreateView(view) => &view.name,
        DdlStatement::DropTable(table) => &table.name,
        DdlStatement::DropView(view) => &view.name,
        _ => return None,
    };
    let name = resolved_table(name, context);
    // A model is a schema, too.
    let is_model = matches!(ddl, DdlStatement::CreateExternalTable(table) if table.file_type.eq_ignore_ascii_case("model"))
        || context.catalog(&name.catalog).is_some_and(|catalog| catalog.schema(&name.table).is_some());
    (!is_model).then_some(name)
}

fn ddl_tag(ddl: &DdlStatement) -> &'static str {
    match ddl {
        DdlStatement::CreateExternalTable(_) | DdlStatement::CreateMemoryTable(_) => "CREATE TABLE",
        DdlStatement::CreateView(_) => "CREATE VIEW",
        DdlStatement::CreateCatalogSchema(_) => "CREATE SCHEMA",
        DdlStatement::CreateCatalog(_) => "CREATE DATABASE",
        DdlStatement::CreateIndex(_) => "CREATE INDEX",
        DdlStatement::DropTable(_) => "DROP TABLE",
        DdlStatement::DropView(_) => "DROP VIEW",
        DdlStatement::DropCatalogSchema(_) => "DROP SCHEMA",
        DdlStatement::CreateFunction(_) => "CREATE FUNCTION",
        DdlStatement::DropFunction(_) => "DROP FUNCTION",
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParserBuilder;
    use datafusion::sql::sqlparser::ast::{SelectItem, SetExpr};
    use neuroql::PostgresDialect;

    use super::*;

    fn parsed(text: &str) -> Statement {
        let parser = DFParserBuilder::new(text).with_dialect(&PostgresDialect).build();
        parser.unwrap().parse_statements().unwrap().pop_front().unwrap()
    }

    /// Returns the text that a view selects.
    fn selected(statement: &Statement) -> String {
        let Statement::Statement(inner) = statement else { panic!("{statement}") };
        let ast::Statement::CreateView(view) = inner.as_ref() else { panic!("{statement}") };
        let SetExpr::Select(select) = view.query.body.as_ref() else { panic!("{statement}") };
        let SelectItem::UnnamedExpr(ast::Expr::Value(value)) = &select.projection[0] else { panic!("{statement}") };
        value.value.clone().into_string().unwrap()
    }

    #[test]
    fn views_are_read_as_they_were_written() {
        for text in ["a", "'", "''", "a''b", "'''", "\\", "\\'", "\\''x", "\\\\'", "é'\n\t'$1", "{\"''\"}"] {
            let statement = parsed(&format!("CREATE VIEW v AS SELECT '{}'", text.replace('\'', "''")));
            assert_eq!(selected(&statement), text);
            let again = written(statement);
            assert_eq!(selected(&parsed(&again)), text, "{again}");
        }
    }
}
