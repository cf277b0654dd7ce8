//! Patterns as lines of text.

use unicode_width::UnicodeWidthChar;

use super::DrawOptions;
use super::label::{escape, left_out, number, quoted};
use crate::{Graph, Node, Symbol};

/// The patterns of a graph, one a line, as they stand in a text: contexts, then the activator, `→` and the activation
/// predicted, over the neuron's greatest. Those that predict the most come first.
///
/// Tokens are in quotes, with escapes as in JSON, where they have spaces or could be taken for something else: `*` is
/// any token, `{0,5}` any up to five, `^` the start of the text. The path of a leaf at which no pattern ends, ends in
/// `→ ?`. A graph without nodes has no lines.
///
/// ```text
/// "import" * " as" " np" → 0.93
/// ^ {0,5} " from" → 0.71
/// ```
pub fn text(graph: &Graph, options: &DrawOptions) -> String {
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
    for pattern in patterns.iter().take(options.max_patterns) {
        write_pattern(&mut text, nodes, *pattern);
        text.push('\n');
    }
    if let left @ 1.. = patterns.len().saturating_sub(options.max_patterns) {
        text.push_str(&left_out(left));
    }
    text.truncate(text.trim_end_matches('\n').len());
    text
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
    let means_other = text.is_empty() || ["*", "^", "→", "?"].contains(&text) || text.starts_with(['{', '+']);
    let has_other = |c: char| matches!(c, '"' | '\\') || c.is_whitespace() || escape(c, true).is_some();
    let joins = |c: char| c.width() == Some(0);
    if means_other || text.contains(has_other) || text.starts_with(joins) { quoted(text) } else { text.to_owned() }
}
