//! `+`, `-`, `*`, `/`, `%` and unary minus that fail where Postgres does, instead of wrapping or answering infinity.

use std::hash::Hash;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{
    DataType, Field, FieldRef, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
};
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::names;
use super::refusal::{out_of_range, refusal};

/// Returns true if the results of arithmetic on this type are checked.
pub(super) fn is_checked(data_type: &DataType) -> bool {
    use DataType::{Float32, Float64, Int16, Int32, Int64};
    matches!(data_type, Int16 | Int32 | Int64 | Float32 | Float64)
}

/// Returns an operator as a function of two values of the same type; `None` if it is not arithmetic.
pub(super) fn checked(operator: Operator) -> Option<Arc<ScalarUDF>> {
    use Operator::{Divide, Minus, Modulo, Multiply, Plus};
    matches!(operator, Plus | Minus | Multiply | Divide | Modulo).then(|| {
        Arc::new(ScalarUDF::from(Arithmetic { operator, signature: Signature::any(2, Volatility::Immutable) }))
    })
}

/// Returns unary minus as a function.
pub(super) fn checked_negation() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(Negation { signature: Signature::any(1, Volatility::Immutable) }))
}

/// Returns true if this is a division or a remainder, which a condition beside it may guard.
pub(super) fn is_division(function: &ScalarUDF) -> bool {
    let arithmetic = function.inner().downcast_ref::<Arithmetic>();
    arithmetic.is_some_and(|it| matches!(it.operator, Operator::Divide | Operator::Modulo))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Arithmetic {
    operator: Operator,
    signature: Signature,
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        match self.operator {
            Operator::Plus => "pg_plus",
            Operator::Minus => "pg_minus",
            Operator::Multiply => "pg_times",
            Operator::Divide => "pg_divide",
            _ => "pg_modulo",
        }
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        names::operation(self.name(), self.operator, args)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        same_type(self.name(), &args)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = &args.args[..] else { return exec_err!("{} takes two arguments", self.name()) };
        // The optimizer asks what becomes of NULL, which has no type then.
        if left.data_type().is_null() || right.data_type().is_null() {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(args.return_field.data_type())?));
        }
        match args.return_field.data_type() {
            DataType::Int16 => integers::<Int16Type>(self.operator, left, right, args.number_rows),
            DataType::Int32 => integers::<Int32Type>(self.operator, left, right, args.number_rows),
            DataType::Int64 => integers::<Int64Type>(self.operator, left, right, args.number_rows),
            DataType::Float32 => floats::<Float32Type>(self.operator, left, right, args.number_rows),
            DataType::Float64 => floats::<Float64Type>(self.operator, left, right, args.number_rows),
            other => exec_err!("{} of {other}", self.name()),
        }
    }
}

/// Returns the field of a result: of the type of the first argument, and nullable, because the optimizer leaves out what
/// cannot be NULL where only that matters, and its error with it.
fn same_type(name: &str, args: &ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, args.arg_fields[0].data_type().clone(), true)))
}

/// Arithmetic of an integer type.
trait Integer: ArrowPrimitiveType {
    fn apply(operator: Operator, left: Self::Native, right: Self::Native) -> (Self::Native, bool);
}

macro_rules! integer {
    ($type:ty, $native:ty) => {
        impl Integer for $type {
            #[inline(always)]
            fn apply(operator: Operator, left: $native, right: $native) -> ($native, bool) {
                match operator {
                    // The sign is wrong only after an overflow; unlike `overflowing_add` this is done for many at once.
                    Operator::Plus => {
                        let sum = left.wrapping_add(right);
                        (sum, (left ^ sum) & (right ^ sum) < 0)
                    }
                    Operator::Minus => {
                        let difference = left.wrapping_sub(right);
                        (difference, (left ^ right) & (left ^ difference) < 0)
                    }
                    Operator::Multiply => left.overflowing_mul(right),
                    Operator::Divide if right == 0 => (0, true),
                    Operator::Divide => left.overflowing_div(right),
                    _ if right == 0 => (0, true),
                    // The least integer modulo -1 is 0, without an error.
                    _ => (left.wrapping_rem(right), false),
                }
            }
        }
    };
}

integer!(Int16Type, i16);
integer!(Int32Type, i32);
integer!(Int64Type, i64);

fn integers<T: Integer>(
    operator: Operator,
    left: &ColumnarValue,
    right: &ColumnarValue,
    rows: usize,
) -> Result<ColumnarValue>
where
    T::Native: Default + PartialEq,
{
    // One loop an operator, so that the compiler sees which.
    macro_rules! each {
        ($($operator:ident),*) => {
            match operator {
                $(Operator::$operator => {
                    let apply = |a, b| T::apply(Operator::$operator, a, b);
                    each_row::<T>(left, right, rows, apply, |a, b| apply(a, b).1)
                })*
                other => return exec_err!("{other} is not arithmetic"),
            }
        };
    }
    let found = each!(Plus, Minus, Multiply, Divide, Modulo);
    found.map_err(|(_, divisor)| {
        let divides = matches!(operator, Operator::Divide | Operator::Modulo);
        if divides && divisor == T::Native::default() { by_zero() } else { out_of_range(&T::DATA_TYPE) }
    })
}

/// Arithmetic of a floating-point type.
trait Float: ArrowPrimitiveType {
    /// Computes the result, and true if it may have failed: a test so cheap that all rows can have it.
    fn apply(operator: Operator, left: Self::Native, right: Self::Native) -> (Self::Native, bool);

    fn fails(operator: Operator, left: Self::Native, right: Self::Native) -> bool;

    fn error(operator: Operator, left: Self::Native, right: Self::Native) -> DataFusionError;
}

macro_rules! float {
    ($type:ty, $native:ty) => {
        impl Float for $type {
            #[inline(always)]
            fn apply(operator: Operator, left: $native, right: $native) -> ($native, bool) {
                let result = match operator {
                    Operator::Plus => left + right,
                    Operator::Minus => left - right,
                    Operator::Multiply => left * right,
                    Operator::Divide => left / right,
                    _ => left % right,
                };
                // A NaN with a sign would be less than every number.
                let result = if result.is_nan() { <$native>::NAN } else { result };
                let not_finite = !result.is_finite();
                let vanished = match operator {
                    Operator::Multiply => (result == 0.0) & (left != 0.0) & (right != 0.0),
                    Operator::Divide => (result == 0.0) & (left != 0.0),
                    _ => false,
                };
                (result, not_finite | vanished)
            }

            fn fails(operator: Operator, left: $native, right: $native) -> bool {
                let (result, _) = Self::apply(operator, left, right);
                let overflow = result.is_infinite() && left.is_finite() && right.is_finite();
                match operator {
                    Operator::Plus | Operator::Minus => overflow,
                    Operator::Multiply => overflow || result == 0.0 && left != 0.0 && right != 0.0,
                    _ if right == 0.0 => !left.is_nan(),
                    Operator::Divide => overflow || result == 0.0 && left != 0.0 && right.is_finite(),
                    _ => false,
                }
            }

            fn error(operator: Operator, left: $native, right: $native) -> DataFusionError {
                let (result, _) = Self::apply(operator, left, right);
                match operator {
                    Operator::Divide | Operator::Modulo if right == 0.0 => by_zero(),
                    _ if result == 0.0 => refusal("22003", "value out of range: underflow"),
                    _ => refusal("22003", "value out of range: overflow"),
                }
            }
        }
    };
}

float!(Float32Type, f32);
float!(Float64Type, f64);

fn floats<T: Float>(
    operator: Operator,
    left: &ColumnarValue,
    right: &ColumnarValue,
    rows: usize,
) -> Result<ColumnarValue> {
    macro_rules! each {
        ($($operator:ident),*) => {
            match operator {
                $(Operator::$operator => {
                    let apply = |a, b| T::apply(Operator::$operator, a, b);
                    each_row::<T>(left, right, rows, apply, |a, b| T::fails(Operator::$operator, a, b))
                })*
                other => return exec_err!("{other} is not arithmetic"),
            }
        };
    }
    each!(Plus, Minus, Multiply, Divide, Modulo).map_err(|(left, right)| T::error(operator, left, right))
}

fn by_zero() -> DataFusionError {
    refusal("22012", "division by zero")
}

/// Either side of an operator.
enum Operand<'a, T: ArrowPrimitiveType> {
    Rows(&'a PrimitiveArray<T>),
    Same(Option<T::Native>),
}

fn side<'a, T: ArrowPrimitiveType>(value: &'a ColumnarValue, held: &'a mut Option<ArrayRef>) -> Operand<'a, T> {
    match value {
        ColumnarValue::Array(array) => Operand::Rows(array.as_primitive::<T>()),
        ColumnarValue::Scalar(scalar) => {
            *held = scalar.to_array().ok();
            let one = held.as_ref().map(|array| array.as_primitive::<T>());
            Operand::Same(one.and_then(|array| array.iter().next().flatten()))
        }
    }
}

/// Applies an operation that also says whether it may have failed to every row, or gives the first row's values for which
/// it `fails`.
///
/// The loop has no branches; only if some row may have failed is it found out whether it did, and is not NULL.
fn each_row<T: ArrowPrimitiveType>(
    left: &ColumnarValue,
    right: &ColumnarValue,
    rows: usize,
    apply: impl Fn(T::Native, T::Native) -> (T::Native, bool),
    fails: impl Fn(T::Native, T::Native) -> bool,
) -> Result<ColumnarValue, (T::Native, T::Native)> {
    let (mut left_held, mut right_held) = (None, None);
    let mut failed = false;
    let mut step = |a, b| {
        let (result, wrong) = apply(a, b);
        failed |= wrong;
        result
    };
    let null = |_| ColumnarValue::Scalar(ScalarValue::try_from(&T::DATA_TYPE).unwrap_or(ScalarValue::Null));
    let (values, nulls): (Vec<T::Native>, Option<NullBuffer>) =
        match (side::<T>(left, &mut left_held), side::<T>(right, &mut right_held)) {
            (Operand::Rows(a), Operand::Rows(b)) => {
                let values = a.values().iter().zip(b.values()).map(|(a, b)| step(*a, *b)).collect();
                let nulls = NullBuffer::union(a.logical_nulls_ref(), b.logical_nulls_ref());
                if failed && let Some(row) = first(rows, nulls.as_ref(), |row| fails(a.value(row), b.value(row))) {
                    return Err((a.value(row), b.value(row)));
                }
                (values, nulls)
            }
            (Operand::Rows(a), Operand::Same(Some(b))) => {
                let values = a.values().iter().map(|a| step(*a, b)).collect();
                let nulls = a.logical_nulls_ref().cloned();
                if failed && let Some(row) = first(rows, nulls.as_ref(), |row| fails(a.value(row), b)) {
                    return Err((a.value(row), b));
                }
                (values, nulls)
            }
            (Operand::Same(Some(a)), Operand::Rows(b)) => {
                let values = b.values().iter().map(|b| step(a, *b)).collect();
                let nulls = b.logical_nulls_ref().cloned();
                if failed && let Some(row) = first(rows, nulls.as_ref(), |row| fails(a, b.value(row))) {
                    return Err((a, b.value(row)));
                }
                (values, nulls)
            }
            (Operand::Same(Some(a)), Operand::Same(Some(b))) => {
                let (result, _) = apply(a, b);
                if fails(a, b) {
                    return Err((a, b));
                }
                let one = PrimitiveArray::<T>::new(vec![result].into(), None);
                return Ok(ScalarValue::try_from_array(&one, 0).map_or_else(null, ColumnarValue::Scalar));
            }
            _ => return Ok(null(DataFusionError::Internal(String::new()))),
        };
    Ok(ColumnarValue::Array(Arc::new(PrimitiveArray::<T>::new(values.into(), nulls))))
}

/// Returns the first row that is not NULL and of which `holds` is true.
fn first(rows: usize, nulls: Option<&NullBuffer>, holds: impl Fn(usize) -> bool) -> Option<usize> {
    (0..rows).find(|row| nulls.is_none_or(|nulls| nulls.is_valid(*row)) && holds(*row))
}

/// The null buffer of a primitive array.
trait Nulls {
    fn logical_nulls_ref(&self) -> Option<&NullBuffer>;
}

impl<T: ArrowPrimitiveType> Nulls for PrimitiveArray<T> {
    fn logical_nulls_ref(&self) -> Option<&NullBuffer> {
        datafusion::arrow::array::Array::nulls(self)
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Negation {
    signature: Signature,
}

impl ScalarUDFImpl for Negation {
    fn name(&self) -> &str {
        "pg_negative"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(names::name(self.name(), args, |args| format!("(- {})", args[0].schema_name())))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        same_type(self.name(), &args)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (value, rows) = (&args.args[0], args.number_rows);
        let zero = ColumnarValue::Scalar(ScalarValue::new_zero(args.return_field.data_type())?);
        match args.return_field.data_type() {
            DataType::Int16 => integers::<Int16Type>(Operator::Minus, &zero, value, rows),
            DataType::Int32 => integers::<Int32Type>(Operator::Minus, &zero, value, rows),
            DataType::Int64 => integers::<Int64Type>(Operator::Minus, &zero, value, rows),
            DataType::Float32 | DataType::Float64 => {
                // A batch may have no rows, and a scalar has a value then, too.
                Ok(match value {
                    ColumnarValue::Array(array) => ColumnarValue::Array(negated(array)),
                    ColumnarValue::Scalar(scalar) => {
                        ColumnarValue::Scalar(ScalarValue::try_from_array(&negated(&scalar.to_array()?), 0)?)
                    }
                })
            }
            other => exec_err!("{} of {other}", self.name()),
        }
    }
}

/// Returns floating-point numbers with the other sign; NaN has none.
fn negated(values: &ArrayRef) -> ArrayRef {
    match values.data_type() {
        DataType::Float32 => Arc::new(
            values.as_primitive::<Float32Type>().unary::<_, Float32Type>(|it| if it.is_nan() { f32::NAN } else { -it }),
        ),
        _ => Arc::new(
            values.as_primitive::<Float64Type>().unary::<_, Float64Type>(|it| if it.is_nan() { f64::NAN } else { -it }),
        ),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, Float64Array, Int32Array};

    use super::*;

    fn rows(values: Vec<Option<i32>>) -> ColumnarValue {
        ColumnarValue::Array(Arc::new(Int32Array::from(values)))
    }

    #[test]
    fn only_rows_that_count_fail() {
        let left = rows(vec![Some(i32::MAX), Some(2)]);
        let fine = integers::<Int32Type>(Operator::Plus, &left, &rows(vec![None, Some(3)]), 2).unwrap();
        let fine = fine.into_array(2).unwrap();
        assert!(fine.is_null(0));
        assert_eq!(fine.as_primitive::<Int32Type>().value(1), 5);
        let error = integers::<Int32Type>(Operator::Plus, &left, &rows(vec![Some(1), Some(3)]), 2).unwrap_err();
        assert!(error.to_string().contains("integer out of range"), "{error}");
    }

    #[test]
    fn infinity_is_an_answer_only_if_it_was_given() {
        let one = |value: f64| ColumnarValue::Array(Arc::new(Float64Array::from(vec![value])));
        let of = |operator, a, b| floats::<Float64Type>(operator, &one(a), &one(b), 1).is_ok();
        assert!(of(Operator::Plus, f64::INFINITY, 1.0));
        assert!(!of(Operator::Plus, f64::MAX, f64::MAX));
        assert!(!of(Operator::Divide, 1.0, 0.0));
        assert!(of(Operator::Divide, f64::NAN, 0.0));
        assert!(of(Operator::Divide, 1.0, f64::INFINITY));
        assert!(!of(Operator::Multiply, 1e-300, 1e-300));
    }
}
