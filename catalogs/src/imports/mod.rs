//! Data about neurons that others have published, as schemas with the tables of a model.
//!
//! `CREATE EXTERNAL TABLE name STORED AS DEEPDECIPHER LOCATION '…'` opens the files by `neuroql-formats`; the tables of
//! the schema read them anew at each scan. The statement is remembered as that of any other table.

mod columns;
mod export;
mod factory;
mod index;
mod schemas;
mod table;
mod vocabulary;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use neuroql_formats::{Source, Table};

pub use export::N2gExport;
pub use factory::{ImportFactory, ImportFormat};
pub(crate) use index::ImportIndex;
pub(crate) use table::{ImportTable, Kind};
pub(crate) use vocabulary::Vocabulary;

/// Published data under a name of its own.
#[derive(Debug)]
pub(crate) struct Import {
    /// Name of the schema, and of the table of its neurons.
    pub name: String,
    /// Location of the files.
    location: String,
    pub source: Box<dyn Source>,
    /// Ids of token texts, in the vocabulary of the model that was named.
    vocabulary: Option<Arc<Vocabulary>>,
    /// Statement that creates it.
    definition: Option<String>,
    /// Index of its graphs, once they have been searched.
    index: Mutex<Option<Arc<ImportIndex>>>,
}

impl Import {
    /// Kinds of its tables.
    fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = self.source.tables().into_iter().map(Kind::Rows).collect();
        if kinds.contains(&Kind::Rows(Table::Graphs)) {
            kinds.push(Kind::GraphNodes);
        }
        kinds.extend([Kind::Models, Kind::Rejects]);
        kinds
    }

    /// Location of the files.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Returns true if it has data for a table.
    pub fn has_table(&self, table: Table) -> bool {
        self.source.tables().contains(&table)
    }

    /// Names of its tables.
    pub fn table_names(&self) -> Vec<String> {
        self.kinds().into_iter().map(|kind| kind.name().to_owned()).collect()
    }

    /// Its table of this name.
    pub fn table(self: &Arc<Self>, name: &str) -> Option<ImportTable> {
        let kind = self.kinds().into_iter().find(|kind| kind.name() == name)?;
        Some(ImportTable { import: Arc::clone(self), kind })
    }

    /// The table that stands for it in the default schema: its neurons.
    pub fn as_table(self: &Arc<Self>) -> ImportTable {
        ImportTable { import: Arc::clone(self), kind: Kind::Rows(Table::Neurons) }
    }
}

/// The imports that are registered, by name.
#[derive(Debug, Default)]
pub(crate) struct Imports(RwLock<BTreeMap<String, Arc<Import>>>);

impl Imports {
    pub fn get(&self, name: &str) -> Option<Arc<Import>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub fn names(&self) -> Vec<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    pub fn insert(&self, import: Arc<Import>) -> Option<Arc<Import>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(import.name.clone(), import)
    }

    pub fn remove(&self, name: &str) -> Option<Arc<Import>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name)
    }
}

/// Columns of the table of this name.
#[cfg(test)]
pub(crate) fn schema_of(name: &str) -> datafusion::arrow::datatypes::SchemaRef {
    let tables = [
        Table::Examples,
        Table::Explanations,
        Table::ExplanationScores,
        Table::Similar,
        Table::RelatedTokens,
        Table::RelatedNeurons,
    ];
    let kind = tables.into_iter().map(Kind::Rows).find(|kind| kind.name() == name).unwrap_or(Kind::Rejects);
    schemas::schema(kind)
}
