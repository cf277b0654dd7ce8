//! Literals of types that the planner does not have, such as `'…'::uuid`: each stands as the call of a function, which
//! returns its value: for most a text under the mark of the type.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, new_empty_array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;

use crate::decode;
use crate::encode::column;
use crate::sql::range_values;
use crate::wire::error_response::external;

/// Types of these literals, beside those of ranges.
const KINDS: [Type; 7] = [Type::UUID, Type::JSON, Type::JSONB, Type::TIMETZ, Type::INET, Type::CIDR, Type::MACADDR];

/// Returns the types of these literals.
pub(crate) fn kinds() -> impl Iterator<Item = Type> {
    KINDS.into_iter().chain(range_values::KINDS)
}

/// Prefix of the names of the functions.
const PREFIX: &str = "neuroql_literal_";

/// Returns the name of the function of a type.
pub(crate) fn function_name(kind: &Type) -> String {
    format!("{PREFIX}{}", kind.name())
}

/// Returns a call that reads texts as values of a type.
pub(crate) fn read(kind: &Type, texts: Expr) -> Expr {
    function(kind).call(vec![texts])
}

fn function(kind: &Type) -> ScalarUDF {
    let signature = Signature::exact(vec![DataType::Utf8], Volatility::Immutable);
    ScalarUDF::new_from_impl(LiteralFunction { name: function_name(kind), kind: kind.clone(), signature })
}

/// Registers the functions for the planning of one statement. They are immutable.
///
/// # Errors
/// If the state takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for kind in kinds() {
        state.register_udf(Arc::new(function(&kind)))?;
    }
    Ok(())
}

/// Returns the type of a literal that is kept as text; `None` for other calls.
pub(crate) fn kind_of(call: &ScalarFunction) -> Option<Type> {
    let kind = call.func.inner().downcast_ref::<LiteralFunction>().map(|function| function.kind.clone());
    kind.filter(|kind| *kind != Type::UUID)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LiteralFunction {
    name: String,
    kind: Type,
    signature: Signature,
}

impl LiteralFunction {
    /// Returns the type of the values in Arrow.
    fn data_type(&self) -> DataType {
        decode::arrow_type(&self.kind, "UTC").unwrap_or(DataType::Utf8)
    }

    fn read(&self, column: &ArrayRef) -> Result<ArrayRef> {
        let texts = cast(column, &DataType::Utf8)?;
        if texts.is_empty() {
            return Ok(new_empty_array(&self.data_type()));
        }
        let value = |text: Option<&str>| match text {
            None => ScalarValue::try_from(&self.data_type()),
            // A literal of a time has its zone.
            Some(text) => decode::from_text(&self.kind, text, "").map_err(external),
        };
        let values = texts.as_string::<i32>().iter().map(value).collect::<Result<Vec<_>>>()?;
        ScalarValue::iter_to_array(values)
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
        Ok(self.data_type())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(&self.name, self.data_type(), true).with_metadata(column::mark(&self.kind))))
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
    use datafusion::arrow::array::StringArray;

    use super::*;

    #[test]
    fn texts_are_read_as_values() {
        let read = |kind: Type, texts: Vec<Option<&str>>| {
            let signature = Signature::exact(vec![DataType::Utf8], Volatility::Immutable);
            let function = LiteralFunction { name: function_name(&kind), kind, signature };
            let column: ArrayRef = Arc::new(StringArray::from(texts));
            let texts = |found: ArrayRef| neuroql::uuid_texts(&found).unwrap_or(found);
            let found = function.read(&column).map(texts);
            found.map(|found| found.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>())
        };
        let uuid = read(Type::UUID, vec![Some("{A0EEBC999C0B4EF8BB6D6BB9BD380A11}"), None]).unwrap();
        assert_eq!(uuid, [Some("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11".to_owned()), None]);
        assert_eq!(read(Type::JSON, vec![Some(" [1 ]")]).unwrap(), [Some(" [1 ]".to_owned())]);
        assert_eq!(read(Type::JSONB, vec![Some(" [1 ]")]).unwrap(), [Some("[1]".to_owned())]);
        assert!(read(Type::UUID, vec![Some("x")]).is_err());
        assert!(read(Type::JSON, Vec::new()).unwrap().is_empty());
    }
}
