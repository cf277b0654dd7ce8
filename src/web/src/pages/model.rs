//! `/m/{model}`: a model, and ways into it.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};

use super::drawings::bar;
use super::html::{self, count_cell, number_cell, number_head, panel, row_link, share_cell, table, text_head};
use super::{Result, Site};
use crate::facts::{self, Facts, Place};
use crate::parameters::Parameters;
use crate::query::{Asker, Visitor};
use crate::sql_text::{count, escaped};

#[derive(Template)]
#[template(path = "model.html")]
struct ModelTemplate<'a> {
    name: &'a str,
    summary: String,
    base: String,
    last_layer: i64,
    last_neuron: i64,
    is_network: bool,
    panels: String,
}

pub(crate) async fn page(State(site): Site, visitor: Visitor, Path(model): Path<String>) -> Result<Response> {
    let mut asker = site.statements.for_page(&visitor).await?;
    let facts = facts::of(&mut asker, &model).await?;
    let mut panels = layers(&mut asker, &facts).await?;
    panels += &interesting(&mut asker, &facts).await?;
    panels += &properties(&facts)?;
    let template = ModelTemplate {
        name: &facts.name,
        summary: summary(&facts),
        base: html::model_link(&facts.name),
        last_layer: (facts.layers - 1).max(0),
        last_neuron: (facts.neurons_per_layer - 1).max(0),
        is_network: facts.is_network,
        panels,
    };
    Ok(html::page(&visitor, &facts.name, &html::crumbs(&facts.name, &[]), &template.render()?)?)
}

fn summary(facts: &Facts) -> String {
    let kind = facts.architecture.as_deref().unwrap_or(if facts.is_network { "a network" } else { "published data" });
    let layers = if facts.layers == 1 { "layer" } else { "layers" };
    let analysed = match facts.dataset() {
        Some(dataset) => format!("statistics over {dataset}"),
        None => "not analysed yet".into(),
    };
    format!("{kind}: {} {layers} of {} neurons, {analysed}", count(facts.layers), count(facts.neurons_per_layer))
}

async fn layers(asker: &mut Asker, facts: &Facts) -> Result<String> {
    let condition = facts.of_dataset("dataset")?;
    let sql = format!(
        "SELECT layer, count(*) AS neurons,\n\
         \x20 count(*) FILTER (WHERE density = 0) AS dead,\n\
         \x20 count(*) FILTER (WHERE density > 0.6) AS dense,\n\
         \x20 median(kurtosis) AS kurtosis, avg(max_activation) AS max_activation, avg(f1) AS f1\n\
         FROM {} WHERE true{condition} GROUP BY layer ORDER BY layer",
        facts.table("neurons")
    );
    let answer = asker.ask(sql).await?;
    let rows: Vec<_> = answer
        .rows()
        .map(|row| {
            let layer = answer.integer(row, "layer").unwrap_or_default();
            vec![
                format!("<a href=\"{}/layers/{layer}\">layer {layer}</a>", html::model_link(&facts.name)),
                count_cell(&answer, row, "neurons"),
                count_cell(&answer, row, "dead"),
                count_cell(&answer, row, "dense"),
                number_cell(&answer, row, "kurtosis"),
                number_cell(&answer, row, "max_activation"),
                format!("{} {}", number_cell(&answer, row, "f1"), bar(answer.number(row, "f1"))),
            ]
        })
        .collect();
    let heads = [
        text_head("layer"),
        number_head("neurons"),
        number_head("dead (never > 0)"),
        number_head("dense (> 60 %)"),
        number_head("median kurtosis"),
        number_head("mean greatest activation"),
        number_head("mean F1 of graphs"),
    ];
    Ok(panel("layers", "Layers", &table("Layers", &heads, &rows)?, &[&answer.sql])?)
}

async fn interesting(asker: &mut Asker, facts: &Facts) -> Result<String> {
    let condition = facts.of_dataset("dataset")?;
    let (condition, order) = match facts.is_network {
        true => (format!("density > 0 AND density < 0.6{condition}"), "kurtosis DESC NULLS LAST"),
        false => ("true".to_owned(), "max_activation DESC NULLS LAST"),
    };
    let sql = format!(
        "SELECT layer, neuron, kurtosis, density, max_activation, f1 FROM {}\nWHERE {condition} ORDER BY {order}, layer, neuron LIMIT 20",
        facts.table("neurons")
    );
    let answer = asker.ask(sql).await?;
    if answer.len() == 0 {
        return Ok(panel(
            "interesting",
            "Where to look first",
            &html::note("Nothing is known about its neurons yet; analyze() runs it over a dataset."),
            &[&answer.sql],
        )?);
    }
    let rows: Vec<_> = answer
        .rows()
        .map(|row| {
            vec![
                row_link(&facts.name, &answer, row),
                number_cell(&answer, row, "kurtosis"),
                share_cell(&answer, row, "density"),
                number_cell(&answer, row, "max_activation"),
                number_cell(&answer, row, "f1"),
            ]
        })
        .collect();
    let heads = [
        text_head("neuron"),
        number_head("kurtosis"),
        number_head("density"),
        number_head("greatest activation"),
        number_head("F1 of its graph"),
    ];
    Ok(panel(
        "interesting",
        "Where to look first",
        &table("Neurons that fire rarely and then strongly", &heads, &rows)?,
        &[&answer.sql],
    )?)
}

fn properties(facts: &Facts) -> Result<String> {
    let text = |value: &Option<String>| value.as_deref().map_or_else(|| "–".into(), escaped);
    let number = |value: Option<i64>| value.map_or_else(|| "–".into(), count);
    let list = html::terms(&[
        ("architecture", text(&facts.architecture)),
        ("activation function", text(&facts.activation_function)),
        ("site", text(&facts.site)),
        ("width", number(facts.d_model)),
        ("parameters", number(facts.parameters)),
        ("vocabulary", number(facts.vocabulary)),
        ("numbers", text(&facts.dtype)),
        ("device", text(&facts.device)),
        ("sha256", format!("<code>{}</code>", text(&facts.sha256))),
        (
            "tables",
            facts.tables.iter().map(|table| format!("<code>{}</code>", escaped(table))).collect::<Vec<_>>().join(" "),
        ),
    ]);
    Ok(panel("properties", "Properties", &list, &[])?)
}

/// `/m/{model}/jump?layer=…&neuron=…`
pub(crate) async fn jump(
    State(site): Site,
    visitor: Visitor,
    Path(model): Path<String>,
    parameters: Parameters,
) -> Result<Redirect> {
    let mut asker = site.statements.for_page(&visitor).await?;
    let facts = facts::of(&mut asker, &model).await?;
    let place = facts.place(parameters.get("layer").unwrap_or("0"), parameters.get("neuron").unwrap_or("0"))?;
    Ok(Redirect::to(&html::neuron_path(&facts.name, place)))
}

/// `/m/{model}/random`
pub(crate) async fn random(State(site): Site, visitor: Visitor, Path(model): Path<String>) -> Result<Response> {
    let mut asker = site.statements.for_page(&visitor).await?;
    let facts = facts::of(&mut asker, &model).await?;
    let pick = |count: i64| rand::random_range(0..count.max(1));
    let place = Place { layer: pick(facts.layers), neuron: pick(facts.neurons_per_layer) };
    let target = html::neuron_path(&facts.name, place);
    Ok((axum::http::StatusCode::SEE_OTHER, [(header::LOCATION, target)]).into_response())
}
