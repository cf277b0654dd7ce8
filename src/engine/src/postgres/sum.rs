//! `sum` of integers and of `numeric`, which fails instead of wrapping.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Int64Array, PrimitiveArray,
};
use datafusion::arrow::compute::{not, nullif, prep_null_mask_filter};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Int64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, GroupsAccumulator, Operator, ReversedUDAF,
};
use datafusion::physical_expr::NullState;
use datafusion::scalar::ScalarValue;

use super::numeric_arithmetic::LARGEST;
use super::refusal::{out_of_range, refusal};

/// DataFusion's `sum`, but for sums of integers and of `numeric`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Sum {
    function: Arc<AggregateUDF>,
}

impl Sum {
    pub(super) fn of(function: Arc<AggregateUDF>) -> AggregateUDF {
        AggregateUDF::from(Self { function })
    }
}

fn is_checked(args: &AccumulatorArgs) -> bool {
    !args.is_distinct && matches!(args.return_field.data_type(), DataType::Int64 | DataType::Decimal128(..))
}

impl AggregateUDFImpl for Sum {
    delegate!(aggregate);

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if is_checked(&args) {
            Ok(Box::new(Total::new(args.return_field.data_type().clone())))
        } else {
            self.function.accumulator(args)
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        if !is_checked(&args) {
            return self.function.create_groups_accumulator(args);
        }
        let data_type = args.return_field.data_type().clone();
        Ok(match data_type {
            DataType::Decimal128(..) => Box::new(Totals::<Decimal128Type>::new(data_type)),
            _ => Box::new(Totals::<Int64Type>::new(data_type)),
        })
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if is_checked(&args) {
            Ok(Box::new(Total::new(args.return_field.data_type().clone())))
        } else {
            self.function.create_sliding_accumulator(args)
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn simplify_expr_op_literal(
        &self,
        function: &AggregateFunction,
        argument: &Expr,
        operator: Operator,
        literal: &Expr,
        argument_is_left: bool,
    ) -> Result<Option<Expr>> {
        self.function.inner().simplify_expr_op_literal(function, argument, operator, literal, argument_is_left)
    }
}

/// The sum of all rows, exact while it is added up: of integers, or of `numeric` in units of its last digit.
#[derive(Debug)]
struct Total {
    data_type: DataType,
    sum: i128,
    count: u64,
}

/// Computes the exact sum of the integers that are not NULL.
fn sum_of(values: &Int64Array) -> i128 {
    if values.null_count() > 0 {
        return values.iter().flatten().map(i128::from).sum();
    }
    // Halves of values do not overflow in batches of less than 2^31 rows, so the loop needs no carry.
    let (high, low) = values
        .values()
        .iter()
        .fold((0i64, 0i64), |(high, low), value| (high + (value >> 32), low + (value & 0xffff_ffff)));
    (i128::from(high) << 32) + i128::from(low)
}

impl Total {
    fn new(data_type: DataType) -> Self {
        Self { data_type, sum: 0, count: 0 }
    }

    /// Computes the sum of a batch and the number of its values.
    fn of_batch(&self, values: &ArrayRef) -> Result<(i128, u64)> {
        let count = (values.len() - values.null_count()) as u64;
        let sum = match values.as_primitive_opt::<Int64Type>() {
            Some(integers) => sum_of(integers),
            None => {
                let mut numbers = values.as_primitive::<Decimal128Type>().iter().flatten();
                numbers.try_fold(0i128, i128::checked_add).ok_or_else(too_long)?
            }
        };
        Ok((sum, count))
    }

    fn value(&self) -> Result<ScalarValue> {
        if self.count == 0 {
            return ScalarValue::try_from(&self.data_type);
        }
        match self.data_type {
            DataType::Decimal128(..) if self.sum.unsigned_abs() > LARGEST => Err(too_long()),
            DataType::Decimal128(precision, scale) => Ok(ScalarValue::Decimal128(Some(self.sum), precision, scale)),
            _ => match i64::try_from(self.sum) {
                Ok(sum) => Ok(ScalarValue::Int64(Some(sum))),
                Err(_) => Err(out_of_range(&DataType::Int64)),
            },
        }
    }
}

impl Accumulator for Total {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (sum, count) = self.of_batch(&values[0])?;
        self.sum = self.sum.checked_add(sum).ok_or_else(too_long)?;
        self.count += count;
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (sum, count) = self.of_batch(&values[0])?;
        self.sum = self.sum.checked_sub(sum).ok_or_else(too_long)?;
        self.count -= count;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.value()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

fn too_long() -> DataFusionError {
    refusal("22003", "value overflows numeric format: a sum has more than 38 digits")
}

/// A type whose sums are checked.
trait Summed: ArrowPrimitiveType + Send {
    fn add(left: Self::Native, right: Self::Native) -> (Self::Native, bool);

    fn error() -> DataFusionError;
}

impl Summed for Int64Type {
    fn add(left: i64, right: i64) -> (i64, bool) {
        left.overflowing_add(right)
    }

    fn error() -> DataFusionError {
        out_of_range(&DataType::Int64)
    }
}

impl Summed for Decimal128Type {
    fn add(left: i128, right: i128) -> (i128, bool) {
        let (sum, wrong) = left.overflowing_add(right);
        (sum, wrong || sum.unsigned_abs() > LARGEST)
    }

    fn error() -> DataFusionError {
        too_long()
    }
}

/// Sums of groups.
#[derive(Debug)]
struct Totals<T: Summed> {
    data_type: DataType,
    sums: Vec<T::Native>,
    nulls: NullState,
    overflowed: bool,
}

impl<T: Summed> Totals<T> {
    fn new(data_type: DataType) -> Self {
        Self { data_type, sums: Vec::new(), nulls: NullState::new(), overflowed: false }
    }

    fn emit(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        if self.overflowed {
            return Err(T::error());
        }
        let sums = emit_to.take_needed(&mut self.sums);
        let nulls = self.nulls.build(emit_to);
        Ok(Arc::new(PrimitiveArray::<T>::new(sums.into(), nulls).with_data_type(self.data_type.clone())))
    }
}

impl<T: Summed> GroupsAccumulator for Totals<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
    ) -> Result<()> {
        let Self { sums, nulls, overflowed, .. } = self;
        sums.resize(count, T::Native::default());
        nulls.accumulate(groups, values[0].as_primitive::<T>(), filter, count, |group, value| {
            let (sum, wrong) = T::add(sums[group], value);
            sums[group] = sum;
            *overflowed |= wrong;
        });
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.emit(emit_to)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.emit(emit_to)?])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.update_batch(values, groups, None, count)
    }

    /// Converts rows to states, each row a group of its own.
    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values: ArrayRef = Arc::new(values[0].as_primitive::<T>().clone().with_data_type(self.data_type.clone()));
        let Some(filter) = filter else { return Ok(vec![values]) };
        let left_out = not(&prep_null_mask_filter(filter))?;
        Ok(vec![nullif(&values, &left_out)?])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<T::Native>() + self.nulls.size()
    }
}
