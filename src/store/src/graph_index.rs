//! The index of graphs for searching and comparing, kept beside them: an inverted index of their tokens, and their
//! patterns as numbers.
//!
//! Both are of a *state* of the graphs of a layer, which names the files that hold them. Rows of another state are left
//! from earlier graphs: they are not read, and replaced when the layer is indexed again.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::{ArrowPrimitiveType, Float32Type, Int32Type, Int64Type, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::logical_expr::{ident, lit};
use neuroql_graph::Signature;
use neuroql_graph::search::{Index, MemoryIndex, PostingList, Role};
use sha2::{Digest, Sha256};

use crate::analysis::{MalformedColumn, column, list};
use crate::cache::CacheLimits;
use crate::location::Root;
use crate::store::{arrow, damaged};
use crate::table::{Table, is};
use crate::{Result, Store};
use neuroql_schema::tables::{GRAPH_SIGNATURES, GRAPH_TOKENS};

/// Version of the index, changed whenever it is made in another way.
const VERSION: &str = "1";

/// Tables of the index.
#[derive(Debug)]
pub(crate) struct GraphIndexTables {
    pub tokens: Table,
    pub signatures: Table,
}

impl GraphIndexTables {
    pub fn new(root: &Root) -> Result<Self> {
        let table = |name, schema: &SchemaRef| Table::new(root, name, Arc::clone(schema), &["model", "layer"]);
        Ok(Self {
            tokens: table("graph_tokens", &GRAPH_TOKENS)?,
            signatures: table("graph_signatures", &GRAPH_SIGNATURES)?,
        })
    }

    pub async fn open(self) -> Result<Self> {
        Ok(Self { tokens: self.tokens.open().await?, signatures: self.signatures.open().await? })
    }

    /// Returns the same tables with caches of these sizes.
    pub fn with_caches(self, shares: &CacheLimits) -> Result<Self> {
        Ok(Self { tokens: self.tokens.with_caches(shares)?, signatures: self.signatures.with_caches(shares)? })
    }
}

/// The index of the graphs that stand for the neurons of a layer.
#[derive(Debug, Clone, Default)]
pub struct IndexedLayer {
    /// The graphs, ascending by neuron.
    pub graphs: Vec<IndexedGraph>,
    /// Their tokens and F1 scores; ordinals are places in `graphs`.
    pub tokens: MemoryIndex,
}

/// Entry of a graph in the index, beside its tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexedGraph {
    /// Its neuron.
    pub neuron: u32,
    /// True if the neuron has graphs by other methods too.
    pub several: bool,
    /// Its patterns.
    pub signature: Signature,
}

impl Store {
    /// Returns the state of the graphs of a layer: another one after each change of them. `None` if there are none.
    ///
    /// # Errors
    /// [`Error::Access`](crate::Error::Access).
    pub async fn graphs_state(&self, model: &str, model_version: &str, layer: u32) -> Result<Option<String>> {
        let files = self.graphs.table.files(&[("model", model), ("layer", &layer.to_string())]).await?;
        let mut bundled = self.graphs.bundled(model).peekable();
        if files.is_empty() && bundled.peek().is_none() {
            return Ok(None);
        }
        let mut hash = Sha256::new();
        for part in [VERSION, model_version].into_iter().chain(files.iter().map(String::as_str)) {
            hash.update(part);
            hash.update([0]);
        }
        // Another program may have another file compiled in, so the whole file is hashed.
        bundled.for_each(|file| hash.update(Sha256::digest(file)));
        Ok(Some(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Returns the index that was kept of the graphs of a layer in a state; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Access`](crate::Error::Access), [`Error::Damaged`](crate::Error::Damaged).
    pub async fn graph_index(&self, model: &str, layer: u32, state: &str) -> Result<Option<IndexedLayer>> {
        let GraphIndexTables { tokens, signatures } = &self.graph_index;
        let these = is("model", model).and(ident("layer").eq(lit(layer as i32))).and(is("state", state));
        let signatures =
            signatures.read(these.clone(), Some(&["neuron", "f1", "several", "patterns", "weights"])).await?;
        if signatures.iter().all(|rows| rows.num_rows() == 0) {
            return Ok(None);
        }
        let columns = ["key", "token", "role", "neurons", "activations", "importances"];
        let tokens = tokens.read(these, Some(&columns)).await?;
        IndexedLayer::from_rows(&signatures, &tokens).map(Some).map_err(|e| damaged("graph_signatures", &e))
    }

    /// Stores the index of layers of a model, each with the state that it is of.
    ///
    /// # Errors
    /// [`Error::Access`](crate::Error::Access), [`Error::Full`](crate::Error::Full);
    /// [`Error::Conflict`](crate::Error::Conflict) if other processes keep writing.
    pub async fn put_graph_index(&self, model: &str, layers: &[(u32, String, IndexedLayer)]) -> Result<()> {
        let GraphIndexTables { tokens, signatures } = &self.graph_index;
        let numbers = layers.iter().map(|(layer, ..)| lit(*layer as i32)).collect();
        let these = is("model", model).and(ident("layer").in_list(numbers, false));
        let rows = |make: fn(&IndexedLayer, &str, u32, &str) -> Result<RecordBatch, ArrowError>| {
            layers.iter().map(|(layer, state, index)| make(index, model, *layer, state)).collect::<Result<Vec<_>, _>>()
        };
        let token_rows = rows(IndexedLayer::token_rows).map_err(|e| arrow("graph_tokens", e))?;
        let signature_rows = rows(IndexedLayer::signature_rows).map_err(|e| arrow("graph_signatures", e))?;
        // Signatures show that tokens are there, so they come last.
        tokens.replace(token_rows, these.clone()).await?;
        signatures.replace(signature_rows, these).await
    }
}

impl IndexedLayer {
    fn token_rows(&self, model: &str, layer: u32, state: &str) -> Result<RecordBatch, ArrowError> {
        let lists: Vec<(&str, PostingList<'_>)> = self.tokens.lists().collect();
        let lengths = || lists.iter().map(|(_, list)| list.ordinals.len());
        let neuron = |ordinal: &u32| self.graphs[*ordinal as usize].neuron as i32;
        let neurons = Int32Array::from_iter_values(lists.iter().flat_map(|(_, list)| list.ordinals).map(neuron));
        let reals = |column: for<'a> fn(&PostingList<'a>) -> &'a [f32]| {
            let values = lists.iter().flat_map(|(_, list)| column(list)).copied();
            list(lengths(), Arc::new(Float32Array::from_iter_values(values)))
        };
        let columns = place(model, layer, state, lists.len()).into_iter().chain([
            Arc::new(lists.iter().map(|(key, _)| Some(*key)).collect::<StringArray>()) as ArrayRef,
            Arc::new(lists.iter().map(|(_, list)| Some(list.text)).collect::<StringArray>()),
            Arc::new(lists.iter().map(|(_, list)| Some(list.role.name())).collect::<StringArray>()),
            Arc::new(list(lengths(), Arc::new(neurons))),
            Arc::new(reals(|list| list.activations)),
            Arc::new(reals(|list| list.importances)),
        ]);
        RecordBatch::try_new(Arc::clone(&GRAPH_TOKENS), columns.collect())
    }

    fn signature_rows(&self, model: &str, layer: u32, state: &str) -> Result<RecordBatch, ArrowError> {
        let signatures = || self.graphs.iter().map(|graph| graph.signature.patterns());
        let lengths = || signatures().map(<[_]>::len);
        // Hashes are written as the integers of the same bits: Delta has no unsigned ones.
        let hashes = Int64Array::from_iter_values(signatures().flatten().map(|(hash, _)| *hash as i64));
        let weights = Float32Array::from_iter_values(signatures().flatten().map(|(_, weight)| *weight));
        let f1s = self.tokens.f1s().iter().map(|f1| (!f1.is_nan()).then_some(*f1));
        let columns = place(model, layer, state, self.graphs.len()).into_iter().chain([
            Arc::new(Int32Array::from_iter_values(self.graphs.iter().map(|graph| graph.neuron as i32))) as ArrayRef,
            Arc::new(f1s.collect::<Float32Array>()),
            Arc::new(BooleanArray::from_iter(self.graphs.iter().map(|graph| Some(graph.several)))),
            Arc::new(list(lengths(), Arc::new(hashes))),
            Arc::new(list(lengths(), Arc::new(weights))),
        ]);
        RecordBatch::try_new(Arc::clone(&GRAPH_SIGNATURES), columns.collect())
    }

    fn from_rows(signatures: &[RecordBatch], tokens: &[RecordBatch]) -> Result<Self, MalformedColumn> {
        let mut graphs: Vec<(IndexedGraph, f32)> = Vec::new();
        for rows in signatures {
            let neurons = numbers(rows, "neuron")?;
            let f1s = column(rows, "f1")?.as_primitive_opt::<Float32Type>().ok_or(MalformedColumn("f1"))?;
            let several = column(rows, "several")?.as_boolean_opt().ok_or(MalformedColumn("several"))?;
            let hashes = Lists::<Int64Type>::new(rows, "patterns")?;
            let weights = Lists::<Float32Type>::new(rows, "weights")?;
            for (i, neuron) in neurons.iter().enumerate() {
                let patterns = hashes.get(i).iter().zip(weights.get(i)).map(|(hash, weight)| (*hash as u64, *weight));
                let signature = Signature::new(patterns.collect()).map_err(|_| MalformedColumn("weights"))?;
                let neuron = u32::try_from(*neuron).map_err(|_| MalformedColumn("neuron"))?;
                let f1 = if f1s.is_valid(i) { f1s.value(i) } else { f32::NAN };
                graphs.push((IndexedGraph { neuron, several: several.value(i), signature }, f1));
            }
        }
        graphs.sort_by_key(|(graph, _)| graph.neuron);
        let (graphs, f1s): (Vec<_>, Vec<_>) = graphs.into_iter().unzip();
        let ordinal = |neuron: &i32| {
            let found =
                graphs.binary_search_by_key(&i64::from(*neuron), |graph: &IndexedGraph| i64::from(graph.neuron));
            found.map(|ordinal| ordinal as u32).map_err(|_| MalformedColumn("neurons"))
        };
        let mut lists = Vec::new();
        let mut ordinals = Vec::new();
        for rows in tokens {
            let neurons = Lists::<Int32Type>::new(rows, "neurons")?;
            for i in 0..rows.num_rows() {
                ordinals.push(neurons.get(i).iter().map(ordinal).collect::<Result<Vec<u32>, _>>()?);
            }
        }
        let mut ordinals = ordinals.iter();
        for rows in tokens {
            let (keys, texts, roles) = (text(rows, "key")?, text(rows, "token")?, text(rows, "role")?);
            let activations = Lists::<Float32Type>::new(rows, "activations")?;
            let importances = Lists::<Float32Type>::new(rows, "importances")?;
            for (i, ordinals) in (0..rows.num_rows()).zip(&mut ordinals) {
                let role =
                    Role::ALL.into_iter().find(|role| role.name() == roles.value(i)).ok_or(MalformedColumn("role"))?;
                let list = PostingList {
                    text: texts.value(i),
                    role,
                    ordinals,
                    activations: activations.get(i),
                    importances: importances.get(i),
                };
                lists.push((keys.value(i), list));
            }
        }
        let tokens = MemoryIndex::from_lists(f1s, lists).map_err(|_| MalformedColumn("neurons"))?;
        Ok(Self { graphs, tokens })
    }
}

/// Returns the columns model, layer and state.
fn place(model: &str, layer: u32, state: &str, rows: usize) -> [ArrayRef; 3] {
    let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows))) };
    [text(model), Arc::new(Int32Array::from_value(layer as i32, rows)), text(state)]
}

fn text<'a>(rows: &'a RecordBatch, name: &'static str) -> Result<&'a StringArray, MalformedColumn> {
    column(rows, name)?.as_string_opt().ok_or(MalformedColumn(name))
}

fn numbers<'a>(rows: &'a RecordBatch, name: &'static str) -> Result<&'a [i32], MalformedColumn> {
    Ok(column(rows, name)?.as_primitive_opt::<Int32Type>().ok_or(MalformedColumn(name))?.values())
}

/// A column of lists of numbers.
struct Lists<'a, T: ArrowPrimitiveType> {
    lists: &'a ListArray,
    values: &'a [T::Native],
}

impl<'a, T: ArrowPrimitiveType> Lists<'a, T> {
    fn new(rows: &'a RecordBatch, name: &'static str) -> Result<Self, MalformedColumn> {
        let lists = column(rows, name)?.as_list_opt::<i32>().ok_or(MalformedColumn(name))?;
        let values = lists.values().as_primitive_opt::<T>().ok_or(MalformedColumn(name))?.values();
        Ok(Self { lists, values })
    }

    fn get(&self, row: usize) -> &'a [T::Native] {
        let offsets = self.lists.value_offsets();
        &self.values[offsets[row] as usize..offsets[row + 1] as usize]
    }
}

#[cfg(test)]
mod tests {
    use neuroql_graph::Graph;
    use neuroql_graph::formats::paths;

    use super::*;

    fn layer(tokens: &[(u32, &str)]) -> IndexedLayer {
        let graphs: Vec<Graph> = tokens
            .iter()
            .map(|(_, token)| {
                let end = r#"{"token": "**END**", "importance": 0.0, "activation": 0.9}"#;
                let context = r#"{"token": " a b", "importance": 0.7, "activation": 0.1}"#;
                let token = format!(r#"{{"token": "{token}", "importance": 1.0, "activation": 0.9}}"#);
                paths::parse(&format!("[[{token}, {context}, {end}]]")).unwrap()
            })
            .collect();
        let several = |neuron: u32| neuron == 9;
        let indexed = |((neuron, _), graph): (&(u32, &str), &Graph)| IndexedGraph {
            neuron: *neuron,
            several: several(*neuron),
            signature: Signature::of(graph),
        };
        IndexedLayer {
            graphs: tokens.iter().zip(&graphs).map(indexed).collect(),
            tokens: MemoryIndex::new(graphs.iter().zip([0.5, f32::NAN, 0.25])),
        }
    }

    fn lists(index: &MemoryIndex) -> Vec<String> {
        index.lists().map(|(key, list)| format!("{key} {list:?}")).collect()
    }

    #[tokio::test]
    async fn kept_by_state() {
        let folder = tempfile::tempdir().unwrap();
        let location = folder.path().to_str().unwrap();
        let store = Store::open(location).await.unwrap();
        let (one, two) = (layer(&[(3, " A"), (9, "a"), (11, "ß'")]), layer(&[(0, "x")]));
        assert!(store.graph_index("m", 0, "s").await.unwrap().is_none());
        store.put_graph_index("m", &[(0, "s".into(), one.clone()), (4, "t".into(), two.clone())]).await.unwrap();
        let store = Store::open(location).await.unwrap();
        let read = store.graph_index("m", 0, "s").await.unwrap().unwrap();
        assert_eq!(read.graphs, one.graphs);
        assert_eq!(lists(&read.tokens), lists(&one.tokens));
        assert_eq!(read.tokens.f1s()[0], 0.5);
        assert!(read.tokens.f1s()[1].is_nan());
        for (model, layer, state) in [("m", 0, "t"), ("m", 4, "s"), ("other", 0, "s")] {
            assert!(store.graph_index(model, layer, state).await.unwrap().is_none());
        }
        // A new state takes the place of the old one, of this layer only.
        store.put_graph_index("m", &[(0, "u".into(), two.clone())]).await.unwrap();
        assert!(store.graph_index("m", 0, "s").await.unwrap().is_none());
        assert_eq!(store.graph_index("m", 0, "u").await.unwrap().unwrap().graphs, two.graphs);
        assert_eq!(store.graph_index("m", 4, "t").await.unwrap().unwrap().graphs, two.graphs);
    }
}
