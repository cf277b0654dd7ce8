//! Parameters such as `$1`: their types and values.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::metadata::{FieldMetadata, ScalarAndMetadata};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ParamValues, not_impl_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{Placeholder, ScalarFunction};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator, binary_expr};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast;
use datafusion_postgres::arrow_pg::datatypes::PG_OID_ALIAS_KEY;
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::messages::extendedquery::Bind;
use neuroql::cast_case_results;

use crate::catalog::own_types;
use crate::decode::{self, Form};
use crate::encode::column;
use crate::sql::marks;
use crate::sql::parameter_types::{self, Found};
use crate::sql::rewrite::parameter_casts::{self, ParameterCasts};
use crate::wire::error_response::SqlError;

/// One parameter of a prepared statement.
#[derive(Debug, Clone)]
pub(crate) struct Parameter {
    /// Type that the client declared, else the one that the statement needs, else text.
    pub(crate) wire: Type,
    /// Type that text is read as, if the statement casts it.
    cast: Option<Type>,
    /// Type that the statement needs, if it is known.
    pub(super) needed: Option<DataType>,
}

impl Parameter {
    /// Returns the type that values are read as.
    pub(crate) fn read_as(&self) -> &Type {
        self.cast.as_ref().unwrap_or(&self.wire)
    }

    /// Returns true if its values are of a type that is kept as text, such as `jsonb`.
    pub(crate) fn is_kept_as_text(&self) -> bool {
        marks::is_kept_as_text(self.read_as())
    }

    /// Returns metadata that name the type of a value in text.
    fn metadata(&self) -> HashMap<String, String> {
        column::mark(self.read_as())
    }
}

/// Finds the parameters of a plan and gives each its type. `cast` are the types the statement casts them to and the
/// plan does not know; `zone` is the time zone of the session.
pub(crate) fn infer(
    plan: LogicalPlan,
    declared: &[Option<Type>],
    casts: &ParameterCasts,
    zone: &str,
) -> Result<(LogicalPlan, Vec<Parameter>), SqlError> {
    let mut found = Found::new();
    for (name, field) in plan.get_parameter_fields()? {
        // Beside another parameter of no type it was given the type of NULL.
        found.insert(number(&name)?, field.filter(|field| *field.data_type() != DataType::Null));
    }
    // Some parameters may be in parts of the statement that the plan leaves out.
    let counts = found.keys().chain(casts.seen.keys()).copied().chain((!declared.is_empty()).then_some(declared.len()));
    let Some(most) = counts.max() else {
        return Ok((plan, Vec::new()));
    };
    // A cast that was taken out says the type of what stands beside the parameter, too.
    for (index, kind) in &casts.taken {
        if let Some(field) = found.get_mut(index)
            && field.is_none()
        {
            *field = marks::field_of(kind);
        }
    }
    let told = found.clone();
    parameter_types::infer(&plan, &mut found)?;
    // What the client has declared stays.
    for (index, field) in &mut found {
        if declared_type(*index, declared, casts).is_some()
            && let Some(told @ Some(_)) = told.get(index)
        {
            field.clone_from(told);
        }
    }
    let mut parameters = Vec::with_capacity(most);
    for index in 1..=most {
        let cast = casts.taken.get(&index).cloned();
        let field = found.get(&index).and_then(Option::as_ref);
        let needed = field.map(|field| field.data_type().clone()).filter(|needed| *needed != DataType::Null);
        let declared = declared.get(index - 1).and_then(Option::as_ref).filter(|kind| **kind != Type::UNKNOWN);
        let kept = field.and_then(|field| marks::of_field(field));
        // The planner keeps the cast, which has a length.
        let padded = casts.seen.get(&index).and_then(Option::as_ref).filter(|kind| **kind == Type::BPCHAR);
        let wire = match declared.or(cast.as_ref()).or(kept.as_ref()).or(padded) {
            Some(declared) => declared.clone(),
            // Catalog columns are oids on the wire although they are stored as int4.
            _ if field
                .is_some_and(|field| field.metadata().get(PG_OID_ALIAS_KEY).is_some_and(|kind| kind == "oid")) =>
            {
                Type::OID
            }
            _ => match &needed {
                Some(needed) => column::pg_type(needed)
                    .ok_or_else(|| SqlError::not_supported(format!("parameters of type {needed} are not supported")))?,
                None => match casts.seen.get(&index).cloned().flatten() {
                    Some(kind) => kind,
                    None if casts.outputs.contains(&index) || casts.in_with && field.is_none() => {
                        let message = format!(
                            "could not determine data type of parameter ${index}; cast it, as in ${index}::text"
                        );
                        return Err(SqlError::error("42P18", message));
                    }
                    None => Type::TEXT,
                },
            },
        };
        // Types without values here are refused before a value is sent.
        let parameter = Parameter { wire, cast, needed };
        if decode::arrow_type(parameter.read_as(), zone).is_none() {
            return Err(decode::unsupported(parameter.read_as()));
        }
        parameters.push(parameter);
    }
    let plan = assign(plan, &parameters, zone)?;
    Ok((plan, parameters))
}

/// Returns the type of a parameter, if the client has declared it or the statement casts it.
pub(crate) fn declared_type(index: usize, declared: &[Option<Type>], casts: &ParameterCasts) -> Option<Type> {
    let declared = || declared.get(index.checked_sub(1)?).cloned().flatten().filter(|kind| *kind != Type::UNKNOWN);
    casts.taken.get(&index).cloned().or_else(declared)
}

pub(crate) fn number(name: &str) -> Result<usize, SqlError> {
    match name.trim_start_matches('$').parse() {
        Ok(index @ 1..=65_535) => Ok(index),
        _ => Err(SqlError::error("42P02", format!("there is no parameter {name}"))),
    }
}

/// Writes the types into the plan, so that the types of its result follow.
fn assign(plan: LogicalPlan, parameters: &[Parameter], zone: &str) -> Result<LogicalPlan> {
    let is_moment = |data_type: &DataType| matches!(data_type, DataType::Timestamp(..));
    // The planner's timestamps end in 2262.
    let is_finer = !has_types_of_planner(&plan);
    let transformed = plan.transform_up_with_subqueries(|node| {
        let changed = node.map_expressions(|expr| {
            expr.transform_up(|part| match part {
                Expr::Placeholder(Placeholder { id, field })
                    if field.as_ref().is_none_or(|field| *field.data_type() == DataType::Null)
                        || marked(&id, parameters)
                        || field.as_ref().is_some_and(|field| marks::of_field(field).is_some())
                        || is_finer && field.as_ref().is_some_and(|field| is_moment(field.data_type()))
                        || is_numeric(&id, parameters) =>
                {
                    let parameter = number(&id).ok().and_then(|index| parameters.get(index - 1));
                    let field = parameter.and_then(|parameter| {
                        let needed = parameter.needed.clone().filter(|_| parameter.cast.is_none());
                        let data_type = needed.or_else(|| decode::arrow_type(parameter.read_as(), zone))?;
                        Some(Arc::new(Field::new("", data_type, true).with_metadata(parameter.metadata())))
                    });
                    Ok(Transformed::yes(Expr::Placeholder(Placeholder { id, field })))
                }
                other => Ok(Transformed::no(other)),
            })
        })?;
        // Nodes above a changed one have new types, too.
        changed.map_data(LogicalPlan::recompute_schema)
    })?;
    Ok(transformed.data)
}

fn is_numeric(id: &str, parameters: &[Parameter]) -> bool {
    let parameter = number(id).ok().and_then(|index| parameters.get(index - 1));
    parameter.is_some_and(|parameter| parameter.needed.as_ref().is_some_and(DataType::is_decimal))
}

/// Returns true if a parameter's type has no Arrow type of its own.
fn marked(id: &str, parameters: &[Parameter]) -> bool {
    let parameter = number(id).ok().and_then(|index| parameters.get(index - 1));
    parameter.is_some_and(|parameter| !parameter.metadata().is_empty())
}

/// Returns the types of parameters for the planner, once all are known.
pub(crate) fn found_as(parameters: &[Parameter]) -> Option<Vec<ast::DataType>> {
    parameters.iter().map(|parameter| parameter_casts::planned(parameter.read_as())).collect()
}

/// Returns the types of all parameters for the planner, if each is declared or cast.
pub(crate) fn known(declared: &[Option<Type>], casts: &ParameterCasts) -> Option<Vec<ast::DataType>> {
    let most = casts.seen.keys().chain(casts.taken.keys()).copied().max().unwrap_or(0).max(declared.len());
    let each = |index: usize| {
        let declared = declared.get(index - 1).and_then(Option::as_ref).filter(|kind| **kind != Type::UNKNOWN);
        let cast = || casts.seen.get(&index).and_then(Option::as_ref);
        parameter_casts::planned(casts.taken.get(&index).or(declared).or_else(cast)?)
    };
    (most > 0).then(|| (1..=most).map(each).collect()).flatten()
}

/// Returns true if the types of parameters found after planning do not reach the result.
pub(crate) fn needs_types_first(plan: &LogicalPlan) -> bool {
    plan.get_parameter_fields().is_ok_and(|fields| {
        fields.values().any(|field| field.as_ref().is_none_or(|field| *field.data_type() == DataType::Null))
    })
}

/// Returns true if some of a plan's types are fixed by the planner: those of tables of values, set operations,
/// aggregates and subqueries.
fn has_types_of_planner(plan: &LogicalPlan) -> bool {
    use LogicalPlan::{Aggregate, Distinct, RecursiveQuery, Subquery, SubqueryAlias, Union, Values};
    // A cast says the type of its value.
    let is_cast = |cell: &Expr| matches!(cell, Expr::Cast(cast) if matches!(*cast.expr, Expr::Placeholder(_)));
    let has_parameter = |cell: &Expr| cell.exists(|part| Ok(matches!(part, Expr::Placeholder(_)))).unwrap_or(true);
    let mut found = false;
    // The closure returns no error.
    let _ = plan.apply_with_subqueries(|node| {
        found |= match node {
            Values(rows) => rows.values.iter().flatten().any(|cell| !is_cast(cell) && has_parameter(cell)),
            other => matches!(
                other,
                Union(_) | Subquery(_) | Distinct(_) | RecursiveQuery(_) | SubqueryAlias(_) | Aggregate(_)
            ),
        };
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

/// Casts the columns of a bound plan to the types that the client was told, if its values have made others.
pub(crate) fn as_described(bound: LogicalPlan, described: &LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let pairs = || bound.schema().fields().iter().zip(described.schema().fields());
    let same = |(now, then): (&FieldRef, &FieldRef)| {
        now.data_type() == then.data_type()
            || (matches!(now.data_type(), DataType::Decimal128(..)) && then.data_type().is_decimal())
            || column::pg_type(now.data_type()) == column::pg_type(then.data_type())
    };
    if pairs().all(same) {
        return Ok(bound);
    }
    let columns = bound.schema().columns().into_iter().zip(pairs()).map(|(column, (now, then))| {
        let name = column.name.clone();
        let column = Expr::Column(column);
        let column =
            if same((now, then)) { column } else { datafusion::logical_expr::cast(column, then.data_type().clone()) };
        column.alias(name)
    });
    let columns: Vec<_> = columns.collect();
    datafusion::logical_expr::LogicalPlanBuilder::from(bound).project(columns)?.build()
}

/// Decodes the values of a Bind message.
pub(crate) fn decode(bind: &Bind, parameters: &[Parameter], zone: &str) -> Result<Vec<ScalarValue>, SqlError> {
    let (given, wanted) = (bind.parameters.len(), parameters.len());
    if given != wanted {
        let name = bind.statement_name.as_deref().unwrap_or_default();
        return Err(SqlError::error(
            "08P01",
            format!("bind message supplies {given} parameters, but prepared statement \"{name}\" requires {wanted}"),
        ));
    }
    let formats = bind.parameter_format_codes.len();
    if formats > 1 && formats != given {
        return Err(SqlError::error(
            "08P01",
            format!("bind message has {formats} parameter formats but {given} parameters"),
        ));
    }
    let form = |index: usize| match bind.parameter_format_codes.as_slice() {
        [] => Ok(0),
        [one] => Ok(*one),
        each => each.get(index).copied().ok_or_else(|| SqlError::protocol_violation("a parameter without a format")),
    };
    let value = |(index, (bytes, parameter)): (usize, (&Option<_>, &Parameter))| {
        let form = match form(index)? {
            0 => Form::Text,
            1 => Form::Binary,
            other => return Err(SqlError::error("22023", format!("unsupported format code: {other}"))),
        };
        let bytes = bytes.as_deref();
        let value = match form {
            // The binary forms of texts and enums are alike.
            form if form == Form::Text || own_types::is_of_labels(parameter.read_as()) => {
                decode::decode(parameter.read_as(), form, bytes, zone)
            }
            form => decode::decode(&parameter.wire, form, bytes, zone).and_then(|value| match &value {
                // This is the text of a type that the statement casts it to.
                ScalarValue::Utf8(Some(text)) if *parameter.read_as() != parameter.wire => {
                    decode::from_text(parameter.read_as(), text, zone)
                }
                _ => Ok(value),
            }),
        };
        Ok(fit(value?, parameter))
    };
    bind.parameters.iter().zip(parameters).enumerate().map(value).collect()
}

/// Casts a value to the type that its place needs, if it stays the same value; the planner casts other values.
pub(super) fn fit(value: ScalarValue, parameter: &Parameter) -> ScalarValue {
    match &parameter.needed {
        Some(needed) if *needed != value.data_type() && keeps_value(&value.data_type(), needed) => {
            match value.cast_to(needed) {
                // A cast of a value that does not fit may be NULL.
                Ok(fitting) if fitting.is_null() == value.is_null() => fitting,
                _ => value,
            }
        }
        _ => value,
    }
}

/// Returns true if a cast keeps the value, or fails.
fn keeps_value(from: &DataType, to: &DataType) -> bool {
    use DataType::{Decimal128, Dictionary, Float32, Float64, List, Null, Timestamp};
    match (from, to) {
        (Null, _) => true,
        (List(from), List(to)) => keeps_value(from.data_type(), to.data_type()),
        (from, Dictionary(_, to)) => from == to.as_ref() || keeps_value(from, to),
        (from, to) if from.is_integer() && to.is_integer() => true,
        (from, Float64) => from.is_integer() || matches!(from, Float32 | Decimal128(..)),
        // A decimal keeps the digits that it was sent with.
        (Decimal128(..), Decimal128(..)) => false,
        (from, Decimal128(precision, scale)) => from.is_integer() && i16::from(*precision) - i16::from(*scale) >= 19,
        (Timestamp(_, None), Timestamp(_, None)) | (Timestamp(_, Some(_)), Timestamp(_, Some(_))) => true,
        (from, to) => from.is_string() && to.is_string() || from.is_binary() && to.is_binary(),
    }
}

/// Number of digits after the point that the planner gives a `numeric` without a scale.
pub(super) const PLANNED_SCALE: i8 = 10;

/// Replaces the parameters of a plan by values.
pub(crate) fn bind(
    plan: LogicalPlan,
    parameters: &[Parameter],
    values: &[ScalarValue],
) -> Result<LogicalPlan, DataFusionError> {
    if values.is_empty() {
        return Ok(plan);
    }
    // The planner's own numeric would round it.
    let long =
        |value: &&ScalarValue| matches!(value.data_type(), DataType::Decimal128(_, scale) if scale > PLANNED_SCALE);
    if let Some(long) = values.iter().find(long)
        && has_types_of_planner(&plan)
    {
        return not_impl_err!(
            "numeric parameters of more than {PLANNED_SCALE} digits after the point are not supported in VALUES, set \
             operations, aggregates and subqueries: {long}"
        );
    }
    let plan = apart_from_constants(plan, values)?;
    let marked = |(value, parameter): (&ScalarValue, &Parameter)| {
        let metadata = Some(parameter.metadata()).filter(|metadata| !metadata.is_empty());
        ScalarAndMetadata::new(value.clone(), metadata.map(FieldMetadata::from))
    };
    let values = ParamValues::List(values.iter().zip(parameters).map(marked).collect());
    cases_bound(plan, &values)?.replace_params_with_values(&values)
}

/// Replaces parameters in each CASE of VALUES, whose results then have one type: DataFusion takes the type of the first for
/// that of the column.
fn cases_bound(plan: LogicalPlan, values: &ParamValues) -> Result<LogicalPlan, DataFusionError> {
    let is_case = |expr: &Expr| Ok(matches!(expr, Expr::Case(_)));
    let transformed = plan.transform_up_with_subqueries(|node| match &node {
        LogicalPlan::Values(rows) if rows.values.iter().flatten().any(|cell| cell.exists(is_case).unwrap_or(true)) => {
            node.map_expressions(|cell| {
                let bound = cell.transform_up(|part| match part {
                    Expr::Placeholder(Placeholder { id, .. }) => {
                        let (value, metadata) = values.get_placeholders_with_values(&id)?.into_inner();
                        Ok(Transformed::yes(Expr::Literal(value, metadata)))
                    }
                    other => Ok(Transformed::no(other)),
                })?;
                cast_case_results(bound.data, &DFSchema::empty()).map(Transformed::yes)
            })
        }
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(transformed.data)
}

/// Casts parameters of type `double precision` to it if they are arguments: a number that stands in a statement is
/// `numeric`, which rounds otherwise.
fn apart_from_constants(plan: LogicalPlan, values: &[ScalarValue]) -> Result<LogicalPlan, DataFusionError> {
    let is_double = |expr: &Expr| match expr {
        Expr::Placeholder(Placeholder { id, .. }) => {
            let index = id.trim_start_matches('$').parse::<usize>().unwrap_or(0);
            matches!(index.checked_sub(1).and_then(|place| values.get(place)), Some(ScalarValue::Float64(_)))
        }
        _ => false,
    };
    if !values.iter().any(|value| matches!(value, ScalarValue::Float64(_))) {
        return Ok(plan);
    }
    let is_arithmetic = |operator| {
        use Operator::{Divide, Minus, Modulo, Multiply, Plus};
        matches!(operator, Plus | Minus | Multiply | Divide | Modulo)
    };
    let apart = |expr: Expr| match is_double(&expr) {
        true => datafusion::logical_expr::cast(expr, DataType::Float64),
        false => expr,
    };
    let transformed = plan.transform_up_with_subqueries(|node| {
        node.map_expressions(|expr| {
            expr.transform_up(|part| {
                Ok(match part {
                    Expr::Cast(mut cast) if is_double(&cast.expr) && *cast.field.data_type() != DataType::Float64 => {
                        cast.expr = Box::new(apart(*cast.expr));
                        Transformed::yes(Expr::Cast(cast))
                    }
                    Expr::Negative(inner) if is_double(&inner) => {
                        Transformed::yes(Expr::Negative(Box::new(apart(*inner))))
                    }
                    Expr::BinaryExpr(both)
                        if is_arithmetic(both.op) && (is_double(&both.left) || is_double(&both.right)) =>
                    {
                        let (left, right) = (apart(*both.left), apart(*both.right));
                        Transformed::yes(binary_expr(left, both.op, right))
                    }
                    Expr::ScalarFunction(call) if call.args.iter().any(is_double) => {
                        let args = call.args.into_iter().map(apart).collect();
                        Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: call.func, args }))
                    }
                    other => Transformed::no(other),
                })
            })
        })
    })?;
    Ok(transformed.data)
}
