//! `gen_random_uuid()`.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, FixedSizeBinaryArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::SessionContext;

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
        Ok(neuroql::UUID)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let return_field = Arc::new(Field::new("uuid", DataType::Utf8, false));
        let texts = self.function.invoke_with_args(ScalarFunctionArgs { return_field, ..args })?;
        let texts = cast(&texts.into_array(rows)?, &DataType::Utf8)?;
        let values = texts.as_string::<i32>().iter().map(|text| text.map(neuroql::read_uuid).transpose());
        let values = values.collect::<Result<Vec<_>>>()?;
        let values = FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.into_iter(), 16)?;
        Ok(ColumnarValue::Array(Arc::new(values)))
    }
}
