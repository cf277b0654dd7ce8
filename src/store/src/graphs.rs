//! Neuron graphs: one row a neuron and method.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray, UInt32Array, new_null_array,
};
use datafusion::arrow::compute::{SortColumn, cast, filter_record_batch, lexsort_to_indices, take_record_batch};
use datafusion::arrow::datatypes::{Int32Type, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::logical_expr::{Expr, ident, lit};

use crate::analysis::{MalformedColumn, column};
use crate::bundled::decoded;
use crate::cache::{BoundedCache, CacheLimits};
use crate::location::Root;
use crate::row_reader::OpenFile;
use crate::store::{arrow, damaged, whole};
use crate::table::{Table, is};
use crate::version::{hold_for, holds_for};
use crate::{Error, Result, Store};
use neuroql_schema::tables::GRAPHS;

/// Number of neurons up to which only their rows are read; for more, the whole layer is.
const FEW: usize = 256;

/// Columns of the graph itself, and those that tell it from others of the same neuron.
const ALONE: [&str; 6] = ["layer", "neuron", "method", "built_at", "f1", "graph"];

/// Rows of a page of a column, which are read together.
const PAGE_ROWS: usize = 128;

/// The key of a row among those of a model.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GraphKey {
    /// The layer.
    pub layer: u32,
    /// The neuron.
    pub neuron: u32,
    /// Name of the method that made the graph.
    pub method: String,
}

impl GraphKey {
    /// Reads the keys of rows that have the columns layer, neuron and method.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the rows lack them.
    pub fn of_rows(rows: &RecordBatch) -> Result<Vec<Self>> {
        keys(rows)
    }
}

/// Graphs of one model that are compiled into the program: a Parquet file with rows of `graphs`.
#[derive(Debug, Clone, Copy)]
pub struct BundledGraphs {
    /// The model's name.
    pub model: &'static str,
    /// The file.
    pub graphs: &'static [u8],
}

/// The table, with its cache and the graphs that are compiled in.
#[derive(Debug)]
pub(crate) struct Graphs {
    pub table: Table,
    bundled: Vec<(BundledGraphs, OnceLock<Vec<RecordBatch>>)>,
    cache: BoundedCache<CacheKey, RecordBatch>,
}

/// Version of the table, model, its version, layer, and part.
type CacheKey = (Option<u64>, String, String, u32, Part);

/// The parts of a layer that are cached together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    /// All rows.
    Graphs,
    /// All rows without the graphs themselves.
    Scores,
    /// The rows of a neuron.
    Neuron(u32),
    /// The rows of a neuron, of the columns [`ALONE`].
    Alone(u32),
}

/// Rows and columns of a layer to be read.
#[derive(Debug, Clone, Copy)]
struct GraphSelection<'a> {
    model: &'a str,
    version: &'a str,
    layer: u32,
    /// Numbers of the neurons, ascending; all if `None`.
    neurons: Option<&'a [u32]>,
    columns: Option<&'a [&'a str]>,
}

fn cache(shares: &CacheLimits) -> BoundedCache<CacheKey, RecordBatch> {
    BoundedCache::new(shares.graphs, |(_, model, version, ..): &CacheKey, rows: &RecordBatch| {
        model.len() + version.len() + rows.get_array_memory_size()
    })
}

impl Graphs {
    pub fn new(root: &Root) -> Result<Self> {
        let table = Table::new(root, "graphs", Arc::clone(&GRAPHS), &["model", "layer"])?.with_pages_of(PAGE_ROWS);
        Ok(Self { table, bundled: Vec::new(), cache: cache(&CacheLimits::ALL) })
    }

    /// Returns the same table with caches of these sizes.
    pub fn with_caches(self, shares: &CacheLimits) -> Result<Self> {
        Ok(Self { table: self.table.with_caches(shares)?, cache: cache(shares), ..self })
    }

    pub async fn open(self) -> Result<Self> {
        Ok(Self { table: self.table.open().await?, ..self })
    }

    /// Returns the files of a model's graphs that are compiled in.
    pub fn bundled(&self, model: &str) -> impl Iterator<Item = &'static [u8]> {
        self.bundled.iter().filter(move |(file, _)| file.model == model).map(|(file, _)| file.graphs)
    }

    /// Reads rows that were written, not those that are compiled in.
    async fn stored(&self, wanted: GraphSelection<'_>) -> Result<RecordBatch> {
        let GraphSelection { model, version, layer, neurons, columns } = wanted;
        if let Some(neurons) = neurons
            && let Some(files) = self.table.open_files(&[("model", model), ("layer", &layer.to_string())]).await?
        {
            return read_few(&files, wanted, neurons).await;
        }
        let these = is("model", model).and(ident("layer").eq(lit(layer as i32)));
        let these = neurons.map(of_neurons).into_iter().fold(these, Expr::and).and(hold_for(version));
        let rows = self.table.read(these, columns).await?;
        whole("graphs", &rows, &project(columns)?)
    }

    async fn all(&self, wanted: GraphSelection<'_>) -> Result<RecordBatch> {
        let GraphSelection { model, version, layer, neurons, columns } = wanted;
        let stored = self.stored(wanted).await?;
        let keys: HashSet<GraphKey> = keys(&stored)?.into_iter().collect();
        let schema = project(columns)?;
        let mut rows = vec![stored];
        for (file, cell) in self.bundled.iter().filter(|(file, _)| file.model == model) {
            for batch in decoded("graphs", cell, file.graphs, &GRAPHS)? {
                let versions = text(batch, "model_version")?;
                let fits = |i: usize, key: &GraphKey| {
                    key.layer == layer
                        && neurons.is_none_or(|neurons| neurons.binary_search(&key.neuron).is_ok())
                        && !keys.contains(key)
                        && versions.is_valid(i)
                        && holds_for(versions.value(i), version)
                };
                let found = self::keys(batch)?;
                let kept = found.iter().enumerate().filter(|(i, key)| fits(*i, key)).map(|(i, _)| i as u32);
                let indices = UInt32Array::from_iter_values(kept);
                let batch = batch.project(&positions(&schema)?).map_err(|e| arrow("graphs", e))?;
                rows.push(take_record_batch(&batch, &indices).map_err(|e| arrow("graphs", e))?);
            }
        }
        sorted(&whole("graphs", &rows, &schema)?).map_err(|e| arrow("graphs", e))
    }
}

impl Store {
    /// Adds graphs that are compiled into the program; a row in the store takes the place of one of the same neuron and
    /// method.
    pub fn with_bundled_graphs(mut self, file: BundledGraphs) -> Self {
        self.graphs.bundled.push((file, OnceLock::new()));
        self
    }

    /// Returns rows of the table `graphs` of a layer, ascending by neuron and method: those made of this version of the
    /// model, of some neurons, or all. A few are read without the others.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Damaged`].
    pub async fn graphs(
        &self,
        model: &str,
        model_version: &str,
        layer: u32,
        neurons: Option<&[u32]>,
    ) -> Result<RecordBatch> {
        let wanted = GraphSelection { model, version: model_version, layer, neurons: None, columns: None };
        let Some(neurons) = neurons else { return self.layer_rows(wanted, Part::Graphs).await };
        let neurons: BTreeSet<u32> = neurons.iter().copied().collect();
        let key = self.graphs_key(&wanted).await?;
        let whole = match self.graphs.cache.get(&key(Part::Graphs)).await {
            None if neurons.len() > FEW => Some(self.layer_rows(wanted, Part::Graphs).await?),
            rows => rows,
        };
        match whole {
            Some(rows) => of_neuron(&rows, |neuron| neurons.contains(&neuron)),
            None => self.few_rows(wanted, neurons, |neuron| key(Part::Neuron(neuron))).await,
        }
    }

    /// Returns rows of a few neurons with at least the columns layer, neuron, method, built_at, f1 and graph: where
    /// little else is to be done, reading columns that nobody uses takes most of the time.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Damaged`].
    pub async fn graphs_alone(
        &self,
        model: &str,
        model_version: &str,
        layer: u32,
        neurons: &[u32],
    ) -> Result<RecordBatch> {
        let wanted = GraphSelection { model, version: model_version, layer, neurons: None, columns: Some(&ALONE) };
        let key = self.graphs_key(&wanted).await?;
        if neurons.len() > FEW || self.graphs.cache.contains_key(&key(Part::Graphs)) {
            return self.graphs(model, model_version, layer, Some(neurons)).await;
        }
        let neurons = neurons.iter().copied().collect();
        self.few_rows(wanted, neurons, |neuron| key(Part::Alone(neuron))).await
    }

    /// Returns rows of all neurons without the column `graph`, which is most of their size.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Damaged`].
    pub async fn graph_scores(&self, model: &str, model_version: &str, layer: u32) -> Result<RecordBatch> {
        let scores: Vec<&str> =
            GRAPHS.fields().iter().map(|f| f.name().as_str()).filter(|name| *name != "graph").collect();
        let wanted = GraphSelection { model, version: model_version, layer, neurons: None, columns: Some(&scores) };
        self.layer_rows(wanted, Part::Scores).await
    }

    async fn layer_rows(&self, wanted: GraphSelection<'_>, part: Part) -> Result<RecordBatch> {
        let key = self.graphs_key(&wanted).await?;
        // Errors are shared by those who wait for the same rows, but not kept.
        let rows = self.graphs.cache.get_or_load(key(part), self.graphs.all(wanted)).await;
        rows.map_err(|error| match Arc::try_unwrap(error) {
            Ok(error) => error,
            Err(shared) => Error::Access { table: "graphs", doing: "read", reason: shared.to_string() },
        })
    }

    /// Returns rows of neurons that are cached one by one.
    async fn few_rows(
        &self,
        wanted: GraphSelection<'_>,
        neurons: BTreeSet<u32>,
        key: impl Fn(u32) -> CacheKey,
    ) -> Result<RecordBatch> {
        let cache = &self.graphs.cache;
        let (mut parts, mut missing) = (Vec::new(), Vec::new());
        for neuron in neurons {
            match cache.get(&key(neuron)).await {
                Some(rows) => parts.push(rows),
                None => missing.push(neuron),
            }
        }
        if !missing.is_empty() {
            let rows = self.graphs.all(GraphSelection { neurons: Some(&missing), ..wanted }).await?;
            for neuron in missing {
                let part = of_neuron(&rows, |found| found == neuron)?;
                cache.insert(key(neuron), part.clone()).await;
                parts.push(part);
            }
        }
        sorted(&whole("graphs", &parts, &project(wanted.columns)?)?).map_err(|e| arrow("graphs", e))
    }

    /// Returns a function that makes cache keys of parts of a layer as it is now.
    async fn graphs_key(&self, wanted: &GraphSelection<'_>) -> Result<impl Fn(Part) -> CacheKey + use<>> {
        let version = self.graphs.table.version().await?;
        let (model, of_model, layer) = (wanted.model.to_owned(), wanted.version.to_owned(), wanted.layer);
        Ok(move |part| (version, model.clone(), of_model.clone(), layer, part))
    }

    /// Returns the version of the table `graphs`: another one after every change; `None` before the first.
    ///
    /// # Errors
    /// [`Error::Access`].
    pub async fn graphs_version(&self) -> Result<Option<u64>> {
        self.graphs.table.version().await
    }

    /// Returns the keys of the rows of a layer that the store holds itself.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Damaged`].
    pub async fn stored_graphs(&self, model: &str, model_version: &str, layer: u32) -> Result<HashSet<GraphKey>> {
        let columns = Some(&["layer", "neuron", "method"][..]);
        let wanted = GraphSelection { model, version: model_version, layer, neurons: None, columns };
        Ok(keys(&self.graphs.stored(wanted).await?)?.into_iter().collect())
    }

    /// Puts graphs of a model into the store, in one commit, in the place of those of the same layer, neuron and
    /// method. Columns are found by name; those that are not there are NULL. Of several rows with the same key the last
    /// counts.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Full`]; [`Error::Conflict`] if other processes keep writing.
    pub async fn put_graphs(&self, model: &str, rows: &RecordBatch) -> Result<()> {
        let keys = keys(rows)?;
        let last: HashMap<&GraphKey, u32> = keys.iter().enumerate().map(|(i, key)| (key, i as u32)).collect();
        if last.is_empty() {
            return Ok(());
        }
        let mut chosen: Vec<u32> = last.values().copied().collect();
        chosen.sort_unstable();
        let rows = take_record_batch(rows, &UInt32Array::from(chosen)).map_err(|e| arrow("graphs", e))?;
        let rows = complete(model, None, &rows).map_err(|e| arrow("graphs", e))?;
        self.graphs.table.replace(vec![rows], of_keys(model, last.into_keys())).await
    }

    /// Removes graphs of a model from the store.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Full`], [`Error::Conflict`].
    pub async fn delete_graphs(&self, model: &str, keys: &[GraphKey]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        self.graphs.table.delete(of_keys(model, keys.iter())).await
    }
}

fn project(columns: Option<&[&str]>) -> Result<SchemaRef> {
    let Some(columns) = columns else { return Ok(Arc::clone(&GRAPHS)) };
    let indices: Result<Vec<usize>, _> = columns.iter().map(|name| GRAPHS.index_of(name)).collect();
    indices.and_then(|indices| GRAPHS.project(&indices)).map(Arc::new).map_err(|e| arrow("graphs", e))
}

/// Returns the indices of a projection's columns in the whole schema.
fn positions(schema: &SchemaRef) -> Result<Vec<usize>> {
    let index = |name: &String| GRAPHS.index_of(name).map_err(|e| arrow("graphs", e));
    schema.fields().iter().map(|field| index(field.name())).collect()
}

fn text<'a>(rows: &'a RecordBatch, name: &'static str) -> Result<&'a StringArray> {
    let values = column(rows, name).map_err(|e| damaged("graphs", &e))?;
    values.as_string_opt().ok_or_else(|| damaged("graphs", &MalformedColumn(name)))
}

fn keys(rows: &RecordBatch) -> Result<Vec<GraphKey>> {
    let number = |name| {
        let values = column(rows, name).map_err(|e| damaged("graphs", &e))?;
        values.as_primitive_opt::<Int32Type>().ok_or_else(|| damaged("graphs", &MalformedColumn(name)))
    };
    let (layer, neuron, method) = (number("layer")?, number("neuron")?, text(rows, "method")?);
    let key = |((layer, neuron), method): ((Option<i32>, Option<i32>), Option<&str>)| {
        let index = |n: Option<i32>, name| n.and_then(|n| u32::try_from(n).ok()).ok_or(MalformedColumn(name));
        let method = method.ok_or(MalformedColumn("method"))?.to_owned();
        Ok(GraphKey { layer: index(layer, "layer")?, neuron: index(neuron, "neuron")?, method })
    };
    layer.iter().zip(neuron).zip(method).map(key).collect::<Result<_, _>>().map_err(|e| damaged("graphs", &e))
}

/// Completes rows to all columns of the table.
fn complete(model: &str, layer: Option<u32>, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let count = rows.num_rows();
    let columns = GRAPHS.fields().iter().map(|field| -> Result<ArrayRef, ArrowError> {
        match (field.name().as_str(), layer, rows.column_by_name(field.name())) {
            ("model", ..) => Ok(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(model, count)))),
            ("layer", Some(layer), _) => Ok(Arc::new(Int32Array::from_value(layer as i32, count))),
            (_, _, Some(values)) => cast(values, field.data_type()),
            (_, _, None) => Ok(new_null_array(field.data_type(), count)),
        }
    });
    RecordBatch::try_new(Arc::clone(&GRAPHS), columns.collect::<Result<_, _>>()?)
}

fn sorted(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let by = |name: &str| SortColumn { values: Arc::clone(&rows[name]), options: None };
    take_record_batch(rows, &lexsort_to_indices(&[by("neuron"), by("method")], None)?)
}

/// Filter for the rows that have these keys.
fn of_keys<'a>(model: &str, keys: impl Iterator<Item = &'a GraphKey>) -> Expr {
    let mut groups: BTreeMap<(u32, &str), Vec<u32>> = BTreeMap::new();
    for key in keys {
        groups.entry((key.layer, key.method.as_str())).or_default().push(key.neuron);
    }
    let mut any: Option<Expr> = None;
    for ((layer, method), mut neurons) in groups {
        neurons.sort_unstable();
        neurons.dedup();
        let these = ident("layer").eq(lit(layer as i32)).and(is("method", method));
        let these = these.and(of_neurons(&neurons));
        any = Some(match any {
            Some(any) => any.or(these),
            None => these,
        });
    }
    is("model", model).and(any.unwrap_or_else(|| lit(false)))
}

/// Reads the rows of some neurons from the files of a layer.
async fn read_few(files: &[Arc<OpenFile>], wanted: GraphSelection<'_>, neurons: &[u32]) -> Result<RecordBatch> {
    let schema = project(wanted.columns)?;
    let columns: Option<Vec<&str>> =
        wanted.columns.map(|columns| columns.iter().copied().chain(["model_version"]).collect());
    let mut rows = Vec::new();
    for file in files {
        for batch in file.read(neurons, columns.as_deref()).await.map_err(|error| Error::of("graphs", "read", error))? {
            let batch = complete(wanted.model, Some(wanted.layer), &batch).map_err(|e| arrow("graphs", e))?;
            let versions = text(&batch, "model_version")?;
            let fits = versions
                .iter()
                .map(|version| Some(version.is_some_and(|version| holds_for(version, wanted.version))))
                .collect();
            let batch = filter_record_batch(&batch, &fits).map_err(|e| arrow("graphs", e))?;
            rows.push(batch.project(&positions(&schema)?).map_err(|e| arrow("graphs", e))?);
        }
    }
    whole("graphs", &rows, &schema)
}

/// Filter for neurons, which ascend: their range, by which files and pages are skipped, and their numbers unless they
/// are all of it.
fn of_neurons(neurons: &[u32]) -> Expr {
    let (Some(low), Some(high)) = (neurons.first(), neurons.last()) else { return lit(false) };
    let range = ident("neuron").gt_eq(lit(*low as i32)).and(ident("neuron").lt_eq(lit(*high as i32)));
    let is_range = neurons.len() == (high - low) as usize + 1;
    let each = || neurons.iter().map(|neuron| lit(*neuron as i32)).collect();
    if is_range { range } else { range.and(ident("neuron").in_list(each(), false)) }
}

/// Copies the rows of some neurons.
fn of_neuron(rows: &RecordBatch, wanted: impl Fn(u32) -> bool) -> Result<RecordBatch> {
    let neurons = column(rows, "neuron").map_err(|e| damaged("graphs", &e))?;
    let neurons =
        neurons.as_primitive_opt::<Int32Type>().ok_or_else(|| damaged("graphs", &MalformedColumn("neuron")))?;
    let these = neurons.iter().zip(0u32..).filter(|(neuron, _)| neuron.is_some_and(|neuron| wanted(neuron as u32)));
    let indices = UInt32Array::from_iter_values(these.map(|(_, row)| row));
    take_record_batch(rows, &indices).map_err(|e| arrow("graphs", e))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Float32Array;
    use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Schema};

    use super::*;

    fn rows(keys: &[(i32, i32, &str)], f1: f32) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("neuron", DataType::Int32, false),
            Field::new("layer", DataType::Int32, false),
            Field::new("method", DataType::Utf8, false),
            Field::new("f1", DataType::Float32, false),
            Field::new("model_version", DataType::Utf8, false),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from_iter_values(keys.iter().map(|key| key.1))),
            Arc::new(Int32Array::from_iter_values(keys.iter().map(|key| key.0))),
            Arc::new(StringArray::from_iter_values(keys.iter().map(|key| key.2))),
            Arc::new(Float32Array::from_value(f1, keys.len())),
            Arc::new(StringArray::from_iter_values(keys.iter().map(|_| "v1"))),
        ];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    async fn all(store: &Store, layer: u32) -> Vec<(i32, String, f32)> {
        let rows = store.graph_scores("m", "v1", layer).await.unwrap();
        let (neurons, scores) = (rows["neuron"].as_primitive::<Int32Type>(), rows["f1"].as_primitive::<Float32Type>());
        let methods = rows["method"].as_string::<i32>();
        (0..rows.num_rows()).map(|i| (neurons.value(i), methods.value(i).to_owned(), scores.value(i))).collect()
    }

    #[tokio::test]
    async fn a_key_has_one_row_whoever_wrote_last() {
        let folder = tempfile::tempdir().unwrap();
        let location = folder.path().to_str().unwrap();
        let store = Store::open(location).await.unwrap();
        assert_eq!(all(&store, 1).await, []);
        store
            .put_graphs("m", &rows(&[(1, 5, "n2g"), (1, 3, "it's"), (0, 3, "n2g"), (1, 5, "n2g")], 0.5))
            .await
            .unwrap();
        assert_eq!(all(&store, 1).await, [(3, "it's".into(), 0.5), (5, "n2g".into(), 0.5)]);
        // A writer that has not seen that commit.
        let other = Store::open(location).await.unwrap();
        store.put_graphs("m", &rows(&[(1, 7, "n2g")], 0.6)).await.unwrap();
        other.put_graphs("m", &rows(&[(1, 3, "it's"), (1, 7, "n2g"), (1, 9, "n2g")], 0.7)).await.unwrap();
        let expected =
            [(3, "it's".into(), 0.7), (5, "n2g".into(), 0.5), (7, "n2g".into(), 0.7), (9, "n2g".into(), 0.7)];
        assert_eq!(all(&other, 1).await, expected);
        assert_eq!(all(&Store::open(location).await.unwrap(), 1).await, expected);
        assert_eq!(all(&other, 0).await, [(3, "n2g".into(), 0.5)]);
        assert_eq!(other.graphs("m", "v2", 1, None).await.unwrap().num_rows(), 0);
        let keys = other.stored_graphs("m", "v1", 1).await.unwrap();
        let keys: Vec<_> = keys.into_iter().filter(|key| key.neuron != 9).collect();
        other.delete_graphs("m", &keys).await.unwrap();
        assert_eq!(all(&other, 1).await, [(9, "n2g".into(), 0.7)]);
        assert_eq!(all(&other, 0).await, [(3, "n2g".into(), 0.5)]);
    }

    /// Checks that rows of programs that did not name the tokenizer in a model's version are still of that model.
    #[tokio::test]
    async fn rows_of_earlier_versions_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).await.unwrap();
        store.put_graphs("m", &rows(&[(1, 3, "n2g"), (1, 5, "n2g")], 0.5)).await.unwrap();
        for version in ["v1", "v1 tokenizer=a", "v1 tokenizer=b"] {
            assert_eq!(store.graph_scores("m", version, 1).await.unwrap().num_rows(), 2, "{version}");
            assert_eq!(store.graphs("m", version, 1, Some(&[5])).await.unwrap().num_rows(), 1, "{version}");
            assert_eq!(store.stored_graphs("m", version, 1).await.unwrap().len(), 2, "{version}");
        }
        for version in ["v2 tokenizer=a", "", " tokenizer=a"] {
            assert_eq!(store.graph_scores("m", version, 1).await.unwrap().num_rows(), 0, "{version}");
            assert_eq!(store.graphs("m", version, 1, Some(&[5])).await.unwrap().num_rows(), 0, "{version}");
        }
    }

    #[tokio::test]
    async fn some_neurons_are_read_as_all_are() {
        let folder = tempfile::tempdir().unwrap();
        let location = folder.path().to_str().unwrap();
        let keys: Vec<_> =
            (0..700).flat_map(|n| [(1, n, "n2g"), (1, n, "neuroql")]).filter(|key| key.1 % 5 != 2).collect();
        let store = Store::open(location).await.unwrap();
        store.put_graphs("m", &rows(&keys, 0.5)).await.unwrap();
        store.put_graphs("m", &rows(&[(1, 9, "neuroql"), (1, 701, "n2g"), (0, 9, "n2g")], 0.6)).await.unwrap();
        let all = store.graphs("m", "v1", 1, None).await.unwrap();
        let many: Vec<u32> = (0..FEW as u32 + 9).rev().collect();
        for neurons in [&[][..], &[9], &[699, 0, 3, 9, 9, 12], &[2], &[701, 5000], &many] {
            let expected = of_neuron(&all, |neuron| neurons.contains(&neuron)).unwrap();
            // This store has nothing in its caches, and then what it has cached.
            let other = Store::open(location).await.unwrap();
            for _ in 0..2 {
                assert_eq!(other.graphs("m", "v1", 1, Some(neurons)).await.unwrap(), expected, "{neurons:?}");
            }
            assert_eq!(store.graphs("m", "v1", 1, Some(neurons)).await.unwrap(), expected, "{neurons:?}");
            let alone = Store::open(location).await.unwrap().graphs_alone("m", "v1", 1, neurons).await.unwrap();
            for name in ALONE {
                assert_eq!(alone.column_by_name(name), expected.column_by_name(name), "{name} of {neurons:?}");
            }
            assert_eq!(other.graphs("m", "v2", 1, Some(neurons)).await.unwrap().num_rows(), 0);
        }
        // Names that are encoded in paths.
        for name in ["größe 100% a", "a/b=c", "%2F", "~."] {
            store.put_graphs(name, &rows(&[(1, 9, "n2g"), (1, 10, "n2g")], 0.5)).await.unwrap();
            let found = store.graphs(name, "v1", 1, Some(&[9])).await.unwrap();
            assert_eq!((found.num_rows(), found["model"].as_string::<i32>().value(0)), (1, name));
        }
        // The cache holds rows of one version of the table.
        let other = Store::open(location).await.unwrap();
        let f1 = |rows: RecordBatch| rows["f1"].as_primitive::<Float32Type>().values().to_vec();
        assert_eq!(f1(other.graphs("m", "v1", 1, Some(&[9])).await.unwrap()), [0.5, 0.6]);
        other.put_graphs("m", &rows(&[(1, 9, "n2g")], 0.7)).await.unwrap();
        assert_eq!(f1(other.graphs("m", "v1", 1, Some(&[9])).await.unwrap()), [0.7, 0.6]);
    }
}
