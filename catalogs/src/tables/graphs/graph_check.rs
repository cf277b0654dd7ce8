//! Check that a graph can be one of a model's neurons.

use std::collections::HashMap;
use std::sync::Arc;

use neuroql_graph::{Alternative, Graph, Node, Symbol, Token};
use neuroql_model::Model;

use crate::tables::graph_error::InvalidGraph;

/// A model's vocabulary: texts by id, and ids by text.
pub(crate) struct Vocabulary {
    model: Arc<Model>,
    /// Ids of texts; `None` where several tokens have the same one, as parts of characters have.
    ids: HashMap<String, Option<u32>>,
}

impl Vocabulary {
    pub fn of(model: &Arc<Model>) -> Self {
        let mut ids: HashMap<String, Option<u32>> = HashMap::new();
        for (id, text) in (0..).zip(model.tokenizer().texts().iter()) {
            ids.entry(text.clone()).and_modify(|known| *known = None).or_insert(Some(id));
        }
        Self { model: Arc::clone(model), ids }
    }

    /// Returns the graph with an id for each token that the vocabulary knows, or an error if it is of another model.
    pub fn bind(&self, graph: &Graph) -> Result<Graph, InvalidGraph> {
        let texts = self.model.tokenizer().texts();
        let (mut known, mut unknown) = (0_usize, None);
        let mut nodes: Vec<Node> = graph.nodes().to_vec();
        let mut alternatives: Vec<Alternative> = graph.alternatives().to_vec();
        let of_nodes = nodes.iter_mut().filter_map(|node| match &mut node.symbol {
            Symbol::Token(token) => Some(token),
            Symbol::Any | Symbol::Gap(_) | Symbol::Start => None,
        });
        for Token { id, text } in of_nodes.chain(alternatives.iter_mut().map(|other| &mut other.token)) {
            match *id {
                Some(token) => {
                    let of_model =
                        texts.get(token as usize).ok_or(InvalidGraph::NoToken { token, size: texts.len() })?;
                    if **text != **of_model {
                        let (found, of_model) = (text.to_string(), of_model.clone());
                        return Err(InvalidGraph::OtherToken { token, found, of_model });
                    }
                    known += 1;
                }
                None => {
                    *id = self.ids.get(&**text).copied().flatten();
                    match id {
                        Some(_) => known += 1,
                        None => unknown = Some(text.to_string()),
                    }
                }
            }
        }
        match unknown {
            Some(text) if known == 0 => Err(InvalidGraph::NothingKnown(text)),
            // Two texts may have turned out to be the same token.
            _ => Ok(Graph::with_alternatives(nodes, alternatives)?),
        }
    }
}
