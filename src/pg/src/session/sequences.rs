//! CREATE SEQUENCE and DROP SEQUENCE, and the sequences that tables are created and dropped with.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Constraints, DFSchema, ResolvedTableReference, TableReference};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{CreateMemoryTable, DdlStatement, DropTable, EmptyRelation, Expr, LogicalPlan, lit};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{self, ColumnOption, ObjectName, ObjectType, Statement};
use datafusion_postgres::pgwire::api::Type;
use neuroql_access::{Error, Event, TEMPORARY, resolved_table};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use crate::catalog::objects::quoted;
use crate::catalog::own_types;
use crate::catalog::sequences::functions::{Found, NEXTVAL, OF_SEQUENCES};
use crate::catalog::sequences::generated::{self, Columns, Rows};
use crate::catalog::sequences::sequence;
use crate::catalog::sequences::{Options, OwningColumn, Sequence, SequenceTable};
use crate::decode;
use crate::encode::column;
use crate::session::{Outcome, Session, user_types};
use crate::sql::alter_sequence::AlterSequence;
use crate::sql::column_names::fold;
use crate::sql::rewrite::generated_columns::{SequenceColumn, default_text, sequence_columns};
use crate::wire::error_response::{Failure, SqlError, external, notice};

/// Greatest number of bytes of a name, as in PostgreSQL.
const LONGEST_NAME: usize = 63;

/// Owners of sequences and notes on columns that a table gets once it is there.
#[derive(Debug, Default)]
pub(super) struct Generated {
    sequences: Vec<(Arc<Sequence>, String, bool)>,
    columns: Columns,
}

impl Generated {
    pub(super) fn keep(self, table: &dyn TableProvider) {
        let Some(rows) = generated::rows(table) else { return };
        for (sequence, column, is_identity) in self.sequences {
            sequence.set_owner(OwningColumn { rows: Arc::downgrade(rows), column, is_identity });
        }
        generated::keep(table, self.columns);
    }
}

/// Runs a CREATE SEQUENCE.
pub(super) async fn create(session: &mut Session, statement: &Statement) -> Result<Outcome, Failure> {
    let Statement::CreateSequence { temporary, if_not_exists, name, data_type, sequence_options, owned_by } = statement
    else {
        return Err(SqlError::error("XX000", "internal error: no CREATE SEQUENCE").into());
    };
    let kind = match data_type {
        Some(data_type) => sequence::kind(data_type)
            .ok_or_else(|| SqlError::error("22023", "sequence type must be smallint, integer, or bigint"))?,
        None => Type::INT8,
    };
    let options = Options::new(kind, sequence_options)?;
    let name = session.name_of_new(name, *temporary)?;
    session.may_create(&name, "CREATE SEQUENCE")?;
    let _held = session.base.hold_name(&name).await;
    if session.context.table_exist(name.clone()).map_err(SqlError::from)? {
        let message = format!("relation \"{}\" already exists", name.table);
        if !if_not_exists {
            return Err(SqlError::error("42P07", message).into());
        }
        session.notices.push(notice(format!("{message}, skipping")));
        return Ok(Outcome::done("CREATE SEQUENCE"));
    }
    let owner = match owned_by {
        Some(owner) if owner.to_string().eq_ignore_ascii_case("none") => None,
        Some(owner) => Some(session.owning_column(owner, &name)?),
        None => None,
    };
    session.add_sequence(&name, Sequence::new(options, owner)).await?;
    session.own(&[name], "CREATE SEQUENCE");
    session.base.catalog_changed();
    Ok(Outcome::done("CREATE SEQUENCE"))
}

/// Runs a DROP SEQUENCE.
pub(super) async fn drop(session: &mut Session, statement: &Statement) -> Result<Outcome, Failure> {
    let Statement::Drop { object_type: ObjectType::Sequence, if_exists, names, cascade, .. } = statement else {
        return Err(SqlError::error("XX000", "internal error: no DROP SEQUENCE").into());
    };
    for name in names {
        let found = match session.sequences.find(&written(name)?) {
            Ok(found) => found,
            Err(error) if *if_exists && matches!(&*error.sqlstate, "42P01" | "3F000") => {
                let missing = match &*error.sqlstate {
                    "3F000" => error.message,
                    _ => format!(
                        "sequence \"{}\" does not exist",
                        name.0.last().map(ToString::to_string).unwrap_or_default()
                    ),
                };
                session.notices.push(notice(format!("{missing}, skipping")));
                continue;
            }
            Err(error) if error.sqlstate == "42P01" => {
                return Err(SqlError::error("42P01", format!("sequence \"{name}\" does not exist")).into());
            }
            Err(error) => return Err(error.into()),
        };
        let sequence = found.sequence().map_err(|error| error.with_hint("Use DROP TABLE to remove a table."))?;
        let name = session.resolved(&found);
        session.may_drop(&name)?;
        session.refuse_in_use(&found, &sequence, None, *cascade).await?;
        session.remove_sequence(&name).await?;
        session.audit("DROP SEQUENCE", &name);
    }
    session.base.catalog_changed();
    Ok(Outcome::done("DROP SEQUENCE"))
}

/// Runs an ALTER SEQUENCE: another sequence takes the place of the one that there is, which ROLLBACK brings back.
pub(super) async fn alter(session: &mut Session, alter: &AlterSequence) -> Result<Outcome, Failure> {
    if let Some(form) = alter.refused {
        return Err(SqlError::not_supported(format!("{form} is not supported")).into());
    }
    let text = written(&alter.name)?;
    let name = match session.sequences.find(&text) {
        Ok(found) => {
            found.sequence()?;
            session.resolved(&found)
        }
        Err(error) if alter.if_exists && matches!(&*error.sqlstate, "42P01" | "3F000") => {
            session.notices.push(notice(format!("{}, skipping", error.message)));
            return Ok(Outcome::done("ALTER SEQUENCE"));
        }
        Err(error) => return Err(error.into()),
    };
    session.may_change(&name, "ALTER SEQUENCE")?;
    let _held = session.base.hold_name(&name).await;
    // Another session may have altered it meanwhile.
    let sequence = session.sequences.find(&text)?.sequence()?;
    let is_identity = sequence.owner().is_some_and(|owner| owner.is_identity);
    let kind = match &alter.data_type {
        Some(data_type) => Some(sequence::kind(data_type).ok_or_else(|| {
            let what = if is_identity { "identity column" } else { "sequence" };
            SqlError::error("22023", format!("{what} type must be smallint, integer, or bigint"))
        })?),
        None => None,
    };
    let altered = sequence.altered(kind, &alter.options, alter.restart.as_ref().map(Option::as_ref))?;
    match &alter.owned_by {
        Some(_) if is_identity => {
            return Err(SqlError::not_supported("cannot change ownership of identity sequence").into());
        }
        Some(owner) if owner.to_string().eq_ignore_ascii_case("none") => altered.remove_owner(),
        Some(owner) => altered.set_owner(session.owning_column(owner, &name)?),
        None => {}
    }
    session.replace_sequence(&name, altered).await?;
    session.audit("ALTER SEQUENCE", &name);
    session.base.catalog_changed();
    Ok(Outcome::done("ALTER SEQUENCE"))
}

/// Refuses to drop or replace a sequence as if it were a table or a view, and to give a relation the name of a type.
///
/// # Errors
/// 42809, 42710.
pub(super) async fn check_kind(ddl: &DdlStatement, context: &SessionContext) -> Result<(), SqlError> {
    let created = match ddl {
        DdlStatement::CreateMemoryTable(table) => Some(&table.name),
        DdlStatement::CreateExternalTable(table) => Some(&table.name),
        DdlStatement::CreateView(view) => Some(&view.name),
        _ => None,
    };
    if let Some(created) = created.filter(|_| own_types::exist()) {
        let name = resolved_table(created, context);
        if context.table_exist(name.clone())? {
            user_types::check_name(context.table_provider(name).await?.as_ref())?;
        }
    }
    let (name, kind) = match ddl {
        DdlStatement::DropTable(table) => (&table.name, "table"),
        DdlStatement::DropView(view) => (&view.name, "view"),
        DdlStatement::CreateMemoryTable(table) if table.or_replace => (&table.name, "table"),
        DdlStatement::CreateExternalTable(table) if table.or_replace => (&table.name, "table"),
        DdlStatement::CreateView(view) if view.or_replace => (&view.name, "view"),
        _ => return Ok(()),
    };
    let name = resolved_table(name, context);
    if !context.table_exist(name.clone())? {
        return Ok(());
    }
    let table = context.table_provider(name.clone()).await?;
    match sequence::of(table.as_ref()) {
        Some(_) => Err(SqlError::error("42809", format!("\"{}\" is not a {kind}", name.table))
            .with_hint("Use DROP SEQUENCE to remove a sequence.")),
        None => Ok(()),
    }
}

impl Session {
    /// Makes the sequences of a table that is to be created, and completes the defaults of its columns.
    pub(super) async fn generate(
        &mut self,
        plan: LogicalPlan,
        create: Option<&ast::CreateTable>,
    ) -> Result<(LogicalPlan, Generated), SqlError> {
        let mut generated = Generated::default();
        let (mut table, create) = match (plan, create) {
            (LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(table)), Some(create)) => (table, create),
            (plan, _) => return Ok((plan, generated)),
        };
        let name = resolved_table(&table.name, &self.context);
        if table.or_replace && self.context.table_exist(name.clone())? {
            self.drop_owned(&name).await?;
        }
        for (_, default) in &mut table.column_defaults {
            *default = self.named(std::mem::replace(default, lit(0)))?;
        }
        self.describe_defaults(&table, create, &mut generated.columns);
        let mut names = Vec::new();
        for column in sequence_columns(create) {
            let (sequence, name) = self.add_sequence_of(&name, &column).await?;
            let nextval = self.context.udf(NEXTVAL)?;
            let number = nextval.call(vec![lit(format!("{}.{}", quoted(&name.schema), quoted(&name.table)))]);
            table.column_defaults.push((column.name.clone(), number));
            generated.columns.entry(column.name.clone()).or_default().identity = column.identity;
            generated.sequences.push((sequence, column.name, column.identity.is_some()));
            names.push(name);
        }
        self.own(&names, "CREATE SEQUENCE");
        Ok((LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(table)), generated))
    }

    /// Keeps the texts of defaults.
    fn describe_defaults(&self, table: &CreateMemoryTable, create: &ast::CreateTable, columns: &mut Columns) {
        for column in &create.columns {
            let default = column.options.iter().find_map(|option| match &option.option {
                ColumnOption::Default(default) => Some(default),
                _ => None,
            });
            let name = fold(&column.name);
            if let Some(default) = default
                && let Ok(field) = table.input.schema().field_with_unqualified_name(&name)
            {
                let kind = column::wire_kind(field).unwrap_or(Type::TEXT);
                columns.entry(name).or_default().default = default_text(default, &decode::name(&kind));
            }
        }
    }

    /// Gives the sequences that a default names their schema, as they are found now.
    fn named(&self, default: Expr) -> Result<Expr, SqlError> {
        let named = default.transform_up(|part| {
            let Expr::ScalarFunction(ScalarFunction { func, mut args }) = part else {
                return Ok(Transformed::no(part));
            };
            let name = match args.first() {
                Some(Expr::Literal(name, _)) if OF_SEQUENCES.contains(&func.name()) => {
                    name.try_as_str().flatten().map(str::to_owned)
                }
                _ => None,
            };
            let Some(name) = name else {
                return Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args })));
            };
            let found = self.sequences.find(&name).map_err(external)?;
            args[0] = lit(found.qualified());
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })))
        })?;
        Ok(named.data)
    }

    /// Makes the sequence of a column.
    async fn add_sequence_of(
        &mut self,
        table: &ResolvedTableReference,
        column: &SequenceColumn<'_>,
    ) -> Result<(Arc<Sequence>, ResolvedTableReference), SqlError> {
        let kind = sequence::kind(column.data_type)
            .ok_or_else(|| SqlError::error("22023", "identity column type must be smallint, integer, or bigint"))?;
        let sequence = Sequence::new(Options::new(kind, column.options)?, None);
        let mut number = 0;
        loop {
            let name = ResolvedTableReference {
                table: name_of_sequence(&table.table, &column.name, number).into(),
                ..table.clone()
            };
            let _held = self.base.hold_name(&name).await;
            if *name.table != *table.table && !self.context.table_exist(name.clone())? {
                let sequence = self.add_sequence(&name, sequence).await?;
                return Ok((sequence, name));
            }
            number += 1;
        }
    }

    async fn add_sequence(
        &mut self,
        name: &ResolvedTableReference,
        sequence: Sequence,
    ) -> Result<Arc<Sequence>, SqlError> {
        self.transaction.change_table(name.clone()).await?;
        let table = SequenceTable::new(sequence);
        let sequence = Arc::clone(table.sequence());
        self.context.register_table(name.clone(), Arc::new(table))?;
        Ok(sequence)
    }

    /// Puts a sequence into the place of another one.
    async fn replace_sequence(&mut self, name: &ResolvedTableReference, sequence: Sequence) -> Result<(), SqlError> {
        self.transaction.change_table(name.clone()).await?;
        self.context.deregister_table(name.clone())?;
        self.context.register_table(name.clone(), Arc::new(SequenceTable::new(sequence)))?;
        Ok(())
    }

    /// Has the sequences that go with a table begin again.
    ///
    /// # Errors
    /// 42501 for one of another user.
    pub(super) async fn restart_owned(
        &mut self,
        table: &ResolvedTableReference,
        provider: &dyn TableProvider,
    ) -> Result<(), SqlError> {
        let Some(rows) = generated::rows(provider).map(Arc::clone) else { return Ok(()) };
        let schema = self.context.catalog(&table.catalog).and_then(|catalog| catalog.schema(&table.schema));
        let Some(schema) = schema else { return Ok(()) };
        for name in schema.table_names() {
            let Some(found) = schema.table(&name).await? else { continue };
            let Some(sequence) = sequence::of(found.as_ref()).map(Arc::clone) else { continue };
            if sequence.owner().is_none_or(|owner| owner.rows.as_ptr() != Arc::as_ptr(&rows)) {
                continue;
            }
            let name = ResolvedTableReference { table: name.into(), ..table.clone() };
            self.may_change(&name, "TRUNCATE")?;
            let _held = self.base.hold_name(&name).await;
            self.replace_sequence(&name, sequence.altered(None, &[], Some(None))?).await?;
        }
        self.base.catalog_changed();
        Ok(())
    }

    async fn remove_sequence(&mut self, name: &ResolvedTableReference) -> Result<(), SqlError> {
        self.transaction.change_table(name.clone()).await?;
        self.context.deregister_table(name.clone())?;
        Ok(())
    }

    /// Drops the sequences that go with a table.
    ///
    /// # Errors
    /// 2BP01 if another table takes numbers of one.
    pub(super) async fn drop_owned(&mut self, table: &ResolvedTableReference) -> Result<(), SqlError> {
        let provider = self.context.table_provider(table.clone()).await?;
        let Some(rows) = generated::rows(provider.as_ref()).map(Arc::clone) else { return Ok(()) };
        let schema = self.context.catalog(&table.catalog).and_then(|catalog| catalog.schema(&table.schema));
        let Some(schema) = schema else { return Ok(()) };
        for name in schema.table_names() {
            let Some(found) = schema.table(&name).await? else { continue };
            let Some(sequence) = sequence::of(found.as_ref()).map(Arc::clone) else { continue };
            if sequence.owner().is_none_or(|owner| owner.rows.as_ptr() != Arc::as_ptr(&rows)) {
                continue;
            }
            let owned = Found { schema: table.schema.to_string(), name: name.clone(), table: found };
            self.refuse_in_use(&owned, &sequence, Some(&rows), false).await?;
            let name = ResolvedTableReference { table: name.into(), ..table.clone() };
            self.remove_sequence(&name).await?;
        }
        Ok(())
    }

    /// Refuses to drop a sequence of which a column takes numbers, unless the column is one of a table that goes, too.
    async fn refuse_in_use(
        &self,
        found: &Found,
        sequence: &Arc<Sequence>,
        except: Option<&Arc<Rows>>,
        cascade: bool,
    ) -> Result<(), SqlError> {
        let (catalog, _) = self.defaults();
        let Some(catalog) = self.context.catalog(&catalog) else { return Ok(()) };
        for schema_name in catalog.schema_names() {
            // Tables are made in these schemas.
            if schema_name != TEMPORARY && schema_name != found.schema && self.base.engine.is_model_schema(&schema_name)
            {
                continue;
            }
            let Some(schema) = catalog.schema(&schema_name) else { continue };
            for name in schema.table_names() {
                let Some(table) = schema.table(&name).await? else { continue };
                let Some(rows) = generated::rows(table.as_ref()) else { continue };
                if except.is_some_and(|except| Arc::ptr_eq(except, rows)) {
                    continue;
                }
                for field in table.schema().fields() {
                    let Some(default) = table.get_column_default(field.name()) else { continue };
                    if !self.takes_from(default, sequence) {
                        continue;
                    }
                    let (sequence, column) = (&found.name, field.name());
                    if generated::identity(table.as_ref(), column).is_some() {
                        let message = format!(
                            "cannot drop sequence {sequence} because column {column} of table {name} requires it"
                        );
                        let hint = format!("You can drop column {column} of table {name} instead.");
                        return Err(SqlError::error("2BP01", message).with_hint(hint));
                    }
                    if cascade {
                        let message = format!(
                            "DROP SEQUENCE {sequence} CASCADE with the default of column {column} of table {name}"
                        );
                        return Err(SqlError::not_supported(format!("{message} is not supported")));
                    }
                    let message = format!("cannot drop sequence {sequence} because other objects depend on it");
                    let hint = format!(
                        "The default value for column {column} of table {name} depends on sequence {sequence}."
                    );
                    return Err(SqlError::error("2BP01", message).with_hint(hint));
                }
            }
        }
        Ok(())
    }

    /// Returns true if a default takes numbers of a sequence.
    fn takes_from(&self, default: &Expr, sequence: &Arc<Sequence>) -> bool {
        let mut found = false;
        let walked = default.apply(|part| {
            if let Expr::ScalarFunction(ScalarFunction { func, args }) = part
                && OF_SEQUENCES.contains(&func.name())
                && let Some(Expr::Literal(name, _)) = args.first()
                && let Some(Some(name)) = name.try_as_str()
                && let Ok(named) = self.sequences.find(name).and_then(|named| named.sequence())
            {
                found |= Arc::ptr_eq(&named, sequence);
            }
            Ok(TreeNodeRecursion::Continue)
        });
        found || walked.is_err()
    }

    fn resolved(&self, found: &Found) -> ResolvedTableReference {
        let (catalog, _) = self.defaults();
        ResolvedTableReference {
            catalog: catalog.into(),
            schema: found.schema.as_str().into(),
            table: found.name.as_str().into(),
        }
    }

    /// Returns the name of a sequence that is to be created.
    pub(super) fn name_of_new(&self, name: &ObjectName, temporary: bool) -> Result<ResolvedTableReference, SqlError> {
        let parts = parts_of(name)?;
        let (catalog, schema) = self.defaults();
        let (in_catalog, in_schema, table) = match parts.as_slice() {
            [table] => (catalog.clone(), if temporary { TEMPORARY.to_owned() } else { schema }, table),
            [schema, table] => (catalog.clone(), schema.clone(), table),
            [in_catalog, schema, table] => (in_catalog.clone(), schema.clone(), table),
            _ => {
                return Err(SqlError::error(
                    "42601",
                    format!("improper qualified name (too many dotted names): {name}"),
                ));
            }
        };
        if in_catalog != catalog {
            let message = format!("cross-database references are not implemented: {name}");
            return Err(SqlError::not_supported(message));
        }
        if temporary && in_schema != TEMPORARY {
            return Err(SqlError::error("42P16", "cannot create temporary relation in non-temporary schema"));
        }
        if !self.catalog_has_schema(&in_schema) {
            return Err(SqlError::error("3F000", format!("schema \"{in_schema}\" does not exist")));
        }
        Ok(ResolvedTableReference {
            catalog: in_catalog.into(),
            schema: in_schema.into(),
            table: table.as_str().into(),
        })
    }

    /// Returns the column of OWNED BY.
    fn owning_column(&self, owner: &ObjectName, name: &ResolvedTableReference) -> Result<OwningColumn, SqlError> {
        let mut parts = parts_of(owner)?;
        let column = parts.pop().filter(|_| !parts.is_empty());
        let Some(column) = column else {
            let hint = "Specify OWNED BY table.column or OWNED BY NONE.";
            return Err(SqlError::error("42601", "invalid OWNED BY option").with_hint(hint));
        };
        let written: Vec<_> = parts.iter().map(|part| quoted(part)).collect();
        let found = self.sequences.find(&written.join("."))?;
        if *found.schema != *name.schema {
            return Err(SqlError::error("55000", "sequence must be in same schema as table it is linked to"));
        }
        let Some(rows) = generated::rows(found.table.as_ref()) else {
            let message = format!("sequence cannot be owned by relation \"{}\"", found.name);
            return Err(SqlError::error("42809", message));
        };
        if found.table.schema().field_with_name(&column).is_err() {
            let message = format!("column \"{column}\" of relation \"{}\" does not exist", found.name);
            return Err(SqlError::error("42703", message));
        }
        self.may_drop(&self.resolved(&found))?;
        Ok(OwningColumn { rows: Arc::downgrade(rows), column, is_identity: false })
    }

    /// Refuses a sequence or type that the user may not create by a statement: who may create tables may.
    pub(super) fn may_create(&self, name: &ResolvedTableReference, statement: &str) -> Result<(), SqlError> {
        let input = EmptyRelation { produce_one_row: false, schema: Arc::new(DFSchema::empty()) };
        let table = CreateMemoryTable {
            name: TableReference::from(name.clone()),
            constraints: Constraints::default(),
            input: Arc::new(LogicalPlan::EmptyRelation(input)),
            if_not_exists: false,
            or_replace: false,
            column_defaults: Vec::new(),
            temporary: false,
        };
        self.may(DdlStatement::CreateMemoryTable(table), statement)
    }

    fn may_drop(&self, name: &ResolvedTableReference) -> Result<(), SqlError> {
        self.may_change(name, "DROP SEQUENCE")
    }

    /// Refuses a sequence that is another user's.
    fn may_change(&self, name: &ResolvedTableReference, command: &str) -> Result<(), SqlError> {
        let (name, schema) = (TableReference::from(name.clone()), Arc::new(DFSchema::empty()));
        self.may(DdlStatement::DropTable(DropTable { name, if_exists: false, schema }), command)
    }

    pub(super) fn may(&self, ddl: DdlStatement, what: &str) -> Result<(), SqlError> {
        let read_only = self.settings().read_only();
        let checked = self.base.permissions.check(&LogicalPlan::Ddl(ddl), &self.user, read_only, &self.context);
        Ok(checked.map_err(|error| match error {
            Error::Denied { denial, .. } => Error::Denied { what: what.into(), denial },
            Error::ReadOnly(_) => Error::ReadOnly(what.into()),
            other => other,
        })?)
    }

    /// Notes that the user owns sequences.
    pub(super) fn own(&self, names: &[ResolvedTableReference], command: &str) {
        let users = &self.base.permissions.users;
        let owner = (!self.user.is_superuser()).then_some(self.user.name.as_str());
        for name in names {
            self.audit(command, name);
            if *name.schema == *TEMPORARY {
                continue;
            }
            // A file is written then.
            match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
                Ok(RuntimeFlavor::MultiThread) => block_in_place(|| users.set_owner(&name.schema, &name.table, owner)),
                _ => users.set_owner(&name.schema, &name.table, owner),
            }
        }
    }

    pub(super) fn audit(&self, command: &str, name: &ResolvedTableReference) {
        let object = format!("{}.{}", name.schema, name.table);
        self.base.permissions.audit.record(&self.user.name, self.client, Event::Changed { command, object: &object });
    }
}

fn parts_of(name: &ObjectName) -> Result<Vec<String>, SqlError> {
    let parts: Option<Vec<String>> = name.0.iter().map(|part| part.as_ident().map(fold)).collect();
    parts.ok_or_else(|| SqlError::error("42601", format!("syntax error at or near \"{name}\"")))
}

fn written(name: &ObjectName) -> Result<String, SqlError> {
    Ok(parts_of(name)?.iter().map(|part| quoted(part)).collect::<Vec<_>>().join("."))
}

/// Returns the name of the sequence of a column, as PostgreSQL makes it: the longer of two names that are too long is cut first.
fn name_of_sequence(table: &str, column: &str, number: usize) -> String {
    let label = if number == 0 { "seq".to_owned() } else { format!("seq{number}") };
    let (mut table, mut column) = (table, column);
    while table.len() + column.len() + label.len() + 2 > LONGEST_NAME {
        let longer = if table.len() > column.len() { &mut table } else { &mut column };
        let end = longer.char_indices().next_back().map_or(0, |(end, _)| end);
        *longer = &longer[..end];
        if table.is_empty() && column.is_empty() {
            break;
        }
    }
    format!("{table}_{column}_{label}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sequences_are_those_of_postgres() {
        assert_eq!(name_of_sequence("t", "id", 0), "t_id_seq");
        assert_eq!(name_of_sequence("t", "id", 2), "t_id_seq2");
        let long = name_of_sequence(&"t".repeat(60), &"c".repeat(10), 0);
        assert_eq!(long, format!("{}_{}_seq", "t".repeat(48), "c".repeat(10)));
        let both = name_of_sequence(&"t".repeat(60), &"ä".repeat(30), 0);
        assert!(both.len() <= LONGEST_NAME && both.ends_with("_seq"), "{both}");
    }
}
