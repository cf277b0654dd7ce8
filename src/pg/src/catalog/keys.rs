//! Keys of tables in the catalog: PRIMARY KEY and UNIQUE of tables in memory, each with an index as in PostgreSQL.
//!
//! There are no such indexes: changes are checked against all rows. Clients find keys by them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int16Array, Int32Array, ListArray, RecordBatch, StringArray, UInt32Array,
    new_null_array,
};
use datafusion::arrow::compute::{cast, concat_batches, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Int16Type, Int32Type, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::cast::as_string_array;
use datafusion::common::{Constraint, exec_datafusion_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::{ArrowTable, PgCatalogTable};
use datafusion_postgres::pgwire::api::Type;
use futures::TryStreamExt;

use crate::catalog::objects::quoted;
use crate::catalog::server_catalogs::PG_CATALOG;
use crate::catalog::{PgCatalog, TypedCatalogList};
use crate::encode::column;

/// Views of `information_schema` about keys. DataFusion's schema of this name cannot have more views, so they are tables
/// of `pg_catalog` that its list of tables leaves out, and statements are rewritten to read those.
pub(crate) const INFORMATION_SCHEMA: [&str; 3] = [TABLE_CONSTRAINTS, KEY_COLUMN_USAGE, CONSTRAINT_COLUMN_USAGE];
const TABLE_CONSTRAINTS: &str = "table_constraints";
const KEY_COLUMN_USAGE: &str = "key_column_usage";
const CONSTRAINT_COLUMN_USAGE: &str = "constraint_column_usage";

/// Name of the table of what `pg_get_indexdef` and `pg_get_constraintdef` answer, which the list of tables leaves out.
const DEFINITIONS: &str = "key_definitions";

/// The least number of an index.
///
/// pg-catalog counts catalogs, schemas and tables up from [`FIRST_TABLE`], and all other objects have lesser numbers.
/// The upper half of the numbers of 31 bits is left: each table has [`KEYS`] pairs of numbers there, at a place that its
/// own number tells. The first of a pair is that of an index, the second that of its constraint. So they are stable as
/// long as the table's number is, and meet another object's only after 2^23 tables, schemas and catalogs of one server.
const FIRST: i32 = 1 << 30;
const FIRST_TABLE: i32 = 16_384;
/// How many keys of a table have numbers. Further ones are not in the catalog.
const KEYS: i32 = 64;
const TABLES: i32 = (1 << 30) / (2 * KEYS);

/// Number of the access method `btree`.
const BTREE: i32 = 403;
/// Number of the collation `default`.
const DEFAULT_COLLATION: i32 = 100;

/// Returns the number of the index of a table's key.
fn index_number(table: i32, place: i32) -> i32 {
    let table = table.wrapping_sub(FIRST_TABLE).rem_euclid(TABLES);
    FIRST + (table * KEYS + place) * 2
}

/// Returns the name of a key: the one that PostgreSQL gives to a key that is declared without.
pub(crate) fn name(table: &str, columns: &[&str], is_primary: bool) -> String {
    if is_primary { format!("{table}_pkey") } else { format!("{table}_{}_key", columns.join("_")) }
}

/// A column of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyColumn {
    /// Its number in the table, counted from 1.
    number: i32,
    name: String,
    /// Number of its type.
    kind: i32,
}

/// A key as a table declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Declared {
    name: String,
    is_primary: bool,
    columns: Vec<KeyColumn>,
}

/// Returns the keys of a table, the primary key first, then by their columns. As in PostgreSQL, a key of the same columns
/// as another is none of its own.
fn declared(table: &dyn TableProvider, table_name: &str) -> Vec<Declared> {
    let Some(constraints) = table.constraints() else { return Vec::new() };
    let mut sorted: Vec<(bool, &[usize])> = constraints
        .iter()
        .map(|constraint| match constraint {
            Constraint::PrimaryKey(columns) => (false, columns.as_slice()),
            Constraint::Unique(columns) => (true, columns.as_slice()),
        })
        .collect();
    sorted.sort_unstable();
    let schema = table.schema();
    let mut seen = HashSet::new();
    let mut keys = Vec::new();
    for (is_unique, indexes) in sorted {
        if !seen.insert(indexes) {
            continue;
        }
        let columns = indexes.iter().map(|index| {
            let field = schema.fields().get(*index)?;
            let number = i32::try_from(*index).ok()? + 1;
            let kind = i32::try_from(column::wire_oid(field)).unwrap_or_default();
            Some(KeyColumn { number, name: field.name().clone(), kind })
        });
        let Some(columns) = columns.collect::<Option<Vec<_>>>() else { continue };
        let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
        keys.push(Declared { name: name(table_name, &names, !is_unique), is_primary: !is_unique, columns });
    }
    keys
}

/// A table with keys, as the catalogs list it.
struct KeyedTable {
    catalog: String,
    schema: String,
    name: String,
    /// How many tables of the same schema and name other catalogs list before it.
    before: usize,
    keys: Vec<Declared>,
}

/// A key with the numbers it has in the catalog.
#[derive(Debug)]
struct Key {
    catalog: String,
    schema: String,
    table: String,
    /// Number of the table.
    table_oid: i32,
    /// Number of the schema.
    namespace: i32,
    /// Number of the index.
    index_oid: i32,
    declared: Declared,
}

impl Key {
    /// Returns the number of the constraint.
    fn constraint_oid(&self) -> i32 {
        self.index_oid + 1
    }

    /// Returns the columns as a list in parentheses.
    fn list(&self) -> String {
        let names: Vec<_> = self.declared.columns.iter().map(|column| quoted(&column.name)).collect();
        format!("({})", names.join(", "))
    }
}

/// The keys of all tables.
#[derive(Debug, Clone)]
struct Keys {
    catalogs: TypedCatalogList,
    classes: Arc<dyn PartitionStream>,
    namespaces: Arc<dyn PartitionStream>,
    /// The operator classes of `btree`, by the type they are the default of.
    operators: HashMap<i32, i32>,
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
    async fn read(&self, classes: Option<&[RecordBatch]>, context: Arc<TaskContext>) -> Result<Vec<Key>> {
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

fn numbers<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int32Array> {
    let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int32Type>());
    column.ok_or_else(|| exec_datafusion_err!("column {name} has no numbers"))
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    as_string_array(batch.column(batch.schema().index_of(name)?))
}

/// Returns the default operator classes of `btree` by their types.
fn operators(table: &ArrowTable) -> Result<HashMap<i32, i32>> {
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

/// A table of the catalog with rows of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Attributes,
    Classes,
    Constraints,
    Indexes,
    TableConstraints,
    KeyColumns,
    ConstraintColumns,
    Definitions,
}

/// Returns a table that the schema does not list, and its columns.
pub(super) fn unlisted(name: &str) -> Option<(Relation, SchemaRef)> {
    let (relation, columns): (_, &[&str]) = match name {
        TABLE_CONSTRAINTS => (
            Relation::TableConstraints,
            &[
                "constraint_catalog",
                "constraint_schema",
                "constraint_name",
                "table_catalog",
                "table_schema",
                "table_name",
                "constraint_type",
                "is_deferrable",
                "initially_deferred",
                "enforced",
                "nulls_distinct",
            ],
        ),
        KEY_COLUMN_USAGE => (
            Relation::KeyColumns,
            &[
                "constraint_catalog",
                "constraint_schema",
                "constraint_name",
                "table_catalog",
                "table_schema",
                "table_name",
                "column_name",
                "ordinal_position",
                "position_in_unique_constraint",
            ],
        ),
        CONSTRAINT_COLUMN_USAGE => (
            Relation::ConstraintColumns,
            &[
                "table_catalog",
                "table_schema",
                "table_name",
                "column_name",
                "constraint_catalog",
                "constraint_schema",
                "constraint_name",
            ],
        ),
        DEFINITIONS => (Relation::Definitions, &["oid", "place", "definition"]),
        _ => return None,
    };
    let fields = columns.iter().map(|name| {
        let number = matches!(*name, "ordinal_position" | "position_in_unique_constraint" | "oid" | "place");
        Field::new(*name, if number { DataType::Int32 } else { DataType::Utf8 }, true)
    });
    Some((relation, SchemaRef::new(Schema::new(fields.collect::<Vec<_>>()))))
}

/// Returns what `pg_get_indexdef` and `pg_get_constraintdef` answer, by the number of the object and that of a column of
/// an index, 0 for the whole.
pub(super) async fn definitions(context: &SessionContext) -> Result<HashMap<(i32, i32), String>> {
    let mut definitions = HashMap::new();
    let query = format!("SELECT oid, place, definition FROM {PG_CATALOG}.{DEFINITIONS}");
    for batch in context.sql(&query).await?.collect().await? {
        let (oids, places) = (numbers(&batch, "oid")?, numbers(&batch, "place")?);
        let numbers = oids.values().iter().copied().zip(places.values().iter().copied());
        definitions.extend(numbers.zip(texts(&batch, "definition")?.iter().flatten().map(str::to_owned)));
    }
    Ok(definitions)
}

impl PgCatalog {
    /// Returns a table with rows of keys, after those of another if there is one.
    pub(super) fn with_keys(
        &self,
        relation: Relation,
        schema: SchemaRef,
        inner: Option<Arc<dyn PartitionStream>>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        let stream = |name: &str| -> Result<Arc<dyn PartitionStream>> {
            match self.inner.build_table_by_name(name)? {
                Some(PgCatalogTable::Dynamic(stream)) => Ok(stream),
                _ => Err(exec_datafusion_err!("{name} has no rows that change")),
            }
        };
        let keys = Keys {
            catalogs: self.catalogs.clone(),
            classes: stream("pg_class")?,
            namespaces: stream("pg_namespace")?,
            operators: operators(&self.tables.pg_opclass)?,
        };
        let rows = KeyRows { relation, schema: Arc::clone(&schema), keys, inner };
        Ok(Some(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(rows)])?)))
    }
}

/// The rows of a table, with those of keys.
#[derive(Debug)]
struct KeyRows {
    relation: Relation,
    schema: SchemaRef,
    keys: Keys,
    /// The rows that are there without keys.
    inner: Option<Arc<dyn PartitionStream>>,
}

impl PartitionStream for KeyRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Reads the catalogs when it runs, one table after another: `pg_class` locks what `pg_namespace` reads.
    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (relation, schema) = (self.relation, Arc::clone(&self.schema));
        let (keys, inner) = (self.keys.clone(), self.inner.clone());
        let rows = async move {
            let mut batches: Vec<RecordBatch> = match inner {
                Some(inner) => inner.execute(Arc::clone(&context)).try_collect().await?,
                None => Vec::new(),
            };
            let classes = (relation == Relation::Classes).then_some(batches.as_slice());
            let found = keys.read(classes, context).await?;
            if !found.is_empty() {
                if relation == Relation::Attributes {
                    batches = with_index_columns(&batches, &found, &schema)?;
                } else {
                    if relation == Relation::Classes {
                        batches = batches.iter().map(|batch| with_has_index(batch, &found)).collect::<Result<_>>()?;
                    }
                    let rows = found.iter().flat_map(|key| rows(relation, key, &keys.operators));
                    batches.push(batch(&rows.collect::<Vec<_>>(), &schema)?);
                }
            }
            Ok::<_, DataFusionError>(futures::stream::iter(batches.into_iter().map(Ok::<_, DataFusionError>)))
        };
        let batches = futures::stream::once(rows).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

/// Marks the tables in `pg_class` that have an index.
fn with_has_index(batch: &RecordBatch, keys: &[Key]) -> Result<RecordBatch> {
    let indexed: HashSet<i32> = keys.iter().map(|key| key.table_oid).collect();
    let place = batch.schema().index_of("relhasindex")?;
    let oids = numbers(batch, "oid")?.values().iter();
    let flags: BooleanArray = oids.map(|oid| Some(indexed.contains(oid))).collect();
    let mut columns = batch.columns().to_vec();
    columns[place] = Arc::new(flags);
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// Adds the columns of indexes to `pg_attribute`, and marks those of primary keys, which are never NULL.
fn with_index_columns(batches: &[RecordBatch], keys: &[Key], schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let all = concat_batches(schema, batches)?;
    let (relation, number) = (schema.index_of("attrelid")?, schema.index_of("attnum")?);
    let required = schema.index_of("attnotnull")?;
    let relations = all.column(relation).as_primitive::<Int32Type>().values().iter();
    let columns = all.column(number).as_primitive::<Int16Type>().values().iter();
    let placed = relations.zip(columns).map(|(relation, column)| (*relation, i32::from(*column)));
    let places: HashMap<(i32, i32), u32> = placed.zip(0..).collect();
    let mut primary = HashSet::new();
    let (mut rows, mut relations, mut positions) = (Vec::new(), Vec::new(), Vec::new());
    for key in keys {
        for (position, column) in (1_i16..).zip(&key.declared.columns) {
            let Some(row) = places.get(&(key.table_oid, column.number)).copied() else { continue };
            if key.declared.is_primary {
                primary.insert(row);
            }
            rows.push(row);
            relations.push(key.index_oid);
            positions.push(position);
        }
    }
    let taken = take_record_batch(&all, &UInt32Array::from(rows))?;
    let mut indexes = taken.columns().to_vec();
    indexes[relation] = Arc::new(Int32Array::from(relations));
    indexes[number] = Arc::new(Int16Array::from(positions));
    indexes[required] = Arc::new(BooleanArray::from(vec![false; taken.num_rows()]));
    let known = all.column(required).as_boolean();
    let flags: BooleanArray =
        (0..).zip(known.iter()).map(|(row, known)| Some(known.unwrap_or(false) || primary.contains(&row))).collect();
    let mut tables = all.columns().to_vec();
    tables[required] = Arc::new(flags);
    Ok(vec![RecordBatch::try_new(Arc::clone(schema), tables)?, RecordBatch::try_new(Arc::clone(schema), indexes)?])
}

/// A value of a row.
#[derive(Debug)]
enum Cell {
    Flag(bool),
    Number(i32),
    Text(String),
    Numbers(Vec<i32>),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Columns of a row and their values. Others are NULL, or 0, false and the empty text if they may not be.
type Row = Vec<(&'static str, Cell)>;

/// Returns the rows of a key in a table.
fn rows(relation: Relation, key: &Key, operators: &HashMap<i32, i32>) -> Vec<Row> {
    let declared = &key.declared;
    let numbers = || Cell::Numbers(declared.columns.iter().map(|column| column.number).collect());
    let width = || Cell::Number(i32::try_from(declared.columns.len()).unwrap_or(i32::MAX));
    let of_constraint = || -> Row {
        vec![
            ("constraint_catalog", key.catalog.as_str().into()),
            ("constraint_schema", key.schema.as_str().into()),
            ("constraint_name", declared.name.as_str().into()),
            ("table_catalog", key.catalog.as_str().into()),
            ("table_schema", key.schema.as_str().into()),
            ("table_name", key.table.as_str().into()),
        ]
    };
    match relation {
        // Made of the columns of tables.
        Relation::Attributes => Vec::new(),
        Relation::Classes => vec![vec![
            ("oid", Cell::Number(key.index_oid)),
            ("relname", declared.name.as_str().into()),
            ("relnamespace", Cell::Number(key.namespace)),
            ("relam", Cell::Number(BTREE)),
            ("relfilenode", Cell::Number(key.index_oid)),
            ("relpages", Cell::Number(1)),
            ("relpersistence", "p".into()),
            ("relkind", "i".into()),
            ("relnatts", width()),
            ("relispopulated", Cell::Flag(true)),
            ("relreplident", "n".into()),
        ]],
        Relation::Constraints => vec![vec![
            ("oid", Cell::Number(key.constraint_oid())),
            ("conname", declared.name.as_str().into()),
            ("connamespace", Cell::Number(key.namespace)),
            ("contype", if declared.is_primary { "p" } else { "u" }.into()),
            ("convalidated", Cell::Flag(true)),
            ("conrelid", Cell::Number(key.table_oid)),
            ("conindid", Cell::Number(key.index_oid)),
            ("confupdtype", " ".into()),
            ("confdeltype", " ".into()),
            ("confmatchtype", " ".into()),
            ("conislocal", Cell::Flag(true)),
            ("connoinherit", Cell::Flag(true)),
            ("conkey", numbers()),
        ]],
        Relation::Indexes => {
            let each = |number: fn(&KeyColumn, &HashMap<i32, i32>) -> i32| {
                Cell::Numbers(declared.columns.iter().map(|column| number(column, operators)).collect())
            };
            let collation = |column: &KeyColumn, _: &HashMap<i32, i32>| {
                let kind = u32::try_from(column.kind).unwrap_or_default();
                let is_text = [Type::TEXT, Type::VARCHAR].iter().any(|text| text.oid() == kind);
                if is_text { DEFAULT_COLLATION } else { 0 }
            };
            vec![vec![
                ("indexrelid", Cell::Number(key.index_oid)),
                ("indrelid", Cell::Number(key.table_oid)),
                ("indnatts", width()),
                ("indnkeyatts", width()),
                ("indisunique", Cell::Flag(true)),
                ("indisprimary", Cell::Flag(declared.is_primary)),
                ("indimmediate", Cell::Flag(true)),
                ("indisvalid", Cell::Flag(true)),
                ("indisready", Cell::Flag(true)),
                ("indislive", Cell::Flag(true)),
                ("indkey", numbers()),
                ("indcollation", each(collation)),
                ("indclass", each(|column, operators| operators.get(&column.kind).copied().unwrap_or_default())),
                ("indoption", each(|_, _| 0)),
            ]]
        }
        Relation::TableConstraints => {
            let mut row = of_constraint();
            let more: Row = vec![
                ("constraint_type", if declared.is_primary { "PRIMARY KEY" } else { "UNIQUE" }.into()),
                ("is_deferrable", "NO".into()),
                ("initially_deferred", "NO".into()),
                ("enforced", "YES".into()),
            ];
            row.extend(more);
            if !declared.is_primary {
                row.push(("nulls_distinct", "YES".into()));
            }
            vec![row]
        }
        Relation::KeyColumns | Relation::ConstraintColumns => (1..)
            .zip(&declared.columns)
            .map(|(position, column)| {
                let mut row = of_constraint();
                row.push(("column_name", column.name.as_str().into()));
                row.push(("ordinal_position", Cell::Number(position)));
                row
            })
            .collect(),
        Relation::Definitions => {
            let row = |oid, place, definition| -> Row {
                vec![("oid", Cell::Number(oid)), ("place", Cell::Number(place)), ("definition", Cell::Text(definition))]
            };
            let (name, schema, table) = (quoted(&declared.name), quoted(&key.schema), quoted(&key.table));
            let index = format!("CREATE UNIQUE INDEX {name} ON {schema}.{table} USING btree {}", key.list());
            let constraint = format!("{} {}", if declared.is_primary { "PRIMARY KEY" } else { "UNIQUE" }, key.list());
            let mut rows = vec![row(key.index_oid, 0, index), row(key.constraint_oid(), 0, constraint)];
            let columns = (1..).zip(&declared.columns);
            rows.extend(columns.map(|(place, column)| row(key.index_oid, place, quoted(&column.name))));
            rows
        }
    }
}

/// Returns rows as a batch.
fn batch(rows: &[Row], schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| {
        let cell = |row: &'_ Row| row.iter().position(|(name, _)| *name == field.name().as_str());
        let cells: Vec<Option<&Cell>> = rows.iter().map(|row| cell(row).map(|place| &row[place].1)).collect();
        values(field, &cells)
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<Vec<_>>>()?)?)
}

/// Returns the values of a column.
fn values(field: &Field, cells: &[Option<&Cell>]) -> Result<ArrayRef> {
    let required = !field.is_nullable();
    let cells = cells.iter().copied();
    Ok(match field.data_type() {
        DataType::Boolean => {
            let flags = cells.map(|cell| match cell {
                Some(Cell::Flag(flag)) => Some(*flag),
                _ => required.then_some(false),
            });
            Arc::new(flags.collect::<BooleanArray>())
        }
        DataType::Utf8 => {
            let texts = cells.map(|cell| match cell {
                Some(Cell::Text(text)) => Some(text.as_str()),
                _ => required.then_some(""),
            });
            Arc::new(texts.collect::<StringArray>())
        }
        data_type @ (DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Float32 | DataType::Float64) => {
            let numbers = cells.map(|cell| match cell {
                Some(Cell::Number(number)) => Some(*number),
                _ => required.then_some(0),
            });
            cast(&numbers.collect::<Int32Array>(), data_type)?
        }
        data_type @ DataType::List(item) if item.data_type().is_integer() => {
            let lists = cells.map(|cell| match cell {
                Some(Cell::Numbers(numbers)) => Some(numbers.iter().copied().map(Some).collect::<Vec<_>>()),
                _ => required.then(Vec::new),
            });
            cast(&ListArray::from_iter_primitive::<Int32Type, _, _>(lists), data_type)?
        }
        data_type => new_null_array(data_type, cells.len()),
    })
}

#[cfg(test)]
mod tests {
    use datafusion::common::Constraints;
    use datafusion::datasource::MemTable;

    use super::*;

    #[test]
    fn keys_are_named_and_those_of_the_same_columns_are_one() {
        let fields = [("a", DataType::Int32), ("b", DataType::Utf8), ("c", DataType::Int64)];
        let schema = Arc::new(Schema::new(fields.map(|(name, kind)| Field::new(name, kind, true)).to_vec()));
        let table = MemTable::try_new(schema, vec![Vec::new()]).unwrap();
        assert_eq!(declared(&table, "t"), []);
        let unique = |columns: &[usize]| Constraint::Unique(columns.to_vec());
        let constraints =
            vec![unique(&[1, 2]), unique(&[1]), unique(&[1, 2]), unique(&[0]), Constraint::PrimaryKey(vec![0])];
        let table = table.with_constraints(Constraints::new_unverified(constraints));
        let keys = declared(&table, "t");
        let names: Vec<_> = keys.iter().map(|key| (key.name.as_str(), key.is_primary)).collect();
        assert_eq!(names, [("t_pkey", true), ("t_b_key", false), ("t_b_c_key", false)]);
        let columns: Vec<_> = keys[2].columns.iter().map(|column| (column.number, column.kind)).collect();
        assert_eq!(columns, [(2, 25), (3, 20)]);
    }

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

    #[test]
    fn columns_without_a_value_are_null_or_empty() {
        let fields = [
            Field::new("a", DataType::Int16, false),
            Field::new("b", DataType::Utf8, true),
            Field::new("c", DataType::Boolean, false),
            Field::new("d", DataType::new_list(DataType::Int16, true), true),
        ];
        let schema = Arc::new(Schema::new(fields.to_vec()));
        let batch = batch(&[vec![("d", Cell::Numbers(vec![3, 4]))], vec![("a", Cell::Number(7))]], &schema).unwrap();
        assert_eq!(batch.column(0).as_primitive::<Int16Type>().values().to_vec(), [0, 7]);
        assert_eq!(batch.column(1).null_count(), 2);
        assert!(!batch.column(2).as_boolean().value(0));
        let lists = batch.column(3).as_list::<i32>();
        assert_eq!(lists.value(0).as_primitive::<Int16Type>().values().to_vec(), [3, 4]);
        assert!(datafusion::arrow::array::Array::is_null(lists, 1));
    }
}
