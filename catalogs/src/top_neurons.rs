//! `top_neurons(model, text, k)`: the neurons that fire most on a text, each at its peak.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::{first_value, max};
use datafusion::logical_expr::{LogicalPlan, ident, lit};
use datafusion::scalar::ScalarValue;

use crate::Error;
use crate::holdings::Holdings;
use crate::predicate::check;
use crate::relation::{Parameter, Relation, scan_all};

/// Neurons returned if the query does not say.
const DEFAULT_K: i64 = 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct TopNeurons;

impl Relation for TopNeurons {
    fn name(&self) -> &'static str {
        "top_neurons"
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter { name: "model", data_type: DataType::Utf8, default: None },
            Parameter { name: "text", data_type: DataType::Utf8, default: None },
            Parameter { name: "k", data_type: DataType::Int64, default: Some(DEFAULT_K.into()) },
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        vec![
            Field::new("layer", DataType::Int32, true),
            Field::new("neuron", DataType::Int32, true),
            Field::new("example", DataType::Int64, true),
            Field::new("position", DataType::Int32, true),
            Field::new("token", DataType::Utf8View, true),
            Field::new("activation", DataType::Float32, true),
        ]
    }

    fn plan(&self, holdings: &Arc<Holdings>, values: &[ScalarValue]) -> Result<LogicalPlan> {
        let (model, text, k) = (&values[0], &values[1], &values[2]);
        if let Some(name) = model.try_as_str().flatten() {
            check(holdings.registry.get(name))?;
        }
        let k = match k {
            ScalarValue::Int64(Some(k)) if *k >= 0 => *k as usize,
            other => {
                let reason = format!("is {other}, expected a whole number from 0");
                return Err(Error::InvalidParameter { relation: self.name(), parameter: "k".into(), reason }.into());
            }
        };
        // Where the peak is; the earliest place of equal ones.
        let order = || {
            vec![
                ident("activation").sort(false, false),
                ident("example").sort(true, false),
                ident("position").sort(true, false),
            ]
        };
        let at_peak = |column: &str| first_value(ident(column), order()).alias(column);
        scan_all("activations", holdings)?
            .filter(ident("model").eq(lit(model.clone())))?
            .filter(ident("text").eq(lit(text.clone())))?
            .aggregate(
                [ident("layer"), ident("neuron")],
                [at_peak("example"), at_peak("position"), at_peak("token"), max(ident("activation")).alias("peak")],
            )?
            .sort([
                ident("peak").sort(false, false),
                ident("layer").sort(true, false),
                ident("neuron").sort(true, false),
            ])?
            .limit(0, Some(k))?
            .project([
                ident("layer"),
                ident("neuron"),
                ident("example"),
                ident("position"),
                ident("token"),
                ident("peak").alias("activation"),
            ])?
            .build()
    }
}
