//! Arrays of arrays: lists of lists in Arrow, arrays of several dimensions in Postgres.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion_postgres::arrow_pg::datatypes::field_into_pg_type;
use datafusion_postgres::pgwire::api::Type;

/// Returns the type of the elements of an array of arrays, however deep; `None` if it is something else.
pub(crate) fn elements(data_type: &DataType) -> Option<&DataType> {
    let DataType::List(item) = data_type else { return None };
    let mut found = item.data_type();
    if !matches!(found, DataType::List(_)) {
        return None;
    }
    while let DataType::List(item) = found {
        found = item.data_type();
    }
    Some(found)
}

/// Returns the type as which such an array is sent: Postgres' types have no number of dimensions.
pub(crate) fn flat(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(element, true)))
}

/// Returns the values as text, or in the binary form of arrays.
///
/// # Errors
/// Returns an error if arrays within an array are not of one length, or if the elements have no binary form here.
pub(crate) fn encoded(column: &ArrayRef, is_binary: bool) -> Result<ArrayRef> {
    let shapes = (0..column.len()).map(|row| {
        let mut shape = Vec::new();
        if column.is_valid(row) {
            measure(&column.as_list::<i32>().value(row), 0, &mut shape)?;
        }
        Ok(shape)
    });
    let shapes = shapes.collect::<Result<Vec<_>>>()?;
    let Some(element) = elements(column.data_type()).filter(|_| is_binary) else {
        return neuroql::array_texts(column);
    };
    let values = shapes.iter().enumerate().map(|(row, shape)| {
        let value = column.is_valid(row).then(|| column.as_list::<i32>().value(row));
        value.map(|value| binary(&value, shape, element)).transpose()
    });
    let values = values.collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(values.iter().map(|value| value.as_deref()).collect::<BinaryArray>()))
}

/// Refuses arrays of arrays of dates and moments, which are written as in ISO.
///
/// # Errors
/// 0A000.
pub(crate) fn check_elements(data_type: &DataType) -> Result<()> {
    match elements(data_type) {
        Some(DataType::Date32 | DataType::Timestamp(..)) => {
            let message = "arrays of arrays of dates and timestamps are supported while DateStyle is ISO only";
            Err(neuroql::Refusal::error("0A000", message))
        }
        _ => Ok(()),
    }
}

/// Measures the lengths of an array and those in it, which must be the same for all that are equally deep.
fn measure(array: &ArrayRef, depth: usize, shape: &mut Vec<usize>) -> Result<()> {
    match shape.get(depth) {
        None => shape.push(array.len()),
        Some(length) if *length == array.len() => {}
        Some(_) => return Err(ragged()),
    }
    if let Some(lists) = array.as_list_opt::<i32>() {
        if lists.null_count() > 0 {
            return Err(ragged());
        }
        for row in 0..lists.len() {
            measure(&lists.value(row), depth + 1, shape)?;
        }
    }
    Ok(())
}

fn ragged() -> DataFusionError {
    neuroql::Refusal::error("2202E", "multidimensional arrays must have array expressions with matching dimensions")
}

/// Returns the binary form of `array_send` of Postgres.
fn binary(array: &ArrayRef, shape: &[usize], element: &DataType) -> Result<Vec<u8>> {
    let mut items = Vec::new();
    let has_null = push_items(array, &mut items)?;
    let number = |value: usize| i32::try_from(value).unwrap_or(i32::MAX).to_be_bytes();
    let element = match neuroql::is_uuid(element) {
        true => Type::UUID,
        false => field_into_pg_type(&Arc::new(Field::new("", element.clone(), true)))
            .map_err(|error| DataFusionError::External(Box::new(error)))?,
    };
    let element = element.oid();
    // An array without elements has no dimensions.
    let shape = if shape.contains(&0) { &[] } else { shape };
    let mut bytes = number(shape.len()).to_vec();
    bytes.extend(i32::from(has_null).to_be_bytes());
    bytes.extend(element.to_be_bytes());
    for length in shape {
        bytes.extend(number(*length));
        bytes.extend(1i32.to_be_bytes());
    }
    bytes.extend(items);
    Ok(bytes)
}

/// Appends the elements, each after its length; returns true if there is a NULL.
fn push_items(array: &ArrayRef, bytes: &mut Vec<u8>) -> Result<bool> {
    if let Some(lists) = array.as_list_opt::<i32>() {
        let mut has_null = false;
        for row in 0..lists.len() {
            has_null |= push_items(&lists.value(row), bytes)?;
        }
        return Ok(has_null);
    }
    for row in 0..array.len() {
        if array.is_null(row) {
            bytes.extend((-1i32).to_be_bytes());
            continue;
        }
        let value: Vec<u8> = match array.data_type() {
            DataType::Boolean => vec![u8::from(array.as_boolean().value(row))],
            DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_be_bytes().into(),
            DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_be_bytes().into(),
            DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_be_bytes().into(),
            DataType::Float32 => array.as_primitive::<Float32Type>().value(row).to_be_bytes().into(),
            DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_be_bytes().into(),
            DataType::Utf8 => array.as_string::<i32>().value(row).as_bytes().into(),
            DataType::Binary => array.as_binary::<i32>().value(row).into(),
            uuid if neuroql::is_uuid(uuid) => array.as_fixed_size_binary().value(row).into(),
            other => {
                let message =
                    format!("arrays of arrays of {other} cannot be sent in the binary format; cast them to text");
                return Err(neuroql::Refusal::error("0A000", message));
            }
        };
        bytes.extend(i32::try_from(value.len()).unwrap_or(i32::MAX).to_be_bytes());
        bytes.extend(value);
    }
    Ok(array.null_count() > 0)
}
