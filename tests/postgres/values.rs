//! Seeded values of each type, spelled as literals, as text and in binary.

use bytes::{BufMut, BytesMut};
use postgres_protocol::IsNull;
use postgres_protocol::types as wire;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// A type that both servers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ty {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Bytea,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Uuid,
    /// An array of one of the others.
    Array(&'static Ty),
}

/// The types that are not arrays.
pub const PLAIN: [Ty; 14] = [
    Ty::Bool,
    Ty::Int2,
    Ty::Int4,
    Ty::Int8,
    Ty::Float4,
    Ty::Float8,
    Ty::Numeric,
    Ty::Text,
    Ty::Bytea,
    Ty::Date,
    Ty::Time,
    Ty::Timestamp,
    Ty::Timestamptz,
    Ty::Uuid,
];

impl Ty {
    /// Returns the name in a cast.
    pub fn name(self) -> String {
        match self {
            Ty::Bool => "boolean".into(),
            Ty::Int2 => "smallint".into(),
            Ty::Int4 => "int".into(),
            Ty::Int8 => "bigint".into(),
            Ty::Float4 => "real".into(),
            Ty::Float8 => "double precision".into(),
            Ty::Numeric => "numeric".into(),
            Ty::Text => "text".into(),
            Ty::Bytea => "bytea".into(),
            Ty::Date => "date".into(),
            Ty::Time => "time".into(),
            Ty::Timestamp => "timestamp".into(),
            Ty::Timestamptz => "timestamptz".into(),
            Ty::Uuid => "uuid".into(),
            Ty::Array(item) => format!("{}[]", item.name()),
        }
    }

    /// Returns the oid in Postgres' pg_type.
    pub fn oid(self) -> u32 {
        match self {
            Ty::Bool => 16,
            Ty::Int2 => 21,
            Ty::Int4 => 23,
            Ty::Int8 => 20,
            Ty::Float4 => 700,
            Ty::Float8 => 701,
            Ty::Numeric => 1700,
            Ty::Text => 25,
            Ty::Bytea => 17,
            Ty::Date => 1082,
            Ty::Time => 1083,
            Ty::Timestamp => 1114,
            Ty::Timestamptz => 1184,
            Ty::Uuid => 2950,
            Ty::Array(item) => match item {
                Ty::Bool => 1000,
                Ty::Int2 => 1005,
                Ty::Int4 => 1007,
                Ty::Int8 => 1016,
                Ty::Float4 => 1021,
                Ty::Float8 => 1022,
                Ty::Numeric => 1231,
                Ty::Text => 1009,
                Ty::Bytea => 1001,
                Ty::Date => 1182,
                Ty::Time => 1183,
                Ty::Timestamp => 1115,
                Ty::Timestamptz => 1185,
                Ty::Uuid => 2951,
                Ty::Array(_) => unreachable!("no arrays of arrays"),
            },
        }
    }

    /// Returns the array of this type.
    pub fn array(self) -> Ty {
        let place = PLAIN.iter().position(|plain| *plain == self).unwrap_or_default();
        Ty::Array(&PLAIN[place])
    }
}

/// Returns true if this is the number of a type of arrays.
pub fn is_array(oid: u32) -> bool {
    PLAIN.iter().any(|plain| plain.array().oid() == oid)
}

/// A value without its type.
#[derive(Debug, Clone, PartialEq)]
pub enum Datum {
    Null,
    Bool(bool),
    Int(i64),
    Float4(f32),
    Float8(f64),
    /// A number as Postgres prints it.
    Numeric(String),
    Text(String),
    Bytea(Vec<u8>),
    /// Days since 2000-01-01; the least and the greatest stand for -infinity and infinity.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 2000-01-01, as days.
    Timestamp(i64),
    Uuid([u8; 16]),
    Array(Vec<Datum>),
}

/// A value with its type.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    pub ty: Ty,
    pub datum: Datum,
}

const TEXTS: [&str; 74] = [
    "'",
    "''",
    "\\",
    "\\\\",
    "\\'",
    "\"",
    "\"\"",
    "{",
    "}",
    "{}",
    ",",
    "$1",
    "$2",
    "$$",
    "$q$",
    "--",
    "/*",
    "*/",
    "NULL",
    "null",
    "pg_x",
    "pg_catalog.pg_class",
    "information_schema",
    "\\x",
    "\\x00ff",
    "\\n",
    "%",
    "_",
    "\n",
    "\t",
    "\r",
    "\r\n",
    "\u{1}",
    "\u{8}",
    "\u{b}",
    "\u{1f}",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{200b}",
    "\u{2028}",
    "\u{feff}",
    "é",
    "e\u{301}",
    "\u{301}",
    "\u{d7ff}",
    "\u{e000}",
    "\u{ffff}",
    "\u{10ffff}",
    "😀",
    "👩\u{200d}👧",
    "ß",
    "中",
    "Ä",
    "ä",
    "a",
    "a",
    "b",
    "B",
    "z",
    " ",
    "  ",
    ";",
    ":x",
    ":=",
    "?",
    "@>",
    "0",
    "1",
    "-1",
    "1e5",
    "true",
    "t",
    "[1:2]={1,2}",
];

const NUMERICS: [&str; 30] = [
    "0",
    "1",
    "-1",
    "2.5",
    "0.5",
    "1.5",
    "-0.5",
    "2.7",
    "0.1",
    "0.00",
    "1.10",
    "99.995",
    "0.005",
    "-2.675",
    "0.001",
    "0.000001",
    "1000000",
    "32767.5",
    "-32768.5",
    "2147483647.4",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808.5",
    "12345678901234567890.123456789",
    "0.12345678901234567890123456789",
    "99999999999999999999999999999999999999",
    "100000000000000000000000000000000000000",
    "NaN",
    "Infinity",
];

/// Returns a value of a type; about one in ten is NULL.
pub fn value(rng: &mut StdRng, ty: Ty) -> Value {
    Value { ty, datum: if rng.random_ratio(1, 10) { Datum::Null } else { datum(rng, ty) } }
}

/// Returns a value of a type that is not NULL itself; elements of arrays may be.
pub fn datum(rng: &mut StdRng, ty: Ty) -> Datum {
    let small = rng.random_bool(0.6);
    match ty {
        Ty::Bool => Datum::Bool(rng.random()),
        Ty::Int2 | Ty::Int4 | Ty::Int8 if small => Datum::Int(rng.random_range(-3..12)),
        Ty::Int2 => Datum::Int(*pick(rng, &[i16::MIN.into(), i16::MAX.into(), -32767, 256, 1000])),
        Ty::Int4 => Datum::Int(*pick(rng, &[i32::MIN.into(), i32::MAX.into(), -2147483647, 65536, 32768, 100_000])),
        Ty::Int8 => {
            Datum::Int(*pick(rng, &[i64::MIN, i64::MAX, i64::MIN + 1, 1 << 53, (1 << 53) + 1, 2147483648, -2147483649]))
        }
        Ty::Float4 if small => Datum::Float4(*pick(rng, &[0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 0.1, 2.7, 100.0])),
        Ty::Float4 => Datum::Float4(*pick(
            rng,
            &[
                f32::MAX,
                f32::MIN,
                f32::MIN_POSITIVE,
                1e-45,
                -0.0,
                f32::NAN,
                f32::INFINITY,
                f32::NEG_INFINITY,
                16_777_217.0,
                1e15,
                123_456_790.0,
                1e-5,
                3.4e10,
                32767.5,
                2147483600.0,
            ],
        )),
        Ty::Float8 if small => Datum::Float8(*pick(rng, &[0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 0.1, 2.7, 100.0])),
        Ty::Float8 => Datum::Float8(*pick(
            rng,
            &[
                f64::MAX,
                f64::MIN,
                f64::MIN_POSITIVE,
                5e-324,
                -0.0,
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                9_007_199_254_740_993.0,
                1e15,
                1e16,
                1e-5,
                1e-4,
                1.0 / 3.0,
                9.223372036854775e18,
                9.223372036854776e18,
                2147483647.5,
                -32768.5,
            ],
        )),
        Ty::Numeric => Datum::Numeric((*pick(rng, &NUMERICS)).into()),
        Ty::Text => {
            let parts = rng.random_range(0..=4);
            Datum::Text((0..parts).map(|_| *pick(rng, &TEXTS)).collect())
        }
        Ty::Bytea => {
            let length = rng.random_range(0..6);
            Datum::Bytea((0..length).map(|_| *pick(rng, &[0, 1, 39, 92, 120, 127, 128, 255, 97])).collect())
        }
        Ty::Date if small => Datum::Date(rng.random_range(-400..9000)),
        // 0001-01-01, 9999-12-31, 1970-01-01 and its eve, 2000-02-29, 1900-02-28, 4713-01-01 BC, infinities.
        Ty::Date => Datum::Date(*pick(
            rng,
            &[-730_119, 2_921_939, -10_957, -10_958, 59, -36_466, -2_451_507, i32::MAX, i32::MIN, 36_584],
        )),
        Ty::Time => Datum::Time(if small {
            rng.random_range(0..86_400) * 1_000_000
        } else {
            *pick(rng, &[0, 86_399_999_999, 1, 43_200_000_000, 86_400_000_000, 3_600_100_000])
        }),
        Ty::Timestamp | Ty::Timestamptz => Datum::Timestamp(if small {
            rng.random_range(-10_000_000..800_000_000) * 1_000_000
        } else {
            *pick(
                rng,
                &[
                    -730_119 * DAY,
                    2_921_940 * DAY - 1,
                    -10_957 * DAY,
                    -10_957 * DAY - 1,
                    -10_957 * DAY + 500_000,
                    1,
                    i64::MAX,
                    i64::MIN,
                    59 * DAY + 120,
                    -36_466 * DAY,
                    // Beyond the nanoseconds that an i64 holds.
                    119_000 * DAY,
                    -130_000 * DAY,
                ],
            )
        }),
        Ty::Uuid => Datum::Uuid(*pick(
            rng,
            &[[0; 16], [255; 16], *b"0123456789abcdef", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]],
        )),
        Ty::Array(item) => {
            let length = *pick(rng, &[0, 1, 1, 2, 3, 4]);
            Datum::Array((0..length).map(|_| value(rng, *item).datum).collect())
        }
    }
}

const DAY: i64 = 86_400_000_000;

/// Returns one of several.
pub fn pick<'a, T>(rng: &mut StdRng, from: &'a [T]) -> &'a T {
    from.choose(rng).expect("there is something to choose from")
}

impl Value {
    /// Returns Postgres' text format; None is NULL.
    pub fn text(&self) -> Option<String> {
        text(&self.datum)
    }

    /// Returns Postgres' binary format; None is NULL.
    pub fn binary(&self) -> Option<Vec<u8>> {
        let mut out = BytesMut::new();
        binary(self.ty, &self.datum, &mut out).then(|| out.to_vec())
    }

    /// Returns SQL that is this value with this type. `style` chooses among spellings.
    pub fn literal(&self, style: u8) -> String {
        let name = self.ty.name();
        let Some(text) = self.text() else {
            return if style.is_multiple_of(2) { format!("NULL::{name}") } else { format!("CAST(NULL AS {name})") };
        };
        match (&self.datum, style % 6) {
            (Datum::Text(text), 0) => quote(text),
            (Datum::Text(text), 1) => escape(text),
            (Datum::Text(text), 2) if !text.contains('$') => format!("$q${text}$q$"),
            (Datum::Bool(truth), 0..=2) => truth.to_string(),
            // -32768::smallint is minus 32768::smallint. Without a cast they have another type, see `allowed`.
            (Datum::Int(number), 0..=2) if *number >= 0 => format!("{number}::{name}"),
            (Datum::Int(number), 3) if *number > i64::MIN => format!("({number})::{name}"),
            (Datum::Array(items), 0..=2) if !items.is_empty() => {
                let Ty::Array(item) = self.ty else { unreachable!("an array has an array's type") };
                let items = items.iter().map(|datum| Value { ty: *item, datum: datum.clone() }.literal(style));
                format!("ARRAY[{}]", items.collect::<Vec<_>>().join(","))
            }
            (_, 4) => format!("CAST({} AS {name})", quote(&text)),
            (_, 5) if !matches!(self.ty, Ty::Array(_)) => format!("{name} {}", quote(&text)),
            _ => format!("{}::{name}", quote(&text)),
        }
    }
}

/// Quotes a text as a plain literal.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn escape(text: &str) -> String {
    let mut out = String::from("E'");
    for letter in text.chars() {
        match letter {
            '\'' => out.push_str("\\'"),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\u{1}' => out.push_str("\\x01"),
            '\u{8}' => out.push_str("\\b"),
            'é' => out.push_str("\\u00e9"),
            '😀' => out.push_str("\\U0001F600"),
            other => out.push(other),
        }
    }
    out.push('\'');
    out
}

fn text(datum: &Datum) -> Option<String> {
    Some(match datum {
        Datum::Null => return None,
        Datum::Bool(truth) => (if *truth { "t" } else { "f" }).into(),
        Datum::Int(number) => number.to_string(),
        Datum::Float4(number) if number.is_infinite() => infinity(*number > 0.0),
        Datum::Float8(number) if number.is_infinite() => infinity(*number > 0.0),
        Datum::Float4(number) => format!("{number:?}"),
        Datum::Float8(number) => format!("{number:?}"),
        Datum::Numeric(number) => number.clone(),
        Datum::Text(text) => text.clone(),
        Datum::Bytea(bytes) => bytes.iter().fold("\\x".into(), |hex, byte| format!("{hex}{byte:02x}")),
        Datum::Date(i32::MAX) | Datum::Timestamp(i64::MAX) => infinity(true).to_lowercase(),
        Datum::Date(i32::MIN) | Datum::Timestamp(i64::MIN) => infinity(false).to_lowercase(),
        Datum::Date(days) => {
            let (date, era) = date(i64::from(*days));
            format!("{date}{era}")
        }
        Datum::Time(micros) => time(*micros),
        Datum::Timestamp(micros) => {
            let (date, era) = date(micros.div_euclid(DAY));
            format!("{date} {}{era}", time(micros.rem_euclid(DAY)))
        }
        Datum::Uuid(bytes) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
        }
        Datum::Array(items) => {
            let items = items.iter().map(|item| match text(item) {
                None => "NULL".into(),
                Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            });
            format!("{{{}}}", items.collect::<Vec<_>>().join(","))
        }
    })
}

fn infinity(positive: bool) -> String {
    (if positive { "Infinity" } else { "-Infinity" }).into()
}

/// Returns a day of the proleptic Gregorian calendar, and " BC" where it belongs.
fn date(days_since_2000: i64) -> (String, &'static str) {
    // Howard Hinnant's civil_from_days; its days count from 0000-03-01.
    let days = days_since_2000 + 10_957 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (year, suffix) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    (format!("{year:04}-{month:02}-{day:02}"), suffix)
}

fn time(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let whole = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction == 0 { whole } else { format!("{whole}.{fraction:06}") }
}

/// Writes a value; returns false for NULL.
fn binary(ty: Ty, datum: &Datum, out: &mut BytesMut) -> bool {
    match datum {
        Datum::Null => return false,
        Datum::Bool(truth) => wire::bool_to_sql(*truth, out),
        Datum::Int(number) => match ty {
            Ty::Int2 => out.put_i16(i16::try_from(*number).expect("generated within its type")),
            Ty::Int4 => out.put_i32(i32::try_from(*number).expect("generated within its type")),
            _ => out.put_i64(*number),
        },
        Datum::Float4(number) => wire::float4_to_sql(*number, out),
        Datum::Float8(number) => wire::float8_to_sql(*number, out),
        Datum::Numeric(number) => numeric(number, out),
        Datum::Text(text) => wire::text_to_sql(text, out),
        Datum::Bytea(bytes) => wire::bytea_to_sql(bytes, out),
        Datum::Date(days) => wire::date_to_sql(*days, out),
        Datum::Time(micros) => wire::time_to_sql(*micros, out),
        Datum::Timestamp(micros) => wire::timestamp_to_sql(*micros, out),
        Datum::Uuid(bytes) => wire::uuid_to_sql(*bytes, out),
        Datum::Array(items) => {
            let Ty::Array(item) = ty else { unreachable!("an array has an array's type") };
            let length = i32::try_from(items.len()).expect("arrays are short");
            let dimension = wire::ArrayDimension { len: length, lower_bound: 1 };
            let element = |datum: &Datum, out: &mut BytesMut| {
                Ok(if binary(*item, datum, out) { IsNull::No } else { IsNull::Yes })
            };
            wire::array_to_sql((length > 0).then_some(dimension), item.oid(), items, element, out)
                .expect("arrays are short");
        }
    }
    true
}

/// Writes digits to the base of 10,000, as Postgres sends them.
fn numeric(number: &str, out: &mut BytesMut) {
    let special = match number {
        "NaN" => Some(0xC000),
        "Infinity" => Some(0xD000),
        _ => None,
    };
    if let Some(sign) = special {
        for word in [0, 0, sign, if sign == 0xC000 { 0 } else { 32 }] {
            out.put_u16(word);
        }
        return;
    }
    let (sign, digits) = number.strip_prefix('-').map_or((0, number), |rest| (0x4000, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let padded_whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
    let padded = format!("{padded_whole}{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
    let mut weight = padded_whole.len() / 4;
    let mut groups: Vec<i16> =
        (0..padded.len()).step_by(4).map(|at| padded[at..at + 4].parse().expect("digits")).collect();
    let leading = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..leading);
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let empty = groups.is_empty();
    weight = weight.wrapping_sub(leading);
    let weight = if empty { 0 } else { i16::try_from(weight.cast_signed() - 1).expect("numbers are short") };
    out.put_i16(i16::try_from(groups.len()).expect("numbers are short"));
    out.put_i16(weight);
    out.put_u16(if empty { 0 } else { sign });
    out.put_i16(i16::try_from(fraction.len()).expect("numbers are short"));
    for group in groups {
        out.put_i16(group);
    }
}
