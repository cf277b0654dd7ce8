//! Drawings and texts of a graph for people to read.
//!
//! All of them are written in the order of the text: contexts on the left, the token on which the neuron fires on the
//! right. [`svg`], [`dot`] and [`mermaid`] draw the graph that [`simplify`](crate::simplify) returns; [`text`] lists
//! patterns as they are in the trie.

mod colour;
mod dot;
mod label;
mod layout;
mod legend;
mod mermaid;
mod svg;
mod text;

pub use dot::dot;
pub(crate) use label::quoted;
pub use mermaid::mermaid;
pub use svg::svg;
pub(crate) use text::pattern_text;
pub use text::text;

/// Options of drawing a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrawOptions {
    /// The title, such as the neuron's name.
    pub title: Option<String>,
    /// Greatest number of nodes of a drawing. A larger graph is [simplified](crate::simplify); above a third of it,
    /// tokens with the same neighbours share a node.
    pub max_nodes: usize,
    /// Greatest number of patterns, and so of lines, of a text.
    pub max_patterns: usize,
}

impl Default for DrawOptions {
    fn default() -> Self {
        Self { title: None, max_nodes: 120, max_patterns: 1000 }
    }
}

impl DrawOptions {
    /// The title on one line; `None` if it is empty.
    fn heading(&self) -> Option<String> {
        let visible = |c: char| label::escape(c, false).unwrap_or_else(|| c.to_string());
        self.title.as_ref().filter(|title| !title.is_empty()).map(|title| title.chars().map(visible).collect())
    }
}
