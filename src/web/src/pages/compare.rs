//! `/compare`: two neurons side by side, of one model or of two.

use askama::Template;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{Html, IntoResponse, Response};

use super::drawings::{heat, histogram};
use super::html::{self, lazy, neuron_link, number_cell, number_head, panel, share_cell, table, text_head};
use super::neuron::sql;
use super::{Result, Site};
use crate::error::Fault;
use crate::facts::{self, Facts, Place};
use crate::parameters::Parameters;
use crate::query::{Answer, Asker, Visitor};
use crate::sql_text::{encoded, escaped, literal, number};

/// Examples of the first neuron that are run through the other's network.
const EXAMPLES: usize = 5;

#[derive(Template)]
#[template(path = "compare.html")]
struct Compare<'a> {
    a: &'a str,
    b: &'a str,
    text: &'a str,
    panels: String,
}

/// One of the two.
struct Side {
    facts: Facts,
    place: Place,
}

impl Side {
    fn name(&self) -> String {
        format!("{} {}:{}", self.facts.name, self.place.layer, self.place.neuron)
    }

    fn link(&self) -> String {
        neuron_link(&self.facts.name, self.place, &self.name())
    }

    /// The graph of the neuron, as a subquery.
    fn graph(&self) -> String {
        format!(
            "(SELECT graph FROM {} WHERE layer = {} AND neuron = {} AND graph IS NOT NULL ORDER BY method <> 'neuroql', built_at DESC LIMIT 1)",
            self.facts.table("graphs"),
            self.place.layer,
            self.place.neuron
        )
    }
}

pub(crate) async fn page(State(site): Site, visitor: Visitor, parameters: Parameters) -> Result<Response> {
    let (a, b) = (parameters.get("a").unwrap_or_default(), parameters.get("b").unwrap_or_default());
    let text = &parameters.typed("t")?.unwrap_or_default();
    let mut panels = String::new();
    if !a.is_empty() && !b.is_empty() {
        let mut asker = site.statements.for_page(&visitor).await?;
        let sides = [side(&mut asker, a).await?, side(&mut asker, b).await?];
        panels += &statistics(&mut asker, &sides).await?;
        if sides.iter().all(|side| side.facts.has("graphs")) {
            panels += &graphs(&mut asker, &sides).await?;
        }
        if !text.is_empty() {
            panels += &texts(&mut asker, &sides, text).await?;
        }
        panels += &correlation_later(&sides)?;
        panels += &examples(&mut asker, &sides).await?;
    }
    let body = Compare { a, b, text, panels }.render()?;
    let crumbs = vec![("models".into(), "/".into()), ("compare".into(), String::new())];
    Ok(html::page(&visitor, "Compare", &crumbs, &body)?)
}

/// Number of documents over which activations of two neurons are correlated.
const DOCUMENTS: u32 = 20;

/// A place for the correlation of two neurons of one network, which is computed after the page is there.
fn correlation_later(sides: &[Side; 2]) -> Result<String> {
    let [first, second] = sides;
    let is_pair = first.facts.is_network && first.facts.name == second.facts.name && first.place != second.place;
    if !is_pair || first.facts.datasets.is_empty() {
        return Ok(String::new());
    }
    let key = |side: &Side| encoded(&format!("{}:{}:{}", side.facts.name, side.place.layer, side.place.neuron));
    Ok(lazy(
        "correlation",
        "Activations of both on the same tokens",
        &format!("/compare/panels/correlation?a={}&b={}", key(first), key(second)),
    )?)
}

/// `/compare/panels/correlation`: how two neurons of one network go together over its dataset.
pub(crate) async fn correlation(
    State(site): Site,
    visitor: Visitor,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response> {
    let (a, b) = (parameters.required("a")?, parameters.required("b")?);
    let mut asker = site.statements.for_page(&visitor).await?;
    let sides = [side(&mut asker, a).await?, side(&mut asker, b).await?];
    let content = correlated(&mut asker, &sides).await?;
    if headers.contains_key("x-fragment") {
        return Ok(Html(content).into_response());
    }
    let body = format!("<h1>{} and {}</h1>{content}", escaped(&sides[0].name()), escaped(&sides[1].name()));
    let crumbs = vec![("models".into(), "/".into()), ("compare".into(), String::new())];
    Ok(html::page(&visitor, "Compare", &crumbs, &body)?)
}

async fn correlated(asker: &mut Asker, sides: &[Side; 2]) -> Result<String> {
    let [first, second] = sides;
    if !first.facts.is_network || first.facts.name != second.facts.name {
        return Err(Fault::bad_request("activations are correlated of two neurons of one network").into());
    }
    if first.place == second.place {
        return Err(Fault::bad_request("these are one neuron and not two").into());
    }
    let Some(dataset) = first.facts.datasets.first() else {
        return Err(Fault::not_found(format!("{} has not been analysed over a dataset", first.facts.name)).into());
    };
    let of = |side: &Side| format!("(layer = {} AND neuron = {})", side.place.layer, side.place.neuron);
    let sql = format!(
        "WITH pairs AS (\n\
         \x20 SELECT max(activation) FILTER (WHERE {a}) AS a, max(activation) FILTER (WHERE {b}) AS b\n\
         \x20 FROM {} WHERE dataset = {} AND ({a} OR {b}) AND document < {DOCUMENTS}\n\
         \x20 GROUP BY document, example, position)\n\
         SELECT count(*) AS tokens, corr(a, b) AS correlation, count(*) FILTER (WHERE a > 0) AS of_a,\n\
         \x20 count(*) FILTER (WHERE b > 0) AS of_b, count(*) FILTER (WHERE a > 0 AND b > 0) AS of_both FROM pairs",
        first.facts.table("activations"),
        literal(dataset)?,
        a = of(first),
        b = of(second),
    );
    let answer = asker.ask(sql).await?;
    let tokens = answer.number(0, "tokens").unwrap_or_default();
    let of = |column: &str| answer.number(0, column).unwrap_or_default();
    let share = |part: f64, whole: f64| if whole > 0.0 { html::percent(Some(part / whole)) } else { "–".into() };
    let either = of("of_a") + of("of_b") - of("of_both");
    let lift = of("of_both") * tokens / (of("of_a") * of("of_b"));
    let body = html::terms(&[
        ("correlation (Pearson)", number(answer.number(0, "correlation").filter(|value| value.is_finite()))),
        ("tokens on which the first fires (> 0)", share(of("of_a"), tokens)),
        ("tokens on which the second fires", share(of("of_b"), tokens)),
        ("on which both fire, of those on which one does", share(of("of_both"), either)),
        ("how much more often than by chance", number(Some(lift).filter(|lift| lift.is_finite()))),
    ]) + &html::note(&format!(
        "Over the {} tokens of the first {DOCUMENTS} documents of {dataset}; correlations() compares all neurons of a layer.",
        html::count_cell(&answer, 0, "tokens")
    ));
    Ok(panel("correlation", "Activations of both on the same tokens", &body, &[&answer.sql])?)
}

/// Reads `model:layer:neuron`.
async fn side(asker: &mut Asker, key: &str) -> Result<Side> {
    let mut parts = key.rsplitn(3, ':');
    let (Some(neuron), Some(layer), Some(model)) = (parts.next(), parts.next(), parts.next()) else {
        let shown: String = key.chars().take(60).collect();
        return Err(Fault::bad_request(format!(
            "\"{shown}\" is not a neuron; it is written model:layer:neuron, such as toy:1:17"
        ))
        .into());
    };
    let facts = facts::of(asker, model).await?;
    let place = facts.place(layer, neuron)?;
    Ok(Side { facts, place })
}

async fn statistics(asker: &mut Asker, sides: &[Side; 2]) -> Result<String> {
    let mut answers = Vec::new();
    for side in sides {
        answers.push(asker.ask(sql::statistics(&side.facts, side.place)).await?);
    }
    let mut rows = Vec::new();
    for (side, answer) in sides.iter().zip(&answers) {
        rows.push(vec![
            side.link(),
            number_cell(answer, 0, "max_activation"),
            share_cell(answer, 0, "density"),
            number_cell(answer, 0, "mean"),
            number_cell(answer, 0, "variance"),
            number_cell(answer, 0, "skewness"),
            number_cell(answer, 0, "kurtosis"),
        ]);
    }
    let heads = [
        text_head("neuron"),
        number_head("greatest activation"),
        number_head("density"),
        number_head("mean"),
        number_head("variance"),
        number_head("skewness"),
        number_head("kurtosis"),
    ];
    let [first, second] = [0, 1].map(|index: usize| answers[index].numbers(0, "histogram"));
    let drawing = histogram(&first, Some(&second));
    let mut body = table("Statistics of both", &heads, &rows)?;
    if !drawing.is_empty() {
        body += &format!(
            "<figure><figcaption><span class=\"key first\"></span> {} <span class=\"key second\"></span> {}</figcaption>{drawing}</figure>",
            escaped(&sides[0].name()),
            escaped(&sides[1].name())
        );
    }
    let statements: Vec<_> = answers.iter().map(|answer| answer.sql.as_str()).collect();
    Ok(panel("statistics", "Statistics", &body, &statements)?)
}

async fn graphs(asker: &mut Asker, sides: &[Side; 2]) -> Result<String> {
    let (a, b) = (sides[0].graph(), sides[1].graph());
    let sql = format!(
        "WITH pair AS (SELECT {a} AS a, {b} AS b)\n\
         SELECT graph_similarity(a, b) AS patterns, graph_similarity(a, b, 'tokens') AS tokens,\n\
         \x20 graph_similarity(a, b, 'behaviour') AS behaviour, graph_similarity(a, b, 'containment') AS containment,\n\
         \x20 graph_text(graph_intersection(a, b)) AS in_both, graph_text(graph_difference(a, b)) AS only_a, graph_text(graph_difference(b, a)) AS only_b,\n\
         \x20 graph_svg(a, '', 'page', '/search?q=', 60) AS drawing_a, graph_svg(b, '', 'page', '/search?q=', 60) AS drawing_b FROM pair"
    );
    let answer = asker.ask(sql).await?;
    let similarity = |method: &str| number(answer.number(0, method));
    let mut body = html::terms(&[
        ("similarity of patterns", similarity("patterns")),
        ("of tokens, as Neuron2Graph has it", similarity("tokens")),
        ("of what they predict", similarity("behaviour")),
        ("share of the first's patterns that the second has", similarity("containment")),
    ]);
    body += "<div class=\"columns even\">";
    for (side, column) in sides.iter().zip(["drawing_a", "drawing_b"]) {
        let drawing = answer.text(0, column).map_or_else(|| html::note("It has no graph."), str::to_owned);
        body += &format!(
            "<div><h3>{}</h3><div class=\"graph scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Graph of {}\">{drawing}</div></div>",
            side.link(),
            escaped(&side.name())
        );
    }
    body += "</div><div class=\"thirds\">";
    for (title, column) in [("In both", "in_both"), ("Only in the first", "only_a"), ("Only in the second", "only_b")] {
        body += &format!("<div><h3>{title}</h3>{}</div>", patterns(&answer, column));
    }
    body += "</div>";
    Ok(panel("graphs", "Graphs", &body, &[&answer.sql])?)
}

fn patterns(answer: &Answer, column: &str) -> String {
    let lines: Vec<_> = answer.text(0, column).unwrap_or_default().lines().filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return html::note("none");
    }
    let shown: String =
        lines.iter().take(20).map(|line| format!("<li class=\"pattern\">{}</li>", escaped(line))).collect();
    let more = if lines.len() > 20 { html::note(&format!("and {} others", lines.len() - 20)) } else { String::new() };
    format!("<ul class=\"patterns\">{shown}</ul>{more}")
}

async fn texts(asker: &mut Asker, sides: &[Side; 2], text: &str) -> Result<String> {
    let mut body = String::new();
    let mut statements = Vec::new();
    for side in sides.iter().filter(|side| side.facts.is_network) {
        let answer = asker.ask(sql::live(&side.facts, side.place, text)?).await?;
        let tokens: Vec<_> =
            answer.rows().map(|row| answer.text(row, "token").unwrap_or_default().to_owned()).collect();
        let values: Vec<_> = answer.rows().map(|row| answer.real(row, "activation").unwrap_or(f32::NAN)).collect();
        let greatest = asker.ask(sql::statistics(&side.facts, side.place)).await?.real(0, "max_activation");
        let own = values.iter().copied().fold(0.0, f32::max);
        let name = side.name();
        body += &format!(
            "<h3>{}</h3>{}",
            side.link(),
            heat(
                &format!("Activations of {name}"),
                &tokens,
                &values,
                greatest.filter(|greatest| *greatest > 0.0).unwrap_or(own)
            )
        );
        statements.push(answer.sql);
    }
    if body.is_empty() {
        body = html::note("The networks of both are not here, so that no text can be run.");
    }
    let statements: Vec<_> = statements.iter().map(String::as_str).collect();
    Ok(panel("texts", "The text", &body, &statements)?)
}

/// The strongest examples of the first, as both see them.
async fn examples(asker: &mut Asker, sides: &[Side; 2]) -> Result<String> {
    let [first, second] = sides;
    if !first.facts.has("examples") || !second.facts.is_network {
        return Ok(String::new());
    }
    let sql = format!(
        "SELECT tokens, activations, activation, array_to_string(tokens, '') AS text FROM {} \
         WHERE layer = {} AND neuron = {} AND rank <= {EXAMPLES}{} ORDER BY source NULLS FIRST, rank LIMIT {EXAMPLES}",
        first.facts.table("examples"),
        first.place.layer,
        first.place.neuron,
        first.facts.of_dataset("dataset")?
    );
    let answer = asker.ask(sql).await?;
    let scale = answer.real(0, "activation").unwrap_or_default();
    let greatest =
        asker.ask(sql::statistics(&second.facts, second.place)).await?.real(0, "max_activation").unwrap_or_default();
    let model = literal(&second.facts.name)?;
    let (mut body, mut statements) = (String::from("<ol class=\"examples\">"), vec![answer.sql.clone()]);
    for row in answer.rows() {
        let text = answer.text(row, "text").unwrap_or_default().replace('\0', "");
        let text = literal(&text)?;
        let sql = format!(
            "SELECT tokens({model}, {text}) AS tokens, activation({model}, {}, {}, {text}) AS activations",
            second.place.layer, second.place.neuron
        );
        let other = asker.ask(sql).await?;
        let line = heat(
            &format!("example {} as {} sees it", row + 1, first.name()),
            &answer.texts(row, "tokens"),
            &answer.numbers(row, "activations"),
            scale,
        );
        let other_line = heat(
            &format!("example {} as {} sees it", row + 1, second.name()),
            &other.texts(0, "tokens"),
            &other.numbers(0, "activations"),
            greatest,
        );
        body += &format!("<li>{line}{other_line}</li>");
        statements.push(other.sql);
    }
    body += "</ol>";
    statements.truncate(2);
    let statements: Vec<_> = statements.iter().map(String::as_str).collect();
    let swap = |side: &Side| encoded(&format!("{}:{}:{}", side.facts.name, side.place.layer, side.place.neuron));
    body += &format!(
        "<p><a class=\"button\" href=\"/compare?a={}&amp;b={}\">The other way round</a></p>",
        swap(second),
        swap(first)
    );
    let title = format!("Examples of {}, above as it sees them, below as {} does", first.name(), second.name());
    Ok(panel("examples", &title, &body, &statements)?)
}
