//! Errors from a location to an activation.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every way loading or running a network fails.
///
/// [`Error::sqlstate`] gives the five-character code a Postgres client sees; [`Error::Internal`] and
/// [`Error::Tensor`] are neuroql's own faults, all other variants tell the user what to change.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No model is registered under this name.
    #[error("model \"{name}\" does not exist{}", did_you_mean(.known))]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// Names that are registered.
        known: Vec<String>,
    },
    /// A model of this name is registered already.
    #[error("model \"{0}\" already exists")]
    DuplicateModel(String),
    /// A layer or neuron the model does not have.
    #[error("{what} {index} is out of range: model \"{model}\" has {what}s 0 to {}", limit.saturating_sub(1))]
    OutOfRange {
        /// `layer`, `neuron` or `token id`.
        what: &'static str,
        /// The index asked for.
        index: i64,
        /// One past the last valid index.
        limit: usize,
        /// Name of the model.
        model: String,
    },
    /// The location does not exist or cannot be read.
    #[error("cannot read \"{location}\": {reason}")]
    Location {
        /// File, folder or URL as the user wrote it.
        location: String,
        /// Why, in the words of the layer that failed.
        reason: String,
    },
    /// A folder lacks a file that a model needs.
    #[error("\"{location}\" holds no {wanted}")]
    MissingFile {
        /// The folder or URL.
        location: String,
        /// File names that would do.
        wanted: String,
    },
    /// A file is truncated, malformed or hostile.
    #[error("{} is not a valid {format} file: {reason}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// `GGUF`, `safetensors`, `PyTorch`, `JSON`, …
        format: &'static str,
        /// The fault.
        reason: String,
    },
    /// A network this crate cannot run, refused when it is registered.
    #[error("{what} \"{value}\" is not supported; supported are {supported}")]
    Unsupported {
        /// `architecture`, `activation function`, `tensor type`, …
        what: &'static str,
        /// The value in the file.
        value: String,
        /// The supported values, as a list for people.
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
        /// As in the option.
        device: String,
        /// The missing thing, and what to do about it.
        reason: String,
    },
    /// A device has no memory left for the smallest part of a batch.
    #[error("device \"{device}\" is out of memory: {reason}")]
    OutOfMemory {
        /// As in the option.
        device: String,
        /// The thing to be held, and what to do about it.
        reason: String,
    },
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
            Error::OutOfRange { .. } | Error::TokenId { .. } => "22003",
            Error::Location { .. } | Error::MissingFile { .. } => "58P01",
            Error::Corrupt { .. } | Error::Weights { .. } => "XX001",
            Error::Unsupported { .. } | Error::Device { .. } => "0A000",
            Error::OutOfMemory { .. } => "53200",
            Error::Config(_) | Error::InvalidOption { .. } => "22023",
            Error::Tokenizer(_) => "22000",
            Error::Cancelled => "57014",
            Error::Tensor(_) | Error::Internal(_) => "XX000",
        }
    }
}

fn did_you_mean(known: &[String]) -> String {
    if known.is_empty() { "; none is registered".into() } else { format!("; registered are {}", known.join(", ")) }
}
