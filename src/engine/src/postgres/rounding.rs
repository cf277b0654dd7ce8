//! `round` and `trunc` of `numeric` to a number of digits after the point: the result has as many, as in Postgres, where
//! DataFusion's has no more than its argument.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, cast, lit};
use datafusion::scalar::ScalarValue;

use super::decimal;
use super::refusal::refusal;
use super::types::UNCONSTRAINED;

/// Digits that a number has at most.
const MOST: u8 = 38;

/// Returns a call of `round` or `trunc` with two arguments whose result has the type that Postgres gives it, as far as that is
/// known.
pub(super) fn to_places(mut call: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let [number, places] = &call.args[..] else { return Ok(Transformed::no(Expr::ScalarFunction(call))) };
    let rounds = call.name() == "round";
    if rounds && let Some(rounded) = decimal::rounded(number, places) {
        return Ok(Transformed::yes(rounded));
    }
    let Ok(number_type) = number.get_type(schema) else { return Ok(Transformed::no(Expr::ScalarFunction(call))) };
    let places = constant(places);
    if let Some(places) = places {
        // The type of the result follows from a literal, and must not change when a cast is evaluated.
        let Ok(narrow) = i32::try_from(places) else { return Err(refusal("22003", "integer out of range")) };
        call.args[1] = if rounds { lit(narrow) } else { lit(places) };
    }
    let (precision, scale) = match number_type {
        DataType::Decimal128(precision, scale) => (precision, scale),
        DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            call.args[0] = cast(std::mem::take(&mut call.args[0]), DataType::Decimal128(20, 0));
            (20, 0)
        }
        _ => return Ok(Transformed::new_transformed(Expr::ScalarFunction(call), places.is_some())),
    };
    let is_null = matches!(&call.args[1], Expr::Literal(ScalarValue::Null, _));
    let call = Expr::ScalarFunction(call);
    let data_type = match places {
        Some(places) => {
            let kept = i8::try_from(places.max(0))
                .ok()
                .filter(|kept| *kept <= MOST as i8)
                .ok_or_else(|| refusal("0A000", format!("numeric has no {places} digits after the point here")))?;
            // What is rounded up may have one more.
            let whole = i16::from(precision) - i16::from(scale) + i16::from(kept < scale && rounds);
            let digits = (whole.max(0) + i16::from(kept)).clamp(1, i16::from(MOST));
            DataType::Decimal128(u8::try_from(digits).unwrap_or(MOST), kept)
        }
        None if is_null => return Ok(Transformed::yes(call)),
        // How many it has is for each row to say.
        None => DataType::Decimal128(MOST, scale.max(UNCONSTRAINED.1)),
    };
    Ok(Transformed::yes(cast(call, data_type)))
}

/// Returns a call of `round` and its like with one argument, a `numeric`: whole numbers have no digits after the point.
pub(super) fn to_whole(mut call: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if let Some(number) = call.args.first_mut()
        && let DataType::Decimal128(precision, scale) = number.get_type(schema)?
        && precision < MOST
    {
        // What is rounded up may have one digit more.
        *number = cast(std::mem::take(number), DataType::Decimal128(precision + 1, scale));
    }
    Ok(Transformed::yes(cast(Expr::ScalarFunction(call), DataType::Decimal128(MOST, 0))))
}

/// Returns a constant number of digits.
fn constant(places: &Expr) -> Option<i64> {
    match places {
        Expr::Literal(ScalarValue::Int64(Some(places)), _) => Some(*places),
        Expr::Literal(ScalarValue::Int32(Some(places)), _) => Some(i64::from(*places)),
        Expr::Literal(ScalarValue::Int16(Some(places)), _) => Some(i64::from(*places)),
        Expr::Negative(inner) => constant(inner)?.checked_neg(),
        Expr::Cast(cast) if cast.field.data_type().is_integer() => constant(&cast.expr),
        _ => None,
    }
}
