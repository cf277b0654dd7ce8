//! Scans that know bounds of what they would find.
//!
//! Once a model has been analysed over a dataset, the store knows for each neuron and example between which numbers the
//! activations lie. A scan with a filter on `activation`, or under a TopK whose filter moves, is then asked of these
//! bounds first, as a Parquet scan asks the statistics of row groups: examples in which no row can pass are not run.
//! Under `ORDER BY activation … LIMIT k` examples come in the order of their bounds, so that the threshold of the TopK
//! rises as fast as it can (the threshold algorithm, as in DeepEverest, PVLDB 15, 2021).

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringViewArray,
    UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::reassign_expr_columns;
use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use neuroql_model::Model;
use neuroql_store::{Context, LayerIndex, NeuronBounds, Progress, widest};

use super::documents::{Document, Documents};
use super::partial::{Output, Partial, Statistic};
use super::request::{Origin, Request};
use crate::Error;
use crate::fingerprint::Digests;
use crate::holdings::{Holdings, store_error};
use crate::predicate::Selection;

/// Where the most telling examples are to come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visit {
    /// Greatest upper bounds first.
    Descending,
    /// Least lower bounds first.
    Ascending,
}

/// An analysis that covers all layers of a request over the whole of its dataset.
#[derive(Debug, Clone)]
pub(super) struct Analysed {
    dataset: Arc<str>,
    /// Layers of the request and how they were analysed.
    layers: Vec<(u32, Progress)>,
}

impl Analysed {
    /// What the store has for a request. That the dataset is still the one that was analysed is made sure of by its
    /// hash.
    pub async fn find(
        model: &Model,
        origin: &Origin,
        selection: &Selection,
        holdings: &Holdings,
        context: Arc<TaskContext>,
    ) -> Result<Option<Self>> {
        let Origin::Dataset { name, .. } = origin else { return Ok(None) };
        let version = model.version();
        let mut layers = Vec::new();
        for (layer, _) in selection {
            let layer = *layer as u32;
            match holdings.store.progress(model.name(), name, layer).await.map_err(store_error)? {
                Some(progress) if progress.complete && progress.model_version == version => {
                    layers.push((layer, progress));
                }
                _ => return Ok(None),
            }
        }
        let Some((_, first)) = layers.first() else { return Ok(None) };
        let fingerprint = holdings.fingerprints.of(origin, context).await?;
        let same = fingerprint.is_some_and(|fingerprint| {
            layers.iter().all(|(_, progress)| {
                progress.documents_sha256 == fingerprint.sha256 && progress.examples == first.examples
            })
        });
        Ok(same.then(|| Self { dataset: Arc::clone(name), layers }))
    }

    /// Name of the dataset.
    pub fn dataset(&self) -> &str {
        &self.dataset
    }

    /// Examples that were analysed.
    pub fn examples(&self) -> u64 {
        self.layers.first().map_or(0, |(_, progress)| progress.examples)
    }

    /// Loads bounds and examples; `None` if a part of them is missing.
    pub async fn load(&self, model: &Model, selection: &Selection, holdings: &Holdings) -> Result<Option<Bounds>> {
        let (store, name) = (&holdings.store, model.name());
        let Some((_, first)) = self.layers.first() else { return Ok(None) };
        let Some(contexts) = store.contexts(name, &self.dataset, first).await.map_err(store_error)? else {
            return Ok(None);
        };
        let mut layers = Vec::new();
        for ((layer, progress), (_, neurons)) in self.layers.iter().zip(selection) {
            match store.index(name, &self.dataset, *layer, progress).await.map_err(store_error)? {
                Some(index) if index.examples() == contexts.len() => layers.push((index, neurons.clone())),
                _ => return Ok(None),
            }
        }
        let of_layer = |(index, neurons): &(Arc<LayerIndex>, Option<Vec<u32>>)| index.of_neurons(neurons.as_deref());
        let Some((lower, upper)) = widest(layers.iter().map(of_layer)) else { return Ok(None) };
        Ok(Some(Bounds { contexts, layers, lower: lower.into(), upper: upper.into() }))
    }
}

/// Examples and the bounds of all asked neurons together in each.
#[derive(Debug)]
pub(super) struct Bounds {
    contexts: Arc<Vec<Context>>,
    /// The indices of the asked layers, and which neurons of each.
    layers: Vec<(Arc<LayerIndex>, Option<Vec<u32>>)>,
    lower: Arc<[f32]>,
    upper: Arc<[f32]>,
}

/// What a scan wants to know of the activations.
pub(super) struct Question<'a> {
    pub visit: Option<Visit>,
    pub dynamic: Vec<Arc<dyn PhysicalExpr>>,
    pub of_each: Option<OfEach<'a>>,
}

/// What it wants to know of each neuron by itself.
#[derive(Clone, Copy)]
pub(super) enum OfEach<'a> {
    /// The `k` greatest or least activations.
    Top { k: usize, greatest: bool },
    /// States of an aggregate.
    Aggregate(&'a Partial),
}

impl Bounds {
    /// Calls back with the bounds of each asked neuron.
    fn for_each_neuron(&self, mut visit: impl FnMut(usize, usize, Vec<NeuronBounds<'_>>)) {
        for (i, (index, neurons)) in self.layers.iter().enumerate() {
            let count = neurons.as_ref().map_or_else(|| index.width(), Vec::len);
            for n in 0..count {
                let neuron = neurons.as_ref().map_or(n, |neurons| neurons[n] as usize);
                visit(i, n, index.segments(neuron));
            }
        }
    }

    /// Which examples may hold one of the `k` greatest (or least) activations of some neuron.
    fn needed_for_top(&self, examples: &[usize], k: usize, greatest: bool) -> Vec<bool> {
        let mut needed = vec![false; self.contexts.len()];
        self.for_each_neuron(|_, _, segments| {
            let of = Flat::new(&segments, self.contexts.len());
            of.need_top(examples, k, greatest, &mut needed);
        });
        needed
    }

    /// Which examples must run because bounds do not tell what they contribute to an aggregate.
    fn needed_for(&self, partial: &Partial, examples: &[usize]) -> Vec<bool> {
        let mut needed = vec![false; self.contexts.len()];
        self.for_each_neuron(|_, _, segments| {
            let of = Flat::new(&segments, self.contexts.len());
            for Output { statistic, condition } in &partial.outputs {
                match statistic {
                    Statistic::Max => {
                        // An example whose greatest value passes the condition makes weaker ones superfluous.
                        of.need_from(examples, true, of.threshold(examples, 1, true).max(condition.least), &mut needed);
                    }
                    Statistic::Min => {
                        let least = of.threshold(examples, 1, false).min(condition.greatest);
                        of.need_from(examples, false, least, &mut needed);
                    }
                    Statistic::Count => {
                        for &e in examples {
                            needed[e] |= condition.of_all(of.lower[e], of.upper[e]).is_none();
                        }
                    }
                    _ => {}
                }
            }
        });
        needed
    }

    /// What the other examples contribute: their tokens where all of them count.
    fn decided(
        &self,
        request: &Request,
        partial: &Partial,
        examples: &[usize],
        needed: &[bool],
    ) -> Result<Vec<RecordBatch>> {
        // Without examples there are no rows, and so no groups.
        if examples.is_empty() {
            return Ok(Vec::new());
        }
        let neurons = request.neurons();
        let mut counts: Vec<Vec<Vec<u64>>> =
            neurons.iter().map(|(_, neurons)| vec![vec![0; neurons.len()]; partial.outputs.len()]).collect();
        self.for_each_neuron(|layer, n, segments| {
            let of = Flat::new(&segments, self.contexts.len());
            for (o, Output { statistic, condition }) in partial.outputs.iter().enumerate() {
                if *statistic != Statistic::Count {
                    continue;
                }
                let others = examples.iter().filter(|e| !needed[**e]);
                counts[layer][o][n] = others
                    .filter(|e| condition.of_all(of.lower[**e], of.upper[**e]) == Some(true))
                    .map(|e| self.contexts[*e].tokens.len() as u64)
                    .sum();
            }
        });
        let of_layer =
            |((layer, neurons), counts): (&(usize, Vec<u32>), &Vec<Vec<u64>>)| partial.counted(*layer, neurons, counts);
        neurons.iter().zip(&counts).map(of_layer).collect()
    }
}

/// Bounds of one neuron in all examples.
struct Flat {
    lower: Vec<f32>,
    upper: Vec<f32>,
    /// Of each example, a number that some activation is at least, and one that some activation is at most.
    reached_above: Vec<Option<f32>>,
    reached_below: Vec<Option<f32>>,
}

impl Flat {
    fn new(segments: &[NeuronBounds<'_>], examples: usize) -> Self {
        let mut flat = Self {
            lower: Vec::with_capacity(examples),
            upper: Vec::with_capacity(examples),
            reached_above: Vec::with_capacity(examples),
            reached_below: Vec::with_capacity(examples),
        };
        for NeuronBounds { lower, upper } in segments {
            for e in 0..upper.codes.len() {
                flat.lower.push(lower.get(e).unwrap_or(f32::NEG_INFINITY));
                flat.upper.push(upper.get(e).unwrap_or(f32::NAN));
                flat.reached_above.push(upper.opposite(e, true));
                flat.reached_below.push(lower.opposite(e, false));
            }
        }
        flat
    }

    /// A number that at least `k` activations reach; the weakest possible one if there are fewer examples.
    fn threshold(&self, examples: &[usize], k: usize, greatest: bool) -> f32 {
        let weakest = if greatest { f32::NEG_INFINITY } else { f32::INFINITY };
        let reached = if greatest { &self.reached_above } else { &self.reached_below };
        let mut reached: Vec<f32> = examples.iter().filter_map(|e| reached[*e]).collect();
        if k == 0 || reached.len() < k {
            return weakest;
        }
        let order = |a: &f32, b: &f32| if greatest { b.total_cmp(a) } else { a.total_cmp(b) };
        *reached.select_nth_unstable_by(k - 1, order).1
    }

    /// Marks the examples that reach a number, or of which that is not known.
    fn need_from(&self, examples: &[usize], greatest: bool, number: f32, needed: &mut [bool]) {
        for &e in examples {
            let (lower, upper) = (self.lower[e], self.upper[e]);
            needed[e] |= if greatest { upper.is_nan() || upper >= number } else { lower <= number };
        }
    }

    fn need_top(&self, examples: &[usize], k: usize, greatest: bool, needed: &mut [bool]) {
        self.need_from(examples, greatest, self.threshold(examples, k, greatest), needed);
    }
}

/// The examples that a scan may have to run, in the order in which it should.
pub(crate) struct Candidates {
    dataset: Arc<str>,
    bounds: Bounds,
    /// Indices of examples left.
    left: VecDeque<usize>,
    /// Examples that were ruled out at once.
    pub(super) skipped: usize,
    /// Texts of all examples' documents, where the query reads them.
    documents: Option<Vec<Arc<Document>>>,
    /// Filters known from the start, and those that move.
    filters: Vec<Arc<dyn PhysicalExpr>>,
    dynamic: Vec<Arc<dyn PhysicalExpr>>,
    /// Of which no row can pass as things stand.
    hopeless: HashSet<usize>,
    selection: (i32, i32, i32, i32),
}

/// An example that a scan has to decide on.
pub(crate) enum Candidate {
    /// None of its rows can pass.
    Hopeless,
    /// It has to be run.
    Run { document: Arc<Document>, example: i64, tokens: Arc<[u32]> },
}

impl Candidates {
    /// All examples of a request's dataset that its filters on documents let pass.
    pub(super) async fn new(
        request: &Request,
        analysed: &Analysed,
        bounds: Bounds,
        question: Question<'_>,
        context: Arc<TaskContext>,
    ) -> Result<(Self, Vec<RecordBatch>)> {
        let documents = match request.reads_text() {
            true => Some(texts(&request.origin, &bounds.contexts, context).await?),
            false => None,
        };
        let passes = of_documents(request, analysed, &bounds.contexts, documents.as_deref())?;
        let mut left: Vec<usize> = (0..bounds.contexts.len()).filter(|i| passes.value(*i)).collect();
        let mut decided = Vec::new();
        match question.of_each {
            Some(OfEach::Top { k, greatest }) => {
                let needed = bounds.needed_for_top(&left, k, greatest);
                left.retain(|example| needed[*example]);
            }
            Some(OfEach::Aggregate(partial)) => {
                let needed = bounds.needed_for(partial, &left);
                decided = bounds.decided(request, partial, &left, &needed)?;
                left.retain(|example| needed[*example]);
            }
            None => {}
        }
        match question.visit {
            Some(Visit::Descending) => left.sort_by(|a, b| descending(bounds.upper[*a], bounds.upper[*b])),
            Some(Visit::Ascending) => left.sort_by(|a, b| descending(bounds.lower[*b], bounds.lower[*a])),
            None => {}
        }
        let layers = request.selection.iter().map(|(layer, _)| *layer as i32);
        let neurons = request.selection.iter().flat_map(|(_, neurons)| match neurons {
            Some(neurons) => [neurons.first().copied(), neurons.last().copied()],
            None => [Some(0), Some(request.model.config().d_mlp as u32 - 1)],
        });
        let neurons = neurons.flatten().map(|n| n as i32);
        let range = |numbers: &mut dyn Iterator<Item = i32>| {
            numbers.fold((i32::MAX, i32::MIN), |(least, most), n| (least.min(n), most.max(n)))
        };
        let (layers, neurons) = (range(&mut { layers }), range(&mut { neurons }));
        let skipped = bounds.contexts.len() - left.len();
        let candidates = Self {
            dataset: Arc::clone(&analysed.dataset),
            bounds,
            skipped,
            left: left.into(),
            documents,
            filters: request.on_values.parts().to_vec(),
            dynamic: question.dynamic,
            hopeless: HashSet::new(),
            selection: (layers.0, layers.1, neurons.0, neurons.1),
        };
        Ok((candidates, decided))
    }

    /// Looks again at what the filters say now. To be called before each batch.
    pub fn refresh(&mut self) -> Result<()> {
        let mut filters = self.filters.clone();
        for filter in &self.dynamic {
            filters.push(snapshot_physical_expr(Arc::clone(filter))?);
        }
        let left: Vec<usize> = self.left.iter().copied().collect();
        let mut keep = vec![true; left.len()];
        for filter in filters {
            let schema = statistics_schema();
            // A filter on columns that nothing is known of prunes nothing.
            let Ok(filter) = reassign_expr_columns(filter, &schema) else { continue };
            let builder = PruningPredicateBuilder::new().with_file_schema(schema);
            let Ok(pruning) = builder.try_build(filter) else { continue };
            if pruning.always_true() {
                continue;
            }
            let statistics = Statistics { candidates: self, examples: &left };
            let kept = pruning.prune(&statistics)?;
            keep.iter_mut().zip(kept).for_each(|(keep, kept)| *keep &= kept);
        }
        self.hopeless = left.into_iter().zip(keep).filter(|(_, keep)| !keep).map(|(example, _)| example).collect();
        Ok(())
    }

    /// The next example, if there is one.
    pub fn next(&mut self) -> Option<Candidate> {
        let example = self.left.pop_front()?;
        if self.hopeless.remove(&example) {
            return Some(Candidate::Hopeless);
        }
        let context = &self.bounds.contexts[example];
        let document = match &self.documents {
            Some(documents) => Arc::clone(&documents[example]),
            None => Arc::new(Document {
                dataset: Some(Arc::clone(&self.dataset)),
                number: context.document,
                text: Arc::from(""),
                row: 0,
                sha256: None,
            }),
        };
        Some(Candidate::Run { document, example: context.example, tokens: Arc::clone(&context.tokens) })
    }
}

/// NaN, which is no bound, comes first.
fn descending(a: f32, b: f32) -> std::cmp::Ordering {
    b.is_nan().cmp(&a.is_nan()).then_with(|| b.partial_cmp(&a).unwrap_or(std::cmp::Ordering::Equal))
}

/// Columns that something is known of for an example as a whole.
fn statistics_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("document", DataType::Int64, false),
        Field::new("example", DataType::Int64, false),
        Field::new("layer", DataType::Int32, false),
        Field::new("neuron", DataType::Int32, false),
        Field::new("activation", DataType::Float32, false),
    ]))
}

/// Bounds of examples as DataFusion's pruning asks for them.
struct Statistics<'a> {
    candidates: &'a Candidates,
    examples: &'a [usize],
}

impl Statistics<'_> {
    fn extreme(&self, column: &Column, greatest: bool) -> Option<ArrayRef> {
        let Candidates { bounds, selection, .. } = self.candidates;
        let contexts = self.examples.iter().map(|i| &bounds.contexts[*i]);
        let count = self.examples.len();
        let (first_layer, last_layer, first_neuron, last_neuron) = *selection;
        Some(match column.name.as_str() {
            "document" => Arc::new(Int64Array::from_iter_values(contexts.map(|c| c.document))),
            "example" => Arc::new(Int64Array::from_iter_values(contexts.map(|c| c.example))),
            "layer" => Arc::new(Int32Array::from_value(if greatest { last_layer } else { first_layer }, count)),
            "neuron" => Arc::new(Int32Array::from_value(if greatest { last_neuron } else { first_neuron }, count)),
            "activation" => {
                let of = if greatest { &bounds.upper } else { &bounds.lower };
                Arc::new(Float32Array::from_iter_values(self.examples.iter().map(|i| of[*i])))
            }
            _ => return None,
        })
    }
}

impl PruningStatistics for Statistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.extreme(column, false)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.extreme(column, true)
    }

    fn num_containers(&self) -> usize {
        self.examples.len()
    }

    // Nothing here is NULL, which `ORDER BY … DESC` must be told: it puts NULLs first.
    fn null_counts(&self, _: &Column) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_value(0, self.examples.len())))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let tokens = self.examples.iter().map(|i| self.candidates.bounds.contexts[*i].tokens.len() as u64);
        Some(Arc::new(UInt64Array::from_iter_values(tokens)))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// Which examples the filters on documents let pass.
fn of_documents(
    request: &Request,
    analysed: &Analysed,
    contexts: &[Context],
    documents: Option<&[Arc<Document>]>,
) -> Result<BooleanArray> {
    let count = contexts.len();
    if request.on_documents.is_empty() {
        return Ok(BooleanArray::from(vec![true; count]));
    }
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for name in request.on_documents.columns() {
        let column: ArrayRef = match (name.as_str(), documents) {
            ("dataset", _) => {
                Arc::new(StringViewArray::from_iter_values(std::iter::repeat_n(analysed.dataset.as_ref(), count)))
            }
            ("document", _) => Arc::new(Int64Array::from_iter_values(contexts.iter().map(|c| c.document))),
            ("text", Some(documents)) => {
                Arc::new(StringViewArray::from_iter_values(documents.iter().map(|document| document.text.as_ref())))
            }
            (other, _) => return Err(Error::Internal(format!("column {other} is not known of a document")).into()),
        };
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column);
    }
    // A filter that is always false has no columns.
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
    request.on_documents.evaluate(&batch)
}

/// The document of each example. Examples lie in the order of the dataset, those of a document together.
async fn texts(origin: &Origin, contexts: &[Context], context: Arc<TaskContext>) -> Result<Vec<Arc<Document>>> {
    let mut documents = Documents::all(origin, 0, Digests::default(), context)?;
    let mut current: Option<Arc<Document>> = None;
    let mut all = Vec::with_capacity(contexts.len());
    for example in contexts {
        if example.example == 0 {
            current = None;
        }
        let document = match &current {
            Some(document) => Arc::clone(document),
            None => {
                let mut next = documents.next().await?;
                // A document without tokens has no examples.
                while next
                    .as_ref()
                    .is_some_and(|document| document.number != example.document || document.text.is_empty())
                {
                    next = documents.next().await?;
                }
                let lost = || Error::Internal("an analysed document is not in its dataset".into());
                Arc::new(next.ok_or_else(lost)?)
            }
        };
        current = Some(Arc::clone(&document));
        all.push(document);
    }
    Ok(all)
}
