//! `inet`, `cidr` and `macaddr`: texts as Postgres writes them, and their binary forms.

use std::fmt::Write;
use std::net::Ipv6Addr;

use datafusion_postgres::pgwire::api::Type;

use super::{name, syntax};
use crate::wire::error_response::SqlError;

/// Numbers of the families of addresses in the binary form.
const V4: u8 = 2;
const V6: u8 = 3;

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    /// The address of IPv4 is in the first four bytes.
    bytes: [u8; 16],
    is_v4: bool,
    bits: u8,
}

impl Network {
    /// Reads an `inet` or `cidr`.
    fn read(kind: &Type, text: &str) -> Result<Self, SqlError> {
        let invalid = || syntax(kind.name(), text);
        let is_cidr = *kind == Type::CIDR;
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let found = if text.contains(':') { v6(address, bits) } else { v4(address, bits, is_cidr) };
        let found = found.ok_or_else(invalid)?;
        if is_cidr && !found.is_whole() {
            let message = format!("invalid cidr value: \"{text}\"");
            return Err(SqlError::error("22P02", message).with_hint("Value has bits set to right of mask."));
        }
        Ok(found)
    }

    fn most_bits(&self) -> u8 {
        if self.is_v4 { 32 } else { 128 }
    }

    /// True if no bit is set behind the prefix.
    fn is_whole(&self) -> bool {
        let bit = |place: usize| self.bytes[place / 8] >> (7 - place % 8) & 1;
        (usize::from(self.bits)..usize::from(self.most_bits())).all(|place| bit(place) == 0)
    }

    fn address(&self) -> String {
        let [a, b, c, d, ..] = self.bytes;
        if self.is_v4 { format!("{a}.{b}.{c}.{d}") } else { v6_text(Ipv6Addr::from(self.bytes).segments()) }
    }

    fn spell(&self, kind: &Type) -> String {
        match self.bits == self.most_bits() && *kind == Type::INET {
            true => self.address(),
            false => format!("{}/{}", self.address(), self.bits),
        }
    }

    fn packed(&self, kind: &Type) -> Vec<u8> {
        let length = if self.is_v4 { 4 } else { 16 };
        let family = if self.is_v4 { V4 } else { V6 };
        let mut bytes = vec![family, self.bits, u8::from(*kind == Type::CIDR), length];
        bytes.extend_from_slice(&self.bytes[..usize::from(length)]);
        bytes
    }
}

/// Reads an address of IPv4. A `cidr` without a prefix has one that its first number tells, and missing numbers are zero.
fn v4(address: &str, bits: Option<&str>, is_cidr: bool) -> Option<Network> {
    let mut bytes = [0; 16];
    let mut count = 0;
    for part in address.split('.') {
        let is_number = !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit());
        let number = is_number.then(|| {
            part.bytes().try_fold(0_u32, |sum, digit| {
                let sum = sum * 10 + u32::from(digit - b'0');
                (sum <= 255).then_some(sum)
            })
        })??;
        *bytes.get_mut(count).filter(|_| count < 4)? = number as u8;
        count += 1;
    }
    let bits = match bits {
        Some(bits) => prefix(bits, 32)?,
        None if is_cidr => {
            let class = match bytes[0] {
                240.. => 32,
                224.. => 8,
                192.. => 24,
                128.. => 16,
                _ => 8,
            };
            let widened = class.max(count as u8 * 8);
            if widened == 8 && bytes[0] == 224 { 4 } else { widened }
        }
        None if count < 4 => return None,
        None => 32,
    };
    Some(Network { bytes, is_v4: true, bits })
}

fn v6(address: &str, bits: Option<&str>) -> Option<Network> {
    let bytes = address.parse::<Ipv6Addr>().ok()?.octets();
    let bits = match bits {
        Some(bits) if bits.len() > 1 && bits.starts_with('0') => return None,
        Some(bits) => prefix(bits, 128)?,
        None => 128,
    };
    Some(Network { bytes, is_v4: false, bits })
}

/// Reads the length of a prefix.
fn prefix(digits: &str, most: u32) -> Option<u8> {
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let bits = digits.bytes().try_fold(0_u32, |sum, digit| {
        let sum = sum * 10 + u32::from(digit - b'0');
        (sum <= most).then_some(sum)
    })?;
    u8::try_from(bits).ok()
}

/// Writes an address of IPv6. The first of the longest runs of zeros is left out, and the last two numbers are written as an address
/// of IPv4 if only they are not zero.
fn v6_text(words: [u16; 8]) -> String {
    let (mut start, mut length) = (0, 0);
    let mut place = 0;
    while place < words.len() {
        let zeros = words[place..].iter().take_while(|word| **word == 0).count();
        if zeros > length {
            (start, length) = (place, zeros);
        }
        place += zeros.max(1);
    }
    let run = if length >= 2 { start..start + length } else { 0..0 };
    let has_v4 = run.start == 0 && (run.end == 6 || run.end == 5 && words[5] == 0xffff);
    let mut text = String::new();
    let mut place = 0;
    while place < words.len() {
        if run.contains(&place) {
            text.push_str("::");
            place = run.end;
            continue;
        }
        if place > 0 && !text.ends_with("::") {
            text.push(':');
        }
        if place == 6 && has_v4 {
            let [a, b] = words[6].to_be_bytes();
            let [c, d] = words[7].to_be_bytes();
            // Writing to a string does not fail.
            let _ = write!(text, "{a}.{b}.{c}.{d}");
            break;
        }
        let _ = write!(text, "{:x}", words[place]);
        place += 1;
    }
    text
}

/// Reads a value, and returns its text as Postgres writes it.
///
/// # Errors
/// 22P02 or 22003 if the text is no value of the type.
pub(super) fn read(kind: &Type, text: &str) -> Result<String, SqlError> {
    match *kind {
        Type::MACADDR => Ok(hexadecimal(&mac(text)?)),
        _ => Ok(Network::read(kind, text)?.spell(kind)),
    }
}

/// Reads the binary form of a value.
///
/// # Errors
/// 22P03 if it is none.
pub(super) fn unpacked(kind: &Type, bytes: &[u8]) -> Result<String, SqlError> {
    let invalid = |what: &str| SqlError::error("22P03", format!("invalid {what} in external \"{}\" value", name(kind)));
    if *kind == Type::MACADDR {
        let bytes: &[u8; 6] = bytes.try_into().map_err(|_| invalid("length"))?;
        return Ok(hexadecimal(bytes));
    }
    let [family, bits, _is_cidr, length, address @ ..] = bytes else { return Err(invalid("length")) };
    let is_v4 = match *family {
        V4 => true,
        V6 => false,
        _ => return Err(invalid("address family")),
    };
    if *bits > if is_v4 { 32 } else { 128 } {
        return Err(invalid("bits"));
    }
    let wanted = if is_v4 { 4 } else { 16 };
    if usize::from(*length) != wanted || address.len() != wanted {
        return Err(invalid("length"));
    }
    let mut bytes = [0; 16];
    bytes[..wanted].copy_from_slice(address);
    let network = Network { bytes, is_v4, bits: *bits };
    if *kind == Type::CIDR && !network.is_whole() {
        let message = "invalid external \"cidr\" value";
        return Err(SqlError::error("22P03", message).with_hint("Value has bits set to right of mask."));
    }
    Ok(network.spell(kind))
}

/// Returns the binary form of a text that [`read`] or [`unpacked`] returned.
pub(crate) fn packed(kind: &Type, text: &str) -> Option<Vec<u8>> {
    match *kind {
        Type::MACADDR => mac(text).ok().map(|bytes| bytes.to_vec()),
        _ => Network::read(kind, text).ok().map(|network| network.packed(kind)),
    }
}

/// Returns the address of a text of `inet` or `cidr`, without the prefix.
pub(crate) fn host(text: &str) -> &str {
    text.split('/').next().unwrap_or(text)
}

/// Returns the length of the prefix of a text of `inet` or `cidr`.
pub(crate) fn mask_length(text: &str) -> i32 {
    let whole = if text.contains(':') { 128 } else { 32 };
    text.split_once('/').and_then(|(_, bits)| bits.parse().ok()).unwrap_or(whole)
}

/// Reads the six numbers of a `macaddr`.
fn mac(text: &str) -> Result<[u8; 6], SqlError> {
    let invalid = || syntax("macaddr", text);
    let word = text.trim_matches(super::is_space);
    let parts: Vec<&str> = [':', '-', '.']
        .iter()
        .find_map(|mark| word.contains(*mark).then(|| word.split(*mark)))
        .map_or_else(|| vec![word], Iterator::collect);
    let is_hex = |part: &&str| !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !parts.iter().all(is_hex) {
        return Err(invalid());
    }
    let has_dots = word.contains('.');
    let mut numbers = Vec::with_capacity(6);
    if parts.len() == 6 && !has_dots {
        for part in parts {
            numbers.push(u32::from_str_radix(part, 16).map_err(|_| invalid())?);
        }
    } else {
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        let fits = matches!(lengths.as_slice(), [4, 4, 4]) && !word.contains(':')
            || matches!(lengths.as_slice(), [6, 6]) && !has_dots
            || matches!(lengths.as_slice(), [12]);
        if !fits {
            return Err(invalid());
        }
        let digits = parts.concat();
        for place in (0..12).step_by(2) {
            numbers.push(u32::from_str_radix(&digits[place..place + 2], 16).map_err(|_| invalid())?);
        }
    }
    let mut bytes = [0; 6];
    for (byte, number) in bytes.iter_mut().zip(numbers) {
        *byte = u8::try_from(number)
            .map_err(|_| SqlError::error("22003", format!("invalid octet value in \"macaddr\" value: \"{text}\"")))?;
    }
    Ok(bytes)
}

fn hexadecimal(bytes: &[u8; 6]) -> String {
    let [a, b, c, d, e, f] = bytes;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(kind: Type, text: &str) -> String {
        read(&kind, text).unwrap_or_else(|error| error.sqlstate.into_owned())
    }

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn addresses_are_written_as_postgres_does() {
        for (text, shown) in [
            ("1.2.3.4", "1.2.3.4"),
            ("1.2.3.4/32", "1.2.3.4"),
            ("1.2.3.4/31", "1.2.3.4/31"),
            ("1.2.3.04/024", "1.2.3.4/24"),
            ("10/8", "10.0.0.0/8"),
            ("10.1/16", "10.1.0.0/16"),
            ("::1", "::1"),
            ("::2", "::2"),
            ("::", "::"),
            ("::1:2", "::0.1.0.2"),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
            ("::1.2.3.4", "::1.2.3.4"),
            ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
            ("2001:0:0:1::", "2001:0:0:1::"),
            ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
            ("1:0:0:4:5:0:0:0", "1:0:0:4:5::"),
            ("1::/0", "1::/0"),
            ("ABCD:EF01::/64", "abcd:ef01::/64"),
            ("1.2", "22P02"),
            (" 1.2.3.4", "22P02"),
            ("1.2.3.4/33", "22P02"),
            ("1.2.3.4/", "22P02"),
            ("1.2.3.4/+24", "22P02"),
            ("1.2.3.256", "22P02"),
            ("1.2.3.4.5/8", "22P02"),
            ("1:2", "22P02"),
            ("::1/064", "22P02"),
            ("::1%eth0", "22P02"),
            ("", "22P02"),
            ("é", "22P02"),
        ] {
            assert_eq!(outcome(Type::INET, text), shown, "{text}");
        }
        for (text, shown) in [
            ("1.2.3", "1.2.3.0/24"),
            ("10", "10.0.0.0/8"),
            ("192.168", "192.168.0.0/24"),
            ("128", "128.0.0.0/16"),
            ("1.2.3.4", "1.2.3.4/32"),
            ("192.168.1/24", "192.168.1.0/24"),
            ("224", "224.0.0.0/4"),
            ("240", "240.0.0.0/32"),
            ("::1", "::1/128"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("1.2.3.4/24", "22P02"),
            ("10./8", "22P02"),
            ("10/33", "22P02"),
            ("", "22P02"),
        ] {
            assert_eq!(outcome(Type::CIDR, text), shown, "{text}");
        }
        for text in [
            "08:00:2b:01:02:03",
            "08-00-2B-01-02-03",
            "08002b:010203",
            "08002b-010203",
            "0800.2b01.0203",
            "0800-2b01-0203",
            "08002b010203",
            " 8:0:2b:1:2:3 ",
        ] {
            assert_eq!(outcome(Type::MACADDR, text), "08:00:2b:01:02:03", "{text}");
        }
        for (text, code) in
            [("08:00:2b:01:02", "22P02"), ("08:00:2b:01:02:300", "22003"), ("x", "22P02"), ("", "22P02")]
        {
            assert_eq!(outcome(Type::MACADDR, text), code, "{text}");
        }
    }

    /// Compares with what the functions that send values return in PostgreSQL 15.
    #[test]
    fn values_have_binary_forms() {
        for (kind, text, bytes) in [
            (Type::INET, "1.2.3.4/24", &[2, 24, 0, 4, 1, 2, 3, 4][..]),
            (Type::CIDR, "::1/128", &[3, 128, 1, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            (Type::MACADDR, "08:00:2b:01:02:03", &[8, 0, 0x2b, 1, 2, 3]),
        ] {
            assert_eq!(packed(&kind, text).as_deref(), Some(bytes), "{text}");
            assert_eq!(unpacked(&kind, bytes).unwrap(), text);
        }
        for bytes in [&[][..], &[2, 33, 0, 4, 1, 2, 3, 4], &[9, 8, 0, 4, 1, 2, 3, 4], &[2, 8, 0, 4, 1, 2, 3]] {
            assert_eq!(unpacked(&Type::INET, bytes).unwrap_err().sqlstate, "22P03");
        }
        assert_eq!(unpacked(&Type::CIDR, &[2, 8, 1, 4, 1, 2, 3, 4]).unwrap_err().sqlstate, "22P03");
    }

    #[test]
    fn texts_have_parts() {
        assert_eq!((host("1.2.3.4/24"), mask_length("1.2.3.4/24")), ("1.2.3.4", 24));
        assert_eq!((host("::1"), mask_length("::1")), ("::1", 128));
        assert_eq!(mask_length("1.2.3.4"), 32);
    }
}
