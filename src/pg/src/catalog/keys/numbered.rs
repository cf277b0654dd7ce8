//! Keys of all tables, with the numbers they have in the catalog.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, Int32Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::Int32Type;
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
use crate::catalog::objects::quoted;
use crate::catalog::server_catalogs::PG_CATALOG;

/// The least number of an index.
///
/// pg-catalog counts catalogs, schemas and tables up from [`FIRST_TABLE`], and all other objects have lesser numbers.
/// The upper half of the numbers of 31 bits is left: each table has [`KEYS`] pairs of numbers there, at a place that its
/// own number tells. The first of a pair is that of an index, the second that of its constraint. So they are stable as
/// long as the table's number is, and meet another object's only after 2^23 tables, schemas and catalogs of one server.
const FIRST: i32 = 1 << 30;
const FIRST_TABLE: i32 = 16_384;
/// Number of keys of a table that have numbers. Further ones are not in the catalog.
const KEYS: i32 = 64;
const TABLES: i32 = (1 << 30) / (2 * KEYS);

/// Number of the access method `btree`.
pub(super) const BTREE: i32 = 403;

/// Returns the number of the index of a table's key.
fn index_number(table: i32, place: i32) -> i32 {
    let table = table.wrapping_sub(FIRST_TABLE).rem_euclid(TABLES);
    FIRST + (table * KEYS + place) * 2
}

/// A table with keys, as the catalogs list it.
struct KeyedTable {
    catalog: String,
    schema: String,
    name: String,
    /// Number of tables of the same schema and name that other catalogs list before it.
    before: usize,
    keys: Vec<Declared>,
}

/// A key with the numbers it has in the catalog.
#[derive(Debug)]
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
    /// The operator classes of `btree`, by the type they are the default of.
    pub(super) operators: HashMap<i32, i32>,
}

impl Keys {
    /// Returns the tables with keys. Those of `pg_catalog` and `information_schema` have none.
    async fn tables(&self) -> Result<Vec<KeyedTable>> {
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
                    if !keys.is_empty() {
                        let (catalog, schema) = (catalog_name.clone(), schema_name.clone());
                        found.push(KeyedTable { catalog, schema, name, before: *before, keys });
                    }
                    *before += 1;
                }
            }
        }
        Ok(found)
    }

    /// Returns the keys. `classes` are the rows of `pg_class`, which are read if they are not there.
    pub(super) async fn read(&self, classes: Option<&[RecordBatch]>, context: Arc<TaskContext>) -> Result<Vec<Key>> {
        let tables = self.tables().await?;
        if tables.is_empty() {
            return Ok(Vec::new());
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
        let mut keys = Vec::new();
        for table in tables {
            let numbers = numbered.get(&(table.schema.as_str(), table.name.as_str()));
            let Some((table_oid, namespace)) = numbers.and_then(|all| all.get(table.before)).copied() else { continue };
            keys.extend((0..KEYS).zip(table.keys).map(|(place, declared)| Key {
                catalog: table.catalog.clone(),
                schema: table.schema.clone(),
                table: table.name.clone(),
                table_oid,
                namespace,
                index_oid: index_number(table_oid, place),
                declared,
            }));
        }
        Ok(keys)
    }
}

pub(super) fn numbers<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int32Array> {
    let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int32Type>());
    column.ok_or_else(|| exec_datafusion_err!("column {name} has no numbers"))
}

pub(super) fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    as_string_array(batch.column(batch.schema().index_of(name)?))
}

/// Returns the default operator classes of `btree` by their types.
pub(super) fn operators(table: &ArrowTable) -> Result<HashMap<i32, i32>> {
    let mut operators = HashMap::new();
    for batch in table.data() {
        let (oids, methods) = (numbers(batch, "oid")?, numbers(batch, "opcmethod")?);
        let (kinds, defaults) = (numbers(batch, "opcintype")?, batch.column(batch.schema().index_of("opcdefault")?));
        let Some(defaults) = defaults.as_boolean_opt() else { continue };
        for row in 0..batch.num_rows() {
            if methods.value(row) == BTREE && defaults.value(row) {
                operators.insert(kinds.value(row), oids.value(row));
            }
        }
    }
    // `varchar` is indexed as the text it is.
    let alike = |kind: &Type| i32::try_from(kind.oid()).unwrap_or_default();
    if let Some(text) = operators.get(&alike(&Type::TEXT)).copied() {
        operators.insert(alike(&Type::VARCHAR), text);
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
