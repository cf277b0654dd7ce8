//! Architectures of Hugging Face transformers in keys of their own: GPT-Neo, GPT-J, OPT, BLOOM, MPT, Falcon.

use super::decoder::{Biases, Decoder, Experts, Mlp, Names, Qkv};
use super::reader::Bias;
use super::rope::{Spelling, rope};
use super::settings::Settings;
use crate::{Alibi, Config, Error, Norm, NormKind, NormPlace, Positions, Result, Rope, RopeScaling};

/// Names of GPT-Neo, from which the others differ.
const NAMES: Names = Names {
    roots: &["transformer.", ""],
    embed: "wte",
    positions: None,
    embed_norm: None,
    layers: "h",
    norm1: "ln_1",
    norm2: "ln_2",
    post_norms: ["", ""],
    qkv: Qkv::Separate(["attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"]),
    qk_norms: ["", ""],
    out: "attn.attention.out_proj",
    sinks: "",
    mlp: Mlp::Plain("mlp.c_fc"),
    down: "mlp.c_proj",
    experts: Experts::None,
    final_norm: "ln_f",
    unembed: &["lm_head"],
};

/// Names of BLOOM, from which Falcon's differ little.
const BLOOM: Names = Names {
    embed: "word_embeddings",
    embed_norm: Some("word_embeddings_layernorm"),
    norm1: "input_layernorm",
    norm2: "post_attention_layernorm",
    qkv: Qkv::Grouped("self_attention.query_key_value"),
    out: "self_attention.dense",
    sinks: "",
    mlp: Mlp::Plain("mlp.dense_h_to_4h"),
    down: "mlp.dense_4h_to_h",
    ..NAMES
};

/// A configuration of `heads` heads that share the width of the residual stream, with LayerNorm.
fn plain(architecture: &str, (layers, d_model, heads): (usize, usize, usize), eps: f64) -> Result<Config> {
    let d_head = d_model / heads.max(1);
    if d_head * heads != d_model {
        return Err(Error::Config(format!("a width of {d_model} is not a multiple of {heads} heads")));
    }
    let norm = Norm { kind: NormKind::Layer, eps: eps as f32, affine: true };
    Ok(Config {
        architecture: architecture.into(),
        layers,
        d_model,
        heads,
        kv_heads: heads,
        d_head,
        norm,
        final_norm: norm,
        attention_scale: (d_head as f32).powf(-0.5),
        ..Config::default()
    })
}

/// Biases of all matrices but queries, keys, values, the attention's output and the unembedding.
const OF_MLP: Biases = Biases { mlp: Bias::Wanted, norm: Bias::Wanted, ..Biases::NONE };
const OF_ALL: Biases = Biases { qkv: Bias::Wanted, out: Bias::Wanted, ..OF_MLP };

pub(super) fn gpt_neo(settings: &Settings) -> Result<(Config, Decoder)> {
    let size = |key: &str, other: &str| {
        if settings.has(key) { settings.size(key) } else { settings.size(other) }
    };
    let (d_model, layers) = (settings.size("hidden_size")?, size("num_layers", "num_hidden_layers")?);
    let heads = size("num_heads", "num_attention_heads")?;
    let mut config = plain("gpt_neo", (layers, d_model, heads), settings.number_or("layer_norm_epsilon", 1e-5)?)?;
    config.d_mlp = settings.size_or("intermediate_size", 4 * d_model)?;
    config.vocabulary = settings.size("vocab_size")?;
    config.context = settings.size_or("max_position_embeddings", 2048)?;
    config.activation = settings.activation("activation_function", "gelu_new")?;
    config.attention_scale = 1.0;
    config.tied = settings.flag_or("tie_word_embeddings", true)?;
    let local = attention_types(settings)?;
    if local.len() != layers {
        return Err(Error::Config(format!("attention_types gives {} layers of {layers}", local.len())));
    }
    if local.contains(&true) {
        let window = settings.size_or("window_size", 256)?;
        config.local = Some(crate::Local { window, layers: local, rope: None });
    }
    let names = Names { positions: Some("wpe"), ..NAMES };
    Ok((config, Decoder::new(names, Biases { out: Bias::Wanted, ..OF_MLP })))
}

/// For each layer, true if its attention is local: by `attention_layers`, which transformers saves and prefers, else by
/// `attention_types`, of which `[[["global", "local"], 12]]` is 12 pairs.
fn attention_types(settings: &Settings) -> Result<Vec<bool>> {
    let is_local = |kind: &str| match kind {
        "global" => Ok(false),
        "local" => Ok(true),
        _ => Err(Error::Unsupported { what: "attention_types", value: kind.into(), supported: "global, local".into() }),
    };
    if let Some(layers) = settings.texts("attention_layers")? {
        return layers.into_iter().map(is_local).collect();
    }
    let Some(types) = settings.value("attention_types") else { return Ok([false, true].repeat(12)) };
    let wrong =
        || Error::Config(format!("attention_types is {types}, expected [[[\"global\", \"local\"], 12]] or alike"));
    let mut layers = Vec::new();
    for item in types.as_array().ok_or_else(wrong)? {
        let kinds = item[0].as_array().ok_or_else(wrong)?;
        let count = item[1].as_u64().filter(|count| *count <= 10_000).ok_or_else(wrong)?;
        for _ in 0..count {
            for kind in kinds {
                layers.push(is_local(kind.as_str().ok_or_else(wrong)?)?);
            }
        }
    }
    Ok(layers)
}

pub(super) fn gptj(settings: &Settings) -> Result<(Config, Decoder)> {
    let (d_model, heads) = (settings.size("n_embd")?, settings.size("n_head")?);
    let eps = settings.number_or("layer_norm_epsilon", 1e-5)?;
    let mut config = plain("gptj", (settings.size("n_layer")?, d_model, heads), eps)?;
    config.d_mlp = settings.size_or("n_inner", 4 * d_model)?;
    config.vocabulary = settings.size("vocab_size")?;
    config.context = settings.size_or("n_positions", 2048)?;
    config.activation = settings.activation("activation_function", "gelu_new")?;
    config.parallel = true;
    config.tied = settings.flag_or("tie_word_embeddings", false)?;
    if settings.names("rotary_dim") && !settings.has("rotary_dim") {
        return Err(Error::Unsupported {
            what: "rotary_dim",
            value: "null".into(),
            supported: "a number of dimensions".into(),
        });
    }
    let dims = settings.size_or("rotary_dim", 64)?;
    config.positions =
        Positions::Rotary(Rope { dims, base: 10_000.0, adjacent_pairs: true, scaling: RopeScaling::Default });
    let names = Names {
        norm2: NAMES.norm1,
        qkv: Qkv::Separate(["attn.q_proj", "attn.k_proj", "attn.v_proj"]),
        out: "attn.out_proj",
        mlp: Mlp::Plain("mlp.fc_in"),
        down: "mlp.fc_out",
        ..NAMES
    };
    Ok((config, Decoder::new(names, Biases { unembed: Bias::Wanted, ..OF_MLP })))
}

pub(super) fn opt(settings: &Settings) -> Result<(Config, Decoder)> {
    let (d_model, heads) = (settings.size("hidden_size")?, settings.size("num_attention_heads")?);
    let mut config = plain("opt", (settings.size("num_hidden_layers")?, d_model, heads), 1e-5)?;
    config.d_mlp = settings.size_or("ffn_dim", 3072)?;
    config.vocabulary = settings.size("vocab_size")?;
    config.context = settings.size_or("max_position_embeddings", 2048)?;
    config.activation = settings.activation("activation_function", "relu")?;
    config.tied = settings.flag_or("tie_word_embeddings", true)?;
    config.norm.affine = settings.flag_or("layer_norm_elementwise_affine", true)?;
    config.final_norm = config.norm;
    let before = settings.flag_or("do_layer_norm_before", true)?;
    if !before {
        config.norm_place = NormPlace::AfterSum;
    }
    if !before || settings.flag_or("_remove_final_layer_norm", false)? {
        config.final_norm = Norm { kind: NormKind::None, affine: false, ..config.norm };
    }
    let names = Names {
        roots: &["model.decoder.", "decoder.", ""],
        embed: "embed_tokens",
        positions: Some("embed_positions"),
        layers: "layers",
        norm1: "self_attn_layer_norm",
        norm2: "final_layer_norm",
        qkv: Qkv::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        out: "self_attn.out_proj",
        mlp: Mlp::Plain("fc1"),
        down: "fc2",
        final_norm: "final_layer_norm",
        ..NAMES
    };
    let bias = Bias::of(settings.flag_or("enable_bias", true)?);
    let biases = Biases { qkv: bias, out: bias, mlp: bias, norm: Bias::Wanted, ..Biases::NONE };
    let width = settings.size_or("word_embed_proj_dim", d_model)?;
    let projection = (width != d_model).then_some(("project_in", "project_out", width));
    Ok((config, Decoder { position_offset: 2, projection, ..Decoder::new(names, biases) }))
}

pub(super) fn bloom(settings: &Settings) -> Result<(Config, Decoder)> {
    let size = |keys: [&str; 2]| match keys.into_iter().find(|key| settings.has(key)) {
        Some(key) => settings.size(key),
        None => settings.size(keys[0]),
    };
    // The older key wins.
    let d_model = size(["n_embed", "hidden_size"])?;
    let heads = size(["n_head", "num_attention_heads"])?;
    let layers = size(["n_layer", "num_hidden_layers"])?;
    let mut config = plain("bloom", (layers, d_model, heads), settings.number_or("layer_norm_epsilon", 1e-5)?)?;
    config.d_mlp = 4 * d_model;
    config.vocabulary = settings.size("vocab_size")?;
    // There is no limit; this is that of its training.
    config.context = settings.size_or("seq_length", 2048)?;
    config.activation = crate::Activation::GeluTanh;
    config.positions = Positions::Alibi(Alibi { slopes: Alibi::slopes(heads), scale: 1.0, rounded: false });
    config.embed_norm = Some(config.norm);
    config.tied = settings.flag_or("tie_word_embeddings", true)?;
    if settings.flag_or("apply_residual_connection_post_layernorm", false)? {
        config.norm_place = NormPlace::BeforeBoth;
    }
    // Output matrices that transformers cuts into slices have no biases there.
    let sliced = settings.size_or("pretraining_tp", 1)? > 1 && settings.flag_or("slow_but_exact", false)?;
    let biases = match sliced {
        true => Biases { out: Bias::Ignored, down: Some(Bias::Ignored), ..OF_ALL },
        false => OF_ALL,
    };
    Ok((config, Decoder::new(BLOOM, biases)))
}

pub(super) fn mpt(settings: &Settings) -> Result<(Config, Decoder)> {
    let (d_model, heads) = (settings.size("d_model")?, settings.size("n_heads")?);
    let eps = settings.number_or("layer_norm_epsilon", 1e-5)?;
    let mut config = plain("mpt", (settings.size("n_layers")?, d_model, heads), eps)?;
    // What transformers does not compute but the checkpoints' authors do is refused.
    let attention = settings.object("attn_config")?.unwrap_or_default();
    for (key, holds) in [
        ("alibi", attention.flag_or("alibi", true)?),
        ("alibi_bias_max", attention.number_or("alibi_bias_max", 8.0)? == 8.0),
        ("attn_type", attention.text_or("attn_type", "multihead_attention")? == "multihead_attention"),
        ("qk_ln", !attention.flag_or("qk_ln", false)?),
        ("prefix_lm", !attention.flag_or("prefix_lm", false)?),
        ("expansion_ratio", settings.number_or("expansion_ratio", 4.0)? == 4.0),
        ("logit_scale", !settings.has("logit_scale")),
    ] {
        if !holds {
            let value = attention.value(key).or_else(|| settings.value(key)).map(ToString::to_string);
            return Err(Error::Unsupported {
                what: "model configuration",
                value: format!("{key} = {}", value.unwrap_or_default()),
                supported:
                    "what transformers computes: ALiBi with alibi_bias_max 8, all heads with keys of their own, \
                            an expansion_ratio of 4, no logit_scale"
                        .into(),
            });
        }
    }
    config.d_mlp = 4 * d_model;
    config.vocabulary = settings.size("vocab_size")?;
    config.context = settings.size_or("max_seq_len", 2048)?;
    if attention.has("softmax_scale") {
        config.attention_scale = attention.number("softmax_scale")? as f32;
    }
    if attention.has("clip_qkv") {
        // 0 is none.
        config.qkv_clip = Some(attention.number("clip_qkv")? as f32).filter(|clip| *clip != 0.0);
    }
    // All slopes of the next power of two, the odd ones first.
    let count = heads.next_power_of_two();
    let slope = |i: usize| 2f64.powf(-8.0 * i as f64 / count as f64) as f32;
    let all: Vec<usize> = match count == heads {
        true => (1..=count).collect(),
        false => (1..=count).filter(|i| i % 2 == 0).chain((1..=count).filter(|i| i % 2 == 1)).collect(),
    };
    let slopes = all.into_iter().take(heads).map(slope).collect();
    config.positions = Positions::Alibi(Alibi { slopes, scale: 1.0, rounded: false });
    config.tied = settings.flag_or("tie_word_embeddings", true)?;
    let names = Names {
        layers: "blocks",
        norm1: "norm_1",
        norm2: "norm_2",
        qkv: Qkv::Joined("attn.Wqkv"),
        out: "attn.out_proj",
        mlp: Mlp::Plain("ffn.up_proj"),
        down: "ffn.down_proj",
        final_norm: "norm_f",
        ..NAMES
    };
    Ok((config, Decoder::new(names, Biases::NONE)))
}

pub(super) fn falcon(settings: &Settings) -> Result<(Config, Decoder)> {
    let size = |keys: [&str; 2]| match keys.into_iter().find(|key| settings.has(key)) {
        Some(key) => settings.size(key),
        None => settings.size(keys[0]),
    };
    let d_model = size(["n_embed", "hidden_size"])?;
    let heads = settings.size("num_attention_heads")?;
    let layers = settings.size("num_hidden_layers")?;
    let mut config = plain("falcon", (layers, d_model, heads), settings.number_or("layer_norm_epsilon", 1e-5)?)?;
    config.d_mlp = settings.size_or("ffn_hidden_size", 4 * d_model)?;
    config.vocabulary = settings.size("vocab_size")?;
    config.context = settings.size_or("max_position_embeddings", 2048)?;
    config.activation = settings.activation("activation", "gelu")?;
    config.tied = settings.flag_or("tie_word_embeddings", true)?;
    let flag = |key, default| settings.flag_or(key, default);
    let (new, queries, parallel) =
        (flag("new_decoder_architecture", false)?, flag("multi_query", true)?, flag("parallel_attn", true)?);
    config.parallel = parallel;
    config.kv_heads = match (new, queries) {
        (false, true) => 1,
        _ => settings.size_or("num_kv_heads", heads)?,
    };
    // Before the new architecture, all heads or one have keys.
    if !new && !queries {
        config.kv_heads = heads;
    }
    let norms = settings.size_or("num_ln_in_parallel_attn", if new { 2 } else { 1 })?;
    let (norm1, norm2) = match (new, parallel, norms) {
        (true, true, 2) => ("ln_attn", "ln_mlp"),
        (true, true, 1) | (false, true, 1) => (BLOOM.norm1, BLOOM.norm1),
        (false, false, _) => (BLOOM.norm1, BLOOM.norm2),
        _ => {
            return Err(Error::Unsupported {
                what: "model configuration",
                value: format!(
                    "num_ln_in_parallel_attn = {norms} with new_decoder_architecture = {new} and parallel_attn = {parallel}"
                ),
                supported: "1, or 2 with new_decoder_architecture, and parallel_attn with it".into(),
            });
        }
    };
    config.positions = if flag("alibi", false)? {
        let scale = config.attention_scale;
        Positions::Alibi(Alibi { slopes: Alibi::slopes(heads), scale, rounded: true })
    } else {
        Positions::Rotary(rope(settings, config.d_head, config.context, Spelling::LLAMA)?)
    };
    let qkv = match (new, queries) {
        (false, true) => Qkv::Joined("self_attention.query_key_value"),
        _ => BLOOM.qkv,
    };
    let names = Names { embed_norm: None, norm1, norm2, qkv, ..BLOOM };
    let bias = Bias::of(flag("bias", false)?);
    let biases = Biases { qkv: bias, out: bias, mlp: bias, norm: Bias::Wanted, ..Biases::NONE };
    Ok((config, Decoder::new(names, biases)))
}
