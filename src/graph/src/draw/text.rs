//! Patterns as lines of text.

use unicode_width::UnicodeWidthChar;

use super::DrawOptions;
use super::label::{escape, left_out, number, quoted};
use super::products::{Line, Place, Products};
use crate::{Graph, Node, Symbol, Token};

/// The patterns of a graph in lines, as they stand in a text: contexts, then the activator, `→` and the activation
/// predicted, over the neuron's greatest. Those that predict the most come first.
///
/// Patterns that differ in one token only and predict about the same share a line, with the alternatives in its place
/// and the range of what they predict; a line stands for all ways through its alternatives. Three or more letters or digits that follow each other
/// are `[a-f]`, after a space `" "[a-f]`.
///
/// Tokens are in quotes, with escapes as in JSON, where they have spaces or could be taken for something else: `*` is
/// any token, `{0,5}` any up to five, `^` the start of the text. The path of a leaf at which no pattern ends, ends in
/// `→ ?`. A graph without nodes has no lines.
///
/// ```text
/// "import" * " as" (" np" | " pd") → 0.80–0.93
/// ^ {0,5} " from" → 0.71
/// ```
pub fn text(graph: &Graph, options: &DrawOptions) -> String {
    let graph = graph.expanded();
    let nodes = graph.nodes();
    let ends_here = |i: &usize| {
        let followed = nodes.get(i + 1).is_some_and(|next| next.parent == Some(*i as u32));
        nodes[*i].ends.is_some() || !followed
    };
    let mut patterns: Vec<usize> = (0..nodes.len()).filter(ends_here).collect();
    let ends = |i: usize| nodes[i].ends.unwrap_or(f32::NEG_INFINITY);
    // A stable sort: ties stay as they are in the graph.
    patterns.sort_by(|a, b| ends(*b).total_cmp(&ends(*a)).then_with(|| nodes[*b].support.cmp(&nodes[*a].support)));
    let mut text = String::new();
    if let Some(title) = options.heading() {
        text.push_str(&title);
        text.push('\n');
    }
    let products = Products::new(nodes, &patterns);
    let mut left = patterns.len();
    for line in products.lines.iter().take(options.max_patterns) {
        write_line(&mut text, &products, line);
        text.push('\n');
        left -= line.patterns;
    }
    // Patterns that are too many, or too long, to be joined.
    let joined: usize = products.lines.iter().map(|line| line.patterns).sum();
    for pattern in patterns[joined..].iter().take(options.max_patterns.saturating_sub(products.lines.len())) {
        write_pattern(&mut text, nodes, *pattern);
        text.push('\n');
        left -= 1;
    }
    if left > 0 {
        text.push_str(&left_out(left));
    }
    text.truncate(text.trim_end_matches('\n').len());
    text
}

fn write_line(text: &mut String, products: &Products, line: &Line) {
    for place in line.places.iter().rev() {
        match place {
            Place::OneOf(set) => text.push_str(&alternatives(&products.tokens(*set))),
            Place::Any => text.push('*'),
            Place::Gap(most) => text.push_str(&format!("{{0,{most}}}")),
            Place::Start => text.push('^'),
        }
        text.push(' ');
    }
    text.push_str("→ ");
    match line.ends.map(|(least, most)| (number(least), number(most))) {
        None => text.push('?'),
        Some((least, most)) if least == most => text.push_str(&most),
        Some((least, most)) => text.push_str(&format!("{least}–{most}")),
    }
}

/// One of some tokens, sorted by their text: each as it is, or ranges of letters and digits.
fn alternatives(tokens: &[&Token]) -> String {
    let mut words: Vec<String> = Vec::new();
    let follows = |one: &&Token, other: &&Token| match (letter(&one.text), letter(&other.text)) {
        (Some((space, one)), Some((other_space, other))) => space == other_space && one as u32 + 1 == other as u32,
        _ => false,
    };
    for run in tokens.chunk_by(follows) {
        match (run, letter(&run[0].text), run.last().and_then(|last| letter(&last.text))) {
            ([_, _, _, ..], Some((space, first)), Some((_, last))) => {
                words.push(format!("{}[{first}-{last}]", if space { "\" \"" } else { "" }));
            }
            _ => words.extend(run.iter().map(|token| word(&token.text))),
        }
    }
    if let [word] = &words[..] { word.clone() } else { format!("({})", words.join(" | ")) }
}

/// The letter or digit of a token that is one, and whether a space comes before it.
fn letter(text: &str) -> Option<(bool, char)> {
    let bare = text.strip_prefix(' ').unwrap_or(text);
    match bare.as_bytes() {
        [letter] if letter.is_ascii_alphanumeric() => Some((bare.len() < text.len(), char::from(*letter))),
        _ => None,
    }
}

/// The line of the pattern that ends at a node.
pub(crate) fn pattern_text(graph: &Graph, end: u32) -> String {
    let mut text = String::new();
    write_pattern(&mut text, graph.nodes(), end as usize);
    text
}

/// Writes the pattern that ends at a node: the node comes first in the text, then its parent.
fn write_pattern(text: &mut String, nodes: &[Node], pattern: usize) {
    let mut next = Some(&nodes[pattern]);
    while let Some(node) = next {
        match &node.symbol {
            Symbol::Token(token) => text.push_str(&word(&token.text)),
            Symbol::Any => text.push('*'),
            Symbol::Gap(most) => text.push_str(&format!("{{0,{most}}}")),
            Symbol::Start => text.push('^'),
        }
        text.push(' ');
        next = node.parent.map(|parent| &nodes[parent as usize]);
    }
    text.push_str("→ ");
    text.push_str(&nodes[pattern].ends.map_or_else(|| "?".to_owned(), number));
}

/// Text of a token as it is if that is unambiguous, else in quotes.
fn word(text: &str) -> String {
    let means_other = text.is_empty()
        || ["*", "^", "→", "?", "|"].contains(&text)
        || text.starts_with(['{', '+', '('])
        || text.ends_with(')')
        || text.starts_with('[') && text.ends_with(']');
    let has_other = |c: char| matches!(c, '"' | '\\') || c.is_whitespace() || escape(c, true).is_some();
    let joins = |c: char| c.width() == Some(0);
    if means_other || text.contains(has_other) || text.starts_with(joins) { quoted(text) } else { text.to_owned() }
}
