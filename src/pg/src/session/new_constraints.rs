//! CHECK constraints and foreign keys of a table as statements add them: their names, what they may be, and what they refer
//! to.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, ResolvedTableReference, TableReference};
use datafusion::datasource::TableType;
use datafusion::logical_expr::{DdlStatement, DropTable, LogicalPlan};
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::ObjectName;
use neuroql::bpchar;
use neuroql_access::{TEMPORARY, resolved_table};

use crate::catalog::keys;
use crate::catalog::keys::held::{self, ForeignKey, Held};
use crate::decode;
use crate::encode::column;
use crate::session::Session;
use crate::session::foreign_keys::RowChange;
use crate::sql::column_names::fold;
use crate::sql::marks;
use crate::sql::table_constraints::{NewCheck, NewConstraints, NewForeignKey, chosen_name};
use crate::wire::error_response::{SqlError, notice};

/// The names of the constraints of a table.
pub(super) struct Names {
    table: String,
    taken: HashSet<String>,
}

impl Names {
    pub(super) fn of(table: &dyn TableProvider, name: &str) -> Self {
        let mut taken: HashSet<String> = keys::names_of(table, name).into_iter().collect();
        if let Some(held) = held::of(table) {
            taken.extend(held.checks.iter().map(|check| check.name.clone()));
            taken.extend(held.foreign_keys.iter().filter(|key| key.is_held()).map(|key| key.name.clone()));
        }
        Self { table: name.to_owned(), taken }
    }

    /// Takes the name that a constraint is given, or one that PostgreSQL would choose.
    ///
    /// # Errors
    /// 42710 if the given name is taken.
    pub(super) fn take(&mut self, given: Option<&str>, columns: &[&str], label: &str) -> Result<String, SqlError> {
        let name = match given {
            Some(given) if self.taken.contains(given) => {
                let message = format!("constraint \"{given}\" for relation \"{}\" already exists", self.table);
                return Err(SqlError::error("42710", message));
            }
            Some(given) => given.to_owned(),
            None => chosen_name(&self.table, columns, label, &|name| self.taken.contains(name)),
        };
        self.taken.insert(name.clone());
        Ok(name)
    }
}

impl Session {
    /// Gives a table that was created its CHECK constraints and foreign keys.
    ///
    /// # Errors
    /// Those of PostgreSQL for constraints that cannot be made.
    pub(super) async fn constrain(&mut self, table: &TableReference, new: &NewConstraints) -> Result<(), SqlError> {
        let name = resolved_table(table, &self.context);
        let table = self.context.table_provider(name.clone()).await?;
        let mut names = Names::of(table.as_ref(), &name.table);
        let mut made = Held::default();
        for check in &new.checks {
            if let Some(given) = check.name.as_ref().filter(|given| made.checks.iter().any(|made| made.name == **given))
            {
                return Err(SqlError::error("42710", format!("check constraint \"{given}\" already exists")));
            }
            made.checks.push(self.new_check(&name, check, &mut names).await?);
        }
        for key in &new.foreign_keys {
            made.foreign_keys.push(self.new_foreign_key(&table, &name, key, &mut names).await?);
        }
        held::set(table.as_ref(), name.clone(), Arc::new(made));
        self.hold_related(&table, &name, RowChange::Insert).await?;
        Ok(())
    }

    /// Makes a CHECK constraint of a table.
    ///
    /// # Errors
    /// Those of PostgreSQL for conditions that are none of a row.
    pub(super) async fn new_check(
        &self,
        table: &ResolvedTableReference,
        new: &NewCheck,
        names: &mut Names,
    ) -> Result<Arc<held::Check>, SqlError> {
        let given = new.name.clone();
        let check = self.plan_check(table, new, |columns| {
            let columns = if columns.len() == 1 { columns } else { &[] };
            names.take(given.as_deref(), columns, "check")
        });
        Ok(Arc::new(check.await?))
    }

    /// Makes a foreign key of a table, and holds the table that it references.
    ///
    /// # Errors
    /// Those of PostgreSQL for tables and columns that cannot be referenced.
    pub(super) async fn new_foreign_key(
        &mut self,
        table: &Arc<dyn TableProvider>,
        name: &ResolvedTableReference,
        new: &NewForeignKey,
        names: &mut Names,
    ) -> Result<Arc<ForeignKey>, SqlError> {
        let (parent_name, parent) = self.referenced_table(&new.table, name).await?;
        self.transaction.hold_all(std::slice::from_ref(&parent)).await?;
        let columns = places(table.as_ref(), &new.columns)?;
        let is_primary = new.referenced.is_empty();
        let referenced = match is_primary {
            true => {
                let found = keys::columns_of(parent.as_ref()).into_iter().find(|(is_primary, _)| *is_primary);
                let missing = || {
                    let message = format!("there is no primary key for referenced table \"{}\"", parent_name.table);
                    SqlError::error("42704", message)
                };
                found.ok_or_else(missing)?.1
            }
            false => places(parent.as_ref(), &new.referenced)?,
        };
        if columns.len() != referenced.len() {
            let message = "number of referencing and referenced columns for foreign key disagree";
            return Err(SqlError::error("42830", message));
        }
        if !is_primary {
            let wanted: HashSet<_> = referenced.iter().collect();
            if wanted.len() < referenced.len() {
                let message = "foreign key referenced-columns list must not contain duplicates";
                return Err(SqlError::error("42830", message));
            }
            let is_key = |columns: &[usize]| columns.iter().collect::<HashSet<_>>() == wanted;
            if !keys::columns_of(parent.as_ref()).iter().any(|(_, columns)| is_key(columns)) {
                let parent = &parent_name.table;
                let message =
                    format!("there is no unique constraint matching given keys for referenced table \"{parent}\"");
                return Err(SqlError::error("42830", message));
            }
        }
        let (schema, parent_schema) = (table.schema(), parent.schema());
        let column_names: Vec<_> = columns.iter().map(|column| schema.field(*column).name().as_str()).collect();
        let key_name = names.take(new.name.as_deref(), &column_names, "fkey")?;
        for (column, key) in columns.iter().zip(&referenced) {
            check_kinds(&key_name, schema.field(*column), parent_schema.field(*key))?;
        }
        let Some(rows) = held::rows(parent.as_ref()).map(Arc::downgrade) else {
            return Err(not_in_memory(&parent_name));
        };
        Ok(Arc::new(ForeignKey {
            name: key_name,
            columns,
            parent: parent_name,
            rows,
            referenced,
            on_delete: new.on_delete,
            on_update: new.on_update,
            number: held::next_number(),
        }))
    }

    /// Returns the table that a foreign key of another references.
    async fn referenced_table(
        &self,
        name: &ObjectName,
        child: &ResolvedTableReference,
    ) -> Result<(ResolvedTableReference, Arc<dyn TableProvider>), SqlError> {
        let found = self.table_named(name)?;
        if !self.context.table_exist(found.clone())? {
            return Err(SqlError::error("42P01", format!("relation \"{}\" does not exist", written(name))));
        }
        let table = self.context.table_provider(found.clone()).await?;
        if table.table_type() != TableType::Base {
            let message = format!("referenced relation \"{}\" is not a table", found.table);
            return Err(SqlError::error("42809", message));
        }
        match (*child.schema == *TEMPORARY, *found.schema == *TEMPORARY) {
            (true, false) => {
                let message = "constraints on temporary tables may reference only temporary tables";
                return Err(SqlError::error("42P16", message));
            }
            (false, true) => {
                let message = "constraints on permanent tables may reference only permanent tables";
                return Err(SqlError::error("42P16", message));
            }
            _ => {}
        }
        if held::rows(table.as_ref()).is_none() {
            return Err(not_in_memory(&found));
        }
        self.check_owner(&found).await.map_err(|error| match error.sqlstate.as_ref() {
            "42501" => SqlError::error("42501", format!("permission denied for table {}", found.table)),
            _ => error,
        })?;
        Ok((found, table))
    }

    /// Returns the whole name of a table of a statement.
    ///
    /// # Errors
    /// 0A000 for a table that a temporary one hides.
    pub(super) fn table_named(&self, name: &ObjectName) -> Result<ResolvedTableReference, SqlError> {
        let reference = object_name_to_table_reference(name.clone(), true)?;
        let found = resolved_table(&reference, &self.context);
        let hides = TableReference::full(Arc::clone(&found.catalog), TEMPORARY, Arc::clone(&found.table));
        if *found.schema != *TEMPORARY && self.context.table_exist(hides).unwrap_or(false) {
            let message = format!("{name} is not supported: a temporary table hides it");
            return Err(SqlError::not_supported(message));
        }
        Ok(found)
    }

    /// Refuses who may not change the definition of a table.
    ///
    /// # Errors
    /// 42501 and 25006.
    pub(super) async fn check_owner(&self, table: &ResolvedTableReference) -> Result<(), SqlError> {
        let drop = DropTable { name: table.clone().into(), if_exists: false, schema: Arc::new(DFSchema::empty()) };
        let denied = self.check(&LogicalPlan::Ddl(DdlStatement::DropTable(drop))).await;
        denied.map_err(|mut error| {
            error.message = error.message.replace("DROP TABLE", "ALTER TABLE");
            error
        })
    }

    /// Call this before a table is dropped or replaced. Holds the tables that reference it and those it references.
    ///
    /// # Errors
    /// 2BP01 if other tables reference it, unless their foreign keys are to be dropped, too.
    pub(super) async fn begin_drop(&mut self, name: &ResolvedTableReference, cascades: bool) -> Result<(), SqlError> {
        if !self.context.table_exist(name.clone()).unwrap_or(false) {
            return Ok(());
        }
        let table = self.context.table_provider(name.clone()).await?;
        let related = self.hold_related(&table, name, RowChange::Update).await?;
        let references = related.references(table.as_ref()).into_iter().filter_map(|(at, key)| {
            let child = related.get(at).filter(|child| child.name != *name)?;
            Some((key.name.clone(), child.name.table.to_string()))
        });
        let references: Vec<_> = references.collect();
        if references.is_empty() {
            return Ok(());
        }
        if !cascades {
            let list = references.iter().map(|(key, child)| format!("constraint {key} on table {child}"));
            let list = list.collect::<Vec<_>>().join(", ");
            let message = format!("cannot drop table {} because other objects depend on it", name.table);
            let hint = format!("Use DROP ... CASCADE to drop the dependent objects too: {list}.");
            return Err(SqlError::error("2BP01", message).with_hint(hint));
        }
        self.notices.push(notice(match references.as_slice() {
            [(key, child)] => format!("drop cascades to constraint {key} on table {child}"),
            more => format!("drop cascades to {} other objects", more.len()),
        }));
        Ok(())
    }
}

pub(super) fn not_in_memory(table: &ResolvedTableReference) -> SqlError {
    let message = format!("constraints of \"{}\" are not supported: it is no table in memory", table.table);
    SqlError::not_supported(message)
}

/// Returns a name without its quotes.
pub(super) fn written(name: &ObjectName) -> String {
    let parts = name.0.iter().filter_map(|part| part.as_ident());
    parts.map(fold).collect::<Vec<_>>().join(".")
}

/// Returns the places of columns.
fn places(table: &dyn TableProvider, columns: &[String]) -> Result<Vec<usize>, SqlError> {
    let schema = table.schema();
    let place = |name: &String| {
        let message = || format!("column \"{name}\" referenced in foreign key constraint does not exist");
        schema.index_of(name).map_err(|_| SqlError::error("42703", message()))
    };
    columns.iter().map(place).collect()
}

/// How values of two types are compared in a foreign key.
enum Comparison {
    Known,
    /// PostgreSQL compares them.
    Missing,
    None,
}

/// Checks that values of a column can be compared with those of the column that it references.
fn check_kinds(name: &str, column: &Field, referenced: &Field) -> Result<(), SqlError> {
    let kind = |field: &Field| column::wire_kind(field).map(|kind| decode::name(&kind)).unwrap_or_default();
    let (one, other) = (kind(column), kind(referenced));
    // Keys of types that are kept as text are compared with their marks and blanks.
    let is_bpchar = bpchar::is_bpchar(column) || bpchar::is_bpchar(referenced);
    let found = match comparison(column.data_type(), referenced.data_type()) {
        Comparison::Known if is_bpchar && column.metadata() != referenced.metadata() => Comparison::Missing,
        _ if marks::of_field(column) != marks::of_field(referenced) => Comparison::None,
        found => found,
    };
    match found {
        Comparison::Known => Ok(()),
        Comparison::Missing => {
            let message = format!("a foreign key of type {one} that references {other} is not supported");
            Err(SqlError::not_supported(message))
        }
        Comparison::None => {
            let (from, to) = (column.name(), referenced.name());
            let hint = format!("Key columns \"{from}\" and \"{to}\" are of incompatible types: {one} and {other}.");
            let message = format!("foreign key constraint \"{name}\" cannot be implemented");
            Err(SqlError::error("42804", message).with_hint(hint))
        }
    }
}

fn comparison(one: &DataType, other: &DataType) -> Comparison {
    let is_text = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let is_bytes = |kind: &DataType| matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    let is_decimal = |kind: &DataType| matches!(kind, DataType::Decimal128(..) | DataType::Decimal256(..));
    let is_moment = |kind: &DataType| matches!(kind, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..));
    let is_number = |kind: &DataType| kind.is_integer() || kind.is_floating() || is_decimal(kind);
    match (one, other) {
        _ if one == other => Comparison::Known,
        _ if is_text(one) && is_text(other) || is_bytes(one) && is_bytes(other) => Comparison::Known,
        // Integers become what they are compared with, and numbers with digits after the point floating-point ones.
        _ if one.is_integer() && is_number(other) => Comparison::Known,
        _ if is_decimal(one) && (is_decimal(other) || other.is_floating()) => Comparison::Known,
        _ if one.is_floating() && other.is_floating() => Comparison::Known,
        (DataType::Timestamp(one, from), DataType::Timestamp(other, to)) if from.is_some() == to.is_some() => {
            let is_exact = |unit: &TimeUnit| matches!(unit, TimeUnit::Microsecond | TimeUnit::Nanosecond);
            if is_exact(one) && is_exact(other) { Comparison::Known } else { Comparison::Missing }
        }
        _ if is_moment(one) && is_moment(other) => Comparison::Missing,
        _ => Comparison::None,
    }
}
