//! The activations of neurons of a layer on the text that their graphs are made of.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Float32Type;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use futures::TryStreamExt;
use futures::stream::iter;
use neuroql_model::{Batch, Model, ReadSpec};
use neuroql_n2g::{
    Background, BackgroundActivation, LEAST_THRESHOLD, Population, SPARE, Sample, Task, Window, peaks, spread,
    strongest,
};
use neuroql_schema::sql_error;
use neuroql_store::{LayerIndex, StoredExample};

use super::windows::Windows;
use crate::passes::Passes;
use crate::resources::Resources;

/// Number of tokens of the random text that graphs are judged by, and learn from.
pub const RANDOM_TOKENS: usize = 50_000;

/// Share of the measure of a neuron's activations from which its activations on random text are kept.
const REMEMBERED: f32 = LEAST_THRESHOLD;

/// Default limit of the bytes of neurons that are gathered together.
pub const GATHERED_BYTES: usize = 512 << 20;

/// Examples of a dataset, in order.
#[derive(Debug)]
pub struct Corpus {
    examples: Arc<Vec<StoredExample>>,
    /// The windows of an analysis that the examples are pieces of, if there is one.
    windows: Option<Windows>,
    background: Vec<usize>,
    memory: Arc<dyn MemoryPool>,
    _held: MemoryReservation,
}

/// The activations of neurons of a layer on examples.
pub struct NeuronExamples {
    /// The examples of each neuron, split into those to learn from and those to judge by.
    pub tasks: Vec<Task>,
    /// Places of random text where each neuron is active.
    pub fired: Vec<Vec<BackgroundActivation>>,
    /// Strata of all examples by the activations of each neuron; `None` if these are known of its own only.
    pub populations: Vec<Option<Population>>,
    /// The random text.
    pub background: Arc<Background>,
    _held: MemoryReservation,
}

/// The strengths of neurons in examples, by which their examples are chosen.
struct Strengths {
    /// Upper bounds of each neuron's activations in each example.
    bounds: Vec<Vec<f32>>,
    /// Greatest activation of each neuron.
    greatest: Arc<[f32]>,
    /// Activations on examples, `[tokens, neurons]` each, if they were kept.
    values: Option<HashMap<usize, Vec<f32>>>,
}

/// The activations of each neuron on its own examples.
struct NeuronActivations {
    samples: Vec<Vec<Sample>>,
    /// Places of random text where each neuron is active.
    fired: Vec<Vec<BackgroundActivation>>,
}

/// The reason to run an example.
#[derive(Debug, Default, Clone)]
struct RunPurpose {
    /// Indices of the neurons that may learn from it.
    neurons: Vec<usize>,
    /// Its number among the random text.
    random: Option<u32>,
}

/// The neurons whose activations are read.
pub struct NeuronReader {
    /// The store that may know them, and the threads that the model runs on.
    pub resources: Arc<Resources>,
    /// The model.
    pub model: Arc<Model>,
    /// The layer of the neurons.
    pub layer: u32,
    /// The neurons, ascending.
    pub neurons: Vec<u32>,
    /// Measure of each neuron's activations, if that may be less than its greatest one on this text.
    pub measures: Option<Vec<f32>>,
}

/// The results of running an example: activations on all its tokens, and the places where neurons are active on random
/// text.
struct ExampleResult {
    example: usize,
    samples: Vec<(usize, Vec<f32>)>,
    fired: Vec<(usize, BackgroundActivation)>,
}

impl Corpus {
    /// Creates the corpus of examples, which are pieces of windows if there are any, and of the memory that they take.
    pub(crate) fn new(
        examples: Arc<Vec<StoredExample>>,
        windows: Option<Windows>,
        held: MemoryReservation,
        context: &TaskContext,
    ) -> Self {
        let background = spread(examples.iter().map(|example| example.tokens.len()), RANDOM_TOKENS);
        Self { examples, windows, background, memory: Arc::clone(context.memory_pool()), _held: held }
    }

    /// Returns the number of neurons that may be [gathered](Self::gather) together, with `wanted` examples each; at
    /// least one.
    pub fn most_neurons(&self, wanted: usize) -> usize {
        let most = match self.memory.memory_limit() {
            MemoryLimit::Finite(bytes) => GATHERED_BYTES.min(bytes / 4),
            _ => GATHERED_BYTES,
        };
        (most / self.bytes_each(wanted).max(1)).max(1)
    }

    /// Returns the bytes that a neuron takes while its examples are found: its peaks, or bounds, and its activations on
    /// them.
    fn bytes_each(&self, wanted: usize) -> usize {
        let longest = self.examples.iter().map(|example| example.tokens.len()).max().unwrap_or(0);
        4 * (self.examples.len() + SPARE * wanted * longest)
    }

    /// Returns the strongest examples of some neurons of a layer, split into those to learn from and those to judge by,
    /// and random text.
    ///
    /// # Errors
    /// Errors of the store and the model, and if memory is short.
    pub async fn gather(&self, reader: &NeuronReader, dataset: &str, wanted: usize) -> Result<NeuronExamples> {
        let held = MemoryConsumer::new("activations of graphs").register(&self.memory);
        held.try_grow(reader.neurons.len() * self.bytes_each(wanted))?;
        let Strengths { bounds, greatest, values } = self.known(reader, dataset, wanted, &held).await?;
        let plan = self.plan(&bounds, wanted);
        let populations = bounds.iter().zip(greatest.iter());
        let populations = populations.map(|(bounds, greatest)| self.population(bounds, *greatest, wanted)).collect();
        let NeuronActivations { samples, fired } = self.show(reader, plan, &greatest, values, &held).await?;
        let tasks = reader.neurons.iter().zip(samples).zip(greatest.iter());
        let tasks = tasks.map(|((neuron, samples), greatest)| Task::new(*neuron, *greatest, samples, wanted)).collect();
        Ok(NeuronExamples { tasks, fired, populations, background: Arc::new(self.random_text()), _held: held })
    }

    /// Returns the strata of a neuron's examples, by upper bounds of its activations in each.
    fn population(&self, bounds: &[f32], greatest: f32, wanted: usize) -> Option<Population> {
        if greatest.is_nan() || greatest <= 0.0 || bounds.contains(&f32::NEG_INFINITY) {
            return None;
        }
        let documents: Vec<i64> = self.examples.iter().map(|example| example.document).collect();
        let chosen: BTreeSet<usize> = strongest(bounds, &documents, wanted).into_iter().collect();
        let mut population = Population::default();
        for (number, (example, bound)) in self.examples.iter().zip(bounds).enumerate() {
            population.add(chosen.contains(&number), bound / greatest, example.tokens.len());
        }
        let of_random = (0u32..).zip(&self.background).filter(|(_, example)| chosen.contains(example));
        population.chosen = of_random.map(|(number, _)| number).collect();
        Some(population)
    }

    /// Returns the strengths of neurons before their examples are chosen: from an analysis if there is one, else from a
    /// run over all examples. If examples are pieces of an analysis' windows, those of its strongest windows are run.
    async fn known(
        &self,
        reader: &NeuronReader,
        dataset: &str,
        wanted: usize,
        held: &MemoryReservation,
    ) -> Result<Strengths> {
        match (self.stored(reader, dataset).await?, &self.windows) {
            (Some(stored), Some(windows)) if !windows.are_examples() => {
                let own: Vec<_> = stored.bounds.iter().map(|bounds| windows.strongest(bounds, wanted)).collect();
                self.search(reader, Some(&own), held).await
            }
            (Some(stored), _) => Ok(stored),
            (None, _) => self.search(reader, None, held).await,
        }
    }

    /// Returns the examples to be read with their purposes: the strongest of each neuron, and random text.
    fn plan(&self, bounds: &[Vec<f32>], wanted: usize) -> BTreeMap<usize, RunPurpose> {
        let documents: Vec<i64> = self.examples.iter().map(|example| example.document).collect();
        let mut plan: BTreeMap<usize, RunPurpose> = BTreeMap::new();
        for (number, bounds) in bounds.iter().enumerate() {
            for example in strongest(bounds, &documents, wanted) {
                plan.entry(example).or_default().neurons.push(number);
            }
        }
        for (number, example) in self.background.iter().enumerate() {
            plan.entry(*example).or_default().random = Some(number as u32);
        }
        plan
    }

    /// Returns the activations on the examples of a plan, from values that were kept or else by running them.
    async fn show(
        &self,
        reader: &NeuronReader,
        plan: BTreeMap<usize, RunPurpose>,
        greatest: &Arc<[f32]>,
        values: Option<HashMap<usize, Vec<f32>>>,
        held: &MemoryReservation,
    ) -> Result<NeuronActivations> {
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); greatest.len()];
        let mut fired: Vec<Vec<BackgroundActivation>> = vec![Vec::new(); greatest.len()];
        let mut keep = |read: ExampleResult| {
            held.try_grow(size_of_val(read.fired.as_slice()))?;
            let StoredExample { document, example, tokens } = &self.examples[read.example];
            for (number, activations) in read.samples {
                let tokens = Arc::clone(tokens);
                samples[number].push(Sample { document: *document, example: *example, tokens, activations });
            }
            read.fired.into_iter().for_each(|(number, place)| fired[number].push(place));
            Ok(())
        };
        let measures = reader.measures.clone().unwrap_or_else(|| greatest.to_vec());
        let remembered = greatest.iter().zip(measures).map(|(greatest, measure)| greatest.min(measure) * REMEMBERED);
        let (greatest, remembered) = (Arc::clone(greatest), remembered.collect::<Arc<[f32]>>());
        let read = move |purpose: &RunPurpose, example: usize, values: &[f32]| {
            purpose.read(example, values, &greatest, &remembered)
        };
        match values {
            Some(values) => plan.iter().try_for_each(|(i, purpose)| keep(read(purpose, *i, &values[i])))?,
            None => self.run(reader, plan, read, keep).await?,
        }
        Ok(NeuronActivations { samples, fired })
    }

    fn random_text(&self) -> Background {
        let windows = self.background.iter().map(|i| {
            let StoredExample { document, tokens, .. } = &self.examples[*i];
            Window { document: *document, tokens: Arc::clone(tokens) }
        });
        Background { windows: windows.collect() }
    }

    /// Returns the strengths of neurons in the windows of an analysis in the store.
    async fn stored(&self, reader: &NeuronReader, dataset: &str) -> Result<Option<Strengths>> {
        let Some(windows) = &self.windows else { return Ok(None) };
        let NeuronReader { resources, model, layer, neurons, .. } = reader;
        let (store, layer) = (&resources.store, *layer);
        let Some(progress) = store.progress(model.name(), dataset, layer).await.map_err(sql_error)? else {
            return Ok(None);
        };
        let index = store.index(model.name(), dataset, layer, &progress).await.map_err(sql_error)?;
        let Some(index) = index.filter(|index| index.examples() == windows.len()) else { return Ok(None) };
        let upper = |index: &LayerIndex, neuron: u32| index.of_neurons(Some(&[neuron])).1;
        let bounds = neurons.iter().map(|neuron| upper(&index, *neuron)).collect();
        let rows = store.neurons(model.name(), dataset, layer).await.map_err(sql_error)?;
        let Some(greatest) = rows.column_by_name("max_activation") else { return Ok(None) };
        let greatest = greatest.as_primitive::<Float32Type>();
        let greatest = neurons.iter().map(|neuron| greatest.value(*neuron as usize)).collect();
        Ok(Some(Strengths { bounds, greatest, values: None }))
    }

    /// Runs examples and returns the strength of each neuron in them: in all, or in its own, listed in `own`. (The
    /// examples of others are run too, but the strengths of a neuron must not depend on the other neurons.)
    async fn search(
        &self,
        reader: &NeuronReader,
        own: Option<&[Vec<usize>]>,
        held: &MemoryReservation,
    ) -> Result<Strengths> {
        let searched: BTreeSet<usize> = match own {
            None => (0..self.examples.len()).collect(),
            Some(own) => own.iter().flatten().chain(&self.background).copied().collect(),
        };
        let width = reader.neurons.len();
        let tokens: usize = searched.iter().map(|example| self.examples[*example].tokens.len()).sum();
        let bytes = 4 * tokens * width;
        let fits = bytes <= GATHERED_BYTES && held.try_grow(bytes).is_ok();
        let read = move |_: &RunPurpose, example: usize, values: &[f32]| {
            (example, peaks(values, width), fits.then(|| values.to_vec()))
        };
        let mut bounds = vec![vec![f32::NEG_INFINITY; self.examples.len()]; width];
        let mut values = HashMap::new();
        let keep = |(example, peaks, read): (usize, Vec<f32>, Option<Vec<f32>>)| {
            bounds.iter_mut().zip(peaks).for_each(|(bounds, peak)| bounds[example] = peak);
            values.extend(read.map(|read| (example, read)));
            Ok(())
        };
        self.run(reader, searched.into_iter().map(|example| (example, RunPurpose::default())).collect(), read, keep)
            .await?;
        for (bounds, own) in bounds.iter_mut().zip(own.into_iter().flatten()) {
            let mut only = vec![f32::NEG_INFINITY; bounds.len()];
            own.iter().for_each(|example| only[*example] = bounds[*example]);
            *bounds = only;
        }
        let greatest = bounds.iter().map(|bounds| bounds.iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect();
        Ok(Strengths { bounds, greatest, values: fits.then_some(values) })
    }

    /// Runs examples, passes the values of each, `[tokens, neurons]`, to `read` where they were computed, and the
    /// results of `read` to `keep`, in order.
    async fn run<T: Send + 'static>(
        &self,
        reader: &NeuronReader,
        plan: BTreeMap<usize, RunPurpose>,
        read: impl Fn(&RunPurpose, usize, &[f32]) -> T + Clone + Send + 'static,
        mut keep: impl FnMut(T) -> Result<()>,
    ) -> Result<()> {
        let NeuronReader { resources, model, layer, neurons, .. } = reader;
        let spec = ReadSpec::new(model, [(*layer as usize, Some(neurons.clone()))]).map_err(sql_error)?;
        let (spec, width) = (Arc::new(spec), neurons.len());
        let batches = iter(self.batches(model, width, plan).into_iter().map(Ok));
        let (passes, model) = (Passes::side_by_side(&resources.registry, model), Arc::clone(model));
        let examples = Arc::clone(&self.examples);
        let results = passes.over(batches, move |batch: Vec<(usize, RunPurpose)>, cancel| {
            let tokens = batch.iter().map(|(example, _)| &examples[*example].tokens[..]);
            let mut out = Vec::with_capacity(batch.len());
            for tensor in model.run(&Batch::new(tokens, model.bos()), &spec, cancel)? {
                let values = tensor.flatten_all()?.to_vec1::<f32>()?;
                let mut rest = values.as_slice();
                for (example, purpose) in &batch {
                    let (own, others) = rest.split_at(examples[*example].tokens.len() * width);
                    out.push(read(purpose, *example, own));
                    rest = others;
                }
            }
            Ok(out)
        });
        let mut results = pin!(results);
        while let Some(batch) = results.try_next().await? {
            batch.into_iter().try_for_each(&mut keep)?;
        }
        Ok(())
    }

    fn batches(&self, model: &Model, width: usize, plan: BTreeMap<usize, RunPurpose>) -> Vec<Vec<(usize, RunPurpose)>> {
        let most = model.batch_tokens(width);
        let mut batches: Vec<Vec<(usize, RunPurpose)>> = Vec::new();
        let mut tokens = usize::MAX;
        for (example, wanted) in plan {
            let length = self.examples[example].tokens.len();
            if tokens.saturating_add(length) > most {
                batches.push(Vec::new());
                tokens = 0;
            }
            tokens += length;
            if let Some(batch) = batches.last_mut() {
                batch.push((example, wanted));
            }
        }
        batches
    }
}

impl RunPurpose {
    /// Reads the values of an example, `[tokens, neurons]`, as shares of the greatest of each neuron; on random text
    /// only those that are no less than `remembered`.
    fn read(&self, example: usize, values: &[f32], greatest: &[f32], remembered: &[f32]) -> ExampleResult {
        let width = greatest.len();
        let column = |number: usize| values.iter().skip(number).step_by(width).map(move |a| a / greatest[number]);
        let samples = self.neurons.iter().map(|number| (*number, column(*number).collect())).collect();
        let mut fired = Vec::new();
        if let Some(window) = self.random {
            for (position, row) in values.chunks_exact(width).enumerate() {
                for (number, (a, (greatest, remembered))) in row.iter().zip(greatest.iter().zip(remembered)).enumerate()
                {
                    if *greatest > 0.0 && a >= remembered {
                        let place =
                            BackgroundActivation { window, position: position as u32, activation: a / greatest };
                        fired.push((number, place));
                    }
                }
            }
        }
        ExampleResult { example, samples, fired }
    }
}
