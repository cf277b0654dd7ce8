//! JSON of this project, which has all of a graph.
//!
//! ```json
//! {"version":1,"nodes":[
//!   {"parent":null,"kind":"token","id":262,"token":" the","importance":1.0,"activation":0.9,"ends":null,"support":2},
//!   {"parent":0,"kind":"any","importance":0.1,"activation":0.0,"ends":null,"support":2},
//!   {"parent":1,"kind":"gap","most":3,"importance":0.1,"activation":0.0,"ends":null,"support":2},
//!   {"parent":2,"kind":"start","importance":0.0,"activation":0.0,"ends":0.9,"support":2}]}
//! ```
//!
//! A node that stands for further tokens has them in `alternatives`, each with `id`, `token`, `importance`, `activation` and
//! `support`, and the file has version 2, so that earlier readers refuse it.
//!
//! Nodes are depth first when written and in any order when read; `parent` is an index into them. `id` is missing where
//! no vocabulary has given the token one. Later versions may add fields, which are passed over, but change none.

use serde::{Deserialize, Serialize};

use super::malformed;
use crate::{Alternative, Graph, Node, Result, Symbol, Token};

const FORMAT: &str = "neuroql JSON";
/// Version of graphs without alternatives, and of those with.
const VERSIONS: [u32; 2] = [1, 2];

#[derive(Serialize, Deserialize)]
struct JsonFile {
    version: u32,
    nodes: Vec<JsonNode>,
}

#[derive(Serialize, Deserialize)]
struct JsonNode {
    parent: Option<u32>,
    #[serde(flatten)]
    symbol: JsonSymbol,
    importance: f32,
    activation: f32,
    ends: Option<f32>,
    support: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    alternatives: Vec<JsonAlternative>,
}

#[derive(Serialize, Deserialize)]
struct JsonAlternative {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
    token: String,
    importance: f32,
    activation: f32,
    support: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum JsonSymbol {
    Token {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u32>,
        token: String,
    },
    Any,
    Gap {
        most: u16,
    },
    Start,
}

/// Parses the graph of a text.
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed), and those of [`Graph::new`].
pub fn parse(text: &str) -> Result<Graph> {
    let file: JsonFile = serde_json::from_str(text).map_err(|error| malformed(FORMAT, error))?;
    if !VERSIONS.contains(&file.version) {
        let [first, last] = VERSIONS;
        return Err(malformed(FORMAT, format!("its version is {}, but {first} to {last} are known", file.version)));
    }
    let (mut nodes, mut alternatives) = (Vec::with_capacity(file.nodes.len()), Vec::new());
    for (mut written, node) in file.nodes.into_iter().zip(0..) {
        let others = std::mem::take(&mut written.alternatives).into_iter();
        alternatives.extend(others.map(|JsonAlternative { id, token, importance, activation, support }| Alternative {
            node,
            token: Token { id, text: token.into() },
            importance,
            activation,
            support,
        }));
        nodes.push(written.into());
    }
    Graph::with_alternatives(nodes, alternatives)
}

/// Writes a graph as a text of one line.
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed) if it does not fit into memory.
pub fn print(graph: &Graph) -> Result<String> {
    let mut nodes: Vec<JsonNode> = graph.nodes().iter().map(JsonNode::from).collect();
    for Alternative { node, token, importance, activation, support } in graph.alternatives() {
        nodes[*node as usize].alternatives.push(JsonAlternative {
            id: token.id,
            token: token.text.to_string(),
            importance: *importance,
            activation: *activation,
            support: *support,
        });
    }
    let version = VERSIONS[usize::from(!graph.alternatives().is_empty())];
    serde_json::to_string(&JsonFile { version, nodes }).map_err(|error| malformed(FORMAT, error))
}

impl From<&Node> for JsonNode {
    fn from(node: &Node) -> Self {
        let symbol = match &node.symbol {
            Symbol::Token(token) => JsonSymbol::Token { id: token.id, token: token.text.to_string() },
            Symbol::Any => JsonSymbol::Any,
            Symbol::Gap(most) => JsonSymbol::Gap { most: *most },
            Symbol::Start => JsonSymbol::Start,
        };
        let Node { parent, importance, activation, ends, support, .. } = *node;
        Self { parent, symbol, importance, activation, ends, support, alternatives: Vec::new() }
    }
}

impl From<JsonNode> for Node {
    fn from(written: JsonNode) -> Self {
        let symbol = match written.symbol {
            JsonSymbol::Token { id, token } => Symbol::Token(Token { id, text: token.into() }),
            JsonSymbol::Any => Symbol::Any,
            JsonSymbol::Gap { most } => Symbol::Gap(most),
            JsonSymbol::Start => Symbol::Start,
        };
        let JsonNode { parent, importance, activation, ends, support, .. } = written;
        Self { parent, symbol, importance, activation, ends, support }
    }
}
