//! `min` and `max` of floating-point numbers in groups: NaN is the greatest number, and infinities are numbers.

use std::sync::Arc;

use datafusion::arrow::array::ArrowNativeTypeOp;
use datafusion::arrow::datatypes::{ArrowPrimitiveType, DataType, Float32Type, Float64Type};
use datafusion::error::Result;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

use super::uuids;

/// DataFusion's `min` or `max`, except for floating-point numbers in groups: DataFusion begins with the greatest finite
/// number, so that the minimum of infinities would be finite, and a NaN would replace any number.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct MinMax {
    function: Arc<AggregateUDF>,
}

impl MinMax {
    pub(super) fn of(function: Arc<AggregateUDF>) -> AggregateUDF {
        AggregateUDF::from(Self { function })
    }

    /// Returns the accumulator of groups, given NaN and the least number, −∞.
    fn groups<T: ArrowPrimitiveType + Send>(
        &self,
        data_type: &DataType,
        nan: T::Native,
        least: T::Native,
    ) -> Box<dyn GroupsAccumulator>
    where
        T::Native: PartialOrd,
    {
        if self.function.is_descending() == Some(true) {
            let greater = |current: &mut T::Native, value| {
                if is_less(*current, value) {
                    *current = value;
                }
            };
            Box::new(PrimitiveGroupsAccumulator::<T, _>::new(data_type, greater).with_starting_value(least))
        } else {
            let less = |current: &mut T::Native, value| {
                if is_less(value, *current) {
                    *current = value;
                }
            };
            Box::new(PrimitiveGroupsAccumulator::<T, _>::new(data_type, less).with_starting_value(nan))
        }
    }
}

/// Returns true if a number is less than another: NaN is greater than all, and of −0 and 0 the former is less, in
/// whichever order they come.
fn is_less<T: ArrowNativeTypeOp + PartialOrd>(one: T, other: T) -> bool {
    let is_nan = |value: T| value.partial_cmp(&value).is_none();
    match (is_nan(one), is_nan(other)) {
        (false, false) => one.is_lt(other),
        (one, other) => !one && other,
    }
}

impl AggregateUDFImpl for MinMax {
    delegate!(aggregate);

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        uuids::check_extremes(self.function.name(), types)?;
        self.function.coerce_types(types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.function.accumulator(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match args.return_field.data_type() {
            DataType::Float32 => Ok(self.groups::<Float32Type>(&DataType::Float32, f32::NAN, f32::NEG_INFINITY)),
            DataType::Float64 => Ok(self.groups::<Float64Type>(&DataType::Float64, f64::NAN, f64::NEG_INFINITY)),
            _ => self.function.create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.function.create_sliding_accumulator(args)
    }

    fn is_descending(&self) -> Option<bool> {
        self.function.is_descending()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}
