//! The JSON of DeepDecipher: its own answers for its sample, and what its clients do.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Client;

fn expected() -> Value {
    serde_json::from_str(include_str!("../../../../tests/formats/deepdecipher/expected.json")).unwrap()
}

/// Answers of DeepDecipher's server for its own database.
#[tokio::test(flavor = "multi_thread")]
async fn answers_of_the_sample() {
    let client = Client::new().await;
    let expected = expected();
    for (key, texts) in expected["neuroscope"].as_object().unwrap() {
        let answer = client.get(&format!("/api/dd/neuroscope/{}", key.replace('_', "/"))).await.json();
        let found = answer["data"]["texts"].as_array().unwrap();
        assert_eq!(found.len(), texts.as_array().unwrap().len(), "{key}");
        for (found, text) in found.iter().zip(texts.as_array().unwrap()) {
            for field in ["max_range", "data_index", "tokens", "max_activating_token_index"] {
                assert_eq!(found[field], text[field], "{key} {field}");
            }
            for field in ["min_range", "max_activation", "min_activation"] {
                near(&found[field], &text[field], key);
            }
            let both = found["activations"].as_array().unwrap().iter().zip(text["activations"].as_array().unwrap());
            both.for_each(|(found, text)| near(found, text, key));
        }
    }
    for (key, explanation) in expected["neuron_explainer"].as_object().unwrap() {
        let answer = client.get(&format!("/api/dd/neuron_explainer/{}", key.replace('_', "/"))).await.json();
        assert_eq!(answer["data"], json!({ "explanation": explanation[0], "score": explanation[1] }), "{key}");
    }
    for (key, graph) in expected["neuron2graph"].as_object().unwrap() {
        let answer = client.get(&format!("/api/dd/neuron2graph/{}", key.replace('_', "/"))).await.json();
        let found = &answer["data"]["graph"];
        assert_eq!(found["subgraph_indices"], graph["subgraph_indices"], "{key}");
        assert_eq!(edges(&found["graph"], false), edges(&graph["graph"], true), "{key}");
        let dot = answer["data"]["graphviz"].as_str().unwrap();
        assert!(dot.contains("rankdir=LR") && dot.contains("subgraph cluster_1") && !dot.contains('<'), "{key}");
        let similar: Vec<_> = answer["data"]["similar"].as_array().unwrap().clone();
        let wanted = expected["similar"][key].as_array().unwrap();
        assert_eq!(similar.len(), wanted.len(), "{key}");
        assert!(
            similar.windows(2).all(|pair| pair[0]["similarity"].as_f64() >= pair[1]["similarity"].as_f64()),
            "{key}"
        );
        for one in wanted {
            let found = similar.iter().find(|found| found["layer"] == one[0] && found["neuron"] == one[1]).unwrap();
            near(&found["similarity"], &one[2], key);
        }
    }
    for (role, tokens) in expected["neuron_store"].as_object().unwrap() {
        for (token, neurons) in tokens.as_object().unwrap() {
            // Searches of DeepDecipher do not tell tokens from each other that differ in case and spaces; exact ones do.
            let query =
                format!("{role}:=\"{}\"", token.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
            let path = format!("/api/dd/neuron2graph-search?query={}", crate::sql_text::encoded(&query));
            let found = client.get(&path).await.json();
            let found: BTreeSet<_> = found["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| format!("{}_{}", one["layer"], one["neuron"]))
                .collect();
            // The sample's store names a neuron whose graph the sample does not have.
            let wanted = neurons.as_array().unwrap().iter().map(|one| one.as_str().unwrap());
            let wanted: BTreeSet<_> =
                wanted.filter(|key| expected["neuron2graph"].get(key).is_some()).map(str::to_owned).collect();
            assert!(found.is_superset(&wanted), "{query}: {found:?}, expected {wanted:?}");
            // The store has a token of the context as activating if the neuron fires on it by itself.
            let others = expected["neuron_store"]["activating"][token].as_array().cloned().unwrap_or_default();
            let others: BTreeSet<_> = others.iter().map(|one| one.as_str().unwrap().to_owned()).collect();
            assert!(
                found.difference(&wanted).all(|one| role == "important" && others.contains(one)),
                "{query}: {found:?}"
            );
        }
    }
}

fn near(found: &Value, wanted: &Value, key: &str) {
    let (found, wanted) = (found.as_f64().unwrap(), wanted.as_f64().unwrap());
    assert!((found - wanted).abs() < 1e-4, "{key}: {found}, expected {wanted}");
}

/// Tokens of a graph with their importance, and those next to them: the order of nodes is free within a level.
fn edges(graph: &Value, is_quoted: bool) -> Vec<String> {
    let nodes = graph.as_array().unwrap();
    let token = |node: &Value| {
        let token = node["token"].as_str().unwrap();
        if !is_quoted {
            return token.to_owned();
        }
        // Drawings have quotes around tokens, and a space in quotes of its own.
        let inner = token.trim_start_matches('"').trim_end_matches('"').replace("\\\"", "\"");
        if inner == "' '" { " ".to_owned() } else { inner }
    };
    let mut edges: Vec<_> = nodes
        .iter()
        .map(|node| {
            let required = node["required"]
                .as_array()
                .unwrap()
                .iter()
                .map(|index| token(&nodes[index.as_u64().unwrap() as usize]));
            let mut required: Vec<_> = required.collect();
            required.sort();
            format!("{:?} {:.2} {required:?}", token(node), node["importance"].as_f64().unwrap())
        })
        .collect();
    edges.sort();
    edges
}

/// The requests of DeepDecipher's pages, and of its scripts for load: models, then everything of a neuron, then a search.
#[tokio::test(flavor = "multi_thread")]
async fn clients_of_deepdecipher() {
    let client = Client::new().await;
    let index = client.get("/api").await;
    assert_eq!(index.header("content-type"), "application/json");
    let models = index.json();
    let toy = models["models"].as_array().unwrap().iter().find(|model| model["name"] == "toy").unwrap().clone();
    assert_eq!(toy["num_total_neurons"], 1024);
    assert_eq!(toy["available_services"], json!(["metadata", "neuron2graph", "neuron2graph-search", "neuroscope"]));
    for field in ["num_layers", "layer_size", "num_total_parameters"] {
        assert!(toy[field].is_u64(), "{field}");
    }
    assert!(toy["activation_function"].is_string() && toy["dataset"] == "corpus");
    for (layer, neuron) in [(0, 3), (1, 17), (1, 480)] {
        let all = client.get(&format!("/api/toy/all/{layer}/{neuron}")).await.json();
        let services: Vec<_> = all.as_object().unwrap().keys().collect();
        assert_eq!(services, ["metadata", "neuron2graph", "neuron2graph-search", "neuron_explainer", "neuroscope"]);
        assert!(all["neuroscope"]["data"]["texts"][0]["tokens"].is_array(), "{layer}:{neuron}");
        assert!(all["neuron2graph"]["data"]["graphviz"].is_string() || all["neuron2graph"]["error"].is_string());
        assert!(all["neuron2graph-search"]["error"].is_string());
        assert!(
            all["neuron_explainer"]["missing_data_types"].is_array() || all["neuron_explainer"]["error"].is_string()
        );
        for text in all["neuroscope"]["data"]["texts"].as_array().unwrap() {
            let (tokens, activations) = (text["tokens"].as_array().unwrap(), text["activations"].as_array().unwrap());
            assert_eq!(tokens.len(), activations.len());
            let index = text["max_activating_token_index"].as_u64().unwrap() as usize;
            assert_eq!(activations[index], text["max_activation"]);
        }
    }
    let found = client.get("/api/toy/neuron2graph-search?query=any:import").await.json();
    let neurons = found["data"].as_array().unwrap();
    let places: Vec<_> = neurons.iter().map(|one| (one["layer"].as_i64(), one["neuron"].as_i64())).collect();
    assert!(!places.is_empty() && places.is_sorted(), "{places:?}");

    let layer = client.get("/api/toy/neuroscope/1/").await.json();
    assert_eq!(layer["data"]["num_neurons"], 512);
    let important = layer["data"]["important_neurons"].as_array().unwrap();
    assert_eq!(important.len(), 512);
    assert!(important.windows(2).all(|pair| pair[0][1].as_f64() >= pair[1][1].as_f64()));
    assert_eq!(client.get("/api/toy/metadata").await.json()["data"], toy);
    assert_eq!(client.get("/api/toy/metadata").await.json()["metadata"], toy);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_of_mistakes() {
    let client = Client::new().await;
    for (path, status) in [
        ("/api/nobody/metadata", StatusCode::NOT_FOUND),
        ("/api/toy/nothing", StatusCode::NOT_FOUND),
        ("/api/toy/neuroscope/2", StatusCode::NOT_FOUND),
        ("/api/toy/neuroscope/0/512", StatusCode::NOT_FOUND),
        ("/api/toy/neuroscope/0/x", StatusCode::NOT_FOUND),
        ("/api/toy", StatusCode::NOT_FOUND),
        ("/api/toy/neuroscope/0/1/2", StatusCode::NOT_FOUND),
        ("/api/toy/neuron2graph", StatusCode::INTERNAL_SERVER_ERROR),
        ("/api/toy/neuron2graph-search", StatusCode::BAD_REQUEST),
        ("/api/toy/neuron2graph-search?query=role:", StatusCode::BAD_REQUEST),
        ("/api/dd/neuron2graph/1/2", StatusCode::NOT_FOUND),
        ("/bin/toy/neuroscope/0/1", StatusCode::NOT_IMPLEMENTED),
    ] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8", "{path}");
        assert!(!answer.text().contains(['{', '\n']), "{path}: {}", answer.text());
    }
    let missing = client.get("/api/toy/neuron_explainer/0/0").await;
    assert!(missing.status == StatusCode::OK || missing.status == StatusCode::NOT_FOUND);
}

/// Tokens have the quotes of drawings if a client asks for DeepDecipher's quirks.
#[tokio::test(flavor = "multi_thread")]
async fn quirks() {
    let client = Client::new().await;
    let tokens = |graph: &Value| -> BTreeSet<String> {
        graph.as_array().unwrap().iter().map(|node| node["token"].as_str().unwrap().to_owned()).collect()
    };
    for (key, graph) in expected()["neuron2graph"].as_object().unwrap() {
        let path = format!("/api/dd/neuron2graph/{}", key.replace('_', "/"));
        let found = client.get(&format!("{path}?quirks=1")).await.json();
        // A space has quotes of its own in drawings.
        let wanted: BTreeSet<_> = tokens(&graph["graph"]).iter().map(|token| token.replace("' '", " ")).collect();
        assert_eq!(tokens(&found["data"]["graph"]["graph"]), wanted, "{key}");
        let plain = client.get(&format!("{path}?quirks=0")).await.json();
        assert_eq!(plain, client.get(&path).await.json());
        assert!(tokens(&plain["data"]["graph"]["graph"]).iter().all(|token| !token.starts_with('"')));
    }
}

/// Texts are whole windows, in which the tokens that are kept of an example are a part.
#[tokio::test(flavor = "multi_thread")]
async fn texts_are_whole() {
    let client = Client::new().await;
    let texts = client.get("/api/toy/neuroscope/1/480").await.json()["data"]["texts"].as_array().unwrap().clone();
    let kept = client.get("/v1/models/toy/neurons/1/480/examples").await.json()["examples"].clone();
    let kept: Vec<_> = kept.as_array().unwrap().iter().filter(|example| !example["rank"].is_null()).collect();
    assert_eq!(texts.len(), kept.len());
    for (text, kept) in texts.iter().zip(kept) {
        let (whole, part) = (text["tokens"].as_array().unwrap(), kept["tokens"].as_array().unwrap());
        assert!(whole.windows(part.len()).any(|tokens| tokens == part), "{part:?} is not in {whole:?}");
        let position = kept["position"].as_u64().unwrap() as usize;
        near(&text["activations"][position], &kept["activation"], "activation");
        assert_eq!(text["max_activating_token_index"], kept["position"]);
    }
    assert!(texts.iter().any(|text| text["tokens"].as_array().unwrap().len() > 20));
}

/// Tables about neurons are services of JSON, of which `get` picks a row or a column.
#[tokio::test(flavor = "multi_thread")]
async fn tables_as_json() {
    let client = Client::new().await;
    let weights = client.get("/api/toy/weights/1/17").await.json();
    assert_eq!(weights["metadata"]["name"], "toy");
    assert_eq!(weights["data"].as_array().unwrap().len(), 1);
    assert!(weights["data"][0]["w_in"].as_array().unwrap().len() > 10);
    assert_eq!(client.get("/api/toy/weights/1/17?get=0").await.json()["data"], weights["data"][0]);
    let column = client.get("/api/toy/weights/1/17?get=w_out").await.json();
    assert_eq!(column["data"], json!([weights["data"][0]["w_out"]]));
    let similar = client.get("/api/dd/similar/0?get=other_neuron").await.json();
    assert_eq!(similar["data"].as_array().unwrap().len(), 8);
    assert_eq!(client.get("/api/dd/explanations").await.json()["data"].as_array().unwrap().len(), 6);
    assert_eq!(client.get("/api/oai/related_neurons/0/3?get=relation").await.status, StatusCode::OK);
    for (path, status) in [
        ("/api/toy/weights/1/17?get=1", StatusCode::NOT_FOUND),
        ("/api/toy/weights/1/17?get=99999999999999999999999", StatusCode::NOT_FOUND),
        ("/api/toy/weights/1/17?get=nothing", StatusCode::NOT_FOUND),
        ("/api/toy/weights/1/17?get=%27%3B%00%3Cb%3E%E2%80%AE", StatusCode::NOT_FOUND),
        ("/api/toy/weights/1/17?get=0&other=1", StatusCode::BAD_REQUEST),
        ("/api/toy/weights/1/17?%3Cb%3E=1", StatusCode::BAD_REQUEST),
        ("/api/toy/weights/1/512", StatusCode::NOT_FOUND),
        ("/api/toy/examples", StatusCode::BAD_REQUEST),
        ("/api/toy/activations/1/17", StatusCode::NOT_FOUND),
        ("/api/toy/vocabulary", StatusCode::NOT_FOUND),
        ("/api/toy/similar/1/17", StatusCode::NOT_FOUND),
    ] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(!answer.text().contains(['\n', '\0']), "{path}: {}", answer.text());
    }
}
