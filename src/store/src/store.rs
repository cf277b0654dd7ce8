//! The store: its tables, their caches, and the writing of an analysis.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::{concat_batches, lexsort_to_indices, take_record_batch};
use datafusion::arrow::datatypes::Int32Type;
use datafusion::arrow::error::ArrowError;
use datafusion::logical_expr::{Expr, ident, lit};
use neuroql_analysis::{LayerBounds, LayerSummary};
use object_store::ObjectStore;

use crate::analysis::{LayerAnalysis, LayerTopTokens, MalformedColumn, NeuronsRow, Progress, column};
use crate::bounds::{LayerIndex, StoredExample, bounds_rows, contexts_from_rows, contexts_rows};
use crate::bundled::{BundledAnalysis, DecodedAnalysis};
use crate::cache::{BoundedCache, CacheLimits};
use crate::examples;
use crate::graph_index::GraphIndexTables;
use crate::graphs::Graphs;
use crate::location::Root;
use crate::registration::Registration;
use crate::table::{Precondition, Table, is};
use crate::{Error, Result};
use neuroql_schema::tables::{BOUNDS, CONTEXTS, EXPLANATIONS, MODELS, NEURONS, TABLES};

/// Results that outlive a query: registrations, statistics, examples, bounds and graphs.
#[derive(Debug)]
pub struct Store {
    root: Root,
    models: Table,
    pub(crate) tables: Table,
    neurons: Table,
    bounds: Table,
    contexts: Table,
    pub(crate) graphs: Graphs,
    pub(crate) graph_index: GraphIndexTables,
    pub(crate) explanations: Table,
    pub(crate) examples: Table,
    bundled: Vec<DecodedAnalysis>,
    /// Models and datasets that this process is analysing.
    busy: Arc<Mutex<BTreeSet<(String, String)>>>,
    cache: BoundedCache<Key, CachedValue>,
}

/// The key of a cached value: version, table, and part.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Analysed(Option<u64>),
    Neurons(Option<u64>, String, String, u32),
    Index(String, String, u32, Vec<String>),
    Contexts(String, String, Vec<String>),
}

#[derive(Debug, Clone)]
enum CachedValue {
    Analysed(Arc<Vec<AnalysedLayer>>),
    Neurons(RecordBatch),
    Index(Option<Arc<LayerIndex>>),
    Contexts(Option<Arc<Vec<StoredExample>>>),
}

impl CachedValue {
    fn bytes(key: &Key, cached: &Self) -> usize {
        let names = match key {
            Key::Analysed(_) => 0,
            Key::Neurons(_, model, dataset, _) => model.len() + dataset.len(),
            Key::Index(model, dataset, _, segments) | Key::Contexts(model, dataset, segments) => {
                model.len()
                    + dataset.len()
                    + segments.iter().map(|name| size_of::<String>() + name.len()).sum::<usize>()
            }
        };
        names
            + match cached {
                Self::Analysed(analysed) => {
                    let segments =
                        |a: &AnalysedLayer| a.progress.segments.iter().map(|name| 24 + name.len()).sum::<usize>();
                    analysed.iter().map(|analysed| 256 + segments(analysed)).sum()
                }
                Self::Neurons(rows) => rows.get_array_memory_size(),
                Self::Index(index) => index.as_ref().map_or(0, |index| index.bytes()),
                Self::Contexts(contexts) => contexts
                    .iter()
                    .flat_map(|c| c.iter())
                    .map(|c| size_of::<StoredExample>() + 4 * c.tokens.len())
                    .sum(),
            }
    }
}

/// A layer that has been analysed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnalysedLayer {
    /// Name of the model.
    pub model: String,
    /// Name of the dataset.
    pub dataset: String,
    /// The layer.
    pub layer: u32,
    /// Its progress.
    pub progress: Progress,
}

/// A stretch of a dataset that is committed at once.
#[derive(Debug)]
pub struct Segment<'a> {
    /// Its name, used by no other.
    pub name: &'a str,
    /// Its examples.
    pub contexts: &'a [StoredExample],
    /// Bounds of each layer in these examples.
    pub bounds: &'a [(u32, LayerBounds)],
}

/// The right to analyse a model over a dataset, given back when dropped.
#[derive(Debug)]
pub struct AnalysisGuard {
    what: (String, String),
    all: Arc<Mutex<BTreeSet<(String, String)>>>,
}

impl Drop for AnalysisGuard {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.what);
    }
}

impl Store {
    /// Opens a store in a folder or at an object store's URL; what is not there yet is made when it is first needed.
    ///
    /// # Errors
    /// [`Error::Location`], [`Error::Access`], [`Error::Damaged`].
    pub async fn open(location: &str) -> Result<Self> {
        Self::at(Root::parse(location)?)?.look().await
    }

    /// Opens a store over any objects, whatever they live on.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Damaged`].
    pub async fn over(objects: Arc<dyn ObjectStore>) -> Result<Self> {
        Self::at(Root::over(objects))?.look().await
    }

    /// Looks for the tables that exist.
    async fn look(self) -> Result<Self> {
        Ok(Self {
            models: self.models.open().await?,
            tables: self.tables.open().await?,
            neurons: self.neurons.open().await?,
            bounds: self.bounds.open().await?,
            contexts: self.contexts.open().await?,
            graphs: self.graphs.open().await?,
            graph_index: self.graph_index.open().await?,
            explanations: self.explanations.open().await?,
            examples: self.examples.open().await?,
            ..self
        })
    }

    /// Creates a store that ends with the process.
    ///
    /// # Errors
    /// Returns an error if the tables cannot be set up, which memory does not cause.
    pub fn in_memory() -> Result<Self> {
        Self::at(Root::in_memory())
    }

    fn at(root: Root) -> Result<Self> {
        let of_layer = &["model", "layer", "dataset"][..];
        Ok(Self {
            models: Table::new(&root, "models", Arc::clone(&MODELS), &[])?,
            tables: Table::new(&root, "tables", Arc::clone(&TABLES), &[])?,
            neurons: Table::new(&root, "neurons", Arc::clone(&NEURONS), of_layer)?,
            bounds: Table::new(&root, "bounds", Arc::clone(&BOUNDS), of_layer)?,
            contexts: Table::new(&root, "contexts", Arc::clone(&CONTEXTS), &["model", "dataset"])?,
            graphs: Graphs::new(&root)?,
            graph_index: GraphIndexTables::new(&root)?,
            explanations: Table::new(&root, "explanations", Arc::clone(&EXPLANATIONS), &["model", "layer"])?,
            examples: examples::table(&root)?,
            root,
            bundled: Vec::new(),
            busy: Arc::default(),
            cache: BoundedCache::new(CacheLimits::ALL.rows, CachedValue::bytes),
        })
    }

    /// Returns the same store with caches that take at most `bytes` bytes together, instead of
    /// [`CACHE_BYTES`](crate::CACHE_BYTES).
    ///
    /// # Errors
    /// Returns an error if the caches cannot be made.
    pub fn with_cache_bytes(self, bytes: u64) -> Result<Self> {
        let shares = CacheLimits::of(bytes);
        Ok(Self {
            models: self.models.with_caches(&shares)?,
            tables: self.tables.with_caches(&shares)?,
            neurons: self.neurons.with_caches(&shares)?,
            bounds: self.bounds.with_caches(&shares)?,
            contexts: self.contexts.with_caches(&shares)?,
            graphs: self.graphs.with_caches(&shares)?,
            graph_index: self.graph_index.with_caches(&shares)?,
            explanations: self.explanations.with_caches(&shares)?,
            examples: self.examples.with_caches(&shares)?,
            cache: BoundedCache::new(shares.rows, CachedValue::bytes),
            ..self
        })
    }

    /// Adds an analysis that is compiled into the program; one of the same layer in the store takes its place.
    pub fn with_bundled(mut self, files: BundledAnalysis) -> Self {
        self.bundled.push(DecodedAnalysis::new(files));
        self
    }

    /// Returns true if the store ends with the process.
    pub fn is_fleeting(&self) -> bool {
        self.root.is_fleeting()
    }

    /// Returns the location of the store.
    pub fn location(&self) -> String {
        self.root.url().to_string()
    }

    /// Returns the registrations by name.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Damaged`].
    pub async fn registrations(&self) -> Result<Vec<Registration>> {
        let rows = self.models.read(lit(true), None).await?;
        let rows = whole("models", &rows, &MODELS)?;
        let mut registrations = Registration::from_rows(&rows).map_err(|e| damaged("models", &e))?;
        registrations.sort_by(|a, b| a.model.cmp(&b.model));
        Ok(registrations)
    }

    /// Remembers a registration, in the place of an earlier one of the same name.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Full`], [`Error::Conflict`].
    pub async fn register(&self, registration: &Registration) -> Result<()> {
        let row = registration.row().map_err(|e| arrow("models", e))?;
        self.models.replace(vec![row], is("model", &registration.model)).await
    }

    /// Forgets a registration; analyses of the model stay.
    ///
    /// # Errors
    /// See [`Store::register`].
    pub async fn forget(&self, model: &str) -> Result<()> {
        self.models.delete(is("model", model)).await
    }

    /// Returns all layers that have been analysed, in whole or in part.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Damaged`].
    pub async fn analysed(&self) -> Result<Arc<Vec<AnalysedLayer>>> {
        let version = self.neurons.version().await?;
        let load = async {
            let columns = ["model", "layer", "dataset", "neuron", "progress"];
            let mut all = Vec::new();
            let mut stored = Vec::new();
            if version.is_some() {
                stored = self.neurons.read(ident("neuron").eq(lit(0_i32)), Some(&columns)).await?;
            }
            collect_analysed(&stored, &mut all)?;
            for bundled in &self.bundled {
                collect_analysed(&bundled.neurons(None)?, &mut all)?;
            }
            all.sort_by(|a, b| (&a.model, &a.dataset, a.layer).cmp(&(&b.model, &b.dataset, b.layer)));
            Ok::<_, Error>(CachedValue::Analysed(Arc::new(all)))
        };
        match self.cached(Key::Analysed(version), load).await? {
            CachedValue::Analysed(all) => Ok(all),
            _ => unreachable!("the key says what is cached"),
        }
    }

    /// Returns the progress of the analysis of a layer.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Damaged`].
    pub async fn progress(&self, model: &str, dataset: &str, layer: u32) -> Result<Option<Progress>> {
        let all = self.analysed().await?;
        let found = all.iter().find(|a| a.model == model && a.dataset == dataset && a.layer == layer);
        Ok(found.map(|analysed| analysed.progress.clone()))
    }

    /// Returns rows of the table `neurons` of one layer, ascending by neuron; none if it has not been analysed.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Damaged`].
    pub async fn neurons(&self, model: &str, dataset: &str, layer: u32) -> Result<RecordBatch> {
        let version = self.neurons.version().await?;
        let load = async {
            let mut rows = Vec::new();
            if version.is_some() {
                rows = self.neurons.read(of(model, dataset, Some(layer)), None).await?;
            }
            if rows.iter().all(|batch| batch.num_rows() == 0)
                && let Some(bundled) = self.bundle(model, dataset)
            {
                rows = bundled.neurons(Some(layer))?;
            }
            let rows = whole("neurons", &rows, &NEURONS)?;
            let order = column(&rows, "neuron").map_err(|e| damaged("neurons", &e))?;
            let order = [datafusion::arrow::compute::SortColumn { values: Arc::clone(order), options: None }];
            let sorted = lexsort_to_indices(&order, None).and_then(|order| take_record_batch(&rows, &order));
            Ok(CachedValue::Neurons(sorted.map_err(|e| arrow("neurons", e))?))
        };
        match self.cached(Key::Neurons(version, model.into(), dataset.into(), layer), load).await? {
            CachedValue::Neurons(rows) => Ok(rows),
            _ => unreachable!("the key says what is cached"),
        }
    }

    /// Returns the analysis of a layer, to go on with.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Damaged`].
    pub async fn analysis(&self, model: &str, dataset: &str, layer: u32) -> Result<Option<LayerAnalysis>> {
        let rows = self.neurons(model, dataset, layer).await?;
        if rows.num_rows() == 0 {
            return Ok(None);
        }
        LayerAnalysis::from_rows(&rows).map(Some).map_err(|e| damaged("neurons", &e))
    }

    /// Returns the strongest tokens of some neurons of a layer, ascending by neuron (of all if `None`); `None` if they
    /// are of another state of the analysis.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Damaged`].
    pub async fn strongest(
        &self,
        model: &str,
        dataset: &str,
        layer: u32,
        neurons: Option<&[u32]>,
        progress: &Progress,
    ) -> Result<Option<LayerTopTokens>> {
        let rows = self.neurons(model, dataset, layer).await?;
        let strongest = match neurons {
            Some(neurons) => LayerTopTokens::from_rows(&rows, neurons.iter().map(|n| *n as usize), progress),
            None => LayerTopTokens::from_rows(&rows, 0..rows.num_rows(), progress),
        };
        strongest.map_err(|e| damaged("neurons", &e))
    }

    /// Returns the bounds of a layer; `None` if a segment of them is missing.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Damaged`].
    pub async fn index(
        &self,
        model: &str,
        dataset: &str,
        layer: u32,
        progress: &Progress,
    ) -> Result<Option<Arc<LayerIndex>>> {
        let load = async {
            let mut rows = self.bounds.read(of(model, dataset, Some(layer)), None).await?;
            if let Some(bundled) = self.bundle(model, dataset) {
                rows.extend(bundled.bounds(layer)?);
            }
            let index = LayerIndex::from_rows(&rows, &progress.segments).map_err(|e| damaged("bounds", &e))?;
            Ok(CachedValue::Index(index.map(Arc::new)))
        };
        match self.cached(Key::Index(model.into(), dataset.into(), layer, progress.segments.clone()), load).await? {
            CachedValue::Index(index) => Ok(index),
            _ => unreachable!("the key says what is cached"),
        }
    }

    /// Returns the examples of an analysis, in the order of its index; `None` if a segment of them is missing.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Damaged`].
    pub async fn contexts(
        &self,
        model: &str,
        dataset: &str,
        progress: &Progress,
    ) -> Result<Option<Arc<Vec<StoredExample>>>> {
        let load = async {
            let mut rows = self.contexts.read(of(model, dataset, None), None).await?;
            if let Some(bundled) = self.bundle(model, dataset) {
                rows.extend(bundled.contexts()?);
            }
            let contexts = contexts_from_rows(&rows, &progress.segments).map_err(|e| damaged("contexts", &e))?;
            Ok(CachedValue::Contexts(contexts.map(Arc::new)))
        };
        match self.cached(Key::Contexts(model.into(), dataset.into(), progress.segments.clone()), load).await? {
            CachedValue::Contexts(contexts) => Ok(contexts),
            _ => unreachable!("the key says what is cached"),
        }
    }

    /// Reserves a model and dataset for one analysis of this process; `None` if there is one already.
    pub fn begin(&self, model: &str, dataset: &str) -> Option<AnalysisGuard> {
        let what = (model.to_owned(), dataset.to_owned());
        let mut all = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(what.clone()).then(|| AnalysisGuard { what, all: Arc::clone(&self.busy) })
    }

    /// Commits a segment and the summaries after it. The last write makes it all visible at once; what an interrupted
    /// commit leaves behind is never read, and removed by [`Store::sweep`].
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Full`]; [`Error::Conflict`] if another process analyses the same layers.
    pub async fn commit(
        &self,
        model: &str,
        dataset: &str,
        segment: Option<Segment<'_>>,
        progress: &Progress,
        summaries: &[LayerSummary],
        text: &(dyn Fn(u32) -> String + Sync),
    ) -> Result<()> {
        if let Some(Segment { name, contexts, bounds }) = segment {
            let contexts = contexts_rows(model, dataset, name, contexts).map_err(|e| arrow("contexts", e))?;
            let bounds: Vec<RecordBatch> = bounds
                .iter()
                .map(|(layer, bounds)| bounds_rows(model, dataset, name, *layer, bounds))
                .collect::<Result<_, _>>()
                .map_err(|e| arrow("bounds", e))?;
            let (contexts, bounds) = tokio::join!(self.contexts.append(vec![contexts]), self.bounds.append(bounds));
            contexts.and(bounds)?;
        }
        let rows: Vec<RecordBatch> = summaries
            .iter()
            .map(|summary| NeuronsRow { progress, summary }.rows(model, dataset, text))
            .collect::<Result<_, _>>()
            .map_err(|e| arrow("neurons", e))?;
        let layers = summaries.iter().map(|summary| lit(summary.layer() as i32)).collect();
        let replaced = of(model, dataset, None).and(ident("layer").in_list(layers, false));
        // A row of each layer holds its progress.
        let precondition = Precondition {
            filter: replaced.clone().and(ident("neuron").eq(lit(0_i32))),
            columns: &["layer", "progress"],
        };
        self.neurons.replace_unchanged(rows, replaced, precondition).await
    }

    /// Removes segments that no analysis refers to, and files that no recent snapshot needs. To be called while nobody
    /// else analyses this model over this dataset.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Full`], [`Error::Conflict`].
    pub async fn sweep(&self, model: &str, dataset: &str) -> Result<()> {
        let all = self.analysed().await?;
        let of_both = all.iter().filter(|a| a.model == model && a.dataset == dataset);
        let known: BTreeSet<&String> = of_both.flat_map(|a| &a.progress.segments).collect();
        let unknown = |segments: &BTreeSet<&String>| match segments.is_empty() {
            true => of(model, dataset, None),
            false => {
                let known = segments.iter().map(|segment| lit(segment.as_str())).collect();
                of(model, dataset, None).and(ident("segment").in_list(known, true))
            }
        };
        for table in [&self.bounds, &self.contexts] {
            if !table.read(unknown(&known), Some(&["segment"])).await?.iter().all(|rows| rows.num_rows() == 0) {
                table.delete(unknown(&known)).await?;
            }
        }
        self.vacuum(None).await.map(drop)
    }

    /// Deletes files of all tables that only snapshots older than `retention` need (ten minutes if not given); returns
    /// how many.
    ///
    /// # Errors
    /// [`Error::Access`].
    pub async fn vacuum(&self, retention: Option<Duration>) -> Result<usize> {
        let mut deleted = 0;
        let GraphIndexTables { tokens, signatures } = &self.graph_index;
        let of_graphs = [&self.graphs.table, tokens, signatures];
        let said = [&self.explanations, &self.examples];
        let others = [&self.models, &self.tables, &self.neurons, &self.bounds, &self.contexts];
        for table in others.into_iter().chain(said).chain(of_graphs) {
            deleted += table.vacuum(retention).await?;
        }
        Ok(deleted)
    }

    fn bundle(&self, model: &str, dataset: &str) -> Option<&DecodedAnalysis> {
        self.bundled.iter().find(|bundled| bundled.files.model == model && bundled.files.dataset == dataset)
    }

    async fn cached(&self, key: Key, load: impl Future<Output = Result<CachedValue>>) -> Result<CachedValue> {
        // Errors are shared by those who wait for the same rows, but not kept.
        self.cache.get_or_load(key, load).await.map_err(|error| match Arc::try_unwrap(error) {
            Ok(error) => error,
            Err(shared) => Error::Access { table: "neurons", doing: "read", reason: shared.to_string() },
        })
    }
}

fn collect_analysed(rows: &[RecordBatch], all: &mut Vec<AnalysedLayer>) -> Result<()> {
    let mut collect = || {
        for batch in rows {
            let model = column(batch, "model")?.as_string::<i32>();
            let dataset = column(batch, "dataset")?.as_string::<i32>();
            let layer = column(batch, "layer")?.as_primitive::<Int32Type>();
            for i in 0..batch.num_rows() {
                let (model, dataset, layer) = (model.value(i), dataset.value(i), layer.value(i) as u32);
                // Each layer comes once; the store's own come first.
                if all.iter().any(|a: &AnalysedLayer| a.layer == layer && a.model == model && a.dataset == dataset) {
                    continue;
                }
                let progress = Progress::from_column(&batch.slice(i, 1))?;
                all.push(AnalysedLayer { model: model.into(), dataset: dataset.into(), layer, progress });
            }
        }
        Ok(())
    };
    collect().map_err(|e: MalformedColumn| damaged("neurons", &e))
}

/// Filter for the rows of a model and dataset, of one layer or of all if `None`.
fn of(model: &str, dataset: &str, layer: Option<u32>) -> Expr {
    let both = is("model", model).and(is("dataset", dataset));
    match layer {
        Some(layer) => both.and(ident("layer").eq(lit(layer as i32))),
        None => both,
    }
}

pub(crate) fn whole(
    table: &'static str,
    rows: &[RecordBatch],
    schema: &datafusion::arrow::datatypes::SchemaRef,
) -> Result<RecordBatch> {
    concat_batches(schema, rows).map_err(|error| arrow(table, error))
}

pub(crate) fn arrow(table: &'static str, error: ArrowError) -> Error {
    Error::Damaged { table, reason: error.to_string() }
}

pub(crate) fn damaged(table: &'static str, malformed: &MalformedColumn) -> Error {
    Error::Damaged { table, reason: format!("column \"{}\" is missing or malformed", malformed.0) }
}
