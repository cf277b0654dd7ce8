//! `date_part`, which is `double precision`, and `extract`, which is `numeric`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, PrimitiveArray};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Float64Type, Int64Type, IntervalMonthDayNanoType,
    IntervalUnit, TimeUnit,
};
use datafusion::error::Result;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, lit,
};
use datafusion::scalar::ScalarValue;

use super::casts::arrow_cast;
use super::refusal::{refusal, type_name};

/// A part of a date, time or interval.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DatePart {
    function: Arc<ScalarUDF>,
    is_numeric: bool,
}

/// The source of a part of a date or time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Microseconds within a minute; `digits` of the part stand after the point.
    Seconds {
        digits: i8,
    },
    Epoch,
    Year,
    /// Whole numbers.
    Other,
}

impl Unit {
    fn named(part: Option<&ScalarValue>) -> Self {
        let part = part.and_then(|part| part.try_as_str().flatten()).unwrap_or_default().to_ascii_lowercase();
        match part.as_str() {
            "second" | "seconds" | "sec" | "secs" => Self::Seconds { digits: 6 },
            "millisecond" | "milliseconds" | "msec" | "msecs" => Self::Seconds { digits: 3 },
            "epoch" => Self::Epoch,
            "year" | "years" | "isoyear" => Self::Year,
            _ => Self::Other,
        }
    }

    /// Returns the number of digits after the point.
    fn scale(self, of: &DataType) -> i8 {
        match self {
            Self::Seconds { digits } => digits,
            Self::Epoch if *of == DataType::Date32 => 0,
            Self::Epoch => 6,
            Self::Year | Self::Other => 0,
        }
    }
}

/// The digits of a part.
const PRECISION: u8 = 24;

impl DatePart {
    /// Returns `date_part`.
    pub(super) fn double(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function, is_numeric: false })
    }

    /// Returns `extract`.
    pub(super) fn numeric(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function, is_numeric: true })
    }

    /// Computes whole numbers at the scale of the unit.
    fn numbers(&self, unit: Unit, args: ScalarFunctionArgs) -> Result<PrimitiveArray<Int64Type>> {
        let is_scalar = matches!(args.args[1], ColumnarValue::Scalar(_));
        let rows = if is_scalar { 1 } else { args.number_rows };
        if unit == Unit::Epoch {
            return epoch(&args.args[1].to_array(rows)?);
        }
        let mut args = args;
        if let Unit::Seconds { .. } = unit {
            args.args[0] = ColumnarValue::Scalar(ScalarValue::from("microsecond"));
        }
        args.return_field = Arc::new(Field::clone(&args.return_field).with_data_type(DataType::Int32));
        let found = arrow_cast(&self.function.invoke_with_args(args)?.into_array(rows)?, &DataType::Int64)?;
        let found = found.as_primitive::<Int64Type>();
        Ok(match unit {
            // There is no year 0.
            Unit::Year => found.unary(|year| if year <= 0 { year - 1 } else { year }),
            // A microsecond is the last digit of a second and of a millisecond.
            Unit::Seconds { .. } | Unit::Epoch | Unit::Other => found.clone(),
        })
    }
}

/// Seconds since 1970, or of an interval, at the scale of [`Unit::scale`].
fn epoch(values: &ArrayRef) -> Result<PrimitiveArray<Int64Type>> {
    Ok(match values.data_type() {
        DataType::Date32 => values.as_primitive::<Date32Type>().unary(|days| i64::from(days) * 86_400),
        DataType::Timestamp(_, zone) => {
            let micros = arrow_cast(values, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            arrow_cast(&micros, &DataType::Int64)?.as_primitive::<Int64Type>().clone()
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let micros = arrow_cast(values, &DataType::Time64(TimeUnit::Microsecond))?;
            arrow_cast(&micros, &DataType::Int64)?.as_primitive::<Int64Type>().clone()
        }
        _ => {
            let intervals = arrow_cast(values, &DataType::Interval(IntervalUnit::MonthDayNano))?;
            intervals.as_primitive::<IntervalMonthDayNanoType>().unary(|it| {
                // A year has 365.25 days, a month beside years 30.
                let hours =
                    i64::from(it.months / 12) * 8766 + i64::from(it.months % 12) * 720 + i64::from(it.days) * 24;
                hours * 3_600_000_000 + it.nanoseconds / 1000
            })
        }
    })
}

impl ScalarUDFImpl for DatePart {
    delegate!(signature, return_type, coerce_types, documentation);

    fn name(&self) -> &str {
        if self.is_numeric { "extract" } else { self.function.name() }
    }

    fn aliases(&self) -> &[String] {
        if self.is_numeric { &[] } else { self.function.aliases() }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let part = args.scalar_arguments.first().copied().flatten();
        let unit = Unit::named(part);
        let of = args.arg_fields[1].data_type().clone();
        if self.is_numeric
            && of == DataType::Date32
            && let Some(part) = part.and_then(|part| part.try_as_str().flatten())
        {
            let part = part.to_ascii_lowercase();
            if ["hour", "minute", "sec", "milli", "micro", "msec", "usec"].iter().any(|unit| part.starts_with(unit)) {
                let message = format!("unit \"{part}\" not supported for type {}", type_name(&of));
                return Err(refusal("0A000", message));
            }
        }
        let field = self.function.return_field_from_args(args)?;
        let data_type =
            if self.is_numeric { DataType::Decimal128(PRECISION, unit.scale(&of)) } else { DataType::Float64 };
        Ok(Arc::new(Field::clone(&field).with_name(self.name()).with_data_type(data_type)))
    }

    fn preimage(&self, args: &[Expr], literal: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        let whole = match literal {
            Expr::Literal(ScalarValue::Decimal128(Some(number), _, 0), _) => i32::try_from(*number).ok(),
            Expr::Literal(ScalarValue::Float64(Some(number)), _) if number.fract() == 0.0 && number.abs() < 1e9 => {
                Some(*number as i32)
            }
            _ => None,
        };
        match whole {
            Some(number @ 1..) => self.function.preimage(args, &lit(number), info),
            _ => Ok(PreimageResult::None),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let unit = match &args.args[0] {
            ColumnarValue::Scalar(part) => Unit::named(Some(part)),
            ColumnarValue::Array(_) => Unit::Other,
        };
        let is_scalar = matches!(args.args[1], ColumnarValue::Scalar(_));
        let scale = unit.scale(&args.args[1].data_type());
        let numbers = self.numbers(unit, args)?;
        let found: ArrayRef = if self.is_numeric {
            let decimals: Decimal128Array = numbers.unary::<_, Decimal128Type>(i128::from);
            Arc::new(decimals.with_precision_and_scale(PRECISION, scale)?)
        } else {
            let unit = 10f64.powi(i32::from(scale));
            Arc::new(numbers.unary::<_, Float64Type>(|it| it as f64 / unit))
        };
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)
        } else {
            ColumnarValue::Array(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_has_seconds() {
        use datafusion::arrow::array::IntervalMonthDayNanoArray;
        use datafusion::arrow::datatypes::IntervalMonthDayNano;
        let interval: ArrayRef =
            Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(13, 2, 1_500_000_000)]));
        // 365.25, 30 and 2 days, and a second and a half.
        assert_eq!(epoch(&interval).unwrap().value(0), 397 * 86_400_000_000 + 21_600_000_000 + 1_500_000);
    }
}
