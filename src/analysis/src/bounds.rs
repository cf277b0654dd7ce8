//! Index of bounds: a lower and an upper bound of the activations of each neuron in each example.

use std::ops::Range;

use crate::total_order::{greater, lesser};

/// Bounds of one neuron in each example, in 8 bits (5 for lower bounds): steps of equal size between the least and the
/// greatest of them, rounded outward so that no bound is ever wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedBounds {
    /// Value of the code −127.
    pub low: f32,
    /// Value of the code 127.
    pub high: f32,
    /// Code of each example; −128 is no bound.
    pub codes: Vec<i8>,
}

const LEAST: i8 = -127;
const GREATEST: i8 = 127;
/// Code of an example in which a value is not finite: no bound.
const UNBOUNDED: i8 = -128;
const STEPS: f32 = 254.0;
/// Number of codes of bounds.
const CODES: usize = 255;

/// Multiple of steps that lower bounds are rounded to: they matter less often, and this halves their space.
const COARSE: i16 = 8;

/// Greatest dependence of an activation on its batch, as a share of the greatest activation: products of matrices of
/// different shapes round differently.
pub const ROUNDING: f32 = 1e-5;

impl QuantizedBounds {
    /// Makes upper bounds of values.
    pub fn above(values: &[f32]) -> Self {
        Self::new(values, 1)
    }

    /// Makes lower bounds of values.
    pub fn below(values: &[f32]) -> Self {
        Self::new(values, -1)
    }

    fn new(values: &[f32], outward: i8) -> Self {
        let finite = values.iter().filter(|value| value.is_finite());
        let (low, high) = finite.fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        if low > high {
            return Self { low: 0.0, high: 0.0, codes: vec![UNBOUNDED; values.len()] };
        }
        let bounds: [f32; CODES] = std::array::from_fn(|i| decode(low, high, (i as i16 + i16::from(LEAST)) as i8));
        let step = (f64::from(high) - f64::from(low)) / f64::from(STEPS);
        let per_step = if step > 0.0 { 1.0 / step } else { 0.0 };
        let code = |&value: &f32| {
            if !value.is_finite() {
                return UNBOUNDED;
            }
            // The tightest valid code is near this one, which rounding may have shifted.
            let mut i = (((f64::from(value) - f64::from(low)) * per_step) as usize).min(CODES - 1);
            if outward > 0 {
                while i > 0 && bounds[i - 1] >= value {
                    i -= 1;
                }
                while bounds[i] < value {
                    i += 1;
                }
            } else {
                while i + 1 < CODES && bounds[i + 1] <= value && per_step > 0.0 {
                    i += 1;
                }
                while bounds[i] > value {
                    i -= 1;
                }
                i = i / COARSE as usize * COARSE as usize;
            }
            (i as i16 + i16::from(LEAST)) as i8
        };
        Self { low, high, codes: values.iter().map(code).collect() }
    }

    /// Bound of an example; `None` if there is none.
    pub fn get(&self, example: usize) -> Option<f32> {
        let code = self.codes[example];
        (code != UNBOUNDED).then(|| decode(self.low, self.high, code))
    }
}

impl QuantizedBounds {
    /// Opposite bound of the value that a bound was made of: for an upper bound of an example, a number that some
    /// activation in it is at least. `None` without a bound.
    pub fn opposite(&self, example: usize, upper: bool) -> Option<f32> {
        let code = self.codes[example];
        let inside = match code {
            UNBOUNDED => return None,
            // The ends are exact.
            LEAST if upper => self.low,
            GREATEST if !upper => self.high,
            _ if upper => decode(self.low, self.high, code - 1),
            _ => decode(self.low, self.high, (i16::from(code) + COARSE).min(i16::from(GREATEST)) as i8),
        };
        // Margin that was added to the bound, and the difference that another batch may make.
        let margin = 3.0 * ROUNDING * self.low.abs().max(self.high.abs());
        Some(if upper { inside - margin } else { inside + margin })
    }
}

/// Value of a code. The ends are exact.
#[inline(always)]
fn decode(low: f32, high: f32, code: i8) -> f32 {
    match code {
        LEAST => low,
        GREATEST => high,
        _ => {
            let share = (f64::from(code) + 127.0) / f64::from(STEPS);
            (f64::from(low) + share * (f64::from(high) - f64::from(low))) as f32
        }
    }
}

/// Number of neurons whose values are gathered at once: a row is read a cache line at a time.
const COLUMNS: usize = 16;

/// Gathers columns of a matrix, each widened by the possible dependence of its values on their batch.
fn widened<P: AsRef<[f32]>>(
    values: &[P],
    width: usize,
    columns: Range<usize>,
    sign: f32,
) -> impl Iterator<Item = Vec<f32>> + use<P> {
    let mut gathered = vec![Vec::new(); columns.len()];
    for row in values.iter().flat_map(|part| part.as_ref().chunks_exact(width)) {
        gathered.iter_mut().zip(&row[columns.clone()]).for_each(|(column, value)| column.push(*value));
    }
    gathered.into_iter().map(move |mut column| {
        let finite = column.iter().filter(|value| value.is_finite());
        let margin = sign * ROUNDING * finite.fold(0.0, |most: f32, value| most.max(value.abs()));
        column.iter_mut().for_each(|value| *value += margin);
        column
    })
}

/// Bounds of the neurons of a layer in a range of examples.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LayerBounds {
    /// Upper bounds, one [`QuantizedBounds`] a neuron.
    pub upper: Vec<QuantizedBounds>,
    /// Lower bounds, one [`QuantizedBounds`] a neuron.
    pub lower: Vec<QuantizedBounds>,
}

impl LayerBounds {
    /// Makes bounds from the greatest and least value of each neuron in each example, `[examples, neurons]` in one or
    /// more parts, wide enough to hold in every batch: the same text may give a value that differs by 10⁻⁵ of the
    /// greatest there.
    pub fn new<P: AsRef<[f32]>>(peaks: &[P], troughs: &[P], width: usize) -> Self {
        let mut bounds = Self::default();
        for first in (0..width).step_by(COLUMNS) {
            let columns = first..width.min(first + COLUMNS);
            bounds
                .upper
                .extend(widened(peaks, width, columns.clone(), 1.0).map(|column| QuantizedBounds::above(&column)));
            bounds.lower.extend(widened(troughs, width, columns, -1.0).map(|column| QuantizedBounds::below(&column)));
        }
        bounds
    }

    /// Upper bound of the activations of a neuron in an example; NaN, the greatest number, if there is none.
    pub fn upper(&self, neuron: usize, example: usize) -> f32 {
        self.upper[neuron].get(example).unwrap_or(f32::NAN)
    }

    /// Lower bound of the activations of a neuron in an example; −∞ if there is none.
    pub fn lower(&self, neuron: usize, example: usize) -> f32 {
        self.lower[neuron].get(example).unwrap_or(f32::NEG_INFINITY)
    }

    /// Number of examples.
    pub fn examples(&self) -> usize {
        self.upper.first().map_or(0, |codes| codes.codes.len())
    }

    /// Lower and upper bounds of all the given neurons together, in each example.
    pub fn of_neurons(&self, neurons: impl Iterator<Item = usize> + Clone) -> (Vec<f32>, Vec<f32>) {
        let examples = self.examples();
        let (mut lower, mut upper) = (vec![f32::NAN; examples], vec![f32::NEG_INFINITY; examples]);
        for neuron in neurons {
            for example in 0..examples {
                upper[example] = greater(upper[example], self.upper(neuron, example));
                lower[example] = lesser(lower[example], self.lower(neuron, example));
            }
        }
        (lower, upper)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bounds_hold_and_are_close(values in proptest::collection::vec(any::<f32>(), 1..50)) {
            let (above, below) = (QuantizedBounds::above(&values), QuantizedBounds::below(&values));
            let step = (f64::from(above.high) - f64::from(above.low)) / 254.0;
            for (i, value) in values.iter().enumerate() {
                let (Some(high), Some(low)) = (above.get(i), below.get(i)) else {
                    prop_assert!(!value.is_finite());
                    continue;
                };
                prop_assert!(low <= *value && *value <= high, "{low} <= {value} <= {high}");
                prop_assert!(above.opposite(i, true).unwrap() <= *value);
                prop_assert!(below.opposite(i, false).unwrap() >= *value);
                prop_assert!(f64::from(high) - f64::from(low) <= 10.01 * step);
            }
        }
    }

    #[test]
    fn extremes_are_exact() {
        let codes = QuantizedBounds::above(&[0.1, 0.7, 0.3]);
        assert_eq!((codes.get(0), codes.get(1)), (Some(0.1), Some(0.7)));
        assert_eq!(QuantizedBounds::above(&[2.5; 3]).get(1), Some(2.5));
        assert_eq!(QuantizedBounds::below(&[]).codes.len(), 0);
    }

    #[test]
    fn neurons_together() {
        let bounds = LayerBounds::new(&[[1.0, 5.0], [f32::NAN, 2.0]], &[[0.0, -1.0], [0.5, 1.0]], 2);
        let (lower, upper) = bounds.of_neurons(0..2);
        assert!(lower[0] <= -1.0 && lower[0] > -1.01 && lower[1] <= 0.5 && lower[1] > 0.4);
        assert!(upper[0] >= 5.0 && upper[0] < 5.01);
        assert!(upper[1].is_nan());
    }
}
