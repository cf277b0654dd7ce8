//! `pg_get_expr`: expressions are kept in the catalog as the text that they are.

use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;

/// Registers the function.
pub(crate) fn register(context: &SessionContext) {
    let forms = vec![TypeSignature::Any(2), TypeSignature::Any(3)];
    let signature = Signature::one_of(forms, Volatility::Stable);
    context.register_udf(ScalarUDF::new_from_impl(PgGetExpr { signature }));
}

/// `pg_get_expr(expression, relation [, pretty])`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PgGetExpr {
    signature: Signature,
}

impl ScalarUDFImpl for PgGetExpr {
    fn name(&self) -> &str {
        "pg_get_expr"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let texts = args.args[0].to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(cast(&texts, &DataType::Utf8)?))
    }
}
