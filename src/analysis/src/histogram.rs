//! Histogram with the same bins for all neurons, so that counts add up and neurons are comparable.

/// Number of bins: half an octave each from 2⁻⁶ to 2⁷ on both sides of zero, one on each side for smaller and one for
/// larger magnitudes.
pub const HISTOGRAM_BINS: usize = 2 * SIDE;

/// Number of bins of one sign.
const SIDE: usize = 28;

/// Exponent and first bit of the mantissa of 2⁻⁶, one bin below the first that has a lower edge.
const FIRST: u32 = 2 * (127 - 6) - 1;

/// Edges of the bins, ascending: bin `i` has the values of at least edge `i - 1` and less than edge `i` (on the
/// negative side: more than edge `i - 1` and at most edge `i`). The steps are 2ᵏ and 1.5·2ᵏ.
pub fn histogram_edges() -> [f32; HISTOGRAM_BINS - 1] {
    std::array::from_fn(|i| {
        let magnitude = |bin: usize| f32::from_bits((FIRST + bin as u32) << 22);
        match i + 1 {
            i if i < SIDE => -magnitude(SIDE - i),
            SIDE => 0.0,
            i => magnitude(i - SIDE),
        }
    })
}

/// Bin of a value. NaN is in the outermost one of its sign.
#[inline(always)]
pub(crate) fn bin(value: f32) -> usize {
    let bits = value.to_bits();
    let magnitude = ((bits & 0x7fff_ffff) >> 22).clamp(FIRST, FIRST + SIDE as u32 - 1) - FIRST;
    if bits >> 31 == 1 { SIDE - 1 - magnitude as usize } else { SIDE + magnitude as usize }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn edges() {
        let edges = histogram_edges();
        assert!(edges.windows(2).all(|pair| pair[0] < pair[1]), "{edges:?}");
        assert_eq!(edges[SIDE - 1], 0.0);
        assert_eq!(edges[SIDE..SIDE + 3], [1.0 / 64.0, 1.5 / 64.0, 1.0 / 32.0]);
        assert_eq!((edges[0], edges[HISTOGRAM_BINS - 2]), (-128.0, 128.0));
        assert_eq!([bin(0.0), bin(f32::INFINITY), bin(f32::NEG_INFINITY)], [SIDE, HISTOGRAM_BINS - 1, 0]);
    }

    proptest! {
        #[test]
        fn a_value_lies_between_the_edges_of_its_bin(value in any::<f32>().prop_filter("a number", |v| !v.is_nan())) {
            let (edges, bin) = (histogram_edges(), bin(value));
            let (low, high) = (bin.checked_sub(1).map(|i| edges[i]), edges.get(bin));
            if value.is_sign_positive() {
                prop_assert!(low.is_none_or(|low| value >= low) && high.is_none_or(|high| value < *high));
            } else {
                prop_assert!(low.is_none_or(|low| value > low) && high.is_none_or(|high| value <= *high));
            }
        }
    }
}
