//! Rotary position settings of Hugging Face configurations, in the old and the new spelling, as transformers 5.24
//! resolves them.

use super::settings::Settings;
use crate::{Error, Result, Rope, RopeScaling};

/// Spelling of the keys beside `rope_scaling` and `rope_parameters`, by architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `rope_theta`; heads are rotated as a whole.
    Llama,
    /// `rotary_emb_base` and `rotary_pct`.
    GptNeoX,
}

/// Reads `rope_scaling` if it is set, else `rope_parameters`; keys that it lacks are looked up beside it.
pub(super) fn rope(settings: &Settings, d_head: usize, context: usize, spelling: Spelling) -> Result<Rope> {
    let said = |key: &str| Ok::<_, Error>(settings.object(key)?.filter(|object| !object.is_empty()));
    let inner = match said("rope_scaling")? {
        Some(scaling) => scaling,
        None => said("rope_parameters")?.unwrap_or_default(),
    };
    if let Some(key) = inner.nested() {
        return Err(Error::Unsupported {
            what: "rope_parameters",
            value: format!("parameters of its own for {key}"),
            supported: "one set of parameters for all layers".into(),
        });
    }
    let (base, share) = match spelling {
        Spelling::Llama => (("rope_theta", 10_000.0), ("partial_rotary_factor", 1.0)),
        Spelling::GptNeoX => (("rotary_emb_base", 10_000.0), ("rotary_pct", 0.25)),
    };
    let base = inner.number_or("rope_theta", settings.number_or(base.0, base.1)?)?;
    let share = inner.number_or("partial_rotary_factor", settings.number_or(share.0, share.1)?)?;
    let kind = inner.text_or("rope_type", inner.text_or("type", "default")?)?;
    // The key of the model wins over that of the scaling.
    let original = inner.number_or("original_max_position_embeddings", context as f64)?;
    let original_context = settings.number_or("original_max_position_embeddings", original)?;
    let factor = match kind {
        // Hugging Face computes the factor of YaRN if it is null.
        "yarn" if inner.names("factor") => inner.number_or("factor", context as f64 / original_context)?,
        "linear" | "dynamic" | "llama3" | "yarn" => inner.number("factor")?,
        _ => 1.0,
    };
    for (key, value, least) in [("rope_theta", base, 1.0), ("original_max_position_embeddings", original_context, 0.0)]
    {
        if value <= least {
            return Err(Error::Config(format!("{key} is {value}, expected more than {least}")));
        }
    }
    if factor < 1.0 {
        return Err(Error::Config(format!("factor of rope_type \"{kind}\" is {factor}, expected 1 or more")));
    }
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
            attention_factor: yarn_attention_factor(&inner, factor)?,
            truncate: inner.flag_or("truncate", true)?,
        },
        other => {
            return Err(Error::Unsupported {
                what: "rope_type",
                value: other.into(),
                supported: "default, dynamic, linear, llama3, yarn".into(),
            });
        }
    };
    // Hugging Face truncates as Python's int() does.
    let dims = (d_head as f64 * share) as usize;
    let dims = match spelling {
        // These networks ignore the share without scaling, and transformers fails on it with scaling.
        Spelling::Llama if matches!(kind, "default" | "mrope") => d_head,
        Spelling::Llama if dims != d_head => {
            return Err(Error::Unsupported {
                what: "partial_rotary_factor",
                value: format!("{share} with rope_type {kind}"),
                supported: "1 in this architecture".into(),
            });
        }
        _ => dims,
    };
    Ok(Rope { dims, base, adjacent_pairs: false, scaling })
}

/// Reads the scaling of a GGUF file, as llama.cpp does: linear if no type is named, by the key of old files if the new
/// one is absent, times the factors of each wavelength (`rope_freqs.weight`).
pub(super) fn gguf_scaling(settings: &Settings, factors: Option<Vec<f32>>) -> Result<RopeScaling> {
    for (key, neutral) in [("rope.scaling.attn_factor", 1.0), ("rope.scaling.alpha", 0.0)] {
        let value = settings.number_or(key, neutral)?;
        if value != neutral {
            return Err(Error::Unsupported {
                what: "rope.scaling",
                value: format!("{key} {value}"),
                supported: format!("{neutral}"),
            });
        }
    }
    let factor = settings.number_or("rope.scaling.factor", settings.number_or("rope.scale_linear", 0.0)?)?;
    let factor = match settings.text_or("rope.scaling.type", "linear")? {
        "none" => 1.0,
        "linear" if factor == 0.0 => 1.0,
        "linear" if factor > 0.0 => factor,
        "linear" => return Err(Error::Config(format!("rope.scaling.factor is {factor}, expected more than 0"))),
        other => {
            return Err(Error::Unsupported {
                what: "rope.scaling.type",
                value: other.into(),
                supported: "none, linear".into(),
            });
        }
    };
    Ok(match factors {
        Some(factors) => RopeScaling::Factors(factors.into_iter().map(|each| each * factor as f32).collect()),
        None if factor == 1.0 => RopeScaling::Default,
        None => RopeScaling::Linear(factor),
    })
}

fn yarn_attention_factor(settings: &Settings, factor: f64) -> Result<f64> {
    let mscale = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
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
            gguf_scaling(&Settings::from_json(&keys).unwrap(), factors.map(<[f32]>::to_vec))
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
        for (keys, words) in [
            (json!({"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}), "yarn"),
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
