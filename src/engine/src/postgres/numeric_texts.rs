//! Texts of `numeric`, as PostgreSQL reads them: ` 1.5 `, `.5`, `1e5`.

use std::cmp::Ordering;

/// Greatest exponent that PostgreSQL reads.
const GREATEST_EXPONENT: i64 = 131_072;

/// Digits of a number and how many of them stand after the point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digits {
    is_negative: bool,
    /// Without zeros at the beginning.
    digits: String,
    /// Number of digits after the point, as they were written; less than 0 for zeros before it that were not.
    scale: i64,
}

/// Number that a text stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Written {
    Number(Digits),
    /// NaN or an infinity.
    NotFinite,
    /// A number of more digits than PostgreSQL has.
    TooLarge,
    /// No number.
    Nothing,
}

/// Reads a text.
pub(super) fn read(text: &str) -> Written {
    let text = text.trim_matches(|letter| matches!(letter, ' ' | '\t'..='\r'));
    let (is_negative, magnitude) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if text.eq_ignore_ascii_case("nan") || ["inf", "infinity"].iter().any(|it| magnitude.eq_ignore_ascii_case(it)) {
        return Written::NotFinite;
    }
    let (mantissa, exponent) = match magnitude.find(['e', 'E']) {
        Some(at) => {
            let exponent = &magnitude[at + 1..];
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
                return Written::Nothing;
            }
            (&magnitude[..at], exponent.trim_start_matches('+').parse::<i64>().unwrap_or(i64::MAX))
        }
        None => (magnitude, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |part: &str| part.bytes().all(|digit| digit.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return Written::Nothing;
    }
    if !(-GREATEST_EXPONENT..=GREATEST_EXPONENT).contains(&exponent) {
        return Written::TooLarge;
    }
    let digits = format!("{whole}{fraction}").trim_start_matches('0').to_owned();
    let length = i64::try_from(fraction.len()).unwrap_or(GREATEST_EXPONENT);
    Written::Number(Digits { is_negative, digits, scale: length - exponent })
}

impl Digits {
    /// Returns how many digits after the point PostgreSQL shows.
    pub(super) fn shown(&self) -> usize {
        usize::try_from(self.scale).unwrap_or(0)
    }

    /// Returns how many digits after the point the number has, without zeros at its end.
    pub(super) fn least_scale(&self) -> usize {
        let zeros = self.digits.len() - self.digits.trim_end_matches('0').len();
        if self.digits.is_empty() { 0 } else { self.shown().saturating_sub(zeros) }
    }

    /// Returns the number as an integer of units of so many digits after the point; halves go away from zero. `None` if that has
    /// more than 38 digits.
    pub(super) fn at(&self, scale: i8) -> Option<i128> {
        const MOST_DIGITS: usize = 38;
        if self.digits.is_empty() {
            return Some(0);
        }
        let more = i64::from(scale) - self.scale;
        let count = usize::try_from(more.unsigned_abs()).ok()?;
        let magnitude: i128 = match more.cmp(&0) {
            Ordering::Less if count > self.digits.len() => 0,
            Ordering::Less => {
                let (kept, cut) = self.digits.split_at(self.digits.len() - count);
                if kept.len() > MOST_DIGITS {
                    return None;
                }
                let is_up = cut.as_bytes().first().is_some_and(|digit| *digit >= b'5');
                format!("0{kept}").parse::<i128>().ok()? + i128::from(is_up)
            }
            _ if self.digits.len() + count > MOST_DIGITS => return None,
            _ => format!("{}{}", self.digits, "0".repeat(count)).parse().ok()?,
        };
        (magnitude < 10i128.pow(MOST_DIGITS as u32)).then_some(if self.is_negative { -magnitude } else { magnitude })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Digits {
        match read(text) {
            Written::Number(digits) => digits,
            other => panic!("{text}: {other:?}"),
        }
    }

    /// Checks outcomes of PostgreSQL 15.
    #[test]
    fn numbers_are_read() {
        for (text, scale, value, shown) in [
            ("1e5", 0, 100_000, 0),
            (" 1.5\t", 1, 15, 1),
            (".5", 1, 5, 1),
            ("5.", 2, 500, 0),
            ("+0.00", 2, 0, 2),
            ("-1.255", 2, -126, 3),
            ("-1.2549", 2, -125, 4),
            ("1.5e-3", 2, 0, 4),
            ("9.99E+1", 0, 100, 1),
            ("0.5", 0, 1, 1),
            ("-0.4", 0, 0, 1),
            ("0.05", 0, 0, 2),
        ] {
            assert_eq!((digits(text).at(scale), digits(text).shown()), (Some(value), shown), "{text}");
        }
        for text in
            ["", " ", "abc", "1_000", "0x1F", "1e", "1e+", "--1", "+ 1", "1.5.2", ".", "e5", "1 2", "1ä", "+nan"]
        {
            assert_eq!(read(text), Written::Nothing, "{text}");
        }
        for text in ["NaN", " infinity ", "-Inf", "+INF"] {
            assert_eq!(read(text), Written::NotFinite, "{text}");
        }
        assert_eq!(read("1e131073"), Written::TooLarge);
        assert_eq!(read("1e99999999999999999999"), Written::TooLarge);
        assert_eq!(digits("1234567890123456789012345678901234567890").at(0), None);
        assert_eq!(digits("99999999999999999999999999999999999999.5").at(0), None);
        assert_eq!(digits("0.000000000000000000000000000000000000000001").at(10), Some(0));
        assert_eq!(digits("1.2300").least_scale(), 2);
        assert_eq!(digits("500").least_scale(), 0);
    }
}
