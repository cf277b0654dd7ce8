//! A query over activations, taken apart into what each stage of the scan needs.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use neuroql_model::Model;
use neuroql_pipeline::Selection;
use neuroql_pipeline::bounds::StoredAnalysis;
use neuroql_pipeline::{Origin, RowFilter, Shard};

use super::schema;
use crate::Error;
use crate::tables::dataset::{DEFAULT, Dataset};
use crate::tables::model_table::Scan;
use crate::tables::predicate::{Predicate, allowed_strings, select_neurons};

/// Columns that are known of a document before it is tokenized.
pub(super) const OF_DOCUMENT: [&str; 3] = ["dataset", "document", "text"];
/// Columns that are known of a token before the model runs.
pub(super) const OF_TOKEN: [&str; 7] = ["dataset", "document", "text", "example", "position", "token_id", "token"];
/// Columns that are known of a neuron.
pub(super) const OF_NEURON: [&str; 2] = ["layer", "neuron"];

/// Arguments of a scan of activations.
#[derive(Debug, Clone)]
pub(crate) struct ScanRequest {
    pub model: Arc<Model>,
    pub origin: Origin,
    pub on_documents: Predicate,
    pub on_tokens: Predicate,
    pub on_values: Predicate,
    pub selection: Selection,
    /// Indices into [`schema`] of the columns to return.
    pub columns: Vec<usize>,
    pub limit: Option<usize>,
    /// Share of the documents of the origin that is run.
    pub shard: Shard,
    /// Stored bounds of these activations, unless the dataset is known to have changed since they were made.
    pub analysed: Option<StoredAnalysis>,
}

impl ScanRequest {
    pub async fn new(model: &Arc<Model>, scan: &Scan<'_>) -> Result<Self> {
        let schema = schema();
        let (origin, used) = origin(model, scan).await?;
        let mut groups: [Vec<Expr>; 4] = Default::default();
        for (i, filter) in scan.filters.iter().enumerate() {
            // A filter on `text` that supplied the texts holds for all of them.
            if !used.contains(&i) {
                groups[stage(filter)].push(filter.clone());
            }
        }
        let [documents, tokens, neurons, values] = groups.map(|f| Predicate::compile(&f, &schema, scan.session));
        let selection = select_neurons(model, &neurons?)?;
        let analysed = StoredAnalysis::find(model, &origin, &selection, &scan.engine.resources).await?;
        Ok(Self {
            model: Arc::clone(model),
            origin,
            on_documents: documents?,
            on_tokens: tokens?,
            on_values: values?,
            selection,
            analysed,
            columns: scan.projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect()),
            limit: scan.limit,
            shard: Shard::WHOLE,
        })
    }

    /// The schema of the rows it returns.
    pub fn output_schema(&self) -> Result<SchemaRef> {
        Ok(Arc::new(schema().project(&self.columns)?))
    }

    /// Returns true if the rows or the filters need the texts of documents.
    pub fn reads_text(&self) -> bool {
        let text = |columns: &BTreeSet<String>| columns.contains("text");
        self.columns.iter().any(|column| schema().field(*column).name() == "text")
            || [&self.on_documents, &self.on_tokens, &self.on_values].iter().any(|p| text(p.columns()))
    }

    /// Returns the layers that are read, and the neurons of each.
    pub fn neurons(&self) -> Vec<(usize, Vec<u32>)> {
        let all = || (0..self.model.neurons_per_layer() as u32).collect();
        self.selection.iter().map(|(layer, neurons)| (*layer, neurons.clone().unwrap_or_else(all))).collect()
    }

    /// Number of values that the model returns for a token.
    pub fn values_per_token(&self) -> usize {
        let width = self.model.neurons_per_layer();
        self.selection.iter().map(|(_, neurons)| neurons.as_ref().map_or(width, Vec::len)).sum()
    }
}

/// Returns the first stage that knows all columns of a filter: documents, tokens, neurons, values.
fn stage(filter: &Expr) -> usize {
    let columns: BTreeSet<&str> = filter.column_refs().into_iter().map(|c| c.name.as_str()).collect();
    let within = |known: &[&str]| columns.iter().all(|c| known.contains(c));
    match () {
        () if within(&OF_DOCUMENT) => 0,
        () if within(&OF_TOKEN) => 1,
        () if within(&OF_NEURON) => 2,
        () => 3,
    }
}

/// Returns the origin of the documents, and the indices of the filters that name it.
async fn origin(model: &Model, scan: &Scan<'_>) -> Result<(Origin, BTreeSet<usize>)> {
    let named = |column: &'static str| {
        scan.filters.iter().enumerate().filter_map(move |(i, f)| Some((i, allowed_strings(f, column)?)))
    };
    let (mut used, mut datasets) = (BTreeSet::new(), None);
    for (i, names) in named("dataset") {
        used.insert(i);
        datasets = Some(both(datasets, names));
    }
    if let Some(datasets) = datasets {
        return Ok(match datasets.as_slice() {
            [] => (Origin::Nothing, used),
            [name] => (Dataset::find(scan.session, name).await?.documents(scan.session, name).await?, used),
            // Several datasets in one scan would need one numbering; a union of scans has it.
            _ => {
                let reason = "names several datasets; query each and combine them by UNION ALL".to_owned();
                let (function, parameter) = ("activations", "dataset".to_owned());
                return Err(Error::InvalidParameter { function, parameter, reason }.into());
            }
        });
    }
    let mut texts = None;
    for (i, values) in named("text") {
        used.insert(i);
        texts = Some(both(texts, values));
    }
    match texts {
        Some(texts) if texts.is_empty() => Ok((Origin::Nothing, used)),
        Some(texts) => Ok((Origin::Texts(texts.into_iter().map(Arc::from).collect()), used)),
        None => match Dataset::find_optional(scan.session, DEFAULT).await? {
            Some(dataset) => Ok((dataset.documents(scan.session, DEFAULT).await?, used)),
            None => Err(Error::NoText(model.name().into()).into()),
        },
    }
}

/// Returns the values that are in both lists, each once, in order.
fn both(left: Option<Vec<String>>, right: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let right = right.into_iter().filter(|value| seen.insert(value.clone()));
    match left {
        None => right.collect(),
        Some(left) => right.filter(|value| left.contains(value)).collect(),
    }
}
