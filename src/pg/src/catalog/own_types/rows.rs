//! The rows of types that users have made in `pg_type`, of their labels in `pg_enum`, and of composite types in `pg_class` and
//! `pg_attribute`.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float32Array, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::exec_datafusion_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::PgCatalogTable;
use datafusion_postgres::pgwire::api::Type;
use futures::TryStreamExt;
use postgres_types::Field;

use crate::catalog::keys::{Cell, Row, batch_of, numbers, texts};
use crate::catalog::objects::Functions;
use crate::catalog::own_types::{self, OwnType, is_composite};
use crate::catalog::{PgCatalog, TypedCatalogList, lists, numbered, with_lists};
use crate::decode::composite;
use crate::encode::column;

/// Number of the role that owns what is in the catalog.
const OWNER: i32 = 10;

/// A table of the catalog with rows of types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::catalog) enum Relation {
    Types,
    Labels,
    Classes,
    Attributes,
}

impl PgCatalog {
    /// Returns a table that has rows of types that users have made; `None` for others.
    pub(in crate::catalog) fn of_own_types(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let relation = match name {
            "pg_type" => Relation::Types,
            "pg_enum" => Relation::Labels,
            _ => return Ok(None),
        };
        let Some(PgCatalogTable::Static(table)) = self.inner.build_table_by_name(name)? else { return Ok(None) };
        let (schema, batches) = numbered(&table.schema(), table.data(), &self.functions)?
            .unwrap_or_else(|| (table.schema(), table.data().to_vec()));
        // Clients read a letter, whose type is `"char"`.
        let typed = with_lists(&schema);
        let fields = typed.fields().iter().map(|field| match field.name().as_str() {
            "typtype" => Arc::new(ArrowField::clone(field).with_metadata(column::mark(&Type::CHAR))),
            _ => Arc::clone(field),
        });
        let listed = SchemaRef::new(Schema::new(fields.collect::<Vec<_>>()));
        let batches = batches.iter().map(|batch| lists(batch, &listed)).collect::<Result<Vec<_>>>()?;
        let rows = self.type_rows(relation, Arc::clone(&listed), batches, None)?;
        Ok(Some(Arc::new(StreamingTable::try_new(listed, vec![rows])?)))
    }

    /// Returns the rows of a table with those of composite types.
    pub(in crate::catalog) fn with_composites(
        &self,
        relation: Relation,
        inner: Arc<dyn PartitionStream>,
    ) -> Result<Arc<dyn PartitionStream>> {
        self.type_rows(relation, Arc::clone(inner.schema()), Vec::new(), Some(inner))
    }

    fn type_rows(
        &self,
        relation: Relation,
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
        inner: Option<Arc<dyn PartitionStream>>,
    ) -> Result<Arc<dyn PartitionStream>> {
        let namespaces = match self.inner.build_table_by_name("pg_namespace")? {
            Some(PgCatalogTable::Dynamic(stream)) => stream,
            _ => return Err(exec_datafusion_err!("pg_namespace has no rows that change")),
        };
        let (catalogs, functions) = (self.catalogs.clone(), Arc::clone(&self.functions));
        Ok(Arc::new(TypeRows { relation, schema, batches, inner, catalogs, functions, namespaces }))
    }
}

#[derive(Debug)]
struct TypeRows {
    relation: Relation,
    schema: SchemaRef,
    /// The rows of PostgreSQL's own types.
    batches: Vec<RecordBatch>,
    /// The rows of tables.
    inner: Option<Arc<dyn PartitionStream>>,
    catalogs: TypedCatalogList,
    functions: Arc<Functions>,
    namespaces: Arc<dyn PartitionStream>,
}

impl PartitionStream for TypeRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (relation, schema, mut batches) = (self.relation, Arc::clone(&self.schema), self.batches.clone());
        let (catalogs, functions) = (self.catalogs.catalogs(), Arc::clone(&self.functions));
        let (namespaces, inner) = (Arc::clone(&self.namespaces), self.inner.clone());
        let rows = async move {
            if let Some(inner) = inner {
                let of_tables: Vec<RecordBatch> = inner.execute(Arc::clone(&context)).try_collect().await?;
                batches.extend(of_tables);
            }
            let types = own_types::all(catalogs.as_ref()).await?;
            if !types.is_empty() {
                let mut schemas = HashMap::new();
                let read: Vec<RecordBatch> = namespaces.execute(context).try_collect().await?;
                for batch in &read {
                    let names = texts(batch, "nspname")?.iter().flatten().map(str::to_owned);
                    schemas.extend(names.zip(numbers(batch, "oid")?.values().iter().copied()));
                }
                let namespace = |own: &OwnType| schemas.get(own.schema()).copied().unwrap_or_default();
                batches.push(match relation {
                    Relation::Classes => {
                        let rows = types.iter().filter_map(|own| row_of_class(own, namespace(own)));
                        batch_of(&rows.collect::<Vec<_>>(), &schema)?
                    }
                    Relation::Attributes => {
                        batch_of(&types.iter().flat_map(|own| rows_of_fields(own)).collect::<Vec<_>>(), &schema)?
                    }
                    Relation::Types => {
                        let rows = types.iter().flat_map(|own| rows_of_type(own, namespace(own), &functions, &schema));
                        batch_of(&rows.collect::<Vec<_>>(), &schema)?
                    }
                    Relation::Labels => labels(&types, &schema)?,
                });
            }
            Ok::<_, DataFusionError>(futures::stream::iter(batches.into_iter().map(Ok::<_, DataFusionError>)))
        };
        let batches = futures::stream::once(rows).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

fn oid(number: u32) -> Cell {
    Cell::Number(i32::try_from(number).unwrap_or(i32::MAX))
}

/// Returns the row of a composite type in `pg_class`.
fn row_of_class(own: &OwnType, namespace: i32) -> Option<Row> {
    let kind = own.kind();
    is_composite(&kind).then(|| {
        vec![
            ("oid", oid(own.class_oid())),
            ("relname", own.name().into()),
            ("relnamespace", Cell::Number(namespace)),
            ("reltype", oid(own.oid())),
            ("relowner", Cell::Number(OWNER)),
            ("relpersistence", "p".into()),
            ("relkind", "c".into()),
            ("relnatts", Cell::Number(i32::try_from(composite::fields(&kind).len()).unwrap_or(i32::MAX))),
            ("relispopulated", Cell::Flag(true)),
            ("relreplident", "n".into()),
        ]
    })
}

/// Returns the rows of a composite type's fields in `pg_attribute`.
fn rows_of_fields(own: &OwnType) -> Vec<Row> {
    let kind = own.kind();
    let row = |(number, field): (i32, &Field)| {
        let size = column::size_of(field.type_());
        vec![
            ("attrelid", oid(own.class_oid())),
            ("attname", field.name().into()),
            ("atttypid", oid(field.type_().oid())),
            ("attlen", Cell::Number(size.into())),
            ("attnum", Cell::Number(number)),
            ("attndims", Cell::Number(0)),
            ("attcacheoff", Cell::Number(-1)),
            ("atttypmod", Cell::Number(-1)),
            ("attbyval", Cell::Flag(size > 0)),
            ("attalign", if size == 8 { "d" } else { "i" }.into()),
            ("attstorage", if size > 0 { "p" } else { "x" }.into()),
            ("attnotnull", Cell::Flag(false)),
            ("atthasdef", Cell::Flag(false)),
            ("atthasmissing", Cell::Flag(false)),
            ("attidentity", "".into()),
            ("attgenerated", "".into()),
            ("attisdropped", Cell::Flag(false)),
            ("attislocal", Cell::Flag(true)),
            ("attinhcount", Cell::Number(0)),
        ]
    };
    (1..).zip(composite::fields(&kind)).map(row).collect()
}

/// Returns the rows of a type and of the type of its arrays.
fn rows_of_type(own: &OwnType, namespace: i32, functions: &Functions, schema: &SchemaRef) -> [Row; 2] {
    // A column of functions has their numbers, or their names.
    let function = |column: &'static str, name: &str| {
        let is_number = schema.field_with_name(column).is_ok_and(|field| field.data_type().is_integer());
        let number = || if name == "-" { 0 } else { functions.only(name).unwrap_or_default() };
        (column, if is_number { Cell::Number(number()) } else { name.into() })
    };
    let functions_of = |[subscript, input, output, receive, send, analyze]: [&str; 6]| {
        [
            function("typsubscript", subscript),
            function("typinput", input),
            function("typoutput", output),
            function("typreceive", receive),
            function("typsend", send),
            function("typmodin", "-"),
            function("typmodout", "-"),
            function("typanalyze", analyze),
        ]
    };
    let common = |name: &str| -> Row {
        vec![
            ("typname", name.into()),
            ("typnamespace", Cell::Number(namespace)),
            ("typowner", Cell::Number(OWNER)),
            ("typispreferred", Cell::Flag(false)),
            ("typisdefined", Cell::Flag(true)),
            ("typdelim", ",".into()),
            ("typnotnull", Cell::Flag(false)),
            ("typbasetype", Cell::Number(0)),
            ("typtypmod", Cell::Number(-1)),
            ("typndims", Cell::Number(0)),
            ("typcollation", Cell::Number(0)),
        ]
    };
    let (kind, array) = (own.kind(), own.array());
    let is_record = is_composite(&kind);
    let either = |of_record: &str, of_enum: &str| Cell::from(if is_record { of_record } else { of_enum });
    let mut row = common(kind.name());
    row.extend([
        ("oid", oid(kind.oid())),
        ("typlen", Cell::Number(if is_record { -1 } else { 4 })),
        ("typbyval", Cell::Flag(!is_record)),
        ("typtype", either("c", "e")),
        ("typcategory", either("C", "E")),
        ("typrelid", if is_record { oid(own.class_oid()) } else { Cell::Number(0) }),
        ("typelem", Cell::Number(0)),
        ("typarray", oid(array.oid())),
        ("typalign", either("d", "i")),
        ("typstorage", either("x", "p")),
    ]);
    row.extend(functions_of(match is_record {
        true => ["-", "record_in", "record_out", "record_recv", "record_send", "-"],
        false => ["-", "enum_in", "enum_out", "enum_recv", "enum_send", "-"],
    }));
    let mut row_of_array = common(array.name());
    row_of_array.extend([
        ("oid", oid(array.oid())),
        ("typlen", Cell::Number(-1)),
        ("typbyval", Cell::Flag(false)),
        ("typtype", "b".into()),
        ("typcategory", "A".into()),
        ("typrelid", Cell::Number(0)),
        ("typelem", oid(kind.oid())),
        ("typarray", Cell::Number(0)),
        ("typalign", either("d", "i")),
        ("typstorage", "x".into()),
    ]);
    let of_array = ["array_subscript_handler", "array_in", "array_out", "array_recv", "array_send", "array_typanalyze"];
    row_of_array.extend(functions_of(of_array));
    [row, row_of_array]
}

/// Returns the rows of labels, in their order.
fn labels(types: &[Arc<OwnType>], schema: &SchemaRef) -> Result<RecordBatch> {
    let (mut rows, mut orders): (Vec<Row>, Vec<f32>) = (Vec::new(), Vec::new());
    for own in types {
        for label in own.labels() {
            rows.push(vec![
                ("oid", oid(label.oid)),
                ("enumtypid", oid(own.oid())),
                ("enumlabel", label.name.as_str().into()),
            ]);
            orders.push(label.order);
        }
    }
    let batch = batch_of(&rows, schema)?;
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    let place = schema.index_of("enumsortorder")?;
    let orders: ArrayRef = Arc::new(Float32Array::from(orders));
    columns[place] = match schema.field(place).data_type() {
        DataType::Float32 => orders,
        other => cast(&orders, other)?,
    };
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
