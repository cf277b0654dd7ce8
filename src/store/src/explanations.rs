//! Explanations of neurons: what people or language models have said of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt32Array};
use datafusion::arrow::compute::{SortColumn, cast, lexsort_to_indices, take_record_batch};
use datafusion::arrow::datatypes::Int32Type;
use datafusion::arrow::error::ArrowError;
use datafusion::logical_expr::{Expr, ident, lit};
use neuroql_schema::tables::EXPLANATIONS;
use twox_hash::XxHash3_64;

use crate::analysis::{MalformedColumn, column};
use crate::store::{arrow, damaged, whole};
use crate::table::is;
use crate::version::hold_for;
use crate::{Result, Store};

/// Seed of digests; stores have them.
const SEED: u64 = 0;

/// Name of the table.
const TABLE: &str = "explanations";

/// The key of a row among those of a model: a source says each thing of a neuron once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExplanationKey {
    /// The layer.
    pub layer: u32,
    /// The neuron.
    pub neuron: u32,
    /// Who says it.
    pub source: String,
    /// Text of the explanation.
    pub explanation: String,
}

impl ExplanationKey {
    /// XXH3 of neuron, source and text, by which a store finds rows: texts are long.
    fn digest(&self) -> i64 {
        let mut bytes = Vec::with_capacity(12 + self.source.len() + self.explanation.len());
        bytes.extend_from_slice(&self.neuron.to_le_bytes());
        bytes.extend_from_slice(&(self.source.len() as u64).to_le_bytes());
        bytes.extend_from_slice(self.source.as_bytes());
        bytes.extend_from_slice(self.explanation.as_bytes());
        XxHash3_64::oneshot_with_seed(SEED, &bytes) as i64
    }

    /// Reads the keys of rows that have the columns layer, neuron, source and explanation.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) if the rows lack them, or have a NULL there.
    pub fn of_rows(rows: &RecordBatch) -> Result<Vec<Self>> {
        let numbers = |name| {
            let values = column(rows, name)?.as_primitive_opt::<Int32Type>().ok_or(MalformedColumn(name))?;
            let number = |value: Option<i32>| value.and_then(|n| u32::try_from(n).ok()).ok_or(MalformedColumn(name));
            values.iter().map(number).collect::<Result<Vec<u32>, _>>()
        };
        let texts = |name| {
            let values: &StringArray = column(rows, name)?.as_string_opt().ok_or(MalformedColumn(name))?;
            let text = |value: Option<&str>| value.map(str::to_owned).ok_or(MalformedColumn(name));
            values.iter().map(text).collect::<Result<Vec<String>, _>>()
        };
        let read = || {
            let places = numbers("layer")?.into_iter().zip(numbers("neuron")?);
            let texts = texts("source")?.into_iter().zip(texts("explanation")?);
            let key = |((layer, neuron), (source, explanation))| Self { layer, neuron, source, explanation };
            Ok(places.zip(texts).map(key).collect())
        };
        read().map_err(|e| damaged(TABLE, &e))
    }
}

impl Store {
    /// Returns the rows of the table `explanations` of a layer that hold for this version of the model, ascending by
    /// neuron, source and explanation: those of some neurons, which ascend, or of all if `None`.
    ///
    /// # Errors
    /// [`Error::Access`](crate::Error::Access), [`Error::Damaged`](crate::Error::Damaged).
    pub async fn explanations(
        &self,
        model: &str,
        model_version: &str,
        layer: u32,
        neurons: Option<&[u32]>,
    ) -> Result<RecordBatch> {
        let these = is("model", model).and(ident("layer").eq(lit(layer as i32))).and(hold_for(model_version));
        let these = match neurons {
            None => these,
            Some(neurons) => {
                let (Some(low), Some(high)) = (neurons.first(), neurons.last()) else {
                    return Ok(RecordBatch::new_empty(Arc::clone(&EXPLANATIONS)));
                };
                // Files and pages are skipped by the range.
                let these = these.and(ident("neuron").between(lit(*low as i32), lit(*high as i32)));
                match neurons.len() == (high - low) as usize + 1 {
                    true => these,
                    false => these.and(among("neuron", neurons.iter().map(|neuron| lit(*neuron as i32)))),
                }
            }
        };
        let rows = self.explanations.read(these, None).await?;
        sorted(&whole(TABLE, &rows, &EXPLANATIONS)?).map_err(|e| arrow(TABLE, e))
    }

    /// Puts explanations of a model into the store, in one commit, each in the place of the same text of the same
    /// source about the same neuron. Rows have the columns of [`EXPLANATIONS`] but `model` and `digest`; of several with the same
    /// key the last counts.
    ///
    /// # Errors
    /// [`Error::Access`](crate::Error::Access), [`Error::Full`](crate::Error::Full);
    /// [`Error::Conflict`](crate::Error::Conflict) if other processes keep writing.
    pub async fn put_explanations(&self, model: &str, rows: &RecordBatch) -> Result<()> {
        let keys = ExplanationKey::of_rows(rows)?;
        let last: HashMap<&ExplanationKey, u32> = keys.iter().enumerate().map(|(i, key)| (key, i as u32)).collect();
        if last.is_empty() {
            return Ok(());
        }
        let mut chosen: Vec<u32> = last.values().copied().collect();
        chosen.sort_unstable();
        let digests: Int64Array = chosen.iter().map(|row| keys[*row as usize].digest()).collect();
        let complete = || {
            let rows = take_record_batch(rows, &UInt32Array::from(chosen))?;
            let model = StringArray::from_iter_values(std::iter::repeat_n(model, rows.num_rows()));
            let columns = EXPLANATIONS.fields().iter().map(|field| match field.name().as_str() {
                "model" => Ok(Arc::new(model.clone()) as ArrayRef),
                "digest" => Ok(Arc::new(digests.clone()) as ArrayRef),
                name => cast(column(&rows, name).map_err(|MalformedColumn(name)| missing(name))?, field.data_type()),
            });
            let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
            sorted(&RecordBatch::try_new(Arc::clone(&EXPLANATIONS), columns)?)
        };
        let rows = complete().map_err(|e| arrow(TABLE, e))?;
        self.explanations.replace(vec![rows], of_keys(model, last.into_keys())).await
    }

    /// Removes explanations of a model from the store, whichever version of the model they are of.
    ///
    /// # Errors
    /// [`Error::Access`](crate::Error::Access), [`Error::Full`](crate::Error::Full),
    /// [`Error::Conflict`](crate::Error::Conflict).
    pub async fn delete_explanations(&self, model: &str, keys: &[ExplanationKey]) -> Result<()> {
        match keys.is_empty() {
            true => Ok(()),
            false => self.explanations.delete(of_keys(model, keys.iter())).await,
        }
    }
}

fn missing(column: &str) -> ArrowError {
    ArrowError::SchemaError(format!("column \"{column}\" is missing"))
}

fn sorted(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let by = |name: &str| SortColumn { values: Arc::clone(&rows[name]), options: None };
    take_record_batch(rows, &lexsort_to_indices(&["layer", "neuron", "source", "explanation"].map(by), None)?)
}

fn among(column: &str, values: impl Iterator<Item = Expr>) -> Expr {
    ident(column).in_list(values.collect(), false)
}

/// Filter for the rows that have these keys.
fn of_keys<'a>(model: &str, keys: impl Iterator<Item = &'a ExplanationKey>) -> Expr {
    let mut layers: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
    for key in keys {
        layers.entry(key.layer).or_default().push(key.digest());
    }
    let of_layers = layers.into_iter().map(|(layer, digests)| {
        ident("layer").eq(lit(layer as i32)).and(among("digest", digests.into_iter().map(lit)))
    });
    is("model", model).and(of_layers.reduce(Expr::or).unwrap_or_else(|| lit(false)))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, Float32Array, Int32Array};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    /// Rows (layer, neuron, source, explanation, score) of a version of the model.
    fn rows(rows: &[(i32, i32, &str, &str, f32)], version: &str) -> RecordBatch {
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        let schema = Schema::new(vec![
            field("layer", DataType::Int32),
            field("neuron", DataType::Int32),
            field("source", DataType::Utf8),
            field("explanation", DataType::Utf8),
            field("score", DataType::Float32),
            field("model_version", DataType::Utf8),
        ]);
        let columns: Vec<Arc<dyn Array>> = vec![
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.0))),
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.1))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.2))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.3))),
            Arc::new(Float32Array::from_iter_values(rows.iter().map(|row| row.4))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|_| version))),
        ];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    async fn read(store: &Store, layer: u32, neurons: Option<&[u32]>) -> Vec<(u32, String, String, f32)> {
        let rows = store.explanations("m", "v1", layer, neurons).await.unwrap();
        let scores = rows["score"].as_primitive::<datafusion::arrow::datatypes::Float32Type>().clone();
        let keys = ExplanationKey::of_rows(&rows).unwrap().into_iter();
        keys.zip(scores.values()).map(|(key, score)| (key.neuron, key.source, key.explanation, *score)).collect()
    }

    #[tokio::test]
    async fn a_source_says_each_thing_once() {
        let store = Store::in_memory().unwrap();
        let first = rows(&[(0, 7, "gpt-4", "digits", 0.5), (0, 7, "me", "digits", 0.1), (1, 7, "me", "a", 0.2)], "v1");
        store.put_explanations("m", &first).await.unwrap();
        // The same again, with another score; the last of two rows with one key counts.
        let again = [(0, 7, "me", "digits", 0.3), (0, 2, "me", "x", 0.4), (0, 7, "me", "digits", 0.9)];
        store.put_explanations("m", &rows(&again, "v1")).await.unwrap();
        store.put_explanations("other", &rows(&[(0, 7, "me", "digits", 0.0)], "v1")).await.unwrap();
        store.put_explanations("m", &rows(&[(0, 9, "me", "of another version", 0.0)], "v2")).await.unwrap();
        let text = |neuron, source: &str, text: &str, score| (neuron, source.to_owned(), text.to_owned(), score);
        let (x, gpt, me) = (text(2, "me", "x", 0.4), text(7, "gpt-4", "digits", 0.5), text(7, "me", "digits", 0.9));
        assert_eq!(read(&store, 0, None).await, [x.clone(), gpt.clone(), me.clone()]);
        assert_eq!(read(&store, 0, Some(&[2])).await, std::slice::from_ref(&x));
        assert_eq!(read(&store, 0, Some(&[1, 2, 9])).await, std::slice::from_ref(&x));
        assert_eq!(read(&store, 0, Some(&[])).await, []);
        assert_eq!(read(&store, 1, None).await, [text(7, "me", "a", 0.2)]);

        let deleted = ExplanationKey::of_rows(&rows(&[(0, 7, "me", "digits", 0.0)], "v1")).unwrap();
        store.delete_explanations("m", &deleted).await.unwrap();
        store.delete_explanations("m", &[]).await.unwrap();
        assert_eq!(read(&store, 0, None).await, [x, gpt]);
    }

    #[test]
    fn keys_have_digests_of_their_own() {
        let key = |neuron, source: &str, explanation: &str| {
            ExplanationKey { layer: 0, neuron, source: source.into(), explanation: explanation.into() }.digest()
        };
        assert_ne!(key(1, "a", "bc"), key(1, "ab", "c"));
        assert_ne!(key(1, "a", "b"), key(2, "a", "b"));
        assert_eq!(key(1, "a", "b"), key(1, "a", "b"));
    }
}
