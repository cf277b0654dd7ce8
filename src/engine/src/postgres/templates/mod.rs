//! `to_char`, `to_number`, `to_date` and `to_timestamp`, with the templates of PostgreSQL.

mod moments;
mod numbers;
mod read_moments;
mod read_numbers;

use std::str::FromStr;
use std::sync::Arc;

use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, StringBuilder};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampNanosecondType,
};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, exec_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, cast, lit,
};
use datafusion::scalar::ScalarValue;

use super::casts::{arrow_cast, unit};
use super::decimal;
use super::instants::is_utc;
use super::operators::as_integer;
use super::overloads::{Columns, Form, Kind, Overloaded};
use super::refusal::{refusal, type_name};
use super::zones::shifted;

use moments::{Fields, Key, Node};
use numbers::{Template, Value};

/// An SQLSTATE and a message.
type Wrong = (&'static str, String);

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// Calls that are rewritten before types are coerced.
pub(super) const REWRITTEN: [&str; 4] = ["to_char", "to_number", "to_date", "to_timestamp"];

/// The longest template, in bytes: each takes memory for its patterns, and says how many digits there are.
const LONGEST: usize = 10_000;

/// Checks that a template is not too long.
fn check_length(template: &str) -> Result<()> {
    if template.len() <= LONGEST {
        return Ok(());
    }
    Err(refusal("54000", format!("a template of more than {LONGEST} bytes is not supported")))
}

/// Returns the letters up to a quotation mark, before each of which a backslash may stand, and what comes behind the mark.
fn quoted(text: &str) -> (Vec<char>, &str) {
    let mut letters = text.char_indices();
    let mut found = Vec::new();
    while let Some((place, letter)) = letters.next() {
        match letter {
            '"' => return (found, &text[place + 1..]),
            '\\' => found.push(letters.next().map_or('\\', |(_, letter)| letter)),
            letter => found.push(letter),
        }
    }
    (found, "")
}

fn error((code, message): Wrong) -> DataFusionError {
    refusal(code, message)
}

/// Returns the functions. `to_char` is DataFusion's.
pub(super) fn functions(to_char: Arc<ScalarUDF>) -> Vec<ScalarUDF> {
    let signature = || Signature::user_defined(Volatility::Immutable);
    vec![
        ScalarUDF::from(ToChar { function: to_char, signature: signature() }),
        ScalarUDF::from(ToNumber { signature: signature() }),
        to_date(),
        to_timestamp(),
    ]
}

fn to_date() -> ScalarUDF {
    const FORMS: &[Form] = &[Form { takes: &[Kind::Text, Kind::Text], gives: Kind::Date, compute: dates }];
    Overloaded::strict("pg_to_date", FORMS)
}

/// Returns the function of texts, templates and the zone of the session.
fn to_timestamp() -> ScalarUDF {
    const FORMS: &[Form] =
        &[Form { takes: &[Kind::Text, Kind::Text, Kind::Text], gives: Kind::Instant, compute: instants }];
    Overloaded::strict("pg_to_timestamp", FORMS)
}

/// Returns the text of a constant.
fn constant(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}

/// Rewrites a call of one of [`REWRITTEN`]. Templates with `%` are those of DataFusion.
pub(super) fn rewritten(mut call: ScalarFunction, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    let [value, template] = &call.args[..] else { return Ok(Transformed::no(Expr::ScalarFunction(call))) };
    let is_of_datafusion = constant(template).is_some_and(|template| template.contains('%'));
    match call.name() {
        // A number of a statement is an `integer`, or `numeric` if it has a point.
        "to_char" => {
            let number = decimal::as_numeric(value).unwrap_or_else(|| as_integer(value.clone()));
            let is_other = number != *value;
            call.args[0] = number;
            Ok(Transformed::new_transformed(Expr::ScalarFunction(call), is_other))
        }
        "to_number" => match (constant(value), constant(template)) {
            (Some(text), Some(template)) if !template.is_empty() => {
                let number = parsed_number(template)?.read(text).map_err(error)?;
                let scale = i8::try_from(number.scale).unwrap_or(i8::MAX);
                Ok(Transformed::yes(lit(ScalarValue::Decimal128(Some(number.digits), 38, scale))))
            }
            _ => Ok(Transformed::no(Expr::ScalarFunction(call))),
        },
        name if !is_of_datafusion && !matches!(value.get_type(schema), Ok(found) if found.is_numeric()) => {
            let planned = Expr::ScalarFunction(call.clone()).get_type(schema);
            let read = match name {
                "to_date" => to_date().call(call.args),
                _ => {
                    call.args.push(lit(zone));
                    to_timestamp().call(call.args)
                }
            };
            Ok(Transformed::yes(match planned {
                Ok(planned) => cast(read, planned),
                Err(_) => read,
            }))
        }
        _ => Ok(Transformed::no(Expr::ScalarFunction(call))),
    }
}

/// Reads a template of `to_number`.
fn parsed_number(template: &str) -> Result<Template> {
    check_length(template)?;
    let template = Template::parse(template).map_err(error)?;
    if template.is_shifted() {
        return Err(refusal("0A000", "to_number with \"V\" is not supported"));
    }
    Ok(template)
}

/// `to_char`, with templates of PostgreSQL or, for moments, with those of DataFusion.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToChar {
    function: Arc<ScalarUDF>,
    signature: Signature,
}

impl ToChar {
    /// Returns the types that arguments are cast to.
    fn types(given: &[DataType]) -> Result<Vec<DataType>> {
        let value = match given {
            [value, template] if template.is_string() || template.is_null() => match value {
                DataType::Date32
                | DataType::Timestamp(..)
                | DataType::Int32
                | DataType::Int64
                | DataType::Float32
                | DataType::Float64
                | DataType::Decimal128(..) => Some(value.clone()),
                DataType::Time64(_) => Some(DataType::Time64(TimeUnit::Nanosecond)),
                DataType::Interval(_) => Some(DataType::Interval(IntervalUnit::MonthDayNano)),
                DataType::Int16 => Some(DataType::Int32),
                DataType::Null => Some(DataType::Timestamp(TimeUnit::Nanosecond, None)),
                _ => None,
            },
            _ => None,
        };
        let types = || given.iter().map(type_name).collect::<Vec<_>>().join(", ");
        let missing = || refusal("42883", format!("function to_char({}) does not exist", types()));
        Ok(vec![value.ok_or_else(missing)?, DataType::Utf8])
    }
}

impl ScalarUDFImpl for ToChar {
    delegate!(name, aliases, documentation, is_strict);

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        // The planner would wrap an error of this method; that of the result's type goes as it is.
        Ok(Self::types(given).unwrap_or_else(|_| given.to_vec()))
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Self::types(given).map(|_| DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [values, templates] = &args.args[..] else { return exec_err!("{} takes two arguments", self.name()) };
        let data_type = values.data_type();
        if data_type.is_null() || templates.data_type().is_null() {
            return Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None)));
        }
        let is_moment = matches!(data_type, DataType::Date32 | DataType::Timestamp(..) | DataType::Time64(_));
        if let ColumnarValue::Scalar(template) = templates
            && is_moment
            && template.try_as_str().flatten().is_some_and(|template| template.contains('%'))
        {
            return self.function.invoke_with_args(args);
        }
        let is_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let (values, templates) = (values.to_array(rows)?, arrow_cast(&templates.to_array(rows)?, &DataType::Utf8)?);
        let templates = templates.as_string::<i32>();
        let is_number = data_type.is_numeric();
        let mut texts = StringBuilder::new();
        // A column of one template is the rule.
        let mut moments: Option<(&str, Vec<Node>)> = None;
        let mut numbers: Option<(&str, Template)> = None;
        for row in 0..rows {
            if values.is_null(row) || templates.is_null(row) {
                texts.append_null();
                continue;
            }
            let template = templates.value(row);
            check_length(template)?;
            if template.is_empty() {
                texts.append_option(is_number.then_some(""));
                continue;
            }
            if is_number {
                if numbers.as_ref().is_none_or(|(known, _)| *known != template) {
                    numbers = Some((template, Template::parse(template).map_err(error)?));
                }
                let Some((_, parsed)) = &numbers else { continue };
                texts.append_value(parsed.written(number(&values, row)?).map_err(error)?);
                continue;
            }
            if moments.as_ref().is_none_or(|(known, _)| *known != template) {
                let parsed = moments::parsed(template);
                if data_type == DataType::Date32 {
                    check_zones(&parsed)?;
                }
                moments = Some((template, parsed));
            }
            let Some((_, parsed)) = &moments else { continue };
            texts.append_value(moments::written(parsed, &fields(&values, row)?).map_err(error)?);
        }
        let texts: ArrayRef = Arc::new(texts.finish());
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&texts, 0)?),
            false => ColumnarValue::Array(texts),
        })
    }
}

/// Refuses patterns of zones, which Postgres takes of the session for a date.
fn check_zones(nodes: &[Node]) -> Result<()> {
    for node in nodes {
        if let Node::Pattern { key: Key::Zone | Key::ZoneHour | Key::ZoneMinute | Key::Offset, written, .. } = node {
            let message = format!("the pattern \"{written}\" of to_char is not supported for a date; use timestamptz");
            return Err(refusal("0A000", message));
        }
    }
    Ok(())
}

fn number(values: &ArrayRef, row: usize) -> Result<Value> {
    Ok(match values.data_type() {
        DataType::Int32 => Value::Integer(values.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => Value::Bigint(values.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => Value::Float(values.as_primitive::<Float32Type>().value(row).into(), 6),
        DataType::Float64 => Value::Float(values.as_primitive::<Float64Type>().value(row), 15),
        DataType::Decimal128(_, scale @ 0..) => {
            Value::Numeric(values.as_primitive::<Decimal128Type>().value(row), usize::from(scale.unsigned_abs()))
        }
        other => return exec_err!("to_char of {}", type_name(other)),
    })
}

/// Returns the fields of a moment or interval.
fn fields(values: &ArrayRef, row: usize) -> Result<Fields> {
    match values.data_type() {
        DataType::Date32 => Ok(Fields::of_moment(values.as_primitive::<Date32Type>().value(row).into(), 0)),
        DataType::Interval(_) => {
            let interval = values.as_primitive::<IntervalMonthDayNanoType>().value(row);
            let micros = interval.nanoseconds / 1000;
            Ok(Fields::of_interval(interval.months.into(), interval.days.into(), micros))
        }
        DataType::Time64(_) => {
            let nanos = arrow_cast(&values.slice(row, 1), &DataType::Int64)?;
            Ok(Fields::of_interval(0, 0, nanos.as_primitive::<Int64Type>().value(0) / 1000))
        }
        DataType::Timestamp(of, zone) => {
            let second = unit(*of);
            let moment = arrow_cast(&values.slice(row, 1), &DataType::Int64)?;
            let moment = moment.as_primitive::<Int64Type>().value(0);
            let out = || refusal("22008", "timestamp out of range");
            let local = match zone {
                Some(zone) => shifted(moment, second, Tz::from_str(zone)?, true).ok_or_else(out)?,
                None => moment,
            };
            let day = second.checked_mul(86_400).ok_or_else(out)?;
            let in_day = i128::from(local.rem_euclid(day)) * 1_000_000 / i128::from(second);
            let mut fields = Fields::of_moment(local.div_euclid(day), i64::try_from(in_day).unwrap_or(0));
            if let Some(zone) = zone {
                fields.offset = Some((local - moment) / second);
                fields.zone = is_utc(zone).then(|| "UTC".to_owned());
            }
            Ok(fields)
        }
        other => exec_err!("to_char of {}", type_name(other)),
    }
}

/// `to_number`, whose result has the digits behind the point that its template has.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToNumber {
    signature: Signature,
}

impl ScalarUDFImpl for ToNumber {
    fn name(&self) -> &str {
        "to_number"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if given.len() == 2 && given.iter().all(|given| given.is_string() || given.is_null()) {
            return Ok(vec![DataType::Utf8; 2]);
        }
        Ok(given.to_vec())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Err(refusal("0A000", "to_number with a template that is not a constant is not supported"))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let is_text = |field: &FieldRef| field.data_type().is_string() || field.data_type().is_null();
        if args.arg_fields.len() != 2 || !args.arg_fields.iter().all(is_text) {
            let types = args.arg_fields.iter().map(|field| type_name(field.data_type())).collect::<Vec<_>>().join(", ");
            return Err(refusal("42883", format!("function to_number({types}) does not exist")));
        }
        let template = match args.scalar_arguments.get(1).copied().flatten() {
            Some(template) => template.try_as_str().flatten().filter(|template| !template.is_empty()),
            None => return Err(self.return_type(&[]).err().unwrap_or_else(|| refusal("0A000", "to_number"))),
        };
        let scale = template.map(parsed_number).transpose()?.map_or(0, |template| template.scale());
        let scale = i8::try_from(scale).ok().filter(|scale| *scale <= 38);
        let scale = scale.ok_or_else(|| refusal("0A000", "numeric has no more than 38 digits here"))?;
        Ok(Arc::new(Field::new(self.name(), DataType::Decimal128(38, scale), true)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let DataType::Decimal128(precision, scale) = *args.return_field.data_type() else {
            return exec_err!("to_number gives {}", args.return_field.data_type());
        };
        let [texts, templates] = &args.args[..] else { return exec_err!("{} takes two arguments", self.name()) };
        let template = match templates {
            ColumnarValue::Scalar(template) => template.try_as_str().flatten().filter(|template| !template.is_empty()),
            ColumnarValue::Array(_) => return self.return_type(&[]).map(|_| templates.clone()),
        };
        let Some(template) = template.filter(|_| !texts.data_type().is_null()) else {
            return Ok(ColumnarValue::Scalar(ScalarValue::Decimal128(None, precision, scale)));
        };
        let parsed = parsed_number(template)?;
        let is_scalar = matches!(texts, ColumnarValue::Scalar(_));
        let texts = arrow_cast(&texts.to_array(if is_scalar { 1 } else { args.number_rows })?, &DataType::Utf8)?;
        let each = |text: Option<&str>| {
            let Some(text) = text else { return Ok(None) };
            let number = parsed.read(text).map_err(error)?;
            let more = u32::from(scale.unsigned_abs()).saturating_sub(number.scale as u32);
            let digits = 10i128.checked_pow(more).and_then(|power| number.digits.checked_mul(power));
            let digits = digits.filter(|digits| digits.unsigned_abs() < 10u128.pow(38));
            digits.map(Some).ok_or_else(|| refusal("22003", "numeric field overflow"))
        };
        let found = texts.as_string::<i32>().iter().map(each).collect::<Result<Decimal128Array>>()?;
        let found: ArrayRef = Arc::new(found.with_precision_and_scale(precision, scale)?);
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?),
            false => ColumnarValue::Array(found),
        })
    }
}

/// Returns a reader of the text of a row by its template.
fn each<'a>(args: &'a Columns) -> impl FnMut(usize) -> Result<read_moments::Moment> + use<'a> {
    let mut known: Option<(&'a str, Vec<Node>)> = None;
    move |row| {
        let (text, template) = (args.texts(0).value(row), args.texts(1).value(row));
        if known.as_ref().is_none_or(|(known, _)| *known != template) {
            check_length(template)?;
            known = Some((template, moments::parsed(template)));
        }
        let nodes = known.as_ref().map_or(&[][..], |(_, nodes)| nodes);
        read_moments::read(nodes, text).map_err(error)
    }
}

fn dates(args: &Columns) -> Result<ArrayRef> {
    /// 24 November 4714 BC, and the day behind 31 December 5874897.
    const RANGE: std::ops::Range<i64> = -2_440_588..2_145_042_541;
    let mut read = each(args);
    args.numbers::<Date32Type>(|row| {
        let day = i32::try_from(read(row)?.date).ok().filter(|day| RANGE.contains(&i64::from(*day)));
        day.ok_or_else(|| refusal("22008", format!("date out of range: \"{}\"", args.texts(0).value(row))))
    })
}

fn instants(args: &Columns) -> Result<ArrayRef> {
    const SECOND: i64 = 1_000_000_000;
    let mut read = each(args);
    let zones = args.texts(2);
    let found = args.each(|row| {
        let out = || refusal("22008", "timestamp out of range");
        let moment = read(row)?;
        let micros = moment.days.checked_mul(DAY).and_then(|days| days.checked_add(moment.micros));
        let shown = micros.and_then(|micros| micros.checked_mul(1000)).ok_or_else(out)?;
        match moment.offset {
            Some(offset) => shown.checked_sub(offset * SECOND).ok_or_else(out),
            None => shifted(shown, SECOND, Tz::from_str(zones.value(row))?, false).ok_or_else(out),
        }
    })?;
    let found = datafusion::arrow::array::PrimitiveArray::<TimestampNanosecondType>::from_iter(found);
    Ok(Arc::new(found.with_timezone("+00:00")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(template: &str, days: i64, micros: i64) -> String {
        moments::written(&moments::parsed(template), &Fields::of_moment(days, micros)).unwrap()
    }

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn moments_are_written() {
        // 2002-04-20 17:31:12.66
        let of = |template: &str| shown(template, 11_797, 63_072_660_000);
        assert_eq!(of("Day, DD  HH12:MI:SS"), "Saturday , 20  05:31:12");
        assert_eq!(of("FMDay, FMDD  HH12:MI:SS"), "Saturday, 20  05:31:12");
        assert_eq!(of("YYYY-MM-DD HH24:MI:SS.MS"), "2002-04-20 17:31:12.660");
        assert_eq!(of("Q WW IW IYYY DDD J DDth"), "2 16 16 2002 110 2452385 20th");
        assert_eq!(of("\"Year:\" Y,YYY a.m. RM CC"), "Year: 2,002 p.m. IV   21");
        let interval = Fields::of_interval(14, -3, -5_400_000_000);
        let of = |template: &str| moments::written(&moments::parsed(template), &interval);
        assert_eq!(of("YYYY MM DD HH24:MI").unwrap(), "0001 02 -3 -01:-30");
        assert_eq!(of("Month").map_err(|(code, _)| code), Err("22007"));
    }

    #[test]
    fn numbers_are_written() {
        let of = |template: &str, value| Template::parse(template).and_then(|parsed| parsed.written(value));
        for (template, value, expected) in [
            ("999", Value::Integer(125), " 125"),
            ("999D99S", Value::Numeric(-1258, 1), "125.80-"),
            ("FM999,999,999.00", Value::Numeric(-1234567891, 3), "-1,234,567.89"),
            ("FM990.99", Value::Numeric(5, 1), "0.5"),
            ("0000.0", Value::Numeric(99996, 4), " 0010.0"),
            ("999PR", Value::Integer(-485), "<485>"),
            ("FMRN", Value::Integer(485), "CDLXXXV"),
            ("999th", Value::Integer(482), " 482nd"),
            ("9.99EEEE", Value::Float(485.8, 15), " 4.86e+02"),
            ("99V99", Value::Numeric(124, 1), " 1240"),
            ("99", Value::Integer(485), " ##"),
            ("9.9", Value::Float(-0.04, 15), " -.0"),
        ] {
            assert_eq!(of(template, value).as_deref(), Ok(expected), "{template}");
        }
        assert_eq!(of("9.9.9", Value::Integer(1)).map_err(|(code, _)| code), Err("42601"));
    }

    #[test]
    fn numbers_are_read() {
        let of = |text: &str, template: &str| Template::parse(template).unwrap().read(text);
        let number = |digits, scale| Ok(read_numbers::Number { digits, scale });
        assert_eq!(of("12,454.8-", "99G999D9S"), number(-124_548, 1));
        assert_eq!(of("<12>", "999PR"), number(-12, 0));
        assert_eq!(of("12", "999.99"), number(12, 0));
        assert!(of("", "999").is_err() && of("1", "RN").is_err());
    }

    #[test]
    fn moments_are_read() {
        let of = |text: &str, template: &str| {
            read_moments::read(&moments::parsed(template), text).map(|found| (found.days, found.micros, found.offset))
        };
        assert_eq!(of("05 Dec 2000", "DD Mon YYYY"), Ok((11_296, 0, None)));
        assert_eq!(of("2000-060", "YYYY-DDD"), Ok((11_016, 0, None)));
        assert_eq!(of("2005-01-3", "IYYY-IW-ID"), Ok((12_788, 0, None)));
        assert_eq!(of("20001205 1:02 PM", "YYYYMMDD HH:MI AM"), Ok((11_296, 46_920_000_000, None)));
        assert_eq!(
            of("2000-12-05 10:11 -05:30", "YYYY-MM-DD HH24:MI TZH:TZM"),
            Ok((11_296, 36_660_000_000, Some(-19_800)))
        );
        for (text, template, code) in [
            ("2000-02-30", "YYYY-MM-DD", "22008"),
            ("2000-13-01", "YYYY-MM-DD", "22008"),
            ("abc", "YYYY", "22007"),
            ("13:00 AM", "HH12:MI AM", "22007"),
            ("UTC", "TZ", "0A000"),
        ] {
            assert_eq!(of(text, template).map_err(|(code, _)| code), Err(code), "{text} {template}");
        }
    }
}
