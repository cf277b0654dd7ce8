//! `numeric`: decimals of up to 38 digits, each with as many as it was sent with.

use datafusion::arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;

use super::{syntax, trimmed};
use crate::wire::error_response::SqlError;

/// Number of digits that an Arrow decimal holds.
const MOST_DIGITS: usize = 38;

/// Reads the text form.
pub(super) fn read(text: &str) -> Result<ScalarValue, SqlError> {
    let word = trimmed(text);
    let (negative, magnitude) = match word.as_bytes().first() {
        Some(b'-') => (true, &word[1..]),
        Some(b'+') => (false, &word[1..]),
        _ => (false, word),
    };
    if ["nan", "infinity", "inf"].iter().any(|known| magnitude.eq_ignore_ascii_case(known)) {
        return Err(not_finite(word));
    }
    let (mantissa, exponent) = match magnitude.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
                return Err(syntax("numeric", text));
            }
            (mantissa, exponent.parse::<i64>().map_err(|_| too_long(text))?)
        }
        None => (magnitude, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(syntax("numeric", text));
    }
    if exponent.abs() > 200_000 {
        return Err(too_long(text));
    }
    from_digits(negative, &digits, fraction.len() as i64 - exponent).ok_or_else(|| too_long(text))
}

/// Returns `digits` divided by ten to the power of `scale`.
fn from_digits(negative: bool, digits: &str, scale: i64) -> Option<ScalarValue> {
    let significant = digits.trim_start_matches('0');
    let zeros = usize::try_from(-scale).unwrap_or(0);
    let scale = usize::try_from(scale).unwrap_or(0);
    let zeros = if significant.is_empty() { 0 } else { zeros };
    if significant.len() + zeros > MOST_DIGITS || scale > MOST_DIGITS {
        return None;
    }
    let magnitude: i128 = format!("0{significant}{}", "0".repeat(zeros)).parse().ok()?;
    let value = if negative { -magnitude } else { magnitude };
    Some(decimal(value, scale as i8, significant.len() + zeros))
}

fn decimal(value: i128, scale: i8, digits: usize) -> ScalarValue {
    let precision = digits.max(scale.unsigned_abs().into()).max(1) as u8;
    ScalarValue::Decimal128(Some(value), precision, scale)
}

/// Reads the binary form: groups of four digits.
pub(super) fn from_groups(weight: i16, sign: u16, scale: u16, groups: &[i16]) -> Result<ScalarValue, SqlError> {
    match sign {
        0 | 0x4000 => {}
        0xc000 => return Err(not_finite("NaN")),
        0xd000 => return Err(not_finite("Infinity")),
        0xf000 => return Err(not_finite("-Infinity")),
        _ => return Err(SqlError::error("22P03", "invalid sign in external \"numeric\" value")),
    }
    if groups.iter().any(|group| !(0..10_000).contains(group)) {
        return Err(SqlError::error("22P03", "invalid digit in external \"numeric\" value"));
    }
    let mut digits: String = groups.iter().map(|group| format!("{group:04}")).collect();
    // Digits after the point, as many as the groups have; the value has `scale` of them.
    let fraction = (groups.len() as i64 - 1 - i64::from(weight)) * 4;
    let wanted = i64::from(scale);
    if fraction > wanted {
        let cut = digits.len().saturating_sub((fraction - wanted) as usize);
        digits.truncate(cut);
    } else {
        digits.extend(std::iter::repeat_n('0', (wanted - fraction) as usize));
    }
    from_digits(sign == 0x4000, &digits, wanted).ok_or_else(|| too_long(&digits))
}

/// Brings the items of a list to one scale.
pub(super) fn of_one_scale(items: Vec<Option<ScalarValue>>) -> Result<(DataType, Vec<Option<ScalarValue>>), SqlError> {
    let parts = |item: &Option<ScalarValue>| match item {
        Some(ScalarValue::Decimal128(Some(value), precision, scale)) => Some((*value, *precision, *scale)),
        _ => None,
    };
    let scale = items.iter().filter_map(parts).map(|(_, _, scale)| scale).max().unwrap_or(0);
    let is_even = items.iter().filter_map(parts).all(|(_, _, own)| own == scale);
    let whole = items.iter().filter_map(parts).map(|(_, precision, scale)| precision - scale.unsigned_abs()).max();
    // With several scales, the scale of each item is lost: the list is then a numeric without a precision.
    let scale = if is_even { scale } else { scale.max(10) };
    let precision = (whole.unwrap_or(0) + scale.unsigned_abs()).max(1);
    if usize::from(precision) > MOST_DIGITS {
        return Err(too_long("an array"));
    }
    let precision = if is_even { precision } else { MOST_DIGITS as u8 };
    let item = |item| {
        let (value, _, own) = parts(&item)?;
        Some(ScalarValue::Decimal128(Some(value * 10_i128.pow((scale - own).unsigned_abs().into())), precision, scale))
    };
    Ok((DataType::Decimal128(precision, scale), items.into_iter().map(item).collect()))
}

fn not_finite(text: &str) -> SqlError {
    SqlError::not_supported(format!("numeric {text} is not supported; use double precision"))
}

fn too_long(text: &str) -> SqlError {
    let shown: String = text.chars().take(60).collect();
    SqlError::not_supported(format!("numeric values of more than {MOST_DIGITS} digits are not supported: {shown}"))
}
