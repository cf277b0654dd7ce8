//! Intervals as Postgres compares them: a month has 30 days, a day 24 hours.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Decimal128Array};
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNanoType, IntervalUnit};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::casts::arrow_cast;
use super::names;

/// Returns the length of an interval as a call of a function.
pub(super) fn span(interval: Expr) -> Expr {
    ScalarUDF::from(Span { signature: Signature::any(1, Volatility::Immutable) }).call(vec![interval])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Span {
    signature: Signature,
}

impl ScalarUDFImpl for Span {
    fn name(&self) -> &str {
        "pg_interval_span"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(names::name(self.name(), args, |args| args[0].schema_name().to_string()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(38, 0))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let intervals = args.args[0].to_array(args.number_rows)?;
        let intervals = arrow_cast(&intervals, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let spans = intervals.as_primitive::<IntervalMonthDayNanoType>().iter().map(|it| {
            it.map(|it| {
                let days = i128::from(it.months) * 30 + i128::from(it.days);
                days * 86_400_000_000_000 + i128::from(it.nanoseconds)
            })
        });
        let spans: ArrayRef = Arc::new(spans.collect::<Decimal128Array>().with_precision_and_scale(38, 0)?);
        Ok(ColumnarValue::Array(spans))
    }
}
