//! Types of results: values that arrow-pg cannot put on the wire are turned into values that it can.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, ListArray, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, DecimalType, Field, Int16Type, Int32Type, Schema, SchemaRef,
};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::arrow::json::writer::{LineDelimited, WriterBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion_postgres::arrow_pg::datatypes::{
    arrow_schema_to_pg_fields, encode_recordbatch, field_into_pg_type, into_pg_type,
};
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::results::{FieldFormat, FieldInfo};
use datafusion_postgres::pgwire::messages::data::DataRow;
use datafusion_postgres::pgwire::types::format::FormatOptions;

use neuroql::{DateForm, DateStyle};
use postgres_types::Kind as PgKind;

use crate::catalog::objects::{ObjectKind, Objects};
use crate::catalog::own_types;
use crate::decode;
use crate::decode::composite;
use crate::encode::datetime;
use crate::encode::modifiers;
pub(crate) use crate::encode::modifiers::length_of;
use crate::encode::nested_array;
use crate::encode::ranges;
use crate::encode::record;
use crate::floats;
use crate::sql::column_names::ColumnNames;
use crate::sql::range_values;
use crate::wire::error_response::{SqlError, external};

/// The columns of a result, before a client has chosen text or binary.
#[derive(Debug)]
pub(crate) struct Columns {
    /// Schema under the names that the client sees, with types that arrow-pg knows.
    schema: Schema,
    /// Modifiers of the types.
    modifiers: Vec<i32>,
    /// The last description: a client asks twice for each execution.
    described: Mutex<Option<Description>>,
}

/// The fields of RowDescription for a format and options.
#[derive(Debug)]
struct Description {
    format: Format,
    options: Arc<FormatOptions>,
    fields: Arc<Vec<FieldInfo>>,
}

impl Columns {
    pub(crate) fn new(schema: &Schema, names: &ColumnNames) -> Self {
        let count = schema.fields().len();
        let fields = schema.fields().iter().enumerate().map(|(index, field)| {
            let name = names.name(index, count, field.name()).to_string();
            Field::clone(field).with_name(name).with_data_type(wire_type(field.data_type()))
        });
        let schema = Schema::new(fields.collect::<Vec<_>>());
        Self { schema, modifiers: vec![modifiers::NONE; count], described: Mutex::default() }
    }

    /// Gives the types the modifiers that they have in a plan of these columns.
    pub(crate) fn with_modifiers(mut self, plan: &LogicalPlan) -> Self {
        let found = modifiers::of_plan(plan);
        if found.len() == self.modifiers.len() {
            self.modifiers = found;
            self.described = Mutex::default();
        }
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.schema.fields().len()
    }

    /// Returns the columns under the names that the client sees.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.schema.fields().iter().map(AsRef::as_ref)
    }

    /// Returns true if a client that knows these columns understands the others. The zone of an instant's type is that of a
    /// session, which may have changed.
    pub(crate) fn same_types(&self, other: &Self) -> bool {
        let without_zone = |field: &Field| {
            let data_type = field.data_type();
            neuroql::in_zone(data_type, "").unwrap_or_else(|| data_type.clone())
        };
        self.fields().map(without_zone).eq(other.fields().map(without_zone))
    }

    /// Returns the fields of RowDescription.
    pub(crate) fn describe(
        &self,
        format: &Format,
        options: &Arc<FormatOptions>,
    ) -> Result<Arc<Vec<FieldInfo>>, SqlError> {
        let mut last = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.as_ref().filter(|last| is_same(&last.format, format) && Arc::ptr_eq(&last.options, options));
        if let Some(known) = known {
            return Ok(Arc::clone(&known.fields));
        }
        let fields = self.described_anew(format, options)?;
        *last = Some(Description { format: format.clone(), options: Arc::clone(options), fields: Arc::clone(&fields) });
        Ok(fields)
    }

    fn described_anew(&self, format: &Format, options: &Arc<FormatOptions>) -> Result<Arc<Vec<FieldInfo>>, SqlError> {
        let fields = arrow_schema_to_pg_fields(&self.schema, format, Some(Arc::clone(options)))?;
        let described = fields.into_iter().zip(self.schema.fields()).zip(&self.modifiers);
        let described = described.map(|((info, field), modifier)| {
            let (kind, modifier) = match (marked(field), info.datatype()) {
                (Some(kind @ Type::BPCHAR), _) => (kind, *modifier),
                (Some(kind), _) => (kind, modifiers::NONE),
                (None, &Type::TEXT) if *modifier != modifiers::NONE => (Type::VARCHAR, *modifier),
                (None, kind) => (kind.clone(), if has_modifier(kind) { *modifier } else { modifiers::NONE }),
            };
            let size = size_of(&kind);
            FieldInfo::new(info.name().into(), None, None, kind, info.format())
                .with_format_options(Arc::clone(info.format_options()))
                .with_type_size(size)
                .with_type_modifier(modifier)
        });
        Ok(Arc::new(described.collect()))
    }
}

fn is_same(one: &Format, other: &Format) -> bool {
    match (one, other) {
        (Format::UnifiedText, Format::UnifiedText) | (Format::UnifiedBinary, Format::UnifiedBinary) => true,
        (Format::Individual(one), Format::Individual(other)) => one == other,
        _ => false,
    }
}

/// Returns true for a type, other than texts, whose modifiers are known.
fn has_modifier(kind: &Type) -> bool {
    matches!(*kind, Type::NUMERIC | Type::NUMERIC_ARRAY | Type::TIMESTAMP | Type::TIMESTAMPTZ)
}

/// Returns the number of bytes of a type's values, -1 if they have several sizes: `pg_type.typlen`.
pub(crate) fn size_of(kind: &Type) -> i16 {
    match *kind {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4
        | Type::FLOAT4
        | Type::DATE
        | Type::VOID
        | Type::OID
        | Type::REGCLASS
        | Type::REGTYPE
        | Type::REGPROC
        | Type::REGPROCEDURE
        | Type::REGNAMESPACE
        | Type::REGROLE => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::INTERVAL | Type::UUID => 16,
        Type::TIMETZ => 12,
        Type::MACADDR => 6,
        Type::NAME => 64,
        Type::UNKNOWN => -2,
        _ if own_types::is_enum(kind) => 4,
        _ => -1,
    }
}

/// Types of Postgres whose values are kept as text or as numbers here.
const MARKED: [Type; 22] = [
    Type::INT2_VECTOR,
    Type::VOID,
    Type::UUID_ARRAY,
    Type::JSON_ARRAY,
    Type::JSONB_ARRAY,
    Type::VARCHAR,
    Type::BPCHAR,
    Type::NAME,
    Type::CHAR,
    Type::OID,
    Type::VARCHAR_ARRAY,
    Type::BPCHAR_ARRAY,
    Type::NAME_ARRAY,
    Type::UUID,
    Type::JSON,
    Type::JSONB,
    Type::REGCLASS,
    Type::REGTYPE,
    Type::REGPROC,
    Type::REGPROCEDURE,
    Type::REGNAMESPACE,
    Type::REGROLE,
];

/// More of them.
const ALSO_MARKED: [Type; 10] = [
    Type::REGTYPE_ARRAY,
    Type::XID,
    Type::TIMETZ,
    Type::INET,
    Type::CIDR,
    Type::MACADDR,
    Type::TIMETZ_ARRAY,
    Type::INET_ARRAY,
    Type::CIDR_ARRAY,
    Type::MACADDR_ARRAY,
];

/// Key of a field's metadata that names the type of its values.
const EXTENSION_TYPE_NAME_KEY: &str = "ARROW:extension:name";

/// Prefix of a type's name in the metadata of a field.
const MARK: &str = "neuroql.";

/// Returns the metadata of a field whose values are of this type. A cast removes it.
pub(crate) fn mark(kind: &Type) -> HashMap<String, String> {
    // Arrow has a type for it.
    if matches!(*kind, Type::UUID | Type::UUID_ARRAY) {
        return HashMap::new();
    }
    text_mark(kind)
}

/// Returns the metadata of a field of texts or numbers that are values of this type.
pub(crate) fn text_mark(kind: &Type) -> HashMap<String, String> {
    let known = (MARKED.contains(kind) || ALSO_MARKED.contains(kind) || range_values::is_range(kind))
        .then(|| kind.name().to_owned());
    let known = known.or_else(|| own_types::mark(kind));
    known.map(|name| (EXTENSION_TYPE_NAME_KEY.into(), format!("{MARK}{name}"))).into_iter().collect()
}

/// Returns the type of `uuid`, or of arrays of it, for Arrow's.
pub(crate) fn uuid_type(data_type: &DataType) -> Option<Type> {
    match data_type {
        found if neuroql::is_uuid(found) => Some(Type::UUID),
        DataType::List(item) if neuroql::is_uuid(item.data_type()) => Some(Type::UUID_ARRAY),
        nested => nested_array::elements(nested).filter(|item| neuroql::is_uuid(item)).map(|_| Type::UUID_ARRAY),
    }
}

/// Returns the type of Postgres for one of Arrow.
pub(crate) fn pg_type(data_type: &DataType) -> Option<Type> {
    uuid_type(data_type).or_else(|| into_pg_type(data_type).ok())
}

/// Returns the type that a field's metadata name, and `uuid`.
pub(crate) fn marked(field: &Field) -> Option<Type> {
    if let Some(kind) = uuid_type(field.data_type()) {
        return Some(kind);
    }
    let name = field.metadata().get(EXTENSION_TYPE_NAME_KEY)?.strip_prefix(MARK)?;
    let known = MARKED.iter().chain(&ALSO_MARKED).find(|kind| kind.name() == name).cloned();
    known.or_else(|| range_values::of_field(field)).or_else(|| own_types::marked(name))
}

/// Returns the Postgres type as which a column is sent.
pub(crate) fn wire_kind(field: &Field) -> Option<Type> {
    marked(field).or_else(|| Type::from_oid(wire_oid(field)))
}

/// Returns the oid of the Postgres type as which a column is sent.
pub(crate) fn wire_oid(field: &Field) -> u32 {
    if let Some(kind) = marked(field) {
        return kind.oid();
    }
    if length_of(field).is_some() {
        return Type::VARCHAR.oid();
    }
    let field = Arc::new(field.clone().with_data_type(wire_type(field.data_type())));
    field_into_pg_type(&field).map_or_else(|_| Type::TEXT.oid(), |found| found.oid())
}

/// Returns the type as which a column is sent.
fn wire_type(data_type: &DataType) -> DataType {
    use DataType::*;
    let list = |item: &Arc<Field>| {
        let inner = wire_type(item.data_type());
        // Arrays of arrays are lists of lists in Arrow, which need not be rectangular as Postgres' are.
        let nested = matches!(
            item.data_type(),
            List(_) | LargeList(_) | FixedSizeList(..) | ListView(_) | LargeListView(_) | Map(..) | Union(..)
        );
        if nested { Utf8 } else { List(Arc::new(Field::clone(item).with_data_type(inner))) }
    };
    if let Some(element) = nested_array::elements(data_type) {
        return nested_array::flat(wire_type(element));
    }
    match data_type {
        Float16 => Float32,
        Decimal32(precision, scale) | Decimal64(precision, scale) => Decimal128(*precision, *scale),
        Decimal256(precision, scale) if *precision <= 38 => Decimal128(*precision, *scale),
        Decimal256(..) => Utf8,
        uuid if neuroql::is_uuid(uuid) => uuid.clone(),
        FixedSizeBinary(_) => Binary,
        Dictionary(_, value) => wire_type(value),
        RunEndEncoded(_, value) => wire_type(value.data_type()),
        Map(..) | Union(..) => Utf8,
        List(item) | LargeList(item) | FixedSizeList(item, _) | ListView(item) | LargeListView(item) => {
            if wire_type(item.data_type()) == *item.data_type()
                && !matches!(list(item), Utf8)
                && !matches!(data_type, ListView(_) | LargeListView(_))
            {
                data_type.clone()
            } else {
                list(item)
            }
        }
        // A composite value is sent as it is, or as JSON if anything in it is not a plain value.
        Struct(fields) if fields.iter().all(|field| wire_type(field.data_type()) == *field.data_type()) => {
            data_type.clone()
        }
        Struct(_) => Utf8,
        other => other.clone(),
    }
}

/// Converts a batch to the types of its columns on the wire.
fn to_wire(batch: &RecordBatch, fields: &[FieldInfo], objects: &Objects) -> Result<RecordBatch, ArrowError> {
    let mut changed = false;
    let mut columns = Vec::with_capacity(fields.len());
    let mut schema = Vec::with_capacity(fields.len());
    for (index, (column, field)) in batch.columns().iter().zip(batch.schema_ref().fields()).enumerate() {
        let wanted = wire_type(column.data_type());
        let converted = if wanted == *column.data_type() {
            None
        } else if nested_array::elements(column.data_type()).is_some() {
            let is_binary = fields.get(index).is_some_and(|field| field.format() == FieldFormat::Binary);
            let style = fields.get(index).map(|field| DateStyle::read(&field.format_options().date_style));
            if style.is_some_and(|style| style.form != DateForm::Iso) && !is_binary {
                nested_array::check_elements(column.data_type())
                    .map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
            }
            let zone = fields.get(index).map(|field| field.format_options().time_zone.as_str());
            let local = zone.and_then(|zone| neuroql::in_zone(column.data_type(), zone));
            let local = local.map(|local| cast(column, &local)).transpose()?;
            let encoded = nested_array::encoded(local.as_ref().unwrap_or(column), is_binary);
            Some(encoded.map_err(|error| ArrowError::ExternalError(Box::new(error)))?)
        } else if matches!(wanted, DataType::Utf8) && column.data_type().is_nested() {
            Some(json(column)?)
        } else {
            Some(cast(column, &wanted)?)
        };
        let text = fields.get(index).filter(|field| field.format() == FieldFormat::Text);
        let extra_digits = text.map(|field| i32::from(field.format_options().extra_float_digits));
        let spelt = text.zip(extra_digits).and_then(|(field, extra)| {
            let column = converted.as_ref().unwrap_or(column);
            let named = || names_of(column, field.datatype(), objects);
            floats::spell(column, extra)
                .or_else(|| datetime::spell(column, field.format_options()))
                .or_else(|| record::spell(column, field.format_options()))
                .or_else(named)
                .or_else(|| vector(column, field.datatype()))
                .or_else(|| neuroql::uuid_texts(column))
                .or_else(|| decimals(column))
        });
        let external = |error| ArrowError::ExternalError(Box::new(error));
        let spelt = match text.filter(|_| spelt.is_none()) {
            Some(field) => ranges::spell(column, field.datatype(), field.format_options()).map_err(external)?,
            None => spelt,
        };
        let texts = spelt.as_ref().or(converted.as_ref()).unwrap_or(column);
        let arrays = text.and_then(|_| array_of_texts(texts)).map(neuroql::array_texts).transpose();
        let spelt = arrays.map_err(|error| ArrowError::ExternalError(Box::new(error)))?.or(spelt);
        let binary = fields.get(index).filter(|field| field.format() == FieldFormat::Binary);
        let packed = match binary {
            Some(field) => pack(converted.as_ref().unwrap_or(column), field.datatype()).map_err(external)?,
            None => None,
        };
        match spelt.or(packed).or(converted) {
            Some(array) => {
                changed = true;
                let field = Field::clone(field).with_data_type(array.data_type().clone());
                schema.push(Arc::new(field.with_nullable(true)));
                columns.push(array);
            }
            None => {
                let has_nulls = column.null_count() > 0;
                schema.push(match has_nulls && !field.is_nullable() {
                    true => Arc::new(Field::clone(field).with_nullable(true)),
                    false => Arc::clone(field),
                });
                columns.push(Arc::clone(column));
            }
        }
    }
    if !changed {
        return Ok(batch.clone());
    }
    let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(SchemaRef::new(Schema::new(schema)), columns, &options)
}

/// Returns a column if it has arrays of texts, which arrow-pg writes element by element with regular expressions.
fn array_of_texts(column: &ArrayRef) -> Option<&ArrayRef> {
    matches!(column.data_type(), DataType::List(item) if *item.data_type() == DataType::Utf8).then_some(column)
}

/// Returns the names of objects, for the types whose values name objects.
fn names_of(column: &ArrayRef, kind: &Type, objects: &Objects) -> Option<ArrayRef> {
    if let (PgKind::Array(item), Some(lists)) = (kind.kind(), column.as_list_opt::<i32>()) {
        let names = names_of(lists.values(), item, objects)?;
        let field = Arc::new(Field::new_list_field(DataType::Utf8, true));
        return Some(Arc::new(ListArray::new(field, lists.offsets().clone(), names, lists.nulls().cloned())));
    }
    let kind = ObjectKind::of_type(kind)?;
    let numbers = column.as_primitive_opt::<Int32Type>()?;
    let name = |number: Option<i32>| number.map(|number| objects.name(kind, number));
    Some(Arc::new(numbers.iter().map(name).collect::<StringArray>()))
}

/// Writes the values of `int2vector`, which are numbers with blanks between them.
fn vector(column: &ArrayRef, kind: &Type) -> Option<ArrayRef> {
    let lists = column.as_list_opt::<i32>().filter(|_| *kind == Type::INT2_VECTOR)?;
    lists.values().as_primitive_opt::<Int16Type>()?;
    let text = |list: ArrayRef| {
        let numbers = list.as_primitive::<Int16Type>().values().iter().map(ToString::to_string);
        numbers.collect::<Vec<_>>().join(" ")
    };
    Some(Arc::new(lists.iter().map(|list| list.map(text)).collect::<StringArray>()))
}

/// More digits than any decimal has.
const ALL_DIGITS: u8 = 40;

/// Writes decimals, or arrays of them, as text. arrow-pg writes 28 digits, and a zero without those after the point.
fn decimals(column: &ArrayRef) -> Option<ArrayRef> {
    if let Some(lists) = column.as_list_opt::<i32>() {
        let values = decimals(lists.values())?;
        let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        return Some(Arc::new(ListArray::new(field, lists.offsets().clone(), values, lists.nulls().cloned())));
    }
    if !matches!(column.data_type(), DataType::Decimal128(..)) {
        return None;
    }
    let numbers = column.as_primitive::<Decimal128Type>();
    let text = |number| decimal_text(number, numbers.scale());
    Some(Arc::new(numbers.iter().map(|number| number.map(text)).collect::<StringArray>()))
}

/// Writes a decimal with all its digits.
pub(crate) fn decimal_text(number: i128, scale: i8) -> String {
    // Sums may have a digit more than their type, which arrow would leave out at the end.
    Decimal128Type::format_decimal(number, ALL_DIGITS, scale)
}

/// Returns the binary form of `numeric_send` of Postgres: groups of four digits.
pub(super) fn numeric(value: i128, scale: i8) -> Vec<u8> {
    const GROUP: usize = 4;
    let fraction = usize::try_from(scale).unwrap_or(0);
    let whole_zeros = usize::from(scale.min(0).unsigned_abs());
    let digits = format!("{:0>width$}{}", value.unsigned_abs(), "0".repeat(whole_zeros), width = fraction + 1);
    let (whole, rest) = digits.split_at(digits.len() - fraction);
    let before = (GROUP - whole.len() % GROUP) % GROUP;
    let after = (GROUP - rest.len() % GROUP) % GROUP;
    let padded = format!("{}{digits}{}", "0".repeat(before), "0".repeat(after));
    let groups: Vec<i16> =
        (0..padded.len()).step_by(GROUP).map(|at| padded[at..at + GROUP].parse().unwrap_or(0)).collect();
    let leading = groups.iter().take_while(|group| **group == 0).count();
    let trailing = groups.iter().skip(leading).rev().take_while(|group| **group == 0).count();
    let kept = &groups[leading..groups.len() - trailing];
    // A decimal has no more than 38 digits.
    let weight = if kept.is_empty() { 0 } else { (((whole.len() + before) / GROUP) as i16) - 1 - leading as i16 };
    let sign: u16 = if value < 0 { 0x4000 } else { 0 };
    let mut bytes = Vec::with_capacity(8 + 2 * kept.len());
    bytes.extend((kept.len() as i16).to_be_bytes());
    bytes.extend(weight.to_be_bytes());
    bytes.extend(sign.to_be_bytes());
    bytes.extend((fraction as u16).to_be_bytes());
    kept.iter().for_each(|group| bytes.extend(group.to_be_bytes()));
    bytes
}

/// Returns the binary form of values that are kept as text, and of decimals.
///
/// # Errors
/// If a text is no value of its type.
fn pack(column: &ArrayRef, kind: &Type) -> datafusion::error::Result<Option<ArrayRef>> {
    if let (PgKind::Array(item), Some(lists)) = (kind.kind(), column.as_list_opt::<i32>()) {
        let Some(values) = pack(lists.values(), item)? else { return Ok(None) };
        let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        return Ok(Some(Arc::new(ListArray::new(field, lists.offsets().clone(), values, lists.nulls().cloned()))));
    }
    if let DataType::Decimal128(_, scale) = column.data_type() {
        let numbers = column.as_primitive::<Decimal128Type>().iter();
        let numbers = numbers.map(|number| number.map(|number| numeric(number, *scale)));
        return Ok(Some(Arc::new(numbers.collect::<BinaryArray>())));
    }
    if neuroql::is_uuid(column.data_type()) {
        return Ok(Some(Arc::new(column.as_fixed_size_binary().iter().collect::<BinaryArray>())));
    }
    if let Some(packed) = ranges::pack(column, kind)? {
        return Ok(Some(packed));
    }
    if own_types::is_composite(kind) {
        let pack = |text: &str| composite::packed(kind, text).map_err(external);
        let Some(texts) = column.as_string_opt::<i32>() else { return Ok(None) };
        let packed = texts.iter().map(|text| text.map(pack).transpose()).collect::<Result<Vec<_>, _>>()?;
        return Ok(Some(Arc::new(packed.iter().map(Option::as_deref).collect::<BinaryArray>())));
    }
    let bytes = |text: &str| {
        Some(match *kind {
            Type::UUID => {
                let digits: Vec<u8> =
                    text.bytes().filter_map(|letter| Some(char::from(letter).to_digit(16)? as u8)).collect();
                digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
            }
            Type::TIMETZ => decode::datetime::timetz_packed(text)?,
            Type::INET | Type::CIDR | Type::MACADDR => decode::network::packed(kind, text)?,
            // A version number comes before the text.
            _ => [&[1], text.as_bytes()].concat(),
        })
    };
    let is_packed = matches!(*kind, Type::UUID | Type::JSONB | Type::TIMETZ | Type::INET | Type::CIDR | Type::MACADDR);
    let Some(texts) = column.as_string_opt::<i32>().filter(|_| is_packed) else { return Ok(None) };
    let packed = texts.iter().map(|text| match text {
        Some(text) => bytes(text).map(Some),
        None => Some(None),
    });
    let packed: Option<Vec<_>> = packed.collect();
    Ok(packed.map(|packed| Arc::new(packed.iter().map(Option::as_deref).collect::<BinaryArray>()) as ArrayRef))
}

/// Writes each value as JSON.
pub(crate) fn json(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let schema = SchemaRef::new(Schema::new(vec![Field::new("v", column.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::clone(column)])?;
    let mut lines = Vec::new();
    let mut writer: LineDelimitedWriter<_> =
        WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut lines);
    writer.write(&batch)?;
    writer.finish()?;
    drop(writer);
    let text = String::from_utf8(lines).map_err(|error| ArrowError::JsonError(error.to_string()))?;
    // One line a row, `{"v":…}`.
    let values = text.lines().enumerate().map(|(row, line)| {
        let value = line.strip_prefix("{\"v\":").and_then(|rest| rest.strip_suffix('}'));
        value.filter(|_| column.is_valid(row))
    });
    Ok(Arc::new(values.collect::<StringArray>()))
}

/// Encodes the rows of a batch as messages.
pub(crate) fn encode(
    fields: &Arc<Vec<FieldInfo>>,
    batch: &RecordBatch,
    objects: &Objects,
) -> Result<impl Iterator<Item = Result<DataRow, SqlError>> + use<>, SqlError> {
    let batch = to_wire(batch, fields, objects).map_err(datafusion::error::DataFusionError::from)?;
    if batch.num_columns() != fields.len() {
        return Err(SqlError::error("XX000", "internal error: a batch has another number of columns than its plan"));
    }
    let has_empty = |(field, column): (&FieldInfo, &ArrayRef)| {
        let lists = column.as_list_opt::<i32>().filter(|_| field.format() == FieldFormat::Binary);
        lists.is_some_and(|lists| lists.offsets().lengths().any(|length| length == 0))
    };
    let arrays: Vec<bool> = fields.iter().zip(batch.columns()).map(has_empty).collect();
    let has_arrays = arrays.contains(&true);
    let rows = encode_recordbatch(as_encoded(fields, &batch), batch);
    Ok(rows.map(move |row| {
        let row = row.map_err(SqlError::from)?;
        Ok(if has_arrays { empty_without_dimensions(row, &arrays) } else { row })
    }))
}

/// Writes empty arrays of a row without dimensions, as in Postgres: the encoder gives them one of length 0.
fn empty_without_dimensions(row: DataRow, arrays: &[bool]) -> DataRow {
    /// Number of dimensions, which is one; after the flag and the type of the elements, no elements from 1 on.
    const DIMENSION: [u8; 4] = [0, 0, 0, 1];
    const NONE: [u8; 8] = [0, 0, 0, 0, 0, 0, 0, 1];
    let is_empty = |cell: &[u8]| cell.len() == 20 && cell[..4] == DIMENSION && cell[12..] == NONE;
    let mut data = BytesMut::with_capacity(row.data.len());
    let mut rest = &row.data[..];
    for is_array in arrays {
        let Some((length, after)) = rest.split_first_chunk::<4>() else { break };
        // NULL has a length of -1.
        let size = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0).min(after.len());
        let (cell, after) = after.split_at(size);
        if *is_array && is_empty(cell) {
            data.extend_from_slice(&12i32.to_be_bytes());
            data.extend_from_slice(&[0; 8]);
            data.extend_from_slice(&cell[8..12]);
        } else {
            data.extend_from_slice(length);
            data.extend_from_slice(cell);
        }
        rest = after;
    }
    DataRow::new(data, row.field_count)
}

/// Returns the fields by which rows are encoded. Arrays that are text already are sent as text: the encoder of arrays
/// takes a text for an element, and quotes it.
fn as_encoded(fields: &Arc<Vec<FieldInfo>>, batch: &RecordBatch) -> Arc<Vec<FieldInfo>> {
    let is_text = |(field, column): (&FieldInfo, &ArrayRef)| {
        *column.data_type() == DataType::Utf8 && matches!(field.datatype().kind(), PgKind::Array(_))
    };
    if !fields.iter().zip(batch.columns()).any(is_text) {
        return Arc::clone(fields);
    }
    let fields = fields.iter().zip(batch.columns()).map(|(field, column)| match is_text((field, column)) {
        true => FieldInfo::new(field.name().into(), None, None, Type::TEXT, field.format())
            .with_format_options(Arc::clone(field.format_options())),
        false => field.clone(),
    });
    Arc::new(fields.collect())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Decimal256Array, DictionaryArray, Float64Array, MapArray};
    use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
    use datafusion::arrow::datatypes::{Float32Type, i256};

    use super::*;

    /// Returns the rows of one column as text.
    fn text(column: ArrayRef) -> Vec<String> {
        let schema = Schema::new(vec![Field::new("v", column.data_type().clone(), true)]);
        let batch = RecordBatch::try_new(Arc::new(schema.clone()), vec![column]).unwrap();
        let columns = Columns::new(&schema, &ColumnNames::default());
        let fields = columns.describe(&Format::UnifiedText, &Arc::default()).unwrap();
        let row = |row: Result<DataRow, SqlError>| {
            let data = row.unwrap().data;
            String::from_utf8(data[4..].to_vec()).unwrap()
        };
        encode(&fields, &batch, &Objects::default()).unwrap().map(row).collect()
    }

    #[test]
    fn a_description_is_of_its_format_and_options() {
        let columns = Columns::new(&Schema::new(vec![Field::new("v", DataType::Int32, true)]), &ColumnNames::default());
        let (first, second) = (Arc::<FormatOptions>::default(), Arc::<FormatOptions>::default());
        let text = columns.describe(&Format::UnifiedText, &first).unwrap();
        assert!(Arc::ptr_eq(&text, &columns.describe(&Format::UnifiedText, &first).unwrap()));
        let binary = columns.describe(&Format::UnifiedBinary, &first).unwrap();
        assert_eq!((text[0].format(), binary[0].format()), (FieldFormat::Text, FieldFormat::Binary));
        let other = columns.describe(&Format::UnifiedBinary, &second).unwrap();
        assert!(Arc::ptr_eq(other[0].format_options(), &second));
    }

    #[test]
    fn numbers_are_written_as_postgres_writes_them() {
        let values = Float64Array::from(vec![Some(1.5), Some(2.0), Some(f64::INFINITY), Some(1e20), None]);
        assert_eq!(text(Arc::new(values)), ["1.5", "2", "Infinity", "1e+20", ""]);
        let lists = ListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(1.0), None, Some(0.25)])]);
        assert_eq!(text(Arc::new(lists)), ["{1,NULL,0.25}"]);
    }

    /// Checks values as PostgreSQL 15 sends them.
    #[test]
    fn numbers_are_sent_in_groups_of_digits() {
        let words = |value, scale| {
            let bytes = numeric(value, scale);
            bytes.chunks(2).map(|word| i16::from_be_bytes([word[0], word[1]])).collect::<Vec<_>>()
        };
        assert_eq!(words(1, 6), [1, -2, 0, 6, 100]);
        assert_eq!(words(-123_456_789, 2), [3, 1, 0x4000, 2, 123, 4567, 8900]);
        assert_eq!(words(0, 10), [0, 0, 0, 10]);
        assert_eq!(words(15_000_000_000, 10), [2, 0, 0, 10, 1, 5000]);
        assert_eq!(words(-92_233_720_368_547_758_085, 1), [6, 4, 0x4000, 1, 922, 3372, 368, 5477, 5808, 5000]);
    }

    #[test]
    fn nested_lists_become_arrays_and_maps_json() {
        let rows = vec![Some(vec![Some(1), None]), Some(vec![None, Some(4)])];
        let inner: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows));
        let item = Arc::new(Field::new_list_field(inner.data_type().clone(), true));
        let nested = ListArray::new(item, OffsetBuffer::new(ScalarBuffer::from(vec![0, 2])), inner, None);
        assert_eq!(text(Arc::new(nested)), ["{{1,NULL},{NULL,4}}"]);

        let keys = StringArray::from(vec!["a"]);
        let map = MapArray::new_from_strings(["a"].into_iter(), &keys, &[0, 1]).unwrap();
        assert_eq!(text(Arc::new(map)), ["{\"a\":\"a\"}"]);
    }

    #[test]
    fn lists_of_dictionaries_and_wide_decimals_are_cast() {
        let words: DictionaryArray<Int32Type> = ["x", "y", "x"].into_iter().collect();
        let item = Arc::new(Field::new_list_field(words.data_type().clone(), true));
        let list = ListArray::new(item, OffsetBuffer::new(ScalarBuffer::from(vec![0, 3])), Arc::new(words), None);
        assert_eq!(text(Arc::new(list)), ["{x,y,x}"]);
        let wide = Decimal256Array::from(vec![i256::from_i128(12345)]).with_precision_and_scale(50, 2).unwrap();
        assert_eq!(text(Arc::new(wide)), ["123.45"]);
    }
}
