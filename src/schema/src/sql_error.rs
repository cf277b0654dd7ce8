//! The way an error of a room reaches SQL.

use std::error::Error;

use datafusion::error::DataFusionError;

/// Wraps an error of a room for DataFusion.
///
/// The front ends find the error again by its type, and with it its SQLSTATE and its message without a prefix.
pub fn sql_error(error: impl Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_found_again_by_its_type() {
        let error = neuroql_graph::Error::Malformed { format: "columns", reason: "no nodes".into() };
        let message = error.to_string();
        let DataFusionError::External(inner) = sql_error(error) else { panic!("not external") };
        assert_eq!(inner.downcast_ref::<neuroql_graph::Error>().unwrap().to_string(), message);
    }
}
