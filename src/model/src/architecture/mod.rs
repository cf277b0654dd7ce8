//! Architectures: map a checkpoint's names and layouts to [`Config`] and [`Weights`], one file an architecture.

mod gpt2;
mod gpt_neox;
mod hooked;
mod llama;
mod quantised;
mod reader;
mod rope;
mod settings;

use crate::checkpoint::{self, Checkpoint};
use crate::device::Target;
use crate::weights::Weights;
use crate::{Config, Error, Result};

use reader::{Bias, Reader};
use settings::Settings;

/// Supported architectures, as listed in [`Error::Unsupported`].
const SUPPORTED: &str = "hooked_transformer, gpt2, gpt_neox, llama, mistral, qwen2, as GGUF llama and qwen2";

/// A parsed configuration, ready to load its weights.
pub(crate) struct Plan {
    pub config: Config,
    architecture: Architecture,
}

#[derive(Clone, Copy)]
enum Architecture {
    Hooked,
    Gpt2,
    GptNeoX { attention: Bias },
    Llama(llama::Biases),
    LlamaGguf,
}

impl Plan {
    /// Reads the configuration and refuses unsupported networks, before any weight is read.
    pub fn new(checkpoint: &Checkpoint) -> Result<Self> {
        let (architecture, config) = match &checkpoint.settings {
            checkpoint::Settings::Gguf(metadata) => {
                let settings = Settings::from_gguf(metadata)?;
                match settings.text("general.architecture")? {
                    "llama" | "qwen2" => {
                        (Architecture::LlamaGguf, llama::config_of_gguf(&settings, checkpoint.weights.as_ref())?)
                    }
                    other => return Err(unsupported(other)),
                }
            }
            checkpoint::Settings::Json(json) => {
                let settings = Settings::from_json(json)?;
                quantised::refuse(json, &checkpoint.weights.names())?;
                match settings.text_or("model_type", "")? {
                    "" | "hooked_transformer" if settings.has("act_fn") => {
                        (Architecture::Hooked, hooked::config(&settings)?)
                    }
                    "gpt2" => (Architecture::Gpt2, gpt2::config(&settings)?),
                    "gpt_neox" => {
                        let attention = gpt_neox::attention_bias(&settings)?;
                        (Architecture::GptNeoX { attention }, gpt_neox::config(&settings)?)
                    }
                    "llama" | "mistral" | "qwen2" => {
                        (Architecture::Llama(llama::Biases::of(&settings)?), llama::config(&settings)?)
                    }
                    "" => {
                        return Err(Error::Config("config.json has neither model_type nor act_fn".into()));
                    }
                    other => return Err(unsupported(other)),
                }
            }
        };
        Ok(Self { config: config.check()?, architecture })
    }

    /// Reads all weights, several layers at a time, to a device.
    pub fn weights(&self, checkpoint: &Checkpoint, target: &Target) -> Result<Weights> {
        let reader = Reader::new(checkpoint.weights.as_ref(), target);
        let weights = match self.architecture {
            Architecture::Hooked => hooked::weights(&self.config, &reader),
            Architecture::Gpt2 => gpt2::weights(&self.config, &reader),
            Architecture::GptNeoX { attention } => gpt_neox::weights(&self.config, &reader, attention),
            Architecture::Llama(biases) => {
                // The base model is saved without the prefix, the language model with it.
                let bare = reader.has(llama::BASE.embed);
                let names = if bare { &llama::BASE } else { &llama::HUGGING_FACE };
                llama::weights(&self.config, &reader, names, biases)
            }
            Architecture::LlamaGguf => llama::weights(&self.config, &reader, &llama::GGUF, llama::Biases::IF_PRESENT),
        };
        weights?.at(target)
    }
}

fn unsupported(architecture: &str) -> Error {
    Error::Unsupported { what: "architecture", value: architecture.into(), supported: SUPPORTED.into() }
}
