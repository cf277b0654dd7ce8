//! The loop of an analysis: batches run side by side, are summarised where they ran, and merged in order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use neuroql_analysis::{BatchSummary, Example, LayerBounds, LayerSummary};
use neuroql_model::{CancelOnDrop, Model, Probe, Width};
use neuroql_store::{Context, LayerAnalysis, Progress, Segment};

use crate::Error;
use crate::activations::{Documents, Examples, Origin, Packed, Producer};
use crate::fingerprint::{Digests, Fingerprint};
use crate::holdings::{Holdings, store_error};
use crate::predicate::{Predicate, check};
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
    /// Analyses what is not analysed yet. Layers that have come equally far go on together; a row is
    /// sent for each commit.
    pub async fn analyze(&self, context: &Arc<TaskContext>, rows: &Rows) -> Result<()> {
        let name = self.model.name();
        let Some(_busy) = self.holdings.store.begin(name, &self.dataset) else {
            return Err(Error::Busy { model: name.into(), dataset: self.dataset.clone() }.into());
        };
        let states = self.states().await?;
        let wanted = states.values().flatten().map(seen).collect();
        let fingerprint = Fingerprint::read(&self.origin, wanted, Arc::clone(context)).await?;
        let mut groups: BTreeMap<(u64, u64, Vec<String>), Vec<u32>> = BTreeMap::new();
        for (layer, progress) in states {
            let key = match progress.filter(|progress| self.goes_on(progress, &fingerprint)) {
                Some(progress) => (progress.documents, progress.partial, progress.segments),
                None => (0, 0, Vec::new()),
            };
            groups.entry(key).or_default().push(layer);
        }
        for ((documents, ..), layers) in groups {
            let fresh = documents == 0;
            let group = Group::open(self, layers, fresh, &fingerprint, context).await?;
            if !group.run(&fingerprint, context, rows).await? {
                return Ok(());
            }
        }
        self.holdings.store.sweep(name, &self.dataset).await.map_err(store_error)
    }

    /// What is known of each layer.
    async fn states(&self) -> Result<BTreeMap<u32, Option<Progress>>> {
        let mut states = BTreeMap::new();
        for layer in &self.layers {
            let progress = self.holdings.store.progress(self.model.name(), &self.dataset, *layer).await;
            states.insert(*layer, progress.map_err(store_error)?);
        }
        Ok(states)
    }

    /// Whether model, dataset and options are still those of an earlier run.
    fn goes_on(&self, progress: &Progress, fingerprint: &Fingerprint) -> bool {
        let same = progress.model_version == self.model.version()
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
    states: Vec<LayerAnalysis>,
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
    /// Of each layer, the extremes of each example.
    peaks: Vec<Vec<f32>>,
    troughs: Vec<Vec<f32>>,
}

/// A batch that has run.
struct Done {
    packed: Packed,
    /// Of each layer, its values and what they come to.
    layers: Vec<(Vec<f32>, BatchSummary)>,
}

impl<'a> Group<'a> {
    async fn open(
        analysis: &'a Analysis,
        layers: Vec<u32>,
        fresh: bool,
        fingerprint: &Fingerprint,
        context: &TaskContext,
    ) -> Result<Self> {
        let Analysis { holdings, model, dataset, k, .. } = analysis;
        let width = model.config().d_mlp;
        let limit = match context.memory_pool().memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / 4,
            _ => usize::MAX,
        };
        let segment_bytes = SEGMENT_BYTES.min(limit);
        let reservation = MemoryConsumer::new("analyze").register(context.memory_pool());
        reservation.try_grow(layers.len() * LayerSummary::bytes(width, *k) + 2 * segment_bytes)?;
        let mut states = Vec::new();
        for &layer in &layers {
            let known = if fresh {
                None
            } else {
                holdings.store.analysis(model.name(), dataset, layer).await.map_err(store_error)?
            };
            states.push(known.unwrap_or_else(|| LayerAnalysis {
                layer,
                progress: Progress {
                    model_version: model.version(),
                    k: *k,
                    documents: 0,
                    partial: 0,
                    documents_sha256: Digests::default().current(),
                    examples: 0,
                    segments: Vec::new(),
                    complete: fingerprint.documents == 0,
                },
                summary: LayerSummary::new(layer, width, *k),
            }));
        }
        let now = Instant::now();
        Ok(Self {
            analysis,
            pending: Pending::new(layers.len()),
            layers,
            states,
            reservation,
            segment_bytes,
            tokens: 0,
            bytes_done: 0,
            started: now,
            committed: now,
            last_commit: Duration::ZERO,
        })
    }

    fn progress(&self) -> &Progress {
        &self.states[0].progress
    }

    /// Runs to the goal; false if nobody wants to know any more.
    async fn run(mut self, fingerprint: &Fingerprint, context: &Arc<TaskContext>, rows: &Rows) -> Result<bool> {
        let analysis = self.analysis;
        let goal = analysis.goal(fingerprint);
        let start = self.progress().clone();
        if start.documents >= goal && (start.complete || goal < fingerprint.documents) && !self.is_new(&start) {
            return Ok(rows.send(self.step(start.examples..start.examples, fingerprint).row()?).await);
        }
        if !rows.send(self.step(start.examples..start.examples, fingerprint).row()?).await {
            return Ok(false);
        }
        let guard = CancelOnDrop::default();
        let model = &analysis.model;
        let width = model.config().d_mlp;
        let layers = self.layers.iter().map(|layer| (*layer as usize, None));
        let probe = Arc::new(check(Probe::new(model, layers))?);
        let digests = Digests::default();
        let documents = Documents::all(&analysis.origin, start.documents, digests, Arc::clone(context))?;
        let tokens = model.batch_tokens(width * self.layers.len());
        let mut producer =
            Producer::new(Arc::clone(model), Examples::Of(Box::new(documents)), Predicate::new(Vec::new()), tokens);
        producer.skip_examples(start.partial as usize);
        let pool_threads = analysis.holdings.registry.pool().threads();
        let in_flight_bytes = 2 * (pool_threads + 1) * 4 * tokens * width * self.layers.len();
        self.reservation.try_grow(in_flight_bytes)?;
        let mut in_flight = FuturesOrdered::new();
        let mut exhausted = false;
        loop {
            while !exhausted && in_flight.len() <= pool_threads {
                let next = producer.next().await?;
                match next.map(|packed| packed.before(goal, model.bos())) {
                    Some(packed) if !packed.examples.is_empty() => {
                        in_flight.push_back(self.start(packed, &probe, width, &guard));
                    }
                    _ => exhausted = true,
                }
            }
            let Some(done) = in_flight.next().await.transpose()? else { break };
            self.merge(&done);
            let from = self.progress().examples;
            if self.is_due() {
                self.commit().await?;
                if !rows.send(self.step(from..self.progress().examples, fingerprint).row()?).await {
                    return Ok(false);
                }
            }
        }
        let from = self.progress().examples - self.pending.contexts.len() as u64;
        for state in &mut self.states {
            // Documents after the last that has tokens are NULL or empty.
            if goal == fingerprint.documents {
                (state.progress.documents, state.progress.partial) = (goal, 0);
                state.progress.documents_sha256.clone_from(&fingerprint.sha256);
                state.progress.complete = true;
            }
        }
        self.commit().await?;
        Ok(rows.send(self.step(from..self.progress().examples, fingerprint).row()?).await)
    }

    /// Whether nothing has been committed yet.
    fn is_new(&self, start: &Progress) -> bool {
        start.segments.is_empty() && start.documents == 0
    }

    /// Queues a forward pass and what is computed of its result.
    fn start(
        &self,
        packed: Packed,
        probe: &Arc<Probe>,
        width: usize,
        guard: &CancelOnDrop,
    ) -> impl Future<Output = Result<Done>> + use<> {
        let (holdings, model) = (Arc::clone(&self.analysis.holdings), Arc::clone(&self.analysis.model));
        let (probe, cancel) = (Arc::clone(probe), guard.flag());
        let lane = Width::Lane.of(&model);
        async move {
            let job = move || {
                let tensors = model.run(&packed.batch, &probe, &cancel)?;
                let examples = examples(&packed);
                let mut layers = Vec::with_capacity(tensors.len());
                for tensor in tensors {
                    let values = tensor.flatten_all().and_then(|values| values.to_vec1())?;
                    let summary = BatchSummary::new(&examples, &values, width);
                    layers.push((values, summary));
                }
                Ok(Done { packed, layers })
            };
            check(holdings.registry.pool().run(lane, job).await)
        }
    }

    fn merge(&mut self, done: &Done) {
        let examples = examples(&done.packed);
        for ((state, (values, batch)), i) in self.states.iter_mut().zip(&done.layers).zip(0..) {
            let before = state.progress.examples;
            state.summary.merge(batch, &examples, values, before);
            self.pending.peaks[i].extend(batch.peaks());
            self.pending.troughs[i].extend(batch.troughs());
        }
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
        for state in &mut self.states {
            let progress = &mut state.progress;
            progress.examples += done.packed.examples.len() as u64;
            (progress.documents, progress.partial) = match last.last {
                true => (last.document.row + 1, 0),
                false => (last.document.row, last.example as u64 + 1),
            };
            if let Some(sha256) = &last.document.sha256 {
                progress.documents_sha256 = sha256.to_string();
            }
        }
    }

    /// Whether there is enough to commit.
    fn is_due(&self) -> bool {
        let held: usize = self.pending.peaks.iter().map(|peaks| 8 * peaks.len()).sum();
        held >= self.segment_bytes || self.committed.elapsed() >= SHORTEST.max(self.last_commit * COMMIT_SHARE)
    }

    async fn commit(&mut self) -> Result<()> {
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
        let bounds = check(futures::future::try_join_all(bounds).await)?;
        let segment = (!pending.contexts.is_empty()).then(|| {
            self.states.iter_mut().for_each(|state| state.progress.segments.push(name.clone()));
            Segment { name: &name, contexts: &pending.contexts, bounds: &bounds }
        });
        let texts = model.tokenizer().texts();
        let text = |token: u32| texts.get(token as usize).cloned().unwrap_or_default();
        holdings.store.commit(model.name(), dataset, segment, &self.states, &text).await.map_err(store_error)?;
        self.last_commit = start.elapsed();
        let (examples, seconds) = (pending.contexts.len(), self.last_commit.as_secs_f64());
        tracing::info!(model = model.name(), dataset, examples, seconds, "committed");
        self.committed = Instant::now();
        Ok(())
    }

    fn step(&self, examples: Range<u64>, fingerprint: &Fingerprint) -> Step {
        let progress = self.progress();
        let tokens = self.states[0].summary.state().first().map_or(0, |neuron| neuron.moments.count);
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
            examples,
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

fn examples(packed: &Packed) -> Vec<Example<'_>> {
    let examples = packed.examples.iter();
    examples.map(|e| Example { document: e.document.number, example: e.example, tokens: &e.tokens }).collect()
}

/// Unique: when the segment was made, and something random.
fn segment_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    // Every RandomState has keys of its own.
    format!("{millis:013}-{:016x}", RandomState::new().hash_one(millis))
}
