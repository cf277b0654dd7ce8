//! Keys of all tables, with the numbers they have in the catalog.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, Int32Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::Int32Type;
use datafusion::catalog::TableProvider;
use datafusion::common::cast::as_string_array;
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::ArrowTable;
use datafusion_postgres::pgwire::api::Type;
use futures::TryStreamExt;

use crate::catalog::TypedCatalogList;
use crate::catalog::keys::declared::{Declared, declared};
use crate::catalog::keys::held::{self, Held};
use crate::catalog::keys::others::{Other, PlacedTable, others};
use crate::catalog::objects::quoted;
use crate::catalog::server_catalogs::PG_CATALOG;
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

/// A table as the catalogs list it.
struct KeyedTable {
    catalog: String,
    schema: String,
    name: String,
    provider: Arc<dyn TableProvider>,
    /// Number of tables of the same schema and name that other catalogs list before it.
    before: usize,
    keys: Vec<Declared>,
    columns: Vec<String>,
    /// The address of its rows.
    rows: usize,
    held: Option<Arc<Held>>,
}

/// A table with the numbers that it has in the catalog.
pub(super) struct NumberedTable {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) oid: i32,
    pub(super) provider: Arc<dyn TableProvider>,
    pub(super) keys: Vec<Key>,
}

/// Tables with the numbers that they have in the catalog.
#[derive(Default)]
pub(super) struct NumberedTables {
    pub(super) tables: Vec<NumberedTable>,
    /// CHECK constraints and foreign keys.
    pub(super) others: Vec<Other>,
    /// Numbers of `pg_class` and `pg_constraint`.
    pub(super) classes: i32,
    pub(super) constraints: i32,
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
    pub(super) catalogs: TypedCatalogList,
    pub(super) classes: Arc<dyn PartitionStream>,
    pub(super) namespaces: Arc<dyn PartitionStream>,
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
    /// Returns the tables with keys or notes, or all. Those of `pg_catalog` and `information_schema` have none.
    async fn tables(&self, all: bool) -> Result<Vec<KeyedTable>> {
        let mut found = Vec::new();
        let mut seen: HashMap<(String, String), usize> = HashMap::new();
        let catalogs = self.catalogs.catalogs();
        for catalog_name in catalogs.catalog_names() {
            let Some(catalog) = catalogs.catalog(&catalog_name) else { continue };
            for schema_name in catalog.schema_names() {
                if matches!(schema_name.as_str(), PG_CATALOG | "information_schema") {
                    continue;
                }
                let Some(schema) = catalog.schema(&schema_name) else { continue };
                for name in schema.table_names() {
                    let Some(table) = schema.table(&name).await? else { continue };
                    let before = seen.entry((schema_name.clone(), name.clone())).or_default();
                    let keys = declared(table.as_ref(), &name);
                    let held = held::of(table.as_ref());
                    let is_noted = || table_notes::of(table.as_ref()).is_some();
                    if all || !keys.is_empty() || held.is_some() || is_noted() {
                        let (catalog, schema) = (catalog_name.clone(), schema_name.clone());
                        let columns = table.schema().fields().iter().map(|field| field.name().clone()).collect();
                        let rows = held::rows(table.as_ref()).map(|rows| Arc::as_ptr(rows).addr()).unwrap_or_default();
                        let (provider, before) = (table, *before);
                        found.push(KeyedTable { catalog, schema, name, provider, before, keys, columns, rows, held });
                    }
                    *before += 1;
                }
            }
        }
        Ok(found)
    }

    /// Returns the tables with keys or notes, or all. `classes` are the rows of `pg_class`, which are read if they are not
    /// there.
    pub(super) async fn read(
        &self,
        all: bool,
        classes: Option<&[RecordBatch]>,
        context: Arc<TaskContext>,
    ) -> Result<NumberedTables> {
        let tables = self.tables(all).await?;
        if tables.is_empty() {
            return Ok(NumberedTables::default());
        }
        let read: Vec<RecordBatch>;
        let classes = match classes {
            Some(classes) => classes,
            None => {
                read = self.classes.execute(Arc::clone(&context)).try_collect().await?;
                read.as_slice()
            }
        };
        let mut schemas = HashMap::new();
        let namespaces: Vec<RecordBatch> = self.namespaces.execute(context).try_collect().await?;
        for batch in &namespaces {
            let names = texts(batch, "nspname")?;
            schemas.extend(numbers(batch, "oid")?.values().iter().copied().zip(names.iter().flatten()));
        }
        // The catalogs list tables in the order in which pg-catalog numbers them.
        let mut numbered: HashMap<(&str, &str), Vec<(i32, i32)>> = HashMap::new();
        for batch in classes {
            let (oids, places) = (numbers(batch, "oid")?, numbers(batch, "relnamespace")?);
            let placed = oids.values().iter().zip(places.values());
            for ((oid, place), name) in placed.zip(texts(batch, "relname")?.iter().flatten()) {
                if let Some(schema) = schemas.get(place) {
                    numbered.entry((*schema, name)).or_default().push((*oid, *place));
                }
            }
        }
        let (mut found, mut placed) = (Vec::new(), Vec::new());
        for table in tables {
            let numbers = numbered.get(&(table.schema.as_str(), table.name.as_str()));
            let Some((table_oid, namespace)) = numbers.and_then(|all| all.get(table.before)).copied() else { continue };
            let constraints = table.keys.iter().filter(|declared| declared.index.is_none()).count();
            placed.push(PlacedTable {
                catalog: table.catalog.clone(),
                schema: table.schema.clone(),
                name: table.name.clone(),
                columns: table.columns,
                rows: table.rows,
                oid: table_oid,
                namespace,
                keys: i32::try_from(constraints).unwrap_or(KEYS),
                held: table.held,
            });
            let has_number =
                |(place, declared): &(i32, Declared)| declared.index.is_some() || *place < INDEX_PLACES.start;
            let keys = (0..KEYS).zip(table.keys).filter(has_number).map(|(place, declared)| Key {
                catalog: table.catalog.clone(),
                schema: table.schema.clone(),
                table: table.name.clone(),
                table_oid,
                namespace,
                index_oid: index_number(table_oid, declared.index.as_ref().map_or(place, |index| index.place)),
                declared,
            });
            let (keys, oid, provider) = (keys.collect(), table_oid, table.provider);
            found.push(NumberedTable { schema: table.schema, name: table.name, oid, provider, keys });
        }
        let keys: Vec<Key> = found.iter().flat_map(|table: &NumberedTable| table.keys.iter().cloned()).collect();
        let others = others(placed, &keys);
        let of_catalog = |name| numbered.get(&(PG_CATALOG, name)).and_then(|all| all.first()).map(|(oid, _)| *oid);
        let (classes, constraints) = (of_catalog("pg_class"), of_catalog("pg_constraint"));
        let (classes, constraints) = (classes.unwrap_or_default(), constraints.unwrap_or_default());
        Ok(NumberedTables { tables: found, others, classes, constraints })
    }
}

pub(crate) fn numbers<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int32Array> {
    let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int32Type>());
    column.ok_or_else(|| exec_datafusion_err!("column {name} has no numbers"))
}

pub(crate) fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    as_string_array(batch.column(batch.schema().index_of(name)?))
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
