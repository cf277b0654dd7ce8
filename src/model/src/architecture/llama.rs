//! Llama and what is shaped like it: RMSNorm, rotary positions, grouped queries, gated MLPs.

use super::decoder::{Biases, Decoder, Experts, Mlp, Names, Qkv};
use super::reader::Bias;
use super::rope::{Spelling, rope};
use super::settings::Settings;
use crate::{Config, Error, Local, Norm, NormKind, Positions, Result};

/// Names of Hugging Face; base models, and the text parts of multimodal ones, have other roots.
pub(super) const NAMES: Names = Names {
    roots: &["model.", "", "model.language_model.", "language_model.model.", "language_model."],
    embed: "embed_tokens",
    positions: None,
    embed_norm: None,
    layers: "layers",
    norm1: "input_layernorm",
    norm2: "post_attention_layernorm",
    post_norms: ["", ""],
    qkv: Qkv::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    qk_norms: ["self_attn.q_norm", "self_attn.k_norm"],
    out: "self_attn.o_proj",
    sinks: "self_attn.sinks",
    mlp: Mlp::Gated(["mlp.gate_proj", "mlp.up_proj"]),
    down: "mlp.down_proj",
    experts: Experts::None,
    final_norm: "norm",
    unembed: &["lm_head", "language_model.lm_head"],
};

/// Defaults of transformers that differ between architectures.
pub(super) struct Defaults {
    pub context: usize,
    /// Number of key-value heads without the key; `None` for the number of query heads.
    pub kv_heads: Option<usize>,
    /// Width of a head without the key; `None` for the share of `hidden_size`.
    pub d_head: Option<usize>,
    /// Kind of the norms, the key of epsilon, and its default.
    pub norm: (NormKind, &'static str, f64),
    /// Key and default of the activation function.
    pub activation: (&'static str, &'static str),
    pub spelling: Spelling,
    pub tied: bool,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            context: 2048,
            kv_heads: None,
            d_head: None,
            norm: (NormKind::Rms, "rms_norm_eps", 1e-6),
            activation: ("hidden_act", "silu"),
            spelling: Spelling::LLAMA,
            tied: false,
        }
    }
}

/// Reads a configuration in the keys of Llama.
pub(super) fn config_with(settings: &Settings, defaults: &Defaults) -> Result<Config> {
    let (d_model, heads) = (settings.size("hidden_size")?, settings.size("num_attention_heads")?);
    let d_head = settings.size_or("head_dim", defaults.d_head.unwrap_or(d_model / heads.max(1)))?;
    let context = settings.size_or("max_position_embeddings", defaults.context)?;
    // Without the key, transformers' default for the architecture applies; null is the number of query heads.
    let kv_heads = defaults.kv_heads.filter(|_| !settings.names("num_key_value_heads")).unwrap_or(heads);
    let (kind, key, eps) = defaults.norm;
    let norm = Norm { kind, eps: settings.number_or(key, eps)? as f32, affine: true };
    Ok(Config {
        architecture: settings.text("model_type")?.into(),
        layers: settings.size("num_hidden_layers")?,
        d_model,
        heads,
        kv_heads: settings.size_or("num_key_value_heads", kv_heads)?,
        d_head,
        d_mlp: settings.size("intermediate_size")?,
        vocabulary: settings.size("vocab_size")?,
        context,
        norm,
        final_norm: norm,
        activation: settings.activation(defaults.activation.0, defaults.activation.1)?,
        gated: true,
        positions: Positions::Rotary(rope(settings, d_head, context, defaults.spelling)?),
        attention_scale: (d_head as f32).powf(-0.5),
        tied: settings.flag_or("tie_word_embeddings", defaults.tied)?,
        ..Config::default()
    })
}

/// Size of the sliding window: null is none, and without the key the default applies.
pub(super) fn window_size(settings: &Settings, default: Option<usize>) -> Result<Option<usize>> {
    match settings.has("sliding_window") {
        true => settings.size("sliding_window").map(Some),
        false if settings.names("sliding_window") => Ok(None),
        false => Ok(default),
    }
}

/// Local attention of the layers that `layer_types` names, else of those for which `slides` is true.
pub(super) fn local(
    settings: &Settings,
    layers: usize,
    size: Option<usize>,
    slides: impl Fn(usize) -> bool,
) -> Result<Option<Local>> {
    const SLIDING: &str = "sliding_attention";
    let slides: Vec<bool> = match settings.texts("layer_types")? {
        Some(types) => {
            if let Some(other) = types.iter().find(|kind| ![SLIDING, "full_attention"].contains(kind)) {
                return Err(Error::Unsupported {
                    what: "layer_types",
                    value: (*other).into(),
                    supported: "full_attention, sliding_attention".into(),
                });
            }
            if types.len() < layers {
                return Err(Error::Config(format!("layer_types names {} layers of {layers}", types.len())));
            }
            types[..layers].iter().map(|kind| *kind == SLIDING).collect()
        }
        None => (0..layers).map(slides).collect(),
    };
    match (slides.contains(&true), size) {
        (false, _) => Ok(None),
        (true, Some(window)) => Ok(Some(Local { window, layers: slides, rope: None })),
        (true, None) => Err(Error::Config(
            "layer_types names sliding_attention, and use_sliding_window or sliding_window says there is none".into(),
        )),
    }
}

/// Local attention of Qwen, which `use_sliding_window` turns on.
pub(super) fn local_of_qwen(settings: &Settings, layers: usize) -> Result<Option<Local>> {
    let used = settings.flag_or("use_sliding_window", false)?;
    let size = if used { window_size(settings, Some(4096))? } else { None };
    let first = settings.size_or("max_window_layers", 28)?;
    local(settings, layers, size, |l| size.is_some() && l >= first)
}

/// Biases by `attention_bias` and `mlp_bias`, whose default is false.
pub(super) fn biases(settings: &Settings) -> Result<Biases> {
    let attention = Bias::of(settings.flag_or("attention_bias", false)?);
    let mlp = Bias::of(settings.flag_or("mlp_bias", false)?);
    Ok(Biases { qkv: attention, out: attention, mlp, ..Biases::NONE })
}

/// Reads Llama, Mistral and Qwen2.
pub(super) fn read(settings: &Settings) -> Result<(Config, Decoder)> {
    let (defaults, biases) = match settings.text("model_type")? {
        "mistral" => (Defaults { context: 131_072, kv_heads: Some(8), ..Defaults::default() }, Biases::NONE),
        "qwen2" => {
            let biases = Biases { qkv: Bias::Wanted, ..Biases::NONE };
            (Defaults { context: 32_768, kv_heads: Some(32), ..Defaults::default() }, biases)
        }
        _ => (Defaults::default(), biases(settings)?),
    };
    let mut config = config_with(settings, &defaults)?;
    config.local = match settings.text("model_type")? {
        "mistral" => window_size(settings, Some(4096))?.map(|window| everywhere(window, config.layers)),
        "qwen2" => local_of_qwen(settings, config.layers)?,
        // Llama has none, even if the configuration gives one.
        _ => None,
    };
    Ok((config, Decoder::new(NAMES, biases)))
}

/// Local attention of all layers.
pub(super) fn everywhere(window: usize, layers: usize) -> Local {
    Local { window, layers: vec![true; layers], rope: None }
}
