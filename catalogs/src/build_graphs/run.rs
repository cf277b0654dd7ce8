//! The loop of a build: layer by layer, some neurons at a time.

use neuroql_schema::sql_error;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::Int32Type;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use neuroql_model::{CancelOnDrop, Model};
use neuroql_n2g::{Method, Options, Oracle, Workshop};

use super::corpora::Corpora;
use super::corpus::{Corpus, Reader};
use super::rows;
use super::text::Text;
use crate::activations::Origin;
use crate::estimate::Estimate;
use crate::graphs;
use crate::holdings::Holdings;
use crate::relation::Rows;

/// Neurons that are built together: their texts share forward passes, and a client sees them together.
const TOGETHER: usize = 16;

/// Graphs to be built.
#[derive(Clone)]
pub(super) struct Build {
    pub holdings: Arc<Holdings>,
    pub model: Arc<Model>,
    pub dataset: String,
    pub origin: Origin,
    /// Neurons of each layer, ascending.
    pub selection: Vec<(u32, Vec<u32>)>,
    pub method: Method,
    /// Examples of each neuron.
    pub examples: usize,
    /// Tokens searched for them if the dataset was not analysed.
    pub tokens: usize,
    pub options: Options,
    /// Make again what was kept before.
    pub rebuild: bool,
    /// What it will cost.
    pub estimate: Estimate,
}

impl Build {
    /// Builds, and sends rows as they come. Stops when nobody listens any more.
    pub async fn build(&self, context: &Arc<TaskContext>, rows: &Rows) -> Result<()> {
        let (holdings, model) = (&self.holdings, &self.model);
        let corpora = Corpora::new(holdings, model, &self.origin, context);
        let sha256 = corpora.sha256().await?;
        let mut workshop = Workshop::new(model, self.method, self.options.clone());
        for (layer, neurons) in &self.selection {
            let searched = corpora.best(*layer, self.tokens).await?;
            let text = Text::new(self.examples, searched, &sha256);
            let made_with = text.with_options(&self.options, self.method.version())?;
            let kept = if self.rebuild { HashMap::new() } else { self.kept(*layer, neurons, &made_with).await? };
            let (known, missing): (Vec<u32>, Vec<u32>) = neurons.iter().partition(|neuron| kept.contains_key(neuron));
            for neuron in known {
                if !rows.send(kept[&neuron].clone()).await {
                    return Ok(());
                }
            }
            if missing.is_empty() {
                continue;
            }
            let Some(corpus) = corpora.of_layer(*layer, searched).await? else { continue };
            for neurons in missing.chunks(corpus.most_neurons(self.examples)) {
                if !self.layer(*layer, neurons.to_vec(), &corpus, &mut workshop, &made_with, rows).await? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Builds neurons of a layer; false if nobody listens any more.
    async fn layer(
        &self,
        layer: u32,
        neurons: Vec<u32>,
        corpus: &Corpus,
        workshop: &mut Workshop,
        made_with: &str,
        rows: &Rows,
    ) -> Result<bool> {
        let (holdings, model) = (&self.holdings, &self.model);
        let guard = CancelOnDrop::default();
        let started = Instant::now();
        let reader = Reader {
            holdings: Arc::clone(holdings),
            model: Arc::clone(model),
            layer,
            neurons,
            measures: None,
            cancel: guard.flag(),
        };
        let gathered = corpus.gather(&reader, &self.dataset, self.examples).await?;
        let share = started.elapsed() / gathered.tasks.len().max(1) as u32;
        let oracle = Oracle::new(Arc::clone(model), Arc::clone(&holdings.registry), layer as usize, guard.flag());
        let mut work = gathered.tasks.into_iter().zip(gathered.fired).peekable();
        while work.peek().is_some() {
            let (tasks, fired): (Vec<_>, Vec<_>) = work.by_ref().take(TOGETHER).unzip();
            let greatest: Vec<f32> = tasks.iter().map(|task| task.max_activation).collect();
            let started = Instant::now();
            let built = workshop.build(&oracle, tasks, &gathered.background, fired).await.map_err(sql_error)?;
            let seconds = share + started.elapsed() / built.len().max(1) as u32;
            let common = rows::Common {
                layer,
                method: self.method.name(),
                dataset: &self.dataset,
                seconds: seconds.as_secs_f32(),
                options: made_with,
            };
            if !rows.send(rows::batch(&common, &built, &greatest)?).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Rows of some neurons that were kept before and would come out the same, by neuron.
    async fn kept(&self, layer: u32, neurons: &[u32], made_with: &str) -> Result<HashMap<u32, RecordBatch>> {
        let rows = self.holdings.graphs(&self.model, layer, Some(neurons)).await?;
        let rows = graphs::select(&rows, &graphs::schema())?;
        let text = |name| rows.column_by_name(name).map(|column| column.as_string::<i32>().clone());
        let (Some(method), Some(dataset), Some(options), Some(neuron)) =
            (text("method"), text("dataset"), text("options"), rows.column_by_name("neuron"))
        else {
            return Ok(HashMap::new());
        };
        let neuron = neuron.as_primitive::<Int32Type>();
        let same = |i: &u32| {
            let i = *i as usize;
            method.value(i) == self.method.name()
                && dataset.is_valid(i)
                && dataset.value(i) == self.dataset
                && options.is_valid(i)
                && options.value(i) == made_with
        };
        let row =
            |i: u32| Ok((neuron.value(i as usize) as u32, take_record_batch(&rows, &UInt32Array::from(vec![i]))?));
        (0..rows.num_rows() as u32).filter(same).map(row).collect()
    }
}
