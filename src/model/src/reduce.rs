//! Reductions of a layer's activations on their device, so that a GPU sends back results and not the activations.
//!
//! A caller that wants statistics of a corpus takes the parts of a batch from
//! [`Model::run_parts`](crate::Model::run_parts) (whole examples, which [`Part`](crate::Part) names) and reduces each
//! layer's `[rows, neurons]` with [`summarise`]: for each neuron sums of powers, the number of positive values and a
//! histogram, and for each example and neuron the greatest and the least value. On GPT-2, with examples of 256 tokens,
//! that is a hundredth of the activations. By the extremes, the caller selects neurons in examples: those whose peak is
//! among the greatest so far, or a random sample. [`columns`] fetches the values of these, on all tokens of the
//! example. [`strongest`] does both for the greatest values of each neuron, and [`counts`] counts the values in a
//! range.
//!
//! The results are those of `neuroql-analysis`: the same order of numbers, in which NaN is the greatest; the same bins,
//! if given its magnitudes; extremes, counts and histograms to the bit. Sums are of powers of the values themselves, in
//! f64: central moments of order `p` made of them are off by at most 10⁻¹² of `count · max|x|ᵖ`.
//!
//! Tensors are contiguous f32, as [`Model::run`](crate::Model::run) returns them. On a processor they are read in place.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use neuroql_model::reduce;
//!
//! # fn main() -> neuroql_model::Result<()> {
//! // Two examples of two and one tokens, three neurons; bins are divided at 0 and ±1.
//! let values = [0.5_f32, -1.0, 0.0, 2.0, 0.0, 0.0, 1.0, 3.0, 0.0];
//! let values = Tensor::from_slice(&values, (3, 3), &Device::Cpu)?;
//! let summary = reduce::summarise(&values, &[2, 1], &[1.0])?;
//! assert_eq!(summary.peaks, [2.0, 0.0, 0.0, 1.0, 3.0, 0.0]);
//! assert_eq!(summary.powers[0][..2], [3.5, 5.25]);
//! assert_eq!(summary.histogram[..4], [0, 0, 1, 2]);
//! // Neuron 1 in the example of two tokens, and in the other.
//! assert_eq!(reduce::columns(&values, &[2, 1], &[(0, 1), (1, 1)])?, [-1.0, 0.0, 3.0]);
//! # Ok(()) }
//! ```

use std::ops::Deref;

use candle_core::{DType, Device, Tensor};

use crate::{Error, Result};

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(test)]
mod tests;

/// Greatest number of magnitudes that divide bins: kernels of a GPU have room for 64 bins of a neuron.
pub const MAGNITUDES: usize = 31;

/// Summary of a layer in a batch, by neuron.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// Sums of the first four powers of each neuron's values.
    pub powers: Vec<[f64; 4]>,
    /// Number of rows in which each neuron is positive.
    pub positive: Vec<u32>,
    /// Number of rows by bin, `[neurons, bins]`, from the most negative bin on. The bin of a value is given by its sign
    /// and the number of magnitudes that it reaches; −0 is negative, NaN reaches all.
    pub histogram: Vec<u32>,
    /// Greatest value of each neuron in each example, `[examples, neurons]`; −∞ in one without tokens.
    pub peaks: Vec<f32>,
    /// Least value of each neuron in each example, `[examples, neurons]`; NaN in one without tokens.
    pub troughs: Vec<f32>,
}

/// Fields of [`Summary`] as computed on a device.
struct Sums {
    peaks: Vec<f32>,
    troughs: Vec<f32>,
    positive: Vec<u32>,
    /// Sums of powers, `[neurons, 4]`.
    powers: Vec<f64>,
    histogram: Vec<u32>,
}

/// Summarises `[rows, neurons]`, in which examples of these many rows follow each other. `magnitudes`, ascending and
/// positive, divide the bins on either side of zero, `2·(magnitudes + 1)` in all.
///
/// # Errors
/// [`Error::Internal`] if the shapes do not agree, the tensor is not contiguous f32 or there are more than [`MAGNITUDES`].
pub fn summarise(values: &Tensor, lengths: &[usize], magnitudes: &[f32]) -> Result<Summary> {
    let (rows, width) = shape(values, lengths)?;
    if magnitudes.len() > MAGNITUDES {
        return Err(Error::Internal(format!("{} magnitudes tell more than 64 bins apart", magnitudes.len())));
    }
    if rows == 0 || width == 0 {
        return Ok(Summary {
            powers: vec![[0.0; 4]; width],
            positive: vec![0; width],
            histogram: vec![0; width * 2 * (magnitudes.len() + 1)],
            peaks: vec![f32::NEG_INFINITY; width * lengths.len()],
            troughs: vec![f32::NAN; width * lengths.len()],
        });
    }
    let offsets = offsets(lengths);
    let Sums { peaks, troughs, positive, powers, histogram } = match values.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::sums(device, values, &offsets, magnitudes)?,
        _ => cpu::sums(&crate::ops::slice(values)?, width, &offsets, magnitudes),
    };
    let powers = powers.as_chunks::<4>().0.to_vec();
    Ok(Summary { powers, positive, histogram, peaks, troughs })
}

/// Returns the values of a tensor on a processor, without a copy.
///
/// # Errors
/// [`Error::Internal`] if it is on a GPU, or not contiguous f32.
pub fn in_place(values: &Tensor) -> Result<impl Deref<Target = [f32]> + '_> {
    crate::ops::slice(values)
}

/// Copies a tensor to a processor, unless it is there.
///
/// # Errors
/// [`Error::Tensor`].
pub fn on_host(values: &Tensor) -> Result<Tensor> {
    Ok(values.to_device(&Device::Cpu)?)
}

/// Fetches the values of neurons on all tokens of examples: of each pair of an example and a neuron, one value a row of
/// the example, one pair after the other.
///
/// # Errors
/// [`Error::Internal`] if the shapes do not agree or a pair is out of range.
pub fn columns(values: &Tensor, lengths: &[usize], pairs: &[(u32, u32)]) -> Result<Vec<f32>> {
    let (_, width) = shape(values, lengths)?;
    let offsets = offsets(lengths);
    let rows = |example: u32| -> Result<std::ops::Range<u32>> {
        match offsets.get(example as usize..example as usize + 2) {
            Some(&[first, end]) => Ok(first..end),
            _ => Err(Error::Internal(format!("example {example} of {}", lengths.len()))),
        }
    };
    let mut places = Vec::new();
    for &(example, neuron) in pairs {
        if neuron as usize >= width {
            return Err(Error::Internal(format!("neuron {neuron} of {width}")));
        }
        places.extend(rows(example)?.map(|row| row as i64 * width as i64 + i64::from(neuron)));
    }
    gather(values, places)
}

/// Finds the `k` greatest values of each neuron with their rows, greatest first, of equal ones that of the first row;
/// `peaks` are those of [`summarise`].
///
/// # Errors
/// Errors of [`columns`].
pub fn strongest(values: &Tensor, lengths: &[usize], peaks: &[f32], k: usize) -> Result<Vec<Vec<(u32, f32)>>> {
    let (_, width) = shape(values, lengths)?;
    let offsets = offsets(lengths);
    let greater = |a: f32, b: f32| cpu::order(b, a);
    // The k greatest values are in the examples of the k greatest peaks: these peaks exceed all other examples.
    let mut pairs = Vec::with_capacity(width * k.min(lengths.len()));
    for neuron in 0..width {
        let mut examples: Vec<usize> = (0..lengths.len()).filter(|example| lengths[*example] > 0).collect();
        let peak = |example: usize| peaks[example * width + neuron];
        examples.sort_by(|a, b| greater(peak(*a), peak(*b)).then(a.cmp(b)));
        pairs.extend(examples.iter().take(k).map(|example| (*example as u32, neuron as u32)));
    }
    let mut strongest = vec![Vec::new(); width];
    let fetched = columns(values, lengths, &pairs)?;
    let mut rest = &fetched[..];
    for (example, neuron) in pairs {
        let (column, others) = rest.split_at(lengths[example as usize]);
        rest = others;
        strongest[neuron as usize].extend((offsets[example as usize]..).zip(column.iter().copied()));
    }
    for values in &mut strongest {
        values.sort_by(|a, b| greater(a.1, b.1).then(a.0.cmp(&b.0)));
        values.truncate(k);
    }
    Ok(strongest)
}

/// Counts the values of each neuron between two numbers, both included. NaN is never between them.
///
/// # Errors
/// [`Error::Tensor`].
pub fn counts(values: &Tensor, least: f32, greatest: f32) -> Result<Vec<u64>> {
    let between = (values.ge(least)? * values.le(greatest)?)?;
    let mut counts = vec![0; values.dim(1)?];
    // Sums of ones in f32 are exact up to this.
    const ROWS: usize = 1 << 24;
    for first in (0..values.dim(0)?).step_by(ROWS) {
        let rows = between.narrow(0, first, ROWS.min(values.dim(0)? - first))?;
        let sums = rows.to_dtype(DType::F32)?.sum(0)?.to_vec1::<f32>()?;
        counts.iter_mut().zip(sums).for_each(|(count, sum)| *count += sum as u64);
    }
    Ok(counts)
}

/// Gathers elements at `places`, in their order.
fn gather(values: &Tensor, places: Vec<i64>) -> Result<Vec<f32>> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    if values.device().is_cpu() {
        let values = crate::ops::slice(values)?;
        return Ok(places.into_iter().map(|place| values[place as usize]).collect());
    }
    let count = places.len();
    let places = Tensor::from_vec(places, count, values.device())?;
    Ok(values.flatten_all()?.index_select(&places, 0)?.to_vec1()?)
}

/// Checks that the examples have as many rows and that the tensor is contiguous f32; returns its rows and columns.
fn shape(values: &Tensor, lengths: &[usize]) -> Result<(usize, usize)> {
    let (rows, width) = values.dims2()?;
    let all: usize = lengths.iter().sum();
    if all != rows || values.dtype() != DType::F32 || !values.is_contiguous() || u32::try_from(rows).is_err() {
        let kind = values.dtype().as_str();
        return Err(Error::Internal(format!("{rows} rows of {kind} were to be {all} contiguous ones of f32")));
    }
    Ok((rows, width))
}

/// Offsets of the examples: the start of each and the end of the last. They fit u32 because the rows do.
fn offsets(lengths: &[usize]) -> Vec<u32> {
    let mut end = 0;
    let ends = lengths.iter().map(|length| {
        end += *length as u32;
        end
    });
    std::iter::once(0).chain(ends).collect()
}
