//! Drawings for Mermaid, which Markdown renderers know.

use super::label::{LabelPiece, left_out, lines, quoted, skipped};
use super::{DrawOptions, colour};
use crate::{DisplayKind, Graph, simplify};

/// The graph as a Mermaid flowchart, [simplified](crate::simplify) to [`DrawOptions::max_nodes`]; colours and outlines
/// are those of the SVG.
///
/// Mermaid puts the sources of edges first, so the chart runs from left to right to have activators on the right.
pub fn mermaid(graph: &Graph, options: &DrawOptions) -> String {
    let display = simplify(graph, options.max_nodes);
    let mut chart = String::new();
    if let Some(title) = options.heading() {
        // The title is YAML, in which a JSON string is valid.
        chart.push_str(&format!("---\ntitle: {}\n---\n", quoted(&title)));
    }
    chart.push_str("flowchart LR\n");
    for (i, node) in display.nodes.iter().enumerate() {
        let line = |line: &Vec<LabelPiece>| escape(&line.iter().map(|piece| piece.text.as_str()).collect::<String>());
        let label: Vec<String> = lines(node, 24, 6).iter().map(line).collect();
        let [open, close] = match node.kind {
            DisplayKind::Activator | DisplayKind::Context => ["[", "]"],
            DisplayKind::Wildcard(_) | DisplayKind::Start | DisplayKind::Rest => ["(", ")"],
        };
        chart.push_str(&format!("  n{i}{open}\"{}\"{close}\n", label.join("<br/>")));
    }
    for (i, node) in display.nodes.iter().enumerate() {
        for to in &node.towards {
            let skip = if node.skip.is_none() { String::new() } else { format!("|\"{}\"|", skipped(node.skip)) };
            chart.push_str(&format!("  n{i} -->{skip} n{to}\n"));
        }
    }
    for (i, node) in display.nodes.iter().enumerate() {
        let fill = colour::of_node(node);
        let (text, width) = (colour::of_text(fill), if node.complete { 3 } else { 1 });
        chart.push_str(&format!("  style n{i} fill:{fill},color:{text},stroke:#555b66,stroke-width:{width}px\n"));
    }
    if display.hidden > 0 {
        chart.push_str(&format!("  hidden[\"{}\"]\n  style hidden fill:none,stroke:none\n", left_out(display.hidden)));
    }
    chart
}

/// Escapes the text of a label. Mermaid reads HTML and Markdown in it, so all punctuation is written as entities.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && c != ' ' {
            escaped.push_str(&format!("#{};", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}
