//! Types of columns whose values are texts as Postgres writes them: `timetz`, `inet`, `cidr` and `macaddr`.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, ExprSchemable, cast};
use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;

use crate::catalog::own_types;
use crate::decode;
use crate::encode::column;
use crate::sql::json_values;
use crate::sql::literals;
use crate::sql::marks::{kind_of, lost, of_field};
use crate::sql::network;
use crate::sql::range_values;
use crate::wire::error_response::{SqlError, external};

/// Returns true for one of the types.
pub(crate) fn is_own(kind: &Type) -> bool {
    matches!(*kind, Type::TIMETZ | Type::INET | Type::CIDR | Type::MACADDR)
}

/// Returns a field of one of the types; `None` for other types.
pub(super) fn field_of(kind: &Type) -> Option<FieldRef> {
    is_own(kind).then(|| Arc::new(Field::new("", DataType::Utf8, true).with_metadata(column::mark(kind))))
}

/// Returns true if texts without a type are read when they are assigned to a column: as one of these types, as JSON, as ranges or
/// as labels.
pub(super) fn is_read(field: &Field) -> bool {
    let is_read = |kind: &Type| {
        is_own(kind)
            || json_values::of_type(kind).is_some()
            || range_values::is_range(kind)
            || own_types::is_of_labels(kind)
    };
    of_field(field).is_some_and(|kind| is_read(&kind))
}

/// Returns a cast to one of the types as a call that reads texts, and a cast of an `inet` to text as one that has the prefix.
///
/// # Errors
/// 0A000 for casts of other values than texts.
pub(super) fn settled(part: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::Cast(Cast { expr, field }) = part else { return Ok(Transformed::no(part)) };
    let from = kind_of(&expr, schema);
    let Some(kind) = of_field(&field).filter(is_own) else {
        if from == Some(Type::INET) && field.data_type().is_string() && of_field(&field).is_none() {
            let expr = Box::new(network::with_prefix(*expr));
            return Ok(Transformed::yes(Expr::Cast(Cast { expr, field })));
        }
        return Ok(Transformed::no(Expr::Cast(Cast { expr, field })));
    };
    match from {
        Some(from) if from == kind => return Ok(Transformed::yes(*expr)),
        Some(from) => return Err(external(lost(&from, "casts to other types"))),
        None => {}
    }
    let found = expr.get_type(schema).unwrap_or(DataType::Null);
    match &found {
        DataType::Null | DataType::Utf8 => Ok(Transformed::yes(literals::read(&kind, *expr))),
        found if found.is_string() => Ok(Transformed::yes(literals::read(&kind, cast(*expr, DataType::Utf8)))),
        found => {
            let message = format!("casts of {found} to {} are not supported", decode::name(&kind));
            Err(external(SqlError::not_supported(message)))
        }
    }
}

/// Reads the default of a column of one of the types.
///
/// # Errors
/// 0A000 for a default that is no constant, and the errors of texts that are no values.
pub(super) fn read_default(default: &mut Expr, kind: &Type) -> Result<()> {
    let constant = match &*default {
        Expr::Cast(cast) if of_field(&cast.field).as_ref() == Some(kind) => cast.expr.as_ref(),
        other => other,
    };
    let value = match constant {
        Expr::Literal(ScalarValue::Null, None) => ScalarValue::Utf8(None),
        Expr::Literal(literal, None) if literal.try_as_str().is_some() => match literal.try_as_str().flatten() {
            Some(text) => decode::from_text(kind, text, "").map_err(external)?,
            None => ScalarValue::Utf8(None),
        },
        _ => {
            let message = format!("a default of type {} that is no constant is not supported", decode::name(kind));
            return Err(external(SqlError::not_supported(message)));
        }
    };
    *default = Expr::Literal(value, None);
    Ok(())
}
