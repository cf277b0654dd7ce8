//! `INSERT INTO model.examples`: checks examples that others have published.

use std::fmt;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int32Builder, ListBuilder, RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Int32Type, Int64Type, Schema};
use datafusion::error::Result;
use futures::future::BoxFuture;
use neuroql_model::Model;
use neuroql_schema::sql_error;

use crate::Error;
use crate::imports::Vocabulary;
use crate::state::EngineState;
use crate::tables::insert::RowWriter;

/// Source of an example if its row names none.
const SOURCE: &str = "custom";

/// Writes published examples of a model.
pub(super) struct ExampleWriter {
    pub model: Arc<Model>,
    pub engine: Arc<EngineState>,
    /// Made when the first row is checked.
    pub vocabulary: OnceLock<Vocabulary>,
}

impl fmt::Debug for ExampleWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExampleWriter").field("model", &self.model.name()).finish_non_exhaustive()
    }
}

impl RowWriter for ExampleWriter {
    fn target(&self) -> String {
        format!("examples of {}", self.model.name())
    }

    fn check(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let mut ids = ListBuilder::new(Int32Builder::new());
        for row in 0..rows.num_rows() {
            self.check_row(rows, row, &mut ids)?;
        }
        let ids: ArrayRef = Arc::new(ids.finish());
        let versions = StringArray::from_iter_values(std::iter::repeat_n(self.model.version(), rows.num_rows()));
        let changed = |name: &str, given: &ArrayRef| -> ArrayRef {
            match name {
                "source" => {
                    let sources = given.as_string::<i32>().iter();
                    Arc::new(sources.map(|source| source.or(Some(SOURCE))).collect::<StringArray>())
                }
                "bos" => {
                    Arc::new(given.as_boolean().iter().map(|bos| Some(bos == Some(true))).collect::<BooleanArray>())
                }
                "token_ids" => Arc::clone(&ids),
                _ => Arc::clone(given),
            }
        };
        let schema = rows.schema();
        let given = schema.fields().iter().zip(rows.columns());
        let (mut fields, mut columns): (Vec<Arc<Field>>, Vec<ArrayRef>) = given
            .map(|(field, given)| {
                let column = changed(field.name(), given);
                (Arc::new(Field::new(field.name(), column.data_type().clone(), true)), column)
            })
            .unzip();
        fields.push(Arc::new(Field::new("model_version", DataType::Utf8, false)));
        columns.push(Arc::new(versions));
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    fn put<'a>(&'a self, rows: &'a RecordBatch) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.engine.store.put_examples(self.model.name(), rows).await.map_err(sql_error) })
    }
}

impl ExampleWriter {
    /// Checks a row, and adds the ids of its tokens: NULL for a text that is not that of exactly one token.
    fn check_row(&self, rows: &RecordBatch, row: usize, ids: &mut ListBuilder<Int32Builder>) -> Result<()> {
        let missing = |value| Error::MissingValue { table: "examples", value };
        let number = |name: &str| {
            let column: &Int32Array = rows[name].as_primitive::<Int32Type>();
            column.is_valid(row).then(|| column.value(row))
        };
        let layer = number("layer").ok_or(missing("a layer"))?;
        let neuron = number("neuron").ok_or(missing("a neuron"))?;
        let layer = self.model.check_layer(layer.into()).map_err(sql_error)? as u32;
        let neuron = self.model.check_neuron(neuron.into()).map_err(sql_error)?;
        let unfit = |reason: String| Error::Example { layer, neuron, reason };
        let position = number("position").ok_or(missing("a position"))?;
        if position < 0 {
            return Err(unfit(format!("its position is {position}")).into());
        }
        if let Some(rank) = number("rank").filter(|rank| *rank < 1) {
            return Err(unfit(format!("its rank is {rank}, and ranks count from 1")).into());
        }
        for name in ["document", "example"] {
            let column = rows[name].as_primitive::<Int64Type>();
            if column.is_valid(row) && column.value(row) < 0 {
                return Err(unfit(format!("its {name} is {}", column.value(row))).into());
            }
        }
        if rows["activation"].is_null(row) {
            return Err(missing("an activation").into());
        }
        let list = |name: &'static str, what| match rows[name].is_null(row) {
            true => Err(missing(what)),
            false => Ok(rows[name].as_list::<i32>().value(row)),
        };
        let (tokens, activations) = (list("tokens", "tokens")?, list("activations", "activations")?);
        if tokens.null_count() > 0 || activations.null_count() > 0 {
            return Err(unfit("a token or an activation of its list is NULL".into()).into());
        }
        let (tokens, activations) = (tokens.as_string::<i32>(), activations.as_primitive::<Float32Type>());
        if tokens.is_empty() || tokens.len() != activations.len() {
            return Err(unfit(format!("it has {} tokens and {} activations", tokens.len(), activations.len())).into());
        }
        let given = (!rows["token_ids"].is_null(row)).then(|| rows["token_ids"].as_list::<i32>().value(row));
        if let Some(given) = given.as_ref().filter(|given| given.len() != tokens.len()) {
            return Err(unfit(format!("it has {} tokens and {} token ids", tokens.len(), given.len())).into());
        }
        let vocabulary = self.vocabulary.get_or_init(|| Vocabulary::new(self.model.tokenizer().texts()));
        let mut is_known = false;
        for (i, text) in tokens.iter().flatten().enumerate() {
            let given = given.as_ref().map(|given| given.as_primitive::<Int32Type>());
            let id = match given.filter(|given| given.is_valid(i)).map(|given| given.value(i)) {
                Some(id) => Some(check_id(vocabulary, id, text).map_err(unfit)?),
                None => vocabulary.id(text).map(|id| id as i32),
            };
            is_known |= id.is_some();
            ids.values().append_option(id);
        }
        ids.append(true);
        match is_known {
            true => Ok(()),
            false => {
                let reason = format!(
                    "it was made for another tokenizer: none of its tokens is one of the model's, {:?} for instance",
                    tokens.value(0)
                );
                Err(unfit(reason).into())
            }
        }
    }
}

/// Checks that an id is of the token with this text.
fn check_id(vocabulary: &Vocabulary, id: i32, text: &str) -> Result<i32, String> {
    match u32::try_from(id).ok().and_then(|id| vocabulary.text(id)) {
        Some(of_model) if *of_model == *text => Ok(id),
        Some(of_model) => {
            let other = format!("token {id} is {text:?} in it and {of_model:?} in the model");
            Err(format!("it was made for another tokenizer: {other}"))
        }
        None => Err(format!("it was made for another tokenizer: it has token {id}, which the model does not have")),
    }
}
