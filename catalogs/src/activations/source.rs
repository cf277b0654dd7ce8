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
use datafusion::physical_expr::expressions::{Column, DynamicFilterTracking};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr, split_conjunction};
use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayFormatType, Partitioning, SortOrderPushdownResult};
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use neuroql_model::{CancelOnDrop, Probe, Width};

use super::bounded::{Analysed, Candidates, OfEach, Question, Visit};
use super::documents::Documents;
use super::metrics::Metrics;
use super::partial::Partial;
use super::producer::{Examples, Packed, Producer};
use super::request::{OF_NEURON, OF_TOKEN, Origin, Request};
use super::rows::{LayerRows, RowBuilder};
use crate::holdings::{Holdings, store_error};
use crate::kept::take_neurons;
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
    holdings: Arc<Holdings>,
    schema: SchemaRef,
    partitions: usize,
    /// Moving filters of TopK, joins and aggregates: used to skip work, applied above for good.
    dynamic: Vec<Arc<dyn PhysicalExpr>>,
    /// Examples that may matter most come first.
    visit: Option<Visit>,
    /// Of each neuron, only the so many greatest (or least) activations matter.
    top_of_each: Option<(usize, Visit)>,
    /// Reduce each batch to one row a neuron instead of returning its rows.
    partial: Option<Arc<Partial>>,
    metrics: ExecutionPlanMetricsSet,
}

impl ActivationSource {
    pub fn new(request: Request, holdings: Arc<Holdings>, session: &dyn Session) -> Self {
        let small = match &request.origin {
            Origin::Nothing => true,
            Origin::Texts(texts) => texts.iter().map(|text| text.len()).sum::<usize>() < SMALL_TEXT,
            Origin::Dataset { .. } => false,
        };
        // With a limit, which rows come first must not depend on the number of threads.
        let partitions = if small || request.limit.is_some() {
            1
        } else {
            holdings.registry.pool().threads().min(session.config().target_partitions()).max(1)
        };
        Self {
            // The projection was checked when the request was made.
            schema: request.output_schema().unwrap_or_else(|_| super::schema()),
            request: Arc::new(request),
            holdings,
            partitions,
            dynamic: Vec::new(),
            visit: None,
            top_of_each: None,
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

    /// The same scan for an operator that keeps only the so many greatest (or least) activations of each neuron.
    pub fn with_top_of_each(&self, k: usize, visit: Visit) -> Self {
        Self { top_of_each: Some((k, visit)), ..self.clone() }
    }

    /// The cheapest way to an answer. Activations that the store has bounds of are worth asking about if the query says
    /// anything of their size; then no more examples run than in a full scan, and none has to be tokenized again.
    fn strategy(&self) -> Strategy<'_> {
        let request = &self.request;
        let Some(analysed) = &request.analysed else { return Strategy::FullScan };
        let of_activation =
            |expr: &Arc<dyn PhysicalExpr>| collect_columns(expr).iter().any(|c| c.name() == "activation");
        let every_token = request.on_tokens.is_empty() && request.on_values.is_empty() && self.dynamic.is_empty();
        match &self.partial {
            Some(partial) if every_token && request.on_documents.is_empty() && partial.is_of_all() => {
                Strategy::Stored(analysed)
            }
            Some(partial) if every_token && partial.is_decidable() => Strategy::Bounds(analysed),
            Some(_) => Strategy::FullScan,
            None if every_token && self.top_of_each.is_some() => Strategy::Bounds(analysed),
            None if self.dynamic.iter().chain(request.on_values.parts()).any(of_activation) => {
                Strategy::Bounds(analysed)
            }
            None => Strategy::FullScan,
        }
    }

    /// Makes what all partitions share. This is done when the first row is asked for, when the build side of a join
    /// has been read and its filter is known.
    async fn producer(&self, context: &Arc<TaskContext>) -> Result<Made> {
        let request = &self.request;
        let (mut selection, mut on_tokens) = (request.selection.clone(), request.on_tokens.clone());
        for filter in &self.dynamic {
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
        let probe = Arc::new(check(Probe::new(&request.model, selection))?);
        if let Strategy::Stored(analysed) = self.strategy() {
            return Ok(Made { producer: None, ready: self.stored(analysed).await?, probe });
        }
        let (examples, ready, skipped) = self.examples(context).await?;
        let tokens = request.model.batch_tokens(request.values_per_token());
        let mut producer = Producer::new(Arc::clone(&request.model), examples, on_tokens, tokens);
        // Where every row of a token is returned, the limit says how many tokens are enough.
        if request.on_values.is_empty() && self.dynamic.is_empty() {
            producer.wanted_rows = request.limit.map(|limit| limit.div_ceil(request.values_per_token().max(1)));
        }
        producer.examples_skipped = skipped;
        Ok(Made { producer: Some(producer), ready, probe })
    }

    /// The examples to run: those the bounds leave, or all. With them what is known of the others, and how many these
    /// are.
    async fn examples(&self, context: &Arc<TaskContext>) -> Result<(Examples, Vec<RecordBatch>, usize)> {
        let request = &self.request;
        let context = || Arc::clone(context);
        if let Strategy::Bounds(analysed) = self.strategy() {
            // Of the layers asked at first; a join may have left some out since.
            if let Some(bounds) = analysed.load(&request.model, &request.selection, &self.holdings).await? {
                let of_each = match (&self.partial, self.top_of_each) {
                    (Some(partial), _) => Some(OfEach::Aggregate(partial)),
                    (None, Some((k, visit))) if request.on_values.is_empty() && request.on_tokens.is_empty() => {
                        Some(OfEach::Top { k, greatest: visit == Visit::Descending })
                    }
                    _ => None,
                };
                let question = Question { visit: self.visit, dynamic: self.dynamic.clone(), of_each };
                let (candidates, decided) = Candidates::new(request, analysed, bounds, question, context()).await?;
                let skipped = candidates.skipped;
                return Ok((Examples::Analysed(Box::new(candidates)), decided, skipped));
            }
        }
        let documents = Documents::new(&request.origin, request.on_documents.clone(), context())?;
        Ok((Examples::Of(Box::new(documents)), Vec::new(), 0))
    }

    /// The states of an aggregate over everything that was analysed.
    async fn stored(&self, analysed: &Analysed) -> Result<Vec<RecordBatch>> {
        // Without examples there are no rows, and so no groups.
        let Some(partial) = self.partial.as_ref().filter(|_| analysed.examples() > 0) else { return Ok(Vec::new()) };
        let mut states = Vec::new();
        for (layer, neurons) in self.request.neurons() {
            let model = self.request.model.name();
            let kept = self.holdings.store.neurons(model, analysed.dataset(), layer as u32).await;
            let kept = take_neurons(&kept.map_err(store_error)?, &neurons)?;
            states.push(partial.stored(layer, &neurons, &kept)?);
        }
        Ok(states)
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
        let shared = args.sibling_state.and_then(|state| state.downcast::<Siblings>().ok()).unwrap_or_default();
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
            ready: Vec::new(),
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
        Some(Arc::new(Siblings::default()))
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
        match (self.strategy(), self.visit) {
            (Strategy::FullScan, _) => write!(f, ", plan=full scan")?,
            (Strategy::Stored(_), _) => write!(f, ", plan=stored answer")?,
            (Strategy::Bounds(_), None) => write!(f, ", plan=bounds and re-run")?,
            (Strategy::Bounds(_), Some(Visit::Descending)) => write!(f, ", plan=bounds and re-run, greatest first")?,
            (Strategy::Bounds(_), Some(Visit::Ascending)) => write!(f, ", plan=bounds and re-run, least first")?,
        }
        if let Some((k, _)) = self.top_of_each {
            write!(f, ", top of each neuron={k}")?;
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

    fn try_pushdown_sort(&self, order: &[PhysicalSortExpr]) -> Result<SortOrderPushdownResult<Arc<dyn DataSource>>> {
        let by_activation = order
            .first()
            .filter(|first| first.expr.downcast_ref::<Column>().is_some_and(|column| column.name() == "activation"));
        let (Some(first), true) = (by_activation, self.request.analysed.is_some()) else {
            return Ok(SortOrderPushdownResult::Unsupported);
        };
        let visit = if first.options.descending { Visit::Descending } else { Visit::Ascending };
        let inner = Arc::new(Self { visit: Some(visit), ..self.clone() });
        Ok(SortOrderPushdownResult::Inexact { inner })
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

/// How a scan finds its rows.
enum Strategy<'a> {
    /// It runs every example.
    FullScan,
    /// It runs the examples that bounds do not rule out.
    Bounds(&'a Analysed),
    /// It runs nothing.
    Stored(&'a Analysed),
}

/// What the partitions of one execution share.
#[derive(Default)]
struct Siblings {
    current: std::sync::Mutex<(SharedProducer, BTreeSet<usize>)>,
}

/// Made by the first partition that asks for rows.
type SharedProducer = Arc<tokio::sync::Mutex<Option<Made>>>;

/// Where batches come from.
struct Made {
    /// None if no example has to run.
    producer: Option<Producer>,
    /// Rows that are known already.
    ready: Vec<RecordBatch>,
    probe: Arc<Probe>,
}

impl Siblings {
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
    /// Rows that needed no run.
    ready: Vec<RecordBatch>,
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
            if let Some(batch) = self.ready.pop() {
                self.metrics.baseline.record_output(batch.num_rows());
                return Ok(Some(batch));
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
        let Made { producer, ready, probe } = match &mut *shared {
            Some(made) => made,
            None => {
                let made = self.source.producer(&self.context).await?;
                shared.insert(made)
            }
        };
        self.ready.append(ready);
        let Some(producer) = producer else {
            self.exhausted = true;
            return Ok(());
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
        let (holdings, metrics, cancel) = (Arc::clone(&self.source.holdings), self.metrics.clone(), self.guard.flag());
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
            check(holdings.registry.pool().run(width, job).await)
        };
        self.in_flight.push_back(pass.boxed());
        Ok(())
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
