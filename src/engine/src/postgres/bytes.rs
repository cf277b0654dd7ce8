//! `substr`, `length` and `octet_length` of `bytea`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int32Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::functions::nullable_field;
use super::refusal::{refusal, type_name};

/// A function that DataFusion has for text only.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ByteaFunction {
    function: Arc<ScalarUDF>,
    signature: Signature,
}

impl ByteaFunction {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function, signature: Signature::user_defined(Volatility::Immutable) })
    }
}

/// Returns true for a function that counts bytes; `character_length` is that of texts and `length` of both.
fn is_count(name: &str) -> bool {
    matches!(name, "octet_length" | "character_length")
}

/// Returns the bytes from a position on, counted from 1.
fn part(bytes: &[u8], start: i64, length: Option<i64>) -> Result<&[u8]> {
    if length.is_some_and(|length| length < 0) {
        return Err(refusal("22011", "negative substring length not allowed"));
    }
    let end = length.map_or(i64::MAX, |length| start.saturating_add(length));
    let place = |from_one: i64| usize::try_from(from_one.max(1) - 1).unwrap_or(usize::MAX).min(bytes.len());
    Ok(&bytes[place(start)..place(end).max(place(start))])
}

impl ScalarUDFImpl for ByteaFunction {
    delegate!(name, aliases, documentation, is_strict);

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        if let [DataType::Binary, numbers @ ..] = arguments {
            let is_number = |it: &DataType| it.is_integer() || *it == DataType::Null;
            let wanted = if is_count(self.name()) { 0..=0 } else { 1..=2 };
            if wanted.contains(&numbers.len()) && numbers.iter().all(is_number) {
                let numbers = std::iter::repeat_n(DataType::Int64, numbers.len());
                return Ok(std::iter::once(DataType::Binary).chain(numbers).collect());
            }
            return Err(refusal("42883", format!("function {}(bytea, …) does not exist", self.name())));
        }
        let is_text = |it: &DataType| matches!(it, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        if let [_, pattern, ..] = arguments
            && is_text(pattern)
        {
            let message = "substring(text FROM pattern) is not supported; use (regexp_match(text, pattern))[1]";
            return Err(refusal("0A000", message));
        }
        let fields: Vec<_> =
            arguments.iter().map(|it| Arc::new(Field::new("", it.clone(), true)) as FieldRef).collect();
        let coerced = fields_with_udf(&fields, self.function.as_ref()).map_err(|_| {
            let types: Vec<_> = arguments.iter().map(type_name).collect();
            refusal("42883", format!("function {}({}) does not exist", self.name(), types.join(", ")))
        })?;
        Ok(coerced.iter().map(|field| field.data_type().clone()).collect())
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match (arguments.first(), self.name()) {
            (Some(DataType::Binary), name) if is_count(name) => Ok(DataType::Int32),
            (Some(DataType::Binary), _) => Ok(DataType::Binary),
            _ => self.function.return_type(arguments),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields.first().map(|field| field.data_type()) {
            Some(DataType::Binary) => nullable_field(self, &args),
            _ => self.function.return_field_from_args(args),
        }
    }

    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(ExprSimplifyResult::Original(args))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if args.args[0].data_type() != DataType::Binary {
            return self.function.invoke_with_args(args);
        }
        let is_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let values = args.args.iter().map(|argument| argument.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let texts = values[0].as_binary::<i32>();
        let found: ArrayRef = match &values[1..] {
            [] => Arc::new(
                texts
                    .iter()
                    .map(|bytes| bytes.and_then(|bytes| i32::try_from(bytes.len()).ok()))
                    .collect::<Int32Array>(),
            ),
            numbers => {
                let number = |place: usize, row: usize| {
                    numbers
                        .get(place)
                        .map(|numbers| numbers.as_primitive::<Int64Type>())
                        .map(|numbers| numbers.is_valid(row).then(|| numbers.value(row)))
                };
                let each = |row: usize| match (number(0, row), number(1, row)) {
                    (Some(Some(start)), length) if texts.is_valid(row) && length != Some(None) => {
                        part(texts.value(row), start, length.flatten()).map(Some)
                    }
                    _ => Ok(None),
                };
                Arc::new((0..rows).map(each).collect::<Result<Vec<_>>>()?.into_iter().collect::<BinaryArray>())
            }
        };
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

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn parts_are_counted_from_one() {
        let of = |start, length| part(b"abcd", start, length).unwrap();
        assert_eq!(of(2, Some(2)), b"bc");
        assert_eq!(of(0, Some(2)), b"a");
        assert_eq!(of(-1, Some(2)), b"");
        assert_eq!(of(3, None), b"cd");
        assert_eq!(of(9, Some(1)), b"");
        assert!(part(b"abcd", 1, Some(-1)).is_err());
    }
}
