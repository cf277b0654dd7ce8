//! Writer of drawings.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Write;

use super::{Thresholds, decimal, label};
use neuroql_graph::{Graph, Node, Symbol};

/// Number of letters below which a label is in large type.
const SHORT: usize = 12;

/// A node of the trie without wildcards.
struct DotNode<'a> {
    node: &'a Node,
    token: &'a str,
    is_end: bool,
    children: Vec<usize>,
}

/// Writes the drawing of a graph.
pub fn print(graph: &Graph, thresholds: Thresholds) -> String {
    let graph = graph.expanded();
    let (drawn, activators) = without_wildcards(&graph);
    let mut places: HashMap<(usize, &str), usize> = HashMap::new();
    let mut edges = Vec::new();
    let mut known_edges = HashSet::new();
    let mut layers: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut waiting: VecDeque<_> = activators.into_iter().map(|activator| (activator, 0, None)).collect();
    while let Some((at, depth, parent)) = waiting.pop_front() {
        let next = places.len() + 1;
        let place = *places.entry((depth, drawn[at].token)).or_insert(next);
        if place == next {
            layers.entry(depth).or_default().push(format!("{place} {}", look(&drawn[at], depth, thresholds)));
        }
        if let Some(parent) = parent.filter(|parent| known_edges.insert((*parent, place))) {
            edges.push((parent, place));
        }
        waiting.extend(drawn[at].children.iter().map(|child| (*child, depth + 1, Some(place))));
    }
    text(&layers, &edges)
}

fn text(layers: &BTreeMap<usize, Vec<String>>, edges: &[(usize, usize)]) -> String {
    let deepest = layers.keys().next_back().copied().unwrap_or(0);
    let mut text = String::from("digraph {\n\tgraph [nodesep=0.2 rankdir=RL ranksep=1.5 splines=spline]\n");
    text += "\tnode [fixedsize=true height=0.75 width=2]\n";
    // Writing to a string does not fail.
    for (depth, nodes) in layers {
        let _ = writeln!(text, "\tsubgraph cluster_{} {{\n\t\tpencolor=white penwidth=3", deepest - depth);
        nodes.iter().for_each(|node| text.extend(["\t\t", node, "\n"]));
        text += "\t}\n";
    }
    for (parent, child) in edges {
        let _ = writeln!(text, "\t{parent} -> {child} [dir=back penwidth=3]");
    }
    text + "}\n"
}

/// The trie without its wildcards, and the indices of its activators.
fn without_wildcards(graph: &Graph) -> (Vec<DotNode<'_>>, Vec<usize>) {
    let mut drawn: Vec<DotNode> = Vec::new();
    let mut activators = Vec::new();
    let mut known: HashMap<(Option<usize>, &str), usize> = HashMap::new();
    // Index of each node in `drawn`; of a wildcard, that of the token next to it on the way to the activator.
    let mut places: Vec<Option<usize>> = Vec::new();
    for node in graph.nodes() {
        let parent = node.parent.and_then(|parent| places[parent as usize]);
        let place = match &node.symbol {
            Symbol::Token(token) => Some(*known.entry((parent, &token.text)).or_insert_with(|| {
                let new = drawn.len();
                drawn.push(DotNode { node, token: &token.text, is_end: false, children: Vec::new() });
                parent.map_or(&mut activators, |parent| &mut drawn[parent].children).push(new);
                new
            })),
            Symbol::Any | Symbol::Gap(_) | Symbol::Start => parent,
        };
        if let Some(place) = place.filter(|_| node.ends.is_some()) {
            drawn[place].is_end = true;
        }
        places.push(place);
    }
    (drawn, activators)
}

/// The attributes of a node.
fn look(drawn: &DotNode, depth: usize, thresholds: Thresholds) -> String {
    let (value, floor) = match depth {
        0 => (drawn.node.activation, thresholds.activation_floor()),
        _ => (drawn.node.importance, thresholds.importance_floor()),
    };
    // The cast saturates.
    let paleness = 255 - (255.0 * (decimal(value) - floor) / (1.0 - floor)) as u8;
    let fill = match depth {
        0 => format!("#ff{paleness:02x}{paleness:02x}"),
        _ => format!("#{paleness:02x}{paleness:02x}ff"),
    };
    let label = label::of(drawn.token);
    let font = if depth != 0 && paleness < 130 { "white" } else { "black" };
    let size = if label.chars().count() < SHORT { 25 } else { 18 };
    let outline = if drawn.is_end { 7 } else { 3 };
    let label = quoted(&label.replace('\\', "\\\\"));
    format!(
        "[label={label} fillcolor=\"{fill}\" fontcolor={font} fontsize={size} penwidth={outline} shape=box \
         style=\"filled,solid\"]"
    )
}

/// Quotes a text for Graphviz, unless it is a name or a number.
fn quoted(text: &str) -> String {
    let is_name = text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = digits.chars().any(|letter| letter.is_ascii_digit())
        && digits.chars().all(|letter| letter.is_ascii_digit() || letter == '.')
        && digits.matches('.').count() <= 1;
    let keywords = ["node", "edge", "graph", "digraph", "subgraph", "strict"];
    let is_keyword = keywords.iter().any(|keyword| text.eq_ignore_ascii_case(keyword));
    if (is_name || is_number) && !is_keyword {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('"', "\\\""))
}
