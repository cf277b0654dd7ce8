//! The casts of PostgreSQL in assignments: of the types of values to those of columns.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::scalar::ScalarValue;
use datafusion_postgres::arrow_pg::datatypes::into_pg_type;
use datafusion_postgres::pgwire::api::Type;
use neuroql::bpchar;
use neuroql::json::{self, JsonKind};
use neuroql::ranges::{self, RangeType};
use postgres_types::Kind;

use crate::decode;
use crate::encode::column;
use crate::sql::json_values;
use crate::sql::marks;
use crate::sql::network;
use crate::sql::range_values;
use crate::wire::error_response::SqlError;

pub(super) const NUMBERS: [Type; 6] = [Type::INT2, Type::INT4, Type::INT8, Type::FLOAT4, Type::FLOAT8, Type::NUMERIC];

/// Casts a value to the type of a column.
///
/// # Errors
/// 0A000 for a cast of Postgres that is not supported.
pub(super) fn assigned(value: Expr, from: &Type, field: &FieldRef) -> Result<Expr, SqlError> {
    if let (&Type::TIME, DataType::Interval(_)) | (&Type::INTERVAL, DataType::Time64(_)) = (from, field.data_type()) {
        let (from, to) = (decode::name(from), kind(field).map(|to| decode::name(&to)).unwrap_or_default());
        let message = format!("values of type {from} in columns of type {to} are not supported");
        return Err(SqlError::not_supported(message));
    }
    if let Some(kind) = RangeType::of(field)
        && range_values::of_type(from) == Some(kind)
    {
        return Ok(ranges::stored(value, kind));
    }
    // One of the two becomes the other.
    if let (Some(from), Some(wanted)) = (json_values::of_type(from), JsonKind::of(field))
        && from != wanted
    {
        return Ok(cast(json::read(value, wanted), field.data_type()));
    }
    // It keeps its blanks, for a column that may have no length.
    if *from == Type::BPCHAR && bpchar::is_bpchar(field) {
        return Ok(bpchar::with_blanks(value));
    }
    // A cast to text has the prefix of an address.
    if *from == Type::INET && column::marked(field) == Some(Type::INET) {
        return Ok(cast(network::unmarked(value), field.data_type()));
    }
    Ok(cast(value, field.data_type()))
}

/// Returns a cast whose values have no metadata, so that those of VALUES are alike.
pub(super) fn cast(value: Expr, to: &DataType) -> Expr {
    Expr::Cast(Cast::new_from_field(Box::new(value), Arc::new(Field::new("value", to.clone(), true))))
}

/// Refuses a value that has no cast in an assignment.
pub(super) fn check(from: &Type, to: &Type, field: &Field) -> Result<(), SqlError> {
    if is_assigned(from, to) {
        return Ok(());
    }
    let (name, from, to) = (field.name(), decode::name(from), decode::name(to));
    let message = format!("column \"{name}\" is of type {to} but expression is of type {from}");
    Err(SqlError::error("42804", message).with_hint("You will need to rewrite or cast the expression."))
}

/// Returns true if Postgres turns values of one type into another in an assignment.
pub(super) fn is_assigned(from: &Type, to: &Type) -> bool {
    if from == to || matches!((from, to), (&Type::UNKNOWN, _) | (_, &Type::TEXT | &Type::BPCHAR)) {
        return true;
    }
    match (from.kind(), to.kind()) {
        (Kind::Array(from), Kind::Array(to)) => is_assigned(from, to),
        (Kind::Array(_), _) | (_, Kind::Array(_)) => false,
        _ => match *to {
            Type::INT4 | Type::INT8 if decode::is_oid(from) => true,
            Type::INT2 | Type::INT4 | Type::INT8 | Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => {
                NUMBERS.contains(from)
            }
            Type::DATE | Type::TIMESTAMP | Type::TIMESTAMPTZ => {
                matches!(*from, Type::DATE | Type::TIMESTAMP | Type::TIMESTAMPTZ)
            }
            Type::TIME => matches!(*from, Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::INTERVAL),
            Type::INTERVAL => *from == Type::TIME,
            Type::JSON | Type::JSONB => matches!(*from, Type::JSON | Type::JSONB),
            _ => false,
        },
    }
}

/// Returns the type of a field's values; `None` if they are no plain values, or arrays of such, whose casts are the planner's.
pub(super) fn kind(field: impl AsRef<Field>) -> Option<Type> {
    let field = field.as_ref();
    if let Some(marked) = column::marked(field) {
        return Some(marked);
    }
    match field.data_type() {
        DataType::Null => return Some(Type::UNKNOWN),
        DataType::List(item) if item.data_type().is_null() => return Some(Type::UNKNOWN),
        _ => {}
    }
    let is_simple = |kind: &Type| match kind.kind() {
        Kind::Simple => true,
        Kind::Array(item) => matches!(item.kind(), Kind::Simple),
        _ => false,
    };
    into_pg_type(field.data_type()).ok().filter(is_simple)
}

/// Returns the type of a value. Numbers in a statement are not of the types that the planner gives them.
pub(super) fn of_value(value: &Expr, schema: &DFSchema) -> Result<Option<Type>> {
    match value {
        Expr::Literal(ScalarValue::Int64(Some(number)), None) if i32::try_from(*number).is_ok() => Ok(Some(Type::INT4)),
        Expr::Literal(ScalarValue::Float64(_), None) => Ok(Some(Type::NUMERIC)),
        value => match marks::kind_of(value, schema) {
            Some(kept) => Ok(Some(kept)),
            None => Ok(kind(value.to_field(schema)?.1)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the casts that `pg_cast` of PostgreSQL 15 has for assignments, and arrays of them.
    #[test]
    fn casts_of_assignments() {
        for (from, to) in [
            (Type::INT8, Type::INT2),
            (Type::NUMERIC, Type::INT4),
            (Type::INT4, Type::NUMERIC),
            (Type::FLOAT8, Type::FLOAT4),
            (Type::DATE, Type::TIMESTAMPTZ),
            (Type::TIMESTAMPTZ, Type::TIME),
            (Type::BOOL, Type::TEXT),
            (Type::INT4_ARRAY, Type::TEXT),
            (Type::INT4, Type::BPCHAR),
            (Type::BPCHAR, Type::TEXT),
            (Type::FLOAT8_ARRAY, Type::INT4_ARRAY),
            (Type::INT8_ARRAY, Type::TEXT_ARRAY),
            (Type::UUID, Type::TEXT),
            (Type::OID, Type::INT8),
            (Type::UNKNOWN, Type::BOOL),
        ] {
            assert!(is_assigned(&from, &to), "{from} to {to}");
        }
        for (from, to) in [
            (Type::TEXT, Type::INT8),
            (Type::VARCHAR, Type::DATE),
            (Type::BOOL, Type::INT4),
            (Type::INT4, Type::BOOL),
            (Type::INT8, Type::TIMESTAMP),
            (Type::TIME, Type::TIMESTAMP),
            (Type::TEXT, Type::BYTEA),
            (Type::INT4, Type::INT4_ARRAY),
            (Type::TEXT_ARRAY, Type::INT4_ARRAY),
            (Type::OID, Type::INT2),
            (Type::JSON, Type::INT4),
            (Type::BPCHAR, Type::INT4),
        ] {
            assert!(!is_assigned(&from, &to), "{from} to {to}");
        }
    }
}
