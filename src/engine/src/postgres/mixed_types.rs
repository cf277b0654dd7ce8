//! The types of values that stand together: in a column of a set operation or of VALUES, among the results of a CASE, in an
//! array, on both sides of a comparison.
//!
//! Postgres reads a constant text as a value of the others' type, and refuses any other text; it takes `numeric` beside a
//! floating-point number for one, and a date beside an instant for the instant at which it begins. DataFusion makes texts of
//! all, `numeric` of floating-point numbers, and moments without a zone of instants.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, JoinType};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{BinaryExpr, Case, InList, InSubquery, ScalarFunction, WindowFunction};
use datafusion::logical_expr::utils::disjunction;
use datafusion::logical_expr::{
    Between, Expr, ExprSchemable, Join, LogicalPlan, Operator, Projection, RecursiveQuery, Subquery, Union,
    binary_expr, cast, lit,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

use super::common_types::{Class, cast_to_common, class, results};
use super::exists::quantified;
use super::instants::is_utc;
use super::mixed_moments::{at, of_moments, with_micros};
use super::refusal::{refusal, type_name};
use super::rules::each_expression;
use super::set_operations::is_set_operation;
use super::types::UNCONSTRAINED;
use super::uuids::{self, UUID};

/// Gives values that stand together the types that Postgres gives them; to be run before types are coerced.
#[derive(Debug)]
pub(super) struct MixedTypes;

impl AnalyzerRule for MixedTypes {
    fn name(&self) -> &str {
        "postgres_mixed_types"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let zone = config.execution.time_zone.as_deref().unwrap_or("UTC");
        let plan = each_expression(plan, quantified)?;
        let plan = columns_matched(plan, zone)?;
        each_expression(plan, |expr, schema| matched(expr, schema, zone))
    }
}

/// Properties of a value beside its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    /// It is a constant, which its place in a scan depends on.
    Constant,
    /// It is a number with a point as it stands in the statement, which is `numeric` beside such.
    Point,
    /// It is a text as it stands in the statement, which is a value of the others' type.
    Text,
}

/// A value beside others.
#[derive(Debug, Clone)]
struct Beside {
    data_type: DataType,
    known: Known,
}

impl Beside {
    fn of(expr: &Expr, schema: &DFSchema) -> Option<Self> {
        Some(Self { data_type: expr.get_type(schema).ok()?, known: known(expr) })
    }

    /// The column of a plan.
    fn column(plan: &LogicalPlan, index: usize) -> Self {
        let data_type = plan.schema().field(index).data_type().clone();
        Self { data_type, known: output(plan, index).map_or(Known::Nothing, known) }
    }

    /// True for a value whose type counts: it is neither a constant text nor NULL.
    fn is_typed(&self) -> bool {
        self.known != Known::Text && self.data_type != DataType::Null
    }

    fn is_float(&self) -> bool {
        matches!(self.data_type, DataType::Float32 | DataType::Float64)
    }
}

fn known(expr: &Expr) -> Known {
    match expr {
        Expr::Alias(alias) => known(&alias.expr),
        Expr::Negative(inner) if known(inner) == Known::Point => Known::Point,
        Expr::Literal(ScalarValue::Float64(Some(_)), None) => Known::Point,
        Expr::Literal(value, _) if value.data_type().is_string() => Known::Text,
        Expr::Literal(..) => Known::Constant,
        _ => Known::Nothing,
    }
}

/// Returns the expression of a column in a select list.
fn output(plan: &LogicalPlan, index: usize) -> Option<&Expr> {
    match plan {
        LogicalPlan::Projection(projection) => projection.expr.get(index),
        LogicalPlan::Sort(sort) => output(&sort.input, index),
        LogicalPlan::Limit(limit) => output(&limit.input, index),
        _ => None,
    }
}

/// Returns the place of a type among those of its class: values of the others are read as those of the last.
fn rank(data_type: &DataType) -> u8 {
    match data_type {
        DataType::Int16 | DataType::Date32 | DataType::Date64 => 1,
        DataType::Int32 | DataType::Timestamp(_, None) => 2,
        DataType::Int64 | DataType::Timestamp(_, Some(_)) => 3,
        other if other.is_decimal() => 4,
        DataType::Float32 => 5,
        DataType::Float64 => 6,
        _ => 0,
    }
}

/// Returns the types that each value is cast to in turn, so that all have the type that Postgres gives them; none where
/// DataFusion does as Postgres. `zone` is that of the session; where it is not known, moments are made instants later.
///
/// # Errors
/// 42804 or 42846 if values cannot stand together.
fn casts(what: &str, zone: Option<&str>, values: &[Beside]) -> Result<Vec<Vec<DataType>>> {
    let mut casts: Vec<Vec<DataType>> = vec![Vec::new(); values.len()];
    let typed: Vec<&Beside> = values.iter().filter(|value| value.is_typed()).collect();
    let Some(first) = typed.first() else {
        // Nothing but NULL and constant texts is text, also for the set operation above.
        if what == "UNION" && values.iter().any(|value| value.known == Known::Text) {
            for (value, types) in values.iter().zip(&mut casts) {
                types.extend((value.data_type == DataType::Null).then_some(DataType::Utf8));
            }
        }
        return Ok(casts);
    };
    typed.iter().try_for_each(|other| check_pair(what, &first.data_type, &other.data_type))?;
    let floats = || typed.iter().filter(|value| value.is_float() && value.known != Known::Point);
    let float = match floats().any(|value| value.data_type == DataType::Float64) {
        true => Some(DataType::Float64),
        false => floats().next().map(|value| value.data_type.clone()),
    };
    // A constant of a statement is `double precision` here, which beside `real` is too precise.
    let is_real = float == Some(DataType::Float32);
    let is_point = |value: &Beside| value.known == Known::Point;
    let float = float.filter(|_| typed.iter().any(|value| value.data_type.is_decimal() || is_real && is_point(value)));
    let type_of = |value: &&Beside| match &float {
        Some(float) if is_point(value) => float.clone(),
        _ => value.data_type.clone(),
    };
    let greatest = typed.iter().map(type_of).max_by_key(rank).unwrap_or_else(|| first.data_type.clone());
    let instant =
        typed.iter().map(|value| &value.data_type).find(|found| matches!(found, DataType::Timestamp(_, Some(_))));
    for (value, types) in values.iter().zip(&mut casts) {
        match (&value.data_type, &float, instant) {
            // The planner has no array of both.
            (DataType::Null, ..) if what == "ARRAY" && (greatest == UUID || greatest == DataType::Binary) => {
                types.push(greatest.clone());
            }
            _ if value.known == Known::Text => match (class(&first.data_type), instant, zone) {
                (Class::Text | Class::Other, ..) | (_, Some(_), None) => {}
                (_, Some(instant), Some(zone)) => types.extend(at(zone, instant, TimeUnit::Microsecond)),
                _ => types.push(with_micros(&greatest)),
            },
            (found, Some(float), _) if found.is_decimal() || value.known == Known::Point => types.push(float.clone()),
            (DataType::Date32 | DataType::Date64, _, Some(instant)) => match zone {
                Some(zone) => types.extend(at(zone, instant, TimeUnit::Microsecond)),
                None => types.push(DataType::Timestamp(TimeUnit::Microsecond, None)),
            },
            (DataType::Date32 | DataType::Date64, _, None) if matches!(greatest, DataType::Timestamp(..)) => {
                types.push(with_micros(&greatest));
            }
            (DataType::Timestamp(unit, None), _, Some(instant)) => {
                types.extend(zone.filter(|zone| !is_utc(zone)).into_iter().flat_map(|zone| at(zone, instant, *unit)));
            }
            _ => {}
        }
    }
    Ok(casts)
}

fn check_pair(what: &str, one: &DataType, other: &DataType) -> Result<()> {
    match (class(one), class(other)) {
        (Class::List, Class::Text) | (Class::Text, Class::List) => return Err(unmatched(what, one, other)),
        (Class::Other | Class::List, _) | (_, Class::Other | Class::List) => {}
        (left, right) if left != right => return Err(unmatched(what, one, other)),
        _ => {}
    }
    let (DataType::List(left), DataType::List(right)) = (one, other) else { return Ok(()) };
    let is_text = |item: &DataType| class(item) == Class::Text;
    let is_other = |item: &DataType| !matches!(class(item), Class::Text | Class::List | Class::Other);
    let (left, right) = (left.data_type(), right.data_type());
    if is_text(left) && is_other(right) || is_other(left) && is_text(right) {
        let message = format!("{what} could not convert type {} to {}", type_name(other), type_name(one));
        return Err(refusal("42846", message));
    }
    Ok(())
}

fn unmatched(what: &str, one: &DataType, other: &DataType) -> DataFusionError {
    let (one, other) = (type_name(one), type_name(other));
    match what {
        "NULLIF" => refusal("42883", format!("operator does not exist: {one} = {other}")),
        _ => refusal("42804", format!("{what} types {one} and {other} cannot be matched")),
    }
}

fn cast_to(expr: Expr, types: Vec<DataType>) -> Expr {
    types.into_iter().fold(expr, cast)
}

/// Casts expressions that stand together to one type, where that of Postgres is not DataFusion's; returns true if some are cast.
///
/// # Errors
/// 42804 or 42846 if they cannot stand together.
pub(super) fn meet<'a>(
    what: &str,
    zone: Option<&str>,
    schema: &DFSchema,
    exprs: impl Iterator<Item = &'a mut Expr>,
) -> Result<bool> {
    let exprs: Vec<&mut Expr> = exprs.collect();
    // What has no type yet is left to the planner.
    let Some(values) = exprs.iter().map(|expr| Beside::of(expr, schema)).collect::<Option<Vec<_>>>() else {
        return Ok(false);
    };
    let mut changed = false;
    for (expr, types) in exprs.into_iter().zip(casts(what, zone, &values)?) {
        if !types.is_empty() {
            *expr = cast_to(std::mem::take(expr), types);
            changed = true;
        }
    }
    Ok(changed)
}

/// Rewrites an expression in which values stand together.
fn matched(expr: Expr, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Case(case) => in_case(case, schema, zone),
        // Its type is that of the first value, which is compared as `double precision`.
        Expr::ScalarFunction(call) if call.name() == "nullif" && is_real_beside_point(&call, schema) => {
            Ok(Transformed::yes(cast(Expr::ScalarFunction(call), DataType::Float32)))
        }
        Expr::ScalarFunction(mut call)
            if matches!(call.name(), "coalesce" | "greatest" | "least" | "nullif" | "make_array") =>
        {
            let changed = arguments(&mut call, schema, zone)?;
            Ok(Transformed::new_transformed(Expr::ScalarFunction(call), changed))
        }
        Expr::ScalarFunction(mut call)
            if matches!(call.name(), "array_has" | "array_position" | "concat" | "concat_ws") =>
        {
            let is_array_has = call.name() == "array_has";
            let changed = uuids::arguments(&mut call, schema)? || is_array_has && among_elements(&mut call, schema);
            Ok(Transformed::new_transformed(Expr::ScalarFunction(call), changed))
        }
        Expr::BinaryExpr(BinaryExpr { mut left, op, mut right })
            if matches!(
                op,
                Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq
            ) || matches!(op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom) =>
        {
            let changed = uuids::compared(op, &mut left, &mut right, schema)?;
            let Some((of_left, of_right)) = sides(&left, &right, schema, zone) else {
                let comparison = Expr::BinaryExpr(BinaryExpr { left, op, right });
                return Ok(Transformed::new_transformed(comparison, changed));
            };
            Ok(Transformed::yes(binary_expr(cast_to(*left, of_left), op, cast_to(*right, of_right))))
        }
        // The difference of an instant and what clocks show is that of two instants.
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => {
            let types = left.get_type(schema).ok().zip(right.get_type(schema).ok());
            let (of_left, of_right) =
                types.and_then(|(left, right)| of_moments(&left, &right, zone)).unwrap_or_default();
            let changed = !of_left.is_empty() || !of_right.is_empty();
            let difference = binary_expr(cast_to(*left, of_left), Operator::Minus, cast_to(*right, of_right));
            Ok(Transformed::new_transformed(difference, changed))
        }
        Expr::InList(within) => in_list(within, schema, zone),
        Expr::WindowFunction(mut call) => {
            let changed = uuids::in_place_of_rows(&mut call, schema)? || in_place_of_rows(&mut call, schema, zone)?;
            Ok(Transformed::new_transformed(Expr::WindowFunction(call), changed))
        }
        Expr::Between(between) => in_between(between, schema, zone),
        Expr::InSubquery(within) => in_subquery(within, schema, zone),
        Expr::Cast(cast) if class(cast.field.data_type()) == Class::Text => {
            check_scales(&cast.expr, schema)?;
            Ok(Transformed::no(Expr::Cast(cast)))
        }
        Expr::BinaryExpr(binary) if binary.op == Operator::StringConcat => {
            check_scales(&binary.left, schema)?;
            check_scales(&binary.right, schema)?;
            Ok(Transformed::no(Expr::BinaryExpr(binary)))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Checks that a value which becomes a text is not one of several numerics of different scales: a column has the greatest of them
/// here, and Postgres shows each value with its own.
fn check_scales(value: &Expr, schema: &DFSchema) -> Result<()> {
    let values: Vec<&Expr> = match value {
        Expr::Alias(alias) => return check_scales(&alias.expr, schema),
        Expr::Case(case) => {
            let results = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
            results.chain(case.else_expr.as_deref()).collect()
        }
        Expr::ScalarFunction(call) if matches!(call.name(), "coalesce" | "greatest" | "least") => {
            call.args.iter().collect()
        }
        _ => return Ok(()),
    };
    let types: Vec<DataType> = values.into_iter().filter_map(|value| value.get_type(schema).ok()).collect();
    let scales = types.iter().filter_map(|data_type| match data_type {
        DataType::Decimal128(_, scale) => Some(*scale),
        DataType::Int16 | DataType::Int32 | DataType::Int64 => Some(0),
        _ => None,
    });
    let scales: Vec<i8> = scales.collect();
    // Beside a floating-point number all are such.
    match types.iter().any(is_inexact) || scales.windows(2).all(|pair| pair[0] == pair[1]) {
        true => Ok(()),
        false => {
            let message = "numerics of different scales in CASE, coalesce, greatest or least cannot become text, because they have one \
                           scale here; cast them to one numeric(precision, scale)";
            Err(refusal("0A000", message))
        }
    }
}

/// Matches the results of each CASE of an expression.
///
/// # Errors
/// 42804 or 42846 if they cannot stand together.
pub(super) fn cases_matched(expr: Expr, schema: &DFSchema, zone: &str) -> Result<Expr> {
    expr.transform_up(|part| match part {
        Expr::Case(case) => in_case(case, schema, zone),
        other => Ok(Transformed::no(other)),
    })
    .data()
}

/// Matches the results of a CASE, and makes comparisons of its base where the types ask for it.
fn in_case(mut case: Case, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    let mut changed = meet("CASE", Some(zone), schema, results(&mut case))?;
    if let Some(base) = case.expr.as_deref_mut() {
        let whens = case.when_then_expr.iter_mut().map(|(when, _)| when.as_mut());
        changed |= uuids::tested(base, whens, schema)?;
    }
    let is_mixed = |base: &Expr| {
        let mut whens = case.when_then_expr.iter();
        !base.is_volatile() && whens.any(|(when, _)| sides(base, when, schema, zone).is_some())
    };
    if case.expr.as_deref().is_some_and(is_mixed)
        && let Some(base) = case.expr.take()
    {
        for (when, _) in &mut case.when_then_expr {
            **when = compared((*base).clone(), Operator::Eq, std::mem::take(when.as_mut()), schema, zone);
        }
        changed = true;
    }
    Ok(Transformed::new_transformed(Expr::Case(case), changed))
}

/// Matches the arguments of COALESCE and its like, and the elements of an array. The planner has decided their type, so that
/// other values than numbers and moments are refused.
fn arguments(call: &mut ScalarFunction, schema: &DFSchema, zone: &str) -> Result<bool> {
    let name = if call.name() == "make_array" { "array" } else { call.name() }.to_owned();
    let Some(values) = call.args.iter().map(|arg| Beside::of(arg, schema)).collect::<Option<Vec<_>>>() else {
        return Ok(false);
    };
    let casts = casts(&name.to_uppercase(), Some(zone), &values)?;
    let mut changed = false;
    for ((arg, value), types) in call.args.iter_mut().zip(&values).zip(casts) {
        match &value.data_type {
            _ if types.is_empty() => continue,
            DataType::Timestamp(..) | DataType::Null => {}
            DataType::Date32 | DataType::Date64 if name != "nullif" => {}
            found if found.is_numeric() => {}
            _ if value.known == Known::Text => {}
            other => {
                let beside =
                    values.iter().map(|value| type_name(&value.data_type)).find(|found| *found != type_name(other));
                let message = format!(
                    "{name} of {} and {} is not supported; cast one of them to the type of the other",
                    type_name(other),
                    beside.unwrap_or_default()
                );
                return Err(refusal("0A000", message));
            }
        }
        *arg = cast_to(std::mem::take(arg), types);
        changed = true;
    }
    Ok(changed)
}

/// Matches the values of `lag` and `lead` with the one that stands for rows which are not there: DataFusion casts it to their
/// type.
fn in_place_of_rows(call: &mut WindowFunction, schema: &DFSchema, zone: &str) -> Result<bool> {
    match (call.fun.name(), call.params.args.as_mut_slice()) {
        (name @ ("lag" | "lead"), [value, _, other]) => {
            let changed = meet(&name.to_uppercase(), Some(zone), schema, [&mut *value, &mut *other].into_iter())?;
            Ok(cast_to_common([value, other].into_iter(), schema) || changed)
        }
        _ => Ok(false),
    }
}

/// Matches a value with the items of `IN (…)`.
fn in_list(mut within: InList, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    let changed = uuids::in_list(&mut within, schema)? || real_items(&mut within, schema)?;
    let InList { expr, list, negated } = within;
    if expr.is_volatile() || list.iter().all(|item| sides(&expr, item, schema, zone).is_none()) {
        return Ok(Transformed::new_transformed(Expr::InList(InList { expr, list, negated }), changed));
    }
    let equal = list.into_iter().map(|item| compared((*expr).clone(), Operator::Eq, item, schema, zone));
    let any = disjunction(equal).unwrap_or_else(|| lit(false));
    Ok(Transformed::yes(if negated { !any } else { any }))
}

/// Matches a value with its bounds.
fn in_between(mut between: Between, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    let changed = uuids::between(&mut between, schema)?;
    let Between { expr, negated, low, high } = between;
    let is_mixed = |bound: &Expr| sides(&expr, bound, schema, zone).is_some();
    if expr.is_volatile() || !is_mixed(&low) && !is_mixed(&high) {
        let between = Expr::Between(Between { expr, negated, low, high });
        return Ok(Transformed::new_transformed(between, changed));
    }
    let above = compared((*expr).clone(), Operator::GtEq, *low, schema, zone);
    let between = above.and(compared(*expr, Operator::LtEq, *high, schema, zone));
    Ok(Transformed::yes(if negated { !between } else { between }))
}

/// Makes numbers of type `real` of constants in `x IN (0.8, 0.9)`, if `x` is one: Postgres gives two or more items the common
/// type of all, and compares a single one as `double precision`. Returns true if there are such.
fn real_items(within: &mut InList, schema: &DFSchema) -> Result<bool> {
    let InList { expr, list, .. } = within;
    let Some(value) = Beside::of(expr, schema) else { return Ok(false) };
    let mut items: Vec<_> = list.iter_mut().filter(|item| !item.any_column_refs()).collect();
    let Some(mut values) = items.iter().map(|item| Beside::of(item, schema)).collect::<Option<Vec<_>>>() else {
        return Ok(false);
    };
    let has_point = values.iter().any(|item| item.known == Known::Point);
    values.push(value);
    let is_real = values.iter().any(|item| item.data_type == DataType::Float32);
    if items.len() < 2 || !has_point || !is_real {
        return Ok(false);
    }
    let mut changed = false;
    for (item, types) in items.iter_mut().zip(casts("IN", None, &values)?) {
        if types == [DataType::Float32] {
            **item = cast_to(std::mem::take(*item), types);
            changed = true;
        }
    }
    Ok(changed)
}

fn is_real_beside_point(call: &ScalarFunction, schema: &DFSchema) -> bool {
    let [first, second] = call.args.as_slice() else { return false };
    let first = first.get_type(schema);
    first.is_ok_and(|first| first == DataType::Float32) && known(second) == Known::Point
}

/// Makes floating-point numbers of `numeric` and such in `x = ANY (array)`.
fn among_elements(call: &mut ScalarFunction, schema: &DFSchema) -> bool {
    let [array, value] = call.args.as_mut_slice() else { return false };
    let (Ok(DataType::List(item)), Ok(found)) = (array.get_type(schema), value.get_type(schema)) else { return false };
    let is_mixed =
        is_inexact(item.data_type()) && found.is_decimal() || item.data_type().is_decimal() && is_inexact(&found);
    if is_mixed {
        *array = cast(std::mem::take(array), DataType::new_list(DataType::Float64, true));
        if found != DataType::Float64 {
            *value = cast(std::mem::take(value), DataType::Float64);
        }
    }
    is_mixed
}

fn is_inexact(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}

/// Matches a value with the column of `IN (SELECT …)`.
fn in_subquery(mut within: InSubquery, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    let changed = uuids::in_subquery(&mut within, schema)?;
    let InSubquery { expr, subquery, negated } = within;
    let plan = Arc::clone(&subquery.subquery);
    let beside = Beside { data_type: plan.schema().field(0).data_type().clone(), known: Known::Nothing };
    let found = Beside::of(&expr, schema).and_then(|value| compared_as(&value, &beside, zone));
    let Some((of_value, of_column)) = found else {
        let within = Expr::InSubquery(InSubquery { expr, subquery, negated });
        return Ok(Transformed::new_transformed(within, changed));
    };
    let subquery = Subquery { subquery: columns_cast(plan, vec![of_column])?, ..subquery };
    let expr = Box::new(cast_to(*expr, of_value));
    Ok(Transformed::yes(Expr::InSubquery(InSubquery { expr, subquery, negated })))
}

fn compared(left: Expr, operator: Operator, right: Expr, schema: &DFSchema, zone: &str) -> Expr {
    match sides(&left, &right, schema, zone) {
        Some((of_left, of_right)) => binary_expr(cast_to(left, of_left), operator, cast_to(right, of_right)),
        None => binary_expr(left, operator, right),
    }
}

fn sides(left: &Expr, right: &Expr, schema: &DFSchema, zone: &str) -> Option<(Vec<DataType>, Vec<DataType>)> {
    compared_as(&Beside::of(left, schema)?, &Beside::of(right, schema)?, zone)
}

/// Returns the types that both sides of a comparison are cast to in turn, unless DataFusion compares them as Postgres does.
/// Postgres compares `numeric` with floating-point numbers as `double precision`. A constant stays as it is, so that a scan
/// can be asked for it.
fn compared_as(left: &Beside, right: &Beside, zone: &str) -> Option<(Vec<DataType>, Vec<DataType>)> {
    let is_free = left.known == Known::Nothing && right.known == Known::Nothing;
    let is_mixed = left.is_float() && right.data_type.is_decimal() || left.data_type.is_decimal() && right.is_float();
    if is_free && is_mixed {
        let double = |side: &Beside| match side.data_type {
            DataType::Float64 => Vec::new(),
            _ => vec![DataType::Float64],
        };
        return Some((double(left), double(right)));
    }
    of_moments(&left.data_type, &right.data_type, zone)
}

/// Matches the columns of set operations, and checks those of recursive queries.
fn columns_matched(plan: LogicalPlan, zone: &str) -> Result<LogicalPlan> {
    let mut changed = false;
    plan.transform_up_with_subqueries(|plan| {
        // Nodes above have the types that their inputs had.
        let plan = if changed { plan.recompute_schema()? } else { plan };
        let matched = match plan {
            LogicalPlan::Union(union) => of_union(union, zone, changed)?,
            LogicalPlan::Join(join) if is_set_operation(&join) => of_rows(join, zone)?,
            LogicalPlan::Join(join) => {
                uuids::check_keys(&join)?;
                Transformed::no(LogicalPlan::Join(join))
            }
            LogicalPlan::RecursiveQuery(query) => {
                check_recursion(&query)?;
                Transformed::no(LogicalPlan::RecursiveQuery(query))
            }
            other => Transformed::no(other),
        };
        changed |= matched.transformed;
        Ok(Transformed::new_transformed(matched.data, changed))
    })
    .data()
}

fn of_union(union: Union, zone: &str, is_new: bool) -> Result<Transformed<LogicalPlan>> {
    let width = union.schema.fields().len();
    if union.inputs.iter().any(|input| input.schema().fields().len() != width) {
        return Ok(Transformed::no(LogicalPlan::Union(union)));
    }
    let mut of_inputs: Vec<Vec<Vec<DataType>>> = vec![Vec::with_capacity(width); union.inputs.len()];
    for index in 0..width {
        let values: Vec<_> = union.inputs.iter().map(|input| Beside::column(input, index)).collect();
        for (types, of_column) in of_inputs.iter_mut().zip(casts("UNION", Some(zone), &values)?) {
            types.push(of_column);
        }
    }
    if !is_new && of_inputs.iter().flatten().all(Vec::is_empty) {
        return Ok(Transformed::no(LogicalPlan::Union(union)));
    }
    let inputs = union.inputs.into_iter().zip(of_inputs).map(|(input, types)| columns_cast(input, types));
    let union = Union::try_new_with_loose_types(inputs.collect::<Result<_>>()?)?;
    Ok(Transformed::yes(LogicalPlan::Union(union)))
}

/// Matches the columns of EXCEPT and INTERSECT. The planner has decided that their type is that of the first query, so that
/// others are refused.
fn of_rows(join: Join, zone: &str) -> Result<Transformed<LogicalPlan>> {
    let name = if join.join_type == JoinType::LeftSemi { "INTERSECT" } else { "EXCEPT" };
    let width = join.left.schema().fields().len().min(join.right.schema().fields().len());
    let mut types = Vec::with_capacity(width);
    for index in 0..width {
        let data_type = join.left.schema().field(index).data_type().clone();
        let left = Beside { data_type, known: Known::Nothing };
        let values = [left, Beside::column(&join.right, index)];
        let mut found = casts(name, Some(zone), &values)?;
        let of_right = found.pop().unwrap_or_default();
        let is_kept = found.iter().all(Vec::is_empty);
        // In UTC a moment is the same with and without the zone.
        if is_kept || class(&values[0].data_type) == Class::Moment && is_utc(zone) {
            types.push(of_right);
            continue;
        }
        let [one, other] = values.map(|value| type_name(&value.data_type));
        let message = format!("{name} of {one} and {other} is not supported; cast the first to {other}");
        return Err(refusal("0A000", message));
    }
    if types.iter().all(Vec::is_empty) {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    }
    let right = columns_cast(Arc::clone(&join.right), types)?;
    Ok(Transformed::yes(LogicalPlan::Join(Join { right, ..join })))
}

/// Casts the columns of a plan; they keep their names.
fn columns_cast(plan: Arc<LogicalPlan>, types: Vec<Vec<DataType>>) -> Result<Arc<LogicalPlan>> {
    if types.iter().all(Vec::is_empty) {
        return Ok(plan);
    }
    let columns = plan.schema().iter().zip(types).map(|((qualifier, field), types)| {
        let column = Expr::from((qualifier, field));
        match types.is_empty() {
            true => column,
            false => cast_to(column, types).alias_qualified(qualifier.cloned(), field.name()),
        }
    });
    let columns: Vec<_> = columns.collect();
    Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, plan)?)))
}

/// Checks that the rows that a recursive query adds lose nothing where the planner has cast them to the types of its first
/// ones. A cast of the statement looks the same, unless it casts to that type twice.
fn check_recursion(query: &RecursiveQuery) -> Result<()> {
    let LogicalPlan::Projection(added) = query.recursive_term.as_ref() else { return Ok(()) };
    for (index, (expr, field)) in added.expr.iter().zip(query.static_term.schema().fields()).enumerate() {
        let Expr::Cast(cast) = expr.clone().unalias_nested().data else { continue };
        let (from, to) = (cast.expr.get_type(added.input.schema())?, field.data_type());
        let is_read = match known(&cast.expr) {
            Known::Text => true,
            Known::Point => *to == DataType::Float32 || to.is_decimal(),
            _ => false,
        };
        if cast.field.data_type() == to && !is_read && loses(&from, to) {
            let (name, column) = (&query.name, index + 1);
            let message = format!(
                "recursive query \"{name}\" column {column} has type {} in non-recursive term but type {} overall",
                type_name(to),
                type_name(&from)
            );
            return Err(refusal("42804", message));
        }
    }
    Ok(())
}

/// Returns true if a cast makes another value of some values.
fn loses(from: &DataType, to: &DataType) -> bool {
    use DataType::{Date32, Decimal128, Float32, Float64, Int16, Int32, Int64, Timestamp};
    match (from, to) {
        (Float32 | Float64, Int16 | Int32 | Int64 | Decimal128(..)) | (Float64, Float32) => true,
        (Decimal128(_, scale), Int16 | Int32 | Int64) => *scale > 0,
        // It is checked that none of its digits is lost.
        (Decimal128(..), Decimal128(precision, scale)) if (*precision, *scale) == UNCONSTRAINED => false,
        (Decimal128(_, from), Decimal128(_, to)) => from > to,
        (Timestamp(..), Date32) | (Timestamp(_, Some(_)), Timestamp(_, None)) => true,
        (from, to) => match (class(from), class(to)) {
            (Class::Number, Class::Moment | Class::Bytes) | (Class::Moment, Class::Number) => true,
            (Class::Text | Class::List | Class::Other, Class::List) => false,
            (_, Class::List) => true,
            _ => false,
        },
    }
}
