//! Readable labels of tokens: characters without a glyph, or that cannot be seen, are escaped.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::{DisplayKind, DisplayNode, Skip, Weight};

/// Part of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LabelPiece {
    pub text: String,
    /// True if it stands for characters that cannot be seen.
    pub faint: bool,
}

impl LabelPiece {
    pub fn faint(text: impl Into<String>) -> Self {
        Self { text: text.into(), faint: true }
    }

    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), faint: false }
    }
}

/// Width of a label in cells of a terminal, or of a font of fixed width.
pub(super) fn width(pieces: &[LabelPiece]) -> usize {
    pieces.iter().map(|piece| piece.text.width()).sum()
}

/// Label of a token: spaces at its ends are `␣`, or `␣×8` for many, and characters that cannot be seen are escaped.
pub(super) fn token(text: &str) -> Vec<LabelPiece> {
    if text.is_empty() {
        return vec![LabelPiece::faint("empty")];
    }
    let after = text.trim_start_matches(' ');
    let inner = after.trim_end_matches(' ');
    let mut pieces = spaces(text.len() - after.len());
    for (at, c) in inner.char_indices() {
        let piece = match escape(c, is_at_end(inner, at, c)) {
            Some(escaped) => LabelPiece::faint(escaped),
            // On its own it would be put on top of the character before the label.
            None if at == 0 && c.width() == Some(0) => LabelPiece::plain(format!("◌{c}")),
            None => LabelPiece::plain(c),
        };
        match pieces.last_mut() {
            Some(last) if last.faint == piece.faint => last.text.push_str(&piece.text),
            _ => pieces.push(piece),
        }
    }
    pieces.append(&mut spaces(after.len() - inner.len()));
    pieces
}

fn spaces(count: usize) -> Vec<LabelPiece> {
    match count {
        0 => Vec::new(),
        1..=3 => vec![LabelPiece::faint("␣".repeat(count))],
        _ => vec![LabelPiece::faint(format!("␣×{count}"))],
    }
}

/// Cuts a label to at most `cells` cells, with `…` for the rest.
pub(super) fn clip(pieces: Vec<LabelPiece>, cells: usize) -> Vec<LabelPiece> {
    if width(&pieces) <= cells {
        return pieces;
    }
    let mut left = cells.saturating_sub(1);
    let mut clipped = Vec::new();
    'pieces: for piece in pieces {
        let mut kept = LabelPiece { text: String::new(), faint: piece.faint };
        for grapheme in piece.text.graphemes(true) {
            let Some(less) = left.checked_sub(grapheme.width()) else {
                clipped.push(kept);
                break 'pieces;
            };
            left = less;
            kept.text.push_str(grapheme);
        }
        clipped.push(kept);
    }
    clipped.push(LabelPiece::faint("…"));
    clipped
}

/// Quotes a token as in JSON; characters that cannot be seen are escaped.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            _ => match escape(c, is_at_end(text, at, c)) {
                Some(escaped) => quoted.push_str(&escaped),
                // It would be put on top of the quote.
                None if at == 0 && c.width() == Some(0) => quoted.push_str(&code(c)),
                None => quoted.push(c),
            },
        }
    }
    quoted.push('"');
    quoted
}

/// The escape of a character that cannot be seen; joiners need none between the characters that they join.
pub(super) fn escape(c: char, at_end: bool) -> Option<String> {
    let escaped = match c {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        ' ' => return None,
        '\u{200c}' | '\u{200d}' if !at_end => return None,
        // Format characters, among them those that turn the direction of text, and noncharacters.
        '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{fffe}'
        | '\u{ffff}' => code(c),
        _ if c.is_control() || c.is_whitespace() => code(c),
        _ => return None,
    };
    Some(escaped)
}

/// Escape of a character as in JSON, `\u` and four hexadecimal digits for each unit of UTF-16.
fn code(c: char) -> String {
    c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
}

fn is_at_end(text: &str, at: usize, c: char) -> bool {
    at == 0 || at + c.len_utf8() == text.len()
}

/// The label of a drawn node in lines of at most `cells`: all of its tokens that fit into `lines`.
pub(super) fn lines(node: &DisplayNode, cells: usize, lines: usize) -> Vec<Vec<LabelPiece>> {
    match node.kind {
        DisplayKind::Wildcard(skip) => return vec![vec![LabelPiece::plain(skipped(skip))]],
        DisplayKind::Start => return vec![vec![LabelPiece::plain("start")]],
        DisplayKind::Rest => return vec![vec![LabelPiece::plain("…")]],
        DisplayKind::Activator | DisplayKind::Context => {}
    }
    let mut made: Vec<Vec<LabelPiece>> = vec![Vec::new()];
    for (i, shown) in node.tokens.iter().enumerate() {
        let left = node.tokens.len() - i;
        let more = format!(" +{left}");
        // Cells left for the token on a line, without those for the ` +n` or ` |` after it.
        let room = |line: usize| {
            cells.saturating_sub(if left == 1 {
                0
            } else if line == lines {
                more.len()
            } else {
                2
            })
        };
        let line = made.len();
        let taken = width(&made[line - 1]);
        let label = clip(token(&shown.token.text), room(line));
        if taken == 0 {
            made[line - 1] = label;
        } else if taken + 3 + width(&label) <= room(line) {
            made[line - 1].push(LabelPiece::faint(" | "));
            made[line - 1].extend(label);
        } else if line < lines {
            made[line - 1].push(LabelPiece::faint(" |"));
            made.push(clip(label, room(line + 1)));
        } else {
            made[line - 1].push(LabelPiece::faint(more));
            break;
        }
    }
    made
}

/// Label of the number of skipped tokens: `·1`, `≤5`, `2–5`.
pub(super) fn skipped(skip: Skip) -> String {
    match (skip.least, skip.most) {
        (least, most) if least == most => format!("·{most}"),
        (0, most) => format!("≤{most}"),
        (least, most) => format!("{least}–{most}"),
    }
}

/// Label of the number of patterns left out.
pub(super) fn left_out(patterns: usize) -> String {
    format!("+{patterns} pattern{}", if patterns == 1 { "" } else { "s" })
}

/// Formats a number with two decimals.
pub(super) fn number(value: f32) -> String {
    let value = if value == 0.0 { 0.0 } else { value };
    if value.abs() >= 1e6 { format!("{value:.2e}") } else { format!("{value:.2}") }
}

/// Tooltip of a drawn node, in lines: its tokens and their numbers.
pub(super) fn details(node: &DisplayNode) -> String {
    const MOST: usize = 20;
    let mut lines: Vec<String> = match node.kind {
        DisplayKind::Wildcard(skip) => vec![format!("{} with nothing that matters before", tokens(skip))],
        DisplayKind::Start => vec!["start of the text".to_owned()],
        DisplayKind::Rest => vec!["longer patterns".to_owned()],
        DisplayKind::Activator | DisplayKind::Context => Vec::new(),
    };
    let all = node.tokens.len();
    let of_token = |shown: &crate::DisplayToken| {
        let id = shown.token.id.map_or(String::new(), |id| format!(" ({id})"));
        format!("{}{id}: {}", quoted(&shown.token.text), numbers(shown.weight))
    };
    lines.extend(node.tokens.iter().take(if all > MOST { MOST - 1 } else { MOST }).map(of_token));
    if all > MOST {
        lines.push(format!("and {} others", all - MOST + 1));
    }
    if node.tokens.is_empty() {
        lines.push(numbers(node.weight));
    }
    if !node.skip.is_none() {
        lines.push(format!("{} skipped after it", tokens(node.skip)));
    }
    lines.join("\n")
}

fn numbers(weight: Weight) -> String {
    let ends = match weight.ends {
        None => String::new(),
        Some((least, most)) if number(least) == number(most) => format!(", predicts {}", number(most)),
        Some((least, most)) => format!(", predicts {} to {}", number(least), number(most)),
    };
    let [activation, importance] = [weight.activation, weight.importance].map(number);
    format!("activation {activation}, importance {importance}, support {}{ends}", weight.support)
}

fn tokens(skip: Skip) -> String {
    match (skip.least, skip.most) {
        (1, 1) => "one token".to_owned(),
        (least, most) if least == most => format!("{most} tokens"),
        (0, most) => format!("up to {most} tokens"),
        (least, most) => format!("{least} to {most} tokens"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        token(text).into_iter().map(|piece| piece.text).collect()
    }

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        assert_eq!(shown("  a b "), "␣␣a b␣");
        assert_eq!(shown("        return"), "␣×8return");
        assert_eq!(shown(" "), "␣");
        assert_eq!(shown("\n\t\u{0}\u{202e}"), "\\n\\t\\u0000\\u202e");
        assert_eq!(shown("\u{301}"), "◌\u{301}");
        assert_eq!(shown("👩\u{200d}🔬"), "👩\u{200d}🔬");
        assert_eq!(quoted("a\"\\\n\u{a0}é"), r#""a\"\\\n\u00a0é""#);
        assert_eq!(quoted("\u{11c92}"), r#""\ud807\udc92""#);
    }

    #[test]
    fn clipping_keeps_characters_whole() {
        let clipped = |text: &str, cells| clip(token(text), cells).into_iter().map(|p| p.text).collect::<String>();
        assert_eq!(clipped("abcdef", 6), "abcdef");
        assert_eq!(clipped("abcdefg", 6), "abcde…");
        assert_eq!(clipped("日本語", 4), "日…");
        assert_eq!(clipped("e\u{301}e\u{301}e\u{301}", 2), "e\u{301}…");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([-0.0, 0.125, 3e7].map(number), ["0.00", "0.12", "3.00e7"]);
    }
}
