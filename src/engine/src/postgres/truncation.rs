//! `date_trunc`, which cuts an instant as the clocks of its zone show it.

use std::str::FromStr;
use std::sync::Arc;

use chrono::{Datelike, Duration, NaiveDate};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray};
use datafusion::arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion::common::types::{NativeType, logical_date, logical_string};
use datafusion::error::Result;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    Coercion, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    TypeSignatureClass, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::casts::{arrow_cast, unit};
use super::instants::{by_clocks, is_utc, out_of_range};
use super::microseconds::FIRST_DAY;

/// A part of a moment: what is smaller is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

impl Part {
    fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "microsecond" | "microseconds" => Self::Microsecond,
            "millisecond" | "milliseconds" => Self::Millisecond,
            "second" | "seconds" => Self::Second,
            "minute" | "minutes" => Self::Minute,
            "hour" | "hours" => Self::Hour,
            "day" | "days" => Self::Day,
            "week" | "weeks" => Self::Week,
            "month" | "months" => Self::Month,
            "quarter" => Self::Quarter,
            "year" | "years" => Self::Year,
            _ => return None,
        })
    }

    /// True for parts after which it is found out anew how far clocks are from UTC.
    fn has_days(self) -> bool {
        matches!(self, Self::Day | Self::Week | Self::Month | Self::Quarter | Self::Year)
    }

    /// Cuts what clocks show. A second has `second` units.
    fn cut(self, shown: i64, second: i64) -> Option<i64> {
        let to = |units: i64| Some(shown - shown.rem_euclid(units.max(1)));
        let day = second * 86_400;
        match self {
            Self::Microsecond => to(second / 1_000_000),
            Self::Millisecond => to(second / 1000),
            Self::Second => to(second),
            Self::Minute => to(second * 60),
            Self::Hour => to(second * 3600),
            Self::Day => to(day),
            Self::Week | Self::Month | Self::Quarter | Self::Year => {
                let date = NaiveDate::default().checked_add_signed(Duration::try_days(shown.div_euclid(day))?)?;
                let first = match self {
                    Self::Week => {
                        let since = i64::from(date.weekday().num_days_from_monday());
                        date.checked_sub_signed(Duration::try_days(since)?)?
                    }
                    Self::Month => date.with_day(1)?,
                    Self::Quarter => date.with_day(1)?.with_month(date.month0() / 3 * 3 + 1)?,
                    _ => NaiveDate::from_ymd_opt(date.year(), 1, 1)?,
                };
                let days = first.signed_duration_since(NaiveDate::default()).num_days();
                (days >= FIRST_DAY).then_some(())?;
                days.checked_mul(day)
            }
        }
    }
}

/// `date_trunc`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DateTrunc {
    function: Arc<ScalarUDF>,
    signature: Signature,
}

impl DateTrunc {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        let text = || Coercion::new_exact(TypeSignatureClass::Native(logical_string()));
        let moment = Coercion::new_implicit(
            TypeSignatureClass::Timestamp,
            vec![TypeSignatureClass::Native(logical_string()), TypeSignatureClass::Native(logical_date())],
            NativeType::Timestamp(TimeUnit::Microsecond, None),
        );
        let of_moment = TypeSignature::Coercible(vec![text(), moment]);
        let of_time = TypeSignature::Coercible(vec![text(), Coercion::new_exact(TypeSignatureClass::Time)]);
        let signature = Signature::one_of(vec![of_moment, of_time], Volatility::Immutable);
        ScalarUDF::from(Self { function, signature })
    }
}

impl ScalarUDFImpl for DateTrunc {
    delegate!(name, aliases, return_type, return_field_from_args, coerce_types, documentation, is_strict, simplify);

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        match inputs.get(1).map(|input| input.range.data_type()) {
            // In an hour that comes twice the beginning of the day may be the later one.
            Some(DataType::Timestamp(_, Some(zone))) if !is_utc(&zone) => Ok(SortProperties::Unordered),
            _ => self.function.output_ordering(inputs),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ColumnarValue::Scalar(part), moments] = &args.args[..] else {
            return self.function.invoke_with_args(args);
        };
        let Some(part) = part.try_as_str().flatten().and_then(Part::named) else {
            return self.function.invoke_with_args(args);
        };
        let (of, zone) = match moments.data_type() {
            DataType::Timestamp(of, zone) => (of, zone.filter(|zone| !is_utc(zone))),
            _ => return self.function.invoke_with_args(args),
        };
        let zone = zone.map(|zone| Tz::from_str(&zone)).transpose()?;
        let second = unit(of);
        let is_scalar = matches!(moments, ColumnarValue::Scalar(_));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let moments = moments.to_array(rows)?;
        let numbers = arrow_cast(&moments, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        let shown = match zone {
            Some(zone) => by_clocks(&moments, zone, true)?,
            None => numbers.clone(),
        };
        let cut: PrimitiveArray<Int64Type> =
            shown.try_unary(|shown| part.cut(shown, second).ok_or_else(out_of_range))?;
        let found: Int64Array = match zone {
            None => cut,
            Some(zone) if part.has_days() => {
                let local = arrow_cast(&(Arc::new(cut) as ArrayRef), &DataType::Timestamp(of, None))?;
                by_clocks(&local, zone, false)?
            }
            Some(_) => {
                let ahead = |row: usize| shown.value(row) - numbers.value(row);
                (0..rows).map(|row| cut.is_valid(row).then(|| cut.value(row) - ahead(row))).collect()
            }
        };
        let found = arrow_cast(&(Arc::new(found) as ArrayRef), moments.data_type())?;
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

    const SECOND: i64 = 1_000_000;

    fn at(text: &str) -> i64 {
        text.parse::<chrono::NaiveDateTime>().unwrap().and_utc().timestamp_micros()
    }

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn moments_are_cut() {
        for (part, moment, cut) in [
            ("millisecond", "1969-12-31T23:59:59.999999", "1969-12-31T23:59:59.999"),
            ("minute", "1969-12-31T23:59:59.999999", "1969-12-31T23:59:00"),
            ("day", "0001-01-01T10:00:00", "0001-01-01T00:00:00"),
            ("week", "2024-03-03T10:00:00", "2024-02-26T00:00:00"),
            ("week", "0001-01-02T10:00:00", "0001-01-01T00:00:00"),
            ("month", "9999-12-31T10:00:00", "9999-12-01T00:00:00"),
            ("quarter", "2024-05-31T10:00:00", "2024-04-01T00:00:00"),
            ("quarter", "2024-12-31T10:00:00", "2024-10-01T00:00:00"),
            ("year", "2024-12-31T10:00:00", "2024-01-01T00:00:00"),
        ] {
            assert_eq!(Part::named(part).unwrap().cut(at(moment), SECOND), Some(at(cut)), "{part} {moment}");
        }
        assert_eq!(Part::Millisecond.cut(-1, 1), Some(-1));
        assert_eq!(Part::named("fortnight"), None);
        // It begins before the calendar does.
        assert_eq!(Part::Year.cut(FIRST_DAY * 86_400 * SECOND, SECOND), None);
    }
}
