//! The types of moments that stand together: a date is the moment at which it begins, and what the clocks of a zone show is an
//! instant beside one.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, TimeUnit};

use super::instants::is_utc;
use super::microseconds::at_least_micros;

/// Returns a type of moments with microseconds, if it has fewer digits.
pub(super) fn with_micros(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(unit, zone) => DataType::Timestamp(at_least_micros(*unit), zone.clone()),
        other => other.clone(),
    }
}

/// Returns the types by which a moment of the session's zone is made an instant like another.
pub(super) fn at(zone: &str, instant: &DataType, unit: TimeUnit) -> Vec<DataType> {
    let DataType::Timestamp(_, Some(target)) = instant else { return Vec::new() };
    let mut types = vec![DataType::Timestamp(unit, Some(Arc::clone(target)))];
    if **target != *zone {
        types.insert(0, DataType::Timestamp(unit, Some(zone.into())));
    }
    types
}

/// Returns the types by which one of two moments is made one as the other is.
pub(super) fn of_moments(left: &DataType, right: &DataType, zone: &str) -> Option<(Vec<DataType>, Vec<DataType>)> {
    if is_utc(zone) { dates(left, right) } else { instants(left, right, zone) }
}

/// Returns the types by which a date is made the moment at which it begins, as the other value is.
fn dates(left: &DataType, right: &DataType) -> Option<(Vec<DataType>, Vec<DataType>)> {
    match (left, right) {
        (DataType::Date32 | DataType::Date64, moment @ DataType::Timestamp(..)) => {
            Some((vec![with_micros(moment)], Vec::new()))
        }
        (moment @ DataType::Timestamp(..), DataType::Date32 | DataType::Date64) => {
            Some((Vec::new(), vec![with_micros(moment)]))
        }
        _ => None,
    }
}

/// Returns the types by which one of two values, which clocks of a zone show, is made an instant as the other is.
fn instants(left: &DataType, right: &DataType, zone: &str) -> Option<(Vec<DataType>, Vec<DataType>)> {
    let local = |side: &DataType| match side {
        DataType::Date32 | DataType::Date64 => Some(TimeUnit::Microsecond),
        DataType::Timestamp(unit, None) => Some(*unit),
        _ => None,
    };
    match (left, right) {
        (moment, instant @ DataType::Timestamp(_, Some(_))) => {
            local(moment).map(|unit| (at(zone, instant, unit), Vec::new()))
        }
        (instant @ DataType::Timestamp(_, Some(_)), moment) => {
            local(moment).map(|unit| (Vec::new(), at(zone, instant, unit)))
        }
        _ => dates(left, right),
    }
}
