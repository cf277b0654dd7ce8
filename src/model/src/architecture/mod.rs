//! Architectures: map a checkpoint's names and layouts to [`Config`] and [`Weights`].
//!
//! Those of Hugging Face transformers and llama.cpp are a `Config` and a [`Decoder`], a table of names; the others have a
//! file each.

mod decoder;
mod families;
mod gguf;
mod gpt2;
mod gpt_neox;
mod hooked;
mod llama;
mod older;
mod quantised;
mod reader;
mod rope;
mod settings;

use crate::checkpoint::{self, Checkpoint, TensorSource};
use crate::device::Target;
use crate::weights::Weights;
use crate::{Config, Error, Result};

use decoder::Decoder;
use reader::{Bias, Reader};
use settings::Settings;

/// Reads the configuration of a decoder.
type Read = fn(&Settings) -> Result<(Config, Decoder)>;

/// Decoders of Hugging Face transformers by their `model_type`.
const DECODERS: [(&str, Read); 26] = [
    ("llama", llama::read),
    ("mistral", llama::read),
    ("qwen2", llama::read),
    ("qwen3", families::qwen3),
    ("smollm3", families::smollm3),
    ("olmo", families::olmo),
    ("olmo2", families::olmo2),
    ("granite", families::granite),
    ("cohere", families::cohere),
    ("stablelm", families::stablelm),
    ("starcoder2", families::starcoder2),
    ("phi", families::phi),
    ("phi3", families::phi3),
    ("gemma", families::gemma),
    ("gemma2", families::gemma2),
    ("gemma3_text", families::gemma3),
    ("mixtral", families::mixtral),
    ("olmoe", families::olmoe),
    ("qwen3_moe", families::qwen3_moe),
    ("gpt_oss", families::gpt_oss),
    ("gpt_neo", older::gpt_neo),
    ("gptj", older::gptj),
    ("opt", older::opt),
    ("bloom", older::bloom),
    ("mpt", older::mpt),
    ("falcon", older::falcon),
];

/// A parsed configuration, ready to load its weights.
pub(crate) struct Plan {
    pub config: Config,
    architecture: Architecture,
}

enum Architecture {
    Hooked,
    Gpt2,
    GptNeoX { attention: Bias },
    Decoder(Box<Decoder>),
}

impl Plan {
    /// Reads the configuration and refuses unsupported networks, before any weight is read.
    pub fn new(settings: &checkpoint::Settings, weights: &dyn TensorSource) -> Result<Self> {
        let (architecture, config) = match settings {
            checkpoint::Settings::Gguf(metadata) => {
                let settings = Settings::from_gguf(metadata)?;
                let (config, decoder) = gguf::read(&settings, weights)?;
                (Architecture::Decoder(Box::new(decoder)), config)
            }
            checkpoint::Settings::Json(json) => of_json(json, &weights.names())?,
        };
        Ok(Self { config: config.check()?, architecture })
    }

    fn of_settings(settings: &Settings) -> Result<(Architecture, Config)> {
        Ok(match settings.text_or("model_type", "")? {
            "" | "hooked_transformer" if settings.has("act_fn") => (Architecture::Hooked, hooked::config(settings)?),
            "gpt2" => (Architecture::Gpt2, gpt2::config(settings)?),
            "gpt_neox" => {
                let attention = gpt_neox::attention_bias(settings)?;
                (Architecture::GptNeoX { attention }, gpt_neox::config(settings)?)
            }
            "" => return Err(Error::Config("config.json has neither model_type nor act_fn".into())),
            name => {
                let (config, decoder) = read(name)?(settings)?;
                (Architecture::Decoder(Box::new(decoder)), config)
            }
        })
    }

    /// Reads all weights, several layers at a time, to a device.
    pub fn weights(&self, checkpoint: &Checkpoint, target: &Target) -> Result<Weights> {
        self.read(&Reader::new(checkpoint.weights.as_ref(), target))?.at(target)
    }

    /// Refuses a checkpoint with missing, unknown or misshapen tensors, without reading them.
    pub fn check(&self, weights: &dyn TensorSource) -> Result<()> {
        self.read(&Reader::checking(weights)).map(drop)
    }

    fn read(&self, reader: &Reader) -> Result<Weights> {
        match &self.architecture {
            Architecture::Hooked => hooked::weights(&self.config, reader),
            Architecture::Gpt2 => gpt2::weights(&self.config, reader),
            Architecture::GptNeoX { attention } => gpt_neox::weights(&self.config, reader, *attention),
            Architecture::Decoder(decoder) => decoder.weights(&self.config, reader),
        }
    }
}

/// Reads `config.json` alone, and refuses what is not supported before the weights are there.
pub(crate) fn config_of(json: &serde_json::Value) -> Result<Config> {
    of_json(json, &[])?.1.check()
}

/// Reads a `config.json`; `tensors` are the names of those of its checkpoint.
fn of_json(json: &serde_json::Value, tensors: &[String]) -> Result<(Architecture, Config)> {
    let settings = Settings::from_json(json)?;
    quantised::refuse(json, tensors)?;
    match settings.object("text_config")? {
        Some(text) => {
            quantised::refuse(&json["text_config"], &[])?;
            let (config, decoder) = text_part(&settings, text)?;
            Ok((Architecture::Decoder(Box::new(decoder)), config))
        }
        None => Plan::of_settings(&settings),
    }
}

/// Reader of a decoder's configuration.
fn read(name: &str) -> Result<Read> {
    let found = DECODERS.iter().find(|(known, _)| *known == name);
    found.map(|(_, read)| *read).ok_or_else(|| unsupported(name))
}

/// Reads the text part of a multimodal network.
fn text_part(whole: &Settings, mut text: Settings) -> Result<(Config, Decoder)> {
    let outer = whole.text_or("model_type", "")?;
    if !text.has("model_type") && outer == "gemma3" {
        text.set("model_type", "gemma3_text".into());
    }
    let name = text.text_or("model_type", "")?;
    let read = match name {
        "" => return Err(unsupported(outer)),
        name => read(name)?,
    };
    if let Some(tied) = whole.value("tie_word_embeddings") {
        text.set("tie_word_embeddings", tied.clone());
    }
    let (config, decoder) = read(&text)?;
    Ok((config, Decoder { part: true, ..decoder }))
}

/// Supported architectures, as listed in [`Error::Unsupported`].
fn supported() -> String {
    let names = ["hooked_transformer", "gpt2", "gpt_neox"].into_iter().chain(DECODERS.map(|(name, _)| name));
    format!("{}; as GGUF {}", names.collect::<Vec<_>>().join(", "), gguf::ARCHITECTURES.join(", "))
}

fn unsupported(architecture: &str) -> Error {
    Error::Unsupported { what: "architecture", value: architecture.into(), supported: supported() }
}
