//! Llama-shaped networks (Llama, Mistral, Qwen2, SmolLM): RMSNorm, rotary positions, grouped queries, gated MLP,
//! from Hugging Face folders and from GGUF.

use super::reader::Reader;
use super::rope::rope;
use super::settings::Settings;
use crate::checkpoint::TensorSource;
use crate::weights::{Layer, Unembed, Weights};
use crate::{Activation, Config, Error, Norm, NormKind, Positions, Result, Rope, RopeScaling};

/// What a checkpoint calls its tensors; `{l}` stands for the layer.
pub(super) struct Names {
    embed: &'static str,
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

pub(super) fn config(settings: &Settings) -> Result<Config> {
    let (d_model, heads) = (settings.size("hidden_size")?, settings.size("num_attention_heads")?);
    let d_head = settings.size_or("head_dim", d_model / heads.max(1))?;
    let trained = settings.size_or("max_position_embeddings", 2048)?;
    let norm = Norm { kind: NormKind::Rms, eps: settings.number_or("rms_norm_eps", 1e-6)? as f32, affine: true };
    // Inside the sliding window local attention is plain causal attention, so windows end there.
    let by_default = settings.text("model_type")? != "qwen2";
    let slides = settings.has("sliding_window") && settings.flag_or("use_sliding_window", by_default)?;
    let context = if slides { trained.min(settings.size("sliding_window")?) } else { trained };
    Ok(Config {
        architecture: settings.text("model_type")?.into(),
        layers: settings.size("num_hidden_layers")?,
        d_model,
        heads,
        kv_heads: settings.size_or("num_key_value_heads", heads)?,
        d_head,
        d_mlp: settings.size("intermediate_size")?,
        vocabulary: settings.size("vocab_size")?,
        context,
        norm,
        final_norm: norm,
        activation: settings.activation("hidden_act", "silu")?,
        gated: true,
        positions: Positions::Rotary(rope(settings, d_head, trained, 1.0)?),
        parallel: false,
        attention_scale: (d_head as f32).powf(-0.5),
        scale_by_layer: false,
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
    let scaling = match settings.text_or("rope.scaling.type", "none")? {
        _ if tensors.shape("rope_freqs.weight").is_some() => {
            RopeScaling::Factors(tensors.read("rope_freqs.weight")?.flatten_all()?.to_vec1()?)
        }
        "none" => RopeScaling::Default,
        "linear" => RopeScaling::Linear(settings.number_or("rope.scaling.factor", 1.0)?),
        other => {
            return Err(Error::Unsupported {
                what: "rope.scaling.type",
                value: other.into(),
                supported: "none, linear".into(),
            });
        }
    };
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
    })
}

pub(super) fn weights(config: &Config, reader: &Reader, names: &Names) -> Result<Weights> {
    let d = config.d_model;
    let (d_q, d_kv) = (config.heads * config.d_head, config.kv_heads * config.d_head);
    let layers = reader.layers(config.layers, |l| {
        let name = |part: &str| format!("{}.{l}.{part}", names.prefix);
        Ok(Layer {
            norm1: reader.norm(&name(names.norm1), d)?,
            qkv: reader.linears(&[(name(names.q), d_q), (name(names.k), d_kv), (name(names.v), d_kv)], d)?,
            out: reader.linear(&name(names.out), d_q, d)?,
            norm2: reader.norm(&name(names.norm2), d)?,
            mlp_in: reader.linears(&[(name(names.gate), config.d_mlp), (name(names.up), config.d_mlp)], d)?,
            mlp_norm: Default::default(),
            mlp_out: reader.linear(&name(names.down), config.d_mlp, d)?,
        })
    })?;
    let weights = Weights {
        embed: reader.tensor(names.embed, &[config.vocabulary, d])?,
        positions: None,
        layers,
        final_norm: reader.norm(names.final_norm, d)?,
        unembed: if reader.has(&format!("{}.weight", names.unembed)) {
            Unembed::Matrix(reader.linear(names.unembed, d, config.vocabulary)?)
        } else {
            Unembed::Tied
        },
    };
    reader.finish(&[".rotary_emb.inv_freq", "rope_freqs.weight"])?;
    Ok(weights)
}
