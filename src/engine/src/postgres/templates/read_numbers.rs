//! Numbers that `to_number` reads with a template.

use super::Wrong;
use super::numbers::{Description, Key, Node, Side, Template};

/// A number that was read: digits, and how many of them stand behind the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) digits: i128,
    pub(super) scale: usize,
}

/// The state of what is read.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    sign: Option<u8>,
    digits: Vec<u8>,
    before: usize,
    behind: usize,
    has_point: bool,
    description: &'a Description,
}

impl Template {
    /// Reads a number.
    ///
    /// # Errors
    /// 22P02 if there is none, 22003 if it is too large, 0A000 if the template is for `to_char` only.
    pub(super) fn read(&self, text: &str) -> Result<Number, Wrong> {
        let description = &self.description;
        if description.is_scientific {
            return Err(("0A000", "\"EEEE\" not supported for input".into()));
        }
        if description.is_roman {
            return Err(("0A000", "\"RN\" not supported for input".into()));
        }
        let mut reader = Reader {
            text: text.as_bytes(),
            at: 0,
            sign: None,
            digits: Vec::new(),
            before: 0,
            behind: 0,
            has_point: false,
            description,
        };
        for node in &self.nodes {
            if reader.is_at_end() {
                break;
            }
            match node {
                Node::Letter(_) => reader.at += reader.letter(),
                Node::Pattern(key) => reader.pattern(*key),
            }
        }
        let Reader { sign, digits, before, behind, .. } = reader;
        let shift = description.shift;
        if digits.is_empty() {
            let shown = sign.map_or(' ', char::from);
            return Err(("22P02", format!("invalid input syntax for type numeric: \"{shown}\"")));
        }
        let overflow = || ("22003", "numeric field overflow".to_owned());
        let whole = digits[..before].iter().skip_while(|digit| **digit == b'0').count();
        if whole > description.pre + shift || digits.len() + shift > 38 {
            return Err(overflow());
        }
        let number = std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse::<i128>().ok());
        let number = number.ok_or_else(overflow)?;
        Ok(Number { digits: if sign == Some(b'-') { -number } else { number }, scale: behind + shift })
    }
}

impl Reader<'_> {
    fn is_at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    /// Returns the number of bytes of the letter here.
    fn letter(&self) -> usize {
        match self.peek() {
            0..0xc0 => 1,
            0xc0..0xe0 => 2,
            0xe0..0xf0 => 3,
            _ => 4,
        }
    }

    /// Skips letters that are no part of a number.
    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            if self.is_at_end() || b"0123456789.,+-".contains(&self.peek()) {
                break;
            }
            self.at += self.letter();
        }
    }

    fn pattern(&mut self, key: Key) {
        let sign = |own: u8, reader: &mut Self| match reader.peek() == own {
            true => {
                reader.sign = Some(own);
                reader.at += 1;
            }
            false => reader.skip(1),
        };
        match key {
            Key::Nine | Key::Zero | Key::Point | Key::LocalPoint => {
                self.digit(matches!(key, Key::Nine | Key::Zero));
                self.at += 1;
            }
            // Digits are none of what is read.
            Key::Comma | Key::Group => {
                if !self.description.is_filled && self.peek() == b',' {
                    self.at += 1;
                }
            }
            Key::Currency => self.skip(1),
            Key::Ordinal(_) => {
                if self.sign != Some(b'-') && !self.description.has_point {
                    self.skip(2);
                }
            }
            Key::Minus => sign(b'-', self),
            Key::Plus => sign(b'+', self),
            Key::Sign => match self.peek() {
                own @ (b'-' | b'+') => {
                    self.sign = Some(own);
                    self.at += 1;
                }
                _ => self.skip(1),
            },
            Key::Blank
            | Key::Scientific
            | Key::Filled
            | Key::Brackets
            | Key::Roman(_)
            | Key::Spelled
            | Key::LocalSign
            | Key::Shift => {}
        }
    }

    fn digit(&mut self, is_digit: bool) {
        if self.is_at_end() {
            return;
        }
        if self.peek() == b' ' {
            self.at += 1;
        }
        if self.is_at_end() {
            return;
        }
        let it = self.description;
        if self.sign.is_none() && is_digit && self.before + self.behind == 0 {
            let next = self.peek();
            if it.has_sign && it.side == Side::Before {
                if matches!(next, b'-' | b'+') {
                    self.sign = Some(next);
                    self.at += 1;
                }
            } else if next == b'-' || it.has_brackets && next == b'<' {
                self.sign = Some(b'-');
                self.at += 1;
            } else if next == b'+' {
                self.sign = Some(b'+');
                self.at += 1;
            }
        }
        if self.is_at_end() {
            return;
        }
        let mut is_read = false;
        if self.peek().is_ascii_digit() {
            if self.has_point && self.behind == it.post {
                return;
            }
            self.digits.push(self.peek());
            if self.has_point {
                self.behind += 1
            } else {
                self.before += 1
            }
            is_read = true;
        } else if it.has_point && !self.has_point && self.peek() == b'.' {
            self.has_point = true;
            is_read = true;
        }
        if self.sign.is_some() || self.before + self.behind == 0 {
            return;
        }
        let next = self.text.get(self.at + 1).copied();
        if it.has_sign {
            if is_read && let Some(sign @ (b'-' | b'+')) = next {
                self.sign = Some(sign);
                self.at += 1;
            }
        } else if !is_read && (it.has_plus || it.has_minus) && matches!(self.peek(), b'-' | b'+') {
            self.sign = Some(self.peek());
        }
    }
}
