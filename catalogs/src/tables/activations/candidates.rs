//! The examples that bounds leave for a scan to run, narrowed again by its filters before each batch.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Int32Array, Int64Array, RecordBatch, StringViewArray, UInt64Array,
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
use neuroql_model::Batch;
use neuroql_pipeline::batcher::{self, Candidate};
use neuroql_pipeline::bounds::{Bounds, KnownTokens, ScanOrder, StoredAnalysis, TopK};
use neuroql_pipeline::{BatchExample, Document, Documents, ExampleBatch, Origin, RowFilter};
use neuroql_store::{LayerTopTokens, StoredExample};

use super::partial_aggregate::{PartialAggregate, StateColumn};
use super::scan_request::ScanRequest;
use crate::Error;
use crate::tables::neuron_rows::batch;

/// Activations that a scan needs, if not all.
#[derive(Clone, Copy)]
pub(super) enum PruningTarget<'a> {
    /// The greatest or least activations.
    Top(TopK, Option<&'a [LayerTopTokens]>),
    /// States of an aggregate by neuron.
    Aggregate(&'a PartialAggregate),
}

/// The question that a scan answers, and the order in which it runs examples.
pub(super) struct PruningRequest<'a> {
    pub visit: Option<ScanOrder>,
    pub dynamic: Vec<Arc<dyn PhysicalExpr>>,
    pub wanted: Option<PruningTarget<'a>>,
}

/// Results that are known without a run.
#[derive(Debug, Default)]
pub(super) struct KnownResults {
    /// States of an aggregate.
    pub states: Vec<RecordBatch>,
    /// Layer, neuron, some tokens, and the neuron's activations on them.
    pub rows: Vec<(usize, u32, ExampleBatch, Vec<f32>)>,
}

/// The examples that a scan may have to run, in the order in which it should.
pub(crate) struct Candidates {
    dataset: Arc<str>,
    bounds: Bounds,
    /// Indices of examples left.
    left: VecDeque<usize>,
    /// Number of examples that were ruled out at once.
    pub(super) skipped: usize,
    /// Texts of all examples' documents, where the query reads them.
    documents: Option<Vec<Arc<Document>>>,
    /// Filters known from the start, and those that move.
    filters: Vec<Arc<dyn PhysicalExpr>>,
    dynamic: Vec<Arc<dyn PhysicalExpr>>,
    /// Indices of the examples in which no row can pass at present.
    hopeless: HashSet<usize>,
    selection: (i32, i32, i32, i32),
}

impl Candidates {
    /// Selects the examples of a request's dataset that its filters on documents let pass.
    pub(super) async fn new(
        request: &ScanRequest,
        analysed: &StoredAnalysis,
        bounds: Bounds,
        question: PruningRequest<'_>,
        context: Arc<TaskContext>,
    ) -> Result<(Self, KnownResults)> {
        let documents = match request.reads_text() {
            true => Some(texts(&request.origin, &bounds.contexts, context).await?),
            false => None,
        };
        let passes = of_documents(request, analysed, &bounds.contexts, documents.as_deref())?;
        let mut left: Vec<usize> = (0..bounds.contexts.len()).filter(|i| passes.value(*i)).collect();
        let mut decided = KnownResults::default();
        let mut known = Vec::new();
        match question.wanted {
            Some(PruningTarget::Top(top, strongest)) => {
                known = bounds.retain_top(&request.neurons(), top, strongest, &mut left)
            }
            Some(PruningTarget::Aggregate(partial)) => decided.states = states(&bounds, request, partial, &mut left)?,
            None => {}
        }
        match question.visit {
            Some(ScanOrder::Descending) => left.sort_by(|a, b| descending(bounds.upper[*a], bounds.upper[*b])),
            Some(ScanOrder::Ascending) => left.sort_by(|a, b| descending(bounds.lower[*b], bounds.lower[*a])),
            None => {}
        }
        let layers = request.selection.iter().map(|(layer, _)| *layer as i32);
        let neurons = request.selection.iter().flat_map(|(_, neurons)| match neurons {
            Some(neurons) => [neurons.first().copied(), neurons.last().copied()],
            None => [Some(0), Some(request.model.neurons_per_layer() as u32 - 1)],
        });
        let neurons = neurons.flatten().map(|n| n as i32);
        let range = |numbers: &mut dyn Iterator<Item = i32>| {
            numbers.fold((i32::MAX, i32::MIN), |(least, most), n| (least.min(n), most.max(n)))
        };
        let (layers, neurons) = (range(&mut { layers }), range(&mut { neurons }));
        let skipped = bounds.contexts.len() - left.len();
        let candidates = Self {
            dataset: Arc::clone(analysed.dataset()),
            bounds,
            skipped,
            left: left.into(),
            documents,
            filters: request.on_values.parts().to_vec(),
            dynamic: question.dynamic,
            hopeless: HashSet::new(),
            selection: (layers.0, layers.1, neurons.0, neurons.1),
        };
        decided.rows = known.iter().map(|known| candidates.rows(request.model.bos(), known)).collect();
        Ok((candidates, decided))
    }

    /// Returns tokens with known activations as if they had run.
    fn rows(&self, bos: Option<u32>, known: &KnownTokens) -> (usize, u32, ExampleBatch, Vec<f32>) {
        let mut tokens = known.tokens.clone();
        tokens.sort_by_key(|token| (token.example, token.position));
        let mut packed = ExampleBatch { batch: Batch::new([], bos), examples: Vec::new() };
        for of_example in tokens.chunk_by(|a, b| a.example == b.example) {
            let (document, example, tokens) = self.example(of_example[0].example as usize);
            let positions: Vec<u32> = of_example.iter().map(|token| token.position).collect();
            packed.batch.push_positions(&tokens, &positions);
            packed.examples.push(BatchExample { document, example, positions, tokens, last: false });
        }
        (known.layer, known.neuron, packed, tokens.iter().map(|token| token.activation).collect())
    }

    /// Returns document, number and tokens of an example.
    fn example(&self, example: usize) -> (Arc<Document>, i64, Arc<[u32]>) {
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
        (document, context.example, Arc::clone(&context.tokens))
    }
}

impl batcher::Candidates for Candidates {
    fn refresh(&mut self) -> Result<()> {
        let mut filters = self.filters.clone();
        for filter in &self.dynamic {
            filters.push(snapshot_physical_expr(Arc::clone(filter))?);
        }
        let left: Vec<usize> = self.left.iter().copied().collect();
        let mut keep = vec![true; left.len()];
        for filter in filters {
            let schema = statistics_schema();
            // A filter on columns without bounds prunes nothing.
            let Ok(filter) = reassign_expr_columns(filter, &schema) else { continue };
            let builder = PruningPredicateBuilder::new().with_file_schema(schema);
            let Ok(pruning) = builder.try_build(filter) else { continue };
            if pruning.always_true() {
                continue;
            }
            let statistics = ExampleStatistics { candidates: self, examples: &left };
            let kept = pruning.prune(&statistics)?;
            keep.iter_mut().zip(kept).for_each(|(keep, kept)| *keep &= kept);
        }
        self.hopeless = left.into_iter().zip(keep).filter(|(_, keep)| !keep).map(|(example, _)| example).collect();
        Ok(())
    }

    fn next(&mut self) -> Option<Candidate> {
        let example = self.left.pop_front()?;
        if self.hopeless.remove(&example) {
            return Some(Candidate::Skipped);
        }
        let (document, example, tokens) = self.example(example);
        Some(Candidate::Run { document, example, tokens })
    }
}

/// Leaves the examples whose contribution to an aggregate bounds do not decide, and returns the states of the others.
fn states(
    bounds: &Bounds,
    request: &ScanRequest,
    partial: &PartialAggregate,
    examples: &mut Vec<usize>,
) -> Result<Vec<RecordBatch>> {
    let aggregates: Vec<_> = partial.outputs.iter().filter_map(|output| output.aggregate()).collect();
    // Without examples there are no rows, and so no groups.
    let Some(counts) = bounds.retain_undecided(&aggregates, examples) else { return Ok(Vec::new()) };
    let of_layer = |((layer, neurons), counts): (&(usize, Vec<u32>), Vec<Vec<u64>>)| {
        let mut counts = counts.into_iter();
        let of_output = |output: &StateColumn| {
            output.aggregate().and_then(|_| counts.next()).unwrap_or_else(|| vec![0; neurons.len()])
        };
        let counts: Vec<Vec<u64>> = partial.outputs.iter().map(of_output).collect();
        partial.counted(*layer, neurons, &counts)
    };
    request.neurons().iter().zip(counts).map(of_layer).collect()
}

/// Orders numbers from the greatest to the least; NaN, which is no bound, comes first.
fn descending(a: f32, b: f32) -> std::cmp::Ordering {
    b.is_nan().cmp(&a.is_nan()).then_with(|| b.partial_cmp(&a).unwrap_or(std::cmp::Ordering::Equal))
}

/// Columns whose least and greatest value in an example is known.
fn statistics_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("document", DataType::Int64, false),
        Field::new("example", DataType::Int64, false),
        Field::new("layer", DataType::Int32, false),
        Field::new("neuron", DataType::Int32, false),
        Field::new("activation", DataType::Float32, false),
    ]))
}

/// Bounds of examples as statistics for DataFusion's pruning.
struct ExampleStatistics<'a> {
    candidates: &'a Candidates,
    examples: &'a [usize],
}

impl ExampleStatistics<'_> {
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

impl PruningStatistics for ExampleStatistics<'_> {
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

/// Returns a mask of the examples that the filters on documents let pass.
fn of_documents(
    request: &ScanRequest,
    analysed: &StoredAnalysis,
    contexts: &[StoredExample],
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
                Arc::new(StringViewArray::from_iter_values(std::iter::repeat_n(analysed.dataset().as_ref(), count)))
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
    request.on_documents.evaluate(&batch(&Arc::new(Schema::new(fields)), columns, count)?)
}

/// Returns the document of each example. Examples lie in the order of the dataset, those of a document together.
async fn texts(origin: &Origin, contexts: &[StoredExample], context: Arc<TaskContext>) -> Result<Vec<Arc<Document>>> {
    let mut documents = Documents::all(origin, &context)?;
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
