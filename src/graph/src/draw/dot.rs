//! Drawings for Graphviz.

use std::fmt::Write;

use super::label::{details, left_out, lines, skipped};
use super::{DrawOptions, colour};
use crate::{DisplayKind, Graph, simplify};

/// The graph in the DOT language of Graphviz, [simplified](crate::simplify) to [`DrawOptions::max_nodes`]: as the SVG,
/// activators on the right in red by activation, contexts in blue by importance, complete patterns with a bold outline.
///
/// Labels have their spaces as `␣` and non-ASCII characters as they are, in UTF-8; tooltips have all that is known of a
/// node. This is not the format of Neuron2Graph, which has no wildcards and shows patterns that the graph has not.
pub fn dot(graph: &Graph, options: &DrawOptions) -> String {
    let display = simplify(graph, options.max_nodes);
    let mut dot = String::from(
        "digraph neuron {\n  rankdir=RL; nodesep=0.15; ranksep=0.7;\n  \
         node [shape=box style=filled fontname=\"monospace\" fontsize=13 height=0.35 color=\"#555b66\"];\n  \
         edge [dir=back color=\"#8a909c\" fontname=\"monospace\" fontsize=11 fontcolor=\"#555b66\"];\n",
    );
    let hidden = (display.hidden > 0).then(|| left_out(display.hidden));
    let captions: Vec<String> = options.heading().into_iter().chain(hidden).collect();
    if !captions.is_empty() {
        write(
            &mut dot,
            format_args!("  label={}; labelloc=t; fontname=\"sans-serif\";\n", quote(&captions.join("\n"))),
        );
    }
    // From right to left, Graphviz puts the first node lowest.
    for (i, node) in display.nodes.iter().enumerate().rev() {
        let label: Vec<String> =
            lines(node, 24, 6).iter().map(|line| line.iter().map(|piece| piece.text.as_str()).collect()).collect();
        let fill = colour::of_node(node);
        let shape = match node.kind {
            DisplayKind::Activator | DisplayKind::Context => "",
            DisplayKind::Wildcard(_) | DisplayKind::Start | DisplayKind::Rest => " style=\"filled,rounded\"",
        };
        write(
            &mut dot,
            format_args!(
                "  n{i} [label={} tooltip={} fillcolor=\"{fill}\" fontcolor=\"{}\" penwidth={}{shape}];\n",
                quote(&label.join("\n")),
                quote(&details(node)),
                colour::of_text(fill),
                if node.complete { 3 } else { 1 },
            ),
        );
    }
    for (i, node) in display.nodes.iter().enumerate() {
        for to in &node.towards {
            let skip =
                if node.skip.is_none() { String::new() } else { format!(" [label={}]", quote(&skipped(node.skip))) };
            write(&mut dot, format_args!("  n{to} -> n{i}{skip};\n"));
        }
    }
    for column in display.nodes.chunk_by(|a, b| a.depth == b.depth).scan(0, |start, column| {
        let range = *start..*start + column.len();
        *start = range.end;
        Some(range)
    }) {
        let names: Vec<String> = column.map(|i| format!("n{i}")).collect();
        write(&mut dot, format_args!("  {{ rank=same; {}; }}\n", names.join("; ")));
    }
    dot.push_str("}\n");
    dot
}

fn write(to: &mut String, what: std::fmt::Arguments) {
    // Writing to a string does not fail.
    let _ = to.write_fmt(what);
}

/// Quotes a text as a string of DOT. Graphviz reads escapes in labels, and the entities of HTML.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '&' => quoted.push_str("&amp;"),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
