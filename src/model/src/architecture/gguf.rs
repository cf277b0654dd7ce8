//! Architectures of GGUF files, in the keys and names of llama.cpp.

use std::fmt::Display;

use super::decoder::{Biases, Decoder, Experts as ExpertNames, Mlp, Names, Qkv};
use super::reader::Bias;
use super::rope::gguf_scaling;
use super::settings::Settings;
use crate::checkpoint::TensorSource;
use crate::{Activation, Config, Error, Experts, Local, Norm, NormKind, Positions, QkNorm, Result, Rope, RopeScaling};

/// Supported architectures.
pub(super) const ARCHITECTURES: [&str; 12] = [
    "llama",
    "qwen2",
    "qwen3",
    "qwen3moe",
    "gemma",
    "gemma2",
    "gemma3",
    "olmo2",
    "olmoe",
    "granite",
    "starcoder2",
    "gpt-oss",
];

/// Supported mixtures of experts; a `llama` with experts is Mixtral.
const MIXTURES: [&str; 4] = ["llama", "qwen3moe", "olmoe", "gpt-oss"];

const NAMES: Names = Names {
    roots: &[""],
    embed: "token_embd",
    positions: None,
    embed_norm: None,
    layers: "blk",
    norm1: "attn_norm",
    norm2: "ffn_norm",
    post_norms: ["post_attention_norm", "post_ffw_norm"],
    qkv: Qkv::Separate(["attn_q", "attn_k", "attn_v"]),
    qk_norms: ["attn_q_norm", "attn_k_norm"],
    out: "attn_output",
    sinks: "attn_sinks.weight",
    mlp: Mlp::Gated(["ffn_gate", "ffn_up"]),
    down: "ffn_down",
    experts: ExpertNames::None,
    final_norm: "output_norm",
    unembed: &["output"],
};

/// Reads the configuration of a GGUF file.
pub(super) fn read(settings: &Settings, tensors: &dyn TensorSource) -> Result<(Config, Decoder)> {
    let architecture = settings.text("general.architecture")?;
    if !ARCHITECTURES.contains(&architecture) {
        return Err(super::unsupported(architecture));
    }
    let mut config = common(settings, tensors, architecture)?;
    let mut decoder = Decoder::new(NAMES, Biases::IF_PRESENT);
    let mut names = NAMES;
    if settings.size_or("expert_count", 0)? > 0 {
        mixture(settings, architecture, &mut config)?;
        names.experts =
            ExpertNames::Stacked { router: "ffn_gate_inp", parts: ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"] };
    } else if ["qwen3moe", "olmoe", "gpt-oss"].contains(&architecture) {
        return Err(Error::Config(format!("expert_count is 0 or missing, and {architecture} is a mixture of experts")));
    }
    match architecture {
        // The converter permutes the query and key rows of these.
        "llama" => adjacent_pairs(&mut config),
        "granite" => {
            adjacent_pairs(&mut config);
            let factor = |key: &str| settings.number_or(key, 1.0);
            config.attention_scale = settings.number_or("attention.scale", config.attention_scale.into())? as f32;
            config.embed_scale = factor("embedding_scale")? as f32;
            config.logit_scale = (1.0 / factor("logit_scale")?) as f32;
            decoder.residual_scale = factor("residual_scale")?;
        }
        "qwen3" | "qwen3moe" => config.qk_norm = Some(QkNorm { norm: config.norm, whole: false }),
        "olmoe" => config.qk_norm = Some(QkNorm { norm: config.norm, whole: true }),
        "olmo2" => {
            refuse_window(settings)?;
            config.qk_norm = Some(QkNorm { norm: config.norm, whole: true });
            config.post_norm = Some(config.norm);
            config.norm = Norm { kind: NormKind::None, affine: false, ..config.norm };
        }
        "starcoder2" => {
            refuse_window(settings)?;
            config.norm.kind = NormKind::Layer;
            config.norm.eps = settings.number_or("attention.layer_norm_epsilon", 1e-5)? as f32;
            config.final_norm = config.norm;
            (config.gated, config.activation) = (false, Activation::GeluTanh);
            names.mlp = Mlp::Plain("ffn_up");
            decoder.biases.norm = Bias::Wanted;
        }
        "gpt-oss" => {
            config.sinks = true;
            config.activation = Activation::ClampedSwiglu { alpha: 1.702, limit: 7.0 };
            let window = settings.size("attention.sliding_window")?;
            let layers = (0..config.layers).map(|l| l.is_multiple_of(2)).collect();
            config.local = Some(Local { window, layers, rope: None });
            names.norm2 = "post_attention_norm";
            let wanted = Bias::Wanted;
            decoder.biases = Biases { qkv: wanted, out: wanted, mlp: wanted, ..decoder.biases };
        }
        "gemma" | "gemma2" | "gemma3" => gemma(settings, architecture, &mut config)?,
        _ => {}
    }
    Ok((config, Decoder { names, ..decoder }))
}

/// Reads what the architectures have in common.
fn common(settings: &Settings, tensors: &dyn TensorSource, architecture: &str) -> Result<Config> {
    let clip = settings.number_or("attention.clamp_kqv", 0.0)?;
    if clip != 0.0 {
        return Err(unsupported_key("attention.clamp_kqv", clip, 0));
    }
    let (d_model, heads) = (settings.size("embedding_length")?, settings.size("attention.head_count")?);
    let d_head = settings.size_or("attention.key_length", d_model / heads.max(1))?;
    let norm = Norm {
        kind: NormKind::Rms,
        eps: settings.number_or("attention.layer_norm_rms_epsilon", 1e-6)? as f32,
        affine: true,
    };
    let embed = format!("{}.weight", NAMES.embed);
    let vocabulary = match tensors.shape(&embed).as_deref() {
        Some(&[vocabulary, _]) => vocabulary,
        _ => return Err(Error::Weights { tensor: embed, reason: "missing from the checkpoint".into() }),
    };
    let factors = match tensors.shape("rope_freqs.weight") {
        Some(_) => Some(tensors.read("rope_freqs.weight")?.flatten_all()?.to_vec1()?),
        None => None,
    };
    let context = settings.size_or("context_length", 2048)?;
    // gpt-oss was trained with a ramp that is not rounded, as in transformers; llama.cpp rounds that of all networks.
    let scaling = gguf_scaling(settings, factors, context, architecture != "gpt-oss")?;
    Ok(Config {
        architecture: architecture.into(),
        layers: settings.size("block_count")?,
        d_model,
        heads,
        kv_heads: settings.size_or("attention.head_count_kv", heads)?,
        d_head,
        d_mlp: settings.size("feed_forward_length")?,
        vocabulary,
        context,
        norm,
        final_norm: norm,
        activation: Activation::Silu,
        gated: true,
        positions: Positions::Rotary(Rope {
            dims: settings.size_or("rope.dimension_count", d_head)?,
            base: settings.number_or("rope.freq_base", 10_000.0)?,
            adjacent_pairs: false,
            scaling,
        }),
        attention_scale: (d_head as f32).powf(-0.5),
        tied: true,
        ..Config::default()
    })
}

/// Sets the experts of a mixture, routed as llama.cpp routes those of the architecture.
fn mixture(settings: &Settings, architecture: &str, config: &mut Config) -> Result<()> {
    if !MIXTURES.contains(&architecture) {
        return Err(Error::Unsupported {
            what: "architecture",
            value: format!("{architecture} with experts"),
            supported: format!("as mixtures of experts {}", MIXTURES.join(", ")),
        });
    }
    // Softmax, of all experts or of those that are chosen.
    let gating = if architecture == "gpt-oss" { 3.0 } else { 1.0 };
    let normalised = architecture != "olmoe";
    for (key, neutral) in [
        ("expert_shared_count", 0.0),
        ("expert_shared_feed_forward_length", 0.0),
        ("expert_group_count", 0.0),
        ("leading_dense_block_count", 0.0),
        ("expert_weights_scale", 1.0),
        ("expert_gating_func", gating),
    ] {
        let value = settings.number_or(key, neutral)?;
        // 0 is "not set", and a single group is none.
        if value != neutral && value != 0.0 && (key, value) != ("expert_group_count", 1.0) {
            return Err(unsupported_key(key, value, neutral));
        }
    }
    if settings.flag_or("expert_weights_norm", normalised)? != normalised {
        return Err(unsupported_key("expert_weights_norm", !normalised, normalised));
    }
    let experts = Experts {
        count: settings.size("expert_count")?,
        active: settings.size("expert_used_count")?,
        width: settings.size_or("expert_feed_forward_length", config.d_mlp)?,
        normalised,
        dense_layers: Vec::new(),
        dense_width: config.d_mlp,
    };
    config.d_mlp = experts.count.saturating_mul(experts.width);
    config.experts = Some(experts);
    Ok(())
}

fn unsupported_key(key: &str, value: impl Display, supported: impl Display) -> Error {
    Error::Unsupported {
        what: "model configuration",
        value: format!("{key} = {value}"),
        supported: format!("{supported} in this architecture"),
    }
}

fn adjacent_pairs(config: &mut Config) {
    if let Positions::Rotary(rope) = &mut config.positions {
        rope.adjacent_pairs = true;
    }
}

/// Refuses sliding windows of architectures that llama.cpp gives none.
fn refuse_window(settings: &Settings) -> Result<()> {
    match settings.size_or("attention.sliding_window", 0)? {
        0 => Ok(()),
        window => Err(Error::Unsupported {
            what: "attention.sliding_window",
            value: window.to_string(),
            supported: "none in GGUF files of this architecture".into(),
        }),
    }
}

/// Sets what the Gemmas have of their own. Weights of their norms have the 1 added.
fn gemma(settings: &Settings, architecture: &str, config: &mut Config) -> Result<()> {
    config.activation = Activation::GeluTanh;
    config.embed_scale = (config.d_model as f64).sqrt() as f32;
    if architecture == "gemma" {
        return Ok(());
    }
    config.post_norm = Some(config.norm);
    // llama.cpp knows the networks with another scale by their depth, Gemma 2 27B and Gemma 3 27B.
    let largest = if architecture == "gemma2" { 46 } else { 62 };
    if config.layers == largest {
        config.attention_scale = (config.d_model as f32 / config.heads as f32).powf(-0.5);
    }
    let cap = |key: &str| settings.has(key).then(|| settings.number(key).map(|cap| cap as f32)).transpose();
    config.logit_cap = cap("final_logit_softcapping")?.filter(|cap| *cap != 0.0);
    let window = settings.size_or("attention.sliding_window", if architecture == "gemma2" { 4096 } else { 0 })?;
    let every = if architecture == "gemma2" { 2 } else { 6 };
    let every = settings.size_or("attention.sliding_window_pattern", every)?.max(1);
    let layers = (0..config.layers).map(|l| !(l + 1).is_multiple_of(every)).collect();
    let mut local = Local { window, layers, rope: None };
    if architecture == "gemma2" {
        config.score_cap = cap("attn_logit_softcapping")?.or(Some(50.0));
        config.logit_cap = config.logit_cap.or(Some(30.0));
    } else {
        config.qk_norm = Some(QkNorm { norm: config.norm, whole: false });
        if let Positions::Rotary(rope) = &config.positions {
            // Local layers are not stretched, and have a base of their own.
            let base = settings.number_or("rope.freq_base_swa", 10_000.0)?;
            local.rope = Some(Rope { base, scaling: RopeScaling::Default, ..rope.clone() });
        }
    }
    if window > 0 {
        config.local = Some(local);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Settings, TensorSource, read};
    use crate::{Config, Error, Result};

    /// A checkpoint of an embedding alone.
    struct Embedding;

    impl TensorSource for Embedding {
        fn names(&self) -> Vec<String> {
            vec!["token_embd.weight".into()]
        }

        fn shape(&self, name: &str) -> Option<Vec<usize>> {
            (name == "token_embd.weight").then(|| vec![100, 32])
        }

        fn read(&self, name: &str) -> Result<candle_core::Tensor> {
            Err(Error::Internal(format!("{name} was read")))
        }
    }

    fn of(architecture: &str, keys: Value) -> Result<Config> {
        let mut all = json!({"general.architecture": architecture, "block_count": 4, "embedding_length": 32,
            "feed_forward_length": 64, "attention.head_count": 4});
        all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        Ok(read(&Settings::from_json(&all)?, &Embedding)?.0)
    }

    #[test]
    fn mixtures_and_what_is_refused() {
        let experts = || json!({"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 16});
        let with = |key: &str, value: Value| {
            let mut keys = experts();
            keys[key] = value;
            keys
        };
        for (architecture, normalised) in [("llama", true), ("qwen3moe", true), ("olmoe", false)] {
            let config = of(architecture, with("expert_gating_func", json!(1))).unwrap();
            let found = config.experts.unwrap();
            assert_eq!((config.d_mlp, found.count, found.active, found.width), (128, 8, 2, 16), "{architecture}");
            assert_eq!(found.normalised, normalised, "{architecture}");
        }
        let config = of("gpt-oss", with("attention.sliding_window", json!(8))).unwrap();
        assert_eq!(config.local.unwrap().layers, [true, false, true, false]);
        assert!(config.sinks);
        for (architecture, keys, words) in [
            ("mamba", json!({}), "mamba"),
            ("gemma3", experts(), "gemma3 with experts"),
            ("qwen3moe", json!({}), "expert_count"),
            ("olmoe", with("expert_used_count", Value::Null), "expert_used_count"),
            ("llama", with("expert_gating_func", json!(2)), "expert_gating_func = 2"),
            ("gpt-oss", with("expert_gating_func", json!(1)), "expert_gating_func = 1"),
            ("qwen3moe", with("expert_shared_count", json!(1)), "expert_shared_count = 1"),
            ("qwen3moe", with("expert_group_count", json!(4)), "expert_group_count = 4"),
            ("qwen3moe", with("leading_dense_block_count", json!(1)), "leading_dense_block_count = 1"),
            ("llama", with("expert_weights_scale", json!(2.5)), "expert_weights_scale = 2.5"),
            ("olmoe", with("expert_weights_norm", json!(true)), "expert_weights_norm = true"),
            ("gpt-oss", experts(), "attention.sliding_window"),
            ("llama", json!({"attention.clamp_kqv": 8.0}), "attention.clamp_kqv = 8"),
            ("qwen2", json!({"rope.scaling.type": "longrope"}), "longrope"),
        ] {
            let error = of(architecture, keys.clone()).map(drop).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. } | Error::Config(_)), "{architecture} {keys}: {error:?}");
            assert!(error.to_string().contains(words), "{architecture} {keys}: {error}");
        }
    }
}
