//! `coactivations(model, dataset, …)`: neurons that fire on the same tokens of a dataset.
//!
//! For each neuron the `k` others whose firing overlaps most with its own: of the same model, or of `other`, a model
//! that reads the same tokens. A neuron fires where its activation is greater than `fires_above`. Counts are exact.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use neuroql_analysis::{CoActivations, Overlap};

use super::Measure;
use crate::table_functions::api::{Parameter, ParameterValues};

/// Default of the parameter `fires_above`: activation above which a neuron fires.
pub(crate) const FIRES_ABOVE: f64 = 0.0;

/// The activation above which neurons fire.
pub(crate) fn fires_above(values: &ParameterValues) -> Result<f32> {
    Ok(values.real("fires_above", f64::from(f32::MIN)..=f64::from(f32::MAX))? as f32)
}

/// Measure of the table function `coactivations`.
#[derive(Debug, Clone)]
pub(crate) struct Coactivation {
    above: f32,
}

impl Measure for Coactivation {
    const NAME: &'static str = "coactivations";
    type Accumulator = CoActivations;
    type PairResult = Overlap;

    fn parameter() -> Parameter {
        Parameter::with_default("fires_above", FIRES_ABOVE)
    }

    fn of(values: &ParameterValues) -> Result<Self> {
        Ok(Self { above: fires_above(values)? })
    }

    fn start(&self, width: usize, others: Option<usize>) -> CoActivations {
        match others {
            None => CoActivations::within(width, self.above),
            Some(others) => CoActivations::between(width, others, self.above),
        }
    }

    fn bytes(width: usize, others: Option<usize>) -> usize {
        CoActivations::bytes(width, others)
    }

    fn strongest(&self, accumulator: &CoActivations, number: usize, k: usize) -> Vec<(u32, Overlap)> {
        accumulator.strongest(number, k)
    }

    fn fields() -> Vec<Field> {
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        vec![
            field("jaccard", DataType::Float64),
            field("lift", DataType::Float64),
            field("both", DataType::Int64),
            field("tokens", DataType::Int64),
            field("other_tokens", DataType::Int64),
        ]
    }

    fn columns(results: &[Overlap]) -> Vec<ArrayRef> {
        let count = |count: fn(&Overlap) -> u64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(results.iter().map(|overlap| count(overlap) as i64)))
        };
        vec![
            Arc::new(results.iter().map(Overlap::jaccard).collect::<Float64Array>()),
            Arc::new(results.iter().map(Overlap::lift).collect::<Float64Array>()),
            count(|overlap| overlap.both),
            count(|overlap| overlap.first),
            count(|overlap| overlap.second),
        ]
    }
}
