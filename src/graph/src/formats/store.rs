//! Neuron2Graph's neuron store: the tokens that matter for each neuron, as an index from tokens to neurons.
//!
//! `{"activating":{"token":["0_12","3_669"]},"important":{"token":["1_7"]}}`, with neurons as `layer_neuron`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::malformed;
use crate::{Graph, Kind, Result, Symbol};

const FORMAT: &str = "neuron store";

/// A token that matters for a neuron.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    /// Text of the token.
    pub token: String,
    /// Role of the token: [`Kind::Activator`] if the neuron fires on it, [`Kind::Context`] if it is important.
    pub role: Kind,
    /// Layer of the neuron.
    pub layer: u32,
    /// Index of the neuron in its layer.
    pub neuron: u32,
}

#[derive(Serialize, Deserialize, Default)]
struct StoreFile {
    #[serde(default)]
    activating: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    important: BTreeMap<String, Vec<String>>,
}

/// Parses the entries of a store, distinct and in the order of role, token, layer and neuron.
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed).
pub fn parse(text: &str) -> Result<Vec<Entry>> {
    let file: StoreFile = serde_json::from_str(text).map_err(|error| malformed(FORMAT, error))?;
    let mut entries = Vec::new();
    for (role, tokens) in [(Kind::Activator, file.activating), (Kind::Context, file.important)] {
        for (token, neurons) in tokens {
            let mut ids = neurons.iter().map(|id| neuron(id)).collect::<Result<Vec<_>>>()?;
            ids.sort_unstable();
            ids.dedup();
            entries.extend(ids.iter().map(|(layer, neuron)| Entry {
                token: token.clone(),
                role,
                layer: *layer,
                neuron: *neuron,
            }));
        }
    }
    Ok(entries)
}

fn neuron(id: &str) -> Result<(u32, u32)> {
    let parts = id.split_once('_').and_then(|(layer, neuron)| Some((layer.parse().ok()?, neuron.parse().ok()?)));
    parts.ok_or_else(|| malformed(FORMAT, format!("\"{id}\" is not a layer and a neuron such as 0_12")))
}

/// The entries of a graph. As in Neuron2Graph, a context token on which the neuron itself fires above
/// `activation_threshold` counts as an activator.
pub fn entries(layer: u32, neuron: u32, graph: &Graph, activation_threshold: f32) -> Vec<Entry> {
    let entry = |node: &crate::Node| {
        let Symbol::Token(token) = &node.symbol else { return None };
        let is_activator = node.parent.is_none() || node.activation > activation_threshold;
        let role = if is_activator { Kind::Activator } else { Kind::Context };
        Some(Entry { token: token.text.to_string(), role, layer, neuron })
    };
    let distinct: BTreeSet<Entry> = graph.expanded().nodes().iter().filter_map(entry).collect();
    distinct.into_iter().collect()
}

/// Writes a store of the entries, with neurons in the order of layers and neurons.
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed) if it does not fit into memory.
pub fn print(entries: &[Entry]) -> Result<String> {
    let mut file = StoreFile::default();
    let distinct: BTreeSet<_> =
        entries.iter().map(|entry| (entry.layer, entry.neuron, entry.role, &entry.token)).collect();
    for (layer, neuron, role, token) in distinct {
        let tokens = if role == Kind::Activator { &mut file.activating } else { &mut file.important };
        tokens.entry(token.clone()).or_default().push(format!("{layer}_{neuron}"));
    }
    serde_json::to_string_pretty(&file).map_err(|error| malformed(FORMAT, error))
}
