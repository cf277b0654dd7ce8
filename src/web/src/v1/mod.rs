//! JSON for programs. `openapi.json` describes it.

mod formats;
pub(crate) mod query;

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::arrow_json::{write_text, write_value};
use crate::error::{Fault, JsonFault};
use crate::facts::{self, Facts};
use crate::pages::neuron::sql;
use crate::parameters::Parameters;
use crate::query::{Answer, Visitor};
use crate::routes::Shared;
use crate::sql_text::literal;

/// Greatest number of rows of an answer, other than those of queries.
const MOST: usize = 10_000;

type Site = State<Arc<Shared>>;
type Result<T> = std::result::Result<T, JsonFault>;

/// A body of JSON.
pub(crate) struct JsonText(pub String);

impl IntoResponse for JsonText {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.0).into_response()
    }
}

/// `GET /v1/openapi.json`
pub(crate) async fn openapi() -> JsonText {
    JsonText(include_str!("openapi.json").to_owned())
}

/// Writes the rows of an answer as an array of objects.
pub(crate) fn write_objects(out: &mut String, answer: &Answer) -> std::result::Result<(), Fault> {
    out.push('[');
    for row in answer.rows() {
        if row > 0 {
            out.push(',');
        }
        write_object(out, answer, row)?;
    }
    out.push(']');
    Ok(())
}

/// Writes a row as an object.
pub(crate) fn write_object(out: &mut String, answer: &Answer, row: usize) -> std::result::Result<(), Fault> {
    out.push('{');
    for (index, (field, column)) in answer.raw.schema_ref().fields().iter().zip(answer.raw.columns()).enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(out, field.name());
        out.push(':');
        write_value(out, column, row).map_err(Fault::internal)?;
    }
    out.push('}');
    Ok(())
}

/// An object with one array of rows, and whether these are all.
fn listed(name: &str, answer: &Answer) -> Result<JsonText> {
    let mut out = format!("{{\"{name}\":");
    write_objects(&mut out, answer)?;
    out.push_str(if answer.is_whole { ",\"complete\":true}\n" } else { ",\"complete\":false}\n" });
    Ok(JsonText(out))
}

fn facts_json(facts: &Facts) -> serde_json::Value {
    serde_json::json!({
        "model": facts.name,
        "is_network": facts.is_network,
        "architecture": facts.architecture,
        "layers": facts.layers,
        "neurons_per_layer": facts.neurons_per_layer,
        "d_model": facts.d_model,
        "activation_function": facts.activation_function,
        "site": facts.site,
        "parameters": facts.parameters,
        "vocabulary": facts.vocabulary,
        "dtype": facts.dtype,
        "device": facts.device,
        "sha256": facts.sha256,
        "datasets": facts.datasets,
        "tables": facts.tables,
    })
}

/// `GET /v1/models`
pub(crate) async fn models(State(site): Site, visitor: Visitor) -> Result<JsonText> {
    let mut asker = site.statements.for_page(&visitor).await?;
    let all: Vec<_> = facts::all(&mut asker).await?.iter().map(facts_json).collect();
    Ok(JsonText(serde_json::json!({ "models": all }).to_string()))
}

/// `GET /v1/models/{model}`
pub(crate) async fn model(State(site): Site, visitor: Visitor, Path(model): Path<String>) -> Result<JsonText> {
    let mut asker = site.statements.for_page(&visitor).await?;
    Ok(JsonText(facts_json(&facts::of(&mut asker, &model).await?).to_string()))
}

type NeuronPath = Path<(String, String, String)>;

/// `GET /v1/models/{model}/neurons/{layer}/{neuron}`
pub(crate) async fn neuron(
    State(site): Site,
    visitor: Visitor,
    Path((model, layer, neuron)): NeuronPath,
) -> Result<JsonText> {
    let mut asker = site.statements.for_page(&visitor).await?;
    let facts = facts::of(&mut asker, &model).await?;
    let place = facts.place(&layer, &neuron)?;
    let mut out = String::from("{\"model\":");
    write_text(&mut out, &facts.name);
    out.push_str(&format!(",\"layer\":{},\"neuron\":{}", place.layer, place.neuron));
    for (name, table) in [("statistics", "neurons"), ("graphs", "graphs"), ("explanations", "explanations")] {
        if facts.has(table) {
            let answer = asker.ask(sql::rows(&facts, table, place)).await?;
            out.push_str(&format!(",\"{name}\":"));
            write_objects(&mut out, &answer)?;
        }
    }
    out.push_str("}\n");
    Ok(JsonText(out))
}

/// `GET /v1/models/{model}/neurons/{layer}/{neuron}/examples`
pub(crate) async fn examples(
    State(site): Site,
    visitor: Visitor,
    Path((model, layer, neuron)): NeuronPath,
) -> Result<JsonText> {
    let mut asker = site.statements.for_page(&visitor).await?;
    let facts = facts::of(&mut asker, &model).await?;
    let place = facts.place(&layer, &neuron)?;
    if !facts.has("examples") {
        return Err(Fault::not_found(format!("{model} has no examples")).into());
    }
    listed("examples", &asker.ask_up_to(sql::examples(&facts, place)?, MOST).await?)
}

/// `GET /v1/models/{model}/neurons/{layer}/{neuron}/activations?text=…`
pub(crate) async fn activations(
    State(site): Site,
    visitor: Visitor,
    Path((model, layer, neuron)): NeuronPath,
    parameters: Parameters,
) -> Result<JsonText> {
    parameters.required("text")?;
    let text = parameters.text("text")?.unwrap_or_default().to_owned();
    let mut asker = site.statements.for_query(&visitor).await?;
    let facts = facts::of(&mut asker, &model).await?;
    let place = facts.place(&layer, &neuron)?;
    if !facts.is_network {
        return Err(Fault::not_found(format!("the network of {model} is not here, so that no text can be run")).into());
    }
    listed("activations", &asker.ask_up_to(sql::live(&facts, place, &text)?, MOST).await?)
}

/// `GET /v1/top-neurons?model=…&text=…&k=…`
pub(crate) async fn top_neurons(State(site): Site, visitor: Visitor, parameters: Parameters) -> Result<JsonText> {
    let model = parameters.required("model")?;
    parameters.required("text")?;
    let text = parameters.text("text")?.unwrap_or_default();
    let k = parameters.number::<u16>("k")?.unwrap_or(20).clamp(1, 1000);
    let mut asker = site.statements.for_query(&visitor).await?;
    let facts = facts::of(&mut asker, model).await?;
    let sql = format!(
        "SELECT layer, neuron, position, token, activation FROM top_neurons(model => {}, text => {}, k => {k})",
        literal(&facts.name)?,
        literal(text)?
    );
    listed("neurons", &asker.ask(sql).await?)
}

/// `GET /v1/search?q=…&model=…&limit=…`
pub(crate) async fn search(State(site): Site, visitor: Visitor, parameters: Parameters) -> Result<JsonText> {
    let query = parameters.required("q")?;
    let limit = parameters.number::<usize>("limit")?.unwrap_or(100).min(MOST);
    let mut asker = site.statements.for_page(&visitor).await?;
    let model = match parameters.get("model") {
        Some(model) => literal(&facts::of(&mut asker, model).await?.name)?,
        None => "NULL".into(),
    };
    let sql = format!(
        "SELECT model, layer, neuron, role, pattern, activation, importance, f1 FROM search({model}, {}) LIMIT {}",
        literal(query)?,
        limit + 1
    );
    listed("neurons", &asker.ask_up_to(sql, limit).await?)
}

#[cfg(test)]
mod tests {
    /// Every address under `/v1` and `/api` is described, and nothing else is.
    #[test]
    fn openapi_has_every_route() {
        let document: serde_json::Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let described: Vec<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
        let source = include_str!("../routes.rs");
        let routes = source.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")?.split('"').next());
        let mut routes: Vec<_> = routes.filter(|route| route.starts_with("/v1")).map(str::to_owned).collect();
        routes.push("/api".into());
        for tail in ["{service}", "{service}/{layer}", "{service}/{layer}/{neuron}"] {
            routes.push(format!("/api/{{model}}/{tail}"));
        }
        routes.sort();
        assert_eq!(routes, described);
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                assert!(operation["summary"].is_string() && operation["responses"].is_object(), "{method} {path}");
                let named: Vec<_> = path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
                let given = operation["parameters"].as_array().cloned().unwrap_or_default();
                let given: Vec<_> =
                    given.iter().filter(|one| one["in"] == "path").map(|one| one["name"].clone()).collect();
                assert_eq!(named.len(), given.len(), "{path}");
            }
        }
    }
}
