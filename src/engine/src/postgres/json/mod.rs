//! `json` and `jsonb`: texts under a field whose metadata name the type.
//!
//! `json` is kept as it was written, `jsonb` as Postgres writes it: keys in order and once each, numbers as `numeric`. So a
//! part of the text of a value is a value of the same type. Functions take other texts for `json`, or read them as `jsonb`
//! if they are functions of that type.

mod aggregates;
mod binary;
mod build;
mod document;
mod functions;
mod operators;
mod sets;
mod value;

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, Expr, ScalarUDF};
use datafusion::prelude::SessionContext;

use super::casts::arrow_cast;
use super::refusal::{refusal, type_name};

pub use value::{check, key, normal};

pub(super) use functions::text_of_rows;
use functions::{JsonFunction, Task};

/// Key of a field's metadata that names the type of its values.
const EXTENSION_TYPE_NAME_KEY: &str = "ARROW:extension:name";

/// One of the two types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JsonKind {
    /// As it was written.
    Json,
    /// As Postgres writes it.
    Jsonb,
}

impl JsonKind {
    /// Returns the type of a field's values, if it is one of the two.
    pub fn of(field: &Field) -> Option<Self> {
        match field.metadata().get(EXTENSION_TYPE_NAME_KEY)?.as_str() {
            "neuroql.json" => Some(Self::Json),
            "neuroql.jsonb" => Some(Self::Jsonb),
            _ => None,
        }
    }

    /// Returns the name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Jsonb => "jsonb",
        }
    }

    /// Returns a field of the type, which may be NULL.
    pub fn field(self, name: &str) -> FieldRef {
        let mark = (EXTENSION_TYPE_NAME_KEY.to_owned(), format!("neuroql.{}", self.name()));
        Arc::new(Field::new(name, DataType::Utf8, true).with_metadata([mark].into()))
    }
}

/// An argument that a function of these types takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonArgument {
    /// A value of the type; a text without a type is read as one.
    Of(JsonKind),
    /// A value of either type, and no text.
    Either,
    /// A text.
    Text,
    /// A text or an integer: a key, or a place in an array.
    Key,
    /// An array of texts.
    Texts,
    /// A truth value.
    Boolean,
    /// A value of any type.
    Any,
}

/// Returns what a call takes if it is one of these functions, and the operator that it was written as, if there is one.
/// Arguments beyond those that are listed are as the last one.
pub fn arguments_of(call: &ScalarFunction) -> Option<(Vec<JsonArgument>, Option<&'static str>)> {
    let function = call.func.inner().downcast_ref::<JsonFunction>()?;
    Some((function.task().arguments(), function.task().operator()))
}

/// Returns an expression for equality of `jsonb`: texts that are equal if the values are. `1` and `1.0` are.
pub fn equality_key(value: Expr) -> Expr {
    JsonFunction::call(Task::Key, vec![value])
}

/// Returns the number that a `jsonb` is, as text. The name of the type that it is cast to is for errors.
pub fn number_text(value: Expr, to: &'static str) -> Expr {
    JsonFunction::call(Task::Number(to), vec![value])
}

/// Returns the truth value that a `jsonb` is.
pub fn boolean(value: Expr) -> Expr {
    JsonFunction::call(Task::Boolean, vec![value])
}

/// Returns the value that a text is, or one of the other type.
pub fn read(text: Expr, kind: JsonKind) -> Expr {
    JsonFunction::call(Task::Read(kind), vec![text])
}

/// Returns true if a call is one of [`read`].
pub(super) fn is_read(call: &ScalarFunction) -> bool {
    let task = call.func.inner().downcast_ref::<JsonFunction>().map(JsonFunction::task);
    matches!(task, Some(Task::Read(_)))
}

/// Returns the same value under a field of the type, which some expressions do not keep.
pub fn typed(value: Expr, kind: JsonKind) -> Expr {
    JsonFunction::call(Task::Typed(kind), vec![value])
}

/// Returns true if a call of [`typed`] has another one for the same type in it.
pub fn is_repeated(call: &ScalarFunction) -> bool {
    let typed = |call: &ScalarFunction| match call.func.inner().downcast_ref::<JsonFunction>()?.task() {
        Task::Typed(kind) => Some(kind),
        _ => None,
    };
    match (typed(call), call.args.as_slice()) {
        (Some(kind), [Expr::ScalarFunction(inner)]) => typed(inner) == Some(kind),
        _ => false,
    }
}

/// Returns `left @> right`.
pub fn contains(left: Expr, right: Expr) -> Expr {
    JsonFunction::call(Task::Contains { within: false }, vec![left, right])
}

/// Returns true if this is one of the functions, and refuses some values.
pub(super) fn may_refuse(function: &ScalarUDF) -> bool {
    function.inner().downcast_ref::<JsonFunction>().is_some_and(|function| function.task().may_refuse())
}

/// Registers the functions.
///
/// # Errors
/// If the session takes no functions, or has no `array_agg`.
pub(super) fn register(context: &SessionContext) -> Result<()> {
    for function in functions::named() {
        context.register_udf(function);
    }
    for aggregate in aggregates::named() {
        context.register_udaf(aggregate);
    }
    Ok(())
}

/// Returns the planner of the operators and aggregates. `array_agg` is DataFusion's.
pub(super) fn planner(array_agg: Arc<AggregateUDF>) -> Arc<dyn ExprPlanner> {
    Arc::new(operators::JsonPlanner { array_agg })
}

/// Returns a column of texts.
fn texts(function: &str, column: &ArrayRef) -> Result<StringArray> {
    match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
            Ok(arrow_cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
        }
        DataType::Dictionary(_, values) => texts(function, &arrow_cast(column, values)?),
        other => Err(no_such_function(function, other)),
    }
}

fn no_such_function(function: &str, argument: &DataType) -> datafusion::error::DataFusionError {
    refusal("42883", format!("function {function} does not exist for an argument of type {}", type_name(argument)))
}

/// Returns a column of values of a type.
///
/// # Errors
/// 22P02 if a text is none.
fn documents(function: &str, column: &ArrayRef, field: &Field, kind: JsonKind) -> Result<StringArray> {
    let texts = texts(function, column)?;
    let read = |text: &str| match kind {
        JsonKind::Json => check(text).map(|()| text.to_owned()),
        JsonKind::Jsonb => normal(text),
    };
    match (JsonKind::of(field), kind) {
        (Some(found), wanted) if found == wanted => Ok(texts),
        (Some(JsonKind::Jsonb), JsonKind::Json) => Ok(texts),
        _ => texts.iter().map(|text| text.map(read).transpose()).collect(),
    }
}

/// Returns the value of a row.
fn at(texts: &StringArray, row: usize) -> Option<&str> {
    texts.is_valid(row).then(|| texts.value(row))
}
