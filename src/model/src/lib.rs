//! Networks: weights, a tokenizer and a forward pass that can be read at a site.
//!
//! This room knows no SQL. It turns a location (a file, a folder, `hf://…`, any object-store URL) into a
//! [`Model`] and text into activations:
//!
//! ```no_run
//! use neuroql_model::{Batch, Cancel, Model, Options, ReadSpec};
//!
//! # fn main() -> neuroql_model::Result<()> {
//! let model = Model::load("gpt2", "hf://openai-community/gpt2", &Options::default(), &())?;
//! let tokens = model.tokenizer().encode("The President of the United States")?;
//! let batch = Batch::new(model.examples(&tokens), model.bos());
//! let spec = ReadSpec::new(&model, [(5, Some(vec![17, 42]))])?;
//! // One tensor a layer: rows are tokens (BOS left out), columns are neurons 17 and 42.
//! let activations = model.run(&batch, &spec, &Cancel::default())?;
//! # Ok(()) }
//! ```
//!
//! Reading order: [`config`](Config) describes the network, `architecture` maps each checkpoint format to it, `forward`
//! runs it on the operations of `ops`, whose CPU versions are in `kernel`; `circuits` reads the weights without a run.

mod activations;
mod architecture;
mod attribution;
mod backpressure;
mod batch;
mod batching;
pub mod checkpoint;
mod circuits;
mod config;
mod device;
mod error;
mod forward;
mod generate;
mod kernel;
pub mod location;
mod model;
mod neighbours;
mod next_tokens;
mod ops;
mod options;
mod patterns;
mod pool;
mod read_spec;
pub mod reduce;
mod registry;
mod site;
mod speed;
mod tokenizer;
mod verify;
mod weights;

pub use activations::CancelOnDrop;
pub use attribution::LayerEffects;
pub use batch::Batch;
pub use batching::Part;
pub use circuits::{Connection, Connections, InputToken, LogitEffect, LogitEffects, Via};
pub use config::{
    Activation, Alibi, Config, Experts, Local, Norm, NormKind, NormPlace, Positions, QkNorm, Rope, RopeScaling,
};
pub use device::{DeviceName, NumberType};
pub use error::{Error, Result};
pub use forward::Cancel;
pub use generate::Sampling;
pub use location::Progress;
pub use model::{Model, NeuronWeights};
pub use next_tokens::Prediction;
pub use options::Options;
pub use patterns::AttentionPass;
pub use pool::{Placement, Pool};
pub use read_spec::{LayerReadSpec, ReadSpec};
pub use registry::Registry;
pub use site::{Site, SiteName};
pub use speed::Speed;
pub use tokenizer::Tokenizer;
pub use verify::{LayerDifferences, PublishedComparison, PublishedText, Reference};
