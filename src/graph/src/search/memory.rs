//! An index in memory.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::{Index, PostingList, Role, postings};
use crate::{Error, Graph, Result};

/// An index of graphs that are in memory.
///
/// ```
/// use neuroql_graph::Graph;
/// use neuroql_graph::formats::paths;
/// use neuroql_graph::search::{MemoryIndex, Query};
///
/// let graph = |token: &str| {
///     let end = r#"{"token": "**END**", "importance": 0.0, "activation": 0.9}"#;
///     paths::parse(&format!(r#"[[{{"token": "{token}", "importance": 1.0, "activation": 0.9}}, {end}]]"#))
/// };
/// let graphs = [graph(" import")?, graph(" from")?, graph("Import")?];
/// let index = MemoryIndex::new(graphs.iter().map(|graph| (graph, 0.5)));
///
/// let query: Query = "activating:import".parse()?;
/// let find = |ordinal: &u32| query.find(&graphs[*ordinal as usize]);
/// let found = query.search(&index, Some(10), |ordinals| Ok::<_, ()>(ordinals.iter().map(find).collect()));
/// let ordinals: Vec<_> = found.unwrap().iter().map(|found| found.ordinal).collect();
/// assert_eq!(ordinals, [0, 2]);
/// # Ok::<(), neuroql_graph::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemoryIndex {
    f1s: Vec<f32>,
    /// Lists, in the order of key, text and role.
    lists: Vec<List>,
    ordinals: Vec<u32>,
    activations: Vec<f32>,
    importances: Vec<f32>,
}

#[derive(Debug, Clone)]
struct List {
    key: Box<str>,
    text: Arc<str>,
    role: Role,
    /// Rows of the list in the columns.
    rows: Range<usize>,
}

/// Rows of each list by key, text and role: ordinal, activation and importance.
type ListRows = BTreeMap<(Box<str>, Arc<str>, Role), Vec<(u32, f32, f32)>>;

impl MemoryIndex {
    /// Makes the index of graphs with their F1 scores, NaN if unknown; ordinals are in their order.
    pub fn new<G: Borrow<Graph>>(graphs: impl IntoIterator<Item = (G, f32)>) -> Self {
        let mut this = Self::default();
        let mut rows = ListRows::new();
        for ((graph, f1), ordinal) in graphs.into_iter().zip(0u32..) {
            this.f1s.push(f1);
            for posting in postings(graph.borrow()) {
                let key = (posting.key.into_boxed_str(), posting.text, posting.score.role);
                let row = (ordinal, posting.score.activation, posting.score.importance);
                rows.entry(key).or_default().push(row);
            }
        }
        for ((key, text, role), rows) in rows {
            let start = this.ordinals.len();
            this.lists.push(List { key, text, role, rows: start..start + rows.len() });
            for (ordinal, activation, importance) in rows {
                this.ordinals.push(ordinal);
                this.activations.push(activation);
                this.importances.push(importance);
            }
        }
        this
    }

    /// Makes an index of its lists with their keys, in any order. `f1s` are the F1 scores of the graphs by ordinal.
    ///
    /// # Errors
    /// [`Error::Shape`] for a list whose columns have different lengths, [`Error::OutOfRange`] for one whose ordinals do
    /// not ascend or are not of a graph. Lists of the same key, text and role must be given once.
    pub fn from_lists<'a>(f1s: Vec<f32>, lists: impl IntoIterator<Item = (&'a str, PostingList<'a>)>) -> Result<Self> {
        let mut lists: Vec<_> = lists.into_iter().collect();
        lists.sort_by(|(key, one), (other_key, other)| {
            (key, one.text, one.role).cmp(&(other_key, other.text, other.role))
        });
        let mut this = Self { f1s, ..Self::default() };
        for (key, list) in lists {
            this.check(&list)?;
            this.append(key, &Arc::from(list.text), &list, 0);
        }
        Ok(this)
    }

    /// Concatenates indices: ordinals of each follow those of the one before.
    pub fn concat(parts: &[Self]) -> Self {
        let mut this = Self { f1s: parts.iter().flat_map(|part| &part.f1s).copied().collect(), ..Self::default() };
        let mut lists = Vec::with_capacity(parts.iter().map(|part| part.lists.len()).sum());
        let mut offset = 0;
        for part in parts {
            lists.extend(part.lists.iter().map(|list| (list, part, offset)));
            offset += part.f1s.len() as u32;
        }
        // A stable sort: lists of an earlier part stay before.
        lists.sort_by(|(one, ..), (other, ..)| {
            (&one.key, &one.text, one.role).cmp(&(&other.key, &other.text, other.role))
        });
        let rows = parts.iter().map(|part| part.ordinals.len()).sum();
        this.ordinals.reserve_exact(rows);
        this.activations.reserve_exact(rows);
        this.importances.reserve_exact(rows);
        for (list, part, offset) in lists {
            this.append(&list.key, &list.text, &part.posting_list(list), offset);
        }
        this
    }

    /// Lists with their keys, in the order of key, text and role.
    pub fn lists(&self) -> impl ExactSizeIterator<Item = (&str, PostingList<'_>)> {
        self.lists.iter().map(|list| (&*list.key, self.posting_list(list)))
    }

    fn check(&self, list: &PostingList<'_>) -> Result<()> {
        let expected = list.ordinals.len();
        for found in [list.activations.len(), list.importances.len()] {
            if found != expected {
                return Err(Error::Shape { what: "scores of a token", expected, found });
            }
        }
        let ascend = list.ordinals.is_sorted_by(|one, next| one < next);
        if !ascend || list.ordinals.last().is_some_and(|last| *last as usize >= self.f1s.len()) {
            let value = format!("{:?}", list.ordinals);
            return Err(Error::OutOfRange { what: "the places of graphs", value, allowed: "ascending and of a graph" });
        }
        Ok(())
    }

    /// Appends a list, or rows to the last list if key, text and role are the same.
    fn append(&mut self, key: &str, text: &Arc<str>, list: &PostingList<'_>, offset: u32) {
        let start = self.ordinals.len();
        self.ordinals.extend(list.ordinals.iter().map(|ordinal| ordinal + offset));
        self.activations.extend_from_slice(list.activations);
        self.importances.extend_from_slice(list.importances);
        let end = self.ordinals.len();
        match self.lists.last_mut() {
            Some(last) if *last.key == *key && last.text == *text && last.role == list.role => last.rows.end = end,
            _ => self.lists.push(List { key: key.into(), text: Arc::clone(text), role: list.role, rows: start..end }),
        }
    }

    /// Size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        let texts: usize = self.lists.iter().map(|list| list.key.len() + list.text.len()).sum();
        let columns = self.f1s.capacity() + self.ordinals.capacity() + self.activations.capacity();
        let columns = 4 * (columns + self.importances.capacity());
        size_of::<Self>() + self.lists.capacity() * size_of::<List>() + texts + columns
    }

    /// Lists from the first key that is not below `start` on, while `wanted` holds for their keys.
    fn lists_while(&self, start: &str, wanted: impl Fn(&str) -> bool) -> Vec<PostingList<'_>> {
        let first = self.lists.partition_point(|list| &*list.key < start);
        let lists = self.lists[first..].iter().take_while(|list| wanted(&list.key));
        lists.map(|list| self.posting_list(list)).collect()
    }

    fn posting_list<'a>(&'a self, list: &'a List) -> PostingList<'a> {
        PostingList {
            text: &list.text,
            role: list.role,
            ordinals: &self.ordinals[list.rows.clone()],
            activations: &self.activations[list.rows.clone()],
            importances: &self.importances[list.rows.clone()],
        }
    }
}

impl Index for MemoryIndex {
    fn f1s(&self) -> &[f32] {
        &self.f1s
    }

    fn lookup(&self, key: &str) -> Vec<PostingList<'_>> {
        self.lists_while(key, |found| found == key)
    }

    fn lookup_prefix(&self, prefix: &str) -> Vec<PostingList<'_>> {
        self.lists_while(prefix, |found| found.starts_with(prefix))
    }
}
