//! Errors and notices as psql shows them.

use std::fmt::Write;

use neuroql_pg::Report;
use unicode_width::UnicodeWidthChar;

/// Columns of a line of SQL that are shown.
const SHOWN: usize = 60;
/// Columns that are kept to the right of the marked one, where the line is cut.
const RIGHT: usize = 10;

/// Returns the message of a report on `sql`, with line breaks: the place it tells of is marked.
pub(crate) fn report_text(report: &Report, sql: &str) -> String {
    let mut text = format!("{}:  {}\n", report.severity, report.message);
    if let Some(position) = report.position {
        text.push_str(&marked(sql, position).unwrap_or_default());
    }
    for (title, part) in [("DETAIL", &report.detail), ("HINT", &report.hint)] {
        if let Some(part) = part {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{title}:  {part}");
        }
    }
    if let Some(context) = report.context.as_ref().filter(|_| matches!(&report.severity[..], "ERROR" | "FATAL")) {
        let _ = writeln!(text, "CONTEXT:  {context}");
    }
    text
}

/// Returns the line that holds a character of the text, counted from 1, and a caret below that character. `None` if
/// there is no such character.
fn marked(sql: &str, position: usize) -> Option<String> {
    let letters: Vec<char> = sql.chars().collect();
    let at = position.checked_sub(1).filter(|at| *at <= letters.len())?;
    let is_break = |letter: &char| matches!(letter, '\r' | '\n');
    let breaks = |(index, letter): (usize, &char)| {
        *letter == '\r' || *letter == '\n' && index.checked_sub(1).is_none_or(|before| letters[before] != '\r')
    };
    let line = 1 + letters[..at].iter().enumerate().filter(|place| breaks(*place)).count();
    let mut start = letters[..at].iter().rposition(is_break).map_or(0, |index| index + 1);
    let mut end = letters[at..].iter().position(is_break).map_or(letters.len(), |index| at + index);

    let width = |from: usize, to: usize| letters[from..to].iter().map(|letter| columns(*letter)).sum::<usize>();
    let whole = (start, end);
    if width(start, end) > SHOWN {
        if width(start, at) + RIGHT > SHOWN {
            while width(at, end) > RIGHT {
                end -= 1;
            }
            while width(start, end) > SHOWN {
                start += 1;
            }
        } else {
            while width(start, end) > SHOWN {
                end -= 1;
            }
        }
    }
    let prefix = format!("LINE {line}: {}", if start > whole.0 { "..." } else { "" });
    let suffix = if end < whole.1 { "..." } else { "" };
    let shown: String = letters[start..end].iter().map(|letter| if *letter == '\t' { ' ' } else { *letter }).collect();
    Some(format!("{prefix}{shown}{suffix}\n{:1$}^\n", "", prefix.len() + width(start, at)))
}

/// Number of columns that a character takes; at least one, so that there is something to point at.
fn columns(letter: char) -> usize {
    letter.width().unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_marked() {
        assert_eq!(marked("select x", 8).unwrap(), "LINE 1: select x\n               ^\n");
        assert_eq!(marked("select\r\n\n\tx y", 11).unwrap(), "LINE 3:  x y\n         ^\n");
        assert_eq!(marked("select '漢字', x", 14).unwrap(), format!("LINE 1: select '漢字', x\n{:23}^\n", ""));
        assert_eq!(marked("select", 7).unwrap(), "LINE 1: select\n              ^\n");
        assert_eq!(marked("select", 8), None);
        assert_eq!(marked("select", 0), None);
    }

    #[test]
    fn long_lines_are_cut() {
        let long = format!("select {} x {}", "a".repeat(80), "b".repeat(80));
        let shown = marked(&long, 89).unwrap();
        let (line, caret) = shown.split_once('\n').unwrap();
        assert_eq!(line, format!("LINE 1: ...{} x {}...", "a".repeat(49), "b".repeat(8)));
        assert_eq!(line.find('x').unwrap(), caret.find('^').unwrap());
        let early = marked(&long, 1).unwrap();
        assert!(early.starts_with(&format!("LINE 1: select {}...\n        ^\n", "a".repeat(53))), "{early}");
    }

    #[test]
    fn parts_of_reports() {
        let report = Report {
            severity: "ERROR".into(),
            message: "no".into(),
            detail: Some("d".into()),
            hint: Some("h".into()),
            context: Some("c".into()),
            ..Report::default()
        };
        assert_eq!(report_text(&report, ""), "ERROR:  no\nDETAIL:  d\nHINT:  h\nCONTEXT:  c\n");
    }
}
