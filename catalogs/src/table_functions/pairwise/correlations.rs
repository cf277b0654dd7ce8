//! `correlations(model, dataset, …)`: neurons that rise and fall together over a dataset.
//!
//! For each neuron the `k` others with the strongest Pearson correlation over all tokens: of the same model, or of
//! `other`, a model that reads the same tokens.

use std::str::FromStr;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use neuroql_analysis::{CoMoments, Sign};

use super::Measure;
use crate::table_functions::api::{Parameter, ParameterValues};

/// Default of the parameter `sign`.
const DEFAULT_SIGN: &str = "either";

/// A sign by its name in SQL.
struct SqlSign(Sign);

impl FromStr for SqlSign {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "positive" => Ok(Self(Sign::Positive)),
            "negative" => Ok(Self(Sign::Negative)),
            "either" => Ok(Self(Sign::Either)),
            other => Err(format!("is '{other}', expected positive, negative or either")),
        }
    }
}

/// Measure of the table function `correlations`.
#[derive(Debug, Clone)]
pub(crate) struct Correlation {
    sign: Sign,
}

impl Measure for Correlation {
    const NAME: &'static str = "correlations";
    type Accumulator = CoMoments;
    type PairResult = f64;

    fn parameter() -> Parameter {
        Parameter::with_default("sign", DEFAULT_SIGN)
    }

    fn of(values: &ParameterValues) -> Result<Self> {
        Ok(Self { sign: values.parsed::<SqlSign>("sign")?.0 })
    }

    fn start(&self, width: usize, others: Option<usize>) -> CoMoments {
        match others {
            None => CoMoments::within(width),
            Some(others) => CoMoments::between(width, others),
        }
    }

    fn bytes(width: usize, others: Option<usize>) -> usize {
        CoMoments::bytes(width, others)
    }

    fn strongest(&self, accumulator: &CoMoments, number: usize, k: usize) -> Vec<(u32, f64)> {
        let strongest = accumulator.strongest(number, k, self.sign).into_iter();
        strongest.map(|correlate| (correlate.neuron, correlate.correlation)).collect()
    }

    fn fields() -> Vec<Field> {
        vec![Field::new("correlation", DataType::Float64, true)]
    }

    fn columns(results: &[f64]) -> Vec<ArrayRef> {
        vec![Arc::new(Float64Array::from_iter_values(results.iter().copied()))]
    }
}
