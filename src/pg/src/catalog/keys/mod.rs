//! Keys of tables in the catalog: PRIMARY KEY and UNIQUE of tables in memory, each with an index as in PostgreSQL, and
//! indexes of CREATE INDEX.
//!
//! There are no such indexes: changes are checked against all rows. Clients find keys by them.

mod constraints;
mod declared;
pub(crate) mod held;
mod indexes;
mod names;
mod numbered;
mod rows;
mod tables;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, BooleanArray, Int16Array, Int32Array, RecordBatch, StringArray, UInt32Array};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Int16Type, Int32Type, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use neuroql_access::TEMPORARY;

pub(crate) use crate::catalog::batches::{numbers, texts};
use crate::catalog::batches::{replaced, stream};
pub(crate) use crate::catalog::keys::constraints::PLAIN;
use crate::catalog::keys::constraints::with_constraints;
pub(crate) use crate::catalog::keys::declared::{columns_of, name, names_of};
pub(crate) use crate::catalog::keys::names::{given as given_name, keep as keep_names, keep_one as keep_name};
pub(crate) use crate::catalog::keys::numbered::INDEX_PLACES;
use crate::catalog::keys::numbered::{Key, Keys, operators};
pub(crate) use crate::catalog::keys::rows::{Cell, Row, batch as batch_of};
use crate::catalog::keys::rows::{batch, rows};
pub(crate) use crate::catalog::keys::tables::VIEW;
use crate::catalog::keys::tables::with_kinds;
use crate::catalog::server_catalogs::PG_CATALOG;
use crate::catalog::{PgCatalog, schema_number};

/// Views of `information_schema` about keys. DataFusion's schema of this name cannot have more views, so they are tables
/// of `pg_catalog` that its list of tables leaves out, and statements are rewritten to read those.
pub(crate) const INFORMATION_SCHEMA: [&str; 5] =
    [TABLE_CONSTRAINTS, KEY_COLUMN_USAGE, CONSTRAINT_COLUMN_USAGE, REFERENTIAL_CONSTRAINTS, CHECK_CONSTRAINTS];
const TABLE_CONSTRAINTS: &str = "table_constraints";
const KEY_COLUMN_USAGE: &str = "key_column_usage";
const CONSTRAINT_COLUMN_USAGE: &str = "constraint_column_usage";
const REFERENTIAL_CONSTRAINTS: &str = "referential_constraints";
const CHECK_CONSTRAINTS: &str = "check_constraints";

/// Columns that name a constraint in `information_schema`.
const CONSTRAINT_COLUMNS: [&str; 3] = ["constraint_catalog", "constraint_schema", "constraint_name"];
/// Columns that name a table in `information_schema`.
const TABLE_COLUMNS: [&str; 3] = ["table_catalog", "table_schema", "table_name"];

/// Name of the table of what `pg_get_indexdef` and `pg_get_constraintdef` answer, which the list of tables leaves out.
const DEFINITIONS: &str = "key_definitions";

/// Name of the table of comments on relations, their columns and constraints, which the list of tables leaves out.
const COMMENTS: &str = "relation_comments";

/// Name of PostgreSQL's list of indexes, which pg-catalog does not have.
pub(crate) const INDEX_LIST: &str = "pg_indexes";

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
    ReferentialConstraints,
    CheckConstraints,
    Definitions,
    IndexList,
    Comments,
    Views,
    MaterializedViews,
}

/// Returns a table that the schema does not list, and its columns.
pub(super) fn unlisted(name: &str) -> Option<(Relation, SchemaRef)> {
    let (constraint, table) = (&CONSTRAINT_COLUMNS[..], &TABLE_COLUMNS[..]);
    let (relation, columns): (_, [&[&str]; 3]) = match name {
        TABLE_CONSTRAINTS => {
            let more = &["constraint_type", "is_deferrable", "initially_deferred", "enforced", "nulls_distinct"];
            (Relation::TableConstraints, [constraint, table, more])
        }
        KEY_COLUMN_USAGE => {
            let more = &["column_name", "ordinal_position", "position_in_unique_constraint"];
            (Relation::KeyColumns, [constraint, table, more])
        }
        CONSTRAINT_COLUMN_USAGE => (Relation::ConstraintColumns, [table, &["column_name"], constraint]),
        REFERENTIAL_CONSTRAINTS => {
            let unique = &["unique_constraint_catalog", "unique_constraint_schema", "unique_constraint_name"];
            let rules = &["match_option", "update_rule", "delete_rule"];
            (Relation::ReferentialConstraints, [constraint, unique, rules])
        }
        CHECK_CONSTRAINTS => (Relation::CheckConstraints, [constraint, &["check_clause"], &[]]),
        DEFINITIONS => (Relation::Definitions, [&["oid", "place", "definition"], &[], &[]]),
        COMMENTS => (Relation::Comments, [&["objoid", "classoid", "objsubid", "description"], &[], &[]]),
        INDEX_LIST => {
            let columns = &["schemaname", "tablename", "indexname", "tablespace", "indexdef"];
            (Relation::IndexList, [columns, &[], &[]])
        }
        _ => return None,
    };
    let fields = columns.into_iter().flatten().map(|name| {
        let number = matches!(
            *name,
            "ordinal_position" | "position_in_unique_constraint" | "oid" | "place" | "objoid" | "classoid" | "objsubid"
        );
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
        let keys = Keys { reader: self.class_reader()?, operators: operators(&self.tables.pg_opclass)? };
        let rows = KeyRows { relation, schema: Arc::clone(&schema), keys, inner };
        Ok(Some(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(rows)])?)))
    }
}

/// The rows of a table, with those of keys.
#[derive(Debug, Clone)]
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
        let rows = self.clone();
        stream(&self.schema, async move { rows.read(context).await })
    }
}

impl KeyRows {
    async fn read(self, context: Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
        let Self { relation, schema, keys, inner } = self;
        let mut batches: Vec<RecordBatch> = match inner {
            Some(inner) => inner.execute(Arc::clone(&context)).try_collect().await?,
            None => Vec::new(),
        };
        let classes = (relation == Relation::Classes).then_some(batches.as_slice());
        let all = matches!(relation, Relation::Comments | Relation::Views | Relation::Definitions);
        let listed = keys.read(all, classes, Arc::clone(&context)).await?;
        let found: Vec<Key> = listed.tables.iter().flat_map(|table| table.keys.iter().cloned()).collect();
        match relation {
            Relation::Attributes if found.is_empty() => return Ok(batches),
            Relation::Attributes => return with_index_columns(&batches, &found, &schema),
            Relation::Classes => {
                let marked = |batch| with_constraints(&with_has_index(batch, &found)?, &listed.constraints);
                batches = batches.iter().map(marked).collect::<Result<_>>()?;
            }
            _ => {}
        }
        let seen = &context.session_config().options().catalog.default_schema;
        let mut added = tables::rows(relation, &listed);
        added.extend(found.iter().flat_map(|key| rows(relation, key, &keys.operators)));
        added.extend(listed.constraints.iter().flat_map(|constraint| constraint.rows(relation, seen)));
        if !added.is_empty() {
            batches.push(batch(&added, &schema)?);
        }
        if relation == Relation::Classes {
            // Indexes are temporary and unlogged with their tables.
            let temporary = schema_number(keys.reader.namespaces.execute(context), TEMPORARY).await?;
            let marked = |batch| with_kinds(&with_persistence(batch, temporary)?, &listed.tables);
            batches = batches.iter().map(marked).collect::<Result<_>>()?;
        }
        Ok(batches)
    }
}

/// Marks the tables in `pg_class` that have an index.
fn with_has_index(batch: &RecordBatch, keys: &[Key]) -> Result<RecordBatch> {
    let indexed: HashSet<i32> = keys.iter().map(|key| key.table_oid).collect();
    let oids = numbers(batch, "oid")?.values().iter();
    let flags: BooleanArray = oids.map(|oid| Some(indexed.contains(oid))).collect();
    replaced(batch, "relhasindex", Arc::new(flags))
}

/// Marks the temporary tables in `pg_class`, which are in one schema.
fn with_persistence(batch: &RecordBatch, temporary: i32) -> Result<RecordBatch> {
    let schemas = numbers(batch, "relnamespace")?.values();
    let known = texts(batch, "relpersistence")?;
    let marked = schemas.iter().zip(known).map(|(schema, known)| if *schema == temporary { Some("t") } else { known });
    replaced(batch, "relpersistence", Arc::new(marked.collect::<StringArray>()))
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
    let (mut names, mut kinds) = (Vec::new(), Vec::new());
    for key in keys {
        for (position, column) in (1_i16..).zip(&key.declared.columns) {
            // An expression has the row of a column with another name and type.
            let Some(row) = places.get(&(key.table_oid, column.number.max(1))).copied() else { continue };
            names.push(column.name.as_str());
            kinds.push(column.kind);
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
    let modifier = schema.index_of("atttypmod")?;
    let kind = schema.index_of("atttypid")?;
    let known = indexes[kind].as_primitive::<Int32Type>().values().iter().zip(&kinds);
    let modifiers = known
        .zip(indexes[modifier].as_primitive::<Int32Type>())
        .map(|((known, kind), modifier)| if known == kind { modifier } else { Some(-1) });
    indexes[modifier] = Arc::new(modifiers.collect::<Int32Array>());
    indexes[kind] = Arc::new(Int32Array::from(kinds));
    indexes[schema.index_of("attname")?] = Arc::new(StringArray::from(names));
    let known = all.column(required).as_boolean();
    let flags: BooleanArray =
        (0..).zip(known.iter()).map(|(row, known)| Some(known.unwrap_or(false) || primary.contains(&row))).collect();
    let mut tables = all.columns().to_vec();
    tables[required] = Arc::new(flags);
    Ok(vec![RecordBatch::try_new(Arc::clone(schema), tables)?, RecordBatch::try_new(Arc::clone(schema), indexes)?])
}
