//! `sum` of integers, which fails instead of wrapping.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use datafusion::arrow::compute::{not, nullif, prep_null_mask_filter};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, GroupsAccumulator, Operator, ReversedUDAF,
};
use datafusion::physical_expr::NullState;
use datafusion::scalar::ScalarValue;

use super::refusal::out_of_range;

/// DataFusion's `sum`, but for sums of integers.
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
    !args.is_distinct && *args.return_field.data_type() == DataType::Int64
}

impl AggregateUDFImpl for Sum {
    delegate!(
        name,
        aliases,
        signature,
        return_type,
        documentation,
        is_nullable,
        state_fields,
        groups_accumulator_supported,
        order_sensitivity,
        set_monotonicity,
        value_from_stats
    );

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if is_checked(&args) { Ok(Box::new(Total::default())) } else { self.function.accumulator(args) }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        if !is_checked(&args) {
            return self.function.create_groups_accumulator(args);
        }
        Ok(Box::new(Totals { sums: Vec::new(), nulls: NullState::new(), overflowed: false }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if is_checked(&args) { Ok(Box::new(Total::default())) } else { self.function.create_sliding_accumulator(args) }
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

/// The sum of all rows, exact while it is added up.
#[derive(Debug, Default)]
struct Total {
    sum: i128,
    count: u64,
}

/// The exact sum of the values that are not NULL.
fn sum_of(values: &ArrayRef) -> (i128, u64) {
    let values = values.as_primitive::<Int64Type>();
    if values.null_count() > 0 {
        let (sum, count) =
            values.iter().flatten().fold((0, 0), |(sum, count), value| (sum + i128::from(value), count + 1));
        return (sum, count);
    }
    // Halves of values do not overflow in batches of less than 2^31 rows, so the loop needs no carry.
    let (high, low) = values
        .values()
        .iter()
        .fold((0i64, 0i64), |(high, low), value| (high + (value >> 32), low + (value & 0xffff_ffff)));
    ((i128::from(high) << 32) + i128::from(low), values.len() as u64)
}

impl Total {
    fn value(&self) -> Result<ScalarValue> {
        if self.count == 0 {
            return Ok(ScalarValue::Int64(None));
        }
        match i64::try_from(self.sum) {
            Ok(sum) => Ok(ScalarValue::Int64(Some(sum))),
            Err(_) => Err(out_of_range(&DataType::Int64)),
        }
    }
}

impl Accumulator for Total {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (sum, count) = sum_of(&values[0]);
        self.sum += sum;
        self.count += count;
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (sum, count) = sum_of(&values[0]);
        self.sum -= sum;
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

/// Sums of groups.
#[derive(Debug)]
struct Totals {
    sums: Vec<i64>,
    nulls: NullState,
    overflowed: bool,
}

impl Totals {
    fn emit(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        if self.overflowed {
            return Err(out_of_range(&DataType::Int64));
        }
        let sums = emit_to.take_needed(&mut self.sums);
        let nulls = self.nulls.build(emit_to);
        Ok(Arc::new(Int64Array::new(sums.into(), nulls)))
    }
}

impl GroupsAccumulator for Totals {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
    ) -> Result<()> {
        let Self { sums, nulls, overflowed } = self;
        sums.resize(count, 0);
        nulls.accumulate(groups, values[0].as_primitive::<Int64Type>(), filter, count, |group, value| {
            let (sum, wrong) = sums[group].overflowing_add(value);
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

    /// Each row is a group of its own.
    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let Some(filter) = filter else { return Ok(vec![Arc::clone(&values[0])]) };
        let left_out = not(&prep_null_mask_filter(filter))?;
        Ok(vec![nullif(&values[0], &left_out)?])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i64>() + self.nulls.size()
    }
}
