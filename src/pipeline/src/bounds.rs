//! Bounds of activations, by which runs leave out examples.
//!
//! Once a model has been analysed over a dataset, the store has bounds of the activations of each neuron in each
//! example. A query that depends on their size looks at these bounds first, as a Parquet scan looks at the statistics
//! of row groups: examples that cannot change the answer are not run. For the greatest or least activations, examples
//! are run in the order of their bounds, so that the threshold rises as fast as it can (the threshold algorithm, as in
//! DeepEverest, PVLDB 15, 2021).

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::TaskContext;
use neuroql_analysis::{NeuronBounds, ROUNDING, TopKBound, TopToken, TopTokens, ValueRange, reaches, threshold};
use neuroql_model::Model;
use neuroql_schema::sql_error;
use neuroql_store::{LayerIndex, LayerTopTokens, Progress, StoredExample, widest};

use crate::freshness::{Freshness, is_of_text};
use crate::resources::Resources;
use crate::source::Origin;

/// Layers and neurons: ascending, each layer once; `None` stands for all neurons.
pub type Selection = Vec<(usize, Option<Vec<u32>>)>;

/// The order in which examples are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanOrder {
    /// Greatest upper bounds first.
    Descending,
    /// Least lower bounds first.
    Ascending,
}

/// The only rows that matter to the operator above a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopK {
    /// Number of rows.
    pub k: usize,
    /// The end of the activations that they are from.
    pub visit: ScanOrder,
    /// True if `k` rows of each neuron matter, instead of `k` of all neurons together.
    pub of_each: bool,
}

/// An analysis that covers all layers of a request over the whole of its dataset.
#[derive(Debug, Clone)]
pub struct StoredAnalysis {
    dataset: Arc<str>,
    /// Layers of the request and the progress of their analyses.
    layers: Vec<(u32, Progress)>,
}

impl StoredAnalysis {
    /// Finds an analysis of a selection. [`StoredAnalysis::is_of`] checks when the query runs that the dataset is still
    /// the one that was analysed; this does so only if it is possible without reading the dataset.
    ///
    /// # Errors
    /// An error of the store.
    pub async fn find(
        model: &Model,
        origin: &Origin,
        selection: &Selection,
        resources: &Resources,
    ) -> Result<Option<Self>> {
        let Some(name) = origin.dataset().map(|dataset| dataset.name()) else { return Ok(None) };
        // In 16 bits activations depend on their batch by more than bounds allow for.
        if model.rounding() > ROUNDING {
            return Ok(None);
        }
        let freshness = Freshness::of(model);
        let mut layers = Vec::new();
        for (layer, _) in selection {
            let layer = *layer as u32;
            match resources.store.progress(model.name(), name, layer).await.map_err(sql_error)? {
                Some(progress) if freshness.is_complete(&progress) => {
                    layers.push((layer, progress));
                }
                _ => return Ok(None),
            }
        }
        let Some((_, first)) = layers.first() else { return Ok(None) };
        let alike = layers.iter().all(|(_, progress)| {
            progress.documents_sha256 == first.documents_sha256 && progress.examples == first.examples
        });
        let analysed = Self { dataset: Arc::clone(name), layers };
        let known = resources.fingerprints.known(origin);
        Ok((alike && known.is_none_or(|fingerprint| analysed.has_hash(&fingerprint.sha256))).then_some(analysed))
    }

    /// Returns true if the dataset, by its hash, is still the one that was analysed. This may read the whole dataset.
    ///
    /// # Errors
    /// Errors of reading the documents.
    pub async fn is_of(&self, origin: &Origin, resources: &Resources, context: &Arc<TaskContext>) -> Result<bool> {
        let fingerprint = resources.fingerprints.of(origin, context).await?;
        Ok(fingerprint.is_some_and(|fingerprint| self.has_hash(&fingerprint.sha256)))
    }

    fn has_hash(&self, sha256: &str) -> bool {
        self.layers.iter().all(|(_, progress)| is_of_text(progress, sha256))
    }

    /// Name of the dataset.
    pub fn dataset(&self) -> &Arc<str> {
        &self.dataset
    }

    /// Returns true if the store has the `k` strongest examples of each neuron, and so its strongest tokens.
    pub fn keeps(&self, k: usize) -> bool {
        self.layers.iter().all(|(_, progress)| progress.k >= k)
    }

    /// Number of examples that were analysed.
    pub fn examples(&self) -> u64 {
        self.layers.first().map_or(0, |(_, progress)| progress.examples)
    }

    /// Loads bounds and examples; `None` if a part of them is missing.
    ///
    /// # Errors
    /// An error of the store.
    pub async fn load(&self, model: &Model, selection: &Selection, resources: &Resources) -> Result<Option<Bounds>> {
        let (store, name) = (&resources.store, model.name());
        let Some((_, first)) = self.layers.first() else { return Ok(None) };
        let Some(contexts) = store.contexts(name, &self.dataset, first).await.map_err(sql_error)? else {
            return Ok(None);
        };
        let mut layers = Vec::new();
        for ((layer, progress), (_, neurons)) in self.layers.iter().zip(selection) {
            match store.index(name, &self.dataset, *layer, progress).await.map_err(sql_error)? {
                Some(index) if index.examples() == contexts.len() => layers.push((index, neurons.clone())),
                _ => return Ok(None),
            }
        }
        let of_layer = |(index, neurons): &(Arc<LayerIndex>, Option<Vec<u32>>)| index.of_neurons(neurons.as_deref());
        let Some((lower, upper)) = widest(layers.iter().map(of_layer)) else { return Ok(None) };
        Ok(Some(Bounds { contexts, layers, lower, upper }))
    }

    /// Loads the strongest tokens of each layer's neurons; `None` if the analysis in the store has gone on since.
    ///
    /// # Errors
    /// An error of the store.
    pub async fn strongest(
        &self,
        model: &Model,
        selection: &Selection,
        resources: &Resources,
    ) -> Result<Option<Vec<LayerTopTokens>>> {
        let mut layers = Vec::new();
        for ((layer, progress), (_, neurons)) in self.layers.iter().zip(selection) {
            let of_layer = resources.store.strongest(model.name(), &self.dataset, *layer, neurons.as_deref(), progress);
            match of_layer.await.map_err(sql_error)? {
                Some(strongest) => layers.push(strongest),
                None => return Ok(None),
            }
        }
        Ok(Some(layers))
    }
}

/// Examples, and the bounds in each of them over all selected neurons together.
#[derive(Debug)]
pub struct Bounds {
    /// The examples.
    pub contexts: Arc<Vec<StoredExample>>,
    /// The indices of the selected layers, and the selected neurons of each.
    layers: Vec<(Arc<LayerIndex>, Option<Vec<u32>>)>,
    /// Lower bound of each example.
    pub lower: Vec<f32>,
    /// Upper bound of each example.
    pub upper: Vec<f32>,
}

/// Tokens of a neuron whose activations are known without a run.
#[derive(Debug)]
pub struct KnownTokens {
    /// The layer.
    pub layer: usize,
    /// The neuron.
    pub neuron: u32,
    /// The tokens.
    pub tokens: Vec<TopToken>,
}

/// An aggregate of the activations of a neuron that bounds may decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// Their maximum.
    Max,
    /// Their minimum.
    Min,
    /// Their number.
    Count,
}

impl Bounds {
    /// Calls `visit` for each selected neuron with the positions of its layer and of itself in the selection.
    fn for_each_neuron(&self, mut visit: impl FnMut(usize, usize, NeuronBounds)) {
        for (i, (index, neurons)) in self.layers.iter().enumerate() {
            let count = neurons.as_ref().map_or_else(|| index.width(), Vec::len);
            for n in 0..count {
                let neuron = neurons.as_ref().map_or(n, |neurons| neurons[n] as usize);
                visit(i, n, index.of_neuron(neuron));
            }
        }
    }

    /// Retains the examples that may hold one of the top activations of these neurons, which are those that the bounds
    /// were loaded for. If all of the top activations are among the strongest tokens in the store, returns these, and
    /// retains no example.
    pub fn retain_top(
        &self,
        neurons: &[(usize, Vec<u32>)],
        top: TopK,
        strongest: Option<&[LayerTopTokens]>,
        examples: &mut Vec<usize>,
    ) -> Vec<KnownTokens> {
        let TopK { k, visit, of_each } = top;
        let greatest = visit == ScanOrder::Descending;
        let mut passes = vec![false; self.contexts.len()];
        examples.iter().for_each(|e| passes[*e] = true);
        let passes = |example: u32| passes.get(example as usize).is_some_and(|passes| *passes);
        let strongest = strongest.filter(|_| greatest).map(|layers| layers.iter().flat_map(LayerTopTokens::neurons));
        let strongest: Vec<_> = strongest.into_iter().flatten().collect();
        let found: Vec<TopKBound> = match of_each {
            true => strongest.iter().map(|neuron| TopKBound::of(&[*neuron], passes, k)).collect(),
            // Without strongest tokens nothing is known.
            false if strongest.is_empty() => Vec::new(),
            false => vec![TopKBound::of(&strongest, passes, k)],
        };
        if !found.is_empty() && found.iter().all(|found| found.complete) {
            examples.clear();
            let places =
                neurons.iter().flat_map(|(layer, neurons)| neurons.iter().map(move |neuron| (*layer, *neuron)));
            let known = |((layer, neuron), (i, of_neuron)): ((usize, u32), (usize, &TopTokens<'_>))| {
                let least = found[if of_each { i } else { 0 }].threshold;
                let tokens = of_neuron.tokens.iter().filter(|t| passes(t.example) && t.activation >= least).copied();
                KnownTokens { layer, neuron, tokens: tokens.collect() }
            };
            let known = places.zip(strongest.iter().enumerate()).map(known);
            return known.filter(|known| !known.tokens.is_empty()).collect();
        }
        let weakest = if greatest { f32::NEG_INFINITY } else { f32::INFINITY };
        let mut needed = vec![false; self.contexts.len()];
        if of_each {
            let mut found = found.iter();
            self.for_each_neuron(|_, _, of| {
                let known = found.next().map_or(weakest, |found| found.threshold);
                of.need_top(examples, k, greatest, known, &mut needed);
            });
        } else {
            let mut reached = vec![None; examples.len()];
            self.for_each_neuron(|_, _, of| of.reach(examples, greatest, &mut reached));
            let number = threshold(reached.into_iter().flatten(), k, greatest);
            let number = found.first().map_or(number, |found| number.max(found.threshold));
            for &e in examples.iter() {
                needed[e] = reaches(self.lower[e], self.upper[e], greatest, number);
            }
        }
        examples.retain(|example| needed[*example]);
        Vec::new()
    }

    /// Retains the examples whose contribution to aggregates by neuron bounds do not decide, and returns the
    /// contributions of the others: numbers of tokens, by layer, aggregate and neuron. Aggregates other than counts get
    /// nothing from the others. `None` if there are no examples at all.
    pub fn retain_undecided(
        &self,
        aggregates: &[(Aggregate, ValueRange)],
        examples: &mut Vec<usize>,
    ) -> Option<Vec<Vec<Vec<u64>>>> {
        let needed = self.needed_for(aggregates, examples);
        let decided = (!examples.is_empty()).then(|| self.decided(aggregates, examples, &needed));
        examples.retain(|example| needed[*example]);
        decided
    }

    /// Returns for each example true if it must run because bounds do not decide its contribution.
    fn needed_for(&self, aggregates: &[(Aggregate, ValueRange)], examples: &[usize]) -> Vec<bool> {
        let mut needed = vec![false; self.contexts.len()];
        self.for_each_neuron(|_, _, of| {
            for (aggregate, condition) in aggregates {
                match aggregate {
                    Aggregate::Max => of.need_max(examples, *condition, &mut needed),
                    Aggregate::Min => of.need_min(examples, *condition, &mut needed),
                    Aggregate::Count => of.need_count(examples, *condition, &mut needed),
                }
            }
        });
        needed
    }

    /// Returns the contributions of the other examples: the number of their tokens where all of them count.
    fn decided(
        &self,
        aggregates: &[(Aggregate, ValueRange)],
        examples: &[usize],
        needed: &[bool],
    ) -> Vec<Vec<Vec<u64>>> {
        let width = |(index, neurons): &(Arc<LayerIndex>, Option<Vec<u32>>)| {
            neurons.as_ref().map_or_else(|| index.width(), Vec::len)
        };
        let mut counts: Vec<Vec<Vec<u64>>> =
            self.layers.iter().map(|layer| vec![vec![0; width(layer)]; aggregates.len()]).collect();
        self.for_each_neuron(|layer, n, of| {
            for (a, (aggregate, condition)) in aggregates.iter().enumerate() {
                if *aggregate != Aggregate::Count {
                    continue;
                }
                let others = examples.iter().filter(|e| !needed[**e]);
                counts[layer][a][n] = others
                    .filter(|e| of.is_within(**e, *condition))
                    .map(|e| self.contexts[*e].tokens.len() as u64)
                    .sum();
            }
        });
        counts
    }
}
