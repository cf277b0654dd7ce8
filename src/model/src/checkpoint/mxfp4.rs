//! MXFP4 (Open Compute Project, microscaling formats 1.0): blocks of 4-bit floating-point numbers with one exponent.

/// Number of elements of a block.
pub(super) const ELEMENTS: usize = 32;
/// Number of bytes of the elements of a block, two a byte.
pub(super) const CODES: usize = ELEMENTS / 2;
/// Number of bytes of a block in a GGUF file: the exponent, then the elements.
pub(super) const BYTES: usize = 1 + CODES;

/// Values of the 4-bit codes: a sign, two bits of exponent, one of mantissa.
const VALUES: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// Dequantises whole blocks of a GGUF file: byte `j` has element `j` in its low and element `16 + j` in its high half.
pub(super) fn dequantised(blocks: &[u8]) -> Vec<f32> {
    let mut all = Vec::with_capacity(blocks.len() / BYTES * ELEMENTS);
    for [exponent, codes @ ..] in blocks.as_chunks::<BYTES>().0 {
        let scale = power(*exponent);
        all.extend(codes.iter().map(|code| VALUES[usize::from(code & 15)] * scale));
        all.extend(codes.iter().map(|code| VALUES[usize::from(code >> 4)] * scale));
    }
    all
}

/// Dequantises whole matrices of a safetensors file and transposes them, as transformers does: `blocks` is
/// `[matrices, rows, groups, 16]`, where byte `j` has element `2j` in its low and `2j + 1` in its high half, `scales` is
/// `[matrices, rows, groups]`, and the result `[matrices, 32·groups, rows]`.
///
/// A scale is 2^(code − 127) of every code, 255 too, which transformers does not take as not-a-number.
pub(super) fn transposed(blocks: &[u8], scales: &[u8], (rows, groups): (usize, usize)) -> Vec<f32> {
    if scales.is_empty() {
        return Vec::new();
    }
    let mut all = vec![0.0; scales.len() * ELEMENTS];
    let (blocks, _) = blocks.as_chunks::<CODES>();
    // The columns of a group are rows of the result, one after another.
    for (number, columns) in all.chunks_exact_mut(rows * ELEMENTS).enumerate() {
        let (matrix, group) = (number / groups, number % groups);
        for row in 0..rows {
            let block = (matrix * rows + row) * groups + group;
            // An f64 has all exponents, so rounding to f32 is the only one.
            let scale = f64::from_bits((u64::from(scales[block]) + 896) << 52);
            let values = VALUES.map(|value| (f64::from(value) * scale) as f32);
            for (j, code) in blocks[block].iter().enumerate() {
                columns[2 * j * rows + row] = values[usize::from(code & 15)];
                columns[(2 * j + 1) * rows + row] = values[usize::from(code >> 4)];
            }
        }
    }
    all
}

/// Computes 2^(code − 127), the scale of a block; 255 is not a number, as the format has it.
fn power(code: u8) -> f32 {
    match code {
        // Below the least normal number.
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        code => f32::from_bits(u32::from(code) << 23),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exponent_and_code() {
        for exponent in 0..=254u8 {
            let mut block = [0; BYTES];
            block[0] = exponent;
            // Codes 0 to 15 in the low halves, 15 to 0 in the high ones.
            (0..16).for_each(|j| block[1 + j] = (j | (15 - j) << 4) as u8);
            let got = dequantised(&block);
            let number = |code: usize| {
                let (high, low) = ((code >> 1 & 3) as i32, (code & 1) as f64);
                let size = if high == 0 { low / 2.0 } else { 2f64.powi(high - 1) * (1.0 + low / 2.0) };
                let sign = if code < 8 { 1.0 } else { -1.0 };
                (sign * size * 2f64.powi(i32::from(exponent) - 127)) as f32
            };
            let wanted: Vec<f32> = (0..16).chain((0..16).rev()).map(number).collect();
            assert_eq!(got, wanted, "exponent {exponent}");
        }
        assert!(dequantised(&[[255; 1].as_slice(), &[0x22; 16]].concat()).iter().all(|x| x.is_nan()));
        assert!(dequantised(&[]).is_empty());
    }

    /// Every scale and code, beside the numbers that they stand for.
    #[test]
    fn transposed_matrices() {
        // Each scale is that of three blocks.
        let (matrices, rows, groups) = (2, 128, 3);
        let count = matrices * rows * groups;
        let scales: Vec<u8> = (0..count).map(|block| (block % 256) as u8).collect();
        let blocks: Vec<u8> = (0..count * CODES).map(|at| (at * 7 + at / 256) as u8).collect();
        let got = transposed(&blocks, &scales, (rows, groups));
        assert_eq!(got.len(), matrices * rows * groups * ELEMENTS);
        let mut seen = std::collections::BTreeSet::new();
        for (matrix, row, column) in
            (0..matrices).flat_map(|m| (0..rows).flat_map(move |r| (0..groups * ELEMENTS).map(move |c| (m, r, c))))
        {
            let block = (matrix * rows + row) * groups + column / ELEMENTS;
            let byte = blocks[block * CODES + column % ELEMENTS / 2];
            let code = if column % 2 == 0 { byte & 15 } else { byte >> 4 };
            let wanted = (f64::from(VALUES[usize::from(code)]) * 2f64.powi(i32::from(scales[block]) - 127)) as f32;
            let got = got[(matrix * groups * ELEMENTS + column) * rows + row];
            assert_eq!(got.to_bits(), wanted.to_bits(), "scale {}, code {code}", scales[block]);
            seen.insert((scales[block], code));
        }
        assert_eq!(seen.len(), 256 * 16);
        assert!(transposed(&[], &[], (0, 2)).is_empty() && transposed(&[], &[], (usize::MAX, 0)).is_empty());
    }
}
