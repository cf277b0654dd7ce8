//! Drawings and texts of a graph for people to read.
//!
//! All of them are written in the order of the text: contexts on the left, the token on which the neuron fires on the
//! right. [`svg`], [`dot`] and [`mermaid`] draw the graph that [`simplify`](crate::simplify) returns; [`text`] lists
//! patterns, those that differ in one token as one.

mod colour;
mod dot;
mod label;
mod layout;
mod legend;
mod mermaid;
mod products;
mod svg;
mod text;
mod theme;

pub use dot::dot;
pub(crate) use label::quoted;
pub use mermaid::mermaid;
pub use svg::svg;
pub(crate) use text::pattern_text;
pub use text::text;
pub use theme::Theme;

/// Options of drawing a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrawOptions {
    /// The title, such as the neuron's name.
    pub title: Option<String>,
    /// Greatest number of nodes of a drawing. A larger graph is [simplified](crate::simplify); above an eighth of it,
    /// tokens with the same neighbours share a node.
    pub max_nodes: usize,
    /// Greatest number of lines of a text.
    pub max_patterns: usize,
    /// Colours of an SVG, other than those of its nodes.
    pub theme: Theme,
    /// Address that the nodes of an SVG link to, before the query that finds neurons with their tokens in the same role:
    /// `/search?q=`. No links if there is none.
    pub link: Option<String>,
}

impl Default for DrawOptions {
    fn default() -> Self {
        Self { title: None, max_nodes: 120, max_patterns: 1000, theme: Theme::Light, link: None }
    }
}

impl DrawOptions {
    /// The title on one line; `None` if it is empty.
    fn heading(&self) -> Option<String> {
        let visible = |c: char| label::escape(c, false).unwrap_or_else(|| c.to_string());
        self.title.as_ref().filter(|title| !title.is_empty()).map(|title| title.chars().map(visible).collect())
    }
}
