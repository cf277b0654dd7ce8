//! Products by AMX-BF16 and AVX512-BF16.

use std::arch::asm;
use std::arch::x86_64::{
    __cpuid_count, __m256bh, __m512bh, __m512i, _mm512_cvtneps_pbh, _mm512_dpbf16_ps, _mm512_loadu_si512,
    _mm512_maskz_loadu_ps, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
};
use std::mem::transmute;

use half::bf16;

use super::{BLOCK, COLUMNS, DEPTH, Instructions, Part, ROWS};

/// Numbers of a tile of the left side: 16 rows of 32.
const TILE: usize = ROWS * DEPTH;
/// Rows and columns of the results of a kernel.
const SIDE: usize = 32;

/// Returns true if the processor has AVX512-BF16, and the operating system keeps its registers.
pub(super) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
}

/// Returns true if the processor has AMX-BF16, and the operating system lets this process use its tiles.
#[cfg(target_os = "linux")]
pub(super) fn has_amx() -> bool {
    /// `ARCH_REQ_XCOMP_PERM`, and the number of the tiles' state.
    const REQUEST: libc::c_long = 0x1023;
    const TILES: libc::c_long = 18;
    let features = __cpuid_count(7, 0).edx;
    let (bf16, tiles) = (features >> 22 & 1, features >> 24 & 1);
    // SAFETY: the call reads and writes no memory of this process; it fails where the kernel knows nothing of tiles.
    bf16 == 1 && tiles == 1 && unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST, TILES) } == 0
}

#[cfg(not(target_os = "linux"))]
pub(super) fn has_amx() -> bool {
    false
}

/// Multiplies rows with the blocks of `part`; `left` is room for rounded rows.
pub(super) fn multiply(
    instructions: Instructions,
    part: &Part,
    lhs: &[f32],
    out: &mut [f32],
    left: &mut Vec<[bf16; TILE]>,
) {
    // SAFETY: values of `Instructions` are those of `Instructions::detected`, or of tests that ask for the same features.
    unsafe {
        round(lhs, part, left);
        match instructions {
            Instructions::Amx => {
                configure();
                blockwise(part, left, out, |a, second, b, c, stride| amx(part.steps, (a, second), b, (c, stride)));
                asm!("tilerelease", options(nostack, nomem));
            }
            Instructions::Avx512 => {
                blockwise(part, left, out, |a, second, b, c, stride| avx512(part.steps, (a, second), b, (c, stride)));
            }
        }
    }
}

/// Rounds rows to the nearest bf16, in tiles: those of 16 rows one after the other along the row, missing rows and columns
/// zeros.
///
/// # Safety
/// The processor must have AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn round(lhs: &[f32], part: &Part, left: &mut Vec<[bf16; TILE]>) {
    let rows = lhs.len() / part.d_in;
    left.clear();
    left.resize(rows.div_ceil(ROWS) * part.steps, [bf16::ZERO; TILE]);
    for (number, row) in lhs.chunks_exact(part.d_in).enumerate() {
        let tiles = &mut left[number / ROWS * part.steps..][..part.steps];
        for (tile, numbers) in tiles.iter_mut().zip(row.chunks(DEPTH)) {
            let to = &mut tile[number % ROWS * DEPTH..][..DEPTH];
            for (to, from) in to.chunks_exact_mut(16).zip(numbers.chunks(16)) {
                let mask = (u32::MAX >> (32 - from.len())) as u16;
                // SAFETY: the mask keeps the load within `from`; `to` has 16 numbers of 16 bits, the size of the result.
                unsafe {
                    let from = _mm512_maskz_loadu_ps(mask, from.as_ptr());
                    let rounded = transmute::<__m256bh, [bf16; 16]>(_mm512_cvtneps_pbh(from));
                    to.as_mut_ptr().cast::<[bf16; 16]>().write_unaligned(rounded);
                }
            }
        }
    }
}

/// Calls a kernel for each 32 rows and 32 columns: with the first tile of 16 rows, that of the next 16 if there are any, the
/// first blocks of both 16 columns, and the place of the results and the distance of their rows.
fn blockwise(
    part: &Part,
    left: &[[bf16; TILE]],
    out: &mut [f32],
    kernel: impl Fn(*const bf16, Option<*const bf16>, [*const bf16; 2], *mut f32, usize),
) {
    let rows = out.len() / part.columns;
    let mut rest = [0.0f32; SIDE * SIDE];
    for (panel, blocks) in part.blocks.chunks_exact(2 * part.steps * BLOCK).enumerate() {
        let (first, second) = blocks.split_at(part.steps * BLOCK);
        let column = panel * SIDE;
        let width = SIDE.min(part.columns - column);
        for (number, tiles) in left.chunks(2 * part.steps).enumerate() {
            let (a, second_a) = tiles.split_at(part.steps);
            let a = a.as_ptr().cast();
            let second_a = (!second_a.is_empty()).then(|| second_a.as_ptr().cast());
            let row = number * SIDE;
            let height = SIDE.min(rows - row);
            let b = [first.as_ptr(), second.as_ptr()];
            let whole = width == SIDE && height == if second_a.is_some() { SIDE } else { ROWS };
            if whole {
                kernel(a, second_a, b, out[row * part.columns + column..].as_mut_ptr(), part.columns);
                continue;
            }
            kernel(a, second_a, b, rest.as_mut_ptr(), SIDE);
            for (out, from) in
                out[row * part.columns..].chunks_mut(part.columns).zip(rest.chunks_exact(SIDE)).take(height)
            {
                out[column..column + width].copy_from_slice(&from[..width]);
            }
        }
    }
}

/// Shapes of the tiles of this thread: all of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

/// Configures the tiles of this thread.
///
/// # Safety
/// The processor must have AMX, and the process the permission to use it.
unsafe fn configure() {
    let (mut bytes, mut rows) = ([0; 16], [0; 16]);
    bytes[..8].fill(64);
    rows[..8].fill(16);
    let shapes = Shapes { palette: 1, start: 0, reserved: [0; 14], bytes, rows };
    // SAFETY: the instruction reads the 64 bytes of `shapes`.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) };
}

/// Computes the products of 16 or 32 rows with 32 columns by AMX.
///
/// # Safety
/// The tiles must be configured. Each pointer of `a` must have `steps` tiles and each of `b` `steps` blocks; `c` must have
/// as many rows of 32 numbers as there are rows, `stride` numbers apart.
unsafe fn amx(
    steps: usize,
    (a, second): (*const bf16, Option<*const bf16>),
    b: [*const bf16; 2],
    (c, stride): (*mut f32, usize),
) {
    // SAFETY: a step reads one tile or block of 1024 bytes of each pointer and goes to the next; stores are of 16 rows of
    // 64 bytes each. Nothing else is read or written, and the tiles are clobbers.
    unsafe {
        match second {
            Some(second) => asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{a} + {row}*1]",
                "tileloadd tmm6, [{b0} + {row}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b1} + {row}*1]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a2} + {row}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 1024",
                "add {a2}, 1024",
                "add {b0}, 1024",
                "add {b1}, 1024",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{c} + {stride}*1], tmm0",
                "tilestored [{c} + {stride}*1 + 64], tmm1",
                "tilestored [{c2} + {stride}*1], tmm2",
                "tilestored [{c2} + {stride}*1 + 64], tmm3",
                a = inout(reg) a => _, a2 = inout(reg) second => _,
                b0 = inout(reg) b[0] => _, b1 = inout(reg) b[1] => _,
                steps = inout(reg) steps => _,
                row = in(reg) 64usize,
                c = in(reg) c, c2 = in(reg) c.add(ROWS * stride), stride = in(reg) 4 * stride,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            ),
            None => asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "2:",
                "tileloadd tmm4, [{a} + {row}*1]",
                "tileloadd tmm6, [{b0} + {row}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b1} + {row}*1]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "add {a}, 1024",
                "add {b0}, 1024",
                "add {b1}, 1024",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{c} + {stride}*1], tmm0",
                "tilestored [{c} + {stride}*1 + 64], tmm1",
                a = inout(reg) a => _,
                b0 = inout(reg) b[0] => _, b1 = inout(reg) b[1] => _,
                steps = inout(reg) steps => _,
                row = in(reg) 64usize,
                c = in(reg) c, stride = in(reg) 4 * stride,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            ),
        }
    }
}

/// Computes the products of 16 or 32 rows with 32 columns by AVX512-BF16.
///
/// # Safety
/// The processor must have AVX512-BF16; pointers as for [`amx`].
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn avx512(
    steps: usize,
    (a, second): (*const bf16, Option<*const bf16>),
    b: [*const bf16; 2],
    (c, stride): (*mut f32, usize),
) {
    /// Rows whose sums are in registers: with two columns of blocks each, half of all registers.
    const SOME: usize = 8;
    for (number, a) in [Some(a), second].into_iter().flatten().enumerate() {
        for first in (0..ROWS).step_by(SOME) {
            let mut sums = [[_mm512_setzero_ps(); 2]; SOME];
            for pair in 0..steps * DEPTH / 2 {
                let (step, within) = (pair / (DEPTH / 2), pair % (DEPTH / 2));
                // SAFETY: a pair of rows of a block is 16 pairs, one register; a row of a tile is 16 pairs of 32 bits.
                unsafe {
                    let of = |b: *const bf16| -> __m512bh {
                        transmute::<__m512i, _>(_mm512_loadu_si512(b.add(step * BLOCK + within * 2 * COLUMNS).cast()))
                    };
                    let b = [of(b[0]), of(b[1])];
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let pair =
                            a.add(step * TILE + (first + row) * DEPTH + 2 * within).cast::<i32>().read_unaligned();
                        let pair: __m512bh = transmute(_mm512_set1_epi32(pair));
                        for (sum, b) in sums.iter_mut().zip(b) {
                            *sum = _mm512_dpbf16_ps(*sum, pair, b);
                        }
                    }
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                // SAFETY: `c` has this row, with 32 numbers.
                unsafe {
                    let to = c.add((number * ROWS + first + row) * stride);
                    _mm512_storeu_ps(to, sums[0]);
                    _mm512_storeu_ps(to.add(COLUMNS), sums[1]);
                }
            }
        }
    }
}
