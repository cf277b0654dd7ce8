//! `/text`: the neurons that a text excites.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};

use super::html::{self, number_cell, number_head, panel, place_of, share_cell, table, text_head};
use super::{Result, Site};
use crate::error::Fault;
use crate::facts::{self, Facts};
use crate::parameters::Parameters;
use crate::query::{Answer, Asker, Visitor};
use crate::sql_text::{encoded, escaped, literal, visible};

/// Neurons that are shown of a text or a token.
const SHOWN: usize = 30;

/// Bytes of a text that links to neurons take with them.
const MOST_LINKED: usize = 1000;

/// Models that a text is run through at most.
const MOST_MODELS: usize = 16;

/// Density from which a neuron is dense.
const DENSE: f64 = 0.6;

#[derive(Template)]
#[template(path = "text.html")]
struct Text<'a> {
    text: &'a str,
    models: Vec<(String, bool)>,
    dense: bool,
    by_share: bool,
    panels: String,
}

/// A question about a text.
struct Question<'a> {
    text: &'a str,
    /// Position of one of its tokens; all of them if there is none.
    at: Option<i64>,
    with_dense: bool,
    by_share: bool,
}

/// `/m/{model}/text`
pub(crate) async fn of_model(Path(model): Path<String>, parameters: Parameters) -> Response {
    let mut address = format!("/text?model={}", encoded(&model));
    for name in ["t", "at", "dense", "sort"] {
        if let Some(value) = parameters.get(name) {
            address += &format!("&{name}={}", encoded(value));
        }
    }
    Redirect::to(&address).into_response()
}

pub(crate) async fn page(State(site): Site, visitor: Visitor, parameters: Parameters) -> Result<Response> {
    let text = parameters.typed("t")?.unwrap_or_default();
    let question = Question {
        text: &text,
        at: parameters.number::<u32>("at")?.map(i64::from),
        with_dense: parameters.get("dense").is_some(),
        by_share: match parameters.get("sort") {
            None | Some("activation") => false,
            Some("share") => true,
            Some(_) => return Err(Fault::bad_request("the parameter sort is activation or share").into()),
        },
    };
    let mut asker = site.statements.for_page(&visitor).await?;
    let all = facts::all(&mut asker).await?;
    let networks: Vec<_> = all.iter().filter(|facts| facts.is_network).collect();
    let chosen = parameters.get("model").or_else(|| networks.first().map(|facts| facts.name.as_str()));
    let run: Vec<&Facts> = match chosen {
        Some("*") => networks.iter().copied().take(MOST_MODELS).collect(),
        Some(model) => match networks.iter().find(|facts| facts.name == model) {
            Some(facts) => vec![*facts],
            None => return Err(Fault::not_found(format!("there is no network \"{model}\" here to run a text")).into()),
        },
        None => Vec::new(),
    };
    let mut panels = String::new();
    if !question.text.is_empty() {
        for facts in run {
            let facts = facts::of(&mut asker, &facts.name).await?;
            panels += &answer(&mut asker, &facts, &question).await?;
        }
    }
    let mut models: Vec<_> =
        networks.iter().map(|facts| (facts.name.clone(), Some(facts.name.as_str()) == chosen)).collect();
    models.push(("*".into(), chosen == Some("*")));
    let (dense, by_share) = (question.with_dense, question.by_share);
    let body = Text { text: question.text, models, dense, by_share, panels }.render()?;
    let crumbs = vec![("models".into(), "/".into()), ("text".into(), String::new())];
    Ok(html::page(&visitor, "Text", &crumbs, &body)?)
}

async fn answer(asker: &mut Asker, facts: &Facts, question: &Question<'_>) -> Result<String> {
    let (model, text) = (literal(&facts.name)?, literal(question.text)?);
    // A long text has several examples.
    let sql = format!(
        "SELECT example, position, token FROM {} WHERE text = {text} AND layer = 0 AND neuron = 0 ORDER BY example, position",
        facts.table("activations")
    );
    let tokens = asker.ask(sql).await?;
    let mut body = tokens_line(facts, question, &tokens);
    let statistics = match facts.datasets.first() {
        Some(dataset) => format!(
            "LEFT JOIN {} n ON n.layer = a.layer AND n.neuron = a.neuron AND n.dataset = {}",
            facts.table("neurons"),
            literal(dataset)?
        ),
        None => format!("LEFT JOIN {} n ON n.layer = a.layer AND n.neuron = a.neuron", facts.table("neurons")),
    };
    let source = match question.at {
        Some(at) => {
            let at = usize::try_from(at).ok().filter(|at| tokens.rows().contains(at));
            let Some(at) = at else { return Err(Fault::bad_request("the text has no token at that place").into()) };
            format!(
                "SELECT layer, neuron, position, token, activation FROM {} WHERE text = {text} AND example = {} AND position = {}",
                facts.table("activations"),
                tokens.integer(at, "example").unwrap_or_default(),
                tokens.integer(at, "position").unwrap_or_default()
            )
        }
        // Each neuron at its peak; dense ones and shares are chosen among the strongest.
        None => format!(
            "SELECT layer, neuron, position, token, activation FROM top_neurons(model => {model}, text => {text}, k => 300)"
        ),
    };
    let dense = if question.with_dense { String::new() } else { format!("\nWHERE coalesce(n.density, 0) <= {DENSE}") };
    let order = if question.by_share { "share DESC NULLS LAST" } else { "a.activation DESC" };
    let sql = format!(
        "SELECT a.layer, a.neuron, a.position, a.token, a.activation, a.activation / nullif(n.max_activation, 0) AS share, n.density, n.f1\n\
         FROM ({source}) a\n{statistics}{dense}\nORDER BY {order}, a.layer, a.neuron LIMIT {SHOWN}"
    );
    let answer = asker.ask(sql).await?;
    let rows: Vec<_> = answer
        .rows()
        .map(|row| {
            let place = place_of(&answer, row);
            let mut link = html::neuron_path(&facts.name, place);
            if question.text.len() <= MOST_LINKED {
                link += &format!("?t={}", encoded(question.text));
            }
            vec![
                format!("<a href=\"{}\">{}:{}</a>", escaped(&link), place.layer, place.neuron),
                format!(
                    "<span class=\"pattern\">{}</span>",
                    escaped(&visible(answer.text(row, "token").unwrap_or_default()))
                ),
                answer.integer(row, "position").unwrap_or_default().to_string(),
                number_cell(&answer, row, "activation"),
                share_cell(&answer, row, "share"),
                share_cell(&answer, row, "density"),
                number_cell(&answer, row, "f1"),
            ]
        })
        .collect();
    let heads = [
        text_head("neuron"),
        text_head("at token"),
        number_head("position"),
        number_head("activation"),
        number_head("of its greatest"),
        number_head("density"),
        number_head("F1"),
    ];
    body += &match rows.is_empty() {
        true => html::note("No neuron is left."),
        false => table(&format!("Neurons of {} that the text excites", facts.name), &heads, &rows)?,
    };
    Ok(panel(&format!("model-{}", encoded(&facts.name)), &format!("Neurons of {}", facts.name), &body, &[&answer.sql])?)
}

/// The tokens, each a button that leads to the neurons that fire there: the text is in the form once.
fn tokens_line(facts: &Facts, question: &Question, tokens: &Answer) -> String {
    let hidden =
        |name: &str, value: &str| format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escaped(value));
    let mut line = format!(
        "<form action=\"/text\" class=\"tokens\" aria-label=\"Tokens\">{}{}",
        hidden("model", &facts.name),
        hidden("t", question.text)
    );
    if question.with_dense {
        line += &hidden("dense", "1");
    }
    if question.by_share {
        line += &hidden("sort", "share");
    }
    for position in tokens.rows() {
        let seen = visible(tokens.text(position, "token").unwrap_or_default());
        let seen = if seen.trim().is_empty() { "␣".to_owned() } else { escaped(&seen) };
        let current = if question.at == Some(position as i64) { " aria-current=\"true\"" } else { "" };
        line += &format!(
            "<button type=\"submit\" class=\"token\" name=\"at\" value=\"{position}\"{current}>{seen}</button>"
        );
    }
    if question.at.is_some() {
        line += "<button type=\"submit\">whole text</button>";
    }
    line += "</form>";
    line
}
