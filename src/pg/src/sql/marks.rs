//! Values of types that are kept as text: `json`, `jsonb`, `character(n)`, `timetz`, `inet`, `cidr`, `macaddr`, ranges, and types
//! that users make, as parameters and as literals have them.
//!
//! The planner takes them for text, and a mark in the field names the type. They are refused where the mark would be lost,
//! and where texts answer otherwise than values of the type do: `1.0` and `1.00` are equal as `jsonb`, `json` has no
//! equality at all.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, FieldRef};
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema};
use datafusion::error::Result;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{DdlStatement, Expr, ExprSchemable, LogicalPlan, Operator, Union};
use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;
use neuroql::{bpchar, json, ranges};
use postgres_types::Kind;

use crate::catalog::own_types;
use crate::decode;
use crate::encode::column;
use crate::sql::bpchar_values;
use crate::sql::enum_functions;
use crate::sql::json_values;
use crate::sql::literals;
use crate::sql::network;
use crate::sql::own_values;
use crate::sql::range_values;
use crate::sql::text_types;
use crate::wire::error_response::{SqlError, external};

/// The types, and arrays of them.
const KEPT: [Type; 14] = [
    Type::JSON,
    Type::JSONB,
    Type::BPCHAR,
    Type::TIMETZ,
    Type::INET,
    Type::CIDR,
    Type::MACADDR,
    Type::JSON_ARRAY,
    Type::JSONB_ARRAY,
    Type::BPCHAR_ARRAY,
    Type::TIMETZ_ARRAY,
    Type::INET_ARRAY,
    Type::CIDR_ARRAY,
    Type::MACADDR_ARRAY,
];

/// Returns true for a type that is kept as text, and for arrays of one.
pub(crate) fn is_kept_as_text(kind: &Type) -> bool {
    KEPT.contains(kind) || range_values::is_range(kind) || own_types::is_own(kind)
}

/// Returns the type of a field's values, if it is kept as text.
pub(crate) fn of_field(field: &Field) -> Option<Type> {
    column::marked(field).filter(is_kept_as_text)
}

/// Returns a field of a type that is kept as text, or of `uuid`; `None` for other types.
pub(crate) fn field_of(kind: &Type) -> Option<FieldRef> {
    let is_uuid = matches!(*kind, Type::UUID | Type::UUID_ARRAY);
    let data_type = decode::arrow_type(kind, "UTC").filter(|_| is_uuid || is_kept_as_text(kind))?;
    Some(Arc::new(Field::new("parameter", data_type, true).with_metadata(column::mark(kind))))
}

/// Returns true if texts have the equality and the order of the values. Postgres compares the bytes of `uuid` and `macaddr`.
pub(super) fn is_ordered(kind: &Type) -> bool {
    matches!(*kind, Type::UUID | Type::UUID_ARRAY | Type::MACADDR | Type::MACADDR_ARRAY)
}

/// Returns true if texts are equal where the values are.
pub(super) fn has_equality(kind: &Type) -> bool {
    is_ordered(kind)
        || own_types::is_of_labels(kind)
        || range_values::of_type(kind).is_some_and(|found| found.has_equal_texts())
        || matches!(
            *kind,
            Type::TIMETZ | Type::INET | Type::CIDR | Type::TIMETZ_ARRAY | Type::INET_ARRAY | Type::CIDR_ARRAY
        )
}

/// Returns true if a plan has columns or values of a type that is kept as text.
///
/// # Errors
/// If a query inside of it cannot be visited.
pub(crate) fn has_marks(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    let is_marked = |part: &Expr| {
        Ok(match part {
            Expr::Cast(cast) => of_field(&cast.field).is_some(),
            Expr::TryCast(cast) => of_field(&cast.field).is_some(),
            Expr::Literal(_, Some(_)) => kind_of(part, &DFSchema::empty()).is_some(),
            Expr::ScalarFunction(call) => {
                json::arguments_of(call).is_some()
                    || ranges::is_call(call)
                    || literals::kind_of(call).is_some()
                    || bpchar::task_of(call).is_some()
                    || network::is_call(call)
                    || enum_functions::named_by(call).is_some()
            }
            _ => false,
        })
    };
    plan.apply_with_subqueries(|node| {
        found |= node.schema().fields().iter().any(|field| of_field(field).is_some());
        if let LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(table)) = node {
            for (_, default) in &table.column_defaults {
                found |= default.exists(is_marked)?;
            }
        }
        if let LogicalPlan::Ddl(DdlStatement::CreateExternalTable(table)) = node {
            found |= table.schema.fields().iter().any(|field| of_field(field).is_some());
        }
        node.apply_expressions(|expr| {
            found |= expr.exists(is_marked)?;
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
        Expr::ScalarFunction(call) if json::arguments_of(call).is_some() || ranges::is_call(call) => {
            of_field(&ExprSchemable::to_field(expr, schema).ok()?.1)
        }
        Expr::ScalarFunction(call) => match bpchar::task_of(call) {
            Some(task) => task.is_typed().then_some(Type::BPCHAR),
            None => literals::kind_of(call).or_else(|| enum_functions::kind_of(call)),
        },
        Expr::Case(case) => json_values::results(case).find_map(|result| kind_of(result, schema)),
        Expr::Cast(cast) => of_field(&cast.field),
        Expr::Literal(_, Some(_)) => of_field(&ExprSchemable::to_field(expr, schema).ok()?.1),
        _ => None,
    }
}

/// Greatest number of times that types are written to a plan: a column of an outer query may have its type from another one.
const MOST_PASSES: usize = 8;

/// Writes the types to where the planner has not: to the columns of set operations, to columns of outer queries, and to
/// texts beside `uuid`, which are read as such. Expressions of the other types become ones that answer as Postgres does.
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
        let keyed = bpchar_values::keys_settled(node)?;
        let (node, is_keyed) = (keyed.data, keyed.transformed);
        let names = NamePreserver::new(&node);
        let is_sort = matches!(node, LogicalPlan::Sort(_));
        let mut node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let changed = expr.transform_up(|part| {
                let read = read_beside(part, &schema)?;
                let padded = bpchar_values::settled(read.data, &schema)?;
                let settled = json_values::settled(padded.data, &schema)?;
                let of_ranges = range_values::settled(settled.data, &schema)?;
                let shown = text_types::settled(of_ranges.data, &schema)?;
                let own = own_values::settled(shown.data, &schema)?;
                let changed = [read.transformed, padded.transformed, settled.transformed, of_ranges.transformed];
                let changed = own.transformed || shown.transformed || changed.contains(&true);
                Ok(Transformed::new_transformed(own.data, changed))
            })?;
            if is_sort {
                return changed.transform_data(|expr| Ok(range_values::sorted(expr, &schema)));
            }
            Ok(if changed.transformed { changed.update_data(|expr| name.restore(expr)) } else { changed })
        })?;
        node.transformed |= is_keyed;
        node.map_data(|node| match with_current_schema(node)? {
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(mut table)) => {
                bpchar_values::read_defaults(&mut table)?;
                json_values::read_defaults(&mut table)?;
                range_values::read_defaults(&mut table)?;
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

/// Reads a text without a type as a value of a type that has equality; returns true if it is one.
fn read_as(kind: Option<&Type>, other: &mut Expr) -> Result<bool> {
    let (Some(kind), Expr::Literal(ScalarValue::Utf8(Some(text)), None)) = (kind, &*other) else { return Ok(false) };
    if !has_equality(kind) {
        return Ok(false);
    }
    // What clocks of the session show is not known here.
    let value = decode::from_text(kind, text, "").map_err(external)?;
    *other = Expr::Literal(value, Some(FieldMetadata::from(column::mark(kind))));
    Ok(true)
}

pub(super) fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

pub(super) fn lost(kind: &Type, place: &str) -> SqlError {
    let name = decode::name(kind);
    SqlError::not_supported(format!("values of type {name} in {place} are not supported; cast them to text"))
}

pub(super) fn is_array(kind: &Type) -> bool {
    matches!(kind.kind(), Kind::Array(_))
}
