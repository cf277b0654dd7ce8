//! Reductions as loops over f32 in memory.

use std::cmp::Ordering;

use super::Sums;

pub(super) fn sums(values: &[f32], width: usize, offsets: &[u32], magnitudes: &[f32]) -> Sums {
    let examples = offsets.len() - 1;
    let bins = 2 * (magnitudes.len() + 1);
    let mut sums = Sums {
        peaks: vec![f32::NEG_INFINITY; examples * width],
        // NaN gives way to every number.
        troughs: vec![f32::NAN; examples * width],
        positive: vec![0; width],
        powers: vec![0.0; 4 * width],
        histogram: vec![0; bins * width],
    };
    for (example, pair) in offsets.windows(2).enumerate() {
        let of_example = example * width..(example + 1) * width;
        let (peaks, troughs) = (&mut sums.peaks[of_example.clone()], &mut sums.troughs[of_example]);
        for row in values[pair[0] as usize * width..pair[1] as usize * width].chunks_exact(width) {
            for (neuron, &value) in row.iter().enumerate() {
                if value > peaks[neuron] || value.is_nan() {
                    peaks[neuron] = value;
                }
                if value < troughs[neuron] || troughs[neuron].is_nan() {
                    troughs[neuron] = value;
                }
                sums.positive[neuron] += u32::from(value > 0.0);
                let (x, powers) = (f64::from(value), &mut sums.powers[4 * neuron..4 * neuron + 4]);
                let square = x * x;
                powers[0] += x;
                powers[1] += square;
                powers[2] += square * x;
                powers[3] += square * square;
                sums.histogram[neuron * bins + bin(value, magnitudes)] += 1;
            }
        }
    }
    sums
}

/// Bin of a value, from the most negative one on.
fn bin(value: f32, magnitudes: &[f32]) -> usize {
    let magnitude = value.abs();
    let beyond = magnitudes.partition_point(|edge| magnitude >= *edge || magnitude.is_nan());
    if value.is_sign_negative() { magnitudes.len() - beyond } else { magnitudes.len() + 1 + beyond }
}

/// Compares in the order of SQL, in which NaN is the greatest number and equal to itself.
pub(super) fn order(a: f32, b: f32) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}
