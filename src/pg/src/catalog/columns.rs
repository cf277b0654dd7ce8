//! `information_schema.columns`, with the names of Postgres for the types of DataFusion's view of this name.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int32Array, StringArray};
use datafusion::arrow::compute;
use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::common::exec_err;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
    ident, lit, when,
};
use datafusion_postgres::pgwire::api::Type;
use postgres_types::Kind;

use crate::catalog::listed_tables::listed_tables;
use crate::catalog::sequences::column_facts::{self, ColumnFacts};
use crate::catalog::sequences::hidden::without_sequences;
use crate::decode;
use crate::encode::column;
use crate::sql::marks;

/// Name of the view.
pub(crate) const COLUMNS: &str = "columns";

/// Precision and scale of a `numeric` that has none.
const UNCONSTRAINED: (u8, i8) = (38, 10);

/// Columns of the view, and what they say of the type; `None` for those that are DataFusion's.
const OUTPUTS: [(&str, Option<Fact>); 15] = [
    ("table_catalog", None),
    ("table_schema", None),
    ("table_name", None),
    ("column_name", None),
    ("ordinal_position", None),
    ("column_default", None),
    ("is_nullable", None),
    ("data_type", Some(Fact::Name)),
    ("character_maximum_length", Some(Fact::Length)),
    ("character_octet_length", Some(Fact::Octets)),
    ("numeric_precision", Some(Fact::Precision)),
    ("numeric_precision_radix", Some(Fact::Radix)),
    ("numeric_scale", Some(Fact::Scale)),
    ("datetime_precision", Some(Fact::Fraction)),
    ("interval_type", None),
];

/// Returns the view over these catalogs.
///
/// # Errors
/// If it cannot be planned.
pub(super) async fn table(catalogs: Arc<dyn CatalogProviderList>) -> Result<Option<Arc<dyn TableProvider>>> {
    let columns = ColumnFacts::read(catalogs.as_ref()).await?;
    let catalogs = without_sequences(catalogs);
    let kept = Arc::new(kept_as_text(catalogs.as_ref()).await?);
    let Some(inner) = InformationSchemaProvider::new(catalogs).table(COLUMNS).await? else { return Ok(None) };
    let name = TableReference::partial("information_schema", COLUMNS);
    let scan = LogicalPlanBuilder::scan(name, provider_as_source(inner), None)?;
    let of_type = |fact| {
        let column = ["data_type", "table_schema", "table_name", "column_name"].map(ident);
        ScalarUDF::from(TypeFact { fact, kept: Arc::clone(&kept), signature: signature() }).call(column.into())
    };
    let mut outputs: Vec<Expr> = Vec::with_capacity(OUTPUTS.len() + 5 + column_facts::IDENTITY.len());
    for (name, fact) in OUTPUTS {
        outputs.push(match fact {
            Some(fact) => of_type(fact).alias(name),
            None if name == column_facts::Fact::Default.name() => columns.output(column_facts::Fact::Default),
            None if name == column_facts::Fact::Nullable.name() => {
                let of_key = columns.output(column_facts::Fact::Nullable).unalias();
                when(of_key.is_not_null(), lit("NO")).otherwise(ident(name))?.alias(name)
            }
            None if name == "ordinal_position" => cast(ident(name) + lit(1), DataType::Int32).alias(name),
            None => ident(name),
        });
    }
    outputs.push(ident("table_catalog").alias("udt_catalog"));
    outputs.push(of_type(Fact::UdtSchema).alias("udt_schema"));
    outputs.push(of_type(Fact::Udt).alias("udt_name"));
    outputs.extend(column_facts::IDENTITY.map(|fact| columns.output(fact)));
    outputs.push(lit("NEVER").alias("is_generated"));
    Ok(Some(Arc::new(ViewTable::new(scan.project(outputs)?.build()?, None))))
}

fn signature() -> Signature {
    Signature::exact(vec![DataType::Utf8; 4], Volatility::Immutable)
}

/// Columns of tables by their schema, table and name.
type KeptColumns = BTreeMap<(String, String, String), Kept>;

/// A type whose values are kept as text, and the length of `character(n)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Kept {
    kind: Type,
    length: Option<usize>,
}

impl Kept {
    /// Returns a size of the type; most have none.
    fn number(&self, fact: Fact) -> Option<i32> {
        let length = || i32::try_from(self.length?).ok();
        match fact {
            _ if self.kind != Type::BPCHAR => None,
            Fact::Length => length(),
            // A character has up to four bytes.
            Fact::Octets => Some(length().map_or(1 << 30, |length| length.saturating_mul(4))),
            _ => None,
        }
    }
}

/// Returns the columns whose values are kept as text, with their types.
async fn kept_as_text(catalogs: &dyn CatalogProviderList) -> Result<KeptColumns> {
    let mut found = KeptColumns::new();
    for table in listed_tables(catalogs).await? {
        for field in table.provider.schema().fields() {
            if let Some(kind) = marks::of_field(field) {
                let kept = Kept { kind, length: column::length_of(field) };
                found.insert((table.schema.clone(), table.name.clone(), field.name().clone()), kept);
            }
        }
    }
    Ok(found)
}

/// Property of a type that a column shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fact {
    Name,
    UdtSchema,
    Udt,
    Length,
    Octets,
    Precision,
    Radix,
    Scale,
    Fraction,
}

/// A fact about a type, whose name is that of Arrow.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TypeFact {
    fact: Fact,
    kept: Arc<KeptColumns>,
    signature: Signature,
}

impl ScalarUDFImpl for TypeFact {
    fn name(&self) -> &str {
        match self.fact {
            Fact::Name => "type_name",
            Fact::UdtSchema => "type_schema",
            Fact::Udt => "type_udt",
            Fact::Length => "type_length",
            Fact::Octets => "type_octets",
            Fact::Precision => "type_precision",
            Fact::Radix => "type_radix",
            Fact::Scale => "type_scale",
            Fact::Fraction => "type_fraction",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if matches!(self.fact, Fact::Name | Fact::UdtSchema | Fact::Udt) { DataType::Utf8 } else { DataType::Int32 })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [types, schemas, tables, columns] = args.args.as_slice() else {
            return exec_err!("{} takes four arguments", self.name());
        };
        let texts = |argument: &ColumnarValue| {
            Ok::<_, DataFusionError>(compute::cast(&argument.to_array(args.number_rows)?, &DataType::Utf8)?)
        };
        let (types, schemas, tables, columns) = (texts(types)?, texts(schemas)?, texts(tables)?, texts(columns)?);
        let types = types.as_string::<i32>().iter();
        let places = schemas.as_string::<i32>().iter().zip(tables.as_string::<i32>()).zip(columns.as_string::<i32>());
        let kept = |((schema, table), column): ((Option<&str>, Option<&str>), Option<&str>)| {
            if self.kept.is_empty() {
                return None;
            }
            self.kept.get(&(schema?.to_owned(), table?.to_owned(), column?.to_owned()))
        };
        let all = types.zip(places.map(kept));
        let name = |(written, kept): (Option<&str>, Option<&Kept>)| match kept {
            Some(Kept { kind, .. }) => {
                let name = match kind.kind() {
                    Kind::Array(_) => "ARRAY".into(),
                    Kind::Enum(_) | Kind::Composite(_) => "USER-DEFINED".into(),
                    _ => decode::name(kind),
                };
                Some((name, kind.name().to_owned()))
            }
            None => written.map(names),
        };
        let found: ArrayRef = match self.fact {
            Fact::Name => Arc::new(all.map(|column| Some(name(column)?.0)).collect::<StringArray>()),
            Fact::Udt => Arc::new(all.map(|column| Some(name(column)?.1)).collect::<StringArray>()),
            Fact::UdtSchema => {
                let schema = |kept: Option<&Kept>| kept.map_or("pg_catalog", |kept| kept.kind.schema()).to_owned();
                Arc::new(all.map(|(_, kept)| Some(schema(kept))).collect::<StringArray>())
            }
            fact => {
                let size = |(written, kept): (Option<&str>, Option<&Kept>)| match kept {
                    Some(kept) => kept.number(fact),
                    None => number(fact, &read(written?)?),
                };
                Arc::new(all.map(size).collect::<Int32Array>())
            }
        };
        Ok(ColumnarValue::Array(found))
    }
}

/// Returns a type from its name, `None` if it cannot be read.
fn read(written: &str) -> Option<DataType> {
    match DataType::from_str(written).ok()? {
        DataType::Dictionary(_, values) => Some(*values),
        found => Some(found),
    }
}

/// Returns the names that Postgres gives a type.
fn names(written: &str) -> (String, String) {
    let Some(data_type) = read(written) else {
        let name = if written.starts_with("Struct") { "record" } else { "text" };
        return (name.into(), name.into());
    };
    let wire = Type::from_oid(column::wire_oid(&Field::new("", data_type, true))).unwrap_or(Type::TEXT);
    let name = if matches!(wire.kind(), Kind::Array(_)) { "ARRAY".into() } else { decode::name(&wire) };
    (name, wire.name().into())
}

fn number(fact: Fact, data_type: &DataType) -> Option<i32> {
    use DataType::{
        Date32, Decimal128, Float32, Float64, Int16, Int32, Int64, Interval, LargeUtf8, Time32, Time64, Timestamp,
        Utf8, Utf8View,
    };
    match (fact, data_type) {
        (Fact::Octets, Utf8 | LargeUtf8 | Utf8View) => Some(1 << 30),
        (Fact::Precision, Int16) => Some(16),
        (Fact::Precision, Int32) => Some(32),
        (Fact::Precision, Int64) => Some(64),
        (Fact::Precision, Float32) => Some(24),
        (Fact::Precision, Float64) => Some(53),
        (Fact::Radix, Int16 | Int32 | Int64 | Float32 | Float64) => Some(2),
        (Fact::Radix, Decimal128(..)) => Some(10),
        (Fact::Scale, Int16 | Int32 | Int64) => Some(0),
        (Fact::Precision | Fact::Scale, Decimal128(precision, scale)) if (*precision, *scale) == UNCONSTRAINED => None,
        (Fact::Precision, Decimal128(precision, _)) => Some(i32::from(*precision)),
        (Fact::Scale, Decimal128(_, scale)) => Some(i32::from(*scale)),
        (Fact::Fraction, Date32) => Some(0),
        (Fact::Fraction, Timestamp(TimeUnit::Second, _)) => Some(0),
        (Fact::Fraction, Timestamp(TimeUnit::Millisecond, _)) => Some(3),
        (Fact::Fraction, Timestamp(..) | Time32(_) | Time64(_) | Interval(_)) => Some(6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with `information_schema.columns` of PostgreSQL 15.
    #[test]
    fn types_have_the_names_of_postgres() {
        for (data_type, name, udt, precision, scale) in [
            (DataType::Int32, "integer", "int4", Some(32), Some(0)),
            (DataType::Float64, "double precision", "float8", Some(53), None),
            (DataType::Decimal128(10, 4), "numeric", "numeric", Some(10), Some(4)),
            (DataType::Decimal128(38, 10), "numeric", "numeric", None, None),
            (DataType::Utf8, "text", "text", None, None),
            (DataType::new_list(DataType::Int32, true), "ARRAY", "_int4", None, None),
            (
                DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
                "timestamp with time zone",
                "timestamptz",
                None,
                None,
            ),
        ] {
            let written = data_type.to_string();
            assert_eq!(names(&written), (name.to_owned(), udt.to_owned()), "{written}");
            let read = read(&written).unwrap();
            assert_eq!((number(Fact::Precision, &read), number(Fact::Scale, &read)), (precision, scale), "{written}");
        }
    }
}
