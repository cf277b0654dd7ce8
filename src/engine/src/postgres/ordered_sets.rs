//! `percentile_cont`, `percentile_disc` and `mode`, of values in order.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, ListArray, MutableArrayData, RecordBatch, RecordBatchOptions, make_array,
    make_comparator, new_empty_array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::{SortOptions, concat, filter, is_not_null, sort_to_indices, take};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, Schema};
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Signature, Volatility};
use datafusion::scalar::ScalarValue;

use super::casts::arrow_cast;
use super::refusal::{refusal, type_name};

/// Statistic that is computed of the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Task {
    /// The value at a share of the way, between two values if it falls there.
    Continuous,
    /// The first value up to which there is a share of all.
    Discrete,
    /// The most frequent value, the first of those in order.
    Mode,
}

/// Returns the aggregates.
pub(super) fn aggregates() -> [AggregateUDF; 3] {
    [Task::Continuous, Task::Discrete, Task::Mode].map(|task| {
        let aliases = if task == Task::Continuous { vec!["quantile_cont".to_owned()] } else { Vec::new() };
        let signature = Signature::user_defined(Volatility::Immutable);
        AggregateUDF::from(OrderedSet { task, is_descending: false, aliases, signature })
    })
}

/// Returns true if a call is one of these aggregates, whose order is still to be told to its function.
pub(super) fn is_to_order(call: &AggregateFunction) -> bool {
    !call.params.order_by.is_empty() && call.func.inner().downcast_ref::<OrderedSet>().is_some()
}

/// Returns such a call without an order: the function sorts its values itself, so that the rows may come in any, and aggregates beside
/// it may have others.
pub(super) fn ordered(mut call: AggregateFunction) -> AggregateFunction {
    let order = std::mem::take(&mut call.params.order_by);
    if let Some(function) = call.func.inner().downcast_ref::<OrderedSet>()
        && order.first().is_some_and(|order| !order.asc)
    {
        let OrderedSet { task, aliases, signature, .. } = function;
        let (aliases, signature) = (aliases.clone(), signature.clone());
        call.func = Arc::new(AggregateUDF::from(OrderedSet { task: *task, is_descending: true, aliases, signature }));
    }
    call
}

/// An aggregate with WITHIN GROUP. Its arguments are the values and, but for `mode`, a share or an array of shares.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OrderedSet {
    task: Task,
    is_descending: bool,
    aliases: Vec<String>,
    signature: Signature,
}

impl OrderedSet {
    /// Returns the types that arguments are cast to.
    fn types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let missing = || {
            let types = given.iter().map(type_name).collect::<Vec<_>>().join(", ");
            Err(refusal("42883", format!("function {}({types}) does not exist", self.name())))
        };
        let value = match (self.task, given.first()) {
            (Task::Continuous, Some(DataType::Interval(_))) => {
                return Err(refusal("0A000", "percentile_cont of interval is not supported"));
            }
            (Task::Continuous, Some(number)) if number.is_numeric() || number.is_null() => DataType::Float64,
            (Task::Continuous, _) | (_, None) => return missing(),
            (_, Some(nested)) if nested.is_nested() || matches!(nested, DataType::Interval(_)) => {
                let message = format!("{} of {} is not supported", self.name(), type_name(nested));
                return Err(refusal("0A000", message));
            }
            // A text without a type is one.
            (_, Some(DataType::Null)) => DataType::Utf8,
            (_, Some(value)) => value.clone(),
        };
        match (self.task, given) {
            (Task::Mode, [_]) => Ok(vec![value]),
            (Task::Mode, _) => missing(),
            (_, [_, DataType::List(item)]) if item.data_type().is_numeric() || item.data_type().is_null() => {
                Ok(vec![value, DataType::new_list(DataType::Float64, true)])
            }
            (_, [_, share]) if share.is_numeric() || share.is_string() || share.is_null() => {
                Ok(vec![value, DataType::Float64])
            }
            _ => missing(),
        }
    }
}

impl AggregateUDFImpl for OrderedSet {
    fn name(&self) -> &str {
        match self.task {
            Task::Continuous => "percentile_cont",
            Task::Discrete => "percentile_disc",
            Task::Mode => "mode",
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        // The planner would wrap an error of this method; that of the result's type goes as it is.
        Ok(self.types(given).unwrap_or_else(|_| given.to_vec()))
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let types = self.types(arguments)?;
        let Some(value) = types.first() else { return exec_err!("{} takes an argument", self.name()) };
        Ok(match types.get(1) {
            Some(DataType::List(_)) => DataType::new_list(value.clone(), true),
            _ => value.clone(),
        })
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let value = args.input_fields.first().map_or(DataType::Null, |field| field.data_type().clone());
        let name = format_state_name(args.name, "values");
        Ok(vec![Arc::new(Field::new(name, DataType::new_list(value, true), true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return Err(refusal("42601", "cannot use DISTINCT with WITHIN GROUP"));
        }
        let value = args.expr_fields.first().map_or(DataType::Null, |field| field.data_type().clone());
        let shares = match self.task {
            Task::Mode => Shares::None,
            Task::Continuous | Task::Discrete => shares(&args, self.name())?,
        };
        let is_descending = self.is_descending;
        Ok(Box::new(Values { task: self.task, data_type: value, shares, is_descending, parts: Vec::new() }))
    }
}

/// The shares that are asked for.
#[derive(Debug, Clone)]
enum Shares {
    None,
    /// One, or NULL.
    One(Option<f64>),
    /// An array of them, or NULL.
    Many(Option<Vec<Option<f64>>>),
}

/// Computes the constant shares of a call.
fn shares(args: &AccumulatorArgs, name: &str) -> Result<Shares> {
    let not_constant = || refusal("0A000", format!("{name} of a share that is not a constant is not supported"));
    let Some(expr) = args.exprs.get(1) else { return exec_err!("{name} takes two arguments") };
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?;
    let value = match expr.evaluate(&row).map_err(|_| not_constant())? {
        ColumnarValue::Scalar(value) => value.to_array()?,
        ColumnarValue::Array(values) => values,
    };
    let number = |values: &ArrayRef| -> Result<Float64Array> {
        Ok(arrow_cast(values, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
    };
    Ok(match value.data_type() {
        DataType::List(_) => {
            let lists = value.as_list::<i32>();
            match lists.is_valid(0) {
                true => Shares::Many(Some(number(&lists.value(0))?.iter().collect())),
                false => Shares::Many(None),
            }
        }
        _ => Shares::One(number(&value)?.iter().next().flatten()),
    })
}

fn checked(share: f64) -> Result<f64> {
    if (0.0..=1.0).contains(&share) {
        return Ok(share);
    }
    Err(refusal("22003", format!("percentile value {share} is not between 0 and 1")))
}

/// The values so far that are not NULL.
#[derive(Debug)]
struct Values {
    task: Task,
    data_type: DataType,
    shares: Shares,
    is_descending: bool,
    parts: Vec<ArrayRef>,
}

/// Returns values as they are ordered: there is one NaN and one zero.
fn normal(values: &ArrayRef) -> ArrayRef {
    match values.data_type() {
        DataType::Float64 => {
            let each = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
            Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(each))
        }
        DataType::Float32 => {
            let each = |value: f32| if value.is_nan() { f32::NAN } else { value + 0.0 };
            Arc::new(values.as_primitive::<Float32Type>().unary::<_, Float32Type>(each))
        }
        _ => Arc::clone(values),
    }
}

impl Values {
    fn add(&mut self, values: &ArrayRef) -> Result<()> {
        let values = match values.logical_null_count() {
            0 => Arc::clone(values),
            _ => filter(values, &is_not_null(values)?)?,
        };
        if values.is_empty() {
            return Ok(());
        }
        // A part of a batch would hold all of it.
        let data = values.to_data();
        let mut copied = MutableArrayData::new(vec![&data], false, data.len());
        copied.try_extend(0, 0, data.len())?;
        self.parts.push(make_array(copied.freeze()));
        Ok(())
    }

    fn all(&self) -> Result<ArrayRef> {
        let parts: Vec<&dyn Array> = self.parts.iter().map(AsRef::as_ref).collect();
        Ok(if parts.is_empty() { new_empty_array(&self.data_type) } else { concat(&parts)? })
    }

    fn sorted(&self) -> Result<ArrayRef> {
        let all = normal(&self.all()?);
        let options = SortOptions { descending: self.is_descending, nulls_first: false };
        let order = sort_to_indices(&all, Some(options), None)?;
        Ok(take(&all, &order, None)?)
    }

    /// Returns the value at a share of the way.
    fn at(&self, sorted: &ArrayRef, share: Option<f64>) -> Result<ScalarValue> {
        let Some(share) = share else { return ScalarValue::try_from(&self.data_type) };
        let share = checked(share)?;
        if sorted.is_empty() {
            return ScalarValue::try_from(&self.data_type);
        }
        if self.task == Task::Discrete {
            let place = (share * sorted.len() as f64).ceil() as usize;
            return ScalarValue::try_from_array(sorted, place.clamp(1, sorted.len()) - 1);
        }
        let numbers = sorted.as_primitive::<Float64Type>();
        let way = share * (numbers.len() - 1) as f64;
        let (low, high) = (way.floor() as usize, way.ceil() as usize);
        let (low, high) = (low.min(numbers.len() - 1), high.min(numbers.len() - 1));
        let first = numbers.value(low);
        if low == high {
            return Ok(ScalarValue::Float64(Some(first)));
        }
        Ok(ScalarValue::Float64(Some(first + (way - low as f64) * (numbers.value(high) - first))))
    }

    fn mode(&self, sorted: &ArrayRef) -> Result<ScalarValue> {
        if sorted.is_empty() {
            return ScalarValue::try_from(&self.data_type);
        }
        let compare = make_comparator(sorted, sorted, SortOptions::default())?;
        let (mut best, mut most, mut first) = (0, 0, 0);
        for place in 0..sorted.len() {
            if compare(first, place) != Ordering::Equal {
                first = place;
            }
            if place + 1 - first > most {
                (best, most) = (first, place + 1 - first);
            }
        }
        ScalarValue::try_from_array(sorted, best)
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match values.first() {
            Some(values) => self.add(values),
            None => exec_err!("an aggregate of ordered values takes an argument"),
        }
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        match &self.shares {
            Shares::None => self.mode(&self.sorted()?),
            Shares::One(share) => self.at(&self.sorted()?, *share),
            Shares::Many(Some(shares)) if !self.parts.is_empty() => {
                let sorted = self.sorted()?;
                let found = shares.iter().map(|share| self.at(&sorted, *share)).collect::<Result<Vec<_>>>()?;
                Ok(ScalarValue::List(ScalarValue::new_list(&found, &self.data_type, true)))
            }
            Shares::Many(_) => ScalarValue::try_from(&DataType::new_list(self.data_type.clone(), true)),
        }
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let all = self.all()?;
        let field = Arc::new(Field::new_list_field(self.data_type.clone(), true));
        let list = ListArray::try_new(field, OffsetBuffer::from_lengths([all.len()]), all, None)?;
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let Some(lists) = states.first().and_then(|states| states.as_list_opt::<i32>()) else {
            return Err(DataFusionError::Internal("the state of an aggregate of ordered values is an array".into()));
        };
        lists.iter().flatten().try_for_each(|values| self.add(&values))
    }

    fn size(&self) -> usize {
        let parts = self.parts.iter().map(|part| part.get_array_memory_size() + size_of::<ArrayRef>());
        size_of::<Self>() + parts.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int32Array, StringArray};

    use super::*;

    fn values(task: Task, parts: Vec<ArrayRef>, shares: Shares, is_descending: bool) -> Values {
        let data_type = parts[0].data_type().clone();
        let mut values = Values { task, data_type, shares, is_descending, parts: Vec::new() };
        parts.iter().for_each(|part| values.add(part).unwrap());
        values
    }

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn shares_of_the_way() {
        let numbers = || vec![Arc::new(Float64Array::from_iter_values((1..=100).map(f64::from))) as ArrayRef];
        let of = |task, share, is_descending| {
            values(task, numbers(), Shares::One(share), is_descending).evaluate().map(|value| value.to_string())
        };
        assert_eq!(of(Task::Continuous, Some(0.3333), false).unwrap(), "33.9967");
        assert_eq!(of(Task::Continuous, Some(0.3333), true).unwrap(), "67.0033");
        assert_eq!(of(Task::Discrete, Some(0.3333), false).unwrap(), "34");
        assert_eq!(of(Task::Discrete, Some(0.0), false).unwrap(), "1");
        assert_eq!(of(Task::Discrete, Some(1.0), true).unwrap(), "1");
        assert_eq!(of(Task::Continuous, None, false).unwrap(), "NULL");
        assert!(of(Task::Continuous, Some(1.5), false).is_err());
        assert!(of(Task::Discrete, Some(f64::NAN), false).is_err());
    }

    #[test]
    fn the_first_of_the_most_frequent() {
        let texts = |texts: Vec<Option<&str>>| Arc::new(StringArray::from(texts)) as ArrayRef;
        let parts =
            || vec![texts(vec![Some("b"), None, Some("a")]), texts(vec![Some("b"), Some("a"), Some("c"), None, None])];
        assert_eq!(values(Task::Mode, parts(), Shares::None, false).evaluate().unwrap(), ScalarValue::from("a"));
        assert_eq!(values(Task::Mode, parts(), Shares::None, true).evaluate().unwrap(), ScalarValue::from("b"));
        let none: ArrayRef = Arc::new(Int32Array::from(vec![None, None]));
        let mut none = values(Task::Mode, vec![none], Shares::None, false);
        assert_eq!(none.evaluate().unwrap(), ScalarValue::Int32(None));
    }

    #[test]
    fn states_are_merged() {
        let numbers = |numbers: Vec<i32>| Arc::new(Int32Array::from(numbers)) as ArrayRef;
        let shares = || Shares::Many(Some(vec![Some(0.5), None, Some(1.0)]));
        let mut one = values(Task::Discrete, vec![numbers(vec![5, 1])], shares(), false);
        let mut other = values(Task::Discrete, vec![numbers(vec![4, 3])], shares(), false);
        let state = other.state().unwrap().remove(0).to_array().unwrap();
        one.merge_batch(&[state]).unwrap();
        let found = one.evaluate().unwrap().to_array().unwrap();
        let found = found.as_list::<i32>().value(0);
        let expected: ArrayRef = Arc::new(Int32Array::from(vec![Some(3), None, Some(5)]));
        assert_eq!(&found, &expected);
    }
}
