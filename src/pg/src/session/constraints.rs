//! PRIMARY KEY and UNIQUE of tables in memory.
//!
//! DataFusion keeps the constraints of a table for its optimizer and does not hold inserts to them. They are checked
//! here after each change, while its transaction holds the table: an error takes the change back.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::catalog::TableProvider;
use datafusion::common::Constraint;

use crate::catalog::keys;
use crate::decode;
use crate::encode::column;
use crate::session::objects::indexes;
use crate::session::transaction::{of_partitions, partitions};
use crate::wire::error_response::SqlError;

/// Checks the rows of a table in memory against its constraints.
///
/// # Errors
/// 23505 if two rows have the same key, 23502 if a value of a primary key is NULL.
pub(crate) fn check(table: &dyn TableProvider, name: &str) -> Result<(), SqlError> {
    let Some(constraints) = table.constraints() else { return Ok(()) };
    check_primary(table, name)?;
    let batches: Vec<_> = partitions(table).into_iter().flatten().collect();
    for constraint in constraints.iter() {
        let (columns, is_primary) = match constraint {
            Constraint::PrimaryKey(columns) => (columns, true),
            Constraint::Unique(columns) => (columns, false),
        };
        let schema = table.schema();
        let names: Vec<_> = columns.iter().map(|column| schema.field(*column).name().as_str()).collect();
        if !are_unique(&batches, columns)? {
            let found = keys::name(table, name, columns, is_primary);
            let message = format!("duplicate key value violates unique constraint \"{found}\"");
            let hint = format!("({}) must be unique.", names.join(", "));
            return Err(SqlError::error("23505", message).with_hint(hint));
        }
    }
    indexes::check(table, &batches)
}

/// Checks that no row has a NULL in its primary key.
///
/// # Errors
/// 23502.
pub(super) fn check_primary(table: &dyn TableProvider, name: &str) -> Result<(), SqlError> {
    let constraints = table.constraints().into_iter().flat_map(|constraints| constraints.iter());
    let columns = constraints.filter_map(|constraint| match constraint {
        Constraint::PrimaryKey(columns) => Some(columns),
        Constraint::Unique(_) => None,
    });
    for column in columns.flatten() {
        let has_null =
            of_partitions(table, |batches| batches.iter().any(|batch| batch.column(*column).null_count() > 0));
        if has_null.contains(&true) {
            return Err(not_null(table.schema().field(*column).name(), name));
        }
    }
    Ok(())
}

/// Checks that the batches which a change has added to a table in memory are of the types of its columns. `before` are the
/// numbers of batches of each partition before the change.
///
/// # Errors
/// 42804 if a column has values of another type.
pub(crate) fn check_types(table: &dyn TableProvider, before: &[usize]) -> Result<(), SqlError> {
    let schema = table.schema();
    let mut before = before.iter();
    let wrong = of_partitions(table, |batches| {
        let added = batches.get(before.next().copied().unwrap_or(0)..).unwrap_or_default();
        let mut columns = added.iter().flat_map(|batch| schema.fields().iter().zip(batch.columns()));
        let wrong = columns.find(|(field, column)| !is_alike(field.data_type(), column.data_type()));
        wrong.map(|(field, column)| (Arc::clone(field), column.data_type().clone()))
    });
    let Some((field, found)) = wrong.into_iter().flatten().next() else { return Ok(()) };
    let name = |kind: &DataType| column::pg_type(kind).map_or_else(|| kind.to_string(), |kind| decode::name(&kind));
    let (wanted, found) = (name(field.data_type()), name(&found));
    let message = format!("column \"{}\" is of type {wanted} but expression is of type {found}", field.name());
    Err(SqlError::error("42804", message))
}

/// Returns true if values are of one type; names in it, and where it has no NULL, do not matter.
fn is_alike(one: &DataType, other: &DataType) -> bool {
    match (one, other) {
        (DataType::List(one), DataType::List(other)) => is_alike(one.data_type(), other.data_type()),
        (DataType::Struct(one), DataType::Struct(other)) => {
            let fields = || one.iter().zip(other.iter());
            one.len() == other.len() && fields().all(|(one, other)| is_alike(one.data_type(), other.data_type()))
        }
        _ => one == other,
    }
}

/// Gives an error of a NULL in a column that may have none the words of Postgres.
pub(crate) fn named(error: SqlError, table: &dyn TableProvider, name: &str) -> SqlError {
    let schema = table.schema();
    // DataFusion names the place of the column, Arrow none.
    let place = error.message.split_once("Invalid batch column at '").and_then(|(_, rest)| rest.split_once('\''));
    if let Some((place, rest)) = place
        && rest.contains("has null but schema specifies non-nullable")
        && let Some(field) = place.parse().ok().and_then(|place: usize| schema.fields().get(place))
    {
        return not_null(field.name(), name);
    }
    if !error.message.contains("declared as non-nullable but contains null values") {
        return error;
    }
    let required: Vec<_> = schema.fields().iter().filter(|field| !field.is_nullable()).collect();
    match required.as_slice() {
        [column] => not_null(column.name(), name),
        columns => {
            let names: Vec<_> = columns.iter().map(|column| column.name().as_str()).collect();
            let message = format!("null value in a column of relation \"{name}\" violates not-null constraint");
            SqlError::error("23502", message).with_hint(format!("NOT NULL are: {}.", names.join(", ")))
        }
    }
}

/// Returns the error of a NULL in a column that has none.
pub(super) fn not_null(column: &str, table: &str) -> SqlError {
    let message = format!("null value in column \"{column}\" of relation \"{table}\" violates not-null constraint");
    SqlError::error("23502", message)
}

/// Returns true if no two rows without NULL are equal in these columns.
pub(super) fn are_unique(batches: &[RecordBatch], columns: &[usize]) -> Result<bool, SqlError> {
    let Some(first) = batches.first() else { return Ok(true) };
    let fields = columns.iter().map(|column| SortField::new(first.column(*column).data_type().clone()));
    let converter = RowConverter::new(fields.collect()).map_err(datafusion::error::DataFusionError::from)?;
    let mut all = Vec::with_capacity(batches.len());
    for batch in batches {
        let keys: Vec<_> = columns.iter().map(|column| without_signed_zeros(batch.column(*column))).collect();
        all.push((converter.convert_columns(&keys).map_err(datafusion::error::DataFusionError::from)?, keys));
    }
    let mut seen = HashSet::new();
    for (rows, keys) in &all {
        for (index, row) in rows.iter().enumerate() {
            if keys.iter().all(|key| key.is_valid(index)) && !seen.insert(row) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Makes -0 a 0, which it is equal to, and every NaN the same.
pub(super) fn without_signed_zeros(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float32 => {
            let value = |value: f32| if value.is_nan() { f32::NAN } else { value + 0.0 };
            Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(value))
        }
        DataType::Float64 => {
            let value = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
            Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(value))
        }
        _ => Arc::clone(column),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Float64Array, Int32Array, StringArray};
    use datafusion::arrow::datatypes::{Field, Schema};
    use datafusion::common::Constraints;
    use datafusion::datasource::MemTable;

    use super::*;

    /// Returns the SQLSTATE of a table of a number, a text and an integer, with a row in each batch.
    fn checked(rows: &[(Option<f64>, Option<&str>, i32)], constraint: Constraint) -> Option<String> {
        let fields = [("a", DataType::Float64), ("b", DataType::Utf8), ("c", DataType::Int32)];
        let schema = Arc::new(Schema::new(fields.map(|(name, kind)| Field::new(name, kind, true)).to_vec()));
        let batch = |&(a, b, c): &(Option<f64>, Option<&str>, i32)| {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Float64Array::from(vec![a])),
                Arc::new(StringArray::from(vec![b])),
                Arc::new(Int32Array::from(vec![c])),
            ];
            RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
        };
        let table = MemTable::try_new(Arc::clone(&schema), vec![rows.iter().map(batch).collect(), Vec::new()]).unwrap();
        let table = table.with_constraints(Constraints::new_unverified(vec![constraint]));
        check(&table, "t").err().map(|error| error.sqlstate.into_owned())
    }

    #[test]
    fn batches_have_the_types_of_the_table() {
        let batch = |column: ArrayRef| RecordBatch::try_from_iter_with_nullable([("a", column, true)]).unwrap();
        let number = batch(Arc::new(Int32Array::from(vec![1])));
        let table = MemTable::try_new(number.schema(), vec![vec![number.clone()], Vec::new()]).unwrap();
        let put = |partition: usize, batch: RecordBatch| table.batches[partition].try_write().unwrap().push(batch);
        assert!(check_types(&table, &[0, 0]).is_ok());
        put(1, number);
        assert!(check_types(&table, &[1, 0]).is_ok());
        put(1, batch(Arc::new(StringArray::from(vec!["x"]))));
        let error = check_types(&table, &[1, 1]).unwrap_err();
        assert_eq!(error.message, "column \"a\" is of type integer but expression is of type text");
        assert!(check_types(&table, &[1, 2]).is_ok());
    }

    #[test]
    fn keys_are_unique() {
        let rows = [(Some(1.0), Some("x"), 1), (Some(1.0), Some("y"), 1), (Some(2.0), None, 1), (Some(2.0), None, 1)];
        assert_eq!(checked(&rows, Constraint::Unique(vec![0, 1])), None);
        assert_eq!(checked(&rows, Constraint::Unique(vec![0])).as_deref(), Some("23505"));
        assert_eq!(checked(&rows, Constraint::PrimaryKey(vec![0, 1])).as_deref(), Some("23502"));
        assert_eq!(checked(&rows[..2], Constraint::PrimaryKey(vec![1])), None);
        assert_eq!(checked(&rows[..2], Constraint::PrimaryKey(vec![2])).as_deref(), Some("23505"));
        assert_eq!(checked(&[], Constraint::PrimaryKey(vec![2])), None);
        let zeros = [(Some(0.0), None, 1), (Some(-0.0), None, 2)];
        assert_eq!(checked(&zeros, Constraint::Unique(vec![0])).as_deref(), Some("23505"));
    }
}
