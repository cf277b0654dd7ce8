//! Drawings and texts of a graph for people to read.
//!
//! All of them are written in the order of the text: contexts on the left, the token on which the neuron fires on the
//! right. [`svg`], [`dot`] and [`mermaid`] draw what [`simplify`](crate::simplify) leaves; [`text`] lists patterns as
//! they are in the trie.

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

/// How a graph is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrawOptions {
    /// The title, such as the neuron's name.
    pub title: Option<String>,
    /// Nodes that a drawing may have; a larger graph is [simplified](crate::simplify), and tokens that lead to the same
    /// and follow the same share a node where there would be more than a third of it.
    pub max_nodes: usize,
    /// Lines that a text may have.
    pub max_patterns: usize,
}

impl Default for DrawOptions {
    fn default() -> Self {
        Self { title: None, max_nodes: 120, max_patterns: 1000 }
    }
}

impl DrawOptions {
    /// The title on one line, unless it is empty.
    fn heading(&self) -> Option<String> {
        let visible = |c: char| label::escape(c, false).unwrap_or_else(|| c.to_string());
        self.title.as_ref().filter(|title| !title.is_empty()).map(|title| title.chars().map(visible).collect())
    }
}
