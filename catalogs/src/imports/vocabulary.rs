//! Ids of token texts.

use std::collections::HashMap;
use std::sync::Arc;

use neuroql_graph::Graph;

/// A model's vocabulary, by the texts of its tokens.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    texts: Arc<[String]>,
    /// Ids of texts; `None` for those that several tokens have.
    ids: HashMap<String, Option<u32>>,
}

impl Vocabulary {
    pub fn new(texts: &Arc<[String]>) -> Self {
        let mut ids: HashMap<String, Option<u32>> = HashMap::with_capacity(texts.len());
        for (text, id) in texts.iter().zip(0..) {
            ids.entry(text.clone()).and_modify(|known| *known = None).or_insert(Some(id));
        }
        Self { texts: Arc::clone(texts), ids }
    }

    /// Gives the tokens of a graph their ids, unless its method names tokens by ids already.
    pub fn bind(&self, graph: &mut Graph, method: &str) {
        if method != "n2g-rs" {
            graph.bind(|text| self.id(text));
        }
    }

    /// Id of the one token that has this text.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied().flatten()
    }

    /// Text of a token.
    pub fn text(&self, id: u32) -> Option<Arc<str>> {
        self.texts.get(id as usize).map(|text| text.as_str().into())
    }
}
