//! Panels of a neuron's page.

use std::collections::BTreeMap;

use super::super::drawings::{bar, double_heat, histogram};
use super::super::html::{self, neuron_link, number_cell, number_head, place_of, table, text_cell, text_head};
use super::sql;
use crate::error::Fault;
use crate::facts::{Facts, Place};
use crate::parameters::Parameters;
use crate::query::{Answer, Asker};
use crate::sql_text::{count, encoded, escaped, literal, number, visible};

/// Branches of a graph that are listed, those with the most nodes first.
const MOST_BRANCHES: usize = 60;

/// Nodes of a branch that are drawn.
const DRAWN_OF_BRANCH: u32 = 400;

/// An activating token of a graph, with the nodes below it.
struct Branch {
    first: i64,
    end: i64,
    token: String,
    /// Number of further tokens of its node.
    others: i64,
}

impl Branch {
    fn name(&self) -> String {
        match self.others {
            0 => visible(&self.token),
            others => format!("{} and {} more", visible(&self.token), count(others)),
        }
    }
}

/// Reads the branches of a graph that has this many nodes.
async fn read_branches(
    asker: &mut Asker,
    facts: &Facts,
    place: Place,
    method: &str,
    nodes: i64,
) -> Result<Vec<Branch>, Fault> {
    let answer = asker.ask_up_to(sql::branches(facts, place, method)?, usize::MAX).await?;
    let first = |row| answer.integer(row, "node").unwrap_or_default();
    let end = |row: usize| if row + 1 < answer.len() { first(row + 1) } else { nodes.max(first(row) + 1) };
    let branch = |row| Branch {
        first: first(row),
        end: end(row),
        token: answer.text(row, "token").unwrap_or_default().to_owned(),
        others: answer.integer(row, "others").unwrap_or_default(),
    };
    Ok(answer.rows().map(branch).collect())
}

/// The branches of a graph that is drawn in part, each of which opens in its place.
pub(super) async fn branches(
    asker: &mut Asker,
    facts: &Facts,
    place: Place,
    graphs: &Answer,
    drawn: u32,
) -> Result<String, Fault> {
    let nodes = graphs.integer(0, "nodes").unwrap_or_default();
    let (true, Some(method)) = (nodes > i64::from(drawn), graphs.text(0, "method")) else { return Ok(String::new()) };
    let mut branches = read_branches(asker, facts, place, method, nodes).await?;
    let count_of_all = branches.len();
    branches.retain(|branch| branch.end - branch.first > 1);
    branches.sort_by_key(|branch| (branch.first - branch.end, branch.first));
    let shown: String = branches
        .iter()
        .take(MOST_BRANCHES)
        .map(|branch @ Branch { first, end, .. }| {
            let link =
                format!("{}/panels/branch?root={first}&amp;method={}", html::neuron_path(&facts.name, place), encoded(method));
            let summary = format!("{} · {} nodes", branch.name(), count(end - first));
            format!(
                "<details class=\"branch\" data-src=\"{link}\"><summary>{}</summary><p><a href=\"{link}\">Draw it</a></p></details>",
                escaped(&summary)
            )
        })
        .collect();
    if shown.is_empty() {
        return Ok(String::new());
    }
    let title = match branches.len() > MOST_BRANCHES {
        true => format!(
            "The {MOST_BRANCHES} largest of {} branches, by their activating tokens",
            count(count_of_all as i64)
        ),
        false => "Branches, by their activating tokens".to_owned(),
    };
    Ok(format!("<details><summary>{title}</summary>{shown}</details>"))
}

/// The drawing of one branch.
pub(super) async fn branch(
    asker: &mut Asker,
    facts: &Facts,
    place: Place,
    parameters: &Parameters,
) -> Result<String, Fault> {
    let root = parameters.required("root")?;
    let method = parameters.required("method")?;
    let statement = format!(
        "SELECT nodes FROM {} WHERE layer = {} AND neuron = {} AND method = {} AND graph IS NOT NULL",
        facts.table("graphs"),
        place.layer,
        place.neuron,
        literal(method)?
    );
    let nodes = asker.ask(statement).await?.integer(0, "nodes").unwrap_or_default();
    let branches = read_branches(asker, facts, place, method, nodes).await?;
    let shown: String = root.chars().take(40).collect();
    let missing = || Fault::not_found(format!("the graph has no branch \"{shown}\""));
    let found = branches.iter().find(|branch| branch.first.to_string() == root).ok_or_else(missing)?;
    let range = (found.first, found.end);
    let answer = asker.ask(sql::branch(facts, place, method, range, DRAWN_OF_BRANCH)?).await?;
    let drawing = answer.text(0, "drawing").unwrap_or_default();
    let title = format!("Branch {}", found.name());
    let body = format!(
        "<div class=\"graph scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">{drawing}</div>",
        escaped(&title)
    );
    html::panel(&format!("branch-{}", found.first), &title, &body, &[&answer.sql])
}

/// The graph, with its scores and those of other methods, and a list of its branches.
pub(super) fn graph(
    facts: &Facts,
    place: Place,
    graphs: Option<&Answer>,
    nodes: u32,
    branches: &str,
) -> Result<String, Fault> {
    let Some(graphs) = graphs else { return Ok(String::new()) };
    let Some(drawing) = graphs.text(0, "drawing") else {
        let reason = graphs.text(0, "reason").map_or_else(
            || "No graph has been built of it.".to_owned(),
            |reason| format!("There is no graph: {reason}."),
        );
        return html::panel("graph", "Graph", &html::note(&reason), &[&graphs.sql]);
    };
    let mut body = String::from(
        "<div class=\"row tools\"><button type=\"button\" class=\"zoom\" data-zoom=\"1.25\" hidden>Larger</button>\
         <button type=\"button\" class=\"zoom\" data-zoom=\"0.8\" hidden>Smaller</button>",
    );
    let count_of_nodes = graphs.integer(0, "nodes").unwrap_or_default();
    if drawing.contains("not drawn") || count_of_nodes > i64::from(nodes) {
        body +=
            &format!("<a class=\"button\" href=\"?nodes=10000#graph\">Draw all {} nodes</a>", count(count_of_nodes));
    } else if nodes > super::DRAWN {
        body += "<a class=\"button\" href=\"?#graph\">Fold branches</a>";
    }
    body += &format!(
        "<a class=\"button\" href=\"{}/graph.svg\">As a file</a></div><div class=\"graph scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Drawing of the graph\">{drawing}</div>",
        html::neuron_path(&facts.name, place)
    );
    body += branches;
    let patterns = graphs.text(0, "text").unwrap_or_default();
    let lines: String = patterns.lines().take(200).map(|line| format!("<li>{}</li>", escaped(line))).collect();
    body += &format!("<details><summary>Patterns as text</summary><ol class=\"patterns\">{lines}</ol></details>");
    let rows: Vec<_> = graphs
        .rows()
        .map(|row| {
            vec![
                text_cell(graphs, row, "method"),
                number_cell(graphs, row, "nodes"),
                number_cell(graphs, row, "patterns"),
                number_cell(graphs, row, "precision"),
                number_cell(graphs, row, "recall"),
                number_cell(graphs, row, "f1"),
                number_cell(graphs, row, "pearson"),
                number_cell(graphs, row, "random_precision"),
            ]
        })
        .collect();
    let heads = [
        text_head("method"),
        number_head("nodes"),
        number_head("patterns"),
        number_head("precision"),
        number_head("recall"),
        number_head("F1"),
        number_head("Pearson"),
        number_head("precision on random text"),
    ];
    body += &table("Scores of graphs", &heads, &rows)?;
    html::panel("graph", "Graph", &body, &[&graphs.sql])
}

/// Statistics and the histogram.
pub(super) fn statistics(answer: &Answer, row: usize) -> Result<String, Fault> {
    let number = |column| number_cell(answer, row, column);
    let mut pairs = vec![
        ("greatest activation", number("max_activation")),
        ("least activation", number("min_activation")),
        (
            "density (share of tokens > 0)",
            format!("{} {}", html::share_cell(answer, row, "density"), bar(answer.number(row, "density"))),
        ),
        ("mean", number("mean")),
        ("variance", number("variance")),
        ("skewness", number("skewness")),
        ("kurtosis", number("kurtosis")),
    ];
    pairs.retain(|(_, shown)| !shown.starts_with('–'));
    let histogram = histogram(&answer.numbers(row, "histogram"), None);
    let body = match pairs.is_empty() {
        true => html::note("It has not been analysed over a dataset."),
        false => histogram + &html::terms(&pairs),
    };
    html::panel("statistics", "Statistics", &body, &[&answer.sql])
}

/// Explanations in words.
pub(super) fn explanations(answer: &Answer) -> Result<String, Fault> {
    let cells = |row| {
        vec![text_cell(answer, row, "source"), text_cell(answer, row, "explanation"), number_cell(answer, row, "score")]
    };
    let rows: Vec<_> = answer.rows().map(cells).collect();
    let heads = [text_head("source"), text_head("explanation"), number_head("score")];
    html::panel("explanations", "Explanations", &table("Explanations", &heads, &rows)?, &[&answer.sql])
}

/// A text with its activations and the graph's prediction.
pub(super) async fn live(asker: &mut Asker, facts: &Facts, place: Place, text: &str) -> Result<String, Fault> {
    let answer = asker.ask(sql::live(facts, place, text)?).await?;
    let tokens: Vec<_> = answer.rows().map(|row| answer.text(row, "token").unwrap_or_default().to_owned()).collect();
    let values = |column| answer.rows().map(|row| answer.real(row, column).unwrap_or(f32::NAN)).collect::<Vec<_>>();
    let (real, predicted) = (values("activation"), values("predicted"));
    let greatest =
        asker.ask(sql::statistics(facts, place)).await?.real(0, "max_activation").filter(|greatest| *greatest > 0.0);
    let own = real.iter().copied().filter(|value| value.is_finite()).fold(0.0, f32::max);
    let has_graph = predicted.iter().any(|value| value.is_finite());
    let peak = answer.rows().max_by(|a, b| real[*a].total_cmp(&real[*b]).then(b.cmp(a)));
    let mut body = double_heat(
        "Activations of the text",
        &tokens,
        &real,
        has_graph.then_some(&predicted),
        greatest.unwrap_or(own),
    );
    if let Some(peak) = peak {
        body += &format!(
            "<p class=\"note\">{} tokens; the strongest is “{}” with {}.{}</p>",
            tokens.len(),
            escaped(&visible(&tokens[peak])),
            number(Some(f64::from(real[peak]))),
            if has_graph { " Below each token is what the graph predicts." } else { "" }
        );
    }
    Ok(body + &statement(&answer.sql))
}

/// A statement by itself.
fn statement(sql: &str) -> String {
    format!(
        "<details class=\"sql\"><summary>SQL<span class=\"unseen\"> of the text</span></summary><pre tabindex=\"0\"><code>{}</code></pre><p><a href=\"/sql?q={}\">Open in the console</a></p></details>",
        escaped(sql),
        crate::sql_text::encoded(sql)
    )
}

/// Tokens that it promotes and suppresses, and that make it fire by themselves.
pub(super) async fn tokens(asker: &mut Asker, facts: &Facts, place: Place) -> Result<String, Fault> {
    let logits = asker.ask(sql::logits(facts, place)?).await?;
    let inputs = asker.ask(sql::inputs(facts, place)?).await?;
    let list = |answer: &Answer, rows: Vec<usize>, column: &str| {
        let cell = |row| {
            vec![
                format!(
                    "<span class=\"pattern\">{}</span>",
                    escaped(&visible(answer.text(row, "token").unwrap_or_default()))
                ),
                number_cell(answer, row, column),
            ]
        };
        rows.into_iter().map(cell).collect::<Vec<_>>()
    };
    let positive = logits.rows().filter(|row| logits.number(*row, "effect") > Some(0.0)).collect();
    let negative = logits.rows().rev().filter(|row| logits.number(*row, "effect") < Some(0.0)).collect();
    let table = |title: &str, head: &'static str, rows: &[Vec<String>]| {
        let heads = [text_head("token"), number_head(head)];
        Ok::<_, Fault>(format!("<div><h3>{title}</h3>{}</div>", table(title, &heads, rows)?))
    };
    let body = format!(
        "<div class=\"thirds\">{}{}{}</div>",
        table("Promotes as next token", "effect", &list(&logits, positive, "effect"))?,
        table("Suppresses as next token", "effect", &list(&logits, negative, "effect"))?,
        table("Fires on the embedding of", "activation", &list(&inputs, inputs.rows().collect(), "activation"))?
    );
    html::panel("tokens", "Tokens by weights", &body, &[&logits.sql, &inputs.sql])
}

/// Neurons with similar graphs, with small drawings of them.
pub(super) async fn similar(asker: &mut Asker, facts: &Facts, place: Place) -> Result<String, Fault> {
    let answer = asker.ask(sql::similar(facts, place)?).await?;
    let mut by_model: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for row in answer.rows().take(20) {
        let model = answer.text(row, "model").unwrap_or_default().to_owned();
        by_model.entry(model).or_default().push(place_of(&answer, row));
    }
    let mut drawings: BTreeMap<(String, i64, i64), String> = BTreeMap::new();
    for (model, places) in &by_model {
        let graphs = asker.ask(sql::small_graphs(model, places)).await?;
        for row in graphs.rows() {
            let found = place_of(&graphs, row);
            if let Some(drawing) = graphs.text(row, "drawing") {
                drawings.entry((model.clone(), found.layer, found.neuron)).or_insert_with(|| drawing.to_owned());
            }
        }
    }
    if answer.len() == 0 {
        return html::panel(
            "similar",
            "Similar neurons",
            &html::note("No neuron has a pattern in common with it."),
            &[&answer.sql],
        );
    }
    let mut body = String::from("<ul class=\"cards\">");
    for row in answer.rows().take(20) {
        let model = answer.text(row, "model").unwrap_or_default();
        let other = place_of(&answer, row);
        let similarity = number(answer.number(row, "similarity"));
        let drawing = drawings.get(&(model.to_owned(), other.layer, other.neuron)).map_or("", String::as_str);
        let compare = format!(
            "/compare?a={}&amp;b={}",
            crate::sql_text::encoded(&format!("{}:{}:{}", facts.name, place.layer, place.neuron)),
            crate::sql_text::encoded(&format!("{model}:{}:{}", other.layer, other.neuron))
        );
        body += &format!(
            "<li><p>{} <span class=\"faint\">similarity {similarity}</span> <a href=\"{compare}\">compare<span class=\"unseen\"> with {model} {}:{}</span></a></p><div class=\"small-graph\">{drawing}</div></li>",
            neuron_link(model, other, &format!("{model} {}:{}", other.layer, other.neuron)),
            other.layer,
            other.neuron,
            model = escaped(model),
        );
    }
    body += "</ul>";
    html::panel("similar", "Similar neurons", &body, &[&answer.sql])
}

/// Neurons that it is connected with by weights.
pub(super) async fn connections(asker: &mut Asker, facts: &Facts, place: Place) -> Result<String, Fault> {
    let answer = asker.ask(sql::connections(facts, place)?).await?;
    let side = |direction: &str, title: &str| {
        let rows: Vec<_> = answer
            .rows()
            .filter(|row| answer.text(*row, "direction") == Some(direction))
            .map(|row| {
                let index = |column| answer.integer(row, column).unwrap_or_default();
                let other = Place { layer: index("other_layer"), neuron: index("other_neuron") };
                let weight = answer.number(row, "weight");
                let sign = if weight < Some(0.0) { "inhibits" } else { "excites" };
                vec![
                    neuron_link(&facts.name, other, &format!("{}:{}", other.layer, other.neuron)),
                    number(weight),
                    sign.to_owned(),
                ]
            })
            .collect();
        let body = match rows.is_empty() {
            true => html::note("None: there is no layer there."),
            false => table(title, &[text_head("neuron"), number_head("weight"), text_head("sign")], &rows)?,
        };
        Ok::<_, Fault>(format!("<div><h3>{title}</h3>{body}</div>"))
    };
    let body = format!("<div class=\"thirds\">{}{}</div>", side("from", "Feed it")?, side("to", "It feeds")?);
    html::panel("connections", "Connections by weights", &body, &[&answer.sql])
}

/// Provenance of the page.
pub(super) fn provenance(
    facts: &Facts,
    statistics: &Answer,
    row: usize,
    graphs: Option<&Answer>,
) -> Result<String, Fault> {
    let text = |value: &Option<String>| value.as_deref().map_or_else(|| "–".into(), escaped);
    let tokens =
        statistics.integer(row, "tokens").map_or_else(String::new, |tokens| format!(", {} tokens", count(tokens)));
    let dataset = statistics.text(row, "dataset").or(facts.dataset());
    let built = graphs.and_then(|graphs| {
        let method = graphs.text(0, "method")?;
        let built = graphs
            .text(0, "built_at")
            .map_or_else(String::new, |at| format!(", {}", at.chars().take(19).collect::<String>()));
        Some(escaped(&format!("{method}{built}")))
    });
    let pairs = [
        ("model", format!("{} <code>{}</code>", escaped(&facts.name), text(&facts.sha256))),
        ("site", text(&facts.site)),
        ("analysed over", dataset.map_or_else(|| "–".into(), |dataset| escaped(&format!("{dataset}{tokens}")))),
        ("graph", built.unwrap_or_else(|| "–".into())),
    ];
    html::panel("provenance", "Where this comes from", &html::terms(&pairs), &[])
}
