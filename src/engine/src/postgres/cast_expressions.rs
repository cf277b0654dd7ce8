//! Casts of a statement, rewritten into ones that read and write values as Postgres does.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, binary_expr, lit};
use datafusion::scalar::ScalarValue;

use super::casts::{CastRule, cast_by, rule};
use super::instants::{has_instants, in_zone};
use super::types::length_of;

/// Rewrites a cast. Instants are made and read in the zone of the session.
pub(super) fn cast_of(cast: Cast, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    let (from, to) = (cast.expr.get_type(schema)?, cast.field.data_type().clone());
    match (has_instants(&from), has_instants(&to)) {
        (true, false) => {
            let Some(local) = in_zone(&from, zone) else { return cast_from(cast, &from) };
            let expr = Box::new(Expr::Cast(Cast::new(cast.expr, local.clone())));
            Ok(Transformed::yes(cast_from(Cast { expr, field: cast.field }, &local)?.data))
        }
        (false, true) if !from.is_null() => {
            let Some(local) = in_zone(&to, zone) else { return cast_from(cast, &from) };
            let field = Arc::new(Field::clone(&cast.field).with_data_type(local));
            let read = cast_from(Cast { expr: cast.expr, field }, &from)?.data;
            Ok(Transformed::yes(Expr::Cast(Cast::new(Box::new(read), to))))
        }
        _ => cast_from(cast, &from),
    }
}

fn cast_from(cast: Cast, from: &DataType) -> Result<Transformed<Expr>> {
    // DataFusion would take `CAST(x AS boolean)` for `x = 1`.
    if *cast.field.data_type() == DataType::Boolean && *from == DataType::Int32 {
        return Ok(Transformed::yes(binary_expr(*cast.expr, Operator::NotEq, lit(0i32))));
    }
    let constant = is_constant_number(&cast.expr);
    Ok(match rule(from, &cast.field, constant)? {
        Some(rule) => Transformed::yes(cast_by(rule, cast)),
        None if length_of(&cast.field).is_some() => {
            let text = Expr::Cast(Cast::new(cast.expr, DataType::Utf8));
            let length = length_of(&cast.field).unwrap_or(0);
            Transformed::yes(cast_by(CastRule::Shorten(length), Cast { expr: Box::new(text), field: cast.field }))
        }
        None => Transformed::no(Expr::Cast(cast)),
    })
}

/// Returns true if this is made of nothing but numbers as they stand in a statement, which Postgres takes for
/// `numeric`.
pub(super) fn is_constant_number(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Int64(_) | ScalarValue::Float64(_) | ScalarValue::Int32(_), metadata) => {
            metadata.is_none()
        }
        Expr::Negative(inner) => is_constant_number(inner),
        Expr::ScalarFunction(function) => {
            function.name().starts_with("pg_") && !function.args.is_empty() && {
                let is_operator = matches!(
                    function.name(),
                    "pg_plus" | "pg_minus" | "pg_times" | "pg_divide" | "pg_modulo" | "pg_negative"
                );
                is_operator && function.args.iter().all(is_constant_number)
            }
        }
        // An integer beside a number with a point.
        Expr::Cast(cast) => {
            matches!(&*cast.expr, Expr::Literal(ScalarValue::Int64(_) | ScalarValue::Int32(_), None))
                && *cast.field.data_type() == DataType::Float64
        }
        _ => false,
    }
}
