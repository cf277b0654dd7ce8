//! Llama-shaped networks (Llama, Mistral, Qwen2, SmolLM): RMSNorm, rotary positions, grouped queries, gated MLP,
//! from Hugging Face folders and from GGUF.

use super::reader::{Bias, Reader};
use super::rope::{Spelling, gguf_scaling, rope};
use super::settings::Settings;
use crate::checkpoint::TensorSource;
use crate::weights::{Layer, Weights};
use crate::{Activation, Config, Error, Norm, NormKind, Positions, Result, Rope};

/// Names of the tensors in a checkpoint; `{l}` stands for the layer.
pub(super) struct Names {
    pub embed: &'static str,
    prefix: &'static str,
    norm1: &'static str,
    q: &'static str,
    k: &'static str,
    v: &'static str,
    out: &'static str,
    norm2: &'static str,
    gate: &'static str,
    up: &'static str,
    down: &'static str,
    final_norm: &'static str,
    unembed: &'static str,
}

pub(super) const HUGGING_FACE: Names = Names {
    embed: "model.embed_tokens.weight",
    prefix: "model.layers",
    norm1: "input_layernorm",
    q: "self_attn.q_proj",
    k: "self_attn.k_proj",
    v: "self_attn.v_proj",
    out: "self_attn.o_proj",
    norm2: "post_attention_layernorm",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
    final_norm: "model.norm",
    unembed: "lm_head",
};

/// Names of the base model, which is saved without the prefix of the language model.
pub(super) const BASE: Names =
    Names { embed: "embed_tokens.weight", prefix: "layers", final_norm: "norm", ..HUGGING_FACE };

pub(super) const GGUF: Names = Names {
    embed: "token_embd.weight",
    prefix: "blk",
    norm1: "attn_norm",
    q: "attn_q",
    k: "attn_k",
    v: "attn_v",
    out: "attn_output",
    norm2: "ffn_norm",
    gate: "ffn_gate",
    up: "ffn_up",
    down: "ffn_down",
    final_norm: "output_norm",
    unembed: "output",
};

/// Biases of the matrices; no norm and no unembedding of Hugging Face has one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Biases {
    qkv: Bias,
    out: Bias,
    mlp: Bias,
    norm: Bias,
    unembed: Bias,
}

impl Biases {
    /// Biases of GGUF files, which are optional; those of norms belong to other architectures.
    pub const IF_PRESENT: Self = Self {
        qkv: Bias::IfPresent,
        out: Bias::IfPresent,
        mlp: Bias::IfPresent,
        norm: Bias::Absent,
        unembed: Bias::IfPresent,
    };

    /// Biases that transformers gives the architecture.
    pub fn of(settings: &Settings) -> Result<Self> {
        let (qkv, out, mlp) = match settings.text("model_type")? {
            "qwen2" => (true, false, false),
            "mistral" => (false, false, false),
            _ => {
                let attention = settings.flag_or("attention_bias", false)?;
                (attention, attention, settings.flag_or("mlp_bias", false)?)
            }
        };
        let [qkv, out, mlp] = [qkv, out, mlp].map(Bias::of);
        Ok(Self { qkv, out, mlp, norm: Bias::Ignored, unembed: Bias::Ignored })
    }
}

/// Sliding window of attention; `None` if attention is full.
fn window(settings: &Settings, layers: usize) -> Result<Option<usize>> {
    // Without the key, transformers' default applies; null is no window.
    let size = || match settings.has("sliding_window") {
        true => settings.size("sliding_window").map(Some),
        false if settings.names("sliding_window") => Ok(None),
        false => Ok(Some(4096)),
    };
    match settings.text("model_type")? {
        "mistral" => size(),
        "qwen2" => {
            let size = if settings.flag_or("use_sliding_window", false)? { size()? } else { None };
            const SLIDING: &str = "sliding_attention";
            let slides = match settings.texts("layer_types")? {
                Some(types) => {
                    if let Some(other) = types.iter().find(|kind| ![SLIDING, "full_attention"].contains(kind)) {
                        return Err(Error::Unsupported {
                            what: "layer_types",
                            value: (*other).into(),
                            supported: "full_attention, sliding_attention".into(),
                        });
                    }
                    types.contains(&SLIDING)
                }
                None => size.is_some() && settings.size_or("max_window_layers", 28)? < layers,
            };
            match (slides, size) {
                (false, _) => Ok(None),
                (true, Some(size)) => Ok(Some(size)),
                (true, None) => Err(Error::Config(
                    "layer_types names sliding_attention, and use_sliding_window or sliding_window says there is none"
                        .into(),
                )),
            }
        }
        // Llama has none, even if the configuration gives one.
        _ => Ok(None),
    }
}

pub(super) fn config(settings: &Settings) -> Result<Config> {
    let architecture = settings.text("model_type")?;
    let (trained, kv_heads) = match architecture {
        "mistral" => (131_072, Some(8)),
        "qwen2" => (32_768, Some(32)),
        _ => (2048, None),
    };
    let (d_model, heads) = (settings.size("hidden_size")?, settings.size("num_attention_heads")?);
    let d_head = settings.size_or("head_dim", d_model / heads.max(1))?;
    let trained = settings.size_or("max_position_embeddings", trained)?;
    let layers = settings.size("num_hidden_layers")?;
    // Without the key, transformers' default for the architecture applies; null is the number of query heads.
    let kv_heads = kv_heads.filter(|_| !settings.names("num_key_value_heads")).unwrap_or(heads);
    let norm = Norm { kind: NormKind::Rms, eps: settings.number_or("rms_norm_eps", 1e-6)? as f32, affine: true };
    // Inside the sliding window local attention is plain causal attention, so windows end there.
    let context = window(settings, layers)?.map_or(trained, |window| trained.min(window));
    Ok(Config {
        architecture: architecture.into(),
        layers,
        d_model,
        heads,
        kv_heads: settings.size_or("num_key_value_heads", kv_heads)?,
        d_head,
        d_mlp: settings.size("intermediate_size")?,
        vocabulary: settings.size("vocab_size")?,
        context,
        norm,
        final_norm: norm,
        activation: settings.activation("hidden_act", "silu")?,
        gated: true,
        positions: Positions::Rotary(rope(settings, d_head, trained, Spelling::Llama)?),
        parallel: false,
        attention_scale: (d_head as f32).powf(-0.5),
        scale_by_layer: false,
        tied: settings.flag_or("tie_word_embeddings", false)?,
    })
}

pub(super) fn config_of_gguf(settings: &Settings, tensors: &dyn TensorSource) -> Result<Config> {
    let architecture = settings.text("general.architecture")?;
    if settings.size_or("expert_count", 0)? > 0 {
        return Err(Error::Unsupported {
            what: "architecture",
            value: format!("{architecture} with experts"),
            supported: "dense MLPs".into(),
        });
    }
    let (d_model, heads) = (settings.size("embedding_length")?, settings.size("attention.head_count")?);
    let d_head = settings.size_or("attention.key_length", d_model / heads.max(1))?;
    let norm = Norm {
        kind: NormKind::Rms,
        eps: settings.number_or("attention.layer_norm_rms_epsilon", 1e-6)? as f32,
        affine: true,
    };
    let vocabulary = match tensors.shape(GGUF.embed).as_deref() {
        Some(&[vocabulary, _]) => vocabulary,
        _ => return Err(Error::Weights { tensor: GGUF.embed.into(), reason: "missing from the checkpoint".into() }),
    };
    let factors = match tensors.shape("rope_freqs.weight") {
        Some(_) => Some(tensors.read("rope_freqs.weight")?.flatten_all()?.to_vec1()?),
        None => None,
    };
    let scaling = gguf_scaling(settings, factors)?;
    Ok(Config {
        architecture: architecture.into(),
        layers: settings.size("block_count")?,
        d_model,
        heads,
        kv_heads: settings.size_or("attention.head_count_kv", heads)?,
        d_head,
        d_mlp: settings.size("feed_forward_length")?,
        vocabulary,
        context: settings.size_or("context_length", 2048)?,
        norm,
        final_norm: norm,
        activation: Activation::Silu,
        gated: true,
        positions: Positions::Rotary(Rope {
            dims: settings.size_or("rope.dimension_count", d_head)?,
            base: settings.number_or("rope.freq_base", 10_000.0)?,
            // The converter permutes the query and key rows of llama, and of llama only.
            adjacent_pairs: architecture == "llama",
            scaling,
        }),
        parallel: false,
        attention_scale: (d_head as f32).powf(-0.5),
        scale_by_layer: false,
        tied: true,
    })
}

pub(super) fn weights(config: &Config, reader: &Reader, names: &Names, biases: Biases) -> Result<Weights> {
    let d = config.d_model;
    let (d_q, d_kv) = (config.heads * config.d_head, config.kv_heads * config.d_head);
    let layers = reader.layers(config.layers, |l| {
        let name = |part: &str| format!("{}.{l}.{part}", names.prefix);
        Ok(Layer {
            norm1: reader.norm(&name(names.norm1), d, biases.norm)?,
            qkv: reader.linears(
                &[(name(names.q), d_q), (name(names.k), d_kv), (name(names.v), d_kv)],
                d,
                biases.qkv,
            )?,
            out: reader.linear(&name(names.out), d_q, d, biases.out)?,
            norm2: reader.norm(&name(names.norm2), d, biases.norm)?,
            mlp_in: reader.linears(
                &[(name(names.gate), config.d_mlp), (name(names.up), config.d_mlp)],
                d,
                biases.mlp,
            )?,
            mlp_norm: Default::default(),
            mlp_out: reader.linear(&name(names.down), config.d_mlp, d, biases.mlp)?,
        })
    })?;
    let weights = Weights {
        embed: reader.tensor(names.embed, &[config.vocabulary, d])?,
        positions: None,
        layers,
        final_norm: reader.norm(names.final_norm, d, biases.norm)?,
        unembed: reader.unembed(&[names.unembed], config, biases.unembed)?,
    };
    reader.finish(&[".rotary_emb.inv_freq", "rope_freqs.weight"])?;
    Ok(weights)
}
