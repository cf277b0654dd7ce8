//! Functions of `json` and `jsonb`, and those that operators, casts and aggregates become.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListArray, StringArray,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};
use datafusion::scalar::ScalarValue;

use super::super::casts::arrow_cast;
use super::super::refusal::refusal;
use super::document::{self, Shape};
use super::value::Json;
use super::{JsonArgument, JsonKind, at, binary, build, documents, no_such_function, sets, texts, value};

/// Greatest number of bytes of a value, as in Postgres.
const LONGEST: usize = (1 << 30) - 1;

/// Greatest number of bytes of the values of a batch, whose offsets have 32 bits.
pub(super) const MOST: usize = i32::MAX as usize;

/// Task of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Task {
    /// `->` and `->>`, of the type of the value.
    Get {
        as_text: bool,
    },
    /// `#>` and `#>>`.
    GetPath {
        as_text: bool,
    },
    /// `json_extract_path` and its like.
    Extract {
        kind: JsonKind,
        as_text: bool,
    },
    TypeOf(JsonKind),
    ArrayLength(JsonKind),
    /// `@>`, or `<@` if `within`.
    Contains {
        within: bool,
    },
    /// `?`.
    Exists,
    /// `?|`, or `?&` if `all`.
    ExistsAmong {
        all: bool,
    },
    Set,
    /// `||`.
    Concat,
    /// `-` of a key or a place.
    Delete,
    /// `-` of several keys.
    DeleteKeys,
    /// `#-`.
    DeletePath,
    StripNulls(JsonKind),
    /// The rows of `json_array_elements` and its like, as an array.
    Items {
        kind: JsonKind,
        as_text: bool,
    },
    /// Those of `json_object_keys`.
    ObjectKeys(JsonKind),
    /// The values of `json_each` and its like.
    ObjectValues {
        kind: JsonKind,
        as_text: bool,
    },
    /// Any value as JSON.
    From(JsonKind),
    BuildObject(JsonKind),
    BuildArray(JsonKind),
    RowToJson,
    /// A value as text, for an aggregate.
    Element,
    /// The array of an aggregate's texts.
    Collect(JsonKind),
    /// A text that equal values have in common.
    Key,
    /// A number as text; for a cast to the type of this name.
    Number(&'static str),
    Boolean,
    /// The same value under a field of the type.
    Typed(JsonKind),
    /// The value that a text is, or one of the other type.
    Read(JsonKind),
}

impl Task {
    /// Returns what the function takes.
    pub(super) fn arguments(self) -> Vec<JsonArgument> {
        use JsonArgument::{Any, Boolean, Either, Key, Of, Text, Texts};
        let jsonb = Of(JsonKind::Jsonb);
        match self {
            Self::Get { .. } => vec![Either, Key],
            Self::GetPath { .. } => vec![Either, Texts],
            Self::Extract { kind, .. } => vec![Of(kind), Text],
            Self::TypeOf(kind)
            | Self::ArrayLength(kind)
            | Self::StripNulls(kind)
            | Self::Items { kind, .. }
            | Self::ObjectKeys(kind)
            | Self::ObjectValues { kind, .. }
            | Self::Typed(kind) => vec![Of(kind)],
            Self::Contains { .. } | Self::Concat => vec![jsonb, jsonb],
            Self::Delete => vec![jsonb, Key],
            Self::DeleteKeys | Self::DeletePath => vec![jsonb, Texts],
            Self::Exists => vec![jsonb, Text],
            Self::ExistsAmong { .. } => vec![jsonb, Texts],
            Self::Set => vec![jsonb, Texts, jsonb, Boolean],
            Self::Key | Self::Number(_) | Self::Boolean => vec![jsonb],
            Self::From(_)
            | Self::BuildObject(_)
            | Self::BuildArray(_)
            | Self::RowToJson
            | Self::Element
            | Self::Collect(_)
            | Self::Read(_) => vec![Any],
        }
    }

    /// Returns the operator that is planned as the function.
    pub(super) fn operator(self) -> Option<&'static str> {
        match self {
            Self::Get { as_text: false } => Some("->"),
            Self::Get { as_text: true } => Some("->>"),
            Self::GetPath { as_text: false } => Some("#>"),
            Self::GetPath { as_text: true } => Some("#>>"),
            Self::Contains { within: false } => Some("@>"),
            Self::Contains { within: true } => Some("<@"),
            Self::Exists => Some("?"),
            Self::ExistsAmong { all: false } => Some("?|"),
            Self::ExistsAmong { all: true } => Some("?&"),
            Self::Concat => Some("||"),
            Self::Delete | Self::DeleteKeys => Some("-"),
            Self::DeletePath => Some("#-"),
            _ => None,
        }
    }

    /// Returns true if there are values that the function refuses, from which a condition may keep it away.
    pub(super) fn may_refuse(self) -> bool {
        matches!(
            self,
            Self::ArrayLength(_)
                | Self::Contains { .. }
                | Self::Set
                | Self::Delete
                | Self::DeleteKeys
                | Self::DeletePath
                | Self::Items { .. }
                | Self::ObjectKeys(_)
                | Self::ObjectValues { .. }
                | Self::BuildObject(_)
                | Self::Number(_)
                | Self::Boolean
                | Self::Read(_)
        )
    }

    fn name(self) -> &'static str {
        use JsonKind::{Json, Jsonb};
        match self {
            Self::Get { as_text: false } => "pg_json_get",
            Self::Get { as_text: true } => "pg_json_get_text",
            Self::GetPath { as_text: false } => "pg_json_get_path",
            Self::GetPath { as_text: true } => "pg_json_get_path_text",
            Self::Extract { kind: Json, as_text: false } => "json_extract_path",
            Self::Extract { kind: Json, as_text: true } => "json_extract_path_text",
            Self::Extract { kind: Jsonb, as_text: false } => "jsonb_extract_path",
            Self::Extract { kind: Jsonb, as_text: true } => "jsonb_extract_path_text",
            Self::TypeOf(Json) => "json_typeof",
            Self::TypeOf(Jsonb) => "jsonb_typeof",
            Self::ArrayLength(Json) => "json_array_length",
            Self::ArrayLength(Jsonb) => "jsonb_array_length",
            Self::Contains { within: false } => "jsonb_contains",
            Self::Contains { within: true } => "jsonb_contained",
            Self::Exists => "jsonb_exists",
            Self::ExistsAmong { all: false } => "jsonb_exists_any",
            Self::ExistsAmong { all: true } => "jsonb_exists_all",
            Self::Set => "jsonb_set",
            Self::Concat => "jsonb_concat",
            Self::Delete => "pg_jsonb_delete",
            Self::DeleteKeys => "pg_jsonb_delete_keys",
            Self::DeletePath => "jsonb_delete_path",
            Self::StripNulls(Json) => "json_strip_nulls",
            Self::StripNulls(Jsonb) => "jsonb_strip_nulls",
            Self::Items { kind: Json, as_text: false } => "pg_json_array_elements",
            Self::Items { kind: Json, as_text: true } => "pg_json_array_elements_text",
            Self::Items { kind: Jsonb, as_text: false } => "pg_jsonb_array_elements",
            Self::Items { kind: Jsonb, as_text: true } => "pg_jsonb_array_elements_text",
            Self::ObjectKeys(Json) => "pg_json_object_keys",
            Self::ObjectKeys(Jsonb) => "pg_jsonb_object_keys",
            Self::ObjectValues { kind: Json, as_text: false } => "pg_json_each",
            Self::ObjectValues { kind: Json, as_text: true } => "pg_json_each_text",
            Self::ObjectValues { kind: Jsonb, as_text: false } => "pg_jsonb_each",
            Self::ObjectValues { kind: Jsonb, as_text: true } => "pg_jsonb_each_text",
            Self::From(Json) => "to_json",
            Self::From(Jsonb) => "to_jsonb",
            Self::BuildObject(Json) => "json_build_object",
            Self::BuildObject(Jsonb) => "jsonb_build_object",
            Self::BuildArray(Json) => "json_build_array",
            Self::BuildArray(Jsonb) => "jsonb_build_array",
            Self::RowToJson => "row_to_json",
            Self::Element => "pg_json_element",
            Self::Collect(Json) => "pg_json_collect",
            Self::Collect(Jsonb) => "pg_jsonb_collect",
            Self::Key => "pg_jsonb_key",
            Self::Number(_) => "pg_jsonb_number",
            Self::Boolean => "pg_jsonb_boolean",
            Self::Typed(Json) => "pg_json",
            Self::Typed(Jsonb) => "pg_jsonb",
            Self::Read(Json) => "pg_json_in",
            Self::Read(Jsonb) => "pg_jsonb_in",
        }
    }

    fn signature(self) -> Signature {
        let of = |signature| Signature::new(signature, Volatility::Immutable);
        match self {
            Self::Extract { .. } => of(TypeSignature::VariadicAny),
            // They have no arguments, or any.
            Self::BuildObject(_) | Self::BuildArray(_) => {
                of(TypeSignature::OneOf(vec![TypeSignature::Nullary, TypeSignature::VariadicAny]))
            }
            Self::Set => of(TypeSignature::OneOf(vec![TypeSignature::Any(3), TypeSignature::Any(4)])),
            Self::Get { .. }
            | Self::GetPath { .. }
            | Self::Contains { .. }
            | Self::Concat
            | Self::Delete
            | Self::DeleteKeys
            | Self::DeletePath
            | Self::Exists
            | Self::ExistsAmong { .. } => of(TypeSignature::Any(2)),
            _ => of(TypeSignature::Any(1)),
        }
    }

    /// Returns the type of the values.
    fn field(self, arguments: &[FieldRef]) -> FieldRef {
        let plain = |data_type: DataType| Arc::new(Field::new(self.name(), data_type, true));
        match self {
            Self::Get { as_text: false } | Self::GetPath { as_text: false } => {
                match arguments.first().and_then(|value| JsonKind::of(value)) {
                    Some(kind) => kind.field(self.name()),
                    None => plain(DataType::Utf8),
                }
            }
            Self::Extract { kind, as_text: false }
            | Self::From(kind)
            | Self::BuildObject(kind)
            | Self::BuildArray(kind)
            | Self::Collect(kind)
            | Self::StripNulls(kind)
            | Self::Typed(kind)
            | Self::Read(kind) => kind.field(self.name()),
            Self::Set | Self::Concat | Self::Delete | Self::DeleteKeys | Self::DeletePath => {
                JsonKind::Jsonb.field(self.name())
            }
            Self::Items { .. } | Self::ObjectKeys(_) | Self::ObjectValues { .. } => {
                plain(DataType::new_list(DataType::Utf8, true))
            }
            Self::RowToJson => JsonKind::Json.field(self.name()),
            Self::ArrayLength(_) => plain(DataType::Int32),
            Self::Contains { .. } | Self::Exists | Self::ExistsAmong { .. } | Self::Boolean => plain(DataType::Boolean),
            Self::Get { .. }
            | Self::GetPath { .. }
            | Self::Extract { .. }
            | Self::TypeOf(_)
            | Self::Element
            | Self::Key
            | Self::Number(_) => plain(DataType::Utf8),
        }
    }

    fn evaluate(self, columns: &[ArrayRef], fields: &[FieldRef], rows: usize) -> Result<ArrayRef> {
        let name = self.name();
        let document = |place: usize, kind| documents(name, argument(columns, place)?, argument(fields, place)?, kind);
        let jsonb = |place| document(place, JsonKind::Jsonb);
        match self {
            Self::Get { as_text } => {
                let kind = fields.first().and_then(|value| JsonKind::of(value)).unwrap_or(JsonKind::Json);
                let (values, keys) = (document(0, kind)?, Keys::of(name, argument(columns, 1)?)?);
                text_of_rows(rows, |row| {
                    let Some(value) = at(&values, row) else { return Ok(None) };
                    if kind == JsonKind::Json {
                        document::check_escapes(value)?;
                    }
                    found(keys.part(value, row, kind)?, as_text)
                })
            }
            Self::GetPath { as_text } => {
                let kind = fields.first().and_then(|value| JsonKind::of(value)).unwrap_or(JsonKind::Json);
                let (values, paths) = (document(0, kind)?, Paths::of(name, argument(columns, 1)?)?);
                text_of_rows(rows, |row| {
                    let (Some(value), Some(path)) = (at(&values, row), paths.at(row)) else { return Ok(None) };
                    at_path(kind, value, &path, as_text)
                })
            }
            Self::Extract { kind, as_text } => {
                if columns.len() < 2 {
                    return Err(refusal("42883", format!("function {name} does not exist for one argument")));
                }
                let values = document(0, kind)?;
                let steps = columns.iter().skip(1).map(|column| texts(name, column)).collect::<Result<Vec<_>>>()?;
                text_of_rows(rows, |row| {
                    let Some(value) = at(&values, row) else { return Ok(None) };
                    let path: Vec<Option<&str>> = steps.iter().map(|step| at(step, row)).collect();
                    at_path(kind, value, &path, as_text)
                })
            }
            Self::TypeOf(kind) => {
                let values = document(0, kind)?;
                let shapes = values.iter().map(|value| value.map(|value| document::shape(value).name()));
                Ok(Arc::new(shapes.collect::<StringArray>()))
            }
            Self::ArrayLength(kind) => {
                let values = document(0, kind)?;
                let lengths = values.iter().map(|value| value.map(array_length).transpose());
                Ok(Arc::new(lengths.collect::<Result<Int32Array>>()?))
            }
            Self::Contains { within } => {
                let (left, right) = (jsonb(0)?, jsonb(1)?);
                truths(rows, |row| match (at(&left, row), at(&right, row)) {
                    (Some(left), Some(right)) if within => binary::contains(right, left).map(Some),
                    (Some(left), Some(right)) => binary::contains(left, right).map(Some),
                    _ => Ok(None),
                })
            }
            Self::Exists => {
                let (values, keys) = (jsonb(0)?, texts(name, argument(columns, 1)?)?);
                truths(rows, |row| match (at(&values, row), at(&keys, row)) {
                    (Some(value), Some(key)) => Ok(Some(binary::exists(&Json::read(value)?, key))),
                    _ => Ok(None),
                })
            }
            Self::ExistsAmong { all } => {
                let (values, keys) = (jsonb(0)?, Paths::of(name, argument(columns, 1)?)?);
                truths(rows, |row| {
                    let (Some(value), Some(keys)) = (at(&values, row), keys.at(row)) else { return Ok(None) };
                    let value = Json::read(value)?;
                    // A NULL is no key, and is passed over.
                    let mut keys = keys.into_iter().flatten();
                    let exists = |key: &str| binary::exists(&value, key);
                    Ok(Some(if all { keys.all(exists) } else { keys.any(exists) }))
                })
            }
            Self::Set => {
                let (values, paths, new) = (jsonb(0)?, Paths::of(name, argument(columns, 1)?)?, jsonb(2)?);
                let create = columns.get(3).map(|create| arrow_cast(create, &DataType::Boolean)).transpose()?;
                let create = create.as_ref().map(|create| create.as_boolean());
                text_of_rows(rows, |row| {
                    let create = match create {
                        Some(create) if create.is_null(row) => return Ok(None),
                        Some(create) => create.value(row),
                        None => true,
                    };
                    match (at(&values, row), paths.at(row), at(&new, row)) {
                        (Some(value), Some(path), Some(new)) => binary::set(value, &path, new, create).map(Some),
                        _ => Ok(None),
                    }
                })
            }
            Self::Concat => {
                let (left, right) = (jsonb(0)?, jsonb(1)?);
                text_of_rows(rows, |row| match (at(&left, row), at(&right, row)) {
                    (Some(left), Some(right)) => binary::concat(left, right).map(Some),
                    _ => Ok(None),
                })
            }
            Self::Delete => {
                let (values, keys) = (jsonb(0)?, Keys::of(name, argument(columns, 1)?)?);
                text_of_rows(rows, |row| {
                    let Some(value) = at(&values, row) else { return Ok(None) };
                    match &keys {
                        Keys::Texts(keys) => at(keys, row).map(|key| binary::delete_keys(value, &[key])).transpose(),
                        Keys::Places(places) if places.is_null(row) => Ok(None),
                        Keys::Places(places) => binary::delete_place(value, places.value(row)).map(Some),
                    }
                })
            }
            Self::DeleteKeys => {
                let (values, keys) = (jsonb(0)?, Paths::of(name, argument(columns, 1)?)?);
                text_of_rows(rows, |row| {
                    let (Some(value), Some(keys)) = (at(&values, row), keys.at(row)) else { return Ok(None) };
                    let keys: Vec<&str> = keys.into_iter().flatten().collect();
                    binary::delete_keys(value, &keys).map(Some)
                })
            }
            Self::DeletePath => {
                let (values, paths) = (jsonb(0)?, Paths::of(name, argument(columns, 1)?)?);
                text_of_rows(rows, |row| match (at(&values, row), paths.at(row)) {
                    (Some(value), Some(path)) => binary::delete_path(value, &path).map(Some),
                    _ => Ok(None),
                })
            }
            Self::StripNulls(kind) => {
                let values = document(0, kind)?;
                text_of_rows(rows, |row| at(&values, row).map(|value| sets::without_nulls(kind, value)).transpose())
            }
            Self::Items { kind, as_text } => {
                let values = document(0, kind)?;
                sets::lists(rows, |row| at(&values, row).map(|value| sets::items(kind, value, as_text)).transpose())
            }
            Self::ObjectKeys(kind) => {
                let values = document(0, kind)?;
                sets::lists(rows, |row| at(&values, row).map(|value| sets::keys(kind, value)).transpose())
            }
            Self::ObjectValues { kind, as_text } => {
                let values = document(0, kind)?;
                sets::lists(rows, |row| at(&values, row).map(|value| sets::values(kind, value, as_text)).transpose())
            }
            Self::From(kind) => {
                let written = build::Writer::of(argument(columns, 0)?, argument(fields, 0)?)?;
                text_of_rows(rows, |row| match written.is_null(row) {
                    true => Ok(None),
                    false => build::finished(kind, written.written(row)?).map(Some),
                })
            }
            Self::RowToJson => match argument(columns, 0)?.data_type() {
                DataType::Struct(_) | DataType::Null => Self::From(JsonKind::Json).evaluate(columns, fields, rows),
                other => Err(no_such_function(name, other)),
            },
            Self::BuildArray(kind) => build::arrays(kind, columns, fields, rows),
            Self::BuildObject(kind) => build::objects(name, kind, columns, fields, rows),
            Self::Element => build::elements(argument(columns, 0)?, argument(fields, 0)?, rows),
            Self::Collect(kind) => {
                let lists = Paths::of(name, argument(columns, 0)?)?;
                text_of_rows(rows, |row| match lists.at(row) {
                    Some(texts) => build::collected(kind, &texts).map(Some),
                    None => Ok(None),
                })
            }
            Self::Key => {
                let values = jsonb(0)?;
                text_of_rows(rows, |row| at(&values, row).map(value::key).transpose())
            }
            Self::Number(to) => {
                let values = jsonb(0)?;
                text_of_rows(rows, |row| match at(&values, row) {
                    Some(value) if document::shape(value) == Shape::Number => Ok(Some(value.to_owned())),
                    Some(value) => Err(no_cast(value, to)),
                    None => Ok(None),
                })
            }
            Self::Boolean => {
                let values = jsonb(0)?;
                truths(rows, |row| match at(&values, row) {
                    Some(value) if document::shape(value) == Shape::Boolean => Ok(Some(value == "true")),
                    Some(value) => Err(no_cast(value, "boolean")),
                    None => Ok(None),
                })
            }
            Self::Typed(_) => Ok(Arc::new(texts(name, argument(columns, 0)?)?)),
            Self::Read(kind) => Ok(Arc::new(document(0, kind)?)),
        }
    }
}

fn argument<T>(arguments: &[T], place: usize) -> Result<&T> {
    let missing = || datafusion::error::DataFusionError::Internal("a function of JSON lacks an argument".into());
    arguments.get(place).ok_or_else(missing)
}

/// Returns the texts of rows.
///
/// # Errors
/// 54000 if they are longer than a value or a column of a batch may be.
pub(in super::super) fn text_of_rows(
    rows: usize,
    mut text: impl FnMut(usize) -> Result<Option<String>>,
) -> Result<ArrayRef> {
    let mut all = 0;
    let text = |row| {
        let text = text(row)?;
        let length = text.as_ref().map_or(0, String::len);
        all += length;
        if length > LONGEST || all > MOST {
            return Err(refusal("54000", "requested length too large"));
        }
        Ok(text)
    };
    Ok(Arc::new((0..rows).map(text).collect::<Result<StringArray>>()?))
}

fn truths(rows: usize, truth: impl FnMut(usize) -> Result<Option<bool>>) -> Result<ArrayRef> {
    Ok(Arc::new((0..rows).map(truth).collect::<Result<BooleanArray>>()?))
}

/// Returns a part that was found, as a value or its text.
fn found(part: Option<&str>, as_text: bool) -> Result<Option<String>> {
    match part {
        Some(part) if as_text => document::text_of(part),
        part => Ok(part.map(str::to_owned)),
    }
}

fn at_path(kind: JsonKind, value: &str, path: &[Option<&str>], as_text: bool) -> Result<Option<String>> {
    // A path with NULL leads nowhere.
    let Some(path) = path.iter().copied().collect::<Option<Vec<&str>>>() else { return Ok(None) };
    if kind == JsonKind::Json {
        document::check_escapes(value)?;
    }
    found(document::at_path(value, &path)?, as_text)
}

fn array_length(value: &str) -> Result<i32> {
    match document::shape(value) {
        Shape::Array => Ok(i32::try_from(document::items(value)?.len()).unwrap_or(i32::MAX)),
        Shape::Object => Err(refusal("22023", "cannot get array length of a non-array")),
        _ => Err(refusal("22023", "cannot get array length of a scalar")),
    }
}

fn no_cast(value: &str, to: &str) -> datafusion::error::DataFusionError {
    let what = match document::shape(value) {
        Shape::Number => "numeric",
        other => other.name(),
    };
    refusal("22023", format!("cannot cast jsonb {what} to type {to}"))
}

/// Keys of objects, or places in arrays.
enum Keys {
    Texts(StringArray),
    Places(Int64Array),
}

impl Keys {
    fn of(function: &str, column: &ArrayRef) -> Result<Self> {
        match column.data_type() {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                Ok(Self::Places(arrow_cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone()))
            }
            _ => Ok(Self::Texts(texts(function, column)?)),
        }
    }

    fn part<'a>(&self, value: &'a str, row: usize, kind: JsonKind) -> Result<Option<&'a str>> {
        match self {
            Self::Texts(keys) => match at(keys, row) {
                Some(key) => document::member(value, key),
                None => Ok(None),
            },
            Self::Places(places) if places.is_null(row) => Ok(None),
            Self::Places(places) => match document::shape(value) {
                // A `jsonb` by itself is an array of itself.
                Shape::Array | Shape::Object => document::item(value, places.value(row)),
                _ => Ok(Some(value).filter(|_| kind == JsonKind::Jsonb && matches!(places.value(row), 0 | -1))),
            },
        }
    }
}

/// Arrays of texts.
struct Paths {
    lists: ListArray,
    texts: StringArray,
}

impl Paths {
    fn of(function: &str, column: &ArrayRef) -> Result<Self> {
        let item = || DataType::new_list(DataType::Utf8, true);
        let lists = match column.data_type() {
            DataType::List(items) if items.data_type().is_string() || items.data_type().is_null() => {
                arrow_cast(column, &item())?
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                let lists = super::super::casts::from_text(&arrow_cast(column, &DataType::Utf8)?, &item())?;
                lists.ok_or_else(|| no_such_function(function, column.data_type()))?
            }
            DataType::Null => arrow_cast(column, &item())?,
            other => return Err(no_such_function(function, other)),
        };
        let lists = lists.as_list::<i32>().clone();
        let texts = texts(function, lists.values())?;
        Ok(Self { lists, texts })
    }

    fn at(&self, row: usize) -> Option<Vec<Option<&str>>> {
        if self.lists.is_null(row) {
            return None;
        }
        let ends = self.lists.value_offsets();
        let places = usize::try_from(ends[row]).unwrap_or(0)..usize::try_from(ends[row + 1]).unwrap_or(0);
        Some(places.map(|place| at(&self.texts, place)).collect())
    }
}

/// One of the functions.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct JsonFunction {
    task: Task,
    signature: Signature,
}

impl JsonFunction {
    fn udf(task: Task) -> ScalarUDF {
        ScalarUDF::from(Self { task, signature: task.signature() })
    }

    pub(super) fn call(task: Task, args: Vec<Expr>) -> Expr {
        Self::udf(task).call(args)
    }

    pub(super) fn task(&self) -> Task {
        self.task
    }
}

/// Returns the functions that are called by their names.
pub(super) fn named() -> Vec<ScalarUDF> {
    let of_kind = |kind| {
        [
            Task::Extract { kind, as_text: false },
            Task::Extract { kind, as_text: true },
            Task::TypeOf(kind),
            Task::ArrayLength(kind),
            Task::From(kind),
            Task::BuildObject(kind),
            Task::BuildArray(kind),
            Task::StripNulls(kind),
            Task::Items { kind, as_text: false },
            Task::Items { kind, as_text: true },
            Task::ObjectKeys(kind),
            Task::ObjectValues { kind, as_text: false },
            Task::ObjectValues { kind, as_text: true },
        ]
    };
    let others = [
        Task::Contains { within: false },
        Task::Contains { within: true },
        Task::Exists,
        Task::ExistsAmong { all: false },
        Task::ExistsAmong { all: true },
        Task::Set,
        Task::Concat,
        Task::DeletePath,
        Task::RowToJson,
    ];
    let all = of_kind(JsonKind::Json).into_iter().chain(of_kind(JsonKind::Jsonb)).chain(others);
    all.map(JsonFunction::udf).collect()
}

impl ScalarUDFImpl for JsonFunction {
    fn name(&self) -> &str {
        self.task.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.task.field(&[]).data_type().clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(self.task.field(args.arg_fields))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let columns = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let values = self.task.evaluate(&columns, &args.arg_fields, rows)?;
        match is_scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)),
            false => Ok(ColumnarValue::Array(values)),
        }
    }
}
