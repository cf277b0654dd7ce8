//! Keys of all tables, with the numbers they have in the catalog.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::catalog::TableProvider;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::ArrowTable;
use datafusion_postgres::pgwire::api::Type;

use crate::catalog::batches::{numbers, texts};
use crate::catalog::keys::constraints::{NumberedConstraint, constraints};
use crate::catalog::keys::declared::{Declared, declared};
use crate::catalog::keys::held::{self, Held};
use crate::catalog::listed_tables::{ClassReader, ListedTable};
use crate::catalog::objects::quoted;
use crate::catalog::table_notes;

/// The least number of an index.
///
/// pg-catalog counts catalogs, schemas and tables up from [`FIRST_TABLE`], and all other objects have lesser numbers.
/// The upper half of the numbers of 31 bits is left: each table has [`KEYS`] pairs of numbers there, at a place that its
/// own number tells. The first of a pair is that of an index, the second that of its constraint. So they are stable as
/// long as the table's number is, and meet another object's only after 2^23 tables, schemas and catalogs of one server.
const FIRST: i32 = 1 << 30;
const FIRST_TABLE: i32 = 16_384;
/// Number of keys of a table that have numbers.
pub(super) const KEYS: i32 = 64;
/// Places of indexes that are no constraints. Keys have those before, and further keys are not in the catalog.
pub(crate) const INDEX_PLACES: Range<i32> = 32..KEYS;
const TABLES: i32 = (1 << 30) / (2 * KEYS);

/// Numbers of the access methods `btree` and `hash`.
pub(super) const BTREE: i32 = 403;
pub(super) const HASH: i32 = 405;

/// Returns the number of the index of a table's key.
pub(super) fn index_number(table: i32, place: i32) -> i32 {
    let table = table.wrapping_sub(FIRST_TABLE).rem_euclid(TABLES);
    FIRST + (table * KEYS + place) * 2
}

/// A table with the numbers that it has in the catalog.
#[derive(Debug)]
pub(super) struct NumberedTable {
    pub(super) catalog: String,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) provider: Arc<dyn TableProvider>,
    /// Names of its columns.
    pub(super) columns: Vec<String>,
    /// Number of the table.
    pub(super) oid: i32,
    /// Number of the schema.
    pub(super) namespace: i32,
    /// Its keys and indexes, as far as there are numbers for them.
    pub(super) keys: Vec<Key>,
    /// How many PRIMARY KEY and UNIQUE constraints it has.
    pub(super) key_count: i32,
    /// Its CHECK constraints and foreign keys.
    pub(super) held: Option<Arc<Held>>,
}

impl NumberedTable {
    fn new(table: ListedTable, keys: Vec<Declared>, held: Option<Arc<Held>>, (oid, namespace): (i32, i32)) -> Self {
        let ListedTable { catalog, schema, name, provider, .. } = table;
        let columns = provider.schema().fields().iter().map(|field| field.name().clone()).collect();
        let key_count = keys.iter().filter(|declared| declared.index.is_none()).count();
        let has_number = |(place, declared): &(i32, Declared)| declared.index.is_some() || *place < INDEX_PLACES.start;
        let keys = (0..KEYS).zip(keys).filter(has_number).map(|(place, declared)| Key {
            catalog: catalog.clone(),
            schema: schema.clone(),
            table: name.clone(),
            table_oid: oid,
            namespace,
            index_oid: index_number(oid, declared.index.as_ref().map_or(place, |index| index.place)),
            declared,
        });
        let (keys, key_count) = (keys.collect(), i32::try_from(key_count).unwrap_or(KEYS));
        Self { catalog, schema, name, provider, columns, oid, namespace, keys, key_count, held }
    }
}

/// Tables with the numbers that they have in the catalog.
#[derive(Default)]
pub(super) struct NumberedTables {
    pub(super) tables: Vec<Arc<NumberedTable>>,
    /// CHECK constraints and foreign keys.
    pub(super) constraints: Vec<NumberedConstraint>,
    /// Numbers of `pg_class` and `pg_constraint`.
    pub(super) pg_class: i32,
    pub(super) pg_constraint: i32,
}

/// A key with the numbers it has in the catalog.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) catalog: String,
    pub(super) schema: String,
    pub(super) table: String,
    /// Number of the table.
    pub(super) table_oid: i32,
    /// Number of the schema.
    pub(super) namespace: i32,
    /// Number of the index.
    pub(super) index_oid: i32,
    pub(super) declared: Declared,
}

impl Key {
    /// Returns the number of the constraint.
    pub(super) fn constraint_oid(&self) -> i32 {
        self.index_oid + 1
    }

    /// Returns the columns as a list in parentheses.
    pub(super) fn list(&self) -> String {
        let names: Vec<_> = self.declared.columns.iter().map(|column| quoted(&column.name)).collect();
        format!("({})", names.join(", "))
    }
}

/// The keys of all tables.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) reader: ClassReader,
    pub(super) operators: Operators,
}

/// The operator classes of access methods.
#[derive(Debug, Clone, Default)]
pub(super) struct Operators {
    /// By the type that they are the default of.
    defaults: HashMap<(i32, i32), i32>,
    named: HashMap<(i32, String), i32>,
}

impl Operators {
    /// Returns the number of a type's default class, 0 if it has none.
    pub(super) fn of_type(&self, method: i32, kind: i32) -> i32 {
        self.defaults.get(&(method, kind)).copied().unwrap_or_default()
    }

    /// Returns the number of a class, 0 if there is none of this name.
    pub(super) fn named(&self, method: i32, name: &str) -> i32 {
        self.named.get(&(method, name.to_owned())).copied().unwrap_or_default()
    }
}

impl Keys {
    /// Returns the tables with keys or notes, or all. `classes` are the rows of `pg_class`, which are read if they are not
    /// there.
    pub(super) async fn read(
        &self,
        all: bool,
        classes: Option<&[RecordBatch]>,
        context: Arc<TaskContext>,
    ) -> Result<NumberedTables> {
        let tables = self.reader.tables().await?.into_iter().filter_map(|table| {
            let provider = table.provider.as_ref();
            let (keys, held) = (declared(provider, &table.name), held::of(provider));
            let is_wanted = all || !keys.is_empty() || held.is_some() || table_notes::of(provider).is_some();
            is_wanted.then_some((table, keys, held))
        });
        let tables: Vec<_> = tables.collect();
        if tables.is_empty() {
            return Ok(NumberedTables::default());
        }
        let numbers = self.reader.read(classes, context).await?;
        let numbered = tables.into_iter().filter_map(|(table, keys, held)| {
            let number = numbers.of(&table)?;
            Some(Arc::new(NumberedTable::new(table, keys, held, number)))
        });
        let tables: Vec<_> = numbered.collect();
        let constraints = constraints(&tables);
        let (pg_class, pg_constraint) = (numbers.of_catalog("pg_class"), numbers.of_catalog("pg_constraint"));
        Ok(NumberedTables { tables, constraints, pg_class, pg_constraint })
    }
}

/// Returns the operator classes of `btree` and `hash`.
pub(super) fn operators(table: &ArrowTable) -> Result<Operators> {
    let mut operators = Operators::default();
    for batch in table.data() {
        let (oids, methods) = (numbers(batch, "oid")?, numbers(batch, "opcmethod")?);
        let (kinds, defaults) = (numbers(batch, "opcintype")?, batch.column(batch.schema().index_of("opcdefault")?));
        let names = texts(batch, "opcname")?;
        let Some(defaults) = defaults.as_boolean_opt() else { continue };
        for row in 0..batch.num_rows() {
            let (method, number) = (methods.value(row), oids.value(row));
            if method != BTREE && method != HASH {
                continue;
            }
            operators.named.insert((method, names.value(row).to_owned()), number);
            if defaults.value(row) {
                operators.defaults.insert((method, kinds.value(row)), number);
            }
        }
    }
    // `varchar` is indexed as the text it is.
    let alike = |kind: &Type| i32::try_from(kind.oid()).unwrap_or_default();
    for method in [BTREE, HASH] {
        if let Some(text) = operators.defaults.get(&(method, alike(&Type::TEXT))).copied() {
            operators.defaults.insert((method, alike(&Type::VARCHAR)), text);
        }
    }
    Ok(operators)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_do_not_collide() {
        let mut seen = HashSet::new();
        for table in [FIRST_TABLE, FIRST_TABLE + 1, FIRST_TABLE + TABLES - 1] {
            for place in [0, 1, KEYS - 1] {
                let index = index_number(table, place);
                assert!(index >= FIRST && seen.insert(index) && seen.insert(index + 1), "{table} {place}");
            }
        }
        assert_eq!(index_number(FIRST_TABLE + TABLES - 1, KEYS - 1), i32::MAX - 1);
    }
}
