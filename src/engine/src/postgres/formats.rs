//! `format`, and the names and literals that its `%I` and `%L` write.

/// An SQLSTATE and a message.
pub(super) type Wrong = (&'static str, String);

/// A piece of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Text(&'a str),
    /// So many blanks.
    Blanks(usize),
}

/// PostgreSQL's keywords that are no names unless they are quoted.
const KEYWORDS: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];

/// Writes a name as it stands in a statement.
pub(super) fn quoted_name(name: &str) -> String {
    let is_start = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    let is_plain = name.starts_with(is_start) && name.chars().all(|letter| is_start(letter) || letter.is_ascii_digit());
    if is_plain && KEYWORDS.binary_search(&name).is_err() {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Writes a text as it stands in a statement.
pub(super) fn quoted_text(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// A template that is read.
struct Reader<'a> {
    template: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<char> {
        self.template[self.at..].chars().next()
    }

    /// Goes on to the next letter, of which there must be one.
    fn advance(&mut self) -> Result<(), Wrong> {
        self.at += self.peek().map_or(0, char::len_utf8);
        if self.at < self.template.len() {
            return Ok(());
        }
        Err(("22023", "unterminated format() type specifier".into()))
    }

    /// Reads a number, if there is one.
    fn number(&mut self) -> Result<Option<i32>, Wrong> {
        let mut found = None;
        while let Some(digit) = self.peek().and_then(|letter| letter.to_digit(10)) {
            let number = found.unwrap_or(0i32).checked_mul(10).and_then(|number| number.checked_add(digit as i32));
            found = Some(number.ok_or_else(out_of_range)?);
            self.advance()?;
        }
        Ok(found)
    }

    fn specifier(&mut self) -> Result<Specifier, Wrong> {
        let mut found = Specifier::default();
        if let Some(number) = self.number()? {
            if self.peek() != Some('$') {
                found.width = number;
                return Ok(found);
            }
            found.argument = Some(position(number)?);
            self.advance()?;
        }
        while self.peek() == Some('-') {
            found.is_left = true;
            self.advance()?;
        }
        if self.peek() != Some('*') {
            found.width = self.number()?.unwrap_or(0);
            return Ok(found);
        }
        self.advance()?;
        found.has_width_argument = true;
        if let Some(number) = self.number()? {
            if self.peek() != Some('$') {
                return Err(("22023", "width argument position must be ended by \"$\"".into()));
            }
            found.width_argument = Some(position(number)?);
            self.advance()?;
        }
        Ok(found)
    }
}

/// The part between `%` and the letter of the type.
#[derive(Debug, Default)]
struct Specifier {
    /// The place of the value, from 1; `None` for the next one.
    argument: Option<usize>,
    is_left: bool,
    width: i32,
    has_width_argument: bool,
    width_argument: Option<usize>,
}

fn out_of_range() -> Wrong {
    ("22003", "number is out of range".into())
}

fn position(number: i32) -> Result<usize, Wrong> {
    match usize::try_from(number) {
        Ok(place @ 1..) => Ok(place),
        _ => Err(("22023", "format specifies argument 0, but arguments are numbered from 1".into())),
    }
}

/// Reads the text of an integer that is the width of a value.
fn width(text: &str) -> Result<i32, Wrong> {
    let trimmed = text.trim_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(("22P02", format!("invalid input syntax for type integer: \"{text}\"")));
    }
    trimmed.parse().map_err(|_| ("22003", format!("value \"{text}\" is out of range for type integer")))
}

/// Writes a template with its arguments.
///
/// # Errors
/// 22023 if the template is wrong or arguments are missing, 22004 if a name is NULL.
pub(super) fn format(template: &str, arguments: &[Option<&str>], mut emit: impl FnMut(Piece<'_>)) -> Result<(), Wrong> {
    let mut reader = Reader { template, at: 0 };
    // The argument that is next, from 1.
    let mut next = 1;
    let value = |place: usize| {
        let too_few = || ("22023", "too few arguments for format()".to_owned());
        arguments.get(place - 1).copied().ok_or_else(too_few)
    };
    while reader.at < template.len() {
        let rest = &template[reader.at..];
        let plain = rest.find('%').unwrap_or(rest.len());
        if plain > 0 {
            emit(Piece::Text(&rest[..plain]));
            reader.at += plain;
            continue;
        }
        reader.advance()?;
        if reader.peek() == Some('%') {
            emit(Piece::Text("%"));
            reader.at += 1;
            continue;
        }
        let specifier = reader.specifier()?;
        let kind = match reader.peek() {
            Some(kind @ ('s' | 'I' | 'L')) => kind,
            other => {
                let other = other.map(String::from).unwrap_or_default();
                return Err(("22023", format!("unrecognized format() type specifier \"{other}\"")));
            }
        };
        reader.at += 1;
        let mut wanted = specifier.width;
        if specifier.has_width_argument {
            next = specifier.width_argument.unwrap_or(next);
            wanted = value(next)?.map_or(Ok(0), width)?;
            next += 1;
        }
        next = specifier.argument.unwrap_or(next);
        let found = value(next)?;
        next += 1;
        let made;
        let text = match (kind, found) {
            ('s', found) => found.unwrap_or_default(),
            ('I', Some(name)) => {
                made = quoted_name(name);
                &made
            }
            ('I', None) => return Err(("22004", "null values cannot be formatted as an SQL identifier".into())),
            (_, Some(text)) => {
                made = quoted_text(text);
                &made
            }
            (_, None) => "NULL",
        };
        let is_left = specifier.is_left || wanted < 0;
        let wanted = wanted.checked_abs().ok_or_else(out_of_range)?;
        let blanks = usize::try_from(wanted).unwrap_or(0);
        let blanks = if blanks == 0 { 0 } else { blanks.saturating_sub(text.chars().count()) };
        if is_left {
            emit(Piece::Text(text));
        }
        if blanks > 0 {
            emit(Piece::Blanks(blanks));
        }
        if !is_left {
            emit(Piece::Text(text));
        }
    }
    Ok(())
}

/// Returns the number of bytes that a template becomes; 0 if it is wrong.
pub(super) fn length(template: &str, arguments: &[Option<&str>]) -> u64 {
    let mut bytes = 0u64;
    let done = format(template, arguments, |piece| {
        bytes = bytes.saturating_add(match piece {
            Piece::Text(text) => text.len() as u64,
            Piece::Blanks(count) => count as u64,
        });
    });
    if done.is_ok() { bytes } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(template: &str, arguments: &[Option<&str>]) -> Result<String, &'static str> {
        let mut found = String::new();
        let done = format(template, arguments, |piece| match piece {
            Piece::Text(text) => found.push_str(text),
            Piece::Blanks(count) => found.extend(std::iter::repeat_n(' ', count)),
        });
        done.map_err(|(code, _)| code)?;
        assert_eq!(length(template, arguments), found.len() as u64);
        Ok(found)
    }

    /// Compares with values as PostgreSQL 15 shows them.
    #[test]
    fn templates_are_filled() {
        for (template, arguments, expected) in [
            ("%s %I %L %%", &[Some("a"), Some("B c"), Some("d'e")][..], "a \"B c\" 'd''e' %"),
            ("%2$s %1$s %s", &[Some("1"), Some("2")], "2 1 2"),
            ("%10s|%-10s|%1$-5s|", &[Some("ab"), Some("cd")], "        ab|cd        |ab   |"),
            ("%*s|", &[Some("-5"), Some("ab")], "ab   |"),
            ("%*s|", &[None, Some("ab")], "ab|"),
            ("%L %s|%5s|%5L", &[None, None, None, None], "NULL |     | NULL"),
            ("%-s|%--5s|", &[Some("a"), Some("a")], "a|a    |"),
            (
                "%I %I %I %I",
                &[Some("select"), Some("abc"), Some("Abc"), Some("a\"b")],
                "\"select\" abc \"Abc\" \"a\"\"b\"",
            ),
            ("%L", &[Some("a\\b'c")], "E'a\\\\b''c'"),
            ("%5s|%1s", &[Some("é"), Some("abc")], "    é|abc"),
            ("", &[], ""),
        ] {
            assert_eq!(of(template, arguments).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn templates_are_checked() {
        let one = [Some("1"), Some("ab")];
        for (template, code) in [
            ("%", "22023"),
            ("%y", "22023"),
            ("%s%s%s", "22023"),
            ("%0$s", "22023"),
            ("%1$", "22023"),
            ("%1$*0$s", "22023"),
            ("%99999999999s", "22003"),
            ("%+5s", "22023"),
            ("%5%", "22023"),
            ("%*1s", "22023"),
            ("%2$*2$s", "22P02"),
        ] {
            assert_eq!(of(template, &one), Err(code), "{template}");
        }
        assert_eq!(of("%I", &[None]), Err("22004"));
        assert_eq!(of("%*s", &[Some("-2147483648"), Some("a")]), Err("22003"));
    }

    #[test]
    fn names_and_literals_are_quoted() {
        let names = ["abs", "between", "é", "", "a1", "1a", "_a"].map(quoted_name);
        assert_eq!(names, ["abs", "\"between\"", "\"é\"", "\"\"", "a1", "\"1a\"", "_a"]);
        assert!(KEYWORDS.is_sorted());
    }
}
