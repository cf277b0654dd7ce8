//! The rows of sequences, defaults and identity columns in the tables of the catalog.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray, new_null_array,
};
use datafusion::arrow::compute::{cast, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int16Type, Int32Type, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;
use futures::TryStreamExt;

use crate::catalog::batches::{numbers, replaced, stream, texts};
use crate::catalog::listed_tables::{ClassReader, ListedTable};
use crate::catalog::memory_rows::has_rows;
use crate::catalog::sequences::Relation;
use crate::catalog::sequences::generated::{self, Identity};
use crate::catalog::sequences::sequence::{self, Sequence};
use crate::catalog::server_catalogs::PG_CATALOG;
use crate::decode;
use crate::encode::column;
use crate::wire::startup::SUPERUSER;

/// The least number of a default. Numbers of tables are less, those of indexes are greater; there are [`COLUMNS`] numbers for each
/// table.
const FIRST_DEFAULT: i32 = 1 << 29;
const COLUMNS: i32 = 1 << 11;

fn default_number(table: i32, column: i32) -> i32 {
    FIRST_DEFAULT + table.rem_euclid(FIRST_DEFAULT / COLUMNS) * COLUMNS + column.rem_euclid(COLUMNS)
}

/// Returns the columns of a table of the catalog all of whose rows are here.
pub(super) fn fields(relation: Relation) -> SchemaRef {
    let oid = |name: &str| Field::new(name, DataType::Int32, true).with_metadata(column::mark(&Type::OID));
    let of = |data_type: DataType, names: &[&str]| -> Vec<Field> {
        names.iter().map(|name| Field::new(*name, data_type.clone(), true)).collect()
    };
    let texts = |names: &[&str]| of(DataType::Utf8, names);
    let numbers = |names: &[&str]| of(DataType::Int64, names);
    let fields: Vec<Field> = match relation {
        Relation::Defaults => {
            let mut fields = vec![oid("oid"), oid("adrelid")];
            fields.extend(of(DataType::Int16, &["adnum"]));
            fields.extend(texts(&["adbin"]));
            fields
        }
        Relation::Sequences => {
            let mut fields = vec![oid("seqrelid"), oid("seqtypid")];
            fields.extend(numbers(&["seqstart", "seqincrement", "seqmax", "seqmin", "seqcache"]));
            fields.extend(of(DataType::Boolean, &["seqcycle"]));
            fields
        }
        Relation::SequenceView => {
            let mut fields = texts(&["schemaname", "sequencename", "sequenceowner", "data_type"]);
            fields.extend(numbers(&["start_value", "min_value", "max_value", "increment_by"]));
            fields.extend(of(DataType::Boolean, &["cycle"]));
            fields.extend(numbers(&["cache_size", "last_value"]));
            fields
        }
        Relation::InformationSchema => {
            let mut fields = texts(&["sequence_catalog", "sequence_schema", "sequence_name", "data_type"]);
            let precision = ["numeric_precision", "numeric_precision_radix", "numeric_scale"];
            fields.extend(of(DataType::Int32, &precision));
            fields.extend(texts(&["start_value", "minimum_value", "maximum_value", "increment", "cycle_option"]));
            fields
        }
        Relation::Dependencies => {
            let mut fields = vec![oid("classid"), oid("objid")];
            fields.extend(of(DataType::Int32, &["objsubid"]));
            fields.extend([oid("refclassid"), oid("refobjid")]);
            fields.extend(of(DataType::Int32, &["refobjsubid"]));
            fields.extend(texts(&["deptype"]));
            fields
        }
        // They have those of other rows.
        Relation::Classes | Relation::Attributes | Relation::Tables => Vec::new(),
    };
    Arc::new(Schema::new(fields))
}

/// A sequence, or a table in memory, with the number it has in the catalog.
struct Numbered {
    listed: ListedTable,
    oid: i32,
    /// The columns with a default or an identity: their numbers, the default and the identity.
    columns: Vec<(i32, Option<String>, Option<Identity>)>,
}

impl Numbered {
    fn sequence(&self) -> Option<&Arc<Sequence>> {
        sequence::of(self.listed.provider.as_ref())
    }

    /// Returns the number of a column.
    fn column(&self, name: &str) -> Option<i32> {
        i32::try_from(self.listed.provider.schema().index_of(name).ok()? + 1).ok()
    }
}

/// Returns the columns of a table with a default or an identity: their numbers, the default and the identity.
fn generated_columns(table: &dyn TableProvider) -> Vec<(i32, Option<String>, Option<Identity>)> {
    let schema = table.schema();
    let of = |(number, field): (i32, &FieldRef)| {
        let (default, identity) = (generated::default(table, field.name()), generated::identity(table, field.name()));
        (default.is_some() || identity.is_some()).then_some((number, default, identity))
    };
    (1..).zip(schema.fields()).filter_map(of).collect()
}

/// The rows of a table of the catalog, with what sequences and defaults add to them.
#[derive(Debug, Clone)]
pub(super) struct SequenceRows {
    pub(super) relation: Relation,
    pub(super) schema: SchemaRef,
    pub(super) reader: ClassReader,
    /// The rows that are there without them.
    pub(super) inner: Option<Arc<dyn PartitionStream>>,
}

impl PartitionStream for SequenceRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Reads the catalogs when it runs, one table after another: `pg_class` locks what `pg_namespace` reads.
    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self.clone();
        stream(&self.schema, async move { rows.read(context).await })
    }
}

impl SequenceRows {
    async fn read(self, context: Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
        let Self { relation, schema, reader, inner } = self;
        let batches: Vec<RecordBatch> = match inner {
            Some(inner) => inner.execute(Arc::clone(&context)).try_collect().await?,
            None => Vec::new(),
        };
        let (found, pg_class) = find(&reader, context).await?;
        match relation {
            Relation::Classes => changed(batches, &found, classes_of),
            Relation::Attributes => changed(batches, &found, attributes_of),
            Relation::Tables => changed(batches, &found, tables_of),
            own => Ok(vec![rows_of(own, &found, pg_class, &schema)?]),
        }
    }
}

fn changed(
    batches: Vec<RecordBatch>,
    found: &[Numbered],
    change: fn(&RecordBatch, &[Numbered]) -> Result<RecordBatch>,
) -> Result<Vec<RecordBatch>> {
    if found.is_empty() {
        return Ok(batches);
    }
    batches.iter().map(|batch| change(batch, found)).collect()
}

/// Returns the sequences, and the tables that have a column with a default or an identity; and the number of `pg_class` itself.
async fn find(reader: &ClassReader, context: Arc<TaskContext>) -> Result<(Vec<Numbered>, i32)> {
    if !generated::exist() {
        return Ok((Vec::new(), 0));
    }
    let tables = reader.tables().await?.into_iter().filter_map(|table| {
        let provider = table.provider.as_ref();
        let columns = generated_columns(provider);
        let is_wanted = !columns.is_empty() || sequence::of(provider).is_some();
        is_wanted.then_some((table, columns))
    });
    let tables: Vec<_> = tables.collect();
    if tables.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let numbers = reader.read(None, context).await?;
    let numbered = tables.into_iter().filter_map(|(listed, columns)| {
        let (oid, _) = numbers.of(&listed)?;
        Some(Numbered { listed, oid, columns })
    });
    Ok((numbered.collect(), numbers.of_catalog("pg_class")))
}

/// Marks the sequences in `pg_class`.
fn classes_of(batch: &RecordBatch, found: &[Numbered]) -> Result<RecordBatch> {
    let sequences: HashSet<i32> =
        found.iter().filter(|table| table.sequence().is_some()).map(|table| table.oid).collect();
    let oids = numbers(batch, "oid")?.values().iter();
    let kinds =
        oids.zip(texts(batch, "relkind")?).map(|(oid, kind)| if sequences.contains(oid) { Some("S") } else { kind });
    replaced(batch, "relkind", Arc::new(kinds.collect::<StringArray>()))
}

/// Marks the columns in `pg_attribute` that have a default or an identity.
fn attributes_of(batch: &RecordBatch, found: &[Numbered]) -> Result<RecordBatch> {
    let mut marks = HashMap::new();
    for table in found {
        let columns = table.columns.iter();
        marks.extend(columns.map(|(number, default, identity)| ((table.oid, *number), (default.is_some(), *identity))));
    }
    let columns = batch.column(batch.schema().index_of("attnum")?).as_primitive::<Int16Type>().values().iter();
    let placed: Vec<_> = numbers(batch, "attrelid")?.values().iter().zip(columns).collect();
    let mark = |(table, column): &(&i32, &i16)| marks.get(&(**table, i32::from(**column)));
    let known = batch.column(batch.schema().index_of("atthasdef")?).as_boolean();
    let defaults = placed.iter().zip(known.iter());
    let defaults: BooleanArray = defaults.map(|(place, known)| mark(place).map(|(has, _)| *has).or(known)).collect();
    let identities = placed.iter().zip(texts(batch, "attidentity")?);
    let identities: StringArray = identities
        .map(|(place, known)| mark(place).and_then(|(_, identity)| *identity).map(Identity::letter).or(known))
        .collect();
    let batch = replaced(batch, "atthasdef", Arc::new(defaults))?;
    replaced(&batch, "attidentity", Arc::new(identities))
}

/// Leaves sequences out of `pg_tables`.
fn tables_of(batch: &RecordBatch, found: &[Numbered]) -> Result<RecordBatch> {
    let sequences = found.iter().filter(|table| table.sequence().is_some());
    let sequences: HashSet<_> =
        sequences.map(|table| (table.listed.schema.as_str(), table.listed.name.as_str())).collect();
    let names = texts(batch, "schemaname")?.iter().zip(texts(batch, "tablename")?);
    let is_table = |(schema, table): (Option<&str>, Option<&str>)| {
        Some(!schema.zip(table).is_some_and(|name| sequences.contains(&name)))
    };
    Ok(filter_record_batch(batch, &names.map(is_table).collect::<BooleanArray>())?)
}

/// Returns the rows of a table of the catalog, all of which are of sequences or defaults.
fn rows_of(relation: Relation, found: &[Numbered], pg_class: i32, schema: &SchemaRef) -> Result<RecordBatch> {
    match relation {
        Relation::Defaults => defaults(found, schema),
        Relation::Dependencies => dependencies(found, pg_class, schema),
        _ => sequences(relation, found, schema),
    }
}

/// Returns the rows of `pg_attrdef`.
fn defaults(found: &[Numbered], schema: &SchemaRef) -> Result<RecordBatch> {
    let defaults = found.iter().flat_map(|table| {
        let columns = table.columns.iter();
        columns.filter_map(|(number, default, _)| Some((table.oid, *number, default.as_deref()?)))
    });
    let defaults: Vec<_> = defaults.collect();
    let numbers = |number: fn(&(i32, i32, &str)) -> i32| -> ArrayRef {
        Arc::new(defaults.iter().map(number).collect::<Int32Array>())
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("oid", numbers(|(table, column, _)| default_number(*table, *column))),
        ("adrelid", numbers(|(table, ..)| *table)),
        ("adnum", numbers(|(_, column, _)| *column)),
        ("adbin", Arc::new(defaults.iter().map(|(.., text)| Some(*text)).collect::<StringArray>())),
    ];
    assembled(schema, columns, defaults.len())
}

/// Returns the rows of `pg_depend`: the columns that sequences belong to.
fn dependencies(found: &[Numbered], pg_class: i32, schema: &SchemaRef) -> Result<RecordBatch> {
    let rows = found.iter().filter_map(|table| {
        let owner = table.sequence()?.owner()?;
        let owning = found.iter().find(|table| has_rows(table.listed.provider.as_ref(), &owner.rows))?;
        Some((table.oid, owning.oid, owning.column(&owner.column)?, if owner.is_identity { "i" } else { "a" }))
    });
    let rows: Vec<_> = rows.collect();
    let numbers = |number: fn(&(i32, i32, i32, &'static str)) -> i32| -> ArrayRef {
        Arc::new(rows.iter().map(number).collect::<Int32Array>())
    };
    let of_classes = || -> ArrayRef { Arc::new(Int32Array::from(vec![pg_class; rows.len()])) };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("classid", of_classes()),
        ("objid", numbers(|(sequence, ..)| *sequence)),
        ("objsubid", numbers(|_| 0)),
        ("refclassid", of_classes()),
        ("refobjid", numbers(|(_, table, ..)| *table)),
        ("refobjsubid", numbers(|(_, _, column, _)| *column)),
        ("deptype", Arc::new(rows.iter().map(|(.., kind)| Some(*kind)).collect::<StringArray>())),
    ];
    assembled(schema, columns, rows.len())
}

/// Returns the rows of a table or view of sequences.
fn sequences(relation: Relation, found: &[Numbered], schema: &SchemaRef) -> Result<RecordBatch> {
    let all: Vec<(&Numbered, &Arc<Sequence>)> =
        found.iter().filter_map(|table| Some((table, table.sequence()?))).collect();
    let number = |value: fn(&Sequence) -> i64| -> ArrayRef {
        Arc::new(all.iter().map(|(_, sequence)| value(sequence)).collect::<Int64Array>())
    };
    let text = |value: fn(&Numbered, &Sequence) -> String| -> ArrayRef {
        Arc::new(all.iter().map(|(table, sequence)| Some(value(table, sequence))).collect::<StringArray>())
    };
    let kind = || text(|_, sequence| decode::name(&sequence.options.kind));
    let cycles = || -> ArrayRef {
        Arc::new(all.iter().map(|(_, sequence)| Some(sequence.options.cycles)).collect::<BooleanArray>())
    };
    let columns: Vec<(&str, ArrayRef)> = match relation {
        Relation::Sequences => vec![
            ("seqrelid", Arc::new(all.iter().map(|(table, _)| table.oid).collect::<Int32Array>())),
            ("seqtypid", number(|sequence| sequence.options.kind.oid().into())),
            ("seqstart", number(|sequence| sequence.options.start)),
            ("seqincrement", number(|sequence| sequence.options.increment)),
            ("seqmax", number(|sequence| sequence.options.max)),
            ("seqmin", number(|sequence| sequence.options.min)),
            ("seqcache", number(|sequence| sequence.options.cache)),
            ("seqcycle", cycles()),
        ],
        Relation::SequenceView => vec![
            ("schemaname", text(|table, _| table.listed.schema.clone())),
            ("sequencename", text(|table, _| table.listed.name.clone())),
            ("sequenceowner", text(|_, _| SUPERUSER.to_owned())),
            ("data_type", kind()),
            ("start_value", number(|sequence| sequence.options.start)),
            ("min_value", number(|sequence| sequence.options.min)),
            ("max_value", number(|sequence| sequence.options.max)),
            ("increment_by", number(|sequence| sequence.options.increment)),
            ("cycle", cycles()),
            ("cache_size", number(|sequence| sequence.options.cache)),
            ("last_value", Arc::new(all.iter().map(|(_, sequence)| sequence.last()).collect::<Int64Array>())),
        ],
        Relation::InformationSchema => {
            // Those of identity columns are left out, as in PostgreSQL.
            let is_shown = |sequence: &Sequence| !sequence.owner().is_some_and(|owner| owner.is_identity);
            let mask: BooleanArray = all.iter().map(|(_, sequence)| Some(is_shown(sequence))).collect();
            let bits = number(|sequence| match sequence.options.kind {
                Type::INT2 => 16,
                Type::INT4 => 32,
                _ => 64,
            });
            let columns = vec![
                ("sequence_catalog", text(|table, _| table.listed.catalog.clone())),
                ("sequence_schema", text(|table, _| table.listed.schema.clone())),
                ("sequence_name", text(|table, _| table.listed.name.clone())),
                ("data_type", kind()),
                ("numeric_precision", bits),
                ("numeric_precision_radix", number(|_| 2)),
                ("numeric_scale", number(|_| 0)),
                ("start_value", text(|_, sequence| sequence.options.start.to_string())),
                ("minimum_value", text(|_, sequence| sequence.options.min.to_string())),
                ("maximum_value", text(|_, sequence| sequence.options.max.to_string())),
                ("increment", text(|_, sequence| sequence.options.increment.to_string())),
                ("cycle_option", text(|_, sequence| yes_or_no(sequence.options.cycles).to_owned())),
            ];
            return Ok(filter_record_batch(&assembled(schema, columns, all.len())?, &mask)?);
        }
        _ => Vec::new(),
    };
    assembled(schema, columns, all.len())
}

pub(super) fn yes_or_no(yes: bool) -> &'static str {
    if yes { "YES" } else { "NO" }
}

/// Returns a batch of these columns; others are NULL.
fn assembled(schema: &SchemaRef, given: Vec<(&str, ArrayRef)>, rows: usize) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| match given.iter().find(|(name, _)| name == field.name()) {
        Some((_, column)) => Ok(cast(column, field.data_type())?),
        None if field.is_nullable() => Ok(new_null_array(field.data_type(), rows)),
        None => ScalarValue::new_default(field.data_type())?.to_array_of_size(rows),
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<Vec<_>>>()?)?)
}

/// Returns the options of identity columns in JSON, by the numbers of table and column.
pub(crate) async fn identities(context: &SessionContext) -> Result<HashMap<(i32, i32), String>> {
    let query = format!(
        "SELECT d.refobjid, d.refobjsubid, a.attidentity, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, \
         s.seqcycle FROM {PG_CATALOG}.pg_depend d JOIN {PG_CATALOG}.pg_sequence s ON s.seqrelid = d.objid \
         JOIN {PG_CATALOG}.pg_attribute a ON a.attrelid = d.refobjid AND CAST(a.attnum AS INT) = d.refobjsubid \
         WHERE d.deptype = 'i'"
    );
    let mut identities = HashMap::new();
    if !generated::exist() {
        return Ok(identities);
    }
    for batch in context.sql(&query).await?.collect().await? {
        let place = |column: usize| batch.column(column).as_primitive::<Int32Type>();
        let numbers = (3..8).map(|column| {
            let numbers = cast(batch.column(column), &DataType::Utf8)?;
            Ok(numbers.as_string::<i32>().clone())
        });
        let numbers = numbers.collect::<Result<Vec<_>>>()?;
        let kinds = cast(batch.column(2), &DataType::Utf8)?;
        let (kinds, cycles) = (kinds.as_string::<i32>(), batch.column(8).as_boolean());
        for row in 0..batch.num_rows() {
            let [start, increment, min, max, cache] = [0, 1, 2, 3, 4].map(|column| numbers[column].value(row));
            let (always, cycle) = (kinds.value(row) == Identity::Always.letter(), cycles.value(row));
            let text = format!(
                "{{\"always\" : {always}, \"start\" : {start}, \"increment\" : {increment}, \"minvalue\" : {min}, \
                 \"maxvalue\" : {max}, \"cache\" : {cache}, \"cycle\" : {cycle}}}"
            );
            identities.insert((place(0).value(row), place(1).value(row)), text);
        }
    }
    Ok(identities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_defaults_are_between_those_of_tables_and_indexes() {
        let numbers = [(16_384, 1), (16_384, 1664), (16_385, 1), (1 << 18, 1), ((1 << 18) - 1, 1664)];
        let mut found: Vec<_> = numbers.map(|(table, column)| default_number(table, column)).to_vec();
        assert!(found.iter().all(|number| (FIRST_DEFAULT..1 << 30).contains(number)), "{found:?}");
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), numbers.len());
    }
}
