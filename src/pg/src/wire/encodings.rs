//! Encodings of clients: texts come and go in the one that `client_encoding` names, and are UTF-8 here.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::results::{FieldFormat, FieldInfo};
use datafusion_postgres::pgwire::messages::data::DataRow;
use datafusion_postgres::pgwire::messages::extendedquery::Bind;
use encoding_rs as rs;
use postgres_types::Kind as TypeKind;

use crate::catalog::own_types;
use crate::sql::parameters::Parameter;
use crate::wire::error_response::SqlError;
use crate::wire::framing::HEADER;

/// How texts are converted.
enum Kind {
    /// UTF-8, and SQL_ASCII, which passes bytes as they are.
    Plain,
    /// An encoding of more than one byte a letter, of which only ASCII is converted.
    Ascii,
    Latin1,
    /// An encoding of one byte a letter.
    Table(&'static rs::Encoding),
}

struct Definition {
    name: &'static str,
    /// Other names, in lower case and without what is neither a letter nor a digit.
    aliases: &'static [&'static str],
    kind: Kind,
    letters: OnceLock<Letters>,
}

/// Letters of the bytes from 0x80 on, and the bytes of letters.
struct Letters {
    read: [Option<char>; 128],
    written: HashMap<char, u8>,
}

const fn define(name: &'static str, aliases: &'static [&'static str], kind: Kind) -> Definition {
    Definition { name, aliases, kind, letters: OnceLock::new() }
}

static DEFINITIONS: [Definition; 41] = [
    define("UTF8", &["unicode"], Kind::Plain),
    define("SQL_ASCII", &[], Kind::Plain),
    define("LATIN1", &["iso88591"], Kind::Latin1),
    define("LATIN2", &["iso88592"], Kind::Table(rs::ISO_8859_2)),
    define("LATIN3", &["iso88593"], Kind::Table(rs::ISO_8859_3)),
    define("LATIN4", &["iso88594"], Kind::Table(rs::ISO_8859_4)),
    define("LATIN5", &["iso88599"], Kind::Table(rs::WINDOWS_1254)),
    define("LATIN6", &["iso885910"], Kind::Table(rs::ISO_8859_10)),
    define("LATIN7", &["iso885913"], Kind::Table(rs::ISO_8859_13)),
    define("LATIN8", &["iso885914"], Kind::Table(rs::ISO_8859_14)),
    define("LATIN9", &["iso885915"], Kind::Table(rs::ISO_8859_15)),
    define("LATIN10", &["iso885916"], Kind::Table(rs::ISO_8859_16)),
    define("ISO_8859_5", &[], Kind::Table(rs::ISO_8859_5)),
    define("ISO_8859_6", &[], Kind::Table(rs::ISO_8859_6)),
    define("ISO_8859_7", &[], Kind::Table(rs::ISO_8859_7)),
    define("ISO_8859_8", &[], Kind::Table(rs::ISO_8859_8)),
    define("KOI8R", &["koi8"], Kind::Table(rs::KOI8_R)),
    define("KOI8U", &[], Kind::Table(rs::KOI8_U)),
    define("WIN866", &["alt", "windows866"], Kind::Table(rs::IBM866)),
    define("WIN874", &["windows874"], Kind::Table(rs::WINDOWS_874)),
    define("WIN1250", &["windows1250"], Kind::Table(rs::WINDOWS_1250)),
    define("WIN1251", &["win", "windows1251"], Kind::Table(rs::WINDOWS_1251)),
    define("WIN1252", &["windows1252"], Kind::Table(rs::WINDOWS_1252)),
    define("WIN1253", &["windows1253"], Kind::Table(rs::WINDOWS_1253)),
    define("WIN1254", &["windows1254"], Kind::Table(rs::WINDOWS_1254)),
    define("WIN1255", &["windows1255"], Kind::Table(rs::WINDOWS_1255)),
    define("WIN1256", &["windows1256"], Kind::Table(rs::WINDOWS_1256)),
    define("WIN1257", &["windows1257"], Kind::Table(rs::WINDOWS_1257)),
    define("WIN1258", &["abc", "tcvn", "tcvn5712", "vscii", "windows1258"], Kind::Table(rs::WINDOWS_1258)),
    define("EUC_JP", &[], Kind::Ascii),
    define("EUC_CN", &[], Kind::Ascii),
    define("EUC_KR", &[], Kind::Ascii),
    define("EUC_TW", &[], Kind::Ascii),
    define("EUC_JIS_2004", &[], Kind::Ascii),
    define("SJIS", &["mskanji", "shiftjis", "win932", "windows932"], Kind::Ascii),
    define("BIG5", &["win950", "windows950"], Kind::Ascii),
    define("GBK", &["win936", "windows936"], Kind::Ascii),
    define("UHC", &["win949", "windows949"], Kind::Ascii),
    define("GB18030", &[], Kind::Ascii),
    define("JOHAB", &[], Kind::Ascii),
    define("SHIFT_JIS_2004", &["shiftjis2004"], Kind::Ascii),
];

/// An encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Encoding(usize);

/// The encoding of a connection, which its session sets.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedEncoding(Arc<AtomicUsize>);

impl SharedEncoding {
    pub(crate) fn get(&self) -> Encoding {
        Encoding(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn set(&self, encoding: Encoding) {
        self.0.store(encoding.0, Ordering::Relaxed);
    }
}

impl Encoding {
    /// Returns an encoding by one of its names.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let plain = |name: &str| -> String {
            name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
        };
        let wanted = plain(name);
        let is_it = |known: &Definition| plain(known.name) == wanted || known.aliases.contains(&wanted.as_str());
        DEFINITIONS.iter().position(is_it).map(Self)
    }

    fn definition(self) -> &'static Definition {
        DEFINITIONS.get(self.0).unwrap_or(&DEFINITIONS[0])
    }

    /// Returns the name that PostgreSQL shows.
    pub(crate) fn name(self) -> &'static str {
        self.definition().name
    }

    /// Returns true if texts are other bytes in this encoding than in UTF-8.
    pub(crate) fn converts(self) -> bool {
        !matches!(self.definition().kind, Kind::Plain)
    }

    /// Returns the text that bytes are.
    ///
    /// # Errors
    /// 22P05 for a byte that is no letter, 0A000 for a letter that is not converted.
    pub(crate) fn to_utf8(self, bytes: &[u8]) -> Result<Cow<'_, [u8]>, SqlError> {
        if !self.converts() || bytes.is_ascii() {
            return Ok(Cow::Borrowed(bytes));
        }
        let letters = self.letters()?;
        let mut text = String::with_capacity(bytes.len() + bytes.len() / 2);
        for byte in bytes {
            text.push(match byte {
                0..0x80 => char::from(*byte),
                high => letters.read[usize::from(high & 0x7f)]
                    .ok_or_else(|| untranslatable(&[*high], self.name(), "UTF8"))?,
            });
        }
        Ok(Cow::Owned(text.into_bytes()))
    }

    /// Returns the bytes of a text; what is no text stays as it is.
    ///
    /// # Errors
    /// 22P05 for a letter that the encoding does not have, 0A000 for one that is not converted.
    pub(crate) fn of_utf8(self, text: &[u8]) -> Result<Cow<'_, [u8]>, SqlError> {
        self.write(text, |letter| Err(untranslatable(letter.encode_utf8(&mut [0; 4]).as_bytes(), "UTF8", self.name())))
    }

    /// Returns the bytes of a text, with `?` in the place of letters that the encoding does not have.
    pub(crate) fn of_message(self, text: &[u8]) -> Cow<'_, [u8]> {
        match self.write(text, |_| Ok(b'?')) {
            Ok(bytes) => bytes,
            Err(_) => text.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }).collect(),
        }
    }

    fn write(self, text: &[u8], missing: impl Fn(char) -> Result<u8, SqlError>) -> Result<Cow<'_, [u8]>, SqlError> {
        if !self.converts() || text.is_ascii() {
            return Ok(Cow::Borrowed(text));
        }
        let Ok(letters) = std::str::from_utf8(text) else { return Ok(Cow::Borrowed(text)) };
        let written = &self.letters()?.written;
        let byte = |letter: char| match u8::try_from(letter).ok().filter(u8::is_ascii) {
            Some(ascii) => Ok(ascii),
            None => written.get(&letter).copied().map_or_else(|| missing(letter), Ok),
        };
        Ok(Cow::Owned(letters.chars().map(byte).collect::<Result<_, _>>()?))
    }

    fn letters(self) -> Result<&'static Letters, SqlError> {
        let definition = self.definition();
        if matches!(definition.kind, Kind::Plain | Kind::Ascii) {
            let message = format!("conversion between {} and UTF8 is supported for ASCII only", definition.name);
            return Err(SqlError::not_supported(message));
        }
        Ok(definition.letters.get_or_init(|| {
            let letter = |byte: u8| match (&definition.kind, definition.name, byte) {
                (Kind::Table(_), "LATIN5", 0x80..0xa0) | (Kind::Latin1, ..) => Some(char::from(byte)),
                (Kind::Table(_), "KOI8U", 0xae) => Some('╝'),
                (Kind::Table(_), "KOI8U", 0xbe) => Some('╬'),
                (Kind::Table(_), "WIN1255", 0xca) => None,
                (Kind::Table(table), name, byte) => {
                    let bytes = [byte];
                    let text = table.decode_without_bom_handling_and_without_replacement(&bytes)?;
                    // encoding_rs reads what is no letter there as a control character.
                    let is_control = text.starts_with(char::from(byte)) && byte < 0xa0;
                    let is_none = is_control && name.starts_with("WIN") && name != "WIN866";
                    text.chars().next().filter(|_| !is_none)
                }
                _ => None,
            };
            let mut read = [None; 128];
            let mut written = HashMap::new();
            for (byte, place) in (0x80..=0xff).zip(&mut read) {
                *place = letter(byte);
                written.extend(place.map(|letter| (letter, byte)));
            }
            Letters { read, written }
        }))
    }

    /// Converts the texts of a client's message to UTF-8, but for the values of parameters and of a COPY. An error leaves them with `?`
    /// in the place of letters.
    pub(crate) fn read_message(self, packet: &mut BytesMut) -> Result<(), SqlError> {
        if !self.converts() || packet.is_ascii() {
            return Ok(());
        }
        let Some(kind) = packet.first().copied() else { return Ok(()) };
        let body = packet.get(HEADER..).unwrap_or_default();
        // Texts that end with a zero byte, and bytes before them.
        let (before, texts) = match kind {
            b'Q' | b'f' | b'E' => (0, 1),
            b'P' | b'B' => (0, 2),
            b'D' | b'C' => (1, 1),
            _ => return Ok(()),
        };
        let mut error = None;
        let (first, mut rest) = body.split_at_checked(before).unwrap_or((body, &[]));
        let mut converted = first.to_vec();
        for _ in 0..texts {
            let Some(end) = rest.iter().position(|byte| *byte == 0) else { break };
            let (text, after) = rest.split_at(end + 1);
            match self.to_utf8(text) {
                Ok(text) => converted.extend_from_slice(&text),
                Err(found) => {
                    error = error.or(Some(found));
                    converted.extend(text.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }));
                }
            }
            rest = after;
        }
        converted.extend_from_slice(rest);
        let length = i32::try_from(converted.len() + 4).unwrap_or(i32::MAX);
        packet.clear();
        packet.put_u8(kind);
        packet.put_i32(length);
        packet.extend_from_slice(&converted);
        error.map_or(Ok(()), Err)
    }

    /// Converts the values of parameters to UTF-8 where they are texts.
    pub(crate) fn read_parameters(self, message: &mut Bind, parameters: &[Parameter]) -> Result<(), SqlError> {
        if !self.converts() {
            return Ok(());
        }
        let codes = message.parameter_format_codes.clone();
        for (index, (value, parameter)) in message.parameters.iter_mut().zip(parameters).enumerate() {
            let code = if codes.len() == 1 { codes.first() } else { codes.get(index) };
            let Some(bytes) = value.as_deref() else { continue };
            let converted = match code {
                Some(1) => self.binary(&parameter.wire, bytes, |bytes| self.to_utf8(bytes))?,
                _ => self.to_utf8(bytes)?,
            };
            let owned = match converted {
                Cow::Owned(converted) => Some(Bytes::from(converted)),
                Cow::Borrowed(_) => None,
            };
            *value = owned.or_else(|| value.take());
        }
        Ok(())
    }

    /// Converts the values of a row from UTF-8 where they are texts.
    pub(crate) fn write_row(self, row: DataRow, fields: &[FieldInfo]) -> Result<DataRow, SqlError> {
        if !self.converts() || row.data.is_ascii() {
            return Ok(row);
        }
        let mut data = BytesMut::with_capacity(row.data.len());
        let mut rest = &row.data[..];
        for field in fields {
            let Some((length, after)) = rest.split_first_chunk::<4>() else { break };
            // NULL has a length of -1.
            let Ok(size) = usize::try_from(i32::from_be_bytes(*length)) else {
                data.extend_from_slice(length);
                rest = after;
                continue;
            };
            let (value, after) = after.split_at(size.min(after.len()));
            let value = match field.format() {
                FieldFormat::Text => self.of_utf8(value)?,
                FieldFormat::Binary => self.binary(field.datatype(), value, |text| self.of_utf8(text))?,
            };
            data.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
            data.extend_from_slice(&value);
            rest = after;
        }
        Ok(DataRow::new(data, row.field_count))
    }

    /// Converts a value in the binary form of its type, if it is a text or an array of texts.
    pub(crate) fn binary<'a>(
        self,
        kind: &Type,
        value: &'a [u8],
        convert: impl for<'b> Fn(&'b [u8]) -> Result<Cow<'b, [u8]>, SqlError>,
    ) -> Result<Cow<'a, [u8]>, SqlError> {
        match kind.kind() {
            _ if is_text(kind) => convert(value),
            TypeKind::Array(item) if is_text(item) => match array(value, convert) {
                Some(array) => Ok(Cow::Owned(array?)),
                // What is no array is refused by its reader.
                None => Ok(Cow::Borrowed(value)),
            },
            _ if *kind == Type::RECORD
                || own_types::is_own(kind)
                || matches!(kind.kind(), TypeKind::Array(item) if *item == Type::RECORD) =>
            {
                let message = format!("records in the binary format are not supported in {}", self.name());
                Err(SqlError::not_supported(message))
            }
            _ => Ok(Cow::Borrowed(value)),
        }
    }

    /// Converts a message of the server from UTF-8, if it holds texts that are no values. It begins at `start` of the output.
    ///
    /// # Errors
    /// 22P05 for a name of a column with a letter that the encoding does not have; elsewhere there is `?` in its place.
    pub(crate) fn write_message(self, output: &mut BytesMut, start: usize) -> Result<(), SqlError> {
        let Some(message) = output.get(start..).filter(|_| self.converts()) else { return Ok(()) };
        let Some((kind, body)) = message.first().copied().zip(message.get(HEADER..)) else { return Ok(()) };
        let mut rest = Fields(body);
        let mut converted = Vec::with_capacity(body.len());
        match kind {
            b'T' => {
                let count = rest.take(2);
                converted.extend_from_slice(count);
                for _ in 0..count.first_chunk().map_or(0, |count| u16::from_be_bytes(*count)) {
                    converted.extend_from_slice(&self.of_utf8(rest.text())?);
                    converted.extend_from_slice(rest.take(18));
                }
            }
            b'E' | b'N' => loop {
                let code = rest.take(1);
                converted.extend_from_slice(code);
                if matches!(code, [] | [0]) {
                    break;
                }
                converted.extend_from_slice(&self.of_message(rest.text()));
            },
            b'S' | b'A' => {
                converted.extend_from_slice(rest.take(if kind == b'A' { 4 } else { 0 }));
                while !rest.0.is_empty() {
                    converted.extend_from_slice(&self.of_message(rest.text()));
                }
            }
            _ => return Ok(()),
        }
        output.truncate(start);
        output.put_u8(kind);
        output.put_i32(i32::try_from(converted.len() + 4).unwrap_or(i32::MAX));
        output.extend_from_slice(&converted);
        Ok(())
    }
}

/// The rest of a message's body.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Takes a text with the zero byte at its end.
    fn text(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == 0);
        self.take(end.map_or(self.0.len(), |end| end + 1))
    }
}

/// Converts the elements of an array in the binary form; `None` if it is none.
fn array(
    value: &[u8],
    convert: impl for<'b> Fn(&'b [u8]) -> Result<Cow<'b, [u8]>, SqlError>,
) -> Option<Result<Vec<u8>, SqlError>> {
    let dimensions = usize::try_from(i32::from_be_bytes(*value.first_chunk()?)).ok()?;
    // Dimensions, a flag, the type of the elements; a length and a bound of each dimension.
    let (header, mut rest) = value.split_at_checked(dimensions.checked_mul(8)?.checked_add(12)?)?;
    let mut converted = header.to_vec();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        let Ok(size) = usize::try_from(i32::from_be_bytes(*length)) else {
            converted.extend_from_slice(length);
            continue;
        };
        let (item, after) = rest.split_at_checked(size)?;
        rest = after;
        let item = match convert(item) {
            Ok(item) => item,
            Err(error) => return Some(Err(error)),
        };
        converted.extend(i32::try_from(item.len()).ok()?.to_be_bytes());
        converted.extend_from_slice(&item);
    }
    Some(Ok(converted))
}

/// Returns true for a type whose binary form is its text.
fn is_text(kind: &Type) -> bool {
    matches!(
        *kind,
        Type::TEXT
            | Type::VARCHAR
            | Type::BPCHAR
            | Type::NAME
            | Type::CHAR
            | Type::JSON
            | Type::JSONB
            | Type::XML
            | Type::UNKNOWN
    ) || own_types::is_enum(kind)
}

fn untranslatable(bytes: &[u8], from: &str, to: &str) -> SqlError {
    let bytes: Vec<_> = bytes.iter().map(|byte| format!("0x{byte:02x}")).collect();
    let message = format!(
        "character with byte sequence {} in encoding \"{from}\" has no equivalent in encoding \"{to}\"",
        bytes.join(" ")
    );
    SqlError::error("22P05", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> String {
        match Encoding::named(name).unwrap().to_utf8(bytes) {
            Ok(text) => String::from_utf8(text.into_owned()).unwrap(),
            Err(error) => error.sqlstate.into(),
        }
    }

    fn written(name: &str, text: &str) -> Vec<u8> {
        match Encoding::named(name).unwrap().of_utf8(text.as_bytes()) {
            Ok(bytes) => bytes.into_owned(),
            Err(error) => error.sqlstate.as_bytes().to_vec(),
        }
    }

    #[test]
    fn names_are_those_of_postgres() {
        for (name, shown) in [
            ("latin1", Some("LATIN1")),
            ("ISO 8859-1", Some("LATIN1")),
            ("iso-8859-15", Some("LATIN9")),
            ("WIN-1252", Some("WIN1252")),
            ("windows1252", Some("WIN1252")),
            ("alt", Some("WIN866")),
            ("utf-8", Some("UTF8")),
            ("Unicode", Some("UTF8")),
            ("sql_ascii", Some("SQL_ASCII")),
            ("euc-jp", Some("EUC_JP")),
            ("cp1252", None),
            ("wat", None),
            ("", None),
        ] {
            assert_eq!(Encoding::named(name).map(Encoding::name), shown, "{name}");
        }
        assert_eq!(Encoding::default().name(), "UTF8");
    }

    /// Checks outcomes of `convert_from` and `convert_to` of PostgreSQL 15.
    #[test]
    fn letters_are_those_of_postgres() {
        for (name, bytes, text) in [
            ("latin1", &b"a\xe9\x80"[..], "aé\u{80}"),
            ("latin5", b"\x80\xd0", "\u{80}Ğ"),
            ("latin9", b"\xa4", "€"),
            ("win1252", b"\x80", "€"),
            ("win1252", b"\x81", "22P05"),
            ("win1255", b"\xca", "22P05"),
            ("win1256", b"\x81", "پ"),
            ("koi8u", b"\xae\xbe", "╝╬"),
            ("win866", b"\x80", "А"),
            ("iso_8859_7", b"\xae", "22P05"),
            ("sql_ascii", "é".as_bytes(), "é"),
            ("utf8", "é".as_bytes(), "é"),
            ("euc_jp", b"a", "a"),
            ("euc_jp", b"\xa4\xa2", "0A000"),
        ] {
            assert_eq!(read(name, bytes), text, "{name}");
            if text.len() < 5 || !text.is_ascii() {
                assert_eq!(written(name, text), bytes, "{name}");
            }
        }
        assert_eq!(written("latin1", "€"), b"22P05");
        assert_eq!(written("win1252", "\u{81}"), b"22P05");
        let error = Encoding::named("latin1").unwrap().of_utf8("a€".as_bytes()).unwrap_err();
        assert!(error.message.starts_with("character with byte sequence 0xe2 0x82 0xac in encoding \"UTF8\" has no"));
    }

    #[test]
    fn messages_are_converted() {
        let latin = Encoding::named("latin1").unwrap();
        let mut packet = BytesMut::from(&b"P\0\0\0\x0f\xe9\0select\0\0\0"[..]);
        latin.read_message(&mut packet).unwrap();
        assert_eq!(&packet[..], "P\0\0\0\x10é\0select\0\0\0".as_bytes());
        let mut output = BytesMut::from("xE\0\0\0\x0bMé€\0\0".as_bytes());
        latin.write_message(&mut output, 1).unwrap();
        assert_eq!(&output[..], b"xE\0\0\0\x09M\xe9?\0\0");
        let mut output = BytesMut::from("T\0\0\0\x1b\0\x01é\0".as_bytes());
        output.extend_from_slice(&[0xff; 18]);
        latin.write_message(&mut output, 0).unwrap();
        assert_eq!(&output[..10], b"T\0\0\0\x1a\0\x01\xe9\0\xff");
        let texts = [&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1][..], b"\xe9"].concat();
        let array = latin.binary(&Type::TEXT_ARRAY, &texts, |bytes| latin.to_utf8(bytes)).unwrap();
        assert_eq!(&array[20..], [&[0, 0, 0, 2][..], "é".as_bytes()].concat());
        assert!(matches!(latin.binary(&Type::INT4, &[0xff; 4], |it| latin.to_utf8(it)), Ok(Cow::Borrowed(_))));
    }
}
