//! Syntax of drawings: the part of Graphviz's language that they use.

use std::collections::HashMap;

use super::FORMAT;
use crate::graphs::malformed;
use neuroql_graph::{Error, Result};

/// A parsed drawing.
#[derive(Debug, Default)]
pub(super) struct Drawing {
    /// Nodes, in the order in which they are first named.
    pub nodes: Vec<Declared>,
    /// Edges, as indices of nodes.
    pub edges: Vec<(usize, usize)>,
    /// True if edges lead away from activators: those of Neuron2Graph do and have their arrowheads at the back.
    pub is_backward: bool,
    names: HashMap<String, usize>,
}

/// A node of a drawing.
#[derive(Debug)]
pub(super) struct Declared {
    /// Its label, with quotes and Graphviz's own escapes undone; its name if it has none.
    pub label: String,
    pub attributes: HashMap<String, String>,
}

impl Drawing {
    pub fn new(text: &str) -> Result<Self> {
        let mut scanner = Scanner { text, at: 0 };
        let mut this = Self::default();
        let first = scanner.text()?;
        if first.eq_ignore_ascii_case("strict") {
            scanner.text()?;
        } else if !first.eq_ignore_ascii_case("digraph") {
            return Err(scanner.error("it does not start with digraph"));
        }
        if !scanner.take("{") {
            scanner.text()?;
            scanner.expect("{")?;
        }
        let mut depth = 1;
        while depth > 0 {
            if scanner.take("}") {
                depth -= 1;
            } else if scanner.take("{") {
                depth += 1;
            } else if !scanner.take(";") {
                this.statement(&mut scanner)?;
            }
        }
        Ok(this)
    }

    fn statement(&mut self, scanner: &mut Scanner) -> Result<()> {
        let is_quoted = scanner.rest().starts_with('"');
        let name = scanner.text()?;
        if scanner.take("=") {
            return scanner.text().map(|_| ());
        }
        match name.to_ascii_lowercase().as_str() {
            "subgraph" if !is_quoted => {
                if !scanner.rest().starts_with('{') {
                    scanner.text()?;
                }
                return Ok(());
            }
            "graph" | "node" | "edge" if !is_quoted => return scanner.attributes().map(|_| ()),
            _ => (),
        }
        let mut chain = vec![self.node(name)];
        while scanner.take("->") {
            let name = scanner.text()?;
            chain.push(self.node(name));
        }
        let attributes = scanner.attributes()?;
        if let [node] = chain[..] {
            let node = &mut self.nodes[node];
            if let Some(label) = attributes.get("label") {
                node.label.clone_from(label);
            }
            node.attributes.extend(attributes);
        } else {
            self.is_backward |= attributes.get("dir").is_some_and(|dir| dir == "back");
            self.edges.extend(chain.windows(2).map(|pair| (pair[0], pair[1])));
        }
        Ok(())
    }

    fn node(&mut self, name: String) -> usize {
        let new = self.nodes.len();
        let node = *self.names.entry(name.clone()).or_insert(new);
        if node == new {
            self.nodes.push(Declared { label: name, attributes: HashMap::new() });
        }
        node
    }
}

/// Undoes the quotes of a text, and the escapes in it; a text without quotes stays as it is.
pub(super) fn unquoted(text: &str) -> String {
    let mut scanner = Scanner { text, at: 0 };
    match text.starts_with('"').then(|| scanner.quoted()) {
        Some(Ok(unquoted)) if scanner.at == text.len() => unquoted,
        _ => text.to_owned(),
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Skips white space and comments, and returns the rest of the text.
    fn rest(&mut self) -> &'a str {
        loop {
            let rest = self.text[self.at..].trim_start();
            let comment = match rest {
                _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
                _ if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
                _ => 0,
            };
            self.at = self.text.len() - rest.len() + comment;
            if comment == 0 {
                return rest;
            }
        }
    }

    fn take(&mut self, wanted: &str) -> bool {
        let found = self.rest().starts_with(wanted);
        self.at += if found { wanted.len() } else { 0 };
        found
    }

    fn expect(&mut self, wanted: &str) -> Result<()> {
        if self.take(wanted) { Ok(()) } else { Err(self.error(&format!("{wanted} is missing"))) }
    }

    /// Reads a name, a number or a text in quotes.
    fn text(&mut self) -> Result<String> {
        let rest = self.rest();
        if rest.starts_with('"') {
            return self.quoted();
        }
        let ends = |letter: char| letter.is_whitespace() || "{}[]=;,\"".contains(letter);
        let end = rest.find(ends).unwrap_or(rest.len());
        let end = rest[..end].find("->").unwrap_or(end);
        if end == 0 {
            return Err(self.error("a name is missing"));
        }
        self.at += end;
        Ok(rest[..end].to_owned())
    }

    fn quoted(&mut self) -> Result<String> {
        let rest = self.rest();
        let mut text = String::new();
        let mut letters = rest.char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => {
                    self.at += at + 1;
                    return Ok(text);
                }
                '\\' => match letters.next() {
                    Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                    Some((_, other)) => text.extend(['\\', other]),
                    None => break,
                },
                letter => text.push(letter),
            }
        }
        Err(self.error("a quote is not closed"))
    }

    /// Reads attributes in brackets, if there are any.
    fn attributes(&mut self) -> Result<HashMap<String, String>> {
        let mut attributes = HashMap::new();
        while self.take("[") {
            while !self.take("]") {
                if self.take(",") || self.take(";") {
                    continue;
                }
                let name = self.text()?;
                self.expect("=")?;
                let is_bare = name == "label" && !self.rest().starts_with('"');
                let value = if is_bare { self.bare_label() } else { self.text()? };
                attributes.insert(name, value);
            }
        }
        Ok(attributes)
    }

    /// Reads a label without quotes. Old versions wrote tokens as they are, even if Graphviz cannot read them: the
    /// label goes on to the next space, or to the last bracket before it if no attribute follows.
    fn bare_label(&mut self) -> String {
        let rest = self.rest();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let word = &rest[..end];
        let follows = rest[end..].trim_start();
        let name = follows.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(0);
        let is_followed = follows.starts_with(']') || (name > 0 && follows[name..].starts_with('='));
        let label = if is_followed { word } else { &word[..word.rfind(']').unwrap_or(word.len())] };
        self.at += label.len();
        label.to_owned()
    }

    fn error(&self, reason: &str) -> Error {
        malformed(FORMAT, format!("{reason} at byte {}", self.at))
    }
}
