//! Functions of ranges and multiranges, and those that operators and casts become.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, ListArray, StringArray};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};
use datafusion::scalar::ScalarValue;

use super::super::casts::{self, arrow_cast, has_unknown_digits};
use super::super::date_styles::DateStyle;
use super::super::json::text_of_rows;
use super::super::refusal::{refusal, type_name};
use super::RangeType;
use super::algebra;
use super::columns::{Values, as_texts, ends, is_bound, points, spelled};
use super::point::{Element, Point};
use super::value::{Bound, Side, Span, apart, key, parse, write};

/// An operand of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operand {
    Range(RangeType),
    Element(Element),
}

/// Operators but comparisons. `<@` is `@>` with its sides changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RangeOperator {
    Contains,
    Overlaps,
    Before,
    After,
    NotRight,
    NotLeft,
    Adjacent,
    Union,
    Difference,
    Intersection,
}

impl RangeOperator {
    /// Returns true if both sides and the result are of one type.
    pub(super) fn is_closed(self) -> bool {
        matches!(self, Self::Union | Self::Difference | Self::Intersection)
    }

    fn holds(self, left: &[Span], right: &[Span]) -> bool {
        match self {
            Self::Contains => algebra::contains(left, right),
            Self::Overlaps => algebra::overlaps(left, right),
            Self::Before => algebra::is_before(left, right),
            Self::After => algebra::is_before(right, left),
            Self::NotRight => algebra::does_not_extend(left, right, Side::Upper),
            Self::NotLeft => algebra::does_not_extend(left, right, Side::Lower),
            Self::Adjacent => algebra::is_adjacent(left, right),
            Self::Union | Self::Difference | Self::Intersection => false,
        }
    }

    fn combined(self, kind: RangeType, left: &[Span], right: &[Span]) -> Result<Vec<Span>> {
        match self {
            Self::Union if kind.is_multi => Ok(algebra::union(left, right)),
            Self::Union => algebra::range_union(left, right),
            Self::Difference if kind.is_multi => Ok(algebra::difference(left, right)),
            Self::Difference => algebra::range_difference(left, right),
            _ => Ok(algebra::intersection(left, right)),
        }
    }
}

/// Task of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Task {
    /// `int4range(1, 2, '[]')`.
    Make(Element),
    /// `int4multirange(…)`.
    MakeMulti(Element),
    IsEmpty,
    Inclusive(Side),
    Infinite(Side),
    /// `range_merge`.
    Merge,
    /// A range as a multirange; a range of a type that is known, or of that of the argument's field.
    Multi(Option<RangeType>),
    End(RangeType, Side),
    /// Bytes that have the order of values.
    Key(RangeType),
    Operator(RangeOperator, Operand, Operand),
    /// An array of values of the type.
    Array(RangeType),
    /// The same value under a field of the type.
    Typed(RangeType),
    /// The text that a table keeps of a value.
    Stored(RangeType),
    /// The value that a text is.
    Read(RangeType),
    /// The text that the session shows.
    Text(RangeType),
}

impl Task {
    /// Returns true if there are values that the function refuses, from which a condition may keep it away.
    pub(super) fn may_refuse(self) -> bool {
        match self {
            Self::Make(_) | Self::MakeMulti(_) | Self::End(..) | Self::Read(_) => true,
            Self::Operator(operator, ..) => operator.is_closed(),
            _ => false,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Make(element) => format!("{}range", element.prefix()),
            Self::MakeMulti(element) => format!("{}multirange", element.prefix()),
            Self::IsEmpty => "isempty".into(),
            Self::Inclusive(Side::Lower) => "lower_inc".into(),
            Self::Inclusive(Side::Upper) => "upper_inc".into(),
            Self::Infinite(Side::Lower) => "lower_inf".into(),
            Self::Infinite(Side::Upper) => "upper_inf".into(),
            Self::Merge => "range_merge".into(),
            Self::Multi(None) => "multirange".into(),
            Self::Multi(Some(_)) => "pg_multirange".into(),
            Self::End(kind, Side::Lower) => format!("pg_lower_{}", kind.name()),
            Self::End(kind, Side::Upper) => format!("pg_upper_{}", kind.name()),
            Self::Key(kind) => format!("pg_key_{}", kind.name()),
            Self::Operator(operator, left, right) => {
                format!("pg_range_{operator:?}_{}_{}", left.name(), right.name()).to_lowercase()
            }
            Self::Array(kind) => format!("pg_array_{}", kind.name()),
            Self::Typed(kind) => format!("pg_{}", kind.name()),
            Self::Stored(kind) => format!("pg_{}_stored", kind.name()),
            Self::Read(kind) => format!("pg_{}_in", kind.name()),
            Self::Text(kind) => format!("pg_{}_out", kind.name()),
        }
    }

    fn signature(self) -> Signature {
        let volatility = match self {
            // They depend on the settings of the session.
            Self::Make(element) if element.is_moment() => Volatility::Stable,
            Self::Read(kind) | Self::Text(kind) if kind.element.is_moment() => Volatility::Stable,
            _ => Volatility::Immutable,
        };
        let signature = match self {
            Self::Make(_) => TypeSignature::OneOf((1..=3).map(TypeSignature::Any).collect()),
            Self::MakeMulti(_) | Self::Array(_) => {
                TypeSignature::OneOf(vec![TypeSignature::Nullary, TypeSignature::VariadicAny])
            }
            Self::Merge => TypeSignature::OneOf(vec![TypeSignature::Any(1), TypeSignature::Any(2)]),
            Self::Operator(..) => TypeSignature::Any(2),
            _ => TypeSignature::Any(1),
        };
        Signature::new(signature, volatility)
    }

    /// Returns true if the function of this name takes values of these types.
    fn takes(self, arguments: &[FieldRef]) -> bool {
        let is_text = |field: &FieldRef| field.data_type().is_string() || field.data_type().is_null();
        match self {
            Self::Make(_) if arguments.len() == 1 => arguments.iter().all(is_text),
            Self::Make(element) => arguments.iter().enumerate().all(|(place, field)| match place {
                0 | 1 => RangeType::of(field).is_none() && is_bound(element, field.data_type()),
                _ => is_text(field),
            }),
            Self::MakeMulti(element) => arguments.iter().all(|field| match RangeType::of(field) {
                Some(found) => found == RangeType::of_element(element),
                None => is_text(field),
            }),
            _ => true,
        }
    }

    /// Returns the type of the values.
    fn field(self, name: &str, arguments: &[FieldRef]) -> Result<FieldRef> {
        let plain = |data_type: DataType| Arc::new(Field::new(name, data_type, true));
        if !arguments.is_empty() && !self.takes(arguments) {
            return Err(missing(name, arguments));
        }
        Ok(match self {
            Self::Make(element) => RangeType::of_element(element).field(name),
            Self::MakeMulti(element) => RangeType::of_element(element).multi().field(name),
            Self::Merge | Self::Multi(None) if arguments.is_empty() => plain(DataType::Utf8),
            Self::IsEmpty | Self::Inclusive(_) | Self::Infinite(_) if arguments.is_empty() => plain(DataType::Boolean),
            Self::IsEmpty | Self::Inclusive(_) | Self::Infinite(_) => {
                own_kind(name, arguments)?;
                plain(DataType::Boolean)
            }
            Self::Merge => RangeType { is_multi: false, ..own_kind(name, arguments)? }.field(name),
            Self::Multi(Some(kind)) => kind.multi().field(name),
            Self::Multi(None) => own_kind(name, arguments)?.multi().field(name),
            Self::End(kind, _) => plain(kind.element.data_type()),
            Self::Key(_) => plain(DataType::Binary),
            Self::Operator(operator, Operand::Range(kind), _) if operator.is_closed() => kind.field(name),
            Self::Operator(..) => plain(DataType::Boolean),
            Self::Array(kind) => kind.array().field(name),
            Self::Typed(kind) | Self::Read(kind) => kind.field(name),
            Self::Text(kind) | Self::Stored(kind) => plain(kind.data_type()),
        })
    }

    fn evaluate(
        self,
        name: &str,
        columns: &[ArrayRef],
        fields: &[FieldRef],
        rows: usize,
        of: &Settings,
    ) -> Result<ArrayRef> {
        match self {
            // As a cast is.
            Self::Make(element) if columns.len() == 1 => {
                let kind = RangeType::of_element(element);
                read(kind, &as_texts(kind, argument(columns, 0)?)?, of)
            }
            Self::Make(element) => make(element, columns, rows, of),
            Self::MakeMulti(element) => {
                let kind = RangeType::of_element(element);
                let parts = columns.iter().map(|column| Values::in_zone(kind, column, &of.zone));
                let mut parts = parts.collect::<Result<Vec<_>>>()?;
                text_of_rows(rows, |row| {
                    let mut all = Vec::new();
                    for part in &mut parts {
                        match part.at(row)? {
                            Some(spans) => all.extend_from_slice(spans),
                            None if columns.len() == 1 => return Ok(None),
                            None => return Err(refusal("22004", "multirange values cannot contain null members")),
                        }
                    }
                    write(kind.multi(), &apart(all)).map(Some)
                })
            }
            Self::IsEmpty => truths(name, columns, fields, rows, |spans| spans.is_empty()),
            Self::Inclusive(Side::Lower) => {
                truths(name, columns, fields, rows, |spans| spans.first().is_some_and(|span| span.lower.is_inclusive))
            }
            Self::Inclusive(Side::Upper) => {
                truths(name, columns, fields, rows, |spans| spans.last().is_some_and(|span| span.upper.is_inclusive))
            }
            Self::Infinite(Side::Lower) => truths(name, columns, fields, rows, |spans| {
                spans.first().is_some_and(|span| span.lower.point.is_none())
            }),
            Self::Infinite(Side::Upper) => {
                truths(name, columns, fields, rows, |spans| spans.last().is_some_and(|span| span.upper.point.is_none()))
            }
            Self::Merge => {
                let kind = own_kind(name, fields)?;
                let mut left = Values::of(kind, argument(columns, 0)?)?;
                let mut right = columns.get(1).map(|column| Values::of(kind, column)).transpose()?;
                let range = RangeType { is_multi: false, ..kind };
                text_of_rows(rows, |row| {
                    let Some(left) = left.at(row)? else { return Ok(None) };
                    let found = match &mut right {
                        Some(right) => match right.at(row)? {
                            Some(right) => algebra::merge(left, right),
                            None => return Ok(None),
                        },
                        None => algebra::whole(left),
                    };
                    write(range, found.as_slice()).map(Some)
                })
            }
            Self::Multi(known) => {
                let kind = known.map_or_else(|| own_kind(name, fields), Ok)?;
                let mut values = Values::of(kind, argument(columns, 0)?)?;
                text_of_rows(rows, |row| values.at(row)?.map(|spans| write(kind.multi(), spans)).transpose())
            }
            Self::End(kind, side) => ends(kind, argument(columns, 0)?, side),
            Self::Key(kind) => keys(kind, argument(columns, 0)?),
            Self::Operator(operator, left, right) => {
                let mut left_values = SideValues::of(left, argument(columns, 0)?, of)?;
                let mut right_values = SideValues::of(right, argument(columns, 1)?, of)?;
                if let (true, Operand::Range(kind)) = (operator.is_closed(), left) {
                    return text_of_rows(rows, |row| match (left_values.at(row)?, right_values.at(row)?) {
                        (Some(left), Some(right)) => write(kind, &operator.combined(kind, &left, &right)?).map(Some),
                        _ => Ok(None),
                    });
                }
                let holds = (0..rows).map(|row| match (left_values.at(row)?, right_values.at(row)?) {
                    (Some(left), Some(right)) => Ok(Some(operator.holds(&left, &right))),
                    _ => Ok(None),
                });
                Ok(Arc::new(holds.collect::<Result<BooleanArray>>()?))
            }
            Self::Array(kind) => {
                let items = columns.iter().map(|column| as_texts(kind, column)).collect::<Result<Vec<_>>>()?;
                let all =
                    (0..rows).flat_map(|row| items.iter().map(move |item| item.is_valid(row).then(|| item.value(row))));
                let all: StringArray = all.collect();
                let length = i32::try_from(items.len()).unwrap_or(i32::MAX);
                let ends = (0..=rows).map(|row| i32::try_from(row).ok().and_then(|row| row.checked_mul(length)));
                let ends = ends
                    .collect::<Option<Vec<i32>>>()
                    .ok_or_else(|| refusal("54000", "array size exceeds the maximum allowed"))?;
                let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
                Ok(Arc::new(ListArray::new(item, OffsetBuffer::new(ScalarBuffer::from(ends)), Arc::new(all), None)))
            }
            Self::Typed(kind) | Self::Stored(kind) if kind.is_array => {
                arrow_cast(argument(columns, 0)?, &kind.data_type())
            }
            Self::Typed(kind) | Self::Stored(kind) => Ok(Arc::new(as_texts(kind, argument(columns, 0)?)?)),
            Self::Read(kind) if kind.is_array => {
                let column = argument(columns, 0)?;
                let lists = match column.data_type() {
                    DataType::List(_) | DataType::Null => arrow_cast(column, &kind.data_type())?,
                    _ => {
                        let texts: ArrayRef = Arc::new(as_texts(kind, column)?);
                        casts::from_text(&texts, &kind.data_type())?
                            .ok_or_else(|| no_value(kind, column.data_type()))?
                    }
                };
                let lists = lists.as_list::<i32>();
                let values = read(kind.item(), &as_texts(kind.item(), lists.values())?, of)?;
                let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
                Ok(Arc::new(ListArray::new(item, lists.offsets().clone(), values, lists.nulls().cloned())))
            }
            Self::Read(kind) => read(kind, &as_texts(kind, argument(columns, 0)?)?, of),
            Self::Text(kind) => spelled(kind, argument(columns, 0)?, &of.style, &of.zone),
        }
    }
}

/// Settings of a session that values depend on.
struct Settings {
    style: DateStyle,
    zone: String,
}

impl Operand {
    pub(super) fn name(self) -> String {
        match self {
            Self::Range(kind) => kind.name(),
            Self::Element(element) => element.type_name().replace(' ', "_"),
        }
    }
}

/// Values on one side of an operator.
enum SideValues {
    Ranges(Values),
    Points(Vec<Option<Point>>),
}

impl SideValues {
    fn of(operand: Operand, column: &ArrayRef, settings: &Settings) -> Result<Self> {
        match operand {
            Operand::Range(kind) => Ok(Self::Ranges(Values::of(kind, column)?)),
            Operand::Element(element) => Ok(Self::Points(points(element, column, &settings.zone)?)),
        }
    }

    fn at(&mut self, row: usize) -> Result<Option<Vec<Span>>> {
        match self {
            Self::Ranges(values) => Ok(values.at(row)?.map(<[Span]>::to_vec)),
            Self::Points(points) => Ok(points.get(row).copied().flatten().map(|point| {
                let bound = Bound { point: Some(point), is_inclusive: true };
                vec![Span { lower: bound, upper: bound }]
            })),
        }
    }
}

fn argument<T>(arguments: &[T], place: usize) -> Result<&T> {
    let missing = || DataFusionError::Internal("a function of ranges lacks an argument".into());
    arguments.get(place).ok_or_else(missing)
}

fn no_value(kind: RangeType, found: &DataType) -> DataFusionError {
    refusal("42846", format!("cannot cast type {} to {}", type_name(found), kind.shown()))
}

/// Returns the type of the arguments of a function of any ranges.
fn own_kind(function: &str, fields: &[FieldRef]) -> Result<RangeType> {
    let kinds: Vec<_> = fields.iter().filter_map(|field| RangeType::of(field)).collect();
    match kinds.split_first() {
        Some((first, others)) if !first.is_array && others.iter().all(|other| other == first) => {
            let is_one = fields.len() == kinds.len() || fields.iter().any(|field| field.data_type().is_null());
            // `range_merge` takes two ranges or one multirange, `multirange` a range.
            let fits = match function {
                "range_merge" => first.is_multi == (fields.len() == 1),
                "multirange" => !first.is_multi,
                _ => true,
            };
            if is_one && fits {
                return Ok(*first);
            }
            Err(missing(function, fields))
        }
        None if fields.iter().all(|field| field.data_type().is_null()) => {
            Err(refusal("42725", format!("function {function}(unknown) is not unique")))
        }
        _ => Err(missing(function, fields)),
    }
}

fn missing(function: &str, fields: &[FieldRef]) -> DataFusionError {
    let name = |field: &FieldRef| RangeType::of(field).map_or_else(|| type_name(field.data_type()), RangeType::shown);
    let types = fields.iter().map(name).collect::<Vec<_>>().join(", ");
    refusal("42883", format!("function {function}({types}) does not exist"))
}

fn truths(
    name: &str,
    columns: &[ArrayRef],
    fields: &[FieldRef],
    rows: usize,
    truth: impl Fn(&[Span]) -> bool,
) -> Result<ArrayRef> {
    let mut values = Values::of(own_kind(name, fields)?, argument(columns, 0)?)?;
    let found = (0..rows).map(|row| Ok(values.at(row)?.map(&truth)));
    Ok(Arc::new(found.collect::<Result<BooleanArray>>()?))
}

fn read(kind: RangeType, texts: &StringArray, of: &Settings) -> Result<ArrayRef> {
    text_of_rows(texts.len(), |row| {
        let text = texts.is_valid(row).then(|| texts.value(row));
        text.map(|text| write(kind, &parse(kind, text, &of.zone)?)).transpose()
    })
}

/// Returns keys of values, or of arrays of them. As in Postgres a NULL in an array is after all others.
fn keys(kind: RangeType, column: &ArrayRef) -> Result<ArrayRef> {
    if !kind.is_array {
        let mut values = Values::of(kind, column)?;
        let found = (0..column.len()).map(|row| Ok(values.at(row)?.map(|spans| key(kind, spans))));
        let found = found.collect::<Result<Vec<_>>>()?;
        return Ok(Arc::new(found.iter().map(|key| key.as_deref()).collect::<BinaryArray>()));
    }
    let lists = arrow_cast(column, &kind.data_type())?;
    let lists = lists.as_list::<i32>();
    let of_items = keys(kind.item(), lists.values())?;
    let of_items = of_items.as_binary::<i32>();
    let found = (0..lists.len()).map(|row| {
        if lists.is_null(row) {
            return None;
        }
        let ends = lists.value_offsets();
        let mut key = Vec::new();
        for place in usize::try_from(ends[row]).unwrap_or(0)..usize::try_from(ends[row + 1]).unwrap_or(0) {
            match of_items.is_valid(place) {
                true => {
                    key.push(1);
                    key.extend_from_slice(of_items.value(place));
                }
                false => key.push(2),
            }
        }
        key.push(0);
        Some(key)
    });
    let found: Vec<_> = found.collect();
    Ok(Arc::new(found.iter().map(|key| key.as_deref()).collect::<BinaryArray>()))
}

/// Makes ranges of their bounds.
fn make(element: Element, columns: &[ArrayRef], rows: usize, of: &Settings) -> Result<ArrayRef> {
    let kind = RangeType::of_element(element);
    let bounds = |place: usize| {
        let column = argument(columns, place)?;
        let found = column.data_type();
        if element == Element::Num && (has_unknown_digits(found) || found.is_floating()) {
            let message = "a range of numbers that do not know how many digits they had is not supported; cast them to \
                           numeric(precision, scale)";
            return Err(refusal("0A000", message));
        }
        let points = points(element, column, &of.zone)?;
        let is_outside = |point: &Point| matches!(point, Point::Integer(number) if i32::try_from(*number).is_err());
        if element == Element::Int4 && points.iter().flatten().any(is_outside) {
            return Err(refusal("22003", "integer out of range"));
        }
        Ok(points)
    };
    let (lower, upper) = (bounds(0)?, bounds(1)?);
    let flags = columns.get(2).map(|flags| as_texts(kind, flags)).transpose()?;
    text_of_rows(rows, |row| {
        let (is_lower_inclusive, is_upper_inclusive) = match &flags {
            None => (true, false),
            Some(flags) if flags.is_null(row) => {
                return Err(refusal("22000", "range constructor flags argument must not be null"));
            }
            Some(flags) => match flags.value(row) {
                "[)" => (true, false),
                "[]" => (true, true),
                "(]" => (false, true),
                "()" => (false, false),
                _ => return Err(refusal("42601", "invalid range bound flags")),
            },
        };
        let lower = Bound { point: lower.get(row).copied().flatten(), is_inclusive: is_lower_inclusive };
        let upper = Bound { point: upper.get(row).copied().flatten(), is_inclusive: is_upper_inclusive };
        write(kind, Span::new(element, lower, upper)?.as_slice()).map(Some)
    })
}

/// One of the functions.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct RangeFunction {
    name: String,
    task: Task,
    signature: Signature,
}

impl RangeFunction {
    fn udf(task: Task) -> ScalarUDF {
        ScalarUDF::from(Self { name: task.name(), task, signature: task.signature() })
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
    let of_elements = Element::ALL.into_iter().flat_map(|element| [Task::Make(element), Task::MakeMulti(element)]);
    let others = [
        Task::IsEmpty,
        Task::Inclusive(Side::Lower),
        Task::Inclusive(Side::Upper),
        Task::Infinite(Side::Lower),
        Task::Infinite(Side::Upper),
        Task::Merge,
        Task::Multi(None),
    ];
    of_elements.chain(others).map(RangeFunction::udf).collect()
}

impl ScalarUDFImpl for RangeFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.task.field(&self.name, &[])?.data_type().clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.task.field(&self.name, args.arg_fields)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let columns = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let options = &args.config_options;
        let zone = options.execution.time_zone.clone().unwrap_or_else(|| "UTC".into());
        let settings = Settings { style: DateStyle::of(options), zone };
        let values = self.task.evaluate(&self.name, &columns, &args.arg_fields, rows, &settings)?;
        match is_scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)),
            false => Ok(ColumnarValue::Array(values)),
        }
    }
}
