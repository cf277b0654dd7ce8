//! Rounding of `real`, which gives `double precision`: Postgres has it for no other floating-point number.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

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
        self.function.invoke_with_args(args)
    }
}
