//! Operations of a forward pass on tensors: own kernels for f32 on the CPU and for NVIDIA GPUs, compositions of
//! candle's operations elsewhere. The kernels are tested against the compositions.

use std::ops::Deref;

use candle_core::{CpuStorage, DType, Device, InplaceOp1, InplaceOp2, Layout, Storage, Tensor};

use crate::kernel::{self, Segments};
use crate::weights::{Extras, Linear, NormWeights};
use crate::{Activation, Config, Error, Norm, NormKind, QkNorm, Result};

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(test, feature = "cuda"))]
mod fused;
mod packing;
mod reference;
#[cfg(test)]
pub(crate) mod tests;

use packing::Plan;
pub(crate) use packing::{Packing, Rotary};

/// Plan of the operations on a tensor; `None` for the kernels of [`crate::kernel`].
fn plan(x: &Tensor) -> Option<Plan> {
    #[cfg(test)]
    if let Some(plan) = tests::plan() {
        return Some(plan);
    }
    match x.device() {
        Device::Cpu if x.dtype() == DType::F32 => None,
        #[cfg(feature = "cuda")]
        Device::Cuda(_) if cuda::has(x.dtype()) => Some(Plan::Fused),
        _ => Some(Plan::Composed),
    }
}

/// Returns true if the kernels of [`crate::kernel`] apply.
fn native(x: &Tensor) -> bool {
    plan(x).is_none()
}

/// Computes `x·W`, without its bias, in the number type of `x`, to which the weights are converted; with a matrix in blocks,
/// `x` is rounded to bf16 for it.
pub(crate) fn matmul(x: &Tensor, linear: &Linear) -> Result<Tensor> {
    if let Some(blocks) = linear.blocks().filter(|_| native(x)) {
        let ((rows, d_in), (d_in_too, d_out)) = (x.dims2()?, blocks.shape());
        if d_in != d_in_too {
            return Err(Error::Internal(format!("a matrix of {d_in_too} rows was given {d_in} columns")));
        }
        return Ok(Tensor::from_vec(blocks.multiply(&slice(x)?, rows), (rows, d_out), &Device::Cpu)?);
    }
    let weight = linear.matrix()?.to_dtype(x.dtype())?;
    if !native(x) {
        return Ok(x.matmul(&weight)?);
    }
    let ((rows, d_in), (d_in_too, d_out)) = (x.dims2()?, weight.dims2()?);
    if d_in != d_in_too {
        return Err(Error::Internal(format!("a matrix of {d_in_too} rows was given {d_in} columns")));
    }
    let out = kernel::matmul(&slice(x)?, &slice(&weight)?, (rows, d_in, d_out));
    Ok(Tensor::from_vec(out, (rows, d_out), &Device::Cpu)?)
}

/// Computes `x·W` for blocks of `width` columns of `W`, which begin at `firsts`, side by side, without biases.
pub(crate) fn matmul_columns(x: &Tensor, linear: &Linear, firsts: &[usize], width: usize) -> Result<Tensor> {
    let weight = linear.matrix()?;
    if !native(x) || weight.dtype() != DType::F32 {
        let blocks = firsts.iter().map(|first| weight.narrow(1, *first, width)).collect::<Result<Vec<_>, _>>()?;
        return matmul(x, &Linear::new(Tensor::cat(&blocks, 1)?.contiguous()?, None));
    }
    let ((rows, d_in), (d_in_too, d_out)) = (x.dims2()?, weight.dims2()?);
    if d_in != d_in_too {
        return Err(Error::Internal(format!("a matrix of {d_in_too} rows was given {d_in} columns")));
    }
    let out = kernel::matmul_columns(&slice(x)?, &slice(&weight)?, (rows, d_in, d_out), (firsts, width));
    Ok(Tensor::from_vec(out, (rows, firsts.len() * width), &Device::Cpu)?)
}

/// Normalises the rows of `[rows, d]`.
pub(crate) fn norm(x: Tensor, norm: Norm, weights: &NormWeights) -> Result<Tensor> {
    if norm.kind == NormKind::None {
        return Ok(x);
    }
    if !native(&x) {
        return reference::norm(&x, norm, weights);
    }
    let (rows, d) = x.dims2()?;
    let weight = weights.weight.as_ref().map(slice).transpose()?;
    let bias = weights.bias.as_ref().map(slice).transpose()?;
    let out = kernel::norm(&slice(&x)?, d, norm, weight.as_deref(), bias.as_deref());
    Ok(Tensor::from_vec(out, (rows, d), &Device::Cpu)?)
}

/// Computes `act(x + bias)` of a plain MLP (`[rows, d_mlp]`), `act(gate)·up` of a gated one (`[rows, 2·d_mlp]`).
pub(crate) fn activate(x: Tensor, config: &Config, bias: Option<&Tensor>) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if plan(&x) == Some(Plan::Fused)
        && let Some(activated) = cuda::activate(&x, config, bias)?
    {
        return Ok(activated);
    }
    if !native(&x) {
        return reference::activate(&x, config, bias);
    }
    if config.gated {
        let (rows, width) = x.dims2()?;
        let bias = bias.map(slice).transpose()?;
        let out = kernel::gate(&slice(&x)?, width / 2, bias.as_deref(), config.activation);
        return Ok(Tensor::from_vec(out, (rows, width / 2), &Device::Cpu)?);
    }
    x.inplace_op1(&Activate { activation: config.activation, bias: bias.map(slice).transpose()? })?;
    Ok(x)
}

/// Computes `x + y + bias`, the residual stream after a sublayer.
pub(crate) fn add(x: Tensor, y: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if plan(&x) == Some(Plan::Fused) {
        return cuda::add(&x, y, bias);
    }
    if !native(&x) {
        return reference::add(&x, y, bias);
    }
    x.inplace_op2(y, &AddBias(bias.map(slice).transpose()?))?;
    Ok(x)
}

/// Arguments of attention beside the packed queries, keys and values.
pub(crate) struct Attention<'a> {
    pub config: &'a Config,
    pub layer: usize,
    pub bias: Option<&'a Tensor>,
    /// Vectors added to queries and keys by position (shortformer), `[positions, (heads + kv_heads)·d_head]`.
    pub shift: Option<&'a Tensor>,
    /// Rotary tables of the network; the layer's are those of [`Config::rope_of`].
    pub rotaries: &'a [Rotary],
    /// Norms of queries and keys, sinks.
    pub extras: &'a Extras,
    /// Addends to the scores of keys, f32 `[heads, positions]` on the host.
    pub alibi: Option<&'a [f32]>,
    pub segments: Segments<'a>,
    /// Packing of the segments; `None` for the CPU's kernels, which take segments as they are.
    pub packing: Option<&'a Packing>,
}

impl Attention<'_> {
    fn scale(&self) -> f32 {
        let by_layer = if self.config.scale_by_layer { (self.layer + 1) as f32 } else { 1.0 };
        self.config.attention_scale / by_layer
    }

    /// Window of the layer, if sequences are longer.
    fn window(&self) -> Option<usize> {
        self.config.window(self.layer).filter(|window| *window < self.segments.longest())
    }

    /// Rotary tables of the layer, and their number.
    fn rotary(&self) -> Option<(usize, &Rotary)> {
        let number = self.config.rope_of(self.layer)?;
        self.rotaries.get(number).map(|rotary| (number, rotary))
    }

    /// Runs attention on `[rows, (heads + 2·kv_heads)·d_head]`; returns `[rows, heads·d_head]`.
    pub fn run(&self, qkv: &Tensor) -> Result<Tensor> {
        if let Some(packing) = self.packing {
            return match packing.plan {
                Plan::Composed => reference::attention(self, packing, qkv),
                #[cfg(any(test, feature = "cuda"))]
                Plan::Fused => fused::attention(self, packing, qkv),
            };
        }
        let out = self.on_host(|attention| Ok(attention.run(&slice(qkv)?, &self.segments)))?;
        self.mixed(qkv, out)
    }

    /// Runs attention for tokens that follow those of a cache of keys and values, on the host, and adds theirs to it.
    pub fn run_cached(&self, qkv: &Tensor, cache: &mut Vec<f32>) -> Result<Tensor> {
        let positions = self.segments.positions;
        let out = self.on_host(|attention| Ok(attention.run_cached(&host(qkv)?, positions, cache)))?;
        self.mixed(qkv, out)
    }

    /// Computes the weights by which tokens of one sequence attend to each other, on the host: `[heads, tokens, tokens]`.
    pub fn patterns(&self, qkv: &Tensor, heads: &[usize]) -> Result<Vec<f32>> {
        self.on_host(|attention| Ok(attention.patterns(&host(qkv)?, self.segments.positions, heads)))
    }

    /// Returns mixed values of the host as a tensor like `qkv`.
    fn mixed(&self, qkv: &Tensor, values: Vec<f32>) -> Result<Tensor> {
        let shape = (qkv.dim(0)?, self.config.heads * self.config.d_head);
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(qkv.dtype())?.to_device(qkv.device())?)
    }

    /// Calls `run` with the kernel of this attention.
    fn on_host<T>(&self, run: impl FnOnce(&kernel::Attention) -> Result<T>) -> Result<T> {
        let bias = self.bias.map(host).transpose()?;
        let shift = self.shift.map(host).transpose()?;
        let norm = &self.extras.qk_norm;
        let norm_weight = norm.weight.as_ref().map(host).transpose()?;
        let norm_bias = norm.bias.as_ref().map(host).transpose()?;
        let sinks = self.extras.sinks.as_ref().map(host).transpose()?;
        run(&kernel::Attention {
            heads: self.config.heads,
            kv_heads: self.config.kv_heads,
            d_head: self.config.d_head,
            scale: self.scale(),
            bias: bias.as_deref(),
            shift: shift.as_deref(),
            rotation: self.rotary().map(|(_, rotary)| &rotary.rotation),
            qk_norm: self.config.qk_norm.map(|QkNorm { norm, whole }| kernel::QkNorm {
                norm,
                whole,
                weight: norm_weight.as_deref(),
                bias: norm_bias.as_deref(),
            }),
            clip: self.config.qkv_clip,
            window: self.window(),
            cap: self.config.score_cap,
            alibi: self.alibi,
            sinks: sinks.as_deref(),
        })
    }
}

/// Packs segments for attention in tensors like `x`; `None` if the kernels of [`crate::kernel`] apply.
pub(crate) fn packing(
    x: &Tensor,
    segments: &Segments,
    config: &Config,
    rotaries: &[Rotary],
) -> Result<Option<Packing>> {
    let pack = |plan| {
        // The kernels of GPUs know plain attention only.
        let longest = segments.longest();
        let plan = if config.plain_attention(longest) { plan } else { Plan::Composed };
        let window = config.local.as_ref().map(|local| local.window).filter(|window| *window < longest);
        Packing::new(segments, (config.heads, window), rotaries, (x.device(), x.dtype()), plan)
    };
    plan(x).map(pack).transpose()
}

/// Returns all elements as f32 on the host, row after row.
pub(crate) fn elements(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?)
}

/// Elements of a tensor as f32 on the host.
struct Host<'a>(Box<dyn Deref<Target = [f32]> + 'a>);

impl Deref for Host<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

/// Returns all elements as f32 on the host, without a copy if they are there.
fn host(tensor: &Tensor) -> Result<Host<'_>> {
    if tensor.device().is_cpu() && tensor.dtype() == DType::F32 && tensor.is_contiguous() {
        return Ok(Host(Box::new(slice(tensor)?)));
    }
    Ok(Host(Box::new(elements(tensor)?)))
}

/// Returns the elements of a contiguous f32 tensor on the CPU, without a copy.
pub(crate) fn slice(tensor: &Tensor) -> Result<impl Deref<Target = [f32]> + '_> {
    struct Guard<G>(G, std::ops::Range<usize>);
    impl<G: Deref<Target = Storage>> Deref for Guard<G> {
        type Target = [f32];
        fn deref(&self) -> &[f32] {
            match &*self.0 {
                Storage::Cpu(CpuStorage::F32(data)) => &data[self.1.clone()],
                // Checked when the guard was made; a tensor never changes its storage's kind.
                _ => &[],
            }
        }
    }
    let (storage, layout) = tensor.storage_and_layout();
    let range = match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(_)), Some((start, end))) => start..end,
        _ => return Err(Error::Internal("a kernel was given a tensor that is not contiguous f32 on the CPU".into())),
    };
    Ok(Guard(storage, range))
}

struct Activate<B> {
    activation: Activation,
    bias: Option<B>,
}

impl<B: Deref<Target = [f32]>> InplaceOp1 for Activate<B> {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let width = layout.dims()[layout.dims().len() - 1];
        kernel::activate(slice_mut(storage, layout)?, width, self.bias.as_deref(), self.activation);
        Ok(())
    }
}

struct AddBias<B>(Option<B>);

impl<B: Deref<Target = [f32]>> InplaceOp2 for AddBias<B> {
    fn name(&self) -> &'static str {
        "add_bias"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, lx: &Layout, y: &CpuStorage, ly: &Layout) -> candle_core::Result<()> {
        let width = lx.dims()[lx.dims().len() - 1];
        let (start, end) = contiguous(ly)?;
        kernel::add_bias(slice_mut(x, lx)?, &y.as_slice::<f32>()?[start..end], width, self.0.as_deref());
        Ok(())
    }
}

fn slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> candle_core::Result<&'a mut [f32]> {
    let (start, end) = contiguous(layout)?;
    match storage {
        CpuStorage::F32(data) => Ok(&mut data[start..end]),
        _ => candle_core::bail!("expected f32"),
    }
}

fn contiguous(layout: &Layout) -> candle_core::Result<(usize, usize)> {
    layout.contiguous_offsets().ok_or_else(|| candle_core::Error::Msg("expected a contiguous tensor".into()))
}
