//! Functions that count in unsigned integers, which Postgres does not have, made to count in signed ones.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int32Array, PrimitiveArray, new_empty_array};
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Int64Type, UInt64Type};
use datafusion::error::Result;
use datafusion::logical_expr::function::{
    AccumulatorArgs, ExpressionArgs, PartitionEvaluatorArgs, StateFieldsArgs, WindowUDFFieldArgs,
};
use datafusion::logical_expr::window_state::WindowAggState;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, LimitEffect, PartitionEvaluator, ReturnFieldArgs,
    ReversedUDWF, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, WindowUDF, WindowUDFImpl,
};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::scalar::ScalarValue;

use super::casts::arrow_cast;

/// Returns the type that stands for an unsigned one: `to`, also in arrays.
fn signed(data_type: &DataType, to: &DataType) -> DataType {
    match data_type {
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => to.clone(),
        DataType::List(item) => {
            DataType::List(Arc::new(Field::clone(item).with_data_type(signed(item.data_type(), to))))
        }
        other => other.clone(),
    }
}

/// A scalar function whose unsigned results become integers.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct SignedScalar {
    function: Arc<ScalarUDF>,
    /// True if a size of 0 is NULL, as `array_length` of an empty array is.
    empty_is_null: bool,
}

impl SignedScalar {
    pub(super) fn of(function: Arc<ScalarUDF>) -> ScalarUDF {
        let empty_is_null = matches!(function.name(), "array_length" | "array_ndims");
        ScalarUDF::from(Self { function, empty_is_null })
    }
}

impl ScalarUDFImpl for SignedScalar {
    delegate!(name, aliases, signature, coerce_types, documentation, is_strict);

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(signed(&self.function.return_type(arguments)?, &DataType::Int32))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let field = self.function.return_field_from_args(args)?;
        let data_type = signed(field.data_type(), &DataType::Int32);
        let nullable = field.is_nullable() || self.empty_is_null;
        Ok(Arc::new(Field::clone(&field).with_data_type(data_type).with_nullable(nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let to = args.return_field.data_type().clone();
        // DataFusion's answer to constants would have one row.
        if args.number_rows == 0 {
            return Ok(ColumnarValue::Array(new_empty_array(&to)));
        }
        let unsigned =
            self.function.return_type(&args.args.iter().map(ColumnarValue::data_type).collect::<Vec<_>>())?;
        let field = Arc::new(Field::clone(&args.return_field).with_data_type(unsigned));
        let rows = args.number_rows;
        // An empty array has no dimensions.
        let lists = (self.name() == "array_ndims").then(|| args.args[0].clone());
        let found = self.function.invoke_with_args(ScalarFunctionArgs { return_field: field, ..args })?;
        let scalar = matches!(found, ColumnarValue::Scalar(_));
        let mut array = arrow_cast(&found.into_array(if scalar { 1 } else { rows })?, &to)?;
        if self.empty_is_null {
            let lists = lists.map(|lists| lists.into_array(if scalar { 1 } else { rows })).transpose()?;
            let lists = lists.as_ref().and_then(|lists| lists.as_list_opt::<i32>());
            let is_empty = |row: usize| lists.is_some_and(|lists| lists.is_valid(row) && lists.value_length(row) == 0);
            let sizes = array.as_primitive::<Int32Type>().iter().enumerate();
            let sizes = sizes.map(|(row, size)| size.filter(|size| *size != 0 && !is_empty(row)));
            array = Arc::new(sizes.collect::<Int32Array>());
        }
        Ok(if scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
        } else {
            ColumnarValue::Array(array)
        })
    }
}

/// A window function whose unsigned results become `to`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct SignedWindow {
    function: Arc<WindowUDF>,
    to: DataType,
}

impl SignedWindow {
    pub(super) fn of(function: Arc<WindowUDF>) -> WindowUDF {
        let to = if function.name() == "ntile" { DataType::Int32 } else { DataType::Int64 };
        WindowUDF::from(Self { function, to })
    }
}

impl WindowUDFImpl for SignedWindow {
    delegate!(name, aliases, signature, coerce_types, documentation);

    fn expressions(&self, args: ExpressionArgs) -> Vec<Arc<dyn PhysicalExpr>> {
        self.function.expressions(args)
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        let inner = self.function.partition_evaluator_factory(args)?;
        Ok(Box::new(SignedEvaluator { inner, to: self.to.clone() }))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        let field = self.function.field(args)?;
        let data_type = signed(field.data_type(), &self.to);
        Ok(Arc::new(Field::clone(&field).with_data_type(data_type)))
    }

    fn sort_options(&self) -> Option<SortOptions> {
        self.function.sort_options()
    }

    fn reverse_expr(&self) -> ReversedUDWF {
        match self.function.reverse_expr() {
            ReversedUDWF::Reversed(function) => {
                ReversedUDWF::Reversed(Arc::new(WindowUDF::from(Self { function, to: self.to.clone() })))
            }
            other => other,
        }
    }

    fn limit_effect(&self, args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        self.function.inner().limit_effect(args)
    }
}

#[derive(Debug)]
struct SignedEvaluator {
    inner: Box<dyn PartitionEvaluator>,
    to: DataType,
}

impl SignedEvaluator {
    fn signed(&self, values: ArrayRef) -> Result<ArrayRef> {
        // A rank is far from where the sign would be.
        match (values.as_primitive_opt::<UInt64Type>(), &self.to) {
            (Some(ranks), DataType::Int64) => {
                let buffer = ScalarBuffer::<i64>::from(ranks.values().inner().clone());
                Ok(Arc::new(PrimitiveArray::<Int64Type>::new(buffer, ranks.nulls().cloned())))
            }
            _ => arrow_cast(&values, &self.to),
        }
    }
}

impl PartitionEvaluator for SignedEvaluator {
    fn memoize(&mut self, state: &mut WindowAggState) -> Result<()> {
        self.inner.memoize(state)
    }

    fn get_range(&self, index: usize, rows: usize) -> Result<Range<usize>> {
        self.inner.get_range(index, rows)
    }

    fn is_causal(&self) -> bool {
        self.inner.is_causal()
    }

    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let found = self.inner.evaluate_all(values, rows)?;
        self.signed(found)
    }

    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        self.inner.evaluate(values, range)?.cast_to(&self.to)
    }

    fn evaluate_all_with_rank(&self, rows: usize, ranks: &[Range<usize>]) -> Result<ArrayRef> {
        self.signed(self.inner.evaluate_all_with_rank(rows, ranks)?)
    }

    fn supports_bounded_execution(&self) -> bool {
        self.inner.supports_bounded_execution()
    }

    fn uses_window_frame(&self) -> bool {
        self.inner.uses_window_frame()
    }

    fn include_rank(&self) -> bool {
        self.inner.include_rank()
    }
}

/// An aggregate whose unsigned result becomes `bigint`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct SignedAggregate {
    function: Arc<AggregateUDF>,
}

impl SignedAggregate {
    pub(super) fn of(function: Arc<AggregateUDF>) -> AggregateUDF {
        AggregateUDF::from(Self { function })
    }
}

impl AggregateUDFImpl for SignedAggregate {
    delegate!(name, aliases, signature, documentation);

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(signed(&self.function.return_type(arguments)?, &DataType::Int64))
    }

    fn is_nullable(&self) -> bool {
        self.function.is_nullable()
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let types: Vec<_> = args.expr_fields.iter().map(|field| field.data_type().clone()).collect();
        let unsigned = Field::clone(&args.return_field).with_data_type(self.function.return_type(&types)?);
        let inner = self.function.accumulator(AccumulatorArgs { return_field: Arc::new(unsigned), ..args })?;
        Ok(Box::new(SignedAccumulator { inner }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.function.state_fields(args)
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.function.default_value(data_type)?.cast_to(data_type)
    }
}

#[derive(Debug)]
struct SignedAccumulator {
    inner: Box<dyn Accumulator>,
}

impl Accumulator for SignedAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.inner.evaluate()?.cast_to(&DataType::Int64)
    }

    fn size(&self) -> usize {
        self.inner.size() + size_of::<Self>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
}
