//! Reads a sample of each format, written by the formats' own programs as far as they could be run, and compares it with
//! what the other samples say of the same neurons.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use neuroql_formats::deepdecipher::DeepDecipher;
use neuroql_formats::n2g::N2g;
use neuroql_formats::neuroscope::Neuroscope;
use neuroql_formats::openai::OpenAi;
use neuroql_formats::{Error, Item, LayerSelection, Place, Reject, Request, Row, Source, Table};
use serde_json::Value;

fn sample(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/formats").join(path)
}

const ALL: [&str; 14] = [
    "mean",
    "variance",
    "skewness",
    "kurtosis",
    "max_activation",
    "nodes",
    "precision",
    "recall",
    "f1",
    "accuracy",
    "r2",
    "positives",
    "graph",
    "tokens",
];

fn read(
    source: &dyn Source,
    table: Table,
    selection: Vec<LayerSelection>,
    columns: &[&str],
) -> (Vec<Row>, Vec<Reject>) {
    let (mut rows, mut rejects) = (Vec::new(), Vec::new());
    let mut sink = |item| {
        match item {
            Item::Row(row) => rows.push(row),
            Item::Reject(reject) => rejects.push(reject),
        }
        ControlFlow::Continue(())
    };
    source.scan(&Request { table, selection, columns }, &mut sink).unwrap();
    (rows, rejects)
}

fn whole(source: &dyn Source) -> Vec<LayerSelection> {
    source.layers().unwrap().into_iter().map(|layer| LayerSelection { layer, neurons: None }).collect()
}

fn all(source: &dyn Source, table: Table) -> (Vec<Row>, Vec<Reject>) {
    read(source, table, whole(source), &ALL)
}

fn one(layer: u32, neuron: u32) -> Vec<LayerSelection> {
    vec![LayerSelection { layer, neurons: Some([neuron].into()) }]
}

fn key(place: Place) -> String {
    format!("{}_{}", place.layer, place.neuron)
}

fn near(a: f32, b: &Value) -> bool {
    (f64::from(a) - b.as_f64().unwrap()).abs() < 1e-6
}

#[test]
fn deepdecipher_is_as_its_own_server_answers() {
    let source = DeepDecipher::open(&sample("deepdecipher/data.db"), None).unwrap();
    let expected: Value =
        serde_json::from_slice(&std::fs::read(sample("deepdecipher/expected.json")).unwrap()).unwrap();
    let description = source.description();
    assert_eq!(description.name.as_deref(), Some("tiny-gpt2"));
    assert_eq!(
        (description.layers, description.neurons_per_layer, description.parameters),
        (Some(2), Some(3), Some(12345))
    );

    let (rows, rejects) = all(&source, Table::Examples);
    assert_eq!(rejects, []);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for row in &rows {
        let Row::Example(example) = row else { panic!("{row:?}") };
        let number = seen.entry(key(example.place)).or_default();
        let text = &expected["neuroscope"][key(example.place)][*number];
        *number += 1;
        assert_eq!(example.rank, Some(*number as u32));
        assert_eq!(example.document, text["data_index"].as_u64());
        assert_eq!(u64::from(example.position), text["max_activating_token_index"].as_u64().unwrap());
        let tokens: Vec<&str> =
            text["tokens"].as_array().unwrap().iter().map(|token| token.as_str().unwrap()).collect();
        assert_eq!(example.tokens, tokens);
        assert!(example.has_bos);
        let activations = text["activations"].as_array().unwrap();
        assert!(example.activations.len() == activations.len());
        assert!(example.activations.iter().zip(activations).all(|(a, b)| near(*a, b)));
        let extremes = example.extremes.unwrap();
        assert!(near(extremes.min_range, &text["min_range"]) && near(extremes.max_range, &text["max_range"]));
        assert!(
            near(extremes.min_activation, &text["min_activation"])
                && near(extremes.max_activation, &text["max_activation"])
        );
    }
    let texts = expected["neuroscope"].as_object().unwrap();
    assert_eq!(seen, texts.iter().map(|(place, texts)| (place.clone(), texts.as_array().unwrap().len())).collect());

    let (rows, rejects) = all(&source, Table::Explanations);
    assert_eq!((rows.len(), rejects.len()), (expected["neuron_explainer"].as_object().unwrap().len(), 0));
    for row in rows {
        let Row::Explanation(explanation) = row else { panic!("{row:?}") };
        let published = &expected["neuron_explainer"][key(explanation.place)];
        assert_eq!(explanation.text, published[0].as_str().unwrap());
        assert!((explanation.score.unwrap() - published[1].as_f64().unwrap()).abs() < 1e-6);
        assert_eq!(explanation.source, "neuron_explainer");
    }

    let (rows, rejects) = all(&source, Table::Similar);
    assert_eq!(rejects, []);
    let mut similar: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for row in rows {
        let Row::Similar(row) = row else { panic!("{row:?}") };
        similar.entry(key(row.place)).or_default().push(serde_json::json!([
            row.other.layer,
            row.other.neuron,
            row.similarity
        ]));
    }
    for (place, published) in expected["similar"].as_object().unwrap() {
        let read = similar.remove(place).unwrap_or_default();
        let published = published.as_array().unwrap();
        assert_eq!(read.len(), published.len(), "{place}");
        for (a, b) in read.iter().zip(published) {
            assert_eq!((&a[0], &a[1]), (&b[0], &b[1]));
            assert!((a[2].as_f64().unwrap() - b[2].as_f64().unwrap()).abs() < 1e-6);
        }
    }
    assert!(similar.is_empty());
}

#[test]
fn deepdecipher_graphs_have_the_paths_of_the_drawings() {
    let source = DeepDecipher::open(&sample("deepdecipher/data.db"), None).unwrap();
    let expected: Value =
        serde_json::from_slice(&std::fs::read(sample("deepdecipher/expected.json")).unwrap()).unwrap();
    let drawings = N2g::open(&sample("n2g/original"), None, None).unwrap();
    let (rows, rejects) = all(&source, Table::Graphs);
    assert_eq!((rows.len(), rejects.len()), (5, 0));
    for row in rows {
        let Row::Graph(row) = row else { panic!("{row:?}") };
        let graph = row.graph.unwrap();
        assert_eq!(row.method, "n2g-dd");
        let published = expected["neuron2graph"][key(row.place)]["graph"].as_array().unwrap();
        let numbers: Vec<f64> = published.iter().map(|node| node["importance"].as_f64().unwrap()).collect();
        for node in graph.nodes() {
            let number = if node.parent.is_none() { node.activation } else { node.importance };
            assert!(numbers.iter().any(|published| (published - f64::from(number)).abs() < 1e-6), "{number}");
        }
        // The drawing that it was made of has the same paths, and says which nodes end a pattern.
        let (drawn, _) = read(&drawings, Table::Graphs, one(row.place.layer, row.place.neuron), &ALL);
        let [Row::Graph(drawn)] = drawn.as_slice() else { panic!("{drawn:?}") };
        let drawn = drawn.graph.as_ref().unwrap();
        let shape = |graph: &neuroql_graph::Graph| -> Vec<_> {
            let text = |symbol: &neuroql_graph::Symbol| match symbol {
                neuroql_graph::Symbol::Token(token) => token.text.to_string(),
                other => panic!("{other:?}"),
            };
            graph.nodes().iter().map(|node| (node.parent, text(&node.symbol))).collect()
        };
        let (mut ours, mut theirs) = (shape(&graph), shape(drawn));
        // Siblings may be in another order.
        ours.sort();
        theirs.sort();
        assert_eq!(ours.len(), theirs.len());
        assert_eq!(
            ours.iter().filter(|(parent, _)| parent.is_none()).collect::<Vec<_>>(),
            theirs.iter().filter(|(parent, _)| parent.is_none()).collect::<Vec<_>>()
        );
        assert!(graph.patterns() >= 1);
    }
}

#[test]
fn pages_are_as_in_the_database_made_of_them() {
    let pages = Neuroscope::open(&sample("neuroscope")).unwrap();
    let database = DeepDecipher::open(&sample("deepdecipher/data.db"), None).unwrap();
    assert_eq!(pages.description().name.as_deref(), Some("tiny-gpt2"));
    assert_eq!(pages.layers().unwrap(), [0, 1]);
    let (of_pages, rejects) = all(&pages, Table::Examples);
    assert_eq!(rejects, []);
    assert_eq!(of_pages, all(&database, Table::Examples).0);
    let (neurons, _) = all(&pages, Table::Neurons);
    let Some(Row::Neuron(first)) = neurons.first() else { panic!("{neurons:?}") };
    assert_eq!((neurons.len(), first.max_activation), (6, Some(2.5105)));
    let model = Neuroscope::open(&sample("neuroscope/tiny-gpt2")).unwrap();
    let (rows, _) = read(&model, Table::Examples, one(1, 2), &ALL);
    assert!(
        !rows.is_empty()
            && rows.iter().all(|row| matches!(row, Row::Example(e) if e.place == Place { layer: 1, neuron: 2 }))
    );
}

#[test]
fn openai_files_are_read_with_and_without_class_names() {
    let new = OpenAi::open(&sample("openai_neuron_explainer")).unwrap();
    let old = OpenAi::open(&sample("openai_neuron_explainer/gpt2_small_data")).unwrap();
    assert_eq!(new.layers().unwrap(), [0, 1]);
    assert_eq!(old.tables(), [Table::Neurons, Table::Examples, Table::Explanations, Table::ExplanationScores]);
    for table in [Table::Neurons, Table::Examples] {
        let (ours, rejects) = read(&new, table, one(0, 3), &ALL);
        assert_eq!((ours, rejects), read(&old, table, one(0, 3), &ALL));
    }
    let (neurons, rejects) = all(&new, Table::Neurons);
    assert_eq!(rejects, []);
    let place = |row: &Row| match row {
        Row::Neuron(neuron) => key(neuron.place),
        other => panic!("{other:?}"),
    };
    let places: Vec<String> = neurons.iter().map(place).collect();
    assert_eq!(places, ["0_3", "1_5", "1_17"]);
    let Row::Neuron(first) = &neurons[0] else { panic!() };
    assert!((first.mean.unwrap() - 0.48290343697530863).abs() < 1e-12);
    assert!((first.kurtosis.unwrap() - 4.653681643375614).abs() < 1e-12);
    assert_eq!(first.max_activation, Some(3.54702));
    let (examples, rejects) = read(&new, Table::Examples, one(0, 3), &ALL);
    assert_eq!((examples.len(), rejects.len()), (8 + 6 + 6, 0));
    let Row::Example(strongest) = &examples[0] else { panic!() };
    assert_eq!((strongest.rank, strongest.activation, strongest.has_bos), (Some(1), 3.54702, false));
    assert_eq!(strongest.activations[strongest.position as usize], 3.54702);
    let quantiles: Vec<_> = examples
        .iter()
        .filter_map(|row| match row {
            Row::Example(example) => example.quantile,
            _ => None,
        })
        .collect();
    assert_eq!(quantiles, [0.0, 0.0, 0.9, 0.9, 0.99, 0.99]);
    let (explanations, rejects) = read(&new, Table::Explanations, one(0, 3), &ALL);
    assert_eq!(rejects, []);
    let Row::Explanation(explanation) = &explanations[0] else { panic!() };
    assert_eq!(explanation.text, " words that begin a sentence");
    let is_near = |a: Option<f64>, b: f64| a.is_some_and(|a| (a - b).abs() < 1e-12);
    assert!(is_near(explanation.score, 0.983950385752116));
    assert!(is_near(explanation.rsquared, 0.9768734001636127));
    assert!(is_near(explanation.absolute_dev_explained, 0.7797609806159607));
    let (tokens, rejects) = read(&new, Table::RelatedTokens, one(0, 3), &ALL);
    assert_eq!((tokens.len(), rejects.len()), (4 * 5 + 8, 0));
    let (connected, rejects) = read(&new, Table::RelatedNeurons, one(0, 3), &ALL);
    assert_eq!((connected.len(), rejects.len()), (12, 0));
    let Row::RelatedNeuron(first) = &connected[0] else { panic!() };
    assert_eq!((first.relation, first.other, first.rank), ("output_positive", Place { layer: 1, neuron: 55 }, 1));
}

#[test]
fn folders_of_the_original_and_the_fork() {
    let original = N2g::open(&sample("n2g/original"), None, None).unwrap();
    let fork = N2g::open(&sample("n2g/fork/output"), None, None).unwrap();
    assert_eq!(original.description().name.as_deref(), Some("tiny-gpt2"));
    assert_eq!(fork.description().name.as_deref(), Some("tiny-gpt2"));
    let (of_original, rejects) = all(&original, Table::Graphs);
    assert_eq!(rejects, []);
    let (of_fork, rejects) = all(&fork, Table::Graphs);
    assert_eq!(rejects, []);
    assert_eq!((of_original.len(), of_fork.len()), (6, 6));
    let mut failed = 0;
    for (a, b) in of_original.iter().zip(&of_fork) {
        let (Row::Graph(a), Row::Graph(b)) = (a, b) else { panic!("{a:?} {b:?}") };
        assert_eq!(a.place, b.place);
        match &a.graph {
            Some(_) => {
                assert_eq!(a.graph, b.graph);
                // Where nothing was predicted, the one writes 0 and the other NaN.
                assert!(b.scores.f1.is_none_or(|f1| Some(f1) == a.scores.f1));
            }
            None => {
                failed += 1;
                assert_eq!((a.reason.as_deref(), a.scores.precision), (Some("Neuron2Graph has made none"), None));
            }
        }
    }
    assert_eq!(failed, 1);
    let Row::Graph(first) = &of_original[0] else { panic!() };
    assert_eq!(
        (first.scores.precision, first.scores.accuracy, first.scores.r2),
        (Some(0.85714287), Some(0.9375), Some(0.6165))
    );
    let (neurons, _) = all(&original, Table::Neurons);
    assert_eq!(neurons.len(), 6);
}

#[test]
fn folders_of_layers_are_one_set_in_order() {
    let root = tempfile::tempdir().unwrap();
    let drawing = std::fs::read(sample("n2g/fork/output/tiny-gpt2/graphs/1_0")).unwrap();
    let put = |folder: &str, place: &str| {
        let folder = root.path().join("neuron_graphs/model").join(folder).join(place);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("graph"), &drawing).unwrap();
    };
    for (folder, place) in [("layer_10", "10_0"), ("layer_2", "2_7"), ("layer_2", "2_11"), ("layer_0", "0_3")] {
        put(folder, place);
    }
    let source = N2g::open(root.path(), None, None).unwrap();
    assert_eq!(source.description().name.as_deref(), Some("model"));
    let places = |(rows, rejects): (Vec<Row>, Vec<Reject>)| -> (Vec<String>, usize) {
        let place = |row: &Row| match row {
            Row::Graph(row) => key(row.place),
            other => panic!("{other:?}"),
        };
        (rows.iter().map(place).collect(), rejects.len())
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(places(all(&source, Table::Graphs)), (names(&["0_3", "2_7", "2_11", "10_0"]), 0));
    assert_eq!(places(read(&source, Table::Graphs, one(2, 7), &ALL)), (names(&["2_7"]), 0));
    // A neuron that is in two of them has no graph that is right.
    put("layer_all", "2_7");
    assert_eq!(places(all(&N2g::open(root.path(), None, None).unwrap(), Table::Graphs)).1, 1);
}

#[test]
fn graphs_of_the_rust_port_need_a_vocabulary() {
    let graph = neuroql_formats::graphs::n2g_rs::parse_json(
        r#"{"louds":{"lbs":{"byte_vec":[182,32],"bit_len":13}},"tokens":[
            {"token":{"token":4294967295},"end_node":null,"importance":null},
            {"token":{"token":4294967295},"end_node":null,"importance":null},
            {"token":{"token":41},"end_node":null,"importance":1.0},{"token":{"token":43},"end_node":0.4,"importance":1.0},
            {"token":{"token":52},"end_node":0.5,"importance":0.9},
            {"token":{"token":4294967295},"end_node":null,"importance":0.1},
            {"token":{"token":52},"end_node":0.6,"importance":0.8}]}"#,
        |id| format!("t{id}").into(),
    )
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("all_models.bin");
    let written = neuroql_formats::graphs::n2g_rs::print_binary_list([Some(&graph), None, Some(&graph)]).unwrap();
    std::fs::write(&list, written).unwrap();
    assert!(matches!(N2g::open(&list, None, None), Err(Error::NotInFormat { .. })));
    let vocabulary = |size: u32| -> neuroql_formats::n2g::Vocabulary {
        Arc::new(move |id| (id < size).then(|| format!("t{id}").into()))
    };
    let source = N2g::open(&list, Some(3), Some(vocabulary(100))).unwrap();
    let (rows, rejects) = all(&source, Table::Graphs);
    assert_eq!((rows.len(), rejects.len()), (3, 0));
    let Row::Graph(last) = &rows[2] else { panic!() };
    assert_eq!((last.place, last.graph.as_ref(), last.method), (Place { layer: 3, neuron: 2 }, Some(&graph), "n2g-rs"));
    let (rows, rejects) = all(&N2g::open(&list, None, Some(vocabulary(50))).unwrap(), Table::Graphs);
    assert_eq!((rows.len(), rejects.len()), (1, 2));
    assert!(rejects[0].reason.contains("token 52"), "{}", rejects[0].reason);
    // The same graph in a file of its own.
    std::fs::remove_file(&list).unwrap();
    let json = neuroql_formats::graphs::n2g_rs::print_json(&graph).unwrap();
    std::fs::write(folder.path().join("1_5.json"), json).unwrap();
    let source = N2g::open(folder.path(), None, Some(vocabulary(100))).unwrap();
    let (rows, rejects) = read(&source, Table::Graphs, one(1, 5), &ALL);
    assert_eq!(rejects, []);
    let [Row::Graph(row)] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!(row.graph.as_ref(), Some(&graph));
}

#[test]
fn other_files_and_folders_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.db");
    std::fs::write(&file, "SQLite format 3 is not what this is").unwrap();
    let reason = |error: Error| error.to_string();
    let error = reason(DeepDecipher::open(&file, None).unwrap_err());
    assert!(error.contains("data.db\" is not a database of DeepDecipher: it is not a file of SQLite"), "{error}");
    std::fs::copy(sample("deepdecipher/data.db"), &file).unwrap();
    let error = reason(DeepDecipher::open(&file, Some("gpt3")).unwrap_err());
    assert!(error.contains("'source_model' cannot be 'gpt3'") && error.contains("tiny-gpt2"), "{error}");
    std::fs::write(folder.path().join("data.db-wal"), "changes").unwrap();
    let error = reason(DeepDecipher::open(&file, None).unwrap_err());
    assert!(error.contains("data.db-wal"), "{error}");
    let error = reason(OpenAi::open(folder.path()).unwrap_err());
    assert!(error.contains("it has none of the folders collated-activations"), "{error}");
    let error = reason(Neuroscope::open(folder.path()).unwrap_err());
    assert!(error.contains("is not a folder of pages of Neuroscope"), "{error}");
    let error = reason(N2g::open(folder.path(), None, None).unwrap_err());
    assert!(error.contains("is not a folder of Neuron2Graph's results"), "{error}");
    let error = N2g::open(&sample("n2g"), None, None).unwrap_err();
    assert!(matches!(error, Error::Ambiguous { .. }), "{error}");
    assert_eq!(OpenAi::open(Path::new("/nonexistent")).unwrap_err().sqlstate(), "58P01");
}

#[test]
fn bad_rows_are_named_and_the_rest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("explanations/0");
    std::fs::create_dir_all(&data).unwrap();
    let good = std::fs::read(sample("openai_neuron_explainer/data/explanations/0/3.jsonl")).unwrap();
    std::fs::write(data.join("3.jsonl"), &good).unwrap();
    std::fs::write(data.join("4.jsonl"), &good).unwrap();
    std::fs::write(data.join("5.jsonl"), &good[..good.len() / 2]).unwrap();
    let source = OpenAi::open(folder.path()).unwrap();
    let (rows, rejects) = all(&source, Table::Explanations);
    assert_eq!((rows.len(), rejects.len()), (1, 2));
    assert_eq!(rejects[0].place, Some(Place { layer: 0, neuron: 4 }));
    assert_eq!(rejects[0].reason, "it is of layer 0, neuron 3");
    assert!(rejects[1].location.ends_with("5.jsonl") && rejects[1].reason.contains("EOF"), "{:?}", rejects[1]);

    let page = std::fs::read_to_string(sample("neuroscope/tiny-gpt2/0/1.html")).unwrap();
    let layer = folder.path().join("model/0");
    std::fs::create_dir_all(&layer).unwrap();
    std::fs::write(layer.join("1.html"), page.replacen("<b>2.7342</b>", "<b>inf</b>", 1)).unwrap();
    let (rows, rejects) = all(&Neuroscope::open(&folder.path().join("model")).unwrap(), Table::Examples);
    assert_eq!((rows.len(), rejects.len()), (3, 1));
    assert_eq!(rejects[0].reason, "text 1: \"inf\" is not a number");

    let graphs = folder.path().join("graphs");
    std::fs::create_dir_all(&graphs).unwrap();
    std::fs::write(graphs.join("0_0"), "digraph { a [fillcolor=red] }").unwrap();
    std::fs::write(graphs.join("0_1"), "digraph { a }").unwrap();
    let (rows, rejects) = all(&N2g::open(&graphs, None, None).unwrap(), Table::Graphs);
    assert_eq!((rows.len(), rejects.len()), (1, 1));

    // Values of a type that nobody can read are named.
    let database = DeepDecipher::open(&sample("deepdecipher/data.db"), None).unwrap();
    let (rows, rejects) = all(&database, Table::Neurons);
    assert_eq!((rows.len(), rejects.len()), (6, 1));
    assert!(rejects[0].location.ends_with("notes") && rejects[0].reason.contains("Json"), "{:?}", rejects[0]);
}
