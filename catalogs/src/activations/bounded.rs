//! Scans that know bounds of what they would find.
//!
//! Once a model has been analysed over a dataset, the store knows for each neuron and example between which numbers the
//! activations lie. A scan with a filter on `activation`, or under a TopK whose filter moves, is then asked of these
//! bounds first, as a Parquet scan asks the statistics of row groups: examples in which no row can pass are not run.
//! Under `ORDER BY activation … LIMIT k` examples come in the order of their bounds, so that the threshold of the TopK
//! rises as fast as it can (the threshold algorithm, as in DeepEverest, PVLDB 15, 2021).

use neuroql_schema::sql_error;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use neuroql_analysis::{Greatest, NeuronBounds, ROUNDING, StrongToken, reaches, threshold};
use neuroql_model::Model;
use neuroql_store::{Context, LayerIndex, LayerStrongest, Progress, holds_for, widest};

use super::partial::{Output, Partial, Statistic};
use super::request::{Origin, Request};
use crate::holdings::Holdings;
use crate::predicate::Selection;

/// Where the most telling examples are to come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visit {
    /// Greatest upper bounds first.
    Descending,
    /// Least lower bounds first.
    Ascending,
}

/// The only rows that matter to the operator above a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Top {
    /// So many of them,
    pub k: usize,
    /// from this end of the activations,
    pub visit: Visit,
    /// of each neuron instead of all together.
    pub of_each: bool,
}

/// An analysis that covers all layers of a request over the whole of its dataset.
#[derive(Debug, Clone)]
pub(super) struct Analysed {
    dataset: Arc<str>,
    /// Layers of the request and how they were analysed.
    layers: Vec<(u32, Progress)>,
}

impl Analysed {
    /// What the store has for a request. Whether the dataset is still the one that was analysed is asked when the query
    /// runs, by [`Analysed::is_of`]; here only if it can be told without reading it.
    pub async fn find(
        model: &Model,
        origin: &Origin,
        selection: &Selection,
        holdings: &Holdings,
    ) -> Result<Option<Self>> {
        let Origin::Dataset { name, .. } = origin else { return Ok(None) };
        // In 16 bits activations depend on the batch that they are computed in by more than bounds allow for.
        if model.rounding() > ROUNDING {
            return Ok(None);
        }
        let version = model.version();
        let mut layers = Vec::new();
        for (layer, _) in selection {
            let layer = *layer as u32;
            match holdings.store.progress(model.name(), name, layer).await.map_err(sql_error)? {
                Some(progress) if progress.complete && holds_for(&progress.model_version, &version) => {
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
        let known = holdings.fingerprints.known(origin);
        Ok((alike && known.is_none_or(|fingerprint| analysed.has_hash(&fingerprint.sha256))).then_some(analysed))
    }

    /// Whether the dataset is what was analysed, told by its hash.
    pub async fn is_of(&self, origin: &Origin, holdings: &Holdings, context: &Arc<TaskContext>) -> Result<bool> {
        let fingerprint = holdings.fingerprints.of(origin, Arc::clone(context)).await?;
        Ok(fingerprint.is_some_and(|fingerprint| self.has_hash(&fingerprint.sha256)))
    }

    fn has_hash(&self, sha256: &str) -> bool {
        self.layers.iter().all(|(_, progress)| progress.documents_sha256 == sha256)
    }

    /// Name of the dataset.
    pub fn dataset(&self) -> &Arc<str> {
        &self.dataset
    }

    /// Whether the store keeps at least so many of the strongest examples of each neuron, and so of its tokens.
    pub fn keeps(&self, k: usize) -> bool {
        self.layers.iter().all(|(_, progress)| progress.k >= k)
    }

    /// Examples that were analysed.
    pub fn examples(&self) -> u64 {
        self.layers.first().map_or(0, |(_, progress)| progress.examples)
    }

    /// Loads bounds and examples; `None` if a part of them is missing.
    pub async fn load(&self, model: &Model, selection: &Selection, holdings: &Holdings) -> Result<Option<Bounds>> {
        let (store, name) = (&holdings.store, model.name());
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

    /// The strongest tokens of each layer's neurons; `None` if the store has gone on since.
    pub async fn strongest(
        &self,
        model: &Model,
        selection: &Selection,
        holdings: &Holdings,
    ) -> Result<Option<Vec<LayerStrongest>>> {
        let mut layers = Vec::new();
        for ((layer, progress), (_, neurons)) in self.layers.iter().zip(selection) {
            let of_layer = holdings.store.strongest(model.name(), &self.dataset, *layer, neurons.as_deref(), progress);
            match of_layer.await.map_err(sql_error)? {
                Some(strongest) => layers.push(strongest),
                None => return Ok(None),
            }
        }
        Ok(Some(layers))
    }
}

/// Examples and the bounds of all asked neurons together in each.
#[derive(Debug)]
pub(super) struct Bounds {
    pub contexts: Arc<Vec<Context>>,
    /// The indices of the asked layers, and which neurons of each.
    layers: Vec<(Arc<LayerIndex>, Option<Vec<u32>>)>,
    pub lower: Vec<f32>,
    pub upper: Vec<f32>,
}

/// What a scan wants to know of the activations.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// The greatest or least of them.
    Top(Top, Option<&'a [LayerStrongest]>),
    /// States of an aggregate by neuron.
    Aggregate(&'a Partial),
}

/// Tokens of a neuron whose activations are known without a run.
#[derive(Debug)]
pub(super) struct Known {
    pub layer: usize,
    pub neuron: u32,
    pub tokens: Vec<StrongToken>,
}

impl Bounds {
    /// Calls back with each asked neuron: its layer and itself among those asked.
    fn for_each_neuron(&self, mut visit: impl FnMut(usize, usize, NeuronBounds)) {
        for (i, (index, neurons)) in self.layers.iter().enumerate() {
            let count = neurons.as_ref().map_or_else(|| index.width(), Vec::len);
            for n in 0..count {
                let neuron = neurons.as_ref().map_or(n, |neurons| neurons[n] as usize);
                visit(i, n, index.of_neuron(neuron));
            }
        }
    }

    /// Leaves the examples that may hold one of the top activations; if all of these are among the strongest tokens
    /// kept, these instead of any example.
    pub fn retain_top(
        &self,
        request: &Request,
        top: Top,
        strongest: Option<&[LayerStrongest]>,
        examples: &mut Vec<usize>,
    ) -> Vec<Known> {
        let Top { k, visit, of_each } = top;
        let greatest = visit == Visit::Descending;
        let mut passes = vec![false; self.contexts.len()];
        examples.iter().for_each(|e| passes[*e] = true);
        let passes = |example: u32| passes.get(example as usize).is_some_and(|passes| *passes);
        let neurons = strongest.filter(|_| greatest).map(|layers| layers.iter().flat_map(LayerStrongest::neurons));
        let neurons: Vec<_> = neurons.into_iter().flatten().collect();
        let found: Vec<Greatest> = match of_each {
            true => neurons.iter().map(|neuron| Greatest::of(&[*neuron], passes, k)).collect(),
            // What is known of nothing says nothing.
            false if neurons.is_empty() => Vec::new(),
            false => vec![Greatest::of(&neurons, passes, k)],
        };
        if !found.is_empty() && found.iter().all(|found| found.complete) {
            examples.clear();
            let places = request
                .neurons()
                .into_iter()
                .flat_map(|(layer, neurons)| neurons.into_iter().map(move |neuron| (layer, neuron)));
            let known =
                |((layer, neuron), (i, of_neuron)): ((usize, u32), (usize, &neuroql_analysis::Strongest<'_>))| {
                    let least = found[if of_each { i } else { 0 }].threshold;
                    let tokens =
                        of_neuron.tokens.iter().filter(|t| passes(t.example) && t.activation >= least).copied();
                    Known { layer, neuron, tokens: tokens.collect() }
                };
            let known = places.zip(neurons.iter().enumerate()).map(known);
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

    /// Leaves the examples of which bounds do not tell what they contribute to an aggregate, and returns what the others
    /// do.
    pub fn retain_undecided(
        &self,
        request: &Request,
        partial: &Partial,
        examples: &mut Vec<usize>,
    ) -> Result<Vec<RecordBatch>> {
        let needed = self.needed_for(partial, examples);
        let decided = self.decided(request, partial, examples, &needed)?;
        examples.retain(|example| needed[*example]);
        Ok(decided)
    }

    /// Which examples must run because bounds do not tell what they contribute to an aggregate.
    fn needed_for(&self, partial: &Partial, examples: &[usize]) -> Vec<bool> {
        let mut needed = vec![false; self.contexts.len()];
        self.for_each_neuron(|_, _, of| {
            for Output { statistic, condition } in &partial.outputs {
                match statistic {
                    Statistic::Max => of.need_max(examples, *condition, &mut needed),
                    Statistic::Min => of.need_min(examples, *condition, &mut needed),
                    Statistic::Count => of.need_count(examples, *condition, &mut needed),
                    _ => {}
                }
            }
        });
        needed
    }

    /// What the other examples contribute: their tokens where all of them count.
    fn decided(
        &self,
        request: &Request,
        partial: &Partial,
        examples: &[usize],
        needed: &[bool],
    ) -> Result<Vec<RecordBatch>> {
        // Without examples there are no rows, and so no groups.
        if examples.is_empty() {
            return Ok(Vec::new());
        }
        let neurons = request.neurons();
        let mut counts: Vec<Vec<Vec<u64>>> =
            neurons.iter().map(|(_, neurons)| vec![vec![0; neurons.len()]; partial.outputs.len()]).collect();
        self.for_each_neuron(|layer, n, of| {
            for (o, Output { statistic, condition }) in partial.outputs.iter().enumerate() {
                if *statistic != Statistic::Count {
                    continue;
                }
                let others = examples.iter().filter(|e| !needed[**e]);
                counts[layer][o][n] = others
                    .filter(|e| of.is_within(**e, *condition))
                    .map(|e| self.contexts[*e].tokens.len() as u64)
                    .sum();
            }
        });
        let of_layer =
            |((layer, neurons), counts): (&(usize, Vec<u32>), &Vec<Vec<u64>>)| partial.counted(*layer, neurons, counts);
        neurons.iter().zip(&counts).map(of_layer).collect()
    }
}
