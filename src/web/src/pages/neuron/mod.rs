//! `/m/{model}/neurons/{layer}/{neuron}`: all that is known about a neuron.

mod examples;
mod panels;
pub(crate) mod sql;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse, Response};

use super::html::{self, lazy};
use super::{Result, Site};
use crate::error::Fault;
use crate::facts::{self, Facts, Place};
use crate::parameters::Parameters;
use crate::query::{Answer, Visitor};
use crate::sql_text::{encoded, escaped, literal};

/// Nodes of a drawing, if no other number is asked for.
const DRAWN: u32 = 120;

/// Greatest number of characters of a pattern in a heading: it may have many alternatives.
const LONGEST_PATTERN: usize = 120;

type NeuronPath = Path<(String, String, String)>;

#[derive(Template)]
#[template(path = "neuron.html")]
struct Neuron<'a> {
    model: &'a str,
    layer: i64,
    neuron: i64,
    key: String,
    base: String,
    here: String,
    previous: String,
    previous_name: String,
    next: String,
    next_name: String,
    meaning: Vec<String>,
    graph: String,
    statistics: String,
    is_network: bool,
    text: &'a str,
    live: String,
    panels: String,
}

pub(crate) async fn page(
    State(site): Site,
    visitor: Visitor,
    Path((model, layer, neuron)): NeuronPath,
    parameters: Parameters,
) -> Result<Response> {
    let nodes = parameters.number::<u32>("nodes")?.unwrap_or(DRAWN).clamp(1, 10_000);
    let text = &*parameters.typed("t")?.unwrap_or_default();
    let mut asker = site.statements.for_page(&visitor).await?;
    let facts = facts::of(&mut asker, &model).await?;
    let place = facts.place(&layer, &neuron)?;
    let statistics = place.ask(&mut asker, |of_neuron| Ok(sql::statistics(&facts, of_neuron))).await?;
    let graphs = match facts.has("graphs") {
        true => Some(place.ask(&mut asker, |of_neuron| sql::graphs(&facts, of_neuron, nodes)).await?),
        false => None,
    };
    let explanations = match facts.has("explanations") {
        true => Some(place.ask(&mut asker, |of_neuron| Ok(sql::explanations(&facts, of_neuron))).await?),
        false => None,
    };
    let branches = match &graphs {
        Some(graphs) => panels::branches(&mut asker, &facts, place, graphs, nodes).await?,
        None => String::new(),
    };
    let chosen = chosen_row(&facts, &statistics);
    let greatest = statistics.real(chosen, "max_activation").unwrap_or_default();
    let here = html::neuron_path(&facts.name, place);
    let mut rest = String::new();
    if let Some(answer) = explanations.as_ref().filter(|answer| answer.len() > 0) {
        rest += &panels::explanations(answer)?;
    }
    if facts.has("examples") {
        rest += &examples::panel(&mut asker, &facts, place, greatest).await?;
    }
    if facts.is_network {
        rest += &lazy("tokens", "Tokens by weights", &format!("{here}/panels/tokens"))?;
    }
    if graphs.is_some() {
        rest += &lazy("similar", "Similar neurons", &format!("{here}/panels/similar"))?;
    }
    if facts.is_network {
        rest += &lazy("connections", "Connections by weights", &format!("{here}/panels/connections"))?;
    }
    rest += &panels::provenance(&facts, &statistics, chosen, graphs.as_ref())?;
    let live = match text {
        "" => String::new(),
        text if facts.is_network => panels::live(&mut asker, &facts, place, text).await?,
        _ => String::new(),
    };
    site.statements.keep(asker);
    let (previous, next) = neighbours(&facts, place);
    let name = |place: Place| format!("{}:{}", place.layer, place.neuron);
    let template = Neuron {
        model: &facts.name,
        layer: place.layer,
        neuron: place.neuron,
        key: encoded(&format!("{}:{}:{}", facts.name, place.layer, place.neuron)),
        base: html::model_link(&facts.name),
        here,
        previous: html::neuron_path(&facts.name, previous),
        previous_name: name(previous),
        next: html::neuron_path(&facts.name, next),
        next_name: name(next),
        meaning: meaning(explanations.as_ref(), graphs.as_ref()),
        graph: panels::graph(&facts, place, graphs.as_ref(), nodes, &branches)?,
        statistics: panels::statistics(&statistics, chosen)?,
        is_network: facts.is_network,
        text,
        live,
        panels: rest,
    };
    let layer = (format!("layer {}", place.layer), format!("{}/layers/{}", html::model_link(&facts.name), place.layer));
    let crumbs = html::crumbs(&facts.name, &[(&layer.0, &layer.1), (&format!("neuron {}", place.neuron), "")]);
    let title = format!("{} {}:{}", facts.name, place.layer, place.neuron);
    Ok(html::page(&visitor, &title, &crumbs, &template.render()?)?)
}

/// Returns the row of the dataset that the page is about.
fn chosen_row(facts: &Facts, statistics: &Answer) -> usize {
    let wanted = facts.datasets.first().map(String::as_str);
    statistics.rows().find(|row| statistics.text(*row, "dataset") == wanted).unwrap_or_default()
}

/// Returns the neurons before and after one, through all layers and around.
fn neighbours(facts: &Facts, place: Place) -> (Place, Place) {
    let width = facts.neurons_per_layer.max(1);
    let count = (facts.layers * width).max(1);
    let at = place.layer * width + place.neuron;
    let of = |index: i64| Place { layer: index / width, neuron: index % width };
    (of((at + count - 1) % count), of((at + 1) % count))
}

/// Returns the best explanation, else the strongest patterns of the graph.
fn meaning(explanations: Option<&Answer>, graphs: Option<&Answer>) -> Vec<String> {
    if let Some(text) = explanations.and_then(|answer| answer.text(0, "explanation")) {
        return vec![text.trim().to_owned()];
    }
    let patterns = graphs.and_then(|answer| answer.text(0, "text")).unwrap_or_default();
    patterns.lines().take(3).map(clipped).collect()
}

/// A line that has room in a heading.
fn clipped(line: &str) -> String {
    match line.char_indices().nth(LONGEST_PATTERN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// `/m/{model}/neurons/{layer}/{neuron}/graph.svg`
pub(crate) async fn drawing(
    State(site): Site,
    visitor: Visitor,
    Path((model, layer, neuron)): NeuronPath,
    parameters: Parameters,
) -> Result<Response> {
    let mut asker = site.statements.for_page(&visitor).await?;
    let facts = facts::of(&mut asker, &model).await?;
    let place = facts.place(&layer, &neuron)?;
    if !facts.has("graphs") {
        return Err(Fault::not_found(format!("{model} has no graphs")).into());
    }
    let theme = parameters.get("theme").unwrap_or("light");
    let nodes = parameters.number::<u32>("nodes")?.unwrap_or(DRAWN);
    let method = match parameters.get("method") {
        Some(method) => format!(" AND method = {}", literal(method)?),
        None => String::new(),
    };
    let title = format!("{} {}:{}", facts.name, place.layer, place.neuron);
    let sql = format!(
        "SELECT graph_svg(graph, {}, {}, '', {nodes}) AS drawing FROM {} WHERE layer = {} AND neuron = {}{method} \
         AND graph IS NOT NULL ORDER BY method <> 'neuroql', built_at DESC LIMIT 1",
        literal(&title)?,
        literal(theme)?,
        facts.table("graphs"),
        place.layer,
        place.neuron
    );
    let answer = asker.ask(sql).await?;
    match answer.text(0, "drawing") {
        Some(drawing) => Ok(([(header::CONTENT_TYPE, "image/svg+xml")], drawing.to_owned()).into_response()),
        None => Err(Fault::not_found(format!("neuron {}:{} has no such graph", place.layer, place.neuron)).into()),
    }
}

/// `/m/{model}/neurons/{layer}/{neuron}/panels/{panel}`: a part of the page, which modules put into it. A browser without
/// JavaScript gets it as a page.
pub(crate) async fn panel(
    State(site): Site,
    visitor: Visitor,
    Path((model, layer, neuron, name)): Path<(String, String, String, String)>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response> {
    let mut asker = site.statements.for_page(&visitor).await?;
    let facts = facts::of(&mut asker, &model).await?;
    let place = facts.place(&layer, &neuron)?;
    let is_shown = match name.as_str() {
        "tokens" | "connections" | "live" => facts.is_network,
        "similar" | "branch" => facts.has("graphs"),
        _ => false,
    };
    if !is_shown {
        return Err(Fault::not_found(format!("{model} has no such panel")).into());
    }
    let content = match name.as_str() {
        "tokens" => panels::tokens(&mut asker, &facts, place).await?,
        "connections" => panels::connections(&mut asker, &facts, place).await?,
        "similar" => panels::similar(&mut asker, &facts, place).await?,
        "branch" => panels::branch(&mut asker, &facts, place, &parameters).await?,
        _ => {
            let text = parameters.text("t")?.unwrap_or_default();
            if text.is_empty() { String::new() } else { panels::live(&mut asker, &facts, place, text).await? }
        }
    };
    if headers.contains_key("x-fragment") {
        return Ok(Html(content).into_response());
    }
    let title = format!("{} {}:{}", facts.name, place.layer, place.neuron);
    let body = format!("<h1>{}</h1>{content}", escaped(&title));
    let crumbs = html::crumbs(&facts.name, &[(&title, &html::neuron_path(&facts.name, place)), (&name, "")]);
    Ok(html::page(&visitor, &title, &crumbs, &body)?)
}
