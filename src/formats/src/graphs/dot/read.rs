//! Parser of drawings.

use std::collections::{HashMap, HashSet};

use super::syntax::{Declared, Drawing};
use super::{FORMAT, Thresholds, label};
use crate::graphs::{count_support, malformed, unbound};
use neuroql_graph::{Error, Graph, Node, Result};

/// Greatest number of nodes that the paths of a drawing may have; in it they share nodes.
const MOST_NODES: usize = 1 << 20;

/// Parses a drawing: each of its paths from an activator on is one of the graph. Numbers that it lacks are filled in:
/// the importance of activators is 1, the activation of context 0, and patterns predict their activator's activation.
/// Patterns end at leaves and at thick outlines, which do not count in drawings of other programs, whose edges lead to
/// the activators.
///
/// # Errors
/// [`Error::Malformed`] if the text is no drawing or its edges have cycles, [`Error::TooLarge`] if its paths have more
/// than 2²⁰ nodes, and those of [`Graph::new`].
pub fn parse(text: &str, thresholds: Thresholds) -> Result<Graph> {
    let drawing = Drawing::new(text)?;
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); drawing.nodes.len()];
    let mut is_activator = vec![true; drawing.nodes.len()];
    // An edge that is there twice makes no other paths.
    let mut edges = HashSet::with_capacity(drawing.edges.len());
    for (from, to) in drawing.edges.iter().filter(|edge| edges.insert(**edge)) {
        let (parent, child) = if drawing.is_backward { (*from, *to) } else { (*to, *from) };
        children[parent].push(child);
        is_activator[child] = false;
    }
    let mut nodes: Vec<Node> = Vec::new();
    let mut known: HashMap<(Option<u32>, String), u32> = HashMap::new();
    let mut reached = vec![false; drawing.nodes.len()];
    let circles = || malformed(FORMAT, "its edges go round in circles");
    let activators = (0..drawing.nodes.len()).rev().filter(|node| is_activator[*node]);
    let mut stack: Vec<(usize, Option<u32>, usize, f32)> = activators.map(|node| (node, None, 1, 0.0)).collect();
    let mut steps = 0;
    while let Some((at, parent, depth, ends)) = stack.pop() {
        steps += 1;
        if depth > drawing.nodes.len() {
            return Err(circles());
        }
        reached[at] = true;
        let declared = &drawing.nodes[at];
        let token = label::token(&declared.label);
        let shown = shown(declared, parent.is_none(), thresholds)?;
        let ends = if parent.is_none() { shown } else { ends };
        let (activation, importance) = if parent.is_none() { (shown, 1.0) } else { (0.0, shown) };
        let new = nodes.len() as u32;
        let node = *known.entry((parent, token.clone())).or_insert(new);
        if node == new {
            nodes.push(Node { parent, symbol: unbound(&token), importance, activation, ends: None, support: 0 });
        }
        let is_marked = (drawing.is_backward || drawing.edges.is_empty()) && is_thick(declared);
        if is_marked || children[at].is_empty() {
            nodes[node as usize].ends = Some(ends);
        }
        stack.extend(children[at].iter().rev().map(|child| (*child, Some(node), depth + 1, ends)));
        // Equal paths make no new nodes, but can still be too many.
        if steps + stack.len() > MOST_NODES {
            let count = steps + stack.len();
            return Err(Error::TooLarge { what: "nodes in its paths", count, limit: MOST_NODES });
        }
    }
    if reached.contains(&false) {
        return Err(circles());
    }
    count_support(&mut nodes);
    Graph::new(nodes)
}

fn is_thick(declared: &Declared) -> bool {
    declared.attributes.get("penwidth").is_some_and(|width| width == "7")
}

/// The number that the colour of a node shows; 1 without a colour.
fn shown(declared: &Declared, is_activator: bool, thresholds: Thresholds) -> Result<f32> {
    let Some(colour) = declared.attributes.get("fillcolor") else { return Ok(1.0) };
    let green = colour.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii());
    let green = green.and_then(|digits| u8::from_str_radix(&digits[2..4], 16).ok());
    let green = green.ok_or_else(|| malformed(FORMAT, format!("\"{colour}\" is not a colour such as #ff2525")))?;
    let floor = if is_activator { thresholds.activation_floor() } else { thresholds.importance_floor() };
    Ok((f64::from(255 - green) / 255.0 * (1.0 - floor) + floor) as f32)
}
