//! Builds graphs: layer by layer, some neurons at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::Int32Type;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use neuroql_model::{CancelOnDrop, Model};
use neuroql_n2g::{GraphTrainer, Method, NeuronOutcome, Options, QueryRunner};
use neuroql_schema::sql_error;

use super::corpora::Corpora;
use super::corpus::{Corpus, NeuronReader};
use super::provenance::Provenance;
use crate::consumer::Consumer;
use crate::resources::Resources;
use crate::source::Origin;

/// Number of neurons that are built together: their texts share forward passes, and clients get them together.
const TOGETHER: usize = 16;

/// Graphs to be built.
#[derive(Debug, Clone)]
pub struct Build {
    /// The store that has earlier graphs, and the threads that the model runs on.
    pub resources: Arc<Resources>,
    /// The model.
    pub model: Arc<Model>,
    /// Name under which the store keeps the dataset.
    pub dataset: String,
    /// The documents of the dataset.
    pub origin: Origin,
    /// Neurons of each layer, ascending.
    pub selection: Vec<(u32, Vec<u32>)>,
    /// The method.
    pub method: Method,
    /// Examples of each neuron.
    pub examples: usize,
    /// Number of tokens searched for them if the dataset was not analysed.
    pub tokens: usize,
    /// Options of the method.
    pub options: Options,
    /// True to build graphs again that the store has.
    pub rebuild: bool,
}

/// Graphs of neurons of a layer.
#[derive(Debug)]
pub enum LayerGraphs {
    /// A row of the store, which building it again would not change.
    Stored(RecordBatch),
    /// Graphs that were built.
    Built {
        /// The layer.
        layer: u32,
        /// Graph and scores of each neuron, or the reason why it has none.
        graphs: Vec<NeuronOutcome>,
        /// The greatest activation of each neuron.
        greatest: Vec<f32>,
        /// Time per neuron.
        time: Duration,
        /// Options, text and version of the method, as JSON.
        made_with: Arc<str>,
    },
}

impl Build {
    /// Builds the graphs and hands them over as they come, until no more are wanted.
    ///
    /// # Errors
    /// Errors of the model, of the store and of reading documents, and if memory is short.
    pub async fn run(&self, context: &Arc<TaskContext>, graphs: &impl Consumer<LayerGraphs>) -> Result<()> {
        let (resources, model) = (&self.resources, &self.model);
        let corpora = Corpora::new(resources, model, &self.origin, context);
        let sha256 = corpora.sha256().await?;
        let mut trainer = GraphTrainer::new(model, self.method, self.options.clone());
        for (layer, neurons) in &self.selection {
            let searched = corpora.best(*layer, self.tokens).await?;
            let text = Provenance::new(self.examples, searched, &sha256);
            let made_with = Arc::from(text.with_options(&self.options, self.method.version())?);
            let mut stored =
                if self.rebuild { HashMap::new() } else { self.stored(*layer, neurons, &made_with).await? };
            let mut missing = Vec::new();
            for neuron in neurons {
                let Some(row) = stored.remove(neuron) else {
                    missing.push(*neuron);
                    continue;
                };
                if !graphs.take(LayerGraphs::Stored(row)).await? {
                    return Ok(());
                }
            }
            if missing.is_empty() {
                continue;
            }
            let Some(corpus) = corpora.of_layer(*layer, searched).await? else { continue };
            for neurons in missing.chunks(corpus.most_neurons(self.examples)) {
                if !self.layer(*layer, neurons.to_vec(), &corpus, &mut trainer, &made_with, graphs).await? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Builds the graphs of neurons of a layer. Returns false if no more are wanted.
    async fn layer(
        &self,
        layer: u32,
        neurons: Vec<u32>,
        corpus: &Corpus,
        trainer: &mut GraphTrainer,
        made_with: &Arc<str>,
        graphs: &impl Consumer<LayerGraphs>,
    ) -> Result<bool> {
        let (resources, model) = (&self.resources, &self.model);
        let guard = CancelOnDrop::default();
        let started = Instant::now();
        let reader =
            NeuronReader { resources: Arc::clone(resources), model: Arc::clone(model), layer, neurons, measures: None };
        let examples = corpus.gather(&reader, &self.dataset, self.examples).await?;
        let share = started.elapsed() / examples.tasks.len().max(1) as u32;
        let runner = QueryRunner::new(Arc::clone(model), Arc::clone(&resources.registry), layer as usize, guard.flag());
        let mut work = examples.tasks.into_iter().zip(examples.fired).peekable();
        while work.peek().is_some() {
            let (tasks, fired): (Vec<_>, Vec<_>) = work.by_ref().take(TOGETHER).unzip();
            let greatest: Vec<f32> = tasks.iter().map(|task| task.max_activation).collect();
            let started = Instant::now();
            let built = trainer.build(&runner, tasks, &examples.background, fired).await.map_err(sql_error)?;
            let time = share + started.elapsed() / built.len().max(1) as u32;
            let made_with = Arc::clone(made_with);
            if !graphs.take(LayerGraphs::Built { layer, graphs: built, greatest, time, made_with }).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the rows of the store for neurons whose graphs would come out the same, by neuron.
    async fn stored(&self, layer: u32, neurons: &[u32], made_with: &str) -> Result<HashMap<u32, RecordBatch>> {
        let rows = self.resources.graphs(&self.model, layer, Some(neurons)).await?;
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
