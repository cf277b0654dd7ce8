//! The best pattern through each node.

use crate::Graph;

/// Best pattern through each node: the one that predicts the greatest activation, the first of several.
pub(super) struct BestPatterns {
    /// Activation that it predicts, and the node of its end; `None` if no pattern through the node is complete.
    complete: Vec<Option<(f32, u32)>>,
    /// The first node without children at or below the node.
    leaves: Vec<u32>,
}

impl BestPatterns {
    /// Finds those of a graph without alternatives.
    pub fn of(graph: &Graph) -> Self {
        let nodes = graph.nodes();
        // Adding 0 makes −0 and 0 one number.
        let mut complete: Vec<_> =
            nodes.iter().zip(0u32..).map(|(node, at)| node.ends.map(|ends| (ends + 0.0, at))).collect();
        let mut leaves: Vec<u32> = (0..nodes.len() as u32).collect();
        for at in (0..nodes.len()).rev() {
            // A node's first child comes right after it.
            if nodes.get(at + 1).is_some_and(|next| next.parent == Some(at as u32)) {
                leaves[at] = leaves[at + 1];
            }
            let Some(parent) = nodes[at].parent.map(|parent| parent as usize) else { continue };
            let is_better = |(ends, end): (f32, u32)| {
                complete[parent].is_none_or(|(best, first)| ends > best || (ends == best && end < first))
            };
            if complete[at].is_some_and(is_better) {
                complete[parent] = complete[at];
            }
        }
        Self { complete, leaves }
    }

    /// Activation that the best pattern through a node predicts; 0 if none is complete.
    pub fn activation(&self, node: u32) -> f32 {
        self.complete[node as usize].map_or(0.0, |(ends, _)| ends)
    }

    /// Node where the best pattern through a node ends.
    pub fn end(&self, node: u32) -> u32 {
        self.complete[node as usize].map_or(self.leaves[node as usize], |(_, end)| end)
    }
}
