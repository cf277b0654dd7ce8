//! Defaults in the place of values, and values for identity columns.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TableSource, Volatility,
};
use datafusion::scalar::ScalarValue;

use crate::catalog::sequences::generated::{self, Identity};
use crate::sql::rewrite::generated_columns::{DEFAULT, keeps_own, not_the_default};
use crate::sql::sequence_syntax::Overriding;
use crate::wire::error_response::SqlError;

/// Defaults that the columns of a table take in the place of a value.
#[derive(Debug, Default)]
pub(super) struct ColumnValues {
    pub(super) overriding: Overriding,
    defaults: HashMap<String, Expr>,
    identities: HashMap<String, Identity>,
}

impl ColumnValues {
    /// Reads the columns of the table that a statement changes.
    pub(super) fn read(&mut self, table: &Arc<dyn TableSource>) {
        let schema = table.schema();
        let names = || schema.fields().iter().map(|field| field.name());
        self.defaults =
            names().filter_map(|name| Some((name.clone(), table.get_column_default(name)?.clone()))).collect();
        if let Some(columns) = source_as_provider(table).ok().and_then(|table| generated::columns(table.as_ref())) {
            self.identities =
                columns.iter().filter_map(|(name, column)| Some((name.clone(), column.identity?))).collect();
        }
    }

    fn default(&self, column: &str) -> Expr {
        self.defaults.get(column).cloned().unwrap_or(Expr::Literal(ScalarValue::Null, None))
    }

    /// Returns the default that an INSERT puts into a column in the place of a value; `None` for the value of a query.
    ///
    /// # Errors
    /// 428C9 if the column takes no values.
    pub(super) fn inserted(&self, column: &str, value: Option<&Expr>) -> Result<Option<Expr>, SqlError> {
        if value.is_some_and(is_default) {
            return Ok(Some(self.default(column)));
        }
        match self.identities.get(column) {
            Some(identity) => Ok(keeps_own(*identity, self.overriding, column)?.then(|| self.default(column))),
            None => Ok(None),
        }
    }

    /// Returns the default that an UPDATE puts into a column. `found` is the value if it is marked as one, else a column that stays as it
    /// is, or a constant.
    ///
    /// # Errors
    /// 428C9 if the column takes no values.
    pub(super) fn updated(&self, column: &str, found: &Result<Expr, Expr>) -> Result<Option<Expr>, SqlError> {
        match found {
            Ok(value) if is_default(value) => Ok(Some(self.default(column))),
            Err(Expr::Column(_)) => Ok(None),
            _ if self.identities.get(column) == Some(&Identity::Always) => Err(not_the_default(column, true)),
            _ => Ok(None),
        }
    }
}

fn is_default(value: &Expr) -> bool {
    matches!(value, Expr::ScalarFunction(function) if function.func.inner().downcast_ref::<DefaultMark>().is_some())
}

/// Returns the function that stands for DEFAULT.
pub(super) fn function() -> ScalarUDF {
    ScalarUDF::new_from_impl(DefaultMark { signature: Signature::nullary(Volatility::Immutable) })
}

/// The function that stands for DEFAULT. It has no type, so that the planner casts it to that of any column.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DefaultMark {
    signature: Signature,
}

impl ScalarUDFImpl for DefaultMark {
    fn name(&self) -> &str {
        DEFAULT
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Null)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("{DEFAULT} cannot be called")
    }
}
