//! Score of a match.

use std::cmp::Ordering;

use crate::{Node, Symbol};

/// Own activation above which a neuron counts as firing on a context token, as in Neuron2Graph's neuron store.
const FIRES_ABOVE: f32 = 0.5;

/// Roles of a token in a graph, the lesser first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A token that matters for the activation on a token after it.
    Important,
    /// A token on which the neuron fires: it is at depth 0, or the neuron's own activation on it is above 0.5.
    Activating,
}

impl Role {
    /// Both roles, the greater first.
    pub const ALL: [Self; 2] = [Self::Activating, Self::Important];

    /// Name of the role in queries and in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Activating => "activating",
            Self::Important => "important",
        }
    }

    /// Role of a node's token; `None` for wildcards.
    pub fn of(node: &Node) -> Option<Self> {
        let fires = node.parent.is_none() || node.activation > FIRES_ABOVE;
        matches!(node.symbol, Symbol::Token(_)).then_some(if fires { Self::Activating } else { Self::Important })
    }
}

/// Score of a token of a graph. Greater is better: first by role, then by activation, then by importance.
#[derive(Debug, Clone, Copy)]
pub struct Score {
    /// The role of the token.
    pub role: Role,
    /// The greatest activation predicted by a pattern that it is part of, over the neuron's greatest; 0 if it is part
    /// of no complete pattern.
    pub activation: f32,
    /// Its greatest importance.
    pub importance: f32,
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        let activation = || self.activation.total_cmp(&other.activation);
        let importance = || self.importance.total_cmp(&other.importance);
        self.role.cmp(&other.role).then_with(activation).then_with(importance)
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Score {}
