//! Values of `character(n)` in expressions. Each place that takes one gets what Postgres gives it: a comparison, a group
//! and a function of texts the text without the blanks at its end, a pattern and a function of any type the text with them.
//! The rest is refused by [`marks`](crate::sql::marks).

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ExprSchema, JoinConstraint};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{
    AggregateFunction, Between, BinaryExpr, Case, Cast, InList, Like, Placeholder, ScalarFunction, Sort,
};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    CreateMemoryTable, Distinct, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, cast, lit,
    when,
};
use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;
use neuroql::bpchar::{self, BpcharTask, with_blanks, without_blanks};
use neuroql::json::{self, JsonArgument};

use crate::encode::{column, modifiers};
use crate::sql::json_values::{is_unknown, type_name};
use crate::sql::marks::{field_of, is_comparison, kind_of, lost, of_field};
use crate::wire::error_response::{SqlError, external};

/// Functions that Postgres has for arguments of type `text` only; the planner's names of them.
const OF_TEXT: [&str; 38] = [
    "ascii",
    "bit_length",
    "btrim",
    "char_length",
    "character_length",
    "initcap",
    "left",
    "length",
    "levenshtein",
    "lower",
    "lpad",
    "ltrim",
    "md5",
    "overlay",
    "position",
    "quote_ident",
    "quote_literal",
    "quote_nullable",
    "regexp_count",
    "regexp_instr",
    "regexp_like",
    "regexp_match",
    "regexp_replace",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "split_part",
    "starts_with",
    "string_to_array",
    "strpos",
    "substr",
    "substring",
    "translate",
    "trim",
    "upper",
];

/// Functions that take values of any type, as their output functions write them, and `octet_length`.
const OF_ANY: [&str; 3] = ["concat", "concat_ws", "octet_length"];

/// Returns an expression that takes values of the type as one that answers as Postgres does.
///
/// # Errors
/// 0A000 for what is not supported.
pub(super) fn settled(part: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let is_value = |expr: &Expr| kind_of(expr, schema) == Some(Type::BPCHAR);
    match part {
        Expr::Cast(cast) => Ok(cast_of(cast, schema)),
        Expr::BinaryExpr(both) => binary(both, schema),
        // A parameter has no length, whatever stands beside it.
        Expr::Placeholder(Placeholder { id, field: Some(field) })
            if bpchar::is_bpchar(&field) && column::length_of(&field).is_some() =>
        {
            let field = Field::clone(&field).with_metadata(column::mark(&Type::BPCHAR));
            Ok(Transformed::yes(Expr::Placeholder(Placeholder { id, field: Some(Arc::new(field)) })))
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            if ![&expr, &low, &high].into_iter().any(|side| is_value(side)) {
                return Ok(Transformed::no(Expr::Between(Between { expr, negated, low, high })));
            }
            let mut others = [*low, *high];
            let expr = Box::new(compared(*expr, Operator::GtEq, others.iter_mut(), schema)?);
            let [low, high] = others.map(Box::new);
            Ok(Transformed::yes(Expr::Between(Between { expr, negated, low, high })))
        }
        Expr::InList(InList { expr, mut list, negated }) => {
            if !is_value(&expr) && !list.iter().any(is_value) {
                return Ok(Transformed::no(Expr::InList(InList { expr, list, negated })));
            }
            let expr = Box::new(compared(*expr, Operator::Eq, list.iter_mut(), schema)?);
            Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })))
        }
        Expr::InSubquery(mut within) => {
            let (left, is_changed) = beside_rows(*within.expr, &mut within.subquery, schema)?;
            within.expr = Box::new(left);
            Ok(Transformed::new_transformed(Expr::InSubquery(within), is_changed))
        }
        Expr::SetComparison(mut within) => {
            let (left, is_changed) = beside_rows(*within.expr, &mut within.subquery, schema)?;
            within.expr = Box::new(left);
            Ok(Transformed::new_transformed(Expr::SetComparison(within), is_changed))
        }
        Expr::Like(like) => Ok(pattern(like, schema)?.update_data(Expr::Like)),
        Expr::SimilarTo(like) => Ok(pattern(like, schema)?.update_data(Expr::SimilarTo)),
        Expr::Case(case) => case_of(case, schema),
        Expr::ScalarFunction(call) => call_of(call, schema),
        Expr::AggregateFunction(mut call) => {
            let params = &mut call.params;
            let is_text = call.func.name() == "string_agg" || call.func.name() == "count" && params.distinct;
            let args = params.args.iter_mut().filter(|_| is_text);
            let keys = params.order_by.iter_mut().map(|key| &mut key.expr);
            let is_changed = args.chain(keys).fold(false, |is_changed, value| as_text(value, schema) | is_changed);
            Ok(Transformed::new_transformed(Expr::AggregateFunction(call), is_changed))
        }
        Expr::WindowFunction(mut call) => {
            let params = &mut call.params;
            let keys = params.partition_by.iter_mut().chain(params.order_by.iter_mut().map(|key| &mut key.expr));
            let is_changed = keys.fold(false, |is_changed, key| as_text(key, schema) | is_changed);
            Ok(Transformed::new_transformed(Expr::WindowFunction(call), is_changed))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Takes a value of the type as a text; returns true if this is one.
fn as_text(value: &mut Expr, schema: &DFSchema) -> bool {
    let is_value = kind_of(value, schema) == Some(Type::BPCHAR);
    if is_value {
        *value = without_blanks(std::mem::take(value));
    }
    is_value
}

/// Takes a value of the type as a text that has its blanks; returns true if this is one.
fn as_written(value: &mut Expr, schema: &DFSchema) -> bool {
    let is_value = kind_of(value, schema) == Some(Type::BPCHAR);
    if is_value {
        *value = with_blanks(std::mem::take(value));
    }
    is_value
}

/// Returns true for a constant or a parameter that has no type yet.
fn is_untyped(expr: &Expr) -> bool {
    is_unknown(expr) || matches!(expr, Expr::Placeholder(Placeholder { field: None, .. }))
}

/// Returns true for a value of the type, a text, and what may become one: NULL, and what has no type yet.
fn is_alike(value: &Expr, schema: &DFSchema) -> bool {
    let found = value.get_type(schema).unwrap_or(DataType::Null);
    let is_text = match &found {
        DataType::Dictionary(_, values) => values.is_string(),
        found => found.is_string() || found.is_null(),
    };
    is_untyped(value) || is_text && kind_of(value, schema).is_none_or(|kind| kind == Type::BPCHAR)
}

/// Reads what has no type yet as a value of the type, as it is compared.
fn read(value: &mut Expr) {
    match value {
        Expr::Literal(
            ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)),
            None,
        ) => *value = lit(bpchar::trimmed(text)),
        Expr::Placeholder(Placeholder { field: field @ None, .. }) => {
            *field = field_of(&Type::BPCHAR);
            *value = without_blanks(std::mem::take(value));
        }
        _ => {}
    }
}

/// Makes a parameter that the planner has given the type of what stands beside it one of `text`; returns true if it is one.
/// The type of a parameter that the client has declared is in a field without a name.
fn untaken(value: &mut Expr, schema: &DFSchema) -> bool {
    let is_value = kind_of(value, schema) == Some(Type::BPCHAR);
    match value {
        Expr::Placeholder(Placeholder { field: Some(field), .. }) if is_value && !field.name().is_empty() => {
            *field = Arc::new(Field::new("text", DataType::Utf8, true));
            true
        }
        _ => false,
    }
}

/// Prepares values that are compared with the first one, and returns that.
///
/// # Errors
/// 42883 if one of them is no text.
fn compared<'a>(
    first: Expr,
    op: Operator,
    others: impl Iterator<Item = &'a mut Expr>,
    schema: &DFSchema,
) -> Result<Expr> {
    let (mut first, others) = (first, others.collect::<Vec<_>>());
    let is_first_alike = is_alike(&first, schema);
    if let Some(other) = others.iter().find(|other| !is_first_alike || !is_alike(other, schema)) {
        return Err(no_operator(&first, op, other, schema));
    }
    let is_value = as_text(&mut first, schema);
    let is_untyped_first = is_untyped(&first);
    let (mut values, mut all) = (0, 0);
    for other in others {
        all += 1;
        if as_text(other, schema) {
            values += 1;
        } else if is_untyped(other) {
            values += 1;
            if is_value {
                read(other);
            }
        }
    }
    if is_untyped_first && values > 0 {
        if values < all {
            return Err(external(lost(&Type::BPCHAR, "a comparison with several types")));
        }
        read(&mut first);
    }
    Ok(first)
}

/// Returns true for equality of columns whose values have the same number of characters: that of their texts.
pub(super) fn is_of_one_length(both: &BinaryExpr, schema: &DFSchema) -> bool {
    use Operator::{Eq, IsDistinctFrom, IsNotDistinctFrom, NotEq};
    matches!(both.op, Eq | NotEq | IsDistinctFrom | IsNotDistinctFrom)
        && have_one_length((&both.left, schema), (&both.right, schema))
}

/// Returns true for two columns whose values have the same number of characters.
pub(super) fn have_one_length(left: (&Expr, &DFSchema), right: (&Expr, &DFSchema)) -> bool {
    let length = |(value, schema): (&Expr, &DFSchema)| {
        let field = match value {
            Expr::Column(column) => schema.field_from_column(column).ok()?,
            Expr::OuterReferenceColumn(field, _) => field,
            _ => return None,
        };
        column::length_of(field).filter(|_| bpchar::is_bpchar(field))
    };
    length(left).is_some_and(|found| Some(found) == length(right))
}

fn binary(both: BinaryExpr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    use Operator::{
        ILikeMatch, LikeMatch, NotILikeMatch, NotLikeMatch, RegexIMatch, RegexMatch, RegexNotIMatch, RegexNotMatch,
    };
    if is_of_one_length(&both, schema) {
        return Ok(Transformed::no(Expr::BinaryExpr(both)));
    }
    let BinaryExpr { mut left, op, mut right } = both;
    let is_value = |expr: &Expr| kind_of(expr, schema) == Some(Type::BPCHAR);
    let is_changed = match op {
        _ if !is_value(&left) && !is_value(&right) => false,
        op if is_comparison(op) => {
            // `x < ANY (array)` is a comparison with its greatest item.
            let of_array = |side: &Expr| {
                matches!(side, Expr::ScalarFunction(call) if matches!(call.name(), "array_min" | "array_max")
                    && call.args.first().is_some_and(is_untyped))
            };
            if of_array(&left) || of_array(&right) {
                return Err(external(lost(&Type::BPCHAR, "comparisons with ANY and ALL of an array without a type")));
            }
            left = Box::new(compared(*left, op, std::iter::once(right.as_mut()), schema)?);
            true
        }
        Operator::StringConcat => {
            let is_other = untaken(&mut left, schema) | untaken(&mut right, schema);
            as_text(&mut left, schema) | as_text(&mut right, schema) | is_other
        }
        RegexMatch | RegexIMatch | RegexNotMatch | RegexNotIMatch | LikeMatch | ILikeMatch | NotLikeMatch
        | NotILikeMatch => {
            let is_other = untaken(&mut left, schema) | untaken(&mut right, schema);
            as_written(&mut left, schema) | as_text(&mut right, schema) | is_other
        }
        Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo => {
            return Err(no_operator(&left, op, &right, schema));
        }
        _ => false,
    };
    Ok(Transformed::new_transformed(Expr::BinaryExpr(BinaryExpr { left, op, right }), is_changed))
}

fn no_operator(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> DataFusionError {
    let (left, right) = (type_name(left, schema), type_name(right, schema));
    let hint = "No operator matches the given name and argument types. You might need to add explicit type casts.";
    external(SqlError::error("42883", format!("operator does not exist: {left} {op} {right}")).with_hint(hint))
}

/// Prepares a value that is compared with the rows of a subquery, and the subquery; returns true if one of them has changed.
fn beside_rows(value: Expr, subquery: &mut Subquery, schema: &DFSchema) -> Result<(Expr, bool)> {
    let mut value = value;
    let rows = subquery.subquery.schema();
    let of_rows = rows.fields().first().and_then(|field| of_field(field)) == Some(Type::BPCHAR);
    let mut is_changed = as_text(&mut value, schema);
    if of_rows {
        if is_untyped(&value) {
            read(&mut value);
        }
        let (qualifier, field) = rows.qualified_field(0);
        let name = field.name().clone();
        let text = without_blanks(Expr::Column(Column::from((qualifier, field)))).alias(name);
        let plan = LogicalPlanBuilder::from(LogicalPlan::clone(&subquery.subquery)).project([text])?.build()?;
        subquery.subquery = Arc::new(plan);
        is_changed = true;
    }
    Ok((value, is_changed))
}

/// Prepares a value, whose blanks a pattern sees, and the pattern, which is a text.
fn pattern(mut like: Like, schema: &DFSchema) -> Result<Transformed<Like>> {
    let is_other = untaken(&mut like.expr, schema) | untaken(&mut like.pattern, schema);
    let is_changed = as_written(&mut like.expr, schema) | as_text(&mut like.pattern, schema);
    Ok(Transformed::new_transformed(like, is_changed | is_other))
}

/// Prepares values of which an expression returns one. Returns true if they are of the type, and false if they are texts;
/// `None` if none is of the type. As in Postgres, the first value that has a type decides.
///
/// # Errors
/// 42804 if one of them is no text.
fn results<'a>(values: impl Iterator<Item = &'a mut Expr>, place: &str, schema: &DFSchema) -> Result<Option<bool>> {
    let values: Vec<_> = values.collect();
    let kinds = || values.iter().map(|value| kind_of(value, schema));
    if !kinds().any(|kind| kind == Some(Type::BPCHAR)) {
        return Ok(None);
    }
    let mut is_typed = None;
    for (value, kind) in values.iter().zip(kinds()) {
        let found = value.get_type(schema).unwrap_or(DataType::Null);
        if is_untyped(value) || found.is_null() {
            continue;
        }
        let is_value = kind == Some(Type::BPCHAR);
        if !is_alike(value, schema) {
            let message = format!("{place} types character and {} cannot be matched", type_name(value, schema));
            return Err(external(SqlError::error("42804", message)));
        }
        is_typed.get_or_insert(is_value);
    }
    for value in values {
        match value {
            Expr::Placeholder(Placeholder { field: field @ None, .. }) if is_typed == Some(true) => {
                *field = field_of(&Type::BPCHAR);
                as_written(value, schema);
            }
            value if is_typed == Some(true) => {
                as_written(value, schema);
            }
            value => {
                as_text(value, schema);
            }
        }
    }
    Ok(is_typed)
}

/// Returns a value as one of the type, if it is one.
fn returned(value: Expr, is_typed: Option<bool>, is_changed: bool) -> Transformed<Expr> {
    match is_typed {
        Some(true) => Transformed::yes(bpchar::cast(value, None)),
        Some(false) => Transformed::yes(value),
        None => Transformed::new_transformed(value, is_changed),
    }
}

fn case_of(mut case: Case, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let mut is_changed = false;
    if let Some(tested) = case.expr.take() {
        let mut values = std::iter::once(tested.as_ref()).chain(case.when_then_expr.iter().map(|(when, _)| &**when));
        is_changed = values.any(|value| kind_of(value, schema) == Some(Type::BPCHAR));
        case.expr = Some(match is_changed {
            true => {
                let whens = case.when_then_expr.iter_mut().map(|(when, _)| when.as_mut());
                Box::new(compared(*tested, Operator::Eq, whens, schema)?)
            }
            false => tested,
        });
    }
    let thens = case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
    let is_typed = results(case.else_expr.as_deref_mut().into_iter().chain(thens), "CASE/WHEN", schema)?;
    Ok(returned(Expr::Case(case), is_typed, is_changed))
}

fn call_of(mut call: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let is_value = |expr: &Expr| kind_of(expr, schema) == Some(Type::BPCHAR);
    if let Some(task) = bpchar::task_of(&call) {
        // The client has declared another type.
        return Ok(match (task, call.args.as_mut_slice()) {
            (BpcharTask::WithoutBlanks, [value @ Expr::Placeholder(Placeholder { field: Some(_), .. })])
                if !matches!(kind_of(value, schema), Some(Type::BPCHAR | Type::BPCHAR_ARRAY)) =>
            {
                Transformed::yes(std::mem::take(value))
            }
            _ => Transformed::no(Expr::ScalarFunction(call)),
        });
    }
    if let Some((wanted, _)) = json::arguments_of(&call) {
        let mut is_changed = false;
        for (place, value) in call.args.iter_mut().enumerate() {
            if let Some(JsonArgument::Text | JsonArgument::Key) = wanted.get(place).or(wanted.last()) {
                is_changed |= as_text(value, schema);
            }
        }
        return Ok(Transformed::new_transformed(Expr::ScalarFunction(call), is_changed));
    }
    let is_changed = match (call.name(), call.args.len()) {
        ("coalesce", _) => {
            let is_typed = results(call.args.iter_mut(), "COALESCE", schema)?;
            return Ok(returned(Expr::ScalarFunction(call), is_typed, false));
        }
        ("nullif", 2) => {
            let is_typed = is_value(&call.args[0]);
            if !is_typed && !is_value(&call.args[1]) {
                return Ok(Transformed::no(Expr::ScalarFunction(call)));
            }
            let first = call.args[0].clone();
            // It is evaluated twice.
            if is_typed && !matches!(first, Expr::Column(_) | Expr::OuterReferenceColumn(..)) {
                return Ok(Transformed::no(Expr::ScalarFunction(call)));
            }
            let mut other = call.args[1].clone();
            let text = compared(first.clone(), Operator::Eq, std::iter::once(&mut other), schema)?;
            if !is_typed {
                call.args = vec![text, other];
                return Ok(Transformed::yes(Expr::ScalarFunction(call)));
            }
            let null = Expr::Literal(ScalarValue::Utf8(None), None);
            let case = when(text.eq(other), null).otherwise(with_blanks(first))?;
            return Ok(Transformed::yes(bpchar::cast(case, None)));
        }
        // `x = ANY (array)`.
        ("array_has", 2) if is_value(&call.args[1]) => {
            if let [array, item] = call.args.as_mut_slice() {
                match array {
                    array if is_unknown(array) => {
                        let texts = cast(std::mem::take(array), DataType::new_list(DataType::Utf8, true));
                        *array = without_blanks(texts);
                    }
                    Expr::Placeholder(Placeholder { field: field @ None, .. }) => {
                        *field = field_of(&Type::BPCHAR_ARRAY);
                        *array = without_blanks(std::mem::take(array));
                    }
                    array if kind_of(array, schema) == Some(Type::BPCHAR_ARRAY) => {
                        *array = without_blanks(std::mem::take(array));
                    }
                    _ => {}
                }
                as_text(item, schema);
            }
            true
        }
        ("pg_typeof", 1) if is_value(&call.args[0]) && !matches!(call.args[0], Expr::ScalarFunction(_)) => {
            call.args[0] = bpchar::cast(std::mem::take(&mut call.args[0]), None);
            true
        }
        (name, _) if OF_ANY.contains(&name) => {
            let separators = usize::from(name == "concat_ws").min(call.args.len());
            let (separator, values) = call.args.split_at_mut(separators);
            let is_changed = separator.iter_mut().fold(false, |changed, value| as_text(value, schema) | changed);
            values.iter_mut().fold(is_changed, |changed, value| as_written(value, schema) || changed)
        }
        (name, _) if OF_TEXT.contains(&name) => {
            call.args.iter_mut().fold(false, |changed, value| as_text(value, schema) | changed)
        }
        _ => false,
    };
    Ok(Transformed::new_transformed(Expr::ScalarFunction(call), is_changed))
}

/// Returns a cast of a value of the type, or to it.
fn cast_of(cast: Cast, schema: &DFSchema) -> Transformed<Expr> {
    let Cast { expr: mut value, field } = cast;
    let from = kind_of(&value, schema);
    if bpchar::is_bpchar(&field) {
        let is_text = |found: &DataType| matches!(found, DataType::Utf8 | DataType::Null);
        if let Expr::Placeholder(Placeholder { field: unknown @ None, .. }) = value.as_mut() {
            *unknown = field_of(&Type::BPCHAR);
        }
        let text = match from {
            Some(Type::BPCHAR) => *value,
            None if value.get_type(schema).is_ok_and(|found| is_text(&found)) => *value,
            _ => datafusion::logical_expr::cast(*value, DataType::Utf8),
        };
        return Transformed::yes(bpchar::cast(text, column::length_of(&field)));
    }
    if from != Some(Type::BPCHAR) {
        return Transformed::no(Expr::Cast(Cast { expr: value, field }));
    }
    // Values of these types are read from the text as it is written.
    let is_written = of_field(&field).is_some() || matches!(field.data_type(), DataType::Binary);
    let value = if is_written { with_blanks(*value) } else { without_blanks(*value) };
    Transformed::yes(Expr::Cast(Cast { expr: Box::new(value), field }))
}

/// Prepares the defaults of the columns of a table. Those of columns of texts have no blanks at their end.
///
/// # Errors
/// 0A000 for what is not supported.
pub(super) fn read_defaults(table: &mut CreateMemoryTable) -> Result<()> {
    let schema = DFSchema::empty();
    for (name, default) in &mut table.column_defaults {
        let value = std::mem::take(default).transform_up(|part| settled(part, &schema))?.data;
        let field = table.input.schema().field_with_unqualified_name(name)?;
        *default = match kind_of(&value, &schema) {
            Some(Type::BPCHAR) if bpchar::is_bpchar(field) => with_blanks(value),
            Some(Type::BPCHAR) => without_blanks(value),
            _ => value,
        };
    }
    Ok(())
}

/// Prepares the keys of a node, by which rows are sorted and joined, its aggregates, and the columns that a UNION joins.
///
/// # Errors
/// Those of the planner.
pub(super) fn keys_settled(mut node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&node);
    let is_changed = match &mut node {
        LogicalPlan::Sort(sort) => sort_keys(&mut sort.expr, sort.input.schema()),
        LogicalPlan::Distinct(Distinct::On(distinct)) => {
            let schema = distinct.input.schema();
            let keys = distinct.on_expr.iter_mut().fold(false, |changed, key| as_text(key, schema) | changed);
            distinct.sort_expr.as_mut().is_some_and(|order| sort_keys(order, schema)) || keys
        }
        LogicalPlan::Join(join) => {
            let mut is_changed = false;
            for (left, right) in &mut join.on {
                if have_one_length((left, join.left.schema()), (right, join.right.schema())) {
                    continue;
                }
                is_changed |= as_text(left, join.left.schema());
                is_changed |= as_text(right, join.right.schema());
            }
            if is_changed {
                // The keys of USING are columns.
                join.join_constraint = JoinConstraint::On;
            }
            is_changed
        }
        LogicalPlan::Union(union) => {
            let mut is_changed = false;
            for place in 0..union.schema.fields().len() {
                let lengths = union.inputs.iter().filter_map(|input| {
                    let field = input.schema().fields().get(place).filter(|field| bpchar::is_bpchar(field))?;
                    Some(column::length_of(field))
                });
                let lengths: Vec<_> = lengths.collect();
                if lengths.windows(2).any(|pair| pair[0] != pair[1]) {
                    union.inputs.iter_mut().try_for_each(|input| forget_length(input, place))?;
                    is_changed = true;
                }
            }
            is_changed
        }
        LogicalPlan::Aggregate(aggregate) => {
            let mut is_changed = false;
            for output in &mut aggregate.aggr_expr {
                let name = names.save(output);
                if extreme(output, &aggregate.input) {
                    *output = name.restore(std::mem::take(output));
                    is_changed = true;
                }
            }
            is_changed
        }
        _ => false,
    };
    Ok(Transformed::new_transformed(node, is_changed))
}

/// Makes a column of `character(n)` one of `bpchar`, which has no length.
fn forget_length(input: &mut Arc<LogicalPlan>, place: usize) -> Result<()> {
    let field = input.schema().field(place);
    if !bpchar::is_bpchar(field) || column::length_of(field).is_none() {
        return Ok(());
    }
    let columns = input.schema().iter().enumerate().map(|(index, (qualifier, field))| {
        let column = Expr::from((qualifier, field));
        match index == place {
            true => bpchar::cast(column, None).alias_qualified(qualifier.cloned(), field.name()),
            false => column,
        }
    });
    let columns: Vec<_> = columns.collect();
    *input = Arc::new(LogicalPlanBuilder::from(LogicalPlan::clone(input)).project(columns)?.build()?);
    Ok(())
}

fn sort_keys(keys: &mut [Sort], schema: &DFSchema) -> bool {
    keys.iter_mut().fold(false, |changed, key| as_text(&mut key.expr, schema) | changed)
}

/// Makes `min` and `max` of a value of `character(n)` aggregates of texts; returns true for such a call. Without a length
/// it is not known which of equal values Postgres returns.
fn extreme(output: &mut Expr, input: &LogicalPlan) -> bool {
    match output {
        Expr::Alias(alias) => extreme(&mut alias.expr, input),
        Expr::AggregateFunction(AggregateFunction { func, params }) if matches!(func.name(), "min" | "max") => {
            let [value] = params.args.as_mut_slice() else { return false };
            if kind_of(value, input.schema()) != Some(Type::BPCHAR) {
                return false;
            }
            let Some(length) = length(value, input) else { return false };
            *func = bpchar::extreme(Arc::clone(func), length);
            *value = without_blanks(std::mem::take(value));
            true
        }
        _ => false,
    }
}

/// Returns the number of characters that all values have.
fn length(value: &Expr, input: &LogicalPlan) -> Option<usize> {
    usize::try_from(modifiers::of_value(value, input)?.checked_sub(4)?).ok()
}

/// Checks that values of a column are equal if their texts are.
///
/// # Errors
/// 0A000 for `bpchar` without a length.
pub(crate) fn check_key(field: &Field) -> Result<(), SqlError> {
    match bpchar::is_bpchar(field) && column::length_of(field).is_none() {
        true => Err(lost(&Type::BPCHAR, "keys without a length")),
        false => Ok(()),
    }
}

/// Returns true if values that are equal have the same bytes: all have the same number of characters.
pub(super) fn has_length(value: &Expr, input: &LogicalPlan) -> bool {
    length(value, input).is_some()
}
