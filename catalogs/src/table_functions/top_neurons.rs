//! `top_neurons(model, text, k)`: the neurons that fire most on a text, each at its peak.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::{first_value, max};
use datafusion::logical_expr::{LogicalPlan, ident, lit};
use datafusion::scalar::ScalarValue;
use neuroql_schema::Role;

use crate::state::EngineState;
use crate::table_functions::api::{Parameter, ParameterValues, TableFunction};
use crate::tables::activations::Activations;
use crate::tables::model_table::scan_all;

/// Default of the parameter `k`: number of neurons returned.
const DEFAULT_K: i64 = 10;

/// Table function `top_neurons`.
#[derive(Debug)]
pub(crate) struct TopNeurons;

impl TableFunction for TopNeurons {
    fn name(&self) -> &'static str {
        "top_neurons"
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter::required("model", DataType::Utf8),
            Parameter::required("text", DataType::Utf8),
            Parameter::with_default("k", DEFAULT_K),
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

    fn requires(&self) -> Role {
        Role::Reader
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &ParameterValues) -> Result<LogicalPlan> {
        if let Some(name) = values.optional_text("model") {
            values.model_named(engine, name)?;
        }
        let k = values.number("k", 0..=i64::MAX)? as usize;
        let is = |parameter: &'static str| ident(parameter).eq(lit(ScalarValue::from(values.optional_text(parameter))));
        // Position of the peak; the earliest of equal ones.
        let order = || {
            vec![
                ident("activation").sort(false, false),
                ident("example").sort(true, false),
                ident("position").sort(true, false),
            ]
        };
        let at_peak = |column: &str| first_value(ident(column), order()).alias(column);
        scan_all(Arc::new(Activations), engine)?
            .filter(is("model"))?
            .filter(is("text"))?
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
