//! The text form of intervals.

use datafusion::scalar::ScalarValue;
use neuroql::IntervalParts;

use crate::wire::error_response::SqlError;

/// Returns an interval, unless its nanoseconds do not fit.
pub(super) fn value(months: i32, days: i32, micros: i64) -> Option<ScalarValue> {
    Some(ScalarValue::new_interval_mdn(months, days, micros.checked_mul(1000)?))
}

/// Reads `1 year 2 mons -3 days 04:05:06`, `@ 1 hour ago`, `1-2`, `P1Y2M3DT4H5M6S`.
pub(super) fn read(text: &str) -> Result<ScalarValue, SqlError> {
    let IntervalParts { months, days, micros } = neuroql::read_interval(text, None, None)?;
    value(months, days, micros)
        .ok_or_else(|| SqlError::not_supported("intervals of more than 292 years in hours are not supported"))
}
