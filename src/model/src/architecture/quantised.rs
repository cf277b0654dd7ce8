//! Refuses quantised checkpoints of Hugging Face by the name of their method; those of gpt-oss with experts in MXFP4 are
//! read.

use serde_json::Value;

use crate::checkpoint::has_packed_experts;
use crate::{Error, Result};

/// Endings of names of tensors that only quantised checkpoints have, for those whose configuration does not say so.
const TENSORS: [(&str, &str); 17] = [
    (".qweight", "GPTQ or AWQ"),
    (".qzeros", "GPTQ or AWQ"),
    (".g_idx", "GPTQ"),
    (".quant_state.bitsandbytes__nf4", "bitsandbytes, 4 bits"),
    (".quant_state.bitsandbytes__fp4", "bitsandbytes, 4 bits"),
    (".quant_map", "bitsandbytes, 4 bits"),
    (".absmax", "bitsandbytes"),
    (".SCB", "bitsandbytes, 8 bits"),
    (".weight_packed", "compressed-tensors"),
    (".weight_scale_inv", "fp8"),
    (".weight_scale", "fp8 or compressed-tensors"),
    (".input_scale", "fp8"),
    (".W_q", "hqq"),
    (".codebooks", "aqlm"),
    (".weight._data", "quanto"),
    (".weight_scales", "eetq"),
    ("_blocks", "mxfp4"),
];

/// Refuses a checkpoint that is quantised by its configuration or its tensors. Experts in MXFP4 that the configuration
/// announces are not among `tensors` as they are stored.
pub(super) fn refuse(config: &Value, tensors: &[String]) -> Result<()> {
    for key in ["quantization_config", "compression_config"] {
        let said = &config[key];
        let is_read = key == "quantization_config" && has_packed_experts(config);
        if !said.is_null() && !is_read {
            return Err(unsupported(format!("{} ({key} of config.json)", method(said))));
        }
    }
    let found =
        TENSORS.iter().find_map(|(ending, method)| Some((tensors.iter().find(|name| name.ends_with(ending))?, method)));
    match found {
        Some((tensor, method)) => Err(unsupported(format!("{method} (tensor {tensor})"))),
        None => Ok(()),
    }
}

/// Name of the method and its number of bits, as in transformers.
fn method(said: &Value) -> String {
    let flag = |key: &str| said[key].as_bool().unwrap_or(false);
    let bits = if flag("load_in_4bit") {
        Some(4)
    } else if flag("load_in_8bit") {
        Some(8)
    } else {
        ["bits", "w_bit", "nbits", "num_bits", "wbits"].iter().find_map(|key| said[*key].as_u64())
    };
    let name = match said["quant_method"].as_str() {
        Some(name) => name,
        None if flag("load_in_4bit") || flag("load_in_8bit") => "bitsandbytes",
        None => "method not named",
    };
    bits.map_or_else(|| name.to_owned(), |bits| format!("{name}, {bits} bits"))
}

fn unsupported(value: String) -> Error {
    Error::Unsupported {
        what: "quantisation",
        value,
        supported: "weights of F64, F32, F16 or BF16, mxfp4 of the experts of gpt_oss, and GGUF files".into(),
    }
}
