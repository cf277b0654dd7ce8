//! A neuron's graph as DeepDecipher's service `neuron2graph` has it.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::{SIMILAR, real};
use crate::error::Fault;
use crate::facts::{Facts, Place};
use crate::pages::neuron::sql;
use crate::query::{Answer, Asker};

/// A node with a token.
struct TokenNode {
    token: String,
    /// Number of nodes with a token between it and the activating one.
    level: usize,
    /// Activation of an activating token, importance of another.
    importance: f32,
    /// Number of the next node with a token towards the activating one.
    towards: Option<i64>,
}

/// Reads a neuron's graph, its drawing and similar neurons. With quirks tokens are written as in Graphviz' language,
/// where DeepDecipher has them from.
///
/// # Errors
/// 404 if it has none.
pub(super) async fn data(asker: &mut Asker, facts: &Facts, place: Place, has_quirks: bool) -> Result<Value, Fault> {
    let Place { layer, neuron } = place;
    let nodes = asker
        .ask(format!(
            "SELECT node, parent, depth, kind, token, importance, activation, method FROM {} \
             WHERE layer = {layer} AND neuron = {neuron} ORDER BY method <> 'neuroql', method, node",
            facts.table("graph_nodes")
        ))
        .await?;
    let Some(method) = nodes.text(0, "method").map(str::to_owned) else {
        return Err(Fault::not_found(format!("neuron {layer}:{neuron} has no graph")));
    };
    let graph = with_tokens(&nodes, &method);
    let mut levels: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
    for (number, node) in &graph {
        levels.entry(node.level).or_default().push(*number);
    }
    // Clusters are levels; DeepDecipher's first is that of a root, which is no node.
    let mut ends = vec![0, 0];
    let order: Vec<i64> = levels.values().flatten().copied().collect();
    for level in levels.values() {
        ends.push(ends.last().copied().unwrap_or_default() + level.len());
    }
    let places: BTreeMap<i64, usize> = order.iter().enumerate().map(|(index, number)| (*number, index)).collect();
    let listed =
        order.iter().filter_map(|number| graph.get(number).map(|node| (number, node))).map(|(number, node)| {
            let required =
                order.iter().filter(|other| graph.get(other).and_then(|other| other.towards) == Some(*number));
            let required: Vec<_> = required.filter_map(|other| places.get(other)).collect();
            let token = if has_quirks { quoted(&node.token) } else { node.token.clone() };
            json!({ "token": token, "required": required, "importance": real(Some(node.importance)) })
        });
    let listed: Vec<_> = listed.collect();
    let similar = asker.ask(sql::similar(facts, place)?.replace(", 10, '*')", ", 50)")).await?;
    let is_close = |row: &usize| facts.has("similar") || similar.number(*row, "similarity") >= Some(SIMILAR);
    let similar: Vec<_> = similar
        .rows()
        .filter(is_close)
        .map(|row| {
            json!({
                "layer": similar.integer(row, "layer"),
                "neuron": similar.integer(row, "neuron"),
                "similarity": real(similar.real(row, "similarity")),
            })
        })
        .collect();
    Ok(json!({
        "graph": { "subgraph_indices": ends, "graph": listed },
        "graphviz": graphviz(&graph, &levels),
        "similar": similar,
    }))
}

/// Returns the nodes with tokens, by number; those between them are left out.
fn with_tokens(nodes: &Answer, method: &str) -> BTreeMap<i64, TokenNode> {
    let rows = || nodes.rows().filter(|row| nodes.text(*row, "method") == Some(method));
    let parents: BTreeMap<i64, (i64, bool)> = rows()
        .filter_map(|row| {
            let has_token = nodes.text(row, "token").is_some();
            Some((nodes.integer(row, "node")?, (nodes.integer(row, "parent").unwrap_or(-1), has_token)))
        })
        .collect();
    // Parents come before children, so that each step leads to a lower number.
    let next = |number: i64| {
        let mut at = parents.get(&number).map_or(-1, |(parent, _)| *parent);
        while let Some((parent, false)) = parents.get(&at) {
            at = *parent;
        }
        (at >= 0).then_some(at)
    };
    let mut graph: BTreeMap<i64, TokenNode> = BTreeMap::new();
    for row in rows() {
        let (Some(number), Some(token)) = (nodes.integer(row, "node"), nodes.text(row, "token")) else { continue };
        let towards = next(number);
        let level = towards.and_then(|towards| graph.get(&towards)).map_or(0, |node| node.level + 1);
        let column = if towards.is_none() { "activation" } else { "importance" };
        let importance = nodes.real(row, column).unwrap_or_default();
        graph.insert(number, TokenNode { token: token.to_owned(), level, importance, towards });
    }
    graph
}

/// Draws the graph in Graphviz' language, with the clusters and colours that DeepDecipher's pages read.
fn graphviz(graph: &BTreeMap<i64, TokenNode>, levels: &BTreeMap<usize, Vec<i64>>) -> String {
    let mut dot =
        String::from("digraph {\n\trankdir=LR\n\tnode [fontname=\"Helvetica\" shape=box style=\"filled,rounded\"]\n");
    // Writing to a string does not fail.
    for (level, numbers) in levels {
        let _ = writeln!(dot, "\tsubgraph cluster_{} {{\n\t\tpencolor=white penwidth=3", level + 1);
        for number in numbers {
            let Some(node) = graph.get(number) else { continue };
            let pale = 255 - (node.importance.clamp(0.0, 1.0) * 200.0) as u8;
            let colour =
                if *level == 0 { format!("#ff{pale:02x}{pale:02x}ff") } else { format!("#{pale:02x}{pale:02x}ffff") };
            let _ = writeln!(dot, "\t\t{number} [label=\"{}\" fillcolor=\"{colour}\"]", label(&node.token));
        }
        dot.push_str("\t}\n");
    }
    for (number, node) in graph {
        if let Some(towards) = node.towards {
            let _ = writeln!(dot, "\t{number} -> {towards}");
        }
    }
    dot.push_str("}\n");
    dot
}

/// Writes a token in the quotes of Graphviz' language.
fn quoted(token: &str) -> String {
    format!("\"{}\"", token.replace('"', "\\\""))
}

/// Escapes a token for a label of Graphviz, which becomes part of a drawing.
fn label(token: &str) -> String {
    let mut label = String::new();
    for letter in crate::sql_text::visible(token).chars() {
        match letter {
            '"' => label.push_str("\\\""),
            '\\' => label.push_str("\\\\"),
            '<' => label.push_str("&lt;"),
            '>' => label.push_str("&gt;"),
            '&' => label.push_str("&amp;"),
            letter => label.push(letter),
        }
    }
    label
}
