//! `json_agg` and `jsonb_agg`, whose calls are planned as calls of `array_agg`.

use datafusion::arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use super::super::refusal::refusal;
use super::JsonKind;

/// Returns the type that an aggregate of this name gives.
pub(super) fn kind_of(name: &str) -> Option<JsonKind> {
    match name {
        "json_agg" => Some(JsonKind::Json),
        "jsonb_agg" => Some(JsonKind::Jsonb),
        _ => None,
    }
}

/// Returns the aggregates.
pub(super) fn named() -> Vec<AggregateUDF> {
    let of = |name| AggregateUDF::from(JsonAggregate { name, signature: Signature::any(1, Volatility::Immutable) });
    vec![of("json_agg"), of("jsonb_agg")]
}

/// An aggregate by its name.
#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonAggregate {
    name: &'static str,
    signature: Signature,
}

impl AggregateUDFImpl for JsonAggregate {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Err(not_called(self.name))
    }
}

/// Returns the error of a call that is not planned as `array_agg`.
pub(super) fn not_called(name: &str) -> DataFusionError {
    refusal("0A000", format!("{name} is supported as a plain aggregate of SQL only, without DISTINCT and OVER"))
}
