//! ALTER TABLE: constraints of tables in memory that are added and dropped.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::{Constraint, Constraints, ResolvedTableReference};
use datafusion::datasource::{MemTable, TableType};
use datafusion::sql::sqlparser::ast::{
    AlterTable, AlterTableOperation, DropBehavior, Expr, Ident, IndexColumn, TableConstraint,
};
use neuroql_access::Event;

use crate::catalog::keys;
use crate::catalog::keys::held::{self, Held};
use crate::session::checks::{is_violated, rows_from};
use crate::session::constraints;
use crate::session::foreign_keys::{RowChange, check_parent};
use crate::session::new_constraints::{Names, not_in_memory, written};
use crate::session::result_stream::isolated;
use crate::session::{Outcome, Session};
use crate::sql::column_names::fold;
use crate::sql::mark_checks;
use crate::sql::table_constraints::{NewCheck, NewConstraints, NewForeignKey, new_foreign_key};
use crate::sql::unsupported;
use crate::wire::error_response::{Failure, SqlError, notice};

/// Runs an ALTER TABLE.
///
/// # Errors
/// 0A000 for all but constraints, and those of PostgreSQL for constraints that cannot be made or that rows violate.
pub(super) async fn alter(
    session: &mut Session,
    alter: &AlterTable,
    new: Option<&NewConstraints>,
) -> Result<Outcome, Failure> {
    if alter.location.is_some() || alter.on_cluster.is_some() || alter.table_type.is_some() {
        return Err(SqlError::not_supported(format!("{alter} is not supported")).into());
    }
    // Nothing is changed unless all of it can be.
    let mut checks = new.into_iter().flat_map(|new| new.checks.iter());
    let changes = alter.operations.iter().map(|operation| change(operation, &mut checks));
    let changes = changes.collect::<Result<Vec<_>, _>>()?;
    let name = session.table_named(&alter.name)?;
    if !session.context.table_exist(name.clone())? {
        let shown = written(&alter.name);
        if alter.if_exists {
            session.notices.push(notice(format!("relation \"{shown}\" does not exist, skipping")));
            return Ok(Outcome::done("ALTER TABLE"));
        }
        return Err(SqlError::error("42P01", format!("relation \"{shown}\" does not exist")).into());
    }
    let table = session.context.table_provider(name.clone()).await?;
    if table.table_type() != TableType::Base {
        let message = format!("\"{}\" is not a table", name.table);
        return Err(SqlError::error("42809", message).into());
    }
    session.check_owner(&name).await?;
    if held::rows(table.as_ref()).is_none() {
        return Err(not_in_memory(&name).into());
    }
    session.transaction.hold_all(&[table]).await?;
    let changed = session.alter_constraints(&name, &changes).await;
    session.base.catalog_changed();
    changed?;
    let (permissions, by, client) = (Arc::clone(&session.base.permissions), session.user.name.clone(), session.client);
    isolated(async move {
        let object = format!("{}.{}", name.schema, name.table);
        permissions.audit.record(&by, client, Event::Changed { command: "ALTER TABLE", object: &object });
        Ok::<_, SqlError>(())
    })
    .await?;
    Ok(Outcome::done("ALTER TABLE"))
}

/// A change of the constraints of a table.
enum ConstraintChange {
    AddCheck(Box<NewCheck>),
    AddForeignKey(NewForeignKey),
    AddKey { name: Option<String>, columns: Vec<String>, is_primary: bool },
    Drop { name: String, if_exists: bool },
}

/// Reads an operation. `checks` are the CHECK constraints of this operation and of those after it.
fn change<'a>(
    operation: &AlterTableOperation,
    checks: &mut impl Iterator<Item = &'a NewCheck>,
) -> Result<ConstraintChange, SqlError> {
    let refused = || Err(SqlError::not_supported(format!("ALTER TABLE … {operation} is not supported")));
    match operation {
        AlterTableOperation::AddConstraint { constraint, not_valid: false } => match constraint {
            TableConstraint::Check(_) => match checks.next() {
                Some(check) => Ok(ConstraintChange::AddCheck(Box::new(check.clone()))),
                None => refused(),
            },
            TableConstraint::ForeignKey(key) => {
                Ok(ConstraintChange::AddForeignKey(new_foreign_key(key.name.as_ref(), &key.columns, key)?))
            }
            TableConstraint::PrimaryKey(key) => {
                unsupported::primary_key(key)?;
                added_key(key.name.as_ref(), &key.columns, true)
            }
            TableConstraint::Unique(key) => {
                unsupported::unique_constraint(key)?;
                added_key(key.name.as_ref(), &key.columns, false)
            }
            _ => refused(),
        },
        AlterTableOperation::DropConstraint { name, if_exists, drop_behavior } => match drop_behavior {
            Some(DropBehavior::Cascade) => refused(),
            _ => Ok(ConstraintChange::Drop { name: fold(name), if_exists: *if_exists }),
        },
        _ => refused(),
    }
}

fn added_key(name: Option<&Ident>, columns: &[IndexColumn], is_primary: bool) -> Result<ConstraintChange, SqlError> {
    let column = |column: &IndexColumn| match &column.column.expr {
        Expr::Identifier(name) => Ok(fold(name)),
        other => Err(SqlError::error("42601", format!("syntax error at or near \"{other}\""))),
    };
    let columns = columns.iter().map(column).collect::<Result<_, _>>()?;
    Ok(ConstraintChange::AddKey { name: name.map(fold), columns, is_primary })
}

impl Session {
    async fn alter_constraints(
        &mut self,
        name: &ResolvedTableReference,
        changes: &[ConstraintChange],
    ) -> Result<(), SqlError> {
        for change in changes {
            // The table with what the changes before this one have made of it.
            let table = self.context.table_provider(name.clone()).await?;
            match change {
                ConstraintChange::AddCheck(new) => self.add_check(&table, name, new).await?,
                ConstraintChange::AddForeignKey(new) => self.add_foreign_key(&table, name, new).await?,
                ConstraintChange::AddKey { name: given, columns, is_primary } => {
                    self.add_key(&table, name, given.as_deref(), columns, *is_primary).await?;
                }
                ConstraintChange::Drop { name: dropped, if_exists } => {
                    self.drop_constraint(&table, name, dropped, *if_exists).await?;
                }
            }
        }
        Ok(())
    }

    async fn add_check(
        &mut self,
        table: &Arc<dyn TableProvider>,
        name: &ResolvedTableReference,
        new: &NewCheck,
    ) -> Result<(), SqlError> {
        let check = self.new_check(name, new, &mut Names::of(table.as_ref(), &name.table)).await?;
        if is_violated(&self.context, table, &check, rows_from(table.as_ref(), None)).await? {
            let (check, relation) = (&check.name, &name.table);
            let message = format!("check constraint \"{check}\" of relation \"{relation}\" is violated by some row");
            return Err(SqlError::error("23514", message));
        }
        self.change_held(table, name, |held| held.checks.push(check));
        Ok(())
    }

    async fn add_foreign_key(
        &mut self,
        table: &Arc<dyn TableProvider>,
        name: &ResolvedTableReference,
        new: &NewForeignKey,
    ) -> Result<(), SqlError> {
        let key = self.new_foreign_key(table, name, new, &mut Names::of(table.as_ref(), &name.table)).await?;
        let made = Arc::clone(&key);
        self.change_held(table, name, |held| held.foreign_keys.push(made));
        let related = self.hold_related(table, name, RowChange::Insert).await?;
        let (table, name) = (Arc::clone(table), name.clone());
        isolated(
            async move { check_parent(&related, table.as_ref(), &name.table, &rows_from(table.as_ref(), None), &key) },
        )
        .await
    }

    async fn add_key(
        &mut self,
        table: &Arc<dyn TableProvider>,
        name: &ResolvedTableReference,
        given: Option<&str>,
        columns: &[String],
        is_primary: bool,
    ) -> Result<(), SqlError> {
        let schema = table.schema();
        let mut places = Vec::with_capacity(columns.len());
        for column in columns {
            let Ok(place) = schema.index_of(column) else {
                return Err(SqlError::error("42703", format!("column \"{column}\" named in key does not exist")));
            };
            if places.contains(&place) {
                let kind = if is_primary { "primary key" } else { "unique" };
                let message = format!("column \"{column}\" appears twice in {kind} constraint");
                return Err(SqlError::error("42701", message));
            }
            mark_checks::check_key(schema.field(place))?;
            places.push(place);
        }
        let known = keys::columns_of(table.as_ref());
        if is_primary && known.iter().any(|(is_primary, _)| *is_primary) {
            let message = format!("multiple primary keys for table \"{}\" are not allowed", name.table);
            return Err(SqlError::error("42P16", message));
        }
        if known.iter().any(|(_, known)| *known == places) {
            let message = "a second key of the same columns is not supported";
            return Err(SqlError::not_supported(message));
        }
        let names: Vec<_> = if is_primary { Vec::new() } else { columns.iter().map(String::as_str).collect() };
        let label = if is_primary { "pkey" } else { "key" };
        let key_name = Names::of(table.as_ref(), &name.table).take(given, &names, label)?;
        let constraint = match is_primary {
            true => Constraint::PrimaryKey(places.clone()),
            false => Constraint::Unique(places.clone()),
        };
        let all = table.constraints().into_iter().flat_map(|known| known.iter().cloned()).chain([constraint]);
        let keyed = with_keys(table.as_ref(), all.collect())?;
        self.transaction.save_key_name(Arc::clone(table), is_primary, places.clone());
        keys::keep_name(keyed.as_ref(), is_primary, &places, Some(key_name.clone()));
        let (checked, relation) = (Arc::clone(&keyed), name.table.to_string());
        let unique = isolated(async move { constraints::check(checked.as_ref(), &relation) }).await;
        unique.map_err(|mut error| {
            match error.sqlstate.as_ref() {
                "23505" => error.message = format!("could not create unique index \"{key_name}\""),
                "23502" => {
                    let rows = rows_from(keyed.as_ref(), None);
                    let has_null = |place: &&usize| rows.iter().any(|batch| batch.column(**place).null_count() > 0);
                    let column = places.iter().find(has_null).map(|place| schema.field(*place).name().as_str());
                    let (column, relation) = (column.unwrap_or_default(), &name.table);
                    error.message = format!("column \"{column}\" of relation \"{relation}\" contains null values");
                }
                _ => {}
            }
            error
        })?;
        self.replace_table(name, keyed).await
    }

    async fn drop_constraint(
        &mut self,
        table: &Arc<dyn TableProvider>,
        name: &ResolvedTableReference,
        dropped: &str,
        if_exists: bool,
    ) -> Result<(), SqlError> {
        let held = held::of(table.as_ref()).unwrap_or_default();
        let is_held = held.checks.iter().any(|check| check.name == dropped)
            || held.foreign_keys.iter().any(|key| key.name == dropped && key.is_held());
        if is_held {
            self.hold_related(table, name, RowChange::Insert).await?;
            self.change_held(table, name, |held| {
                held.checks.retain(|check| check.name != dropped);
                held.foreign_keys.retain(|key| key.name != dropped);
            });
            return Ok(());
        }
        let known = keys::columns_of(table.as_ref());
        let found = known
            .iter()
            .find(|(is_primary, columns)| keys::name(table.as_ref(), &name.table, columns, *is_primary) == dropped);
        let Some((is_primary, columns)) = found.cloned() else {
            let message = format!("constraint \"{dropped}\" of relation \"{}\" does not exist", name.table);
            if if_exists {
                self.notices.push(notice(format!("{message}, skipping")));
                return Ok(());
            }
            return Err(SqlError::error("42704", message));
        };
        let related = self.hold_related(table, name, RowChange::Update).await?;
        let of_key: HashSet<_> = columns.iter().collect();
        let mut references = related.references(table.as_ref()).into_iter();
        if let Some((at, key)) = references.find(|(_, key)| key.referenced.iter().collect::<HashSet<_>>() == of_key) {
            let child = related.get(at).map(|child| child.name.table.to_string()).unwrap_or_default();
            let relation = &name.table;
            let message =
                format!("cannot drop constraint {dropped} on table {relation} because other objects depend on it");
            let hint = format!("constraint {} on table {child} depends on index {dropped}", key.name);
            return Err(SqlError::error("2BP01", message).with_hint(hint));
        }
        let kept = table.constraints().into_iter().flat_map(|known| known.iter());
        let kept = kept.filter(|constraint| match constraint {
            Constraint::PrimaryKey(known) => !(is_primary && *known == columns),
            Constraint::Unique(known) => is_primary || *known != columns,
        });
        let keyed = with_keys(table.as_ref(), kept.cloned().collect())?;
        self.replace_table(name, keyed).await
    }

    /// Changes the CHECK constraints and foreign keys of a table.
    fn change_held(
        &mut self,
        table: &Arc<dyn TableProvider>,
        name: &ResolvedTableReference,
        change: impl FnOnce(&mut Held),
    ) {
        self.transaction.save_constraints(Arc::clone(table), name.clone());
        let mut held = held::of(table.as_ref()).map(|held| Held::clone(&held)).unwrap_or_default();
        change(&mut held);
        held::set(table.as_ref(), name.clone(), Arc::new(held));
    }

    /// Puts a table of the same rows in the place of another.
    async fn replace_table(&mut self, name: &ResolvedTableReference, table: Arc<MemTable>) -> Result<(), SqlError> {
        self.transaction.change_table(name.clone()).await?;
        self.context.deregister_table(name.clone())?;
        self.context.register_table(name.clone(), table)?;
        Ok(())
    }
}

/// Returns a table of the same rows with other keys.
fn with_keys(table: &dyn TableProvider, keys: Vec<Constraint>) -> Result<Arc<MemTable>, SqlError> {
    let Some(known) = table.downcast_ref::<MemTable>() else {
        return Err(SqlError::error("XX000", "internal error: the table is not in memory"));
    };
    let schema = table.schema();
    let default = |name: &String| Some((name.clone(), table.get_column_default(name)?.clone()));
    let defaults: HashMap<_, _> = schema.fields().iter().filter_map(|field| default(field.name())).collect();
    let mut made = MemTable::try_new(Arc::clone(&schema), vec![Vec::new()])?;
    made.batches.clone_from(&known.batches);
    made.sort_order = Arc::clone(&known.sort_order);
    Ok(Arc::new(made.with_constraints(Constraints::new_unverified(keys)).with_column_defaults(defaults)))
}
