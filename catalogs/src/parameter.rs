//! Parameters of plans that are kept: functions that return the value of the statement that runs now.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

/// The values of the statement that runs now; `None` before the first.
#[derive(Debug, Default)]
pub(crate) struct ParameterValues(RwLock<Option<Vec<ScalarValue>>>);

impl ParameterValues {
    /// Sets the values of the statement that runs next.
    pub(crate) fn set(&self, values: Vec<ScalarValue>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(values);
    }
}

/// Returns the function of the parameter at an index, counted from 0. The planner does not evaluate it, as it is volatile.
pub(crate) fn parameter(place: usize, field: FieldRef, values: &Arc<ParameterValues>) -> ScalarUDF {
    let (values, signature) = (Arc::clone(values), Signature::nullary(Volatility::Volatile));
    ScalarUDF::from(ParameterFunction { place, field, values, signature })
}

/// Returns true for the function of a parameter, whose value is the same throughout a statement.
pub(crate) fn is_parameter(function: &ScalarUDF) -> bool {
    function.inner().downcast_ref::<ParameterFunction>().is_some()
}

/// A function that returns the value of a parameter.
struct ParameterFunction {
    /// Index of the parameter, counted from 0.
    place: usize,
    field: FieldRef,
    values: Arc<ParameterValues>,
    signature: Signature,
}

impl fmt::Debug for ParameterFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.place + 1)
    }
}

impl PartialEq for ParameterFunction {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place && Arc::ptr_eq(&self.values, &other.values)
    }
}

impl Eq for ParameterFunction {}

impl Hash for ParameterFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.place.hash(state);
    }
}

impl ScalarUDFImpl for ParameterFunction {
    fn name(&self) -> &str {
        "parameter"
    }

    fn schema_name(&self, _: &[datafusion::logical_expr::Expr]) -> Result<String> {
        Ok(format!("${}", self.place + 1))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.field.data_type().clone())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::clone(&self.field))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = self.values.0.read().unwrap_or_else(PoisonError::into_inner);
        match values.as_ref().and_then(|values| values.get(self.place)) {
            Some(value) => Ok(ColumnarValue::Scalar(value.clone())),
            // The planner tries to evaluate the function.
            None => internal_err!("the parameter ${} has no value yet", self.place + 1),
        }
    }
}
