//! `coactivations(model, dataset, …)`: which neurons fire on the same tokens of a dataset.
//!
//! For each neuron the `k` others whose firing overlaps most with its own: of the same model, or of `other`, a model that
//! reads the same tokens. A neuron fires where its activation is greater than `fires_above`. Counts are exact.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use neuroql_analysis::{CoActivations, Overlap};

use super::{Accumulator, Measure, Pairs, PairsCall};
use crate::holdings::Holdings;
use crate::relation::{Parameter, Relation, Values, computed};

/// Activation above which a neuron fires if the query does not say.
pub(crate) const FIRES_ABOVE: f64 = 0.0;

/// See the module.
#[derive(Debug)]
pub(crate) struct Coactivations;

impl Relation for Coactivations {
    fn name(&self) -> &'static str {
        Firing::NAME
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut parameters = Pairs::parameters();
        parameters.push(Parameter::with_default("fires_above", FIRES_ABOVE));
        parameters
    }

    fn outputs(&self) -> Vec<Field> {
        Pairs::outputs::<Firing>()
    }

    fn plan(&self, holdings: &Arc<Holdings>, values: &Values) -> Result<LogicalPlan> {
        let measure = Firing { above: fires_above(values)? };
        computed(self.name(), PairsCall { pairs: Pairs::of(holdings, values)?, measure })
    }
}

/// The activation above which neurons fire.
pub(crate) fn fires_above(values: &Values) -> Result<f32> {
    Ok(values.real("fires_above", f64::from(f32::MIN)..=f64::from(f32::MAX))? as f32)
}

#[derive(Debug, Clone)]
struct Firing {
    above: f32,
}

impl Measure for Firing {
    const NAME: &'static str = "coactivations";
    type Kept = CoActivations;
    type Told = Overlap;

    fn start(&self, width: usize, others: Option<usize>) -> (CoActivations, usize) {
        let kept = match others {
            None => CoActivations::within(width, self.above),
            Some(others) => CoActivations::between(width, others, self.above),
        };
        (kept, CoActivations::bytes(width, others))
    }

    fn strongest(&self, kept: &CoActivations, number: usize, k: usize) -> Vec<(u32, Overlap)> {
        kept.strongest(number, k)
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

    fn columns(told: &[Overlap]) -> Vec<ArrayRef> {
        let count = |count: fn(&Overlap) -> u64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(told.iter().map(|overlap| count(overlap) as i64)))
        };
        vec![
            Arc::new(told.iter().map(Overlap::jaccard).collect::<Float64Array>()),
            Arc::new(told.iter().map(Overlap::lift).collect::<Float64Array>()),
            count(|overlap| overlap.both),
            count(|overlap| overlap.first),
            count(|overlap| overlap.second),
        ]
    }
}

impl Accumulator for CoActivations {
    fn add_values(&mut self, values: &[Vec<f32>]) -> neuroql_analysis::Result<()> {
        match values {
            [x, y] => self.add_pairs(x, y),
            values => values.iter().try_for_each(|x| self.add(x)),
        }
    }
}
