//! Answers of an embedded session.

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::prelude::SessionContext;

use crate::server::Error;

/// Returns the rows of a statement.
pub async fn rows(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>, Error> {
    Ok(context.sql(sql).await.map_err(|e| format!("{sql}: {e}"))?.collect().await.map_err(|e| format!("{sql}: {e}"))?)
}

/// Returns rows as text, with numbers apart.
pub async fn cells(context: &SessionContext, sql: &str) -> Result<Vec<Vec<Cell>>, Error> {
    let mut cells = Vec::new();
    for batch in rows(context, sql).await? {
        for row in 0..batch.num_rows() {
            let cell = |column: &dyn Array| -> Result<Cell, Error> {
                Ok(match column.data_type() {
                    _ if column.is_null(row) => Cell::Text("NULL".into()),
                    DataType::Float32 | DataType::Float64 => {
                        Cell::Real(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().value(row))
                    }
                    _ => Cell::Text(array_value_to_string(column, row)?),
                })
            };
            cells.push(batch.columns().iter().map(|column| cell(column)).collect::<Result<_, Error>>()?);
        }
    }
    Ok(cells)
}

/// A value of a row.
#[derive(Debug, Clone)]
pub enum Cell {
    /// Any value but a floating-point number, as text.
    Text(String),
    /// A number that may differ by its rounding.
    Real(f64),
}

impl PartialEq for Cell {
    /// Compares numbers with a tolerance: sums depend on the order of additions.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Real(a), Self::Real(b)) => (a - b).abs() <= 1e-5 * (1e-3 + a.abs().max(b.abs())),
            _ => false,
        }
    }
}
