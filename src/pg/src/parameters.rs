//! `$1`: which type it has, and which value.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::ParamValues;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{Placeholder, ScalarFunction};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::scalar::ScalarValue;
use datafusion_postgres::arrow_pg::datatypes::df::deserialize_parameters;
use datafusion_postgres::arrow_pg::datatypes::{PG_OID_ALIAS_KEY, into_pg_type};
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::portal::Portal;
use datafusion_postgres::pgwire::api::stmt::StoredStatement;
use datafusion_postgres::pgwire::messages::extendedquery::Bind;

use crate::report::Report;

/// One parameter of a prepared statement.
#[derive(Debug, Clone)]
pub(crate) struct Parameter {
    /// What the client declared, else what the statement needs, else text.
    pub(crate) wire: Type,
    /// What the statement needs, where that is known.
    needed: Option<DataType>,
}

/// Finds the parameters of a plan and gives each its type.
pub(crate) fn infer(plan: LogicalPlan, declared: &[Option<Type>]) -> Result<(LogicalPlan, Vec<Parameter>), Report> {
    let mut found: HashMap<usize, Option<FieldRef>> = HashMap::new();
    for (name, field) in plan.get_parameter_fields()? {
        found.insert(number(&name)?, field);
    }
    let Some(most) = found.keys().copied().chain((!declared.is_empty()).then_some(declared.len())).max() else {
        return Ok((plan, Vec::new()));
    };
    if found.values().any(Option::is_none) {
        infer_from_casts_and_calls(&plan, &mut found)?;
    }
    let mut parameters = Vec::with_capacity(most);
    for index in 1..=most {
        let field = found.get(&index).and_then(Option::as_ref);
        let needed = field.map(|field| field.data_type().clone()).filter(|needed| *needed != DataType::Null);
        let wire = match declared.get(index - 1).and_then(Option::as_ref) {
            Some(declared) if *declared != Type::UNKNOWN => declared.clone(),
            // Catalog columns are oids on the wire although they are stored as int4.
            _ if field
                .is_some_and(|field| field.metadata().get(PG_OID_ALIAS_KEY).is_some_and(|kind| kind == "oid")) =>
            {
                Type::OID
            }
            _ => match &needed {
                Some(needed) => into_pg_type(needed)?,
                None => Type::TEXT,
            },
        };
        parameters.push(Parameter { wire, needed });
    }
    let plan = assign(plan, &parameters)?;
    Ok((plan, parameters))
}

fn number(name: &str) -> Result<usize, Report> {
    match name.trim_start_matches('$').parse() {
        Ok(index @ 1..=65_535) => Ok(index),
        _ => Err(Report::error("42P02", format!("there is no parameter {name}"))),
    }
}

/// DataFusion infers types from comparisons; this adds `CAST($1 AS …)`, `f($1)`, `$1 = ANY(…)` and `LIMIT $1`.
fn infer_from_casts_and_calls(plan: &LogicalPlan, found: &mut HashMap<usize, Option<FieldRef>>) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Limit(limit) = node {
            for count in [&limit.skip, &limit.fetch].into_iter().flatten() {
                learn(found, count, || Some(Arc::new(Field::new("count", DataType::Int64, true))));
            }
        }
        let schema = node.inputs().first().map(|input| Arc::clone(input.schema()));
        let schema = schema.unwrap_or_else(|| Arc::clone(node.schema()));
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                match part {
                    Expr::Cast(cast) => learn(found, &cast.expr, || Some(Arc::clone(&cast.field))),
                    Expr::ScalarFunction(call) if call.args.iter().any(|arg| unknown(arg, found)) => {
                        let fields = call
                            .args
                            .iter()
                            .map(|arg| Ok(datafusion::logical_expr::ExprSchemable::to_field(arg, schema.as_ref())?.1));
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

fn unknown(expr: &Expr, found: &HashMap<usize, Option<FieldRef>>) -> bool {
    match expr {
        Expr::Placeholder(Placeholder { id, .. }) => {
            number(id).is_ok_and(|index| found.get(&index).is_none_or(|field| field.is_none()))
        }
        _ => false,
    }
}

fn learn(found: &mut HashMap<usize, Option<FieldRef>>, expr: &Expr, field: impl FnOnce() -> Option<FieldRef>) {
    if unknown(expr, found)
        && let Expr::Placeholder(Placeholder { id, .. }) = expr
        && let Ok(index) = number(id)
        && let Some(field) = field()
        && *field.data_type() != DataType::Null
    {
        found.insert(index, Some(field));
    }
}

/// What a function makes of arguments some of which have no type yet.
fn argument_types(call: &ScalarFunction, fields: &[FieldRef]) -> Vec<Option<FieldRef>> {
    // `x = ANY($1)` arrives as array_has($1, x), whose own coercion cannot guess a list.
    if call.func.name() == "array_has" && fields.len() == 2 && *fields[0].data_type() == DataType::Null {
        let item = Arc::new(Field::new_list_field(fields[1].data_type().clone(), true));
        return vec![Some(Arc::new(Field::new("array", DataType::List(item), true))), None];
    }
    match fields_with_udf(fields, call.func.as_ref()) {
        Ok(fields) => fields.into_iter().map(Some).collect(),
        Err(_) => vec![None; fields.len()],
    }
}

/// Writes the types into the plan, so that the types of its result follow.
fn assign(plan: LogicalPlan, parameters: &[Parameter]) -> Result<LogicalPlan> {
    let transformed = plan.transform_up_with_subqueries(|node| {
        let changed = node.map_expressions(|expr| {
            expr.transform_up(|part| match part {
                Expr::Placeholder(Placeholder { id, field })
                    if field.as_ref().is_none_or(|field| *field.data_type() == DataType::Null) =>
                {
                    let parameter = number(&id).ok().and_then(|index| parameters.get(index - 1));
                    let field = parameter.and_then(|parameter| {
                        let data_type = parameter.needed.clone().or_else(|| arrow_type(&parameter.wire))?;
                        Some(Arc::new(Field::new("", data_type, true)))
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

/// The type a value of this wire type is decoded to.
fn arrow_type(wire: &Type) -> Option<DataType> {
    Some(match *wire {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 | Type::OID => DataType::Int32,
        Type::INT8 => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Nanosecond),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::BOOL_ARRAY => DataType::new_list(DataType::Boolean, true),
        Type::INT2_ARRAY => DataType::new_list(DataType::Int16, true),
        Type::INT4_ARRAY | Type::OID_ARRAY => DataType::new_list(DataType::Int32, true),
        Type::INT8_ARRAY => DataType::new_list(DataType::Int64, true),
        Type::FLOAT4_ARRAY => DataType::new_list(DataType::Float32, true),
        Type::FLOAT8_ARRAY => DataType::new_list(DataType::Float64, true),
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY => DataType::new_list(DataType::Utf8, true),
        Type::TEXT
        | Type::VARCHAR
        | Type::BPCHAR
        | Type::NAME
        | Type::UUID
        | Type::JSON
        | Type::JSONB
        | Type::UNKNOWN => DataType::Utf8,
        // A placeholder's: precision and scale come with each value.
        Type::NUMERIC => DataType::Decimal128(38, 10),
        _ => return None,
    })
}

/// The values of a Bind message.
pub(crate) fn decode(bind: &Bind, parameters: &[Parameter]) -> Result<Vec<ScalarValue>, Report> {
    let (given, wanted) = (bind.parameters.len(), parameters.len());
    if given != wanted {
        let name = bind.statement_name.as_deref().unwrap_or_default();
        return Err(Report::error(
            "08P01",
            format!("bind message supplies {given} parameters, but prepared statement \"{name}\" requires {wanted}"),
        ));
    }
    let formats = bind.parameter_format_codes.len();
    if formats > 1 && formats != given {
        return Err(Report::error(
            "08P01",
            format!("bind message has {formats} parameter formats but {given} parameters"),
        ));
    }
    let types = parameters.iter().map(|parameter| Some(decoded_as(&parameter.wire))).collect();
    let statement = StoredStatement::new(String::new(), (), types);
    let portal = Portal::try_new(&spell(bind, parameters), Arc::new(statement))?;
    // arrow-pg drops NULLs of types it does not know, which would shift the values after them; none are left.
    let ParamValues::List(values) = deserialize_parameters(&portal, &[])? else {
        return Err(Report::error("XX000", "internal error: parameters without order"));
    };
    Ok(values
        .into_iter()
        .map(|value| value.value)
        .zip(parameters)
        .map(|(value, parameter)| fit(value, parameter))
        .collect())
}

/// Turns binary values that arrow-pg cannot read into text.
fn spell(bind: &Bind, parameters: &[Parameter]) -> Bind {
    let format = |index: usize| match bind.parameter_format_codes.as_slice() {
        [] => 0,
        [one] => *one,
        each => each[index],
    };
    let mut formats: Vec<i16> = (0..parameters.len()).map(format).collect();
    let mut values = bind.parameters.clone();
    for ((parameter, format), value) in parameters.iter().zip(&mut formats).zip(&mut values) {
        let (1, Some(bytes)) = (*format, &value) else { continue };
        let text = match parameter.wire {
            Type::UUID => <[u8; 16]>::try_from(&bytes[..]).ok().map(spell_uuid),
            // A version number comes before the text.
            Type::JSONB => bytes.split_first().map(|(_, text)| Bytes::copy_from_slice(text)),
            _ => None,
        };
        if let Some(text) = text {
            (*format, *value) = (0, Some(text));
        }
    }
    Bind::new(None, None, formats, values, Vec::new())
}

fn spell_uuid(bytes: [u8; 16]) -> Bytes {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    Bytes::from(parts.join("-"))
}

/// Types without a decoder of their own are read as text.
fn decoded_as(wire: &Type) -> Type {
    match *wire {
        Type::UNKNOWN
        | Type::BPCHAR
        | Type::NAME
        | Type::UUID
        | Type::JSON
        | Type::JSONB
        | Type::XML
        | Type::INET
        | Type::MACADDR => Type::TEXT,
        // The same bytes.
        Type::OID_ARRAY => Type::INT4_ARRAY,
        Type::BPCHAR_ARRAY | Type::NAME_ARRAY | Type::UUID_ARRAY => Type::TEXT_ARRAY,
        _ => wire.clone(),
    }
}

/// Brings a value to the type its place needs; one that does not fit there is left to the planner's own casts.
fn fit(value: ScalarValue, parameter: &Parameter) -> ScalarValue {
    let value = match value {
        // arrow-pg counts the digits of 0.001 as one.
        ScalarValue::Decimal128(number, precision, scale) => {
            ScalarValue::Decimal128(number, precision.max(scale.unsigned_abs()).max(1), scale)
        }
        other => other,
    };
    match &parameter.needed {
        Some(needed) if *needed != value.data_type() => value.cast_to(needed).unwrap_or(value),
        _ => value,
    }
}

/// Puts the values in their places.
pub(crate) fn bind(plan: LogicalPlan, values: &[ScalarValue]) -> Result<LogicalPlan, DataFusionError> {
    if values.is_empty() {
        return Ok(plan);
    }
    plan.replace_params_with_values(&ParamValues::from(values.to_vec()))
}

/// Brings the values of `EXECUTE p(…)` to the types of its parameters.
pub(crate) fn cast(values: Vec<ScalarValue>, parameters: &[Parameter]) -> Result<Vec<ScalarValue>, DataFusionError> {
    values
        .into_iter()
        .zip(parameters)
        .map(|(value, parameter)| match parameter.needed.clone().or_else(|| arrow_type(&parameter.wire)) {
            Some(needed) if parameter.wire != Type::NUMERIC => value.cast_to(&needed),
            _ => Ok(value),
        })
        .collect()
}
