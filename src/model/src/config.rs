//! Configuration of a decoder-only transformer, in TransformerLens terms.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// Configuration of a network: all that the forward pass needs beside the weights.
///
/// One struct covers every supported architecture, as TransformerLens' `HookedTransformerConfig` does.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Architecture, as the checkpoint names it: `hooked_transformer`, `gpt2`, `gpt_neox`, `llama`, `mistral`, `qwen2`.
    pub architecture: String,
    /// Number of blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads; fewer than `heads` with grouped queries.
    pub kv_heads: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Number of neurons of a layer.
    pub d_mlp: usize,
    /// Number of tokens of the embedding.
    pub vocabulary: usize,
    /// Length of the longest sequence that the network can read, BOS included.
    pub context: usize,
    /// Norm before attention and MLP.
    pub norm: Norm,
    /// Norm before the unembedding.
    pub final_norm: Norm,
    /// Activation function of the MLP.
    pub activation: Activation,
    /// True if the MLP is gated: `act(x·W_gate) · (x·W_in)`.
    pub gated: bool,
    /// Position embedding.
    pub positions: Positions,
    /// True if attention and MLP read the same residual stream (GPT-NeoX, GPT-J).
    pub parallel: bool,
    /// Factor on query·key, before softmax; usually 1/√d_head.
    pub attention_scale: f32,
    /// True if layer `l` divides its attention scores by `l + 1` as well.
    pub scale_by_layer: bool,
    /// True if the embedding is the unembedding where the checkpoint has no other.
    pub tied: bool,
}

impl Config {
    /// Default site: `mlp.mid` where SoLU is followed by a LayerNorm, else `mlp.post`.
    pub fn default_site(&self) -> Site {
        if self.activation == Activation::SoluLn { Site::MlpMid } else { Site::MlpPost }
    }

    /// The LayerNorm that follows SoLU in a solu_ln MLP; it has weights only beside other LayerNorms that have.
    pub(crate) fn mlp_norm(&self) -> Norm {
        Norm { kind: NormKind::Layer, affine: self.norm.affine && self.norm.kind == NormKind::Layer, ..self.norm }
    }

    /// Refuses a site that the network does not have.
    ///
    /// # Errors
    /// [`Error::InvalidOption`].
    pub fn check_site(&self, site: Site) -> Result<()> {
        if site == Site::MlpMid && self.activation != Activation::SoluLn {
            return Err(Error::InvalidOption {
                option: "site".into(),
                reason: format!(
                    "mlp.mid exists in solu_ln models only; this one has {}: use mlp.post",
                    self.activation
                ),
            });
        }
        Ok(())
    }

    /// Refuses shapes that cannot be a network, before memory is allocated for them.
    pub(crate) fn check(self) -> Result<Self> {
        let sizes = [
            ("layers", self.layers, 10_000),
            ("d_model", self.d_model, 1 << 20),
            ("heads", self.heads, 1 << 14),
            ("kv_heads", self.kv_heads, 1 << 14),
            ("d_head", self.d_head, 1 << 14),
            ("d_mlp", self.d_mlp, 1 << 24),
            ("vocabulary", self.vocabulary, 1 << 26),
            ("context", self.context, 1 << 30),
        ];
        for (name, value, limit) in sizes {
            if value == 0 || value > limit {
                return Err(Error::Config(format!("{name} is {value}, expected 1 to {limit}")));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Error::Config(format!(
                "{} query heads cannot share {} key-value heads",
                self.heads, self.kv_heads
            )));
        }
        if let Positions::Rotary(rope) = &self.positions
            && (rope.dims == 0 || 2 * rope.pairs() > self.d_head)
        {
            return Err(Error::Config(format!("{} rotary dimensions in heads of {}", rope.dims, self.d_head)));
        }
        Ok(self)
    }
}

/// Site at which neurons are read, by its TransformerLens hook name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// `blocks.{l}.mlp.hook_post`: after the activation function (gated MLPs: `act(gate)·up`; solu_ln: after the LayerNorm).
    MlpPost,
    /// `blocks.{l}.mlp.hook_mid`: solu_ln models, after SoLU and before its LayerNorm.
    MlpMid,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Site::MlpPost => "mlp.post",
            Site::MlpMid => "mlp.mid",
        })
    }
}

impl FromStr for Site {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "mlp.post" => Ok(Site::MlpPost),
            "mlp.mid" => Ok(Site::MlpMid),
            _ => {
                let reason = format!("\"{s}\" is not a site; sites are mlp.post and mlp.mid");
                Err(Error::InvalidOption { option: "site".into(), reason })
            }
        }
    }
}

/// A norm and its epsilon.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// Kind of the norm.
    pub kind: NormKind,
    /// Epsilon, added to the variance or mean square, inside the root.
    pub eps: f32,
    /// True if the checkpoint has a weight (and, for a LayerNorm, a bias) for it.
    pub affine: bool,
}

/// Kind of a norm of the residual stream, without the weight and bias that may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// LayerNorm: subtracts the mean, divides by the standard deviation (biased variance).
    Layer,
    /// RMSNorm: divides by the root mean square.
    Rms,
    /// No norm.
    None,
}

/// Position embedding of a network.
#[derive(Debug, Clone, PartialEq)]
pub enum Positions {
    /// A learned vector added to the embedding.
    Learned,
    /// A learned vector added to the input of queries and keys only (Press et al. 2020, "Shortformer").
    Shortformer,
    /// Rotation of queries and keys.
    Rotary(Rope),
}

/// Rotary position embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Number of rotated leading dimensions of a head, if odd rounded up; wavelengths are computed of it unrounded.
    pub dims: usize,
    /// Base of the wavelengths.
    pub base: f64,
    /// True if neighbouring dimensions form a pair (GPT-J, llama GGUF) or dimension `i` and `i + dims/2` (GPT-NeoX).
    pub adjacent_pairs: bool,
    /// Scaling of the wavelengths for long contexts.
    pub scaling: RopeScaling,
}

/// Long-context variants of [`Rope`], by the names of Hugging Face transformers.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// No scaling; also `dynamic`, which changes nothing inside the trained context.
    Default,
    /// Positions divided by a factor.
    Linear(f64),
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, those between interpolated.
    Llama3 {
        /// Divisor of long wavelengths.
        factor: f64,
        /// Wavelengths above `original_context / low` are long.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high` are short.
        high_freq_factor: f64,
        /// Context of pre-training.
        original_context: f64,
    },
    /// YaRN (Peng et al. 2023).
    Yarn {
        /// Extension factor.
        factor: f64,
        /// Rotations that mark a short wavelength.
        beta_fast: f64,
        /// Rotations that mark a long wavelength.
        beta_slow: f64,
        /// Context of pre-training.
        original_context: f64,
        /// Factor on cos and sin.
        attention_factor: f64,
        /// True if the bounds of the ramp are rounded to whole dimensions.
        truncate: bool,
    },
    /// Factor of each wavelength (the `rope_freqs` tensor of a GGUF).
    Factors(Vec<f32>),
}

impl Rope {
    /// Number of pairs of dimensions that are rotated.
    pub fn pairs(&self) -> usize {
        self.dims.div_ceil(2)
    }

    /// Angle by which one position rotates each pair, and the factor on cos and sin.
    ///
    /// Formulas: `modeling_rope_utils.py` of Hugging Face transformers.
    pub fn frequencies(&self) -> (Vec<f64>, f64) {
        let plain = |i: usize| self.base.powf(-2.0 * i as f64 / self.dims as f64);
        let all = |f: &dyn Fn(usize) -> f64| (0..self.pairs()).map(f).collect::<Vec<_>>();
        match &self.scaling {
            RopeScaling::Default => (all(&plain), 1.0),
            RopeScaling::Linear(factor) => (all(&|i| plain(i) / factor), 1.0),
            RopeScaling::Factors(factors) => (all(&|i| plain(i) / factors.get(i).map_or(1.0, |f| f64::from(*f))), 1.0),
            &RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let stretched = |i: usize| {
                    let frequency = plain(i);
                    let wavelength = std::f64::consts::TAU / frequency;
                    if wavelength < original_context / high_freq_factor {
                        frequency
                    } else if wavelength > original_context / low_freq_factor {
                        frequency / factor
                    } else {
                        let smooth =
                            (original_context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                        (1.0 - smooth) * frequency / factor + smooth * frequency
                    }
                };
                (all(&stretched), 1.0)
            }
            &RopeScaling::Yarn { factor, beta_fast, beta_slow, original_context, attention_factor, truncate } => {
                let dims = self.dims as f64;
                // Dimension whose wavelength fits `rotations` times into the original context.
                let dimension = |rotations: f64| {
                    dims * (original_context / (rotations * std::f64::consts::TAU)).ln() / (2.0 * self.base.ln())
                };
                let (mut low, mut high) = (dimension(beta_fast), dimension(beta_slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let low = low.max(0.0);
                let mut high = high.min(dims - 1.0);
                if low == high {
                    high += 0.001;
                }
                let blended = |i: usize| {
                    let interpolated = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    plain(i) / factor * interpolated + plain(i) * (1.0 - interpolated)
                };
                (all(&blended), attention_factor)
            }
        }
    }
}

/// Activation function of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x·Φ(x), exact.
    Gelu,
    /// The tanh approximation (`gelu_new`, `gelu_fast`, `gelu_pytorch_tanh` are one function).
    GeluTanh,
    /// max(x, 0).
    Relu,
    /// x·sigmoid(x).
    Silu,
    /// x·softmax(x) over the layer's neurons (Elhage et al. 2022).
    Solu,
    /// SoLU followed by a LayerNorm over the layer's neurons.
    SoluLn,
}

impl Activation {
    const SUPPORTED: &str = "gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu, silu (swish), solu, solu_ln";

    /// Returns true if a neuron's value depends on the other neurons of its layer, so that none can be left out.
    pub fn couples_neurons(self) -> bool {
        matches!(self, Activation::Solu | Activation::SoluLn)
    }
}

impl FromStr for Activation {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Ok(match s {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            "silu" | "swish" => Activation::Silu,
            "solu" => Activation::Solu,
            "solu_ln" => Activation::SoluLn,
            _ => {
                return Err(Error::Unsupported {
                    what: "activation function",
                    value: s.into(),
                    supported: Self::SUPPORTED.into(),
                });
            }
        })
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_new",
            Activation::Relu => "relu",
            Activation::Silu => "silu",
            Activation::Solu => "solu",
            Activation::SoluLn => "solu_ln",
        })
    }
}
