//! Templates of numbers, as PostgreSQL reads them, what `to_char` writes, and what `to_number` reads.

use super::moments::{Letters, ordinal};
use super::{Wrong, quoted};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Comma,
    Point,
    Zero,
    Nine,
    Blank,
    LocalPoint,
    Scientific,
    Filled,
    Group,
    Currency,
    Minus,
    Plus,
    Brackets,
    Roman(Letters),
    Sign,
    /// `SP`, which means nothing.
    Spelled,
    LocalSign,
    Ordinal(Letters),
    Shift,
}

/// Patterns; longer ones before those that they begin with.
const PATTERNS: [(&str, Key); 19] = [
    (",", Key::Comma),
    (".", Key::Point),
    ("0", Key::Zero),
    ("9", Key::Nine),
    ("B", Key::Blank),
    ("D", Key::LocalPoint),
    ("EEEE", Key::Scientific),
    ("FM", Key::Filled),
    ("G", Key::Group),
    ("L", Key::Currency),
    ("MI", Key::Minus),
    ("PL", Key::Plus),
    ("PR", Key::Brackets),
    ("RN", Key::Roman(Letters::Large)),
    ("SG", Key::Sign),
    ("SP", Key::Spelled),
    ("S", Key::LocalSign),
    ("TH", Key::Ordinal(Letters::Large)),
    ("V", Key::Shift),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Pattern(Key),
    Letter(char),
}

/// Where the sign of `S` stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Side {
    #[default]
    None,
    Before,
    Behind,
}

/// Form of the number in a template.
#[derive(Debug, Clone, Default)]
pub(super) struct Description {
    /// Digits before the point.
    pub(super) pre: usize,
    /// Digits behind the point.
    pub(super) post: usize,
    pub(super) side: Side,
    pub(super) pre_at_sign: usize,
    /// Digits by which the point is shifted.
    pub(super) shift: usize,
    /// The place of the first `0`, from 0, and behind the last.
    pub(super) zero_start: usize,
    pub(super) zero_end: usize,
    pub(super) has_point: bool,
    pub(super) is_filled: bool,
    pub(super) has_zero: bool,
    pub(super) is_blank: bool,
    pub(super) has_sign: bool,
    pub(super) has_brackets: bool,
    pub(super) has_minus: bool,
    pub(super) has_plus: bool,
    pub(super) is_roman: bool,
    pub(super) is_shifted: bool,
    pub(super) is_scientific: bool,
}

/// A template of numbers.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pub(super) nodes: Vec<Node>,
    pub(super) description: Description,
}

fn syntax(message: &str) -> Wrong {
    ("42601", message.into())
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// 42601 if its patterns do not go together.
    pub(super) fn parse(template: &str) -> Result<Self, Wrong> {
        let (mut nodes, mut description, mut rest) = (Vec::new(), Description::default(), template);
        while let Some(first) = rest.chars().next() {
            let is_small = first.is_ascii_lowercase();
            let matches = |name: &str| {
                let head = rest.as_bytes().get(..name.len());
                head.is_some_and(|head| match is_small {
                    true => name.to_ascii_lowercase().as_bytes() == head,
                    false => name.as_bytes() == head,
                })
            };
            if let Some((name, key)) = PATTERNS.into_iter().find(|(name, _)| matches(name)) {
                let key = match key {
                    Key::Roman(_) if is_small => Key::Roman(Letters::Small),
                    Key::Ordinal(_) if is_small => Key::Ordinal(Letters::Small),
                    key => key,
                };
                description.add(key)?;
                nodes.push(Node::Pattern(key));
                rest = &rest[name.len()..];
                continue;
            }
            if first != '"' {
                let is_quoted = rest.starts_with("\\\"");
                nodes.push(Node::Letter(if is_quoted { '"' } else { first }));
                rest = &rest[if is_quoted { 2 } else { first.len_utf8() }..];
                continue;
            }
            let (letters, behind) = quoted(&rest[1..]);
            nodes.extend(letters.into_iter().map(Node::Letter));
            rest = behind;
        }
        Ok(Self { nodes, description })
    }

    /// Returns true if the point is shifted.
    pub(super) fn is_shifted(&self) -> bool {
        self.description.is_shifted
    }

    /// Returns the number of digits behind the point of what is read.
    pub(super) fn scale(&self) -> usize {
        self.description.post + self.description.shift
    }
}

impl Description {
    fn add(&mut self, key: Key) -> Result<(), Wrong> {
        if self.is_scientific && key != Key::Scientific {
            return Err(syntax("\"EEEE\" must be the last pattern used"));
        }
        let is_together = "cannot use \"S\" and \"PL\"/\"MI\"/\"SG\"/\"PR\" together";
        match key {
            Key::Nine | Key::Zero if self.has_brackets => {
                let digit = if key == Key::Nine { '9' } else { '0' };
                return Err(syntax(&format!("\"{digit}\" must be ahead of \"PR\"")));
            }
            Key::Nine if self.is_shifted => self.shift += 1,
            Key::Nine if self.has_point => self.post += 1,
            Key::Nine => self.pre += 1,
            Key::Zero => {
                if !self.has_zero && !self.has_point {
                    self.has_zero = true;
                    self.zero_start = self.pre + 1;
                }
                if self.has_point {
                    self.post += 1
                } else {
                    self.pre += 1
                }
                self.zero_end = self.pre + self.post;
            }
            Key::Blank => self.is_blank |= self.pre == 0 && self.post == 0 && !self.has_zero,
            Key::LocalPoint | Key::Point => {
                if self.has_point {
                    return Err(syntax("multiple decimal points"));
                }
                if self.is_shifted {
                    return Err(syntax("cannot use \"V\" and decimal point together"));
                }
                self.has_point = true;
            }
            Key::Filled => self.is_filled = true,
            Key::LocalSign => {
                if self.has_sign {
                    return Err(syntax("cannot use \"S\" twice"));
                }
                if self.has_plus || self.has_minus || self.has_brackets {
                    return Err(syntax(is_together));
                }
                if !self.has_point {
                    (self.side, self.pre_at_sign, self.has_sign) = (Side::Before, self.pre, true);
                } else if self.side == Side::None {
                    (self.side, self.has_sign) = (Side::Behind, true);
                }
            }
            Key::Minus | Key::Plus | Key::Sign if self.has_sign => {
                let name = match key {
                    Key::Minus => "MI",
                    Key::Plus => "PL",
                    _ => "SG",
                };
                return Err(syntax(&format!("cannot use \"S\" and \"{name}\" together")));
            }
            Key::Minus => self.has_minus = true,
            Key::Plus => self.has_plus = true,
            Key::Sign => (self.has_minus, self.has_plus) = (true, true),
            Key::Brackets => {
                if self.has_sign || self.has_plus || self.has_minus {
                    return Err(syntax("cannot use \"PR\" and \"S\"/\"PL\"/\"MI\"/\"SG\" together"));
                }
                self.has_brackets = true;
            }
            Key::Roman(_) => self.is_roman = true,
            Key::Shift => {
                if self.has_point {
                    return Err(syntax("cannot use \"V\" and decimal point together"));
                }
                self.is_shifted = true;
            }
            Key::Scientific => {
                if self.is_scientific {
                    return Err(syntax("cannot use \"EEEE\" twice"));
                }
                let others = self.is_blank || self.is_filled || self.has_sign || self.has_brackets || self.has_minus;
                if others || self.has_plus || self.is_roman || self.is_shifted {
                    return Err(syntax("\"EEEE\" is incompatible with other formats"));
                }
                self.is_scientific = true;
            }
            Key::Comma | Key::Group | Key::Currency | Key::Spelled | Key::Ordinal(_) => {}
        }
        Ok(())
    }
}

/// A number to write.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Integer(i32),
    Bigint(i64),
    /// A floating-point number, and the digits that its type is sure of.
    Float(f64, usize),
    /// Digits, and how many of them stand behind the point.
    Numeric(i128, usize),
}

fn out_of_range(name: &str) -> Wrong {
    ("22003", format!("{name} out of range"))
}

/// Returns a number of so many digits behind the point, halves rounded away from zero.
fn rounded(digits: i128, scale: usize, places: usize) -> String {
    let sign = if digits < 0 { "-" } else { "" };
    let mut text = digits.unsigned_abs().to_string();
    if scale > places {
        let cut = 10u128.checked_pow((scale - places) as u32);
        let whole = cut.map_or(0, |cut| {
            let (whole, rest) = (digits.unsigned_abs() / cut, digits.unsigned_abs() % cut);
            whole + u128::from(rest >= cut - rest)
        });
        text = whole.to_string();
    } else {
        text.extend(std::iter::repeat_n('0', places - scale));
    }
    let text = format!("{text:0>width$}", width = places + 1);
    let (whole, fraction) = text.split_at(text.len() - places);
    let sign = if text.bytes().all(|digit| digit == b'0') { "" } else { sign };
    if places == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// Returns digits and exponent of a number, halves rounded away from zero, with a blank for a plus.
fn scientific(digits: i128, scale: usize, places: usize) -> String {
    let sign = if digits < 0 { '-' } else { ' ' };
    let text = digits.unsigned_abs().to_string();
    let exponent = if digits == 0 { 0 } else { text.len() as i64 - 1 - scale as i64 };
    // What is rounded up to 10 stays so, as in Postgres.
    let mantissa = rounded(digits.saturating_abs(), text.len() - 1, places);
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{mantissa}e{exponent_sign}{:02}", exponent.abs())
}

/// Returns a floating-point number as C writes it with `%+.*e`, with a blank for a plus.
fn scientific_float(value: f64, places: usize) -> String {
    let text = format!("{value:.places$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if value.is_sign_negative() { "" } else { " " };
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{mantissa}e{exponent_sign}{:02}", exponent.abs())
}

/// Returns a floating-point number as C writes it with `%.*f`.
fn fixed(value: f64, places: usize) -> String {
    match value {
        value if value.is_nan() => "NaN".into(),
        value if value.is_infinite() => if value > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        value => format!("{value:.places$}"),
    }
}

/// Writes a number in Roman digits.
fn roman(number: i32) -> String {
    const DIGITS: [(i32, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    if !(1..=3999).contains(&number) {
        return "#".repeat(15);
    }
    let (mut rest, mut text) = (number, String::new());
    for (value, digits) in DIGITS {
        while rest >= value {
            text += digits;
            rest -= value;
        }
    }
    text
}

impl Template {
    /// Writes a number.
    ///
    /// # Errors
    /// 22003 if it is too large for Roman digits or to be shifted.
    pub(super) fn written(&self, value: Value) -> Result<String, Wrong> {
        let mut description = self.description.clone();
        if description.is_roman {
            let number = match value {
                Value::Integer(value) => Some(value),
                Value::Bigint(value) => i32::try_from(value).ok(),
                Value::Float(value, _) => {
                    let value = value.round_ties_even();
                    let fits = (-2147483648.0..2147483648.0).contains(&value);
                    Some(if fits { value as i32 } else { 0 })
                }
                Value::Numeric(digits, scale) => rounded(digits, scale, 0).parse().ok(),
            };
            let number = roman(number.ok_or_else(|| out_of_range("integer"))?);
            return self.processed(description, &number, 0, ' ');
        }
        if description.is_scientific {
            let places = description.post;
            return Ok(match value {
                Value::Integer(value) => scientific_float(value.into(), places),
                Value::Bigint(value) => scientific(value.into(), 0, places),
                Value::Numeric(digits, scale) => scientific(digits, scale, places),
                Value::Float(value, _) if !value.is_finite() => {
                    let mut text = " ".to_owned() + &"#".repeat(description.pre + places + 5);
                    text.replace_range(description.pre + 1..description.pre + 2, ".");
                    text
                }
                Value::Float(value, _) => scientific_float(value, places),
            });
        }
        let shift = if description.is_shifted { description.shift } else { 0 };
        description.pre += shift;
        let text = match value {
            Value::Integer(_) | Value::Bigint(_) => {
                let (value, least, most, name) = match value {
                    Value::Integer(value) => (i64::from(value), i64::from(i32::MIN), i64::from(i32::MAX), "integer"),
                    Value::Bigint(value) => (value, i64::MIN, i64::MAX, "bigint"),
                    _ => (0, 0, 0, ""),
                };
                let power = i64::try_from(shift).ok().and_then(|shift| 10i64.checked_pow(shift as u32));
                let shifted = power.and_then(|power| value.checked_mul(power));
                let shifted = shifted.filter(|it| (least..=most).contains(it)).ok_or_else(|| out_of_range(name))?;
                match description.post {
                    0 => shifted.to_string(),
                    places => format!("{shifted}.{}", "0".repeat(places)),
                }
            }
            Value::Float(value, sure) => {
                let value = if shift > 0 { value * 10f64.powi(shift as i32) } else { value };
                let digits = fixed(value.abs(), 0).len();
                if digits >= sure {
                    description.post = 0;
                } else if digits + description.post > sure {
                    description.post = sure - digits;
                }
                fixed(value, description.post)
            }
            Value::Numeric(digits, scale) => match scale.checked_sub(shift) {
                Some(scale) => rounded(digits, scale, description.post),
                None => {
                    let more = "0".repeat(shift - scale);
                    let whole = if digits == 0 { "0".to_owned() } else { format!("{digits}{more}") };
                    match description.post {
                        0 => whole,
                        places => format!("{whole}.{}", "0".repeat(places)),
                    }
                }
            },
        };
        let (sign, text) = match text.strip_prefix('-') {
            Some(text) => ('-', text.to_owned()),
            None => ('+', text),
        };
        let before = text.find('.').unwrap_or(text.len());
        if before > description.pre {
            let mut full = "#".repeat(description.pre + description.post + 1);
            full.replace_range(description.pre..=description.pre, ".");
            return self.processed(description, &full, 0, sign);
        }
        let spaces = description.pre - before;
        self.processed(description, &text, spaces, sign)
    }

    /// Puts the digits of a number in the places of a template.
    fn processed(
        &self,
        mut description: Description,
        number: &str,
        spaces: usize,
        sign: char,
    ) -> Result<String, Wrong> {
        description.zero_start = description.zero_start.saturating_sub(1);
        let mut writer = Writer {
            number: number.as_bytes(),
            at: 0,
            text: String::new(),
            sign,
            sign_written: false,
            has_digits: false,
            current: 0,
            spaces,
            last_relevant: None,
            count: 0,
            description,
        };
        writer.prepare();
        for node in &self.nodes {
            match node {
                Node::Letter(letter) => writer.text.push(*letter),
                Node::Pattern(key) => writer.pattern(*key)?,
            }
        }
        // Roman numbers end where their sign would be, others behind a point without digits.
        if let Some(end) = writer.text.find('\0') {
            writer.text.truncate(end);
        }
        Ok(writer.text)
    }
}

/// The state of what is written.
struct Writer<'a> {
    number: &'a [u8],
    at: usize,
    text: String,
    sign: char,
    sign_written: bool,
    has_digits: bool,
    /// The place of a digit in the template.
    current: usize,
    /// Places before the first digit.
    spaces: usize,
    /// The last digit behind the point that is not a zero, or the point.
    last_relevant: Option<usize>,
    count: i64,
    description: Description,
}

impl Writer<'_> {
    fn prepare(&mut self) {
        let it = &mut self.description;
        if it.is_roman {
            *it = Description { is_roman: true, is_filled: it.is_filled, ..Description::default() };
            self.sign = '\0';
        }
        if it.has_plus || it.has_minus {
            self.sign_written = !it.has_plus || it.has_minus;
        } else {
            if self.sign != '-' && it.is_filled {
                it.has_brackets = false;
            }
            self.sign_written = self.sign == '+' && it.is_filled && !it.has_sign;
            if it.side == Side::Before && it.pre == it.pre_at_sign {
                it.side = Side::Behind;
            }
        }
        self.count = (it.post + it.pre) as i64 - 1;
        if it.is_filled
            && it.has_point
            && let Some(point) = self.number.iter().position(|letter| *letter == b'.')
        {
            let last = (point + 1..self.number.len()).rev().find(|place| self.number[*place] != b'0');
            let mut last = last.unwrap_or(point);
            if it.zero_end > self.spaces {
                last = last.max((self.number.len() - 1).min(it.zero_end - self.spaces));
            }
            self.last_relevant = Some(last);
        }
        if !self.sign_written && self.spaces == 0 {
            self.count += 1;
        }
    }

    fn pattern(&mut self, key: Key) -> Result<(), Wrong> {
        let is_filled = self.description.is_filled;
        match key {
            Key::Nine | Key::Zero | Key::Point | Key::LocalPoint => self.digit(key),
            Key::Comma | Key::Group => match self.has_digits {
                true => self.text.push(','),
                false if is_filled => {}
                false => self.text.push(' '),
            },
            Key::Currency => self.text.push(' '),
            Key::Roman(letters) => {
                let number = String::from_utf8_lossy(self.number).into_owned();
                let number = if letters == Letters::Small { number.to_ascii_lowercase() } else { number };
                self.text += &if is_filled { number } else { format!("{number:>15}") };
            }
            Key::Ordinal(letters) => {
                let is_left_out = self.description.is_roman
                    || self.number.first() == Some(&b'#')
                    || self.sign == '-'
                    || self.description.has_point;
                if !is_left_out {
                    let number = String::from_utf8_lossy(self.number).into_owned();
                    if !number.ends_with(|last: char| last.is_ascii_digit()) {
                        return Err(("22P02", format!("\"{number}\" is not a number")));
                    }
                    self.text += &ordinal(&number, letters);
                }
            }
            Key::Minus | Key::Plus => {
                let own = if key == Key::Minus { '-' } else { '+' };
                if self.sign == own {
                    self.text.push(own);
                } else if !is_filled {
                    self.text.push(' ');
                }
            }
            Key::Sign => self.text.push(self.sign),
            Key::Blank | Key::Scientific | Key::Filled | Key::Brackets | Key::Spelled | Key::LocalSign | Key::Shift => {
            }
        }
        Ok(())
    }

    /// Returns true where a zero before the point is not written.
    fn is_before_point(&self) -> bool {
        let it = &self.description;
        !it.has_zero && self.at == 0 && self.number.first() == Some(&b'0') && it.post != 0
    }

    /// Returns true if the point is the last that is written.
    fn ends_in_point(&self) -> bool {
        self.last_relevant.is_some_and(|last| self.number.get(last) == Some(&b'.'))
    }

    fn digit(&mut self, key: Key) {
        if self.description.is_roman {
            return;
        }
        self.has_digits = false;
        let Description { has_zero, zero_start, is_filled, has_sign, has_brackets, side, has_point, .. } =
            self.description;
        let is_reached = self.current >= self.spaces || has_zero && zero_start == self.current;
        if !self.sign_written && is_reached && (!self.is_before_point() || self.ends_in_point()) {
            if has_sign {
                if side == Side::Before {
                    self.text.push(if self.sign == '-' { '-' } else { '+' });
                    self.sign_written = true;
                }
            } else if has_brackets {
                self.text.push(if self.sign == '+' { ' ' } else { '<' });
                self.sign_written = true;
            } else if self.sign == '+' {
                if !is_filled {
                    self.text.push(' ');
                }
                self.sign_written = true;
            } else if self.sign == '-' {
                self.text.push('-');
                self.sign_written = true;
            }
        }
        if self.current < self.spaces && (zero_start > self.current || !has_zero) {
            if !is_filled {
                self.text.push(' ');
            }
        } else if has_zero && self.current < self.spaces && zero_start <= self.current {
            self.text.push('0');
            self.has_digits = true;
        } else {
            let next = self.number.get(self.at).copied();
            if next == Some(b'.') {
                if !self.ends_in_point() || is_filled {
                    self.text.push('.');
                }
            } else if self.last_relevant.is_some_and(|last| self.at > last) && key != Key::Zero {
                // Zeros at the end are left out.
            } else if self.is_before_point() {
                if !is_filled {
                    self.text.push(' ');
                } else if self.ends_in_point() {
                    self.text.push('0');
                }
            } else {
                // Behind the last digit what is written ends.
                self.text.push(next.map_or('\0', char::from));
                self.has_digits = true;
            }
            if next.is_some() {
                self.at += 1;
            }
        }
        let mut end = self.count + i64::from(self.spaces > 0) + i64::from(has_point);
        if self.last_relevant == Some(self.at) {
            end = self.current as i64;
        }
        if self.current as i64 + 1 == end {
            if self.sign_written && has_brackets {
                self.text.push(if self.sign == '+' { ' ' } else { '>' });
            } else if has_sign && side == Side::Behind {
                self.text.push(if self.sign == '-' { '-' } else { '+' });
            }
        }
        self.current += 1;
    }
}
