//! Rotary position settings of Hugging Face configurations, in the old and the new spelling.

use super::settings::Settings;
use crate::{Error, Result, Rope, RopeScaling};

/// Reads `rope_parameters` (transformers 5) or `rope_theta`, `rope_scaling`, `rotary_pct` and `rotary_emb_base`
/// (before). `partial` is the share of a head that is rotated where the configuration does not say.
pub(super) fn rope(settings: &Settings, d_head: usize, context: usize, partial: f64) -> Result<Rope> {
    let nested = match settings.object("rope_parameters")? {
        Some(parameters) => Some(parameters),
        None => settings.object("rope_scaling")?,
    };
    let none = Settings::from_json(&serde_json::json!({}))?;
    let inner = nested.as_ref().unwrap_or(&none);
    let number = |keys: &[&str], default: f64| -> Result<f64> {
        for key in keys {
            for place in [inner, settings] {
                if place.has(key) {
                    return place.number_or(key, default);
                }
            }
        }
        Ok(default)
    };
    let base = number(&["rope_theta", "rotary_emb_base"], 10_000.0)?;
    let share = number(&["partial_rotary_factor", "rotary_pct"], partial)?;
    let kind = inner.text_or("rope_type", inner.text_or("type", "default")?)?;
    let original_context = number(&["original_max_position_embeddings"], context as f64)?;
    // Hugging Face works the factor of YaRN out where it is null.
    let factor = inner.number_or("factor", if kind == "yarn" { context as f64 / original_context } else { 1.0 })?;
    if base <= 1.0 || factor < 1.0 || original_context < 1.0 {
        return Err(Error::Config(format!("rotary base {base}, factor {factor}, context {original_context}")));
    }
    let scaling = match kind {
        "default" | "mrope" | "dynamic" => RopeScaling::Default,
        "linear" => RopeScaling::Linear(factor),
        "llama3" => RopeScaling::Llama3 {
            factor,
            low_freq_factor: inner.number_or("low_freq_factor", 1.0)?,
            high_freq_factor: inner.number_or("high_freq_factor", 4.0)?,
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
        other => {
            return Err(Error::Unsupported {
                what: "rope_type",
                value: other.into(),
                supported: "default, dynamic, linear, llama3, yarn".into(),
            });
        }
    };
    // Hugging Face truncates as Python's int() does.
    Ok(Rope { dims: (d_head as f64 * share) as usize, base, adjacent_pairs: false, scaling })
}

fn yarn_attention_factor(settings: &Settings, factor: f64) -> Result<f64> {
    let mscale = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
    let default = match (settings.number_or("mscale", 0.0)?, settings.number_or("mscale_all_dim", 0.0)?) {
        (a, b) if a != 0.0 && b != 0.0 => mscale(a) / mscale(b),
        _ => mscale(1.0),
    };
    settings.number_or("attention_factor", default)
}
