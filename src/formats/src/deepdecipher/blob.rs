//! Values in the columns `data`: postcard, in most types compressed as one block of snappy.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Greatest size of a value, in bytes, before and after it is decompressed.
pub(super) const MOST_BYTES: usize = 64 << 20;

/// A neuron, as everywhere in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Index {
    pub layer: u32,
    pub neuron: u32,
}

/// A neuron's page of Neuroscope.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub neuron_index: Index,
    pub texts: Vec<Text>,
}

/// A text of a page.
#[derive(Debug, Deserialize)]
pub(super) struct Text {
    pub min_range: f32,
    pub max_range: f32,
    pub min_activation: f32,
    pub max_activation: f32,
    pub data_index: u64,
    pub max_activating_token_index: u32,
    pub tokens: Vec<String>,
    pub activations: Vec<f32>,
}

/// An explanation in words.
#[derive(Debug, Deserialize)]
pub(super) struct Explained {
    pub explanation: String,
    pub score: f32,
}

/// A drawing of a graph.
#[derive(Debug, Deserialize)]
pub(super) struct Drawing {
    /// Index of the first node of each depth: those of an empty root first, then those of activators.
    pub subgraph_indices: Vec<u64>,
    pub graph: Vec<DrawnNode>,
}

/// A node of a drawing.
#[derive(Debug, Deserialize)]
pub(super) struct DrawnNode {
    /// Label of the node in Graphviz's language, with its quotes.
    pub token: String,
    /// Nodes one token farther from the activator.
    pub required: Vec<u64>,
    pub importance: f32,
}

/// A similar neuron.
#[derive(Debug, Deserialize)]
pub(super) struct SimilarNeuron {
    pub layer: u32,
    pub neuron: u32,
    pub similarity: f32,
}

/// Decodes a compressed value.
pub(super) fn compressed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let length = snap::raw::decompress_len(bytes).map_err(|error| error.to_string())?;
    // Each element of a block makes at most 64 bytes of at least two.
    if length > MOST_BYTES || length > bytes.len().saturating_mul(64) {
        return Err(format!("it would have {length} bytes decompressed"));
    }
    let bytes = snap::raw::Decoder::new().decompress_vec(bytes).map_err(|error| error.to_string())?;
    plain(&bytes)
}

/// Decodes a value that is not compressed.
pub(super) fn plain<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!("there are {} bytes after its end", rest.len())),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that DeepDecipher's own code writes.
    #[test]
    fn values_of_the_original() {
        let explained = [0x08, 0x1c, 0x03, 0x20, 0x61, 0x62, 0, 0, 0, 0x3f];
        let Explained { explanation, score } = compressed(&explained).unwrap();
        assert_eq!((explanation.as_str(), score), (" ab", 0.5));
        let similar: Vec<SimilarNeuron> = plain(&[1, 1, 0xac, 2, 0, 0, 0, 0x3f]).unwrap();
        assert_eq!((similar[0].layer, similar[0].neuron, similar[0].similarity), (1, 300, 0.5));
        let drawing: Drawing = plain(&[3, 0, 0, 1, 1, 1, 0x61, 0, 0, 0, 0, 0x3f]).unwrap();
        assert_eq!(drawing.subgraph_indices, [0, 0, 1]);
        assert_eq!((drawing.graph[0].token.as_str(), drawing.graph[0].importance), ("a", 0.5));
        assert!(plain::<Vec<SimilarNeuron>>(&[1, 1, 0xac, 2, 0, 0, 0, 0x3f, 0]).is_err());
    }
}
