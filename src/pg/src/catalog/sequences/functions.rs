//! `nextval`, `currval`, `lastval`, `setval` and `pg_get_serial_sequence`.
//!
//! A column's default is an expression of the session that made the table, and runs in those of others. So the functions are those
//! of all sessions, and find the session that they run for in its options.

use std::any::Any;
use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::catalog::{CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;
use futures::FutureExt;
use neuroql_access::{TEMPORARY, User, Users};

use crate::catalog::objects::{ObjectKind, Objects, parts, quoted};
use crate::catalog::sequences::generated::{self, rows};
use crate::catalog::sequences::sequence::{self, Sequence, SequenceIdentity};
use crate::session::settings::Settings;
use crate::wire::error_response::{SqlError, external};

/// Name of the function that takes a number.
pub(crate) const NEXTVAL: &str = "nextval";

/// Functions whose first argument is a sequence.
pub(crate) const OF_SEQUENCES: [&str; 3] = [NEXTVAL, "currval", "setval"];

/// A relation that was found by its name.
pub(crate) struct Found {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) table: Arc<dyn TableProvider>,
}

impl Found {
    /// Returns the sequence.
    ///
    /// # Errors
    /// 42809 if the relation is none.
    pub(crate) fn sequence(&self) -> Result<Arc<Sequence>, SqlError> {
        let found = sequence::of(self.table.as_ref()).map(Arc::clone);
        found.ok_or_else(|| SqlError::error("42809", format!("\"{}\" is not a sequence", self.name)))
    }

    /// Returns the name with the schema.
    pub(crate) fn qualified(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

/// Sequences of a session: an extension of its options.
#[derive(Clone)]
pub(crate) struct SequenceAccess {
    /// The catalogs of the session, in one of which its temporary tables are.
    catalogs: Arc<dyn CatalogProviderList>,
    /// The catalogs of the server, whose tables no temporary ones hide.
    server: Arc<dyn CatalogProviderList>,
    catalog: String,
    objects: Arc<Objects>,
    users: Arc<Users>,
    user: User,
    settings: Arc<Mutex<Settings>>,
    numbers: Arc<Mutex<Numbers>>,
}

/// The numbers that a session has taken.
#[derive(Default)]
struct Numbers {
    /// The last number of each sequence, by the address of the sequence.
    current: HashMap<usize, (Weak<SequenceIdentity>, i64)>,
    /// The sequence that a number was taken of last.
    last: Option<Weak<SequenceIdentity>>,
}

impl Debug for SequenceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SequenceAccess").field("user", &self.user).finish_non_exhaustive()
    }
}

impl ConfigExtension for SequenceAccess {
    const PREFIX: &'static str = "neuroql_sequences";
}

impl ExtensionOptions for SequenceAccess {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _: &str) -> Result<()> {
        plan_err!("there is no setting {}.{key}", Self::PREFIX)
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}

impl SequenceAccess {
    /// Gives a session access to the sequences of its catalogs.
    pub(crate) fn new(
        catalogs: &Arc<dyn CatalogProviderList>,
        server: &Arc<dyn CatalogProviderList>,
        catalog: &str,
        objects: &Arc<Objects>,
        users: &Arc<Users>,
        user: &User,
        settings: &Arc<Mutex<Settings>>,
    ) -> Self {
        Self {
            catalogs: Arc::clone(catalogs),
            server: Arc::clone(server),
            catalog: catalog.to_owned(),
            objects: Arc::clone(objects),
            users: Arc::clone(users),
            user: user.clone(),
            settings: Arc::clone(settings),
            numbers: Arc::default(),
        }
    }

    /// Returns the access of a session with these options.
    pub(crate) fn of(options: &ConfigOptions) -> Result<Self, SqlError> {
        let found = options.extensions.get::<Self>().cloned();
        found.ok_or_else(|| SqlError::not_supported("sequences are not supported outside of a session of the server"))
    }

    /// Forgets the numbers that the session has taken.
    pub(crate) fn forget(&self) {
        *self.numbers() = Numbers::default();
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the schemas in which a name without one is looked up.
    fn path(&self) -> Vec<String> {
        let mut path = vec![TEMPORARY.to_owned()];
        path.extend(self.settings.lock().unwrap_or_else(PoisonError::into_inner).search_path());
        path
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let catalogs = if name == TEMPORARY { &self.catalogs } else { &self.server };
        catalogs.catalog(&self.catalog)?.schema(name)
    }

    fn look_up(&self, schema: &str, name: &str) -> Option<Found> {
        let tables = self.schema(schema)?;
        let table = tables.table(name).now_or_never()?.ok()??;
        Some(Found { schema: schema.to_owned(), name: name.to_owned(), table })
    }

    /// Returns the relation of a name.
    ///
    /// # Errors
    /// 42P01 if there is none, 3F000 if there is no such schema, 42602 and 42601 if it is no name.
    pub(crate) fn find(&self, text: &str) -> Result<Found, SqlError> {
        let parts = parts(text.trim()).ok_or_else(|| SqlError::error("42602", "invalid name syntax"))?;
        let missing = |name: &str| SqlError::error("42P01", format!("relation \"{name}\" does not exist"));
        match parts.as_slice() {
            [name] => self.path().iter().find_map(|schema| self.look_up(schema, name)).ok_or_else(|| missing(name)),
            [catalog, _, _] if *catalog != self.catalog => {
                let message = format!("cross-database references are not implemented: \"{}\"", parts.join("."));
                Err(SqlError::not_supported(message))
            }
            [schema, name] | [_, schema, name] => {
                if self.schema(schema).is_none() {
                    return Err(SqlError::error("3F000", format!("schema \"{schema}\" does not exist")));
                }
                self.look_up(schema, name).ok_or_else(|| missing(&format!("{schema}.{name}")))
            }
            _ => {
                let message = format!("improper relation name (too many dotted names): {}", parts.join("."));
                Err(SqlError::error("42601", message))
            }
        }
    }

    /// Refuses a sequence that the user may not change, or not in this transaction.
    fn check(&self, found: &Found, function: &str) -> Result<(), SqlError> {
        if self.settings.lock().unwrap_or_else(PoisonError::into_inner).read_only() && found.schema != TEMPORARY {
            let message = format!("cannot execute {function}() in a read-only transaction");
            return Err(SqlError::error("25006", message));
        }
        let is_owner = || {
            let owner = self.users.privileges(|privileges| privileges.owner(&found.schema, &found.name).cloned());
            self.user.role >= neuroql::Role::Analyst && owner.as_ref() == Some(&self.user.name)
        };
        if self.user.is_superuser() || found.schema == TEMPORARY || is_owner() {
            return Ok(());
        }
        Err(SqlError::error("42501", format!("permission denied for sequence {}", found.name)))
    }

    fn take(&self, found: &Found) -> Result<i64, SqlError> {
        let sequence = found.sequence()?;
        self.check(found, NEXTVAL)?;
        let number = sequence.next(&found.name)?;
        let mut numbers = self.numbers();
        numbers.keep(sequence.identity(), number);
        numbers.last = Some(Arc::downgrade(sequence.identity()));
        Ok(number)
    }

    fn current(&self, found: &Found) -> Result<i64, SqlError> {
        let sequence = found.sequence()?;
        self.numbers().of(sequence.identity()).ok_or_else(|| {
            let message = format!("currval of sequence \"{}\" is not yet defined in this session", found.name);
            SqlError::error("55000", message)
        })
    }

    fn last(&self) -> Result<i64, SqlError> {
        let numbers = self.numbers();
        let last = numbers.last.as_ref().and_then(Weak::upgrade);
        let number = last.and_then(|last| numbers.of(&last));
        number.ok_or_else(|| SqlError::error("55000", "lastval is not yet defined in this session"))
    }

    fn set(&self, found: &Found, value: i64, is_called: bool) -> Result<i64, SqlError> {
        let sequence = found.sequence()?;
        self.check(found, "setval")?;
        sequence.set(&found.name, value, is_called)?;
        if is_called {
            self.numbers().keep(sequence.identity(), value);
        }
        Ok(value)
    }

    /// Returns the name of the sequence that belongs to a column.
    fn of_column(&self, table: &str, column: &str) -> Result<Option<String>, SqlError> {
        let found = self.find(table)?;
        if found.table.schema().field_with_name(column).is_err() {
            let message = format!("column \"{column}\" of relation \"{}\" does not exist", found.name);
            return Err(SqlError::error("42703", message));
        }
        let Some(rows) = rows(found.table.as_ref()) else { return Ok(None) };
        // The default names the sequence, unless the column only owns it.
        if let Some(name) = generated::sequence_of(found.table.as_ref(), column)
            && let Ok(named) = self.find(&name)
            && named.sequence().is_ok_and(|sequence| sequence.belongs_to(rows, column))
        {
            return Ok(Some(named.qualified()));
        }
        let Some(schema) = self.schema(&found.schema) else { return Ok(None) };
        let mut names = schema.table_names();
        names.sort_unstable();
        let named = names.iter().filter_map(|name| self.look_up(&found.schema, name));
        let mut owned = named.filter(|named| named.sequence().is_ok_and(|sequence| sequence.belongs_to(rows, column)));
        Ok(owned.next().map(|named| named.qualified()))
    }
}

impl Numbers {
    fn keep(&mut self, sequence: &Arc<SequenceIdentity>, number: i64) {
        if self.current.len() > 64 {
            self.current.retain(|_, (kept, _)| kept.strong_count() > 0);
        }
        self.current.insert(Arc::as_ptr(sequence).addr(), (Arc::downgrade(sequence), number));
    }

    fn of(&self, sequence: &Arc<SequenceIdentity>) -> Option<i64> {
        let (kept, number) = self.current.get(&Arc::as_ptr(sequence).addr())?;
        // The address may be that of another sequence that is gone.
        (kept.as_ptr() == Arc::as_ptr(sequence)).then_some(*number)
    }
}

/// Registers the functions.
pub(crate) fn register(context: &SessionContext) {
    let forms = |counts: &[usize]| {
        let forms = counts.iter().map(|count| match count {
            0 => TypeSignature::Nullary,
            count => TypeSignature::Any(*count),
        });
        forms.collect::<Vec<_>>()
    };
    for (function, counts) in [
        (Function::Next, &[1][..]),
        (Function::Current, &[1]),
        (Function::Last, &[0]),
        (Function::Set, &[2, 3]),
        (Function::OfColumn, &[2]),
    ] {
        let volatility = if function == Function::OfColumn { Volatility::Stable } else { Volatility::Volatile };
        let signature = Signature::one_of(forms(counts), volatility);
        context.register_udf(ScalarUDF::new_from_impl(SequenceFunction { function, signature }));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Function {
    Next,
    Current,
    Last,
    Set,
    OfColumn,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SequenceFunction {
    function: Function,
    signature: Signature,
}

/// Returns the names that a column has: texts, or numbers of relations.
fn names(column: &ArrayRef, access: &SequenceAccess) -> Result<StringArray> {
    if column.data_type().is_integer() {
        let numbers = cast(column, &DataType::Int32)?;
        let name = |number: Option<i32>| number.map(|number| access.objects.name(ObjectKind::Class, number));
        return Ok(numbers.as_primitive::<Int32Type>().iter().map(name).collect());
    }
    Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// Finds relations, those that follow each other in rows once.
struct Finder<'a> {
    access: &'a SequenceAccess,
    last: Option<(String, Found)>,
}

impl Finder<'_> {
    fn find(&mut self, name: &str) -> Result<&Found, SqlError> {
        if self.last.as_ref().is_none_or(|(known, _)| known != name) {
            self.last = Some((name.to_owned(), self.access.find(name)?));
        }
        let missing = || SqlError::error("XX000", "internal error: a relation was lost");
        self.last.as_ref().map(|(_, found)| found).ok_or_else(missing)
    }
}

impl ScalarUDFImpl for SequenceFunction {
    fn name(&self) -> &str {
        match self.function {
            Function::Next => NEXTVAL,
            Function::Current => "currval",
            Function::Last => "lastval",
            Function::Set => "setval",
            Function::OfColumn => "pg_get_serial_sequence",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.function == Function::OfColumn { DataType::Utf8 } else { DataType::Int64 })
    }

    /// Gives each row its own number, even if the arguments are the same.
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let access = SequenceAccess::of(&args.config_options).map_err(external)?;
        let columns = args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        if self.function == Function::Last {
            let last = access.last().map_err(external)?;
            return Ok(ColumnarValue::Array(Arc::new(Int64Array::from(vec![last; args.number_rows]))));
        }
        let names = names(&columns[0], &access)?;
        let mut finder = Finder { access: &access, last: None };
        if self.function == Function::OfColumn {
            let others = cast(&columns[1], &DataType::Utf8)?;
            let pairs = names.iter().zip(others.as_string::<i32>());
            let found = pairs.map(|pair| match pair {
                (Some(table), Some(column)) => access.of_column(table, column),
                _ => Ok(None),
            });
            let found = found.collect::<Result<StringArray, _>>().map_err(external)?;
            return Ok(ColumnarValue::Array(Arc::new(found)));
        }
        let values = match columns.get(1) {
            Some(values) => Some(cast(values, &DataType::Int64)?),
            None => None,
        };
        let flags: Option<BooleanArray> = match columns.get(2) {
            Some(flags) => Some(cast(flags, &DataType::Boolean)?.as_boolean().clone()),
            None => None,
        };
        let mut number = |row: usize| -> Result<Option<i64>, SqlError> {
            if names.is_null(row) {
                return Ok(None);
            }
            let found = finder.find(names.value(row))?;
            match (self.function, &values) {
                (Function::Next, _) => access.take(found).map(Some),
                (Function::Current, _) => access.current(found).map(Some),
                (_, Some(values)) => {
                    let is_null = flags.as_ref().is_some_and(|flags| flags.is_null(row));
                    if values.is_null(row) || is_null {
                        return Ok(None);
                    }
                    let is_called = flags.as_ref().is_none_or(|flags| flags.value(row));
                    access.set(found, values.as_primitive::<Int64Type>().value(row), is_called).map(Some)
                }
                _ => Ok(None),
            }
        };
        let numbers = (0..args.number_rows).map(&mut number).collect::<Result<Int64Array, _>>().map_err(external)?;
        Ok(ColumnarValue::Array(Arc::new(numbers)))
    }
}
