//! The data source of a scan: its options from the plan, and its way to the rows.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{RecordBatch, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::datasource::source::{DataSource, OpenArgs};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{Column, DynamicFilterTracking};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr, split_conjunction};
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayFormatType, Partitioning, SortOrderPushdownResult};
use neuroql_model::{ReadSpec, Speed};
use neuroql_pipeline::bounds::{ScanOrder, StoredAnalysis, TopK};
use neuroql_pipeline::{Batcher, Documents, Examples, Origin};
use neuroql_schema::sql_error;

use super::candidates::{Candidates, KnownResults, PruningRequest, PruningTarget};
use super::partial_aggregate::PartialAggregate;
use super::rows::RowBuilder;
use super::scan_request::{OF_NEURON, OF_TOKEN, ScanRequest};
use super::stream::{ExecutionBatches, ExecutionState, IN_FLIGHT, PartitionState, footprint, snapshot};
use crate::Error;
use crate::planner::estimate::{Estimate, RunConditions, TokenCount};
use crate::state::EngineState;
use crate::tables::dataset::plan_of;
use crate::tables::predicate::{Predicate, restrict};

/// Tokens of the first batch where examples come in the order of their bounds: its results make many others
/// superfluous. Each batch after it has twice as many, up to the usual number.
const FIRST_TOKENS: usize = 256;

/// Bytes of text below which there is one partition: more would cost more than they save.
const SMALL_TEXT: usize = 2048;

/// Assumed number of tokens of a document, for estimates of rows.
const TOKENS_OF_A_DOCUMENT: usize = 1000;

/// The scan of [`super::Activations`].
#[derive(Debug, Clone)]
pub(crate) struct ActivationSource {
    pub(crate) request: Arc<ScanRequest>,
    pub(crate) engine: Arc<EngineState>,
    pub(crate) schema: SchemaRef,
    pub(crate) partitions: usize,
    /// Moving filters of TopK, joins and aggregates: used to skip work, applied above for good.
    pub(crate) dynamic: Vec<Arc<dyn PhysicalExpr>>,
    /// True if the dataset was still the one that was analysed when this last ran; `None` if that is unknown.
    current: Arc<Mutex<Option<bool>>>,
    /// Order of the examples, those that may matter most first.
    visit: Option<ScanOrder>,
    /// The only rows that matter to the operator above.
    top: Option<TopK>,
    /// Aggregate that each batch is reduced to, one row a neuron, instead of returning its rows.
    pub(crate) partial: Option<Arc<PartialAggregate>>,
    pub(crate) metrics: ExecutionPlanMetricsSet,
    /// Speed at the time of planning, so that EXPLAIN ANALYZE shows the same estimate as EXPLAIN.
    speed: Speed,
    bytes_per_token: f64,
}

impl ActivationSource {
    pub fn new(request: ScanRequest, engine: Arc<EngineState>, session: &dyn Session) -> Result<Self> {
        let small = match &request.origin {
            Origin::Nothing => true,
            Origin::Texts(texts) => texts.iter().map(|text| text.len()).sum::<usize>() < SMALL_TEXT,
            Origin::Dataset(_) => false,
        };
        // With a limit, which rows come first must not depend on the number of threads.
        let partitions = if small || request.limit.is_some() {
            1
        } else {
            engine.registry.pool().threads().min(session.config().target_partitions()).max(1)
        };
        Ok(Self {
            speed: request.model.speed(),
            bytes_per_token: request.model.tokenizer().bytes_per_token(),
            schema: request.output_schema()?,
            current: Arc::new(Mutex::new(engine.resources.fingerprints.known(&request.origin).map(|_| true))),
            request: Arc::new(request),
            engine,
            partitions,
            dynamic: Vec::new(),
            visit: None,
            top: None,
            partial: None,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// Returns true if the scan returns a row for each neuron of each wanted token.
    pub fn returns_every_value(&self) -> bool {
        self.request.on_values.is_empty()
            && self.dynamic.is_empty()
            && self.request.limit.is_none()
            && self.partial.is_none()
    }

    /// Returns the same scan, reduced to states of an aggregate.
    pub fn with_partial(&self, partial: PartialAggregate) -> Self {
        Self { schema: Arc::clone(&partial.schema), partial: Some(Arc::new(partial)), ..self.clone() }
    }

    /// Returns the same scan for an operator that keeps only the top rows; `None` if the scan cannot use it.
    pub fn with_top(&self, top: TopK) -> Option<Self> {
        let request = &self.request;
        let every_row = request.on_tokens.is_empty() && request.on_values.is_empty() && request.limit.is_none();
        // A TopK has pushed its own dynamic filter to the scan; filters of other operators do not pass it.
        let usable = every_row && self.partial.is_none() && (self.dynamic.is_empty() || !top.of_each);
        usable.then(|| Self { top: Some(top), ..self.clone() })
    }

    /// Returns true if the strongest tokens in the store answer the query.
    fn is_kept(&self, analysed: &StoredAnalysis) -> bool {
        let top = self.top.filter(|top| top.visit == ScanOrder::Descending && self.request.on_documents.is_empty());
        top.is_some_and(|top| analysed.keeps(top.k))
    }

    /// Returns [`ActivationSource::strategy`], or a full scan if the dataset is no longer the one that was analysed.
    /// This may read the whole dataset.
    async fn current_strategy(&self, context: &Arc<TaskContext>) -> Result<Strategy<'_>> {
        let strategy = self.strategy();
        let (Strategy::Stored(analysed) | Strategy::Bounds(analysed)) = strategy else { return Ok(strategy) };
        let current = analysed.is_of(&self.request.origin, &self.engine.resources, context).await?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(current);
        Ok(if current { strategy } else { Strategy::FullScan })
    }

    /// Returns the cheapest way to an answer. Bounds are used if the query depends on the size of activations; then no
    /// more examples run than in a full scan, and none has to be tokenized again.
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
            None if self.top.is_some() => Strategy::Bounds(analysed),
            None if self.dynamic.iter().chain(request.on_values.parts()).any(of_activation) => {
                Strategy::Bounds(analysed)
            }
            None => Strategy::FullScan,
        }
    }

    /// Makes the state that all partitions share. This is done when the first row is asked for, when the build side of
    /// a join has been read and its filter is known.
    pub(crate) async fn producer(&self, context: &Arc<TaskContext>) -> Result<ExecutionBatches> {
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
        let spec = Arc::new(ReadSpec::new(&request.model, selection).map_err(sql_error)?);
        let strategy = self.current_strategy(context).await?;
        if let Strategy::Stored(analysed) = strategy {
            return Ok(ExecutionBatches { batcher: None, ready: self.stored(analysed).await?, spec, ordered: false });
        }
        let ordered = self.visit.is_some() && matches!(strategy, Strategy::Bounds(_));
        let (examples, ready, skipped) = self.examples(strategy, context).await?;
        let tokens = request.model.batch_tokens(request.values_per_token());
        let mut batcher = Batcher::new(Arc::clone(&request.model), examples, on_tokens.filter(), tokens);
        // Where every row of a token is returned, the limit says how many tokens are enough.
        if request.on_values.is_empty() && self.dynamic.is_empty() {
            batcher.wanted_rows = request.limit.map(|limit| limit.div_ceil(request.values_per_token().max(1)));
        }
        batcher.examples_skipped = skipped;
        if ordered {
            batcher.start_with(FIRST_TOKENS);
        }
        Ok(ExecutionBatches { batcher: Some(batcher), ready, spec, ordered })
    }

    /// Returns the examples to run (those that bounds leave, or all), the rows of others that are known, and the number
    /// of examples that bounds rule out.
    async fn examples(
        &self,
        strategy: Strategy<'_>,
        context: &Arc<TaskContext>,
    ) -> Result<(Examples, Vec<RecordBatch>, usize)> {
        let request = &self.request;
        let context = || Arc::clone(context);
        if let Strategy::Bounds(analysed) = strategy {
            // Bounds of the layers asked at first; a join may have left some out since.
            if let Some(bounds) = analysed.load(&request.model, &request.selection, &self.engine.resources).await? {
                let strongest = match self.top {
                    Some(_) => analysed.strongest(&request.model, &request.selection, &self.engine.resources).await?,
                    None => None,
                };
                let wanted = match &self.partial {
                    Some(partial) => Some(PruningTarget::Aggregate(partial)),
                    None => self.top.map(|top| PruningTarget::Top(top, strongest.as_deref())),
                };
                let question = PruningRequest { visit: self.visit, dynamic: self.dynamic.clone(), wanted };
                let (candidates, decided) = Candidates::new(request, analysed, bounds, question, context()).await?;
                let skipped = candidates.skipped;
                return Ok((Examples::Candidates(Box::new(candidates)), self.rows(decided, &context())?, skipped));
            }
        }
        let documents =
            Documents::new(&request.origin, request.on_documents.filter(), &context())?.of_shard(request.shard);
        Ok((Examples::Documents(Box::new(documents)), Vec::new(), 0))
    }

    /// Converts results that are known without a run to rows.
    fn rows(&self, decided: KnownResults, context: &TaskContext) -> Result<Vec<RecordBatch>> {
        let mut batches = decided.states;
        for (layer, neuron, packed, values) in decided.rows {
            let size = context.session_config().batch_size();
            let mut builder = RowBuilder::new(Arc::clone(&self.request.model), Arc::clone(&self.schema), size);
            let mut rows = builder.layer(&packed, layer, &[neuron], values);
            while let Some(batch) = rows.next(&packed, &[])? {
                batches.push(batch);
            }
        }
        Ok(batches)
    }

    /// Returns the states of an aggregate over everything that was analysed.
    async fn stored(&self, analysed: &StoredAnalysis) -> Result<Vec<RecordBatch>> {
        // Without examples there are no rows, and so no groups.
        let Some(partial) = self.partial.as_ref().filter(|_| analysed.examples() > 0) else { return Ok(Vec::new()) };
        let mut states = Vec::new();
        for (layer, neurons) in self.request.neurons() {
            let model = self.request.model.name();
            let kept = self.engine.store.neurons(model, analysed.dataset(), layer as u32).await;
            let kept = kept.map_err(sql_error)?;
            let kept = match neurons.len() == kept.num_rows() {
                true => kept,
                false => take_record_batch(&kept, &UInt32Array::from_iter_values(neurons.iter().copied()))?,
            };
            states.push(partial.stored(layer, &neurons, &kept)?);
        }
        Ok(states)
    }

    /// Estimates the cost.
    fn cost(&self) -> Estimate {
        let request = &self.request;
        let (model, values) = (&request.model, request.values_per_token());
        let pool = self.engine.registry.pool();
        let ordered = self.visit.is_some() && matches!(self.strategy(), Strategy::Bounds(_));
        let running = RunConditions {
            speed: self.speed,
            layers: self.layers_run() as f64,
            batch: model.batch_tokens(values),
            lanes: if ordered { 1 } else { self.partitions },
            threads: pool.threads(),
        };
        let held = if ordered { 1 } else { IN_FLIGHT * self.partitions };
        running.estimate(self.tokens(), held, 0.0, footprint(request, 1, 1) as f64)
    }

    /// Estimates the number of tokens that will run, if possible.
    fn tokens(&self) -> Option<TokenCount> {
        let request = &self.request;
        let strategy = self.strategy();
        if request.selection.is_empty() || matches!(strategy, Strategy::Stored(_)) {
            return Some(TokenCount::NONE);
        }
        let all = TokenCount::of(&request.origin, &request.model, self.bytes_per_token)?;
        let of_token =
            |expr: &Arc<dyn PhysicalExpr>| collect_columns(expr).iter().any(|c| OF_TOKEN.contains(&c.name()));
        let left_out = matches!(strategy, Strategy::Bounds(_))
            || !request.on_documents.is_empty()
            || !request.on_tokens.is_empty()
            || self.dynamic.iter().any(of_token);
        let all = match (request.limit, request.on_values.is_empty() && self.dynamic.is_empty()) {
            // Examples run whole.
            (Some(limit), true) => {
                let wanted = limit.div_ceil(request.values_per_token().max(1));
                let window = request.model.window();
                let bos = usize::from(request.model.bos().is_some());
                all.limited((wanted.div_ceil(window) * (window + bos)) as f64)
            }
            (Some(_), false) => all.at_most(),
            (None, _) => all,
        };
        Some(if left_out { all.at_most() } else { all })
    }

    fn layers_run(&self) -> usize {
        self.request.selection.last().map_or(0, |(layer, _)| self.request.model.layers_to_run(*layer))
    }

    /// Estimates the number of rows, if possible.
    fn estimate(&self) -> Precision<usize> {
        let tokens = match &self.request.origin {
            Origin::Nothing => return Precision::Exact(0),
            Origin::Texts(texts) => texts.iter().map(|text| text.len() / 4 + 1).sum(),
            Origin::Dataset(source) => {
                let Some(plan) = plan_of(source.as_ref()) else { return Precision::Absent };
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
        let shared = args.sibling_state.and_then(|state| state.downcast::<ExecutionState>().ok());
        // A partition without those beside it would return all that they do.
        let missing = || Error::Internal("a partition of a scan of activations lacks what all of them share".into());
        let shared = match shared {
            Some(shared) => shared,
            None if self.partitions == 1 => Arc::default(),
            None => return Err(missing().into()),
        };
        let producer = shared.producer(args.partition);
        let schema = Arc::clone(&self.schema);
        let scan = PartitionState::new(self, args.partition, args.context, producer);
        let stream =
            futures::stream::try_unfold(
                scan,
                |mut scan| async move { Ok(scan.next().await?.map(|batch| (batch, scan))) },
            );
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }

    fn create_sibling_state(&self, _: &ConfigOptions) -> Option<Arc<dyn std::any::Any + Send + Sync>> {
        Some(Arc::new(ExecutionState::default()))
    }

    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = &self.request;
        let config = request.model.config();
        write!(f, "ActivationScan: model={}, site={}", request.model.name(), request.model.site())?;
        match &request.origin {
            Origin::Nothing => write!(f, ", nothing to read")?,
            Origin::Texts(texts) => write!(f, ", texts={}", texts.len())?,
            Origin::Dataset(source) => write!(f, ", dataset={}", source.name())?,
        }
        let current = *self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let strategy = self.strategy();
        let if_current = match (&strategy, current) {
            (Strategy::Stored(_) | Strategy::Bounds(_), None) => " if the dataset is as it was analysed",
            _ => "",
        };
        match (strategy, self.visit) {
            (Strategy::FullScan, _) => write!(f, ", plan=full scan")?,
            _ if current == Some(false) => write!(f, ", plan=full scan (the dataset is not as it was analysed)")?,
            (Strategy::Stored(_), _) => write!(f, ", plan=stored answer")?,
            (Strategy::Bounds(analysed), _) if self.is_kept(analysed) => {
                write!(f, ", plan=stored answer, or bounds and re-run where ties leave it open")?;
            }
            (Strategy::Bounds(_), None) => write!(f, ", plan=bounds and re-run")?,
            (Strategy::Bounds(_), Some(ScanOrder::Descending)) => {
                write!(f, ", plan=bounds and re-run, greatest first")?
            }
            (Strategy::Bounds(_), Some(ScanOrder::Ascending)) => write!(f, ", plan=bounds and re-run, least first")?,
        }
        f.write_str(if_current)?;
        match self.top {
            Some(TopK { k, of_each: true, .. }) => write!(f, ", top of each neuron={k}")?,
            Some(TopK { k, of_each: false, .. }) => write!(f, ", top={k}")?,
            None => {}
        }
        let (neurons, all) = (request.values_per_token(), request.selection.len() * request.model.neurons_per_layer());
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
        write!(f, ", {}", self.cost())
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
        let request = ScanRequest { limit, ..self.request.as_ref().clone() };
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
        let visit = if first.options.descending { ScanOrder::Descending } else { ScanOrder::Ascending };
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

/// Way of a scan to its rows.
#[derive(Clone, Copy)]
enum Strategy<'a> {
    /// Runs every example.
    FullScan,
    /// Runs the examples that bounds do not rule out.
    Bounds(&'a StoredAnalysis),
    /// Runs nothing; the store has the answer.
    Stored(&'a StoredAnalysis),
}
