//! Types of parameters that neither the client nor a cast has told: from what stands beside them.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::DFSchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Placeholder, ScalarFunction};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator};
use postgres_types::Kind;

use crate::encode::column;
use crate::sql::parameters::{PLANNED_SCALE, number};
use crate::sql::rewrite::parameter_casts;
use crate::sql::{json_values, marks, range_values};

/// The fields of parameters by number; `None` for those whose type is not known yet.
pub(super) type Found = HashMap<usize, Option<FieldRef>>;

/// Times that types are inferred at most: what is found of a parameter may tell the type of another beside it.
const PASSES: usize = 4;

/// Infers types from `CAST($1 AS …)`, `f($1)`, `$1 = ANY(…)` and `LIMIT $1`; DataFusion does so from comparisons.
///
/// # Errors
/// Those of walking the plan.
pub(super) fn infer(plan: &LogicalPlan, found: &mut Found) -> Result<()> {
    for _ in 0..PASSES {
        let before = found.clone();
        infer_once(plan, found)?;
        if *found == before {
            break;
        }
    }
    Ok(())
}

fn infer_once(plan: &LogicalPlan, found: &mut Found) -> Result<()> {
    let boolean = || Some(Arc::new(Field::new("condition", DataType::Boolean, true)));
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::Filter(filter) => learn(found, &filter.predicate, boolean),
            LogicalPlan::Join(join) => join.filter.iter().for_each(|filter| learn(found, filter, boolean)),
            _ => {}
        }
        if let LogicalPlan::Limit(limit) = node {
            for count in [&limit.skip, &limit.fetch].into_iter().flatten() {
                learn(found, count, || Some(Arc::new(Field::new("count", DataType::Int64, true))));
            }
        }
        let schema = match &node.inputs()[..] {
            [] => Arc::clone(node.schema()),
            inputs => Arc::new(merge_schema(inputs)),
        };
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                match part {
                    Expr::Case(case) if case.expr.is_none() => {
                        case.when_then_expr.iter().for_each(|(when, _)| learn(found, when, boolean));
                        let thens = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
                        alike(found, thens.chain(case.else_expr.as_deref()), &schema);
                    }
                    // The value in the place of a row that is not there is of the type of the others.
                    Expr::WindowFunction(call) if matches!(call.fun.name(), "lag" | "lead") => {
                        if let Some(offset) = call.params.args.get(1) {
                            learn(found, offset, || Some(Arc::new(Field::new("offset", DataType::Int32, true))));
                        }
                        let values = call.params.args.iter().enumerate().filter(|(place, _)| *place != 1);
                        alike(found, values.map(|(_, value)| value), &schema);
                    }
                    Expr::Not(inner)
                    | Expr::IsTrue(inner)
                    | Expr::IsFalse(inner)
                    | Expr::IsNotTrue(inner)
                    | Expr::IsNotFalse(inner)
                    | Expr::IsUnknown(inner)
                    | Expr::IsNotUnknown(inner) => learn(found, inner, boolean),
                    Expr::AggregateFunction(call) => {
                        call.params.filter.iter().for_each(|filter| learn(found, filter, boolean));
                    }
                    Expr::BinaryExpr(both) if matches!(both.op, Operator::And | Operator::Or) => {
                        learn(found, &both.left, boolean);
                        learn(found, &both.right, boolean);
                    }
                    Expr::Cast(cast) => learn(found, &cast.expr, || Some(Arc::clone(&cast.field))),
                    Expr::Case(case) => {
                        if let Some(tested) = &case.expr {
                            let whens = case.when_then_expr.iter().map(|(when, _)| when.as_ref());
                            alike(found, std::iter::once(tested.as_ref()).chain(whens), &schema);
                        }
                        let thens = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
                        alike(found, thens.chain(case.else_expr.as_deref()), &schema);
                    }
                    Expr::InList(within) => {
                        // DataFusion has taken them for texts beside one without a type.
                        if is_text_literal(&within.expr) {
                            within.list.iter().for_each(|part| forget(found, part));
                        }
                        alike(found, std::iter::once(within.expr.as_ref()).chain(&within.list), &schema);
                    }
                    Expr::Between(between) => {
                        alike(found, [&*between.expr, &*between.low, &*between.high].into_iter(), &schema);
                    }
                    Expr::BinaryExpr(both) => {
                        let is_moment = |side: &Expr| {
                            let data_type = ExprSchemable::get_type(side, schema.as_ref());
                            matches!(data_type, Ok(DataType::Timestamp(..) | DataType::Date32))
                        };
                        if matches!(both.op, Operator::BitwiseShiftLeft | Operator::BitwiseShiftRight) {
                            let places = || Some(Arc::new(Field::new("places", DataType::Int32, true)));
                            learn(found, &both.right, places);
                        }
                        if let (Expr::ScalarFunction(left), Expr::ScalarFunction(right)) = (&*both.left, &*both.right)
                            && left.name() == "struct"
                            && right.name() == "struct"
                        {
                            for (left, right) in left.args.iter().zip(&right.args) {
                                alike(found, [left, right].into_iter(), &schema);
                            }
                        }
                        beside_numeric(found, &both.left, &both.right, &schema);
                        beside_numeric(found, &both.right, &both.left, &schema);
                        bounds(found, &both.left, &both.right, &schema);
                        bounds(found, &both.right, &both.left, &schema);
                        // The value that is added to a timestamp is no timestamp.
                        let adds = both.op == Operator::Plus && (is_moment(&both.left) || is_moment(&both.right));
                        if !adds {
                            alike(found, [&*both.left, &*both.right].into_iter(), &schema);
                        }
                    }
                    Expr::ScalarFunction(call)
                        if matches!(call.name(), "coalesce" | "nullif" | "greatest" | "least" | "make_array") =>
                    {
                        alike(found, call.args.iter(), &schema);
                    }
                    Expr::ScalarFunction(call) if call.args.iter().any(|arg| unknown(arg, found)) => {
                        if call.name() == "array_has" {
                            items_kept_as_text(found, &call.args, &schema);
                        }
                        let fields = call.args.iter().map(|arg| Ok(ExprSchemable::to_field(arg, schema.as_ref())?.1));
                        if let Ok(fields) = fields.collect::<Result<Vec<_>>>() {
                            let needed = argument_types(call, &fields);
                            for (arg, needed) in call.args.iter().zip(needed) {
                                learn(found, arg, || needed);
                            }
                        }
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(())
}

fn unknown(expr: &Expr, found: &Found) -> bool {
    match expr {
        Expr::Placeholder(Placeholder { id, .. }) => {
            number(id).is_ok_and(|index| found.get(&index).is_none_or(|field| field.is_none()))
        }
        _ => false,
    }
}

fn learn(found: &mut Found, expr: &Expr, field: impl FnOnce() -> Option<FieldRef>) {
    if unknown(expr, found)
        && let Expr::Placeholder(Placeholder { id, .. }) = expr
        && let Ok(index) = number(id)
        && let Some(field) = field()
        && *field.data_type() != DataType::Null
    {
        found.insert(index, Some(field));
    }
}

/// Returns true for a text in quotation marks.
fn is_text_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.data_type().is_string())
}

/// Forgets that a parameter is a text.
fn forget(found: &mut Found, expr: &Expr) {
    if let Expr::Placeholder(Placeholder { id, .. }) = expr
        && let Ok(index) = number(id)
        && let Some(field) = found.get_mut(&index)
        && field.as_ref().is_some_and(|field| field.data_type().is_string())
    {
        *field = None;
    }
}

/// Gives untyped parameters among some expressions the type of the others.
fn alike<'a>(found: &mut Found, parts: impl Iterator<Item = &'a Expr> + Clone, schema: &DFSchemaRef) {
    let is_known = |field: &FieldRef| *field.data_type() != DataType::Null;
    // A text without a type is of that of the others.
    let of = |is_text_wanted: bool| {
        let parts = parts.clone().filter(|part| is_text_literal(part) == is_text_wanted);
        parts.filter_map(|part| typed(part, found, schema)).find(is_known)
    };
    let known = of(false).or_else(|| of(true));
    if let Some(known) = known {
        let field = Field::new("parameter", known.data_type().clone(), true);
        let field = Arc::new(field.with_metadata(known.metadata().clone()));
        parts.for_each(|part| learn(found, part, || Some(Arc::clone(&field))));
    }
}

/// Returns the field of an expression, with what was found of parameters.
fn typed(part: &Expr, found: &Found, schema: &DFSchemaRef) -> Option<FieldRef> {
    let of = |id: &str| found.get(&number(id).ok()?).cloned().flatten();
    match part {
        Expr::Placeholder(Placeholder { id, field: None }) => of(id),
        _ if !part.exists(|part| Ok(matches!(part, Expr::Placeholder(_)))).unwrap_or(false) => {
            ExprSchemable::to_field(part, schema.as_ref()).ok().map(|(_, field)| field)
        }
        _ => {
            let known = part.clone().transform_up(|part| match part {
                Expr::Placeholder(Placeholder { id, field }) => {
                    let field = of(&id).or(field);
                    Ok(Transformed::yes(Expr::Placeholder(Placeholder { id, field })))
                }
                other => Ok(Transformed::no(other)),
            });
            known.ok().and_then(|known| known.data.to_field(schema.as_ref()).ok()).map(|(_, field)| field)
        }
    }
}

/// Takes a parameter for `numeric` that DataFusion has taken for `double precision`, because it did not know the type of
/// another one in the value beside it.
fn beside_numeric(found: &mut Found, side: &Expr, other: &Expr, schema: &DFSchemaRef) {
    if let Expr::Placeholder(Placeholder { id, field: Some(field) }) = side
        && *field.data_type() == DataType::Float64
        && let Ok(index) = number(id)
        && other.exists(|part| Ok(matches!(part, Expr::Placeholder(_)))).unwrap_or(false)
        && let Some(known) = typed(other, found, schema)
        && known.data_type().is_decimal()
    {
        found.insert(index, Some(Arc::new(Field::new("parameter", known.data_type().clone(), true))));
    }
}

/// Infers the type of `$1` in `x = ANY ($1)` and `$1 = ANY (array)` from the other side if that is kept as text, or a `uuid`.
fn items_kept_as_text(found: &mut Found, args: &[Expr], schema: &DFSchemaRef) {
    let [array, item] = args else { return };
    let of_item = typed(item, found, schema).and_then(|field| column::marked(&field));
    let of_array = typed(array, found, schema).and_then(|field| column::marked(&field));
    if let Some(of_array) = of_item.and_then(|kind| parameter_casts::array_of(&kind)) {
        learn(found, array, || marks::field_of(&of_array));
    } else if let Some(of_array) = of_array
        && let Kind::Array(of_item) = of_array.kind()
    {
        learn(found, item, || marks::field_of(of_item));
    }
}

/// Infers the type of `$1` in `x < ANY ($1)`, which arrives as `array_max($1) > x`.
fn bounds(found: &mut Found, bound: &Expr, other: &Expr, schema: &DFSchemaRef) {
    if let Expr::ScalarFunction(call) = bound
        && matches!(call.name(), "array_max" | "array_min")
        && let [array] = &call.args[..]
        && let Ok(item) = ExprSchemable::get_type(other, schema.as_ref())
        && item != DataType::Null
    {
        learn(found, array, || Some(Arc::new(Field::new("array", DataType::new_list(item.clone(), true), true))));
    }
}

/// Returns the types that a function needs of arguments some of which have no type yet.
fn argument_types(call: &ScalarFunction, fields: &[FieldRef]) -> Vec<Option<FieldRef>> {
    // `x = ANY($1)` arrives as array_has($1, x), whose own coercion cannot guess a list.
    if call.func.name() == "array_has" && fields.len() == 2 && *fields[0].data_type() == DataType::Null {
        let item = Arc::new(Field::new_list_field(fields[1].data_type().clone(), true));
        return vec![Some(Arc::new(Field::new("array", DataType::List(item), true))), None];
    }
    if let Some(types) = json_values::argument_types(call).or_else(|| range_values::argument_types(call)) {
        return types;
    }
    if let Some(types) = unknown_types(call.name(), fields) {
        return types;
    }
    if call.name() == "timezone" && fields.len() == 2 {
        let moment = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
        let of = |data_type: DataType| Some(Arc::new(Field::new("argument", data_type, true)));
        return vec![of(DataType::Utf8), of(moment)];
    }
    match fields_with_udf(fields, call.func.as_ref()) {
        Ok(fields) => {
            let wanted = |(place, field): (usize, FieldRef)| match argument_type(call.name(), place, field.data_type())
            {
                Some(data_type) => Some(Arc::new(Field::clone(&field).with_data_type(data_type))),
                None => Some(field),
            };
            fields.into_iter().enumerate().map(wanted).collect()
        }
        Err(_) => vec![None; fields.len()],
    }
}

/// Returns the types that Postgres gives arguments of which it knows none, if the planner would take others.
fn unknown_types(function: &str, fields: &[FieldRef]) -> Option<Vec<Option<FieldRef>>> {
    let is_unknown = |field: &FieldRef| *field.data_type() == DataType::Null;
    let of = |data_type: DataType| Some(Arc::new(Field::new("argument", data_type, true)));
    match (function, fields) {
        ("array_prepend", [item, array]) if is_unknown(array) => {
            let item = if is_unknown(item) { DataType::Utf8 } else { item.data_type().clone() };
            return Some(vec![of(item.clone()), of(DataType::new_list(item, true))]);
        }
        ("array_concat", [one, other]) if is_unknown(one) != is_unknown(other) => {
            let list = if is_unknown(one) { other } else { one }.data_type().clone();
            return Some(vec![of(list.clone()), of(list)]);
        }
        _ => {}
    }
    fields.first().filter(|field| is_unknown(field))?;
    match (function, fields) {
        ("pg_cancel_backend" | "pg_terminate_backend", [_]) => Some(vec![of(DataType::Int32)]),
        ("floor" | "ceil" | "round" | "trunc" | "abs" | "sqrt" | "sign" | "exp" | "ln", [_]) => {
            Some(vec![of(DataType::Float64)])
        }
        ("round" | "trunc", [_, _]) => Some(vec![of(DataType::Decimal128(38, PLANNED_SCALE)), of(DataType::Int32)]),
        ("array_append" | "array_remove" | "array_position" | "array_positions", [_, item]) => {
            let item = if is_unknown(item) { DataType::Utf8 } else { item.data_type().clone() };
            Some(vec![of(DataType::new_list(item.clone(), true)), of(item)])
        }
        ("array_replace", [_, from, to]) => {
            let item = [from, to].into_iter().find(|item| !is_unknown(item));
            let item = item.map_or(DataType::Utf8, |item| item.data_type().clone());
            Some(vec![of(DataType::new_list(item.clone(), true)), of(item.clone()), of(item)])
        }
        _ => None,
    }
}

/// Returns the type of an argument, if that of Postgres' function is another than that of the planner's.
fn argument_type(function: &str, place: usize, planned: &DataType) -> Option<DataType> {
    const COUNTS: [&str; 18] = [
        "array_length",
        "array_upper",
        "array_lower",
        "array_element",
        "array_slice",
        "repeat",
        "left",
        "right",
        "substr",
        "substring",
        "lpad",
        "rpad",
        "split_part",
        "chr",
        "overlay",
        "make_date",
        "round",
        "trunc",
    ];
    match (function, place) {
        ("sha224" | "sha256" | "sha384" | "sha512" | "encode", 0) => Some(DataType::Binary),
        _ if COUNTS.contains(&function) && *planned == DataType::Int64 => Some(DataType::Int32),
        _ => None,
    }
}
