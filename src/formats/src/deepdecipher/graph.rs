//! Graphs of drawings, in which nodes of the same depth and token are one.

use std::collections::HashMap;

use neuroql_graph::{Graph, Node};

use super::blob::{Drawing, DrawnNode};
use crate::graphs::{count_support, dot, unbound};

/// Greatest number of nodes that the paths of a drawing may have.
const MOST_NODES: usize = 1 << 20;

/// Makes the graph of a drawing: each path from an activator is one of the graph. The file has one number a node, made
/// of the colour: it is the activation of activators and the importance of others. It does not say which nodes end a
/// pattern, so patterns end at leaves only, with the number of their activator.
pub(super) fn graph(drawing: &Drawing) -> Result<Graph, String> {
    let Drawing { subgraph_indices, graph: drawn } = drawing;
    check(subgraph_indices, drawn)?;
    let mut is_activator = vec![true; drawn.len()];
    for node in drawn {
        node.required.iter().for_each(|context| is_activator[*context as usize] = false);
    }
    let mut nodes: Vec<Node> = Vec::new();
    let mut known: HashMap<(Option<u32>, String), u32> = HashMap::new();
    let activators = (0..drawn.len()).rev().filter(|node| is_activator[*node]);
    let mut stack: Vec<(usize, Option<u32>, usize, f32)> = activators.map(|node| (node, None, 1, 0.0)).collect();
    let mut reached = vec![false; drawn.len()];
    let mut steps = 0_usize;
    while let Some((at, parent, depth, ends)) = stack.pop() {
        steps += 1;
        if depth > drawn.len() {
            return Err("its nodes require each other in a circle".into());
        }
        reached[at] = true;
        let DrawnNode { token, required, importance } = &drawn[at];
        let token = dot::token(token);
        let ends = if parent.is_none() { *importance } else { ends };
        let (activation, importance) = if parent.is_none() { (*importance, 1.0) } else { (0.0, *importance) };
        let new = nodes.len() as u32;
        let node = *known.entry((parent, token.clone())).or_insert(new);
        if node == new {
            let symbol = unbound(&token);
            nodes.push(Node { parent, symbol, importance, activation, ends: None, support: 0 });
        }
        if required.is_empty() {
            nodes[node as usize].ends = Some(ends);
        }
        stack.extend(required.iter().rev().map(|context| (*context as usize, Some(node), depth + 1, ends)));
        if steps + stack.len() > MOST_NODES {
            return Err(format!("its paths have more than {MOST_NODES} nodes"));
        }
    }
    if reached.contains(&false) {
        return Err("its nodes require each other in a circle".into());
    }
    count_support(&mut nodes);
    Graph::new(nodes).map_err(|error| error.to_string())
}

fn check(offsets: &[u64], drawn: &[DrawnNode]) -> Result<(), String> {
    let count = drawn.len() as u64;
    let mut last = 0;
    for offset in offsets {
        if *offset < last || *offset > count {
            return Err(format!("a depth begins at node {offset}, after {last} and of {count}"));
        }
        last = *offset;
    }
    let required = drawn.iter().enumerate().flat_map(|(node, drawn)| drawn.required.iter().map(move |r| (node, *r)));
    for (node, required) in required {
        if required >= count {
            return Err(format!("node {node} requires node {required}, but there are {count} nodes"));
        }
    }
    Ok(())
}
