//! `/sql`: statements that are typed.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::html;
use super::{Result, Site};
use crate::error::Fault;
use crate::parameters::Parameters;
use crate::query::Visitor;
use crate::sql_text::escaped;

/// Rows that a page shows without JavaScript.
const MOST: usize = 500;

/// Statements to begin with, by their questions: those of `queries/`.
const COOKBOOK: [(&str, &str); 23] = [
    ("Neurons where to look first", include_str!("../../../../queries/interesting_neurons.sql")),
    ("Neurons for import statements", include_str!("../../../../queries/import_neurons.sql")),
    ("Neurons that a text excites most", include_str!("../../../../queries/neurons_of_a_text.sql")),
    ("Central neurons of the network of weights", include_str!("../../../../queries/circuits.sql")),
    ("Circuits to the next token", include_str!("../../../../queries/next_token_circuits.sql")),
    ("Dead neurons", include_str!("../../../../queries/dead_neurons.sql")),
    ("Duplicate neurons, by weights", include_str!("../../../../queries/duplicate_neurons.sql")),
    ("Graphs to distrust", include_str!("../../../../queries/unreliable_graphs.sql")),
    ("Groups of neurons that fire together", include_str!("../../../../queries/co_activation_groups.sql")),
    ("How many neurons stand for several things", include_str!("../../../../queries/polysemanticity_census.sql")),
    ("How well graphs explain each layer", include_str!("../../../../queries/explanation_quality.sql")),
    ("Hubs of similar neurons", include_str!("../../../../queries/hubs.sql")),
    ("In-context neurons", include_str!("../../../../queries/in_context_neurons.sql")),
    ("N-gram neurons", include_str!("../../../../queries/ngram_neurons.sql")),
    ("Neurons and heads behind the next token", include_str!("../../../../queries/next_token_neurons.sql")),
    ("Neurons that rise and fall together", include_str!("../../../../queries/co_activation.sql")),
    ("Neurons that tell two sets of texts apart", include_str!("../../../../queries/contrast.sql")),
    ("Polysemantic neurons", include_str!("../../../../queries/polysemantic_neurons.sql")),
    ("Position neurons", include_str!("../../../../queries/position_neurons.sql")),
    ("Similar neurons of different layers", include_str!("../../../../queries/similar_across_layers.sql")),
    ("A neuron over training", include_str!("../../../../queries/training.sql")),
    ("Suppression neurons", include_str!("../../../../queries/suppressors.sql")),
    ("Twins in another model", include_str!("../../../../queries/twins.sql")),
];

/// The statement of a console that nothing was asked of yet.
const FIRST: &str = "SELECT position, token, activation FROM toy.activations\n\
WHERE text = 'The President of the United States' AND layer = 1 AND neuron = 17 ORDER BY position";

#[derive(Template)]
#[template(path = "console.html")]
struct Console<'a> {
    query: &'a str,
    cookbook: Vec<(&'a str, &'a str)>,
    result: String,
    most: usize,
}

pub(crate) async fn page(State(site): Site, visitor: Visitor, parameters: Parameters) -> Result<Response> {
    let typed = parameters.typed("q")?;
    let query = typed.as_deref();
    // A link from another site shows a statement, and does not run it.
    let runs = parameters.get("run").is_some() && visitor.is_from_here;
    let result = match query {
        Some(query) if runs => {
            let mut asker = site.statements.for_query(&visitor).await?;
            match asker.ask_up_to(query, MOST).await {
                Ok(answer) => {
                    let count = answer.len();
                    let note = match (answer.is_whole, count) {
                        (true, 1) => "1 row".to_owned(),
                        (true, count) => format!("{count} rows"),
                        (false, _) => format!("The first {MOST} rows"),
                    };
                    html::note(&note) + &html::raw_table(&answer, MOST)?
                }
                Err(fault) => failure(&fault),
            }
        }
        _ => String::new(),
    };
    let console = Console { query: query.unwrap_or(FIRST), cookbook: COOKBOOK.to_vec(), result, most: MOST };
    let crumbs = vec![("models".into(), "/".into()), ("sql".into(), String::new())];
    Ok(html::page(&visitor, "SQL", &crumbs, &console.render()?)?)
}

/// An error as the console shows it.
fn failure(fault: &Fault) -> String {
    let code =
        fault.sqlstate.as_deref().map_or(String::new(), |code| format!(" <span class=\"faint\">({code})</span>"));
    let hint = fault.hint.as_deref().map_or(String::new(), |hint| format!("<br>{}", escaped(hint)));
    format!("<p class=\"fault\" role=\"alert\">{}{code}{hint}</p>", escaped(&fault.message))
}

#[cfg(test)]
mod tests {
    use super::COOKBOOK;

    #[test]
    fn the_menu_has_all_queries() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../queries");
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let queries = files.filter(|file| file.extension().is_some_and(|ending| ending == "sql"));
        let mut queries: Vec<_> = queries.map(|file| std::fs::read_to_string(file).unwrap()).collect();
        let mut listed: Vec<_> = COOKBOOK.iter().map(|(_, sql)| (*sql).to_owned()).collect();
        queries.sort();
        listed.sort();
        assert_eq!(listed, queries);
    }
}
