//! GPT-2 of Hugging Face transformers: learned positions, LayerNorm, `Conv1D` matrices stored `[in, out]`.

use super::reader::{Bias, Reader};
use super::settings::Settings;
use crate::weights::{Layer, Linear, Weights};
use crate::{Config, Norm, NormKind, Positions, Result};

pub(super) fn config(settings: &Settings) -> Result<Config> {
    let (d_model, heads) = (settings.size("n_embd")?, settings.size("n_head")?);
    let d_head = d_model / heads.max(1);
    let norm =
        Norm { kind: NormKind::Layer, eps: settings.number_or("layer_norm_epsilon", 1e-5)? as f32, affine: true };
    settings.refuse("add_cross_attention")?;
    Ok(Config {
        architecture: "gpt2".into(),
        layers: settings.size("n_layer")?,
        d_model,
        heads,
        kv_heads: heads,
        d_head,
        d_mlp: settings.size_or("n_inner", 4 * d_model)?,
        vocabulary: settings.size("vocab_size")?,
        context: settings.size_or("n_positions", 1024)?,
        norm,
        final_norm: norm,
        activation: settings.activation("activation_function", "gelu_new")?,
        gated: false,
        positions: Positions::Learned,
        parallel: false,
        attention_scale: if settings.flag_or("scale_attn_weights", true)? { (d_head as f32).powf(-0.5) } else { 1.0 },
        scale_by_layer: settings.flag_or("scale_attn_by_inverse_layer_idx", false)?,
        tied: settings.flag_or("tie_word_embeddings", true)?,
        ..Config::default()
    })
}

pub(super) fn weights(config: &Config, reader: &Reader) -> Result<Weights> {
    let d = config.d_model;
    // The base model is saved without the prefix, the language model with it.
    let prefix = if reader.has("wte.weight") { "" } else { "transformer." };
    let conv1d = |name: &str, d_in: usize, d_out: usize| -> Result<Linear> {
        let weight = reader.tensor(&format!("{name}.weight"), &[d_in, d_out])?;
        Ok(Linear::new(weight, Some(reader.tensor(&format!("{name}.bias"), &[d_out])?)))
    };
    let layers = reader.layers(config.layers, |l| {
        let name = |part: &str| format!("{prefix}h.{l}.{part}");
        Ok(Layer {
            norm1: reader.norm(&name("ln_1"), d, Bias::Wanted)?,
            qkv: conv1d(&name("attn.c_attn"), d, 3 * d)?,
            out: conv1d(&name("attn.c_proj"), d, d)?,
            norm2: reader.norm(&name("ln_2"), d, Bias::Wanted)?,
            mlp_in: conv1d(&name("mlp.c_fc"), d, config.d_mlp)?,
            mlp_norm: Default::default(),
            mlp_out: conv1d(&name("mlp.c_proj"), config.d_mlp, d)?,
            extras: Default::default(),
        })
    })?;
    let weights = Weights {
        embed: reader.tensor(&format!("{prefix}wte.weight"), &[config.vocabulary, d])?,
        embed_norm: Default::default(),
        positions: Some(reader.tensor(&format!("{prefix}wpe.weight"), &[config.context, d])?),
        layers,
        final_norm: reader.norm(&format!("{prefix}ln_f"), d, Bias::Wanted)?,
        unembed: reader.unembed(&["lm_head"], (d, config.vocabulary), config.tied, Bias::Ignored)?,
    };
    reader.finish(&[".attn.bias", ".attn.masked_bias"])?;
    Ok(weights)
}
