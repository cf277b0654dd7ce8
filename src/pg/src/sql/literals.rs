//! Literals of types that the planner does not have, such as `'…'::uuid`: each stands as the call of a function, which
//! returns its text under the mark of the type.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;

use crate::decode;
use crate::encode::column;
use crate::wire::error_response::ExternalSqlError;

/// Types of these literals.
pub(crate) const KINDS: [Type; 3] = [Type::UUID, Type::JSON, Type::JSONB];

/// Prefix of the names of the functions.
const PREFIX: &str = "neuroql_literal_";

/// Returns the name of the function of a type.
pub(crate) fn function_name(kind: &Type) -> String {
    format!("{PREFIX}{}", kind.name())
}

/// Registers the functions for the planning of one statement. They are immutable.
///
/// # Errors
/// If the state takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for kind in KINDS {
        let (name, signature) = (function_name(&kind), Signature::exact(vec![DataType::Utf8], Volatility::Immutable));
        state.register_udf(Arc::new(ScalarUDF::new_from_impl(LiteralFunction { name, kind, signature })))?;
    }
    Ok(())
}

/// Returns the type of a literal; `None` for other calls.
pub(crate) fn kind_of(call: &ScalarFunction) -> Option<Type> {
    call.func.inner().downcast_ref::<LiteralFunction>().map(|function| function.kind.clone())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LiteralFunction {
    name: String,
    kind: Type,
    signature: Signature,
}

impl LiteralFunction {
    fn read(&self, column: &ArrayRef) -> Result<ArrayRef> {
        let texts = cast(column, &DataType::Utf8)?;
        let value = |text: Option<&str>| -> Result<Option<String>> {
            let Some(text) = text else { return Ok(None) };
            match decode::from_text(&self.kind, text, "UTC") {
                Ok(value) => Ok(value.try_as_str().flatten().map(str::to_owned)),
                Err(error) => Err(DataFusionError::External(Box::new(ExternalSqlError(error)))),
            }
        };
        Ok(Arc::new(texts.as_string::<i32>().iter().map(value).collect::<Result<StringArray>>()?))
    }
}

impl ScalarUDFImpl for LiteralFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(&self.name, DataType::Utf8, true).with_metadata(column::mark(&self.kind))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[0] {
            ColumnarValue::Scalar(text) => {
                let found = self.read(&text.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?))
            }
            ColumnarValue::Array(texts) => Ok(ColumnarValue::Array(self.read(texts)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_values() {
        let read = |kind: Type, texts: Vec<Option<&str>>| {
            let signature = Signature::exact(vec![DataType::Utf8], Volatility::Immutable);
            let function = LiteralFunction { name: function_name(&kind), kind, signature };
            let column: ArrayRef = Arc::new(StringArray::from(texts));
            function
                .read(&column)
                .map(|found| found.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>())
        };
        let uuid = read(Type::UUID, vec![Some("{A0EEBC999C0B4EF8BB6D6BB9BD380A11}"), None]).unwrap();
        assert_eq!(uuid, [Some("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11".to_owned()), None]);
        assert_eq!(read(Type::JSON, vec![Some(" [1 ]")]).unwrap(), [Some(" [1 ]".to_owned())]);
        assert_eq!(read(Type::JSONB, vec![Some(" [1 ]")]).unwrap(), [Some("[1]".to_owned())]);
        assert!(read(Type::UUID, vec![Some("x")]).is_err());
        assert!(read(Type::JSON, Vec::new()).unwrap().is_empty());
    }
}
