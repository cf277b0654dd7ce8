//! Networks of random weights in well-known shapes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use crate::Result;

/// Writes a network of random weights as Hugging Face transformers does, unless it is there; returns its folder.
pub fn random(folder: &Path, shape: &str, layers: Option<usize>) -> Result<PathBuf> {
    let (own, mut config) = match shape {
        "gpt2" => (
            12,
            serde_json::json!({
                "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 768, "n_head": 12,
                "n_positions": 1024, "vocab_size": 50257, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5
            }),
        ),
        _ => (
            30,
            serde_json::json!({
                "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 576,
                "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
                "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "hidden_act": "silu",
                "tie_word_embeddings": true
            }),
        ),
    };
    let layers = layers.unwrap_or(own);
    config[if shape == "gpt2" { "n_layer" } else { "num_hidden_layers" }] = layers.into();
    let folder = folder.join(format!("{shape}-{layers}"));
    if folder.join("config.json").exists() {
        return Ok(folder);
    }
    std::fs::create_dir_all(&folder)?;
    let mut weights: HashMap<String, Tensor> = HashMap::new();
    let mut matrix = |name: String, shape: &[usize]| -> Result<()> {
        weights.insert(name, Tensor::randn(0_f32, 0.02, shape, &Device::Cpu)?);
        Ok(())
    };
    let mut ones = Vec::new();
    if shape == "gpt2" {
        matrix("transformer.wte.weight".into(), &[50257, 768])?;
        matrix("transformer.wpe.weight".into(), &[1024, 768])?;
        for l in 0..layers {
            let name = |part: &str| format!("transformer.h.{l}.{part}");
            let parts = [
                ("attn.c_attn", 768, 2304),
                ("attn.c_proj", 768, 768),
                ("mlp.c_fc", 768, 3072),
                ("mlp.c_proj", 3072, 768),
            ];
            for (part, d_in, d_out) in parts {
                matrix(name(&format!("{part}.weight")), &[d_in, d_out])?;
                matrix(name(&format!("{part}.bias")), &[d_out])?;
            }
            ones.extend([name("ln_1"), name("ln_2")].map(|norm| (norm, 768, true)));
        }
        ones.push(("transformer.ln_f".into(), 768, true));
    } else {
        matrix("model.embed_tokens.weight".into(), &[49152, 576])?;
        for l in 0..layers {
            let name = |part: &str| format!("model.layers.{l}.{part}");
            let parts = [
                ("self_attn.q_proj", 576, 576),
                ("self_attn.k_proj", 192, 576),
                ("self_attn.v_proj", 192, 576),
                ("self_attn.o_proj", 576, 576),
                ("mlp.gate_proj", 1536, 576),
                ("mlp.up_proj", 1536, 576),
                ("mlp.down_proj", 576, 1536),
            ];
            for (part, d_out, d_in) in parts {
                matrix(name(&format!("{part}.weight")), &[d_out, d_in])?;
            }
            ones.extend([name("input_layernorm"), name("post_attention_layernorm")].map(|norm| (norm, 576, false)));
        }
        ones.push(("model.norm".into(), 576, false));
    }
    for (norm, d, bias) in ones {
        weights.insert(format!("{norm}.weight"), Tensor::ones(d, DType::F32, &Device::Cpu)?);
        if bias {
            weights.insert(format!("{norm}.bias"), Tensor::zeros(d, DType::F32, &Device::Cpu)?);
        }
    }
    candle_core::safetensors::save(&weights, folder.join("model.safetensors"))?;
    // Written last: a folder that has it is complete.
    std::fs::write(folder.join("config.json"), serde_json::to_vec_pretty(&config)?)?;
    Ok(folder)
}
