//! Datasets: tables with a column of text whose rows are documents.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::TableReference;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::{StreamExt, TryStreamExt};
use neuroql_pipeline::{Contents, DocumentSource, Identity, Origin};

use crate::Error;
use crate::planner::contents::PlanContents;

/// The dataset of models that have no other.
pub(crate) const DEFAULT: &str = "corpus";

/// A table and the columns of its documents.
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

    /// Like [`Dataset::find`], but returns `None` if there is no table of this name.
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

    /// Name under which results about a dataset are kept: the shortest name of its table, however it was spelled.
    pub fn kept_as(session: &dyn Session, name: &str) -> String {
        let defaults = &session.config_options().catalog;
        let resolved =
            |name: &str| TableReference::parse_str(name).resolve(&defaults.default_catalog, &defaults.default_schema);
        let table = resolved(name);
        let names = [table.table.to_string(), format!("{}.{}", table.schema, table.table)];
        names.into_iter().find(|shorter| resolved(shorter) == table).unwrap_or_else(|| name.to_owned())
    }

    /// Returns the table as a dataset, if it can be one.
    pub fn of(table: Arc<dyn TableProvider>) -> Option<Self> {
        let schema = table.schema();
        let text = text_column(&schema)?;
        let is_number = |i: &usize| values(schema.field(*i).data_type()).is_integer();
        let document = schema.index_of("document").ok().filter(is_number);
        Some(Self { table, text, document })
    }
}

impl Dataset {
    /// Returns its documents, as a dataset of this name.
    pub async fn documents(self, session: &dyn Session, name: &str) -> Result<Origin> {
        let columns: Vec<usize> = [Some(self.text), self.document].into_iter().flatten().collect();
        // One partition, so that documents come in the order of the table whatever the number of threads.
        let plan = match session.as_any().downcast_ref::<SessionState>() {
            Some(state) => {
                let mut state = state.clone();
                state.config_mut().options_mut().execution.target_partitions = 1;
                self.table.scan(&state, Some(&columns), &[], None).await?
            }
            None => self.table.scan(session, Some(&columns), &[], None).await?,
        };
        let numbered = self.document.is_some();
        Ok(Origin::Dataset(Arc::new(PlannedDataset { name: name.into(), plan, numbered, table: self.table })))
    }
}

/// The documents of a dataset, as a plan that yields their texts and, if the dataset numbers them, their numbers.
#[derive(Debug)]
struct PlannedDataset {
    name: Arc<str>,
    plan: Arc<dyn ExecutionPlan>,
    numbered: bool,
    table: Arc<dyn TableProvider>,
}

/// Returns the plan that reads the documents of a dataset; `None` if they are not of a plan.
pub(crate) fn plan_of(source: &dyn DocumentSource) -> Option<&Arc<dyn ExecutionPlan>> {
    (source as &dyn Any).downcast_ref::<PlannedDataset>().map(|dataset| &dataset.plan)
}

impl DocumentSource for PlannedDataset {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn open(&self, context: &Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        // The plan runs more than once, first for the hash of the dataset, and a scan of files that has been read to
        // its end would have nothing left.
        let plan = reset_plan_states(Arc::clone(&self.plan))?;
        let (schema, partitions) = (plan.schema(), plan.output_partitioning().partition_count());
        let context = Arc::clone(context);
        let opened = move |partition| plan.execute(partition, Arc::clone(&context));
        let rows = futures::stream::iter(0..partitions).map(opened).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn is_numbered(&self) -> bool {
        self.numbered
    }

    fn table(&self) -> Box<dyn Identity> {
        Box::new(Arc::downgrade(&self.table))
    }

    fn contents(&self) -> Option<Box<dyn Contents>> {
        PlanContents::of(&self.plan).map(|contents| Box::new(contents) as Box<dyn Contents>)
    }
}

/// Returns the index of the column `text`, or else of the only column of text; columns with a dictionary, as Hive
/// partitions have, count only if there is no other.
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

/// Returns the type of the values of a column, with or without a dictionary.
fn values(kind: &DataType) -> &DataType {
    match kind {
        DataType::Dictionary(_, values) => values,
        DataType::RunEndEncoded(_, values) => values.data_type(),
        kind => kind,
    }
}
