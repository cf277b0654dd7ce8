//! A block: attention and an MLP, which read the residual stream and add to it.

use candle_core::Tensor;

use super::experts::Routed;
use super::tap::Tap;
use super::{Pass, segments, select};
use crate::ops::{self, Attention};
use crate::weights::{Layer, Linear, NormWeights};
use crate::{Activation, LayerReadSpec, Model, NormPlace, Positions, Result, Site};

/// Activations of one MLP, at `mlp.post`.
pub(crate) enum Mlp {
    Dense(Tensor),
    /// Those of a mixture of experts, by expert.
    Routed(Routed),
}

/// A layer and its number.
type Numbered<'a> = (usize, &'a Layer);

impl Model {
    /// Runs a whole block: returns the next residual stream.
    pub(super) fn block(&self, (l, layer): Numbered, x: Tensor, pass: Pass, tap: &mut Tap) -> Result<Tensor> {
        let x = tap.at(Site::ResidPre, x, self.config().d_model)?;
        let mixed = self.attention((l, layer), &x, pass)?;
        self.after_attention(layer, x, mixed, tap)
    }

    /// Runs the deepest block to read, up to the model's site and on the wanted rows only: returns the values there. `cut`
    /// are the columns of the neurons to read, where these can be computed alone.
    pub(super) fn last_block(
        &self,
        (l, layer): Numbered,
        x: Tensor,
        pass: Pass,
        rows: Option<&Tensor>,
        (read, cut): (&LayerReadSpec, Option<&Linear>),
    ) -> Result<Tensor> {
        let (site, neurons) = (self.site(), self.neurons_per_layer());
        let sites = [site];
        let mut tap = Tap::of(&sites, None, Some(read));
        let mixed = |x: &Tensor| select(self.attention((l, layer), x, pass)?, rows);
        match site {
            Site::ResidPre => {
                tap.at(site, select(x, rows)?, neurons)?;
            }
            Site::AttnZ => {
                tap.at(site, mixed(&x)?, neurons)?;
            }
            Site::AttnOut => {
                tap.at(site, self.attention_writes(layer, &mixed(&x)?)?, neurons)?;
            }
            Site::ResidPost => {
                let mixed = mixed(&x)?;
                self.after_attention(layer, select(x, rows)?, mixed, &mut tap)?;
            }
            Site::ResidMid | Site::MlpIn | Site::MlpPre | Site::MlpMid | Site::MlpPost | Site::MlpOut => {
                let x = match self.config().parallel {
                    true => select(x, rows)?,
                    false => {
                        let mixed = mixed(&x)?;
                        self.attended(layer, select(x, rows)?, &mixed, &mut Tap::none())?
                    }
                };
                match (site, cut, &read.neurons) {
                    (Site::ResidMid | Site::MlpIn, ..) => {
                        tap.at(site, x, neurons)?;
                    }
                    (Site::MlpOut, ..) => {
                        let mlp = self.mlp(layer, &x, &mut Tap::none())?;
                        tap.at(site, self.mlp_writes(layer, &mlp)?, neurons)?;
                    }
                    (_, Some(cut), Some(neurons)) => return self.neurons_alone(layer, cut, neurons, &x),
                    _ => {
                        self.mlp(layer, &x, &mut tap)?;
                    }
                }
            }
        }
        tap.only()
    }

    /// Runs the rest of a block, from the mixed values of attention.
    fn after_attention(&self, layer: &Layer, x: Tensor, mixed: Tensor, tap: &mut Tap) -> Result<Tensor> {
        let config = self.config();
        let mixed = tap.at(Site::AttnZ, mixed, config.heads * config.d_head)?;
        let x = if config.parallel {
            let mlp = self.mlp(layer, &x, tap)?;
            let x = self.attended(layer, x, &mixed, tap)?;
            self.after_mlp(layer, x, &mlp, tap)?
        } else {
            let x = self.attended(layer, x, &mixed, tap)?;
            let x = tap.at(Site::ResidMid, x, config.d_model)?;
            let mlp = self.mlp(layer, &x, tap)?;
            let x = match config.norm_place {
                NormPlace::BeforeBoth => ops::norm(x, config.norm, &layer.norm2)?,
                _ => x,
            };
            self.after_mlp(layer, x, &mlp, tap)?
        };
        tap.at(Site::ResidPost, x, config.d_model)
    }

    /// Computes the mixed values of attention, `[tokens, heads·d_head]`.
    fn attention(&self, (l, layer): Numbered, x: &Tensor, pass: Pass) -> Result<Tensor> {
        self.with_attention((l, layer), x, pass, |attention, qkv| match pass.cache {
            Some(cache) => attention.run_cached(qkv, &mut cache.0[l].borrow_mut()),
            None => attention.run(qkv),
        })
    }

    /// Prepares attention on the residual stream before a block, and calls `run` with it and with packed queries, keys and
    /// values.
    pub(super) fn with_attention<T>(
        &self,
        (l, layer): Numbered,
        x: &Tensor,
        pass: Pass,
        run: impl FnOnce(&Attention, &Tensor) -> Result<T>,
    ) -> Result<T> {
        let config = self.config();
        let h = self.normalised(x, &layer.norm1)?;
        let qkv = ops::matmul(&h, &layer.qkv)?;
        let shift = match (&config.positions, &self.weights().positions) {
            // (h + p)·W is h·W + p·W, and values do not see p.
            (Positions::Shortformer, Some(positions)) => {
                let columns = (config.heads + config.kv_heads) * config.d_head;
                let weight = layer.qkv.matrix()?.narrow(1, 0, columns)?.contiguous()?;
                let positions = positions.narrow(0, 0, pass.batch.longest())?.to_dtype(self.activation_dtype())?;
                Some(ops::matmul(&positions, &Linear::new(weight, None))?)
            }
            _ => None,
        };
        let attention = Attention {
            config,
            layer: l,
            bias: layer.qkv.bias.as_ref(),
            shift: shift.as_ref(),
            rotaries: self.rotaries(),
            extras: &layer.extras,
            alibi: self.alibi(),
            segments: segments(pass.batch),
            packing: pass.packing,
        };
        run(&attention, &qkv)
    }

    /// Normalises what attention or an MLP reads.
    pub(crate) fn normalised(&self, x: &Tensor, weights: &NormWeights) -> Result<Tensor> {
        match self.config().norm_place {
            NormPlace::AfterSum => Ok(x.clone()),
            NormPlace::Before | NormPlace::BeforeBoth => ops::norm(x.clone(), self.config().norm, weights),
        }
    }

    /// Computes the residual stream after attention.
    fn attended(&self, layer: &Layer, x: Tensor, mixed: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        let config = self.config();
        let x = match config.norm_place {
            NormPlace::BeforeBoth => ops::norm(x, config.norm, &layer.norm1)?,
            _ => x,
        };
        let x = match config.post_norm.is_some() || tap.is_at(Site::AttnOut) {
            true => {
                let written = tap.at(Site::AttnOut, self.attention_writes(layer, mixed)?, config.d_model)?;
                ops::add(x, &written, None)?
            }
            false => ops::add(x, &ops::matmul(mixed, &layer.out)?, layer.out.bias.as_ref())?,
        };
        self.after_sum(x, &layer.norm1)
    }

    /// Computes the residual stream after the MLP.
    fn after_mlp(&self, layer: &Layer, x: Tensor, mlp: &Mlp, tap: &mut Tap) -> Result<Tensor> {
        let config = self.config();
        let x = match config.post_norm.is_some() || tap.is_at(Site::MlpOut) {
            true => {
                let written = tap.at(Site::MlpOut, self.mlp_writes(layer, mlp)?, config.d_model)?;
                ops::add(x, &written, None)?
            }
            false => ops::add(x, &self.mlp_product(layer, mlp)?, layer.mlp_out.bias.as_ref())?,
        };
        self.after_sum(x, &layer.norm2)
    }

    /// Normalises the residual stream after a sublayer, where that is the place of the norms.
    fn after_sum(&self, x: Tensor, norm: &NormWeights) -> Result<Tensor> {
        match self.config().norm_place {
            NormPlace::AfterSum => ops::norm(x, self.config().norm, norm),
            NormPlace::Before | NormPlace::BeforeBoth => Ok(x),
        }
    }

    /// Computes what attention adds to the residual stream.
    pub(crate) fn attention_writes(&self, layer: &Layer, mixed: &Tensor) -> Result<Tensor> {
        self.writes(self.attention_product(layer, mixed)?, &layer.extras.post_norm1)
    }

    /// Computes what the MLP adds to the residual stream.
    fn mlp_writes(&self, layer: &Layer, mlp: &Mlp) -> Result<Tensor> {
        let product = biased(self.mlp_product(layer, mlp)?, layer.mlp_out.bias.as_ref())?;
        self.writes(product, &layer.extras.post_norm2)
    }

    /// Computes what attention gives, before a norm of it.
    pub(crate) fn attention_product(&self, layer: &Layer, mixed: &Tensor) -> Result<Tensor> {
        biased(ops::matmul(mixed, &layer.out)?, layer.out.bias.as_ref())
    }

    /// Computes what the MLP gives without its bias, before a norm of it.
    pub(crate) fn mlp_product(&self, layer: &Layer, mlp: &Mlp) -> Result<Tensor> {
        match mlp {
            Mlp::Dense(post) => ops::matmul(post, &layer.mlp_out),
            Mlp::Routed(routed) => routed.written(layer, self.activation_dtype()),
        }
    }

    fn writes(&self, product: Tensor, weights: &NormWeights) -> Result<Tensor> {
        match self.config().post_norm {
            Some(norm) => ops::norm(product, norm, weights),
            None => Ok(product),
        }
    }

    /// Runs an MLP up to its neurons.
    pub(crate) fn mlp(&self, layer: &Layer, x: &Tensor, tap: &mut Tap) -> Result<Mlp> {
        let x = tap.at(Site::MlpIn, x.clone(), self.config().d_model)?;
        let h = self.normalised(&x, &layer.norm2)?;
        match &layer.extras.router {
            Some(router) => Ok(Mlp::Routed(self.routed(layer, router, &h, tap)?)),
            None => self.dense(layer, &h, tap).map(Mlp::Dense),
        }
    }

    fn dense(&self, layer: &Layer, h: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        let config = self.config();
        let (mut pre, mut bias) = (ops::matmul(h, &layer.mlp_in)?, layer.mlp_in.bias.as_ref());
        if tap.is_at(Site::MlpPre) {
            pre = tap.at(Site::MlpPre, biased(pre, bias.take())?, config.d_mlp)?;
        }
        let mut post = ops::activate(pre, config, bias)?;
        if config.activation == Activation::SoluLn {
            post = tap.at(Site::MlpMid, post, config.d_mlp)?;
            post = ops::norm(post, config.mlp_norm(), &layer.mlp_norm)?;
        }
        tap.at(Site::MlpPost, post, config.d_mlp)
    }

    /// Runs some neurons of an MLP, whose columns were cut from its input matrix; at `mlp.pre`, those of the gate alone.
    fn neurons_alone(&self, layer: &Layer, cut: &Linear, neurons: &[u32], x: &Tensor) -> Result<Tensor> {
        let h = self.normalised(x, &layer.norm2)?;
        let (pre, bias) = (ops::matmul(&h, cut)?, cut.bias.as_ref());
        let values = match self.site() {
            Site::MlpPre => biased(pre, bias)?,
            _ => ops::activate(pre, self.config(), bias)?,
        };
        match &layer.extras.router {
            None => Ok(values),
            Some(router) => self.where_routed(values, neurons, router, &h),
        }
    }
}

fn biased(x: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    Ok(match bias {
        Some(bias) => x.broadcast_add(&bias.to_dtype(x.dtype())?)?,
        None => x,
    })
}
