//! Tables for a terminal, as psql draws them: rows below each other, or each as a record.

use std::io::{Result, Write};

use neuroql_pg::{Column, Kind, Row};
use unicode_width::UnicodeWidthChar;

use crate::shell::layout::Layout;

/// Greatest number of rows and of bytes that are read before widths are settled; later values may be wider.
const ROWS: usize = 10_000;
const BYTES: usize = 16 << 20;

/// The lines of a value, each with its width.
type Cell = Vec<(String, usize)>;

/// Rows below each other.
pub(crate) struct Aligned {
    title: Option<String>,
    names: Vec<Cell>,
    rights: Vec<bool>,
    null: String,
    waiting: Vec<Row>,
    bytes: usize,
    /// Widths of columns, once they are settled.
    widths: Option<Vec<usize>>,
    rows: usize,
}

/// Each row as a record, one column a line.
pub(crate) struct Expanded {
    title: Option<String>,
    names: Vec<Cell>,
    null: String,
    waiting: Vec<Row>,
    bytes: usize,
    /// Width of values, once it is settled.
    width: Option<usize>,
    rows: usize,
}

impl Aligned {
    pub(crate) fn new(columns: &[Column], null: &str, title: Option<&str>) -> Self {
        Self {
            title: title.map(str::to_owned),
            names: columns.iter().map(|column| cell(&column.name)).collect(),
            rights: columns.iter().map(|column| column.kind == Kind::Number).collect(),
            null: null.into(),
            waiting: Vec::new(),
            bytes: 0,
            widths: None,
            rows: 0,
        }
    }

    /// Settles the widths of columns and writes the header.
    fn begin(&mut self, out: &mut dyn Write) -> Result<Vec<usize>> {
        let mut widths: Vec<_> = self.names.iter().map(width).collect();
        for row in &self.waiting {
            for (width_so_far, value) in widths.iter_mut().zip(row.values()) {
                *width_so_far = (*width_so_far).max(width(&cell(value.unwrap_or(&self.null))));
            }
        }
        if let Some(title) = &self.title {
            let table = widths.iter().map(|width| width + 2).sum::<usize>() + widths.len().saturating_sub(1);
            let left = table.saturating_sub(width(&cell(title))) / 2;
            writeln!(out, "{:left$}{title}", "")?;
        }
        let lines = self.names.iter().map(Vec::len).max().unwrap_or_default();
        for line in 0..lines {
            for (index, (name, width)) in self.names.iter().zip(&widths).enumerate() {
                let (text, own) = name.get(line).map_or(("", 0), |(text, own)| (text, *own));
                let room = width - own;
                let more = if line + 1 < name.len() { '+' } else { ' ' };
                let bar = if index > 0 { "|" } else { "" };
                write!(out, "{bar} {:2$}{text}{:3$}{more}", "", "", room / 2, room.div_ceil(2))?;
            }
            writeln!(out)?;
        }
        let rules: Vec<_> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
        writeln!(out, "{}", if rules.is_empty() { "--".into() } else { rules.join("+") })?;
        self.widths = Some(widths.clone());
        Ok(widths)
    }

    fn write_row(&self, row: &Row, widths: &[usize], out: &mut dyn Write) -> Result<()> {
        let cells: Vec<_> = row.values().map(|value| cell(value.unwrap_or(&self.null))).collect();
        let lines = cells.iter().map(Vec::len).max().unwrap_or_default();
        for line in 0..lines {
            for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
                let is_last = index + 1 == cells.len();
                out.write_all(if index > 0 { b"| " } else { b" " })?;
                let Some((text, own)) = cell.get(line) else {
                    if !is_last {
                        write!(out, "{:1$}", "", width + 1)?;
                    }
                    continue;
                };
                let room = width.saturating_sub(*own);
                let goes_on = line + 1 < cell.len();
                if self.rights[index] {
                    write!(out, "{:room$}{text}", "")?;
                } else if goes_on || !is_last {
                    write!(out, "{text}{:room$}", "")?;
                } else {
                    out.write_all(text.as_bytes())?;
                }
                match (goes_on, is_last) {
                    (true, _) => out.write_all(b"+")?,
                    (false, false) => out.write_all(b" ")?,
                    (false, true) => {}
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }

    fn write_waiting(&mut self, out: &mut dyn Write) -> Result<()> {
        let widths = self.begin(out)?;
        for row in std::mem::take(&mut self.waiting) {
            self.write_row(&row, &widths, out)?;
        }
        Ok(())
    }
}

impl Layout for Aligned {
    fn row(&mut self, row: Row, out: &mut dyn Write) -> Result<()> {
        self.rows += 1;
        if let Some(widths) = &self.widths {
            return self.write_row(&row, widths, out);
        }
        self.bytes += row.size();
        self.waiting.push(row);
        if self.waiting.len() < ROWS && self.bytes < BYTES { Ok(()) } else { self.write_waiting(out) }
    }

    fn end(mut self: Box<Self>, out: &mut dyn Write) -> Result<()> {
        if self.widths.is_none() {
            self.write_waiting(out)?;
        }
        writeln!(out, "({} row{})\n", self.rows, if self.rows == 1 { "" } else { "s" })
    }
}

impl Expanded {
    pub(crate) fn new(columns: &[Column], null: &str, title: Option<&str>) -> Self {
        Self {
            title: title.map(str::to_owned),
            names: columns.iter().map(|column| cell(&column.name)).collect(),
            null: null.into(),
            waiting: Vec::new(),
            bytes: 0,
            width: None,
            rows: 0,
        }
    }

    fn write_waiting(&mut self, out: &mut dyn Write) -> Result<usize> {
        let mut widest = 0;
        for value in self.waiting.iter().flat_map(Row::values) {
            let value = cell(value.unwrap_or(&self.null));
            widest = widest.max(width(&value));
        }
        self.width = Some(widest);
        if let Some(title) = &self.title {
            writeln!(out, "{title}")?;
        }
        for (index, row) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            self.write_row(&row, index + 1, widest, out)?;
        }
        Ok(widest)
    }

    fn write_row(&self, row: &Row, number: usize, values: usize, out: &mut dyn Write) -> Result<()> {
        let names = self.names.iter().map(width).max().unwrap_or_default();
        // The rule above a record has a cross where the bar between names and values is, unless its text is there.
        let label = format!("-[ RECORD {number} ]");
        let mut rule = vec![b'-'; (names + 3 + values).max(label.len())];
        rule[names + 1] = b'+';
        rule[..label.len()].copy_from_slice(label.as_bytes());
        out.write_all(&rule)?;
        writeln!(out)?;
        for (name, value) in self.names.iter().zip(row.values()) {
            let value = cell(value.unwrap_or(&self.null));
            for line in 0..name.len().max(value.len()) {
                let (text, own) = name.get(line).map_or(("", 0), |(text, own)| (text, *own));
                let more = if line + 1 < name.len() { '+' } else { ' ' };
                write!(out, "{text}{:1$}{more}|", "", names - own)?;
                let Some((text, own)) = value.get(line) else {
                    writeln!(out)?;
                    continue;
                };
                match line + 1 < value.len() {
                    true => writeln!(out, " {text}{:1$}+", "", values.saturating_sub(*own))?,
                    false => writeln!(out, " {text}")?,
                }
            }
        }
        Ok(())
    }
}

impl Layout for Expanded {
    fn row(&mut self, row: Row, out: &mut dyn Write) -> Result<()> {
        self.rows += 1;
        if let Some(width) = self.width {
            return self.write_row(&row, self.rows, width, out);
        }
        self.bytes += row.size();
        self.waiting.push(row);
        if self.waiting.len() >= ROWS || self.bytes >= BYTES {
            self.write_waiting(out)?;
        }
        Ok(())
    }

    fn end(mut self: Box<Self>, out: &mut dyn Write) -> Result<()> {
        if self.width.is_none() {
            self.write_waiting(out)?;
        }
        if self.rows == 0 {
            writeln!(out, "(0 rows)")?;
        }
        writeln!(out)
    }
}

/// Returns the lines of a value: tabs are spaces, and other characters that would move the cursor are spelled.
fn cell(value: &str) -> Cell {
    let mut lines = Vec::new();
    let (mut text, mut width) = (String::new(), 0);
    for letter in value.chars() {
        match (letter, letter.width()) {
            ('\n', _) => lines.push((std::mem::take(&mut text), std::mem::take(&mut width))),
            ('\t', _) => {
                let spaces = 8 - width % 8;
                text.extend(std::iter::repeat_n(' ', spaces));
                width += spaces;
            }
            (letter, Some(own)) => {
                text.push(letter);
                width += own;
            }
            (letter, None) => {
                let spelled = match letter {
                    '\r' => "\\r".into(),
                    letter if letter.is_ascii() => format!("\\x{:02X}", u32::from(letter)),
                    letter => format!("\\u{:04X}", u32::from(letter)),
                };
                width += spelled.len();
                text.push_str(&spelled);
            }
        }
    }
    lines.push((text, width));
    lines
}

fn width(cell: &Cell) -> usize {
    cell.iter().map(|(_, width)| *width).max().unwrap_or_default()
}
