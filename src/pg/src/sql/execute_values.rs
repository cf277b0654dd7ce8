//! Values of parameters in `EXECUTE p(…)`.

use datafusion::arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;

use crate::decode::{self, Form};
use crate::sql::parameters::{Parameter, fit};
use crate::wire::error_response::SqlError;

/// Returns the value of a literal in `EXECUTE p(…)`, which has no type of its own.
pub(crate) fn of_literal(text: Option<&str>, parameter: &Parameter, zone: &str) -> Result<ScalarValue, SqlError> {
    let bytes = text.map(str::as_bytes);
    Ok(fit(decode::decode(parameter.read_as(), Form::Text, bytes, zone)?, parameter))
}

/// Returns the value of a number in `EXECUTE p(…)`, if the parameter is of a type of numbers. Integers are rounded.
pub(crate) fn of_number(text: &str, parameter: &Parameter, zone: &str) -> Option<Result<ScalarValue, SqlError>> {
    let kind = parameter.read_as();
    match *kind {
        Type::NUMERIC | Type::FLOAT4 | Type::FLOAT8 => Some(of_literal(Some(text), parameter, zone)),
        Type::INT2 | Type::INT4 | Type::INT8 => Some(decode::from_text(&Type::NUMERIC, text, zone).and_then(|value| {
            let whole = value.cast_to(&DataType::Decimal128(38, 0))?;
            of_literal(whole.to_string().split(',').next(), parameter, zone)
        })),
        _ => None,
    }
}

/// Returns a computed value of `EXECUTE p(…)`: text is read as the type that the statement casts it to.
pub(crate) fn of_computed(value: ScalarValue, parameter: &Parameter, zone: &str) -> Result<ScalarValue, SqlError> {
    let is_text = matches!(*parameter.read_as(), Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME);
    match value.try_as_str() {
        Some(Some(text)) if !is_text => Ok(fit(decode::from_text(parameter.read_as(), text, zone)?, parameter)),
        _ => Ok(value),
    }
}

/// Returns the type that a value of `EXECUTE p(…)` is cast to; a numeric keeps its digits.
pub(crate) fn target(parameter: &Parameter, given: &DataType, zone: &str) -> Option<DataType> {
    let unbound = *parameter.read_as() == Type::NUMERIC && (given.is_integer() || given.is_decimal());
    if unbound {
        return None;
    }
    parameter.needed.clone().or_else(|| decode::arrow_type(parameter.read_as(), zone)).filter(|wanted| wanted != given)
}
