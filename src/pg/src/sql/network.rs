//! Functions of `inet` and `cidr`.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int32Array, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;

use crate::decode::{self, network};
use crate::sql::marks::kind_of;
use crate::wire::error_response::SqlError;

/// Registers the functions.
pub(crate) fn register(context: &SessionContext) {
    for task in [Task::Host, Task::MaskLength, Task::Family] {
        context.register_udf(function(task));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Task {
    /// `host(inet)`: the address without the prefix.
    Host,
    /// `masklen(inet)`: the length of the prefix.
    MaskLength,
    /// `family(inet)`: 4 or 6.
    Family,
    /// An `inet` as text: the address with its prefix.
    Text,
    /// An `inet` as it is kept.
    Same,
}

fn function(task: Task) -> ScalarUDF {
    let signature = Signature::exact(vec![DataType::Utf8], Volatility::Immutable);
    ScalarUDF::from(NetworkFunction { task, signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct NetworkFunction {
    task: Task,
    signature: Signature,
}

impl NetworkFunction {
    fn values(&self, column: &ArrayRef) -> Result<ArrayRef> {
        let texts = cast(column, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>().iter();
        Ok(match self.task {
            Task::Host => Arc::new(texts.map(|text| text.map(network::host)).collect::<StringArray>()),
            Task::MaskLength => Arc::new(texts.map(|text| text.map(network::mask_length)).collect::<Int32Array>()),
            Task::Family => Arc::new(
                texts.map(|text| text.map(|text| if text.contains(':') { 6 } else { 4 })).collect::<Int32Array>(),
            ),
            Task::Same => Arc::new(texts.collect::<StringArray>()),
            Task::Text => {
                let whole = |text: &str| format!("{}/{}", network::host(text), network::mask_length(text));
                Arc::new(texts.map(|text| text.map(whole)).collect::<StringArray>())
            }
        })
    }
}

impl ScalarUDFImpl for NetworkFunction {
    fn name(&self) -> &str {
        match self.task {
            Task::Host => "host",
            Task::MaskLength => "masklen",
            Task::Family => "family",
            Task::Text => "neuroql_inet_text",
            Task::Same => "neuroql_inet",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.task {
            Task::Host | Task::Text | Task::Same => DataType::Utf8,
            Task::MaskLength | Task::Family => DataType::Int32,
        })
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[0] {
            ColumnarValue::Scalar(text) => {
                let found = self.values(&text.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?))
            }
            ColumnarValue::Array(texts) => Ok(ColumnarValue::Array(self.values(texts)?)),
        }
    }
}

/// Returns true for a call of one of the functions.
pub(super) fn is_call(call: &ScalarFunction) -> bool {
    call.func.inner().downcast_ref::<NetworkFunction>().is_some()
}

/// Returns an `inet` as text, which has its prefix.
pub(super) fn with_prefix(value: Expr) -> Expr {
    function(Task::Text).call(vec![value])
}

/// Returns an `inet` as it is, without the mark of its type.
pub(super) fn unmarked(value: Expr) -> Expr {
    function(Task::Same).call(vec![value])
}

/// Checks the argument of a call, if it is one of these functions.
///
/// # Errors
/// 42883 if it is no `inet` or `cidr`, 0A000 for a text whose type is not known.
pub(super) fn check_call(call: &ScalarFunction, schema: &DFSchema) -> Option<Result<(), SqlError>> {
    let function = call.func.inner().downcast_ref::<NetworkFunction>()?;
    let arg = call.args.first()?;
    let name = function.name();
    Some(match kind_of(arg, schema) {
        Some(Type::INET | Type::CIDR) => Ok(()),
        Some(kind) => {
            let message = format!("function {name}({}) does not exist", decode::name(&kind));
            Err(SqlError::error("42883", message))
        }
        None if arg.get_type(schema).is_ok_and(|found| found.is_null()) => Ok(()),
        None => Err(SqlError::not_supported(format!(
            "{name} of another value than an inet or cidr is not supported; cast it"
        ))),
    })
}
