//! `/`: the models.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::html::{self, count_cell, number_head, panel, table, text_cell, text_head};
use super::{Result, Site};
use crate::facts::{self, MODELS};
use crate::query::Visitor;
use crate::sql_text::{count, escaped};

#[derive(Template)]
#[template(path = "models.html")]
struct Models {
    panels: String,
}

const DATASETS: &str = "SELECT dataset, documents, text_column FROM datasets ORDER BY dataset";

pub(crate) async fn page(State(site): Site, visitor: Visitor) -> Result<Response> {
    let mut asker = site.statements.for_page(&visitor).await?;
    let all = facts::all(&mut asker).await?;
    let datasets = asker.ask(DATASETS).await?;
    let mut rows = Vec::new();
    for facts in all.iter().filter(|facts| facts.is_network) {
        let text = |value: &Option<String>| value.as_deref().map_or_else(|| "–".into(), escaped);
        rows.push(vec![
            format!("<a href=\"{}\">{}</a>", html::model_link(&facts.name), escaped(&facts.name)),
            text(&facts.architecture),
            count(facts.layers),
            count(facts.neurons_per_layer),
            facts.parameters.map_or_else(|| "–".into(), count),
            text(&facts.activation_function),
            text(&facts.site),
            text(&facts.dtype),
            text(&facts.device),
            format!(
                "<code title=\"{}\">{}</code>",
                text(&facts.sha256),
                escaped(&facts.sha256.as_deref().unwrap_or("–").chars().take(10).collect::<String>())
            ),
        ]);
    }
    let heads = [
        text_head("model"),
        text_head("architecture"),
        number_head("layers"),
        number_head("neurons a layer"),
        number_head("parameters"),
        text_head("activation"),
        text_head("site"),
        text_head("numbers"),
        text_head("device"),
        text_head("sha256"),
    ];
    let mut panels = panel("networks", "Networks", &table("Networks", &heads, &rows)?, &[MODELS])?;
    let published = all.iter().filter(|facts| !facts.is_network).map(|facts| {
        vec![
            format!("<a href=\"{}\">{}</a>", html::model_link(&facts.name), escaped(&facts.name)),
            count(facts.layers),
            count(facts.neurons_per_layer),
            escaped(facts.dataset().unwrap_or("–")),
            escaped(&facts.tables.iter().filter(|name| *name != "rejects").cloned().collect::<Vec<_>>().join(", ")),
        ]
    });
    let published: Vec<_> = published.collect();
    if !published.is_empty() {
        let heads = [
            text_head("name"),
            number_head("layers"),
            number_head("neurons a layer"),
            text_head("dataset"),
            text_head("tables"),
        ];
        panels += &panel("published", "Published data", &table("Published data", &heads, &published)?, &[])?;
    }
    let rows: Vec<_> = datasets
        .rows()
        .map(|row| {
            vec![
                text_cell(&datasets, row, "dataset"),
                count_cell(&datasets, row, "documents"),
                text_cell(&datasets, row, "text_column"),
            ]
        })
        .collect();
    let heads = [text_head("dataset"), number_head("documents"), text_head("column of text")];
    panels += &panel("datasets", "Datasets", &table("Datasets", &heads, &rows)?, &[DATASETS])?;
    Ok(html::page(&visitor, "Models", &Vec::new(), &Models { panels }.render()?)?)
}
