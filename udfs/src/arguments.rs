//! The arguments that functions share: the name of a model, which is the same in most rows, and texts, which may be large.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::common::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use neuroql_model::{Model, Registry};
use neuroql_schema::{Rights, sql_error};

/// Returns the number of rows to compute: one if all arguments are literals.
pub(crate) fn rows(args: &ScalarFunctionArgs) -> usize {
    match args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_))) {
        true => 1,
        false => args.number_rows,
    }
}

/// Returns the text of an argument, whose type is `Utf8`, in a row. A literal is not copied for each row.
pub(crate) fn text(argument: &ColumnarValue, row: usize) -> Option<&str> {
    match argument {
        ColumnarValue::Array(texts) => {
            let texts = texts.as_string::<i32>();
            texts.is_valid(row).then(|| texts.value(row))
        }
        ColumnarValue::Scalar(text) => text.try_as_str().flatten(),
    }
}

/// The models a function may name. Functions are equal if they share it.
#[derive(Debug, Clone)]
pub(crate) struct Models(pub Arc<Registry>);

impl Models {
    /// A look-up that remembers the last model, for a caller with the rights of these options.
    pub fn lookup(&self, options: &ConfigOptions) -> impl FnMut(&str) -> Result<Arc<Model>> + use<'_> {
        let rights = Rights::of(options);
        let mut last: Option<Arc<Model>> = None;
        move |name| {
            if let Some(model) = last.as_ref().filter(|model| model.name() == name) {
                return Ok(Arc::clone(model));
            }
            rights.check_schema(name)?;
            let model = self.0.get_among(name, |known| rights.may_use(known)).map_err(sql_error)?;
            last = Some(Arc::clone(&model));
            Ok(model)
        }
    }
}

impl PartialEq for Models {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Models {}

impl Hash for Models {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}
