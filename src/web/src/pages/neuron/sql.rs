//! Statements about one neuron, which pages show and programs ask for.

use crate::error::Fault;
use crate::facts::{Facts, OfNeuron, Place};
use crate::sql_text::{literal, name};

/// All rows of a table that a neuron has.
pub(crate) fn rows(facts: &Facts, table: &str, place: Place) -> String {
    // A graph is a tree of structs, which few programs read.
    let columns = if table == "graphs" { GRAPH_COLUMNS } else { "*" };
    format!("SELECT {columns} FROM {} WHERE layer = {} AND neuron = {}", facts.table(table), place.layer, place.neuron)
}

const GRAPH_COLUMNS: &str = "method, nodes, patterns, max_activation, precision, recall, f1, random_precision, \
graph_text(graph) AS graph";

/// Statistics, a row for each dataset.
pub(crate) fn statistics(facts: &Facts, of_neuron: impl Into<OfNeuron>) -> String {
    format!(
        "SELECT dataset, tokens, mean, variance, skewness, kurtosis, max_activation, min_activation, density, histogram\n\
         FROM {} WHERE {}",
        facts.table("neurons"),
        of_neuron.into()
    )
}

/// Graphs with drawings, the one of the method neuroql first.
pub(crate) fn graphs(facts: &Facts, of_neuron: impl Into<OfNeuron>, drawn_nodes: u32) -> Result<String, Fault> {
    let link = format!("/search?model={}&q=", crate::sql_text::encoded(&facts.name));
    Ok(format!(
        "SELECT method, nodes, patterns, precision, recall, f1, random_precision, pearson, built_at, reason,\n\
         \x20 graph_text(graph) AS text, graph_svg(graph, '', 'page', {}, {drawn_nodes}) AS drawing\n\
         FROM {} WHERE {}\n\
         ORDER BY method <> 'neuroql', built_at DESC",
        literal(&link)?,
        facts.table("graphs"),
        of_neuron.into()
    ))
}

/// Examples, the strongest first, then those drawn at random by their strength; those of an analysis before published
/// ones, which have a source.
pub(crate) fn examples(facts: &Facts, of_neuron: impl Into<OfNeuron>) -> Result<String, Fault> {
    let of_dataset = match facts.of_dataset("dataset")? {
        all if all.is_empty() => all,
        of_dataset => format!("{} OR source IS NOT NULL)", of_dataset.replacen(" AND ", " AND (", 1)),
    };
    Ok(format!(
        "SELECT source, rank, quantile, document, example, position, activation, tokens, activations\n\
         FROM {} WHERE {}{of_dataset}\n\
         ORDER BY source NULLS FIRST, rank, quantile DESC",
        facts.table("examples"),
        of_neuron.into()
    ))
}

/// Activating tokens of a neuron's graph, by the numbers of their nodes: the token, and how many others the node has.
pub(crate) fn branches(facts: &Facts, place: Place, method: &str) -> Result<String, Fault> {
    Ok(format!(
        "SELECT CASE WHEN parent < -1 THEN -2 - parent ELSE node END AS node, min(token) FILTER (WHERE parent = -1) AS token,\n\
         \x20 count(*) - 1 AS others\n\
         FROM {} WHERE layer = {} AND neuron = {} AND method = {} AND depth = 0 GROUP BY 1 ORDER BY 1",
        facts.table("graph_nodes"),
        place.layer,
        place.neuron,
        literal(method)?
    ))
}

/// The drawing of a branch of a neuron's graph: the nodes from an activating token to before the next one, and their
/// further tokens, whose `parent` is -2 - the number of the node.
pub(crate) fn branch(
    facts: &Facts,
    place: Place,
    method: &str,
    (first, end): (i64, i64),
    drawn_nodes: u32,
) -> Result<String, Fault> {
    let link = format!("/search?model={}&q=", crate::sql_text::encoded(&facts.name));
    Ok(format!(
        "SELECT graph_svg(graph_from_nodes(array_agg(named_struct(\n\
         \x20 'parent', CASE WHEN parent = -1 THEN -1 WHEN parent >= 0 THEN parent - {first} ELSE parent + {first} END,\n\
         \x20 'token_id', token_id, 'token', token,\n\
         \x20 'importance', importance, 'activation', activation, 'ends', ends, 'support', support) ORDER BY node)),\n\
         \x20 '', 'page', {}, {drawn_nodes}) AS drawing\n\
         FROM {} WHERE layer = {} AND neuron = {} AND method = {}\n\
         \x20 AND CASE WHEN parent < -1 THEN -2 - parent ELSE node END BETWEEN {first} AND {end} - 1",
        literal(&link)?,
        facts.table("graph_nodes"),
        place.layer,
        place.neuron,
        literal(method)?
    ))
}

/// Explanations, the best first.
pub(crate) fn explanations(facts: &Facts, of_neuron: impl Into<OfNeuron>) -> String {
    format!(
        "SELECT source, explanation, score FROM {} WHERE {} ORDER BY score DESC NULLS LAST, source",
        facts.table("explanations"),
        of_neuron.into()
    )
}

/// Activations of a text, with the prediction of the neuron's graph. A text may have several examples.
pub(crate) fn live(facts: &Facts, place: Place, text: &str) -> Result<String, Fault> {
    let Place { layer, neuron } = place;
    let text = literal(text)?;
    let scan = format!(
        "SELECT example, position, token, activation, row_number() OVER (ORDER BY example, position) AS place\n\
         \x20 FROM {} WHERE text = {text} AND layer = {layer} AND neuron = {neuron}",
        facts.table("activations")
    );
    if !facts.has("graphs") {
        return Ok(format!("SELECT example, position, token, activation FROM (\n\x20 {scan}) ORDER BY place"));
    }
    Ok(format!(
        "WITH graph AS (\n\
         \x20 SELECT simulate(graph, tokenize({}, {text})) AS predicted, max_activation FROM {}\n\
         \x20 WHERE layer = {layer} AND neuron = {neuron} AND graph IS NOT NULL ORDER BY method <> 'neuroql', built_at DESC LIMIT 1)\n\
         SELECT a.example, a.position, a.token, a.activation, g.predicted[a.place] * g.max_activation AS predicted\n\
         FROM (\n\x20 {scan}) a LEFT JOIN graph g ON true ORDER BY a.place",
        literal(&facts.name)?,
        facts.table("graphs"),
    ))
}

/// Tokens that the neuron promotes and suppresses.
pub(crate) fn logits(facts: &Facts, place: Place) -> Result<String, Fault> {
    Ok(format!(
        "SELECT token, effect FROM logit_effects({}, {}, {}, 15) ORDER BY effect DESC",
        literal(&facts.name)?,
        place.layer,
        place.neuron
    ))
}

/// Tokens whose embeddings alone make it fire.
pub(crate) fn inputs(facts: &Facts, place: Place) -> Result<String, Fault> {
    Ok(format!(
        "SELECT token, activation FROM input_tokens({}, {}, {}, 15) ORDER BY activation DESC",
        literal(&facts.name)?,
        place.layer,
        place.neuron
    ))
}

/// Neurons whose graphs have the most patterns in common with its own.
pub(crate) fn similar(facts: &Facts, place: Place) -> Result<String, Fault> {
    let Place { layer, neuron } = place;
    if facts.has("similar") {
        return Ok(format!(
            "SELECT {} AS model, other_layer AS layer, other_neuron AS neuron, similarity FROM {} \
             WHERE layer = {layer} AND neuron = {neuron} ORDER BY similarity DESC, 2, 3",
            literal(&facts.name)?,
            facts.table("similar")
        ));
    }
    Ok(format!(
        "SELECT model, layer, neuron, similarity FROM similar_neurons({}, {layer}, {neuron}, 10, '*') \
         WHERE similarity > 0 ORDER BY similarity DESC, model, layer, neuron",
        literal(&facts.name)?
    ))
}

/// Small drawings of graphs of a model's neurons.
pub(crate) fn small_graphs(model: &str, places: &[Place]) -> String {
    let places: Vec<_> = places.iter().map(|place| format!("({}, {})", place.layer, place.neuron)).collect();
    format!(
        "SELECT layer, neuron, graph_svg(graph, '', 'page', '', 12) AS drawing, graph_text(graph) AS text FROM {}.graphs \
         WHERE (layer, neuron) IN ({}) ORDER BY method <> 'neuroql', built_at DESC",
        name(model),
        places.join(", ")
    )
}

/// Neurons that feed it and that it feeds, by weights.
pub(crate) fn connections(facts: &Facts, place: Place) -> Result<String, Fault> {
    Ok(format!(
        "SELECT direction, other_layer, other_neuron, weight FROM connections({}, {}, {}, 12) ORDER BY direction, abs(weight) DESC",
        literal(&facts.name)?,
        place.layer,
        place.neuron
    ))
}
