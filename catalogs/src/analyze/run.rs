//! The loop of an analysis: batches run side by side, are summarised where they ran, and merged in order.

use neuroql_schema::sql_error;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use futures::stream::FuturesOrdered;
use futures::{StreamExt, TryFutureExt};
use neuroql_analysis::{LayerBounds, LayerSummary};
use neuroql_model::{CancelOnDrop, Model, Pool, Probe, Width};
use neuroql_store::{Context, Progress, Segment, holds_for};
use tokio::sync::RwLock;

use super::batch::{Reduced, examples, reduced};
use crate::Error;
use crate::activations::{Documents, Examples, Origin, Packed, Producer};
use crate::estimate::{Estimate, Running, Tokens};
use crate::fingerprint::{Digests, Fingerprint};
use crate::holdings::Holdings;
use crate::predicate::Predicate;
use crate::relation::Rows;

/// Bytes of extremes (two numbers a neuron and example) that a segment may gather before it is committed.
const SEGMENT_BYTES: usize = 128 << 20;

/// A commit is made at the earliest after this long...
const SHORTEST: Duration = Duration::from_secs(10);

/// ...and after this many times as long as the last one took.
const COMMIT_SHARE: u32 = 30;

/// An analysis to be run.
#[derive(Debug, Clone)]
pub(super) struct Analysis {
    pub holdings: Arc<Holdings>,
    pub model: Arc<Model>,
    pub dataset: String,
    pub origin: Origin,
    pub layers: Vec<u32>,
    /// Documents to analyse at most.
    pub documents: Option<u64>,
    pub k: usize,
    /// What it will cost.
    pub estimate: Estimate,
}

/// How far it has come.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub layers: Vec<u32>,
    /// Examples committed since the last step.
    pub examples: Range<u64>,
    pub documents: u64,
    pub total: u64,
    /// Tokens analysed so far, by earlier runs too.
    pub tokens: u64,
    pub tokens_per_second: Option<f64>,
    pub seconds_left: Option<f64>,
    pub complete: bool,
}

impl Analysis {
    /// What an analysis will cost of which nothing was done before.
    pub fn estimate(pool: &Pool, model: &Model, layers: &[u32], k: usize, tokens: Option<Tokens>) -> Estimate {
        let (width, threads) = (model.config().d_mlp, pool.threads());
        let values = width * layers.len();
        let running = Running {
            speed: model.speed(),
            layers: layers.last().map_or(0.0, |layer| f64::from(layer + 1)),
            batch: model.batch_tokens(values),
            lanes: threads + 1,
            threads,
        };
        // As much as the run asks for: summaries, extremes of two segments, batches and what is made of them.
        let extremes = tokens.map_or(usize::MAX, |tokens| tokens.examples as usize).saturating_mul(8 * values);
        let bytes = layers.len() * LayerSummary::bytes(width, k) + 2 * SEGMENT_BYTES.min(extremes);
        running.estimate(tokens, threads + 1, bytes as f64, (8 * values) as f64)
    }

    /// Analyses what is not analysed yet. Layers that have come equally far go on together; a row is
    /// sent for each commit.
    pub async fn analyze(&self, context: &Arc<TaskContext>, rows: &Rows) -> Result<()> {
        let name = self.model.name();
        let Some(_busy) = self.holdings.store.begin(name, &self.dataset) else {
            return Err(Error::Busy { model: name.into(), dataset: self.dataset.clone() }.into());
        };
        let states = self.states().await?;
        let wanted = states.values().flatten().map(seen).collect();
        let fingerprint = Arc::new(Fingerprint::read(&self.origin, wanted, Arc::clone(context)).await?);
        self.holdings.fingerprints.keep(&self.origin, Arc::clone(&fingerprint));
        let mut groups: Vec<(Progress, Vec<u32>)> = Vec::new();
        for (layer, progress) in states {
            let progress = progress.filter(|progress| self.goes_on(progress, &fingerprint));
            let progress = progress.unwrap_or_else(|| self.beginning(&fingerprint));
            match groups.iter_mut().find(|(other, _)| *other == progress) {
                Some((_, layers)) => layers.push(layer),
                None => groups.push((progress, vec![layer])),
            }
        }
        groups.sort_by_key(|(progress, _)| (progress.documents, progress.partial));
        for (progress, layers) in groups {
            let group = Group::open(self, layers, progress, context).await?;
            if !group.run(&fingerprint, context, rows).await? {
                return Ok(());
            }
        }
        self.holdings.store.sweep(name, &self.dataset).await.map_err(sql_error)
    }

    /// What is known of each layer.
    async fn states(&self) -> Result<BTreeMap<u32, Option<Progress>>> {
        let mut states = BTreeMap::new();
        for layer in &self.layers {
            let progress = self.holdings.store.progress(self.model.name(), &self.dataset, *layer).await;
            states.insert(*layer, progress.map_err(sql_error)?);
        }
        Ok(states)
    }

    /// Whether model, dataset and options are still those of an earlier run.
    fn goes_on(&self, progress: &Progress, fingerprint: &Fingerprint) -> bool {
        let same = holds_for(&progress.model_version, &self.model.version())
            && progress.k == self.k
            && fingerprint.prefixes.get(&seen(progress)) == Some(&progress.documents_sha256);
        if !same {
            tracing::info!(
                model = self.model.name(),
                dataset = self.dataset,
                "model, dataset or options have changed: the analysis starts over"
            );
        }
        same
    }

    /// Nothing analysed yet.
    fn beginning(&self, fingerprint: &Fingerprint) -> Progress {
        Progress {
            model_version: self.model.version(),
            k: self.k,
            documents: 0,
            partial: 0,
            documents_sha256: Digests::default().current(),
            examples: 0,
            segments: Vec::new(),
            complete: fingerprint.documents == 0,
        }
    }

    /// Documents to be done in the end.
    fn goal(&self, fingerprint: &Fingerprint) -> u64 {
        self.documents.map_or(fingerprint.documents, |most| most.min(fingerprint.documents))
    }
}

/// Rows of the dataset that a state knows the hash of.
fn seen(progress: &Progress) -> u64 {
    progress.documents + u64::from(progress.partial > 0)
}

/// Layers that are analysed together, and what is known of them.
struct Group<'a> {
    analysis: &'a Analysis,
    layers: Vec<u32>,
    progress: Progress,
    /// One a layer; batches that are running look what they want to know.
    summaries: Arc<RwLock<Vec<LayerSummary>>>,
    reservation: MemoryReservation,
    /// Bytes of extremes that a segment may have.
    segment_bytes: usize,
    pending: Pending,
    /// Tokens of this run, and when it began.
    tokens: u64,
    bytes_done: u64,
    started: Instant,
    committed: Instant,
    last_commit: Duration,
}

/// What has been analysed since the last commit.
#[derive(Default)]
struct Pending {
    contexts: Vec<Context>,
    /// Of each layer, the extremes of each example, by batch.
    peaks: Vec<Vec<Vec<f32>>>,
    troughs: Vec<Vec<Vec<f32>>>,
}

/// A batch that has run.
struct Done {
    packed: Packed,
    parts: Vec<Reduced>,
}

impl<'a> Group<'a> {
    async fn open(analysis: &'a Analysis, layers: Vec<u32>, progress: Progress, context: &TaskContext) -> Result<Self> {
        let Analysis { holdings, model, dataset, k, .. } = analysis;
        let width = model.config().d_mlp;
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
                false => holdings.store.analysis(model.name(), dataset, layer).await.map_err(sql_error)?,
            };
            summaries.push(known.map_or_else(|| LayerSummary::new(layer, width, *k), |known| known.summary));
        }
        let now = Instant::now();
        Ok(Self {
            analysis,
            pending: Pending::new(layers.len()),
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

    /// Runs to the goal; false if nobody wants to know any more.
    async fn run(mut self, fingerprint: &Fingerprint, context: &Arc<TaskContext>, rows: &Rows) -> Result<bool> {
        let analysis = self.analysis;
        let goal = analysis.goal(fingerprint);
        let start = self.progress.clone();
        let listening = rows.send(self.step(start.examples, fingerprint).await.row()?).await;
        let done = start.documents >= goal && (start.complete || goal < fingerprint.documents);
        if !listening || (done && !is_new(&start)) {
            return Ok(listening);
        }
        let guard = CancelOnDrop::default();
        let model = &analysis.model;
        let width = model.config().d_mlp;
        let layers = self.layers.iter().map(|layer| (*layer as usize, None));
        let probe = Arc::new(Probe::new(model, layers).map_err(sql_error)?);
        let digests = Digests::default();
        let documents = Documents::all(&analysis.origin, start.documents, digests, Arc::clone(context))?;
        let tokens = model.batch_tokens(width * self.layers.len());
        let mut producer =
            Producer::new(Arc::clone(model), Examples::Of(Box::new(documents)), Predicate::new(Vec::new()), tokens);
        producer.skip_examples(start.partial as usize);
        let mut batches = producer.ahead();
        let pool_threads = analysis.holdings.registry.pool().threads();
        let in_flight_bytes = 2 * (pool_threads + 1) * 4 * tokens * width * self.layers.len();
        self.reservation.try_grow(in_flight_bytes)?;
        let mut in_flight = FuturesOrdered::new();
        let mut exhausted = false;
        loop {
            while !exhausted && in_flight.len() <= pool_threads {
                let next = batches.next().await?;
                match next.map(|packed| packed.before(goal, model.bos())) {
                    Some(packed) if !packed.examples.is_empty() => {
                        in_flight.push_back(self.start(packed, &probe, &guard));
                    }
                    _ => exhausted = true,
                }
            }
            let Some(done) = in_flight.next().await.transpose()? else { break };
            self.merge(done).await;
            if self.is_due() {
                let from = self.commit().await?;
                if !rows.send(self.step(from, fingerprint).await.row()?).await {
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
        Ok(rows.send(self.step(from, fingerprint).await.row()?).await)
    }

    /// Queues a forward pass and what is computed of its result.
    fn start(
        &self,
        packed: Packed,
        probe: &Arc<Probe>,
        guard: &CancelOnDrop,
    ) -> impl Future<Output = Result<Done>> + use<> {
        let (holdings, model) = (Arc::clone(&self.analysis.holdings), Arc::clone(&self.analysis.model));
        let (probe, cancel, summaries) = (Arc::clone(probe), guard.flag(), Arc::clone(&self.summaries));
        let lane = Width::Lane.of(&model);
        let job = move || {
            let parts = reduced(&model, &packed, &probe, &cancel, &summaries)?;
            Ok(Done { packed, parts })
        };
        holdings.registry.pool().run(lane, job).map_err(sql_error)
    }

    async fn merge(&mut self, done: Done) {
        let examples = examples(&done.packed);
        let mut summaries = self.summaries.write().await;
        for part in done.parts {
            let before = self.progress.examples + part.examples.start as u64;
            let examples = &examples[part.examples.clone()];
            for (l, (batch, columns)) in part.layers.into_iter().enumerate() {
                summaries[l].merge(&batch, examples, &columns, before);
                let (peaks, troughs) = batch.into_extremes();
                self.pending.peaks[l].push(peaks);
                self.pending.troughs[l].push(troughs);
            }
        }
        drop(summaries);
        for example in &done.packed.examples {
            self.pending.contexts.push(Context {
                document: example.document.number,
                example: example.example,
                tokens: Arc::clone(&example.tokens),
            });
            self.tokens += example.tokens.len() as u64;
            if example.last {
                self.bytes_done += example.document.text.len() as u64;
            }
        }
        let Some(last) = done.packed.examples.last() else { return };
        let progress = &mut self.progress;
        progress.examples += done.packed.examples.len() as u64;
        (progress.documents, progress.partial) = match last.last {
            true => (last.document.row + 1, 0),
            false => (last.document.row, last.example as u64 + 1),
        };
        if let Some(sha256) = &last.document.sha256 {
            progress.documents_sha256 = sha256.to_string();
        }
    }

    /// Whether there is enough to commit.
    fn is_due(&self) -> bool {
        let held: usize = self.pending.peaks.iter().flatten().map(|peaks| 8 * peaks.len()).sum();
        held >= self.segment_bytes || self.committed.elapsed() >= SHORTEST.max(self.last_commit * COMMIT_SHARE)
    }

    /// Returns the number of the first example that it has committed.
    async fn commit(&mut self) -> Result<u64> {
        let start = Instant::now();
        let Analysis { holdings, model, dataset, .. } = self.analysis;
        let width = model.config().d_mlp;
        let pending = std::mem::replace(&mut self.pending, Pending::new(self.layers.len()));
        let name = segment_name();
        let mut bounds = Vec::new();
        for ((layer, peaks), troughs) in self.layers.iter().copied().zip(pending.peaks).zip(pending.troughs) {
            let job = move || Ok((layer, LayerBounds::new(&peaks, &troughs, width)));
            bounds.push(holdings.registry.pool().run(Width::Lane, job));
        }
        let bounds = futures::future::try_join_all(bounds).await.map_err(sql_error)?;
        let segment = (!pending.contexts.is_empty()).then(|| {
            self.progress.segments.push(name.clone());
            Segment { name: &name, contexts: &pending.contexts, bounds: &bounds }
        });
        let texts = model.tokenizer().texts();
        let text = |token: u32| texts.get(token as usize).cloned().unwrap_or_default();
        let summaries = self.summaries.read().await;
        let committed = holdings.store.commit(model.name(), dataset, segment, &self.progress, &summaries, &text).await;
        committed.map_err(sql_error)?;
        drop(summaries);
        self.last_commit = start.elapsed();
        let (examples, seconds) = (pending.contexts.len(), self.last_commit.as_secs_f64());
        tracing::info!(model = model.name(), dataset, examples, seconds, "committed");
        self.committed = Instant::now();
        Ok(self.progress.examples - examples as u64)
    }

    /// After a commit of the examples from this number on.
    async fn step(&self, from: u64, fingerprint: &Fingerprint) -> Step {
        let progress = &self.progress;
        let summaries = self.summaries.read().await;
        let tokens = summaries[0].state().first().map_or(0, |neuron| neuron.moments.count);
        let seconds = self.started.elapsed().as_secs_f64();
        let goal = self.analysis.goal(fingerprint);
        // Whole documents tell how much text is left; before the first of them nothing does.
        let left = fingerprint.bytes * goal.saturating_sub(progress.documents) / fingerprint.documents.max(1);
        let left = match self.bytes_done {
            _ if left == 0 => Some(0.0),
            0 => None,
            done => Some(seconds / done as f64 * left as f64),
        };
        Step {
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

impl Pending {
    fn new(layers: usize) -> Self {
        Self { contexts: Vec::new(), peaks: vec![Vec::new(); layers], troughs: vec![Vec::new(); layers] }
    }
}

/// Whether nothing has been committed yet.
fn is_new(progress: &Progress) -> bool {
    progress.segments.is_empty() && progress.documents == 0
}

/// Unique: when the segment was made, and something random.
fn segment_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    // Every RandomState has keys of its own.
    format!("{millis:013}-{:016x}", RandomState::new().hash_one(millis))
}
