//! Forms in which rows are written.

use std::io::{Result, Write};

use clap::ValueEnum;
use neuroql_pg::{Column, Kind, Row};
use serde_json::{Number, Value};

use crate::shell::table::{Aligned, Expanded};

/// Forms of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Columns below their names, as psql has them
    Table,
    /// Comma-separated values with a header
    Csv,
    /// Values between tabs with a header; tabs, line breaks and backslashes in them are \t, \n and \\
    Tsv,
    /// An array of objects
    Json,
    /// One JSON object a line
    Jsonl,
    /// A table for Markdown
    Markdown,
    /// One value a line
    Line,
}

/// Writes the rows of one statement. Rows are written as they come, except that a table needs some to find its widths.
pub(crate) trait Layout {
    /// Writes a row, or keeps it for a while.
    fn row(&mut self, row: Row, out: &mut dyn Write) -> Result<()>;
    /// Writes what remains, after the last row. It is not called after an error.
    fn end(self: Box<Self>, out: &mut dyn Write) -> Result<()>;
}

/// Output mode of rows.
#[derive(Debug, Clone)]
pub(crate) struct Style {
    pub(crate) mode: Mode,
    /// True to show each row of a table as a record.
    pub(crate) expanded: bool,
    /// Text of NULL, other than in JSON.
    pub(crate) null: String,
}

impl Style {
    /// Begins the rows of a statement. Only tables have titles.
    pub(crate) fn layout(
        &self,
        columns: Vec<Column>,
        title: Option<&str>,
        out: &mut dyn Write,
    ) -> Result<Box<dyn Layout>> {
        let null = self.null.clone();
        Ok(match self.mode {
            Mode::Table if self.expanded => Box::new(Expanded::new(&columns, &null, title)),
            Mode::Table => Box::new(Aligned::new(&columns, &null, title)),
            Mode::Csv => {
                let names: Vec<_> = columns.iter().map(|column| quoted(&column.name)).collect();
                writeln!(out, "{}", names.join(","))?;
                Box::new(Separated { separator: ",", spell: quoted, end: "\n", begin: "", null })
            }
            Mode::Tsv => {
                let names: Vec<_> = columns.iter().map(|column| escaped(&column.name)).collect();
                writeln!(out, "{}", names.join("\t"))?;
                Box::new(Separated { separator: "\t", spell: escaped, end: "\n", begin: "", null })
            }
            Mode::Markdown => {
                let names: Vec<_> = columns.iter().map(|column| in_markdown(&column.name)).collect();
                let rules = columns.iter().map(|column| if column.kind == Kind::Number { "--:" } else { "---" });
                writeln!(out, "| {} |", names.join(" | "))?;
                writeln!(out, "|{}|", rules.collect::<Vec<_>>().join("|"))?;
                Box::new(Separated { separator: " | ", spell: in_markdown, end: " |\n", begin: "| ", null })
            }
            Mode::Json => Box::new(Json { columns: keys(columns), lines: false, rows: 0 }),
            Mode::Jsonl => Box::new(Json { columns: keys(columns), lines: true, rows: 0 }),
            Mode::Line => Box::new(Lines { names: columns.into_iter().map(|column| column.name).collect(), null }),
        })
    }
}

/// A row a line, with something between the values.
struct Separated {
    begin: &'static str,
    separator: &'static str,
    end: &'static str,
    spell: fn(&str) -> String,
    null: String,
}

impl Layout for Separated {
    fn row(&mut self, row: Row, out: &mut dyn Write) -> Result<()> {
        out.write_all(self.begin.as_bytes())?;
        for (index, value) in row.values().enumerate() {
            if index > 0 {
                out.write_all(self.separator.as_bytes())?;
            }
            match value {
                Some(value) => out.write_all((self.spell)(value).as_bytes())?,
                None => out.write_all(self.null.as_bytes())?,
            }
        }
        out.write_all(self.end.as_bytes())
    }

    fn end(self: Box<Self>, _: &mut dyn Write) -> Result<()> {
        Ok(())
    }
}

/// Returns a CSV value, in quotes where it needs them, as psql writes it.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) || text == "\\." {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into()
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

fn in_markdown(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace("\r\n", "<br>").replace(['\n', '\r'], "<br>")
}

/// Names and values, a column a line and an empty line after each row.
struct Lines {
    names: Vec<String>,
    null: String,
}

impl Layout for Lines {
    fn row(&mut self, row: Row, out: &mut dyn Write) -> Result<()> {
        let width = self.names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
        for (name, value) in self.names.iter().zip(row.values()) {
            writeln!(out, "{name:>width$} = {}", value.unwrap_or(&self.null))?;
        }
        writeln!(out)
    }

    fn end(self: Box<Self>, _: &mut dyn Write) -> Result<()> {
        Ok(())
    }
}

/// Objects, of which the names of columns are the keys.
struct Json {
    /// Keys as they are written, and kinds of values.
    columns: Vec<(String, Kind)>,
    /// True if each object is on a line of its own, without an array around them.
    lines: bool,
    rows: usize,
}

fn keys(columns: Vec<Column>) -> Vec<(String, Kind)> {
    columns.into_iter().map(|column| (Value::String(column.name).to_string(), column.kind)).collect()
}

impl Layout for Json {
    fn row(&mut self, row: Row, out: &mut dyn Write) -> Result<()> {
        out.write_all(match (self.lines, self.rows) {
            (true, _) => b"{",
            (false, 0) => b"[{",
            (false, _) => b",\n {",
        })?;
        self.rows += 1;
        for (index, ((name, kind), value)) in self.columns.iter().zip(row.values()).enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(out, "{comma}{name}:{}", value.map_or_else(|| "null".into(), |value| json(value, kind)))?;
        }
        out.write_all(if self.lines { b"}\n" } else { b"}" })
    }

    fn end(self: Box<Self>, out: &mut dyn Write) -> Result<()> {
        match (self.lines, self.rows) {
            (true, _) => Ok(()),
            (false, 0) => writeln!(out, "[]"),
            (false, _) => writeln!(out, "]"),
        }
    }
}

/// Returns a value in JSON. NaN and infinite numbers are strings, as JSON has no such numbers.
fn json(value: &str, kind: &Kind) -> String {
    let string = || Value::from(value).to_string();
    match kind {
        Kind::Boolean if value == "t" => "true".into(),
        Kind::Boolean if value == "f" => "false".into(),
        // It is written as it came: a number in JSON may have any number of digits.
        Kind::Number if serde_json::from_str::<Number>(value).is_ok() => value.into(),
        Kind::Json => value.replace(['\n', '\r'], " "),
        Kind::Array(element) => array(value, element).unwrap_or_else(string),
        _ => string(),
    }
}

/// Returns an array of Postgres in JSON; `None` if it has bounds of its own.
fn array(text: &str, element: &Kind) -> Option<String> {
    let mut json_text = String::new();
    let mut letters = text.chars().peekable();
    let mut depth = 0_usize;
    while let Some(letter) = letters.next() {
        match letter {
            '{' => {
                depth += 1;
                json_text.push('[');
            }
            '}' => {
                depth = depth.checked_sub(1)?;
                json_text.push(']');
            }
            ',' => json_text.push(','),
            '"' => {
                let mut value = String::new();
                loop {
                    match letters.next()? {
                        '"' => break,
                        '\\' => value.push(letters.next()?),
                        letter => value.push(letter),
                    }
                }
                json_text.push_str(&json(&value, element));
            }
            letter if depth > 0 => {
                let mut value = String::from(letter);
                while let Some(letter) = letters.next_if(|letter| !matches!(letter, ',' | '{' | '}')) {
                    value.push(letter);
                }
                json_text.push_str(&if value == "NULL" { "null".into() } else { json(&value, element) });
            }
            _ => return None,
        }
    }
    (depth == 0 && json_text.starts_with('[')).then_some(json_text)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes rows in a mode.
    pub(crate) fn written(style: &Style, columns: &[(&str, Kind)], rows: &[&[Option<&str>]]) -> String {
        let columns: Vec<_> =
            columns.iter().map(|(name, kind)| Column { name: (*name).into(), kind: kind.clone() }).collect();
        let mut out = Vec::new();
        let mut layout = style.layout(columns, None, &mut out).unwrap();
        for row in rows {
            layout.row(Row::new(row), &mut out).unwrap();
        }
        layout.end(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn sample(mode: Mode) -> String {
        let style = Style { mode, expanded: false, null: String::new() };
        let columns = [("n", Kind::Number), ("t", Kind::Text)];
        written(&style, &columns, &[&[Some("1"), Some("a|b,\t\"c\"\nd\\")], &[None, Some("ü")]])
    }

    #[test]
    fn modes() {
        assert_eq!(sample(Mode::Csv), "n,t\n1,\"a|b,\t\"\"c\"\"\nd\\\"\n,ü\n");
        assert_eq!(sample(Mode::Tsv), "n\tt\n1\ta|b,\\t\"c\"\\nd\\\\\n\tü\n");
        assert_eq!(sample(Mode::Jsonl), "{\"n\":1,\"t\":\"a|b,\\t\\\"c\\\"\\nd\\\\\"}\n{\"n\":null,\"t\":\"ü\"}\n");
        assert_eq!(sample(Mode::Json), "[{\"n\":1,\"t\":\"a|b,\\t\\\"c\\\"\\nd\\\\\"},\n {\"n\":null,\"t\":\"ü\"}]\n");
        assert_eq!(sample(Mode::Markdown), "| n | t |\n|--:|---|\n| 1 | a\\|b,\t\"c\"<br>d\\\\ |\n|  | ü |\n");
        assert_eq!(sample(Mode::Line), "n = 1\nt = a|b,\t\"c\"\nd\\\n\nn = \nt = ü\n\n");
    }

    #[test]
    fn nothing_in_json() {
        let style = |mode| Style { mode, expanded: false, null: "∅".into() };
        assert_eq!(written(&style(Mode::Json), &[("a", Kind::Text)], &[]), "[]\n");
        assert_eq!(written(&style(Mode::Jsonl), &[("a", Kind::Text)], &[]), "");
        assert_eq!(written(&style(Mode::Csv), &[("a", Kind::Text)], &[&[None]]), "a\n∅\n");
    }

    #[test]
    fn values_in_json() {
        for (value, kind, expected) in [
            ("t", Kind::Boolean, "true"),
            ("1e-05", Kind::Number, "1e-05"),
            ("123456789012345678901234567890.5", Kind::Number, "123456789012345678901234567890.5"),
            ("NaN", Kind::Number, "\"NaN\""),
            ("-Infinity", Kind::Number, "\"-Infinity\""),
            ("{\"a\": 1}", Kind::Json, "{\"a\": 1}"),
            ("1", Kind::Text, "\"1\""),
            ("{1,NULL,-2.5}", Kind::Array(Box::new(Kind::Number)), "[1,null,-2.5]"),
            ("{{1,2},{3,4}}", Kind::Array(Box::new(Kind::Number)), "[[1,2],[3,4]]"),
            ("{}", Kind::Array(Box::new(Kind::Text)), "[]"),
            (r#"{a,"b, \"c\" \\","NULL",""}"#, Kind::Array(Box::new(Kind::Text)), r#"["a","b, \"c\" \\","NULL",""]"#),
            ("[0:1]={1,2}", Kind::Array(Box::new(Kind::Number)), "\"[0:1]={1,2}\""),
        ] {
            assert_eq!(json(value, &kind), expected);
        }
    }
}
