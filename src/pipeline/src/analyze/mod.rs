//! Analyses: a model runs over a dataset once, and the store keeps statistics, examples and bounds.
//!
//! Batches run side by side, are reduced where they ran, and merged in order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use futures::TryStreamExt;
use neuroql_analysis::{LayerBounds, LayerSummary};
use neuroql_model::{Model, Placement, ReadSpec};
use neuroql_schema::sql_error;
use neuroql_store::{Progress, Segment, StoredExample};
use tokio::sync::RwLock;

use crate::Error;
use crate::batcher::{Batcher, ExampleBatch};
use crate::consumer::Consumer;
use crate::documents::Documents;
use crate::fingerprint::{DocumentHasher, Fingerprint};
use crate::freshness::{Freshness, prefixes};
use crate::passes::Passes;
use crate::resources::Resources;
use crate::source::Origin;

mod batch;

use batch::{ReducedExamples, examples, reduce_batch};

/// Bytes of extremes (two numbers a neuron and example) at which a segment is committed.
pub const SEGMENT_BYTES: usize = 128 << 20;

/// Shortest time between two commits.
const SHORTEST: Duration = Duration::from_secs(10);

/// Shortest time between two commits, as a multiple of the time that the last one took.
const COMMIT_SHARE: u32 = 30;

/// An analysis to be run.
#[derive(Debug, Clone)]
pub struct Analysis {
    /// The store that keeps it, and the threads that it runs on.
    pub resources: Arc<Resources>,
    /// The model to be analysed.
    pub model: Arc<Model>,
    /// Name under which the store keeps the dataset.
    pub dataset: String,
    /// The documents.
    pub origin: Origin,
    /// The layers to be analysed, ascending.
    pub layers: Vec<u32>,
    /// Number of documents to analyse at most.
    pub documents: Option<u64>,
    /// Number of strongest examples to keep of each neuron.
    pub k: usize,
}

/// The progress of an analysis after a commit, and before the first one.
#[derive(Debug, Clone, PartialEq)]
pub struct AnalysisProgress {
    /// The layers that are analysed together.
    pub layers: Vec<u32>,
    /// Examples committed since the last step.
    pub examples: Range<u64>,
    /// Number of documents done.
    pub documents: u64,
    /// Number of documents of the dataset.
    pub total: u64,
    /// Tokens analysed so far, by earlier runs too.
    pub tokens: u64,
    /// Speed of this run.
    pub tokens_per_second: Option<f64>,
    /// Time that the rest may take.
    pub seconds_left: Option<f64>,
    /// True if the whole dataset is done.
    pub complete: bool,
}

impl Analysis {
    /// Analyses what is not analysed yet, and hands over a step for each commit. Layers that have come equally far go
    /// on together.
    ///
    /// # Errors
    /// [`Error::Busy`]; errors of the model and of the store.
    pub async fn run(&self, context: &Arc<TaskContext>, steps: &impl Consumer<AnalysisProgress>) -> Result<()> {
        let name = self.model.name();
        let Some(_busy) = self.resources.store.begin(name, &self.dataset) else {
            return Err(Error::Busy { model: name.into(), dataset: self.dataset.clone() }.into());
        };
        let states = self.states().await?;
        let wanted = prefixes(states.values().flatten());
        let fingerprint = Arc::new(Documents::fingerprint(&self.origin, wanted, context).await?);
        self.resources.fingerprints.keep(&self.origin, Arc::clone(&fingerprint));
        let mut groups: Vec<(Progress, Vec<u32>)> = Vec::new();
        for (layer, progress) in states {
            let progress = progress.filter(|progress| self.can_go_on(progress, &fingerprint));
            let progress = progress.unwrap_or_else(|| self.beginning(&fingerprint));
            match groups.iter_mut().find(|(other, _)| *other == progress) {
                Some((_, layers)) => layers.push(layer),
                None => groups.push((progress, vec![layer])),
            }
        }
        groups.sort_by_key(|(progress, _)| (progress.documents, progress.partial));
        for (progress, layers) in groups {
            let group = LayerGroup::open(self, layers, progress, context).await?;
            if !group.run(&fingerprint, context, steps).await? {
                return Ok(());
            }
        }
        self.resources.store.sweep(name, &self.dataset).await.map_err(sql_error)
    }

    /// Returns the progress of each layer.
    async fn states(&self) -> Result<BTreeMap<u32, Option<Progress>>> {
        let mut states = BTreeMap::new();
        for layer in &self.layers {
            let progress = self.resources.store.progress(self.model.name(), &self.dataset, *layer).await;
            states.insert(*layer, progress.map_err(sql_error)?);
        }
        Ok(states)
    }

    /// Returns true if an earlier run was of this model, text and options.
    fn can_go_on(&self, progress: &Progress, fingerprint: &Fingerprint) -> bool {
        let same = progress.k == self.k && Freshness::of(&self.model).is_prefix(progress, fingerprint);
        if !same {
            tracing::info!(
                model = self.model.name(),
                dataset = self.dataset,
                "model, dataset or options have changed: the analysis starts over"
            );
        }
        same
    }

    /// Returns the progress of an analysis that has not begun.
    fn beginning(&self, fingerprint: &Fingerprint) -> Progress {
        Progress {
            model_version: self.model.version(),
            k: self.k,
            documents: 0,
            partial: 0,
            documents_sha256: DocumentHasher::default().current(),
            examples: 0,
            segments: Vec::new(),
            complete: fingerprint.documents == 0,
        }
    }

    /// Number of documents to be done in the end.
    fn goal(&self, fingerprint: &Fingerprint) -> u64 {
        self.documents.map_or(fingerprint.documents, |most| most.min(fingerprint.documents))
    }
}

/// Layers that are analysed together, and their state.
struct LayerGroup<'a> {
    analysis: &'a Analysis,
    layers: Vec<u32>,
    progress: Progress,
    /// Summary of each layer; running batches read in them which values they need.
    summaries: Arc<RwLock<Vec<LayerSummary>>>,
    reservation: MemoryReservation,
    /// Bytes of extremes at which a segment is committed.
    segment_bytes: usize,
    pending: PendingSegment,
    /// Number of tokens of this run.
    tokens: u64,
    bytes_done: u64,
    started: Instant,
    committed: Instant,
    last_commit: Duration,
}

/// The part analysed since the last commit.
#[derive(Default)]
struct PendingSegment {
    contexts: Vec<StoredExample>,
    /// Extremes of each example, by layer and batch.
    peaks: Vec<Vec<Vec<f32>>>,
    troughs: Vec<Vec<Vec<f32>>>,
}

/// A batch that has run, reduced.
struct ReducedBatch {
    batch: ExampleBatch,
    parts: Vec<ReducedExamples>,
}

impl<'a> LayerGroup<'a> {
    async fn open(analysis: &'a Analysis, layers: Vec<u32>, progress: Progress, context: &TaskContext) -> Result<Self> {
        let Analysis { resources, model, dataset, k, .. } = analysis;
        let width = model.neurons_per_layer();
        let limit = match context.memory_pool().memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / 4,
            _ => usize::MAX,
        };
        let segment_bytes = SEGMENT_BYTES.min(limit);
        let reservation = MemoryConsumer::new("analyze").register(context.memory_pool());
        reservation.try_grow(layers.len() * LayerSummary::bytes(width, *k) + 2 * segment_bytes)?;
        let mut summaries = Vec::new();
        for &layer in &layers {
            let known = match is_new(&progress) {
                true => None,
                false => resources.store.analysis(model.name(), dataset, layer).await.map_err(sql_error)?,
            };
            summaries.push(known.map_or_else(|| LayerSummary::new(layer, width, *k), |known| known.summary));
        }
        let now = Instant::now();
        Ok(Self {
            analysis,
            pending: PendingSegment::new(layers.len()),
            layers,
            progress,
            summaries: Arc::new(RwLock::new(summaries)),
            reservation,
            segment_bytes,
            tokens: 0,
            bytes_done: 0,
            started: now,
            committed: now,
            last_commit: Duration::ZERO,
        })
    }

    /// Runs to the goal; returns false if no more steps are wanted.
    async fn run(
        mut self,
        fingerprint: &Fingerprint,
        context: &Arc<TaskContext>,
        steps: &impl Consumer<AnalysisProgress>,
    ) -> Result<bool> {
        let analysis = self.analysis;
        let goal = analysis.goal(fingerprint);
        let start = self.progress.clone();
        let listening = steps.take(self.step(start.examples, fingerprint).await).await?;
        let done = start.documents >= goal && (start.complete || goal < fingerprint.documents);
        if !listening || (done && !is_new(&start)) {
            return Ok(listening);
        }
        let model = &analysis.model;
        let width = model.neurons_per_layer();
        let layers = self.layers.iter().map(|layer| (*layer as usize, None));
        let spec = Arc::new(ReadSpec::new(model, layers).map_err(sql_error)?);
        let documents = Documents::all(&analysis.origin, context)?.hashed().after(start.documents).before(goal);
        let tokens = model.batch_tokens(width * self.layers.len());
        let mut batcher = Batcher::of_documents(model, documents, tokens);
        batcher.skip_examples(start.partial as usize);
        let registry = &analysis.resources.registry;
        let in_flight_bytes = 2 * (registry.pool().threads() + 1) * 4 * tokens * width * self.layers.len();
        self.reservation.try_grow(in_flight_bytes)?;
        let (model, summaries) = (Arc::clone(model), Arc::clone(&self.summaries));
        let passes = Passes::side_by_side(registry, &model);
        let batches = passes.over(batcher.read_ahead(), move |batch: ExampleBatch, cancel| {
            let parts = reduce_batch(&model, &batch, &spec, cancel, &summaries)?;
            Ok(ReducedBatch { batch, parts })
        });
        let mut batches = pin!(batches);
        while let Some(batch) = batches.try_next().await? {
            self.merge(batch).await;
            if self.is_due() {
                let from = self.commit().await?;
                if !steps.take(self.step(from, fingerprint).await).await? {
                    return Ok(false);
                }
            }
        }
        // Documents after the last that has tokens are NULL or empty.
        if goal == fingerprint.documents {
            (self.progress.documents, self.progress.partial) = (goal, 0);
            self.progress.documents_sha256.clone_from(&fingerprint.sha256);
            self.progress.complete = true;
        }
        let from = self.commit().await?;
        steps.take(self.step(from, fingerprint).await).await
    }

    /// Merges the reductions of a batch into the summaries.
    async fn merge(&mut self, reduced: ReducedBatch) {
        let examples = examples(&reduced.batch);
        let mut summaries = self.summaries.write().await;
        for part in reduced.parts {
            let before = self.progress.examples + part.examples.start as u64;
            let examples = &examples[part.examples.clone()];
            for (l, (summary, columns)) in part.layers.into_iter().enumerate() {
                summaries[l].merge(&summary, examples, &columns, before);
                let (peaks, troughs) = summary.into_extremes();
                self.pending.peaks[l].push(peaks);
                self.pending.troughs[l].push(troughs);
            }
        }
        drop(summaries);
        for example in &reduced.batch.examples {
            self.pending.contexts.push(StoredExample {
                document: example.document.number,
                example: example.example,
                tokens: Arc::clone(&example.tokens),
            });
            self.tokens += example.tokens.len() as u64;
            if example.last {
                self.bytes_done += example.document.text.len() as u64;
            }
        }
        let Some(last) = reduced.batch.examples.last() else { return };
        let progress = &mut self.progress;
        progress.examples += reduced.batch.examples.len() as u64;
        (progress.documents, progress.partial) = match last.last {
            true => (last.document.row + 1, 0),
            false => (last.document.row, last.example as u64 + 1),
        };
        if let Some(sha256) = &last.document.sha256 {
            progress.documents_sha256 = sha256.to_string();
        }
    }

    /// Returns true if there is enough to commit.
    fn is_due(&self) -> bool {
        let held: usize = self.pending.peaks.iter().flatten().map(|peaks| 8 * peaks.len()).sum();
        held >= self.segment_bytes || self.committed.elapsed() >= SHORTEST.max(self.last_commit * COMMIT_SHARE)
    }

    /// Commits, and returns the number of the first example that was committed.
    async fn commit(&mut self) -> Result<u64> {
        let start = Instant::now();
        let Analysis { resources, model, dataset, .. } = self.analysis;
        let width = model.neurons_per_layer();
        let pending = std::mem::replace(&mut self.pending, PendingSegment::new(self.layers.len()));
        let name = segment_name();
        let mut bounds = Vec::new();
        for ((layer, peaks), troughs) in self.layers.iter().copied().zip(pending.peaks).zip(pending.troughs) {
            let job = move || Ok((layer, LayerBounds::new(&peaks, &troughs, width)));
            bounds.push(resources.registry.pool().run(Placement::OneThread, job));
        }
        let bounds = futures::future::try_join_all(bounds).await.map_err(sql_error)?;
        let segment = (!pending.contexts.is_empty()).then(|| {
            self.progress.segments.push(name.clone());
            Segment { name: &name, contexts: &pending.contexts, bounds: &bounds }
        });
        let texts = model.tokenizer().texts();
        let text = |token: u32| texts.get(token as usize).cloned().unwrap_or_default();
        let summaries = self.summaries.read().await;
        let committed = resources.store.commit(model.name(), dataset, segment, &self.progress, &summaries, &text).await;
        committed.map_err(sql_error)?;
        drop(summaries);
        self.last_commit = start.elapsed();
        let (examples, seconds) = (pending.contexts.len(), self.last_commit.as_secs_f64());
        tracing::info!(model = model.name(), dataset, examples, seconds, "committed");
        self.committed = Instant::now();
        Ok(self.progress.examples - examples as u64)
    }

    /// Returns the step after a commit of the examples from this number on.
    async fn step(&self, from: u64, fingerprint: &Fingerprint) -> AnalysisProgress {
        let progress = &self.progress;
        let summaries = self.summaries.read().await;
        let tokens = summaries[0].state().first().map_or(0, |neuron| neuron.moments.count);
        let seconds = self.started.elapsed().as_secs_f64();
        let goal = self.analysis.goal(fingerprint);
        // The share of whole documents that are done gives the time left; before the first of them it is unknown.
        let left = fingerprint.bytes * goal.saturating_sub(progress.documents) / fingerprint.documents.max(1);
        let left = match self.bytes_done {
            _ if left == 0 => Some(0.0),
            0 => None,
            done => Some(seconds / done as f64 * left as f64),
        };
        AnalysisProgress {
            layers: self.layers.clone(),
            examples: from..progress.examples,
            documents: progress.documents,
            total: fingerprint.documents,
            tokens,
            tokens_per_second: (self.tokens > 0).then(|| self.tokens as f64 / seconds),
            seconds_left: left,
            complete: progress.complete,
        }
    }
}

impl PendingSegment {
    fn new(layers: usize) -> Self {
        Self { contexts: Vec::new(), peaks: vec![Vec::new(); layers], troughs: vec![Vec::new(); layers] }
    }
}

/// Returns true if nothing has been committed yet.
fn is_new(progress: &Progress) -> bool {
    progress.segments.is_empty() && progress.documents == 0
}

/// Returns a unique name: the time at which the segment was made, and something random.
fn segment_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    // Every RandomState has keys of its own.
    format!("{millis:013}-{:016x}", RandomState::new().hash_one(millis))
}

#[cfg(test)]
mod tests;
