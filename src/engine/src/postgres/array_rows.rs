//! Arrays of arrays that an array is appended to, `m || ARRAY[1, 2]`.
//!
//! In Postgres the result of one without elements has one dimension, which is not known when a statement is planned.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::refusal::refusal;

static ROWS: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::from(ArrayRows { signature: Signature::any(1, Volatility::Immutable) })));

/// Has an array of arrays checked that another one is appended or prepended to; `None` if there is none in the call, or it is.
pub(super) fn checked(call: &ScalarFunction, schema: &dyn datafusion::common::ExprSchema) -> Option<Expr> {
    let (place, other) = match call.name() {
        "array_append" => (0, 1),
        "array_prepend" => (1, 0),
        _ => return None,
    };
    let (array, element) = (call.args.get(place)?, call.args.get(other)?);
    let is_checked = matches!(array, Expr::ScalarFunction(inner) if Arc::ptr_eq(&inner.func, &ROWS));
    if is_checked || !matches!(element.get_type(schema), Ok(DataType::List(_))) {
        return None;
    }
    let mut args = call.args.clone();
    args[place] = ROWS.call(vec![array.clone()]);
    Some(Expr::ScalarFunction(ScalarFunction { func: Arc::clone(&call.func), args }))
}

/// An array of arrays that has elements.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayRows {
    signature: Signature,
}

impl ScalarUDFImpl for ArrayRows {
    fn name(&self) -> &str {
        "neuroql_array_rows"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [one] => Ok(one.clone()),
            _ => internal_err!("{} of {} arguments", self.name(), types.len()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::clone(&args.arg_fields[0]))
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = args.args[0].to_array(args.number_rows)?;
        let has_elements = match arrays.as_list_opt::<i32>() {
            Some(arrays) => arrays.iter().all(|array| array.is_some_and(|array| !array.is_empty())),
            None => arrays.is_empty(),
        };
        if !has_elements {
            let message = "an array beside an array of arrays that is NULL or has no elements is not supported";
            return Err(refusal("0A000", message));
        }
        Ok(args.args.swap_remove(0))
    }
}
