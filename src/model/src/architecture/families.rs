//! Architectures of Hugging Face transformers in the keys of Llama: what each has of its own, as data.

use super::decoder::{Biases, Decoder, Experts as ExpertNames, Mlp, Names, QkWeights, Qkv};
use super::llama::{Defaults, NAMES, biases, config_with, everywhere, local, local_of_qwen, window_size};
use super::reader::Bias;
use super::rope::{Spelling, rope_of};
use super::settings::Settings;
use crate::{Activation, Config, Error, Experts, Local, Norm, NormKind, Positions, QkNorm, Result, Rope};

/// Names of the norms of blocks that normalise what attention and MLP write as well.
const SANDWICH: Names = Names {
    norm2: "pre_feedforward_layernorm",
    post_norms: ["post_attention_layernorm", "post_feedforward_layernorm"],
    ..NAMES
};

/// Experts with a matrix each.
const EACH: ExpertNames =
    ExpertNames::Each { router: "mlp.gate", all: "mlp.experts", parts: ["gate_proj", "up_proj", "down_proj"] };

/// Norm of queries and keys of the kind and epsilon of the norms of blocks.
fn qk_norm(config: &Config, whole: bool) -> QkNorm {
    QkNorm { norm: config.final_norm, whole }
}

pub(super) fn qwen3(settings: &Settings) -> Result<(Config, Decoder)> {
    let defaults = Defaults { context: 32_768, kv_heads: Some(32), d_head: Some(128), ..Defaults::default() };
    let mut config = config_with(settings, &defaults)?;
    config.qk_norm = Some(qk_norm(&config, false));
    config.local = local_of_qwen(settings, config.layers)?;
    Ok((config, Decoder::new(NAMES, Biases { mlp: Bias::Ignored, ..biases(settings)? })))
}

pub(super) fn smollm3(settings: &Settings) -> Result<(Config, Decoder)> {
    let spelling = Spelling::with_base(2_000_000.0);
    let defaults = Defaults { context: 32_768, kv_heads: Some(4), spelling, tied: true, ..Defaults::default() };
    let mut config = config_with(settings, &defaults)?;
    let layers = config.layers;
    let rotated: Vec<bool> = match settings.sizes("no_rope_layers")? {
        Some(list) if list.len() < layers => {
            return Err(Error::Config(format!("no_rope_layers names {} layers of {layers}", list.len())));
        }
        Some(list) => list.iter().map(|used| *used != 0).collect(),
        None => {
            let interval = settings.size_or("no_rope_layer_interval", 4)?;
            if interval == 0 {
                return Err(Error::Config("no_rope_layer_interval is 0, expected 1 or more".into()));
            }
            (0..layers).map(|l| !(l + 1).is_multiple_of(interval)).collect()
        }
    };
    config.unrotated = (0..layers).filter(|l| !rotated[*l]).collect();
    let used = settings.flag_or("use_sliding_window", false)?;
    let size = if used { window_size(settings, None)? } else { None };
    // Without use_sliding_window, transformers masks the layers of layer_types all the same.
    let size_of_types = if settings.has("layer_types") { window_size(settings, None)? } else { size };
    config.local = local(settings, layers, size_of_types, |l| size.is_some() && !rotated[l])?;
    Ok((config, Decoder::new(NAMES, biases(settings)?)))
}

pub(super) fn olmo(settings: &Settings) -> Result<(Config, Decoder)> {
    let mut config = config_with(settings, &Defaults::default())?;
    // The norms have neither weights nor an epsilon of the configuration.
    config.norm = Norm { kind: NormKind::Layer, eps: 1e-5, affine: false };
    config.final_norm = config.norm;
    config.qkv_clip = clip(settings)?;
    Ok((config, Decoder::new(NAMES, Biases { mlp: Bias::Ignored, ..biases(settings)? })))
}

fn clip(settings: &Settings) -> Result<Option<f32>> {
    settings.has("clip_qkv").then(|| settings.number("clip_qkv").map(|clip| clip as f32)).transpose()
}

pub(super) fn olmo2(settings: &Settings) -> Result<(Config, Decoder)> {
    let norm = (NormKind::Rms, "rms_norm_eps", 1e-5);
    let mut config = config_with(settings, &Defaults { norm, ..Defaults::default() })?;
    // Only what attention and MLP write is normalised.
    config.post_norm = Some(config.norm);
    config.norm = Norm { kind: NormKind::None, affine: false, ..config.norm };
    config.qk_norm = Some(qk_norm(&config, true));
    Ok((config, Decoder::new(SANDWICH, Biases { mlp: Bias::Ignored, ..biases(settings)? })))
}

pub(super) fn granite(settings: &Settings) -> Result<(Config, Decoder)> {
    let mut config = config_with(settings, &Defaults::default())?;
    config.attention_scale = settings.number_or("attention_multiplier", 1.0)? as f32;
    config.embed_scale = settings.number_or("embedding_multiplier", 1.0)? as f32;
    config.logit_scale = (1.0 / settings.number_or("logits_scaling", 1.0)?) as f32;
    let residual_scale = settings.number_or("residual_multiplier", 1.0)?;
    Ok((config, Decoder { residual_scale, ..Decoder::new(NAMES, biases(settings)?) }))
}

pub(super) fn cohere(settings: &Settings) -> Result<(Config, Decoder)> {
    let defaults = Defaults {
        context: 8192,
        norm: (NormKind::Layer, "layer_norm_eps", 1e-5),
        spelling: Spelling { adjacent_pairs: true, ..Spelling::with_base(500_000.0) },
        tied: true,
        ..Defaults::default()
    };
    let mut config = config_with(settings, &defaults)?;
    config.parallel = true;
    config.logit_scale = settings.number_or("logit_scale", 0.0625)? as f32;
    if settings.flag_or("use_qk_norm", false)? {
        config.qk_norm = Some(qk_norm(&config, false));
    }
    let names = Names { norm2: NAMES.norm1, ..NAMES };
    let biases = Biases { mlp: Bias::Ignored, ..biases(settings)? };
    Ok((config, Decoder { qk_norm: QkWeights::PerHead, ..Decoder::new(names, biases) }))
}

pub(super) fn stablelm(settings: &Settings) -> Result<(Config, Decoder)> {
    let defaults = Defaults {
        context: 4096,
        kv_heads: Some(32),
        norm: (NormKind::Layer, "layer_norm_eps", 1e-5),
        spelling: Spelling::with_share(0.25),
        ..Defaults::default()
    };
    let mut config = config_with(settings, &defaults)?;
    config.parallel = settings.flag_or("use_parallel_residual", false)?;
    if settings.flag_or("qk_layernorm", false)? {
        config.qk_norm = Some(qk_norm(&config, false));
    }
    let mut names = Names { qk_norms: ["self_attn.q_layernorm", "self_attn.k_layernorm"], ..NAMES };
    if config.parallel {
        names.norm2 = names.norm1;
    }
    let qkv = Bias::of(settings.flag_or("use_qkv_bias", false)?);
    let biases = Biases { qkv, norm: Bias::Wanted, ..Biases::NONE };
    Ok((config, Decoder { qk_norm: QkWeights::Listed, ..Decoder::new(names, biases) }))
}

pub(super) fn starcoder2(settings: &Settings) -> Result<(Config, Decoder)> {
    let defaults = Defaults {
        context: 4096,
        kv_heads: Some(2),
        norm: (NormKind::Layer, "norm_epsilon", 1e-5),
        activation: ("hidden_act", "gelu_pytorch_tanh"),
        tied: true,
        ..Defaults::default()
    };
    let mut config = config_with(settings, &defaults)?;
    config.gated = false;
    config.local = window_size(settings, None)?.map(|window| everywhere(window, config.layers));
    let names = Names { mlp: Mlp::Plain("mlp.c_fc"), down: "mlp.c_proj", ..NAMES };
    let bias = Bias::of(settings.flag_or("use_bias", true)?);
    let biases = Biases { qkv: bias, out: bias, mlp: bias, norm: Bias::Wanted, ..Biases::NONE };
    Ok((config, Decoder::new(names, biases)))
}

pub(super) fn phi(settings: &Settings) -> Result<(Config, Decoder)> {
    let defaults = Defaults {
        norm: (NormKind::Layer, "layer_norm_eps", 1e-5),
        activation: ("hidden_act", "gelu_new"),
        spelling: Spelling::with_share(0.5),
        ..Defaults::default()
    };
    let mut config = config_with(settings, &defaults)?;
    (config.gated, config.parallel) = (false, true);
    if settings.flag_or("qk_layernorm", false)? {
        config.qk_norm = Some(qk_norm(&config, false));
    }
    let names = Names {
        norm2: NAMES.norm1,
        qk_norms: ["self_attn.q_layernorm", "self_attn.k_layernorm"],
        out: "self_attn.dense",
        mlp: Mlp::Plain("mlp.fc1"),
        down: "mlp.fc2",
        final_norm: "final_layernorm",
        ..NAMES
    };
    let all = Bias::Wanted;
    let biases = Biases { qkv: all, out: all, mlp: all, down: None, norm: all, qk_norm: all, unembed: all };
    Ok((config, Decoder::new(names, biases)))
}

pub(super) fn phi3(settings: &Settings) -> Result<(Config, Decoder)> {
    let mut own = settings.clone();
    if !own.has("original_max_position_embeddings") {
        own.set("original_max_position_embeddings", 4096.into());
    }
    let defaults = Defaults {
        context: 4096,
        norm: (NormKind::Rms, "rms_norm_eps", 1e-5),
        spelling: Spelling { longrope: true, ..Spelling::with_share(1.0) },
        ..Defaults::default()
    };
    let mut config = config_with(&own, &defaults)?;
    if let Positions::Rotary(Rope { scaling: crate::RopeScaling::LongRope { .. }, .. }) = &config.positions {
        // Texts longer than this are rotated by other factors, from their first token on.
        config.context = config.context.min(own.size("original_max_position_embeddings")?);
    }
    config.local = window_size(settings, None)?.map(|window| everywhere(window, config.layers));
    let names = Names { qkv: Qkv::Joined("self_attn.qkv_proj"), mlp: Mlp::Joined("mlp.gate_up_proj"), ..NAMES };
    Ok((config, Decoder::new(names, Biases::NONE)))
}

/// The settings that all Gemmas share.
fn gemma_with(settings: &Settings, defaults: &Defaults, names: Names) -> Result<(Config, Decoder)> {
    settings.refuse("use_bidirectional_attention")?;
    let mut config = config_with(settings, defaults)?;
    config.embed_scale = (config.d_model as f64).sqrt() as f32;
    let biases = Biases { mlp: Bias::Ignored, ..biases(settings)? };
    Ok((config, Decoder { less_one: true, ..Decoder::new(names, biases) }))
}

pub(super) fn gemma(settings: &Settings) -> Result<(Config, Decoder)> {
    let defaults = Defaults {
        context: 8192,
        kv_heads: Some(16),
        d_head: Some(256),
        activation: ("hidden_act", "gelu_pytorch_tanh"),
        tied: true,
        ..Defaults::default()
    };
    let (mut config, decoder) = gemma_with(settings, &defaults, NAMES)?;
    // The first releases say gelu and mean its approximation.
    if config.activation == Activation::Gelu {
        config.activation = Activation::GeluTanh;
    }
    Ok((config, decoder))
}

/// Soft cap under a key: null is none, and without the key the default applies.
fn cap(settings: &Settings, key: &str, default: Option<f32>) -> Result<Option<f32>> {
    match (settings.has(key), settings.names(key)) {
        (true, _) => Ok(Some(settings.number(key)? as f32)),
        (false, true) => Ok(None),
        (false, false) => Ok(default),
    }
}

/// The settings that Gemma 2 and 3 share.
fn gemma2_with(settings: &Settings, defaults: &Defaults) -> Result<(Config, Decoder)> {
    let (mut config, decoder) = gemma_with(settings, defaults, SANDWICH)?;
    config.post_norm = Some(config.norm);
    config.attention_scale = (settings.number_or("query_pre_attn_scalar", 256.0)? as f32).powf(-0.5);
    Ok((config, decoder))
}

pub(super) fn gemma2(settings: &Settings) -> Result<(Config, Decoder)> {
    let defaults = Defaults {
        context: 8192,
        kv_heads: Some(4),
        d_head: Some(256),
        activation: ("hidden_activation", "gelu_pytorch_tanh"),
        tied: true,
        ..Defaults::default()
    };
    let (mut config, decoder) = gemma2_with(settings, &defaults)?;
    config.score_cap = cap(settings, "attn_logit_softcapping", Some(50.0))?;
    config.logit_cap = cap(settings, "final_logit_softcapping", Some(30.0))?;
    config.local = local(settings, config.layers, window_size(settings, Some(4096))?, |l| l.is_multiple_of(2))?;
    Ok((config, decoder))
}

pub(super) fn gemma3(settings: &Settings) -> Result<(Config, Decoder)> {
    let mut settings = settings.clone();
    // Files of multimodal models leave out what is transformers' default.
    for (key, default) in [
        ("vocab_size", 262_208),
        ("hidden_size", 2304),
        ("intermediate_size", 9216),
        ("num_hidden_layers", 26),
        ("num_attention_heads", 8),
    ] {
        if !settings.names(key) {
            settings.set(key, default.into());
        }
    }
    let defaults = Defaults {
        context: 131_072,
        kv_heads: Some(4),
        d_head: Some(256),
        activation: ("hidden_activation", "gelu_pytorch_tanh"),
        tied: true,
        ..Defaults::default()
    };
    // The two rotations are read below.
    let (scaling, parameters) = (settings.object("rope_scaling")?, settings.object("rope_parameters")?);
    let mut plain = settings.clone();
    plain.remove(&["rope_scaling", "rope_parameters"]);
    let (mut config, decoder) = gemma2_with(&plain, &defaults)?;
    config.qk_norm = Some(qk_norm(&config, false));
    // transformers does not cap the scores of Gemma 3, whatever attn_logit_softcapping says.
    config.logit_cap = cap(&settings, "final_logit_softcapping", None)?;
    let pattern = settings.size_or("sliding_window_pattern", 6)?;
    if pattern == 0 {
        return Err(Error::Config("sliding_window_pattern is 0, expected 1 or more".into()));
    }
    let slides = |l: usize| !(l + 1).is_multiple_of(pattern);
    config.local = local(&settings, config.layers, window_size(&settings, Some(4096))?, slides)?;
    let parameters = parameters.unwrap_or_default();
    let mut full = parameters.object("full_attention")?.unwrap_or_default();
    let sliding = parameters.object("sliding_attention")?.unwrap_or_default();
    if let Some(key) = parameters.keys().find(|key| !["full_attention", "sliding_attention"].contains(&key.as_str())) {
        return Err(Error::Unsupported {
            what: "rope_parameters",
            value: format!("{key} for all layers"),
            supported: "parameters under full_attention and sliding_attention".into(),
        });
    }
    full.update(scaling.unwrap_or_default());
    let rope = |inner: &Settings, key, base| {
        let spelling = Spelling { base: (key, base), ..Spelling::LLAMA };
        rope_of(inner, &plain, config.d_head, config.context, spelling)
    };
    let global = rope(&full, "rope_theta", 1_000_000.0)?;
    let near = rope(&sliding, "rope_local_base_freq", 10_000.0)?;
    config.positions = Positions::Rotary(global);
    config.local = config.local.map(|local| Local { rope: Some(near), ..local });
    Ok((config, decoder))
}

/// Sets the experts of a configuration whose `intermediate_size` is that of dense layers.
fn mixture(config: &mut Config, experts: Experts) {
    let all = experts.count.saturating_mul(experts.width);
    let dense = if experts.dense_layers.is_empty() { 0 } else { experts.dense_width };
    config.d_mlp = if experts.dense_layers.len() == config.layers { dense } else { all.max(dense) };
    config.experts = Some(experts);
}

pub(super) fn mixtral(settings: &Settings) -> Result<(Config, Decoder)> {
    let defaults = Defaults {
        context: 131_072,
        kv_heads: Some(8),
        norm: (NormKind::Rms, "rms_norm_eps", 1e-5),
        spelling: Spelling::with_base(1_000_000.0),
        ..Defaults::default()
    };
    let mut config = config_with(settings, &defaults)?;
    config.local = window_size(settings, None)?.map(|window| everywhere(window, config.layers));
    let experts = Experts {
        count: settings.size_or("num_local_experts", settings.size_or("num_experts", 8)?)?,
        active: settings.size_or("num_experts_per_tok", 2)?,
        width: config.d_mlp,
        normalised: true,
        dense_layers: Vec::new(),
        dense_width: config.d_mlp,
    };
    mixture(&mut config, experts);
    let experts = ExpertNames::Each {
        router: "block_sparse_moe.gate",
        all: "block_sparse_moe.experts",
        parts: ["w1", "w3", "w2"],
    };
    Ok((config, Decoder::new(Names { experts, ..NAMES }, Biases::NONE)))
}

pub(super) fn olmoe(settings: &Settings) -> Result<(Config, Decoder)> {
    let norm = (NormKind::Rms, "rms_norm_eps", 1e-5);
    let mut config = config_with(settings, &Defaults { context: 4096, norm, ..Defaults::default() })?;
    config.qk_norm = Some(qk_norm(&config, true));
    config.qkv_clip = clip(settings)?;
    let experts = Experts {
        count: settings.size_or("num_experts", settings.size_or("num_local_experts", 64)?)?,
        active: settings.size_or("num_experts_per_tok", 8)?,
        width: config.d_mlp,
        normalised: settings.flag_or("norm_topk_prob", false)?,
        dense_layers: Vec::new(),
        dense_width: config.d_mlp,
    };
    mixture(&mut config, experts);
    Ok((config, Decoder::new(Names { experts: EACH, ..NAMES }, biases(settings)?)))
}

pub(super) fn qwen3_moe(settings: &Settings) -> Result<(Config, Decoder)> {
    let defaults = Defaults { context: 32_768, kv_heads: Some(4), ..Defaults::default() };
    let mut config = config_with(settings, &defaults)?;
    config.qk_norm = Some(qk_norm(&config, false));
    let used = settings.flag_or("use_sliding_window", false)?;
    let size = if used { window_size(settings, Some(4096))? } else { None };
    config.local = size.map(|window| everywhere(window, config.layers));
    let count = settings.size_or("num_experts", settings.size_or("num_local_experts", 128)?)?;
    let step = settings.size_or("decoder_sparse_step", 1)?;
    if step == 0 {
        return Err(Error::Config("decoder_sparse_step is 0, expected 1 or more".into()));
    }
    let only = settings.sizes("mlp_only_layers")?.unwrap_or_default();
    let dense = |l: &usize| only.contains(l) || count == 0 || !(l + 1).is_multiple_of(step);
    let experts = Experts {
        count: count.max(1),
        active: settings.size_or("num_experts_per_tok", 8)?,
        width: settings.size_or("moe_intermediate_size", 768)?,
        normalised: settings.flag_or("norm_topk_prob", false)?,
        dense_layers: (0..config.layers).filter(dense).collect(),
        dense_width: config.d_mlp,
    };
    if count == 0 {
        return Err(Error::Unsupported {
            what: "num_experts",
            value: "0".into(),
            supported: "1 or more in this architecture".into(),
        });
    }
    mixture(&mut config, experts);
    let biases = Biases { mlp: Bias::Ignored, ..biases(settings)? };
    Ok((config, Decoder::new(Names { experts: EACH, ..NAMES }, biases)))
}

pub(super) fn gpt_oss(settings: &Settings) -> Result<(Config, Decoder)> {
    let mut own = settings.clone();
    if !own.has("rope_parameters") && !own.has("rope_scaling") {
        own.set(
            "rope_parameters",
            serde_json::json!({
                "rope_type": "yarn",
                "factor": 32.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "truncate": false,
                "original_max_position_embeddings": 4096,
            }),
        );
    }
    let defaults = Defaults {
        context: 131_072,
        kv_heads: Some(8),
        d_head: Some(64),
        norm: (NormKind::Rms, "rms_norm_eps", 1e-5),
        spelling: Spelling::with_base(150_000.0),
        ..Defaults::default()
    };
    let mut config = config_with(&own, &defaults)?;
    config.sinks = true;
    config.activation = Activation::ClampedSwiglu {
        alpha: settings.number_or("swiglu_alpha", 1.702)? as f32,
        limit: settings.number_or("swiglu_limit", 7.0)? as f32,
    };
    config.local = local(settings, config.layers, window_size(settings, Some(128))?, |l| l.is_multiple_of(2))?;
    let experts = Experts {
        count: settings.size_or("num_local_experts", settings.size_or("num_experts", 128)?)?,
        active: settings.size_or("num_experts_per_tok", 4)?,
        width: config.d_mlp,
        normalised: true,
        dense_layers: Vec::new(),
        dense_width: config.d_mlp,
    };
    mixture(&mut config, experts);
    let attention = Bias::of(settings.flag_or("attention_bias", true)?);
    let experts = ExpertNames::Interleaved { router: "mlp.router", all: "mlp.experts" };
    let biases = Biases { qkv: attention, out: attention, ..Biases::NONE };
    Ok((config, Decoder::new(Names { experts, ..NAMES }, biases)))
}
