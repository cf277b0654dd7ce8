//! `character(n)`, which the catalogs call `bpchar`: texts that blanks fill up, under a field whose metadata name the type.
//!
//! Values have their blanks, as in Postgres. What compares them, or takes them for `text`, does so without: see
//! [`without_blanks`].

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::casts::arrow_cast;
use super::refusal::refusal;
use super::types::LENGTH;

/// Key of a field's metadata that names the type of its values.
const EXTENSION_TYPE_NAME_KEY: &str = "ARROW:extension:name";

/// The name of the type there.
const NAME: &str = "neuroql.bpchar";

/// The greatest length, as in Postgres.
pub const LONGEST: u64 = 10_485_760;

/// Greatest number of bytes of the values of a batch, whose offsets have 32 bits.
const MOST: usize = i32::MAX as usize;

/// Returns true if a field's values are of the type.
pub fn is_bpchar(field: &Field) -> bool {
    field.metadata().get(EXTENSION_TYPE_NAME_KEY).is_some_and(|name| name == NAME)
}

/// Returns a field of `character(n)`, or of `bpchar` without a length.
pub fn field(name: &str, length: Option<usize>) -> FieldRef {
    let mark = (EXTENSION_TYPE_NAME_KEY.to_owned(), NAME.to_owned());
    let length = length.map(|length| (LENGTH.to_owned(), length.to_string()));
    Arc::new(Field::new(name, DataType::Utf8, true).with_metadata(std::iter::once(mark).chain(length).collect()))
}

/// Task of a function of this type with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BpcharTask {
    /// A cast to `character(n)`, which cuts what is too long.
    Cast(usize),
    /// The same value under a field of the type.
    Typed,
    /// The text that a column of type `character(n)` takes; nothing but blanks is cut.
    Assign(usize),
    /// The value as `text`, or an array of values as one of `text`.
    WithoutBlanks,
    /// The value as the type's output function writes it.
    WithBlanks,
}

impl BpcharTask {
    /// Returns true if the values are of the type; others are texts.
    pub fn is_typed(self) -> bool {
        matches!(self, Self::Cast(_) | Self::Typed)
    }
}

/// Returns a text as a value of `character(n)`, or of `bpchar` without a length. One that is too long is cut.
pub fn cast(text: Expr, length: Option<usize>) -> Expr {
    call(length.map_or(BpcharTask::Typed, BpcharTask::Cast), text)
}

/// Returns a text as the value of a column of type `character(n)`. One that is too long is an error, unless only blanks
/// are cut.
pub fn assigned(text: Expr, length: usize) -> Expr {
    call(BpcharTask::Assign(length), text)
}

/// Returns a value as `text`. Values are equal, and in the order of the type, if these texts are. Of an array of values,
/// this returns an array of texts.
pub fn without_blanks(value: Expr) -> Expr {
    call(BpcharTask::WithoutBlanks, value)
}

/// Returns a value as a text with the blanks at its end, which is what functions of any type and patterns see.
pub fn with_blanks(value: Expr) -> Expr {
    call(BpcharTask::WithBlanks, value)
}

fn call(task: BpcharTask, value: Expr) -> Expr {
    let function = ScalarUDF::from(BpcharFunction { task, signature: Signature::any(1, Volatility::Immutable) });
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), vec![value]))
}

/// Returns what a call does, if it is one of these functions.
pub fn task_of(call: &ScalarFunction) -> Option<BpcharTask> {
    call.func.inner().downcast_ref::<BpcharFunction>().map(|function| function.task)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BpcharFunction {
    task: BpcharTask,
    signature: Signature,
}

impl ScalarUDFImpl for BpcharFunction {
    fn name(&self) -> &str {
        match self.task {
            // Constants of the type stay calls, which have its field.
            BpcharTask::Cast(_) => "bpchar",
            BpcharTask::Assign(_) => "pg_bpchar_assigned",
            BpcharTask::Typed => "bpchar_typed",
            BpcharTask::WithoutBlanks => "pg_bpchar_text",
            BpcharTask::WithBlanks => "pg_bpchar_out",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match arguments {
            [DataType::List(_)] if self.task == BpcharTask::WithoutBlanks => DataType::new_list(DataType::Utf8, true),
            _ => DataType::Utf8,
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(match self.task {
            BpcharTask::Cast(length) => field(self.name(), Some(length)),
            BpcharTask::Typed => field(self.name(), None),
            BpcharTask::Assign(_) | BpcharTask::WithoutBlanks | BpcharTask::WithBlanks => {
                let arguments: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
                Arc::new(Field::new(self.name(), self.return_type(&arguments)?, true))
            }
        })
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(values)] => Ok(ColumnarValue::Array(self.task.evaluate(values)?)),
            [ColumnarValue::Scalar(value)] => {
                let values = self.task.evaluate(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?))
            }
            _ => exec_err!("{} takes one argument", self.name()),
        }
    }
}

impl BpcharTask {
    fn evaluate(self, values: &ArrayRef) -> Result<ArrayRef> {
        if self == Self::WithoutBlanks
            && let Some(lists) = values.as_list_opt::<i32>()
        {
            let field = Arc::new(Field::new_list_field(DataType::Utf8, true));
            let items = self.evaluate(lists.values())?;
            return Ok(Arc::new(ListArray::try_new(field, lists.offsets().clone(), items, lists.nulls().cloned())?));
        }
        let texts = arrow_cast(values, &DataType::Utf8)?;
        Ok(match self {
            Self::Typed | Self::WithBlanks => texts,
            Self::WithoutBlanks => {
                let texts = texts.as_string::<i32>().iter();
                Arc::new(texts.map(|text| text.map(trimmed)).collect::<StringArray>())
            }
            Self::Cast(length) => Arc::new(fitted(texts.as_string(), length, true)?),
            Self::Assign(length) => Arc::new(fitted(texts.as_string(), length, false)?),
        })
    }
}

/// Returns a value without the blanks at its end.
pub fn trimmed(text: &str) -> &str {
    text.trim_end_matches(' ')
}

fn fitted(texts: &StringArray, length: usize, is_cast: bool) -> Result<StringArray> {
    let mut fitted = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
    let mut total = 0;
    for text in texts {
        let Some(text) = text else {
            fitted.append_null();
            continue;
        };
        let value = fit(text, length, is_cast)?;
        total += value.len();
        if total > MOST {
            return Err(refusal("54000", "the values of type character of a batch are too long"));
        }
        fitted.append_value(value);
    }
    Ok(fitted.finish())
}

/// Returns a text of this number of characters.
fn fit(text: &str, length: usize, is_cast: bool) -> Result<Cow<'_, str>> {
    match text.char_indices().nth(length) {
        Some((end, _)) if is_cast || text[end..].bytes().all(|byte| byte == b' ') => Ok(Cow::Borrowed(&text[..end])),
        Some(_) => Err(refusal("22001", format!("value too long for type character({length})"))),
        None => match length - text.chars().count() {
            0 => Ok(Cow::Borrowed(text)),
            missing => Ok(Cow::Owned(format!("{text}{:missing$}", ""))),
        },
    }
}

/// Returns `min` or `max` of texts without blanks, whose value is one of `character(n)`.
pub fn extreme(function: Arc<AggregateUDF>, length: usize) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(Extreme { function, length }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme {
    function: Arc<AggregateUDF>,
    length: usize,
}

impl AggregateUDFImpl for Extreme {
    delegate!(name, signature, return_type, state_fields, is_nullable, coerce_types);

    fn return_field(&self, _: &[FieldRef]) -> Result<FieldRef> {
        Ok(field(self.name(), None))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Padded { inner: self.function.accumulator(args)?, length: self.length }))
    }
}

#[derive(Debug)]
struct Padded {
    inner: Box<dyn Accumulator>,
    length: usize,
}

impl Accumulator for Padded {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = self.inner.evaluate()?;
        match value.try_as_str() {
            Some(Some(text)) => Ok(ScalarValue::Utf8(Some(fit(text, self.length, true)?.into_owned()))),
            _ => Ok(ScalarValue::Utf8(None)),
        }
    }

    fn size(&self) -> usize {
        self.inner.size() + size_of::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with PostgreSQL 15.
    #[test]
    fn values_have_their_number_of_characters() {
        let cast = |text, length| fit(text, length, true).map(Cow::into_owned).unwrap();
        assert_eq!(cast("ab", 4), "ab  ");
        assert_eq!(cast("abcdef", 4), "abcd");
        assert_eq!(cast("ab", 2), "ab");
        assert_eq!(cast("", 3), "   ");
        assert_eq!(cast("éü", 3), "éü ");
        assert_eq!(cast("éüß", 2), "éü");
        assert_eq!(fit("ab    ", 3, false).unwrap(), "ab ");
        assert!(fit("ab  c", 3, false).is_err());
        assert!(fit("ab\t", 2, false).is_err());
        assert_eq!(trimmed("a\t  "), "a\t");
    }

    #[test]
    fn strings_of_any_kind_are_values() {
        use datafusion::arrow::array::{LargeStringArray, NullArray, StringViewArray};
        let columns: [ArrayRef; 3] = [
            Arc::new(LargeStringArray::from(vec![Some("a"), None])),
            Arc::new(StringViewArray::from(vec![Some("a"), None])),
            Arc::new(StringArray::from(vec![Some("a  "), None])),
        ];
        for column in &columns {
            let values = BpcharTask::Cast(2).evaluate(column).unwrap();
            assert_eq!(values.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a "), None]);
            let texts = BpcharTask::WithoutBlanks.evaluate(column).unwrap();
            assert_eq!(texts.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a"), None]);
        }
        let nulls: ArrayRef = Arc::new(NullArray::new(2));
        assert_eq!(BpcharTask::Assign(2).evaluate(&nulls).unwrap().null_count(), 2);
    }
}
