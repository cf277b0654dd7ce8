//! GPT-NeoX and Pythia of Hugging Face transformers: partial rotary positions, parallel blocks.

use super::reader::{Bias, Reader};
use super::rope::{Spelling, rope};
use super::settings::Settings;
use crate::weights::{Layer, Linear, Weights};
use crate::{Config, Norm, NormKind, Positions, Result};

pub(super) fn config(settings: &Settings) -> Result<Config> {
    let (d_model, heads) = (settings.size("hidden_size")?, settings.size("num_attention_heads")?);
    let d_head = d_model / heads.max(1);
    let context = settings.size_or("max_position_embeddings", 2048)?;
    let norm = Norm { kind: NormKind::Layer, eps: settings.number_or("layer_norm_eps", 1e-5)? as f32, affine: true };
    Ok(Config {
        architecture: "gpt_neox".into(),
        layers: settings.size("num_hidden_layers")?,
        d_model,
        heads,
        kv_heads: heads,
        d_head,
        d_mlp: settings.size_or("intermediate_size", 4 * d_model)?,
        vocabulary: settings.size("vocab_size")?,
        context,
        norm,
        final_norm: norm,
        activation: settings.activation("hidden_act", "gelu")?,
        gated: false,
        positions: Positions::Rotary(rope(settings, d_head, context, Spelling::GPT_NEOX)?),
        parallel: settings.flag_or("use_parallel_residual", true)?,
        attention_scale: (d_head as f32).powf(-0.5),
        tied: settings.flag_or("tie_word_embeddings", false)?,
        ..Config::default()
    })
}

/// Bias of attention, by the configuration; the MLP always has one.
pub(super) fn attention_bias(settings: &Settings) -> Result<Bias> {
    Ok(Bias::of(settings.flag_or("attention_bias", true)?))
}

pub(super) fn weights(config: &Config, reader: &Reader, attention: Bias) -> Result<Weights> {
    let d = config.d_model;
    let prefix = if reader.has("embed_in.weight") { "" } else { "gpt_neox." };
    // Rows of the fused matrix run over (head, query/key/value, d_head); ours over (query/key/value, head, d_head).
    let qkv = |name: &str| -> Result<Linear> {
        let rows = reader.tensor(&format!("{name}.weight"), &[3 * d, d])?;
        let weight = reader.made(&[d, 3 * d], || {
            let rows = rows.reshape((config.heads, 3, config.d_head, d))?.transpose(0, 1)?.contiguous()?;
            Ok(rows.reshape((3 * d, d))?.t()?.contiguous()?)
        })?;
        let bias = match reader.bias(&format!("{name}.bias"), 3 * d, attention)? {
            None => None,
            Some(bias) => {
                let split = bias.reshape((config.heads, 3, config.d_head))?.transpose(0, 1)?.contiguous()?;
                Some(split.reshape(3 * d)?)
            }
        };
        Ok(Linear::new(weight, bias))
    };
    let layers = reader.layers(config.layers, |l| {
        let name = |part: &str| format!("{prefix}layers.{l}.{part}");
        Ok(Layer {
            norm1: reader.norm(&name("input_layernorm"), d, Bias::Wanted)?,
            qkv: qkv(&name("attention.query_key_value"))?,
            out: reader.linear(&name("attention.dense"), d, d, attention)?,
            norm2: reader.norm(&name("post_attention_layernorm"), d, Bias::Wanted)?,
            mlp_in: reader.linear(&name("mlp.dense_h_to_4h"), d, config.d_mlp, Bias::Wanted)?,
            mlp_norm: Default::default(),
            mlp_out: reader.linear(&name("mlp.dense_4h_to_h"), config.d_mlp, d, Bias::Wanted)?,
            extras: Default::default(),
        })
    })?;
    let weights = Weights {
        embed: reader.tensor(&format!("{prefix}embed_in.weight"), &[config.vocabulary, d])?,
        positions: None,
        embed_norm: Default::default(),
        layers,
        final_norm: reader.norm(&format!("{prefix}final_layer_norm"), d, Bias::Wanted)?,
        // The name in files, and that of the module since transformers 5.
        unembed: reader.unembed(&["embed_out", "lm_head"], (d, config.vocabulary), config.tied, Bias::Ignored)?,
    };
    reader.finish(&[".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"])?;
    Ok(weights)
}
