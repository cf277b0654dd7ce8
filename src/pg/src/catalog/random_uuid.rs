//! `gen_random_uuid()`.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::SessionContext;
use datafusion_postgres::pgwire::api::Type;

use crate::encode::column;

/// Registers the function.
pub(super) fn register(context: &SessionContext) {
    if let Ok(function) = context.udf("uuid") {
        let signature = Signature::nullary(Volatility::Volatile);
        context.register_udf(ScalarUDF::from(RandomUuid { function, signature }));
    }
}

/// DataFusion's `uuid`, whose values are of the type of this name.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RandomUuid {
    function: Arc<ScalarUDF>,
    signature: Signature,
}

impl ScalarUDFImpl for RandomUuid {
    fn name(&self) -> &str {
        "gen_random_uuid"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, true).with_metadata(column::mark(&Type::UUID))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.function.invoke_with_args(args)
    }
}
