//! Writer of the files of Neuron2Graph's notebooks.

use std::collections::{BTreeMap, BTreeSet};

use neuroql_graph::{Graph, Symbol};
use serde::Serialize;

use crate::graphs::dot;
use crate::{Place, Scores};

/// Folder of graphs and scores, below that of the model.
pub const GRAPHS: &str = "layer_all";

/// Neurons of a token, as the notebooks name them.
type Store = BTreeMap<String, BTreeSet<String>>;

/// Writes the results of one model: a drawing for each graph, then the files about all of them.
///
/// Paths are relative to the folder of the model, `neuron_graphs/{model}` of the notebooks.
#[derive(Debug, Default)]
pub struct Writer {
    stats: BTreeMap<u32, BTreeMap<u32, Entry>>,
    activating: Store,
    important: Store,
}

/// Scores of a neuron; `{}` if it has no graph.
#[derive(Debug, Default, Serialize)]
struct Entry {
    #[serde(rename = "1", skip_serializing_if = "Option::is_none")]
    one: Option<Class>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation: Option<f32>,
}

#[derive(Debug, Serialize)]
struct Class {
    precision: Option<f32>,
    recall: Option<f32>,
    #[serde(rename = "f1-score")]
    f1: Option<f32>,
    support: Option<i32>,
}

#[derive(Serialize)]
struct Tokens<'a> {
    activating: &'a Store,
    important: &'a Store,
}

/// A file: its path and its text.
pub type File = (String, String);

impl Writer {
    /// Takes a neuron with its graph and scores.
    pub fn add(&mut self, place: Place, graph: Option<&Graph>, scores: &Scores) -> Added {
        let neurons = self.stats.entry(place.layer).or_default();
        if neurons.contains_key(&place.neuron) {
            return Added::Twice;
        }
        let Some(graph) = graph else {
            neurons.insert(place.neuron, Entry::default());
            return Added::Neuron;
        };
        neurons.insert(place.neuron, entry(scores));
        let name = format!("{}_{}", place.layer, place.neuron);
        for node in graph.expanded().nodes() {
            let Symbol::Token(token) = &node.symbol else { continue };
            // A token of the context on which the neuron fires by itself counts as activating.
            let store = if node.activation > 0.5 { &mut self.activating } else { &mut self.important };
            store.entry(token.text.to_string()).or_default().insert(name.clone());
        }
        Added::Graph((format!("{GRAPHS}/{name}/graph"), dot::print(graph, dot::Thresholds::default())))
    }

    /// Returns the files about all neurons: scores, and neurons by token.
    pub fn finish(self) -> [File; 2] {
        let Self { stats, activating, important } = self;
        let tokens = Tokens { activating: &activating, important: &important };
        let json = |value: Result<String, serde_json::Error>| value.unwrap_or_else(|_| unreachable!("keys are texts"));
        [
            (format!("{GRAPHS}/stats.json"), json(serde_json::to_string_pretty(&stats))),
            ("neuron_store.json".to_owned(), json(serde_json::to_string_pretty(&tokens))),
        ]
    }
}

/// Outcome of adding a neuron.
#[derive(Debug, PartialEq, Eq)]
pub enum Added {
    /// A file has to be written.
    Graph(File),
    /// It has no graph, and so no file.
    Neuron,
    /// It has been there before: a folder has one graph of a neuron.
    Twice,
}

/// Scores; those that are not numbers are left out, which JSON has no word for.
fn entry(scores: &Scores) -> Entry {
    let number = |value: Option<f32>| value.filter(|value| value.is_finite());
    let Scores { precision, recall, f1, accuracy, r2, positives } = *scores;
    let class = Class { precision: number(precision), recall: number(recall), f1: number(f1), support: positives };
    let is_known = [class.precision, class.recall, class.f1].iter().any(Option::is_some) || positives.is_some();
    Entry { one: is_known.then_some(class), accuracy: number(accuracy), correlation: number(r2) }
}

#[cfg(test)]
mod tests {
    use neuroql_graph::{Node, Token};

    use super::*;
    use crate::n2g::N2g;
    use crate::{Item, LayerSelection, Request, Row, Source, Table};

    fn node(parent: Option<u32>, text: &str, activation: f32, ends: Option<f32>) -> Node {
        let symbol = Symbol::Token(Token { id: None, text: text.into() });
        Node { parent, symbol, importance: 1.0, activation, ends, support: 1 }
    }

    /// Written files are read back by the reader of published folders, as far as drawings can say it.
    #[test]
    fn it_is_read_back() {
        let graph = Graph::new(vec![
            node(None, " \"quoted\" \\ é", 1.0, None),
            node(Some(0), "ctx", 0.0, Some(1.0)),
            node(None, "123", 1.0, Some(1.0)),
        ])
        .unwrap();
        let scores = Scores {
            precision: Some(0.5),
            recall: Some(0.25),
            f1: Some(f32::NAN),
            accuracy: Some(0.75),
            r2: Some(0.5),
            positives: Some(8),
        };
        let mut writer = Writer::default();
        let folder = tempfile::tempdir().unwrap();
        let write = |(path, text): File| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let place = |layer, neuron| Place { layer, neuron };
        let Added::Graph(file) = writer.add(place(1, 17), Some(&graph), &scores) else { panic!("a graph") };
        write(file);
        assert_eq!(writer.add(place(0, 3), None, &Scores::default()), Added::Neuron);
        assert_eq!(writer.add(place(1, 17), Some(&graph), &scores), Added::Twice);
        writer.finish().into_iter().for_each(write);

        let store = std::fs::read_to_string(folder.path().join("neuron_store.json")).unwrap();
        let store: serde_json::Value = serde_json::from_str(&store).unwrap();
        assert_eq!(store["activating"][" \"quoted\" \\ é"], serde_json::json!(["1_17"]));
        assert_eq!(store["important"], serde_json::json!({"ctx": ["1_17"]}));

        let source = N2g::open(folder.path(), None, None).unwrap();
        let selection = vec![LayerSelection { layer: 1, neurons: None }];
        let mut rows = Vec::new();
        let mut sink = |item| {
            rows.push(item);
            std::ops::ControlFlow::Continue(())
        };
        source.scan(&Request { table: Table::Graphs, selection, columns: &[] }, &mut sink).unwrap();
        let [Item::Row(Row::Graph(read))] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((read.place, read.scores), (place(1, 17), Scores { f1: None, ..scores }));
        let texts = |graph: &Graph| {
            let text = |node: &Node| (node.symbol.clone(), node.parent, node.ends.is_some());
            graph.nodes().iter().map(text).collect::<Vec<_>>()
        };
        assert_eq!(texts(read.graph.as_ref().unwrap()), texts(&graph));
    }
}
