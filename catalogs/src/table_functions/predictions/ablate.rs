//! `ablate(model, text, neurons, value, dataset)`: what a network predicts with neurons set to a value, beside what it
//! predicts as it is.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Float32Array, Int32Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Float32Type};
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use futures::future::BoxFuture;
use neuroql_model::{Cancel, Model, Prediction};
use neuroql_schema::{Role, sql_error};

use super::{OnText, TextProducer, token_texts};
use crate::Error;
use crate::state::EngineState;
use crate::table_functions::api::{Parameter, ParameterValues, Ranges, TableFunction, unfiltered_plan};

/// Greatest number of neurons of a call.
const MOST_NEURONS: usize = 1 << 20;

/// Table function `ablate`.
#[derive(Debug)]
pub(crate) struct Ablate;

impl TableFunction for Ablate {
    fn name(&self) -> &'static str {
        Call::NAME
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter::required("model", DataType::Utf8),
            Parameter::required("text", DataType::Utf8),
            Parameter::required("neurons", DataType::Utf8),
            Parameter::with_default("value", "0"),
            Parameter::optional_text("dataset"),
        ]
    }

    fn outputs(&self) -> Vec<Field> {
        vec![
            Field::new("position", DataType::Int32, true),
            Field::new("token_id", DataType::Int32, true),
            Field::new("token", DataType::Utf8, true),
            Field::new("logit", DataType::Float32, true),
            Field::new("ablated_logit", DataType::Float32, true),
            Field::new("loss", DataType::Float32, true),
            Field::new("ablated_loss", DataType::Float32, true),
            Field::new("prediction", DataType::Utf8, true),
            Field::new("ablated_prediction", DataType::Utf8, true),
        ]
    }

    fn requires(&self) -> Role {
        Role::Reader
    }

    fn plan(&self, engine: &Arc<EngineState>, values: &ParameterValues) -> Result<LogicalPlan> {
        let model = values.model(engine)?;
        let neurons = neurons(&model, values)?;
        let (value, dataset) = (values.text("value")?, values.optional_text("dataset"));
        let replacement = match value.parse::<f32>() {
            Ok(value) if value.is_finite() => Replacement::Value(value),
            _ if value == "mean" => Replacement::Mean(dataset.map(str::to_owned)),
            _ => return Err(values.invalid("value", format!("is '{value}', expected a number or 'mean'")).into()),
        };
        if dataset.is_some() && !matches!(replacement, Replacement::Mean(_)) {
            return Err(values.invalid("dataset", "says whose means to take, and value is not 'mean'").into());
        }
        unfiltered_plan(self, TextProducer::new(engine, values, Call { neurons, replacement })?)
    }
}

/// Reads `L7:3,L9:40-44`: neurons of layers.
fn neurons(model: &Model, values: &ParameterValues) -> Result<Vec<(usize, u32)>> {
    let text = values.text("neurons")?;
    let invalid = |reason: String| values.invalid("neurons", reason);
    let mut neurons = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (layer, numbers) = part
            .strip_prefix(['L', 'l'])
            .and_then(|rest| rest.split_once(':'))
            .ok_or_else(|| invalid(format!("is '{text}', expected neurons as in 'L7:3,L9:40-44'")))?;
        let layer: i64 = layer.parse().map_err(|_| invalid(format!("has the layer '{layer}', expected a number")))?;
        let layer = model.check_layer(layer).map_err(sql_error)?;
        let ranges: Ranges = numbers.parse().map_err(&invalid)?;
        let width = model.neurons_per_layer();
        let numbers = ranges.below(width as u32).map_err(|number| {
            invalid(format!("names neuron {number}; layer {layer} has neurons 0 to {}", width - 1))
        })?;
        neurons.extend(numbers.into_iter().map(|neuron| (layer, neuron)));
        if neurons.len() > MOST_NEURONS {
            return Err(invalid(format!("are more than {MOST_NEURONS}")).into());
        }
    }
    neurons.sort_unstable();
    neurons.dedup();
    Ok(neurons)
}

/// The replacement of activations.
enum Replacement {
    Value(f32),
    /// The mean of the neuron over an analysed dataset; over the only one if none is named.
    Mean(Option<String>),
    /// A value of each neuron.
    Values(Vec<f32>),
}

struct Call {
    neurons: Vec<(usize, u32)>,
    replacement: Replacement,
}

impl OnText for Call {
    const NAME: &'static str = "ablate";

    fn prepared<'a>(&'a self, engine: &'a EngineState, model: &'a Model) -> BoxFuture<'a, Result<Option<Arc<Self>>>> {
        Box::pin(async move {
            let Replacement::Mean(dataset) = &self.replacement else { return Ok(None) };
            let analysed = engine.analysed(model).await?;
            let mut values: Vec<f32> = Vec::with_capacity(self.neurons.len());
            for neurons in self.neurons.chunk_by(|(layer, _), (other, _)| layer == other) {
                let layer = neurons[0].0 as u32;
                let of = |name: &String| dataset.as_ref().is_none_or(|wanted| wanted == name);
                let names: Vec<&String> = analysed
                    .iter()
                    .filter(|(name, layers)| of(name) && layers.contains(&layer))
                    .map(|(name, _)| name)
                    .collect();
                let [name] = names[..] else {
                    return Err(self.no_mean(model, layer, dataset.as_deref(), &names).into());
                };
                let kept = engine.store.neurons(model.name(), name, layer).await.map_err(sql_error)?;
                let missing = || Error::Internal("the store's neurons have no column mean".into());
                let means = cast(kept.column_by_name("mean").ok_or_else(missing)?, &DataType::Float32)?;
                let means = means.as_primitive::<Float32Type>();
                values.extend(neurons.iter().map(|(_, neuron)| means.value(*neuron as usize)));
            }
            Ok(Some(Arc::new(Self { neurons: self.neurons.clone(), replacement: Replacement::Values(values) })))
        })
    }

    fn columns(&self, model: &Model, text: &str, cancel: &Cancel) -> neuroql_model::Result<Vec<ArrayRef>> {
        let tokens = model.tokenizer().encode_cancellable(text, cancel)?;
        let value = |i: usize| match &self.replacement {
            Replacement::Value(value) => *value,
            Replacement::Values(values) => values[i],
            Replacement::Mean(_) => f32::NAN,
        };
        let edits: Vec<(usize, u32, f32)> =
            self.neurons.iter().enumerate().map(|(i, (layer, neuron))| (*layer, *neuron, value(i))).collect();
        let plain = model.predictions(&tokens, &[], cancel)?;
        let ablated = model.predictions(&tokens, &edits, cancel)?;
        // The first prediction is of the first token, or of the second where there is no BOS.
        let first = i32::from(model.bos().is_none());
        let real = |all: &[Prediction], of: fn(&Prediction) -> Option<f32>| -> ArrayRef {
            Arc::new(all.iter().map(of).collect::<Float32Array>())
        };
        let most = |all: &[Prediction]| token_texts(model, all.iter().map(|p| Some(p.most_probable)));
        Ok(vec![
            Arc::new(Int32Array::from_iter_values(first..first + plain.len() as i32)),
            Arc::new(plain.iter().map(|p| p.next.map(|token| token as i32)).collect::<Int32Array>()),
            token_texts(model, plain.iter().map(|p| p.next)),
            real(&plain, |p| p.logit),
            real(&ablated, |p| p.logit),
            real(&plain, |p| p.loss),
            real(&ablated, |p| p.loss),
            most(&plain),
            most(&ablated),
        ])
    }
}

impl Call {
    /// Error of a mean that is not known.
    fn no_mean(&self, model: &Model, layer: u32, dataset: Option<&str>, found: &[&String]) -> Error {
        let name = model.name();
        let reason = match (dataset, found) {
            (None, [_, ..]) => {
                let names = found.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
                format!(
                    "is 'mean', and layer {layer} of model \"{name}\" is analysed over {names}: name one as dataset"
                )
            }
            _ => format!(
                "is 'mean', and layer {layer} of model \"{name}\" is not analysed over {}: run SELECT * FROM \
                 analyze(model => '{name}', dataset => …) first",
                dataset.map_or_else(|| "any dataset".to_owned(), |dataset| format!("'{dataset}'"))
            ),
        };
        Error::InvalidParameter { function: Self::NAME, parameter: "value".into(), reason }
    }
}
