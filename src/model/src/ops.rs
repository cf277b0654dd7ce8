//! Operations of a forward pass on tensors: own kernels for f32 on the CPU and for NVIDIA GPUs, compositions of
//! candle's operations elsewhere. The kernels are tested against the compositions.

use std::ops::Deref;

use candle_core::{CpuStorage, DType, Device, InplaceOp1, InplaceOp2, Layout, Storage, Tensor};

use crate::kernel::{self, Segments};
use crate::weights::{Linear, NormWeights};
use crate::{Activation, Config, Error, Norm, NormKind, Result};

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

/// Computes `x·W`, without its bias, in the number type of `x`, to which the weights are converted.
pub(crate) fn matmul(x: &Tensor, linear: &Linear) -> Result<Tensor> {
    let weight = linear.weight.to_dtype(x.dtype())?;
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
    pub rotary: Option<&'a Rotary>,
    pub segments: Segments<'a>,
    /// Packing of the segments; `None` for the CPU's kernels, which take segments as they are.
    pub packing: Option<&'a Packing>,
}

impl Attention<'_> {
    fn scale(&self) -> f32 {
        let by_layer = if self.config.scale_by_layer { (self.layer + 1) as f32 } else { 1.0 };
        self.config.attention_scale / by_layer
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
        let bias = self.bias.map(slice).transpose()?;
        let shift = self.shift.map(slice).transpose()?;
        let attention = kernel::Attention {
            heads: self.config.heads,
            kv_heads: self.config.kv_heads,
            d_head: self.config.d_head,
            scale: self.scale(),
            bias: bias.as_deref(),
            shift: shift.as_deref(),
            rotation: self.rotary.map(|rotary| &rotary.rotation),
        };
        let out = attention.run(&slice(qkv)?, &self.segments);
        let rows = qkv.dim(0)?;
        Ok(Tensor::from_vec(out, (rows, self.config.heads * self.config.d_head), &Device::Cpu)?)
    }
}

/// Packs segments for attention in tensors like `x`; `None` if the kernels of [`crate::kernel`] apply.
pub(crate) fn packing(
    x: &Tensor,
    segments: &Segments,
    heads: usize,
    rotary: Option<&Rotary>,
) -> Result<Option<Packing>> {
    let pack = |plan| Packing::new(segments, heads, rotary, (x.device(), x.dtype()), plan);
    plan(x).map(pack).transpose()
}

/// Returns all elements as f32 on the host, row after row.
pub(crate) fn elements(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?)
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
