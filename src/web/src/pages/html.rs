//! Parts that pages share.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};

use crate::error::Fault;
use crate::facts::Place;
use crate::query::{Answer, Visitor};
use crate::sql_text::{count, encoded, escaped, number};

#[derive(Template)]
#[template(path = "base.html")]
struct Base<'a> {
    title: &'a str,
    crumbs: &'a [(String, String)],
    body: &'a str,
    user: &'a str,
    has_session: bool,
}

/// Links to the pages above one, with their names; the page itself has no link.
pub(super) type Crumbs = Vec<(String, String)>;

/// Makes a page around its content.
pub(super) fn page(visitor: &Visitor, title: &str, crumbs: &Crumbs, body: &str) -> Result<Response, Fault> {
    let base = Base { title, crumbs, body, user: &visitor.user, has_session: visitor.has_session };
    Ok(Html(base.render()?).into_response())
}

/// Links to a model and to places in it.
pub(super) fn crumbs(model: &str, below: &[(&str, &str)]) -> Crumbs {
    let mut crumbs = vec![("models".to_owned(), "/".to_owned()), (model.to_owned(), model_link(model))];
    crumbs.extend(below.iter().map(|(name, link)| ((*name).to_owned(), (*link).to_owned())));
    if let Some((_, link)) = crumbs.last_mut() {
        link.clear();
    }
    crumbs
}

#[derive(Template)]
#[template(path = "panel.html")]
struct PanelTemplate<'a> {
    id: &'a str,
    title: &'a str,
    body: &'a str,
    statements: Vec<(String, String)>,
}

/// Makes a part of a page, with the statements that its rows are of.
pub(super) fn panel(id: &str, title: &str, body: &str, statements: &[&str]) -> Result<String, Fault> {
    let link = |sql: &str| format!("/sql?q={}", encoded(sql));
    let statements = statements.iter().map(|sql| ((*sql).to_owned(), link(sql))).collect();
    Ok(PanelTemplate { id, title, body, statements }.render()?)
}

#[derive(Template)]
#[template(path = "lazy.html")]
struct LazyTemplate<'a> {
    id: &'a str,
    title: &'a str,
    link: &'a str,
}

/// Makes a panel that is loaded after its page.
pub(super) fn lazy(id: &str, title: &str, link: &str) -> Result<String, Fault> {
    Ok(LazyTemplate { id, title, link }.render()?)
}

/// The head of a column.
pub(super) struct Head {
    pub name: &'static str,
    pub is_number: bool,
    /// Link that sorts by the column.
    pub link: Option<String>,
    /// `ascending` or `descending`, if the rows are.
    pub sorted: Option<&'static str>,
}

pub(super) fn text_head(name: &'static str) -> Head {
    Head { name, is_number: false, link: None, sorted: None }
}

pub(super) fn number_head(name: &'static str) -> Head {
    Head { name, is_number: true, link: None, sorted: None }
}

#[derive(Template)]
#[template(path = "table.html")]
struct TableTemplate<'a> {
    caption: &'a str,
    heads: &'a [Head],
    rows: &'a [Vec<String>],
}

/// Makes a table; cells are HTML.
pub(super) fn table(caption: &str, heads: &[Head], rows: &[Vec<String>]) -> Result<String, Fault> {
    Ok(TableTemplate { caption, heads, rows }.render()?)
}

pub(super) fn model_link(model: &str) -> String {
    format!("/m/{}", encoded(model))
}

pub(super) fn neuron_path(model: &str, place: Place) -> String {
    format!("/m/{}/neurons/{}/{}", encoded(model), place.layer, place.neuron)
}

/// Makes a link to a neuron.
pub(super) fn neuron_link(model: &str, place: Place, text: &str) -> String {
    format!("<a href=\"{}\">{}</a>", neuron_path(model, place), escaped(text))
}

/// Returns the neuron of a row.
pub(super) fn place_of(answer: &Answer, row: usize) -> Place {
    let index = |column| answer.integer(row, column).unwrap_or_default();
    Place { layer: index("layer"), neuron: index("neuron") }
}

/// Makes a link `layer:neuron` to the neuron of a row.
pub(super) fn row_link(model: &str, answer: &Answer, row: usize) -> String {
    let place = place_of(answer, row);
    neuron_link(model, place, &format!("{}:{}", place.layer, place.neuron))
}

/// Formats the number of a row.
pub(super) fn number_cell(answer: &Answer, row: usize, column: &str) -> String {
    number(answer.number(row, column))
}

pub(super) fn count_cell(answer: &Answer, row: usize, column: &str) -> String {
    answer.integer(row, column).map_or_else(|| "–".into(), count)
}

pub(super) fn text_cell(answer: &Answer, row: usize, column: &str) -> String {
    answer.text(row, column).map_or_else(|| "–".into(), escaped)
}

/// Formats a share as a percentage.
pub(super) fn share_cell(answer: &Answer, row: usize, column: &str) -> String {
    percent(answer.number(row, column))
}

pub(super) fn percent(share: Option<f64>) -> String {
    match share {
        None => "–".into(),
        Some(share) => format!("{} %", number(Some(share * 100.0))),
    }
}

/// Makes a list of terms and descriptions; descriptions are HTML.
pub(super) fn terms(pairs: &[(&str, String)]) -> String {
    let mut list = String::from("<dl class=\"facts\">");
    for (term, description) in pairs {
        list.push_str(&format!("<div><dt>{}</dt><dd>{description}</dd></div>", escaped(term)));
    }
    list.push_str("</dl>");
    list
}

pub(super) fn note(text: &str) -> String {
    format!("<p class=\"note\">{}</p>", escaped(text))
}

/// A table of any rows, as the console shows them.
pub(super) fn raw_table(answer: &Answer, most: usize) -> Result<String, Fault> {
    let mut out =
        String::from("<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"Rows\"><table><thead><tr>");
    let is_number = |index: usize| answer.raw.column(index).data_type().is_numeric();
    let class = |index| if is_number(index) { " class=\"number\"" } else { "" };
    for (index, field) in answer.raw.schema_ref().fields().iter().enumerate() {
        out.push_str(&format!("<th scope=\"col\"{}>{}</th>", class(index), escaped(field.name())));
    }
    out.push_str("</tr></thead><tbody>");
    for row in 0..answer.len().min(most) {
        out.push_str("<tr>");
        for (index, column) in answer.raw.columns().iter().enumerate() {
            let mut text = String::new();
            crate::arrow_json::write_value(&mut text, column, row).map_err(Fault::internal)?;
            let shown = match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(serde_json::Value::String(plain)) => plain,
                Ok(serde_json::Value::Null) => "NULL".into(),
                _ => text,
            };
            out.push_str(&format!("<td{}>{}</td>", class(index), escaped(&shown)));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
    Ok(out)
}
