//! `coalesce` of values and texts: `coalesce(names, '{}')`.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl};

use super::common_types::of_one_type;
use super::uuids;

/// `coalesce`, among whose arguments a text beside another value is of its type; rules refuse those that are no constants.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Coalesce {
    function: Arc<ScalarUDF>,
}

impl Coalesce {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self { function })
    }
}

impl ScalarUDFImpl for Coalesce {
    delegate!(name, aliases, signature, return_type, documentation, is_strict, simplify);

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match uuids::field_of_one_type(self.name(), &args) {
            Some(field) => Ok(field),
            None => self.function.return_field_from_args(args),
        }
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        of_one_type(types, |types| self.function.coerce_types(types))
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.function.conditional_arguments(args)
    }

    fn short_circuits(&self) -> bool {
        self.function.short_circuits()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.function.invoke_with_args(args)
    }
}
