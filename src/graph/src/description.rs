//! Size of a graph, as a reader meets it.

use std::collections::BTreeSet;

use crate::token_key::SymbolIdentity;
use crate::{Graph, Kind};

/// Bits that name a token: of vocabularies, most have fewer than 2¹⁸.
const NAME: f64 = 16.0;

/// Bits of a predicted activation, of which four tell one tenth from another.
const PREDICTION: f64 = 4.0;

/// Bits that say how many nodes are below a node: two parentheses a node write a tree.
const SHAPE: f64 = 2.0;

impl Graph {
    /// Number of distinct tokens that its nodes name.
    pub fn tokens(&self) -> usize {
        let nodes = self.nodes().iter().filter(|node| self.kind(node) != Kind::Wildcard);
        let own = nodes.map(|node| SymbolIdentity::from(&node.symbol));
        own.chain(self.other_tokens()).collect::<BTreeSet<_>>().len()
    }

    fn other_tokens(&self) -> impl Iterator<Item = SymbolIdentity<'_>> {
        self.alternatives().iter().map(|other| SymbolIdentity::from(&other.token))
    }

    /// Length of the graph's description, in bits: 16 for each distinct symbol; for each node which of these it is, 2
    /// for its place in the tree and 1 for whether a pattern ends there; for each further token of a node which it is, and
    /// 1 for that it is one; 4 for each predicted activation. 0 for a graph without nodes.
    pub fn description_length(&self) -> f64 {
        let own = self.nodes().iter().map(|node| SymbolIdentity::from(&node.symbol));
        let symbols = own.chain(self.other_tokens()).collect::<BTreeSet<_>>().len();
        let which = (symbols.max(1) as f64).log2();
        let nodes = (which + SHAPE + 1.0) * self.nodes().len() as f64;
        let others = (which + 1.0) * self.alternatives().len() as f64;
        NAME * symbols as f64 + nodes + others + PREDICTION * self.patterns() as f64
    }
}

#[cfg(test)]
mod tests {
    use crate::{Alternative, Graph, Node, Symbol, Token};

    #[test]
    fn descriptions_are_counted() {
        let node = |parent, symbol, ends| Node { parent, symbol, importance: 1.0, activation: 1.0, ends, support: 1 };
        let token = |text: &str| Symbol::token(1, text);
        assert_eq!((Graph::default().tokens(), Graph::default().description_length()), (0, 0.0));
        let one = Graph::new(vec![node(None, token("a"), Some(0.5))]).unwrap();
        assert_eq!((one.tokens(), one.description_length()), (1, 16.0 + 3.0 + 4.0));
        // "a" again, "b", and a gap.
        let four = Graph::new(vec![
            node(None, token("a"), None),
            node(Some(0), Symbol::Gap(2), None),
            node(Some(1), token("a"), Some(0.5)),
            node(Some(1), token("b"), Some(0.5)),
        ]);
        let four = four.unwrap();
        assert_eq!(four.tokens(), 2);
        assert!((four.description_length() - (3.0 * 16.0 + 4.0 * (3f64.log2() + 3.0) + 8.0)).abs() < 1e-9);
        // "a" and "c" as one node, after "b".
        let other = Alternative {
            node: 0,
            token: Token { id: Some(2), text: "c".into() },
            importance: 1.0,
            activation: 1.0,
            support: 1,
        };
        let nodes = vec![node(None, token("a"), None), node(Some(0), token("b"), Some(0.5))];
        let set = Graph::with_alternatives(nodes, vec![other]).unwrap();
        assert_eq!((set.tokens(), set.patterns()), (3, 1));
        let bits = 3.0 * 16.0 + 2.0 * (3f64.log2() + 3.0) + (3f64.log2() + 1.0) + 4.0;
        assert!((set.description_length() - bits).abs() < 1e-9);
    }
}
