//! Builder of a trie of patterns.

use std::collections::HashMap;

use crate::graph::DEEPEST;
use crate::{Element, Error, Graph, Node, Pattern, Result, Symbol};

/// Greatest number of nodes that generalising may make.
const MOST_GENERALISED: usize = 1 << 18;

/// Rule for the numbers of a node that several patterns share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The numbers of the first pattern, as in Neuron2Graph.
    FirstWins,
    /// The greatest of each number, whatever the order of the patterns.
    Max,
}

/// Builder of a graph from patterns.
#[derive(Debug, Clone)]
pub struct Builder {
    policy: Policy,
    symbols: HashMap<Symbol, u32>,
    nodes: Vec<BuilderNode>,
    children: HashMap<(u32, u32), u32>,
    /// The same trie without wildcards, as Neuron2Graph draws it. It decides [`BuilderNode::drawn_end`].
    drawn: HashMap<(u32, u32), u32>,
}

/// A node of the builder. Node 0 is above the activators.
#[derive(Debug, Clone)]
struct BuilderNode {
    element: Element,
    symbol: u32,
    ends: Option<f32>,
    support: u32,
    children: Vec<u32>,
    /// True if the pattern that made it ends here when wildcards are left out and was the first to. It outlives
    /// generalisation even when the pattern itself has more wildcards.
    drawn_end: bool,
}

impl BuilderNode {
    fn new(element: Element, symbol: u32) -> Self {
        Self { element, symbol, ends: None, support: 0, children: Vec::new(), drawn_end: false }
    }
}

impl Builder {
    /// Makes an empty trie.
    pub fn new(policy: Policy) -> Self {
        let top = Element { symbol: Symbol::Any, importance: 0.0, activation: 0.0 };
        let nodes = vec![BuilderNode::new(top, u32::MAX)];
        Self { policy, symbols: HashMap::new(), nodes, children: HashMap::new(), drawn: HashMap::new() }
    }

    /// Adds a pattern, if it has any elements.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if it has more elements than [`DEEPEST`].
    pub fn insert(&mut self, pattern: &Pattern) -> Result<()> {
        let length = pattern.elements.len();
        if length > DEEPEST {
            return Err(Error::TooLarge { what: "patterns of length", count: length, limit: DEEPEST });
        }
        let (mut at, mut drawn) = (0, 0);
        let mut last_drawn = None;
        for element in &pattern.elements {
            let symbol = self.intern(&element.symbol);
            let known = self.nodes.len();
            at = self.child(at, element, symbol);
            self.nodes[at as usize].support += 1;
            if element.symbol != Symbol::Any {
                let next = self.drawn.len() as u32 + 1;
                let below = *self.drawn.entry((drawn, symbol)).or_insert(next);
                last_drawn = (below == next && at as usize == known).then_some(at);
                drawn = below;
            }
        }
        if let Some(end) = last_drawn {
            self.nodes[end as usize].drawn_end = true;
        }
        if at != 0 {
            self.end(at, pattern.ends);
        }
        Ok(())
    }

    /// Generalises, as Neuron2Graph does: in a node with a wildcard of one token below it, all that follows its other
    /// children follows the wildcard too, and only those children where a pattern ends are kept.
    ///
    /// # Errors
    /// [`Error::TooLarge`]: a child that is kept and its copy are each generalised again, so the result can be
    /// exponentially larger.
    pub fn merge_wildcards(&mut self) -> Result<()> {
        let any = self.intern(&Symbol::Any);
        // Nodes are generalised after all above them; the order of siblings does not matter.
        let mut waiting = vec![0];
        while let Some(node) = waiting.pop() {
            if let Some(wildcard) = self.children.get(&(node, any)).copied() {
                self.generalise(node, wildcard)?;
            }
            waiting.extend(&self.nodes[node as usize].children);
        }
        Ok(())
    }

    /// Builds the graph. Siblings are in the order in which they first appeared.
    ///
    /// # Errors
    /// Errors of [`Graph::new`].
    pub fn build(self) -> Result<Graph> {
        let mut order = Vec::with_capacity(self.nodes.len());
        let below = |node: u32, parent: Option<u32>| {
            self.nodes[node as usize].children.iter().rev().map(move |child| (*child, parent))
        };
        let mut stack: Vec<(u32, Option<u32>)> = below(0, None).collect();
        while let Some((node, parent)) = stack.pop() {
            stack.extend(below(node, Some(order.len() as u32)));
            let BuilderNode { element, ends, support, .. } = &self.nodes[node as usize];
            let Element { symbol, importance, activation } = element.clone();
            order.push(Node { parent, symbol, importance, activation, ends: *ends, support: *support });
        }
        Graph::new(order)
    }

    fn intern(&mut self, symbol: &Symbol) -> u32 {
        if let Some(known) = self.symbols.get(symbol) {
            return *known;
        }
        let new = self.symbols.len() as u32;
        self.symbols.insert(symbol.clone(), new);
        new
    }

    /// Adds or updates the child of a node with a symbol, and returns it.
    fn child(&mut self, node: u32, element: &Element, symbol: u32) -> u32 {
        let new = self.nodes.len() as u32;
        let child = *self.children.entry((node, symbol)).or_insert(new);
        if child == new {
            self.nodes.push(BuilderNode::new(element.clone(), symbol));
            self.nodes[node as usize].children.push(new);
        } else if self.policy == Policy::Max {
            let known = &mut self.nodes[child as usize].element;
            known.importance = known.importance.max(element.importance);
            known.activation = known.activation.max(element.activation);
        }
        child
    }

    fn end(&mut self, node: u32, ends: f32) {
        let known = &mut self.nodes[node as usize].ends;
        *known = Some(match (*known, self.policy) {
            (None, _) => ends,
            (Some(known), Policy::FirstWins) => known,
            (Some(known), Policy::Max) => known.max(ends),
        });
    }

    /// Copies the nodes below the other children of a node below its wildcard, and removes children without an end.
    fn generalise(&mut self, node: u32, wildcard: u32) -> Result<()> {
        let siblings = std::mem::take(&mut self.nodes[node as usize].children);
        let mut kept = Vec::with_capacity(siblings.len());
        for child in siblings {
            if child == wildcard {
                kept.push(child);
                continue;
            }
            self.copy_below(child, wildcard)?;
            let BuilderNode { symbol, ends, drawn_end, .. } = &self.nodes[child as usize];
            if ends.is_some() || *drawn_end {
                kept.push(child);
            } else {
                self.children.remove(&(node, *symbol));
            }
        }
        self.nodes[node as usize].children = kept;
        Ok(())
    }

    /// Copies all nodes below a node, but not its own end, below another.
    fn copy_below(&mut self, from: u32, to: u32) -> Result<()> {
        let mut waiting = vec![(from, to)];
        while let Some((from, to)) = waiting.pop() {
            for index in 0..self.nodes[from as usize].children.len() {
                let old = self.nodes[from as usize].children[index];
                let BuilderNode { element, symbol, ends, support, drawn_end, .. } = self.nodes[old as usize].clone();
                let known = self.nodes.len();
                let new = self.child(to, &element, symbol);
                self.nodes[new as usize].support += support;
                if new as usize == known {
                    self.nodes[new as usize].drawn_end = drawn_end;
                }
                if let Some(ends) = ends {
                    self.end(new, ends);
                }
                waiting.push((old, new));
            }
            if self.nodes.len() > MOST_GENERALISED {
                let count = self.nodes.len();
                return Err(Error::TooLarge { what: "nodes when generalised", count, limit: MOST_GENERALISED });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str, ends: f32) -> Pattern {
        let symbol = |letter: char| match letter {
            '*' => Symbol::Any,
            letter => Symbol::token(letter as u32, letter.to_string()),
        };
        let element = |letter| Element { symbol: symbol(letter), importance: ends, activation: ends };
        Pattern { elements: text.chars().map(element).collect(), ends }
    }

    fn text(graph: &Graph) -> Vec<String> {
        let letter = |element: &Element| match &element.symbol {
            Symbol::Token(token) => token.text.to_string(),
            _ => "*".to_owned(),
        };
        graph.to_patterns().map(|pattern| pattern.elements.iter().map(letter).collect()).collect()
    }

    fn built(policy: Policy, patterns: &[(&str, f32)]) -> Builder {
        let mut builder = Builder::new(policy);
        patterns.iter().for_each(|(text, ends)| builder.insert(&pattern(text, *ends)).unwrap());
        builder
    }

    #[test]
    fn wildcards_generalise_what_is_beside_them() {
        let merged = |patterns: &[&str]| {
            let patterns: Vec<_> = patterns.iter().map(|text| (*text, 0.5)).collect();
            let mut builder = built(Policy::FirstWins, &patterns);
            builder.merge_wildcards().unwrap();
            text(&builder.build().unwrap())
        };
        assert_eq!(merged(&["c*a", "cbk"]), ["c*a", "c*k"]);
        assert_eq!(merged(&["c*a", "cb", "cbk"]), ["c*a", "c*k", "cb", "cbk"]);
        assert_eq!(merged(&["c*a*d", "cbaef"]), ["c*a*d", "c*a*f"]);
        // A node that is drawn as an end stays, though only a wildcard ends there.
        assert_eq!(merged(&["c*a", "cb*"]), ["c*a", "c**", "cb*"]);
    }

    #[test]
    fn policies_decide_about_shared_nodes() {
        let patterns = [("ab", 0.5), ("ab", 0.75), ("a", 0.25)];
        let first = built(Policy::FirstWins, &patterns).build().unwrap();
        let greatest = built(Policy::Max, &patterns).build().unwrap();
        let numbers = |graph: &Graph| {
            graph.nodes().iter().map(|node| (node.importance, node.ends, node.support)).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&first), [(0.5, Some(0.25), 3), (0.5, Some(0.5), 2)]);
        assert_eq!(numbers(&greatest), [(0.75, Some(0.25), 3), (0.75, Some(0.75), 2)]);
    }

    #[test]
    fn exponential_results_are_refused() {
        let mut builder = Builder::new(Policy::FirstWins);
        for depth in 1..=40 {
            let text: String = "a".repeat(depth) + "*b";
            builder.insert(&pattern(&text, 0.5)).unwrap();
            builder.insert(&pattern(&"a".repeat(depth), 0.5)).unwrap();
        }
        assert!(matches!(builder.merge_wildcards(), Err(Error::TooLarge { .. })));
    }
}
