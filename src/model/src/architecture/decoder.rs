//! Weights of decoders whose tensors have names of their own but the usual layouts, by tables of names.

use candle_core::{DType, Device, Tensor};

use super::reader::{Bias, Reader};
use crate::weights::{Extras, Layer, Linear, NormWeights, Unembed, Weights};
use crate::{Config, NormKind, Result};

/// The names and layouts of an architecture's weights, which are not in [`Config`].
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    /// Names of tensors.
    pub names: Names,
    /// Biases that it has.
    pub biases: Biases,
    /// Layout of the weights of the norms of queries and keys.
    pub qk_norm: QkWeights,
    /// True if weights of norms are stored less 1 (Gemma).
    pub less_one: bool,
    /// Factor on what attention and MLPs write (Granite), which their weights take.
    pub residual_scale: f64,
    /// Rows of the table of learned positions before that of position 0 (OPT).
    pub position_offset: usize,
    /// Matrices between the embedding and the residual stream, and back (OPT): their names, and the embedding's width.
    pub projection: Option<(&'static str, &'static str, usize)>,
    /// True if the checkpoint has other parts than this network (multimodal models).
    pub part: bool,
}

/// Names of tensors, without `.weight`; those of a layer come after `{root}{layers}.{l}.`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    /// Prefixes of all but the unembedding, by what the checkpoint was saved from; the usual one first.
    pub roots: &'static [&'static str],
    pub embed: &'static str,
    pub positions: Option<&'static str>,
    pub embed_norm: Option<&'static str>,
    pub layers: &'static str,
    /// Norm before attention.
    pub norm1: &'static str,
    /// Norm before the MLP; that of attention if there is one for both.
    pub norm2: &'static str,
    /// Norms of what attention and the MLP write.
    pub post_norms: [&'static str; 2],
    pub qkv: Qkv,
    /// Norms of queries and of keys.
    pub qk_norms: [&'static str; 2],
    pub out: &'static str,
    /// Scores of no key, with the ending.
    pub sinks: &'static str,
    pub mlp: Mlp,
    pub down: &'static str,
    pub experts: Experts,
    pub final_norm: &'static str,
    pub unembed: &'static [&'static str],
}

/// Storage of queries, keys and values.
#[derive(Debug, Clone, Copy)]
pub(super) enum Qkv {
    /// Three matrices.
    Separate([&'static str; 3]),
    /// One matrix: all queries, all keys, all values.
    Joined(&'static str),
    /// One matrix: for each head of keys its queries, its key and its value.
    Grouped(&'static str),
}

/// Storage of the input matrices of an MLP.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mlp {
    /// One matrix without a gate.
    Plain(&'static str),
    /// Gate and up projection.
    Gated([&'static str; 2]),
    /// Gate and up projection in one matrix.
    Joined(&'static str),
}

/// Storage of experts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Experts {
    None,
    /// A matrix each: names of the router, of all experts, and of an expert's gate, up and down projection.
    Each {
        router: &'static str,
        all: &'static str,
        parts: [&'static str; 3],
    },
    /// gpt-oss: `[experts, in, out]`, gate and up projection interleaved, with biases.
    Interleaved {
        router: &'static str,
        all: &'static str,
    },
    /// llama.cpp: `[experts, out, in]` each of gate, up and down projection; biases by the rule for those of MLPs.
    Stacked {
        router: &'static str,
        parts: [&'static str; 3],
    },
}

/// Layout of the weights of the norms of queries and keys, where they are of each head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QkWeights {
    /// All heads share `[d_head]`.
    Shared,
    /// `[heads, d_head]` (Cohere).
    PerHead,
    /// A norm each, `….norms.{head}.weight` (StableLM).
    Listed,
}

/// Biases of matrices and norms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Biases {
    pub qkv: Bias,
    pub out: Bias,
    pub mlp: Bias,
    /// Layout of an MLP's output matrix, if it differs.
    pub down: Option<Bias>,
    pub norm: Bias,
    pub qk_norm: Bias,
    pub unembed: Bias,
}

impl Biases {
    /// No biases; those of a checkpoint are ignored, as transformers ignores unexpected keys.
    pub const NONE: Self = Self {
        qkv: Bias::Ignored,
        out: Bias::Ignored,
        mlp: Bias::Ignored,
        down: None,
        norm: Bias::Ignored,
        qk_norm: Bias::Ignored,
        unembed: Bias::Ignored,
    };

    /// Biases of GGUF files, which are optional; those of norms belong to other architectures.
    pub const IF_PRESENT: Self = Self {
        qkv: Bias::IfPresent,
        out: Bias::IfPresent,
        mlp: Bias::IfPresent,
        down: None,
        norm: Bias::Absent,
        qk_norm: Bias::Absent,
        unembed: Bias::IfPresent,
    };
}

impl Decoder {
    pub fn new(names: Names, biases: Biases) -> Self {
        Self {
            names,
            biases,
            qk_norm: QkWeights::Shared,
            less_one: false,
            residual_scale: 1.0,
            position_offset: 0,
            projection: None,
            part: false,
        }
    }

    pub fn weights(&self, config: &Config, reader: &Reader) -> Result<Weights> {
        let (names, biases, d) = (&self.names, &self.biases, config.d_model);
        let embed_at = |root: &str| format!("{root}{}.weight", names.embed);
        let root = names.roots.iter().find(|root| reader.has(&embed_at(root))).unwrap_or(&names.roots[0]);
        let at = |name: &str| format!("{root}{name}");
        let layers = reader.layers(config.layers, |l| {
            self.layer(config, reader, l, &|part| format!("{root}{}.{l}.{part}", names.layers))
        })?;
        let (embed, unembed) = match self.projection {
            None => {
                let embed = reader.tensor(&embed_at(root), &[config.vocabulary, d])?;
                let unembed = reader.unembed(names.unembed, (d, config.vocabulary), config.tied, biases.unembed)?;
                (embed, unembed)
            }
            Some((into, out_of, width)) => {
                let embed = reader.tensor(&embed_at(root), &[config.vocabulary, width])?;
                let into = reader.linear(&at(into), width, d, Bias::Ignored)?.matrix()?;
                let out_of = reader.linear(&at(out_of), d, width, Bias::Ignored)?.matrix()?;
                let head = reader.unembed(names.unembed, (width, config.vocabulary), config.tied, biases.unembed)?;
                let product = |rhs: &Tensor| reader.made(&[d, config.vocabulary], || Ok(out_of.matmul(rhs)?));
                let head = match head {
                    Unembed::Tied => Unembed::Matrix(Linear::new(product(&embed.t()?)?, None)),
                    Unembed::Matrix(head) => Unembed::Matrix(Linear::new(product(&head.matrix()?)?, head.bias)),
                    Unembed::Missing => Unembed::Missing,
                };
                (reader.made(&[config.vocabulary, d], || Ok(embed.matmul(&into)?))?, head)
            }
        };
        // A tied unembedding with a bias of its own (GPT-J, Phi).
        let unembed = match unembed {
            Unembed::Tied if biases.unembed == Bias::Wanted => {
                let names = names.unembed.iter().map(|name| format!("{name}.bias"));
                let bias = names.filter_map(|name| reader.optional(&name, &[config.vocabulary]).transpose()).next();
                match bias.transpose()? {
                    Some(bias) => {
                        let weight = reader.made(&[d, config.vocabulary], || Ok(embed.t()?.contiguous()?))?;
                        Unembed::Matrix(Linear::new(weight, Some(bias)))
                    }
                    None => Unembed::Tied,
                }
            }
            other => other,
        };
        let positions = match names.positions {
            Some(name) => {
                let rows = config.context + self.position_offset;
                let table = reader.tensor(&format!("{}.weight", at(name)), &[rows, d])?;
                let shape = [config.context, d];
                Some(
                    reader
                        .made(&shape, || Ok(table.narrow(0, self.position_offset, config.context)?.contiguous()?))?,
                )
            }
            None => None,
        };
        let embed_norm = match (names.embed_norm, config.embed_norm) {
            (Some(name), Some(norm)) => self.norm(reader, &at(name), norm.affine, norm.kind, d)?,
            _ => NormWeights::default(),
        };
        let final_norm = config.final_norm;
        let weights = Weights {
            embed,
            positions,
            embed_norm,
            layers,
            final_norm: self.norm(reader, &at(names.final_norm), final_norm.affine, final_norm.kind, d)?,
            unembed,
        };
        let buffers = [".rotary_emb.inv_freq", "rope_freqs.weight", ".attn.bias", ".attn.masked_bias"];
        let more = [".attn.attention.bias", ".attn.attention.masked_bias", ".self_attention.rotary_emb.inv_freq"];
        let outside = |name: &str| self.part && !name.starts_with(root) && !name.contains("lm_head");
        reader.finish_within(&[&buffers[..], &more].concat(), &outside)?;
        Ok(weights)
    }

    fn layer(&self, config: &Config, reader: &Reader, l: usize, name: &dyn Fn(&str) -> String) -> Result<Layer> {
        let (names, biases, d) = (&self.names, &self.biases, config.d_model);
        let (d_q, d_kv) = (config.heads * config.d_head, config.kv_heads * config.d_head);
        let norm = |part: &str| self.norm(reader, &name(part), config.norm.affine, config.norm.kind, d);
        let post_norm = |part: &str| match config.post_norm {
            Some(post) => self.norm(reader, &name(part), post.affine, post.kind, d),
            None => Ok(NormWeights::default()),
        };
        let qkv = match names.qkv {
            Qkv::Separate([q, k, v]) => {
                reader.linears(&[(name(q), d_q), (name(k), d_kv), (name(v), d_kv)], d, biases.qkv)?
            }
            Qkv::Joined(qkv) => reader.linear(&name(qkv), d, d_q + 2 * d_kv, biases.qkv)?,
            Qkv::Grouped(qkv) => self.grouped(config, reader, &name(qkv))?,
        };
        let mut extras = Extras {
            post_norm1: post_norm(names.post_norms[0])?,
            post_norm2: post_norm(names.post_norms[1])?,
            qk_norm: self.qk_norms(config, reader, name)?,
            ..Extras::default()
        };
        if config.sinks {
            extras.sinks = Some(reader.tensor(&name(names.sinks), &[config.heads])?);
        }
        let (mlp_in, mlp_out) = match config.is_mixture(l) {
            true => self.experts(config, reader, name, &mut extras)?,
            false => self.mlp(config, reader, config.width(l), name)?,
        };
        Ok(Layer {
            norm1: norm(names.norm1)?,
            qkv,
            out: self.scaled(reader, reader.linear(&name(names.out), d_q, d, biases.out)?)?,
            norm2: norm(names.norm2)?,
            mlp_in,
            mlp_norm: NormWeights::default(),
            mlp_out: self.scaled(reader, mlp_out)?,
            extras,
        })
    }

    /// Reads a norm of width `d`.
    fn norm(&self, reader: &Reader, name: &str, affine: bool, kind: NormKind, d: usize) -> Result<NormWeights> {
        if kind == NormKind::None || !affine {
            return Ok(NormWeights::default());
        }
        let NormWeights { weight, bias } = reader.norm(name, d, self.biases.norm)?;
        Ok(NormWeights { weight: weight.map(|weight| self.gain(weight)).transpose()?, bias })
    }

    fn gain(&self, weight: Tensor) -> Result<Tensor> {
        Ok(if self.less_one { (weight + 1.0)? } else { weight })
    }

    /// Multiplies by the factor on what is written to the residual stream.
    fn scaled(&self, reader: &Reader, linear: Linear) -> Result<Linear> {
        if self.residual_scale == 1.0 {
            return Ok(linear);
        }
        let (d_in, d_out) = linear.shape()?;
        let weight = reader.made(&[d_in, d_out], || Ok((linear.matrix()? * self.residual_scale)?))?;
        Ok(Linear::new(weight, linear.bias.map(|bias| bias * self.residual_scale).transpose()?))
    }

    /// Reads [`Qkv::Grouped`].
    fn grouped(&self, config: &Config, reader: &Reader, name: &str) -> Result<Linear> {
        let Config { heads, kv_heads, d_head, d_model, .. } = *config;
        let (each, rows) = (heads / kv_heads, (heads + 2 * kv_heads) * d_head);
        let split = |x: Tensor, width: usize| -> Result<Tensor> {
            let x = x.reshape((kv_heads, each + 2, d_head * width))?;
            let part = |first: usize, count: usize| x.narrow(1, first, count)?.contiguous()?.reshape(((), width));
            Ok(Tensor::cat(&[part(0, each)?, part(each, 1)?, part(each + 1, 1)?], 0)?)
        };
        let weight = reader.tensor(&format!("{name}.weight"), &[rows, d_model])?;
        let weight = reader.made(&[d_model, rows], || Ok(split(weight, d_model)?.t()?.contiguous()?))?;
        let bias = reader.bias(&format!("{name}.bias"), rows, self.biases.qkv)?;
        let bias = bias.map(|bias| Ok::<_, crate::Error>(split(bias, 1)?.flatten_all()?)).transpose()?;
        Ok(Linear::new(weight, bias))
    }

    fn qk_norms(&self, config: &Config, reader: &Reader, name: &dyn Fn(&str) -> String) -> Result<NormWeights> {
        let Some(norm) = config.qk_norm else { return Ok(NormWeights::default()) };
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for (part, heads) in self.names.qk_norms.into_iter().zip([config.heads, config.kv_heads]) {
            let (part, d_head) = (name(part), config.d_head);
            if norm.whole {
                weights.push(reader.tensor(&format!("{part}.weight"), &[heads * d_head])?);
                continue;
            }
            match self.qk_norm {
                QkWeights::PerHead => {
                    weights.push(reader.tensor(&format!("{part}.weight"), &[heads, d_head])?.flatten_all()?);
                }
                QkWeights::Listed => {
                    for head in 0..heads {
                        weights.push(reader.tensor(&format!("{part}.norms.{head}.weight"), &[d_head])?);
                    }
                }
                QkWeights::Shared => {
                    let weight = reader.tensor(&format!("{part}.weight"), &[d_head])?;
                    weights.push(weight.repeat(heads)?);
                    if let Some(bias) = reader.bias(&format!("{part}.bias"), d_head, self.biases.qk_norm)? {
                        biases.push(bias.repeat(heads)?);
                    }
                }
            }
        }
        let bias = if biases.is_empty() { None } else { Some(Tensor::cat(&biases, 0)?) };
        Ok(NormWeights { weight: Some(self.gain(Tensor::cat(&weights, 0)?)?), bias })
    }

    /// Reads the matrices of a dense MLP of `width` neurons.
    fn mlp(
        &self,
        config: &Config,
        reader: &Reader,
        width: usize,
        name: &dyn Fn(&str) -> String,
    ) -> Result<(Linear, Linear)> {
        let (d, bias) = (config.d_model, self.biases.mlp);
        let input = match self.names.mlp {
            Mlp::Plain(up) => reader.linear(&name(up), d, width, bias)?,
            Mlp::Gated([gate, up]) => reader.linears(&[(name(gate), width), (name(up), width)], d, bias)?,
            Mlp::Joined(both) => reader.linear(&name(both), d, 2 * width, bias)?,
        };
        let output = reader.linear(&name(self.names.down), width, d, self.biases.down.unwrap_or(bias))?;
        let weight = reader.made(&[config.d_mlp, d], || padded(output.matrix()?, 0, config.d_mlp))?;
        Ok((widened(reader, input, config, width)?, Linear::new(weight, output.bias)))
    }

    /// Reads a mixture of experts: their matrices side by side, all gates first.
    fn experts(
        &self,
        config: &Config,
        reader: &Reader,
        name: &dyn Fn(&str) -> String,
        extras: &mut Extras,
    ) -> Result<(Linear, Linear)> {
        let Some(experts) = &config.experts else {
            return Err(crate::Error::Internal("a mixture without experts".into()));
        };
        let (d, count, width) = (config.d_model, experts.count, experts.width);
        let all = count * width;
        let (input, output) = match self.names.experts {
            Experts::None => return Err(crate::Error::Internal("experts without names".into())),
            Experts::Each { router, all, parts: [gate, up, down] } => {
                extras.router = Some(reader.linear(&name(router), d, count, Bias::Ignored)?);
                let of = |part: &str| (0..count).map(|e| name(&format!("{all}.{e}.{part}"))).collect::<Vec<_>>();
                let inputs: Vec<_> = of(gate).into_iter().chain(of(up)).map(|name| (name, width)).collect();
                let read = |name: String| reader.linear(&name, width, d, Bias::Ignored)?.matrix();
                let outputs = of(down).into_iter().map(read).collect::<Result<Vec<_>>>()?;
                let output = reader.made(&[count * width, d], || Ok(Tensor::cat(&outputs, 0)?))?;
                (reader.linears(&inputs, d, Bias::Ignored)?, output)
            }
            Experts::Interleaved { router, all: prefix } => {
                extras.router = Some(reader.linear(&name(router), d, count, Bias::Wanted)?);
                let at = |part: &str| name(&format!("{prefix}.{part}"));
                // [experts, rows, neuron, gate or up] to [rows, gate or up, experts, neuron]
                let split = |x: Tensor, rows: usize| -> Result<Tensor> {
                    let x = x.reshape((count, rows, width, 2))?.permute((1, 3, 0, 2))?;
                    Ok(x.contiguous()?.reshape((rows, 2 * all))?)
                };
                let weight = reader.tensor(&at("gate_up_proj"), &[count, d, 2 * width])?;
                let weight = reader.made(&[d, 2 * all], || split(weight, d))?;
                let bias = split(reader.tensor(&at("gate_up_proj_bias"), &[count, 2 * width])?, 1)?;
                extras.expert_bias = Some(reader.tensor(&at("down_proj_bias"), &[count, d])?);
                let output = reader.tensor(&at("down_proj"), &[count, width, d])?;
                let output = reader.made(&[all, d], || Ok(output.reshape((all, d))?))?;
                (Linear::new(weight, Some(bias.flatten_all()?)), output)
            }
            Experts::Stacked { router, parts } => {
                let rule = self.biases.mlp;
                extras.router = Some(reader.linear(&name(router), d, count, rule)?);
                let [gate, up, down] = parts.map(name);
                let weight = |part: &str, shape: [usize; 3]| reader.tensor(&format!("{part}.weight"), &shape);
                let bias = |part: &str, width: usize| reader.bias_of(&format!("{part}.bias"), &[count, width], rule);
                let [gates, ups] = [weight(&gate, [count, width, d])?, weight(&up, [count, width, d])?];
                let input = reader.made(&[d, 2 * all], || {
                    let rows = [gates.reshape((all, d))?, ups.reshape((all, d))?];
                    Ok(Tensor::cat(&rows, 0)?.t()?.contiguous()?)
                })?;
                let input_bias = match (bias(&gate, width)?, bias(&up, width)?) {
                    (None, None) => None,
                    (gate, up) => {
                        let or_zero = |bias: Option<Tensor>| match bias {
                            Some(bias) => Ok(bias.flatten_all()?),
                            None => Tensor::zeros(all, DType::F32, &Device::Cpu),
                        };
                        Some(Tensor::cat(&[or_zero(gate)?, or_zero(up)?], 0)?)
                    }
                };
                extras.expert_bias = bias(&down, d)?;
                let output = weight(&down, [count, d, width])?;
                let output =
                    reader.made(&[all, d], || Ok(output.permute((0, 2, 1))?.contiguous()?.reshape((all, d))?))?;
                (Linear::new(input, input_bias), output)
            }
        };
        let output = reader.made(&[config.d_mlp, d], || padded(output, 0, config.d_mlp))?;
        Ok((widened(reader, input, config, all)?, Linear::new(output, None)))
    }
}

/// Appends neurons of no weight to the input matrix of an MLP of `width` neurons, up to those of the widest layer.
fn widened(reader: &Reader, linear: Linear, config: &Config, width: usize) -> Result<Linear> {
    if width == config.d_mlp {
        return Ok(linear);
    }
    let widen = |x: Tensor, dim: usize| -> Result<Tensor> {
        let parts = if config.gated { vec![0, width] } else { vec![0] };
        let parts = parts.into_iter().map(|first| padded(x.narrow(dim, first, width)?, dim, config.d_mlp));
        Ok(Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, dim)?.contiguous()?)
    };
    let columns = if config.gated { 2 * config.d_mlp } else { config.d_mlp };
    let weight = reader.made(&[config.d_model, columns], || widen(linear.matrix()?, 1))?;
    Ok(Linear::new(weight, linear.bias.map(|bias| widen(bias, 0)).transpose()?))
}

/// Appends zeros along a dimension.
fn padded(x: Tensor, dim: usize, width: usize) -> Result<Tensor> {
    let own = x.dim(dim)?;
    Ok(if own == width { x } else { x.pad_with_zeros(dim, 0, width - own)?.contiguous()? })
}
