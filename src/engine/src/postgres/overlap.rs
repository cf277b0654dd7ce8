//! `&&` of arrays, and the functions of Postgres that count NULLs, name dimensions and give signs.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, FieldRef, Float64Type};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};
use datafusion::scalar::ScalarValue;

use super::functions::nullable_field;
use super::refusal::{refusal, type_name};
use super::removals::without_nulls;

/// Returns `left && right` as a call of a function.
pub(super) fn overlap(any: &Arc<ScalarUDF>, left: Expr, right: Expr) -> Expr {
    let function =
        Function { kind: Kind::Overlap(Arc::clone(any)), signature: Signature::any(2, Volatility::Immutable) };
    ScalarUDF::from(function).call(vec![left, right])
}

/// Returns the functions that are called by their names.
pub(super) fn functions() -> Vec<ScalarUDF> {
    let one = Signature::any(1, Volatility::Immutable);
    let several = Signature::one_of(vec![TypeSignature::VariadicAny], Volatility::Immutable);
    let signs = Signature::user_defined(Volatility::Immutable);
    [(Kind::Nulls, &several), (Kind::NonNulls, &several), (Kind::Dimensions, &one), (Kind::Sign, &signs)]
        .into_iter()
        .map(|(kind, signature)| ScalarUDF::from(Function { kind, signature: signature.clone() }))
        .collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// With DataFusion's function for arrays without NULLs.
    Overlap(Arc<ScalarUDF>),
    Nulls,
    NonNulls,
    Dimensions,
    Sign,
}

/// Type of the sign of a `numeric`: it has no digits after the point, as in PostgreSQL.
const SIGN: DataType = DataType::Decimal128(1, 0);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    kind: Kind,
    signature: Signature,
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Overlap(_) => "pg_overlap",
            Kind::Nulls => "num_nulls",
            Kind::NonNulls => "num_nonnulls",
            Kind::Dimensions => "pg_array_dims",
            Kind::Sign => "sign",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match arguments {
            [number @ (DataType::Decimal128(..) | DataType::Float64)] => Ok(vec![number.clone()]),
            [number] if number.is_numeric() || *number == DataType::Null => Ok(vec![DataType::Float64]),
            _ => Err(refusal("42883", format!("function {} does not exist for these arguments", self.name()))),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match self.kind {
            Kind::Overlap(_) => {
                let [left, right] = arguments else { return exec_err!("{} takes two arguments", self.name()) };
                match (left, right) {
                    (DataType::List(item), _) | (_, DataType::List(item)) if item.data_type().is_nested() => {
                        return Err(refusal("0A000", "&& of arrays of arrays is not supported"));
                    }
                    (DataType::List(left), DataType::List(right)) if left.data_type() == right.data_type() => {}
                    (DataType::List(_) | DataType::Null, DataType::Null) | (DataType::Null, DataType::List(_)) => {}
                    _ => {
                        let types = format!("{} && {}", type_name(left), type_name(right));
                        return Err(refusal("42883", format!("operator does not exist: {types}")));
                    }
                }
                Ok(DataType::Boolean)
            }
            Kind::Nulls | Kind::NonNulls => Ok(DataType::Int32),
            Kind::Dimensions => match &arguments[0] {
                DataType::List(_) | DataType::Null => Ok(DataType::Utf8),
                other => Err(refusal("42883", format!("function array_dims({}) does not exist", type_name(other)))),
            },
            Kind::Sign => match &arguments[0] {
                DataType::Decimal128(..) => Ok(SIGN),
                other => Ok(other.clone()),
            },
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        nullable_field(self, &args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let values = args.args.iter().map(|argument| argument.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let found: ArrayRef = match &self.kind {
            Kind::Overlap(any) => overlapping(any, &values, rows, args)?,
            Kind::Nulls | Kind::NonNulls => {
                let count = |row: usize| {
                    let is_null = |value: &&ArrayRef| value.logical_nulls().is_some_and(|nulls| nulls.is_null(row));
                    let nulls = values.iter().filter(is_null).count();
                    let found = if self.kind == Kind::Nulls { nulls } else { values.len() - nulls };
                    // A call has not so many arguments.
                    found as i32
                };
                Arc::new((0..rows).map(|row| Some(count(row))).collect::<Int32Array>())
            }
            Kind::Dimensions => {
                let text = |row: usize| {
                    let mut text = String::new();
                    let mut inner = values[0].slice(row, 1);
                    while let Some(lists) = inner.as_list_opt::<i32>() {
                        if lists.is_empty() || lists.is_null(0) {
                            return None;
                        }
                        inner = lists.value(0);
                        if inner.is_empty() {
                            return None;
                        }
                        text.push_str(&format!("[1:{}]", inner.len()));
                    }
                    Some(text).filter(|text| !text.is_empty())
                };
                Arc::new((0..rows).map(text).collect::<StringArray>())
            }
            Kind::Sign => match values[0].data_type() {
                DataType::Decimal128(..) => {
                    let signs = values[0].as_primitive::<Decimal128Type>();
                    Arc::new(signs.unary::<_, Decimal128Type>(i128::signum).with_data_type(SIGN))
                }
                _ => {
                    let sign = |number: f64| f64::from(i8::from(number > 0.0) - i8::from(number < 0.0));
                    Arc::new(values[0].as_primitive::<Float64Type>().unary::<_, Float64Type>(sign))
                }
            },
        };
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)
        } else {
            ColumnarValue::Array(found)
        })
    }
}

/// Computes `&&`: NULL if an array is; a NULL in one is in no other.
fn overlapping(any: &ScalarUDF, values: &[ArrayRef], rows: usize, args: ScalarFunctionArgs) -> Result<ArrayRef> {
    let [Some(left), Some(right)] = [values[0].as_list_opt::<i32>(), values[1].as_list_opt::<i32>()] else {
        return ScalarValue::Boolean(None).to_array_of_size(rows);
    };
    let sides = [without_nulls(left)?, without_nulls(right)?];
    let args = ScalarFunctionArgs { args: sides.map(ColumnarValue::Array).to_vec(), number_rows: rows, ..args };
    let found = any.invoke_with_args(args)?.into_array(rows)?;
    let found = found.as_boolean();
    let answer =
        |row: usize| (left.is_valid(row) && right.is_valid(row)).then(|| found.is_valid(row) && found.value(row));
    Ok(Arc::new((0..rows).map(answer).collect::<BooleanArray>()))
}
