//! Analyses as rows: a row a neuron, with all that a later run needs to go on.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch,
    StringArray, StructArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type};
use datafusion::arrow::error::ArrowError;
use neuroql_analysis::{LayerSummary, Moments, NeuronState, Peak, Selected, TopToken, TopTokens};

use neuroql_schema::tables::{EXAMPLE, NEURONS, PROGRESS, STRONG, element};

/// Subject and progress of an analysis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The version of the model: weights, site, window and the like.
    pub model_version: String,
    /// Strongest examples kept.
    pub k: usize,
    /// Documents it is done with, NULL and empty ones counted.
    pub documents: u64,
    /// Examples it is done with of the document after these.
    pub partial: u64,
    /// SHA-256 of the documents it has seen, and of the next one if some of its examples are done.
    pub documents_sha256: String,
    /// Examples in all.
    pub examples: u64,
    /// The segments of `bounds` and `contexts` that belong to it, in order.
    pub segments: Vec<String>,
    /// True if it has seen the whole dataset.
    pub complete: bool,
}

/// The analysis of one layer of a model over a dataset.
#[derive(Debug, Clone)]
pub struct LayerAnalysis {
    /// The layer.
    pub layer: u32,
    /// Its progress.
    pub progress: Progress,
    /// Its results.
    pub summary: LayerSummary,
}

/// The row of a summary in the table `neurons`.
pub(crate) struct NeuronsRow<'a> {
    pub progress: &'a Progress,
    pub summary: &'a LayerSummary,
}

impl NeuronsRow<'_> {
    /// Converts the summary to rows; `text` returns the text of a token.
    pub fn rows(&self, model: &str, dataset: &str, text: &dyn Fn(u32) -> String) -> Result<RecordBatch, ArrowError> {
        let neurons = self.summary.state();
        let rows = neurons.len();
        let real64 = |f: &dyn Fn(&NeuronState) -> Option<f64>| -> ArrayRef {
            Arc::new(neurons.iter().map(f).collect::<Float64Array>())
        };
        let number = |f: &dyn Fn(&NeuronState) -> u64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(neurons.iter().map(|neuron| f(neuron) as i64)))
        };
        let extreme = |f: &dyn Fn(&NeuronState) -> f32| -> ArrayRef {
            let value = |neuron: &NeuronState| (neuron.moments.count > 0).then(|| f(neuron));
            Arc::new(neurons.iter().map(value).collect::<Float32Array>())
        };
        let counts = |f: &dyn Fn(&NeuronState) -> &[u64]| -> ArrayRef {
            let values = neurons.iter().flat_map(|neuron| f(neuron).iter().map(|n| *n as i64));
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
            Arc::new(list(neurons.iter().map(|neuron| f(neuron).len()), values))
        };
        let shares: Vec<Vec<f32>> =
            neurons.iter().map(|neuron| neuron.histogram_shares().unwrap_or_default()).collect();
        let histogram = list(
            shares.iter().map(Vec::len),
            Arc::new(Float32Array::from_iter_values(shares.iter().flatten().copied())),
        );
        let constant = |value: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(vec![value; rows])) };
        RecordBatch::try_new(
            Arc::clone(&NEURONS),
            vec![
                constant(model),
                Arc::new(Int32Array::from_value(self.summary.layer() as i32, rows)),
                constant(dataset),
                Arc::new(Int32Array::from_iter_values(0..rows as i32)),
                number(&|n| n.moments.count),
                real64(&|n| (n.moments.count > 0).then_some(n.moments.mean)),
                real64(&|n| n.moments.variance()),
                real64(&|n| n.moments.skewness()),
                real64(&|n| n.moments.kurtosis()),
                extreme(&|n| n.max),
                extreme(&|n| n.min),
                real64(&NeuronState::density),
                Arc::new(histogram),
                Arc::new(self.examples(text)),
                Arc::new(self.strongest()),
                number(&|n| n.positive),
                counts(&|n| &n.histogram),
                counts(&|n| &n.peaks),
                real64(&|n| Some(n.moments.m2)),
                real64(&|n| Some(n.moments.m3)),
                real64(&|n| Some(n.moments.m4)),
                Arc::new(self.progress.column(rows)?),
            ],
        )
    }

    fn examples(&self, text: &dyn Fn(u32) -> String) -> ListArray {
        let mut kept: Vec<ExampleRow<'_>> = Vec::new();
        let mut lengths = Vec::new();
        for neuron in self.summary.state() {
            let before = kept.len();
            let top = neuron.selected.top(self.summary.k()).into_iter().enumerate();
            kept.extend(top.map(|(i, peak)| ExampleRow { rank: Some(i as i32 + 1), quantile: None, draw: None, peak }));
            kept.extend(neuron.selected.drawn.iter().rev().flatten().map(|(draw, peak)| ExampleRow {
                rank: None,
                quantile: Some(neuron.quantile(peak.activation) as f32),
                draw: Some(*draw as i64),
                peak,
            }));
            lengths.push(kept.len() - before);
        }
        let number =
            |f: &dyn Fn(&ExampleRow) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(kept.iter().map(f))) };
        let around = || kept.iter().flat_map(|kept| kept.peak.around.iter());
        let of_tokens =
            |values: ArrayRef| -> ArrayRef { Arc::new(list(kept.iter().map(|k| k.peak.around.len()), values)) };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(kept.iter().map(|kept| kept.rank).collect::<Int32Array>()),
            Arc::new(kept.iter().map(|kept| kept.quantile).collect::<Float32Array>()),
            number(&|kept| kept.peak.document),
            number(&|kept| kept.peak.example),
            Arc::new(Int32Array::from_iter_values(kept.iter().map(|kept| kept.peak.position as i32))),
            Arc::new(Float32Array::from_iter_values(kept.iter().map(|kept| kept.peak.activation))),
            of_tokens(Arc::new(Int32Array::from_iter_values(around().map(|(token, _)| *token as i32)))),
            of_tokens(Arc::new(around().map(|(token, _)| Some(text(*token))).collect::<StringArray>())),
            of_tokens(Arc::new(Float32Array::from_iter_values(around().map(|(_, value)| *value)))),
            Arc::new(kept.iter().map(|kept| kept.draw).collect::<Int64Array>()),
        ];
        let examples = StructArray::new(EXAMPLE.clone(), columns, None);
        list(lengths.into_iter(), Arc::new(examples))
    }

    fn strongest(&self) -> ListArray {
        let neurons = self.summary.state();
        let tokens = || neurons.iter().flat_map(|neuron| &neuron.strongest);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from_iter_values(tokens().map(|token| token.example as i32))),
            Arc::new(Int32Array::from_iter_values(tokens().map(|token| token.position as i32))),
            Arc::new(Float32Array::from_iter_values(tokens().map(|token| token.activation))),
        ];
        let tokens = StructArray::new(STRONG.clone(), columns, None);
        list(neurons.iter().map(|neuron| neuron.strongest.len()), Arc::new(tokens))
    }
}

impl LayerAnalysis {
    /// Reads back what [`NeuronsRow::rows`] wrote; `rows` are those of one layer, ascending by neuron.
    pub(crate) fn from_rows(rows: &RecordBatch) -> Result<Self, MalformedColumn> {
        let progress = Progress::from_column(rows)?;
        let long = |name| Ok::<_, MalformedColumn>(column(rows, name)?.as_primitive::<Int64Type>());
        let real64 = |name| Ok::<_, MalformedColumn>(column(rows, name)?.as_primitive::<Float64Type>());
        let real32 = |name| Ok::<_, MalformedColumn>(column(rows, name)?.as_primitive::<Float32Type>());
        let lists = |name| Ok::<_, MalformedColumn>(column(rows, name)?.as_list::<i32>());
        let (tokens, positive, mean) = (long("tokens")?, long("positive")?, real64("mean")?);
        let (m2, m3, m4) = (real64("m2")?, real64("m3")?, real64("m4")?);
        let (max, min) = (real32("max_activation")?, real32("min_activation")?);
        let (counts, peaks, examples) = (lists("counts")?, lists("peaks")?, lists("examples")?);
        let strong = lists("strongest")?;
        let numbers = |lists: &ListArray, i| -> Vec<u64> {
            lists.value(i).as_primitive::<Int64Type>().values().iter().map(|n| *n as u64).collect()
        };
        let state = |i: usize| {
            Ok(NeuronState {
                moments: Moments {
                    count: tokens.value(i) as u64,
                    mean: mean.value(i),
                    m2: m2.value(i),
                    m3: m3.value(i),
                    m4: m4.value(i),
                },
                max: if max.is_null(i) { f32::NEG_INFINITY } else { max.value(i) },
                min: if min.is_null(i) { f32::NAN } else { min.value(i) },
                positive: positive.value(i) as u64,
                histogram: numbers(counts, i),
                peaks: numbers(peaks, i),
                selected: selected(examples.value(i).as_struct())?,
                strongest: strongest(strong.value(i).as_struct())?,
            })
        };
        let neurons = (0..rows.num_rows()).map(state).collect::<Result<Vec<_>, MalformedColumn>>()?;
        let layer = column(rows, "layer")?.as_primitive::<Int32Type>().value(0) as u32;
        let summary = LayerSummary::from_state(layer, progress.k, neurons);
        Ok(Self { layer, progress, summary })
    }
}

/// An example in the form in which it is written.
struct ExampleRow<'a> {
    rank: Option<i32>,
    quantile: Option<f32>,
    draw: Option<i64>,
    peak: &'a Peak,
}

/// Reads the examples of one neuron.
fn selected(examples: &StructArray) -> Result<Selected, MalformedColumn> {
    let of = |name: &'static str| examples.column_by_name(name).ok_or(MalformedColumn(name));
    let (rank, draw) = (of("rank")?.as_primitive::<Int32Type>(), of("draw")?.as_primitive::<Int64Type>());
    let (document, example) = (of("document")?.as_primitive::<Int64Type>(), of("example")?.as_primitive::<Int64Type>());
    let (position, activation) =
        (of("position")?.as_primitive::<Int32Type>(), of("activation")?.as_primitive::<Float32Type>());
    let (tokens, activations) = (of("token_ids")?.as_list::<i32>(), of("activations")?.as_list::<i32>());
    let mut selected = Selected::default();
    for i in 0..examples.len() {
        let (tokens, activations) = (tokens.value(i), activations.value(i));
        let tokens = tokens.as_primitive::<Int32Type>().values().iter().map(|token| *token as u32);
        let peak = Peak {
            document: document.value(i),
            example: example.value(i),
            position: position.value(i) as u32,
            activation: activation.value(i),
            around: tokens.zip(activations.as_primitive::<Float32Type>().values().iter().copied()).collect(),
        };
        selected.restore(peak, rank.is_valid(i), draw.is_valid(i).then(|| draw.value(i) as u64));
    }
    Ok(selected)
}

/// Reads the strongest tokens of one neuron.
fn strongest(tokens: &StructArray) -> Result<Vec<TopToken>, MalformedColumn> {
    let of = |name: &'static str| tokens.column_by_name(name).ok_or(MalformedColumn(name));
    let (example, position) = (of("example")?.as_primitive::<Int32Type>(), of("position")?.as_primitive::<Int32Type>());
    let activation = of("activation")?.as_primitive::<Float32Type>();
    let token = |i: usize| TopToken {
        example: example.value(i) as u32,
        position: position.value(i) as u32,
        activation: activation.value(i),
    };
    Ok((0..tokens.len()).map(token).collect())
}

/// The strongest tokens of some neurons of a layer.
#[derive(Debug)]
pub struct LayerTopTokens {
    neurons: Vec<(Vec<TopToken>, bool, f32)>,
}

impl LayerTopTokens {
    /// Reads the strongest tokens of `neurons`, in their order; `rows` are those of the layer in the table `neurons`.
    /// `None` if these are of another state of the analysis.
    pub(crate) fn from_rows(
        rows: &RecordBatch,
        neurons: impl Iterator<Item = usize>,
        progress: &Progress,
    ) -> Result<Option<Self>, MalformedColumn> {
        if rows.num_rows() == 0 || Progress::from_column(rows)? != *progress {
            return Ok(None);
        }
        let tokens = column(rows, "tokens")?.as_primitive::<Int64Type>();
        let real = |name| Ok::<_, MalformedColumn>(column(rows, name)?.as_primitive::<Float32Type>());
        let (max, min) = (real("max_activation")?, real("min_activation")?);
        let lists = column(rows, "strongest")?.as_list::<i32>();
        let of_neuron = |i: usize| {
            let kept = strongest(lists.value(i).as_struct())?;
            let all = kept.len() as i64 == tokens.value(i);
            // The greater of two magnitudes, and NaN if one of them is.
            let (max, min) = (max.value(i).abs(), min.value(i).abs());
            Ok((kept, all, if max > min || max.is_nan() { max } else { min }))
        };
        Ok(Some(Self { neurons: neurons.map(of_neuron).collect::<Result<_, MalformedColumn>>()? }))
    }

    /// Returns the strongest tokens of each neuron.
    pub fn neurons(&self) -> impl Iterator<Item = TopTokens<'_>> {
        self.neurons.iter().map(|(tokens, all, scale)| TopTokens { tokens, all: *all, scale: *scale })
    }
}

impl Progress {
    fn column(&self, rows: usize) -> Result<StructArray, ArrowError> {
        let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(vec![value; rows])) };
        let number = |value: u64| -> ArrayRef { Arc::new(Int64Array::from_value(value as i64, rows)) };
        let segments: Vec<&str> = self.segments.iter().map(String::as_str).collect();
        let segments: ArrayRef = Arc::new(StringArray::from_iter_values(segments.repeat(rows)));
        StructArray::try_new(
            PROGRESS.clone(),
            vec![
                text(&self.model_version),
                Arc::new(Int32Array::from_value(self.k as i32, rows)),
                number(self.documents),
                number(self.partial),
                text(&self.documents_sha256),
                number(self.examples),
                Arc::new(list(std::iter::repeat_n(self.segments.len(), rows), segments)),
                Arc::new(BooleanArray::from(vec![self.complete; rows])),
            ],
            None,
        )
    }

    /// Reads the progress from the first row of `neurons`; all rows of a layer have the same.
    pub(crate) fn from_column(rows: &RecordBatch) -> Result<Self, MalformedColumn> {
        let progress = column(rows, "progress")?.as_struct();
        if rows.num_rows() == 0 {
            return Err(MalformedColumn("progress"));
        }
        let of = |name: &'static str| progress.column_by_name(name).ok_or(MalformedColumn(name));
        let text = |name| Ok::<_, MalformedColumn>(of(name)?.as_string::<i32>().value(0).to_owned());
        let number = |name| Ok::<_, MalformedColumn>(of(name)?.as_primitive::<Int64Type>().value(0) as u64);
        let segments = of("segments")?.as_list::<i32>().value(0);
        Ok(Self {
            model_version: text("model_version")?,
            k: of("k")?.as_primitive::<Int32Type>().value(0) as usize,
            documents: number("documents")?,
            partial: number("partial")?,
            documents_sha256: text("documents_sha256")?,
            examples: number("examples")?,
            segments: segments.as_string::<i32>().iter().flatten().map(str::to_owned).collect(),
            complete: of("complete")?.as_boolean().value(0),
        })
    }
}

/// A column that is missing, or not as it was written.
#[derive(Debug)]
pub(crate) struct MalformedColumn(pub &'static str);

pub(crate) fn column<'a>(rows: &'a RecordBatch, name: &'static str) -> Result<&'a ArrayRef, MalformedColumn> {
    rows.column_by_name(name).ok_or(MalformedColumn(name))
}

/// A list array of lists of these lengths.
pub(crate) fn list(lengths: impl Iterator<Item = usize>, values: ArrayRef) -> ListArray {
    let data_type: DataType = values.data_type().clone();
    ListArray::new(Arc::new(element(data_type)), OffsetBuffer::from_lengths(lengths), values, None)
}
