//! What makes a table a dataset: a column of text whose rows are documents.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::TableReference;
use datafusion::error::Result;

use crate::Error;

/// The dataset of models that have no other.
pub(crate) const DEFAULT: &str = "corpus";

/// A table and where its documents are in it.
#[derive(Debug, Clone)]
pub(crate) struct Dataset {
    pub table: Arc<dyn TableProvider>,
    /// Index of the column of texts.
    pub text: usize,
    /// Index of an integer column `document` that numbers the documents; without one they are numbered as they come.
    pub document: Option<usize>,
}

impl Dataset {
    /// The table of this name, `schema.table` or `catalog.schema.table`.
    ///
    /// # Errors
    /// [`Error::UnknownDataset`], [`Error::NotADataset`].
    pub async fn find(session: &dyn Session, name: &str) -> Result<Self> {
        let found = Self::find_optional(session, name).await?;
        Ok(found.ok_or_else(|| Error::UnknownDataset(name.into()))?)
    }

    /// [`Dataset::find`], where no table of this name is no error.
    pub async fn find_optional(session: &dyn Session, name: &str) -> Result<Option<Self>> {
        let defaults = &session.config_options().catalog;
        let table = TableReference::parse_str(name).resolve(&defaults.default_catalog, &defaults.default_schema);
        let schema = session.catalog_list().catalog(&table.catalog).and_then(|catalog| catalog.schema(&table.schema));
        let provider = match schema {
            Some(schema) => schema.table(&table.table).await?,
            None => None,
        };
        match provider {
            None => Ok(None),
            Some(provider) => Ok(Some(Self::of(provider).ok_or_else(|| Error::NotADataset(name.into()))?)),
        }
    }

    /// What results about the dataset of this name are kept under: the shortest name of the table, however it was spelled.
    pub fn kept_as(session: &dyn Session, name: &str) -> String {
        let defaults = &session.config_options().catalog;
        let resolved =
            |name: &str| TableReference::parse_str(name).resolve(&defaults.default_catalog, &defaults.default_schema);
        let table = resolved(name);
        let names = [table.table.to_string(), format!("{}.{}", table.schema, table.table)];
        names.into_iter().find(|shorter| resolved(shorter) == table).unwrap_or_else(|| name.to_owned())
    }

    /// The table as a dataset, if it can be one.
    pub fn of(table: Arc<dyn TableProvider>) -> Option<Self> {
        let schema = table.schema();
        let text = text_column(&schema)?;
        let is_number = |i: &usize| values(schema.field(*i).data_type()).is_integer();
        let document = schema.index_of("document").ok().filter(is_number);
        Some(Self { table, text, document })
    }
}

/// The column `text`, or the only column of text; of columns with a dictionary, as Hive partitions have, only if there is
/// no other.
fn text_column(schema: &Schema) -> Option<usize> {
    let kind = |i: &usize| schema.field(*i).data_type();
    let is_text = |i: &usize| is_string(values(kind(i)));
    if let Some(text) = schema.index_of("text").ok().filter(is_text) {
        return Some(text);
    }
    let texts: Vec<usize> = (0..schema.fields().len()).filter(is_text).collect();
    let plain: Vec<usize> = texts.iter().copied().filter(|i| is_string(kind(i))).collect();
    match (plain.as_slice(), texts.as_slice()) {
        ([text], _) | ([], [text]) => Some(*text),
        _ => None,
    }
}

fn is_string(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// The type of the values of a column, with or without a dictionary.
fn values(kind: &DataType) -> &DataType {
    match kind {
        DataType::Dictionary(_, values) => values,
        DataType::RunEndEncoded(_, values) => values.data_type(),
        kind => kind,
    }
}
