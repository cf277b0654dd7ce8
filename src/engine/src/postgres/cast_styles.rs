//! Casts whose outcome depends on the session's `DateStyle`.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::ScalarFunction;

use super::casts::{CastFunction, CastRule, arrow_cast};
use super::date_styles::{DateStyle, with_plain_date};

/// Returns the text of a constant date or moment whose order is that of the session's `DateStyle`.
pub(super) fn read_in_order(call: &ScalarFunction) -> Option<&str> {
    let cast = call.func.inner().downcast_ref::<CastFunction>()?;
    let Some(Expr::Literal(text, _)) = call.args.first() else { return None };
    let text = text.try_as_str().flatten()?;
    let is_ordered = cast.rule == CastRule::TextToMoment && !matches!(cast.to.data_type(), DataType::Time64(_));
    (is_ordered && with_plain_date(text).is_some()).then_some(text)
}

impl CastFunction {
    /// Casts with dates in a style.
    pub(super) fn cast_in(&self, array: &ArrayRef, style: &DateStyle) -> Result<ArrayRef> {
        match &self.rule {
            CastRule::TextToMoment => self.cast(&style.ordered(array, self.to.data_type())?),
            CastRule::ToText => match style.cast(array)? {
                Some(texts) => arrow_cast(&self.shortened(&texts), self.to.data_type()),
                None => self.cast(array),
            },
            CastRule::Elements(rule) if **rule == CastRule::ToText => {
                style.check_elements(array.data_type())?;
                self.cast(array)
            }
            _ => self.cast(array),
        }
    }
}
