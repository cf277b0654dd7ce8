//! The JSON of DeepDecipher's server, and its addresses.
//!
//! `/api/{model}/{service}[/{layer}[/{neuron}]]` answers `{"data": …, "metadata": …}`, or which types of data are
//! missing. Where DeepDecipher's server has a bug, the field's description is followed: layers work, the most important
//! neurons come first, activations keep their sign, errors are one sentence.

mod graph;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::{Value, json};

use crate::error::{Fault, TextFault};
use crate::facts::{self, Facts, Place};
use crate::pages::neuron::sql;
use crate::parameters::Parameters;
use crate::query::{Answer, Asker, Visitor};
use crate::routes::Shared;
use crate::sql_text::{encoded, literal};
use crate::v1::JsonText;

/// Least similarity of neurons that are listed as similar.
const SIMILAR: f64 = 0.4;

/// Services by name, in the order of the alphabet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Metadata,
    NeuronExplainer,
    Neuron2graph,
    Neuron2graphSearch,
    Neuroscope,
}

impl Service {
    const ALL: [Self; 5] =
        [Self::Metadata, Self::Neuron2graph, Self::Neuron2graphSearch, Self::NeuronExplainer, Self::Neuroscope];

    fn name(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::NeuronExplainer => "neuron_explainer",
            Self::Neuron2graph => "neuron2graph",
            Self::Neuron2graphSearch => "neuron2graph-search",
            Self::Neuroscope => "neuroscope",
        }
    }

    /// Types of data that the model lacks for the service.
    fn missing(self, facts: &Facts) -> Vec<&'static str> {
        let lacks = |table: &str, types: &[&'static str]| if facts.has(table) { Vec::new() } else { types.to_vec() };
        match self {
            Self::Metadata => Vec::new(),
            Self::NeuronExplainer => lacks("explanations", &["neuron_explainer"]),
            Self::Neuron2graph => lacks("graphs", &["neuron2graph", "neuron_store"]),
            Self::Neuron2graphSearch => lacks("graphs", &["neuron_store"]),
            Self::Neuroscope if facts.is_network && facts.datasets.is_empty() && facts.examples_by.is_none() => {
                vec!["neuroscope"]
            }
            Self::Neuroscope => lacks("examples", &["neuroscope"]),
        }
    }
}

/// The subject of a request: a model, a layer or a neuron.
#[derive(Debug, Clone, Copy)]
enum Index {
    Model,
    Layer(i64),
    Neuron(Place),
}

type Site = State<Arc<Shared>>;

/// `GET /api`
pub(crate) async fn index(State(site): Site, visitor: Visitor) -> Result<JsonText, TextFault> {
    let mut asker = site.statements.for_page(&visitor).await?;
    let all = facts::all(&mut asker).await?;
    let mut models = Vec::new();
    for facts in all {
        let facts = facts::of(&mut asker, &facts.name).await?;
        models.push(metadata(&mut asker, &facts).await?);
    }
    Ok(JsonText(json!({ "models": models }).to_string()))
}

/// `GET /api/{model}/{service}[/{layer}[/{neuron}]]`
pub(crate) async fn service(
    State(site): Site,
    visitor: Visitor,
    address: Uri,
    parameters: Parameters,
) -> Result<Response, TextFault> {
    let segments = segments(address.path())?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (model, service, index) = match segments.as_slice() {
        [_] => return Ok(self::index(State(site), visitor).await?.into_response()),
        [_, model, service] => (*model, *service, (None, None)),
        [_, model, service, layer] => (*model, *service, (Some(*layer), None)),
        [_, model, service, layer, neuron] => (*model, *service, (Some(*layer), Some(*neuron))),
        _ => {
            return Err(Fault::not_found("addresses are /api/MODEL/SERVICE, with a layer and a neuron after it").into());
        }
    };
    let mut asker = site.statements.for_page(&visitor).await?;
    let facts = facts::of(&mut asker, model).await?;
    let index = match index {
        (None, _) => Index::Model,
        (Some(layer), None) => Index::Layer(facts.layer(layer)?),
        (Some(layer), Some(neuron)) => Index::Neuron(facts.place(layer, neuron)?),
    };
    if service == "all" {
        return Ok(JsonText(everything(&mut asker, &facts, index, &parameters).await?.to_string()).into_response());
    }
    let known = Service::ALL.into_iter().find(|known| known.name() == service);
    let Some(known) = known else {
        if let Some(table) = tables::table(&facts, service) {
            let metadata = metadata(&mut asker, &facts).await?;
            let data = tables::data(&mut asker, &facts, table, index, &parameters).await?;
            return Ok(JsonText(json!({ "data": data, "metadata": metadata }).to_string()).into_response());
        }
        let shown: String = service.chars().take(40).collect();
        return Err(Fault::not_found(format!("there is no service \"{shown}\"")).into());
    };
    let metadata = metadata(&mut asker, &facts).await?;
    let missing = known.missing(&facts);
    let envelope = if missing.is_empty() {
        let data = data(&mut asker, &facts, known, index, &parameters).await?;
        json!({ "data": data, "metadata": metadata })
    } else {
        json!({ "missing_data_types": missing, "metadata": metadata })
    };
    Ok(JsonText(envelope.to_string()).into_response())
}

/// Cuts a path at its slashes, without those at its end, and decodes the pieces.
fn segments(path: &str) -> Result<Vec<String>, Fault> {
    let pieces = path.trim_matches('/').split('/');
    pieces.map(|piece| decoded(piece).ok_or_else(|| Fault::bad_request("the address is not UTF-8"))).collect()
}

fn decoded(piece: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(piece.len());
    let mut rest = piece.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Answers of all services, with what keeps one from answering.
async fn everything(asker: &mut Asker, facts: &Facts, index: Index, parameters: &Parameters) -> Result<Value, Fault> {
    let mut all = BTreeMap::new();
    for service in Service::ALL {
        let missing = service.missing(facts);
        let answer = if missing.is_empty() {
            match data(asker, facts, service, index, parameters).await {
                Ok(data) => json!({ "data": data }),
                Err(fault) => json!({ "error": fault.message }),
            }
        } else {
            json!({ "missing_data_types": missing })
        };
        all.insert(service.name(), answer);
    }
    Ok(json!(all))
}

async fn metadata(asker: &mut Asker, facts: &Facts) -> Result<Value, Fault> {
    let mut services = Vec::new();
    for service in Service::ALL {
        let has_rows = match service {
            Service::NeuronExplainer if facts.has("explanations") => {
                let sql = format!("SELECT 1 AS one FROM {} LIMIT 1", facts.table("explanations"));
                asker.ask(sql).await?.len() > 0
            }
            _ => true,
        };
        if has_rows && service.missing(facts).is_empty() {
            services.push(service.name());
        }
    }
    services.sort_unstable();
    Ok(json!({
        "name": facts.name,
        "num_layers": facts.layers,
        "layer_size": facts.neurons_per_layer,
        "activation_function": facts.activation_function.as_deref().unwrap_or_default(),
        "num_total_neurons": facts.layers.saturating_mul(facts.neurons_per_layer),
        "num_total_parameters": facts.parameters.unwrap_or_default(),
        "dataset": facts.dataset().unwrap_or_default(),
        "available_services": services,
    }))
}

async fn data(
    asker: &mut Asker,
    facts: &Facts,
    service: Service,
    index: Index,
    parameters: &Parameters,
) -> Result<Value, Fault> {
    let of_neurons = || {
        let message = format!("the service {} has data of neurons only", service.name());
        Fault::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    };
    match (service, index) {
        (Service::Metadata, _) => metadata(asker, facts).await,
        (Service::Neuroscope, Index::Model) => Ok(json!({ "important_neurons": important(asker, facts, None).await? })),
        (Service::Neuroscope, Index::Layer(layer)) => Ok(json!({
            "num_neurons": facts.neurons_per_layer,
            "important_neurons": important(asker, facts, Some(layer)).await?,
        })),
        (Service::Neuroscope, Index::Neuron(place)) => texts(asker, facts, place).await,
        (Service::NeuronExplainer, Index::Neuron(place)) => explanation(asker, facts, place).await,
        (Service::Neuron2graph, Index::Neuron(place)) => {
            let has_quirks = parameters.get("quirks").is_some_and(|value| value != "0");
            graph::data(asker, facts, place, has_quirks).await
        }
        (Service::Neuron2graphSearch, Index::Model) => found(asker, facts, parameters).await,
        (Service::Neuron2graphSearch, _) => Err(Fault::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the service neuron2graph-search has data of whole models only",
        )),
        (Service::NeuronExplainer | Service::Neuron2graph, _) => Err(of_neurons()),
    }
}

/// Neurons and the range of their activations, the widest first.
async fn important(asker: &mut Asker, facts: &Facts, layer: Option<i64>) -> Result<Value, Fault> {
    let of_layer = layer.map_or(String::new(), |layer| format!(" AND layer = {layer}"));
    let sql = format!(
        "SELECT layer, neuron, max_activation - coalesce(min_activation, 0) AS importance FROM {} \
         WHERE max_activation IS NOT NULL{of_layer}{} ORDER BY importance DESC, layer, neuron",
        facts.table("neurons"),
        facts.of_dataset("dataset")?
    );
    let answer = asker.ask_up_to(sql, usize::MAX).await?;
    let neuron = |row| {
        let neuron = json!({ "layer": answer.integer(row, "layer"), "neuron": answer.integer(row, "neuron") });
        json!([neuron, real(answer.real(row, "importance"))])
    };
    Ok(answer.rows().map(neuron).collect())
}

/// A `real` in the shortest form that is the same number.
fn real(value: Option<f32>) -> Value {
    let shortest = value.filter(|value| value.is_finite()).and_then(|value| format!("{value:?}").parse::<f64>().ok());
    shortest.map_or(Value::Null, |value| json!(value))
}

/// The strongest examples of a neuron: all tokens of their windows, as far as there are more than those that are kept.
async fn texts(asker: &mut Asker, facts: &Facts, place: Place) -> Result<Value, Fault> {
    let Place { layer, neuron } = place;
    let range = asker
        .ask(format!(
            "SELECT max_activation, coalesce(min_activation, 0) AS min_activation FROM {} WHERE layer = {layer} AND \
             neuron = {neuron}{}",
            facts.table("neurons"),
            facts.of_dataset("dataset")?
        ))
        .await?;
    let of_source = match (&facts.examples_by, facts.is_network) {
        (Some(source), _) => format!(" AND source = {}", literal(source)?),
        (None, true) => format!("{} AND source IS NULL", facts.of_dataset("dataset")?),
        (None, false) => String::new(),
    };
    let sql = format!(
        "SELECT document, example, tokens, activations, max_range, min_range FROM {} WHERE layer = {layer} AND \
         neuron = {neuron} AND rank IS NOT NULL{of_source} ORDER BY rank",
        facts.table("examples"),
    );
    let answer = asker.ask(sql).await?;
    let whole = whole_texts(asker, facts, place, &answer).await?;
    let texts = answer.rows().map(|row| {
        let key = (answer.integer(row, "document"), answer.integer(row, "example"));
        let (tokens, activations) = match whole.get(&key) {
            Some((tokens, activations)) => (tokens.clone(), activations.clone()),
            None => (answer.texts(row, "tokens"), answer.numbers(row, "activations")),
        };
        let strongest = activations.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
        let least = activations.iter().copied().min_by(f32::total_cmp);
        // Published texts have a range of their own.
        let of_range = |column: &str, own: &str| real(answer.real(row, own).or_else(|| range.real(0, column)));
        json!({
            "min_range": of_range("min_activation", "min_range"),
            "max_range": of_range("max_activation", "max_range"),
            "min_activation": real(least),
            "max_activation": real(strongest.map(|(_, activation)| activation)),
            "data_index": key.0,
            "max_activating_token_index": strongest.map(|(index, _)| index),
            "tokens": tokens,
            "activations": activations.iter().map(|value| real(Some(*value))).collect::<Vec<_>>(),
        })
    });
    let texts: Vec<_> = texts.collect();
    Ok(json!({ "neuron_index": { "layer": layer, "neuron": neuron }, "texts": texts }))
}

/// Tokens and activations of windows, by document and example.
type Windows = BTreeMap<(Option<i64>, Option<i64>), (Vec<String>, Vec<f32>)>;

/// Runs the windows that the examples of an analysis are of, which keeps the tokens around each peak only.
async fn whole_texts(asker: &mut Asker, facts: &Facts, place: Place, kept: &Answer) -> Result<Windows, Fault> {
    let mut windows = Windows::new();
    let (Some(dataset), true) = (facts.datasets.first(), facts.is_network && kept.len() > 0) else {
        return Ok(windows);
    };
    let places = |row| Some((kept.integer(row, "document")?, kept.integer(row, "example")?));
    let places: BTreeSet<(i64, i64)> = kept.rows().filter_map(places).collect();
    let list = |numbers: BTreeSet<i64>| numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT document, example, token, activation FROM {} WHERE dataset = {} AND layer = {} AND neuron = {} AND \
         document IN ({}) AND example IN ({}) ORDER BY document, example, position",
        facts.table("activations"),
        literal(dataset)?,
        place.layer,
        place.neuron,
        list(places.iter().map(|(document, _)| *document).collect()),
        list(places.iter().map(|(_, example)| *example).collect()),
    );
    let answer = asker.ask_up_to(sql, usize::MAX).await?;
    for row in answer.rows() {
        let key = (answer.integer(row, "document"), answer.integer(row, "example"));
        let (tokens, activations) = windows.entry(key).or_default();
        tokens.push(answer.text(row, "token").unwrap_or_default().to_owned());
        activations.push(answer.real(row, "activation").unwrap_or(f32::NAN));
    }
    Ok(windows)
}

async fn explanation(asker: &mut Asker, facts: &Facts, place: Place) -> Result<Value, Fault> {
    let answer = asker.ask(sql::explanations(facts, place)).await?;
    let Some(text) = answer.text(0, "explanation") else {
        return Err(Fault::not_found(format!("neuron {}:{} has no explanation", place.layer, place.neuron)));
    };
    Ok(json!({ "explanation": text, "score": real(answer.real(0, "score")) }))
}

async fn found(asker: &mut Asker, facts: &Facts, parameters: &Parameters) -> Result<Value, Fault> {
    let query = parameters.required("query")?;
    let sql = format!(
        "SELECT DISTINCT layer, neuron FROM search({}, {}) ORDER BY 1, 2",
        literal(&facts.name)?,
        literal(query)?
    );
    let answer = asker.ask_up_to(sql, usize::MAX).await?;
    let neuron = |row| json!({ "layer": answer.integer(row, "layer"), "neuron": answer.integer(row, "neuron") });
    Ok(answer.rows().map(neuron).collect())
}

/// `GET /bin/…`, a format of Rust's libraries that no known program reads.
pub(crate) async fn binary() -> TextFault {
    TextFault(Fault::new(
        StatusCode::NOT_IMPLEMENTED,
        "the binary form of DeepDecipher's data is not served; /api has it as JSON",
    ))
}

/// `GET /viz/{model}/{service}[/{layer}/{neuron}]`, pages of DeepDecipher.
pub(crate) async fn old_page(address: Uri) -> Result<Response, TextFault> {
    let segments = segments(address.path())?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let target = match segments.as_slice() {
        [_] => "/".to_owned(),
        [_, model] | [_, model, _] => format!("/m/{}", encoded(model)),
        [_, model, _, layer] if is_number(layer) => format!("/m/{}/layers/{layer}", encoded(model)),
        [_, model, _, layer, neuron] if is_number(layer) && is_number(neuron) => {
            format!("/m/{}/neurons/{layer}/{neuron}", encoded(model))
        }
        _ => return Err(Fault::not_found("there is nothing at this address").into()),
    };
    Ok((StatusCode::MOVED_PERMANENTLY, [(axum::http::header::LOCATION, target)]).into_response())
}

/// `/doc`
pub(crate) async fn old_documentation() -> Redirect {
    Redirect::permanent("/docs")
}
