//! `array_agg` and `string_agg`, whose order is not turned round.
//!
//! The planner gives an aggregate the rows in the order of another one beside it, and tells it that they come from the end.
//! With DISTINCT DataFusion's functions pass over that: `array_agg(DISTINCT a ORDER BY a DESC)` beside an aggregate that is
//! ordered by `a` was ascending.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator};
use datafusion::scalar::ScalarValue;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Irreversible {
    function: Arc<AggregateUDF>,
}

impl Irreversible {
    pub(super) fn of(function: Arc<AggregateUDF>) -> AggregateUDF {
        AggregateUDF::from(Self { function })
    }
}

impl AggregateUDFImpl for Irreversible {
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
        coerce_types
    );

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        self.function.return_field(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.function.accumulator(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.function.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.function.create_sliding_accumulator(args)
    }

    fn with_beneficial_ordering(self: Arc<Self>, beneficial: bool) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        let function = AggregateUDF::clone(&self.function).with_beneficial_ordering(beneficial)?;
        Ok(function.map(|function| Arc::new(Self { function: Arc::new(function) }) as _))
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.function.default_value(data_type)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.function.supports_null_handling_clause()
    }
}
