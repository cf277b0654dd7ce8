//! Rotary position settings of Hugging Face configurations, in the old and the new spelling, as transformers 5.24
//! resolves them.

use super::settings::Settings;
use crate::{Error, Result, Rope, RopeScaling};

/// Spelling of the keys beside `rope_scaling` and `rope_parameters`, and their defaults, by architecture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spelling {
    /// Key and default of the base.
    pub base: (&'static str, f64),
    /// Key and default of the rotated share of a head.
    pub share: (&'static str, f64),
    /// False if heads are rotated as a whole without scaling, whatever their share.
    pub partial: bool,
    /// True if neighbouring dimensions form a pair.
    pub adjacent_pairs: bool,
    /// True if the architecture has the scaling `longrope` (and calls it by other names, too).
    pub longrope: bool,
}

impl Spelling {
    /// `rope_theta`; heads are rotated as a whole.
    pub const LLAMA: Self = Self {
        base: ("rope_theta", 10_000.0),
        share: ("partial_rotary_factor", 1.0),
        partial: false,
        adjacent_pairs: false,
        longrope: false,
    };

    /// `rotary_emb_base` and `rotary_pct`.
    pub const GPT_NEOX: Self =
        Self { base: ("rotary_emb_base", 10_000.0), share: ("rotary_pct", 0.25), partial: true, ..Self::LLAMA };

    /// The spelling of Llama with another base.
    pub fn with_base(base: f64) -> Self {
        Self { base: ("rope_theta", base), ..Self::LLAMA }
    }

    /// The spelling of Llama for heads of which a share is rotated.
    pub fn with_share(share: f64) -> Self {
        Self { share: ("partial_rotary_factor", share), partial: true, ..Self::LLAMA }
    }
}

/// Reads `rope_scaling` if it is set, else `rope_parameters`; keys that it lacks are looked up beside it.
pub(super) fn rope(settings: &Settings, d_head: usize, context: usize, spelling: Spelling) -> Result<Rope> {
    let said = |key: &str| Ok::<_, Error>(settings.object(key)?.filter(|object| !object.is_empty()));
    let inner = match said("rope_scaling")? {
        Some(scaling) => scaling,
        None => said("rope_parameters")?.unwrap_or_default(),
    };
    rope_of(&inner, settings, d_head, context, spelling)
}

/// Reads the parameters `inner`; keys that they lack are looked up in `settings`.
pub(super) fn rope_of(
    inner: &Settings,
    settings: &Settings,
    d_head: usize,
    context: usize,
    spelling: Spelling,
) -> Result<Rope> {
    if let Some(key) = inner.nested() {
        return Err(Error::Unsupported {
            what: "rope_parameters",
            value: format!("parameters of its own for {key}"),
            supported: "one set of parameters for all layers".into(),
        });
    }
    let Spelling { base, share, partial, adjacent_pairs, longrope } = spelling;
    let base = inner.number_or("rope_theta", settings.number_or(base.0, base.1)?)?;
    let share = inner.number_or("partial_rotary_factor", settings.number_or(share.0, share.1)?)?;
    let kind = match inner.text_or("rope_type", inner.text_or("type", "default")?)? {
        "su" | "yarn" if longrope => "longrope",
        kind => kind,
    };
    // The key of the model wins over that of the scaling.
    let original = inner.number_or("original_max_position_embeddings", context as f64)?;
    let original_context = settings.number_or("original_max_position_embeddings", original)?;
    let factor = match kind {
        // Hugging Face computes the factor of these if it is null.
        "yarn" if inner.names("factor") => inner.number_or("factor", context as f64 / original_context)?,
        "longrope" => inner.number_or("factor", context as f64 / original_context)?,
        "linear" | "dynamic" | "llama3" | "yarn" => inner.number("factor")?,
        _ => 1.0,
    };
    for (key, value, least) in [("rope_theta", base, 1.0), ("original_max_position_embeddings", original_context, 0.0)]
    {
        if value <= least {
            return Err(Error::Config(format!("{key} is {value}, expected more than {least}")));
        }
    }
    if factor < 1.0 && kind != "longrope" {
        return Err(Error::Config(format!("factor of rope_type \"{kind}\" is {factor}, expected 1 or more")));
    }
    // Hugging Face truncates as Python's int() does.
    let dims = (d_head as f64 * share) as usize;
    let dims = match partial {
        // These networks ignore the share without scaling, and transformers fails on it with scaling.
        false if matches!(kind, "default" | "mrope") => d_head,
        false if dims != d_head => {
            return Err(Error::Unsupported {
                what: "partial_rotary_factor",
                value: format!("{share} with rope_type {kind}"),
                supported: "1 in this architecture".into(),
            });
        }
        _ => dims,
    };
    let scaling = match kind {
        "default" | "mrope" | "dynamic" => RopeScaling::Default,
        "linear" => RopeScaling::Linear(factor),
        "llama3" => RopeScaling::Llama3 {
            factor,
            low_freq_factor: inner.number("low_freq_factor")?,
            high_freq_factor: inner.number("high_freq_factor")?,
            original_context,
        },
        "yarn" => RopeScaling::Yarn {
            factor,
            beta_fast: inner.number_or("beta_fast", 32.0)?,
            beta_slow: inner.number_or("beta_slow", 1.0)?,
            original_context,
            attention_factor: yarn_attention_factor(inner, factor)?,
            truncate: inner.flag_or("truncate", true)?,
        },
        "longrope" if longrope => {
            let factors = inner.numbers("short_factor")?;
            if factors.len() != dims / 2 || factors.iter().any(|factor| *factor <= 0.0) {
                let found = factors.len();
                return Err(Error::Config(format!("short_factor is {found} numbers, expected {} above 0", dims / 2)));
            }
            let default = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original_context.ln()).sqrt() };
            RopeScaling::LongRope { factors, attention_factor: inner.number_or("attention_factor", default)? }
        }
        other => {
            return Err(Error::Unsupported {
                what: "rope_type",
                value: other.into(),
                supported: "default, dynamic, linear, llama3, yarn; longrope in phi3".into(),
            });
        }
    };
    Ok(Rope { dims, base, adjacent_pairs, scaling })
}

/// Reads the scaling of a GGUF file, as llama.cpp does: linear if no type is named, by the key of old files if the new
/// one is absent, times the factors of each wavelength (`rope_freqs.weight`). `truncate` says whether the ramp of YaRN is
/// rounded to whole dimensions.
pub(super) fn gguf_scaling(
    settings: &Settings,
    factors: Option<Vec<f32>>,
    context: usize,
    truncate: bool,
) -> Result<RopeScaling> {
    let kind = settings.text_or("rope.scaling.type", "linear")?;
    let unsupported = |value: String, supported: String| Error::Unsupported { what: "rope.scaling", value, supported };
    let yarn = kind == "yarn";
    for (key, neutral, read) in [
        ("rope.scaling.attn_factor", 1.0, yarn),
        ("rope.scaling.alpha", 0.0, false),
        ("rope.scaling.yarn_ext_factor", if yarn { 1.0 } else { 0.0 }, false),
        ("rope.scaling.yarn_attn_factor", 1.0, false),
        ("rope.scaling.yarn_log_multiplier", 0.0, false),
    ] {
        let value = settings.number_or(key, neutral)?;
        // A negative factor of extrapolation is "not set".
        let unset = key.ends_with("ext_factor") && value < 0.0;
        if value != neutral && !read && !unset {
            return Err(unsupported(format!("{key} {value}"), neutral.to_string()));
        }
    }
    let factor = settings.number_or("rope.scaling.factor", settings.number_or("rope.scale_linear", 0.0)?)?;
    let factor = match kind {
        "none" => 1.0,
        "linear" | "yarn" if factor == 0.0 => 1.0,
        "linear" | "yarn" if factor > 0.0 => factor,
        "linear" | "yarn" => {
            return Err(Error::Config(format!("rope.scaling.factor is {factor}, expected more than 0")));
        }
        other => return Err(unsupported(format!("type {other}"), "none, linear, yarn".into())),
    };
    if yarn {
        return match factors {
            Some(_) => Err(unsupported("type yarn with rope_freqs.weight".into(), "one of the two".into())),
            None => gguf_yarn(settings, factor, context, truncate),
        };
    }
    Ok(match factors {
        Some(factors) => RopeScaling::Factors(factors.into_iter().map(|each| each * factor as f32).collect()),
        None if factor == 1.0 => RopeScaling::Default,
        None => RopeScaling::Linear(factor),
    })
}

/// Reads YaRN of a GGUF file. Formulas: `llama_context` and `rope_yarn` of llama.cpp.
fn gguf_yarn(settings: &Settings, factor: f64, context: usize, truncate: bool) -> Result<RopeScaling> {
    let positive = |key: &str, default: f64| {
        let value = settings.number_or(key, default)?;
        if value > 0.0 { Ok(value) } else { Err(Error::Config(format!("{key} is {value}, expected more than 0"))) }
    };
    let original = settings.number_or("rope.scaling.original_context_length", 0.0)?;
    if original < 0.0 {
        return Err(Error::Config(format!("rope.scaling.original_context_length is {original}, expected 1 or more")));
    }
    Ok(RopeScaling::Yarn {
        factor,
        beta_fast: positive("rope.scaling.yarn_beta_fast", 32.0)?,
        beta_slow: positive("rope.scaling.yarn_beta_slow", 1.0)?,
        original_context: if original == 0.0 { context as f64 } else { original },
        attention_factor: yarn_mscale(factor, 1.0) * positive("rope.scaling.attn_factor", 1.0)?,
        truncate,
    })
}

/// Factor of YaRN on cosines and sines.
fn yarn_mscale(factor: f64, weight: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 }
}

fn yarn_attention_factor(settings: &Settings, factor: f64) -> Result<f64> {
    let mscale = |weight: f64| yarn_mscale(factor, weight);
    let default = match (settings.number_or("mscale", 0.0)?, settings.number_or("mscale_all_dim", 0.0)?) {
        (a, b) if a != 0.0 && b != 0.0 => mscale(a) / mscale(b),
        _ => mscale(1.0),
    };
    settings.number_or("attention_factor", default)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Settings, gguf_scaling};
    use crate::RopeScaling;

    /// Checks the scaling against `llama_model::load_hparams` and `llama_context` of llama.cpp.
    #[test]
    fn scaling_of_gguf_files() {
        let of = |keys: serde_json::Value, factors: Option<&[f32]>| {
            gguf_scaling(&Settings::from_json(&keys).unwrap(), factors.map(<[f32]>::to_vec), 4096, true)
        };
        for (keys, wanted) in [
            (json!({}), RopeScaling::Default),
            (json!({"rope.scaling.factor": 4.0}), RopeScaling::Linear(4.0)),
            (json!({"rope.scaling.factor": 0.5}), RopeScaling::Linear(0.5)),
            (json!({"rope.scaling.factor": 0.0}), RopeScaling::Default),
            (json!({"rope.scale_linear": 2.0}), RopeScaling::Linear(2.0)),
            (json!({"rope.scale_linear": 2.0, "rope.scaling.factor": 4.0}), RopeScaling::Linear(4.0)),
            (json!({"rope.scaling.type": "linear", "rope.scale_linear": 2.0}), RopeScaling::Linear(2.0)),
            (json!({"rope.scaling.type": "linear"}), RopeScaling::Default),
            (json!({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}), RopeScaling::Default),
            (json!({"rope.scaling.type": "none", "rope.scale_linear": 4.0}), RopeScaling::Default),
            (json!({"rope.scaling.attn_factor": 1.0, "rope.scaling.finetuned": true}), RopeScaling::Default),
        ] {
            assert_eq!(of(keys.clone(), None).unwrap(), wanted, "{keys}");
        }
        let factors = Some(&[1.0, 8.0][..]);
        assert_eq!(of(json!({}), factors).unwrap(), RopeScaling::Factors(vec![1.0, 8.0]));
        assert_eq!(of(json!({"rope.scaling.factor": 2.0}), factors).unwrap(), RopeScaling::Factors(vec![2.0, 16.0]));
        let yarn = |factor: f64, betas: [f64; 2], original_context: f64, attention_factor: f64| RopeScaling::Yarn {
            factor,
            beta_fast: betas[0],
            beta_slow: betas[1],
            original_context,
            attention_factor,
            truncate: true,
        };
        let mscale = 0.1 * 4f64.ln() + 1.0;
        for (keys, wanted) in [
            (json!({"rope.scaling.factor": 4.0}), yarn(4.0, [32.0, 1.0], 4096.0, mscale)),
            (
                json!({"rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 1024,
                    "rope.scaling.yarn_beta_fast": 8.0, "rope.scaling.yarn_beta_slow": 2.0,
                    "rope.scaling.attn_factor": 0.5, "rope.scaling.yarn_ext_factor": -1.0}),
                yarn(4.0, [8.0, 2.0], 1024.0, mscale * 0.5),
            ),
            (
                json!({"rope.scale_linear": 4.0, "rope.scaling.yarn_ext_factor": 1.0}),
                yarn(4.0, [32.0, 1.0], 4096.0, mscale),
            ),
            // A factor below 1 stretches nothing, and scales nothing.
            (json!({"rope.scaling.factor": 0.5}), yarn(0.5, [32.0, 1.0], 4096.0, 1.0)),
            (json!({}), yarn(1.0, [32.0, 1.0], 4096.0, 1.0)),
        ] {
            let mut keys = keys;
            keys["rope.scaling.type"] = "yarn".into();
            assert_eq!(of(keys.clone(), None).unwrap(), wanted, "{keys}");
        }
        let error = of(json!({"rope.scaling.type": "yarn"}), factors).unwrap_err().to_string();
        assert!(error.contains("rope_freqs.weight"), "{error}");
        for (keys, words) in [
            (json!({"rope.scaling.type": "yarn", "rope.scaling.yarn_ext_factor": 0.5}), "yarn_ext_factor 0.5"),
            (json!({"rope.scaling.type": "yarn", "rope.scaling.yarn_attn_factor": 2.0}), "yarn_attn_factor 2"),
            (json!({"rope.scaling.type": "yarn", "rope.scaling.yarn_log_multiplier": 0.1}), "yarn_log_multiplier 0.1"),
            (json!({"rope.scaling.type": "yarn", "rope.scaling.yarn_beta_fast": 0.0}), "yarn_beta_fast is 0"),
            (
                json!({"rope.scaling.type": "yarn", "rope.scaling.original_context_length": -1}),
                "original_context_length is -1",
            ),
            (json!({"rope.scaling.type": "yarn", "rope.scaling.factor": -4.0}), "rope.scaling.factor is -4"),
            (json!({"rope.scaling.yarn_ext_factor": 1.0}), "yarn_ext_factor 1"),
            (json!({"rope.scaling.type": "longrope"}), "longrope"),
            (json!({"rope.scaling.factor": -1.0}), "rope.scaling.factor is -1"),
            (json!({"rope.scaling.factor": "4"}), "rope.scaling.factor"),
            (json!({"rope.scaling.attn_factor": 1.2}), "attn_factor 1.2"),
        ] {
            let text = of(keys.clone(), None).unwrap_err().to_string();
            assert!(text.contains(words), "{keys}: {text}");
        }
    }
}
