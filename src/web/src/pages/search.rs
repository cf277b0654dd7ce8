//! `/search`: neurons by tokens of their graphs.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::html::{self, neuron_link, number_cell, number_head, panel, place_of, table, text_cell, text_head};
use super::{Result, Site};
use crate::facts;
use crate::parameters::Parameters;
use crate::query::Visitor;
use crate::sql_text::{escaped, literal};

/// Greatest number of neurons that are shown.
const MOST: usize = 100;

#[derive(Template)]
#[template(path = "search.html")]
struct Search<'a> {
    query: &'a str,
    models: Vec<(String, bool)>,
    panels: String,
}

pub(crate) async fn page(State(site): Site, visitor: Visitor, parameters: Parameters) -> Result<Response> {
    let query = parameters.text("q")?.unwrap_or_default();
    let chosen = parameters.get("model");
    let mut asker = site.statements.for_page(&visitor).await?;
    let all = facts::all(&mut asker).await?;
    if let Some(model) = chosen {
        facts::of(&mut asker, model).await?;
    }
    let models = all.iter().filter(|facts| facts.has("graphs"));
    let models = models.map(|facts| (facts.name.clone(), Some(facts.name.as_str()) == chosen)).collect();
    let mut panels = String::new();
    if !query.is_empty() {
        let model = chosen.map_or_else(|| Ok("NULL".to_owned()), literal)?;
        let sql = format!(
            "SELECT model, layer, neuron, role, pattern, activation, importance, f1 FROM search({model}, {}) LIMIT {}",
            literal(query)?,
            MOST + 1
        );
        panels = match asker.ask(sql).await {
            Ok(answer) => {
                let rows: Vec<_> = (0..answer.len().min(MOST))
                    .map(|row| {
                        let model = answer.text(row, "model").unwrap_or_default();
                        let place = place_of(&answer, row);
                        vec![
                            neuron_link(model, place, &format!("{model} {}:{}", place.layer, place.neuron)),
                            text_cell(&answer, row, "role"),
                            format!("<span class=\"pattern\">{}</span>", text_cell(&answer, row, "pattern")),
                            number_cell(&answer, row, "activation"),
                            number_cell(&answer, row, "importance"),
                            number_cell(&answer, row, "f1"),
                        ]
                    })
                    .collect();
                let heads = [
                    text_head("neuron"),
                    text_head("role"),
                    text_head("pattern"),
                    number_head("activation"),
                    number_head("importance"),
                    number_head("F1"),
                ];
                let found = match answer.len() {
                    0 => html::note("No graph has it."),
                    count if count > MOST => {
                        html::note(&format!("The first {MOST} neurons; the console gives them all."))
                    }
                    1 => html::note("One neuron."),
                    count => html::note(&format!("{count} neurons.")),
                };
                let rows = if rows.is_empty() { String::new() } else { table("Neurons found", &heads, &rows)? };
                panel("found", "Neurons", &(found + &rows), &[&answer.sql])?
            }
            // A mistake in the query belongs beside it.
            Err(fault) if fault.status.is_client_error() => panel(
                "found",
                "Neurons",
                &format!("<p class=\"fault\" role=\"alert\">{}</p>", escaped(&fault.message)),
                &[],
            )?,
            Err(fault) => return Err(fault.into()),
        };
    }
    let title = if query.is_empty() {
        "Search".to_owned()
    } else {
        format!("Search {}", query.chars().take(60).collect::<String>())
    };
    let body = Search { query, models, panels }.render()?;
    let crumbs = vec![("models".into(), "/".into()), ("search".into(), String::new())];
    Ok(html::page(&visitor, &title, &crumbs, &body)?)
}
