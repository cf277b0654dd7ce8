//! Functions with the overloads that PostgreSQL has: which types they take and give, and how a batch is computed.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, StringArray};
use datafusion::arrow::datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, IntervalUnit, TimeUnit};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::casts::arrow_cast;
use super::refusal::{refusal, type_name};
use super::types::UNCONSTRAINED;

/// Key of the metadata of an array of arrays of which each is the value of a row.
const ROWS: &str = "neuroql.rows";

/// Returns true if each element of a column's arrays is the value of a row, though it is an array.
pub(super) fn has_rows(field: &Field) -> bool {
    field.metadata().contains_key(ROWS)
}

/// A type of an argument or a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Integer,
    Bigint,
    Double,
    /// `numeric`, an argument of any precision.
    Numeric,
    /// `numeric` without digits after the point.
    Whole,
    Text,
    Bytes,
    Date,
    Time,
    Timestamp,
    /// A `timestamptz`, an argument in any zone.
    Instant,
    Interval,
    /// An array of texts.
    Texts,
    /// An array of arrays of texts.
    TextLists,
    /// A value of any type as text.
    Shown,
    /// A value of any type, as it is.
    Any,
    /// An array of any type, as it is.
    Array,
}

impl Kind {
    /// Returns the type.
    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int32,
            Self::Bigint => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Numeric => DataType::Decimal128(UNCONSTRAINED.0, UNCONSTRAINED.1),
            Self::Whole => DataType::Decimal128(38, 0),
            Self::Text | Self::Shown => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Nanosecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Nanosecond, None),
            Self::Instant => DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into())),
            Self::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            Self::Texts => DataType::new_list(DataType::Utf8, true),
            Self::TextLists => DataType::new_list(DataType::new_list(DataType::Utf8, true), true),
            Self::Any | Self::Array => DataType::Null,
        }
    }

    /// Returns the type that an argument is cast to, and whether it is of this type already; `None` if Postgres has no implicit
    /// cast. A text stands for a constant of a type that is not known.
    fn taken(self, given: &DataType) -> Option<(DataType, bool)> {
        let own = self.data_type();
        let is_text = given.is_string();
        let is_integer = matches!(given, DataType::Int16 | DataType::Int32 | DataType::Int64);
        let is_number = is_integer || given.is_decimal() || given.is_floating();
        let fits = match (self, given) {
            (Self::Any, given) | (Self::Array, given @ DataType::List(_)) => return Some((given.clone(), true)),
            (_, DataType::Null) | (Self::Shown, _) => true,
            (Self::Instant, DataType::Timestamp(_, Some(_))) => return Some((given.clone(), true)),
            (Self::Numeric, DataType::Decimal128(..)) => return Some((given.clone(), true)),
            (Self::Numeric, _) if is_integer => return Some((DataType::Decimal128(20, 0), false)),
            // A number of a statement is a `bigint` here, whatever its size.
            (Self::Integer | Self::Bigint, _) => is_integer,
            (Self::Double, _) => is_number,
            (Self::Text, _) => is_text,
            (Self::Bytes, _) => given.is_binary() || is_text,
            (Self::Date, DataType::Date32) | (Self::Time, DataType::Time64(_)) => true,
            (Self::Timestamp, DataType::Timestamp(_, None) | DataType::Date32) => true,
            (Self::Interval, DataType::Interval(_)) => true,
            (Self::Date | Self::Time | Self::Timestamp | Self::Interval, _) => is_text,
            (Self::Texts, DataType::List(item)) => item.data_type().is_string() || item.data_type().is_null(),
            _ => *given == own,
        };
        fits.then(|| (own.clone(), *given == own))
    }
}

/// Types that a function takes and gives.
#[derive(Debug)]
pub(super) struct Form {
    /// The types of its arguments; of one that takes any number of further ones, too, the last is theirs.
    pub(super) takes: &'static [Kind],
    pub(super) gives: Kind,
    pub(super) compute: fn(&Columns) -> Result<ArrayRef>,
}

/// The arguments of a batch.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) columns: Vec<ArrayRef>,
    pub(super) rows: usize,
}

impl Columns {
    pub(super) fn primitive<T: ArrowPrimitiveType>(&self, place: usize) -> &PrimitiveArray<T> {
        self.columns[place].as_primitive()
    }

    pub(super) fn texts(&self, place: usize) -> &StringArray {
        self.columns[place].as_string()
    }

    /// Returns the text of a row; `None` if it is NULL.
    pub(super) fn text(&self, place: usize, row: usize) -> Option<&str> {
        let texts = self.texts(place);
        texts.is_valid(row).then(|| texts.value(row))
    }

    /// Computes the rows in which no argument is NULL.
    pub(super) fn each<V>(&self, mut compute: impl FnMut(usize) -> Result<V>) -> Result<Vec<Option<V>>> {
        let is_valid = |row: usize| self.columns.iter().all(|column| column.is_valid(row));
        (0..self.rows).map(|row| is_valid(row).then(|| compute(row)).transpose()).collect()
    }

    /// Computes a column of numbers.
    pub(super) fn numbers<T: ArrowPrimitiveType>(
        &self,
        compute: impl FnMut(usize) -> Result<T::Native>,
    ) -> Result<ArrayRef> {
        Ok(Arc::new(PrimitiveArray::<T>::from_iter(self.each(compute)?)))
    }

    /// Computes a column of truth values.
    pub(super) fn truths(&self, compute: impl FnMut(usize) -> Result<bool>) -> Result<ArrayRef> {
        Ok(Arc::new(BooleanArray::from_iter(self.each(compute)?)))
    }

    /// Computes a column of texts.
    pub(super) fn strings(&self, compute: impl FnMut(usize) -> Result<String>) -> Result<ArrayRef> {
        texts_of(self.each(compute)?)
    }
}

/// Returns a column of texts, which have no more than 2 GB together.
pub(super) fn texts_of(texts: Vec<Option<String>>) -> Result<ArrayRef> {
    let bytes: usize = texts.iter().flatten().map(String::len).sum();
    if i32::try_from(bytes).is_err() {
        return Err(refusal("54000", "requested length too large"));
    }
    Ok(Arc::new(StringArray::from_iter(texts)))
}

/// A function with overloads.
#[derive(Debug)]
pub(super) struct Overloaded {
    name: &'static str,
    forms: &'static [Form],
    /// True if it is NULL where an argument is.
    is_strict: bool,
    /// True if its last argument may be repeated.
    is_variadic: bool,
    signature: Signature,
}

impl PartialEq for Overloaded {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.signature == other.signature
    }
}

impl Eq for Overloaded {}

impl Hash for Overloaded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl Overloaded {
    fn of(name: &'static str, forms: &'static [Form]) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Self { name, forms, is_strict: true, is_variadic: false, signature }
    }

    /// Creates a function that is NULL where an argument is.
    pub(super) fn strict(name: &'static str, forms: &'static [Form]) -> ScalarUDF {
        ScalarUDF::from(Self::of(name, forms))
    }

    /// Creates a function that is NULL where an argument is, and whose value depends on the time or the zone of the session.
    pub(super) fn stable(name: &'static str, forms: &'static [Form]) -> ScalarUDF {
        let signature = Signature::user_defined(Volatility::Stable);
        ScalarUDF::from(Self { signature, ..Self::of(name, forms) })
    }

    /// Creates a function that sees NULL.
    pub(super) fn lenient(name: &'static str, forms: &'static [Form]) -> ScalarUDF {
        ScalarUDF::from(Self { is_strict: false, ..Self::of(name, forms) })
    }

    /// Creates a function that sees NULL and takes any number of arguments of the last type.
    pub(super) fn variadic(name: &'static str, forms: &'static [Form]) -> ScalarUDF {
        ScalarUDF::from(Self { is_strict: false, is_variadic: true, ..Self::of(name, forms) })
    }

    /// Returns the form with the most arguments that need no cast, and the types that they are cast to.
    fn selected(&self, given: &[DataType]) -> Result<(&'static Form, Vec<DataType>)> {
        let mut best: Option<(usize, &'static Form, Vec<DataType>)> = None;
        for form in self.forms {
            let has_count = match self.is_variadic {
                true => given.len() >= form.takes.len(),
                false => given.len() == form.takes.len(),
            };
            let (Some(last), true) = (form.takes.last(), has_count) else { continue };
            let kinds = form.takes.iter().chain(std::iter::repeat(last));
            let taken: Option<Vec<_>> = given.iter().zip(kinds).map(|(given, kind)| kind.taken(given)).collect();
            let Some(taken) = taken else { continue };
            let exact = taken.iter().filter(|(_, is_exact)| *is_exact).count();
            if best.as_ref().is_none_or(|(most, ..)| exact > *most) {
                best = Some((exact, form, taken.into_iter().map(|(data_type, _)| data_type).collect()));
            }
        }
        best.map(|(_, form, types)| (form, types)).ok_or_else(|| {
            let types = given.iter().map(type_name).collect::<Vec<_>>().join(", ");
            refusal("42883", format!("function {}({types}) does not exist", self.name))
        })
    }
}

impl ScalarUDFImpl for Overloaded {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        // The planner would wrap an error of this method; that of the result's type goes as it is.
        Ok(self.selected(given).map_or_else(|_| given.to_vec(), |(_, types)| types))
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(self.selected(given)?.0.gives.data_type())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let (form, _) = self.selected(&types)?;
        let field = Field::new(self.name(), form.gives.data_type(), true);
        Ok(Arc::new(match form.gives {
            Kind::TextLists => field.with_metadata([(ROWS.to_owned(), String::new())].into()),
            _ => field,
        }))
    }

    fn is_strict(&self) -> bool {
        self.is_strict
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // The optimizer asks what becomes of NULL, which has no type then.
        if self.is_strict && args.args.iter().any(|value| value.data_type().is_null()) {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(args.return_field.data_type())?));
        }
        let is_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let given: Vec<_> = args.args.iter().map(ColumnarValue::data_type).collect();
        let (form, types) = self.selected(&given)?;
        let columns = args.args.iter().zip(types).map(|(value, data_type)| {
            let column = value.to_array(rows)?;
            if *column.data_type() == data_type { Ok(column) } else { arrow_cast(&column, &data_type) }
        });
        let found = (form.compute)(&Columns { columns: columns.collect::<Result<_>>()?, rows })?;
        if found.len() != rows {
            return exec_err!("{} has {} values for {rows} rows", self.name, found.len());
        }
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?),
            false => ColumnarValue::Array(found),
        })
    }
}

/// A function of Postgres that is not supported.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Refused {
    name: &'static str,
    why: &'static str,
    signature: Signature,
}

impl Refused {
    /// Creates a function whose calls fail with 0A000.
    pub(super) fn of(name: &'static str, why: &'static str) -> ScalarUDF {
        let any = vec![TypeSignature::Nullary, TypeSignature::VariadicAny];
        let signature = Signature::one_of(any, Volatility::Volatile);
        ScalarUDF::from(Self { name, why, signature })
    }
}

impl ScalarUDFImpl for Refused {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Err(refusal("0A000", format!("{} is not supported: {}", self.name, self.why)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(refusal("0A000", format!("{} is not supported: {}", self.name, self.why)))
    }
}
