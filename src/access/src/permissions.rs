//! Permissions of users.
//!
//! Decided on the logical plan, because statements hide in statements: `EXPLAIN ANALYZE INSERT …`,
//! `PREPARE p AS DELETE …`, `COPY (…) TO 'file'`. What a table function or a table requires it says itself.

use std::net::SocketAddr;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ResolvedTableReference, TableReference};
use datafusion::error::Result;
use datafusion::logical_expr::{DdlStatement, DmlStatement, LogicalPlan, Statement, WriteOp};
use datafusion::prelude::SessionContext;
use neuroql::{ChangeRights, Rights, Role, SchemaUsage, change_rights, locations, required_role, schema_of_scan};

use crate::concealed::conceal;
use crate::privileges::TABLES;
use crate::settings::{check_setting, is_of_session};
use crate::{AllowedLocations, AuditLog, Denial, Error, Event, HostRules, User, Users};

/// The schema of a session's temporary tables, which are its own.
pub const TEMPORARY: &str = "pg_temp";

/// Who may do what on a server.
#[derive(Debug)]
pub struct Permissions {
    /// The users, with their privileges.
    pub users: Arc<Users>,
    /// Hosts that they may connect from.
    pub hosts: HostRules,
    /// Locations that analysts may register models and datasets from.
    pub locations: AllowedLocations,
    /// Log of what they did.
    pub audit: AuditLog,
}

/// An action of a plan's node that not everybody may take.
struct Act {
    /// Its name, for messages: `INSERT INTO`, `analyze()`.
    name: String,
    /// Why the user may not do it.
    denial: Option<Denial>,
}

impl Permissions {
    /// Permissions of users who may connect from everywhere.
    pub fn of(users: Users) -> Self {
        Self {
            users: Arc::new(users),
            hosts: HostRules::default(),
            locations: AllowedLocations::default(),
            audit: AuditLog::default(),
        }
    }

    /// Refuses a plan that its user may not run, or not in a transaction that only reads. `context` is that of the user's
    /// session, whose names the plan has. May read folders, if the plan registers what is in them.
    ///
    /// # Errors
    /// [`Error::Denied`] or [`Error::ReadOnly`], with the statement's name, and [`Error::Setting`] for a value that a
    /// setting may not have, whoever sets it.
    pub fn check(
        &self,
        plan: &LogicalPlan,
        user: &User,
        read_only: bool,
        context: &SessionContext,
    ) -> std::result::Result<(), Error> {
        if let LogicalPlan::Statement(Statement::SetVariable(set)) = plan {
            check_setting(&set.variable, &set.value)?;
        }
        if user.is_superuser() && !read_only {
            return Ok(());
        }
        let judge = Judge { permissions: self, user, context };
        let mut refused = None;
        let walked = plan.apply_with_subqueries(|node| {
            refused = judge.act(node)?.and_then(|act| match act.denial {
                Some(denial) => Some(Error::Denied { what: act.name, denial }),
                None if read_only => Some(Error::ReadOnly(act.name)),
                None => None,
            });
            Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        });
        walked?;
        refused.map_or(Ok(()), Err)
    }

    /// Returns the rights of a user, for the options of the user's session. They follow the privileges.
    pub fn rights(&self, user: &User) -> Rights {
        Rights::new(user.role, Arc::new(UsageOf { users: Arc::clone(&self.users), user: user.clone() }))
    }

    /// Replaces values by NULL that the user may not see, and leaves out rows of `information_schema` on schemas that the
    /// user may not use.
    ///
    /// # Errors
    /// If the plan cannot be built.
    pub fn conceal(&self, plan: LogicalPlan, user: &User) -> Result<LogicalPlan> {
        conceal(plan, user, &self.users.privileges(|privileges| privileges.hidden(user)))
    }

    /// Notes a statement that has run: tables belong to who created them, which is the case if `created` is true. Blocks.
    pub fn note(&self, ddl: &DdlStatement, created: bool, user: &User, client: SocketAddr, context: &SessionContext) {
        let table = match ddl {
            DdlStatement::CreateExternalTable(table) => Some(&table.name),
            DdlStatement::CreateMemoryTable(table) => Some(&table.name),
            DdlStatement::CreateView(view) => Some(&view.name),
            DdlStatement::DropTable(table) => Some(&table.name),
            DdlStatement::DropView(view) => Some(&view.name),
            _ => None,
        };
        let table = table.map(|name| resolved_table(name, context));
        let object = match (&table, ddl) {
            (Some(name), _) => format!("{}.{}", name.schema, name.table),
            (None, DdlStatement::CreateCatalogSchema(schema)) => schema.schema_name.clone(),
            (None, DdlStatement::DropCatalogSchema(schema)) => schema.name.to_string(),
            (None, DdlStatement::CreateCatalog(catalog)) => catalog.catalog_name.clone(),
            (None, other) => other.name().to_owned(),
        };
        self.audit.record(&user.name, client, Event::Changed { command: &command(ddl.name()), object: &object });
        if let Some(name) = table.filter(|name| created && *name.schema != *TEMPORARY) {
            let owner = (!user.is_superuser()).then_some(user.name.as_str());
            self.users.set_owner(&name.schema, &name.table, owner);
        }
    }
}

/// Answers the questions of a session's tables and functions about its user.
#[derive(Debug)]
struct UsageOf {
    users: Arc<Users>,
    user: User,
}

impl SchemaUsage for UsageOf {
    fn may_use(&self, schema: &str) -> bool {
        self.users.privileges(|privileges| privileges.may_use(&self.user, schema))
    }
}

/// Decides for one user.
struct Judge<'a> {
    permissions: &'a Permissions,
    user: &'a User,
    context: &'a SessionContext,
}

impl Judge<'_> {
    fn act(&self, node: &LogicalPlan) -> Result<Option<Act>> {
        let act = |name: String, denial| Some(Act { name, denial });
        Ok(match node {
            LogicalPlan::Ddl(statement) => act(command(statement.name()), self.ddl(statement)?),
            LogicalPlan::Dml(statement) => {
                let name = command(&statement.op.to_string());
                match self.dml(statement) {
                    Some((what, denial)) => act(what.unwrap_or(name), Some(denial)),
                    None => act(name, None),
                }
            }
            LogicalPlan::Copy(_) => act("COPY".into(), self.below(Role::Superuser)),
            LogicalPlan::TableScan(_) => {
                if let Some(schema) = schema_of_scan(node)
                    && !self.may_use(&schema)
                {
                    return Ok(act(format!("schema {schema}"), Some(Denial::NotGranted)));
                }
                let required = required_role(node).filter(|(_, role)| *role > Role::Reader);
                required.and_then(|(function, role)| act(format!("{function}()"), self.below(role)))
            }
            LogicalPlan::Statement(statement) => {
                setting_of_server(statement).and_then(|name| act(format!("SET {name}"), self.below(Role::Superuser)))
            }
            _ => None,
        })
    }

    fn below(&self, role: Role) -> Option<Denial> {
        (self.user.role < role).then_some(Denial::Role(role))
    }

    fn may_use(&self, schema: &str) -> bool {
        self.permissions.users.privileges(|privileges| privileges.may_use(self.user, schema))
    }

    fn owns(&self, name: &ResolvedTableReference) -> bool {
        let owner = |schema: &str| {
            self.permissions.users.privileges(|privileges| privileges.owner(schema, &name.table).cloned())
        };
        *name.schema == *TEMPORARY || self.is_of_users(name) && owner(&name.schema).as_ref() == Some(&self.user.name)
    }

    /// Returns true if a name is that of a table where analysts create them.
    fn is_of_users(&self, name: &ResolvedTableReference) -> bool {
        *name.schema == *TABLES && *name.catalog == *catalog_of(self.context)
    }

    /// Returns why the user may not create or drop something.
    fn ddl(&self, statement: &DdlStatement) -> Result<Option<Denial>> {
        let least = self.below(Role::Analyst);
        if least.is_some() || self.user.is_superuser() {
            return Ok(least.map(|_| Denial::Role(least_role(statement))));
        }
        let (name, replaces) = match statement {
            DdlStatement::CreateExternalTable(table) => {
                let refused = locations(table).into_iter().find(|location| !self.permissions.locations.allow(location));
                if let Some(location) = refused {
                    return Ok(Some(Denial::Location(location.to_owned())));
                }
                (&table.name, table.or_replace)
            }
            DdlStatement::CreateMemoryTable(table) => (&table.name, table.or_replace),
            DdlStatement::CreateView(view) => (&view.name, view.or_replace),
            DdlStatement::DropTable(table) => (&table.name, true),
            DdlStatement::DropView(view) => (&view.name, true),
            _ => return Ok(Some(Denial::Role(Role::Superuser))),
        };
        let name = resolved_table(name, self.context);
        if *name.schema == *TEMPORARY {
            return Ok(None);
        }
        if !self.is_of_users(&name) {
            return Ok(Some(Denial::Role(Role::Superuser)));
        }
        let changes = replaces && self.context.table_exist(TableReference::from(name.clone()))?;
        Ok((changes && !self.owns(&name)).then(|| Denial::Owner(name.table.to_string())))
    }

    /// Returns what the user may not change, if it is not the rows of the table, and why.
    fn dml(&self, statement: &DmlStatement) -> Option<(Option<String>, Denial)> {
        if self.user.is_superuser() {
            return None;
        }
        let name = resolved_table(&statement.table_name, self.context);
        let is_owner = |name: &ResolvedTableReference| {
            let least = self.below(Role::Analyst).map(|_| Denial::Role(Role::Analyst));
            least.or_else(|| (!self.owns(name)).then(|| Denial::Owner(name.table.to_string())))
        };
        match change_rights(&statement.target) {
            ChangeRights::Superuser => Some((None, Denial::Role(Role::Superuser))),
            ChangeRights::Owner => is_owner(&name).map(|denial| (None, denial)),
            ChangeRights::OfModel { schema, .. } if !self.may_use(&schema) => {
                Some((Some(format!("schema {schema}")), Denial::NotGranted))
            }
            ChangeRights::OfModel { insert, .. } if matches!(statement.op, WriteOp::Insert(_)) => {
                self.below(insert).map(|denial| (None, denial))
            }
            ChangeRights::OfModel { schema, .. } => {
                let model = ResolvedTableReference {
                    catalog: catalog_of(self.context).into(),
                    schema: TABLES.into(),
                    table: schema.into(),
                };
                is_owner(&model).map(|denial| (None, denial))
            }
        }
    }
}

/// Returns the least role that may run a statement, for the messages of readers.
fn least_role(statement: &DdlStatement) -> Role {
    match statement {
        DdlStatement::CreateExternalTable(_)
        | DdlStatement::CreateMemoryTable(_)
        | DdlStatement::CreateView(_)
        | DdlStatement::DropTable(_)
        | DdlStatement::DropView(_) => Role::Analyst,
        _ => Role::Superuser,
    }
}

fn catalog_of(context: &SessionContext) -> String {
    context.state_ref().read().config_options().catalog.default_catalog.clone()
}

/// Returns the whole name of a table, which is a temporary one if it has no schema and the session has one of that name.
pub fn resolved_table(name: &TableReference, context: &SessionContext) -> ResolvedTableReference {
    let (catalog, schema) = {
        let state = context.state_ref();
        let state = state.read();
        let defaults = &state.config_options().catalog;
        (defaults.default_catalog.clone(), defaults.default_schema.clone())
    };
    if let TableReference::Bare { table } = name {
        let temporary = TableReference::full(catalog.as_str(), TEMPORARY, Arc::clone(table));
        if context.table_exist(temporary.clone()).unwrap_or(false) {
            return temporary.resolve(&catalog, &schema);
        }
    }
    name.clone().resolve(&catalog, &schema)
}

/// Returns the name of the setting that a statement changes, if not everybody may change it.
fn setting_of_server(statement: &Statement) -> Option<&str> {
    let name = match statement {
        Statement::SetVariable(set) => &set.variable,
        Statement::ResetVariable(reset) => &reset.variable,
        _ => return None,
    };
    (!is_of_session(name)).then_some(name.as_str())
}

/// Returns the name of a statement for messages: `CREATE EXTERNAL TABLE` for `CreateExternalTable`, `INSERT INTO` for
/// `Insert Into`.
fn command(name: &str) -> String {
    let mut words = String::new();
    let mut previous = ' ';
    for letter in name.chars() {
        if letter.is_uppercase() && previous.is_lowercase() {
            words.push(' ');
        }
        words.extend(letter.to_uppercase());
        previous = letter;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn commands_are_spelt_in_sql() {
        assert_eq!(command("CreateExternalTable"), "CREATE EXTERNAL TABLE");
        assert_eq!(command("Insert Into"), "INSERT INTO");
    }
}
