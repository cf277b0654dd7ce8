//! Weights of BERT and DistilBERT, by the names of candle-transformers' BERT.
//!
//! DistilBERT is a BERT without token types: with zeros for these one network serves both. (candle-transformers' own
//! DistilBERT approximates GELU by tanh, which PyTorch's does not.)

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_transformers::models::bert::{Config, HiddenAct};
use neuroql_model::checkpoint::TensorSource;
use neuroql_model::{Error, Result};
use serde_json::Value as Json;

/// Family of the names of tensors in the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TensorNaming {
    Bert,
    DistilBert,
}

/// Names of the linear maps and norms of a block, ours and theirs, in the order of the shapes of [`widths`].
type Names = [(&'static str, &'static str); 8];

const BERT: Names = [
    ("attention.self.query", "attention.self.query"),
    ("attention.self.key", "attention.self.key"),
    ("attention.self.value", "attention.self.value"),
    ("attention.output.dense", "attention.output.dense"),
    ("attention.output.LayerNorm", "attention.output.LayerNorm"),
    ("intermediate.dense", "intermediate.dense"),
    ("output.dense", "output.dense"),
    ("output.LayerNorm", "output.LayerNorm"),
];

const DISTILBERT: Names = [
    ("attention.self.query", "attention.q_lin"),
    ("attention.self.key", "attention.k_lin"),
    ("attention.self.value", "attention.v_lin"),
    ("attention.output.dense", "attention.out_lin"),
    ("attention.output.LayerNorm", "sa_layer_norm"),
    ("intermediate.dense", "ffn.lin1"),
    ("output.dense", "ffn.lin2"),
    ("output.LayerNorm", "output_layer_norm"),
];

/// Reads the configuration as that of a BERT.
///
/// # Errors
/// [`Error::Unsupported`] for another architecture or activation function, [`Error::Config`] for invalid numbers.
pub(super) fn config(json: &Json) -> Result<(TensorNaming, Config)> {
    let family = match json["model_type"].as_str() {
        Some("bert") => TensorNaming::Bert,
        Some("distilbert") => TensorNaming::DistilBert,
        other => {
            let value = other.unwrap_or("").into();
            return Err(Error::Unsupported {
                what: "masked language model",
                value,
                supported: "bert, distilbert".into(),
            });
        }
    };
    let ours = |bert: &'static str, distilbert| if family == TensorNaming::Bert { bert } else { distilbert };
    let size = |name: &str| match json[name].as_u64() {
        Some(size @ 1..=0x100_0000) => Ok(size as usize),
        _ => Err(Error::Config(format!("{name} is {}, expected a number of 1 to {}", json[name], 0x100_0000))),
    };
    let activation = json[ours("hidden_act", "activation")].as_str().unwrap_or("gelu");
    let config = Config {
        vocab_size: size("vocab_size")?,
        hidden_size: size(ours("hidden_size", "dim"))?,
        num_hidden_layers: size(ours("num_hidden_layers", "n_layers"))?,
        num_attention_heads: size(ours("num_attention_heads", "n_heads"))?,
        intermediate_size: size(ours("intermediate_size", "hidden_dim"))?,
        hidden_act: match activation {
            "gelu" => HiddenAct::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => HiddenAct::GeluApproximate,
            "relu" => HiddenAct::Relu,
            other => {
                let supported = "gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu in masked language models".into();
                return Err(Error::Unsupported { what: "activation function", value: other.into(), supported });
            }
        },
        max_position_embeddings: size("max_position_embeddings")?,
        type_vocab_size: if family == TensorNaming::Bert { size("type_vocab_size")? } else { 1 },
        // DistilBERT has no setting for it.
        layer_norm_eps: json["layer_norm_eps"].as_f64().filter(|_| family == TensorNaming::Bert).unwrap_or(1e-12),
        model_type: None,
        ..Config::default()
    };
    if !config.hidden_size.is_multiple_of(config.num_attention_heads) {
        let Config { hidden_size, num_attention_heads, .. } = config;
        return Err(Error::Config(format!("{num_attention_heads} heads do not divide a width of {hidden_size}")));
    }
    if let Some(kind) = json["position_embedding_type"].as_str().filter(|kind| *kind != "absolute") {
        let what = "position_embedding_type";
        return Err(Error::Unsupported { what, value: kind.into(), supported: "absolute".into() });
    }
    Ok((family, config))
}

/// Reads tensors by the names `embeddings.…`, `encoder.layer.N.…` and `predictions.…`.
///
/// # Errors
/// [`Error::Weights`] for a tensor that is missing or has another shape, as in a checkpoint without the head that
/// predicts words (a classifier, a sentence encoder).
pub(super) fn read(
    source: &dyn TensorSource,
    (family, config): (TensorNaming, &Config),
    tied: bool,
) -> Result<HashMap<String, Tensor>> {
    let mut read = TensorReader { source, tensors: HashMap::new() };
    let (d, vocabulary) = (config.hidden_size, config.vocab_size);
    let (prefix, blocks) = match family {
        TensorNaming::Bert => ("bert", "bert.encoder.layer"),
        TensorNaming::DistilBert => ("distilbert", "distilbert.transformer.layer"),
    };
    let embeddings = |part: &str| (format!("embeddings.{part}"), format!("{prefix}.embeddings.{part}"));
    for (part, rows) in
        [("word_embeddings.weight", vocabulary), ("position_embeddings.weight", config.max_position_embeddings)]
    {
        let (ours, theirs) = embeddings(part);
        read.tensor(&ours, &[&theirs], &[rows, d])?;
    }
    let (ours, theirs) = embeddings("token_type_embeddings.weight");
    match family {
        TensorNaming::Bert => read.tensor(&ours, &[&theirs], &[config.type_vocab_size, d])?,
        TensorNaming::DistilBert => {
            read.tensors.insert(ours, Tensor::zeros((1, d), DType::F32, &Device::Cpu)?);
        }
    }
    let (ours, theirs) = embeddings("LayerNorm");
    read.pair(&ours, &theirs, &[d])?;
    for layer in 0..config.num_hidden_layers {
        let names = if family == TensorNaming::Bert { BERT } else { DISTILBERT };
        for ((ours, theirs), shape) in names.into_iter().zip(widths(config)) {
            read.pair(&format!("encoder.layer.{layer}.{ours}"), &format!("{blocks}.{layer}.{theirs}"), &shape)?;
        }
    }
    let (dense, norm, decoder, biases) = match family {
        TensorNaming::Bert => (
            "cls.predictions.transform.dense",
            "cls.predictions.transform.LayerNorm",
            "cls.predictions.decoder.weight",
            &["cls.predictions.bias", "cls.predictions.decoder.bias"][..],
        ),
        TensorNaming::DistilBert => {
            ("vocab_transform", "vocab_layer_norm", "vocab_projector.weight", &["vocab_projector.bias"][..])
        }
    };
    read.pair("predictions.transform.dense", dense, &[d, d])?;
    read.pair("predictions.transform.LayerNorm", norm, &[d])?;
    let (_, words) = embeddings("word_embeddings.weight");
    let decoder = if tied { words.as_str() } else { decoder };
    read.tensor("predictions.decoder.weight", &[decoder], &[vocabulary, d])?;
    read.tensor("predictions.decoder.bias", biases, &[vocabulary])?;
    Ok(read.tensors)
}

/// Shapes of the weights of a block.
fn widths(config: &Config) -> [Vec<usize>; 8] {
    let (d, inner) = (config.hidden_size, config.intermediate_size);
    let square = || vec![d, d];
    [square(), square(), square(), square(), vec![d], vec![inner, d], vec![d, inner], vec![d]]
}

struct TensorReader<'a> {
    source: &'a dyn TensorSource,
    tensors: HashMap<String, Tensor>,
}

impl TensorReader<'_> {
    /// Reads weight and bias; BERT's first checkpoints call those of norms gamma and beta.
    fn pair(&mut self, ours: &str, theirs: &str, shape: &[usize]) -> Result<()> {
        let named = |name| format!("{theirs}.{name}");
        self.tensor(&format!("{ours}.weight"), &[&named("weight"), &named("gamma")], shape)?;
        self.tensor(&format!("{ours}.bias"), &[&named("bias"), &named("beta")], &shape[..1])
    }

    /// Reads a tensor that has one of several names.
    fn tensor(&mut self, ours: &str, theirs: &[&str], shape: &[usize]) -> Result<()> {
        let wrong = |reason| Error::Weights { tensor: theirs[0].into(), reason };
        let found = theirs.iter().find_map(|name| Some((name, self.source.shape(name)?)));
        let (name, found) = found.ok_or_else(|| {
            wrong(format!("missing from the checkpoint; a masked language model has one of shape {shape:?}"))
        })?;
        if found != shape {
            return Err(wrong(format!("has shape {found:?}, the configuration asks for {shape:?}")));
        }
        self.tensors.insert(ours.into(), self.source.read(name)?);
        Ok(())
    }
}
