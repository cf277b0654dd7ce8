//! Functions of values that clients call: bytes and encodings, intervals, and the number of the transaction.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int32Array, IntervalMonthDayNanoArray, StringArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Field, FieldRef, Float64Type, Int32Type, IntervalMonthDayNano, IntervalUnit,
};
use datafusion::error::Result;
use datafusion::logical_expr::ptr_eq::PtrEq;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;

use crate::decode;
use crate::encode::column;
use crate::session::settings::Settings;
use crate::session::transaction::TransactionNumber;
use crate::wire::encodings::Encoding;
use crate::wire::error_response::{SqlError, external};

/// Registers functions that answer every connection alike.
pub(super) fn register(context: &SessionContext) {
    for kind in [Kind::SetByte, Kind::GetByte, Kind::ConvertFrom, Kind::ConvertTo, Kind::MakeInterval] {
        let signature = Signature::user_defined(Volatility::Immutable);
        context.register_udf(ScalarUDF::from(ValueFunction { kind, signature }));
    }
}

/// Registers functions that answer for one connection.
pub(crate) fn register_session(context: &SessionContext, settings: &Arc<Mutex<Settings>>, number: &TransactionNumber) {
    let signature = Signature::new(TypeSignature::Nullary, Volatility::Volatile);
    context.register_udf(ScalarUDF::from(TransactionId { number: number.clone(), signature: signature.clone() }));
    context.register_udf(ScalarUDF::from(ClientEncoding { settings: PtrEq::from(Arc::clone(settings)), signature }));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// `set_byte(bytea, n, value)`
    SetByte,
    /// `get_byte(bytea, n)`
    GetByte,
    /// `convert_from(bytea, encoding)`
    ConvertFrom,
    /// `convert_to(text, encoding)`
    ConvertTo,
    /// `make_interval(years, months, weeks, days, hours, mins, secs)`
    MakeInterval,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ValueFunction {
    kind: Kind,
    signature: Signature,
}

impl ValueFunction {
    fn types(&self) -> Vec<DataType> {
        use DataType::{Binary, Float64, Int32, Utf8};
        match self.kind {
            Kind::SetByte => vec![Binary, Int32, Int32],
            Kind::GetByte => vec![Binary, Int32],
            Kind::ConvertFrom => vec![Binary, Utf8],
            Kind::ConvertTo => vec![Utf8, Utf8],
            Kind::MakeInterval => vec![Int32, Int32, Int32, Int32, Int32, Int32, Float64],
        }
    }
}

impl ScalarUDFImpl for ValueFunction {
    fn name(&self) -> &str {
        match self.kind {
            Kind::SetByte => "set_byte",
            Kind::GetByte => "get_byte",
            Kind::ConvertFrom => "convert_from",
            Kind::ConvertTo => "convert_to",
            Kind::MakeInterval => "make_interval",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::SetByte | Kind::ConvertTo => DataType::Binary,
            Kind::GetByte => DataType::Int32,
            Kind::ConvertFrom => DataType::Utf8,
            Kind::MakeInterval => DataType::Interval(IntervalUnit::MonthDayNano),
        })
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), self.return_type(&[])?, true)))
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let wanted = self.types();
        let fits = |(given, wanted): (&DataType, &DataType)| match wanted {
            DataType::Int32 => given.is_integer() || given.is_null(),
            DataType::Float64 => given.is_numeric() || given.is_null(),
            DataType::Binary => given.is_binary() || given.is_string() || given.is_null(),
            _ => given.is_string() || given.is_null(),
        };
        if given.len() == wanted.len() && given.iter().zip(&wanted).all(fits) {
            return Ok(wanted);
        }
        let missing = SqlError::error("42883", format!("function {} does not exist with these arguments", self.name()));
        Err(external(missing))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let columns = args.args.iter().zip(self.types()).map(|(arg, wanted)| Ok(cast(&arg.to_array(rows)?, &wanted)?));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let found = self.compute(&columns, rows)?;
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?),
            false => ColumnarValue::Array(found),
        })
    }
}

impl ValueFunction {
    fn compute(&self, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let is_valid = |row: usize| columns.iter().all(|column| column.is_valid(row));
        let valid: Vec<Option<usize>> = (0..rows).map(|row| is_valid(row).then_some(row)).collect();
        let rows = valid.iter().copied();
        let bytes = |row: usize| columns[0].as_binary::<i32>().value(row);
        let number = |place: usize, row: usize| columns[place].as_primitive::<Int32Type>().value(row);
        let encoding = |row: usize| columns[1].as_string::<i32>().value(row);
        Ok(match self.kind {
            Kind::SetByte => {
                let each = |row: usize| {
                    let mut bytes = bytes(row).to_vec();
                    // Of the number no more than eight bits count.
                    *bytes_at(&mut bytes, number(1, row))? = number(2, row) as u8;
                    Ok(bytes)
                };
                let found = rows.map(|row| row.map(each).transpose()).collect::<Result<Vec<_>>>()?;
                Arc::new(found.iter().map(|value| value.as_deref()).collect::<BinaryArray>())
            }
            Kind::GetByte => {
                let each = |row: usize| Ok(i32::from(*bytes_at(&mut bytes(row).to_vec(), number(1, row))?));
                Arc::new(rows.map(|row| row.map(each).transpose()).collect::<Result<Int32Array>>()?)
            }
            Kind::ConvertFrom => {
                let each = |row: usize| text_of(bytes(row), encoding(row)).map_err(external);
                Arc::new(rows.map(|row| row.map(each).transpose()).collect::<Result<StringArray>>()?)
            }
            Kind::ConvertTo => {
                let each = |row: usize| {
                    let encoding = named("destination", encoding(row))?;
                    let text = columns[0].as_string::<i32>().value(row);
                    Ok::<_, SqlError>(encoding.of_utf8(text.as_bytes())?.into_owned())
                };
                let each = |row: usize| each(row).map_err(external);
                let found = rows.map(|row| row.map(each).transpose()).collect::<Result<Vec<_>>>()?;
                Arc::new(found.iter().map(|value| value.as_deref()).collect::<BinaryArray>())
            }
            Kind::MakeInterval => {
                let each = |row: usize| {
                    let seconds = columns[6].as_primitive::<Float64Type>().value(row);
                    let found = interval(std::array::from_fn(|place| number(place, row)), seconds);
                    found.ok_or_else(|| external(SqlError::error("22008", "interval out of range")))
                };
                Arc::new(rows.map(|row| row.map(each).transpose()).collect::<Result<IntervalMonthDayNanoArray>>()?)
            }
        })
    }
}

/// Returns the n-th byte.
fn bytes_at(bytes: &mut [u8], place: i32) -> Result<&mut u8> {
    let last = bytes.len() as i64 - 1;
    let out = move || external(SqlError::error("2202E", format!("index {place} out of valid range, 0..{last}")));
    usize::try_from(place).ok().and_then(|place| bytes.get_mut(place)).ok_or_else(out)
}

fn named(what: &str, name: &str) -> Result<Encoding, SqlError> {
    Encoding::named(name).ok_or_else(|| SqlError::error("22023", format!("invalid {what} encoding name \"{name}\"")))
}

/// Returns the text that bytes are in an encoding.
fn text_of(bytes: &[u8], name: &str) -> Result<String, SqlError> {
    let encoding = named("source", name)?;
    if bytes.contains(&0) {
        let message = format!("invalid byte sequence for encoding \"{}\": 0x00", encoding.name());
        return Err(SqlError::error("22021", message));
    }
    let bytes = encoding.to_utf8(bytes)?;
    let text = decode::decode(&Type::TEXT, decode::Form::Text, Some(&bytes), "UTC")?;
    Ok(text.try_as_str().flatten().unwrap_or_default().to_owned())
}

/// Returns an interval; `None` if it is out of range.
fn interval([years, months, weeks, days, hours, minutes]: [i32; 6], seconds: f64) -> Option<IntervalMonthDayNano> {
    const MICROS: i64 = 1_000_000;
    let micros = (seconds * MICROS as f64).round_ties_even();
    if micros.is_nan() || micros.abs() >= 9e18 {
        return None;
    }
    let time = (i64::from(hours) * 60 + i64::from(minutes)) * 60 * MICROS;
    Some(IntervalMonthDayNano::new(
        years.checked_mul(12)?.checked_add(months)?,
        weeks.checked_mul(7)?.checked_add(days)?,
        time.checked_add(micros as i64)?.checked_mul(1000)?,
    ))
}

/// `txid_current()`.
#[derive(Debug)]
struct TransactionId {
    number: TransactionNumber,
    signature: Signature,
}

// The functions of one session are compared with each other.
impl PartialEq for TransactionId {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
    }
}

impl Eq for TransactionId {}

impl Hash for TransactionId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.hash(state);
    }
}

impl ScalarUDFImpl for TransactionId {
    fn name(&self) -> &str {
        "txid_current"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(ScalarValue::Int64(Some(self.number.get()))))
    }
}

/// `pg_client_encoding()`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ClientEncoding {
    settings: PtrEq<Arc<Mutex<Settings>>>,
    signature: Signature,
}

impl ScalarUDFImpl for ClientEncoding {
    fn name(&self) -> &str {
        "pg_client_encoding"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, true).with_metadata(column::mark(&Type::NAME))))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let encoding = self.settings.lock().unwrap_or_else(PoisonError::into_inner).encoding();
        Ok(ColumnarValue::Scalar(ScalarValue::from(encoding.name())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with values of PostgreSQL 15.
    #[test]
    fn intervals_are_made() {
        const HOUR: i64 = 3_600_000_000_000;
        assert_eq!(
            interval([1, 2, 3, 4, 5, 6], 7.5),
            Some(IntervalMonthDayNano::new(14, 25, 5 * HOUR + 367_500_000_000))
        );
        assert_eq!(interval([0; 6], f64::NAN), None);
        assert_eq!(interval([0; 6], f64::INFINITY), None);
        assert_eq!(interval([i32::MAX, 0, 0, 0, 0, 0], 0.0), None);
    }

    #[test]
    fn bytes_are_texts() {
        assert_eq!(text_of(b"a\xe9", "latin1").unwrap(), "aé");
        for (bytes, name, sqlstate) in [
            (&b"\xff"[..], "utf8", "22021"),
            (b"\0", "utf8", "22021"),
            (b"a", "wat", "22023"),
            (b"\x81", "win1252", "22P05"),
        ] {
            assert_eq!(text_of(bytes, name).unwrap_err().sqlstate, sqlstate);
        }
        assert!(bytes_at(&mut [1, 2], 2).is_err() && bytes_at(&mut [], 0).is_err());
    }
}
