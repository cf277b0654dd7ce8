//! Published examples: texts with the activations of a neuron, as a source gives them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt32Array};
use datafusion::arrow::compute::{SortColumn, SortOptions, cast, lexsort_to_indices, take_record_batch};
use datafusion::arrow::datatypes::{ArrowPrimitiveType, Float32Type, Int32Type, Int64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::logical_expr::{Expr, ident, lit};
use neuroql_schema::tables::EXAMPLES;
use twox_hash::XxHash3_64;

use crate::analysis::{MalformedColumn, column};
use crate::location::Root;
use crate::store::{arrow, damaged, whole};
use crate::table::{Table, is};
use crate::version::hold_for;
use crate::{Result, Store};

/// Seed of digests; stores have them.
const SEED: u64 = 0;

/// Name of the table.
const TABLE: &str = "examples";

/// Rows of a page: texts are long, and a neuron has some dozens.
const PAGE_ROWS: usize = 256;

/// Sets up the table.
pub(crate) fn table(root: &Root) -> Result<Table> {
    Ok(Table::new(root, TABLE, Arc::clone(&EXAMPLES), &["model", "layer"])?.with_pages_of(PAGE_ROWS))
}

/// The key of a row among those of a model. Of a source and dataset, a neuron has one example of each rank, and among
/// those without a rank one for each quantile, place in the dataset, position and text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExampleKey {
    /// The layer.
    pub layer: u32,
    /// The neuron.
    pub neuron: u32,
    digest: i64,
}

impl ExampleKey {
    /// Reads the keys of rows of the store.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) if they lack a column, or have a NULL there.
    pub fn of_rows(rows: &RecordBatch) -> Result<Vec<Self>> {
        let read = || -> Result<Vec<Self>, MalformedColumn> {
            let digests = primitive::<Int64Type>(rows, "digest")?;
            let keys = places(rows)?.into_iter().zip(digests);
            keys.map(|((layer, neuron), digest)| {
                Ok(Self { layer, neuron, digest: digest.ok_or(MalformedColumn("digest"))? })
            })
            .collect()
        };
        read().map_err(|e| damaged(TABLE, &e))
    }
}

/// Values of a column of numbers.
fn primitive<T: ArrowPrimitiveType>(
    rows: &RecordBatch,
    name: &'static str,
) -> Result<Vec<Option<T::Native>>, MalformedColumn> {
    Ok(column(rows, name)?.as_primitive_opt::<T>().ok_or(MalformedColumn(name))?.iter().collect())
}

fn places(rows: &RecordBatch) -> Result<Vec<(u32, u32)>, MalformedColumn> {
    let numbers = |name| {
        let number = |value: Option<i32>| value.and_then(|n| u32::try_from(n).ok()).ok_or(MalformedColumn(name));
        primitive::<Int32Type>(rows, name)?.into_iter().map(number).collect::<Result<Vec<u32>, _>>()
    };
    Ok(numbers("layer")?.into_iter().zip(numbers("neuron")?).collect())
}

/// Bytes that differ if two rows of a layer have different keys.
#[derive(Default)]
struct KeyBytes(Vec<u8>);

impl KeyBytes {
    fn text(&mut self, text: Option<&str>) {
        self.number(text.map(|text| text.len() as i64));
        self.0.extend_from_slice(text.unwrap_or_default().as_bytes());
    }

    fn number(&mut self, number: Option<i64>) {
        self.0.push(number.is_some().into());
        self.0.extend_from_slice(&number.unwrap_or_default().to_le_bytes());
    }
}

/// Keys of rows that are put into the store, which have no digest yet.
fn new_keys(rows: &RecordBatch) -> Result<Vec<ExampleKey>, MalformedColumn> {
    let texts = |name| -> Result<&StringArray, _> { column(rows, name)?.as_string_opt().ok_or(MalformedColumn(name)) };
    let (sources, datasets) = (texts("source")?, texts("dataset")?);
    let tokens = column(rows, "tokens")?.as_list_opt::<i32>().ok_or(MalformedColumn("tokens"))?;
    let token_texts: &StringArray = tokens.values().as_string_opt().ok_or(MalformedColumn("tokens"))?;
    let (ranks, positions) = (primitive::<Int32Type>(rows, "rank")?, primitive::<Int32Type>(rows, "position")?);
    let quantiles = primitive::<Float32Type>(rows, "quantile")?;
    let (documents, examples) = (primitive::<Int64Type>(rows, "document")?, primitive::<Int64Type>(rows, "example")?);
    let places = places(rows)?.into_iter().enumerate();
    let key = |(row, (layer, neuron)): (usize, (u32, u32))| {
        let text = |column: &StringArray| column.is_valid(row).then(|| column.value(row).to_owned());
        let mut bytes = KeyBytes::default();
        bytes.number(Some(neuron.into()));
        bytes.text(text(sources).as_deref());
        bytes.text(text(datasets).as_deref());
        bytes.number(ranks[row].map(i64::from));
        if ranks[row].is_none() {
            bytes.number(quantiles[row].map(|quantile| i64::from(quantile.to_bits())));
            bytes.number(documents[row]);
            bytes.number(examples[row]);
            bytes.number(positions[row].map(i64::from));
            let offsets = tokens.value_offsets();
            for token in offsets[row] as usize..offsets[row + 1] as usize {
                bytes.text(token_texts.is_valid(token).then(|| token_texts.value(token)));
            }
        }
        ExampleKey { layer, neuron, digest: XxHash3_64::oneshot_with_seed(SEED, &bytes.0) as i64 }
    };
    Ok(places.map(key).collect())
}

impl Store {
    /// Returns true if the store has examples of a layer, of whichever version of the model.
    ///
    /// # Errors
    /// [`Error::Access`](crate::Error::Access), [`Error::Damaged`](crate::Error::Damaged).
    pub async fn has_examples(&self, model: &str, layer: u32) -> Result<bool> {
        Ok(!self.examples.files(&[("model", model), ("layer", &layer.to_string())]).await?.is_empty())
    }

    /// Returns the rows of the table `examples` of a layer that hold for this version of the model: those of some
    /// neurons, which ascend. They ascend by neuron, source, dataset and rank; those without a rank come after the
    /// others, by quantile.
    ///
    /// # Errors
    /// [`Error::Access`](crate::Error::Access), [`Error::Damaged`](crate::Error::Damaged).
    pub async fn examples(&self, model: &str, model_version: &str, layer: u32, neurons: &[u32]) -> Result<RecordBatch> {
        let (Some(low), Some(high)) = (neurons.first(), neurons.last()) else {
            return Ok(RecordBatch::new_empty(Arc::clone(&EXAMPLES)));
        };
        let these = is("model", model).and(ident("layer").eq(lit(layer as i32))).and(hold_for(model_version));
        // Files and pages are skipped by the range.
        let these = these.and(between(*low, *high));
        let these = match neurons.len() == (high - low) as usize + 1 {
            true => these,
            false => these.and(among("neuron", neurons.iter().map(|neuron| lit(*neuron as i32)))),
        };
        let rows = self.examples.read(these, None).await?;
        sorted(&whole(TABLE, &rows, &EXAMPLES)?).map_err(|e| arrow(TABLE, e))
    }

    /// Puts examples of a model into the store, in one commit, each in the place of the one with its
    /// [key](ExampleKey). Rows have the columns of [`EXAMPLES`] but `model` and `digest`; of several with the same key the
    /// last counts.
    ///
    /// # Errors
    /// [`Error::Access`](crate::Error::Access), [`Error::Full`](crate::Error::Full);
    /// [`Error::Conflict`](crate::Error::Conflict) if other processes keep writing.
    pub async fn put_examples(&self, model: &str, rows: &RecordBatch) -> Result<()> {
        let keys = new_keys(rows).map_err(|e| damaged(TABLE, &e))?;
        let last: HashMap<ExampleKey, u32> = keys.iter().enumerate().map(|(i, key)| (*key, i as u32)).collect();
        if last.is_empty() {
            return Ok(());
        }
        let mut chosen: Vec<u32> = last.values().copied().collect();
        chosen.sort_unstable();
        let digests: Int64Array = chosen.iter().map(|row| keys[*row as usize].digest).collect();
        let complete = || {
            let rows = take_record_batch(rows, &UInt32Array::from(chosen))?;
            let model = StringArray::from_iter_values(std::iter::repeat_n(model, rows.num_rows()));
            let missing = |MalformedColumn(name)| ArrowError::SchemaError(format!("column \"{name}\" is missing"));
            let columns = EXAMPLES.fields().iter().map(|field| match field.name().as_str() {
                "model" => Ok(Arc::new(model.clone()) as ArrayRef),
                "digest" => Ok(Arc::new(digests.clone()) as ArrayRef),
                name => cast(column(&rows, name).map_err(missing)?, field.data_type()),
            });
            let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
            sorted(&RecordBatch::try_new(Arc::clone(&EXAMPLES), columns)?)
        };
        let rows = complete().map_err(|e| arrow(TABLE, e))?;
        self.examples.replace(vec![rows], of_keys(model, last.keys())).await
    }

    /// Removes examples of a model from the store, whichever version of the model they are of.
    ///
    /// # Errors
    /// [`Error::Access`](crate::Error::Access), [`Error::Full`](crate::Error::Full),
    /// [`Error::Conflict`](crate::Error::Conflict).
    pub async fn delete_examples(&self, model: &str, keys: &[ExampleKey]) -> Result<()> {
        match keys.is_empty() {
            true => Ok(()),
            false => self.examples.delete(of_keys(model, keys.iter())).await,
        }
    }
}

fn sorted(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    const ORDER: [&str; 8] = ["layer", "neuron", "source", "dataset", "rank", "quantile", "document", "digest"];
    let options = Some(SortOptions { descending: false, nulls_first: false });
    let by = |name: &str| SortColumn { values: Arc::clone(&rows[name]), options };
    take_record_batch(rows, &lexsort_to_indices(&ORDER.map(by), None)?)
}

fn between(low: u32, high: u32) -> Expr {
    ident("neuron").between(lit(low as i32), lit(high as i32))
}

fn among(column: &str, values: impl Iterator<Item = Expr>) -> Expr {
    ident(column).in_list(values.collect(), false)
}

/// Filter for the rows that have these keys.
fn of_keys<'a>(model: &str, keys: impl Iterator<Item = &'a ExampleKey>) -> Expr {
    let mut layers: BTreeMap<u32, (u32, u32, Vec<i64>)> = BTreeMap::new();
    for key in keys {
        let (low, high, digests) = layers.entry(key.layer).or_insert((key.neuron, key.neuron, Vec::new()));
        (*low, *high) = ((*low).min(key.neuron), (*high).max(key.neuron));
        digests.push(key.digest);
    }
    let of_layers = layers.into_iter().map(|(layer, (low, high, digests))| {
        let these = ident("layer").eq(lit(layer as i32)).and(between(low, high));
        these.and(among("digest", digests.into_iter().map(lit)))
    });
    is("model", model).and(of_layers.reduce(Expr::or).unwrap_or_else(|| lit(false)))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        BooleanArray, Float32Array, Int32Array, ListBuilder, StringBuilder, new_null_array,
    };
    use datafusion::arrow::datatypes::Schema;

    use super::*;

    type Row<'a> = (i32, &'a str, Option<i32>, Option<f32>, &'a [&'a str], f32);

    /// Rows (neuron, source, rank, quantile, tokens, activation) of layer 0 and of a version of the model.
    fn rows(rows: &[Row], version: &str) -> RecordBatch {
        let own = EXAMPLES.fields().iter().filter(|field| !["model", "digest"].contains(&field.name().as_str()));
        let schema = Arc::new(Schema::new(own.cloned().collect::<Vec<_>>()));
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                "layer" | "position" => Arc::new(Int32Array::from(vec![0; rows.len()])),
                "neuron" => Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.0))),
                "source" => Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1))),
                "rank" => Arc::new(rows.iter().map(|row| row.2).collect::<Int32Array>()),
                "quantile" => Arc::new(rows.iter().map(|row| row.3).collect::<Float32Array>()),
                "tokens" => {
                    let mut lists = ListBuilder::new(StringBuilder::new());
                    rows.iter().for_each(|row| lists.append_value(row.4.iter().map(Some)));
                    cast(&lists.finish(), field.data_type()).unwrap()
                }
                "activation" => Arc::new(Float32Array::from_iter_values(rows.iter().map(|row| row.5))),
                "bos" => Arc::new(BooleanArray::from(vec![false; rows.len()])),
                "model_version" => Arc::new(StringArray::from_iter_values(rows.iter().map(|_| version))),
                _ => new_null_array(field.data_type(), rows.len()),
            }
        });
        RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
    }

    async fn read(store: &Store, neurons: &[u32]) -> Vec<(u32, String, Option<i32>, f32)> {
        let rows = store.examples("m", "v1", 0, neurons).await.unwrap();
        let (sources, ranks) = (rows["source"].as_string::<i32>(), rows["rank"].as_primitive::<Int32Type>());
        let activations = rows["activation"].as_primitive::<Float32Type>().values();
        let keys = ExampleKey::of_rows(&rows).unwrap().into_iter().enumerate();
        keys.map(|(i, key)| (key.neuron, sources.value(i).into(), ranks.iter().nth(i).unwrap(), activations[i]))
            .collect()
    }

    #[tokio::test]
    async fn a_rank_and_a_text_are_there_once() {
        let store = Store::in_memory().unwrap();
        assert!(!store.has_examples("m", 0).await.unwrap());
        assert_eq!(read(&store, &[0, 1, 2]).await, []);
        let first: [Row; 5] = [
            (1, "a", Some(1), None, &["x", "y"], 0.1),
            (1, "a", Some(2), None, &["x"], 0.2),
            (1, "b", Some(1), None, &["x", "y"], 0.3),
            (1, "a", None, Some(0.5), &["x", "y"], 0.4),
            (1, "a", None, Some(0.5), &["xy"], 0.5),
        ];
        store.put_examples("m", &rows(&first, "v1")).await.unwrap();
        // Another text of a rank takes its place, the same text without one that of itself; the last of two counts.
        let again: [Row; 4] = [
            (1, "a", Some(1), None, &["z"], 0.9),
            (1, "a", Some(1), None, &["w"], 1.1),
            (1, "a", None, Some(0.5), &["x", "y"], 1.4),
            (7, "a", None, None, &["x", "y"], 1.5),
        ];
        store.put_examples("m", &rows(&again, "v1")).await.unwrap();
        store.put_examples("other", &rows(&first, "v1")).await.unwrap();
        store.put_examples("m", &rows(&[(1, "c", Some(1), None, &["x"], 0.0)], "v2")).await.unwrap();
        store.put_examples("m", &rows(&[], "v1")).await.unwrap();
        let row = |neuron, source: &str, rank, activation| (neuron, source.to_owned(), rank, activation);
        let of_one = read(&store, &[0, 1, 2]).await;
        assert_eq!(of_one.len(), 5, "{of_one:?}");
        for expected in [
            row(1, "a", Some(1), 1.1),
            row(1, "a", Some(2), 0.2),
            row(1, "a", None, 1.4),
            row(1, "a", None, 0.5),
            row(1, "b", Some(1), 0.3),
        ] {
            assert!(of_one.contains(&expected), "{of_one:?} lacks {expected:?}");
        }
        assert_eq!(read(&store, &[2, 7]).await, [row(7, "a", None, 1.5)]);
        assert!(store.has_examples("m", 0).await.unwrap() && !store.has_examples("m", 1).await.unwrap());

        let stored = store.examples("m", "v1", 0, &[1]).await.unwrap();
        let keys = ExampleKey::of_rows(&stored).unwrap();
        store.delete_examples("m", &keys[..4]).await.unwrap();
        store.delete_examples("m", &[]).await.unwrap();
        assert_eq!(read(&store, &[1]).await, [row(1, "b", Some(1), 0.3)]);
    }
}
