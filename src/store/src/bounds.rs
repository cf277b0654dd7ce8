//! The index of a layer: bounds of each neuron in each example, and the tokens of each example.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, AsArray, BinaryArray, Float32Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::{Float32Type, Int32Type, Int64Type};
use datafusion::arrow::error::ArrowError;
use neuroql_analysis::{LayerBounds, NeuronBounds, QuantizedBounds, greater, lesser};

use crate::analysis::{MalformedColumn, column, list};
use neuroql_schema::tables::{BOUNDS, CONTEXTS};

/// An example of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredExample {
    /// Number of its document.
    pub document: i64,
    /// Its number within the document.
    pub example: i64,
    /// Its tokens.
    pub tokens: Arc<[u32]>,
}

/// The bounds of a layer over all segments of an analysis.
#[derive(Debug, Default)]
pub struct LayerIndex {
    segments: Vec<LayerBounds>,
}

impl LayerIndex {
    /// Number of examples.
    pub fn examples(&self) -> usize {
        self.segments.iter().map(LayerBounds::examples).sum()
    }

    /// Returns for each example the lower and upper bounds of the activations of some neurons, of all if `None`.
    pub fn of_neurons(&self, neurons: Option<&[u32]>) -> (Vec<f32>, Vec<f32>) {
        let (mut lower, mut upper) = (Vec::new(), Vec::new());
        for segment in &self.segments {
            let (l, u) = match neurons {
                Some(neurons) => segment.of_neurons(neurons.iter().map(|n| *n as usize)),
                None => segment.of_neurons(0..segment.upper.len()),
            };
            lower.extend(l);
            upper.extend(u);
        }
        (lower, upper)
    }

    /// Number of neurons of the layer.
    pub fn width(&self) -> usize {
        self.segments.first().map_or(0, |segment| segment.upper.len())
    }

    /// Returns the bounds of one neuron in all examples.
    pub fn of_neuron(&self, neuron: usize) -> NeuronBounds {
        let mut bounds = NeuronBounds::default();
        self.segments.iter().for_each(|segment| bounds.extend(&segment.lower[neuron], &segment.upper[neuron]));
        bounds
    }

    /// Number of bytes that it holds.
    pub fn bytes(&self) -> usize {
        let of = |codes: &[QuantizedBounds]| {
            codes.iter().map(|c| size_of::<QuantizedBounds>() + c.codes.len()).sum::<usize>()
        };
        self.segments.iter().map(|segment| of(&segment.upper) + of(&segment.lower)).sum()
    }

    /// Reads the bounds of these segments from rows of `bounds` of one layer; `None` if a segment is missing.
    pub(crate) fn from_rows(rows: &[RecordBatch], segments: &[String]) -> Result<Option<Self>, MalformedColumn> {
        let mut found: HashMap<String, Vec<(i32, QuantizedBounds, QuantizedBounds)>> = HashMap::new();
        for batch in rows {
            let segment = column(batch, "segment")?.as_string::<i32>();
            let neuron = column(batch, "neuron")?.as_primitive::<Int32Type>();
            let upper = CodesColumn::new(batch, ["upper_low", "upper_high", "upper"])?;
            let lower = CodesColumn::new(batch, ["lower_low", "lower_high", "lower"])?;
            for i in 0..batch.num_rows() {
                let of_segment = match found.get_mut(segment.value(i)) {
                    Some(of_segment) => of_segment,
                    None => found.entry(segment.value(i).to_owned()).or_default(),
                };
                of_segment.push((neuron.value(i), upper.get(i), lower.get(i)));
            }
        }
        let mut index = Self::default();
        for segment in segments {
            let Some(mut neurons) = found.remove(segment) else { return Ok(None) };
            neurons.sort_by_key(|(neuron, ..)| *neuron);
            let (upper, lower) = neurons.into_iter().map(|(_, upper, lower)| (upper, lower)).unzip();
            index.segments.push(LayerBounds { upper, lower });
        }
        Ok(Some(index))
    }
}

/// Returns the widest bounds of each example over those of several layers.
pub fn widest(bounds: impl IntoIterator<Item = (Vec<f32>, Vec<f32>)>) -> Option<(Vec<f32>, Vec<f32>)> {
    bounds.into_iter().reduce(|(mut lower, mut upper), (l, u)| {
        lower.iter_mut().zip(l).for_each(|(a, b)| *a = lesser(*a, b));
        upper.iter_mut().zip(u).for_each(|(a, b)| *a = greater(*a, b));
        (lower, upper)
    })
}

struct CodesColumn<'a> {
    low: &'a Float32Array,
    high: &'a Float32Array,
    codes: &'a BinaryArray,
}

impl<'a> CodesColumn<'a> {
    fn new(rows: &'a RecordBatch, [low, high, codes]: [&'static str; 3]) -> Result<Self, MalformedColumn> {
        Ok(Self {
            low: column(rows, low)?.as_primitive::<Float32Type>(),
            high: column(rows, high)?.as_primitive::<Float32Type>(),
            codes: column(rows, codes)?.as_binary(),
        })
    }

    fn get(&self, i: usize) -> QuantizedBounds {
        let codes = self.codes.value(i).iter().map(|code| *code as i8).collect();
        QuantizedBounds { low: self.low.value(i), high: self.high.value(i), codes }
    }
}

/// Makes rows of `bounds` for one layer of a segment.
pub(crate) fn bounds_rows(
    model: &str,
    dataset: &str,
    segment: &str,
    layer: u32,
    bounds: &LayerBounds,
) -> Result<RecordBatch, ArrowError> {
    let rows = bounds.upper.len();
    let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(vec![value; rows])) };
    let real = |codes: &[QuantizedBounds], f: fn(&QuantizedBounds) -> f32| -> ArrayRef {
        Arc::new(Float32Array::from_iter_values(codes.iter().map(f)))
    };
    let bytes = |codes: &[QuantizedBounds]| -> ArrayRef {
        let of_neuron = |codes: &QuantizedBounds| codes.codes.iter().map(|code| *code as u8).collect::<Vec<u8>>();
        Arc::new(BinaryArray::from_iter_values(codes.iter().map(of_neuron)))
    };
    RecordBatch::try_new(
        Arc::clone(&BOUNDS),
        vec![
            text(model),
            Arc::new(Int32Array::from_value(layer as i32, rows)),
            text(dataset),
            text(segment),
            Arc::new(Int32Array::from_iter_values(0..rows as i32)),
            real(&bounds.upper, |c| c.low),
            real(&bounds.upper, |c| c.high),
            bytes(&bounds.upper),
            real(&bounds.lower, |c| c.low),
            real(&bounds.lower, |c| c.high),
            bytes(&bounds.lower),
        ],
    )
}

/// Makes rows of `contexts` for a segment.
pub(crate) fn contexts_rows(
    model: &str,
    dataset: &str,
    segment: &str,
    contexts: &[StoredExample],
) -> Result<RecordBatch, ArrowError> {
    let rows = contexts.len();
    let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(vec![value; rows])) };
    let tokens = Int32Array::from_iter_values(contexts.iter().flat_map(|c| c.tokens.iter().map(|t| *t as i32)));
    RecordBatch::try_new(
        Arc::clone(&CONTEXTS),
        vec![
            text(model),
            text(dataset),
            text(segment),
            Arc::new(Int32Array::from_iter_values(0..rows as i32)),
            Arc::new(Int64Array::from_iter_values(contexts.iter().map(|c| c.document))),
            Arc::new(Int64Array::from_iter_values(contexts.iter().map(|c| c.example))),
            Arc::new(list(contexts.iter().map(|c| c.tokens.len()), Arc::new(tokens))),
        ],
    )
}

/// Reads the examples of these segments, in order; `None` if a segment is missing.
pub(crate) fn contexts_from_rows(
    rows: &[RecordBatch],
    segments: &[String],
) -> Result<Option<Vec<StoredExample>>, MalformedColumn> {
    let mut found: HashMap<&str, Vec<(i32, StoredExample)>> = HashMap::new();
    for batch in rows {
        let segment = column(batch, "segment")?.as_string::<i32>();
        let number = column(batch, "number")?.as_primitive::<Int32Type>();
        let document = column(batch, "document")?.as_primitive::<Int64Type>();
        let example = column(batch, "example")?.as_primitive::<Int64Type>();
        let tokens = column(batch, "token_ids")?.as_list::<i32>();
        let (values, offsets) = (tokens.values().as_primitive::<Int32Type>().values(), tokens.value_offsets());
        for i in 0..batch.num_rows() {
            let tokens = values[offsets[i] as usize..offsets[i + 1] as usize].iter().map(|t| *t as u32).collect();
            let context = StoredExample { document: document.value(i), example: example.value(i), tokens };
            found.entry(segment.value(i)).or_default().push((number.value(i), context));
        }
    }
    let mut all = Vec::new();
    for segment in segments {
        let Some(mut contexts) = found.remove(segment.as_str()) else { return Ok(None) };
        contexts.sort_by_key(|(number, _)| *number);
        all.extend(contexts.into_iter().map(|(_, context)| context));
    }
    Ok(Some(all))
}
