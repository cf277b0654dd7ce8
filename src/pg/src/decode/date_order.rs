//! Dates whose form does not tell the order of their parts, such as `01/02/2000`: `DateStyle` says it.

use std::borrow::Cow;
use std::ops::ControlFlow;

use bytes::Bytes;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Value, ValueWithSpan, Visit, Visitor};
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::messages::extendedquery::Bind;
use neuroql::{DateOrder, is_ambiguous};
use postgres_types::Kind;

use super::{items, name};
use crate::sql::parameters::Parameter;
use crate::wire::error_response::SqlError;

fn has_date(wire: &Type) -> bool {
    matches!(*wire, Type::DATE | Type::TIMESTAMP | Type::TIMESTAMPTZ)
}

/// Returns the text of a value, with its date in the order of ISO if it has one whose form does not tell the order.
///
/// # Errors
/// 22008 if there is no such day, 0A000 for such dates in arrays unless the order is that of months first.
pub(crate) fn ordered<'a>(wire: &Type, text: &'a str, order: DateOrder) -> Result<Cow<'a, str>, SqlError> {
    if has_date(wire) && is_ambiguous(text) {
        return Ok(Cow::Owned(order.iso(text, &name(wire))?));
    }
    if let Kind::Array(item) = wire.kind()
        && has_date(item)
        && order != DateOrder::Mdy
        && let Some(found) = items(text).into_iter().flatten().flatten().find(|item| is_ambiguous(item))
    {
        let message = format!("'{found}' in an array is supported while the DateStyle has MDY only; write 2000-12-31");
        return Err(SqlError::not_supported(message));
    }
    Ok(Cow::Borrowed(text))
}

/// Writes the dates of a message's parameters, if they are texts, in the order of ISO.
///
/// # Errors
/// As [`ordered`].
pub(crate) fn order_texts(message: &mut Bind, parameters: &[Parameter], order: DateOrder) -> Result<(), SqlError> {
    let codes = message.parameter_format_codes.clone();
    for (index, (value, parameter)) in message.parameters.iter_mut().zip(parameters).enumerate() {
        let code = if codes.len() == 1 { codes.first() } else { codes.get(index) };
        // The binary form of a text is the text.
        let is_text = code.is_none_or(|code| *code == 0) || *parameter.read_as() != parameter.wire;
        let Some(text) = value.as_deref().filter(|_| is_text).and_then(|bytes| std::str::from_utf8(bytes).ok()) else {
            continue;
        };
        let ordered = match ordered(parameter.read_as(), text, order)? {
            Cow::Owned(text) => Some(Bytes::from(text)),
            Cow::Borrowed(_) => None,
        };
        *value = ordered.or_else(|| value.take());
    }
    Ok(())
}

/// Returns a text in a statement that is a date whose form does not tell the order of its parts, if there is one.
pub(crate) fn constant(statement: &Statement) -> Option<String> {
    struct Constant;

    impl Visitor for Constant {
        type Break = String;

        fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<String> {
            match &value.value {
                Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) if is_ambiguous(text) => {
                    ControlFlow::Break(text.clone())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }

    let Statement::Statement(inner) = statement else { return None };
    let inner: &ast::Statement = inner;
    inner.visit(&mut Constant).break_value()
}
