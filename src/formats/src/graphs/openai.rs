//! Tries of OpenAI's sparse autoencoders (arXiv 2406.04093): nested JSON objects.
//!
//! `{"trie":{"c":{"b":{"token(*)":{"token(^)":{"<saliency>":1.5}}}}}}`: keys are tokens from the activator leftwards,
//! `token(*)` any token and `token(^)` the start of the text; `<saliency>` ends a pattern and is the activation, in the
//! neuron's own unit. Importances are not kept.

use std::collections::HashMap;

use super::{count_support, estimate_activations, malformed, unbound};
use neuroql_graph::DEEPEST;
use neuroql_graph::{Error, Graph, Node, Result, Symbol};

const FORMAT: &str = "OpenAI trie";
const ANY: &str = "token(*)";
const START: &str = "token(^)";
const END: &str = "<saliency>";

/// Parses the graph of a text; `greatest` is the neuron's greatest activation, which is 1 in graphs.
///
/// # Errors
/// [`Error::Malformed`], and those of [`Graph::new`].
pub fn parse(text: &str, greatest: f32) -> Result<Graph> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.expect('{')?;
    let key = scanner.string()?;
    if key != "trie" {
        return Err(malformed(FORMAT, format!("the key is \"{key}\", not \"trie\"")));
    }
    scanner.expect(':')?;
    let mut nodes = tree(&mut scanner, greatest)?;
    scanner.expect('}')?;
    if !scanner.rest().is_empty() {
        return Err(scanner.unexpected("the end"));
    }
    count_support(&mut nodes);
    estimate_activations(&mut nodes);
    Graph::new(nodes)
}

/// Reads nested objects without recursion, as they can be as deep as the text is long.
fn tree(scanner: &mut Scanner, greatest: f32) -> Result<Vec<Node>> {
    let mut nodes: Vec<Node> = Vec::new();
    scanner.expect('{')?;
    let mut open: Vec<Option<u32>> = vec![None];
    // A key that comes twice continues the same object.
    let mut known: HashMap<(Option<u32>, Symbol), u32> = HashMap::new();
    let mut is_first = true;
    while let Some(parent) = open.last().copied() {
        if scanner.take('}') {
            open.pop();
            is_first = false;
            continue;
        }
        if !std::mem::take(&mut is_first) {
            scanner.expect(',')?;
        }
        let key = scanner.string()?;
        scanner.expect(':')?;
        if key == END {
            let value = scanner.number()? / greatest;
            let parent = parent.ok_or_else(|| malformed(FORMAT, "a pattern without tokens"))?;
            nodes[parent as usize].ends = Some(value);
            continue;
        }
        scanner.expect('{')?;
        let symbol = match key.as_str() {
            ANY => Symbol::Any,
            START => Symbol::Start,
            text => unbound(text),
        };
        let new = nodes.len() as u32;
        let node = *known.entry((parent, symbol.clone())).or_insert(new);
        if node == new {
            nodes.push(Node { parent, symbol, importance: 0.0, activation: 0.0, ends: None, support: 0 });
        }
        open.push(Some(node));
        if open.len() > DEEPEST + 1 {
            return Err(Error::TooLarge { what: "patterns of length", count: open.len() - 1, limit: DEEPEST });
        }
        is_first = true;
    }
    Ok(nodes)
}

/// Scanner of JSON.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Skips white space, and returns the rest of the text.
    fn rest(&mut self) -> &'a str {
        let rest = self.text[self.at..].trim_start_matches([' ', '\n', '\r', '\t']);
        self.at = self.text.len() - rest.len();
        rest
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.rest().starts_with(wanted);
        self.at += if found { wanted.len_utf8() } else { 0 };
        found
    }

    fn expect(&mut self, wanted: char) -> Result<()> {
        if self.take(wanted) { Ok(()) } else { Err(self.unexpected(wanted)) }
    }

    fn string(&mut self) -> Result<String> {
        let rest = self.rest();
        let mut is_escaped = false;
        let closing = rest.char_indices().skip(1).find(|(_, letter)| {
            let closes = *letter == '"' && !is_escaped;
            is_escaped = *letter == '\\' && !is_escaped;
            closes
        });
        let string = closing.and_then(|(end, _)| serde_json::from_str(&rest[..=end]).ok().map(|string| (string, end)));
        let (string, end) = string.ok_or_else(|| self.unexpected("a string"))?;
        self.at += end + 1;
        Ok(string)
    }

    fn number(&mut self) -> Result<f32> {
        let rest = self.rest();
        let end = rest.find([',', '}', ' ', '\n', '\r', '\t']).unwrap_or(rest.len());
        let number = serde_json::from_str(&rest[..end]).map_err(|_| self.unexpected("a number"))?;
        self.at += end;
        Ok(number)
    }

    fn unexpected(&self, wanted: impl std::fmt::Display) -> Error {
        malformed(FORMAT, format!("{wanted} is missing at byte {}", self.at))
    }
}

/// Writes a graph as text; `greatest` is that of [`parse`].
///
/// # Errors
/// [`Error::Inexpressible`] if it has gaps.
pub fn print(graph: &Graph, greatest: f32) -> Result<String> {
    let mut text = "{\"trie\":{".to_owned();
    let graph = graph.expanded();
    let depths = graph.depths();
    let mut depth = 0;
    for (i, node) in graph.nodes().iter().enumerate() {
        // The nodes come depth first: open nodes of the same depth or deeper are closed.
        let closed = depth - depths[i];
        text.extend(std::iter::repeat_n('}', closed as usize));
        if !text.ends_with('{') {
            text.push(',');
        }
        depth = depths[i] + 1;
        let key = match &node.symbol {
            Symbol::Token(token) => &token.text,
            Symbol::Any => ANY,
            Symbol::Start => START,
            Symbol::Gap(_) => return Err(Error::Inexpressible { format: FORMAT, what: "gaps" }),
        };
        text += &format!("{}:{{", serde_json::Value::from(key));
        if let Some(ends) = node.ends {
            let value = ends * greatest;
            if !value.is_finite() {
                return Err(Error::NotFinite { node: i, what: "activation", value: value.to_string() });
            }
            text += &format!("\"{END}\":{value:?}");
        }
    }
    text.extend(std::iter::repeat_n('}', depth as usize + 2));
    Ok(text)
}
