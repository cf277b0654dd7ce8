//! A column of graphs: a list of nodes, depth first, each a struct of numbers and its token.
//!
//! | field | of a node |
//! |---|---|
//! | `parent` | the node one token nearer to the activator, counted within the graph; −1 at depth 0 |
//! | `token_id` | the token; −1 for the start of the text, −1 − n for a gap of up to n tokens; NULL for any one token |
//! | `token` | the token's text; NULL for what is no token |
//! | `importance`, `activation`, `ends`, `support` | as [`Node`] has them |
//!
//! After the nodes come the further tokens of nodes that match several ([`Alternative`]): `parent` is −2 − n for the node at
//! place n, `ends` is that of the node, and the other fields are the token's. In the rows of others they may be anywhere,
//! and `ends` may be NULL.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Float32Builder, Int32Array, Int32Builder, ListArray, StringArray,
    StringBuilder, StructArray, new_null_array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::error::{DataFusionError, Result};
use neuroql_graph::{Alternative, Graph, Node, Symbol, Validity, View, decode, encode};

use crate::Error;

/// The fields of a node.
pub fn node_fields() -> Fields {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    Fields::from(vec![
        field("parent", DataType::Int32),
        field("token_id", DataType::Int32),
        field("token", DataType::Utf8),
        field("importance", DataType::Float32),
        field("activation", DataType::Float32),
        field("ends", DataType::Float32),
        field("support", DataType::Int32),
    ])
}

fn element() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Struct(node_fields()), true))
}

/// The type of a graph in SQL.
pub fn graph_type() -> DataType {
    DataType::List(element())
}

/// Returns the type that a function takes for an argument of this type, if that is a graph: a list of structs with a
/// parent and a token, whatever the order of fields, their widths, or the kind of list.
pub fn accepts(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Null => Some(graph_type()),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => match item.data_type() {
            DataType::Null => Some(graph_type()),
            DataType::Struct(fields) => {
                let has = |name: &str| fields.iter().any(|field| field.name() == name);
                (has("parent") && (has("token_id") || has("token"))).then(|| data_type.clone())
            }
            _ => None,
        },
        _ => None,
    }
}

/// A column of graphs, its fields found by name and cast to the types of [`node_fields`].
#[derive(Debug, Clone)]
pub struct GraphColumn {
    offsets: OffsetBuffer<i32>,
    nulls: Option<NullBuffer>,
    /// Nulls of nodes that are NULL as a whole.
    node_nulls: Option<NullBuffer>,
    /// Parents of all nodes.
    pub parent: Int32Array,
    /// Token ids of all nodes.
    pub token_id: Int32Array,
    /// Texts of all nodes' tokens.
    pub token: StringArray,
    /// Importances of all nodes.
    pub importance: Float32Array,
    /// Activations of all nodes.
    pub activation: Float32Array,
    /// Predictions of all nodes at which a pattern ends.
    pub ends: Float32Array,
    /// Supports of all nodes.
    pub support: Int32Array,
}

impl GraphColumn {
    /// Reads a column.
    ///
    /// # Errors
    /// [`Error::NotAGraph`] if it is no list of structs with a parent and a token; an error of casting its fields.
    pub fn try_new(array: &dyn Array) -> Result<Self> {
        let not_a_graph = || Error::NotAGraph(format!("its type is {}", array.data_type()));
        let list = match array.data_type() {
            DataType::List(_) => array.as_list::<i32>().clone(),
            DataType::Null => new_null_array(&graph_type(), array.len()).as_list::<i32>().clone(),
            DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::FixedSizeList(item, _) => {
                cast(array, &DataType::List(Arc::clone(item)))?.as_list::<i32>().clone()
            }
            _ => return Err(not_a_graph().into()),
        };
        let nodes = match list.values().data_type() {
            DataType::Struct(_) => list.values().as_struct().clone(),
            DataType::Null => new_null_array(&DataType::Struct(node_fields()), list.values().len()).as_struct().clone(),
            _ => return Err(not_a_graph().into()),
        };
        let fields = node_fields();
        let field = |name: &str| -> Result<ArrayRef> {
            // Every name asked for below is one of the fields.
            let data_type = fields.find(name).map_or(DataType::Null, |(_, field)| field.data_type().clone());
            match nodes.column_by_name(name) {
                Some(column) => Ok(cast(column, &data_type)?),
                None => Ok(new_null_array(&data_type, nodes.len())),
            }
        };
        if nodes.column_by_name("parent").is_none() {
            return Err(not_a_graph().into());
        }
        Ok(Self {
            offsets: list.offsets().clone(),
            nulls: list.nulls().cloned(),
            node_nulls: nodes.nulls().cloned(),
            parent: field("parent")?.as_primitive().clone(),
            token_id: field("token_id")?.as_primitive().clone(),
            token: field("token")?.as_string().clone(),
            importance: field("importance")?.as_primitive().clone(),
            activation: field("activation")?.as_primitive().clone(),
            ends: field("ends")?.as_primitive().clone(),
            support: field("support")?.as_primitive().clone(),
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns true if a row is NULL.
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Returns the range of a row's nodes in the columns.
    pub fn nodes(&self, row: usize) -> Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    /// Returns the graph of a row.
    ///
    /// # Errors
    /// [`neuroql_graph::Error::Malformed`] for nodes that say nothing, and all that [`Graph::new`] refuses.
    pub fn graph(&self, row: usize) -> Result<Option<Graph>, neuroql_graph::Error> {
        if self.is_null(row) {
            return Ok(None);
        }
        self.check_parents(row)?;
        let rows = self.nodes(row);
        // Index of each node among the nodes; `None` for alternatives.
        let mut places: Vec<Option<u32>> = Vec::with_capacity(rows.len());
        let mut count = 0;
        for i in rows.clone() {
            places.push((self.parent.value(i) >= -1).then_some(count));
            count += u32::from(self.parent.value(i) >= -1);
        }
        let place = |i: usize, of: i32| {
            let place = usize::try_from(of).ok().and_then(|of| places.get(of).copied().flatten());
            let dangling = || neuroql_graph::Error::Dangling {
                node: i - rows.start,
                parent: self.parent.value(i).into(),
                nodes: rows.len(),
            };
            place.ok_or_else(dangling)
        };
        let (mut nodes, mut alternatives) = (Vec::with_capacity(count as usize), Vec::new());
        for i in rows.clone() {
            match self.parent.value(i) {
                -1 => nodes.push(self.node(i, None)?),
                parent @ 0.. => nodes.push(self.node(i, Some(place(i, parent)?))?),
                other => alternatives.push((i, self.alternative(i, place(i, -2 - other)?)?)),
            }
        }
        let predicts_other = |(i, other): &(usize, Alternative)| {
            self.ends.is_valid(*i) && nodes[other.node as usize].ends != Some(self.ends.value(*i))
        };
        if let Some((i, _)) = alternatives.iter().find(|other| predicts_other(other)) {
            return Err(malformed(format!(
                "row {} predicts something else than the node that it is of",
                i - rows.start
            )));
        }
        let alternatives = alternatives.into_iter().map(|(_, other)| other).collect();
        Graph::with_alternatives(nodes, alternatives).map(Some)
    }

    /// Returns the graph of a row as a [`Matcher`](neuroql_graph::Matcher) takes it.
    ///
    /// # Errors
    /// [`neuroql_graph::Error::Malformed`] for nodes that say nothing.
    pub fn view(&self, row: usize) -> Result<View<'_>, neuroql_graph::Error> {
        self.check_parents(row)?;
        let range = self.nodes(row);
        let start = range.start;
        fn validity(nulls: Option<&NullBuffer>, start: usize) -> Option<Validity<'_>> {
            nulls.map(|nulls| Validity { bytes: nulls.validity(), offset: nulls.offset() + start })
        }
        Ok(View {
            parents: &self.parent.values()[range.clone()],
            token_ids: &self.token_id.values()[range.clone()],
            token_id_validity: validity(self.token_id.nulls(), start),
            token_validity: validity(self.token.nulls(), start),
            ends: &self.ends.values()[range],
            ends_validity: validity(self.ends.nulls(), start),
        })
    }

    /// Returns true if two rows predict the same: their nodes have the same parents, tokens and ends.
    pub fn same(&self, one: usize, other: usize) -> bool {
        let (a, b) = (self.nodes(one), self.nodes(other));
        fn equal<T: Array>(column: &T, a: &Range<usize>, b: &Range<usize>) -> bool {
            column
                .nulls()
                .is_none_or(|nulls| a.clone().zip(b.clone()).all(|(a, b)| nulls.is_null(a) == nulls.is_null(b)))
        }
        a.len() == b.len()
            && self.is_null(one) == self.is_null(other)
            && self.parent.values()[a.clone()] == self.parent.values()[b.clone()]
            && self.token_id.values()[a.clone()] == self.token_id.values()[b.clone()]
            && self.ends.values()[a.clone()] == self.ends.values()[b.clone()]
            && equal(&self.parent, &a, &b)
            && equal(&self.token_id, &a, &b)
            && equal(&self.token, &a, &b)
            && equal(&self.ends, &a, &b)
    }

    /// Checks that no node of a row is NULL or has a NULL parent; the graph room checks the rest.
    fn check_parents(&self, row: usize) -> Result<(), neuroql_graph::Error> {
        let range = self.nodes(row);
        let missing = [self.node_nulls.as_ref(), self.parent.nulls()].into_iter().flatten();
        for nulls in missing.filter(|nulls| nulls.null_count() > 0) {
            if let Some(i) = range.clone().find(|i| nulls.is_null(*i)) {
                return Err(malformed(format!("node {} has no parent; -1 stands for none", i - range.start)));
            }
        }
        Ok(())
    }

    fn alternative(&self, i: usize, node: u32) -> Result<Alternative, neuroql_graph::Error> {
        let Node { symbol, importance, activation, support, .. } = self.node(i, None)?;
        match symbol {
            Symbol::Token(token) => Ok(Alternative { node, token, importance, activation, support }),
            _ => Err(malformed("a further token of a node is a wildcard".to_owned())),
        }
    }

    fn node(&self, i: usize, parent: Option<u32>) -> Result<Node, neuroql_graph::Error> {
        let id = self.token_id.is_valid(i).then(|| self.token_id.value(i));
        let text = self.token.is_valid(i).then(|| self.token.value(i));
        // Graphs that people write have no more than parents, tokens and ends.
        let number = |column: &Float32Array| if column.is_valid(i) { column.value(i) } else { 1.0 };
        let support = if self.support.is_valid(i) { self.support.value(i) } else { 1 };
        Ok(Node {
            parent,
            symbol: decode(id, text)?,
            importance: number(&self.importance),
            activation: number(&self.activation),
            ends: self.ends.is_valid(i).then(|| self.ends.value(i)),
            support: u32::try_from(support).map_err(|_| malformed(format!("{support} is no support")))?,
        })
    }
}

fn malformed(reason: String) -> neuroql_graph::Error {
    neuroql_graph::Error::Malformed { format: "columns", reason }
}

/// Writes a column of graphs.
#[derive(Debug, Default)]
pub struct GraphBuilder {
    lengths: Vec<usize>,
    valid: Vec<bool>,
    parent: Int32Builder,
    token_id: Int32Builder,
    token: StringBuilder,
    importance: Float32Builder,
    activation: Float32Builder,
    ends: Float32Builder,
    support: Int32Builder,
}

impl GraphBuilder {
    /// Adds a row.
    ///
    /// # Errors
    /// [`neuroql_graph::Error::Malformed`] for a graph that the layout cannot hold: numbers beyond an `int`, a gap of
    /// no token.
    pub fn append(&mut self, graph: Option<&Graph>) -> Result<(), neuroql_graph::Error> {
        let int = |n: u32| i32::try_from(n).map_err(|_| malformed(format!("{n} is beyond {}", i32::MAX)));
        self.valid.push(graph.is_some());
        let nodes = graph.map_or(&[][..], Graph::nodes);
        let alternatives = graph.map_or(&[][..], Graph::alternatives);
        self.lengths.push(nodes.len() + alternatives.len());
        for node in nodes {
            let parent = node.parent.map_or(Ok(-1), int)?;
            self.append_row(parent, &node.symbol, [node.importance, node.activation], node.ends, int(node.support)?)?;
        }
        for Alternative { node, token, importance, activation, support } in alternatives {
            let (symbol, ends) = (Symbol::Token(token.clone()), nodes[*node as usize].ends);
            self.append_row(-2 - int(*node)?, &symbol, [*importance, *activation], ends, int(*support)?)?;
        }
        Ok(())
    }

    fn append_row(
        &mut self,
        parent: i32,
        symbol: &Symbol,
        [importance, activation]: [f32; 2],
        ends: Option<f32>,
        support: i32,
    ) -> Result<(), neuroql_graph::Error> {
        let (id, text) = encode(symbol)?;
        self.parent.append_value(parent);
        self.token_id.append_option(id);
        self.token.append_option(text);
        self.importance.append_value(importance);
        self.activation.append_value(activation);
        self.ends.append_option(ends);
        self.support.append_value(support);
        Ok(())
    }

    /// Returns the column.
    ///
    /// # Errors
    /// Returns an error if it has more than two thousand million nodes.
    pub fn finish(mut self) -> Result<ListArray> {
        let nodes: usize = self.lengths.iter().sum();
        if i32::try_from(nodes).is_err() {
            return Err(DataFusionError::ResourcesExhausted(format!("{nodes} nodes of graphs in one batch")));
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.parent.finish()),
            Arc::new(self.token_id.finish()),
            Arc::new(self.token.finish()),
            Arc::new(self.importance.finish()),
            Arc::new(self.activation.finish()),
            Arc::new(self.ends.finish()),
            Arc::new(self.support.finish()),
        ];
        let values = StructArray::try_new(node_fields(), columns, None)?;
        let offsets = OffsetBuffer::from_lengths(self.lengths);
        Ok(ListArray::try_new(element(), offsets, Arc::new(values), Some(NullBuffer::from(self.valid)))?)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Int64Array;
    use neuroql_graph::{Matcher, Semantics, Token};

    use super::*;

    fn sample() -> Graph {
        let node = |parent, symbol, ends| Node { parent, symbol, importance: 0.5, activation: 0.25, ends, support: 3 };
        let unknown = Symbol::Token(Token { id: None, text: "x".into() });
        Graph::new(vec![
            node(None, Symbol::token(7, " a"), None),
            node(Some(0), Symbol::Any, Some(0.75)),
            node(Some(1), Symbol::Start, Some(1.0)),
            node(Some(0), Symbol::Gap(3), None),
            node(Some(3), unknown, Some(0.5)),
        ])
        .unwrap()
    }

    #[test]
    fn graphs_come_back() {
        let mut builder = GraphBuilder::default();
        for graph in [Some(&sample()), None, Some(&Graph::default()), Some(&sample())] {
            builder.append(graph).unwrap();
        }
        let list = builder.finish().unwrap();
        assert_eq!(*list.data_type(), graph_type());
        let large = DataType::LargeList(element());
        for array in [cast(&list, &large).unwrap(), Arc::new(list.slice(0, 4)) as ArrayRef] {
            let column = GraphColumn::try_new(&array).unwrap();
            let graphs: Vec<_> = (0..column.len()).map(|row| column.graph(row).unwrap()).collect();
            assert_eq!(graphs, [Some(sample()), None, Some(Graph::default()), Some(sample())]);
        }
        let tail = GraphColumn::try_new(&list.slice(3, 1)).unwrap();
        assert_eq!(tail.graph(0).unwrap(), Some(sample()));
    }

    /// Makes a column of one graph, its fields in another order and width.
    fn column(parents: Vec<Option<i32>>, ids: Vec<Option<i64>>) -> GraphColumn {
        let nodes = parents.len();
        let texts: StringArray = ids.iter().map(|id| id.filter(|id| *id >= 0).map(|id| id.to_string())).collect();
        let ids = Int64Array::from(ids);
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        let fields = Fields::from(vec![
            field("token", DataType::Utf8),
            field("token_id", DataType::Int64),
            field("parent", DataType::Int32),
        ]);
        let columns: Vec<ArrayRef> = vec![Arc::new(texts), Arc::new(ids), Arc::new(Int32Array::from(parents))];
        let values = StructArray::new(fields.clone(), columns, None);
        let element = Arc::new(Field::new("element", DataType::Struct(fields), true));
        let list = ListArray::new(element, OffsetBuffer::from_lengths([nodes]), Arc::new(values), None);
        GraphColumn::try_new(&list).unwrap()
    }

    #[test]
    fn further_tokens_come_back() {
        let node = |parent, id: u32| Node {
            parent,
            symbol: Symbol::token(id, id.to_string()),
            importance: 0.5,
            activation: 0.25,
            ends: parent.map(|_| 0.75),
            support: 3,
        };
        let other = |node, id: u32| Alternative {
            node,
            token: Token { id: Some(id), text: id.to_string().into() },
            importance: 0.75,
            activation: 1.0,
            support: 2,
        };
        let others = vec![other(0, 3), other(1, 4), other(1, 5)];
        let graph = Graph::with_alternatives(vec![node(None, 1), node(Some(0), 2)], others).unwrap();
        let mut builder = GraphBuilder::default();
        [Some(&sample()), Some(&graph)].into_iter().for_each(|graph| builder.append(graph).unwrap());
        let list = builder.finish().unwrap();
        let read = GraphColumn::try_new(&list).unwrap();
        assert_eq!(read.graph(1).unwrap(), Some(graph));
        // The view matches what the graph does; rows may be in any order.
        let rows = column(vec![Some(-4), Some(3), Some(-2), Some(-1)], vec![Some(3), Some(2), Some(4), Some(1)]);
        let error = rows.graph(0).unwrap_err().to_string();
        assert!(error.contains("parent -4"), "{error}");
        let rows = column(vec![Some(-5), Some(3), Some(-3), Some(-1)], vec![Some(3), Some(2), Some(4), Some(1)]);
        let graph = rows.graph(0).unwrap().unwrap();
        assert_eq!((graph.nodes().len(), graph.alternatives().len()), (2, 2));
        let mut matched = Vec::new();
        let matcher = Matcher::new(read.view(1).unwrap(), Semantics::Longest).unwrap();
        matcher.simulate(&[5, 3, 2, 1, 4, 4], &mut matched);
        assert_eq!(matched, [0.0, 0.75, 0.0, 0.75, 0.0, 0.0]);
        assert!(Matcher::new(rows.view(0).unwrap(), Semantics::Longest).is_ok());
    }

    #[test]
    fn fields_are_found_by_name_and_numbers_left_out_are_one() {
        let graph = column(vec![Some(-1), Some(0)], vec![Some(5), None]).graph(0).unwrap().unwrap();
        let node = &graph.nodes()[0];
        assert_eq!((node.symbol.clone(), node.importance, node.support), (Symbol::token(5, "5"), 1.0, 1));
        assert_eq!(graph.nodes()[1].symbol, Symbol::Any);
    }

    #[test]
    fn what_is_no_graph_is_refused() {
        for (parents, ids, reason) in [
            (vec![Some(0)], vec![Some(1)], "ancestor of itself"),
            (vec![Some(-1), Some(9)], vec![Some(1), Some(2)], "parent 9"),
            (vec![Some(-2)], vec![Some(1)], "parent -2"),
            (vec![Some(-1), Some(-2), Some(-3)], vec![Some(1), Some(2), Some(3)], "parent -3"),
            (vec![Some(-1), Some(-2)], vec![Some(1), None], "wildcard"),
            (vec![Some(-1), Some(-2)], vec![Some(1), Some(1)], "same token"),
            (vec![Some(-1), Some(i32::MIN)], vec![Some(1), Some(2)], "parent -2147483648"),
            (vec![None], vec![Some(1)], "-1 stands for none"),
            (vec![Some(-1), Some(-1)], vec![Some(1), Some(1)], "same token"),
            (vec![Some(-1)], vec![Some(-70_000)], "-70000"),
        ] {
            let error = column(parents, ids).graph(0).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let chain = (0..1_000_000).map(|i| Some(i - 1)).collect();
        let error = column(chain, (0..1_000_000).map(Some).collect()).graph(0).unwrap_err();
        assert_eq!(error.sqlstate(), "54000", "{error}");
        assert!(GraphColumn::try_new(&Int32Array::from(vec![1])).is_err());
    }
}
