//! Values of types that users have made in expressions: casts, comparisons, orders, and what has one type of several.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::DFSchema;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{
    AggregateFunction, Between, BinaryExpr, Case, Cast, Placeholder, ScalarFunction, Sort,
};
use datafusion::logical_expr::{
    CreateMemoryTable, DdlStatement, Expr, ExprSchemable, LogicalPlan, Operator, WindowFrameBound, WindowFrameUnits,
};
use datafusion_postgres::pgwire::api::Type;
use neuroql::has_expression;
use postgres_types::Kind;

use crate::catalog::own_types;
use crate::decode::{self, composite};
use crate::encode::column;
use crate::sql;
use crate::sql::assignment_casts::{is_assigned, of_value};
use crate::sql::assignments;
use crate::sql::enum_functions;
use crate::sql::json_values::{is_unknown, results, type_name};
use crate::sql::marks::{kind_of, of_field};
use crate::wire::error_response::{SqlError, external};

/// Names of the functions that an array, a subscript of one, and a search in one, are.
const ARRAY: &str = "make_array";
const ELEMENT: &str = "array_element";
const HAS: &str = "array_has";

/// Returns the type of an expression's values, if a user has made it.
fn own_of(expr: &Expr, schema: &DFSchema) -> Option<Type> {
    kind_of(expr, schema).filter(own_types::is_own)
}

fn enum_of(expr: &Expr, schema: &DFSchema) -> Option<Type> {
    kind_of(expr, schema).filter(own_types::is_enum)
}

/// Returns a text without a type, or a NULL, as a value of the type; others as they are.
fn read(expr: Expr, kind: &Type) -> Result<Expr> {
    let Expr::Literal(value, None) = &expr else { return Ok(expr) };
    let read = match value.try_as_str() {
        _ if value.is_null() => decode::decode(kind, decode::Form::Text, None, "UTC"),
        Some(Some(text)) => decode::from_text(kind, text, "UTC"),
        _ => return Ok(expr),
    };
    Ok(Expr::Literal(read.map_err(external)?, Some(FieldMetadata::from(column::mark(kind)))))
}

/// Returns an expression with values of such types as one that answers as Postgres does.
///
/// # Errors
/// 22P02 for a text that is no label, 42846 for casts that do not exist, 42804 for a CASE or COALESCE of several types.
pub(super) fn settled(part: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match part {
        Expr::Cast(cast) => cast_of(cast, schema),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_order(op) => {
            match (enum_of(&left, schema), enum_of(&right, schema)) {
                (Some(one), Some(other)) if one == other => {
                    let left = Box::new(enum_functions::rank(*left, &one));
                    let right = Box::new(enum_functions::rank(*right, &one));
                    Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
                }
                (Some(one), None) if is_null(&right) => {
                    let left = Box::new(enum_functions::rank(*left, &one));
                    Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
                }
                (None, Some(other)) if is_null(&left) => {
                    let right = Box::new(enum_functions::rank(*right, &other));
                    Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
                }
                _ => Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))),
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_equality(op) => {
            let kinds = (own_of(&left, schema), own_of(&right, schema));
            match kinds {
                (Some(one), Some(other)) if one == other && own_types::is_composite(&one) => {
                    let left = Box::new(enum_functions::equality_key(*left, &one));
                    let right = Box::new(enum_functions::equality_key(*right, &one));
                    Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
                }
                _ => Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))),
            }
        }
        Expr::Between(between) => {
            let kinds = [&between.expr, &between.low, &between.high].map(|expr| enum_of(expr, schema));
            let [Some(kind), Some(low), Some(high)] = kinds else { return Ok(Transformed::no(Expr::Between(between))) };
            if kind != low || kind != high {
                return Ok(Transformed::no(Expr::Between(between)));
            }
            let rank = |expr: Box<Expr>| Box::new(enum_functions::rank(*expr, &kind));
            let Between { expr, negated, low, high } = between;
            let between = Between { expr: rank(expr), negated, low: rank(low), high: rank(high) };
            Ok(Transformed::yes(Expr::Between(between)))
        }
        Expr::Case(case) => case_of(case, schema),
        Expr::ScalarFunction(mut call) if call.name() == "coalesce" => {
            let Some(kind) = call.args.iter().find_map(|arg| own_of(arg, schema)) else {
                return Ok(Transformed::no(Expr::ScalarFunction(call)));
            };
            for arg in &mut call.args {
                *arg = one_of(std::mem::take(arg), &kind, "COALESCE", schema)?;
            }
            Ok(Transformed::yes(enum_functions::typed(Expr::ScalarFunction(call), &kind)))
        }
        Expr::ScalarFunction(mut call) if call.name() == ARRAY => {
            let kind = call.args.iter().find_map(|arg| own_of(arg, schema));
            let Some((kind, array)) = kind.and_then(|kind| Some((kind.clone(), own_types::array_of(&kind)?))) else {
                return Ok(Transformed::no(Expr::ScalarFunction(call)));
            };
            for arg in &mut call.args {
                *arg = one_of(std::mem::take(arg), &kind, "ARRAY", schema)?;
            }
            Ok(Transformed::yes(enum_functions::typed(Expr::ScalarFunction(call), &array)))
        }
        // `item = ANY (array)`
        Expr::ScalarFunction(mut call) if call.name() == HAS => {
            let [array, item] = call.args.as_mut_slice() else {
                return Ok(Transformed::no(Expr::ScalarFunction(call)));
            };
            let changed = match (own_of(array, schema), enum_of(item, schema)) {
                (Some(kind), None) if is_unknown(item) => match kind.kind() {
                    Kind::Array(of_item) => {
                        *item = read(std::mem::take(item), of_item)?;
                        true
                    }
                    _ => false,
                },
                (None, Some(kind)) if is_unknown(array) => match own_types::array_of(&kind) {
                    Some(of_array) => {
                        *array = read(std::mem::take(array), &of_array)?;
                        true
                    }
                    None => false,
                },
                _ => false,
            };
            Ok(Transformed::new_transformed(Expr::ScalarFunction(call), changed))
        }
        Expr::ScalarFunction(call) if call.name() == ELEMENT => {
            let array = call.args.first().and_then(|array| own_of(array, schema));
            match array.as_ref().map(Type::kind) {
                Some(Kind::Array(item)) => {
                    Ok(Transformed::yes(enum_functions::typed(Expr::ScalarFunction(call), item)))
                }
                _ => Ok(Transformed::no(Expr::ScalarFunction(call))),
            }
        }
        // A value of a type as such again.
        Expr::ScalarFunction(mut call) if enum_functions::is_typed(&call) => {
            let oid = |call: &ScalarFunction| enum_functions::named_by(call).map(Type::oid);
            let is_repeated = match call.args.as_slice() {
                [Expr::ScalarFunction(inner)] => enum_functions::is_typed(inner) && oid(inner) == oid(&call),
                _ => false,
            };
            match is_repeated {
                true => Ok(Transformed::yes(call.args.swap_remove(0))),
                false => Ok(Transformed::no(Expr::ScalarFunction(call))),
            }
        }
        // The optimizer may lose the type of a column.
        Expr::ScalarFunction(mut call) if call.name() == "pg_typeof" => {
            let mut changed = false;
            for arg in call.args.iter_mut().filter(|arg| !matches!(arg, Expr::ScalarFunction(_))) {
                if let Some(kind) = own_of(arg, schema) {
                    *arg = enum_functions::typed(std::mem::take(arg), &kind);
                    changed = true;
                }
            }
            Ok(Transformed::new_transformed(Expr::ScalarFunction(call), changed))
        }
        Expr::AggregateFunction(AggregateFunction { mut func, mut params }) => {
            let mut changed = rank_keys(&mut params.order_by, schema);
            if let [value] = params.args.as_slice()
                && let Some(extreme) =
                    enum_of(value, schema).and_then(|kind| enum_functions::extreme(func.name(), &kind))
            {
                func = Arc::new(extreme);
                // It is the same of distinct values.
                params.distinct = false;
                changed = true;
            }
            Ok(Transformed::new_transformed(Expr::AggregateFunction(AggregateFunction { func, params }), changed))
        }
        Expr::WindowFunction(mut call) => {
            let changed = rank_keys(&mut call.params.order_by, schema);
            let frame = &call.params.window_frame;
            let has_offset =
                |bound: &WindowFrameBound| !bound.is_unbounded() && !matches!(bound, WindowFrameBound::CurrentRow);
            if changed
                && frame.units == WindowFrameUnits::Range
                && (has_offset(&frame.start_bound) || has_offset(&frame.end_bound))
            {
                let message = "RANGE with offset PRECEDING/FOLLOWING is not supported for enums";
                return Err(external(SqlError::not_supported(message)));
            }
            Ok(Transformed::new_transformed(Expr::WindowFunction(call), changed))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}

fn is_equality(op: Operator) -> bool {
    use Operator::{Eq, IsDistinctFrom, IsNotDistinctFrom, NotEq};
    matches!(op, Eq | NotEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn is_order(op: Operator) -> bool {
    matches!(op, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
}

/// Sorts by the order of labels; returns true if a key is an enum.
fn rank_keys(keys: &mut [Sort], schema: &DFSchema) -> bool {
    let mut changed = false;
    for key in keys {
        if let Some(kind) = enum_of(&key.expr, schema) {
            key.expr = enum_functions::rank(std::mem::take(&mut key.expr), &kind);
            changed = true;
        }
    }
    changed
}

/// Has the rows of a node sorted by the order of labels.
pub(super) fn sorted(node: LogicalPlan) -> LogicalPlan {
    match node {
        LogicalPlan::Sort(mut sort) => {
            let schema = Arc::clone(sort.input.schema());
            rank_keys(&mut sort.expr, &schema);
            LogicalPlan::Sort(sort)
        }
        other => other,
    }
}

fn case_of(mut case: Case, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let mut changed = false;
    // Labels are compared as texts are.
    if let Some(tested) = &mut case.expr
        && let Some(kind) = enum_of(tested, schema)
    {
        let texts = |expr: &mut Expr| {
            let value = Box::new(std::mem::take(expr));
            *expr = Expr::Cast(Cast::new(value, DataType::Utf8));
        };
        for (when, _) in &mut case.when_then_expr {
            **when = read(std::mem::take(when.as_mut()), &kind)?;
            if let Some(error) = no_operator((&**tested, schema), "=", (&**when, schema)) {
                return Err(external(error));
            }
            texts(when);
        }
        texts(tested);
        changed = true;
    }
    let Some(kind) = results(&case).find_map(|result| own_of(result, schema)) else {
        return Ok(Transformed::new_transformed(Expr::Case(case), changed));
    };
    let thens = case.when_then_expr.iter_mut().map(|(_, then)| then);
    for result in thens.chain(case.else_expr.as_mut()) {
        **result = one_of(std::mem::take(result.as_mut()), &kind, "CASE/WHEN", schema)?;
    }
    Ok(Transformed::yes(enum_functions::typed(Expr::Case(case), &kind)))
}

/// Returns a value that stands beside one of the type as a value of it.
fn one_of(value: Expr, kind: &Type, place: &str, schema: &DFSchema) -> Result<Expr> {
    match kind_of(&value, schema) {
        Some(found) if found == *kind => Ok(value),
        None if is_unknown(&value) => read(value, kind),
        None if matches!(value, Expr::Placeholder(Placeholder { field: None, .. })) => Ok(value),
        None if value.get_type(schema).is_ok_and(|found| found.is_null()) => Ok(value),
        _ => {
            let (wanted, found) = (decode::name(kind), type_name(&value, schema));
            let message = format!("{place} types {wanted} and {found} cannot be matched");
            Err(external(SqlError::error("42804", message)))
        }
    }
}

fn cast_of(cast: Cast, schema: &DFSchema) -> Result<Transformed<Expr>> {
    // The planner's own cast of an assigned value goes with the mark.
    if matches!(&*cast.expr, Expr::ScalarFunction(call) if call.name() == assignments::MARK) {
        return Ok(Transformed::no(Expr::Cast(cast)));
    }
    let refused = |from: &str, to: &str| external(SqlError::error("42846", format!("cannot cast type {from} to {to}")));
    let from = kind_of(&cast.expr, schema);
    if let Some(to) = of_field(&cast.field).filter(own_types::is_own) {
        return match from {
            Some(from) if from == to => Ok(Transformed::yes(*cast.expr)),
            Some(from) => Err(refused(&decode::name(&from), &decode::name(&to))),
            None if matches!(*cast.expr, Expr::Placeholder(Placeholder { field: None, .. })) => {
                Ok(Transformed::no(Expr::Cast(cast)))
            }
            None if is_unknown(&cast.expr) => Ok(Transformed::yes(read(*cast.expr, &to)?)),
            None if own_types::is_composite(&to) && is_row(&cast.expr) => match cast.expr.unalias() {
                Expr::ScalarFunction(call) => Ok(Transformed::yes(composed(call.args, &to, schema)?)),
                other => Ok(Transformed::no(other)),
            },
            None => {
                let found = cast.expr.get_type(schema).unwrap_or(DataType::Null);
                let fits = match to.kind() {
                    _ if found.is_null() => true,
                    Kind::Array(_) => {
                        is_list_of_texts(&found) && column::marked(&field_of(&cast.expr, schema)).is_none()
                    }
                    _ => is_text(&found),
                };
                match fits {
                    true => Ok(Transformed::yes(enum_functions::read(*cast.expr, &to))),
                    false => Err(refused(&type_name(&cast.expr, schema), &decode::name(&to))),
                }
            }
        };
    }
    let Some(from) = from.filter(own_types::is_own) else { return Ok(Transformed::no(Expr::Cast(cast))) };
    let to = cast.field.data_type();
    let fits = match from.kind() {
        Kind::Array(_) => is_list_of_texts(to) || to.is_string(),
        _ => to.is_string(),
    };
    if fits {
        return Ok(Transformed::no(Expr::Cast(cast)));
    }
    let name = column::wire_kind(&cast.field).map_or_else(|| to.to_string(), |to| decode::name(&to));
    Err(refused(&decode::name(&from), &name))
}

/// Returns true for `ROW(…)`, which has the alias that it is called by.
fn is_row(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_row(&alias.expr),
        expr => matches!(expr, Expr::ScalarFunction(call) if call.name() == "struct"),
    }
}

/// Returns `ROW(…)` as a value of a composite type.
fn composed(args: Vec<Expr>, to: &Type, schema: &DFSchema) -> Result<Expr> {
    let refused = |hint: String| {
        let message = format!("cannot cast type record to {}", decode::name(to));
        external(SqlError::error("42846", message).with_hint(hint))
    };
    let fields = composite::fields(to);
    if args.len() != fields.len() {
        let few = if args.len() < fields.len() { "few" } else { "many" };
        return Err(refused(format!("Input has too {few} columns.")));
    }
    let mut values = Vec::with_capacity(args.len());
    for (place, (arg, field)) in (1..).zip(args.into_iter().zip(fields)) {
        let kind = field.type_();
        if own_types::is_own(kind) {
            let field = sql::own_types::field(kind);
            values.push(Expr::Cast(Cast::new_from_field(Box::new(arg), field)));
            continue;
        }
        if is_unknown(&arg) {
            values.push(read(arg, kind)?);
            continue;
        }
        let wanted = decode::arrow_type(kind, "UTC").unwrap_or(DataType::Utf8);
        if !matches!(arg, Expr::Placeholder(Placeholder { field: None, .. })) {
            let is_text = |kind: &Type| matches!(*kind, Type::TEXT | Type::VARCHAR);
            let found = of_value(&arg, schema)?;
            if !found.is_some_and(|from| is_assigned(&from, kind) || is_text(&from) || is_text(kind)) {
                let (from, kind) = (type_name(&arg, schema), decode::name(kind));
                return Err(refused(format!("Cannot cast type {from} to {kind} in column {place}.")));
            }
            if arg.get_type(schema)? == wanted && kind_of(&arg, schema).is_none() {
                values.push(arg);
                continue;
            }
        }
        let field = Field::new("value", wanted, true);
        values.push(Expr::Cast(Cast::new_from_field(Box::new(arg), Arc::new(field))));
    }
    Ok(enum_functions::compose(values, to))
}

fn field_of(expr: &Expr, schema: &DFSchema) -> Field {
    let found = expr.to_field(schema).map(|(_, field)| Field::clone(&field));
    found.unwrap_or_else(|_| Field::new("", DataType::Null, true))
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => values.is_string(),
        other => other.is_string(),
    }
}

fn is_list_of_texts(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            is_text(item.data_type()) || item.data_type().is_null()
        }
        _ => false,
    }
}

/// Returns the error of a comparison of an enum with another type; `None` if there is such an operator, or no enum.
pub(super) fn no_operator(
    (left, of_left): (&Expr, &DFSchema),
    operator: &str,
    (right, of_right): (&Expr, &DFSchema),
) -> Option<SqlError> {
    let (one, other) = (own_of(left, of_left), own_of(right, of_right));
    let is_open = |expr: &Expr, schema: &DFSchema| {
        is_unknown(expr)
            || is_null(expr)
            || matches!(expr, Expr::Placeholder(Placeholder { field: None, .. }))
            || expr.get_type(schema).is_ok_and(|found| found.is_null())
    };
    let is_right = match (&one, &other) {
        (None, None) => true,
        (Some(one), Some(other)) => one == other,
        (Some(_), None) => is_open(right, of_right),
        (None, Some(_)) => is_open(left, of_left),
    };
    if is_right {
        return None;
    }
    let (one, other) = (type_name(left, of_left), type_name(right, of_right));
    Some(missing(&one, operator, &other))
}

fn missing(left: &str, operator: &str, right: &str) -> SqlError {
    let hint = "No operator matches the given name and argument types. You might need to add explicit type casts.";
    SqlError::error("42883", format!("operator does not exist: {left} {operator} {right}")).with_hint(hint)
}

/// Returns the error of a comparison of a value with those of a subquery, if one of the two is an enum.
pub(super) fn no_operator_of_subquery(expr: &Expr, subquery: &LogicalPlan, schema: &DFSchema) -> Option<SqlError> {
    let field = subquery.schema().fields().first()?;
    let (one, other) = (own_of(expr, schema), of_field(field).filter(own_types::is_own));
    if one == other || is_unknown(expr) || field.data_type().is_null() {
        return None;
    }
    let other = column::wire_kind(field).map_or_else(|| field.data_type().to_string(), |kind| decode::name(&kind));
    Some(missing(&type_name(expr, schema), "=", &other))
}

/// Checks a call that is not one of these functions, if it has an enum among its arguments; `None` if others are to do that.
pub(super) fn check_call(call: &ScalarFunction, schema: &DFSchema) -> Option<std::result::Result<(), SqlError>> {
    if enum_functions::named_by(call).is_some() {
        return Some(Ok(()));
    }
    let (array, item) = match (call.name(), call.args.as_slice()) {
        (HAS, [array, item]) => (array, item),
        (ARRAY, args) => {
            let found = args.iter().find_map(|arg| own_of(arg, schema))?;
            let is_alike = |arg: &Expr| kind_of(arg, schema).as_ref() == Some(&found);
            return own_types::array_of(&found).filter(|_| args.iter().all(is_alike)).map(|_| Ok(()));
        }
        (ELEMENT, [array, _]) => return own_of(array, schema).map(|_| Ok(())),
        _ => return None,
    };
    let item_kind = enum_of(item, schema)?;
    let array_kind = kind_of(array, schema);
    if array_kind == own_types::array_of(&item_kind) || array.get_type(schema).is_ok_and(|found| found.is_null()) {
        return Some(Ok(()));
    }
    let name = type_name(array, schema);
    Some(Err(missing(&decode::name(&item_kind), "=", name.strip_suffix("[]").unwrap_or(&name))))
}

/// Reads the defaults of columns of such types.
///
/// # Errors
/// 22P02 for a text that is no label, 0A000 for a default that is no constant.
pub(super) fn read_defaults(table: &mut CreateMemoryTable) -> Result<()> {
    for (name, default) in &mut table.column_defaults {
        let Ok(field) = table.input.schema().field_with_unqualified_name(name) else { continue };
        let Some(kind) = of_field(field).filter(own_types::is_own) else { continue };
        let constant = match &*default {
            Expr::Cast(cast) if of_field(&cast.field).as_ref() == Some(&kind) => cast.expr.as_ref(),
            other => other,
        };
        *default = match constant {
            Expr::Literal(value, Some(_)) => Expr::Literal(value.clone(), None),
            // An array that has been read.
            Expr::Literal(value, None) if value.data_type().is_nested() => Expr::Literal(value.clone(), None),
            constant if is_unknown(constant) => match read(constant.clone(), &kind)? {
                Expr::Literal(value, _) => Expr::Literal(value, None),
                other => other,
            },
            _ => {
                let name = decode::name(&kind);
                let message = format!("a default of type {name} that is no constant is not supported");
                return Err(external(SqlError::not_supported(message)));
            }
        };
    }
    Ok(())
}

/// Returns true if a plan has values of a type, or of arrays of it.
///
/// # Errors
/// If a query inside of it cannot be visited.
pub(crate) fn uses(plan: &LogicalPlan, oid: u32) -> Result<bool> {
    let is_it = |kind: &Type| match kind.kind() {
        Kind::Array(item) => item.oid() == oid,
        _ => kind.oid() == oid,
    };
    let is_field = |field: &FieldRef| of_field(field).as_ref().is_some_and(is_it);
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= node.schema().fields().iter().any(is_field);
        if let LogicalPlan::Ddl(DdlStatement::CreateExternalTable(table)) = node {
            found |= table.schema.fields().iter().any(is_field);
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if found {
        return Ok(true);
    }
    has_expression(plan, |part, _| match part {
        Expr::Cast(cast) => is_field(&cast.field),
        Expr::ScalarFunction(call) => enum_functions::named_by(call).is_some_and(is_it),
        Expr::Literal(_, Some(_)) => kind_of(part, &DFSchema::empty()).as_ref().is_some_and(is_it),
        _ => false,
    })
}
