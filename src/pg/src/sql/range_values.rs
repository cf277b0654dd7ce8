//! Values of ranges and multiranges in expressions: casts of them and to them, what has one type of several, comparisons, and
//! arguments of their functions.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Between, BinaryExpr, Case, Cast, InList, Placeholder, ScalarFunction};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::logical_expr::{CreateMemoryTable, Expr, ExprSchemable, Operator, cast};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, DataType as SqlType};
use datafusion_postgres::arrow_pg::datatypes::into_pg_type;
use datafusion_postgres::pgwire::api::Type;
use neuroql::Refusal;
use neuroql::ranges::{self, RangeArgument, RangeType};
use postgres_types::Kind;

use crate::decode;
use crate::sql::json_values::results;
use crate::sql::marks::kind_of;
use crate::sql::rewrite::literal_casts;
use crate::wire::error_response::{SqlError, external};

/// The types of ranges and multiranges.
pub(crate) const KINDS: [Type; 12] = [
    Type::INT4_RANGE,
    Type::INT8_RANGE,
    Type::NUM_RANGE,
    Type::DATE_RANGE,
    Type::TS_RANGE,
    Type::TSTZ_RANGE,
    Type::INT4MULTI_RANGE,
    Type::INT8MULTI_RANGE,
    Type::NUMMULTI_RANGE,
    Type::DATEMULTI_RANGE,
    Type::TSMULTI_RANGE,
    Type::TSTZMULTI_RANGE,
];

/// Arrays of these types, in the same order.
const ARRAYS: [Type; 12] = [
    Type::INT4_RANGE_ARRAY,
    Type::INT8_RANGE_ARRAY,
    Type::NUM_RANGE_ARRAY,
    Type::DATE_RANGE_ARRAY,
    Type::TS_RANGE_ARRAY,
    Type::TSTZ_RANGE_ARRAY,
    Type::INT4MULTI_RANGE_ARRAY,
    Type::INT8MULTI_RANGE_ARRAY,
    Type::NUMMULTI_RANGE_ARRAY,
    Type::DATEMULTI_RANGE_ARRAY,
    Type::TSMULTI_RANGE_ARRAY,
    Type::TSTZMULTI_RANGE_ARRAY,
];

/// All types of [`KINDS`] and arrays of them, by their names.
static NAMED: LazyLock<Vec<(RangeType, Type)>> = LazyLock::new(|| {
    let all = KINDS.iter().chain(&ARRAYS);
    all.filter_map(|kind| Some((RangeType::named(kind.name())?, kind.clone()))).collect()
});

/// Returns which of the types one is, arrays included.
pub(crate) fn of_type(kind: &Type) -> Option<RangeType> {
    NAMED.iter().find(|(_, known)| known == kind).map(|(found, _)| *found)
}

/// Returns the type that a field's metadata name.
pub(crate) fn of_field(field: &Field) -> Option<Type> {
    RangeType::of(field).and_then(type_of)
}

/// Returns the type of Postgres.
pub(crate) fn type_of(kind: RangeType) -> Option<Type> {
    NAMED.iter().find(|(known, _)| *known == kind).map(|(_, found)| found.clone())
}

/// Returns the type of a name such as `int4range`.
pub(crate) fn named(name: &str) -> Option<Type> {
    KINDS.into_iter().find(|kind| kind.name() == name)
}

/// Returns true for the name of one of the types, or of arrays of one.
pub(crate) fn is_name(data_type: &SqlType) -> bool {
    match data_type {
        SqlType::Array(ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::AngleBracket(item)) => {
            is_name(item)
        }
        plain => literal_casts::kind_of(plain).is_some_and(|kind| is_range(&kind)),
    }
}

/// Returns the type of arrays of one of the types.
pub(crate) fn array_of(item: &Type) -> Option<Type> {
    type_of(of_type(item).filter(|kind| !kind.is_array)?.array())
}

/// Returns true if values are written as the settings of a session say.
pub(crate) fn is_of_moments(kind: &Type) -> bool {
    of_type(kind).is_some_and(|kind| kind.element.is_moment())
}

/// Plans the types, and leaves others to the next planner.
#[derive(Debug)]
pub(crate) struct RangeTypes<P> {
    next: P,
}

impl<P> RangeTypes<P> {
    pub(crate) fn before(next: P) -> Self {
        Self { next }
    }
}

impl<P: TypePlanner> TypePlanner for RangeTypes<P> {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        let plain = |sql_type: &SqlType| literal_casts::kind_of(sql_type).as_ref().and_then(of_type);
        if let SqlType::Array(ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::AngleBracket(item)) =
            sql_type
        {
            match item.as_ref() {
                SqlType::Array(ArrayElemTypeDef::SquareBracket(inner, _)) if plain(inner).is_some() => {
                    return Err(Refusal::error("0A000", format!("type {sql_type} is not supported")));
                }
                item => {
                    if let Some(kind) = plain(item) {
                        return Ok(Some(kind.array().field("")));
                    }
                }
            }
        }
        match plain(sql_type) {
            Some(kind) => Ok(Some(kind.field(""))),
            None => self.next.plan_type_field(sql_type),
        }
    }
}

/// Returns true for a text or NULL that has no type yet.
fn is_unknown(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Null | ScalarValue::Utf8(_) | ScalarValue::Utf8View(_), None))
}

/// Returns the text of a constant that has no type yet.
fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), None) => Some(text),
        _ => None,
    }
}

/// Returns a text or NULL without a type as a value of the type.
///
/// # Errors
/// 0A000 for an instant that names no time zone: it is not known whose it would be.
fn read(expr: Expr, kind: RangeType) -> Result<Expr> {
    if let Some(text) = text_of(&expr) {
        let depends = match kind.is_array {
            true => decode::items(text)
                .into_iter()
                .flatten()
                .flatten()
                .any(|item| ranges::depends_on_zone(kind.item(), &item)),
            false => ranges::depends_on_zone(kind, text),
        };
        if depends {
            let message = format!("'{text}' is not supported here without its time zone; write the zone behind");
            return Err(Refusal::error("0A000", message));
        }
    }
    let expr = if matches!(expr, Expr::Literal(ScalarValue::Null, _)) {
        Expr::Literal(ScalarValue::Utf8(None), None)
    } else {
        expr
    };
    Ok(ranges::read(expr, kind))
}

/// Returns an expression that has ranges in it as one that answers as Postgres does.
///
/// # Errors
/// 22P02 for a text that is no range, 42846 for casts that do not exist.
pub(super) fn settled(part: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let range_of = |expr: &Expr| kind_of(expr, schema).as_ref().and_then(of_type);
    match part {
        Expr::Cast(cast) => cast_of(cast, schema),
        Expr::Case(case) if case.expr.as_ref().is_some_and(|tested| range_of(tested).is_some()) => tested(case, schema),
        Expr::Case(mut case) => {
            let Some(kind) = results(&case).find_map(range_of) else { return Ok(Transformed::no(Expr::Case(case))) };
            let thens = case.when_then_expr.iter_mut().map(|(_, then)| then);
            for result in thens.chain(case.else_expr.as_mut()) {
                **result = one_of(std::mem::take(result.as_mut()), kind, "CASE", schema)?;
            }
            Ok(Transformed::yes(ranges::typed(Expr::Case(case), kind)))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
            let is_text = |expr: &Expr| {
                kind_of(expr, schema).is_none() && expr.get_type(schema).is_ok_and(|found| found.is_string())
            };
            let (left, right, changed) = match (range_of(&left), range_of(&right)) {
                (Some(kind), None) if !kind.is_array && is_text(&right) => {
                    (Box::new(ranges::text(*left, kind)), right, true)
                }
                (None, Some(kind)) if !kind.is_array && is_text(&left) => {
                    (left, Box::new(ranges::text(*right, kind)), true)
                }
                _ => (left, right, false),
            };
            let joined = Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right });
            Ok(Transformed::new_transformed(joined, changed))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) => {
            let kinds = (range_of(&left), range_of(&right));
            let (left, right) = match kinds {
                (Some(one), Some(other)) if one == other => return compared(one, *left, op, *right),
                (Some(kind), None) if is_unknown(&right) => return compared(kind, *left, op, read(*right, kind)?),
                (None, Some(kind)) if is_unknown(&left) => return compared(kind, read(*left, kind)?, op, *right),
                _ => (left, right),
            };
            Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })))
        }
        Expr::InList(InList { expr, list, negated }) => match range_of(&expr) {
            Some(kind) if list.iter().all(|item| is_unknown(item) || range_of(item) == Some(kind)) => {
                let list = list.into_iter().map(|item| key_of(item, kind)).collect::<Result<Vec<_>>>()?;
                let expr = Box::new(ranges::key(kind, *expr));
                Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })))
            }
            _ => Ok(Transformed::no(Expr::InList(InList { expr, list, negated }))),
        },
        Expr::Between(Between { expr, negated, low, high }) => match range_of(&expr) {
            Some(kind) if [&low, &high].iter().all(|end| is_unknown(end) || range_of(end) == Some(kind)) => {
                let (low, high) = (Box::new(key_of(*low, kind)?), Box::new(key_of(*high, kind)?));
                let expr = Box::new(ranges::key(kind, *expr));
                Ok(Transformed::yes(Expr::Between(Between { expr, negated, low, high })))
            }
            _ => Ok(Transformed::no(Expr::Between(Between { expr, negated, low, high }))),
        },
        Expr::ScalarFunction(call) => call_of(call, schema),
        other => Ok(Transformed::no(other)),
    }
}

/// Returns a CASE that tests a value, by the key of which it finds equal ones.
fn tested(mut case: Case, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let range_of = |expr: &Expr| kind_of(expr, schema).as_ref().and_then(of_type);
    let kind = case.expr.as_ref().and_then(|tested| range_of(tested));
    let fits = case.when_then_expr.iter().all(|(when, _)| is_unknown(when) || range_of(when) == kind);
    let (Some(kind), true, Some(tested)) = (kind, fits, case.expr.as_mut()) else {
        return Ok(Transformed::no(Expr::Case(case)));
    };
    **tested = ranges::key(kind, std::mem::take(tested.as_mut()));
    for (when, _) in &mut case.when_then_expr {
        **when = key_of(std::mem::take(when.as_mut()), kind)?;
    }
    Ok(Transformed::yes(Expr::Case(case)))
}

fn compared(kind: RangeType, left: Expr, op: Operator, right: Expr) -> Result<Transformed<Expr>> {
    Ok(Transformed::yes(ranges::compared(kind, left, op, right)))
}

fn key_of(value: Expr, kind: RangeType) -> Result<Expr> {
    let value = if is_unknown(&value) { read(value, kind)? } else { value };
    Ok(ranges::key(kind, value))
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn call_of(mut call: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let range_of = |expr: &Expr| kind_of(expr, schema).as_ref().and_then(of_type);
    match (call.name(), ranges::arguments_of(&call)) {
        ("coalesce" | "make_array", _) => {
            let Some(kind) = call.args.iter().find_map(range_of) else {
                return Ok(Transformed::no(Expr::ScalarFunction(call)));
            };
            let place = if call.name() == "coalesce" { "COALESCE" } else { "ARRAY" };
            for arg in &mut call.args {
                *arg = one_of(std::mem::take(arg), kind, place, schema)?;
            }
            Ok(Transformed::yes(match call.name() {
                "coalesce" => ranges::typed(Expr::ScalarFunction(call), kind),
                _ => ranges::array(kind, call.args),
            }))
        }
        ("lower" | "upper", _) => match (call.args.first().and_then(range_of), call.name() == "upper") {
            (Some(kind), is_upper) if !kind.is_array => {
                Ok(Transformed::yes(ranges::end(kind, call.args.swap_remove(0), is_upper)))
            }
            _ => Ok(Transformed::no(Expr::ScalarFunction(call))),
        },
        // What the functions do with a value depends on its type, whatever became of its column when it runs.
        ("pg_typeof", _) | (_, Some(RangeArgument::Any)) => {
            let mut changed = false;
            for arg in call.args.iter_mut().filter(|arg| !matches!(arg, Expr::ScalarFunction(_))) {
                if let Some(kind) = range_of(arg) {
                    *arg = ranges::typed(std::mem::take(arg), kind);
                    changed = true;
                }
            }
            Ok(Transformed::new_transformed(Expr::ScalarFunction(call), changed))
        }
        // A text by itself is cast.
        (_, Some(RangeArgument::Bounds(element))) if matches!(call.args.as_slice(), [one] if is_unknown(one)) => {
            Ok(Transformed::yes(read(call.args.swap_remove(0), RangeType::of_element(element))?))
        }
        (_, Some(RangeArgument::Ranges(element))) => {
            let kind = RangeType::of_element(element);
            if matches!(call.args.as_slice(), [one] if is_unknown(one)) {
                return Ok(Transformed::yes(read(call.args.swap_remove(0), kind.multi())?));
            }
            let mut changed = false;
            for arg in call.args.iter_mut().filter(|arg| is_unknown(arg)) {
                *arg = read(std::mem::take(arg), kind)?;
                changed = true;
            }
            Ok(Transformed::new_transformed(Expr::ScalarFunction(call), changed))
        }
        (_, Some(RangeArgument::Bounds(ranges::Element::Tstz))) => {
            let instant = |text: &str, zone: &str| ranges::instant(text, zone).ok();
            let depends = |text: &&str| instant(text, "UTC") != instant(text, "+01:00");
            let found = call.args.iter().take(2).filter_map(text_of).find(depends).map(str::to_owned);
            match found {
                Some(text) => {
                    let message =
                        format!("'{text}' is not supported here without its time zone; write the zone behind");
                    Err(Refusal::error("0A000", message))
                }
                None => Ok(Transformed::no(Expr::ScalarFunction(call))),
            }
        }
        // Constants have the digits that were written.
        (_, Some(RangeArgument::Bounds(ranges::Element::Num))) => {
            let mut changed = false;
            for arg in &mut call.args {
                if let Expr::Cast(cast) = arg
                    && *cast.field.data_type() == DataType::Decimal128(38, 10)
                    && matches!(
                        *cast.expr,
                        Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Int64(_) | ScalarValue::Null, None)
                    )
                {
                    *arg = std::mem::take(cast.expr.as_mut());
                    changed = true;
                }
            }
            Ok(Transformed::new_transformed(Expr::ScalarFunction(call), changed))
        }
        _ if ranges::is_repeated(&call) => Ok(Transformed::yes(call.args.swap_remove(0))),
        _ => Ok(Transformed::no(Expr::ScalarFunction(call))),
    }
}

/// Returns the key by which a value is sorted.
pub(super) fn sorted(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match kind_of(&expr, schema).as_ref().and_then(of_type) {
        Some(kind) => Transformed::yes(ranges::key(kind, expr)),
        None => Transformed::no(expr),
    }
}

/// Returns a value that stands beside one of the type as a value of it.
fn one_of(value: Expr, kind: RangeType, place: &str, schema: &DFSchema) -> Result<Expr> {
    match kind_of(&value, schema) {
        Some(found) if of_type(&found) == Some(kind) => Ok(value),
        Some(found) if is_range(&found) => {
            let message = format!("{place} could not convert type {} to {}", decode::name(&found), kind.shown());
            Err(external(SqlError::error("42846", message)))
        }
        None if is_unknown(&value) => read(value, kind),
        None if matches!(value, Expr::Placeholder(Placeholder { field: None, .. })) => Ok(value),
        None if value.get_type(schema).is_ok_and(|found| found.is_null()) => Ok(value),
        found => {
            let found = found.map_or_else(|| type_name(&value, schema), |found| decode::name(&found));
            let message = format!("{place} types {} and {found} cannot be matched", kind.shown());
            Err(external(SqlError::error("42804", message)))
        }
    }
}

fn type_name(expr: &Expr, schema: &DFSchema) -> String {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(number)), None) if i32::try_from(*number).is_ok() => "integer".into(),
        Expr::Literal(ScalarValue::Float64(_), None) => "numeric".into(),
        _ if is_unknown(expr) => "unknown".into(),
        _ => match expr.get_type(schema) {
            Ok(found) => into_pg_type(&found).map_or_else(|_| found.to_string(), |kind| decode::name(&kind)),
            Err(_) => "unknown".into(),
        },
    }
}

fn cast_of(cast: Cast, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let from = kind_of(&cast.expr, schema);
    let refused = |from: &str, to: &str| external(SqlError::error("42846", format!("cannot cast type {from} to {to}")));
    let found = cast.expr.get_type(schema).unwrap_or(DataType::Null);
    let is_text = |found: &DataType| match found {
        DataType::Dictionary(_, values) => values.is_string(),
        found => found.is_string() || found.is_null(),
    };
    match (from.as_ref().map(|from| (from, of_type(from))), RangeType::of(&cast.field)) {
        (Some((_, Some(from))), Some(to)) if from == to => Ok(Transformed::yes(*cast.expr)),
        (Some((_, Some(from))), Some(to)) if !from.is_array && !from.is_multi && from.multi() == to => {
            Ok(Transformed::yes(ranges::multirange(*cast.expr, from)))
        }
        (Some((from, _)), Some(to)) => Err(refused(&decode::name(from), &to.shown())),
        (None, Some(to)) if matches!(*cast.expr, Expr::Placeholder(Placeholder { field: None, .. })) => {
            Ok(Transformed::no(Expr::Cast(Cast { field: to.field(cast.field.name()), expr: cast.expr })))
        }
        (None, Some(to)) => {
            let fits = match &found {
                DataType::List(item) => to.is_array && is_text(item.data_type()),
                found => is_text(found),
            };
            if !fits {
                return Err(refused(&type_name(&cast.expr, schema), &to.shown()));
            }
            let text = match &found {
                DataType::Utf8 | DataType::Null | DataType::List(_) => *cast.expr,
                _ => self::cast(*cast.expr, DataType::Utf8),
            };
            Ok(Transformed::yes(read(text, to)?))
        }
        (Some((_, Some(from))), None) => {
            let to = cast.field.data_type();
            let is_written =
                to.is_string() || matches!(to, DataType::List(item) if from.is_array && item.data_type().is_string());
            if !is_written {
                let name = into_pg_type(to).map_or_else(|_| to.to_string(), |kind| decode::name(&kind));
                return Err(refused(&from.shown(), &name));
            }
            if !from.element.is_moment() {
                return Ok(Transformed::no(Expr::Cast(cast)));
            }
            let expr = Box::new(ranges::text(*cast.expr, from));
            Ok(Transformed::yes(Expr::Cast(Cast { expr, field: cast.field })))
        }
        _ => Ok(Transformed::no(Expr::Cast(cast))),
    }
}

/// Returns the types of parameters among the arguments of a call of these functions.
pub(super) fn argument_types(call: &ScalarFunction) -> Option<Vec<Option<FieldRef>>> {
    let plain = |data_type: DataType| Some(Arc::new(Field::new("argument", data_type, true)));
    let field = |place: usize| match ranges::arguments_of(call)? {
        RangeArgument::Bounds(element) if place < 2 => plain(element.data_type()),
        RangeArgument::Bounds(_) => plain(DataType::Utf8),
        RangeArgument::Ranges(element) => Some(RangeType::of_element(element).field("argument")),
        RangeArgument::Any => None,
    };
    ranges::arguments_of(call)?;
    Some((0..call.args.len()).map(field).collect())
}

/// Checks the arguments of a call, if it is one of these functions.
///
/// # Errors
/// 42883 if there is no such function.
pub(super) fn check_call(call: &ScalarFunction, schema: &DFSchema) -> Option<Result<(), SqlError>> {
    if !ranges::is_call(call) {
        return None;
    }
    let fits = |(place, arg): (usize, &Expr)| {
        let is_text = arg.get_type(schema).is_ok_and(|found| found.is_string());
        let kind = kind_of(arg, schema);
        match ranges::arguments_of(call) {
            Some(RangeArgument::Bounds(_)) if place < 2 => {
                kind.is_none() && (!is_text || is_unknown(arg)) && call.args.len() > 1
            }
            Some(RangeArgument::Bounds(_)) => kind.is_none(),
            Some(RangeArgument::Ranges(element)) => {
                kind.as_ref().and_then(of_type) == Some(RangeType::of_element(element)) || !is_text || is_unknown(arg)
            }
            _ => true,
        }
    };
    if call.args.iter().enumerate().all(fits) {
        return Some(Ok(()));
    }
    let types = call.args.iter().map(|arg| match kind_of(arg, schema) {
        Some(kind) => decode::name(&kind),
        None => type_name(arg, schema),
    });
    let message = format!("function {}({}) does not exist", call.name(), types.collect::<Vec<_>>().join(", "));
    let hint = "No function matches the given name and argument types. You might need to add explicit type casts.";
    Some(Err(SqlError::error("42883", message).with_hint(hint)))
}

/// Reads the defaults of columns of these types.
///
/// # Errors
/// 22P02 for a text that is no range, 0A000 for a default that is no constant.
pub(super) fn read_defaults(table: &mut CreateMemoryTable) -> Result<()> {
    for (name, default) in &mut table.column_defaults {
        let Ok(field) = table.input.schema().field_with_unqualified_name(name) else { continue };
        let Some(kind) = RangeType::of(field) else { continue };
        let constant = match &*default {
            Expr::Cast(cast) if RangeType::of(&cast.field) == Some(kind) => cast.expr.as_ref(),
            Expr::ScalarFunction(call) if ranges::is_call(call) => match call.args.as_slice() {
                [constant] => constant,
                _ => default,
            },
            other => other,
        };
        if !is_unknown(constant) || kind.is_array && text_of(constant).is_some() {
            let message = format!("a default of type {} that is no constant is not supported", kind.shown());
            return Err(external(SqlError::not_supported(message)));
        }
        *default = match text_of(constant) {
            None => Expr::Literal(ScalarValue::try_from(&kind.data_type())?, None),
            Some(text) => {
                read(constant.clone(), kind)?;
                let text = ranges::normal(kind, text, "UTC")?;
                Expr::Literal(ScalarValue::Utf8(Some(text)), None)
            }
        };
    }
    Ok(())
}

/// Returns true if a type is one of these, or arrays of one.
pub(crate) fn is_range(kind: &Type) -> bool {
    match kind.kind() {
        Kind::Array(item) => of_type(item).is_some(),
        _ => of_type(kind).is_some(),
    }
}
