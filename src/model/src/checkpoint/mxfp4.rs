//! MXFP4 (Open Compute Project, microscaling formats 1.0): blocks of 4-bit floating-point numbers with one exponent.

/// Number of elements of a block.
pub(super) const ELEMENTS: usize = 32;
/// Number of bytes of a block in a GGUF file: the exponent, then two elements a byte.
pub(super) const BYTES: usize = 1 + ELEMENTS / 2;

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
}
