//! Casts that Arrow does otherwise than Postgres.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, ListArray, PrimitiveArray, StringArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNano, IntervalMonthDayNanoType, TimeUnit,
};
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::date_styles::{DateStyle, with_plain_date};
use super::instants::{cast_by_clocks, has_instants, is_utc, of_seconds};
use super::microseconds::{cut, in_nanos};
use super::refusal::{out_of_range, refusal, type_name, value_out_of_range};
use super::types::{UNCONSTRAINED, length_of};
use super::uuids::is_uuid;
use super::{arrays, bytea, moments, names, text_values, texts, uuids};

/// Rule that turns a value into another type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum CastRule {
    /// A number to an integer; halves go to the even neighbour, or away from zero as those of `numeric` do.
    ToInteger { away: bool },
    /// A text to a floating-point number that must fit.
    TextToFloat,
    /// A `double precision` to a `real` that must fit.
    DoubleToReal,
    /// A value to text as Postgres writes it.
    ToText,
    /// A text to text of at most this number of characters.
    Shorten(usize),
    /// A text to `varchar(n)`; a longer one is an error unless only blanks are cut, as in an assignment.
    Fit(usize),
    /// A text to `bytea`.
    TextToBytea,
    /// To `numeric` without precision, which must not lose digits.
    ToNumeric,
    /// A text to an array.
    TextToArray,
    /// A number with a point in a statement to `numeric`, whose digits are those that were written.
    ConstantToNumeric,
    /// A floating-point number to `numeric` of a precision: the digits that it is sure of.
    FloatToNumeric,
    /// `round` of a floating-point number: halves go to the even neighbour.
    RoundEven,
    /// The time between two moments, in days of 24 hours and the rest.
    Between,
    /// A boolean as its output function writes it.
    BooleanOut,
    /// A `numeric` to the floating-point number next to it.
    NumericToFloat,
    /// A text to a date, or a moment to the microsecond.
    TextToMoment,
    /// A text to a time of day.
    TextToTime,
    /// A text to an interval.
    TextToInterval,
    /// A text to `numeric`.
    TextToNumeric,
    /// A moment to one with fewer digits after the point.
    RoundMoment,
    /// A date or moment to one with nanoseconds, which count few years.
    ToNanoseconds,
    /// A date or local time to an instant, or an instant to a local time, by the clocks of the instant's zone.
    ByClocks,
    /// Seconds since 1970 to an instant.
    SecondsToInstant,
    /// An average of integers, which is a floating-point number here, to `numeric`.
    AverageToNumeric,
    /// A text to `uuid`.
    TextToUuid,
    /// Each element of an array.
    Elements(Box<CastRule>),
}

/// Returns the rule for a cast, if it is not Arrow's.
///
/// # Errors
/// If Postgres has no such cast.
pub(super) fn rule(from: &DataType, to: &FieldRef, constant: bool) -> Result<Option<CastRule>> {
    use DataType::{Binary, Boolean, Date32, Float32, Float64, Int16, Int32, Int64, List, Null, Utf8};
    let target = to.data_type();
    let is_text = |it: &DataType| matches!(it, Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let is_integer = |it: &DataType| matches!(it, Int16 | Int32 | Int64);
    let none = || refusal("42846", format!("cannot cast type {} to {}", type_name(from), type_name(target)));
    if has_unknown_digits(from) && is_text(item_of(target)) {
        let message = "numeric without a precision cannot be cast to text, because it does not know how many digits it \
                       had; use numeric(precision, scale)";
        return Err(refusal("0A000", message));
    }
    Ok(Some(match (from, target) {
        (Null, _) => return Ok(None),
        (from, to) if is_uuid(from) && is_uuid(to) => return Ok(None),
        (DataType::Dictionary(_, values), to) if is_text(values) && is_uuid(to) => CastRule::TextToUuid,
        (from, to) if is_text(from) && is_uuid(to) => CastRule::TextToUuid,
        (from, to) if is_uuid(from) && is_text(to) => CastRule::ToText,
        (from, to) if is_uuid(from) || is_uuid(to) => return Err(none()),
        (Float32 | Float64, Int16 | Int32 | Int64) => CastRule::ToInteger { away: constant },
        (DataType::Decimal128(..), Int16 | Int32 | Int64) => CastRule::ToInteger { away: true },
        // The optimizer would compare with the wider integer, and miss those that do not fit.
        (Int64, Int16 | Int32) | (Int32, Int16) => CastRule::ToInteger { away: false },
        (from, Float32 | Float64) if is_text(from) => CastRule::TextToFloat,
        (Float64, Float32) => CastRule::DoubleToReal,
        (from, Utf8) if is_text(from) => match length_of(to) {
            Some(length) => CastRule::Shorten(length),
            None => return Ok(None),
        },
        // Bytes as another kind of text are the argument of `length` and its like.
        (Binary | List(_), Utf8) => CastRule::ToText,
        (Float32 | Float64 | Date32 | DataType::Time64(_) | DataType::Timestamp(..) | DataType::Interval(_), to)
            if is_text(to) =>
        {
            CastRule::ToText
        }
        (DataType::Decimal128(..), Float32 | Float64) => CastRule::NumericToFloat,
        (from, DataType::Time32(_) | DataType::Time64(_)) if is_text(from) => CastRule::TextToTime,
        (from, DataType::Decimal128(..)) if is_text(from) => CastRule::TextToNumeric,
        (from, Date32 | DataType::Timestamp(..)) if is_text(from) => CastRule::TextToMoment,
        (from, DataType::Interval(_)) if is_text(from) => CastRule::TextToInterval,
        (Date32 | DataType::Date64 | DataType::Timestamp(_, None), DataType::Timestamp(_, Some(zone)))
        | (DataType::Timestamp(_, Some(zone)), DataType::Timestamp(_, None))
            if !is_utc(zone) =>
        {
            CastRule::ByClocks
        }
        (DataType::Timestamp(from, _), DataType::Timestamp(to, _)) if unit(*to) < unit(*from) => CastRule::RoundMoment,
        (Date32 | DataType::Date64, DataType::Timestamp(TimeUnit::Nanosecond, _)) => CastRule::ToNanoseconds,
        (DataType::Timestamp(from, _), DataType::Timestamp(TimeUnit::Nanosecond, _))
            if *from != TimeUnit::Nanosecond =>
        {
            CastRule::ToNanoseconds
        }
        (from, Binary) if is_text(from) => CastRule::TextToBytea,
        (from, List(_)) if is_text(from) => CastRule::TextToArray,
        (List(from), List(item))
            if !from.data_type().is_null()
                && matches!(from.data_type(), List(_)) != matches!(item.data_type(), List(_)) =>
        {
            let message = "casts of arrays of arrays to another type of elements are not supported";
            return Err(refusal("0A000", message));
        }
        (List(from), List(item)) => match rule(from.data_type(), item, false)? {
            Some(rule) => CastRule::Elements(Box::new(rule)),
            None => return Ok(None),
        },
        (DataType::Decimal128(_, scale), DataType::Decimal128(precision, kept))
            if (*precision, *kept) == UNCONSTRAINED && scale > kept =>
        {
            CastRule::ToNumeric
        }
        (Float64, DataType::Decimal128(precision, scale)) if constant && (*precision, *scale) != UNCONSTRAINED => {
            CastRule::ConstantToNumeric
        }
        (Float32 | Float64, DataType::Decimal128(precision, scale)) if (*precision, *scale) != UNCONSTRAINED => {
            CastRule::FloatToNumeric
        }
        (from, DataType::Decimal128(precision, scale))
            if (*precision, *scale) == UNCONSTRAINED && matches!(from, Float32 | Float64) =>
        {
            CastRule::ToNumeric
        }
        (Boolean, Int16 | Int64 | Float32 | Float64 | DataType::Decimal128(..)) => return Err(none()),
        (Int16 | Float32 | Float64 | DataType::Decimal128(..), Boolean) => return Err(none()),
        (Int64, Boolean) if !constant => return Err(none()),
        (Date32, to) if is_integer(to) => return Err(none()),
        (from, Date32 | DataType::Timestamp(..)) if is_integer(from) => return Err(none()),
        (DataType::Timestamp(..), to) if is_integer(to) => return Err(none()),
        _ => return Ok(None),
    }))
}

/// Returns the type of the elements of an array, else the type itself.
pub(super) fn item_of(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::List(item) => item_of(item.data_type()),
        other => other,
    }
}

/// Returns true if values are of type `numeric` without a precision, or made of such: they do not know how many digits
/// after the point Postgres would show.
pub(super) fn has_unknown_digits(data_type: &DataType) -> bool {
    matches!(item_of(data_type), DataType::Decimal128(37.., scale) if *scale >= UNCONSTRAINED.1)
}

/// Reads texts as values of another type, where Arrow reads them otherwise than Postgres.
pub(super) fn from_text(texts: &ArrayRef, to: &DataType) -> Result<Option<ArrayRef>> {
    let to = Arc::new(Field::new("", to.clone(), true));
    let Some(rule) = rule(texts.data_type(), &to, false)? else { return Ok(None) };
    CastFunction { rule, to, signature: Signature::any(1, Volatility::Immutable) }.cast(texts).map(Some)
}

/// Returns a cast by a rule.
pub(super) fn cast_by(rule: CastRule, cast: Cast) -> Expr {
    let function = CastFunction { rule, to: cast.field, signature: Signature::any(1, Volatility::Immutable) };
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::from(function)), vec![*cast.expr]))
}

/// Returns true if this is a cast of what may not be a value of the type, which a condition beside it may guard.
pub(super) fn may_refuse(function: &ScalarUDF) -> bool {
    let cast = function.inner().downcast_ref::<CastFunction>();
    cast.is_some_and(|it| {
        matches!(
            it.rule,
            CastRule::TextToFloat
                | CastRule::ToInteger { .. }
                | CastRule::DoubleToReal
                | CastRule::FloatToNumeric
                | CastRule::SecondsToInstant
                | CastRule::TextToArray
                | CastRule::TextToBytea
                | CastRule::ToNumeric
                | CastRule::TextToMoment
                | CastRule::ToNanoseconds
                | CastRule::TextToTime
                | CastRule::TextToInterval
                | CastRule::TextToNumeric
                | CastRule::TextToUuid
        )
    })
}

/// A constant text that clocks of the session are to show.
pub(super) enum ReadByClocks<'a> {
    Instant(&'a str),
    /// A text of an array of instants.
    Array,
}

/// Returns what a call reads by the clocks of the session, if it is such a cast of a constant.
pub(super) fn read_by_clocks(call: &ScalarFunction) -> Option<ReadByClocks<'_>> {
    let cast = call.func.inner().downcast_ref::<CastFunction>().filter(|cast| has_instants(cast.to.data_type()))?;
    let Some(Expr::Literal(text, _)) = call.args.first() else { return None };
    let text = text.try_as_str().flatten()?;
    match cast.rule {
        CastRule::TextToMoment => {
            let plain = with_plain_date(text);
            moments::is_local(plain.as_deref().unwrap_or(text)).then_some(ReadByClocks::Instant(text))
        }
        CastRule::TextToArray => Some(ReadByClocks::Array),
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct CastFunction {
    pub(super) rule: CastRule,
    pub(super) to: FieldRef,
    signature: Signature,
}

impl ScalarUDFImpl for CastFunction {
    fn name(&self) -> &str {
        "pg_cast"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(names::name(self.name(), args, |args| match &args[0] {
            // The key of a join stands beside the column that it is made of.
            Expr::Column(column) => format!("{column}::{}", type_name(self.to.data_type())),
            other => other.schema_name().to_string(),
        }))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.data_type().clone())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        // Where only NULL matters, as in `x % 1`, the optimizer leaves out what cannot be NULL, and its error with it.
        Ok(Arc::new(Field::new(self.name(), self.to.data_type().clone(), true)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let style = DateStyle::of(&args.config_options);
        match &args.args[0] {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(self.cast_in(array, &style)?)),
            ColumnarValue::Scalar(scalar) => {
                let array = self.cast_in(&scalar.to_array()?, &style)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
            }
        }
    }
}

impl CastFunction {
    pub(super) fn cast(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let target = self.to.data_type();
        // A column without rows or values.
        if *array.data_type() == DataType::Null {
            return arrow_cast(array, target);
        }
        match &self.rule {
            CastRule::ToInteger { away } => match target {
                DataType::Int16 => to_integer::<Int16Type>(array, *away),
                DataType::Int32 => to_integer::<Int32Type>(array, *away),
                DataType::Int64 => to_integer::<Int64Type>(array, *away),
                other => exec_err!("{other} is not an integer"),
            },
            CastRule::TextToFloat => text_to_float(&arrow_cast(array, &DataType::Utf8)?, target),
            CastRule::DoubleToReal => double_to_real(array),
            CastRule::ToText => arrow_cast(&self.shortened(&texts::written(array)?), target),
            CastRule::Shorten(_) => Ok(self.shortened(arrow_cast(array, &DataType::Utf8)?.as_string())),
            CastRule::Fit(length) => fit(&arrow_cast(array, &DataType::Utf8)?, *length),
            CastRule::TextToBytea => bytea::parsed(arrow_cast(array, &DataType::Utf8)?.as_string()),
            CastRule::TextToUuid => uuids::parsed(arrow_cast(array, &DataType::Utf8)?.as_string()),
            CastRule::ToNumeric => to_numeric(array, target),
            CastRule::ConstantToNumeric => {
                let texts = array.as_primitive::<Float64Type>().iter().map(|it| it.map(|it| plain(&format!("{it:e}"))));
                arrow_cast(&(Arc::new(texts.collect::<StringArray>()) as ArrayRef), target)
            }
            CastRule::FloatToNumeric => arrow_cast(&(Arc::new(sure_digits(array)) as ArrayRef), target),
            CastRule::RoundEven => Ok(match array.data_type() {
                DataType::Float32 => {
                    let numbers = array.as_primitive::<Float32Type>();
                    Arc::new(numbers.unary::<_, Float32Type>(f32::round_ties_even))
                }
                _ => {
                    let numbers = array.as_primitive::<Float64Type>();
                    Arc::new(numbers.unary::<_, Float64Type>(f64::round_ties_even))
                }
            }),
            // It is one already.
            CastRule::Between if matches!(array.data_type(), DataType::Interval(_)) => Ok(Arc::clone(array)),
            CastRule::Between => between(array),
            CastRule::NumericToFloat => numeric_to_float(array, target),
            CastRule::TextToMoment => text_to_moment(array, target),
            CastRule::TextToInterval => text_values::intervals(arrow_cast(array, &DataType::Utf8)?.as_string(), target),
            CastRule::TextToTime => text_values::times(arrow_cast(array, &DataType::Utf8)?.as_string(), target),
            CastRule::TextToNumeric => text_values::numerics(arrow_cast(array, &DataType::Utf8)?.as_string(), target),
            CastRule::RoundMoment => round_moment(array, target),
            CastRule::ToNanoseconds => match target {
                DataType::Timestamp(_, zone) => in_nanos(array, zone.as_ref()),
                other => exec_err!("{other} is not a timestamp"),
            },
            CastRule::ByClocks => cast_by_clocks(array, target),
            CastRule::SecondsToInstant => of_seconds(array, target),
            CastRule::AverageToNumeric => average_to_numeric(array, target),
            CastRule::Elements(rule) => {
                let DataType::List(item) = target else { return exec_err!("{target} is not an array") };
                let lists = array.as_list::<i32>();
                let cast = Self { rule: (**rule).clone(), to: Arc::clone(item), signature: self.signature.clone() };
                // Values between the lists of a column are none of its own.
                let (start, end) = (lists.value_offsets()[0], lists.value_offsets()[lists.len()]);
                let values = cast.cast(&lists.values().slice(start as usize, (end - start) as usize))?;
                let offsets = OffsetBuffer::from_lengths(lists.offsets().lengths());
                Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, lists.nulls().cloned())?))
            }
            CastRule::TextToArray => arrays::parsed(arrow_cast(array, &DataType::Utf8)?.as_string(), target),
            CastRule::BooleanOut => {
                let texts = array.as_boolean().iter().map(|it| it.map(|it| if it { "t" } else { "f" }));
                Ok(Arc::new(texts.collect::<StringArray>()))
            }
        }
    }

    /// Cuts texts to the length of the type that is cast to.
    pub(super) fn shortened(&self, texts: &StringArray) -> ArrayRef {
        let Some(length) = length_of(&self.to) else { return Arc::new(texts.clone()) };
        Arc::new(texts.iter().map(|text| text.map(|text| first_characters(text, length))).collect::<StringArray>())
    }
}

/// Returns a text up to its n-th character.
fn first_characters(text: &str, length: usize) -> &str {
    text.char_indices().nth(length).map_or(text, |(end, _)| &text[..end])
}

fn fit(array: &ArrayRef, length: usize) -> Result<ArrayRef> {
    let fitted = |text: &str| {
        let first = first_characters(text, length).len();
        if text[first..].chars().all(|letter| letter == ' ') {
            return Ok(text[..first].to_owned());
        }
        Err(refusal("22001", format!("value too long for type character varying({length})")))
    };
    let texts = array.as_string::<i32>().iter().map(|text| text.map(fitted).transpose());
    Ok(Arc::new(texts.collect::<Result<StringArray>>()?))
}

/// Returns differences of moments as days of 24 hours and the rest.
fn between(differences: &ArrayRef) -> Result<ArrayRef> {
    let DataType::Duration(of) = differences.data_type() else {
        return exec_err!("{} is not a difference", differences.data_type());
    };
    let (second, nanos) = (unit(*of), 1_000_000_000 / unit(*of));
    let day = 86_400 * second;
    let numbers = arrow_cast(differences, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    let intervals: PrimitiveArray<IntervalMonthDayNanoType> = numbers.try_unary(|it| {
        let days = i32::try_from(it / day).map_err(|_| refusal("22008", "interval out of range"))?;
        Ok::<_, DataFusionError>(IntervalMonthDayNano::new(0, days, it % day * nanos))
    })?;
    Ok(Arc::new(intervals))
}

/// Casts as Arrow does, with an error where that fails.
pub(super) fn arrow_cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    Ok(cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() })?)
}

fn to_integer<T: ArrowPrimitiveType>(array: &ArrayRef, away: bool) -> Result<ArrayRef>
where
    T::Native: TryFrom<i128>,
{
    let wrong = || out_of_range(&T::DATA_TYPE);
    let fits = |value: i128| T::Native::try_from(value).map_err(|_| wrong());
    let from_float = |value: f64| {
        let rounded = if away { value.round() } else { value.round_ties_even() };
        // Beyond these no integer type has anything, and the conversion would saturate.
        if rounded.abs() < 1e19 { fits(rounded as i128) } else { Err(wrong()) }
    };
    let integers: PrimitiveArray<T> = match array.data_type() {
        DataType::Float32 => array.as_primitive::<Float32Type>().try_unary(|value| from_float(f64::from(value)))?,
        DataType::Float64 => array.as_primitive::<Float64Type>().try_unary(from_float)?,
        DataType::Decimal128(_, scale) => {
            let unit = 10i128.pow(u32::from(scale.unsigned_abs()));
            let scale = *scale;
            array.as_primitive::<Decimal128Type>().try_unary(|value| match scale {
                ..=0 => value.checked_mul(unit).map_or_else(|| Err(wrong()), fits),
                _ => {
                    let (whole, rest) = (value / unit, value % unit);
                    fits(if rest.abs() >= unit - rest.abs() { whole + value.signum() } else { whole })
                }
            })?
        }
        DataType::Int32 => array.as_primitive::<Int32Type>().try_unary(|value| fits(i128::from(value)))?,
        DataType::Int64 => array.as_primitive::<Int64Type>().try_unary(|value| fits(i128::from(value)))?,
        other => return exec_err!("{other} is not a number"),
    };
    Ok(Arc::new(integers))
}

fn text_to_float(array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    let floats = arrow_cast(array, target)?;
    let texts = array.as_string::<i32>();
    // An infinity that was not asked for, or a zero that was not.
    let named = |text: &str| text.trim().trim_start_matches(['+', '-']).to_ascii_lowercase().starts_with("inf");
    let nonzero = |text: &str| {
        let digits = text.split(['e', 'E']).next().unwrap_or(text);
        digits.contains(|digit: char| ('1'..='9').contains(&digit))
    };
    let wrong = |infinite: bool, zero: bool, text: &str| infinite && !named(text) || zero && nonzero(text);
    let check = |row: usize, infinite: bool, zero: bool| {
        if (infinite || zero) && texts.is_valid(row) && wrong(infinite, zero, texts.value(row)) {
            let message = format!("\"{}\" is out of range for type {}", texts.value(row), type_name(target));
            return Err(refusal("22003", message));
        }
        Ok(())
    };
    match target {
        DataType::Float32 => {
            let values = floats.as_primitive::<Float32Type>().values().iter().enumerate();
            values.into_iter().try_for_each(|(row, value)| check(row, value.is_infinite(), *value == 0.0))?;
        }
        _ => {
            let values = floats.as_primitive::<Float64Type>().values().iter().enumerate();
            values.into_iter().try_for_each(|(row, value)| check(row, value.is_infinite(), *value == 0.0))?;
        }
    }
    Ok(floats)
}

/// Converts each number to the nearest floating-point number, which Arrow misses: it divides by a power of ten what it
/// has rounded before.
fn numeric_to_float(array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    /// Integer up to which every integer is a floating-point number; every power of ten is one up to 10^22.
    const EXACT: u128 = 1 << 53;
    let numbers = array.as_primitive::<Decimal128Type>();
    let scale = numbers.scale();
    let double = |value: i128| -> f64 {
        let (mut value, mut scale) = (value, i32::from(scale));
        while scale > 0 && value.unsigned_abs() > EXACT && value % 10 == 0 {
            (value, scale) = (value / 10, scale - 1);
        }
        if value.unsigned_abs() <= EXACT && (0..=22).contains(&scale) {
            return value as f64 / 10f64.powi(scale);
        }
        format!("{value}e{}", -scale).parse().unwrap_or(f64::NAN)
    };
    Ok(match target {
        DataType::Float32 => {
            // Not by way of a double, which would round twice.
            let real = |value: i128| format!("{value}e{}", -i32::from(scale)).parse().unwrap_or(f32::NAN);
            Arc::new(numbers.unary::<_, Float32Type>(real))
        }
        _ => Arc::new(numbers.unary::<_, Float64Type>(double)),
    })
}

/// Returns the number of units of a moment in a second.
pub(super) fn unit(of: TimeUnit) -> i64 {
    match of {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Reads dates and moments as those of Postgres are, moments to the precision of the type.
fn text_to_moment(array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    let texts = arrow_cast(array, &DataType::Utf8)?;
    let DataType::Timestamp(to, zone) = target else {
        let dates: ArrayRef = Arc::new(moments::dates(texts.as_string())?);
        return arrow_cast(&dates, target);
    };
    let micros = moments::moments(texts.as_string(), zone.as_deref())?;
    let micros: ArrayRef = Arc::new(micros.with_timezone_opt(zone.clone()));
    match to {
        TimeUnit::Nanosecond => in_nanos(&micros, zone.as_ref()),
        TimeUnit::Microsecond => Ok(micros),
        _ => round_moment(&micros, target),
    }
}

/// Rounds moments, what is finer than a microsecond left out; halves go away from the year 2000, from which Postgres counts.
pub(super) fn round_moment(array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    let array = cut(array);
    let (DataType::Timestamp(from, _), DataType::Timestamp(to, zone)) = (array.data_type(), target) else {
        return exec_err!("{target} is not a timestamp");
    };
    let parts = unit(*from) / unit(*to);
    let epoch = 946_684_800 * unit(*to);
    let numbers = arrow_cast(&array, &DataType::Int64)?;
    let rounded = numbers.as_primitive::<Int64Type>().unary::<_, Int64Type>(|moment| {
        let since = i128::from(moment) - i128::from(epoch) * i128::from(parts);
        let away = ((since.abs() + i128::from(parts / 2)) / i128::from(parts)) as i64;
        if since < 0 { epoch - away } else { epoch + away }
    });
    arrow_cast(&(Arc::new(rounded) as ArrayRef), &DataType::Timestamp(*to, zone.clone()))
}

fn double_to_real(array: &ArrayRef) -> Result<ArrayRef> {
    let reals: PrimitiveArray<Float32Type> = array.as_primitive::<Float64Type>().try_unary(|value| {
        let real = value as f32;
        if real.is_infinite() && value.is_finite() {
            return Err(refusal("22003", "value out of range: overflow"));
        }
        if real == 0.0 && value != 0.0 {
            return Err(refusal("22003", "value out of range: underflow"));
        }
        Ok(real)
    })?;
    Ok(Arc::new(reals))
}

/// Converts averages of integers, of which Postgres knows more digits than a `double precision` has. Those with few digits are
/// exact, and others as far as 15 digits go.
fn average_to_numeric(array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    const SURE: usize = 15;
    let DataType::Decimal128(precision, scale) = target else { return exec_err!("{target} is not numeric") };
    let is_unconstrained = (*precision, *scale) == UNCONSTRAINED;
    for average in array.as_primitive::<Float64Type>().iter().flatten() {
        let shortest = format!("{average:e}");
        let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
        let whole = exponent.parse::<i64>().unwrap_or(0).max(-1) + 1;
        let is_short = mantissa.bytes().filter(u8::is_ascii_digit).count() <= SURE;
        if !is_short && (is_unconstrained || whole + i64::from(*scale) > SURE as i64) {
            let message = "the average of integers is double precision here, which has too few digits; average them as \
                           numeric, as in avg(x::numeric(20, 0))";
            return Err(refusal("0A000", message));
        }
    }
    match is_unconstrained {
        true => to_numeric(array, target),
        false => arrow_cast(&(Arc::new(sure_digits(array)) as ArrayRef), target),
    }
}

/// Writes the 15 digits that a `double precision` is sure of, or the 6 of a `real`, which Postgres turns into a
/// numeric.
fn sure_digits(array: &ArrayRef) -> StringArray {
    match array.data_type() {
        DataType::Float32 => {
            let numbers = array.as_primitive::<Float32Type>().iter();
            numbers.map(|it| it.map(|it| plain(&format!("{it:.5e}")))).collect()
        }
        _ => {
            let numbers = array.as_primitive::<Float64Type>().iter();
            numbers.map(|it| it.map(|it| plain(&format!("{it:.14e}")))).collect()
        }
    }
}

/// Converts to `numeric` without a precision: a value with more digits after the point than are kept is refused.
fn to_numeric(array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    let texts = match array.data_type() {
        DataType::Float64 | DataType::Float32 => sure_digits(array),
        _ => arrow_cast(array, &DataType::Utf8)?.as_string::<i32>().clone(),
    };
    let kept = usize::try_from(UNCONSTRAINED.1).unwrap_or(0);
    for text in texts.iter().flatten() {
        let text = text.trim();
        let is_number = text.contains(|letter: char| letter.is_ascii_digit());
        if !is_number && matches!(text.to_ascii_lowercase().as_str(), "nan" | "infinity" | "-infinity" | "inf" | "-inf")
        {
            return Err(refusal("0A000", format!("numeric has no {text} here; use double precision")));
        }
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let fraction = mantissa.split_once('.').map_or("", |(_, fraction)| fraction).trim_end_matches('0').len();
        let exponent: i64 = exponent.parse().unwrap_or(0);
        if fraction as i64 - exponent > kept as i64 {
            let message = format!(
                "numeric without a precision keeps {kept} digits after the point here, and {text} has more; use \
                 numeric(precision, scale)"
            );
            return Err(refusal("0A000", message));
        }
        let whole = mantissa.split('.').next().unwrap_or("").trim_start_matches(['+', '-', '0']).len();
        if whole as i64 + exponent > i64::from(UNCONSTRAINED.0) - i64::from(UNCONSTRAINED.1) {
            return Err(value_out_of_range(target, text));
        }
    }
    let texts: ArrayRef = Arc::new(texts);
    arrow_cast(&texts, target)
}

/// Writes a number in scientific notation without an exponent, so that Arrow reads all its digits.
fn plain(scientific: &str) -> String {
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific.to_owned() };
    let Ok(exponent) = exponent.parse::<i64>() else { return scientific.to_owned() };
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let digits: String = mantissa.chars().filter(|digit| *digit != '.').collect();
    // Digits before the point.
    let point = exponent + 1;
    if point <= 0 {
        let zeros = "0".repeat(usize::try_from(-point).unwrap_or(0).min(400));
        return format!("{sign}0.{zeros}{digits}");
    }
    let point = usize::try_from(point).unwrap_or(0);
    if point >= digits.len() {
        return format!("{sign}{digits}{}", "0".repeat(point - digits.len()));
    }
    format!("{sign}{}.{}", &digits[..point], &digits[point..])
}

/// Makes a column of the bytes of each value.
pub(super) fn binary(values: impl Iterator<Item = Result<Option<Vec<u8>>>>) -> Result<ArrayRef> {
    Ok(Arc::new(values.collect::<Result<Vec<_>>>()?.iter().map(|bytes| bytes.as_deref()).collect::<BinaryArray>()))
}
