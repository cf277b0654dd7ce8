//! Lengths of texts and positions in them, which are `bigint` to DataFusion where a text has the type of those that aggregates
//! make.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl};

/// A function of texts whose result is an `integer`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TextCount {
    function: Arc<ScalarUDF>,
}

impl TextCount {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function })
    }
}

fn narrow(data_type: DataType) -> DataType {
    if data_type == DataType::Int64 { DataType::Int32 } else { data_type }
}

impl ScalarUDFImpl for TextCount {
    delegate!(name, aliases, signature, coerce_types, documentation, is_strict);

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.function.return_type(arguments).map(narrow)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let field = self.function.return_field_from_args(args)?;
        let data_type = narrow(field.data_type().clone());
        Ok(Arc::new(Field::clone(&field).with_data_type(data_type)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let to = args.return_field.data_type().clone();
        let return_field = {
            let scalars = args.args.iter().map(|value| match value {
                ColumnarValue::Scalar(scalar) => Some(scalar),
                ColumnarValue::Array(_) => None,
            });
            let scalar_arguments: Vec<_> = scalars.collect();
            let of_call = ReturnFieldArgs { arg_fields: &args.arg_fields, scalar_arguments: &scalar_arguments };
            self.function.return_field_from_args(of_call)?
        };
        let found = self.function.invoke_with_args(ScalarFunctionArgs { return_field, ..args })?;
        if found.data_type() == to { Ok(found) } else { found.cast_to(&to, None) }
    }
}
