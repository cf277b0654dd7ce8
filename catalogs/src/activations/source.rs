//! The scan: partitions that share one [`Producer`] and run its batches side by side.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::datasource::source::{DataSource, OpenArgs};
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::DynamicFilterTracking;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, split_conjunction};
use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, Gauge, MetricBuilder, Time};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayFormatType, Partitioning};
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use neuroql_model::{CancelOnDrop, Probe, Registry, Width};

use super::aggregate::Partial;
use super::documents::Documents;
use super::producer::{Packed, Producer};
use super::request::{OF_NEURON, OF_TOKEN, Origin, Request};
use super::rows::{LayerRows, RowBuilder};
use crate::predicate::{Predicate, check, restrict};

/// Forward passes that a partition keeps going, so that one runs while the rows of another are read.
const IN_FLIGHT: usize = 2;

/// Bytes of text below which one partition does: starting more would cost more than it brings.
const SMALL_TEXT: usize = 2048;

/// Tokens of a document, for estimates only.
const TOKENS_OF_A_DOCUMENT: usize = 1000;

/// The scan of [`super::Activations`].
#[derive(Debug, Clone)]
pub(super) struct ActivationSource {
    request: Arc<Request>,
    registry: Arc<Registry>,
    schema: SchemaRef,
    partitions: usize,
    /// Moving filters of TopK, joins and aggregates: used to skip work, applied above for good.
    dynamic: Vec<Arc<dyn PhysicalExpr>>,
    /// Reduce each batch to one row a neuron instead of returning its rows.
    partial: Option<Arc<Partial>>,
    metrics: ExecutionPlanMetricsSet,
}

impl ActivationSource {
    pub fn new(request: Request, registry: Arc<Registry>, session: &dyn Session) -> Self {
        let small = match &request.origin {
            Origin::Nothing => true,
            Origin::Texts(texts) => texts.iter().map(|text| text.len()).sum::<usize>() < SMALL_TEXT,
            Origin::Dataset { .. } => false,
        };
        // With a limit, which rows come first must not depend on the number of threads.
        let partitions = if small || request.limit.is_some() {
            1
        } else {
            registry.pool().threads().min(session.config().target_partitions()).max(1)
        };
        Self {
            // The projection was checked when the request was made.
            schema: request.output_schema().unwrap_or_else(|_| super::schema()),
            request: Arc::new(request),
            registry,
            partitions,
            dynamic: Vec::new(),
            partial: None,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// Whether it returns a row for each neuron of each wanted token.
    pub fn returns_every_value(&self) -> bool {
        self.request.on_values.is_empty()
            && self.dynamic.is_empty()
            && self.request.limit.is_none()
            && self.partial.is_none()
    }

    /// The same scan, reduced.
    pub fn with_partial(&self, partial: Partial) -> Self {
        Self { schema: Arc::clone(&partial.schema), partial: Some(Arc::new(partial)), ..self.clone() }
    }

    fn layers_run(&self) -> usize {
        self.request.selection.last().map_or(0, |(layer, _)| layer + 1)
    }

    /// Rows expected, where that can be told.
    fn estimate(&self) -> Precision<usize> {
        let tokens = match &self.request.origin {
            Origin::Nothing => return Precision::Exact(0),
            Origin::Texts(texts) => texts.iter().map(|text| text.len() / 4 + 1).sum(),
            Origin::Dataset { plan, .. } => {
                match StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new()).map(|s| s.num_rows) {
                    Ok(Precision::Exact(rows) | Precision::Inexact(rows)) => rows.saturating_mul(TOKENS_OF_A_DOCUMENT),
                    _ => return Precision::Absent,
                }
            }
        };
        let rows = tokens.saturating_mul(self.request.values_per_token());
        Precision::Inexact(self.request.limit.map_or(rows, |limit| rows.min(limit)))
    }
}

impl DataSource for ActivationSource {
    fn open(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.open_with_args(OpenArgs::new(partition, context))
    }

    fn open_with_args(&self, args: OpenArgs) -> Result<SendableRecordBatchStream> {
        let shared = args.sibling_state.and_then(|state| state.downcast::<Shared>().ok()).unwrap_or_default();
        let producer = shared.producer(args.partition);
        let schema = Arc::clone(&self.schema);
        let scan = Scanning {
            source: self.clone(),
            metrics: Metrics::new(&self.metrics, args.partition),
            reservation: MemoryConsumer::new(format!("ActivationScan[{}]", args.partition))
                .register(args.context.memory_pool()),
            builder: RowBuilder::new(
                Arc::clone(&self.request.model),
                Arc::clone(&self.schema),
                args.context.session_config().batch_size(),
            ),
            context: args.context,
            producer,
            in_flight: FuturesOrdered::new(),
            current: None,
            exhausted: self.request.selection.is_empty(),
            rows_left: self.request.limit.unwrap_or(usize::MAX),
            guard: CancelOnDrop::default(),
        };
        let stream =
            futures::stream::try_unfold(
                scan,
                |mut scan| async move { Ok(scan.next().await?.map(|batch| (batch, scan))) },
            );
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }

    fn create_sibling_state(&self, _: &ConfigOptions) -> Option<Arc<dyn std::any::Any + Send + Sync>> {
        Some(Arc::new(Shared::default()))
    }

    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = &self.request;
        let config = request.model.config();
        write!(f, "ActivationScan: model={}, site={}", request.model.name(), request.model.site())?;
        match &request.origin {
            Origin::Nothing => write!(f, ", nothing to read")?,
            Origin::Texts(texts) => write!(f, ", texts={}", texts.len())?,
            Origin::Dataset { name, .. } => write!(f, ", dataset={name}")?,
        }
        let (neurons, all) = (request.values_per_token(), request.selection.len() * config.d_mlp);
        write!(f, ", layers_run={}/{}, neurons={neurons} of {all}", self.layers_run(), config.layers)?;
        match &self.partial {
            Some(partial) => write!(f, ", by neuron: {}", partial.describe())?,
            None => {
                let names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
                write!(f, ", columns=[{}]", names.join(", "))?;
            }
        }
        for (name, predicate) in
            [("documents", &request.on_documents), ("tokens", &request.on_tokens), ("rows", &request.on_values)]
        {
            if !predicate.is_empty() {
                write!(f, ", {name}: {predicate}")?;
            }
        }
        if let Some(limit) = request.limit {
            write!(f, ", limit={limit}")?;
        }
        if !self.dynamic.is_empty() {
            write!(f, ", dynamic: {}", Predicate::new(self.dynamic.clone()))?;
        }
        Ok(())
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(self.partitions)
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        EquivalenceProperties::new(Arc::clone(&self.schema))
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        let rows = match (self.estimate(), partition) {
            (Precision::Inexact(rows), Some(_)) => Precision::Inexact(rows / self.partitions),
            (rows, _) => rows,
        };
        Ok(Arc::new(Statistics {
            num_rows: rows,
            total_byte_size: Precision::Absent,
            column_statistics: vec![ColumnStatistics::new_unknown(); self.schema.fields().len()],
        }))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn DataSource>> {
        let request = Request { limit, ..self.request.as_ref().clone() };
        Some(Arc::new(Self { request: Arc::new(request), ..self.clone() }))
    }

    fn fetch(&self) -> Option<usize> {
        self.request.limit
    }

    fn metrics(&self) -> ExecutionPlanMetricsSet {
        self.metrics.clone()
    }

    fn try_swapping_with_projection(&self, _: &ProjectionExprs) -> Result<Option<Arc<dyn DataSource>>> {
        Ok(None)
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn DataSource>>> {
        let unused = FilterPushdownPropagation::with_parent_pushdown_result(vec![PushedDown::No; filters.len()]);
        let dynamic: Vec<_> = filters
            .into_iter()
            .filter(|filter| DynamicFilterTracking::classify(filter).contains_dynamic_filter())
            .collect();
        if dynamic.is_empty() {
            return Ok(unused);
        }
        let mut source = self.clone();
        source.dynamic.extend(dynamic);
        Ok(unused.with_updated_node(Arc::new(source) as Arc<dyn DataSource>))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for expr in &self.dynamic {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }
}

/// What the partitions of one execution share.
#[derive(Default)]
struct Shared {
    current: std::sync::Mutex<(SharedProducer, BTreeSet<usize>)>,
}

/// Made by the first partition that asks for rows.
type SharedProducer = Arc<tokio::sync::Mutex<Option<(Producer, Arc<Probe>)>>>;

impl Shared {
    /// The producer of this execution. A partition that is opened again belongs to another execution.
    fn producer(&self, partition: usize) -> SharedProducer {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if !current.1.insert(partition) {
            *current = (SharedProducer::default(), BTreeSet::from([partition]));
        }
        Arc::clone(&current.0)
    }
}

/// One partition at work.
struct Scanning {
    source: ActivationSource,
    metrics: Metrics,
    reservation: MemoryReservation,
    builder: RowBuilder,
    context: Arc<TaskContext>,
    producer: SharedProducer,
    in_flight: FuturesOrdered<BoxFuture<'static, Result<Done>>>,
    current: Option<Current>,
    exhausted: bool,
    rows_left: usize,
    guard: CancelOnDrop,
}

/// A batch that has run.
struct Done {
    packed: Packed,
    probe: Arc<Probe>,
    /// One matrix a layer of the probe.
    values: Vec<Vec<f32>>,
    bytes: usize,
}

/// A batch whose rows are being read.
struct Current {
    done: Done,
    /// Layers read so far.
    layers: usize,
    rows: Option<LayerRows>,
    dynamic: Predicate,
}

impl Scanning {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while self.rows_left > 0 {
            if let Some(batch) = self.next_of_current()? {
                let batch = if batch.num_rows() > self.rows_left { batch.slice(0, self.rows_left) } else { batch };
                self.rows_left -= batch.num_rows();
                self.metrics.baseline.record_output(batch.num_rows());
                return Ok(Some(batch));
            }
            while !self.exhausted && self.in_flight.len() < IN_FLIGHT {
                self.start().await?;
            }
            match self.in_flight.next().await.transpose()? {
                None => return Ok(None),
                Some(done) => {
                    // Filters move while the query runs, so each batch takes a fresh look.
                    let dynamic = Predicate::new(self.source.dynamic.iter().map(snapshot).collect::<Result<_>>()?);
                    self.current = Some(Current { done, layers: 0, rows: None, dynamic });
                }
            }
        }
        Ok(None)
    }

    /// Rows of the batch in hand.
    fn next_of_current(&mut self) -> Result<Option<RecordBatch>> {
        let Some(current) = &mut self.current else { return Ok(None) };
        loop {
            if let Some(rows) = &mut current.rows
                && let Some(batch) =
                    rows.next(&current.done.packed, &[&self.source.request.on_values, &current.dynamic])?
            {
                return Ok(Some(batch));
            }
            let Some(layer) = current.done.probe.layers().get(current.layers) else { break };
            let values = std::mem::take(&mut current.done.values[current.layers]);
            let all: Vec<u32>;
            let neurons = match &layer.neurons {
                Some(neurons) => neurons.as_ref(),
                None => {
                    all = (0..self.source.request.model.config().d_mlp as u32).collect();
                    &all
                }
            };
            current.layers += 1;
            if let Some(partial) = &self.source.partial {
                return partial.reduce(layer.layer, neurons, &values).map(Some);
            }
            current.rows = Some(self.builder.layer(&current.done.packed, layer.layer, neurons, values));
        }
        self.reservation.shrink(current.done.bytes);
        self.current = None;
        Ok(None)
    }

    /// Packs a batch and queues its forward pass.
    async fn start(&mut self) -> Result<()> {
        let request = Arc::clone(&self.source.request);
        let mut shared = self.producer.lock().await;
        let (producer, probe) = match &mut *shared {
            Some(made) => made,
            None => {
                let made = self.producer()?;
                shared.insert(made)
            }
        };
        let packed = producer.next().await?;
        self.metrics.examples_skipped.add(std::mem::take(&mut producer.examples_skipped));
        if probe.layers().is_empty() {
            self.exhausted = true;
            return Ok(());
        }
        let Some(packed) = packed else {
            self.exhausted = true;
            return Ok(());
        };
        let probe = Arc::clone(probe);
        if let Some(wanted) = &mut producer.wanted_rows {
            *wanted = wanted.saturating_sub(packed.batch.rows());
            self.exhausted = *wanted == 0;
        }
        drop(shared);
        let bytes = footprint(&request, &packed);
        self.reservation.try_grow(bytes)?;
        self.metrics.tokens_run.add(packed.batch.tokens());
        self.metrics.forward_passes.add(1);
        let (registry, metrics, cancel) = (Arc::clone(&self.source.registry), self.metrics.clone(), self.guard.flag());
        // A lone partition may use all threads, several share them.
        let width = if self.source.partitions == 1 { Width::Wide } else { Width::Lane };
        let pass = async move {
            let job = move || {
                let start = Instant::now();
                let tensors = request.model.run(&packed.batch, &probe, &cancel)?;
                let values = tensors.iter().map(|t| t.flatten_all()?.to_vec1()).collect::<Result<_, _>>();
                metrics.ran(start);
                Ok(Done { packed, probe, values: values.map_err(neuroql_model::Error::Tensor)?, bytes })
            };
            check(registry.pool().run(width, job).await)
        };
        self.in_flight.push_back(pass.boxed());
        Ok(())
    }

    /// Makes what all partitions share. This is done when the first row is asked for, when the build side of a join
    /// has been read and its filter is known.
    fn producer(&self) -> Result<(Producer, Arc<Probe>)> {
        let request = &self.source.request;
        let (mut selection, mut on_tokens) = (request.selection.clone(), request.on_tokens.clone());
        for filter in &self.source.dynamic {
            let filter = snapshot(filter)?;
            for part in split_conjunction(&filter) {
                let columns = collect_columns(part);
                let within = |known: &[&str]| !columns.is_empty() && columns.iter().all(|c| known.contains(&c.name()));
                let part = || Predicate::new(vec![Arc::clone(part)]);
                if within(&OF_NEURON) {
                    selection = restrict(&request.model, selection, &part())?;
                } else if within(&OF_TOKEN) {
                    on_tokens = on_tokens.and(part());
                }
            }
        }
        let documents = Documents::new(&request.origin, request.on_documents.clone(), Arc::clone(&self.context))?;
        let probe = check(Probe::new(&request.model, selection))?;
        let tokens = request.model.batch_tokens(request.values_per_token());
        let mut producer = Producer::new(Arc::clone(&request.model), documents, on_tokens, tokens);
        // Where every row of a token is returned, the limit says how many tokens are enough.
        if request.on_values.is_empty() && self.source.dynamic.is_empty() {
            producer.wanted_rows = request.limit.map(|limit| limit.div_ceil(request.values_per_token().max(1)));
        }
        Ok((producer, Arc::new(probe)))
    }
}

fn snapshot(filter: &Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    snapshot_physical_expr(Arc::clone(filter))
}

/// Bytes that a batch holds while it runs and is read: its results, and the widest intermediate values.
fn footprint(request: &Request, packed: &Packed) -> usize {
    let config = request.model.config();
    let widest = 2 * config.d_mlp * (1 + usize::from(config.gated)) + 6 * config.d_model;
    4 * (packed.batch.rows() * request.values_per_token() + packed.batch.tokens() * widest)
}

/// What EXPLAIN ANALYZE shows.
#[derive(Clone)]
struct Metrics {
    baseline: BaselineMetrics,
    tokens_run: Count,
    forward_passes: Count,
    examples_skipped: Count,
    forward_time: Time,
    tokens_per_second: Gauge,
}

impl Metrics {
    fn new(set: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let counter = |name: &'static str| MetricBuilder::new(set).counter(name, partition);
        Self {
            baseline: BaselineMetrics::new(set, partition),
            tokens_run: counter("tokens_run"),
            forward_passes: counter("forward_passes"),
            examples_skipped: counter("examples_skipped"),
            forward_time: MetricBuilder::new(set).subset_time("forward_time", partition),
            tokens_per_second: MetricBuilder::new(set).gauge("tokens_per_second", partition),
        }
    }

    /// Notes a forward pass; the rate is that of all passes of the partition so far.
    fn ran(&self, start: Instant) {
        self.forward_time.add_elapsed(start);
        let seconds = self.forward_time.value() as f64 / 1e9;
        self.tokens_per_second.set((self.tokens_run.value() as f64 / seconds.max(1e-9)) as usize);
    }
}
