//! `bootstrap_interval(double precision) → double precision[]`, an aggregate

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Signature, TypeSignature, Volatility,
};
use neuroql_analysis::bootstrap;

use crate::tokenize::SECTION;

/// Aggregate `bootstrap_interval`: the interval in which the mean lies in 95 % of samples.
pub fn bootstrap_interval_udaf() -> AggregateUDF {
    let signature = Signature::new(TypeSignature::Exact(vec![DataType::Float64]), Volatility::Immutable);
    let description = "Where the mean of as many such values would lie in 95 % of samples: the lower and the upper end, by \
                       the percentile bootstrap with 1,000 resamples. NULLs are left out; NULL without values.";
    let documentation = Documentation::builder(SECTION, description, "bootstrap_interval(x)")
        .with_argument("x", "Numbers")
        .with_sql_example("SELECT bootstrap_interval(f1) FROM toy.graphs WHERE layer = 0")
        .build();
    AggregateUDF::from(BootstrapInterval { signature, documentation })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BootstrapInterval {
    signature: Signature,
    documentation: Documentation,
}

fn item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Float64, true))
}

impl AggregateUDFImpl for BootstrapInterval {
    fn name(&self) -> &str {
        "bootstrap_interval"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(item()))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[values]", args.name), DataType::List(item()), true))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(ValuesAccumulator::default()))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// All values of a group.
#[derive(Debug, Default)]
struct ValuesAccumulator(Vec<f64>);

impl ValuesAccumulator {
    fn extend(&mut self, values: &ArrayRef) {
        self.0.extend(values.as_primitive::<Float64Type>().iter().flatten());
    }
}

fn scalar(values: Option<Vec<f64>>) -> ScalarValue {
    let Some(values) = values else { return ScalarValue::List(Arc::new(ListArray::new_null(item(), 1))) };
    let offsets = OffsetBuffer::from_lengths([values.len()]);
    ScalarValue::List(Arc::new(ListArray::new(item(), offsets, Arc::new(Float64Array::from(values)), None)))
}

impl Accumulator for ValuesAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.extend(&values[0]);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(scalar(bootstrap(&self.0).map(|interval| vec![interval.low, interval.high])))
    }

    fn size(&self) -> usize {
        size_of_val(self) + size_of::<f64>() * self.0.capacity()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![scalar(Some(std::mem::take(&mut self.0)))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        (0..lists.len()).filter(|row| lists.is_valid(*row)).for_each(|row| self.extend(&lists.value(row)));
        Ok(())
    }
}
