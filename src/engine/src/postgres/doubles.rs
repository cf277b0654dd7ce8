//! Rounding of `real`, which gives `double precision`: Postgres has it for no other floating-point number.

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::error::Result;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::scalar::ScalarValue;

/// A function that DataFusion has for `real`, too.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct InDouble {
    function: Arc<ScalarUDF>,
    signature: Signature,
}

impl InDouble {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function, signature: Signature::user_defined(Volatility::Immutable) })
    }
}

impl ScalarUDFImpl for InDouble {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

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

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.function.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.function.return_field_from_args(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.documentation()
    }

    fn is_strict(&self) -> bool {
        self.function.is_strict()
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.function.simplify(args, info)
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
