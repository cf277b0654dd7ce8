//! Order of numbers in SQL, in which NaN is greater than all others.

/// Greater of two numbers.
#[inline(always)]
pub fn greater(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// Lesser of two numbers.
#[inline(always)]
pub fn lesser(a: f32, b: f32) -> f32 {
    if b < a || a.is_nan() { b } else { a }
}

/// Returns true if a number is greater than another; no NaN is greater than another NaN.
#[inline(always)]
pub(crate) fn is_greater(a: f32, b: f32) -> bool {
    a > b || (a.is_nan() && !b.is_nan())
}
