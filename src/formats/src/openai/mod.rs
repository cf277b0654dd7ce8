//! OpenAI's neuron explainer: records of activations, explanations with scores, related tokens and neurons.
//!
//! A location is a folder as under `https://openaipublic.blob.core.windows.net/neuron-explainer/`: `data` or
//! `gpt2_small_data`, or the one that holds them, of which `data` is read if it is there; or the address of such a
//! folder on a web server, of which files are read that a query names. Objects may name their class or not. Texts have no token for their beginning, and activations are those after a fast approximation of GELU.

mod explanation;
mod record;
mod related;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::files::{self, Folder, each_file};
use crate::{
    Description, Error, MOST_LAYERS, MOST_NEURONS, Neuron, Place, Request, Result, Row, Sink, Source, Table, Version,
    WebFolder,
};

const FORMAT: &str = "a folder of OpenAI's neuron explainer";

/// Who has published the examples and explanations.
const SOURCE: &str = "openai";

const RECORDS: &str = "collated-activations";
const EXPLANATIONS: &str = "explanations";
const TOKENS_BY_WEIGHT: &str = "related-tokens/weight-based";
const TOKENS_BY_ACTIVATION: &str = "related-tokens/activation-based";
const NEURONS_BY_WEIGHT: &str = "related-neurons/weight-based";
const FOLDERS: [&str; 5] = [RECORDS, EXPLANATIONS, TOKENS_BY_WEIGHT, TOKENS_BY_ACTIVATION, NEURONS_BY_WEIGHT];

/// Columns of `neurons` for which the records have to be read.
const MOMENTS: [&str; 5] = ["mean", "variance", "skewness", "kurtosis", "max_activation"];

/// A folder of one model.
#[derive(Debug)]
pub struct OpenAi {
    folder: Folder,
    description: Description,
}

/// A neuron, as the files name it.
#[derive(Debug, Deserialize)]
struct NeuronId {
    layer_index: u32,
    neuron_index: u32,
}

impl NeuronId {
    fn check(&self, place: Place) -> Result<(), String> {
        match self {
            Self { layer_index, neuron_index } if (*layer_index, *neuron_index) == (place.layer, place.neuron) => {
                Ok(())
            }
            Self { layer_index, neuron_index } => Err(format!("it is of layer {layer_index}, neuron {neuron_index}")),
        }
    }
}

impl OpenAi {
    /// Opens a folder.
    ///
    /// # Errors
    /// [`Error::NotInFormat`], [`Error::Io`].
    pub fn open(location: &Path) -> Result<Self> {
        if !std::fs::metadata(location).map_err(|e| Error::io(location, e))?.is_dir() {
            return Err(Error::not_in_format(location, FORMAT, "it is not a folder"));
        }
        let candidates = [location.to_owned(), location.join("data"), location.join("gpt2_small_data")];
        let is_one = |folder: &PathBuf| FOLDERS.iter().any(|name| folder.join(name).is_dir());
        let Some(folder) = candidates.into_iter().find(is_one) else {
            let reason = format!("it has none of the folders {}", FOLDERS.join(", "));
            return Err(Error::not_in_format(location, FORMAT, reason));
        };
        let folder = Folder::Local(folder);
        let layers = folder.layers(&FOLDERS)?.and_then(|layers| layers.last().map(|last| last + 1));
        let neurons_per_layer = folder.width(&[(RECORDS, ".json"), (EXPLANATIONS, ".jsonl")])?;
        Ok(Self { folder, description: Description { layers, neurons_per_layer, ..Description::default() } })
    }

    /// A folder of a web server, of a model with this many layers and neurons a layer, as far as they are known. Nothing is
    /// read yet.
    pub fn web(folder: WebFolder, layers: Option<u32>, neurons_per_layer: Option<u32>) -> Self {
        let description = Description { layers, neurons_per_layer, ..Description::default() };
        Self { folder: Folder::Web(folder), description }
    }

    fn has(&self, folder: &str) -> bool {
        self.folder.has(folder)
    }

    /// Reads the neurons that have a record or an explanation.
    fn scan_neurons(&self, request: &Request, sink: Sink) -> Result<()> {
        let is_local = matches!(self.folder, Folder::Local(_));
        let is_read = request.reads(&MOMENTS);
        self.folder.check(request)?;
        for of_layer in &request.selection {
            let (records, explanations) =
                (format!("{RECORDS}/{}", of_layer.layer), format!("{EXPLANATIONS}/{}", of_layer.layer));
            let mut neurons = BTreeSet::new();
            neurons.extend(self.folder.neurons(&records, ".json", of_layer)?);
            neurons.extend(self.folder.neurons(&explanations, ".jsonl", of_layer)?);
            let neurons: Vec<u32> = neurons.into_iter().collect();
            for neurons in neurons.chunks(self.folder.at_once()) {
                let paths: Vec<String> = neurons.iter().map(|neuron| format!("{records}/{neuron}.json")).collect();
                // Whether a web server has a file is known when it is read.
                let files = match is_read || !is_local {
                    true => self.folder.read(&paths)?,
                    false => vec![Ok(None); paths.len()],
                };
                for ((neuron, path), file) in neurons.iter().zip(&paths).zip(files) {
                    let place = Place { layer: of_layer.layer, neuron: *neuron };
                    let known = Ok(vec![Ok(Row::Neuron(Neuron { place, ..Neuron::default() }))]);
                    let explanation = format!("{explanations}/{neuron}.jsonl");
                    let parsed = match file {
                        Ok(Some(bytes)) => record::neuron(place, &bytes).map(|neuron| vec![Ok(Row::Neuron(neuron))]),
                        Ok(None) if !is_read && self.folder.has_file(path)? => known,
                        Ok(None) if self.folder.has_file(&explanation)? => known,
                        Ok(None) => continue,
                        Err(_) if !is_local && self.folder.has_file(&explanation)? => known,
                        Err(reason) => Err(reason),
                    };
                    if files::pass_on(parsed, Table::Neurons, place, &self.folder.location(path), sink).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

impl Source for OpenAi {
    fn description(&self) -> &Description {
        &self.description
    }

    fn tables(&self) -> Vec<Table> {
        let tables = [
            (Table::Neurons, true),
            (Table::Examples, self.has(RECORDS)),
            (Table::Explanations, self.has(EXPLANATIONS)),
            (Table::ExplanationScores, self.has(EXPLANATIONS)),
            (Table::RelatedTokens, self.has(TOKENS_BY_WEIGHT) || self.has(TOKENS_BY_ACTIVATION)),
            (Table::RelatedNeurons, self.has(NEURONS_BY_WEIGHT)),
        ];
        tables.into_iter().filter_map(|(table, is_there)| is_there.then_some(table)).collect()
    }

    fn layers(&self) -> Result<Vec<u32>> {
        Ok(match self.folder.layers(&FOLDERS)? {
            Some(layers) => layers,
            None => (0..self.description.layers.unwrap_or(MOST_LAYERS)).collect(),
        })
    }

    fn width(&self) -> u32 {
        match self.folder {
            // Files may have been added since.
            Folder::Local(_) => MOST_NEURONS,
            Folder::Web(_) => self.description.neurons_per_layer.unwrap_or(MOST_NEURONS),
        }
    }

    fn version(&self) -> Result<Version> {
        self.folder.version()
    }

    fn scan(&self, request: &Request, sink: Sink) -> Result<()> {
        let each = |name: &str, ending: &str, sink: Sink, parse: fn(Place, &[u8]) -> files::Parsed| {
            each_file(&self.folder, (name, ending), request, sink, &mut |place, bytes| parse(place, bytes))
        };
        let _ = match request.table {
            Table::Neurons => return self.scan_neurons(request, sink),
            Table::Examples => each(RECORDS, ".json", sink, record::examples)?,
            Table::Explanations | Table::ExplanationScores => {
                each(EXPLANATIONS, ".jsonl", sink, explanation::explanations)?
            }
            Table::RelatedTokens => match each(TOKENS_BY_WEIGHT, ".json", sink, related::tokens_by_weight)? {
                ControlFlow::Continue(()) => each(TOKENS_BY_ACTIVATION, ".json", sink, related::tokens_by_activation)?,
                done => done,
            },
            Table::RelatedNeurons => each(NEURONS_BY_WEIGHT, ".json", sink, related::neurons)?,
            Table::Graphs | Table::Similar => ControlFlow::Continue(()),
        };
        Ok(())
    }
}

/// Returns an error if two lists that belong together have different lengths.
fn check_lengths(what: &str, tokens: usize, values: usize) -> Result<(), String> {
    if tokens == values { Ok(()) } else { Err(format!("{what} has {tokens} tokens and {values} values")) }
}
