//! A partition of a scan at work: all partitions share one [`Batcher`] and run its batches side by side.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use datafusion::arrow::array::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;
use futures::StreamExt;
use futures::stream::{BoxStream, try_unfold};
use neuroql_model::{Cancel, Placement, ReadSpec};
use neuroql_pipeline::{Batcher, ExampleBatch, Passes};

use super::metrics::Metrics;
use super::rows::{LayerRows, RowBuilder};
use super::scan_request::ScanRequest;
use super::source::ActivationSource;
use crate::tables::predicate::Predicate;

/// Forward passes that a partition keeps going, so that one runs while the rows of another are read.
pub(super) const IN_FLIGHT: usize = 2;

/// State that the partitions of one execution share.
#[derive(Default)]
pub(super) struct ExecutionState {
    current: std::sync::Mutex<(SharedBatches, BTreeSet<usize>)>,
}

/// Batches and known rows of one execution, made by the first partition that asks for rows.
pub(super) type SharedBatches = Arc<tokio::sync::Mutex<Option<ExecutionBatches>>>;

/// The batches of an execution, and the rows that are known without a run.
pub(crate) struct ExecutionBatches {
    /// Batcher of the examples; `None` if none has to run.
    pub batcher: Option<Batcher>,
    /// Rows that are known already.
    pub ready: Vec<RecordBatch>,
    pub spec: Arc<ReadSpec>,
    /// True if examples come in the order of their bounds.
    pub ordered: bool,
}

impl ExecutionState {
    /// The producer of this execution. A partition that is opened again belongs to another execution.
    pub fn producer(&self, partition: usize) -> SharedBatches {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if !current.1.insert(partition) {
            *current = (SharedBatches::default(), BTreeSet::from([partition]));
        }
        Arc::clone(&current.0)
    }
}

/// State of a partition that is being read.
pub(super) struct PartitionState {
    source: ActivationSource,
    metrics: Metrics,
    reservation: MemoryReservation,
    builder: RowBuilder,
    context: Arc<TaskContext>,
    producer: SharedBatches,
    /// Batches that have run; opened when the first row is read.
    passes: Option<BoxStream<'static, Result<FinishedBatch>>>,
    current: Option<CurrentBatch>,
    /// Rows that needed no run.
    ready: Vec<RecordBatch>,
    rows_left: usize,
}

/// A batch to be run.
struct PreparedBatch {
    packed: ExampleBatch,
    spec: Arc<ReadSpec>,
    metrics: Metrics,
    held: MemoryReservation,
}

/// A batch that has run.
struct FinishedBatch {
    packed: ExampleBatch,
    spec: Arc<ReadSpec>,
    /// Activations, one matrix for each layer of the spec.
    values: Vec<Vec<f32>>,
    _held: MemoryReservation,
}

/// A batch whose rows are being read.
struct CurrentBatch {
    done: FinishedBatch,
    /// Layers read so far.
    layers: usize,
    rows: Option<LayerRows>,
    dynamic: Predicate,
}

impl PartitionState {
    pub fn new(
        source: &ActivationSource,
        partition: usize,
        context: Arc<TaskContext>,
        producer: SharedBatches,
    ) -> Self {
        let consumer = MemoryConsumer::new(format!("ActivationScan[{partition}]"));
        let (request, size) = (&source.request, context.session_config().batch_size());
        Self {
            source: source.clone(),
            metrics: Metrics::new(&source.metrics, partition, request.model.placed()),
            reservation: consumer.register(context.memory_pool()),
            builder: RowBuilder::new(Arc::clone(&request.model), Arc::clone(&source.schema), size),
            context,
            producer,
            // Without neurons there are no rows.
            passes: request.selection.is_empty().then(|| futures::stream::empty().boxed()),
            current: None,
            ready: Vec::new(),
            rows_left: request.limit.unwrap_or(usize::MAX),
        }
    }

    /// Returns the next rows, if there are any.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while self.rows_left > 0 {
            if let Some(batch) = self.next_of_current()? {
                let batch = if batch.num_rows() > self.rows_left { batch.slice(0, self.rows_left) } else { batch };
                self.rows_left -= batch.num_rows();
                self.metrics.baseline.record_output(batch.num_rows());
                return Ok(Some(batch));
            }
            let passes = match &mut self.passes {
                Some(passes) => passes,
                None => {
                    let passes = self.open().await?;
                    self.passes.insert(passes)
                }
            };
            if let Some(batch) = self.ready.pop() {
                self.metrics.baseline.record_output(batch.num_rows());
                return Ok(Some(batch));
            }
            match passes.next().await.transpose()? {
                None => return Ok(None),
                Some(done) => {
                    // Dynamic filters change while the query runs, so each batch takes a fresh look.
                    let dynamic = Predicate::new(self.source.dynamic.iter().map(snapshot).collect::<Result<_>>()?);
                    self.current = Some(CurrentBatch { done, layers: 0, rows: None, dynamic });
                }
            }
        }
        Ok(None)
    }

    /// Returns the next rows of the current batch.
    fn next_of_current(&mut self) -> Result<Option<RecordBatch>> {
        let Some(current) = &mut self.current else { return Ok(None) };
        loop {
            if let Some(rows) = &mut current.rows
                && let Some(batch) =
                    rows.next(&current.done.packed, &[&self.source.request.on_values, &current.dynamic])?
            {
                return Ok(Some(batch));
            }
            let Some(layer) = current.done.spec.layers().get(current.layers) else { break };
            let values = std::mem::take(&mut current.done.values[current.layers]);
            let all: Vec<u32>;
            let neurons = match &layer.neurons {
                Some(neurons) => neurons.as_ref(),
                None => {
                    all = (0..self.source.request.model.neurons_per_layer() as u32).collect();
                    &all
                }
            };
            current.layers += 1;
            if let Some(partial) = &self.source.partial {
                return partial.reduce(layer.layer, neurons, &values).map(Some);
            }
            current.rows = Some(self.builder.layer(&current.done.packed, layer.layer, neurons, values));
        }
        // This frees the memory that the batch held.
        self.current = None;
        Ok(None)
    }

    /// Opens the stream of batches that this partition takes from the shared ones and runs.
    async fn open(&mut self) -> Result<BoxStream<'static, Result<FinishedBatch>>> {
        let request = &self.source.request;
        let ordered = {
            let mut shared = self.producer.lock().await;
            let made = match &mut *shared {
                Some(made) => made,
                None => {
                    let made = self.source.producer(&self.context).await?;
                    shared.insert(made)
                }
            };
            self.ready.append(&mut made.ready);
            made.ordered
        };
        // The results of one batch may spare the next.
        let at_once = if ordered { 1 } else { IN_FLIGHT };
        // A lone partition may use all threads, several share them.
        let width = if self.source.partitions == 1 { Placement::AllThreads } else { Placement::OneThread };
        let passes = Passes::new(&self.source.engine.registry, &request.model, width, at_once);
        let batches = PartitionBatches {
            request: Arc::clone(request),
            metrics: self.metrics.clone(),
            reservation: self.reservation.new_empty(),
            producer: Arc::clone(&self.producer),
            exhausted: false,
        };
        let batches =
            try_unfold(batches, |mut batches| async move { Ok(batches.next().await?.map(|batch| (batch, batches))) });
        let model = Arc::clone(&request.model);
        let pass = move |PreparedBatch { packed, spec, metrics, held }: PreparedBatch, cancel: &Cancel| {
            let start = Instant::now();
            let tensors = model.run(&packed.batch, &spec, cancel)?;
            let values = tensors.iter().map(|t| t.flatten_all()?.to_vec1()).collect::<Result<_, _>>();
            let values: Vec<Vec<f32>> = values.map_err(neuroql_model::Error::Tensor)?;
            metrics.ran(start, values.iter().map(Vec::len).sum());
            Ok(FinishedBatch { packed, spec, values, _held: held })
        };
        Ok(passes.over(batches, pass).boxed())
    }
}

/// The batches that a partition takes from the shared ones.
struct PartitionBatches {
    request: Arc<ScanRequest>,
    metrics: Metrics,
    reservation: MemoryReservation,
    producer: SharedBatches,
    exhausted: bool,
}

impl PartitionBatches {
    /// Packs the next batch, if there is one.
    async fn next(&mut self) -> Result<Option<PreparedBatch>> {
        if self.exhausted {
            return Ok(None);
        }
        let mut shared = self.producer.lock().await;
        // The partition has made the producer before it asks for batches.
        let Some(ExecutionBatches { batcher: Some(batcher), spec, .. }) = &mut *shared else { return Ok(None) };
        let packed = batcher.next().await?;
        self.metrics.examples_skipped.add(std::mem::take(&mut batcher.examples_skipped));
        let Some(packed) = packed.filter(|_| !spec.layers().is_empty()) else { return Ok(None) };
        let spec = Arc::clone(spec);
        if let Some(wanted) = &mut batcher.wanted_rows {
            *wanted = wanted.saturating_sub(packed.batch.rows());
            self.exhausted = *wanted == 0;
        }
        drop(shared);
        let held = self.reservation.new_empty();
        held.try_grow(footprint(&self.request, packed.batch.rows(), packed.batch.tokens()))?;
        self.metrics.tokens_run.add(packed.batch.tokens());
        self.metrics.forward_passes.add(1);
        Ok(Some(PreparedBatch { packed, spec, metrics: self.metrics.clone(), held }))
    }
}

/// Returns the current state of a dynamic filter.
pub(super) fn snapshot(filter: &Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    snapshot_physical_expr(Arc::clone(filter))
}

/// Bytes that a batch holds while it runs and is read: its results, and the widest intermediate values.
pub(super) fn footprint(request: &ScanRequest, rows: usize, tokens: usize) -> usize {
    let config = request.model.config();
    let widest = 2 * config.d_mlp * (1 + usize::from(config.gated)) + 6 * config.d_model;
    4 * (rows * request.values_per_token() + tokens * widest)
}
