//! Range and multirange types: texts in their normal form under a field whose metadata name the type.
//!
//! Texts of equal values are equal, but for `numeric`, which keeps the digits that were written; instants are in UTC. So
//! values are compared by a [key](compared), and written for a client in the style and zone of its session.

mod algebra;
mod columns;
mod ends;
mod functions;
mod operators;
mod point;
mod value;

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, ScalarUDF, binary_expr};
use datafusion::prelude::SessionContext;

pub use columns::spelled;
pub use point::{Element, Point};
pub use value::{Bound, Span, parse, write};

use functions::{RangeFunction, Task};
use value::Side;

/// Key of a field's metadata that names the type of its values.
const EXTENSION_TYPE_NAME_KEY: &str = "ARROW:extension:name";

/// Prefix of a type's name in the metadata of a field.
const MARK: &str = "neuroql.";

/// A type of ranges or multiranges, or of arrays of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RangeType {
    /// Type of the bounds.
    pub element: Element,
    /// True for a multirange.
    pub is_multi: bool,
    /// True for arrays.
    pub is_array: bool,
}

impl RangeType {
    /// Returns the type of ranges of a type.
    pub fn of_element(element: Element) -> Self {
        Self { element, is_multi: false, is_array: false }
    }

    /// Returns the type of a name as `pg_type` has it: `int4range`, `_int4range`.
    pub fn named(name: &str) -> Option<Self> {
        let (is_array, plain) = name.strip_prefix('_').map_or((false, name), |plain| (true, plain));
        let element = |suffix: &str| {
            let prefix = plain.strip_suffix(suffix)?;
            Element::ALL.into_iter().find(|element| element.prefix() == prefix)
        };
        match element("multirange") {
            Some(element) => Some(Self { element, is_multi: true, is_array }),
            None => Some(Self { element: element("range")?, is_multi: false, is_array }),
        }
    }

    /// Returns the type of a field's values, if it is one of these.
    pub fn of(field: &Field) -> Option<Self> {
        Self::named(field.metadata().get(EXTENSION_TYPE_NAME_KEY)?.strip_prefix(MARK)?)
    }

    /// Returns the name in `pg_type`.
    pub fn name(self) -> String {
        let (array, suffix) =
            (if self.is_array { "_" } else { "" }, if self.is_multi { "multirange" } else { "range" });
        format!("{array}{}{suffix}", self.element.prefix())
    }

    /// Returns the name in messages.
    pub fn shown(self) -> String {
        if self.is_array { format!("{}[]", self.item().name()) } else { self.name() }
    }

    /// Returns the type of arrays of these values.
    #[must_use]
    pub fn array(self) -> Self {
        Self { is_array: true, ..self }
    }

    /// Returns the type of an array's elements.
    #[must_use]
    pub fn item(self) -> Self {
        Self { is_array: false, ..self }
    }

    /// Returns the type of multiranges over the same bounds.
    #[must_use]
    pub fn multi(self) -> Self {
        Self { is_multi: true, ..self }
    }

    /// Returns the Arrow type of values.
    pub fn data_type(self) -> DataType {
        if self.is_array { DataType::new_list(DataType::Utf8, true) } else { DataType::Utf8 }
    }

    /// Returns a field of the type, which may be NULL.
    pub fn field(self, name: &str) -> FieldRef {
        let mark = (EXTENSION_TYPE_NAME_KEY.to_owned(), format!("{MARK}{}", self.name()));
        Arc::new(Field::new(name, self.data_type(), true).with_metadata([mark].into()))
    }

    /// Returns true if the texts of values are equal if the values are.
    pub fn has_equal_texts(self) -> bool {
        self.element != Element::Num
    }
}

/// Reads a text as a value in its normal form. `zone` is that of instants which name none.
///
/// # Errors
/// Those of [`parse`].
pub fn normal(kind: RangeType, text: &str, zone: &str) -> Result<String> {
    write(kind, &parse(kind, text, zone)?)
}

/// Returns true if a text would be another value in another time zone.
pub fn depends_on_zone(kind: RangeType, text: &str) -> bool {
    let read = |zone: &str| normal(kind, text, zone).ok();
    kind.element == Element::Tstz && read("UTC") != read("+01:00")
}

/// Returns the text of an instant with its distance from UTC, which is none. `zone` is that of a text which names none.
///
/// # Errors
/// 22007 and 22008 if the text is no instant.
pub fn instant(text: &str, zone: &str) -> Result<String> {
    Point::read(Element::Tstz, text, zone)?.written(Element::Tstz)
}

/// Returns a comparison of two values of one type.
pub fn compared(kind: RangeType, left: Expr, op: Operator, right: Expr) -> Expr {
    binary_expr(key(kind, left), op, key(kind, right))
}

/// Returns an expression for the order and the equality of values.
pub fn key(kind: RangeType, value: Expr) -> Expr {
    RangeFunction::call(Task::Key(kind), vec![value])
}

/// Returns the value that a text is.
pub fn read(text: Expr, kind: RangeType) -> Expr {
    RangeFunction::call(Task::Read(kind), vec![text])
}

/// Returns a value as the text that the session shows.
pub fn text(value: Expr, kind: RangeType) -> Expr {
    RangeFunction::call(Task::Text(kind), vec![value])
}

/// Returns a range as a multirange.
pub fn multirange(value: Expr, kind: RangeType) -> Expr {
    RangeFunction::call(Task::Multi(Some(kind)), vec![value])
}

/// Returns an array of values.
pub fn array(kind: RangeType, values: Vec<Expr>) -> Expr {
    RangeFunction::call(Task::Array(kind.item()), values)
}

/// Returns the same value under a field of the type, which some expressions do not keep.
pub fn typed(value: Expr, kind: RangeType) -> Expr {
    RangeFunction::call(Task::Typed(kind), vec![value])
}

/// Returns the text that a table keeps of a value, without a type.
pub fn stored(value: Expr, kind: RangeType) -> Expr {
    RangeFunction::call(Task::Stored(kind), vec![value])
}

/// Returns the lower or the upper bound of a value.
pub fn end(kind: RangeType, value: Expr, is_upper: bool) -> Expr {
    RangeFunction::call(Task::End(kind, if is_upper { Side::Upper } else { Side::Lower }), vec![value])
}

/// Returns true for a call of these functions.
pub fn is_call(call: &ScalarFunction) -> bool {
    call.func.inner().downcast_ref::<RangeFunction>().is_some()
}

/// Returns true if a call of [`typed`] has a call of one of these functions in it which gives the type anyway.
pub fn is_repeated(call: &ScalarFunction) -> bool {
    let task = |call: &ScalarFunction| call.func.inner().downcast_ref::<RangeFunction>().map(RangeFunction::task);
    match (task(call), call.args.as_slice()) {
        (Some(Task::Typed(kind)), [Expr::ScalarFunction(inner)]) => task(inner) == Some(Task::Typed(kind)),
        _ => false,
    }
}

/// Argument of a function that is called by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeArgument {
    /// Two bounds, and a text that says whether they are inclusive; or a text that is cast.
    Bounds(Element),
    /// Ranges of the type, as many as there are.
    Ranges(Element),
    /// Values of any of the types, of which all are of one.
    Any,
}

/// Returns what a call takes if it is one of the functions that are called by their names.
pub fn arguments_of(call: &ScalarFunction) -> Option<RangeArgument> {
    match call.func.inner().downcast_ref::<RangeFunction>()?.task() {
        Task::Make(element) => Some(RangeArgument::Bounds(element)),
        Task::MakeMulti(element) => Some(RangeArgument::Ranges(element)),
        Task::IsEmpty | Task::Inclusive(_) | Task::Infinite(_) | Task::Merge | Task::Multi(None) => {
            Some(RangeArgument::Any)
        }
        _ => None,
    }
}

/// Returns true if this is one of the functions, and refuses some values.
pub(super) fn may_refuse(function: &ScalarUDF) -> bool {
    function.inner().downcast_ref::<RangeFunction>().is_some_and(|function| function.task().may_refuse())
}

/// Registers the functions.
///
/// # Errors
/// If the session takes no functions, or has no `lower`.
pub(super) fn register(context: &SessionContext) -> Result<()> {
    for function in functions::named() {
        context.register_udf(function);
    }
    for name in ["lower", "upper"] {
        let of_texts = context.udf(name)?;
        context.register_udf(ends::EndFunction::of(of_texts));
    }
    Ok(())
}

/// Returns the planner of the operators.
pub(super) fn planner() -> Arc<dyn ExprPlanner> {
    Arc::new(operators::RangePlanner)
}

/// Returns the type of an expression's values, if it is known to be one of these.
fn kind_of(expr: &Expr, schema: &datafusion::common::DFSchema) -> Option<RangeType> {
    match expr {
        Expr::Cast(cast) => RangeType::of(&cast.field),
        Expr::Alias(_)
        | Expr::Column(_)
        | Expr::OuterReferenceColumn(..)
        | Expr::Literal(_, Some(_))
        | Expr::Placeholder(_)
        | Expr::ScalarFunction(_)
        | Expr::ScalarSubquery(_) => RangeType::of(&expr.to_field(schema).ok()?.1),
        _ => None,
    }
}
