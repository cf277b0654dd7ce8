//! Sequences, and the columns of tables that take their numbers.
//!
//! A sequence is a relation of its schema, beside the tables: its name is taken, it is found by the search path, and a transaction
//! brings it back as it does a table. What a table says of its own columns is kept by its rows, as the names of keys are.

pub(crate) mod column_facts;
pub(crate) mod functions;
pub(crate) mod generated;
pub(crate) mod hidden;
mod rows;
pub(crate) mod sequence;

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::Result;
use datafusion::physical_plan::streaming::PartitionStream;

use crate::catalog::PgCatalog;
pub(crate) use crate::catalog::sequences::functions::SequenceAccess;
pub(super) use crate::catalog::sequences::rows::identities;
use crate::catalog::sequences::rows::{SequenceRows, fields};
pub(crate) use crate::catalog::sequences::sequence::{Options, OwningColumn, Sequence, SequenceTable};

/// Name of the view of sequences, which pg-catalog does not have.
pub(crate) const PG_SEQUENCES: &str = "pg_sequences";

/// Views of `information_schema` that are read from `pg_catalog`, as those about keys are.
pub(crate) const INFORMATION_SCHEMA: [&str; 2] = [SEQUENCES, TABLES];
const SEQUENCES: &str = "sequences";
/// The tables, without sequences.
pub(crate) const TABLES: &str = "tables";

/// A table of the catalog with rows of sequences or of columns with defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    Classes,
    Attributes,
    Tables,
    Defaults,
    Sequences,
    SequenceView,
    InformationSchema,
    Dependencies,
}

impl Relation {
    /// Returns the table of a name, if all its rows are of sequences or defaults.
    fn of_own(name: &str) -> Option<Self> {
        Some(match name {
            "pg_attrdef" => Self::Defaults,
            "pg_sequence" => Self::Sequences,
            "pg_depend" => Self::Dependencies,
            PG_SEQUENCES => Self::SequenceView,
            SEQUENCES => Self::InformationSchema,
            _ => return None,
        })
    }
}

impl PgCatalog {
    /// Returns a table that has rows of sequences and defaults, or the tables without sequences; `None` for others.
    pub(super) async fn of_sequences(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if name == TABLES {
            return InformationSchemaProvider::new(hidden::without_sequences(self.catalogs.catalogs()))
                .table(name)
                .await;
        }
        let Some(relation) = Relation::of_own(name) else { return Ok(None) };
        let rows = self.sequence_rows(relation, fields(relation), None)?;
        Ok(Some(Arc::new(StreamingTable::try_new(Arc::clone(rows.schema()), vec![rows])?)))
    }

    /// Returns the rows of a table with what they say of sequences and defaults.
    pub(super) fn with_sequences(
        &self,
        relation: Relation,
        inner: Arc<dyn PartitionStream>,
    ) -> Result<Arc<dyn PartitionStream>> {
        self.sequence_rows(relation, Arc::clone(inner.schema()), Some(inner))
    }

    fn sequence_rows(
        &self,
        relation: Relation,
        schema: SchemaRef,
        inner: Option<Arc<dyn PartitionStream>>,
    ) -> Result<Arc<dyn PartitionStream>> {
        Ok(Arc::new(SequenceRows { relation, schema, reader: self.class_reader()?, inner }))
    }
}
