//! Neuron graphs: one row a neuron and method.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array, new_null_array};
use datafusion::arrow::compute::{SortColumn, cast, lexsort_to_indices, take_record_batch};
use datafusion::arrow::datatypes::{Int32Type, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::logical_expr::{Expr, ident, lit};
use moka::future::Cache;

use crate::analysis::{Malformed, column};
use crate::bundled::decoded;
use crate::location::Root;
use crate::schema::GRAPHS;
use crate::store::{arrow, damaged, whole};
use crate::table::{Table, is};
use crate::{Error, Result, Store};

/// Bytes of rows kept at hand.
const CACHE_BYTES: u64 = 128 << 20;

/// What names a row among those of a model.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GraphKey {
    /// The layer.
    pub layer: u32,
    /// The neuron.
    pub neuron: u32,
    /// How its graph was made.
    pub method: String,
}

impl GraphKey {
    /// Keys of rows that have the columns layer, neuron and method.
    ///
    /// # Errors
    /// [`Error::Damaged`] if they have not.
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

/// The table, and what is kept at hand of it.
#[derive(Debug)]
pub(crate) struct Graphs {
    pub table: Table,
    bundled: Vec<(BundledGraphs, OnceLock<Vec<RecordBatch>>)>,
    cache: Cache<CacheKey, RecordBatch>,
}

/// Version of the table, model, its version, layer, and whether the graphs themselves are there.
type CacheKey = (Option<u64>, String, String, u32, bool);

impl Graphs {
    pub fn new(root: &Root) -> Result<Self> {
        let table = Table::new(root, "graphs", Arc::clone(&GRAPHS), &["model", "layer"])?;
        let weigh = |_: &CacheKey, rows: &RecordBatch| u32::try_from(rows.get_array_memory_size()).unwrap_or(u32::MAX);
        let cache = Cache::builder().max_capacity(CACHE_BYTES).weigher(weigh).build();
        Ok(Self { table, bundled: Vec::new(), cache })
    }

    pub async fn open(self) -> Result<Self> {
        Ok(Self { table: self.table.open().await?, ..self })
    }

    /// What is compiled in of the graphs of a model.
    pub fn bundled(&self, model: &str) -> impl Iterator<Item = &'static [u8]> {
        self.bundled.iter().filter(move |(file, _)| file.model == model).map(|(file, _)| file.graphs)
    }

    /// Rows of a layer that were written, not those that are bundled.
    async fn stored(&self, model: &str, version: &str, layer: u32, columns: Option<&[&str]>) -> Result<RecordBatch> {
        let filter = is("model", model).and(ident("layer").eq(lit(layer as i32))).and(is("model_version", version));
        let rows = self.table.read(filter, columns).await?;
        whole("graphs", &rows, &project(columns)?)
    }

    async fn all(&self, model: &str, version: &str, layer: u32, columns: Option<&[&str]>) -> Result<RecordBatch> {
        let stored = self.stored(model, version, layer, columns).await?;
        let keys: HashSet<GraphKey> = keys(&stored)?.into_iter().collect();
        let schema = project(columns)?;
        let mut rows = vec![stored];
        for (file, cell) in self.bundled.iter().filter(|(file, _)| file.model == model) {
            for batch in decoded("graphs", cell, file.graphs, &GRAPHS)? {
                let versions = text(batch, "model_version")?;
                let fits = |i: usize, key: &GraphKey| {
                    key.layer == layer && !keys.contains(key) && versions.is_valid(i) && versions.value(i) == version
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

    /// Rows of the table `graphs` of a layer, ascending by neuron and method: those made of this version of the model.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Damaged`].
    pub async fn graphs(&self, model: &str, model_version: &str, layer: u32) -> Result<RecordBatch> {
        self.graph_rows(model, model_version, layer, true).await
    }

    /// The same without the column `graph`, which is most of their size.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Damaged`].
    pub async fn graph_scores(&self, model: &str, model_version: &str, layer: u32) -> Result<RecordBatch> {
        self.graph_rows(model, model_version, layer, false).await
    }

    async fn graph_rows(&self, model: &str, model_version: &str, layer: u32, graphs: bool) -> Result<RecordBatch> {
        let scores: Vec<&str> =
            GRAPHS.fields().iter().map(|f| f.name().as_str()).filter(|name| *name != "graph").collect();
        let columns = (!graphs).then_some(&scores[..]);
        let key = (self.graphs.table.version().await?, model.to_owned(), model_version.to_owned(), layer, graphs);
        let load = self.graphs.all(model, model_version, layer, columns);
        // Errors are shared by those who wait for the same rows, but not kept.
        self.graphs.cache.try_get_with(key, load).await.map_err(|error| match Arc::try_unwrap(error) {
            Ok(error) => error,
            Err(shared) => Error::Access { table: "graphs", doing: "read", reason: shared.to_string() },
        })
    }

    /// Version of the table `graphs`: another one after every change; `None` before the first.
    ///
    /// # Errors
    /// [`Error::Access`].
    pub async fn graphs_version(&self) -> Result<Option<u64>> {
        self.graphs.table.version().await
    }

    /// Keys of the rows of a layer that the store holds itself.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Damaged`].
    pub async fn stored_graphs(&self, model: &str, model_version: &str, layer: u32) -> Result<HashSet<GraphKey>> {
        let columns = ["layer", "neuron", "method"];
        Ok(keys(&self.graphs.stored(model, model_version, layer, Some(&columns)).await?)?.into_iter().collect())
    }

    /// Puts graphs of a model into the store, in one commit, in the place of those of the same layer, neuron and method.
    /// Columns are found by name; those that are not there are NULL. Of several rows with the same key the last counts.
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
        let rows = complete(model, &rows).map_err(|e| arrow("graphs", e))?;
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

/// Where the columns of a part of the schema are in the whole.
fn positions(schema: &SchemaRef) -> Result<Vec<usize>> {
    let index = |name: &String| GRAPHS.index_of(name).map_err(|e| arrow("graphs", e));
    schema.fields().iter().map(|field| index(field.name())).collect()
}

fn text<'a>(rows: &'a RecordBatch, name: &'static str) -> Result<&'a StringArray> {
    let values = column(rows, name).map_err(|e| damaged("graphs", &e))?;
    values.as_string_opt().ok_or_else(|| damaged("graphs", &Malformed(name)))
}

fn keys(rows: &RecordBatch) -> Result<Vec<GraphKey>> {
    let number = |name| {
        let values = column(rows, name).map_err(|e| damaged("graphs", &e))?;
        values.as_primitive_opt::<Int32Type>().ok_or_else(|| damaged("graphs", &Malformed(name)))
    };
    let (layer, neuron, method) = (number("layer")?, number("neuron")?, text(rows, "method")?);
    let key = |((layer, neuron), method): ((Option<i32>, Option<i32>), Option<&str>)| {
        let index = |n: Option<i32>, name| n.and_then(|n| u32::try_from(n).ok()).ok_or(Malformed(name));
        let method = method.ok_or(Malformed("method"))?.to_owned();
        Ok(GraphKey { layer: index(layer, "layer")?, neuron: index(neuron, "neuron")?, method })
    };
    layer.iter().zip(neuron).zip(method).map(key).collect::<Result<_, _>>().map_err(|e| damaged("graphs", &e))
}

/// All columns of the table.
fn complete(model: &str, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let count = rows.num_rows();
    let columns = GRAPHS.fields().iter().map(|field| -> Result<ArrayRef, ArrowError> {
        match (field.name().as_str(), rows.column_by_name(field.name())) {
            ("model", _) => Ok(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(model, count)))),
            (_, Some(values)) => cast(values, field.data_type()),
            (_, None) => Ok(new_null_array(field.data_type(), count)),
        }
    });
    RecordBatch::try_new(Arc::clone(&GRAPHS), columns.collect::<Result<_, _>>()?)
}

fn sorted(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let by = |name: &str| SortColumn { values: Arc::clone(&rows[name]), options: None };
    take_record_batch(rows, &lexsort_to_indices(&[by("neuron"), by("method")], None)?)
}

/// The rows that have these keys: of each layer and method a range of neurons, by which files are told apart, and the
/// neurons themselves unless they are all of the range.
fn of_keys<'a>(model: &str, keys: impl Iterator<Item = &'a GraphKey>) -> Expr {
    let mut groups: BTreeMap<(u32, &str), Vec<u32>> = BTreeMap::new();
    for key in keys {
        groups.entry((key.layer, key.method.as_str())).or_default().push(key.neuron);
    }
    let mut any: Option<Expr> = None;
    for ((layer, method), mut neurons) in groups {
        neurons.sort_unstable();
        neurons.dedup();
        // A group has at least the key that it was made for.
        let (low, high) = (neurons[0], neurons[neurons.len() - 1]);
        let mut these = ident("layer").eq(lit(layer as i32)).and(is("method", method));
        these = these.and(ident("neuron").gt_eq(lit(low as i32))).and(ident("neuron").lt_eq(lit(high as i32)));
        if neurons.len() < (high - low) as usize + 1 {
            let neurons = neurons.into_iter().map(|neuron| lit(neuron as i32)).collect();
            these = these.and(ident("neuron").in_list(neurons, false));
        }
        any = Some(match any {
            Some(any) => any.or(these),
            None => these,
        });
    }
    is("model", model).and(any.unwrap_or_else(|| lit(false)))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Float32Array, Int32Array};
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
        assert_eq!(other.graphs("m", "v2", 1).await.unwrap().num_rows(), 0);
        let keys = other.stored_graphs("m", "v1", 1).await.unwrap();
        let keys: Vec<_> = keys.into_iter().filter(|key| key.neuron != 9).collect();
        other.delete_graphs("m", &keys).await.unwrap();
        assert_eq!(all(&other, 1).await, [(9, "n2g".into(), 0.7)]);
        assert_eq!(all(&other, 0).await, [(3, "n2g".into(), 0.5)]);
    }
}
