//! Operations on a GPU by own kernels, which are in `kernels.cu`.

use std::marker::PhantomData;
use std::ops::{Deref, Range};

use candle_core::cuda::cudarc::driver::{
    CudaFunction, CudaSlice, CudaView, DeviceRepr, LaunchArgs, LaunchConfig, PushKernelArg,
};
use candle_core::cuda::{CudaDType, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, CudaDevice, CudaStorage, DType, Device, InplaceOp1, Layout, Storage, Tensor};
use half::{bf16, f16};

use super::fused::Heads;
use super::packing::{Group, Rows};
use crate::{Activation, Config, Error, Result};

/// PTX of `kernels.cu`, made by `tests/gpu/kernels.sh`.
const KERNELS: &str = include_str!("kernels.ptx");

/// Greatest number of threads of a block that works on a row.
const THREADS: usize = 256;

/// Number of rows of scores that a block works on, each with 32 threads.
const ROWS: u32 = 8;

/// Returns true if there are kernels for a dtype.
pub(super) fn has(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::BF16 | DType::F16)
}

/// Number types of the kernels.
trait Number: CudaDType + DeviceRepr {
    /// Suffix of the names of kernels.
    const NAME: &'static str;
}

impl Number for f32 {
    const NAME: &'static str = "f32";
}

impl Number for bf16 {
    const NAME: &'static str = "bf16";
}

impl Number for f16 {
    const NAME: &'static str = "f16";
}

/// Calls a function for the number type of a tensor.
macro_rules! for_numbers_of {
    ($x:expr, $function:ident($($argument:expr),*)) => {
        match $x.dtype() {
            DType::F32 => $function::<f32>($($argument),*),
            DType::BF16 => $function::<bf16>($($argument),*),
            DType::F16 => $function::<f16>($($argument),*),
            other => Err(Error::Internal(format!("no kernel of a GPU is for {}", other.as_str()))),
        }
    };
}

/// Computes `act(x + bias)` or `act(gate)·up`; `None` if there is no kernel for the activation.
pub(super) fn activate(x: &Tensor, config: &Config, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
    let activation = match config.activation {
        Activation::Gelu => 0,
        Activation::GeluTanh => 1,
        Activation::Relu => 2,
        Activation::Silu => 3,
        Activation::QuickGelu | Activation::Solu | Activation::SoluLn | Activation::ClampedSwiglu { .. } => {
            return Ok(None);
        }
    };
    for_numbers_of!(x, activate_numbers(x, (activation, config.gated), bias)).map(Some)
}

fn activate_numbers<N: Number>(x: &Tensor, (activation, gated): (u32, bool), bias: Option<&Tensor>) -> Result<Tensor> {
    let device = device(x)?;
    let (rows, stride) = x.dims2()?;
    as_long(bias, stride)?;
    let width = if gated { stride / 2 } else { stride };
    let (x, bias) = (on::<N>(x)?, bias.map(on::<N>).transpose()?);
    let (x, bias) = (x.view()?, bias.as_ref().map(On::view).transpose()?);
    let mut out = unwritten::<N>(device, rows * width)?;
    let (columns, gated) = (width as u32, u32::from(gated));
    let (stream, kernel) = (device.cuda_stream(), kernel::<N>(device, "activate")?);
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&x);
    optional(&mut launch, bias.as_ref());
    launch.arg(&columns).arg(&gated).arg(&activation).arg(&mut out);
    // SAFETY: the arguments are those of the kernel, in their order; a block reads a row of x, all of bias, and writes a
    // row of out.
    unsafe { launch.launch(a_block_a_row(rows, width)) }.w()?;
    Ok(tensor(device, out, (rows, width)))
}

/// Computes `x + y + bias`.
pub(super) fn add(x: &Tensor, y: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    for_numbers_of!(x, add_numbers(x, y, bias))
}

fn add_numbers<N: Number>(x: &Tensor, y: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let device = device(x)?;
    let (rows, width) = x.dims2()?;
    if y.dims() != x.dims() {
        return Err(Error::Internal("sums of a GPU are of tensors of one shape".into()));
    }
    as_long(bias, width)?;
    let (x, y, bias) = (on::<N>(x)?, on::<N>(y)?, bias.map(on::<N>).transpose()?);
    let (x, y, bias) = (x.view()?, y.view()?, bias.as_ref().map(On::view).transpose()?);
    let mut out = unwritten::<N>(device, rows * width)?;
    let columns = width as u32;
    let (stream, kernel) = (device.cuda_stream(), kernel::<N>(device, "add")?);
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&x).arg(&y);
    optional(&mut launch, bias.as_ref());
    launch.arg(&columns).arg(&mut out);
    // SAFETY: the arguments are those of the kernel, in their order; a block reads a row of x and y, all of bias, and
    // writes a row of out.
    unsafe { launch.launch(a_block_a_row(rows, width)) }.w()?;
    Ok(tensor(device, out, (rows, width)))
}

/// Makes heads of pieces, with biases, positions and scale: `[pieces, heads, tokens, d_head]`.
pub(super) fn place(heads: &Heads) -> Result<Tensor> {
    for_numbers_of!(heads.qkv, place_numbers(heads))
}

fn place_numbers<N: Number>(heads: &Heads) -> Result<Tensor> {
    let device = device(heads.qkv)?;
    let Heads { pieces, tokens, count, d_head, scale, .. } = *heads;
    as_long(heads.bias, heads.qkv.dim(1)?)?;
    let stride = heads.qkv.dim(1)? as u32;
    let shift_stride = match heads.shift {
        Some(shift) => shift.dim(1)? as u32,
        None => 0,
    };
    let (rotated, adjacent) =
        heads.rotation.map_or((0, 0), |(rotation, _)| (rotation.dims as u32, u32::from(rotation.adjacent_pairs)));
    let (qkv, positions) = (on::<N>(heads.qkv)?, on::<u32>(heads.positions)?);
    let (bias, shift) = (heads.bias.map(on::<N>).transpose()?, heads.shift.map(on::<N>).transpose()?);
    let turns = heads.rotation.map(|(_, [cos, sin])| Ok::<_, Error>((on::<f32>(cos)?, on::<f32>(sin)?)));
    let (turns, (rows, first_row)) = (turns.transpose()?, indices(heads.rows)?);
    let (qkv, positions) = (qkv.view()?, positions.view()?);
    let (bias, shift) = (bias.as_ref().map(On::view).transpose()?, shift.as_ref().map(On::view).transpose()?);
    let turns = turns.as_ref().map(|(cos, sin)| Ok::<_, Error>((cos.view()?, sin.view()?))).transpose()?;
    let rows = rows.as_ref().map(On::view).transpose()?;
    let mut out = unwritten::<N>(device, pieces * tokens * count * d_head)?;
    let (of_piece, first, all, dimensions) = (tokens as u32, heads.first as u32, count as u32, d_head as u32);
    let (stream, kernel) = (device.cuda_stream(), kernel::<N>(device, "place")?);
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&qkv);
    optional(&mut launch, rows.as_ref());
    launch.arg(&first_row).arg(&of_piece);
    optional(&mut launch, bias.as_ref());
    optional(&mut launch, shift.as_ref());
    launch.arg(&shift_stride).arg(&positions);
    optional(&mut launch, turns.as_ref().map(|turns| &turns.0));
    optional(&mut launch, turns.as_ref().map(|turns| &turns.1));
    launch.arg(&stride).arg(&first).arg(&all).arg(&dimensions).arg(&rotated).arg(&adjacent).arg(&scale).arg(&mut out);
    // SAFETY: the arguments are those of the kernel, in their order; packing made the rows of this batch, whose positions
    // are inside the tables, and a block writes the heads of one token.
    unsafe { launch.launch(a_block_a_row(pieces * tokens, count * d_head)) }.w()?;
    Ok(tensor(device, out, (pieces, count, tokens, d_head)))
}

/// Causal softmax of scores `[pieces, heads, queries, keys]` in place; `before` counts the tokens before each piece.
pub(super) fn soften(scores: &Tensor, before: &Tensor, (heads, queries, keys): (usize, usize, usize)) -> Result<()> {
    Ok(scores.inplace_op1(&Soften { before, heads: heads as u32, queries: queries as u32, keys })?)
}

struct Soften<'a> {
    before: &'a Tensor,
    heads: u32,
    queries: u32,
    keys: usize,
}

impl Soften<'_> {
    fn numbers<N: Number>(&self, scores: &mut CudaStorage, layout: &Layout) -> Result<()> {
        let device = scores.device.clone();
        let count = layout.shape().elem_count();
        if layout.contiguous_offsets() != Some((0, count)) {
            return Err(Error::Internal("patterns are made of a whole tensor".into()));
        }
        let scores = scores.as_cuda_slice_mut::<N>()?;
        let before = on::<u32>(self.before)?;
        let before = before.view()?;
        let (rows, keys) = ((count / self.keys) as u64, self.keys as u32);
        let (stream, kernel) = (device.cuda_stream(), kernel::<N>(&device, "soften")?);
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(scores).arg(&before).arg(&self.heads).arg(&self.queries).arg(&keys).arg(&rows);
        let grid = rows.div_ceil(u64::from(ROWS)) as u32;
        let config = LaunchConfig { grid_dim: (grid, 1, 1), block_dim: (32, ROWS, 1), shared_mem_bytes: 0 };
        // SAFETY: the arguments are those of the kernel, in their order; 32 threads read and write one row of keys, and
        // there are as many rows as `before` has pieces, times heads and queries.
        unsafe { launch.launch(config) }.w()?;
        Ok(())
    }
}

impl InplaceOp1 for Soften<'_> {
    fn name(&self) -> &'static str {
        "soften"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        candle_core::bail!("expected a GPU")
    }

    fn cuda_fwd(&self, scores: &mut CudaStorage, layout: &Layout) -> candle_core::Result<()> {
        use candle_core::backend::BackendStorage;
        let done = match scores.dtype() {
            DType::F32 => self.numbers::<f32>(scores, layout),
            DType::BF16 => self.numbers::<bf16>(scores, layout),
            DType::F16 => self.numbers::<f16>(scores, layout),
            other => candle_core::bail!("no kernel of a GPU is for {}", other.as_str()),
        };
        done.map_err(candle_core::Error::wrap)
    }
}

/// Gathers `[pieces, heads, queries, d_head]` of each group into the rows of the batch: `[rows, heads·d_head]`.
pub(super) fn gather(mixed: &[Tensor], groups: &[Group], shape: (usize, usize, usize)) -> Result<Tensor> {
    match mixed.first() {
        Some(first) => for_numbers_of!(first, gather_numbers(mixed, groups, shape)),
        None => Err(Error::Internal("a batch was packed into no groups".into())),
    }
}

fn gather_numbers<N: Number>(
    mixed: &[Tensor],
    groups: &[Group],
    (rows, heads, d_head): (usize, usize, usize),
) -> Result<Tensor> {
    let device = device(&mixed[0])?;
    let width = heads * d_head;
    let mut out = unwritten::<N>(device, rows * width)?;
    let (stream, kernel) = (device.cuda_stream(), kernel::<N>(device, "gather")?);
    for (mixed, group) in mixed.iter().zip(groups) {
        let (mixed, (rows, first_row)) = (on::<N>(mixed)?, indices(&group.query_rows)?);
        let (mixed, rows) = (mixed.view()?, rows.as_ref().map(On::view).transpose()?);
        let (count, queries, dimensions) = (heads as u32, group.queries as u32, d_head as u32);
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&mixed);
        optional(&mut launch, rows.as_ref());
        launch.arg(&first_row).arg(&count).arg(&queries).arg(&dimensions).arg(&mut out);
        // SAFETY: the arguments are those of the kernel, in their order; a block reads the heads of one query and writes
        // one row of the batch. Each row of it is a query of exactly one group, so all of `out` is written.
        unsafe { launch.launch(a_block_a_row(group.pieces * group.queries, width)) }.w()?;
    }
    Ok(tensor(device, out, (rows, width)))
}

/// Checks that a vector is as long as the rows that it is added to.
fn as_long(vector: Option<&Tensor>, width: usize) -> Result<()> {
    match vector {
        Some(vector) if vector.elem_count() != width => {
            Err(Error::Internal(format!("{} numbers were to be added to rows of {width}", vector.elem_count())))
        }
        _ => Ok(()),
    }
}

fn device(x: &Tensor) -> Result<&CudaDevice> {
    match x.device() {
        Device::Cuda(device) => Ok(device),
        _ => Err(Error::Internal("a GPU was given a tensor of the host".into())),
    }
}

fn kernel<N: Number>(device: &CudaDevice, name: &str) -> Result<CudaFunction> {
    let name = format!("{name}_{}", N::NAME);
    Ok(device.get_or_load_custom_func(&name, "neuroql_ops", KERNELS)?.into_cuda_function())
}

/// Allocates memory, all of which a kernel then writes.
fn unwritten<N: Number>(device: &CudaDevice, count: usize) -> Result<CudaSlice<N>> {
    // SAFETY: each caller hands it to a kernel that writes each element before any is read.
    Ok(unsafe { device.alloc::<N>(count) }?)
}

fn tensor<N: Number, S: Into<candle_core::Shape>>(device: &CudaDevice, slice: CudaSlice<N>, shape: S) -> Tensor {
    let storage = CudaStorage::wrap_cuda_slice(slice, device.clone());
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}

fn a_block_a_row(rows: usize, width: usize) -> LaunchConfig {
    let threads = width.next_multiple_of(32).clamp(32, THREADS) as u32;
    LaunchConfig { grid_dim: (rows as u32, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

/// Adds a pointer to the arguments, null for `None`.
fn optional<'a, T: 'a>(launch: &mut LaunchArgs<'a>, view: Option<&'a CudaView<'a, T>>) {
    const NULL: &u64 = &0;
    match view {
        Some(view) => launch.arg(view),
        None => launch.arg(NULL),
    };
}

/// Elements of a contiguous tensor on a GPU, borrowed for the launch of a kernel.
struct On<G, N> {
    storage: G,
    range: Range<usize>,
    numbers: PhantomData<N>,
}

fn on<N: CudaDType + DeviceRepr>(tensor: &Tensor) -> Result<On<impl Deref<Target = Storage> + use<'_, N>, N>> {
    let (storage, layout) = tensor.storage_and_layout();
    match layout.contiguous_offsets() {
        // Kernels read four numbers at once if the width of rows is a multiple of four; rows that do not begin at one
        // are of a part of a vector, which no caller has.
        Some((start, end)) if start % 4 == 0 || layout.dims().last().is_some_and(|width| width % 4 != 0) => {
            Ok(On { storage, range: start..end, numbers: PhantomData })
        }
        _ => Err(Error::Internal("a kernel was given a tensor that is not contiguous".into())),
    }
}

impl<G: Deref<Target = Storage>, N: CudaDType + DeviceRepr> On<G, N> {
    fn view(&self) -> Result<CudaView<'_, N>> {
        match &*self.storage {
            Storage::Cuda(storage) => Ok(storage.as_cuda_slice::<N>()?.slice(self.range.clone())),
            _ => Err(Error::Internal("a GPU was given a tensor of the host".into())),
        }
    }
}

/// Rows of a batch as arguments of kernels: indices, or the first row.
fn indices(rows: &Rows) -> Result<(Option<On<impl Deref<Target = Storage>, u32>>, u32)> {
    Ok(match rows {
        Rows::From(first) => (None, *first as u32),
        Rows::Indices(indices) => (Some(on(indices)?), 0),
    })
}
