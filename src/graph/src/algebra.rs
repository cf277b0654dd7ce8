//! Graphs as sets of patterns.
//!
//! Graphs are merged node by node rather than pattern by pattern with a [`Builder`](crate::Builder), which counts
//! inserted patterns as support and so could not keep the support that nodes have.

use std::collections::HashMap;

use crate::token_key::SymbolIdentity;
use crate::{Graph, Node, Result};

impl Graph {
    /// Union: the patterns of either graph. Nodes of both graphs have the greater of each of their numbers.
    ///
    /// Here as in the other operations, tokens of the two graphs are the same if their texts are (their ids, where the
    /// text has U+FFFD); the result has the first graph's. Nodes with alternatives are a node for each, in the result too.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge).
    pub fn union(&self, other: &Self) -> Result<Self> {
        let (one, other) = (self.expanded(), other.expanded());
        let mut nodes = one.nodes().to_vec();
        let mut places = places(&one);
        let mut place_of: Vec<u32> = Vec::with_capacity(other.nodes().len());
        for node in other.nodes() {
            let parent = node.parent.map(|parent| place_of[parent as usize]);
            let new = nodes.len() as u32;
            let place = *places.entry((parent, (&node.symbol).into())).or_insert(new);
            if place == new {
                nodes.push(Node { parent, ..node.clone() });
            } else {
                let known = &mut nodes[place as usize];
                *known = combined(known, node, f32::max, u32::max, |one, other| match (one, other) {
                    (Some(one), Some(other)) => Some(one.max(other)),
                    (one, other) => one.or(other),
                });
            }
            place_of.push(place);
        }
        Self::new(nodes)
    }

    /// Intersection: the patterns of both graphs, with the lesser of each of their numbers.
    ///
    /// # Errors
    /// None: the result is a part of the graph. (That of [`Graph::new`] is passed on.)
    pub fn intersection(&self, other: &Self) -> Result<Self> {
        let (one, other) = (self.expanded(), other.expanded());
        let counterpart = one.counterparts(&other);
        let nodes = one.nodes().iter().zip(counterpart).map(|(node, place)| match place {
            Some(place) => combined(node, &other.nodes()[place as usize], f32::min, u32::min, |one, other| {
                one.zip(other).map(|(one, other)| one.min(other))
            }),
            None => Node { ends: None, ..node.clone() },
        });
        complete(nodes.collect())
    }

    /// Difference: the patterns of this graph that the other lacks. Predicted activations are not compared.
    ///
    /// ```
    /// use neuroql_graph::{Graph, Node, Symbol};
    ///
    /// let node = |parent, token: &str, ends| {
    ///     Node { parent, symbol: Symbol::token(1, token), importance: 1.0, activation: 1.0, ends, support: 1 }
    /// };
    /// let cat = Graph::new(vec![node(None, " cat", Some(0.5))])?;
    /// let pets = Graph::new(vec![node(None, " cat", Some(1.0)), node(None, " dog", Some(0.5))])?;
    /// assert_eq!(cat.union(&pets)?, pets);
    /// assert_eq!(cat.intersection(&pets)?, cat);
    /// assert_eq!(pets.difference(&cat)?, Graph::new(vec![node(None, " dog", Some(0.5))])?);
    /// # Ok::<(), neuroql_graph::Error>(())
    /// ```
    ///
    /// # Errors
    /// None: the result is a part of the graph. (That of [`Graph::new`] is passed on.)
    pub fn difference(&self, other: &Self) -> Result<Self> {
        let (one, other) = (self.expanded(), other.expanded());
        let counterpart = one.counterparts(&other);
        let nodes = one.nodes().iter().zip(counterpart).map(|(node, place)| {
            let known = place.is_some_and(|place| other.nodes()[place as usize].ends.is_some());
            Node { ends: node.ends.filter(|_| !known), ..node.clone() }
        });
        complete(nodes.collect())
    }

    /// The node of the other graph with the same path from the activator, for each node.
    fn counterparts(&self, other: &Self) -> Vec<Option<u32>> {
        let places = places(other);
        let mut counterparts: Vec<Option<u32>> = Vec::with_capacity(self.nodes().len());
        for node in self.nodes() {
            // The other graph lacks all nodes below a node that it lacks.
            let parent = node.parent.map(|parent| counterparts[parent as usize]);
            let place =
                (parent != Some(None)).then(|| places.get(&(parent.flatten(), (&node.symbol).into()))).flatten();
            counterparts.push(place.copied());
        }
        counterparts
    }
}

/// Index of each node by its parent and symbol; of siblings whose tokens have the same text, the first.
fn places(graph: &Graph) -> HashMap<(Option<u32>, SymbolIdentity<'_>), u32> {
    let mut places = HashMap::with_capacity(graph.nodes().len());
    for (place, node) in (0..).zip(graph.nodes()) {
        places.entry((node.parent, (&node.symbol).into())).or_insert(place);
    }
    places
}

fn combined(
    one: &Node,
    other: &Node,
    number: fn(f32, f32) -> f32,
    support: fn(u32, u32) -> u32,
    ends: fn(Option<f32>, Option<f32>) -> Option<f32>,
) -> Node {
    Node {
        parent: one.parent,
        symbol: one.symbol.clone(),
        importance: number(one.importance, other.importance),
        activation: number(one.activation, other.activation),
        ends: ends(one.ends, other.ends),
        support: support(one.support, other.support),
    }
}

/// The graph of the nodes, given depth first, at or below which a pattern ends.
pub(crate) fn complete(nodes: Vec<Node>) -> Result<Graph> {
    let mut kept: Vec<bool> = nodes.iter().map(|node| node.ends.is_some()).collect();
    for (place, node) in nodes.iter().enumerate().rev() {
        if let Some(parent) = node.parent {
            kept[parent as usize] |= kept[place];
        }
    }
    let mut next = 0;
    let place = |kept: &bool| {
        let place = next;
        next += u32::from(*kept);
        place
    };
    let place_of: Vec<u32> = kept.iter().map(place).collect();
    let moved = |node: Node| Node { parent: node.parent.map(|parent| place_of[parent as usize]), ..node };
    Graph::new(nodes.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(node, _)| moved(node)).collect())
}
