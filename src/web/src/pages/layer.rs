//! `/m/{model}/layers/{layer}`: the neurons of a layer.

use axum::extract::{Path, State};
use axum::response::Response;

use super::drawings::bars;
use super::html::{self, Head, number_cell, panel, row_link, share_cell, table};
use super::{Result, Site};
use crate::error::Fault;
use crate::facts::{self, Facts};
use crate::parameters::Parameters;
use crate::query::{Asker, Visitor};
use crate::sql_text::{encoded, escaped};

/// Neurons of a page of the table.
const PAGE: u32 = 50;

/// Columns of the table, which it can be sorted by.
const COLUMNS: [(&str, &str); 6] = [
    ("neuron", "neuron"),
    ("kurtosis", "kurtosis"),
    ("density", "density"),
    ("max_activation", "greatest activation"),
    ("mean", "mean"),
    ("f1", "F1 of its graph"),
];

pub(crate) async fn page(
    State(site): Site,
    visitor: Visitor,
    Path((model, layer)): Path<(String, String)>,
    parameters: Parameters,
) -> Result<Response> {
    let mut asker = site.statements.for_page(&visitor).await?;
    let facts = facts::of(&mut asker, &model).await?;
    let layer = facts.layer(&layer)?;
    let mut body = format!("<h1>{} · layer {layer}</h1>{}", escaped(&facts.name), steps(&facts, layer));
    body += &charts(&mut asker, &facts, layer).await?;
    body += &neurons(&mut asker, &facts, layer, &parameters).await?;
    let name = format!("layer {layer}");
    Ok(html::page(
        &visitor,
        &format!("{} layer {layer}", facts.name),
        &html::crumbs(&facts.name, &[(&name, "")]),
        &body,
    )?)
}

fn steps(facts: &Facts, layer: i64) -> String {
    let link = |layer: i64, rel: &str, text: &str| {
        format!(
            "<a class=\"button\" rel=\"{rel}\" href=\"{}/layers/{layer}\">{text}</a> ",
            html::model_link(&facts.name)
        )
    };
    let count = facts.layers.max(1);
    let (previous, next) = ((layer + count - 1) % count, (layer + 1) % count);
    format!(
        "<p class=\"steps\">{}{}</p>",
        link(previous, "prev", &format!("‹ layer {previous}")),
        link(next, "next", &format!("layer {next} ›"))
    )
}

async fn charts(asker: &mut Asker, facts: &Facts, layer: i64) -> Result<String> {
    let condition = facts.of_dataset("dataset")?;
    let sql = format!(
        "SELECT neuron, density, kurtosis, max_activation, f1 FROM {} WHERE layer = {layer}{condition} ORDER BY neuron",
        facts.table("neurons")
    );
    let answer = asker.ask(sql).await?;
    let values = |column: &str| answer.rows().filter_map(|row| answer.number(row, column)).collect::<Vec<_>>();
    let (scores, greatest) = (values("f1"), values("max_activation"));
    let mut charts = String::from("<div class=\"charts\">");
    if !values("kurtosis").is_empty() {
        charts += &format!(
            "<figure><figcaption>Density and kurtosis of each neuron; a point leads to it</figcaption>\
             <div class=\"plot\" role=\"img\" aria-label=\"Density and kurtosis of the neurons of layer {layer}\" data-sql=\"{}\" data-x=\"density\" data-y=\"kurtosis\" \
             data-log=\"1\" data-link=\"{}/neurons/{layer}/\"></div><noscript><p class=\"note\">The plot needs JavaScript; the table below has its numbers.</p></noscript></figure>",
            escaped(&answer.sql),
            html::model_link(&facts.name)
        );
    }
    if !scores.is_empty() {
        charts += &format!(
            "<figure><figcaption>F1 of graphs</figcaption>{}</figure>",
            bars("Numbers of neurons by the F1 of their graphs", &scores, 0.0, 1.0)
        );
    }
    if !greatest.is_empty() {
        let high = greatest.iter().copied().fold(f64::MIN, f64::max);
        let low = greatest.iter().copied().fold(0.0, f64::min);
        charts += &format!(
            "<figure><figcaption>Greatest activation</figcaption>{}</figure>",
            bars("Numbers of neurons by their greatest activation", &greatest, low, high)
        );
    }
    charts += "</div>";
    Ok(panel("charts", "Charts", &charts, &[&answer.sql])?)
}

async fn neurons(asker: &mut Asker, facts: &Facts, layer: i64, parameters: &Parameters) -> Result<String> {
    let sort = parameters.get("sort").unwrap_or("neuron");
    let Some((column, _)) = COLUMNS.iter().find(|(column, _)| *column == sort) else {
        let names: Vec<_> = COLUMNS.iter().map(|(column, _)| *column).collect();
        return Err(Fault::bad_request(format!("the table is sorted by {}", names.join(", "))).into());
    };
    let is_descending = match parameters.get("dir") {
        None | Some("asc") => false,
        Some("desc") => true,
        Some(_) => return Err(Fault::bad_request("the parameter dir is asc or desc").into()),
    };
    let page = parameters.number::<u32>("page")?.unwrap_or(0);
    let filter = parameters.get("where").unwrap_or_default();
    let condition = facts.of_dataset("dataset")?;
    // What is typed is an expression of its own: its parentheses are those of a subquery's list, not of this statement.
    let filtered = match filter {
        "" => String::new(),
        filter if balanced(filter) => format!(" AND ({filter}\n)"),
        _ => return Err(Fault::bad_request("the condition has parentheses or quotes that are not closed").into()),
    };
    let direction = if is_descending { "DESC NULLS LAST" } else { "ASC NULLS LAST" };
    let sql = format!(
        "SELECT layer, neuron, kurtosis, density, max_activation, mean, f1 FROM {}\n\
         WHERE layer = {layer}{condition}{filtered}\nORDER BY {column} {direction}, neuron LIMIT {} OFFSET {}",
        facts.table("neurons"),
        PAGE + 1,
        u64::from(page) * u64::from(PAGE)
    );
    let answer = asker.ask(sql).await?;
    let own = |sort: &str, descending: bool, page: u32| {
        let direction = if descending { "desc" } else { "asc" };
        format!("?sort={sort}&dir={direction}&page={page}&where={}#neurons", encoded(filter))
    };
    let heads: Vec<_> = COLUMNS
        .iter()
        .map(|(name, title)| {
            let is_sorted = name == column;
            Head {
                name: title,
                is_number: *name != "neuron",
                link: Some(own(name, if is_sorted { !is_descending } else { *name != "neuron" }, 0)),
                sorted: is_sorted.then_some(if is_descending { "descending" } else { "ascending" }),
            }
        })
        .collect();
    let shown = answer.len().min(PAGE as usize);
    let rows: Vec<_> = (0..shown)
        .map(|row| {
            vec![
                row_link(&facts.name, &answer, row),
                number_cell(&answer, row, "kurtosis"),
                share_cell(&answer, row, "density"),
                number_cell(&answer, row, "max_activation"),
                number_cell(&answer, row, "mean"),
                number_cell(&answer, row, "f1"),
            ]
        })
        .collect();
    let mut body = format!(
        "<form class=\"row\" action=\"#neurons\"><input type=\"hidden\" name=\"sort\" value=\"{column}\"><input type=\"hidden\" name=\"dir\" value=\"{}\">\
         <label>Only neurons WHERE <input name=\"where\" value=\"{}\" placeholder=\"density &lt; 0.01 AND f1 &gt; 0.8\" spellcheck=\"false\" size=\"32\"></label> <button>Filter</button></form>",
        if is_descending { "desc" } else { "asc" },
        escaped(filter)
    );
    body += &table(&format!("Neurons of layer {layer}"), &heads, &rows)?;
    body += "<p class=\"steps\">";
    if page > 0 {
        body += &format!(
            "<a class=\"button\" href=\"{}\">‹ {PAGE} before</a> ",
            escaped(&own(column, is_descending, page - 1))
        );
    }
    if answer.len() > shown {
        body += &format!(
            "<a class=\"button\" href=\"{}\">{PAGE} after ›</a>",
            escaped(&own(column, is_descending, page + 1))
        );
    }
    body += "</p>";
    Ok(panel("neurons", "Neurons", &body, &[&answer.sql])?)
}

/// Returns true if an expression closes its parentheses and quotes itself, and holds neither comments nor semicolons.
fn balanced(expression: &str) -> bool {
    let mut depth = 0_i64;
    let mut quote = None;
    let mut previous = ' ';
    for letter in expression.chars() {
        match (quote, letter) {
            (_, '\\') => return false,
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(letter),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, ';' | '$') => return false,
            (None, '-') if previous == '-' => return false,
            (None, '*') if previous == '/' => return false,
            _ => {}
        }
        if depth < 0 {
            return false;
        }
        previous = letter;
    }
    depth == 0 && quote.is_none()
}

#[cfg(test)]
mod tests {
    use super::balanced;

    #[test]
    fn conditions_stay_in_their_parentheses() {
        for good in ["density < 0.01", "(a) AND (b)", "x = ')'", "x = 'it''s'", "\"odd )\" = 1"] {
            assert!(balanced(good), "{good}");
        }
        for bad in ["1) OR (1", "(", "'", "a -- b", "/* b", "1; SELECT 2", "$$", "\"", "E'\\'"] {
            assert!(!balanced(bad), "{bad}");
        }
    }
}
