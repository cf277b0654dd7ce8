//! Errors of networks.

use std::path::PathBuf;

use crate::Site;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error of loading or running a network.
///
/// [`Error::sqlstate`] gives the five-character code that a Postgres client sees; [`Error::Internal`] and
/// [`Error::Tensor`] are neuroql's own faults, all other variants tell the user what to change.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name of a model that is not registered.
    #[error("model \"{name}\" does not exist{}", did_you_mean(.known))]
    UnknownModel {
        /// The unknown name.
        name: String,
        /// Registered names.
        known: Vec<String>,
    },
    /// A model of this name is registered already.
    #[error("model \"{0}\" already exists")]
    DuplicateModel(String),
    /// A layer or neuron the model does not have.
    #[error("{what} {index} is out of range: model \"{model}\" has {what}s 0 to {}", limit.saturating_sub(1))]
    OutOfRange {
        /// Kind of the index: `layer`, `neuron`, `head` or `token id`.
        what: &'static str,
        /// The index.
        index: i64,
        /// Number of valid indices.
        limit: usize,
        /// Name of the model.
        model: String,
    },
    /// A text that has to fit the window, and does not.
    #[error("{tokens} tokens do not fit model \"{model}\", whose window is {window}")]
    TooLong {
        /// Number of tokens, with those to write.
        tokens: usize,
        /// The window.
        window: usize,
        /// Name of the model.
        model: String,
    },
    /// A layer of which a model is not read, as its site is a full hook name of another.
    #[error(
        "layer {layer} is not read: site of model \"{model}\" is {site} of layer {only} alone; the site \"{site}\" is of all layers"
    )]
    LayerNotRead {
        /// The layer.
        layer: usize,
        /// The layer that is read.
        only: usize,
        /// The site.
        site: Site,
        /// Name of the model.
        model: String,
    },
    /// The location does not exist or cannot be read.
    #[error("cannot read \"{location}\": {reason}")]
    Location {
        /// File, folder or URL as the user wrote it.
        location: String,
        /// The reason, in the words of the layer that failed.
        reason: String,
    },
    /// A folder lacks a file that a model needs.
    #[error("\"{location}\" holds no {wanted}")]
    MissingFile {
        /// Folder or URL.
        location: String,
        /// Names of the files of which one is needed.
        wanted: String,
    },
    /// A file is truncated, malformed or hostile.
    #[error("{} is not a valid {format} file: {reason}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Format: `GGUF`, `safetensors`, `PyTorch`, `JSON`, …
        format: &'static str,
        /// The fault.
        reason: String,
    },
    /// A network that this crate does not support, refused when it is registered.
    #[error("{what} \"{value}\" is not supported; supported are {supported}")]
    Unsupported {
        /// Kind of the value: `architecture`, `activation function`, `tensor type`, …
        what: &'static str,
        /// The value in the file.
        value: String,
        /// The supported values, as a list to read.
        supported: String,
    },
    /// The configuration lacks a key, or holds a value that makes no sense.
    #[error("model configuration: {0}")]
    Config(String),
    /// A tensor is missing or has another shape than the configuration says.
    #[error("tensor \"{tensor}\": {reason}")]
    Weights {
        /// Name in the file.
        tensor: String,
        /// The fault.
        reason: String,
    },
    /// A registration option that is unknown or out of range.
    #[error("option \"{option}\": {reason}")]
    InvalidOption {
        /// Name of the option.
        option: String,
        /// The fault, and the values that are allowed.
        reason: String,
    },
    /// A device that this build or this machine does not have.
    #[error("device \"{device}\" cannot be used: {reason}")]
    Device {
        /// Name of the device, as in the option.
        device: String,
        /// The missing part, and a remedy.
        reason: String,
    },
    /// A device has no memory left for the smallest part of a batch.
    #[error("device \"{device}\" is out of memory: {reason}")]
    OutOfMemory {
        /// Name of the device, as in the option.
        device: String,
        /// The tensors that do not fit, and a remedy.
        reason: String,
    },
    /// Memory that the caller does not give.
    #[error("{0}")]
    Memory(String),
    /// A token id that the vocabulary does not have.
    #[error("token id {id} is out of range: the vocabulary has {vocabulary} tokens")]
    TokenId {
        /// The id.
        id: u32,
        /// Number of tokens.
        vocabulary: usize,
    },
    /// The tokenizer cannot encode or decode this.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A long text with no place at which it may be cut to be tokenized.
    #[error(
        "a text has more than {limit} bytes in a row that its tokenizer has to take at once (most may stop before a space \
         that follows a word)"
    )]
    Uncut {
        /// Greatest number of such bytes.
        limit: usize,
    },
    /// The caller gave up: cancel request, timeout or closed connection.
    #[error("canceling statement due to user request")]
    Cancelled,
    /// A tensor operation failed.
    #[error("tensor operation failed (this is a bug in neuroql): {0}")]
    Tensor(#[from] candle_core::Error),
    /// A broken invariant.
    #[error("internal error (this is a bug in neuroql): {0}")]
    Internal(String),
}

impl Error {
    /// SQLSTATE of this error, from appendix A of the PostgreSQL manual.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Error::UnknownModel { .. } => "42P01",
            Error::DuplicateModel(_) => "42P07",
            Error::OutOfRange { .. } | Error::LayerNotRead { .. } | Error::TokenId { .. } => "22003",
            Error::Location { .. } | Error::MissingFile { .. } => "58P01",
            Error::Corrupt { .. } | Error::Weights { .. } => "XX001",
            Error::Unsupported { .. } | Error::Device { .. } => "0A000",
            Error::OutOfMemory { .. } | Error::Memory(_) => "53200",
            Error::Uncut { .. } => "54000",
            Error::Config(_) | Error::InvalidOption { .. } | Error::TooLong { .. } => "22023",
            Error::Tokenizer(_) => "22000",
            Error::Cancelled => "57014",
            Error::Tensor(_) | Error::Internal(_) => "XX000",
        }
    }
}

fn did_you_mean(known: &[String]) -> String {
    if known.is_empty() { "; none is registered".into() } else { format!("; registered are {}", known.join(", ")) }
}
