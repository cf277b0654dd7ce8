//! Configuration of a decoder-only transformer, in TransformerLens terms.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// Configuration of a network: all that the forward pass needs beside the weights.
///
/// One struct covers every supported architecture, as TransformerLens' `HookedTransformerConfig` does.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Architecture, as the checkpoint names it: `hooked_transformer`, `gpt2`, `llama`, `gemma3_text` and so on.
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
    /// Number of neurons of a layer; in a mixture of experts, of all of them side by side.
    pub d_mlp: usize,
    /// Number of tokens of the embedding.
    pub vocabulary: usize,
    /// Length of the longest sequence that the network can read, BOS included.
    pub context: usize,
    /// Norm before attention and MLP.
    pub norm: Norm,
    /// Norm after attention and MLP, of what they write, if there is one (OLMo 2, Gemma 2).
    pub post_norm: Option<Norm>,
    /// Place of `norm` in a block.
    pub norm_place: NormPlace,
    /// Norm of the embedding (BLOOM).
    pub embed_norm: Option<Norm>,
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
    /// Factor on the embedding as it enters the residual stream (Gemma, Granite).
    pub embed_scale: f32,
    /// Factor on logits (Cohere, Granite).
    pub logit_scale: f32,
    /// Soft cap of logits, `c·tanh(x/c)` (Gemma 2); after `logit_scale`.
    pub logit_cap: Option<f32>,
    /// Soft cap of attention scores, before the mask (Gemma 2).
    pub score_cap: Option<f32>,
    /// Norm of queries and keys, before their rotation.
    pub qk_norm: Option<QkNorm>,
    /// Greatest |value| of queries, keys and values, before their rotation (OLMo, MPT).
    pub qkv_clip: Option<f32>,
    /// True if a learned score of each head takes part in softmax beside those of the keys (gpt-oss).
    pub sinks: bool,
    /// Attention of local layers; `None` if all attend to the whole sequence.
    pub local: Option<Local>,
    /// Layers without rotary positions (SmolLM3), ascending.
    pub unrotated: Vec<usize>,
    /// Experts of a mixture; `None` if MLPs are dense.
    pub experts: Option<Experts>,
}

/// Place of the norms of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlace {
    /// Before attention and MLP, of what they read.
    Before,
    /// The same, and what they read is also what they add to (BLOOM's `apply_residual_connection_post_layernorm`).
    BeforeBoth,
    /// Norms of the residual stream after attention and after the MLP (OPT's `do_layer_norm_before = false`).
    AfterSum,
}

/// Norm of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QkNorm {
    /// Kind and epsilon.
    pub norm: Norm,
    /// True if it runs over all heads together (OLMo 2), false if over each head by itself.
    pub whole: bool,
}

/// Local attention: a query attends to the last tokens only.
#[derive(Debug, Clone, PartialEq)]
pub struct Local {
    /// Number of tokens that a query attends to, itself included.
    pub window: usize,
    /// For each layer, true if its attention is local.
    pub layers: Vec<bool>,
    /// Rotation of local layers, if it is another one (Gemma 3).
    pub rope: Option<Rope>,
}

/// Mixture of experts: a router picks the MLPs that a token runs through.
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    /// Number of experts of a layer.
    pub count: usize,
    /// Number of experts that a token is routed to.
    pub active: usize,
    /// Number of neurons of an expert: neuron `j` of expert `e` is `e·width + j` of its layer.
    pub width: usize,
    /// True if the weights of a token's experts add up to 1, false if those of all experts do.
    pub normalised: bool,
    /// Layers with a dense MLP, ascending.
    pub dense_layers: Vec<usize>,
    /// Number of neurons of a dense layer. `d_mlp` is that of the widest layer: weights and activations of neurons that
    /// a layer lacks are 0.
    pub dense_width: usize,
}

impl Default for Config {
    /// A plain decoder of no size: norms before attention and MLP, learned positions.
    fn default() -> Self {
        let norm = Norm { kind: NormKind::Layer, eps: 1e-5, affine: true };
        Self {
            architecture: String::new(),
            layers: 0,
            d_model: 0,
            heads: 0,
            kv_heads: 0,
            d_head: 0,
            d_mlp: 0,
            vocabulary: 0,
            context: 0,
            norm,
            post_norm: None,
            norm_place: NormPlace::Before,
            embed_norm: None,
            final_norm: norm,
            activation: Activation::Gelu,
            gated: false,
            positions: Positions::Learned,
            parallel: false,
            attention_scale: 1.0,
            scale_by_layer: false,
            tied: false,
            embed_scale: 1.0,
            logit_scale: 1.0,
            logit_cap: None,
            score_cap: None,
            qk_norm: None,
            qkv_clip: None,
            sinks: false,
            local: None,
            unrotated: Vec::new(),
            experts: None,
        }
    }
}

impl Config {
    /// The LayerNorm that follows SoLU in a solu_ln MLP; it has weights only beside other LayerNorms that have.
    pub(crate) fn mlp_norm(&self) -> Norm {
        Norm { kind: NormKind::Layer, affine: self.norm.affine && self.norm.kind == NormKind::Layer, ..self.norm }
    }

    /// Number of neurons of a layer: `d_mlp`, or less for a layer of another width than the widest.
    pub fn width(&self, layer: usize) -> usize {
        match &self.experts {
            Some(experts) if self.is_mixture(layer) => experts.count * experts.width,
            Some(experts) => experts.dense_width,
            None => self.d_mlp,
        }
    }

    /// Number of neurons of a layer that one token runs through at most.
    pub(crate) fn active_width(&self) -> usize {
        match &self.experts {
            None => self.d_mlp,
            Some(experts) => {
                let dense = if experts.dense_layers.is_empty() { 0 } else { experts.dense_width };
                dense.max(experts.active * experts.width)
            }
        }
    }

    /// Returns true if the layer is a mixture of experts.
    pub fn is_mixture(&self, layer: usize) -> bool {
        self.experts.as_ref().is_some_and(|experts| experts.dense_layers.binary_search(&layer).is_err())
    }

    /// Window of a layer's attention, itself included; `None` if it attends to the whole sequence.
    pub(crate) fn window(&self, layer: usize) -> Option<usize> {
        self.local.as_ref().filter(|local| local.layers.get(layer) == Some(&true)).map(|local| local.window)
    }

    /// Returns true if attention on sequences of at most `longest` tokens needs no more than biases, rotations, a scale and
    /// a causal mask.
    pub(crate) fn plain_attention(&self, longest: usize) -> bool {
        self.score_cap.is_none()
            && self.qk_norm.is_none()
            && self.qkv_clip.is_none()
            && !self.sinks
            && self.local.as_ref().is_none_or(|local| local.window >= longest)
            && !matches!(self.positions, Positions::Alibi(_))
    }

    /// Ropes of the network, that of most layers first; see [`Config::rope_of`].
    pub(crate) fn ropes(&self) -> Vec<&Rope> {
        let Positions::Rotary(rope) = &self.positions else { return Vec::new() };
        std::iter::once(rope).chain(self.local.as_ref().and_then(|local| local.rope.as_ref())).collect()
    }

    /// Index in [`Config::ropes`] of that of a layer; `None` if it is not rotated.
    pub(crate) fn rope_of(&self, layer: usize) -> Option<usize> {
        if !matches!(self.positions, Positions::Rotary(_)) || self.unrotated.binary_search(&layer).is_ok() {
            return None;
        }
        let own = self.local.as_ref().is_some_and(|local| local.rope.is_some()) && self.window(layer).is_some();
        Some(usize::from(own))
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
        for rope in self.ropes() {
            if rope.dims == 0 || 2 * rope.pairs() > self.d_head {
                return Err(Error::Config(format!("{} rotary dimensions in heads of {}", rope.dims, self.d_head)));
            }
        }
        if let Some(experts) = &self.experts {
            if experts.count == 0 || experts.width == 0 {
                return Err(Error::Config(format!("{} experts of {} neurons", experts.count, experts.width)));
            }
            if experts.active == 0 || experts.active > experts.count {
                return Err(Error::Config(format!("{} of {} experts for a token", experts.active, experts.count)));
            }
        }
        let factors = [("embed_scale", self.embed_scale), ("logit_scale", self.logit_scale)];
        let caps = [("soft cap of logits", self.logit_cap), ("soft cap of scores", self.score_cap)];
        let positive = [("clip of queries, keys and values", self.qkv_clip)];
        let given = caps.into_iter().chain(positive).filter_map(|(name, value)| Some((name, value?)));
        if let Some((name, value)) = factors.into_iter().chain(given).find(|(_, value)| value.is_nan() || *value <= 0.0)
        {
            return Err(Error::Config(format!("{name} is {value}, expected more than 0")));
        }
        if let Some(Local { window: 0, .. }) = &self.local {
            return Err(Error::Config("sliding_window is 0, expected 1 or more".into()));
        }
        Ok(self)
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
    /// Addend to scores by the distance of the key (Press et al. 2022, "ALiBi").
    Alibi(Alibi),
}

/// Addends of [`Positions::Alibi`].
#[derive(Debug, Clone, PartialEq)]
pub struct Alibi {
    /// For each head, what a key's score loses by one token more of distance.
    pub slopes: Vec<f32>,
    /// Factor on the slopes' products with positions, as Falcon scales them with the scores.
    pub scale: f32,
    /// True if slopes and their products with positions are rounded to bf16 (Falcon).
    pub rounded: bool,
}

impl Alibi {
    /// Addends to the scores of keys, by head and position, `[heads, positions]`; only their differences count.
    pub(crate) fn table(&self, positions: usize) -> Vec<f32> {
        let round = |x: f32| if self.rounded { half::bf16::from_f32(x).to_f32() } else { x };
        let row = |slope: &f32| {
            let slope = round(*slope);
            (0..positions).map(move |position| round(slope * position as f32) * self.scale).collect::<Vec<_>>()
        };
        self.slopes.iter().flat_map(row).collect()
    }

    /// Slopes of `heads` heads by the paper: a geometric sequence, interleaved unless `heads` is a power of two.
    pub(crate) fn slopes(heads: usize) -> Vec<f32> {
        let sequence = |count: usize| {
            let base = 2f64.powf(-(2f64.powf(3.0 - (count as f64).log2())));
            move |power: usize| base.powi(power as i32) as f32
        };
        let known = if heads.is_power_of_two() { heads } else { heads.next_power_of_two() / 2 };
        let (first, more) = (sequence(known), sequence(2 * known));
        (1..=known).map(first).chain((1..).step_by(2).map(more)).take(heads).collect()
    }
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
    /// LongRoPE (Ding et al. 2024), inside the original context.
    LongRope {
        /// Factor of each wavelength (`short_factor`).
        factors: Vec<f64>,
        /// Factor on cos and sin.
        attention_factor: f64,
    },
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
            RopeScaling::LongRope { factors, attention_factor } => {
                (all(&|i| plain(i) / factors.get(i).copied().unwrap_or(1.0)), *attention_factor)
            }
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
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// x·Φ(x), exact.
    Gelu,
    /// The tanh approximation (`gelu_new`, `gelu_fast`, `gelu_pytorch_tanh` are one function).
    GeluTanh,
    /// x·sigmoid(1.702·x), a fast approximation (`quick_gelu`).
    QuickGelu,
    /// max(x, 0).
    Relu,
    /// x·sigmoid(x).
    Silu,
    /// x·softmax(x) over the layer's neurons (Elhage et al. 2022).
    Solu,
    /// SoLU followed by a LayerNorm over the layer's neurons.
    SoluLn,
    /// Gates of gpt-oss: `g·sigmoid(alpha·g)·(u + 1)`, with g at most `limit` and u within ±`limit`.
    ClampedSwiglu {
        /// Gain of the sigmoid.
        alpha: f32,
        /// Bound of gate and up projection.
        limit: f32,
    },
}

impl Activation {
    const SUPPORTED: &str =
        "gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, quick_gelu, relu, silu (swish), solu, solu_ln";

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
            "quick_gelu" => Activation::QuickGelu,
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
            Activation::QuickGelu => "quick_gelu",
            Activation::Relu => "relu",
            Activation::Silu => "silu",
            Activation::Solu => "solu",
            Activation::SoluLn => "solu_ln",
            Activation::ClampedSwiglu { .. } => "clamped_swiglu",
        })
    }
}
