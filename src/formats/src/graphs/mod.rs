//! Formats of graphs.
//!
//! | module | contents | tokens |
//! |---|---|---|
//! | [`dot`] | Neuron2Graph's drawings: no wildcards, numbers as colours | texts |
//! | [`n2g_rs`] | models of the Rust port of Neuron2Graph, JSON and binary | ids |
//! | [`openai`] | tries of OpenAI's sparse autoencoders | texts |
//!
//! Each is read and written. Tokens without an id match nothing until [`Graph::bind`](neuroql_graph::Graph::bind) gives
//! them one. Numbers that a file lacks are filled in: a node's support is the number of patterns through it; where
//! activations are missing, activators have the greatest of the ends below them and context has 0.

pub mod dot;
pub mod n2g_rs;
pub mod openai;

use neuroql_graph::{Error, Node, Symbol, Token};

/// The symbol of a token without an id.
pub(crate) fn unbound(text: &str) -> Symbol {
    Symbol::Token(Token { id: None, text: text.into() })
}

fn malformed(format: &'static str, reason: impl ToString) -> Error {
    Error::Malformed { format, reason: reason.to_string() }
}

/// Counts the support of nodes, whose parents come before them.
pub(crate) fn count_support(nodes: &mut [Node]) {
    nodes.iter_mut().for_each(|node| node.support = u32::from(node.ends.is_some()));
    for node in (0..nodes.len()).rev() {
        if let Some(parent) = nodes[node].parent {
            nodes[parent as usize].support += nodes[node].support;
        }
    }
}

/// Gives activators the greatest end below them as their activation. Parents come before their children.
fn estimate_activations(nodes: &mut [Node]) {
    let mut greatest: Vec<f32> = nodes.iter().map(|node| node.ends.unwrap_or(0.0)).collect();
    for node in (0..nodes.len()).rev() {
        match nodes[node].parent {
            Some(parent) => greatest[parent as usize] = greatest[parent as usize].max(greatest[node]),
            None => nodes[node].activation = greatest[node],
        }
    }
}
