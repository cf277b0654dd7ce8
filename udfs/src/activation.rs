//! `activation(model, layer, neuron, text) → real[]`

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{AsArray, Float32Builder, ListBuilder};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use neuroql_model::{Model, Registry};
use neuroql_schema::sql_error;

use crate::Error;
use crate::arguments::{Models, text};
use crate::interrupt::Interrupt;
use crate::tokenize::SECTION;

/// Rows that the engine gathers before a call, so that their texts share forward passes.
const ROWS: usize = 1024;

/// Function `activation`: a neuron's activation on each token of a text.
pub(crate) fn activation_udf(registry: Arc<Registry>) -> ScalarUDF {
    let types = vec![DataType::Utf8, DataType::Int64, DataType::Int64, DataType::Utf8];
    let names = ["model", "layer", "neuron", "text"].map(String::from);
    let signature = Signature { parameter_names: Some(names.into()), ..Signature::exact(types, Volatility::Stable) };
    let function = Activation { models: Models(registry), signature, documentation: documentation() };
    AsyncScalarUDF::new(Arc::new(function)).into_scalar_udf()
}

fn documentation() -> Documentation {
    let description = "A neuron's activation on each token of a text, at the model's site; BOS has no element. A text \
                       longer than the model's window is cut into examples, whose activations follow each other.";
    Documentation::builder(SECTION, description, "activation(model, layer, neuron, text)")
        .with_argument("model", "Name of a registered model")
        .with_argument("layer", "0-based layer")
        .with_argument("neuron", "0-based neuron of the layer's MLP")
        .with_argument("text", "Any text")
        .with_sql_example("SELECT activation('toy', 1, 17, 'The President of the United States')")
        .build()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Activation {
    models: Models,
    signature: Signature,
    documentation: Documentation,
}

impl ScalarUDFImpl for Activation {
    fn name(&self) -> &str {
        "activation"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true))))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(Error::Internal("activation() was called synchronously".into()).into())
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// A request to one layer of one model: neurons and texts, each once.
#[derive(Default)]
struct ActivationRequest {
    neurons: BTreeSet<u32>,
    texts: Vec<Arc<str>>,
    index: HashMap<Arc<str>, usize>,
}

impl ActivationRequest {
    /// Adds a neuron and a text, for which memory is reserved if it is new.
    fn add(&mut self, neuron: u32, text: &str, held: &MemoryReservation) -> Result<usize> {
        self.neurons.insert(neuron);
        if let Some(&index) = self.index.get(text) {
            return Ok(index);
        }
        held.try_grow(text.len())?;
        let (index, text) = (self.texts.len(), Arc::<str>::from(text));
        self.texts.push(Arc::clone(&text));
        self.index.insert(text, index);
        Ok(index)
    }

    /// Returns an upper bound of the bytes that encoding its texts takes, one after another.
    fn encoding_bytes(&self, model: &Model) -> Result<usize> {
        let mut most = 0;
        for text in &self.texts {
            most = model.tokenizer().encoding_bytes(text).map_err(sql_error)?.max(most);
        }
        Ok(most)
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Activation {
    fn ideal_batch_size(&self) -> Option<usize> {
        Some(ROWS)
    }

    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let numbers = [args.args[1].to_array(args.number_rows)?, args.args[2].to_array(args.number_rows)?];
        let [layers, neurons] = numbers.each_ref().map(|numbers| numbers.as_primitive::<Int64Type>());
        let held = Arc::new(Interrupt::of(&args.config_options).reservation("activation"));
        let mut lookup = self.models.lookup(&args.config_options);
        let mut questions: BTreeMap<(String, usize), (Arc<Model>, ActivationRequest)> = BTreeMap::new();
        let mut rows = Vec::with_capacity(args.number_rows);
        for (row, (layer, neuron)) in layers.iter().zip(neurons).enumerate() {
            let (model, text) = (text(&args.args[0], row), text(&args.args[3], row));
            let (Some(model), Some(layer), Some(neuron), Some(text)) = (model, layer, neuron, text) else {
                rows.push(None);
                continue;
            };
            let model = lookup(model)?;
            let layer = model.check_layer(layer).map_err(sql_error)?;
            let neuron = model.check_neuron(neuron).map_err(sql_error)?;
            let key = (model.name().to_owned(), layer);
            let (_, question) = questions.entry(key.clone()).or_insert_with(|| (model, ActivationRequest::default()));
            rows.push(Some((key, neuron, question.add(neuron, text, &held)?)));
        }
        let mut answers = BTreeMap::new();
        for (key, (model, question)) in questions {
            let encoding = held.new_empty();
            encoding.try_grow(question.encoding_bytes(&model)?)?;
            let neurons: Vec<u32> = question.neurons.into_iter().collect();
            let answer = Arc::clone(&held);
            let no_memory = |e: DataFusionError| neuroql_model::Error::Memory(e.strip_backtrace());
            let reserve = move |bytes| answer.try_grow(bytes).map_err(no_memory);
            let values = model
                .activations_within(self.models.0.pool(), key.1, neurons.clone(), question.texts, reserve)
                .await
                .map_err(sql_error)?;
            answers.insert(key, (neurons, values));
        }
        let length = |(key, neuron, text): &(_, u32, usize)| {
            let answer = answers.get(key).and_then(|(neurons, values)| answer(neurons, values, *neuron, *text).ok());
            answer.map_or(0, <[f32]>::len)
        };
        let length: usize = rows.iter().flatten().map(length).sum();
        held.try_grow(size_of::<f32>() * length)?;
        let mut out = ListBuilder::new(Float32Builder::with_capacity(length));
        for row in rows {
            let Some((key, neuron, text)) = row else {
                out.append_null();
                continue;
            };
            let (neurons, values) = answers.get(&key).ok_or_else(|| unanswered(neuron))?;
            out.values().append_slice(answer(neurons, values, neuron, text)?);
            out.append(true);
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}

/// Returns the activations of `neuron` on a text, from `values` of all `neurons`, which ascend, in all texts.
fn answer<'a>(neurons: &[u32], values: &'a [Vec<Vec<f32>>], neuron: u32, text: usize) -> Result<&'a [f32], Error> {
    let column = neurons.binary_search(&neuron).ok();
    let found = column.and_then(|column| values.get(text)?.get(column));
    found.map(Vec::as_slice).ok_or_else(|| unanswered(neuron))
}

/// Error of activations that are missing: every neuron and text of a row is in its question, and every question is
/// answered.
fn unanswered(neuron: u32) -> Error {
    Error::Internal(format!("the activations of neuron {neuron} were asked for and are not there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neuron_that_is_not_there_has_no_activations() {
        let values = [vec![vec![1.0, 2.0], vec![3.0, 4.0]], vec![vec![5.0], vec![6.0]]];
        assert_eq!(answer(&[3, 7], &values, 7, 0).unwrap(), [3.0, 4.0]);
        assert_eq!(answer(&[3, 7], &values, 3, 1).unwrap(), [5.0]);
        for (neuron, text) in [(0, 0), (5, 0), (8, 1), (3, 2)] {
            assert!(matches!(answer(&[3, 7], &values, neuron, text), Err(Error::Internal(_))), "{neuron} in {text}");
        }
    }
}
