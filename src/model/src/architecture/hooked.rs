//! HookedTransformer checkpoints of TransformerLens: the solu-* and gelu-* models of Neuron2Graph and DeepDecipher.
//!
//! Their keys changed over the years (`normalization` became `normalization_type`, `shortformer_pos` became a value of
//! `positional_embedding_type`); the oldest checkpoints have other names and transposed matrices besides, which
//! TransformerLens mends as it loads them, and so does this file.

use candle_core::Tensor;

use super::reader::Reader;
use super::settings::Settings;
use crate::weights::{Layer, Linear, NormWeights, Unembed, Weights};
use crate::{Activation, Config, Error, Norm, NormKind, Positions, Result, Rope, RopeScaling};

/// Keys that change the computation of the network even if its tensors look the same.
const CHANGES_THE_NETWORK: [&str; 11] = [
    "attn_only",
    "gated_mlp",
    "post_embedding_ln",
    "use_attention_sinks",
    "use_dynamic_ntk_rope",
    "use_local_attn",
    "use_logn_attn",
    "use_normalization_before_and_after",
    "use_NTK_by_parts_rope",
    "use_qk_norm",
    "use_yarn_rope",
];

pub(super) fn config(settings: &Settings) -> Result<Config> {
    CHANGES_THE_NETWORK.iter().try_for_each(|key| settings.refuse(key))?;
    // Unset caps and clamps are absent or -1.
    for key in ["attn_scores_soft_cap", "output_logits_soft_cap", "clip_qkv"] {
        if settings.number_or(key, -1.0)? > 0.0 {
            settings.refuse(key)?;
        }
    }
    if settings.number_or("rotary_scaling_factor", 1.0)? != 1.0 {
        settings.refuse("rotary_scaling_factor")?;
    }
    if settings.text_or("attention_dir", "causal")? != "causal" {
        settings.refuse("attention_dir")?;
    }
    let d_model = settings.size("d_model")?;
    let d_head = match settings.size_or("d_head", 0)? {
        0 => d_model / settings.size("n_heads")?.max(1),
        d_head => d_head,
    };
    let context = settings.size("n_ctx")?;
    // TransformerLens ignores `ln_eps` and takes `eps`.
    let eps = settings.number_or("eps", 1e-5)? as f32;
    // Without the key, TransformerLens' default applies; null is no norm.
    let unsaid =
        if ["normalization", "normalization_type"].iter().any(|key| settings.names(key)) { "none" } else { "LN" };
    let (kind, affine) = match settings.text_or("normalization_type", settings.text_or("normalization", unsaid)?)? {
        "LN" => (NormKind::Layer, true),
        "LNPre" => (NormKind::Layer, false),
        "RMS" => (NormKind::Rms, true),
        "RMSPre" => (NormKind::Rms, false),
        "none" => (NormKind::None, false),
        other => {
            return Err(Error::Unsupported {
                what: "normalization_type",
                value: other.into(),
                supported: "LN, LNPre, RMS, RMSPre, null".into(),
            });
        }
    };
    let final_kind = match kind {
        NormKind::Layer if settings.flag_or("final_rms", false)? => NormKind::Rms,
        kind => kind,
    };
    let positions = match settings.text_or("positional_embedding_type", "standard")? {
        _ if settings.flag_or("shortformer_pos", false)? => Positions::Shortformer,
        "standard" => Positions::Learned,
        "shortformer" => Positions::Shortformer,
        "rotary" => {
            let base = settings.number_or("rotary_base", 10_000.0)?;
            if base <= 1.0 {
                return Err(Error::Config(format!("rotary_base is {base}, expected more than 1")));
            }
            Positions::Rotary(Rope {
                dims: settings.size_or("rotary_dim", d_head)?,
                base,
                adjacent_pairs: settings.flag_or("rotary_adjacent_pairs", false)?,
                scaling: RopeScaling::Default,
            })
        }
        other => {
            return Err(Error::Unsupported {
                what: "positional_embedding_type",
                value: other.into(),
                supported: "standard, shortformer, rotary".into(),
            });
        }
    };
    let heads = match settings.size_or("n_heads", 0)? {
        0 => d_model / d_head.max(1),
        heads => heads,
    };
    // A negative `attn_scale` is TransformerLens' "not set".
    let divisor = match settings.number_or("attn_scale", -1.0)? {
        _ if !settings.flag_or("use_attn_scale", true)? => 1.0,
        scale if scale > 0.0 => scale,
        _ => (d_head as f64).sqrt(),
    };
    Ok(Config {
        architecture: "hooked_transformer".into(),
        layers: settings.size("n_layers")?,
        d_model,
        heads,
        kv_heads: settings.size_or("n_key_value_heads", heads)?,
        d_head,
        d_mlp: settings.size_or("d_mlp", 4 * d_model)?,
        vocabulary: settings.size("d_vocab")?,
        context,
        norm: Norm { kind, eps, affine },
        final_norm: Norm { kind: final_kind, eps, affine },
        activation: settings.text("act_fn")?.parse()?,
        gated: false,
        positions,
        parallel: settings.flag_or("parallel_attn_mlp", false)?,
        attention_scale: (1.0 / divisor) as f32,
        scale_by_layer: settings.flag_or("scale_attn_by_inverse_layer_idx", false)?,
        tied: false,
        ..Config::default()
    })
}

pub(super) fn weights(config: &Config, reader: &Reader) -> Result<Weights> {
    let names = Names::of(config, reader);
    let (d, m, hd) = (config.d_model, config.d_mlp, config.d_head);
    let layers = reader.layers(config.layers, |l| {
        let block = |part: &str| format!("blocks.{l}.{part}");
        Ok(Layer {
            norm1: names.norm(reader, &block(&format!("{}1", names.norm)), config.norm, d)?,
            qkv: names.qkv(config, reader, &block("attn"))?,
            out: Linear::new(
                names.matrix(reader, &block("attn.W_O"), &[config.heads, hd, d])?.reshape((config.heads * hd, d))?,
                reader.optional(&block("attn.b_O"), &[d])?,
            ),
            norm2: names.norm(reader, &block(&format!("{}2", names.norm)), config.norm, d)?,
            mlp_in: names.linear(reader, &block("mlp"), ("W_in", "b_in"), d, m)?,
            mlp_norm: if config.activation == Activation::SoluLn {
                names.norm(reader, &block(&format!("mlp.{}", names.norm)), config.mlp_norm(), m)?
            } else {
                NormWeights::default()
            },
            mlp_out: names.linear(reader, &block("mlp"), ("W_out", "b_out"), m, d)?,
            extras: Default::default(),
        })
    })?;
    let final_norm = if names.norm == "norm" { "norm" } else { "ln_final" };
    let weights = Weights {
        embed: names.matrix(reader, "embed.W_E", &[config.vocabulary, d])?,
        positions: match config.positions {
            Positions::Rotary(_) => None,
            _ => Some(names.positions(config, reader)?),
        },
        embed_norm: NormWeights::default(),
        layers,
        final_norm: names.norm(reader, final_norm, config.final_norm, d)?,
        unembed: Unembed::Matrix(names.linear(reader, "unembed", ("W_U", "b_U"), d, config.vocabulary)?),
    };
    reader.finish(&[".attn.mask", ".attn.IGNORE", ".rotary_sin", ".rotary_cos"])?;
    Ok(weights)
}

/// Naming and layout of a generation of checkpoints.
struct Names {
    /// Name of norms: `ln`, or `norm` in the oldest.
    norm: &'static str,
    /// True if the last two axes of every `W_*` but `W_pos` are swapped.
    transposed: bool,
}

impl Names {
    fn of(config: &Config, reader: &Reader) -> Self {
        let (d, m, vocabulary) = (config.d_model, config.d_mlp, config.vocabulary);
        let old_norm = ["blocks.0.norm1.w", "blocks.0.mlp.norm.w", "norm.w"].iter().any(|n| reader.has(n));
        Self {
            norm: if old_norm { "norm" } else { "ln" },
            transposed: [("blocks.0.mlp.W_in", m), ("unembed.W_U", vocabulary)]
                .iter()
                .any(|(name, d_out)| d != *d_out && reader.shape(name).as_deref() == Some(&[*d_out, d])),
        }
    }

    /// Reads a matrix of this shape, and swaps its last two axes back if the checkpoint has them swapped.
    fn matrix(&self, reader: &Reader, name: &str, shape: &[usize]) -> Result<Tensor> {
        if !self.transposed {
            return reader.tensor(name, shape);
        }
        let mut stored = shape.to_vec();
        let last = stored.len() - 1;
        stored.swap(last - 1, last);
        Ok(reader.tensor(name, &stored)?.transpose(last - 1, last)?.contiguous()?)
    }

    fn linear(
        &self,
        reader: &Reader,
        module: &str,
        (weight, bias): (&str, &str),
        d_in: usize,
        d_out: usize,
    ) -> Result<Linear> {
        let weight = self.matrix(reader, &format!("{module}.{weight}"), &[d_in, d_out])?;
        Ok(Linear::new(weight, reader.optional(&format!("{module}.{bias}"), &[d_out])?))
    }

    /// Reads `W_Q`, `W_K`, `W_V` of `[heads, d_model, d_head]` as one `[d_model, Σ heads·d_head]`.
    fn qkv(&self, config: &Config, reader: &Reader, module: &str) -> Result<Linear> {
        let (d, hd) = (config.d_model, config.d_head);
        let mut weights = Vec::with_capacity(3);
        let mut biases = Vec::with_capacity(3);
        for (which, heads) in [("Q", config.heads), ("K", config.kv_heads), ("V", config.kv_heads)] {
            // Grouped-query checkpoints mark the shared matrices with an underscore.
            let mark = if reader.has(&format!("{module}._W_{which}")) { "_" } else { "" };
            let weight = self.matrix(reader, &format!("{module}.{mark}W_{which}"), &[heads, d, hd])?;
            weights.push(weight.transpose(0, 1)?.contiguous()?.reshape((d, heads * hd))?);
            let bias = match reader.optional(&format!("{module}.{mark}b_{which}"), &[heads, hd])? {
                Some(bias) => bias.reshape(heads * hd)?,
                None => Tensor::zeros(heads * hd, weights[0].dtype(), weights[0].device())?,
            };
            biases.push(bias);
        }
        Ok(Linear::new(Tensor::cat(&weights, 1)?, Some(Tensor::cat(&biases, 0)?)))
    }

    /// Reads weight and bias of a norm; `LNPre` and `RMSPre` checkpoints have neither.
    fn norm(&self, reader: &Reader, name: &str, norm: Norm, d: usize) -> Result<NormWeights> {
        if !norm.affine {
            return Ok(NormWeights::default());
        }
        let bias = (norm.kind == NormKind::Layer).then(|| reader.tensor(&format!("{name}.b"), &[d])).transpose()?;
        Ok(NormWeights { weight: Some(reader.tensor(&format!("{name}.w"), &[d])?), bias })
    }

    fn positions(&self, config: &Config, reader: &Reader) -> Result<Tensor> {
        let (name, context, d) = ("pos_embed.W_pos", config.context, config.d_model);
        // Every checkpoint with transposed matrices has transposed positions too; a few have only those.
        if reader.shape(name).as_deref() == Some(&[d, context]) && (self.transposed || context != d) {
            return Ok(reader.tensor(name, &[d, context])?.t()?.contiguous()?);
        }
        reader.tensor(name, &[context, d])
    }
}
