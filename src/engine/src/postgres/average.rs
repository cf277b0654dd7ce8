//! `avg` of `numeric`, whose quotient has the digits of Postgres' division.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Int32Type, Int64Type};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF};
use datafusion::scalar::ScalarValue;

use super::quotients::{Numeric, QUOTIENT, divided};
use super::refusal::{out_of_range, refusal};

/// DataFusion's `avg`, but for that of `numeric`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Average {
    function: Arc<AggregateUDF>,
}

impl Average {
    pub(super) fn of(function: Arc<AggregateUDF>) -> AggregateUDF {
        AggregateUDF::from(Self { function })
    }
}

fn quotient_type() -> DataType {
    DataType::Decimal128(QUOTIENT.0, QUOTIENT.1)
}

fn is_of_numeric(args: &AccumulatorArgs) -> bool {
    *args.return_field.data_type() == quotient_type()
}

fn accumulator(args: &AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
    if args.is_distinct {
        return Err(refusal("0A000", "avg(DISTINCT …) of numeric is not supported; use SELECT DISTINCT in a subquery"));
    }
    let data_type = args.expr_fields.first().map(|field| field.data_type().clone()).unwrap_or(DataType::Null);
    Ok(Box::new(Mean { data_type, sum: 0, count: 0, least: 0 }))
}

impl AggregateUDFImpl for Average {
    delegate!(name, aliases, signature, coerce_types, documentation);

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::Decimal128(..)] => Ok(quotient_type()),
            _ => self.function.return_type(arguments),
        }
    }

    fn is_nullable(&self) -> bool {
        self.function.is_nullable()
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if is_of_numeric(&args) { accumulator(&args) } else { self.function.accumulator(args) }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if *args.return_field.data_type() != quotient_type() {
            return self.function.state_fields(args);
        }
        let scale = match args.input_fields.first().map(|field| field.data_type()) {
            Some(DataType::Decimal128(_, scale)) => *scale,
            _ => 0,
        };
        let field = |name: &str, data_type| Arc::new(Field::new(format_state_name(args.name, name), data_type, true));
        Ok(vec![
            field("sum", DataType::Decimal128(38, scale)),
            field("count", DataType::Int64),
            field("digits", DataType::Int32),
        ])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !is_of_numeric(&args) && self.function.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.function.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if is_of_numeric(&args) { accumulator(&args) } else { self.function.create_sliding_accumulator(args) }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.function.inner().order_sensitivity()
    }
}

/// Sum and number of values.
#[derive(Debug)]
struct Mean {
    /// The type of the values.
    data_type: DataType,
    sum: i128,
    count: i64,
    /// The digits after the point that some value has at least.
    least: i32,
}

impl Mean {
    fn scale(&self) -> i8 {
        match self.data_type {
            DataType::Decimal128(_, scale) => scale,
            _ => 0,
        }
    }

    fn add(&mut self, value: i128) -> Result<()> {
        match self.sum.checked_add(value) {
            Some(sum) => self.sum = sum,
            None => return Err(out_of_range(&self.data_type)),
        }
        Ok(())
    }
}

impl Accumulator for Mean {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(values) = values[0].as_primitive_opt::<Decimal128Type>() else {
            return exec_err!("avg of numeric got {}", values[0].data_type());
        };
        for value in values.iter().flatten() {
            self.add(value)?;
            self.count += 1;
            self.least = self.least.max(Numeric::of(value, &self.data_type).shown.0);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.count == 0 {
            return ScalarValue::try_from(&quotient_type());
        }
        let sum = Numeric::of(self.sum, &self.data_type);
        let sum = Numeric { shown: (sum.shown.0.max(self.least), sum.shown.1), ..sum };
        let count = Numeric { digits: i128::from(self.count), scale: 0, shown: (0, 0) };
        Ok(ScalarValue::Decimal128(Some(divided(sum, count)?), QUOTIENT.0, QUOTIENT.1))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![
            ScalarValue::Decimal128(Some(self.sum), 38, self.scale()),
            ScalarValue::Int64(Some(self.count)),
            ScalarValue::Int32(Some(self.least)),
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [sums, counts, least] = states else { return exec_err!("the state of avg has three columns") };
        for row in 0..sums.len() {
            if sums.is_valid(row) {
                self.add(sums.as_primitive::<Decimal128Type>().value(row))?;
                self.count += counts.as_primitive::<Int64Type>().value(row);
                self.least = self.least.max(least.as_primitive::<Int32Type>().value(row));
            }
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }
}
