//! Examples of a neuron, the strongest and some of each octave of strength.

use super::sql;
use crate::error::Fault;
use crate::facts::{Facts, Place};
use crate::pages::drawings::heat;
use crate::pages::html;
use crate::query::{Answer, Asker};
use crate::sql_text::{escaped, number};

pub(super) async fn panel(asker: &mut Asker, facts: &Facts, place: Place, greatest: f32) -> Result<String, Fault> {
    let answer = place.ask(asker, |of_neuron| sql::examples(facts, of_neuron)).await?;
    let own = answer.rows().filter_map(|row| answer.real(row, "activation")).fold(0.0, f32::max);
    // A scale for all examples: that of the dataset, or of the strongest one that is here.
    let scale = if greatest > 0.0 { greatest } else { own };
    let mut body = String::from(
        "<p class=\"row tools\"><button type=\"button\" id=\"breaks\" aria-pressed=\"false\" hidden>Line breaks</button> \
         <span class=\"scale\" aria-hidden=\"true\"><span class=\"t p2\">weak</span><span class=\"t p6\"> </span><span class=\"t p10\">strong</span></span></p>",
    );
    if answer.len() == 0 {
        body = html::note("No example is kept of it: it has not fired on what was read.");
    }
    for (title, rows) in groups(facts, &answer) {
        body += &format!("<h3>{}</h3><ol class=\"examples\">", escaped(&title));
        for row in rows {
            body += &example(&answer, row, scale);
        }
        body += "</ol>";
    }
    html::panel("examples", "Examples", &body, &[&answer.sql])
}

/// Rows of examples in groups: of an analysis, then of each source; first those with a rank.
fn groups(facts: &Facts, answer: &Answer) -> Vec<(String, Vec<usize>)> {
    let key = |row| (answer.text(row, "source"), answer.integer(row, "rank").is_some());
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for row in answer.rows() {
        match groups.last_mut().filter(|rows| rows.last().is_some_and(|last| key(*last) == key(row))) {
            Some(rows) => rows.push(row),
            None => groups.push(vec![row]),
        }
    }
    let title = |source: Option<&str>, is_ranked| {
        let title = match (source, is_ranked) {
            (_, true) => "Strongest",
            (None, false) => "One at random of each octave of strength",
            (Some(_), false) => "At random",
        };
        // All rows of published data are of one source, which the page names already.
        match source.filter(|_| facts.is_network) {
            Some(source) => format!("{title}, published by {source}"),
            None => title.to_owned(),
        }
    };
    let titled = |rows: Vec<usize>| {
        let (source, is_ranked) = rows.first().map_or((None, true), |first| key(*first));
        (title(source, is_ranked), rows)
    };
    groups.into_iter().map(titled).collect()
}

fn example(answer: &Answer, row: usize, scale: f32) -> String {
    let activation = number(answer.number(row, "activation"));
    let document = answer.integer(row, "document").map_or_else(|| "–".into(), |document| document.to_string());
    let (label, weaker) = match (answer.integer(row, "rank"), answer.number(row, "quantile")) {
        (Some(rank), _) => (format!("example {rank}, activation {activation}"), String::new()),
        (None, Some(quantile)) => {
            let weaker = html::percent(Some(quantile));
            (
                format!("example stronger than {weaker} of all, activation {activation}"),
                format!(", stronger than {weaker}"),
            )
        }
        (None, None) => (format!("example, activation {activation}"), String::new()),
    };
    let heat = heat(&label, &answer.texts(row, "tokens"), &answer.numbers(row, "activations"), scale);
    format!("<li><span class=\"faint\"><b>{activation}</b> · document {document}{}</span>{heat}</li>", escaped(&weaker))
}
