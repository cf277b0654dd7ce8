//! Errors that Postgres knows and DataFusion does not.

use std::error::Error;
use std::fmt;

use datafusion::arrow::datatypes::DataType;
use datafusion::error::DataFusionError;

use super::uuids::is_uuid;

/// A value or statement for which there is no answer, with the code that Postgres gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    sqlstate: &'static str,
    message: String,
}

impl Refusal {
    /// Creates a refusal as an error of DataFusion.
    pub fn error(sqlstate: &'static str, message: impl Into<String>) -> DataFusionError {
        refusal(sqlstate, message)
    }

    /// Returns the SQLSTATE.
    pub fn sqlstate(&self) -> &'static str {
        self.sqlstate
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Refusal {}

/// Returns an error of this code.
pub(super) fn refusal(sqlstate: &'static str, message: impl Into<String>) -> DataFusionError {
    DataFusionError::External(Box::new(Refusal { sqlstate, message: message.into() }))
}

/// Returns the error of a number that does not fit its type.
pub(super) fn out_of_range(data_type: &DataType) -> DataFusionError {
    refusal("22003", format!("{} out of range", type_name(data_type)))
}

/// Returns the error of a text that is a number too large for the type.
pub(super) fn value_out_of_range(data_type: &DataType, text: &str) -> DataFusionError {
    refusal("22003", format!("value \"{text}\" is out of range for type {}", type_name(data_type)))
}

/// Returns the name that Postgres gives a type.
pub(super) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".into(),
        DataType::Int16 => "smallint".into(),
        DataType::Int32 => "integer".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float32 => "real".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytea".into(),
        uuid if is_uuid(uuid) => "uuid".into(),
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Time32(_) | DataType::Time64(_) => "time without time zone".into(),
        DataType::Timestamp(_, None) => "timestamp without time zone".into(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".into(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".into(),
        DataType::Decimal128(..) | DataType::Decimal256(..) | DataType::Decimal64(..) | DataType::Decimal32(..) => {
            "numeric".into()
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("{}[]", type_name(item.data_type()))
        }
        other => other.to_string(),
    }
}
