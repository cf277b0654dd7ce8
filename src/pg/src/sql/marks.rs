//! Values of types that are kept as text: `uuid`, `json`, `jsonb` and enums, as parameters and as literals have them.
//!
//! The planner takes them for text, and a mark in the field names the type. They are refused where the mark would be lost,
//! and where texts answer otherwise than values of the type do: `1.0` and `1.00` are equal as `jsonb`, `json` has no
//! equality at all.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{
    AggregateFunction, BinaryExpr, InSubquery, Placeholder, ScalarFunction, SetComparison,
};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    DdlStatement, Distinct, DmlStatement, Expr, ExprSchemable, LogicalPlan, Operator, Union, Values, WriteOp,
};
use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;
use neuroql::json;
use postgres_types::Kind;

use crate::catalog::own_types;
use crate::decode;
use crate::encode::column;
use crate::session::returning;
use crate::sql::enum_functions;
use crate::sql::json_values;
use crate::sql::literals;
use crate::sql::own_values;
use crate::sql::rewrite::parameter_casts;
use crate::wire::error_response::{ExternalSqlError, SqlError};

/// The types, and arrays of them.
const KEPT: [Type; 6] = [Type::UUID, Type::JSON, Type::JSONB, Type::UUID_ARRAY, Type::JSON_ARRAY, Type::JSONB_ARRAY];

/// Returns true for a type that is kept as text, and for arrays of one.
pub(crate) fn is_kept_as_text(kind: &Type) -> bool {
    KEPT.contains(kind) || own_types::is_own(kind)
}

/// Returns the type of a field's values, if it is kept as text.
pub(crate) fn of_field(field: &Field) -> Option<Type> {
    column::marked(field).filter(is_kept_as_text)
}

/// Returns a field of a type that is kept as text; `None` for other types.
pub(crate) fn field_of(kind: &Type) -> Option<FieldRef> {
    let data_type = decode::arrow_type(kind, "UTC").filter(|_| is_kept_as_text(kind))?;
    Some(Arc::new(Field::new("parameter", data_type, true).with_metadata(column::mark(kind))))
}

/// Returns true if texts have the equality and the order of the values. Postgres compares the bytes of `uuid`. Of enums they have
/// the equality; places in their order are compared where that matters.
fn is_ordered(kind: &Type) -> bool {
    matches!(*kind, Type::UUID | Type::UUID_ARRAY) || own_types::is_of_labels(kind)
}

/// Returns true if a plan has columns or values of a type that is kept as text.
///
/// # Errors
/// If a query inside of it cannot be visited.
pub(crate) fn has_marks(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= node.schema().fields().iter().any(|field| of_field(field).is_some());
        if let LogicalPlan::Ddl(DdlStatement::CreateExternalTable(table)) = node {
            found |= table.schema.fields().iter().any(|field| of_field(field).is_some());
        }
        node.apply_expressions(|expr| {
            found |= expr.exists(|part| {
                Ok(match part {
                    Expr::Cast(cast) => of_field(&cast.field).is_some(),
                    Expr::TryCast(cast) => of_field(&cast.field).is_some(),
                    Expr::Literal(_, Some(_)) => kind_of(part, &DFSchema::empty()).is_some(),
                    Expr::ScalarFunction(call) => {
                        json::arguments_of(call).is_some()
                            || literals::kind_of(call).is_some()
                            || enum_functions::named_by(call).is_some()
                    }
                    _ => false,
                })
            })?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Returns the type of an expression's values, if it is kept as text.
pub(crate) fn kind_of(expr: &Expr, schema: &DFSchema) -> Option<Type> {
    match expr {
        Expr::Alias(alias) => kind_of(&alias.expr, schema),
        Expr::Column(column) => of_field(schema.field_from_column(column).ok()?),
        Expr::OuterReferenceColumn(field, _) | Expr::Placeholder(Placeholder { field: Some(field), .. }) => {
            of_field(field)
        }
        Expr::ScalarSubquery(subquery) => of_field(subquery.subquery.schema().fields().first()?),
        // `x < ANY (array)` is planned as a comparison with its greatest item.
        Expr::ScalarFunction(call) if matches!(call.name(), "array_min" | "array_max") => {
            match kind_of(call.args.first()?, schema)?.kind() {
                Kind::Array(item) => Some(item.clone()),
                _ => None,
            }
        }
        Expr::ScalarFunction(call) if call.name() == "coalesce" => {
            call.args.iter().find_map(|arg| kind_of(arg, schema))
        }
        Expr::ScalarFunction(call) if json::arguments_of(call).is_some() => {
            of_field(&ExprSchemable::to_field(expr, schema).ok()?.1)
        }
        Expr::ScalarFunction(call) => literals::kind_of(call).or_else(|| enum_functions::kind_of(call)),
        Expr::Case(case) => json_values::results(case).find_map(|result| kind_of(result, schema)),
        Expr::Cast(cast) => of_field(&cast.field),
        Expr::Literal(_, Some(_)) => of_field(&ExprSchemable::to_field(expr, schema).ok()?.1),
        _ => None,
    }
}

/// Greatest number of times that types are written to a plan: a column of an outer query may have its type from another one.
const MOST_PASSES: usize = 8;

/// Writes the types to where the planner has not: to the columns of set operations, to columns of outer queries, and to
/// texts beside `uuid`, which are read as such. Expressions of `json` and `jsonb` become ones that answer as Postgres does.
///
/// # Errors
/// 22P02 if such a text is no value of its type, 42846 for casts that do not exist.
pub(crate) fn settle(mut plan: LogicalPlan) -> Result<LogicalPlan> {
    for _ in 0..MOST_PASSES {
        let settled = settle_expressions(settle_outer_columns(settle_unions(plan.clone())?)?)?;
        if settled == plan {
            break;
        }
        plan = settled;
    }
    Ok(plan)
}

fn settle_expressions(plan: LogicalPlan) -> Result<LogicalPlan> {
    let settled = plan.transform_up_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let changed = expr.transform_up(|part| {
                let read = read_beside(part, &schema)?;
                let was_read = read.transformed;
                let settled = json_values::settled(read.data, &schema)?;
                let was_settled = settled.transformed;
                let own = own_values::settled(settled.data, &schema)?;
                Ok(Transformed::new_transformed(own.data, own.transformed || was_settled || was_read))
            })?;
            Ok(if changed.transformed { changed.update_data(|expr| name.restore(expr)) } else { changed })
        })?;
        node.map_data(|node| match with_current_schema(node)? {
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(mut table)) => {
                json_values::read_defaults(&mut table)?;
                own_values::read_defaults(&mut table)?;
                Ok(LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(table)))
            }
            other => Ok(own_values::sorted(other)),
        })
    })?;
    Ok(settled.data)
}

/// Gives set operations the types of their inputs, and the nodes above them those of theirs.
fn settle_unions(plan: LogicalPlan) -> Result<LogicalPlan> {
    let settled = plan.transform_up_with_subqueries(|node| Ok(Transformed::yes(with_current_schema(node)?)))?;
    Ok(settled.data)
}

fn with_current_schema(node: LogicalPlan) -> Result<LogicalPlan> {
    match node {
        LogicalPlan::Union(union) => {
            let width = union.schema.fields().len();
            let settled = Union::try_new_with_loose_types(union.inputs.clone());
            let union = settled.ok().filter(|settled| settled.schema.fields().len() == width).unwrap_or(union);
            Ok(LogicalPlan::Union(union))
        }
        other => other.recompute_schema(),
    }
}

/// Gives columns of outer queries in subqueries the types that they have there.
fn settle_outer_columns(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut columns: HashMap<Column, Option<Type>> = HashMap::new();
    plan.apply_with_subqueries(|node| {
        for (qualifier, field) in node.schema().iter() {
            let found = of_field(field);
            let known = columns.entry(Column::new(qualifier.cloned(), field.name())).or_insert_with(|| found.clone());
            // Columns of one name in other queries.
            if *known != found {
                *known = None;
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let settled = plan.transform_up_with_subqueries(|node| {
        node.map_expressions(|expr| {
            expr.transform_up(|part| {
                Ok(match part {
                    Expr::OuterReferenceColumn(field, name) => match columns.get(&name).and_then(Option::as_ref) {
                        Some(kind) if of_field(&field).is_none() => {
                            let field = Field::clone(&field).with_metadata(column::mark(kind));
                            Transformed::yes(Expr::OuterReferenceColumn(Arc::new(field), name))
                        }
                        _ => Transformed::no(Expr::OuterReferenceColumn(field, name)),
                    },
                    other => Transformed::no(other),
                })
            })
        })
    })?;
    Ok(settled.data)
}

/// Reads texts that are compared with values of a type as such values.
fn read_beside(mut part: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let changed = match &mut part {
        Expr::BinaryExpr(both) if is_comparison(both.op) => {
            let (left, right) = (kind_of(&both.left, schema), kind_of(&both.right, schema));
            let changed = read_as(right.as_ref(), &mut both.left)?;
            read_as(left.as_ref(), &mut both.right)? || changed
        }
        Expr::Between(between) => {
            let kind = kind_of(&between.expr, schema);
            let changed = read_as(kind.as_ref(), &mut between.low)?;
            read_as(kind.as_ref(), &mut between.high)? || changed
        }
        Expr::InList(within) => {
            let kind = kind_of(&within.expr, schema);
            let mut changed = false;
            for item in &mut within.list {
                changed |= read_as(kind.as_ref(), item)?;
            }
            changed
        }
        _ => false,
    };
    Ok(if changed { Transformed::yes(part) } else { Transformed::no(part) })
}

/// Reads a text without a type as a value of a type that has an order; returns true if it is one.
fn read_as(kind: Option<&Type>, other: &mut Expr) -> Result<bool> {
    let (Some(kind), Expr::Literal(ScalarValue::Utf8(Some(text)), None)) = (kind, &*other) else { return Ok(false) };
    if !is_ordered(kind) {
        return Ok(false);
    }
    let value = decode::from_text(kind, text, "UTC").map_err(external)?;
    *other = Expr::Literal(value, Some(FieldMetadata::from(column::mark(kind))));
    Ok(true)
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Refuses values where their type would be lost, or their text answers otherwise.
///
/// # Errors
/// 0A000 if there are such values.
pub(crate) fn check(plan: &LogicalPlan) -> Result<(), SqlError> {
    let own_rows = inserted_rows(plan);
    plan.apply_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        check_node(node, &schema, own_rows).map_err(external)?;
        node.apply_expressions(|expr| {
            expr.apply(|part| match check_part(part, &schema) {
                Ok(()) => Ok(TreeNodeRecursion::Continue),
                Err(error) => Err(external(error)),
            })
        })
    })?;
    Ok(())
}

pub(super) fn external(error: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(ExternalSqlError(error)))
}

/// Returns the rows of `INSERT … VALUES`, which have the types of the table's columns.
fn inserted_rows(plan: &LogicalPlan) -> Option<&Values> {
    match plan {
        LogicalPlan::Explain(explain) => inserted_rows(&explain.plan),
        LogicalPlan::Analyze(analyze) => inserted_rows(&analyze.input),
        LogicalPlan::Dml(DmlStatement { op: WriteOp::Insert(_), input, .. }) => match input.as_ref() {
            LogicalPlan::Projection(projection) => match projection.input.as_ref() {
                LogicalPlan::Values(values) => Some(values),
                _ => None,
            },
            _ => None,
        },
        other => inserted_rows(returning::parts(other)?.0),
    }
}

/// Checks the values that a node takes and returns.
fn check_node(node: &LogicalPlan, schema: &DFSchema, own_rows: Option<&Values>) -> Result<(), SqlError> {
    let kind = |expr: &Expr| kind_of(expr, schema);
    match node {
        LogicalPlan::Projection(projection) => {
            let mut outputs = projection.expr.iter().zip(projection.schema.fields());
            outputs.try_for_each(|(expr, field)| kept(kind(expr), field, "an output"))
        }
        LogicalPlan::Values(values) => {
            let is_own = own_rows.is_some_and(|own| std::ptr::eq(own, values));
            let cells = values.values.iter().flat_map(|row| row.iter().zip(values.schema.fields()));
            for (cell, field) in cells {
                // A column of texts takes the text of any value.
                if !(is_own && field.data_type().is_string()) {
                    kept(kind(cell), field, "VALUES")?;
                }
            }
            Ok(())
        }
        LogicalPlan::Union(union) => check_union(union),
        LogicalPlan::RecursiveQuery(query) => {
            let (one, other) = (query.static_term.schema().fields(), query.recursive_term.schema().fields());
            for (one, other) in one.iter().zip(other) {
                kept(of_field(one), other, "a recursive query")?;
                kept(of_field(other), one, "a recursive query")?;
                if query.is_distinct {
                    ordered(of_field(one))?;
                }
            }
            Ok(())
        }
        LogicalPlan::Join(join) => join.on.iter().try_for_each(|(left, right)| {
            let (of_left, of_right) = (join.left.schema().as_ref(), join.right.schema().as_ref());
            if let Some(error) = own_values::no_operator((left, of_left), "=", (right, of_right)) {
                return Err(error);
            }
            let kinds = (kind_of(left, join.left.schema()), kind_of(right, join.right.schema()));
            alike(kinds.0, kinds.1, false)
        }),
        LogicalPlan::Distinct(Distinct::All(input)) => {
            input.schema().fields().iter().try_for_each(|field| ordered(of_field(field)))
        }
        LogicalPlan::Distinct(Distinct::On(distinct)) => {
            let keys = distinct.sort_expr.iter().flatten().map(|key| &key.expr);
            distinct.on_expr.iter().chain(keys).try_for_each(|key| ranked(kind(key)))
        }
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.iter().try_for_each(|key| ordered(kind(key))),
        LogicalPlan::Sort(sort) => sort.expr.iter().try_for_each(|key| match kind(&key.expr) {
            Some(kind @ Type::JSON) => Err(json_values::no_order("ordering", &kind)),
            kind => ranked(kind),
        }),
        // A column of texts takes the text of any value; other columns have casts.
        LogicalPlan::Dml(dml) => {
            let mut found = dml.input.schema().fields().iter().filter_map(|field| of_field(field));
            let is_refused = |kind: &Type| is_array(kind) && !own_types::is_of_labels(kind);
            found.find(is_refused).map_or(Ok(()), |found| Err(lost(&found, "columns of tables")))
        }
        LogicalPlan::Ddl(ddl) => json_values::check_ddl(ddl),
        LogicalPlan::Copy(_) => {
            let mut fields = node.inputs().into_iter().flat_map(|input| input.schema().fields().iter());
            match fields.find_map(|field| of_field(field)) {
                Some(found) => Err(lost(&found, "columns of files")),
                None => Ok(()),
            }
        }
        other => {
            let mut found = None;
            // The closure returns no error.
            let _ = other.apply_expressions(|expr| {
                found = found.take().or_else(|| kind(expr));
                Ok(TreeNodeRecursion::Continue)
            });
            match found {
                Some(found) => Err(lost(&found, "conditions, limits and tables of functions")),
                None => Ok(()),
            }
        }
    }
}

/// Checks that a column of a set operation has one type.
fn check_union(union: &Union) -> Result<(), SqlError> {
    for (index, field) in union.schema.fields().iter().enumerate() {
        let columns = || union.inputs.iter().filter_map(move |input| input.schema().fields().get(index));
        let Some(found) = columns().find_map(|column| of_field(column)) else { continue };
        // NULL is a value of any type.
        let is_alike = |column: &FieldRef| column.data_type().is_null() || of_field(column).as_ref() == Some(&found);
        if !columns().all(is_alike) {
            return Err(lost(&found, "a UNION with another type"));
        }
        kept(Some(found), field, "a UNION")?;
    }
    Ok(())
}

/// Checks the values that an expression takes.
fn check_part(part: &Expr, schema: &DFSchema) -> Result<(), SqlError> {
    let kind = |expr: &Expr| kind_of(expr, schema);
    match part {
        Expr::Alias(_) => Ok(()),
        // A composite value is NULL if its fields are.
        Expr::IsNull(value) | Expr::IsNotNull(value) => match kind(value) {
            Some(found) if own_types::is_composite(&found) => Err(lost(&found, "IS NULL")),
            _ => Ok(()),
        },
        Expr::Cast(cast) => match kind(&cast.expr) {
            Some(found) if !is_text_of(&found, cast.field.data_type()) => Err(lost(&found, "casts to other types")),
            _ => Ok(()),
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => joined(left, right, schema),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => {
            let operator = match op {
                Operator::IsDistinctFrom | Operator::IsNotDistinctFrom => "=".to_owned(),
                Operator::NotEq => "<>".to_owned(),
                op => op.to_string(),
            };
            if let Some(error) = own_values::no_operator((left.as_ref(), schema), &operator, (right.as_ref(), schema)) {
                return Err(error);
            }
            if is_order(*op) {
                ranked(kind(left))?;
                ranked(kind(right))?;
            }
            compared(left, right, schema)
        }
        Expr::Between(between) => {
            let both = [(between.low.as_ref(), ">="), (between.high.as_ref(), "<=")];
            let refused = |(bound, operator): (&Expr, &str)| {
                own_values::no_operator((between.expr.as_ref(), schema), operator, (bound, schema))
            };
            if let Some(error) = both.into_iter().find_map(refused) {
                return Err(error);
            }
            [&between.expr, &between.low, &between.high].into_iter().try_for_each(|expr| ranked(kind(expr)))?;
            compared(&between.expr, &between.low, schema)?;
            compared(&between.expr, &between.high, schema)
        }
        Expr::InList(within) => within.list.iter().try_for_each(|item| {
            match own_values::no_operator((within.expr.as_ref(), schema), "=", (item, schema)) {
                Some(error) => Err(error),
                None => compared(&within.expr, item, schema),
            }
        }),
        Expr::InSubquery(InSubquery { expr, subquery, .. })
        | Expr::SetComparison(SetComparison { expr, subquery, .. }) => {
            if let Some(error) = own_values::no_operator_of_subquery(expr, &subquery.subquery, schema) {
                return Err(error);
            }
            if let Expr::SetComparison(SetComparison { op, .. }) = part
                && is_order(*op)
            {
                ranked(kind(expr))?;
            }
            let column = subquery.subquery.schema().fields().first().and_then(|field| of_field(field));
            alike(kind(expr), column, is_null(expr))
        }
        Expr::GroupingSet(set) => set.distinct_expr().into_iter().try_for_each(|key| ordered(kind(key))),
        Expr::AggregateFunction(AggregateFunction { func, params }) => {
            check_arguments(func.name(), &params.args, params.distinct, schema)?;
            params.order_by.iter().try_for_each(|key| ranked(kind(&key.expr)))
        }
        Expr::WindowFunction(call) => {
            let params = &call.params;
            check_arguments(call.fun.name(), &params.args, params.distinct, schema)?;
            params.partition_by.iter().try_for_each(|key| ordered(kind(key)))?;
            params.order_by.iter().try_for_each(|key| ranked(kind(&key.expr)))
        }
        Expr::ScalarFunction(call) => check_call(call, schema),
        Expr::TryCast(cast) if of_field(&cast.field).is_some() => Err(match of_field(&cast.field) {
            Some(found) => lost(&found, "TRY_CAST"),
            None => SqlError::not_supported("TRY_CAST to this type is not supported"),
        }),
        Expr::Case(case) => json_values::check_case(case, schema),
        other => {
            let mut found = None;
            // The closure returns no error.
            let _ = other.apply_children(|child| {
                found = found.take().or_else(|| kind(child));
                Ok(TreeNodeRecursion::Continue)
            });
            let place = match other {
                Expr::Like(_) | Expr::SimilarTo(_) => "LIKE",
                _ => "this operator",
            };
            match found {
                Some(found) => Err(lost(&found, place)),
                None => Ok(()),
            }
        }
    }
}

/// Checks the arguments of an aggregate or a window function: any value is counted.
fn check_arguments(function: &str, args: &[Expr], distinct: bool, schema: &DFSchema) -> Result<(), SqlError> {
    args.iter().filter_map(|arg| kind_of(arg, schema)).try_for_each(|found| match function {
        "count" if distinct => ordered(Some(found)),
        "count" => Ok(()),
        name if enum_functions::is_extreme(name) => Ok(()),
        _ => Err(lost(&found, &format!("the function {function}"))),
    })
}

/// Checks the arguments of a function, which takes them for texts.
fn check_call(call: &ScalarFunction, schema: &DFSchema) -> Result<(), SqlError> {
    if let Some(checked) = json_values::check_call(call, schema).or_else(|| own_values::check_call(call, schema)) {
        return checked;
    }
    let kinds: Vec<Option<Type>> = call.args.iter().map(|arg| kind_of(arg, schema)).collect();
    let Some(found) = kinds.iter().flatten().next() else { return Ok(()) };
    let is_right = match (call.name(), kinds.as_slice()) {
        ("pg_typeof", _) => true,
        ("coalesce", _) => return json_values::check_alike(call.args.iter(), "the function coalesce", schema),
        ("concat", _) => !kinds.iter().flatten().any(is_array),
        ("concat_ws", [separator, ..]) => separator.is_none() && !kinds.iter().flatten().any(is_array),
        ("cardinality" | "array_length" | "array_ndims" | "array_upper" | "array_lower", [Some(array), ..]) => {
            is_array(array)
        }
        ("array_min" | "array_max", [Some(array)]) => *array == Type::UUID_ARRAY,
        ("array_has" | "array_position", [Some(array), Some(item), ..]) => {
            is_ordered(item) && parameter_casts::array_of(item).as_ref() == Some(array)
        }
        ("array_position", [Some(array), None, ..]) => {
            *array == Type::UUID_ARRAY && call.args.get(1).is_some_and(is_null)
        }
        _ => false,
    };
    if is_right { Ok(()) } else { Err(lost(found, &format!("the function {}", call.name()))) }
}

/// Checks `left || right`, which is a text if one of the two is.
fn joined(left: &Expr, right: &Expr, schema: &DFSchema) -> Result<(), SqlError> {
    let is_text = |expr: &Expr| ExprSchemable::get_type(expr, schema).is_ok_and(|found| found.is_string());
    // A text beside `jsonb` is read as such in Postgres.
    let has_text = |kind: &Type| matches!(*kind, Type::UUID | Type::JSON) || own_types::is_enum(kind);
    match (kind_of(left, schema), kind_of(right, schema)) {
        (None, None) => Ok(()),
        (Some(kind), None) if has_text(&kind) && is_text(right) => Ok(()),
        (None, Some(kind)) if has_text(&kind) && is_text(left) => Ok(()),
        (Some(kind), _) | (None, Some(kind)) => Err(lost(&kind, "this operator")),
    }
}

/// Checks a comparison.
fn compared(left: &Expr, right: &Expr, schema: &DFSchema) -> Result<(), SqlError> {
    alike(kind_of(left, schema), kind_of(right, schema), is_null(left) || is_null(right))
}

fn alike(left: Option<Type>, right: Option<Type>, has_null: bool) -> Result<(), SqlError> {
    match (left, right) {
        (None, None) => Ok(()),
        (Some(Type::JSON), other) => Err(json_values::no_equality(Some(&Type::JSON), other.as_ref())),
        (other, Some(Type::JSON)) => Err(json_values::no_equality(other.as_ref(), Some(&Type::JSON))),
        (Some(kind), None) | (None, Some(kind)) if has_null => ordered(Some(kind)),
        (Some(left), Some(right)) if left == right => ordered(Some(left)),
        (Some(kind), _) | (None, Some(kind)) => Err(lost(&kind, "comparisons with other types")),
    }
}

/// Checks that values may be compared, grouped and sorted.
fn ordered(kind: Option<Type>) -> Result<(), SqlError> {
    match kind {
        Some(kind @ Type::JSON) => Err(json_values::no_order("equality", &kind)),
        Some(kind) if !is_ordered(&kind) => Err(lost(&kind, "comparisons, groups and orders")),
        _ => Ok(()),
    }
}

/// Checks that values may be sorted as their texts are.
fn ranked(kind: Option<Type>) -> Result<(), SqlError> {
    match kind {
        Some(kind) if own_types::is_own(&kind) => Err(lost(&kind, "this order")),
        kind => ordered(kind),
    }
}

fn is_order(op: Operator) -> bool {
    matches!(op, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
}

/// Checks that a field has the type of its values.
fn kept(found: Option<Type>, field: &Field, place: &str) -> Result<(), SqlError> {
    match found {
        Some(found) if of_field(field).as_ref() != Some(&found) => Err(lost(&found, place)),
        _ => Ok(()),
    }
}

pub(super) fn lost(kind: &Type, place: &str) -> SqlError {
    let name = decode::name(kind);
    SqlError::not_supported(format!("values of type {name} in {place} are not supported; cast them to text"))
}

pub(super) fn is_array(kind: &Type) -> bool {
    matches!(kind.kind(), Kind::Array(_))
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}

/// Returns true if values are cast to text, or arrays to arrays of texts.
fn is_text_of(kind: &Type, to: &DataType) -> bool {
    match (kind.kind(), to) {
        (Kind::Array(_), DataType::List(item)) => item.data_type().is_string(),
        (_, to) => to.is_string(),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;

    /// Plans a query over `u`, a uuid, `j`, a jsonb, and `t`, a text; returns the code of the error, if there is one.
    async fn outcome(query: &str) -> String {
        let mut state = SessionContext::new().state();
        literals::register(&mut state).unwrap();
        let query = format!(
            "WITH v AS (SELECT neuroql_literal_uuid('A0EEBC999C0B4EF8BB6D6BB9BD380A11') AS u, \
             neuroql_literal_jsonb('{{}}') AS j, 'a' AS t) {query}"
        );
        let plan = state.create_logical_plan(&query).await.unwrap();
        let checked = settle(plan).map_err(SqlError::from).and_then(|plan| check(&plan));
        checked.map_or_else(|error| error.sqlstate.into_owned(), |()| "fine".into())
    }

    #[tokio::test]
    async fn values_keep_their_types() {
        for query in [
            "SELECT u, j, t FROM v",
            "SELECT u FROM v WHERE u = u AND u < neuroql_literal_uuid(NULL) AND u IS NOT NULL AND j IS NULL",
            "SELECT u FROM v WHERE u = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12' OR u IN (NULL, u)",
            "SELECT u FROM v WHERE u BETWEEN u AND u AND u IN (SELECT u FROM v)",
            "SELECT DISTINCT u FROM v ORDER BY u",
            "SELECT u, count(j), count(DISTINCT u) FROM v GROUP BY u",
            "SELECT row_number() OVER (PARTITION BY u ORDER BY u) FROM v",
            "SELECT u FROM v UNION SELECT NULL UNION ALL SELECT u FROM v",
            "SELECT x.u FROM v x JOIN v y ON x.u = y.u",
            "SELECT u::text || 'x', j::text, u || t, concat(u, j), (SELECT u FROM v) FROM v",
            "SELECT u FROM v INTERSECT SELECT u FROM v",
            "SELECT x FROM (VALUES (neuroql_literal_uuid(NULL))) t(x) WHERE x = x",
            "SELECT CASE WHEN u = u THEN t END, upper(j::text) FROM v",
            "SELECT u FROM v x WHERE EXISTS (SELECT 1 FROM v y WHERE y.u = x.u)",
            "SELECT u FROM v WHERE j = j AND j <> '1' AND j IN ('1', NULL) AND j IS DISTINCT FROM '{}'",
            "SELECT CASE WHEN u = u THEN j ELSE '{}' END, coalesce(j, NULL, '1') FROM v",
            "SELECT x.c FROM (SELECT CASE WHEN true THEN j END AS c FROM v) x UNION ALL SELECT j FROM v",
            "SELECT (SELECT x.c) FROM (SELECT coalesce(j, j) AS c FROM v) x",
        ] {
            assert_eq!(outcome(query).await, "fine", "{query}");
        }
    }

    #[tokio::test]
    async fn values_that_would_be_texts_are_refused() {
        for query in [
            "SELECT CASE WHEN true THEN u END FROM v",
            "SELECT coalesce(u, u) FROM v",
            "SELECT upper(u), md5(t) FROM v",
            "SELECT max(u) FROM v",
            "SELECT array_agg(u) FROM v",
            "SELECT lag(u) OVER (ORDER BY t) FROM v",
            "SELECT make_array(u) FROM v",
            "SELECT named_struct('a', u) FROM v",
            "SELECT u LIKE 'a%' FROM v",
            "SELECT u FROM v WHERE u = t",
            "SELECT u FROM v WHERE u = j",
            "SELECT u FROM v WHERE j < j",
            "SELECT u FROM v WHERE j = t",
            "SELECT CASE WHEN true THEN u ELSE u END, CASE j WHEN '1' THEN 1 END FROM v",
            "SELECT max(coalesce(j, j)) FROM v",
            "SELECT u FROM v WHERE t IN (SELECT u FROM v)",
            "SELECT u || u FROM v",
            "SELECT j || 'x' FROM v",
            "SELECT u::bytea FROM v",
            "SELECT u FROM v UNION ALL SELECT t FROM v",
            "SELECT 'x' UNION ALL SELECT u FROM v",
            "SELECT u FROM v UNION ALL SELECT j FROM v",
            "SELECT DISTINCT j FROM v",
            "SELECT j FROM v UNION SELECT j FROM v",
            "SELECT j FROM v GROUP BY j",
            "SELECT t FROM v ORDER BY j",
            "SELECT count(DISTINCT j) FROM v",
            "SELECT x.u FROM v x JOIN v y ON x.u = y.t",
            "SELECT u FROM v x WHERE EXISTS (SELECT 1 FROM v y WHERE y.t = x.u)",
        ] {
            assert_eq!(outcome(query).await, "0A000", "{query}");
        }
        assert_eq!(outcome("SELECT u FROM v WHERE u = 'x'").await, "22P02");
    }
}
