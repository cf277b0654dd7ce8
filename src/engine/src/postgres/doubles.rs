//! Rounding of `real`, which gives `double precision`: Postgres has it for no other floating-point number.

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::error::Result;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

/// A function that DataFusion has for `real`, too.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DoubleFunction {
    function: Arc<ScalarUDF>,
    signature: Signature,
}

impl DoubleFunction {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function, signature: Signature::user_defined(Volatility::Immutable) })
    }
}

impl ScalarUDFImpl for DoubleFunction {
    delegate!(name, aliases, return_type, return_field_from_args, documentation, is_strict, simplify);

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        if let [DataType::Float32] = arguments {
            return Ok(vec![DataType::Float64]);
        }
        let fields: Vec<_> =
            arguments.iter().map(|it| Arc::new(Field::new("", it.clone(), true)) as FieldRef).collect();
        let coerced = fields_with_udf(&fields, self.function.as_ref())?;
        Ok(coerced.iter().map(|field| field.data_type().clone()).collect())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // DataFusion's loses the sign of a zero.
        if let ("trunc", [ColumnarValue::Array(numbers)]) = (self.name(), &args.args[..])
            && let Some(numbers) = numbers.as_primitive_opt::<Float64Type>()
        {
            return Ok(ColumnarValue::Array(Arc::new(numbers.unary::<_, Float64Type>(f64::trunc))));
        }
        if let ("trunc", [ColumnarValue::Scalar(ScalarValue::Float64(number))]) = (self.name(), &args.args[..]) {
            return Ok(ColumnarValue::Scalar(ScalarValue::Float64(number.map(f64::trunc))));
        }
        self.function.invoke_with_args(args)
    }
}
