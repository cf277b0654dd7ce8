//! The bundled model and corpus, compiled into the program so that one file is a working system.
//!
//! Each dataset is a folder with a card that says where it came from and the recipe that made it.

/// A model and its corpus as files in memory.
#[derive(Debug, Clone, Copy)]
pub struct Bundle {
    /// Name it is registered under.
    pub name: &'static str,
    /// `config.json`.
    pub config: &'static [u8],
    /// `model.safetensors`.
    pub weights: &'static [u8],
    /// `tokenizer.json`.
    pub tokenizer: &'static [u8],
    /// `corpus.parquet`: document, source, split, text.
    pub corpus: &'static [u8],
    /// Results of `analyze` for the model over the corpus.
    pub analysis: Analysis,
    /// Rows of a store's table `graphs` of the model, as a Parquet file, if there are any.
    pub graphs: Option<&'static [u8]>,
}

/// Tables of a store as Parquet files.
#[derive(Debug, Clone, Copy)]
pub struct Analysis {
    /// `neurons`: statistics and examples.
    pub neurons: &'static [u8],
    /// `bounds` of each neuron in each example.
    pub bounds: &'static [u8],
    /// `contexts`: the examples.
    pub contexts: &'static [u8],
}

/// A two-layer SoLU transformer trained for this project; see `toy/README.md`.
pub const TOY: Bundle = Bundle {
    name: "toy",
    config: include_bytes!("toy/config.json"),
    weights: include_bytes!("toy/model.safetensors"),
    tokenizer: include_bytes!("toy/tokenizer.json"),
    corpus: include_bytes!("toy/corpus.parquet"),
    analysis: Analysis {
        neurons: include_bytes!("toy/analysis/neurons.parquet"),
        bounds: include_bytes!("toy/analysis/bounds.parquet"),
        contexts: include_bytes!("toy/analysis/contexts.parquet"),
    },
    graphs: Some(include_bytes!("toy/graphs/graphs.parquet")),
};
