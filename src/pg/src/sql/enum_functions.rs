//! Functions of values of types that users make, which are texts here: reading a text as one, the place of a label in the order, the
//! least and the greatest, and composite values of their fields.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::exec_datafusion_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use datafusion_postgres::pgwire::api::Type;
use neuroql::Refusal;
use postgres_types::Kind;

use crate::catalog::own_types::{current, is_composite};
use crate::decode::{self, composite};
use crate::encode::column;
use crate::sql;

use crate::wire::error_response::{SqlError, external};

/// Task of a function with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Task {
    /// Reads a text, or an array of texts, as values.
    Read,
    /// Gives a value that is known to be one the type again.
    Typed,
    /// Returns the place of a label.
    Rank,
    /// Makes a composite value of its fields.
    Compose,
    /// Returns a text that two composite values have in common if they are equal.
    Key,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct EnumFunction {
    kind: Type,
    task: Task,
    signature: Signature,
}

fn call(kind: &Type, task: Task, args: Vec<Expr>) -> Expr {
    let signature = match args.len() {
        0 => Signature::nullary(Volatility::Immutable),
        count => Signature::any(count, Volatility::Immutable),
    };
    let function = ScalarUDF::new_from_impl(EnumFunction { kind: kind.clone(), task, signature });
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), args))
}

/// Returns a text, or an array of texts, as a value of a type.
pub(super) fn read(value: Expr, kind: &Type) -> Expr {
    call(kind, Task::Read, vec![value])
}

/// Returns a value under a field of its type, which some expressions do not keep.
pub(super) fn typed(value: Expr, kind: &Type) -> Expr {
    call(kind, Task::Typed, vec![value])
}

/// Returns the place of a value in the order of labels.
pub(super) fn rank(value: Expr, kind: &Type) -> Expr {
    call(kind, Task::Rank, vec![value])
}

/// Returns a composite value of its fields, which are of their types.
pub(super) fn compose(fields: Vec<Expr>, kind: &Type) -> Expr {
    call(kind, Task::Compose, fields)
}

/// Returns a text that two composite values have in common if they are equal: 0 and -0 are.
pub(super) fn equality_key(value: Expr, kind: &Type) -> Expr {
    call(kind, Task::Key, vec![value])
}

/// Returns the type of the values that a call returns, if it is one of these functions.
pub(super) fn kind_of(call: &ScalarFunction) -> Option<Type> {
    let function = call.func.inner().downcast_ref::<EnumFunction>()?;
    (!matches!(function.task, Task::Rank | Task::Key)).then(|| current(&function.kind))
}

/// Returns the type that one of these functions is of.
pub(crate) fn named_by(call: &ScalarFunction) -> Option<&Type> {
    Some(&call.func.inner().downcast_ref::<EnumFunction>()?.kind)
}

/// Returns true for a call of [`typed`].
pub(super) fn is_typed(call: &ScalarFunction) -> bool {
    call.func.inner().downcast_ref::<EnumFunction>().is_some_and(|function| function.task == Task::Typed)
}

/// Returns the places of labels.
fn places(kind: &Type) -> HashMap<&str, i32> {
    match kind.kind() {
        Kind::Enum(labels) => labels.iter().map(String::as_str).zip(0..).collect(),
        _ => HashMap::new(),
    }
}

fn no_label(kind: &Type, text: &str) -> DataFusionError {
    Refusal::error("22P02", format!("invalid input value for enum {}: \"{text}\"", decode::name(kind)))
}

impl EnumFunction {
    fn evaluate(&self, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let kind = current(&self.kind);
        if self.task == Task::Compose {
            return composed(&kind, columns, rows);
        }
        let Some(column) = columns.first() else { return Err(exec_datafusion_err!("{} takes a value", self.name())) };
        if let Kind::Array(item) = kind.kind() {
            let lists = cast(column, &DataType::new_list(DataType::Utf8, true))?;
            if is_composite(item) && self.task == Task::Read {
                let lists = lists.as_list::<i32>();
                let values = read_records(item, lists.values().as_string::<i32>())?;
                let field = Arc::new(Field::new_list_field(DataType::Utf8, true));
                return Ok(Arc::new(ListArray::new(field, lists.offsets().clone(), values, lists.nulls().cloned())));
            }
            if self.task == Task::Read {
                let lists = lists.as_list::<i32>();
                let places = places(item);
                for list in lists.iter().flatten() {
                    check(item, &places, list.as_string::<i32>())?;
                }
            }
            return Ok(lists);
        }
        let texts = cast(column, &DataType::Utf8)?;
        let labels = texts.as_string::<i32>();
        let places = places(&kind);
        Ok(match self.task {
            Task::Typed => texts,
            Task::Read if is_composite(&kind) => read_records(&kind, labels)?,
            Task::Key => {
                let key = |text: &str| key(&kind, text).map_err(external);
                let keys = labels.iter().map(|text| text.map(key).transpose());
                Arc::new(keys.collect::<Result<StringArray>>()?)
            }
            Task::Compose => return Err(exec_datafusion_err!("{} takes fields", self.name())),
            Task::Read => {
                check(&kind, &places, labels)?;
                texts
            }
            Task::Rank => {
                let place = |label: &str| places.get(label).copied().ok_or_else(|| no_label(&kind, label));
                let ranks = labels.iter().map(|label| label.map(place).transpose());
                Arc::new(ranks.collect::<Result<Int32Array>>()?)
            }
        })
    }
}

/// Reads texts as composite values.
fn read_records(kind: &Type, texts: &StringArray) -> Result<ArrayRef> {
    let read = |text: &str| -> Result<Option<String>> {
        let value = decode::from_text(kind, text, "UTC").map_err(external)?;
        Ok(value.try_as_str().flatten().map(str::to_owned))
    };
    let values = texts.iter().map(|text| text.map_or(Ok(None), read));
    Ok(Arc::new(values.collect::<Result<StringArray>>()?))
}

/// Makes composite values of columns of their fields.
fn composed(kind: &Type, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let typed = columns.iter().zip(composite::fields(kind)).map(|(column, field)| {
        match decode::arrow_type(field.type_(), "UTC") {
            Some(wanted) => Ok(cast(column, &wanted)?),
            None => Err(exec_datafusion_err!("a field of another type")),
        }
    });
    composite::texts(typed.collect::<Result<_>>()?, rows).map_err(external)
}

/// Returns the text of a composite value, in which numbers that are equal are alike.
fn key(kind: &Type, text: &str) -> std::result::Result<String, SqlError> {
    let fields = composite::fields(kind).iter().zip(composite::parts(kind, text)?);
    let columns = fields.map(|(field, part)| {
        let part = match (part, field.type_()) {
            (Some(part), kind) if is_composite(kind) => Some(key(kind, &part)?),
            (Some(part), &Type::FLOAT4 | &Type::FLOAT8) if part == "-0" => Some("0".into()),
            (part, _) => part,
        };
        let column: ArrayRef = Arc::new(StringArray::from(vec![part]));
        Ok(column)
    });
    let columns = columns.collect::<std::result::Result<Vec<_>, SqlError>>()?;
    let texts = composite::texts(columns, 1)?;
    Ok(texts.as_string::<i32>().iter().next().flatten().unwrap_or_default().to_owned())
}

fn check(kind: &Type, places: &HashMap<&str, i32>, texts: &StringArray) -> Result<()> {
    match texts.iter().flatten().find(|text| !places.contains_key(text)) {
        Some(text) => Err(no_label(kind, text)),
        None => Ok(()),
    }
}

impl ScalarUDFImpl for EnumFunction {
    fn name(&self) -> &str {
        match self.task {
            // The engine knows that it may fail.
            Task::Read => "neuroql_enum",
            Task::Typed => "neuroql_typed_enum",
            Task::Rank => "neuroql_enum_rank",
            Task::Compose => "neuroql_record",
            Task::Key => "neuroql_record_key",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.task {
            Task::Rank => DataType::Int32,
            Task::Key => DataType::Utf8,
            _ => sql::own_types::field(&self.kind).data_type().clone(),
        })
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        let field = Field::new(self.name(), self.return_type(&[])?, true);
        Ok(Arc::new(match self.task {
            Task::Rank | Task::Key => field,
            _ => field.with_metadata(column::mark(&self.kind)),
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let columns = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let values = self.evaluate(&columns, rows)?;
        match is_scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)),
            false => Ok(ColumnarValue::Array(values)),
        }
    }
}

/// `min` or `max` of an enum.
#[derive(Debug, PartialEq, Eq, Hash)]
struct EnumExtreme {
    kind: Type,
    is_greatest: bool,
    signature: Signature,
}

/// Returns `min` or `max` of a type by its name.
pub(super) fn extreme(function: &str, kind: &Type) -> Option<AggregateUDF> {
    let is_greatest = match function {
        "min" => false,
        "max" => true,
        _ => return None,
    };
    let signature = Signature::any(1, Volatility::Immutable);
    Some(AggregateUDF::from(EnumExtreme { kind: kind.clone(), is_greatest, signature }))
}

/// Returns true for the name of `min` and `max` of a type.
pub(super) fn is_extreme(function: &str) -> bool {
    matches!(function, LEAST | GREATEST)
}

const LEAST: &str = "neuroql_enum_min";
const GREATEST: &str = "neuroql_enum_max";

impl AggregateUDFImpl for EnumExtreme {
    fn name(&self) -> &str {
        if self.is_greatest { GREATEST } else { LEAST }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field(&self, _: &[FieldRef]) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, true).with_metadata(column::mark(&self.kind))))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[best]", args.name), DataType::Utf8, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let kind = current(&self.kind);
        let labels = match kind.kind() {
            Kind::Enum(labels) => labels.clone(),
            _ => Vec::new(),
        };
        let places = labels.iter().cloned().zip(0..).collect();
        Ok(Box::new(Best { kind, labels, places, is_greatest: self.is_greatest, found: None }))
    }
}

/// The best label that was seen.
#[derive(Debug)]
struct Best {
    kind: Type,
    labels: Vec<String>,
    places: HashMap<String, usize>,
    is_greatest: bool,
    found: Option<usize>,
}

impl Accumulator for Best {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(column) = values.first() else { return Ok(()) };
        let texts = cast(column, &DataType::Utf8)?;
        for text in texts.as_string::<i32>().iter().flatten() {
            let place = *self.places.get(text).ok_or_else(|| no_label(&self.kind, text))?;
            self.found = Some(match self.found {
                Some(found) if self.is_greatest => found.max(place),
                Some(found) => found.min(place),
                None => place,
            });
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Utf8(self.found.and_then(|found| self.labels.get(found)).cloned()))
    }

    fn size(&self) -> usize {
        // Each label is there twice.
        let texts: usize = self.labels.iter().map(|label| 2 * (label.len() + size_of::<String>())).sum();
        size_of_val(self) + texts
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An enum that no server has.
    fn mood() -> Type {
        let labels = ["sad", "ok", "happy"].map(str::to_owned).to_vec();
        Type::new("mood".into(), 1, Kind::Enum(labels), "public".into())
    }

    fn evaluated(kind: Type, task: Task, column: ArrayRef) -> Result<ArrayRef> {
        EnumFunction { kind, task, signature: Signature::any(1, Volatility::Immutable) }.evaluate(&[column], 1)
    }

    #[test]
    fn texts_are_labels() {
        let column: ArrayRef = Arc::new(StringArray::from(vec![Some("happy"), None, Some("sad")]));
        let read = evaluated(mood(), Task::Read, Arc::clone(&column)).unwrap();
        assert_eq!(&read, &column);
        let ranks = evaluated(mood(), Task::Rank, column).unwrap();
        assert_eq!(ranks.as_ref(), &Int32Array::from(vec![Some(2), None, Some(0)]) as &dyn Array);
        let views: ArrayRef = Arc::new(datafusion::arrow::array::StringViewArray::from(vec!["ok"]));
        assert_eq!(evaluated(mood(), Task::Rank, views).unwrap().as_ref(), &Int32Array::from(vec![1]) as &dyn Array);
        let bad: ArrayRef = Arc::new(StringArray::from(vec!["Sad"]));
        assert!(evaluated(mood(), Task::Read, bad).is_err());
    }

    #[test]
    fn arrays_of_labels_are_read() {
        let array = Type::new("_mood".into(), 2, Kind::Array(mood()), "public".into());
        let lists = |texts: Vec<Option<&str>>| -> ArrayRef {
            let values = Arc::new(StringArray::from(texts));
            let offsets = datafusion::arrow::buffer::OffsetBuffer::from_lengths([values.len()]);
            let field = Arc::new(Field::new_list_field(DataType::Utf8, true));
            Arc::new(ListArray::new(field, offsets, values, None))
        };
        assert!(evaluated(array.clone(), Task::Read, lists(vec![Some("sad"), None])).is_ok());
        assert!(evaluated(array, Task::Read, lists(vec![Some("bad")])).is_err());
    }

    #[test]
    fn the_best_is_by_the_order_of_labels() {
        for (is_greatest, expected) in [(true, "happy"), (false, "sad")] {
            let function =
                EnumExtreme { kind: mood(), is_greatest, signature: Signature::any(1, Volatility::Immutable) };
            let Kind::Enum(labels) = mood().kind().clone() else { panic!("no enum") };
            let places = labels.iter().cloned().zip(0..).collect();
            let mut best = Best { kind: mood(), labels, places, is_greatest: function.is_greatest, found: None };
            assert_eq!(best.evaluate().unwrap(), ScalarValue::Utf8(None));
            best.update_batch(&[Arc::new(StringArray::from(vec![Some("ok"), None]))]).unwrap();
            best.merge_batch(&[Arc::new(StringArray::from(vec![Some("sad"), Some("happy")]))]).unwrap();
            assert_eq!(best.evaluate().unwrap(), ScalarValue::Utf8(Some(expected.into())));
        }
    }
}
