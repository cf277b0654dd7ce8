//! Floating-point numbers as Postgres writes them.

use std::fmt::{LowerExp, Write};
use std::str::FromStr;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Float64Type};

/// Significant decimal digits that every `real` keeps; numbers of more digits before the point get an exponent.
const REAL_DIGITS: i32 = 6;

/// The same of `double precision`.
const DOUBLE_DIGITS: i32 = 15;

/// Significant decimal digits of the longest number that is written out.
const MOST_DIGITS: usize = 800;

/// Bytes of most numbers as text.
const TEXT_BYTES: usize = 12;

/// Writes a column of numbers, or of arrays of them, as text; `None` if it holds something else.
///
/// `extra` is `extra_float_digits`: from 1 on, numbers have as many digits as tell them from their neighbours; below
/// that, `extra` more than the digits that every number keeps.
pub fn spell(column: &ArrayRef, extra: i32) -> Option<ArrayRef> {
    let form = |digits: i32| match extra {
        1.. => FloatFormat { digits, rounded: false },
        _ => FloatFormat { digits: (digits + extra).max(1), rounded: true },
    };
    match column.data_type() {
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>().iter();
            Some(Arc::new(texts(values.map(|value| value.map(|value| (value.is_finite(), value))), form(REAL_DIGITS))))
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>().iter();
            Some(Arc::new(texts(
                values.map(|value| value.map(|value| (value.is_finite(), value))),
                form(DOUBLE_DIGITS),
            )))
        }
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            let values = spell(lists.values(), extra).filter(|values| *values.data_type() == DataType::Utf8)?;
            let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
            Some(Arc::new(ListArray::new(item, lists.offsets().clone(), values, lists.nulls().cloned())))
        }
        _ => None,
    }
}

/// Format of finite numbers.
#[derive(Clone, Copy)]
struct FloatFormat {
    /// Numbers of more digits before the point get an exponent.
    digits: i32,
    /// True if numbers are rounded to `digits`.
    rounded: bool,
}

/// Writes numbers as text; each comes with true if it is finite.
fn texts<T: Float>(values: impl ExactSizeIterator<Item = Option<(bool, T)>>, form: FloatFormat) -> StringArray {
    let mut texts = StringBuilder::with_capacity(values.len(), TEXT_BYTES * values.len());
    let (mut scientific, mut text) = (String::new(), String::new());
    for value in values {
        let Some((finite, value)) = value else {
            texts.append_null();
            continue;
        };
        scientific.clear();
        text.clear();
        // Writing to a string does not fail.
        let _ = if form.rounded {
            write!(scientific, "{value:.*e}", form.digits as usize - 1)
        } else {
            write!(scientific, "{value:e}")
        };
        if finite && !form.rounded && is_between(value, &scientific) {
            scientific = unambiguous(value, &scientific);
        }
        if finite
            && !form.rounded
            && let Some(even) = even_neighbour(value, &scientific)
        {
            scientific = even;
        }
        match (finite, scientific.as_str()) {
            (true, number) => place_point(number, form, &mut text),
            (false, "inf") => text.push_str("Infinity"),
            (false, "-inf") => text.push_str("-Infinity"),
            (false, _) => text.push_str("NaN"),
        }
        texts.append_value(&text);
    }
    texts.finish()
}

/// A floating-point number whose neighbours may be asked for.
trait Float: LowerExp + FromStr + PartialEq + Copy {
    /// Significant digits from which on two decimals of that many may be read as the same number.
    const FINE_DIGITS: usize;

    /// Returns the magnitude and half the distance to the next greater one, of numbers so large that these are whole.
    fn whole(self) -> Option<(u128, u128)>;

    fn wide(self) -> f64;
}

impl Float for f32 {
    const FINE_DIGITS: usize = 8;

    fn wide(self) -> f64 {
        f64::from(self)
    }

    fn whole(self) -> Option<(u128, u128)> {
        let magnitude = self.abs();
        let is_whole = (16_777_216.0..1e38).contains(&magnitude);
        is_whole.then(|| (magnitude as u128, (magnitude.next_up() as u128 - magnitude as u128) / 2))
    }
}

impl Float for f64 {
    const FINE_DIGITS: usize = 16;

    fn wide(self) -> f64 {
        self
    }

    fn whole(self) -> Option<(u128, u128)> {
        let magnitude = self.abs();
        let is_whole = (9_007_199_254_740_992.0..1e38).contains(&magnitude);
        is_whole.then(|| (magnitude as u128, (magnitude.next_up() as u128 - magnitude as u128) / 2))
    }
}

/// Returns true if a decimal stands in the middle between the number and a neighbour. It is read as the one whose last
/// bit is 0, and Rust writes it for that one, but Postgres does not.
fn is_between<T: Float>(value: T, scientific: &str) -> bool {
    let Some((magnitude, half)) = value.whole() else { return false };
    let Some((mantissa, exponent)) = scientific.trim_start_matches('-').split_once('e') else { return false };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let Some(zeros) = exponent.parse().ok().and_then(|exponent: usize| exponent.checked_sub(fraction.len())) else {
        return false;
    };
    let decimal: Option<u128> = format!("{whole}{fraction}{}", "0".repeat(zeros)).parse().ok();
    // Below a power of two the neighbour is half as far.
    let below = if magnitude.is_power_of_two() { half / 2 } else { half };
    decimal.is_some_and(|it| it != magnitude && (it == magnitude + half || it == magnitude - below))
}

/// Returns the decimal below (in magnitude) one of an odd last digit if the number stands in the middle between both: Rust
/// takes the greater one, Postgres the even one.
fn even_neighbour<T: Float>(value: T, scientific: &str) -> Option<String> {
    let (mantissa, exponent) = scientific.split_once('e')?;
    let (kept, last) = mantissa.split_at_checked(mantissa.len() - 1)?;
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let last = last.bytes().next().filter(|last| last % 2 == 1 && digits >= T::FINE_DIGITS)?;
    // In the middle, the number times 2 and a power of 10 is whole: its last bits are zeros.
    let bits = value.wide().to_bits();
    let (fraction, binary) = (bits & ((1 << 52) - 1), (bits >> 52 & 0x7ff) as i32);
    let binary_exponent = if binary == 0 { -1074 } else { binary - 1075 };
    let places = digits as i32 - 1 - exponent.parse::<i32>().ok()?;
    let zeros = fraction.trailing_zeros().min(52) as i32;
    if zeros + binary_exponent + places + 1 < 0 {
        return None;
    }
    let below = format!("{kept}{}", char::from(last - 1));
    let exact = format!("{value:.*e}", MOST_DIGITS);
    let rest = exact.split_once('e')?.0.strip_prefix(&below)?.strip_prefix('5')?;
    let below = format!("{below}e{exponent}");
    (rest.bytes().all(|digit| digit == b'0') && below.parse().is_ok_and(|read: T| read == value)).then_some(below)
}

/// Returns the shortest decimal that is nearer to the number than to any other.
fn unambiguous<T: Float>(value: T, scientific: &str) -> String {
    let digits = scientific.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    let candidates = (digits..=17).map(|digits| format!("{value:.digits$e}"));
    let fits = |text: &String| text.parse().is_ok_and(|read: T| read == value) && !is_between(value, text);
    candidates.into_iter().find(fits).unwrap_or_else(|| scientific.to_owned())
}

/// Converts Rust's `-1.25e-7` to Postgres' `-1.25e-07`, and to `0.0125` or `125` where the exponent is small.
///
/// As `double_to_shortest_decimal_buf` of Postgres: without exponent from 1e-4 to below `10^digits`.
fn place_point(number: &str, form: FloatFormat, text: &mut String) {
    let (mantissa, exponent) = number.split_once('e').unwrap_or((number, "0"));
    let mantissa = if form.rounded && mantissa.contains('.') {
        mantissa.trim_end_matches('0').trim_end_matches('.')
    } else {
        mantissa
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    text.push_str(sign);
    if !(-4..form.digits).contains(&exponent) {
        let direction = if exponent < 0 { '-' } else { '+' };
        text.push_str(mantissa);
        let _ = write!(text, "e{direction}{:02}", exponent.abs());
        return;
    }
    let figures = || mantissa.chars().filter(|c| *c != '.');
    let count = figures().count() as i32;
    if exponent < 0 {
        text.push_str("0.");
        text.extend((1..-exponent).map(|_| '0'));
        text.extend(figures());
        return;
    }
    let whole = exponent + 1;
    text.extend(figures().take(whole as usize));
    text.extend((count..whole).map(|_| '0'));
    if count > whole {
        text.push('.');
        text.extend(figures().skip(whole as usize));
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Float32Array, Float64Array};
    use proptest::prelude::*;

    use super::*;

    fn spelt(column: ArrayRef) -> Vec<String> {
        let texts = spell(&column, 1).unwrap();
        texts.as_string::<i32>().iter().map(|text| text.unwrap_or("NULL").to_owned()).collect()
    }

    /// Compares with values as `psql` of PostgreSQL 15 shows them.
    #[test]
    fn as_postgres_writes_them() {
        let doubles = [
            (1.0, "1"),
            (-0.0, "-0"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (1e-4, "0.0001"),
            (1.25e-5, "1.25e-05"),
            (1e300, "1e+300"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
            (-2.5, "-2.5"),
            (9007199254740992.0, "9.007199254740992e+15"),
            (9.223372036854774e16, "9.223372036854774e+16"),
            // In the middle between two decimals.
            (3602879701896397.0 / 4.0, "900719925474099.2"),
            (3602879701896399.0 / 4.0, "900719925474099.8"),
            (-4000000059604645.0 / 4.0, "-1.0000000149011612e+15"),
            (4503599627370505.0 / 8.0, "562949953421313.1"),
            (3999999947964405.0 / 4.0, "999999986991101.2"),
        ];
        let column: ArrayRef = Arc::new(doubles.iter().map(|(value, _)| Some(*value)).collect::<Float64Array>());
        assert_eq!(spelt(column), doubles.map(|(_, text)| text));
        let reals = [
            (100000.0, "100000"),
            (1e6, "1e+06"),
            (1234567.0, "1.234567e+06"),
            (123456.7, "123456.7"),
            (0.1, "0.1"),
            (16777216.0, "1.6777216e+07"),
            (123456790.0, "1.2345679e+08"),
            (0.00012, "0.00012"),
            (8388609.0 / 4.0, "2.0971522e+06"),
            (8388611.0 / 4.0, "2.0971528e+06"),
            (4938269.0 / 4.0, "1.2345672e+06"),
            (f32::INFINITY, "Infinity"),
        ];
        let column: ArrayRef = Arc::new(reals.iter().map(|(value, _)| Some(*value)).collect::<Float32Array>());
        assert_eq!(spelt(column), reals.map(|(_, text)| text));
    }

    #[test]
    fn rounded_to_fewer_digits() {
        let rounded = |value: f64, extra| {
            let texts = spell(&(Arc::new(Float64Array::from(vec![value])) as ArrayRef), extra).unwrap();
            texts.as_string::<i32>().value(0).to_owned()
        };
        assert_eq!(rounded(0.1 + 0.2, 0), "0.3");
        assert_eq!(rounded(1.0 / 3.0, 0), "0.333333333333333");
        assert_eq!(rounded(1.0 / 3.0, -12), "0.333");
        assert_eq!(rounded(12345.0, -12), "1.23e+04");
        assert_eq!(rounded(9999.9, -12), "1e+04");
        assert_eq!(rounded(20.0, -15), "2e+01");
        assert_eq!(rounded(0.0, 0), "0");
    }

    #[test]
    fn nulls_and_arrays() {
        let lists = ListArray::from_iter_primitive::<Float32Type, _, _>([
            Some(vec![Some(1.0), None, Some(f32::NAN)]),
            None,
            Some(vec![]),
        ]);
        let spelt = spell(&(Arc::new(lists) as ArrayRef), 1).unwrap();
        let spelt = spelt.as_list::<i32>();
        assert!(spelt.is_null(1));
        assert_eq!(spelt.value(2).len(), 0);
        let first = spelt.value(0);
        assert_eq!(first.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("1"), None, Some("NaN")]);
        assert!(spell(&(Arc::new(StringArray::from(vec!["1.0"])) as ArrayRef), 1).is_none());
    }

    proptest! {
        #[test]
        fn reads_back_as_the_same_number(value in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL) {
            let text = spelt(Arc::new(Float64Array::from(vec![value]))).remove(0);
            prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits());
        }
    }
}
