//! `+`, `-`, `*` and `%` of `numeric`, whose results have 38 digits at most: DataFusion's take as many as its integers have, and
//! lose one of them as text.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Datum};
use datafusion::arrow::compute::kernels::numeric;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef};
use datafusion::common::{exec_err, internal_datafusion_err};
use datafusion::error::Result;
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::casts::has_unknown_digits;
use super::names;
use super::refusal::refusal;

/// The greatest `numeric` without its point.
pub(super) const LARGEST: u128 = 10u128.pow(38) - 1;

/// Digits of the greatest `numeric`.
const MOST: u8 = 38;

/// Returns an operator of two decimals as a function; `None` if it is none of these.
pub(super) fn checked(operator: Operator) -> Option<Arc<ScalarUDF>> {
    use Operator::{Minus, Modulo, Multiply, Plus};
    matches!(operator, Plus | Minus | Multiply | Modulo).then(|| {
        Arc::new(ScalarUDF::from(NumericArithmetic { operator, signature: Signature::any(2, Volatility::Immutable) }))
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct NumericArithmetic {
    operator: Operator,
    signature: Signature,
}

impl ScalarUDFImpl for NumericArithmetic {
    fn name(&self) -> &str {
        match self.operator {
            Operator::Plus => "pg_numeric_plus",
            Operator::Minus => "pg_numeric_minus",
            Operator::Multiply => "pg_numeric_times",
            _ => "pg_numeric_modulo",
        }
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        names::operation(self.name(), self.operator, args)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let [left, right] = arguments else { return exec_err!("{} takes two arguments", self.name()) };
        match BinaryTypeCoercer::new(left, &self.operator, right).get_result_type()? {
            // What does not know its digits gives what does not know them.
            DataType::Decimal128(_, scale) if has_unknown_digits(left) || has_unknown_digits(right) => {
                Ok(DataType::Decimal128(MOST, scale))
            }
            other => Ok(other),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        // Nullable, because the optimizer leaves out what cannot be NULL, and its error with it.
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, true)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = &args.args[..] else { return exec_err!("{} takes two arguments", self.name()) };
        let data_type = args.return_field.data_type();
        // The optimizer asks what becomes of NULL, which has no type then.
        if left.data_type().is_null() || right.data_type().is_null() {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(data_type)?));
        }
        let is_scalar = matches!((left, right), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        let (left, right) = (datum(left)?, datum(right)?);
        let result = self.apply(left.as_ref(), right.as_ref(), data_type)?;
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?),
            false => ColumnarValue::Array(result),
        })
    }
}

impl NumericArithmetic {
    fn apply(&self, left: &dyn Datum, right: &dyn Datum, data_type: &DataType) -> Result<ArrayRef> {
        let result = match self.operator {
            Operator::Plus => numeric::add(left, right),
            Operator::Minus => numeric::sub(left, right),
            Operator::Multiply => numeric::mul(left, right),
            _ => numeric::rem(left, right),
        }?;
        let (Some(numbers), DataType::Decimal128(precision, scale)) =
            (result.as_primitive_opt::<Decimal128Type>(), data_type)
        else {
            return exec_err!("{} is {}, not {data_type}", self.name(), result.data_type());
        };
        // The values of NULL may be anything.
        let is_long = |number: &i128| number.unsigned_abs() > LARGEST;
        if numbers.values().iter().any(is_long) && numbers.iter().flatten().any(|number| is_long(&number)) {
            return Err(refusal("22003", "value overflows numeric format: a result has more than 38 digits"));
        }
        Ok(Arc::new(numbers.clone().with_precision_and_scale(*precision, *scale)?))
    }
}

fn datum(value: &ColumnarValue) -> Result<Box<dyn Datum>> {
    Ok(match value {
        ColumnarValue::Array(array) => Box::new(Arc::clone(array)),
        ColumnarValue::Scalar(scalar) => Box::new(
            scalar.to_scalar().map_err(|error| internal_datafusion_err!("a constant without an array: {error}"))?,
        ),
    })
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Decimal128Array;
    use datafusion::config::ConfigOptions;

    use super::*;

    fn computed(operator: Operator, left: (i128, u8, i8), right: (i128, u8, i8)) -> Result<(Option<i128>, DataType)> {
        let function = checked(operator).unwrap();
        let value = |(number, precision, scale): (i128, u8, i8)| {
            let numbers = Decimal128Array::from(vec![Some(number), None]);
            numbers.with_precision_and_scale(precision, scale)
        };
        let (left, right) = (value(left)?, value(right)?);
        let types = [left.data_type().clone(), right.data_type().clone()];
        let fields = types.iter().map(|found| Arc::new(Field::new("x", found.clone(), true))).collect();
        let return_field = Arc::new(Field::new("x", function.inner().return_type(&types)?, true));
        let args = vec![ColumnarValue::Array(Arc::new(left)), ColumnarValue::Array(Arc::new(right))];
        let config_options = Arc::new(ConfigOptions::default());
        let result = function.invoke_with_args(ScalarFunctionArgs {
            args,
            arg_fields: fields,
            number_rows: 2,
            return_field,
            config_options,
        })?;
        let ColumnarValue::Array(result) = result else { panic!("{result:?}") };
        let numbers = result.as_primitive::<Decimal128Type>();
        assert!(numbers.is_null(1));
        Ok((Some(numbers.value(0)), numbers.data_type().clone()))
    }

    #[test]
    fn results_have_38_digits_at_most() {
        let most = 10i128.pow(38) - 1;
        let whole = |number| (number, 38, 0);
        let found = computed(Operator::Plus, whole(most - 9), whole(9)).unwrap();
        assert_eq!(found, (Some(most), DataType::Decimal128(38, 0)));
        for (operator, left, right) in [
            (Operator::Plus, most, 1),
            (Operator::Minus, -most, 1),
            (Operator::Multiply, 10i128.pow(37), 10),
            (Operator::Multiply, most, most),
        ] {
            let error = computed(operator, whole(left), whole(right)).unwrap_err();
            assert_eq!(crate::sqlstate(&error), "22003", "{operator}: {error}");
        }
        let error = computed(Operator::Modulo, whole(1), whole(0)).unwrap_err();
        assert_eq!(crate::sqlstate(&error), "22012");
    }

    #[test]
    fn digits_that_are_not_known_stay_so() {
        let found = computed(Operator::Modulo, (-327_685 * 10i128.pow(9), 38, 10), (7, 19, 0)).unwrap();
        assert_eq!(found, (Some(-15 * 10i128.pow(9)), DataType::Decimal128(38, 10)));
        let found = computed(Operator::Modulo, (75, 5, 1), (2, 19, 0)).unwrap();
        assert_eq!(found, (Some(15), DataType::Decimal128(5, 1)));
    }
}
