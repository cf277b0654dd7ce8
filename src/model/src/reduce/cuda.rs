//! Reductions by own kernels: candle's operations would each read and write all values.

use candle_core::cuda::cudarc::driver::{LaunchConfig, PushKernelArg};
use candle_core::cuda::{CudaStorageSlice, WrapErr};
use candle_core::{CudaDevice, Storage, Tensor};

use super::Sums;
use crate::{Error, Result};

/// PTX of `kernels.cu`, made by `tests/gpu/kernels.sh`.
const KERNELS: &str = include_str!("kernels.ptx");

/// Number of threads of a block, one a neuron.
const NEURONS: u32 = 128;

/// Greatest number of blocks in the second dimension of a grid; more than a batch has tokens.
const MOST_EXAMPLES: usize = 65_535;

/// Number of blocks that share the rows of 32 neurons in a histogram.
const SHARES: u32 = 16;

pub(super) fn sums(device: &CudaDevice, values: &Tensor, offsets: &[u32], magnitudes: &[f32]) -> Result<Sums> {
    let (rows, width) = values.dims2()?;
    let (storage, layout) = values.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        return Err(Error::Internal("a GPU was given a tensor of the host".into()));
    };
    let CudaStorageSlice::F32(slice) = &storage.slice else {
        return Err(Error::Internal("a GPU was to reduce what is not f32".into()));
    };
    let values = slice.slice(layout.start_offset()..layout.start_offset() + rows * width);
    let examples = offsets.len() - 1;
    if examples > MOST_EXAMPLES {
        return Err(Error::Internal(format!("{examples} examples were to be summarised at once")));
    }
    let (rows, columns, edges) = (rows as u32, width as u32, magnitudes.len() as u32);
    let bins = 2 * (magnitudes.len() + 1);
    let kernel = |name| device.get_or_load_custom_func(name, "neuroql_reduce", KERNELS);
    let block = |grid_dim, block_dim| LaunchConfig { grid_dim, block_dim, shared_mem_bytes: 0 };

    let offsets = device.clone_htod(offsets)?;
    // Read past its length only by the search's bound, never by an access; but an empty slice has no address.
    let magnitudes = device.clone_htod(if magnitudes.is_empty() { &[0.0][..] } else { magnitudes })?;
    // SAFETY: `summarise` writes each element of these four.
    let mut peaks = unsafe { device.alloc::<f32>(examples * width) }?;
    // SAFETY: as above.
    let mut troughs = unsafe { device.alloc::<f32>(examples * width) }?;
    // SAFETY: as above.
    let mut positive = unsafe { device.alloc::<u32>(examples * width) }?;
    // SAFETY: as above.
    let mut powers = unsafe { device.alloc::<f64>(4 * examples * width) }?;
    let summarise = kernel("summarise")?;
    let mut launch = summarise.builder();
    launch.arg(&values).arg(&offsets).arg(&columns);
    launch.arg(&mut peaks).arg(&mut troughs).arg(&mut positive).arg(&mut powers);
    // SAFETY: the arguments are those of the kernel, in their order; it stays inside rows·width values and
    // examples·width results, because offsets end at `rows`.
    unsafe { launch.launch(block((columns.div_ceil(NEURONS), examples as u32, 1), (NEURONS, 1, 1))) }.w()?;

    // SAFETY: `total` writes each element of both.
    let mut positive_of_all = unsafe { device.alloc::<u32>(width) }?;
    // SAFETY: as above.
    let mut powers_of_all = unsafe { device.alloc::<f64>(4 * width) }?;
    let (total, of_examples) = (kernel("total")?, examples as u32);
    let mut launch = total.builder();
    launch.arg(&positive).arg(&powers).arg(&of_examples).arg(&columns);
    launch.arg(&mut positive_of_all).arg(&mut powers_of_all);
    // SAFETY: as above, with one thread a neuron.
    unsafe { launch.launch(block((columns.div_ceil(NEURONS), 1, 1), (NEURONS, 1, 1))) }.w()?;

    let mut counts = device.alloc_zeros::<u32>(width * bins)?;
    let histogram = kernel("histogram")?;
    let mut launch = histogram.builder();
    launch.arg(&values).arg(&rows).arg(&columns).arg(&magnitudes).arg(&edges).arg(&mut counts);
    // SAFETY: as above; the kernel has room for 64 bins, to which the caller keeps.
    unsafe { launch.launch(block((columns.div_ceil(32), SHARES, 1), (32, 8, 1))) }.w()?;

    Ok(Sums {
        peaks: device.clone_dtoh(&peaks)?,
        troughs: device.clone_dtoh(&troughs)?,
        positive: device.clone_dtoh(&positive_of_all)?,
        powers: device.clone_dtoh(&powers_of_all)?,
        histogram: device.clone_dtoh(&counts)?,
    })
}
